//! Log lines that a thousand workers may cause at once: a bounded number for each cause.
use crate::limits::{LINES_PER_CAUSE_MAX, LINES_PERIOD};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Lets some lines of one cause pass. Kept as a static beside the line; one for the whole node.
#[derive(Debug)]
pub(crate) struct Throttle {
    /// So many lines in so many seconds.
    most: u64,
    seconds: u64,
    /// The period, and lines asked for in it.
    period: AtomicU64,
    asked: AtomicU64,
    /// Lines kept back since one passed.
    kept: AtomicU64,
}

impl Throttle {
    /// For one of a thousand causes.
    #[must_use]
    pub(crate) const fn new() -> Self {
        Self::with(LINES_PER_CAUSE_MAX, LINES_PERIOD)
    }

    /// At most so many lines in each `period`, which is a second at least.
    #[must_use]
    pub(crate) const fn with(most: u64, period: Duration) -> Self {
        Self {
            most,
            seconds: period.as_secs(),
            period: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            kept: AtomicU64::new(0),
        }
    }

    /// Whether this line may be written, and how many were kept back before it.
    pub(crate) fn pass(&self) -> Option<u64> {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH);
        self.pass_at(seconds.map_or(0, |since| since.as_secs()))
    }

    /// Relaxed, all: two threads at the turn of a period may let a line more or less pass.
    fn pass_at(&self, seconds: u64) -> Option<u64> {
        let period = seconds / self.seconds.max(1);
        if self.period.swap(period, Relaxed) != period {
            self.asked.store(0, Relaxed);
        }
        if self.asked.fetch_add(1, Relaxed) < self.most {
            return Some(self.kept.swap(0, Relaxed));
        }
        self.kept.fetch_add(1, Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted() {
        let throttle = Throttle::with(20, Duration::from_secs(10));
        let passed = (0..100).filter(|_| throttle.pass_at(1_000).is_some());
        assert_eq!(passed.count(), 20);
        assert_eq!(throttle.pass_at(1_009), None, "the same period");
        assert_eq!(
            throttle.pass_at(1_010),
            Some(101 - 20),
            "the next one tells"
        );
        assert_eq!(throttle.pass_at(1_010), Some(0));
    }

    #[test]
    fn a_minute_has_so_many_lines_and_the_next_one_as_many_again() {
        let throttle = Throttle::with(30, Duration::from_secs(60));
        for minute in 5..7 {
            let passed = (0..100).filter(|_| throttle.pass_at(minute * 60).is_some());
            assert_eq!(passed.count(), 30);
        }
        assert_eq!(
            throttle.pass_at(7 * 60),
            Some(100 - 30),
            "those of the last one"
        );
    }
}
