//! What goes into the sequence machine and what comes out.
use crate::status::Dropped;

/// What the machine asks of a batch's contents.
pub trait Payload {
    /// How many bytes it keeps in memory.
    fn bytes(&self) -> usize;
    /// Whether its first event clears everything. Asked only where a run may begin.
    fn starts_with_clear(&self) -> bool;
}

/// A numbered batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch<P> {
    /// Its number in the engine's life.
    pub sequence: u64,
    /// A checksum of its bytes. They contain the time of publication, so two lives differ.
    pub checksum: u64,
    /// Its contents.
    pub payload: P,
}

impl<P: Payload> Batch<P> {
    /// Whether nothing before this batch matters.
    pub(super) fn begins_whole(&self) -> bool {
        self.sequence == 0 || self.payload.starts_with_clear()
    }
}

/// Why a worker is cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClearReason {
    /// The engine is in a new life.
    Restart,
    /// Batches are missing for good.
    Gap,
    /// It could not be proven that the engine is still in the same life.
    Unproven,
    /// A replay brings an earlier beginning.
    Rebuild,
    /// What it was said to hold is not what its engine has.
    Distrusted,
}

impl ClearReason {
    /// The same as the worker's status tells it.
    #[must_use]
    pub const fn told(self) -> Dropped {
        match self {
            Self::Restart => Dropped::Restart,
            Self::Gap => Dropped::Gap,
            Self::Unproven => Dropped::Unproven,
            Self::Rebuild => Dropped::Rebuild,
            Self::Distrusted => Dropped::Distrusted,
        }
    }
}

/// Why batches were dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// It was applied already.
    Duplicate,
    /// It belongs to another life of the engine.
    OtherLife,
    /// Too much is held back. It will be missed as a gap.
    HeldBackFull,
    /// No replay is running.
    NotAsked,
}

/// What the caller has to do, in order.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action<P> {
    /// Apply the batch to the index.
    Apply(Batch<P>),
    /// Remove everything that the worker holds.
    Clear(ClearReason),
    /// Ask for a replay from this number. A replay that still runs is given up.
    AskReplay {
        /// The first number asked for.
        from: u64,
    },
    /// Give up the replay that runs.
    StopReplay,
    /// Batches were dropped.
    Drop {
        /// How many.
        batches: u64,
        /// Why.
        reason: DropReason,
    },
}

/// What happened since the last [`super::Sequence::take_tally`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Gaps noticed.
    pub gaps: u64,
    /// Restarts noticed.
    pub restarts: u64,
    /// Batches missing in those gaps, whether or not a replay has brought them.
    pub missed: u64,
    /// The first number after the last of them, if it is known.
    pub before: Option<u64>,
}

impl Tally {
    /// Counts batches that are missing. Numbers come from outside: one that was damaged may be as large as numbers get.
    pub(super) fn miss(&mut self, batches: u64) {
        self.missed = self.missed.saturating_add(batches);
    }
}
