//! What was applied without a break: the numbers and the checksums of the latest.
use crate::limits::RECENT_BATCHES_MAX;
use std::collections::VecDeque;

/// How a number relates to what was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// The number was applied, with these very bytes.
    Same,
    /// The number was applied, with other bytes.
    Other,
    /// The number is not after the last one, and too old (or too early) to compare.
    Unknown,
    /// It is the next one.
    Next,
    /// It is after the next one: numbers are missing.
    Ahead,
}

/// An unbroken run of applied batches.
#[derive(Clone, Debug)]
pub(super) struct Run {
    begin: u64,
    last: u64,
    whole: bool,
    /// Checksums of the latest batches, `last` at the back; never empty.
    recent: VecDeque<u64>,
}

impl Run {
    /// A run that begins with this batch. `whole`: nothing before it matters.
    pub(super) fn begin(sequence: u64, checksum: u64, whole: bool) -> Self {
        let recent = VecDeque::from([checksum]);
        Self {
            begin: sequence,
            last: sequence,
            whole,
            recent,
        }
    }

    /// A run of which only so much is known any more.
    pub(super) fn resume(first: u64, last: u64, checksum: u64, whole: bool) -> Self {
        Self {
            begin: first.min(last),
            ..Self::begin(last, checksum, whole)
        }
    }

    /// The checksum of its last batch.
    pub(super) fn checksum(&self) -> Option<u64> {
        self.recent.back().copied()
    }

    /// The number of its first batch.
    pub(super) const fn first(&self) -> u64 {
        self.begin
    }

    /// The number of its last batch.
    pub(super) const fn last(&self) -> u64 {
        self.last
    }

    /// Whether everything that the engine holds is in it.
    pub(super) const fn whole(&self) -> bool {
        self.whole
    }

    /// What came before was made void.
    pub(super) const fn make_whole(&mut self) {
        self.whole = true;
    }

    /// Compares a batch with the run. O(1).
    pub(super) fn seen(&self, sequence: u64, checksum: u64) -> Seen {
        let Some(back) = self.last.checked_sub(sequence) else {
            return if sequence - self.last == 1 {
                Seen::Next
            } else {
                Seen::Ahead
            };
        };
        let known = usize::try_from(back)
            .ok()
            .and_then(|back| self.recent.len().checked_sub(1)?.checked_sub(back))
            .and_then(|at| self.recent.get(at));
        match known {
            Some(&known) if known == checksum => Seen::Same,
            Some(_) => Seen::Other,
            None => Seen::Unknown,
        }
    }

    /// Adds the next batch.
    pub(super) fn extend(&mut self, sequence: u64, checksum: u64) {
        debug_assert_eq!(
            self.last.checked_add(1),
            Some(sequence),
            "a run has no holes"
        );
        if self.recent.len() >= RECENT_BATCHES_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(checksum);
        self.last = sequence;
    }
}
