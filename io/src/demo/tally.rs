//! Counts what the demo's requests came to, and renders them as one line.
use crate::limits::LATENCIES_KEPT_MAX;
use crate::trace::judge::Verdict;
use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

/// The sums since the start.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    exact: u64,
    allowed: u64,
    wrong: u64,
    skipped: u64,
    /// The latest lookups.
    latencies: VecDeque<Duration>,
}

impl Tally {
    /// Counts one request.
    pub fn add(&mut self, verdict: Verdict, took: Duration) {
        match verdict {
            Verdict::Exact => self.exact += 1,
            Verdict::Allowed(_) => self.allowed += 1,
            Verdict::Under | Verdict::Over => self.wrong += 1,
            Verdict::Skipped(_) => self.skipped += 1,
        }
        if self.latencies.len() == LATENCIES_KEPT_MAX {
            self.latencies.pop_front();
        }
        self.latencies.push_back(took);
    }

    /// The latency that `percent` of the latest lookups did not exceed.
    fn percentile(&self, percent: usize) -> Duration {
        let mut sorted: Vec<_> = self.latencies.iter().copied().collect();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100);
        sorted
            .get(rank.saturating_sub(1))
            .copied()
            .unwrap_or_default()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let requests = self.exact + self.allowed + self.wrong + self.skipped;
        write!(
            f,
            "requests {requests}, predicted exactly {}, allowed {}, wrong {}, concurrent {}, \
             lookups p50 {} us p99 {} us",
            self.exact,
            self.allowed,
            self.wrong,
            self.skipped,
            self.percentile(50).as_micros(),
            self.percentile(99).as_micros(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::judge::{Excuse, Skip};

    #[test]
    fn the_line_says_what_was_counted() {
        let mut tally = Tally::default();
        assert!(tally.to_string().ends_with("p50 0 us p99 0 us"));
        for micros in 1..=98 {
            tally.add(Verdict::Exact, Duration::from_micros(micros));
        }
        tally.add(Verdict::Allowed(Excuse::Reset), Duration::from_micros(99));
        tally.add(Verdict::Over, Duration::from_micros(100));
        assert_eq!(
            tally.to_string(),
            "requests 100, predicted exactly 98, allowed 1, wrong 1, concurrent 0, lookups p50 50 us p99 99 us"
        );
        tally.add(Verdict::Skipped(Skip::Concurrent), Duration::ZERO);
        tally.add(Verdict::Under, Duration::ZERO);
        assert!(
            tally
                .to_string()
                .contains("requests 102, predicted exactly 98, allowed 1, wrong 2, concurrent 1,")
        );
    }

    #[test]
    fn only_the_latest_lookups_are_kept() {
        let mut tally = Tally::default();
        for micros in [1_000, 7] {
            for _ in 0..LATENCIES_KEPT_MAX {
                tally.add(Verdict::Exact, Duration::from_micros(micros));
            }
        }
        assert_eq!(tally.percentile(100), Duration::from_micros(7));
    }
}
