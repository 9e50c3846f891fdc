//! `POST /v1/feedback`: what the engine made of a routed request.
use super::decisions::Outcome;
use crate::http::error::{ApiError, Reply};
use crate::http::json;
use crate::http::match_request::required;
use crate::http::state::{Call, ThreadState};
use hyper::StatusCode;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Feedback {
    request_id: Option<String>,
    cached_tokens: Option<u64>,
    finished: Option<bool>,
}

/// Answers `POST /v1/feedback`.
pub(in crate::http) fn note(state: &mut ThreadState, call: &Call<'_>) -> Result<Reply, ApiError> {
    let feedback: Feedback = json::object(call.body)?;
    let name = required("request_id", feedback.request_id.as_deref())?;
    let found = name.parse().ok().and_then(|id| state.router.seat.find(id));
    let decision = found.ok_or_else(|| unknown(name))?;
    decision.note(Outcome {
        cached_tokens: feedback.cached_tokens,
        finished: feedback.finished.unwrap_or(false),
    });
    Ok(Reply::nothing())
}

/// 404: no such decision, or it is forgotten.
pub(super) fn unknown(name: &str) -> ApiError {
    let message = format!("no decision {name:?} is remembered");
    ApiError::new(StatusCode::NOT_FOUND, "request_not_found", message).at("request_id")
}
