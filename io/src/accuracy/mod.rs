//! What workers are said to hold against what their engines delivered: counters, and when to distrust.
//!
//! `judge` decides, from one worker's latest comparisons; here are the counters that go with a worker, and those of the
//! node. Feedback is rare beside lookups and comes from any thread, so a worker's judge stands behind a lock of its own.
mod counts;
mod judge;

pub use counts::{FeedbackCounts, Use};
pub use judge::{Comparison, Judge, Sums};

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One worker's comparisons. The counters are only numbers, so Relaxed.
#[derive(Debug, Default)]
pub struct WorkerAccuracy {
    predicted: AtomicU64,
    delivered: AtomicU64,
    over: AtomicU64,
    under: AtomicU64,
    agreed: AtomicU64,
    disagreed: AtomicU64,
    /// None before the first comparison.
    judge: Mutex<Option<Box<Judge>>>,
}

/// Tokens of all comparisons of a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Said to be held.
    pub predicted: u64,
    /// Reused, as the engine said.
    pub delivered: u64,
    /// Said to be held, and not reused.
    pub over: u64,
    /// Reused beyond what was said to be held.
    pub under: u64,
}

impl WorkerAccuracy {
    /// Takes note of a comparison; whether the worker is to be distrusted now. One that is not to be `judged` only counts.
    pub fn take(&self, comparison: &Comparison, judged: bool) -> bool {
        let Comparison {
            predicted,
            delivered,
            ..
        } = *comparison;
        self.predicted.fetch_add(predicted, Relaxed);
        self.delivered.fetch_add(delivered, Relaxed);
        self.over
            .fetch_add(predicted.saturating_sub(delivered), Relaxed);
        self.under
            .fetch_add(delivered.saturating_sub(predicted), Relaxed);
        let mut judge = self.judge();
        let judge = judge.get_or_insert_default();
        judge.take(comparison, judged)
    }

    /// All comparisons.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals {
            predicted: self.predicted.load(Relaxed),
            delivered: self.delivered.load(Relaxed),
            over: self.over.load(Relaxed),
            under: self.under.load(Relaxed),
        }
    }

    /// The latest comparisons.
    #[must_use]
    pub fn latest(&self) -> Sums {
        self.judge()
            .as_ref()
            .map_or_else(Sums::default, |judge| judge.sums())
    }

    /// Counts a choice of this worker by a node that is not obeyed.
    pub fn shadowed(&self, agreed: bool) {
        let count = if agreed {
            &self.agreed
        } else {
            &self.disagreed
        };
        count.fetch_add(1, Relaxed);
    }

    /// Choices of this worker that the caller made too, and that it did not.
    #[must_use]
    pub fn shadows(&self) -> (u64, u64) {
        (self.agreed.load(Relaxed), self.disagreed.load(Relaxed))
    }

    fn judge(&self) -> MutexGuard<'_, Option<Box<Judge>>> {
        self.judge.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_counted_on_the_side_they_are_missing() {
        let accuracy = WorkerAccuracy::default();
        for (predicted, delivered) in [(64, 64), (64, 16), (0, 32), (16, 48)] {
            let comparison = Comparison {
                predicted,
                delivered,
                block_size: 16,
                removals: 0,
            };
            assert!(!accuracy.take(&comparison, true));
        }
        let expected = Totals {
            predicted: 144,
            delivered: 160,
            over: 48,
            under: 64,
        };
        assert_eq!(accuracy.totals(), expected);
        // Of both: 64, 16, 0 and 16.
        let latest = accuracy.latest();
        assert_eq!(
            (latest.predicted, latest.delivered, latest.both),
            (144, 160, 96)
        );
    }
}
