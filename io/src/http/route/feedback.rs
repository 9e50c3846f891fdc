//! `POST /v1/feedback`: what the engine made of a routed request, and where it was really sent.
use super::decisions::{Decision, Outcome, PromptLength};
use super::shadow::{self, Theirs};
use crate::accuracy::{Comparison, Use};
use crate::fleet::Fleet;
use crate::http::error::{ApiError, Reply};
use crate::http::json;
use crate::http::match_request::required;
use crate::http::state::{Call, ThreadState};
use crate::limits::TARGET_BYTES_MAX;
use crate::status::Trust;
use hyper::StatusCode;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Feedback {
    request_id: Option<String>,
    cached_tokens: Option<u64>,
    finished: Option<bool>,
    target: Option<String>,
}

/// Answers `POST /v1/feedback`.
pub(in crate::http) fn note(state: &mut ThreadState, call: &Call<'_>) -> Result<Reply, ApiError> {
    let feedback: Feedback = json::object(call.body)?;
    let name = required("request_id", feedback.request_id.as_deref())?;
    let target = feedback.target.as_deref().filter(|name| !name.is_empty());
    if target.is_some_and(|name| name.len() > TARGET_BYTES_MAX) {
        let message = format!("longer than {TARGET_BYTES_MAX} bytes");
        return Err(ApiError::field("target", message));
    }
    let found = name.parse().ok().and_then(|id| state.router.seat.find(id));
    let Some(decision) = found else {
        state.fleet.feedback().add(Use::Unknown);
        return Err(unknown(name));
    };
    let first = decision.note(Outcome {
        cached_tokens: feedback.cached_tokens,
        finished: feedback.finished.unwrap_or(false),
    });
    let fleet = &state.fleet;
    if let Some(target) = target.filter(|_| decision.shadow) {
        shadow::compare(fleet, &decision, target);
    }
    if let Some(delivered) = feedback.cached_tokens {
        let of = match first {
            false => Use::Duplicate,
            true => compare(fleet, &decision, target, delivered),
        };
        fleet.feedback().add(of);
    }
    Ok(Reply::nothing())
}

/// More than any engine reuses: a prompt has fewer tokens.
const TOKENS_MAX: u64 = u32::MAX as u64;

/// Compares what was delivered with what the worker that served the request was said to hold.
fn compare(fleet: &Fleet, decision: &Decision, target: Option<&str>, delivered: u64) -> Use {
    if decision.dry_run {
        return Use::Trial;
    }
    let view = fleet.view();
    let served = match (target, decision.shadow) {
        // Without a word of the caller, nobody knows who served what the node did not decide.
        (None, true) => {
            let told = decision.actual();
            told.and_then(|actual| shadow::find(decision, &view, &actual.name))
        }
        (None, false) => shadow::own(decision),
        (Some(name), _) => shadow::find(decision, &view, name),
    };
    let (Some(Theirs { considered, info }), Some(_)) = (served, decision.prompt) else {
        return Use::Unpredicted;
    };
    if info.status().dropped_at_ms() >= decision.at_ms {
        return Use::Late;
    }
    let most = match decision.prompt {
        Some(PromptLength::Tokens(tokens)) => tokens as u64,
        _ => TOKENS_MAX,
    };
    let delivered = delivered.min(most);
    let own = info.serial() == decision.target.serial();
    let comparison = Comparison {
        predicted: considered.matched(),
        delivered,
        block_size: info.block_size().unwrap_or(1),
        removals: match own {
            true => info.status().removals().saturating_sub(decision.removals),
            // How many there had been at the time is known of the node's own target only.
            false => u64::MAX,
        },
    };
    // Of other states it is known that they may be too high.
    let judged = matches!(considered.trust, Trust::Exact | Trust::Partial);
    if info.accuracy().take(&comparison, judged) {
        fleet.distrust(&info);
    }
    Use::Compared
}

/// 404: no such decision, or it is forgotten.
pub(super) fn unknown(name: &str) -> ApiError {
    let message = format!("no decision {name:?} is remembered");
    ApiError::new(StatusCode::NOT_FOUND, "request_not_found", message).at("request_id")
}
