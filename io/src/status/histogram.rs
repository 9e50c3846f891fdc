//! Histograms that one thread writes and anybody reads: fixed arrays of numbers, summed over the threads at a scrape.
//!
//! Each number is only that, so Relaxed. A thread that alone writes one does not need an atomic addition: it loads, adds
//! and stores, which costs what a plain counter does. Who reads meanwhile may find a value in the sum and not yet in
//! its bucket; the count is the sum of the buckets, so these always agree.
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Adds to a number that only the calling thread writes.
#[inline]
pub(super) fn bump(number: &AtomicU64, by: u64) {
    number.store(number.load(Relaxed).wrapping_add(by), Relaxed);
}

/// How many values were up to each of `N` bounds and above the one before, and their sum.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    bounds: &'static [u64; N],
    buckets: [AtomicU64; N],
    above: AtomicU64,
    sum: AtomicU64,
}

impl<const N: usize> Histogram<N> {
    /// An empty one, with bounds in ascending order.
    #[must_use]
    pub const fn new(bounds: &'static [u64; N]) -> Self {
        Self {
            bounds,
            buckets: [const { AtomicU64::new(0) }; N],
            above: AtomicU64::new(0),
            sum: AtomicU64::new(0),
        }
    }

    /// Counts a value, on the only thread that does; the number of its bucket. O(log N).
    #[inline]
    pub fn observe(&self, value: u64) -> usize {
        let at = self.bounds.partition_point(|&bound| bound < value);
        bump(self.bucket(at), 1);
        bump(&self.sum, value);
        at
    }

    /// The same in nanoseconds.
    #[inline]
    pub fn observe_time(&self, time: Duration) -> usize {
        self.observe(nanoseconds(time))
    }

    /// Counts a time in nanoseconds, on any thread.
    pub fn observe_shared(&self, time: Duration) {
        let value = nanoseconds(time);
        let at = self.bounds.partition_point(|&bound| bound < value);
        self.bucket(at).fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
    }

    /// What was counted.
    #[must_use]
    pub fn read(&self) -> Counted<N> {
        Counted {
            bounds: self.bounds,
            buckets: self.buckets.each_ref().map(|bucket| bucket.load(Relaxed)),
            above: self.above.load(Relaxed),
            sum: self.sum.load(Relaxed),
        }
    }

    #[inline]
    fn bucket(&self, at: usize) -> &AtomicU64 {
        self.buckets.get(at).unwrap_or(&self.above)
    }
}

/// A time in nanoseconds; 585 years at most.
#[inline]
pub(super) fn nanoseconds(time: Duration) -> u64 {
    let whole = time.as_secs().saturating_mul(1_000_000_000);
    whole.saturating_add(time.subsec_nanos().into())
}

/// What a histogram has counted, or several of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted<const N: usize> {
    /// Upper bounds of the buckets.
    pub bounds: &'static [u64; N],
    /// Values in each bucket, not those below.
    pub buckets: [u64; N],
    /// Values above the last bound.
    pub above: u64,
    /// Sum of all values.
    pub sum: u64,
}

impl<const N: usize> Counted<N> {
    /// Nothing, under these bounds.
    #[must_use]
    pub const fn none(bounds: &'static [u64; N]) -> Self {
        Self {
            bounds,
            buckets: [0; N],
            above: 0,
            sum: 0,
        }
    }

    /// Adds what another one of the same bounds has counted.
    pub fn add(&mut self, other: &Self) {
        for (bucket, more) in self.buckets.iter_mut().zip(other.buckets) {
            *bucket += more;
        }
        self.above += other.above;
        self.sum = self.sum.wrapping_add(other.sum);
    }

    /// All values.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum::<u64>() + self.above
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: &[u64; 3] = &[10, 20, 40];

    #[test]
    fn a_value_is_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        let histogram = Histogram::new(BOUNDS);
        for (value, bucket) in [(0, 0), (10, 0), (11, 1), (20, 1), (40, 2), (41, 3)] {
            assert_eq!(histogram.observe(value), bucket, "{value}");
        }
        let counted = histogram.read();
        assert_eq!((counted.buckets, counted.above), ([2, 2, 1], 1));
        assert_eq!((counted.sum, counted.count()), (122, 6));
        let mut twice = Counted::none(BOUNDS);
        twice.add(&counted);
        twice.add(&counted);
        assert_eq!((twice.buckets, twice.count()), ([4, 4, 2], 12));
    }
}
