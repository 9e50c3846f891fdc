//! What the sequence machine waits for, and what it makes of a batch.
use crate::status::Cause;

/// What links the replay's batches to the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// Nothing yet.
    Missing,
    /// The replay repeated a batch that was applied.
    Overlap,
    /// The run began in this replay.
    Fresh,
}

/// Why a replay was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Nothing is known, or an earlier replay failed.
    Start,
    /// The event socket is connected again, to whom is not known.
    Reconnection,
    /// Numbers are missing before the first held batch. The gap is counted.
    Gap,
}

impl Why {
    /// The same as the worker's status tells it.
    pub(super) const fn told(self) -> Cause {
        match self {
            Self::Start => Cause::Replay,
            Self::Reconnection => Cause::ReplayOfConnection,
            Self::Gap => Cause::ReplayOfGap,
        }
    }
}

/// See the table in the module's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Live batches are judged.
    Live,
    /// The same, and an earlier beginning of a partial run was asked for.
    Rebuilding,
    /// Live batches are held back for a replay.
    Replaying {
        /// Whether it belongs to the run.
        proof: Proof,
        /// What it was asked for.
        why: Why,
        /// Asked from the very beginning.
        all: bool,
    },
}

/// What a live batch is, by its number and checksum.
#[must_use]
pub(super) enum Verdict {
    /// The next one, or the beginning.
    Next,
    /// Applied already.
    Duplicate,
    /// Of an earlier life, as the replay that just ended says.
    Leftover,
    /// Numbers are missing before it.
    Gap,
    /// The first seen of a new life.
    Restart,
}
