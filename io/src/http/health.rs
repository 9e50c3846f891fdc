//! Whether the node is alive and ready, and what it counts.
use super::error::{ApiError, Body, CLASSIC_METRICS, OPEN_METRICS, Reply};
use super::state::{Call, ThreadState};
use crate::fleet::Readiness;
use crate::metrics::{self, Format};
use crate::status::Trust;
use hyper::StatusCode;
use hyper::header::ACCEPT;
use serde_json::json;

/// `GET /health`, `GET /healthz`: the thread that answers is alive.
pub(super) fn alive(_: &mut ThreadState, _: &Call<'_>) -> Result<Reply, ApiError> {
    Reply::json(StatusCode::OK, &json!({"status": "ok"}))
}

/// `GET /readyz`: whether the node's start is over and its fleet synchronised, and the node is not about to stop.
pub(super) fn ready(state: &mut ThreadState, _: &Call<'_>) -> Result<Reply, ApiError> {
    if state.http.is_leaving() {
        let (status, message) = (StatusCode::SERVICE_UNAVAILABLE, "the node is stopping");
        return Err(ApiError::new(status, "stopping", message));
    }
    let readiness = state.fleet.readiness();
    let view = state.fleet.view();
    let states = view.states();
    let mode = state.http.sync_mode();
    let sync = json!({
        "mode": mode.as_str(), "valid": mode.is_valid(), "meaning": mode.meaning(),
    });
    let (status, answer) = match readiness {
        Readiness::Ready { late } => {
            let (all, replaying) = (view.len(), states[Trust::Replaying.as_str()]);
            let answer = json!({
                "status": "ready", "workers": all, "synchronised": all.saturating_sub(replaying),
                "late": late, "states": states, "kv_sync": sync,
            });
            (StatusCode::OK, answer)
        }
        Readiness::Waiting(what) => {
            let error = json!({"code": "not_ready", "field": null, "message": what});
            let answer = json!({"error": error, "states": states, "kv_sync": sync});
            (StatusCode::SERVICE_UNAVAILABLE, answer)
        }
    };
    Reply::json(status, &answer)
}

/// `GET /metrics`. O(workers), on the thread that looks prompts up: milliseconds for thousands of workers.
pub(super) fn metrics(state: &mut ThreadState, call: &Call<'_>) -> Result<Reply, ApiError> {
    let accept = call.headers.get_all(ACCEPT).into_iter();
    let format = Format::wanted(accept.filter_map(|value| value.to_str().ok()));
    let (threads, tokenizer) = (state.router.status().all(), state.tokenizer.as_ref());
    let text = metrics::render(&state.fleet, &state.http, threads, tokenizer, format);
    let text = text.map_err(|error| ApiError::internal(&error))?;
    Ok(Reply {
        status: StatusCode::OK,
        content_type: match format {
            Format::Classic => CLASSIC_METRICS,
            Format::Open => OPEN_METRICS,
        },
        headers: Vec::new(),
        name: None,
        body: Body::Whole(text.into()),
    })
}
