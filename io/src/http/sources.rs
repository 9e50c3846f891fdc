//! `GET /v1/sources`: who describes pods, and how each of them stands.
use super::error::{ApiError, Reply};
use super::state::{Call, ThreadState};
use hyper::StatusCode;

/// `GET /v1/sources`: those that there are, in order of precedence.
pub(super) fn list(state: &mut ThreadState, _: &Call<'_>) -> Result<Reply, ApiError> {
    Reply::json(StatusCode::OK, &state.fleet.sources().reports())
}
