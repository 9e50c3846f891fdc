//! What an index must be able to do to be measured, and how it is timed.
//!
//! Timing is the same code for all: it is generic over the contender, so that no virtual call is inside
//! the timed part of a lookup.
use crate::workload::{Churn, Query, Turn, blocks};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What a lookup is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// The block hashes, computed before.
    Hashes,
    /// The token ids: hashing is part of the lookup.
    Tokens,
}

/// An index under test.
pub(crate) trait Contender {
    /// Applies stores in order and says how long the index took.
    fn store(&mut self, turns: &[Turn]) -> Duration;

    /// Applies removals in order, each turn's blocks last first.
    fn remove(&mut self, turns: &[Turn]) -> Duration;

    /// Removes all that a worker holds.
    fn clear(&mut self, worker: usize) -> Duration;

    /// Looks a request up by its block hashes.
    fn by_hashes(&mut self, query: &Query);

    /// Looks a request up by its token ids.
    fn by_tokens(&mut self, query: &Query);

    /// What the last lookup found: leading blocks by worker.
    fn answer(&self) -> BTreeMap<usize, u32>;

    /// (block, worker) entries by its own count, if it counts them.
    fn entries(&self) -> Option<u64>;

    /// Writes on one thread and reads on this one, by hashes, both as fast as they can.
    fn race(&mut self, plan: &Plan<'_>) -> Race;

    /// Looks up each query once; appends a latency in nanoseconds for each.
    ///
    /// One clock reading per query: the end of one is the beginning of the next. What the clock
    /// costs (20 to 30 ns) stays in the figures of all.
    fn time(&mut self, by: By, queries: &[Query], latencies: &mut Vec<u32>) {
        match by {
            By::Hashes => chained(queries, latencies, |query| self.by_hashes(query)),
            By::Tokens => chained(queries, latencies, |query| self.by_tokens(query)),
        }
    }

    /// Looks up each query once and says how many nanoseconds one took on average. The clock is read
    /// at both ends only.
    fn time_whole(&mut self, by: By, queries: &[Query]) -> f64 {
        let begin = Instant::now();
        match by {
            By::Hashes => queries.iter().for_each(|q| self.by_hashes(black_box(q))),
            By::Tokens => queries.iter().for_each(|q| self.by_tokens(black_box(q))),
        }
        begin.elapsed().as_nanos() as f64 / queries.len() as f64
    }
}

fn chained(queries: &[Query], latencies: &mut Vec<u32>, mut lookup: impl FnMut(&Query)) {
    latencies.reserve(queries.len());
    let mut last = Instant::now();
    for query in queries {
        lookup(black_box(query));
        let now = Instant::now();
        latencies.push(nanos(now - last));
        last = now;
    }
}

fn nanos(time: Duration) -> u32 {
    u32::try_from(time.as_nanos()).unwrap_or(u32::MAX)
}

/// What writer and reader do at the same time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan<'a> {
    /// The writer's, again and again.
    pub(crate) churn: &'a [Churn],
    /// The reader's, again and again.
    pub(crate) queries: &'a [Query],
    /// How long.
    pub(crate) time: Duration,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Race {
    /// Blocks stored or removed, and the time that the index needed for them.
    pub(crate) written: Written,
    /// Latencies of all lookups.
    pub(crate) latencies: Vec<u32>,
    /// The reader's time.
    pub(crate) reading: Duration,
}

/// What a writer did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Written {
    /// Blocks stored or removed.
    pub(crate) blocks: u64,
    /// The time that the index needed.
    pub(crate) busy: Duration,
}

impl Race {
    /// Adds another slice.
    pub(crate) fn add(&mut self, other: Self) {
        self.written.blocks += other.written.blocks;
        self.written.busy += other.written.busy;
        self.latencies.extend(other.latencies);
        self.reading += other.reading;
    }
}

/// Runs the two threads. `write` works until the flag says to stop.
pub(crate) fn race(
    plan: &Plan<'_>,
    write: impl FnOnce(&Arc<AtomicBool>) -> Written + Send,
    mut read: impl FnMut(&Query),
) -> Race {
    let stop = &Arc::new(AtomicBool::new(false));
    thread::scope(|scope| {
        let writer = scope.spawn(move || write(stop));
        let mut latencies = Vec::with_capacity(1 << 20);
        let begin = Instant::now();
        while begin.elapsed() < plan.time {
            chained(plan.queries, &mut latencies, &mut read);
        }
        let reading = begin.elapsed();
        // Relaxed: nothing is published with it.
        stop.store(true, Ordering::Relaxed);
        let written = writer.join();
        Race {
            written: written.unwrap_or_else(|_| panic!("the writer failed; it said why")),
            latencies,
            reading,
        }
    })
}

/// The writer's loop where events are applied by a call: `apply` stores or removes.
pub(crate) fn write_until(
    stop: &AtomicBool,
    churn: &[Churn],
    mut apply: impl FnMut(Step, &[Turn]),
) -> Written {
    let mut written = Written::default();
    for turn in churn.iter().cycle() {
        let begin = Instant::now();
        apply(Step::Store, &turn.stores);
        apply(Step::Remove, &turn.removals);
        written.busy += begin.elapsed();
        written.blocks += blocks(&turn.stores) + blocks(&turn.removals);
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    written
}

/// Which way the blocks go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// In.
    Store,
    /// Out, last first.
    Remove,
}
