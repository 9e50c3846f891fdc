//! Reads the node's counters, and tells what happened since it did before.
use super::quantiles::{Window, quantile};
use super::sample::{LagQuantiles, Quantiles, Sample, States};
use crate::fleet::{Fleet, FleetView};
use crate::status::{
    CodeClass, Counted, Endpoint, EventKind, LookupKind, ThreadStatus, WorkerStatus,
};
use ahash::AHashMap;
use std::sync::Arc;
use std::time::Instant;

/// One worker's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct OfWorker {
    events: u64,
    batches: u64,
    stored: u64,
    removed: u64,
    skipped: u64,
    gaps: u64,
    replays: u64,
    restarts: u64,
}

impl OfWorker {
    fn read(status: &WorkerStatus) -> Self {
        let counts = status.counts();
        let [stored, removed] = counts.blocks();
        Self {
            events: EventKind::ALL.iter().map(|&k| counts.of_kind(k).0).sum(),
            batches: status.batches(),
            stored,
            removed,
            skipped: counts.all_skipped(),
            gaps: status.gaps(),
            replays: status.replays(),
            restarts: status.restarts(),
        }
    }

    /// Adds what was counted between two readings.
    fn add(&mut self, before: &Self, now: &Self) {
        let add = |sum: &mut u64, before: u64, now: u64| *sum += now.saturating_sub(before);
        add(&mut self.events, before.events, now.events);
        add(&mut self.batches, before.batches, now.batches);
        add(&mut self.stored, before.stored, now.stored);
        add(&mut self.removed, before.removed, now.removed);
        add(&mut self.skipped, before.skipped, now.skipped);
        add(&mut self.gaps, before.gaps, now.gaps);
        add(&mut self.replays, before.replays, now.replays);
        add(&mut self.restarts, before.restarts, now.restarts);
    }
}

/// A worker whose counters are followed, also for one sample after it has left.
#[derive(Debug)]
struct Followed {
    status: Arc<WorkerStatus>,
    counted: OfWorker,
    /// The last sample in which it was in the fleet.
    seen: u64,
}

/// What all threads that answer requests have counted.
#[derive(Clone, Copy, Debug, Default)]
struct OfThreads {
    lookups: u64,
    tokens: [u64; 2],
    answered: [u64; CodeClass::ALL.len()],
}

/// Requests that look prompts up, or are about one: who looks at the node must not see how long looking takes.
const TIMED: [Endpoint; 8] = [
    Endpoint::Match,
    Endpoint::Batch,
    Endpoint::Route,
    Endpoint::ExtAuthz,
    Endpoint::Query,
    Endpoint::QueryByHash,
    Endpoint::Feedback,
    Endpoint::Explain,
];

/// What takes samples. Counts are from the moment when it was made.
#[derive(Debug)]
pub struct Sampler {
    fleet: Arc<Fleet>,
    threads: Arc<[ThreadStatus]>,
    at: Instant,
    /// How many samples were taken.
    taken: u64,
    /// By the worker's serial number.
    workers: AHashMap<u64, Followed>,
    counted: OfThreads,
    lookups: Window<15>,
    requests: Window<21>,
    /// None without a thread that measures.
    lags: Option<Window<19>>,
}

impl Sampler {
    /// Of a fleet and of the threads that answer requests.
    #[must_use]
    pub fn new(fleet: &Arc<Fleet>, threads: &Arc<[ThreadStatus]>, now: Instant) -> Self {
        let mut sampler = Self {
            fleet: Arc::clone(fleet),
            threads: Arc::clone(threads),
            at: now,
            taken: 0,
            workers: AHashMap::new(),
            counted: of_threads(threads),
            lookups: Window::new(now, lookup_times(threads)),
            requests: Window::new(now, request_times(threads, &TIMED)),
            lags: lags(fleet).map(|counted| Window::new(now, counted)),
        };
        let view = fleet.view();
        sampler.of_workers(&view, &mut Sample::default());
        sampler
    }

    /// Takes one. O(workers), without waiting for anybody.
    ///
    /// `at_ms` is the time in milliseconds since 1970, `now` the same by a clock that never goes back.
    pub fn sample(&mut self, at_ms: u64, now: Instant) -> Sample {
        let dt = now.saturating_duration_since(self.at);
        self.at = now;
        self.taken += 1;
        let mut sample = Sample {
            at_ms,
            dt_ms: u64::try_from(dt.as_millis()).unwrap_or(u64::MAX),
            index_bytes: self.fleet.index().bytes(),
            resident_bytes: resident_bytes(),
            ..Sample::default()
        };
        let fleet = Arc::clone(&self.fleet);
        let counted = self.of_workers(&fleet.view(), &mut sample);
        sample.events = counted.events;
        sample.batches = counted.batches;
        sample.blocks_stored = counted.stored;
        sample.blocks_removed = counted.removed;
        sample.skipped = counted.skipped;
        sample.gaps = counted.gaps;
        sample.replays = counted.replays;
        sample.restarts = counted.restarts;
        self.of_requests(&mut sample);
        self.times(now, &mut sample);
        sample
    }

    /// Notes the workers that there are; what they, and those that have left, have counted since the last time.
    fn of_workers(&mut self, view: &FleetView, sample: &mut Sample) -> OfWorker {
        let mut sum = OfWorker::default();
        let States(states) = &mut sample.states;
        for info in view.workers() {
            let status = info.status();
            let known = self.workers.entry(info.serial());
            // Its counters began at zero after the last sample.
            let known = known.or_insert_with(|| Followed {
                status: Arc::clone(status),
                counted: OfWorker::default(),
                seen: 0,
            });
            let now = OfWorker::read(status);
            sum.add(&known.counted, &now);
            known.counted = now;
            known.seen = self.taken;
            sample.workers += 1;
            sample.blocks += status.blocks();
            if let Some(count) = states.get_mut(status.trust() as usize) {
                *count += 1;
            }
        }
        // A fleet that stays the same is not gone over twice.
        if self.workers.len() as u64 > sample.workers {
            let taken = self.taken;
            self.workers.retain(|_, known| {
                let stays = known.seen == taken;
                if !stays {
                    sum.add(&known.counted, &OfWorker::read(&known.status));
                }
                stays
            });
        }
        sum
    }

    fn of_requests(&mut self, sample: &mut Sample) {
        let now = of_threads(&self.threads);
        let before = std::mem::replace(&mut self.counted, now);
        sample.lookups = now.lookups.saturating_sub(before.lookups);
        let tokens = |at: usize| now.tokens[at].saturating_sub(before.tokens[at]);
        (sample.asked_tokens, sample.matched_tokens) = (tokens(0), tokens(1));
        let answered = |class: CodeClass| {
            let at = class as usize;
            now.answered[at].saturating_sub(before.answered[at])
        };
        sample.failed = answered(CodeClass::Failed);
        sample.refused = answered(CodeClass::Refused);
        sample.requests = answered(CodeClass::Done) + sample.failed + sample.refused;
    }

    fn times(&mut self, now: Instant, sample: &mut Sample) {
        let lookups = self.lookups.counted(now, lookup_times(&self.threads));
        sample.lookup_us = quantiles(&lookups);
        let requests = self
            .requests
            .counted(now, request_times(&self.threads, &TIMED));
        sample.request_us = quantiles(&requests);
        if let (Some(window), Some(lags)) = (&mut self.lags, lags(&self.fleet)) {
            let lags = window.counted(now, lags);
            let of = |share| quantile(&lags, share).map(|ns| rounded(ns / 1e6));
            sample.lag_ms = of(0.5)
                .zip(of(0.99))
                .map(|(p50, p99)| LagQuantiles { p50, p99 });
        }
    }
}

/// Of nanoseconds, in microseconds.
fn quantiles<const N: usize>(counted: &Counted<N>) -> Option<Quantiles> {
    let of = |share| quantile(counted, share).map(|ns| rounded(ns / 1e3));
    Some(Quantiles {
        p50: of(0.5)?,
        p90: of(0.9)?,
        p99: of(0.99)?,
    })
}

/// To the thousandth: more digits are but longer to send.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

fn of_threads(threads: &[ThreadStatus]) -> OfThreads {
    let mut sum = OfThreads::default();
    for thread in threads {
        sum.lookups += thread.lookups.shares().iter().sum::<u64>();
        let tokens = thread.lookups.tokens();
        for (sum, count) in sum.tokens.iter_mut().zip(tokens) {
            *sum += count;
        }
        for &endpoint in Endpoint::ALL {
            for (sum, &class) in sum.answered.iter_mut().zip(CodeClass::ALL) {
                *sum += thread.requests.answered(endpoint, class);
            }
        }
    }
    sum
}

/// The sum of what several histograms have counted; nothing under these bounds if there is none.
fn sum<const N: usize>(all: impl Iterator<Item = Counted<N>>) -> Option<Counted<N>> {
    all.reduce(|mut sum, counted| {
        sum.add(&counted);
        sum
    })
}

pub(super) fn lookup_times(threads: &[ThreadStatus]) -> Counted<15> {
    let of = |thread: &ThreadStatus| {
        let kinds = LookupKind::ALL.iter();
        sum(kinds.map(|&kind| thread.lookups.times(kind)))
    };
    let all = sum(threads.iter().filter_map(of));
    all.unwrap_or(Counted::none(&[0; 15]))
}

pub(super) fn request_times(threads: &[ThreadStatus], which: &[Endpoint]) -> Counted<21> {
    let of = |thread: &ThreadStatus| {
        let endpoints = which.iter();
        sum(endpoints.map(|&endpoint| thread.requests.times(endpoint)))
    };
    let all = sum(threads.iter().filter_map(of));
    all.unwrap_or(Counted::none(&[0; 21]))
}

pub(super) fn lags(fleet: &Fleet) -> Option<Counted<19>> {
    let mut all: Option<Counted<19>> = None;
    fleet.measured(&mut |thread| {
        let lags = thread.lags();
        match &mut all {
            Some(all) => all.add(&lags),
            None => all = Some(lags),
        }
    });
    all
}

#[cfg(target_os = "linux")]
fn resident_bytes() -> Option<u64> {
    let own = procfs::process::Process::myself().ok()?;
    let pages = own.statm().ok()?.resident;
    Some(pages.saturating_mul(procfs::page_size()))
}

#[cfg(not(target_os = "linux"))]
fn resident_bytes() -> Option<u64> {
    None
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
