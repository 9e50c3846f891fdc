//! When the engine behind a worker is no longer believed to hold what its events say; pure.
//!
//! A comparison counts by what it shows:
//!
//! | delivered | counts | why |
//! |---|---|---|
//! | fewer than two blocks less than predicted, or more | 0 | a block may be evicted, or computed anyway |
//! | less, and removals were told of that may explain it | 1 | it was evicted between choice and prefill |
//! | nothing | 1 | engines say so, too, for requests that want the probabilities of their prompt |
//! | less | 4 | nothing that was told explains it |
//!
//! A worker is distrusted when its latest 32 comparisons come to 32: eight that nothing excuses, or not one that was good. What
//! was predicted to be shorter than two blocks shows nothing and is no comparison. Then the window begins anew.
use crate::limits::{
    DISTRUST_WEIGHT, EXCUSED_WEIGHT, FEEDBACK_TOLERANCE_BLOCKS, FEEDBACK_WINDOW, SHORTAGE_WEIGHT,
};
use std::collections::VecDeque;

/// What a worker was said to hold of one prompt, and what its engine reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// Tokens that could be reused, as the worker's events said.
    pub predicted: u64,
    /// Tokens that were.
    pub delivered: u64,
    /// Tokens of a block.
    pub block_size: u32,
    /// Blocks whose removal was told of between the two, at most.
    pub removals: u64,
}

/// Tokens of the latest comparisons.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Said to be held.
    pub predicted: u64,
    /// Reused.
    pub delivered: u64,
    /// Said to be held and reused.
    pub both: u64,
}

/// One worker's latest comparisons. At most [`FEEDBACK_WINDOW`] of each kind.
#[derive(Clone, Debug, Default)]
pub struct Judge {
    /// Predicted and delivered, of all.
    latest: VecDeque<(u64, u64)>,
    /// What those that show something count.
    weights: VecDeque<u32>,
}

impl Judge {
    /// Takes note of a comparison; whether the worker is to be distrusted now. One that is not to be `judged` only counts for
    /// [`Self::sums`].
    pub fn take(&mut self, comparison: &Comparison, judged: bool) -> bool {
        push(
            &mut self.latest,
            (comparison.predicted, comparison.delivered),
        );
        if !judged || !comparison.shows() {
            return false;
        }
        push(&mut self.weights, comparison.weight());
        let distrusted = self.weights.iter().sum::<u32>() >= DISTRUST_WEIGHT;
        if distrusted {
            self.weights.clear();
        }
        distrusted
    }

    /// All that is remembered, added up.
    #[must_use]
    pub fn sums(&self) -> Sums {
        let mut sums = Sums::default();
        for &(predicted, delivered) in &self.latest {
            sums.add(predicted, delivered);
        }
        sums
    }
}

impl Sums {
    fn add(&mut self, predicted: u64, delivered: u64) {
        self.predicted = self.predicted.saturating_add(predicted);
        self.delivered = self.delivered.saturating_add(delivered);
        self.both = self.both.saturating_add(predicted.min(delivered));
    }

    /// With those of another worker.
    pub fn merge(&mut self, other: Self) {
        self.predicted = self.predicted.saturating_add(other.predicted);
        self.delivered = self.delivered.saturating_add(other.delivered);
        self.both = self.both.saturating_add(other.both);
    }
}

impl Comparison {
    fn tolerance(&self) -> u64 {
        FEEDBACK_TOLERANCE_BLOCKS * u64::from(self.block_size.max(1))
    }

    /// Whether a worker that holds nothing would be found out.
    fn shows(&self) -> bool {
        self.predicted >= self.tolerance()
    }

    fn weight(&self) -> u32 {
        let missing = self.predicted.saturating_sub(self.delivered);
        let blocks = missing.div_ceil(u64::from(self.block_size.max(1)));
        if missing < self.tolerance() {
            0
        } else if self.delivered == 0 || self.removals >= blocks {
            EXCUSED_WEIGHT
        } else {
            SHORTAGE_WEIGHT
        }
    }
}

/// In place of the oldest, if there are enough.
fn push<T>(queue: &mut VecDeque<T>, item: T) {
    if queue.len() == FEEDBACK_WINDOW {
        queue.pop_front();
    }
    queue.push_back(item);
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Comparison = Comparison {
        predicted: 160,
        delivered: 160,
        block_size: 16,
        removals: 0,
    };
    const SHORT: Comparison = Comparison {
        delivered: 64,
        ..GOOD
    };
    const NOTHING: Comparison = Comparison {
        delivered: 0,
        ..GOOD
    };
    const EVICTED: Comparison = Comparison {
        removals: 6,
        ..SHORT
    };

    /// How many of these in turn it takes until the worker is distrusted, of 1,000.
    fn until_distrusted(turn: &[Comparison]) -> Option<usize> {
        let mut judge = Judge::default();
        let comparisons = turn.iter().cycle().take(1_000);
        let mut at = comparisons.enumerate();
        at.find_map(|(at, comparison)| judge.take(comparison, true).then_some(at + 1))
    }

    #[test]
    fn each_comparison_counts_by_what_it_shows() {
        let of = |predicted, delivered, removals| {
            let comparison = Comparison {
                predicted,
                delivered,
                removals,
                ..GOOD
            };
            comparison.shows().then(|| comparison.weight())
        };
        let table = [
            // predicted, delivered, removals
            (of(160, 160, 0), Some(0)),
            (of(160, 400, 0), Some(0)),
            (of(160, 144, 0), Some(0)),
            (of(160, 129, 0), Some(0)),
            (of(160, 128, 0), Some(4)),
            (of(160, 128, 1), Some(4)),
            (of(160, 128, 2), Some(1)),
            (of(160, 100, 3), Some(4)),
            (of(160, 100, 4), Some(1)),
            (of(160, 0, 0), Some(1)),
            (of(32, 0, 0), Some(1)),
            (of(31, 0, 0), None),
            (of(0, 160, 0), None),
        ];
        for (at, (found, expected)) in table.into_iter().enumerate() {
            assert_eq!(found, expected, "row {at}");
        }
    }

    #[test]
    fn a_worker_is_distrusted_when_it_is_wrong_again_and_again() {
        let table: [(&[Comparison], Option<usize>); 8] = [
            (&[GOOD], None),
            (&[SHORT], Some(8)),
            (&[GOOD, SHORT], Some(16)),
            // Seven or eight of any 32.
            (&[GOOD, GOOD, GOOD, SHORT], Some(32)),
            (&[GOOD, GOOD, GOOD, GOOD, SHORT], None),
            // Requests for which engines always say nothing, and evictions, are no proof unless there is nothing else.
            (&[NOTHING, NOTHING, NOTHING, GOOD], None),
            (&[NOTHING], Some(32)),
            (&[EVICTED, EVICTED, GOOD], None),
        ];
        for (at, (turn, expected)) in table.into_iter().enumerate() {
            assert_eq!(until_distrusted(turn), expected, "row {at}");
        }
    }

    #[test]
    fn one_off_shortages_are_forgotten() {
        let mut judge = Judge::default();
        for _ in 0..7 {
            assert!(!judge.take(&SHORT, true));
        }
        for _ in 0..FEEDBACK_WINDOW {
            assert!(!judge.take(&GOOD, true));
        }
        for _ in 0..7 {
            assert!(!judge.take(&SHORT, true));
        }
        assert!(judge.take(&SHORT, true));
    }

    #[test]
    fn the_window_begins_anew_after_a_verdict() {
        let mut judge = Judge::default();
        for round in 1..=2 {
            let verdicts: Vec<_> = (0..8).map(|_| judge.take(&SHORT, true)).collect();
            assert_eq!(verdicts.iter().position(|&it| it), Some(7));
            // What precision and recall go by stays.
            let expected = Sums {
                predicted: 160 * 8 * round,
                delivered: 64 * 8 * round,
                both: 64 * 8 * round,
            };
            assert_eq!(judge.sums(), expected);
        }
    }

    #[test]
    fn what_is_not_to_be_judged_only_counts() {
        let mut judge = Judge::default();
        for _ in 0..100 {
            assert!(!judge.take(&SHORT, false));
        }
        let window = FEEDBACK_WINDOW as u64;
        let expected = Sums {
            predicted: 160 * window,
            delivered: 64 * window,
            both: 64 * window,
        };
        assert_eq!(judge.sums(), expected);
    }

    #[test]
    fn numbers_that_clients_make_up_do_no_harm() {
        let mut judge = Judge::default();
        let absurd = Comparison {
            predicted: u64::MAX,
            delivered: u64::MAX,
            block_size: 0,
            removals: u64::MAX,
        };
        for _ in 0..3 {
            assert!(!judge.take(&absurd, true));
        }
        assert_eq!(judge.sums().both, u64::MAX);
    }
}
