//! `GET /v1/explain/{request_id}`: how a choice was made. Neither token ids nor prompts are remembered.
use super::choice::order;
use super::decisions::{Considered, Decision, PromptLength};
use super::feedback::unknown;
use super::render::Target;
use crate::fleet::{FleetView, WorkerInfo};
use crate::http::error::{ApiError, Reply};
use crate::http::matching::Tiers;
use crate::http::params;
use crate::http::state::{Call, ThreadState};
use hyper::StatusCode;
use kvroute_engine::choose::{self, Ask, FULL_CREDIT, Policy};
use kvroute_engine::types::Tier;
use serde::Serialize;
use std::sync::Arc;

#[derive(Debug, Serialize)]
struct Explanation<'a> {
    request_id: String,
    at_ms: u64,
    model: &'a str,
    policy: &'static str,
    reason: &'static str,
    dry_run: bool,
    /// Null if the prompt is not known, or came as blocks.
    tokens: Option<usize>,
    blocks: Option<usize>,
    minimum_match: u64,
    /// Whether the request belongs to a session.
    session: bool,
    target: Target<'a>,
    matched_tokens: u64,
    speculative_tokens: u64,
    gate: Gate,
    candidates: Vec<Candidate<'a>>,
    /// Candidates that are not listed.
    left_out: usize,
    feedback: Option<Feedback>,
    /// Null if the decision was to be obeyed.
    shadow: Option<Shadow<'a>>,
}

/// Where the caller sent the request; nulls until it has said so.
#[derive(Debug, Serialize)]
struct Shadow<'a> {
    actual: Option<&'a str>,
    agreed: Option<bool>,
    /// What could have been reused there; null if it was not a candidate.
    matched_tokens: Option<u64>,
}

/// What the loads of all candidates allowed, in requests.
#[derive(Debug, Serialize)]
struct Gate {
    least: u64,
    most: u64,
    mean: f64,
    deviation: f64,
    limit: f64,
    imbalanced: bool,
}

#[derive(Debug, Serialize)]
struct Candidate<'a> {
    /// Null if the worker is gone by now.
    pod: Option<&'a str>,
    endpoint: Option<&'a str>,
    rank: Option<u32>,
    matched_tokens: u64,
    /// Further tokens that it was expected to hold.
    speculative_tokens: u64,
    tiers: Tiers,
    running: u32,
    waiting: u32,
    queued_tokens: u64,
    active_tokens: u64,
    /// What counts of its match, up to 1.
    credit: f64,
    /// The work that it would have with the request, in thousandths of a token; null if the prompt's length is not known.
    cost: Option<u64>,
    /// Whether its load allowed to choose it for its match.
    admitted: bool,
    /// What the policy compares, the highest first; null for policies that compare nothing.
    score: Option<i64>,
    state: &'static str,
    chosen: bool,
}

#[derive(Debug, Serialize)]
struct Feedback {
    cached_tokens: Option<u64>,
    finished: bool,
}

/// Answers `GET /v1/explain/{request_id}`.
pub(in crate::http) fn answer(state: &mut ThreadState, call: &Call<'_>) -> Result<Reply, ApiError> {
    let name = params::decode_path("request_id", call.rest)?;
    let found = name.parse().ok().and_then(|id| state.router.seat.find(id));
    let decision = found.ok_or_else(|| unknown(&name))?;
    let view = state.fleet.view();
    let explanation = explain(&decision, &view);
    Reply::json(StatusCode::OK, &explanation)
}

fn explain<'a>(decision: &'a Decision, view: &'a FleetView) -> Explanation<'a> {
    let (gate, target) = (&decision.gate, &decision.target);
    let mut considered: Vec<_> = decision.candidates.iter().collect();
    considered.sort_by_key(|considered| order(considered));
    let candidates = considered.into_iter();
    let candidates = candidates.map(|c| candidate(decision, view, c));
    Explanation {
        request_id: decision.id.to_string(),
        at_ms: decision.at_ms,
        model: &decision.model,
        policy: decision.policy.as_str(),
        reason: decision.reason.as_str(),
        dry_run: decision.dry_run,
        tokens: match decision.prompt {
            Some(PromptLength::Tokens(tokens)) => Some(tokens),
            _ => None,
        },
        blocks: match decision.prompt {
            Some(PromptLength::Blocks(blocks)) => Some(blocks),
            _ => None,
        },
        minimum_match: decision.minimum_match,
        session: decision.session,
        target: Target {
            pod: &target.pod().pod,
            endpoint: target.pod().endpoint.as_deref(),
            rank: target.rank(),
        },
        matched_tokens: decision.matched,
        speculative_tokens: decision.credited - decision.matched,
        gate: Gate {
            least: gate.least,
            most: gate.most,
            mean: gate.mean,
            deviation: gate.deviation,
            limit: gate.limit,
            imbalanced: gate.imbalanced,
        },
        candidates: candidates.collect(),
        left_out: decision.left_out,
        feedback: decision.outcome().map(|outcome| Feedback {
            cached_tokens: outcome.cached_tokens,
            finished: outcome.finished,
        }),
        shadow: decision.shadow.then(|| {
            let actual = decision.actual();
            Shadow {
                actual: actual.map(|actual| &*actual.name),
                agreed: actual.map(|actual| actual.agreed),
                matched_tokens: actual.and_then(|actual| actual.matched),
            }
        }),
    }
}

fn candidate<'a>(
    decision: &'a Decision,
    view: &'a FleetView,
    considered: &Considered,
) -> Candidate<'a> {
    let is_it = |info: &&Arc<WorkerInfo>| info.serial() == considered.serial;
    let target = Some(&decision.target).filter(is_it);
    let info = target.or_else(|| view.worker(considered.worker).filter(is_it));
    let tokens = |tier: Tier| u64::from(considered.matched[tier.index()]);
    let requests = considered.load.requests();
    // Its identity decides ties only.
    let weighed = considered.candidate(0);
    let ask = Ask {
        prompt_tokens: decision.prompt_tokens,
        ..Ask::default()
    };
    let cost = choose::cost(&weighed, &ask, &decision.rules).0;
    let most = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let score = match decision.policy {
        Policy::PrefixCache => Some(most(weighed.credited())),
        Policy::Cost => Some(-most(cost)),
        Policy::LeastRequest => Some(-most(requests)),
        Policy::RoundRobin | Policy::Random => None,
    };
    Candidate {
        pod: info.map(|info| info.pod().pod.as_str()),
        endpoint: info.and_then(|info| info.pod().endpoint.as_deref()),
        rank: info.map(|info| info.rank()),
        matched_tokens: tokens(Tier::Disk),
        speculative_tokens: weighed.matched() - tokens(Tier::Disk),
        tiers: Tiers {
            gpu: tokens(Tier::Gpu),
            cpu: tokens(Tier::Cpu),
            disk: tokens(Tier::Disk),
        },
        running: considered.load.running,
        waiting: considered.load.waiting,
        queued_tokens: considered.load.queued_tokens,
        active_tokens: considered.load.active_tokens,
        credit: f64::from(weighed.credit) / f64::from(FULL_CREDIT),
        cost: (decision.prompt_tokens != 0).then_some(cost),
        admitted: decision.gate.admits(considered.load),
        score,
        state: considered.trust.as_str(),
        chosen: target.is_some(),
    }
}
