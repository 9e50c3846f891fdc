//! Rendezvous hashing: equal candidates are told apart by the prompt's prefix, the same way everywhere.
//!
//! Each candidate's weight is a hash of the prefix and of the candidate; the heaviest wins. So every
//! replica sends equal prefixes to one worker, and a worker that goes moves only its own.
//!
//! The prefix ends some way behind what the equal candidates all hold: prompts that go on differently from there
//! are spread over them, prompts that share more meet again.
use super::Candidate;
use crate::types::{BlockKey, TokenBytes};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Tokens beyond the match that belong to the prefix: more than a chat template's head, which all prompts share,
/// and fewer than usual instructions.
pub const TOKENS_BEYOND: usize = 128;

/// Blocks beyond the match that belong to the prefix, where only keys of blocks are known.
pub const BLOCKS_BEYOND: usize = 8;

/// The number that stands for a rank of a pod in every replica.
#[must_use]
pub fn identity(pod: &str, rank: u32) -> u64 {
    xxh3_64_with_seed(pod.as_bytes(), u64::from(rank))
}

/// Hashes a prompt as far as its first `matched` tokens and [`TOKENS_BEYOND`] more.
#[must_use]
pub fn prefix_of_tokens(tokens: &[TokenBytes], matched: u64) -> u64 {
    let prefix = prefix(tokens, matched, TOKENS_BEYOND);
    xxh3_64_with_seed(prefix.as_flattened(), 0)
}

/// Hashes a prompt as far as its first `matched` blocks and [`BLOCKS_BEYOND`] more.
#[must_use]
pub fn prefix_of_keys(keys: &[BlockKey], matched: u64) -> u64 {
    prefix(keys, matched, BLOCKS_BEYOND)
        .iter()
        .fold(0, |seed, key| {
            xxh3_64_with_seed(&key.get().to_le_bytes(), seed)
        })
}

fn prefix<T>(items: &[T], matched: u64, beyond: usize) -> &[T] {
    let matched = usize::try_from(matched).unwrap_or(usize::MAX);
    let end = matched.saturating_add(beyond).min(items.len());
    &items[..end]
}

/// The place of the heaviest of the candidates that are `equal`; 0 if none is. `prefix` is asked only if
/// there are several.
pub(super) fn break_among(
    candidates: &[Candidate],
    equal: impl Fn(&Candidate) -> bool,
    prefix: impl FnOnce() -> u64,
) -> usize {
    let mut places = candidates.iter().enumerate().filter(|(_, c)| equal(c));
    let Some((first, _)) = places.next() else {
        return 0;
    };
    let Some((second, _)) = places.next() else {
        return first;
    };
    let seed = prefix();
    let weight = |at: usize| xxh3_64_with_seed(&candidates[at].identity.to_le_bytes(), seed);
    let rest = places.map(|(at, _)| at);
    let all = [first, second].into_iter().chain(rest);
    all.max_by_key(|&at| weight(at)).unwrap_or(first)
}
