//! `/v1/workers`: the fleet as it is, pods added and removed.
use super::error::{ApiError, Reply};
use super::state::{Call, ThreadState};
use super::{json, params};
use crate::fleet::{AddError, PodSpec, WorkerInfo};
use crate::load::Moment;
use hyper::StatusCode;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Debug, Serialize)]
struct Entry<'v> {
    pod: &'v str,
    uid: Option<&'v str>,
    rank: u32,
    model: &'v str,
    lora: BTreeSet<Box<str>>,
    endpoint: Option<&'v str>,
    events: Option<&'v str>,
    replay: Option<&'v str>,
    block_size: Option<u32>,
    state: &'static str,
    last_sequence: Option<u64>,
    last_event_ms: Option<u64>,
    blocks: u64,
    gaps: u64,
    replays: u64,
    restarts: u64,
    events_skipped: BTreeMap<&'static str, u64>,
    /// Why no events can be expected of it.
    problem: Option<String>,
    /// Who describes it.
    source: &'static str,
    /// Whether requests may be sent to it.
    serving: bool,
    load: Option<Load>,
    state_since_ms: u64,
}

/// What the engine said when it was asked last.
#[derive(Debug, Serialize)]
struct Load {
    running: u32,
    waiting: u32,
    kv_usage: Option<f64>,
}

/// An entry with what happened lately, oldest first.
#[derive(Debug, Serialize)]
struct Story<'v> {
    #[serde(flatten)]
    entry: Entry<'v>,
    history: Vec<Chapter>,
    history_lost: u64,
}

#[derive(Debug, Serialize)]
struct Chapter {
    at_ms: u64,
    what: &'static str,
    text: String,
    /// How often, if it was more than once.
    count: Option<u32>,
}

impl<'v> Entry<'v> {
    fn new(info: &'v WorkerInfo, now: Moment) -> Self {
        let (pod, status) = (info.pod(), info.status());
        let declared = pod.lora.iter().map(|name| name.as_str().into());
        let skipped = status.skipped();
        Self {
            pod: &pod.pod,
            uid: pod.uid.as_deref(),
            rank: info.rank(),
            model: &pod.model,
            lora: declared.chain(status.adapter_names()).collect(),
            endpoint: pod.endpoint.as_deref(),
            events: Some(info.events()).filter(|events| !events.is_empty()),
            replay: info.replay(),
            block_size: info.block_size(),
            state: status.trust().as_str(),
            last_sequence: status.last_sequence(),
            last_event_ms: status.last_event_ms(),
            blocks: status.blocks(),
            gaps: status.gaps(),
            replays: status.replays(),
            restarts: status.restarts(),
            events_skipped: skipped.map(|(why, n)| (why.as_str(), n)).collect(),
            problem: info.problem().map(Arc::unwrap_or_clone),
            source: info.source().as_str(),
            serving: info.is_serving(),
            load: info.load().scraped(now).map(|(said, _)| Load {
                running: said.running,
                waiting: said.waiting,
                kv_usage: said.usage,
            }),
            state_since_ms: status.state_since_ms(),
        }
    }
}

impl<'v> Story<'v> {
    fn new(info: &'v WorkerInfo, now: Moment) -> Self {
        let (entries, history_lost) = info.status().history().read();
        let chapters = entries.iter().map(|entry| Chapter {
            at_ms: entry.at_ms,
            what: entry.happened.as_str(),
            text: entry.text(),
            count: Some(entry.times).filter(|&times| times > 1),
        });
        Self {
            entry: Entry::new(info, now),
            history: chapters.collect(),
            history_lost,
        }
    }
}

/// `GET /v1/workers`.
pub(super) fn list(state: &mut ThreadState, _: &Call<'_>) -> Result<Reply, ApiError> {
    let (view, now) = (state.fleet.view(), state.fleet.clock().now());
    let entries = view.workers().map(|info| Entry::new(info, now));
    Reply::json(StatusCode::OK, &entries.collect::<Vec<_>>())
}

/// `GET /v1/workers/{pod}`: the pod's ranks, and what happened to them lately.
pub(super) fn show(state: &mut ThreadState, call: &Call<'_>) -> Result<Reply, ApiError> {
    let pod = params::decode_path("pod", call.rest)?;
    let (view, now) = (state.fleet.view(), state.fleet.clock().now());
    let ranks = view.pod(&pod);
    if ranks.is_empty() {
        return Err(unknown(&pod).at("pod"));
    }
    let stories = ranks.iter().map(|info| Story::new(info, now));
    Reply::json(StatusCode::OK, &stories.collect::<Vec<_>>())
}

/// `POST /v1/workers`: the answer is the pod as it was understood, defaults included.
pub(super) fn add(state: &mut ThreadState, call: &Call<'_>) -> Result<Reply, ApiError> {
    let pod: PodSpec = json::object(call.body)?;
    state.fleet.add(pod.clone())?;
    Reply::json(StatusCode::CREATED, &pod)
}

/// `DELETE /v1/workers/{pod}`.
pub(super) fn remove(state: &mut ThreadState, call: &Call<'_>) -> Result<Reply, ApiError> {
    let pod = params::decode_path("pod", call.rest)?;
    if state.fleet.remove(&pod, None) {
        Ok(Reply::nothing())
    } else {
        Err(unknown(&pod).at("pod"))
    }
}

/// 404: no such pod.
pub(super) fn unknown(pod: &str) -> ApiError {
    let message = format!("no pod {pod:?}");
    ApiError::new(StatusCode::NOT_FOUND, "worker_not_found", message)
}

impl From<AddError> for ApiError {
    fn from(error: AddError) -> Self {
        let message = error.to_string();
        match error {
            AddError::Spec(wrong) => Self::field(wrong.field, message),
            AddError::Duplicate(_) => {
                Self::new(StatusCode::CONFLICT, "conflict", message).at("pod")
            }
            AddError::OtherModel { .. } => {
                Self::new(StatusCode::CONFLICT, "conflict", message).at("model")
            }
            AddError::SameEvents { .. } => {
                Self::new(StatusCode::CONFLICT, "conflict", message).at("events")
            }
            AddError::NoRoom { .. } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "no_room", message)
            }
            AddError::Starting => Self::new(StatusCode::SERVICE_UNAVAILABLE, "starting", message)
                .with("retry-after", "1"),
        }
    }
}
