//! Clearing one worker of many: the call, after which lookups do not see the worker, and all of it
//! until nothing of the worker is left in the index.
use super::{SEED, Workload};
use criterion::Criterion;
use kvroute_bench::filled::{Filled, Plan};
use kvroute_bench::query::{Query, mixed};
use kvroute_bench::told::Told;
use kvroute_bench::{Random, Size};
use kvroute_engine::Matches;
use std::time::{Duration, Instant};

/// Runs that are left in one slice of what follows a large clear.
pub(crate) const SLICE: usize = 256;

/// Workers that are cleared in turn.
const CLEARED: usize = 4;

pub(crate) fn run(criterion: &mut Criterion, filled: &mut Filled, workload: &Workload) {
    let Size { workers, .. } = workload.size;
    let plan = Plan::new(workload.size, &workload.stored, SEED);
    let mut held: Vec<Vec<Told<'_>>> = vec![Vec::new(); workers];
    for told in plan.filter(|told| told.worker < CLEARED) {
        held[told.worker].push(told);
    }
    let queries = mixed(&workload.stored, workload.regular, 64, &mut Random(17));
    for (worker, told) in held.iter().enumerate().take(CLEARED) {
        check(filled, worker, told, &queries);
    }
    for (name, whole) in [("call", false), ("whole", true)] {
        criterion.bench_function(&format!("clear/one of {workers}/{name}"), |b| {
            b.iter_custom(|rounds| {
                let worker = |round| round as usize % CLEARED;
                let round = |round| time(filled, worker(round), &held[worker(round)], whole);
                (0..rounds).map(round).sum()
            });
        });
    }
}

/// Clears a worker and stores again what it had.
fn time(filled: &mut Filled, worker: usize, told: &[Told<'_>], whole: bool) -> Duration {
    let begin = Instant::now();
    filled.writers[worker].clear(&filled.at);
    let call = begin.elapsed();
    settle(filled, worker);
    let all = begin.elapsed();
    for told in told {
        told.store(&filled.at, &mut filled.writers);
    }
    if whole { all } else { call }
}

/// Takes out what a clear left. The end is reached only when all lookups that began before have ended.
fn settle(filled: &mut Filled, worker: usize) {
    while !filled.writers[worker].settle(&filled.at, SLICE) {}
}

fn check(filled: &mut Filled, worker: usize, told: &[Told<'_>], queries: &[Query]) {
    let mut out = Matches::new();
    let mut without = queries.to_vec();
    for query in &mut without {
        query.expected.remove(&worker);
    }
    filled.writers[worker].clear(&filled.at);
    for query in &without {
        query.check(&filled.at, &mut out, "after a clear");
    }
    settle(filled, worker);
    for query in &without {
        query.check(&filled.at, &mut out, "after all of a clear");
    }
    for told in told {
        told.store(&filled.at, &mut filled.writers);
    }
    for query in queries {
        query.check(&filled.at, &mut out, "stored again after a clear");
    }
}
