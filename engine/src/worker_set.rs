//! A set of workers that lookups ask at their end: who has sliding windows, who is being cleared.
use crate::limits::WORKERS_MAX;
use crate::sync::{AtomicU64, Ordering};
use crate::types::WorkerId;

/// What lookups ask about workers at their end.
#[derive(Debug)]
pub(crate) struct Marks {
    /// Workers with sliding windows: how deep a prefix they can reuse is not decided by coverage alone.
    pub(crate) windowed: WorkerSet,
    /// Workers that were cleared and whose entries are still being taken out. A mark is taken away
    /// only when all pins from before the last entry was taken out have ended.
    pub(crate) leaving: WorkerSet,
}

impl Marks {
    pub(crate) fn new() -> Self {
        Self {
            windowed: WorkerSet::new(),
            leaving: WorkerSet::new(),
        }
    }
}

/// A set of workers.
#[derive(Debug)]
pub(crate) struct WorkerSet {
    count: AtomicU64,
    bits: Box<[AtomicU64]>,
}

impl WorkerSet {
    pub(crate) fn new() -> Self {
        let words = WORKERS_MAX.div_ceil(u64::BITS);
        Self {
            count: AtomicU64::new(0),
            bits: (0..words).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Whether there is any.
    #[inline]
    pub(crate) fn any(&self) -> bool {
        // Relaxed: a mark is set by a locked instruction before its writer goes on; a lookup that
        // begins later sees it, and one that races may miss what is being written.
        self.count.load(Ordering::Relaxed) > 0
    }

    #[inline]
    pub(crate) fn contains(&self, worker: WorkerId) -> bool {
        let (word, bit) = (worker.index() / 64, worker.index() % 64);
        // Relaxed: as in `any`.
        self.bits
            .get(word)
            .is_some_and(|bits| bits.load(Ordering::Relaxed) >> bit & 1 == 1)
    }

    /// Puts a worker in or takes it out. Wait-free.
    pub(crate) fn set(&self, worker: WorkerId, member: bool) {
        let (word, bit) = (worker.index() / 64, worker.index() % 64);
        let Some(bits) = self.bits.get(word) else {
            return;
        };
        let mask = 1 << bit;
        // Relaxed: see `any`.
        let before = if member {
            bits.fetch_or(mask, Ordering::Relaxed)
        } else {
            bits.fetch_and(!mask, Ordering::Relaxed)
        };
        match (before & mask != 0, member) {
            (false, true) => {
                self.count.fetch_add(1, Ordering::Relaxed);
            }
            (true, false) => {
                self.count.fetch_sub(1, Ordering::Relaxed);
            }
            _ => {}
        }
    }
}
