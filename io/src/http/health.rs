//! Whether the node is alive and ready, and what it is.
use super::error::{ApiError, Body, OPEN_METRICS, Reply};
use super::state::{Call, ThreadState};
use crate::metrics;
use crate::status::Trust;
use hyper::StatusCode;
use serde_json::json;

/// Workers named in the reason for not being ready.
const NAMED: usize = 8;

/// `GET /health`, `GET /healthz`: the thread that answers is alive.
pub(super) fn alive(_: &mut ThreadState, _: &Call<'_>) -> Result<Reply, ApiError> {
    Reply::json(StatusCode::OK, &json!({"status": "ok"}))
}

/// `GET /readyz`: whether enough workers have left `replaying`, and the node is not about to stop.
pub(super) fn ready(state: &mut ThreadState, _: &Call<'_>) -> Result<Reply, ApiError> {
    if state.http.is_leaving() {
        let (status, message) = (StatusCode::SERVICE_UNAVAILABLE, "the node is stopping");
        return Err(ApiError::new(status, "stopping", message));
    }
    let view = state.fleet.view();
    let behind: Vec<_> = view
        .workers()
        .filter(|info| info.status().trust() == Trust::Replaying)
        .collect();
    let all = view.len();
    let synchronised = all - behind.len();
    let states = view.states();
    let mode = state.http.sync_mode();
    let sync = json!({
        "mode": mode.as_str(), "valid": mode.is_valid(), "meaning": mode.meaning(),
    });
    if synchronised >= needed(all, state.ready_share) {
        let answer = json!({
            "status": "ready", "workers": all, "synchronised": synchronised, "states": states,
            "kv_sync": sync,
        });
        return Reply::json(StatusCode::OK, &answer);
    }
    let names: Vec<_> = behind.iter().take(NAMED).map(|info| info.label()).collect();
    let more = if behind.len() > NAMED { ", …" } else { "" };
    let message = format!(
        "{} of {all} workers are still replaying: {}{more}",
        behind.len(),
        names.join(", ")
    );
    let error = json!({"code": "not_ready", "field": null, "message": message});
    let answer = json!({"error": error, "states": states, "kv_sync": sync});
    Reply::json(StatusCode::SERVICE_UNAVAILABLE, &answer)
}

/// `GET /metrics`. O(workers), on the thread that looks prompts up: milliseconds for thousands of workers.
pub(super) fn metrics(state: &mut ThreadState, _: &Call<'_>) -> Result<Reply, ApiError> {
    let (routes, tokenizer) = (state.router.counts(), state.tokenizer.as_ref());
    let text = metrics::render(&state.fleet, &state.http, routes, tokenizer);
    let text = text.map_err(|error| ApiError::internal(&error))?;
    Ok(Reply {
        status: StatusCode::OK,
        content_type: OPEN_METRICS,
        headers: Vec::new(),
        body: Body::Whole(text.into()),
    })
}

/// How many of the workers must be synchronised.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "at most 65,000 workers and a share of 0 to 1"
)]
fn needed(workers: usize, share: f64) -> usize {
    (workers as f64 * share).ceil() as usize
}

/// `GET /`: where to go from here.
pub(super) fn front(_: &mut ThreadState, _: &Call<'_>) -> Result<Reply, ApiError> {
    Ok(Reply::text(
        "kvroute: which pod holds how much of this prompt's KV cache\n\
         \n\
         POST   /v1/match           look a prompt up\n\
         POST   /v1/match:batch     look several prompts up\n\
         POST   /v1/route           where a request should go; also /v1/route/v1/chat/completions\n\
         *      /v1/ext_authz/…     the same for Envoy's ext_authz and nginx's auth_request\n\
         POST   /v1/feedback        what became of a routed request\n\
         GET    /v1/explain/{id}    how a choice was made\n\
         GET    /v1/workers         the fleet\n\
         POST   /v1/workers         add a pod\n\
         DELETE /v1/workers/{pod}   remove a pod\n\
         GET    /v1/sources         who describes pods\n\
         GET    /v1/snapshot        all that is known, for a replica that starts\n\
         GET    /healthz            alive\n\
         GET    /readyz             synchronised\n\
         GET    /metrics            for Prometheus\n\
         GET    /openapi.json       all of this for programs\n\
         \n\
         RFC #1403: POST /register, POST /unregister, GET /workers, POST /query,\n\
         POST /query_by_hash, GET /dump, GET /health\n",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_rounded_up() {
        let cases = [
            (0, 1.0, 0),
            (3, 1.0, 3),
            (3, 0.5, 2),
            (4, 0.5, 2),
            (3, 0.0, 0),
            (65_000, 1.0, 65_000),
        ];
        for (workers, share, expected) in cases {
            assert_eq!(needed(workers, share), expected, "{workers} {share}");
        }
    }
}
