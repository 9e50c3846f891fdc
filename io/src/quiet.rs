//! Log lines that a thousand workers may cause at once: a bounded number for each cause.
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

/// Lines of one cause in one [`PERIOD`].
const LINES_MAX: u64 = 20;

/// Seconds.
const PERIOD: u64 = 10;

/// Lets some lines of one cause pass. Kept as a static beside the line; one for the whole node.
#[derive(Debug)]
pub(crate) struct Throttle {
    /// The period, and lines asked for in it.
    period: AtomicU64,
    asked: AtomicU64,
    /// Lines kept back since one passed.
    kept: AtomicU64,
}

impl Throttle {
    /// One that has let nothing pass.
    #[must_use]
    pub(crate) const fn new() -> Self {
        Self {
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
        let period = seconds / PERIOD;
        if self.period.swap(period, Relaxed) != period {
            self.asked.store(0, Relaxed);
        }
        if self.asked.fetch_add(1, Relaxed) < LINES_MAX {
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
        let throttle = Throttle::new();
        let passed = (0..100).filter(|_| throttle.pass_at(1_000).is_some());
        assert_eq!(passed.count() as u64, LINES_MAX);
        assert_eq!(throttle.pass_at(1_009), None, "the same period");
        assert_eq!(
            throttle.pass_at(1_010),
            Some(101 - LINES_MAX),
            "the next one tells"
        );
        assert_eq!(throttle.pass_at(1_010), Some(0));
    }
}
