//! What was counted within the last minutes, by reason: for whoever judges it, not for whoever draws it.
use super::quantiles::{quantile, since};
use super::sampler::{lags, lookup_times, request_times};
use crate::fleet::{Fleet, FleetView};
use crate::limits::{MINUTE, MINUTES_KEPT};
use crate::status::{
    CodeClass, Counted, Endpoint, HttpStatus, Refused, Reloaded, SkipReason, ThreadStatus,
};
use ahash::AHashMap;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Counters of the whole node at one moment, or what was counted between two.
#[derive(Clone, Debug)]
pub struct Counts {
    /// What was skipped, by [`SkipReason`].
    pub skipped: [u64; SkipReason::ALL.len()],
    /// What was turned away, by [`Refused`].
    pub refused: [u64; Refused::ALL.len()],
    /// Files that could not be read again, by [`Reloaded`].
    pub reload_failures: [u64; Reloaded::ALL.len()],
    /// Requests that were answered, but for those to other paths than callers use.
    pub requests: u64,
    /// Of these, by a fault of the node.
    pub failed: u64,
    /// Lookups.
    pub lookups: u64,
    lookup_times: Counted<15>,
    /// By [`JUDGED`].
    request_times: [Counted<21>; JUDGED.len()],
    lags: Option<Counted<19>>,
}

/// Requests that callers wait for.
const JUDGED: [Endpoint; 6] = [
    Endpoint::Match,
    Endpoint::Batch,
    Endpoint::Route,
    Endpoint::ExtAuthz,
    Endpoint::Query,
    Endpoint::QueryByHash,
];

/// Measured times from which on one in a hundred of them means something.
const MEASURED_ENOUGH: u64 = 100;

impl Counts {
    /// Reads them; what workers skipped is told. O(threads).
    #[must_use]
    pub fn read(
        skipped: [u64; SkipReason::ALL.len()],
        fleet: &Fleet,
        threads: &[ThreadStatus],
        http: &HttpStatus,
    ) -> Self {
        let mut counts = Self {
            skipped,
            refused: [0; Refused::ALL.len()],
            reload_failures: [0; Reloaded::ALL.len()],
            requests: 0,
            failed: 0,
            lookups: 0,
            lookup_times: lookup_times(threads),
            request_times: JUDGED.map(|endpoint| request_times(threads, &[endpoint])),
            lags: lags(fleet),
        };
        for (why, count) in http.refused() {
            counts.refused[why as usize] = count;
        }
        for (what, count) in http.reload_failures() {
            counts.reload_failures[what as usize] = count;
        }
        for thread in threads {
            counts.lookups += thread.lookups.shares().iter().sum::<u64>();
            for endpoint in JUDGED {
                for &class in CodeClass::ALL {
                    let answered = thread.requests.answered(endpoint, class);
                    counts.requests += answered;
                    counts.failed += answered * u64::from(class == CodeClass::Failed);
                }
            }
        }
        counts
    }

    /// What was counted since an earlier moment.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let lags = match (&self.lags, &before.lags) {
            (Some(now), Some(before)) => Some(since(now, before)),
            _ => None,
        };
        Self {
            skipped: minus(&self.skipped, &before.skipped),
            refused: minus(&self.refused, &before.refused),
            reload_failures: minus(&self.reload_failures, &before.reload_failures),
            requests: self.requests.saturating_sub(before.requests),
            failed: self.failed.saturating_sub(before.failed),
            lookups: self.lookups.saturating_sub(before.lookups),
            lookup_times: since(&self.lookup_times, &before.lookup_times),
            request_times: std::array::from_fn(|at| {
                since(&self.request_times[at], &before.request_times[at])
            }),
            lags,
        }
    }

    /// Seconds that one lookup in a hundred took, or longer; none of so few that it means nothing.
    #[must_use]
    pub fn lookup_p99(&self) -> Option<f64> {
        p99(&self.lookup_times)
    }

    /// The same of requests, of the path where it is the longest.
    #[must_use]
    pub fn request_p99(&self) -> Option<f64> {
        let all = self.request_times.iter();
        all.filter_map(p99).max_by(f64::total_cmp)
    }

    /// The same of the time between an engine's publishing and the index.
    #[must_use]
    pub fn lag_p99(&self) -> Option<f64> {
        self.lags.as_ref().and_then(p99)
    }
}

fn p99<const N: usize>(times: &Counted<N>) -> Option<f64> {
    let enough = times.count() >= MEASURED_ENOUGH;
    quantile(times, 0.99).filter(|_| enough).map(seconds)
}

/// What workers have skipped, also those that are gone.
#[derive(Debug, Default)]
pub struct Skipped {
    /// Of each worker by its serial number, when it was looked at last.
    workers: AHashMap<u64, [u64; SkipReason::ALL.len()]>,
    all: [u64; SkipReason::ALL.len()],
}

impl Skipped {
    /// All that is known until now; what a worker skipped between the last look and its end is not. O(workers).
    pub fn look(&mut self, view: &FleetView) -> [u64; SkipReason::ALL.len()] {
        let mut workers = AHashMap::with_capacity(view.len());
        for info in view.workers() {
            let mut now = [0; SkipReason::ALL.len()];
            for (reason, count) in info.status().skipped() {
                now[reason as usize] = count;
            }
            let before = self.workers.get(&info.serial()).copied();
            let more = minus(&now, &before.unwrap_or_default());
            for (sum, more) in self.all.iter_mut().zip(more) {
                *sum += more;
            }
            workers.insert(info.serial(), now);
        }
        self.workers = workers;
        self.all
    }
}

fn minus<const N: usize>(now: &[u64; N], before: &[u64; N]) -> [u64; N] {
    std::array::from_fn(|at| now[at].saturating_sub(before[at]))
}

fn seconds(nanoseconds: f64) -> f64 {
    nanoseconds / 1e9
}

/// The counters of the last minutes, one state of them for each.
#[derive(Debug)]
pub struct Minutes(VecDeque<(Instant, Counts)>);

impl Minutes {
    /// From these on.
    #[must_use]
    pub fn new(now: Instant, counts: Counts) -> Self {
        Self(VecDeque::from([(now, counts)]))
    }

    /// Takes note of the counters if a minute has passed since it last did.
    pub fn note(&mut self, now: Instant, read: impl FnOnce() -> Counts) {
        let last = self
            .0
            .back()
            .map(|(at, _)| now.saturating_duration_since(*at));
        if last.is_some_and(|passed| passed < MINUTE) {
            return;
        }
        self.0.push_back((now, read()));
        if self.0.len() > MINUTES_KEPT {
            self.0.pop_front();
        }
    }

    /// What was counted since the earliest state that is kept, and in how long a time.
    #[must_use]
    pub fn until(&self, now: Instant, counts: &Counts) -> Option<(Duration, Counts)> {
        let (at, before) = self.0.front()?;
        Some((now.saturating_duration_since(*at), counts.since(before)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(requests: u64) -> Counts {
        let threads = [ThreadStatus::default()];
        Counts {
            skipped: [requests; SkipReason::ALL.len()],
            refused: [0; Refused::ALL.len()],
            reload_failures: [0; Reloaded::ALL.len()],
            requests,
            failed: requests / 2,
            lookups: 3 * requests,
            lookup_times: lookup_times(&threads),
            request_times: JUDGED.map(|endpoint| request_times(&threads, &[endpoint])),
            lags: None,
        }
    }

    #[test]
    fn the_last_ten_minutes_are_judged() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut minutes = Minutes::new(start, counts(0));
        let (time, since) = minutes.until(at(5), &counts(8)).unwrap();
        assert_eq!((time.as_secs(), since.requests), (5, 8));
        assert_eq!((since.failed, since.lookups, since.skipped[0]), (4, 24, 8));
        for second in 1..=1_200 {
            minutes.note(at(second), || counts(second));
        }
        // The states are of 600 s, 660 s, … 1,200 s.
        let (time, since) = minutes.until(at(1_230), &counts(1_230)).unwrap();
        assert_eq!((time.as_secs(), since.requests), (630, 630));
        // Counters that are less than before: none is too much.
        let (_, since) = minutes.until(at(1_230), &counts(10)).unwrap();
        assert_eq!((since.requests, since.skipped[3]), (0, 0));
        assert_eq!(since.lookup_p99(), None);
    }
}
