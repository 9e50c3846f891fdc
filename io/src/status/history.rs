//! What happened to a worker lately: a ring of small entries, for whoever wants to know why it is as it is.
//!
//! The lock is taken when something happens that is rare: not for an event, unless it is a clear, or one that is not understood and may have been a
//! removal. Whatever happens again and again within
//! [`HISTORY_MERGED_TIME`] is one entry that is counted up, so that one noisy cause does not push out all others. Words
//! are made when somebody asks.
mod words;

pub use words::{Cause, Dropped};

use super::{ReplayOutcome, SkipReason, Trust};
use crate::limits::{HISTORY_ENTRIES_MAX, HISTORY_MERGED_TIME};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One thing that can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened {
    /// The trust state changed, from one to another.
    State(Trust, Trust, Cause),
    /// Numbers of batches are missing: how many batches, and before which number if that is known.
    Gap,
    /// A replay was asked for, from a number on.
    ReplayAsked,
    /// A replay ended.
    ReplayEnded(ReplayOutcome),
    /// The engine is in a new life.
    Restart,
    /// All that it held was dropped.
    Dropped(Dropped),
    /// The event socket was connected.
    Connected,
    /// It has lost its connection.
    Disconnected,
    /// Something was skipped for this reason for the first time.
    Skipped(SkipReason),
    /// Feedback contradicted what it was said to hold.
    Distrusted,
    /// The tokens per block changed: to how many, and from how many.
    BlockSize,
}

impl Happened {
    /// Whether somebody goes by how often it happened within hours.
    const fn is_counted(self) -> bool {
        matches!(
            self,
            Self::Restart | Self::Distrusted | Self::Dropped(Dropped::Gap)
        )
    }
}

/// Something that happened, once or several times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryEntry {
    /// When it happened last, in milliseconds since 1970.
    pub at_ms: u64,
    /// What it was.
    pub happened: Happened,
    /// How often.
    pub times: u32,
    /// The number that goes with it, of the last time.
    number: Option<std::num::NonZeroU64>,
    /// How many of something, all times together.
    amount: u64,
}

/// A worker has 1 kB of history at most, 65,000 of them 67 MB; one to which little happens has a tenth of it.
const _: () = assert!(size_of::<HistoryEntry>() <= 32);

impl HistoryEntry {
    fn new(at_ms: u64, happened: Happened, number: Option<u64>, amount: u64) -> Self {
        let number = number.and_then(|number| std::num::NonZeroU64::new(number.saturating_add(1)));
        Self {
            at_ms,
            happened,
            times: 1,
            number,
            amount,
        }
    }

    /// The number that goes with it: the first one after a gap, the first one asked for, tokens per block.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        self.number.map(|number| number.get() - 1)
    }
}

#[derive(Debug, Default)]
struct Ring {
    /// In the order in which they happened last.
    entries: VecDeque<HistoryEntry>,
    lost: u64,
}

/// One worker's history. Written by whoever writes its counters, read by anybody.
#[derive(Debug, Default)]
pub struct WorkerHistory(Mutex<Ring>);

impl WorkerHistory {
    /// Notes what happened now. O([`HISTORY_ENTRIES_MAX`]).
    pub(super) fn note(&self, at_ms: u64, happened: Happened, number: Option<u64>, amount: u64) {
        let mut entry = HistoryEntry::new(at_ms, happened, number, amount);
        let mut ring = self.ring();
        let entries = &mut ring.entries;
        let merged = HISTORY_MERGED_TIME
            .as_millis()
            .try_into()
            .unwrap_or(u64::MAX);
        let mut latest = entries.iter().enumerate().rev();
        let same = latest
            .find(|(_, known)| known.happened == happened)
            .filter(|(_, known)| at_ms.saturating_sub(known.at_ms) <= merged)
            .map(|(at, _)| at);
        if let Some(known) = same.and_then(|at| entries.remove(at)) {
            entry.times = known.times.saturating_add(1);
            entry.amount = known.amount.saturating_add(amount);
        } else if entries.len() >= HISTORY_ENTRIES_MAX {
            entries.remove(dispensable(entries));
            ring.lost += 1;
        }
        ring.entries.push_back(entry);
    }

    /// The latest entries, oldest first, and how many older ones were forgotten.
    #[must_use]
    pub fn read(&self) -> (Vec<HistoryEntry>, u64) {
        // Not under the lock, which an IO thread may want.
        let mut entries = Vec::with_capacity(HISTORY_ENTRIES_MAX);
        let ring = self.ring();
        entries.extend(&ring.entries);
        (entries, ring.lost)
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The entry that is forgotten for a new one: the oldest, but of what is counted over hours up to half of the ring stays, however
/// much else happens.
fn dispensable(entries: &VecDeque<HistoryEntry>) -> usize {
    let counted = |entry: &HistoryEntry| entry.happened.is_counted();
    if entries.iter().filter(|entry| counted(entry)).count() > HISTORY_ENTRIES_MAX / 2 {
        return 0;
    }
    let other = entries.iter().position(|entry| !counted(entry));
    other.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is kept: when, what, how often, how many in all.
    fn kept(history: &WorkerHistory) -> Vec<(u64, Happened, u32, u64)> {
        let (entries, _) = history.read();
        let told = entries
            .iter()
            .map(|e| (e.at_ms, e.happened, e.times, e.amount));
        told.collect()
    }

    #[test]
    fn the_latest_are_kept_and_the_rest_is_counted() {
        let history = WorkerHistory::default();
        let apart = 60_001;
        for n in 0..HISTORY_ENTRIES_MAX as u64 + 5 {
            history.note(n * apart, Happened::Restart, None, 0);
        }
        let (entries, lost) = history.read();
        assert_eq!((entries.len(), lost), (32, 5));
        assert_eq!(entries[0].at_ms, 5 * apart);
        assert_eq!(entries[31].at_ms, 36 * apart);
    }

    #[test]
    fn what_happens_again_soon_is_counted_up_and_moves_to_the_end() {
        let history = WorkerHistory::default();
        history.note(1_000, Happened::Restart, None, 0);
        for n in 0..1_000 {
            history.note(2_000 + n, Happened::Connected, None, 0);
            history.note(2_000 + n, Happened::Disconnected, None, 0);
        }
        history.note(4_000, Happened::Gap, Some(812), 3);
        history.note(5_000, Happened::Gap, Some(820), 4);
        let expected = [
            (1_000, Happened::Restart, 1, 0),
            (2_999, Happened::Connected, 1_000, 0),
            (2_999, Happened::Disconnected, 1_000, 0),
            (5_000, Happened::Gap, 2, 7),
        ];
        assert_eq!(kept(&history), expected);
        assert_eq!(history.read().0[3].number(), Some(820));
        assert_eq!(history.read().1, 0);
        // A minute after the last time it is the same still, later it is not.
        history.note(65_000, Happened::Gap, Some(830), 1);
        history.note(125_001, Happened::Gap, None, 1);
        let expected = [
            (65_000, Happened::Gap, 3, 8),
            (125_001, Happened::Gap, 1, 1),
        ];
        assert_eq!(kept(&history)[3..], expected);
    }

    #[test]
    fn what_is_counted_over_hours_outlives_the_rest() {
        let history = WorkerHistory::default();
        let apart = 60_001;
        for n in 0..100 {
            history.note(2 * n * apart, Happened::Connected, None, 0);
            if n < 4 {
                history.note((2 * n + 1) * apart, Happened::Restart, None, 0);
            }
        }
        let restarts = |history: &WorkerHistory| {
            let kept = kept(history).into_iter();
            kept.filter(|entry| entry.1 == Happened::Restart).count()
        };
        assert_eq!((restarts(&history), history.read().1), (4, 72));
        assert_eq!(history.read().0.len(), 32);
        // Half of the ring at most.
        for n in 200..300 {
            history.note(n * apart, Happened::Restart, None, 0);
            history.note(n * apart, Happened::Connected, None, 0);
            history.note(n * apart, Happened::Gap, None, n);
        }
        assert!(
            (16..=18).contains(&restarts(&history)),
            "{}",
            restarts(&history)
        );
    }

    #[test]
    fn a_clock_that_goes_back_breaks_nothing() {
        let history = WorkerHistory::default();
        history.note(9_000, Happened::Restart, None, 0);
        history.note(1_000, Happened::Restart, None, 0);
        assert_eq!(kept(&history), [(1_000, Happened::Restart, 2, 0)]);
    }
}
