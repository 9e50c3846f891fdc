//! The entry of one of a run's holders: a single word, so that a racing lookup sees one state of it.
//!
//! Four 16-bit fields, the worker's number plus one lowest (so that no entry is zero), then the leading blocks that it
//! holds, cumulative by tier. A lookup needs of it what the request has in common with the run: the
//! smaller of the two, field by field, which is one instruction for all.
//!
//! The first design had a word for the coverage and further words for the tiers. A lookup that read the
//! coverage before it shrank and the tiers after could credit the GPU with a block that was never there.
use crate::limits::{RUN_BLOCKS_MAX, WORKERS_MAX};
use crate::types::{TIERS, WorkerId};

/// How much of a run a worker holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) worker: WorkerId,
    /// Leading blocks held on the GPU; there or on the CPU; anywhere.
    pub(crate) blocks: [u32; TIERS],
}

const _: () = assert!(RUN_BLOCKS_MAX <= 0xffff && WORKERS_MAX < 0xffff);

impl Entry {
    pub(crate) const fn word(self) -> u64 {
        let [gpu, cpu, any] = self.blocks;
        (any as u64) << 48 | (cpu as u64) << 32 | (gpu as u64) << 16 | (self.worker.0 as u64 + 1)
    }

    /// Of a word that is not zero.
    #[inline]
    pub(crate) const fn from_word(word: u64) -> Option<Self> {
        let Some(worker) = (word as u32 & 0xffff).checked_sub(1) else {
            return None;
        };
        Some(Self {
            worker: WorkerId(worker),
            blocks: [field_at(word, 16), field_at(word, 32), field_at(word, 48)],
        })
    }
}

/// Leading blocks held in any tier, straight from the word.
#[inline]
pub(crate) const fn held(word: u64) -> u32 {
    (word >> 48) as u32
}

const fn field_at(word: u64, shift: u32) -> u32 {
    (word >> shift) as u32 & 0xffff
}
