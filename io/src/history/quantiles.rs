//! Quantiles of what histograms have counted lately.
//!
//! A histogram only grows, so what it counted in a time is the difference of two states of it. A few states are kept, and the
//! latest one is compared with one of [`QUANTILE_TIME`] ago: with the one before it if samples are that late.
use crate::limits::{QUANTILE_STATES_MAX, QUANTILE_TIME};
use crate::status::Counted;
use std::collections::VecDeque;
use std::time::Instant;

/// States of one histogram.
#[derive(Debug)]
pub(super) struct Window<const N: usize> {
    states: VecDeque<(Instant, Counted<N>)>,
}

impl<const N: usize> Window<N> {
    /// What is counted from this state on matters.
    pub(super) fn new(now: Instant, counted: Counted<N>) -> Self {
        Self {
            states: VecDeque::from([(now, counted)]),
        }
    }

    /// Takes the present state; what was counted in the time before.
    pub(super) fn counted(&mut self, now: Instant, counted: Counted<N>) -> Counted<N> {
        let is_old = |at: Instant| now.saturating_duration_since(at) >= QUANTILE_TIME;
        // The first one that is old enough is kept.
        while self.states.len() >= QUANTILE_STATES_MAX
            || self.states.get(1).is_some_and(|&(at, _)| is_old(at))
        {
            self.states.pop_front();
        }
        let before = self.states.front().map(|(_, before)| *before);
        self.states.push_back((now, counted));
        before.map_or(counted, |before| since(&counted, &before))
    }
}

/// What was counted after an earlier state.
pub(super) fn since<const N: usize>(now: &Counted<N>, before: &Counted<N>) -> Counted<N> {
    let mut counted = *now;
    for (bucket, before) in counted.buckets.iter_mut().zip(before.buckets) {
        *bucket = bucket.saturating_sub(before);
    }
    counted.above = now.above.saturating_sub(before.above);
    counted.sum = now.sum.wrapping_sub(before.sum);
    counted
}

/// The value that this share of all values do not exceed, as Prometheus' `histogram_quantile` has it: values are taken for spread
/// evenly over their bucket, the first of which begins at zero, and those above all bounds for the last bound. `None`
/// if nothing was counted. O(N).
#[expect(
    clippy::cast_precision_loss,
    reason = "values for the eye; bounds are exact"
)]
pub(super) fn quantile<const N: usize>(counted: &Counted<N>, share: f64) -> Option<f64> {
    let count = counted.count();
    if count == 0 {
        return None;
    }
    let rank = share * count as f64;
    let (mut below, mut lower) = (0, 0);
    for (&bound, &bucket) in counted.bounds.iter().zip(&counted.buckets) {
        if bucket > 0 && (below + bucket) as f64 >= rank {
            let within = (rank - below as f64) / bucket as f64;
            return Some(lower as f64 + (bound - lower) as f64 * within.max(0.0));
        }
        below += bucket;
        lower = bound;
    }
    Some(lower as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const BOUNDS: &[u64; 3] = &[10, 20, 40];

    fn counted(buckets: [u64; 3], above: u64) -> Counted<3> {
        Counted {
            buckets,
            above,
            ..Counted::none(BOUNDS)
        }
    }

    #[test]
    fn values_are_spread_evenly_over_their_bucket() {
        assert_eq!(quantile(&counted([0; 3], 0), 0.5), None);
        // Ten values: four up to 10, four up to 20, two up to 40.
        let ten = counted([4, 4, 2], 0);
        for (share, expected) in [
            (0.2, 5.0),
            (0.4, 10.0),
            (0.5, 12.5),
            (0.8, 20.0),
            (0.9, 30.0),
            (1.0, 40.0),
            (0.0, 0.0),
        ] {
            assert_eq!(quantile(&ten, share), Some(expected), "{share}");
        }
        // Buckets without values are passed over, and beyond the last bound nothing is known.
        assert_eq!(quantile(&counted([0, 0, 2], 0), 0.5), Some(30.0));
        assert_eq!(quantile(&counted([1, 0, 0], 1), 0.5), Some(10.0));
        assert_eq!(quantile(&counted([1, 0, 0], 1), 0.51), Some(40.0));
        assert_eq!(quantile(&counted([0, 0, 0], 7), 0.01), Some(40.0));
    }

    #[test]
    fn what_is_older_than_the_time_does_not_count() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut window = Window::new(start, counted([100, 0, 0], 0));
        // One more value each second.
        for second in 1..=40 {
            let now = counted([100, second, 0], 0);
            let found = window.counted(at(second), now);
            assert_eq!(found.buckets, [0, second.min(15), 0], "{second}");
            assert!(window.states.len() <= QUANTILE_STATES_MAX);
        }
        // A minute late: since the one before.
        let late = window.counted(at(100), counted([100, 47, 0], 2));
        assert_eq!((late.buckets, late.above), ([0, 7, 0], 2));
        // No later state is old enough yet; then two are, and the later one counts.
        let next = window.counted(at(101), counted([100, 48, 0], 2));
        assert_eq!((next.buckets, next.above), ([0, 8, 0], 2));
        let next = window.counted(at(116), counted([100, 50, 0], 2));
        assert_eq!((next.buckets, next.above), ([0, 2, 0], 0));
    }
}
