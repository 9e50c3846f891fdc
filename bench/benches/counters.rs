//! What counting costs: a lookup alone and counted, hot prefixes, a request's counters, and a batch's.
//!
//! `cargo bench -p kvroute-bench --bench counters`; both sides of each pair run in one process, one after the other.
use criterion::{Criterion, criterion_group, criterion_main};
use kvroute::hot::{ContextDigest, Held, Hot, Sample, Sampler};
use kvroute::limits::HOT_BLOCKS_MAX;
use kvroute::status::{
    CodeClass, Endpoint, EventTally, IoStatus, LookupKind, LookupStatus, RequestName,
    RequestStatus, WorkerCounts,
};
use kvroute_bench::{Conversation, Filled, Query, Random, Size, conversations, query};
use kvroute_engine::{Keys, Matches, TokenKeys};
use std::hint::black_box;
use std::time::Instant;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SEED: u64 = 42;

/// As the node does it.
const MEASURED_ONE_OF: usize = 17;

fn lookups(c: &mut Criterion) {
    let stored: Vec<Conversation> = conversations(Size::TINY, SEED);
    let filled = Filled::new(Size::TINY, &stored, SEED);
    let mut random = Random(SEED);
    let queries: Vec<Query> = query::mixed(&stored, stored.len(), 256, &mut random);
    let (mut out, status) = (Matches::new(), LookupStatus::default());
    let mut group = c.benchmark_group("counters/lookup");
    for counted in [false, true] {
        let name = if counted { "counted" } else { "alone" };
        group.bench_function(name, |b| {
            let mut at = 0;
            b.iter(|| {
                let query = &queries[at % queries.len()];
                let began = (counted && at % MEASURED_ONE_OF == 0).then(Instant::now);
                at += 1;
                filled.lookup(&mut query.token_keys(), &mut out);
                if let Some(began) = began {
                    status.took(LookupKind::Tokens, began.elapsed());
                }
                if counted {
                    let best = out.hits().iter().map(|hit| hit.blocks[2]).max();
                    let matched = u64::from(best.unwrap_or(0)) * 16;
                    let asked = query.tokens.len() as u64;
                    status.matched(asked, matched, matched * 100 / asked);
                }
                black_box(out.hits().len())
            });
        });
    }
    group.finish();
    // Every lookup that was counted is there, with the tokens that it asked for.
    let [asked, matched] = status.tokens();
    let lookups: u64 = status.shares().iter().sum();
    assert!(lookups > 0 && asked >= lookups && matched <= asked);
}

fn requests(c: &mut Criterion) {
    let status = RequestStatus::default();
    let mut count = 0;
    c.bench_function("counters/request", |b| {
        b.iter(|| {
            count += 1;
            let under_way = status.begin();
            let name = Some(RequestName::Request(count));
            under_way.answered(black_box(Endpoint::Route), 200, name);
        });
    });
    let answered = status.answered(Endpoint::Route, CodeClass::Done);
    assert_eq!(u128::from(answered), count);
    assert_eq!(status.under_way(), 0);
}

fn batches(c: &mut Criterion) {
    let (thread, worker) = (IoStatus::default(), WorkerCounts::default());
    let mut tally = EventTally::default();
    tally.applied[0][1] = 1;
    tally.blocks[0] = 8;
    c.bench_function("counters/batch", |b| {
        b.iter(|| {
            let began = thread.begin();
            worker.add_events(black_box(&tally));
            thread.end(began);
        });
    });
    c.bench_function("counters/lag", |b| {
        b.iter(|| thread.applied(&worker, black_box(1.7e9)));
    });
}

/// What remembering hot prefixes costs: a lookup that is no sample, and samples of short and long prompts.
fn hot(c: &mut Criterion) {
    let hot = Hot::new();
    let mut sampler = Sampler::default();
    let mut taken = 0;
    c.bench_function("counters/hot/not a sample", |b| {
        b.iter(|| {
            if black_box(sampler.due()) {
                taken += u64::from(sampler.taken(hot.now()));
            }
        });
    });
    assert!(taken > 0);
    let context = ContextDigest::of("m", "", 16);
    let held = [Held {
        pods: 2,
        workers: 2,
    }; HOT_BLOCKS_MAX];
    let mut keys = Vec::with_capacity(HOT_BLOCKS_MAX);
    for blocks in [16, 256, 8_192] {
        let tokens: Vec<u32> = Random(SEED).tokens(blocks).collect();
        let depth = blocks.min(HOT_BLOCKS_MAX);
        c.bench_function(&format!("counters/hot/sample of {blocks} blocks"), |b| {
            b.iter(|| {
                let mut computed = TokenKeys::new(1337, 16, black_box(&tokens), &[]);
                keys.clear();
                keys.extend((0..depth).map_while(|block| computed.key(block)));
                let sample = Sample {
                    context,
                    weight: 1,
                    again: false,
                    keys: &keys,
                    held: &held[..depth],
                };
                hot.add(hot.now(), &sample);
            });
        });
    }
    assert_eq!(hot.picture(&[context], 9).full, 0);
}

criterion_group!(benches, lookups, requests, batches, hot);
criterion_main!(benches);
