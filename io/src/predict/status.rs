//! What the thread that learns tells everybody else.
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $label:literal,)*) => {
        /// Why a decision was not learnt from, or not wholly.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Unlearnt { $($(#[$doc])* $name,)* }

        impl Unlearnt {
            /// All reasons, in order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The label used in metrics.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }
        }
    };
}

reasons! {
    /// Too many decisions wait, or too many bytes of them.
    QueueFull = "queue_full",
    /// The prompt is too long: its beginning counts.
    TooLong = "too_long",
    /// Neither a description nor an event has named the adapter: clients could fill the index with names.
    UnknownAdapter = "unknown_adapter",
    /// The blocks are of another size than the worker's.
    BlockSize = "block_size",
    /// The engine has restarted since.
    Restarted = "restarted",
    /// The worker is gone.
    Gone = "gone",
    /// The index has no number left for what is expected of the worker.
    NoNumber = "no_number",
    /// The index has no room for it: for a context, or bytes.
    NoRoom = "no_room",
}

/// Counters of what was learnt. Each is only a number, so Relaxed.
#[derive(Debug, Default)]
pub struct LearnStatus {
    learnt: AtomicU64,
    unlearnt: [AtomicU64; Unlearnt::ALL.len()],
    evicted: AtomicU64,
    approximate: AtomicUsize,
    speculative: AtomicUsize,
}

impl LearnStatus {
    /// Decisions that were learnt from.
    #[must_use]
    pub fn learnt(&self) -> u64 {
        self.learnt.load(Relaxed)
    }

    /// Decisions that were not, or not wholly, by reason.
    pub fn unlearnt(&self) -> impl Iterator<Item = (Unlearnt, u64)> {
        let count = |&why: &Unlearnt| (why, self.unlearnt[why as usize].load(Relaxed));
        Unlearnt::ALL.iter().map(count)
    }

    /// Blocks that left, or were not taken in, because there were as many of their worker as may be.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Relaxed)
    }

    /// Blocks of workers without events.
    #[must_use]
    pub fn approximate_blocks(&self) -> usize {
        self.approximate.load(Relaxed)
    }

    /// Blocks that workers with events are expected to hold.
    #[must_use]
    pub fn speculative_blocks(&self) -> usize {
        self.speculative.load(Relaxed)
    }

    pub(super) fn add_learnt(&self) {
        self.learnt.fetch_add(1, Relaxed);
    }

    /// Counts a decision that is not learnt from.
    pub fn add_unlearnt(&self, why: Unlearnt) {
        self.unlearnt[why as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn add_evicted(&self, blocks: usize) {
        self.evicted.fetch_add(blocks as u64, Relaxed);
    }

    /// Counts blocks of a worker anew: so many in place of so many.
    pub(super) fn count_blocks(&self, approximate: bool, before: usize, after: usize) {
        let blocks = match approximate {
            true => &self.approximate,
            false => &self.speculative,
        };
        // Written by one thread: it never goes below zero.
        blocks.fetch_add(after, Relaxed);
        blocks.fetch_sub(before, Relaxed);
    }
}
