//! `/v1/log`: what is logged, shown and changed while the node runs.
use super::error::{ApiError, Reply};
use super::json;
use super::state::{Call, ThreadState};
use crate::logging::{self, Log};
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::json;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    /// Null for what the settings say.
    #[serde(deserialize_with = "Option::deserialize")]
    log: Option<String>,
}

/// `GET /v1/log`.
pub(super) fn show(_: &mut ThreadState, _: &Call<'_>) -> Result<Reply, ApiError> {
    shown(log()?)
}

/// `PUT /v1/log`: holds until the settings say something else than before, or the process ends.
pub(super) fn set(_: &mut ThreadState, call: &Call<'_>) -> Result<Reply, ApiError> {
    let wish: Wish = json::object(call.body)?;
    let log = log()?;
    let was = log.wanted().now;
    log.set(wish.log.as_deref())
        .map_err(|bad| ApiError::field("log", bad.to_string()))?;
    let is = log.wanted().now;
    tracing::info!(was, is, "what is logged was changed over HTTP");
    shown(log)
}

fn shown(log: &Log) -> Result<Reply, ApiError> {
    let wanted = log.wanted();
    let answer = json!({
        "log": wanted.now,
        "configured": wanted.configured,
        "format": log.format().as_str(),
        "rate": log.rate(),
        "suppressed": logging::suppressed(),
        "lost": logging::lost(),
    });
    Reply::json(StatusCode::OK, &answer)
}

/// The process may keep no log, or keep it otherwise, where the node is part of another program.
fn log() -> Result<&'static Log, ApiError> {
    logging::log().ok_or_else(|| {
        let message = "this process does not log as the settings say";
        ApiError::new(StatusCode::CONFLICT, "no_log", message)
    })
}
