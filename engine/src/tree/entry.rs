//! The entry of one of a run's holders: a single word, so that a racing lookup sees one state of it.
//!
//! The first design had a word for the coverage and further words for the tiers. A lookup that read the
//! coverage before it shrank and the tiers after could credit the GPU with a block that was never there.
use crate::limits::{RUN_BLOCKS_MAX, WORKERS_MAX};
use crate::types::WorkerId;

/// How much of a run a worker holds. Four 16-bit fields: the worker's number plus one (so that no entry
/// is zero), and the three offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) worker: WorkerId,
    /// Blocks `[0, cutoff)` are held, in any tier.
    pub(crate) cutoff: u32,
    /// The first held block that is not in GPU memory, or [`NONE`].
    pub(crate) not_gpu: u32,
    /// The first held block that is in neither GPU nor CPU memory, or [`NONE`].
    pub(crate) not_cpu: u32,
}

/// No block lacks the tier.
pub(crate) const NONE: u32 = 0xffff;

const _: () = assert!(RUN_BLOCKS_MAX <= NONE && WORKERS_MAX <= NONE);

impl Entry {
    pub(crate) const fn word(self) -> u64 {
        (self.worker.0 as u64 + 1) << 48
            | (self.cutoff as u64) << 32
            | (self.not_gpu as u64) << 16
            | self.not_cpu as u64
    }

    pub(crate) const fn from_word(word: u64) -> Option<Self> {
        let Some(worker) = ((word >> 48) as u32).checked_sub(1) else {
            return None;
        };
        Some(Self {
            worker: WorkerId(worker),
            cutoff: (word >> 32) as u32 & NONE,
            not_gpu: (word >> 16) as u32 & NONE,
            not_cpu: word as u32 & NONE,
        })
    }
}
