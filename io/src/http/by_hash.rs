//! `POST /query_by_hash`: as `/query`, from the hashes of a prompt's blocks instead of its tokens.
//!
//! A hash is the XXH3-64 with seed 1337 of a block's token ids as little-endian `u32`, which is the key of a plain
//! block. Clients that count in signed numbers send the same 64 bits. An adapter is not part of the hashes, but
//! named.
use super::error::{ApiError, Reply};
use super::lookup::Prompt;
use super::match_request::given;
use super::prompt::Parsed;
use super::rfc1403::{self, QueryBody};
use super::state::{Call, ThreadState};
use kvroute_engine::hash::SEED_DEFAULT;
use kvroute_engine::types::BlockKey;

/// Answers `POST /query_by_hash`. No hashes are a prompt shorter than a block, of which nobody holds anything.
pub(super) fn query(state: &mut ThreadState, call: &Call<'_>) -> Result<Reply, ApiError> {
    state.reading(|state, scratch| {
        let parsed = scratch.json_with_hashes(call.body, "block_hashes")?;
        find(state, call, &parsed)
    })
}

fn find(
    state: &mut ThreadState,
    call: &Call<'_>,
    parsed: &Parsed<'_, QueryBody, BlockKey>,
) -> Result<Reply, ApiError> {
    let body = &parsed.fields;
    let hashes = parsed.tokens;
    let keys = hashes.ok_or_else(|| ApiError::field("block_hashes", "missing"))?;
    if given(body.cache_salt.as_deref()).is_some() {
        let message = "a salt is part of the block's hash; it cannot be added to block_hashes";
        return Err(ApiError::field("cache_salt", message));
    }
    if state.fleet.index().hash_seed() != SEED_DEFAULT {
        let message = format!(
            "this node hashes blocks with a private seed, not with {SEED_DEFAULT}: send token_ids to /query"
        );
        return Err(ApiError::field("block_hashes", message));
    }
    let query = body.query(Prompt::Keys(keys))?;
    rfc1403::ask(state, call, &query)
}
