//! `POST /query_by_hash`: as `/query`, from the hashes of a prompt's blocks instead of its tokens.
//!
//! A hash is the XXH3-64 with seed 1337 of a block's token ids as little-endian `u32`, which is the key of a plain
//! block. Clients that count in signed numbers send the same 64 bits. An adapter is not part of the hashes, but
//! named.
use super::error::{ApiError, Reply};
use super::json;
use super::lookup::{Prompt, Query};
use super::match_request::{given, not_zero, required};
use super::rfc1403;
use super::state::{Call, ThreadState};
use kvroute_engine::hash::SEED_DEFAULT;
use kvroute_engine::types::BlockKey;
use serde::Deserialize;
use serde::de::{Deserializer, Visitor};
use std::fmt;

#[derive(Debug, Deserialize)]
struct Body {
    block_hashes: Option<Vec<Hash>>,
    #[serde(alias = "model")]
    model_name: Option<String>,
    lora_name: Option<String>,
    cache_salt: Option<String>,
    block_size: Option<u32>,
}

/// One block's hash.
#[derive(Debug)]
struct Hash(BlockKey);

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HashVisitor;
        impl Visitor<'_> for HashVisitor {
            type Value = Hash;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number of 64 bits")
            }

            fn visit_u64<E>(self, hash: u64) -> Result<Hash, E> {
                Ok(Hash(BlockKey::new(hash)))
            }

            fn visit_i64<E>(self, hash: i64) -> Result<Hash, E> {
                Ok(Hash(BlockKey::new(hash.cast_unsigned())))
            }
        }
        deserializer.deserialize_u64(HashVisitor)
    }
}

/// Answers `POST /query_by_hash`. No hashes are a prompt shorter than a block, of which nobody holds anything.
pub(super) fn query(state: &mut ThreadState, call: &Call<'_>) -> Result<Reply, ApiError> {
    let body: Body = json::object(call.body)?;
    let hashes = body.block_hashes;
    let hashes = hashes.ok_or_else(|| ApiError::field("block_hashes", "missing"))?;
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
    let keys: Vec<_> = hashes.into_iter().map(|Hash(key)| key).collect();
    let query = Query {
        model: required("model_name", body.model_name.as_deref())?,
        lora: given(body.lora_name.as_deref()),
        cache_salt: None,
        extra_keys: &[],
        block_size: not_zero(body.block_size)?,
        prompt: Prompt::Keys(&keys),
    };
    rfc1403::ask(state, call, &query)
}
