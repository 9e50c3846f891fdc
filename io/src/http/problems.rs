//! `GET /v1/problems`: what is wrong now, in words.
use super::error::{ApiError, Reply};
use super::state::{Call, ThreadState};
use crate::fleet::{Fleet, Readiness, WorkerInfo};
use crate::history::Counts;
use crate::metrics;
use crate::problems::{self, Facts, Lately, Problem, WorkerFact};
use crate::status::{
    Dropped, Happened, HistoryEntry, Refused, Reloaded, SkipReason, Trust, now_ms,
};
use crate::tokenize::local::State;
use hyper::StatusCode;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

#[derive(Debug, Serialize)]
struct Answer {
    now_ms: u64,
    node: About,
    problems: Vec<Problem>,
}

#[derive(Debug, Serialize)]
struct About {
    version: &'static str,
    started_ms: u64,
    ready: bool,
    waiting: Option<String>,
}

/// `GET /v1/problems`. O(workers).
pub(super) fn list(state: &mut ThreadState, _: &Call<'_>) -> Result<Reply, ApiError> {
    let facts = gather(state);
    let answer = Answer {
        now_ms: facts.now_ms,
        node: About {
            version: env!("CARGO_PKG_VERSION"),
            started_ms: facts.started_ms,
            ready: facts.waiting.is_none(),
            waiting: facts.waiting.clone(),
        },
        problems: problems::find(&facts),
    };
    Reply::json(StatusCode::OK, &answer)
}

fn gather(state: &ThreadState) -> Facts {
    let (fleet, mode) = (&state.fleet, state.http.sync_mode());
    let now_ms = now_ms();
    let view = fleet.view();
    let locals = state.tokenizer.iter().flat_map(|t| t.locals().all());
    let off = locals.filter(|local| local.state() == State::Off);
    Facts {
        now_ms,
        started_ms: state.http.started_ms(),
        stopping: state.http.is_leaving(),
        waiting: waiting(state, fleet),
        invalid_mode: (!mode.is_valid()).then(|| mode.meaning()),
        workers: view.workers().map(|info| worker(info, now_ms)).collect(),
        sources: fleet.sources().reports(),
        index_bytes: fleet.index().bytes(),
        index_bytes_max: fleet.index().bytes_max(),
        descriptors: metrics::descriptors(),
        tokenizers_off: off.map(|local| local.name().to_owned()).collect(),
        lately: state
            .flow
            .lately()
            .map(|(time, counts)| lately(time, &counts)),
    }
}

fn waiting(state: &ThreadState, fleet: &Fleet) -> Option<String> {
    if state.http.is_leaving() {
        return Some("it is stopping".to_owned());
    }
    match fleet.readiness() {
        Readiness::Ready { .. } => None,
        Readiness::Waiting(what) => Some(what),
    }
}

/// Reasons that say that a bound was met.
const BOUNDS: &[SkipReason] = &[
    SkipReason::HeldBackFull,
    SkipReason::FrameTooLarge,
    SkipReason::Contexts,
    SkipReason::WaitingFull,
    SkipReason::IndexFull,
];

/// Reasons that say that the engine publishes something else than is understood.
const UNKNOWN: &[SkipReason] = &[
    SkipReason::UnknownTag,
    SkipReason::Shape,
    SkipReason::Field,
    SkipReason::MissingField,
    SkipReason::TokenPairs,
    SkipReason::Counts,
    SkipReason::Group,
    SkipReason::Medium,
    SkipReason::MalformedBatch,
    SkipReason::Framing,
];

fn lately(time: Duration, counts: &Counts) -> Lately {
    let skipped = |reasons: &[SkipReason]| {
        let counted = reasons.iter();
        let counted = counted.map(|&why| (why.as_str(), counts.skipped[why as usize]));
        counted.collect()
    };
    let refused = Refused::ALL.iter();
    let reloaded = Reloaded::ALL.iter();
    Lately {
        seconds: time.as_secs_f64(),
        requests: counts.requests,
        failed: counts.failed,
        lookups: counts.lookups,
        lookup_p99: counts.lookup_p99(),
        request_p99: counts.request_p99(),
        lag_p99: counts.lag_p99(),
        dropped: skipped(BOUNDS),
        unknown: skipped(UNKNOWN),
        refused: refused
            .map(|&why| (why.as_str(), counts.refused[why as usize]))
            .collect(),
        reload_failures: reloaded
            .map(|&what| (what.as_str(), counts.reload_failures[what as usize]))
            .collect(),
    }
}

fn worker(info: &Arc<WorkerInfo>, now_ms: u64) -> WorkerFact {
    let status = info.status();
    let (entries, _) = status.history().read();
    let within = |time: Duration| {
        let since = now_ms.saturating_sub(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        entries.iter().filter(move |entry| entry.at_ms >= since)
    };
    let times = |time, happened: Happened| {
        let entries = within(time).filter(|entry| entry.happened == happened);
        entries.map(|entry| u64::from(entry.times)).sum()
    };
    let state = status.trust();
    let lost = |entry: &&HistoryEntry| entry.happened == Happened::Dropped(Dropped::Gap);
    let lost = within(HOUR / 2)
        .filter(lost)
        .map(|entry| entry.at_ms)
        .next_back();
    WorkerFact {
        pod: info.pod().pod.clone(),
        state,
        since_ms: Some(status.state_since_ms()),
        problem: info.problem().map(Arc::unwrap_or_clone),
        restarts: times(HOUR, Happened::Restart),
        contradictions: times(6 * HOUR, Happened::Distrusted),
        // An exact one has all that its engine has.
        lost_ms: lost.filter(|_| state != Trust::Exact),
    }
}
