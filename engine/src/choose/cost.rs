//! What a candidate would have to do for a request: the policy `cost`.
//!
//! The sum that NVIDIA Dynamo's router minimises, in tokens instead of blocks, so that candidates with different block
//! sizes compare: what has to be computed before the first token (queued already, and of this
//! prompt what is not cached), and what each step then drags along (tokens in use). A cached token saves
//! all of its computation if it is in the GPU's memory, less if it has to be fetched first.
use super::{Ask, Candidate, Rules, tie};
use crate::types::TIERS;

/// What counts how much, in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weights {
    /// A token that has to be computed before the first one is out.
    pub prefill: u32,
    /// A token that is in use by other requests.
    pub decode: u32,
    /// A cached token, by the fastest tier that it is in.
    pub tiers: [u16; TIERS],
}

impl Default for Weights {
    /// A token in use counts a tenth of one to be computed. Dynamo has both count alike; on the public conversation trace that
    /// gives prefixes up for a few requests less (`kvroute simulate`, `perf/README.md`): a step of an 8B model on an A100 reads some
    /// 12,500 tokens in use in the millisecond in which it computes 12.
    fn default() -> Self {
        Self {
            prefill: 1_000,
            decode: 100,
            tiers: [1_000, 750, 250],
        }
    }
}

/// The work of one candidate, in thousandths of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cost(pub u64);

/// The work that a candidate would have with this request.
#[must_use]
pub fn cost(candidate: &Candidate, ask: &Ask, rules: &Rules) -> Cost {
    let weights = &rules.weights;
    let mut slower = 0;
    let mut saved = 0_u64;
    for (tokens, weight) in candidate.matched.into_iter().zip(weights.tiers) {
        // Cumulative: what a slower tier adds is its own. A prompt is not saved more often than it is long.
        let tokens = tokens.min(ask.prompt_tokens).max(slower);
        let of_tier = candidate.share(tokens - slower);
        saved = saved.saturating_add(of_tier.saturating_mul(weight.into()));
        slower = tokens;
    }
    let (queued, active) = (candidate.load.queued_tokens, candidate.load.active_tokens);
    let prompt = ask.prompt_tokens.saturating_mul(1_000);
    let prefill = queued
        .saturating_mul(1_000)
        .saturating_add(prompt.saturating_sub(saved));
    let prefill = u128::from(prefill) * u128::from(weights.prefill) / 1_000;
    let decode = u128::from(active) * u128::from(weights.decode);
    Cost(u64::try_from(prefill + decode).unwrap_or(u64::MAX))
}

/// A candidate with the least work; among equals one with the fewest requests.
pub(super) fn least(
    candidates: &[Candidate],
    ask: &Ask,
    rules: &Rules,
    prefix: impl FnOnce(u64) -> u64,
) -> usize {
    let rank = |c: &Candidate| (cost(c, ask, rules), c.load.requests());
    let Some(best) = candidates.iter().map(rank).min() else {
        return 0;
    };
    let equal = |c: &Candidate| rank(c) == best;
    tie::break_among(candidates, equal, || {
        let tied = candidates.iter().filter(|c| equal(c));
        prefix(tied.map(Candidate::matched).max().unwrap_or(0))
    })
}
