//! Which prefixes lookups found held most, and on how many pods: block keys and counts, nothing of the text.
//!
//! All threads that look prompts up share one [`Hot`]. Of a thread's lookups a [`Sampler`] takes some, at first all: a sample goes into the
//! [`Trie`] with the weight of the lookups that it stands for, unless somebody else is at it, which is counted. Nobody waits but whoever reads.
mod decay;
mod garden;
mod picture;
mod sampler;
#[cfg(test)]
mod tests;
mod trie;

use picture::Copied;
pub use picture::{HotContext, HotNode, Picture};
pub use sampler::Sampler;
pub use trie::{Held, Sample, Trie};

use crate::limits::HOT_NODES_MAX;
use kvroute_engine::hash::checksum;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError, TryLockError};
use std::time::{Duration, Instant};

/// What tells contexts (model, adapter, block size) apart here. Names are not kept: they are known to whoever has the context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ContextDigest(u64);

impl ContextDigest {
    /// Of a context; the adapter is empty for none. O(names), no allocation.
    #[must_use]
    pub fn of(model: &str, adapter: &str, block_size: u32) -> Self {
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&checksum(model.as_bytes()).to_le_bytes());
        bytes[8..16].copy_from_slice(&checksum(adapter.as_bytes()).to_le_bytes());
        bytes[16..].copy_from_slice(&block_size.to_le_bytes());
        Self(checksum(&bytes))
    }

    /// The 64 bits.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// What all threads remember together.
#[derive(Debug)]
pub struct Hot {
    trie: Mutex<Trie>,
    /// Lookups that are not in the trie because it was in use.
    busy: AtomicU64,
    begun: Instant,
}

impl Default for Hot {
    fn default() -> Self {
        Self::new()
    }
}

impl Hot {
    /// Remembers nothing yet. Allocates all that it will ever use, of which little is resident before it is used.
    #[must_use]
    pub fn new() -> Self {
        Self {
            trie: Mutex::new(Trie::new(HOT_NODES_MAX)),
            busy: AtomicU64::new(0),
            begun: Instant::now(),
        }
    }

    /// Time since the start, which samples are told.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Adds a sample, unless the trie is in use: then it counts as left out. Does not wait and does not allocate; O(blocks).
    pub fn add(&self, now: Duration, sample: &Sample<'_>) {
        let mut trie = match self.trie.try_lock() {
            Ok(trie) => trie,
            // The counts of one sample may be wrong: no reason to stop.
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                // Relaxed: a count, and nothing is reached through it.
                self.busy.fetch_add(u64::from(sample.weight), Relaxed);
                return;
            }
        };
        trie.add(now, sample);
    }

    /// What is remembered of these contexts, each with its number: the `limit` most asked pieces of prefixes. Samples are left out while it is
    /// copied, some hundred microseconds at most. O(nodes + limit log limit).
    #[must_use]
    pub fn picture(&self, contexts: &[ContextDigest], limit: usize) -> Picture {
        let mut copy = Copied::with_room(HOT_NODES_MAX);
        let now = {
            let mut trie = self.trie.lock().unwrap_or_else(PoisonError::into_inner);
            // Not before, so that it is later than all samples.
            let now = self.now();
            trie.left_out_busy(now, self.busy.load(Relaxed));
            copy.take(&trie);
            now
        };
        copy.picture(now, contexts, limit)
    }
}
