//! Tokens that were told before, by what they depend on; bounded in bytes and in time.
//!
//! Only equal prompts are the same: a prompt that begins like another has not in general its tokens at the beginning, as
//! byte pairs merge over any cut and templates may write anything anywhere, and engines do not say where a cut would be
//! safe. So what a growing conversation shares with its last turn is not reused.
//!
//! An entry is worth as much as the process that told it: it holds while that pod is in the fleet under the same
//! description, has not restarted and says the same version, and no longer than its time.
use super::key::Key;
use crate::fleet::{FleetView, WorkerInfo};
use kvroute_engine::types::WorkerId;
use quick_cache::Weighter;
use quick_cache::sync;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Release};
use std::time::{Duration, Instant};

/// A prompt's tokens.
pub type Tokens = Arc<[u32]>;

/// One life of one pod's engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Life {
    worker: WorkerId,
    serial: u64,
    restarts: u64,
}

impl Life {
    pub(super) fn of(info: &WorkerInfo) -> Self {
        Self {
            worker: info.id(),
            serial: info.serial(),
            restarts: info.status().restarts(),
        }
    }

    /// Whether it goes on, as far as anybody knows.
    pub(super) fn goes_on(&self, view: &FleetView) -> bool {
        view.worker(self.worker)
            .is_some_and(|info| Self::of(info) == *self)
    }
}

#[derive(Clone, Debug)]
struct Entry {
    tokens: Tokens,
    /// Of who told them; none if that is no pod of the fleet.
    life: Option<Life>,
    generation: u64,
    since: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Bytes;

/// Of an entry without its tokens: key, value, their place in the table, the counts of the list.
const ENTRY_BYTES: usize = 192;

impl Weighter<Key, Entry> for Bytes {
    fn weight(&self, _: &Key, entry: &Entry) -> u64 {
        (ENTRY_BYTES + size_of_val(&*entry.tokens)) as u64
    }
}

#[derive(Debug)]
pub(super) struct Cache {
    entries: Option<sync::Cache<Key, Entry, Bytes>>,
    time: Duration,
    generation: AtomicU64,
}

impl Cache {
    /// Of so many bytes; of none if that is 0.
    pub(super) fn new(bytes: usize, time: Duration) -> Self {
        let usual = (bytes / (ENTRY_BYTES + 4 * 4_096)).max(16);
        let entries = || sync::Cache::with_weighter(usual, bytes as u64, Bytes);
        Self {
            entries: (bytes > 0).then(entries),
            time,
            generation: AtomicU64::new(0),
        }
    }

    pub(super) fn get(&self, key: &Key, view: &FleetView, now: Instant) -> Option<Tokens> {
        let entries = self.entries.as_ref()?;
        let entry = entries.get(key)?;
        let holds = now.saturating_duration_since(entry.since) < self.time
            && entry.generation == self.generation()
            && entry.life.is_none_or(|life| life.goes_on(view));
        if !holds {
            entries.remove_if(key, |found| found.since == entry.since);
        }
        holds.then_some(entry.tokens)
    }

    /// `generation` is the one before the tokens were asked for.
    pub(super) fn insert(
        &self,
        key: Key,
        tokens: Tokens,
        life: Option<Life>,
        generation: u64,
        since: Instant,
    ) {
        if let Some(entries) = &self.entries {
            let entry = Entry {
                tokens,
                life,
                generation,
                since,
            };
            entries.insert(key, entry);
        }
    }

    /// What was told before the latest change of an engine's version is of an older generation.
    pub(super) fn generation(&self) -> u64 {
        // Acquire: pairs with the Release in `begin_generation`.
        self.generation.load(Acquire)
    }

    /// Nothing that was told before holds any more.
    pub(super) fn begin_generation(&self) {
        // Release: pairs with the Acquire in `generation`.
        self.generation.fetch_add(1, Release);
    }

    /// Entries, and the bytes they take.
    pub(super) fn size(&self) -> (u64, u64) {
        let entries = self.entries.as_ref();
        entries.map_or((0, 0), |entries| (entries.len() as u64, entries.weight()))
    }
}
