//! The index: lookups by depth, from keys and from tokens, a miss; stores, appends, removals, clears.
//!
//! Every lookup is checked against an answer that is worked out from the workload before it is
//! timed. `cargo bench -p kvroute-bench -- --test` runs each once on a tiny workload.
use criterion::{BatchSize, Criterion, Throughput};
use kvroute_bench::{
    BLOCK_SIZE, Conversation, Filled, Random, Size, conversations, keys, names, store,
};
use kvroute_engine::types::{BlockKey, Tier};
use kvroute_engine::{Index, IndexConfig, Keys, Matches, Participant, TokenKeys, Writer};
use std::collections::BTreeMap;
use std::hint::black_box;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SEED: u64 = 42;
/// Unknown blocks after the cached ones of a query.
const UNKNOWN: usize = 4;

/// A query and its answer: leading blocks by worker.
struct Query {
    tokens: Vec<u32>,
    keys: Vec<BlockKey>,
    expected: BTreeMap<usize, u32>,
}

/// `depth` cached blocks of some conversation that has as many, then unknown ones.
fn query(all: &[Conversation], depth: usize, random: &mut Random) -> Option<Query> {
    let deep: Vec<_> = all.iter().filter(|c| c.blocks() >= depth).collect();
    let conversation = deep.get(random.below(deep.len()))?;
    let mut tokens = conversation.tokens[..depth * BLOCK_SIZE as usize].to_vec();
    tokens.extend((0..UNKNOWN * BLOCK_SIZE as usize).map(|_| 200_000 + random.below(1_000) as u32));
    let mut expected = BTreeMap::new();
    for other in all {
        let same = |(a, b): &(&[u32], &[u32])| a == b;
        let blocks = other.tokens.chunks_exact(BLOCK_SIZE as usize);
        let common = blocks
            .zip(tokens.chunks_exact(BLOCK_SIZE as usize))
            .take_while(same)
            .count();
        for &worker in other.workers.iter().filter(|_| common > 0) {
            let best = expected.entry(worker).or_insert(0);
            *best = (*best).max(common as u32);
        }
    }
    let keys = keys(&tokens, 1337);
    Some(Query {
        tokens,
        keys,
        expected,
    })
}

fn answer(filled: &Filled, keys: &mut impl Keys, out: &mut Matches) {
    for context in filled.at.pin().contexts("m", None) {
        context.lookup(keys, out);
    }
}

fn check(filled: &Filled, query: &Query, out: &Matches) {
    let worker = |id| filled.writers.iter().position(|writer| writer.id() == id);
    let found = out
        .hits()
        .iter()
        .filter_map(|hit| Some((worker(hit.worker)?, hit.blocks[2])));
    assert_eq!(found.collect::<BTreeMap<_, _>>(), query.expected);
}

fn lookups(criterion: &mut Criterion, filled: &Filled, all: &[Conversation]) {
    let mut random = Random(7);
    let mut out = Matches::new();
    for depth in [16, 64, 128, 256] {
        let queries: Vec<_> = (0..256)
            .filter_map(|_| query(all, depth, &mut random))
            .collect();
        for query in &queries {
            answer(filled, &mut query.keys.as_slice(), &mut out);
            check(filled, query, &out);
            answer(
                filled,
                &mut TokenKeys::new(1337, BLOCK_SIZE, &query.tokens, &[]),
                &mut out,
            );
            check(filled, query, &out);
        }
        if queries.is_empty() {
            continue;
        }
        let mut next = (0..queries.len()).cycle();
        criterion.bench_function(&format!("lookup/keys/{depth}"), |b| {
            b.iter(|| {
                let query = &queries[next.next().unwrap_or(0)];
                answer(filled, &mut black_box(query.keys.as_slice()), &mut out);
            });
        });
        criterion.bench_function(&format!("lookup/tokens/{depth}"), |b| {
            b.iter(|| {
                let query = &queries[next.next().unwrap_or(0)];
                let mut keys = TokenKeys::new(1337, BLOCK_SIZE, black_box(&query.tokens), &[]);
                answer(filled, &mut keys, &mut out);
            });
        });
    }
    let miss: Vec<u32> = (0..260 * BLOCK_SIZE)
        .map(|_| random.below(1_000) as u32 + 300_000)
        .collect();
    answer(
        filled,
        &mut TokenKeys::new(1337, BLOCK_SIZE, &miss, &[]),
        &mut out,
    );
    assert!(out.hits().is_empty());
    criterion.bench_function("lookup/tokens/miss", |b| {
        b.iter(|| {
            answer(
                filled,
                &mut TokenKeys::new(1337, BLOCK_SIZE, black_box(&miss), &[]),
                &mut out,
            )
        });
    });
}

/// An empty index with one worker.
fn fresh() -> (Participant, Writer) {
    let index = Index::new(IndexConfig::default());
    let writer = index.writer("m").unwrap_or_else(|e| panic!("{e}"));
    (index.participant(), writer)
}

/// Stores the sample in events of `turn` blocks.
fn fill((at, writer): &mut (Participant, Writer), sample: &[Conversation], turn: usize) {
    for conversation in sample {
        let turns: Vec<_> = (0..conversation.blocks())
            .step_by(turn)
            .map(|from| turn.min(conversation.blocks() - from))
            .collect();
        store(at, writer, 0, conversation, &turns);
    }
}

fn writes(criterion: &mut Criterion, all: &[Conversation]) {
    let sample = &all[..all.len().min(64)];
    let blocks: usize = sample.iter().map(Conversation::blocks).sum();
    let mut group = criterion.benchmark_group("write");
    group.throughput(Throughput::Elements(blocks as u64));
    for (name, turn) in [("store", 20), ("append", 1)] {
        group.bench_function(name, |b| {
            b.iter_batched_ref(fresh, |w| fill(w, sample, turn), BatchSize::PerIteration);
        });
    }
    let filled = || {
        let mut w = fresh();
        fill(&mut w, sample, 20);
        w
    };
    // Chains leave from their tails, as engines evict them.
    let reversed = |c: &Conversation| {
        let mut names = names(0, &keys(&c.tokens, 1337));
        names.reverse();
        names
    };
    let named: Vec<_> = sample.iter().map(reversed).collect();
    group.bench_function("remove", |b| {
        let remove = |(at, writer): &mut (Participant, Writer)| {
            for names in &named {
                writer.remove(at, Tier::Gpu, names);
            }
            assert_eq!(writer.blocks(), 0);
        };
        b.iter_batched_ref(filled, remove, BatchSize::PerIteration);
    });
    group.bench_function("clear", |b| {
        b.iter_batched_ref(
            filled,
            |(at, writer)| writer.clear(at),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn main() {
    let test = std::env::args().any(|arg| arg == "--test");
    let size = if test { Size::TINY } else { Size::FULL };
    let all = conversations(size, SEED);
    let filled = Filled::new(size, &all, SEED);
    println!(
        "{} workers, {} entries, allocator mimalloc",
        filled.writers.len(),
        filled.entries
    );
    let mut criterion = Criterion::default().configure_from_args();
    lookups(&mut criterion, &filled, &all);
    writes(&mut criterion, &all);
    criterion.final_summary();
}
