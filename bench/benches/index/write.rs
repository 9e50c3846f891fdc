//! Stores, appends and removals in an index that holds the whole workload: each undoes the other, so
//! that the index is as large at the end of every round as before.
use super::Workload;
use criterion::{Criterion, Throughput};
use kvroute_bench::filled::Filled;
use kvroute_bench::told::{Told, blocks, single, store_interleaved, turns};
use kvroute_bench::{Conversation, Query, Random};
use kvroute_engine::hash::SEED_DEFAULT;
use kvroute_engine::{Matches, Participant, Writer};
use std::time::{Duration, Instant};

/// The fresh conversations on one worker each, which has their system prompts already.
pub(crate) fn told(workload: &Workload, decode: bool) -> Vec<Told<'_>> {
    let mut random = Random(11);
    let mut cut = |tail: std::ops::Range<usize>| {
        if decode {
            single(tail)
        } else {
            turns(tail, &mut random)
        }
    };
    let fresh = workload.fresh.iter();
    fresh
        .map(|c| {
            let turns = cut(workload.size.system_blocks..c.blocks());
            Told::new(c.workers[0], c, turns, SEED_DEFAULT)
        })
        .collect()
}

/// Queries for what is stored, with the answers before and after that.
fn queries(workload: &Workload) -> (Vec<Query>, Vec<Query>) {
    let mut random = Random(13);
    let mut with = workload.stored.clone();
    with.extend(workload.fresh.iter().map(|conversation| Conversation {
        workers: conversation.workers[..1].to_vec(),
        ..conversation.clone()
    }));
    let sample = workload.fresh.iter().take(16);
    let both = |all: &[Conversation], random: &mut Random| -> Vec<Query> {
        let sample = sample.clone();
        sample
            .map(|c| Query::of(all, c, c.blocks(), random))
            .collect()
    };
    (
        both(&workload.stored, &mut random),
        both(&with, &mut random),
    )
}

pub(crate) fn run(criterion: &mut Criterion, filled: &mut Filled, workload: &Workload) {
    let (turns, singles) = (told(workload, false), told(workload, true));
    let (before, after) = queries(workload);
    let mut out = Matches::new();
    for told in [&turns, &singles] {
        store_interleaved(told, &filled.at, &mut filled.writers);
        for query in &after {
            query.check(&filled.at, &mut out, "after a store");
        }
        let now: u64 = filled.writers.iter().map(Writer::blocks).sum();
        assert_eq!(now, filled.entries + blocks(told));
        remove(told, &filled.at, &mut filled.writers);
        for query in &before {
            query.check(&filled.at, &mut out, "after a removal");
        }
        let now: u64 = filled.writers.iter().map(Writer::blocks).sum();
        assert_eq!(now, filled.entries);
    }
    let mut group = criterion.benchmark_group("write");
    group.throughput(Throughput::Elements(blocks(&turns)));
    for (name, told, kind) in [
        ("store", &turns, Kind::Store),
        ("append", &singles, Kind::Store),
        ("remove", &turns, Kind::Remove),
    ] {
        group.bench_function(name, |b| {
            b.iter_custom(|rounds| kind.time(rounds, told, filled));
        });
    }
    group.finish();
}

fn remove(all: &[Told<'_>], at: &Participant, writers: &mut [Writer]) {
    for told in all {
        told.remove(at, writers);
    }
}

/// Which half of a round is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Store,
    Remove,
}

impl Kind {
    fn time(self, rounds: u64, told: &[Told<'_>], filled: &mut Filled) -> Duration {
        let mut time = Duration::ZERO;
        for _ in 0..rounds {
            let begin = Instant::now();
            store_interleaved(told, &filled.at, &mut filled.writers);
            let between = Instant::now();
            remove(told, &filled.at, &mut filled.writers);
            time += match self {
                Self::Store => between - begin,
                Self::Remove => between.elapsed(),
            };
        }
        time
    }
}
