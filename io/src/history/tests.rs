//! Samples worked out by hand: what is counted between two of them, when workers come and go, and when the clock is late.
use super::*;
use crate::fleet::{Described, PodSpec, Source, Subscribe};
use crate::status::{EventTally, IoStatus, SkipReason, Trust};
use crate::stream::saved::SaveTo;
use crate::stream::{NewWorker, QueueFull};
use kvroute_engine::types::WorkerId;
use kvroute_engine::{Index, IndexConfig};
use serde_json::json;
use std::time::Duration;

/// Subscribes to nothing, and measures what the test says.
#[derive(Debug)]
struct Measuring(Arc<IoStatus>);

impl Subscribe for Measuring {
    fn add(&self, _: NewWorker) -> Result<(), QueueFull> {
        Ok(())
    }

    fn remove(&self, _: WorkerId) {}

    fn verify(&self, _: WorkerId) {}

    fn unheard(&self, _: WorkerId) {}

    fn distrust(&self, _: WorkerId) {}

    fn save(&self, _: WorkerId, _: SaveTo) {}

    fn measured(&self, each: &mut dyn FnMut(&IoStatus)) {
        each(&self.0);
    }
}

/// A sampler over a fleet and two threads whose counters the test writes.
struct Rig {
    fleet: Arc<Fleet>,
    threads: Arc<[ThreadStatus]>,
    io: Arc<IoStatus>,
    start: Instant,
    sampler: Sampler,
}

impl Rig {
    fn new() -> Self {
        let io = Arc::new(IoStatus::default());
        let index = Index::new(IndexConfig::default());
        let fleet = Arc::new(Fleet::new(index, Measuring(Arc::clone(&io))));
        let threads: Arc<[_]> = (0..2).map(|_| ThreadStatus::default()).collect();
        let start = Instant::now();
        Self {
            sampler: Sampler::new(&fleet, &threads, start),
            fleet,
            threads,
            io,
            start,
        }
    }

    fn add(&self, pod: &str) -> Arc<WorkerStatus> {
        let events = format!("tcp://{pod}.invalid:1");
        let spec: PodSpec =
            serde_json::from_value(json!({"pod": pod, "model": "m", "events": events})).unwrap();
        self.fleet.add(spec).unwrap();
        Arc::clone(self.fleet.view().pod(pod)[0].status())
    }

    /// The sample of so many milliseconds after the start.
    fn at(&mut self, ms: u64) -> Sample {
        let now = self.start + Duration::from_millis(ms);
        self.sampler.sample(1_000_000 + ms, now)
    }
}

/// So many batches, each of two stored events with three blocks and one removed event with one.
fn count_batches(status: &WorkerStatus, batches: u64) {
    let mut tally = EventTally::default();
    tally.applied[EventKind::Stored as usize] = [1, 1];
    tally.applied[EventKind::Removed as usize][0] = 1;
    tally.blocks = [3, 1];
    for _ in 0..batches {
        status.counts().add_events(&tally);
        status.add_batches(1);
    }
}

#[test]
fn counts_are_those_since_the_sample_before() {
    let mut rig = Rig::new();
    let (a, b) = (rig.add("a"), rig.add("b"));
    count_batches(&a, 10);
    count_batches(&b, 1);
    a.set_trust(Trust::Exact);
    a.set_blocks(40);
    b.set_blocks(2);
    let first = rig.at(1_000);
    assert_eq!((first.at_ms, first.dt_ms), (1_001_000, 1_000));
    assert_eq!((first.events, first.batches), (33, 11));
    assert_eq!((first.blocks_stored, first.blocks_removed), (33, 11));
    assert_eq!((first.workers, first.blocks), (2, 42));
    // exact, replaying, partial, approximate, stale, distrusted
    assert_eq!(first.states, States([1, 1, 0, 0, 0, 0]));
    count_batches(&b, 2);
    b.add_skipped(SkipReason::Medium, 4);
    b.add_skipped(SkipReason::Duplicate, 1);
    b.add_gaps(1, 3, None);
    b.add_replay(0);
    b.add_replay(0);
    a.add_restarts(1);
    // Three seconds late: the counts are of all that time, and it says so.
    let second = rig.at(5_250);
    assert_eq!((second.at_ms, second.dt_ms), (1_005_250, 4_250));
    assert_eq!((second.events, second.batches), (6, 2));
    assert_eq!((second.blocks_stored, second.blocks_removed), (6, 2));
    assert_eq!((second.skipped, second.gaps), (5, 1));
    assert_eq!((second.replays, second.restarts), (2, 1));
    let nothing = rig.at(6_250);
    let expected = Sample {
        at_ms: 1_006_250,
        dt_ms: 1_000,
        workers: 2,
        blocks: 42,
        states: States([1, 1, 0, 0, 0, 0]),
        index_bytes: nothing.index_bytes,
        resident_bytes: nothing.resident_bytes,
        ..Sample::default()
    };
    assert_eq!(nothing, expected);
    assert!(cfg!(not(target_os = "linux")) || nothing.resident_bytes.unwrap() > 1 << 20);
}

#[test]
fn a_worker_that_goes_takes_nothing_with_it() {
    let mut rig = Rig::new();
    let (a, b) = (rig.add("a"), rig.add("b"));
    count_batches(&a, 100);
    count_batches(&b, 1_000);
    assert_eq!(rig.at(1_000).batches, 1_100);
    // It goes with batches that no sample has yet; another one comes in its place, with its name.
    count_batches(&b, 7);
    assert!(rig.fleet.remove("b", None));
    let anew = rig.add("b");
    count_batches(&anew, 2);
    count_batches(&a, 1);
    let sample = rig.at(2_000);
    assert_eq!((sample.batches, sample.workers), (10, 2));
    // What its thread still counts is nobody's.
    count_batches(&b, 5);
    count_batches(&anew, 1);
    assert_eq!(rig.at(3_000).batches, 1);
    assert!(rig.fleet.remove("a", None) && rig.fleet.remove("b", None));
    let empty = rig.at(4_000);
    assert_eq!((empty.batches, empty.workers), (0, 0));
    assert!(
        rig.sampler.workers.is_empty(),
        "nobody is followed for ever"
    );
}

#[test]
fn a_worker_that_is_described_in_other_words_is_the_same() {
    let mut rig = Rig::new();
    let describe = |rig: &Rig, endpoint: &str| {
        let pod = json!({"pod": "a", "model": "m", "events": "tcp://a:1", "endpoint": endpoint});
        let pod: PodSpec = serde_json::from_value(pod).unwrap();
        let pods = vec![Described::from(pod)];
        rig.fleet.follow(Source::File, pods, Vec::new());
        rig.fleet.reconcile();
        Arc::clone(&rig.fleet.view().pod("a")[0])
    };
    let before = describe(&rig, "10.0.0.1:80");
    count_batches(before.status(), 100);
    assert_eq!(rig.at(1_000).batches, 100);
    let after = describe(&rig, "10.0.0.2:80");
    assert!(!Arc::ptr_eq(&before, &after), "it is described anew");
    count_batches(after.status(), 1);
    assert_eq!(rig.at(2_000).batches, 1);
}

#[test]
fn what_was_counted_before_the_first_sample_was_begun_does_not_count() {
    let rig = Rig::new();
    let a = rig.add("a");
    count_batches(&a, 100);
    rig.threads[0].lookups.matched(10, 5, 50);
    let mut sampler = Sampler::new(&rig.fleet, &rig.threads, rig.start);
    count_batches(&a, 1);
    rig.threads[1].lookups.matched(10, 3, 30);
    let sample = sampler.sample(0, rig.start + Duration::from_secs(1));
    assert_eq!((sample.batches, sample.lookups), (1, 1));
    assert_eq!((sample.asked_tokens, sample.matched_tokens), (10, 3));
}

#[test]
fn requests_of_all_threads_are_added_up() {
    let mut rig = Rig::new();
    rig.threads[0].lookups.matched(100, 64, 64);
    rig.threads[1].lookups.matched(50, 0, 0);
    for (thread, endpoint, status) in [
        (0, Endpoint::Match, 200),
        (1, Endpoint::Route, 200),
        (1, Endpoint::Route, 404),
        (0, Endpoint::Other, 500),
        (0, Endpoint::Other, 503),
        (0, Endpoint::Other, 204),
    ] {
        let requests = &rig.threads[thread].requests;
        requests.begin().answered(endpoint, status, None);
    }
    let sample = rig.at(1_000);
    assert_eq!((sample.lookups, sample.asked_tokens), (2, 150));
    assert_eq!(sample.matched_tokens, 64);
    assert_eq!((sample.requests, sample.refused, sample.failed), (6, 1, 2));
    assert!(sample.request_us.is_some());
    let next = rig.at(2_000);
    assert_eq!((next.lookups, next.requests), (0, 0));
    // Of the last 15 seconds, in which there were some.
    assert_eq!(next.request_us, sample.request_us);
    for _ in 0..3 {
        let requests = &rig.threads[0].requests;
        requests.begin().answered(Endpoint::Other, 200, None);
    }
    let later = rig.at(20_000);
    assert_eq!((later.requests, later.request_us), (3, None));
}

#[test]
fn times_are_quantiles_of_what_was_measured_lately() {
    let mut rig = Rig::new();
    assert_eq!((rig.at(0).lookup_us, rig.at(0).lag_ms), (None, None));
    // Nine between 1 and 2 us on one thread, one between 8 and 16 us on the other.
    for _ in 0..9 {
        let lookups = &rig.threads[0].lookups;
        lookups.took(LookupKind::Tokens, Duration::from_nanos(1_500));
    }
    let lookups = &rig.threads[1].lookups;
    lookups.took(LookupKind::Hashes, Duration::from_nanos(9_000));
    let sample = rig.at(1_000);
    let expected = Quantiles {
        // The fifth of nine in their bucket, the last of them, and nine tenths of the way through the other bucket.
        p50: 1.556,
        p90: 2.0,
        p99: 15.2,
    };
    assert_eq!(sample.lookup_us, Some(expected));
    assert_eq!(rig.at(14_000).lookup_us, Some(expected));
    assert_eq!(rig.at(16_000).lookup_us, None, "longer ago");
    // A time stamp to come counts as no lag: the first bucket ends at 0.1 ms.
    rig.io.applied(rig.add("a").counts(), f64::INFINITY);
    let expected = LagQuantiles {
        p50: 0.05,
        p99: 0.099,
    };
    assert_eq!(rig.at(17_000).lag_ms, Some(expected));
}

/// Told, not judged: `cargo test a_sample_of_a_thousand -- --nocapture`.
#[test]
fn a_sample_of_a_thousand_workers_is_measured() {
    let mut rig = Rig::new();
    let statuses: Vec<_> = (0..1_000).map(|n| rig.add(&format!("p{n}"))).collect();
    let mut took = Vec::new();
    for round in 1..=100 {
        for status in &statuses {
            count_batches(status, 1);
        }
        let began = Instant::now();
        let sample = rig.at(round * 1_000);
        took.push(began.elapsed());
        assert_eq!((sample.workers, sample.batches), (1_000, 1_000));
    }
    took.sort_unstable();
    println!(
        "1,000 workers: {:?} half of the samples, {:?} the slowest",
        took[50], took[99]
    );
}
