//! What threads tell everybody else: a worker's IO thread its counters and the trust state, lock-free, and the
//! adapters it has seen, behind a lock that is taken only for a name that is new to the writer or
//! unknown to the reader.
#[macro_use]
mod words;
mod ending;
mod exemplar;
mod histogram;
mod history;
mod http;
mod ingest;
mod mode;
mod models;
mod requests;
mod route;
mod thread;

pub use ending::{EndStep, Ending};
pub use exemplar::{Exemplar, RequestName};
pub use histogram::{Counted, Histogram};
pub use history::{Cause, Dropped, Happened, HistoryEntry, WorkerHistory};
pub use http::{HttpStatus, Refused, Reloaded};
pub use ingest::{EventKind, EventTally, IoStatus, ReplayOutcome, Shape, WorkerCounts};
pub use mode::SyncMode;
pub use models::{
    Chosen, LATENCY_BOUNDS, MATCH_BUCKETS, ModelStatus, ModelSums, OwnModels, RouteError,
    ThreadModels, UNKNOWN_MODEL,
};
pub use requests::{
    CodeClass, Endpoint, LookupKind, LookupStatus, REQUEST_BOUNDS, RequestStatus, SHARES, UnderWay,
};
pub use route::RouteStatus;
pub use thread::{OwnStatus, ThreadStatus};

use crate::limits::{ADAPTERS_PER_WORKER_MAX, NAME_BYTES_MAX};
use std::collections::BTreeSet;
use std::sync::atomic::{
    AtomicU8, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// How far an answer about a worker can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Trust {
    /// Every event since the engine's start (or last clear) was applied.
    Exact = 0,
    /// The replay that brings it up to date is running, or waits for its turn.
    Replaying = 1,
    /// Some history is missing: answers may be too low, never too high.
    Partial = 2,
    /// Learnt from routing decisions, not from events.
    Approximate = 3,
    /// Not heard of, or disconnected: answers may be out of date.
    Stale = 4,
    /// Known to be wrong, or its events mean something that is not understood. Nothing is credited.
    Distrusted = 5,
}

impl Trust {
    /// All states, in order of their numbers.
    pub const ALL: [Self; 6] = [
        Self::Exact,
        Self::Replaying,
        Self::Partial,
        Self::Approximate,
        Self::Stale,
        Self::Distrusted,
    ];

    /// The word used in answers and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Replaying => "replaying",
            Self::Partial => "partial",
            Self::Approximate => "approximate",
            Self::Stale => "stale",
            Self::Distrusted => "distrusted",
        }
    }

    const fn from_u8(value: u8) -> Self {
        match value {
            0 => Self::Exact,
            1 => Self::Replaying,
            2 => Self::Partial,
            3 => Self::Approximate,
            4 => Self::Stale,
            _ => Self::Distrusted,
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $label:literal,)*) => {
        /// Why an event, a batch or a frame was not applied.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum SkipReason { $($(#[$doc])* $name,)* }

        impl SkipReason {
            /// All reasons, in order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The label used in answers and metrics.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }
        }
    };
}

reasons! {
    /// The event's tag is not one we know.
    UnknownTag = "unknown_tag",
    /// The event is neither an array nor a map, or has no tag.
    Shape = "shape",
    /// A field has a type or a value that the field cannot have.
    Field = "field",
    /// A field that must be there is missing.
    MissingField = "missing_field",
    /// Token ids are pairs (EAGLE): what they prove about plain tokens is not known.
    TokenPairs = "token_pairs",
    /// Tokens, hashes, block size and extra keys do not fit each other.
    Counts = "counts",
    /// A key-value cache group whose meaning is not known.
    Group = "group",
    /// A medium that is none of the known tiers.
    Medium = "medium",
    /// The bytes are not a batch of events.
    MalformedBatch = "malformed_batch",
    /// The message has not three frames, or its number has not eight bytes.
    Framing = "framing",
    /// The frame is larger than the limit.
    FrameTooLarge = "frame_too_large",
    /// The index has no room for another context.
    Contexts = "contexts",
    /// Blocks whose parent is unknown, and no room to wait for it.
    WaitingFull = "waiting_full",
    /// The index has no bytes left, and the worker holds nothing that could be forgotten instead.
    IndexFull = "index_full",
    /// One engine hash with two contents.
    HashConflict = "hash_conflict",
    /// The batch was applied already.
    Duplicate = "duplicate",
    /// The batch belongs to another life of the engine, or to a replay that was given up.
    OtherLife = "other_life",
    /// Too much is held back while a replay runs; what is dropped is missed as a gap.
    HeldBackFull = "held_back_full",
    /// A removal of a block that is not known.
    UnknownRemoval = "unknown_removal",
}

/// One worker's counters. Written by its IO thread (by the thread that learns if it has no events), read by anybody; each is only a number, so Relaxed,
/// but for the sequence number: who sees it finds the batch in the index.
#[derive(Debug)]
pub struct WorkerStatus {
    trust: AtomicU8,
    /// Last applied sequence number plus one; zero before the first.
    sequence_next: AtomicU64,
    last_event_ms: AtomicU64,
    block_size: AtomicU64,
    blocks: AtomicU64,
    gaps: AtomicU64,
    replays: AtomicU64,
    restarts: AtomicU64,
    drops: AtomicU64,
    batches: AtomicU64,
    removals: AtomicU64,
    distrusts: AtomicU64,
    dropped_at_ms: AtomicU64,
    state_since_ms: AtomicU64,
    /// How often the tokens per block changed.
    block_sizes: AtomicU64,
    counts: WorkerCounts,
    adapters: Mutex<BTreeSet<Box<str>>>,
    history: WorkerHistory,
}

impl Default for WorkerStatus {
    fn default() -> Self {
        Self {
            trust: AtomicU8::new(Trust::Replaying as u8),
            sequence_next: AtomicU64::new(0),
            last_event_ms: AtomicU64::new(0),
            block_size: AtomicU64::new(0),
            blocks: AtomicU64::new(0),
            gaps: AtomicU64::new(0),
            replays: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
            drops: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            removals: AtomicU64::new(0),
            distrusts: AtomicU64::new(0),
            dropped_at_ms: AtomicU64::new(0),
            state_since_ms: AtomicU64::new(now_ms()),
            block_sizes: AtomicU64::new(0),
            counts: WorkerCounts::default(),
            adapters: Mutex::default(),
            history: WorkerHistory::default(),
        }
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $read:ident, $add:ident;)*) => { $(
        $(#[$doc])*
        #[must_use]
        pub fn $read(&self) -> u64 { self.$read.load(Relaxed) }
        /// Adds to the counter of the same name.
        pub fn $add(&self, count: u64) { self.$read.fetch_add(count, Relaxed); }
    )* };
}

impl WorkerStatus {
    /// The trust state.
    #[must_use]
    pub fn trust(&self) -> Trust {
        Trust::from_u8(self.trust.load(Relaxed))
    }

    /// Sets the trust state, whatever the reason.
    pub fn set_trust(&self, trust: Trust) {
        self.set_state((trust, Cause::Unsaid));
    }

    /// Sets the trust state. If it changes, the history has why.
    pub fn set_state(&self, (trust, why): (Trust, Cause)) {
        let before = self.trust();
        if before != trust {
            let now = now_ms();
            // The time first, so that a state is hardly ever seen with the time of an older one.
            self.state_since_ms.store(now, Relaxed);
            self.trust.store(trust as u8, Relaxed);
            self.history
                .note(now, Happened::State(before, trust, why), None, 0);
        }
    }

    /// When it came into its trust state, in milliseconds since 1970.
    #[must_use]
    pub fn state_since_ms(&self) -> u64 {
        self.state_since_ms.load(Relaxed)
    }

    /// What happened to it lately.
    #[must_use]
    pub const fn history(&self) -> &WorkerHistory {
        &self.history
    }

    fn note(&self, happened: Happened) {
        self.history.note(now_ms(), happened, None, 0);
    }

    /// The number of the last batch applied.
    #[must_use]
    pub fn last_sequence(&self) -> Option<u64> {
        // Acquire: pairs with the Release in `set_last_sequence`.
        self.sequence_next.load(Acquire).checked_sub(1)
    }

    /// Sets the number of the last batch applied, after it is in the index; `None` after a restart was
    /// noticed.
    pub fn set_last_sequence(&self, sequence: Option<u64>) {
        // Release: pairs with the Acquire in `last_sequence`.
        self.sequence_next
            .store(sequence.map_or(0, |n| n.saturating_add(1)), Release);
    }

    /// Notes that a message arrived now.
    pub fn touch(&self) {
        self.last_event_ms.store(now_ms(), Relaxed);
    }

    /// When the last message arrived, in milliseconds since 1970.
    #[must_use]
    pub fn last_event_ms(&self) -> Option<u64> {
        Some(self.last_event_ms.load(Relaxed)).filter(|&ms| ms != 0)
    }

    /// Notes that all that it held was dropped now.
    pub fn dropped(&self, why: Dropped) {
        let now = now_ms();
        self.dropped_at_ms.store(now, Relaxed);
        self.drops.fetch_add(1, Relaxed);
        self.history.note(now, Happened::Dropped(why), None, 0);
    }

    /// How often all that it held was dropped.
    #[must_use]
    pub fn drops(&self) -> u64 {
        self.drops.load(Relaxed)
    }

    /// When all that it held was dropped last, in milliseconds since 1970; 0 for never.
    #[must_use]
    pub fn dropped_at_ms(&self) -> u64 {
        self.dropped_at_ms.load(Relaxed)
    }

    /// Milliseconds since the last message.
    #[must_use]
    pub fn age_ms(&self) -> Option<u64> {
        self.last_event_ms().map(|at| now_ms().saturating_sub(at))
    }

    /// Tokens per block as the last stored event said it.
    #[must_use]
    pub fn block_size(&self) -> Option<u32> {
        u32::try_from(self.block_size.load(Relaxed))
            .ok()
            .filter(|&n| n != 0)
    }

    /// Sets the tokens per block.
    pub fn set_block_size(&self, tokens: u32) {
        let tokens = u64::from(tokens);
        let before = self.block_size.load(Relaxed);
        if before == tokens {
            return;
        }
        self.block_size.store(tokens, Relaxed);
        let changes = self.block_sizes.fetch_add(1, Relaxed) + 1;
        // An engine that says two sizes in turn would take the lock for each event.
        if changes.is_power_of_two() {
            let happened = Happened::BlockSize;
            self.history.note(now_ms(), happened, Some(tokens), before);
        }
    }

    /// Blocks held now.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.blocks.load(Relaxed)
    }

    /// Sets the number of blocks held.
    pub fn set_blocks(&self, blocks: u64) {
        self.blocks.store(blocks, Relaxed);
    }

    counters! {
        /// Batches applied.
        batches, add_batches;
        /// Removals of blocks that the engine told of.
        removals, add_removals;
    }

    /// Gaps seen in the sequence numbers.
    #[must_use]
    pub fn gaps(&self) -> u64 {
        self.gaps.load(Relaxed)
    }

    /// Counts gaps in which so many batches are missing, the last of them before this number if that is known.
    pub fn add_gaps(&self, gaps: u64, missed: u64, before: Option<u64>) {
        self.gaps.fetch_add(gaps, Relaxed);
        self.counts.add_missed(missed);
        if gaps > 0 {
            self.history.note(now_ms(), Happened::Gap, before, missed);
        }
    }

    /// Replays asked for.
    #[must_use]
    pub fn replays(&self) -> u64 {
        self.replays.load(Relaxed)
    }

    /// Counts a replay that was asked for from this number on.
    pub fn add_replay(&self, from: u64) {
        self.replays.fetch_add(1, Relaxed);
        let happened = Happened::ReplayAsked;
        self.history.note(now_ms(), happened, Some(from), 0);
    }

    /// Counts how a replay ended.
    pub fn add_outcome(&self, outcome: ReplayOutcome) {
        self.counts.add_outcome(outcome);
        self.note(Happened::ReplayEnded(outcome));
    }

    /// Restarts of the engine noticed.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Relaxed)
    }

    /// Counts restarts of the engine.
    pub fn add_restarts(&self, restarts: u64) {
        self.restarts.fetch_add(restarts, Relaxed);
        if restarts > 0 {
            self.note(Happened::Restart);
        }
    }

    /// How often feedback contradicted what it was said to hold so much that it was had anew.
    #[must_use]
    pub fn distrusts(&self) -> u64 {
        self.distrusts.load(Relaxed)
    }

    /// Counts one of them.
    pub fn add_distrust(&self) {
        self.distrusts.fetch_add(1, Relaxed);
        self.note(Happened::Distrusted);
    }

    /// The event socket is connected.
    pub fn connected(&self) {
        self.counts.connected();
        self.note(Happened::Connected);
    }

    /// It has lost its connection.
    pub fn disconnected(&self) {
        self.counts.disconnected();
        self.note(Happened::Disconnected);
    }

    /// Counts what was skipped for a reason, in an event that was an array if it was in one.
    pub fn add_skipped(&self, reason: SkipReason, count: u64) {
        self.add_skipped_in(reason, Shape::Array, count);
    }

    /// The same in an event of this shape. The history has the first one.
    pub fn add_skipped_in(&self, reason: SkipReason, shape: Shape, count: u64) {
        if self.counts.add_skipped(reason, shape, count) {
            self.note(Happened::Skipped(reason));
        }
    }

    /// What became of its events, its replays and its connection.
    #[must_use]
    pub const fn counts(&self) -> &WorkerCounts {
        &self.counts
    }

    /// Notes an adapter that an event named; call it once for each name. `false` if the name is too
    /// long or too many are known: its blocks are indexed all the same, but a request that gives the
    /// adapter as its model is not understood once none of its blocks is held.
    pub fn learn_adapter(&self, name: &str) -> bool {
        let mut adapters = self.adapters();
        if adapters.contains(name) {
            return true;
        }
        if name.len() > NAME_BYTES_MAX || adapters.len() >= ADAPTERS_PER_WORKER_MAX {
            return false;
        }
        adapters.insert(name.into())
    }

    /// Whether an event named this adapter.
    #[must_use]
    pub fn knows_adapter(&self, name: &str) -> bool {
        self.adapters().contains(name)
    }

    /// The adapters that events named, in order.
    #[must_use]
    pub fn adapter_names(&self) -> Vec<Box<str>> {
        self.adapters().iter().cloned().collect()
    }

    fn adapters(&self) -> MutexGuard<'_, BTreeSet<Box<str>>> {
        self.adapters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was skipped, by reason; reasons that never occurred are left out.
    pub fn skipped(&self) -> impl Iterator<Item = (SkipReason, u64)> {
        let mut all = self.counts.skipped().peekable();
        std::iter::from_fn(move || {
            let (reason, _, mut sum) = all.next()?;
            while let Some((_, _, count)) = all.next_if(|&(other, _, _)| other == reason) {
                sum += count;
            }
            Some((reason, sum))
        })
    }
}

/// Milliseconds since 1970.
#[must_use]
pub fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adapters_are_bounded_in_number_and_length() {
        let status = WorkerStatus::default();
        assert!(!status.learn_adapter(&"x".repeat(NAME_BYTES_MAX + 1)));
        for i in 0..ADAPTERS_PER_WORKER_MAX {
            assert!(status.learn_adapter(&format!("a{i}")));
        }
        assert!(!status.learn_adapter("one-more"));
        assert!(!status.knows_adapter("one-more"));
        assert!(
            status.learn_adapter("a0"),
            "known already: no room is needed"
        );
        assert_eq!(status.adapter_names().len(), ADAPTERS_PER_WORKER_MAX);
    }
}
