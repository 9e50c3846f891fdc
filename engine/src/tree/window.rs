//! What lookups see of sliding windows: for each worker that has some, where a prefix may end.
//!
//! A layer with a sliding window of w tokens needs only the last w - 1 tokens before the one that it
//! computes. So an engine with such layers can reuse a prefix of L blocks if all L are in its full-attention group
//! and the last ceil((w - 1) / block_size) of them are in every sliding-window group (vLLM's hybrid
//! KV-cache manager). Whether a prefix may end at a block depends on the block and its ancestors alone,
//! so the writer keeps one bit for each block that it holds: may a prefix end here?
//!
//! The bits are published in words of their run, each of which names its worker: (worker plus one,
//! which [`BITS`] blocks of the run, their bits). As with holders, one load sees one state of it.
use super::Pin;
use super::run::Run;
use crate::sync::AtomicU64;
use crate::types::{TIERS, WorkerId};

/// Blocks of a run in one word.
pub(crate) const BITS: u32 = 32;

/// One window word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) worker: WorkerId,
    /// The word is about blocks `[group * BITS, (group + 1) * BITS)` of the run.
    pub(crate) group: u16,
    /// At which of them a prefix may end, the lowest bit first.
    pub(crate) ends: u32,
}

impl Word {
    pub(crate) const fn word(self) -> u64 {
        (self.worker.0 as u64 + 1) << 48 | (self.group as u64) << 32 | self.ends as u64
    }

    pub(crate) const fn from_word(word: u64) -> Option<Self> {
        let Some(worker) = ((word >> 48) as u32).checked_sub(1) else {
            return None;
        };
        Some(Self {
            worker: WorkerId(worker),
            group: (word >> 32) as u16,
            ends: word as u32,
        })
    }

    /// Publishes a new word.
    pub(crate) fn claim<'r>(self, run: &'r Run, pin: &Pin) -> &'r AtomicU64 {
        run.claim_window(self.word(), pin)
    }
}

/// The deepest prefixes at which a worker's windows allow to end, cumulative by tier.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stops(pub(crate) [u32; TIERS]);

impl Stops {
    /// Takes a word of a run in: the first `matched` blocks of the run are the request's from block `base`
    /// on, and the worker holds `held` leading blocks of the request.
    pub(crate) fn allow(&mut self, word: Word, base: u32, matched: u32, held: [u32; TIERS]) {
        let from = base + u32::from(word.group) * BITS;
        for (stop, held) in self.0.iter_mut().zip(held) {
            let reach = held.min(base + matched);
            let usable = reach.saturating_sub(from).min(BITS);
            let ends = word.ends & low(usable);
            if ends != 0 {
                *stop = (*stop).max(from + BITS - ends.leading_zeros());
            }
        }
    }
}

/// The `n` lowest bits, at most all.
const fn low(n: u32) -> u32 {
    match u32::MAX.checked_shr(BITS - n) {
        Some(bits) => bits,
        None => 0,
    }
}
