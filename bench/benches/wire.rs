//! The wire decoder: time per batch of one stored event, by number of blocks, and with the key and the
//! index behind it. Every payload is decoded once and compared with what was encoded before it
//! is timed. `cargo bench -p kvroute-bench -- --test` runs each once.
use criterion::{BatchSize, Criterion, Throughput};
use kvroute::wire::{Batch, Event, Scratch, Step, Stored};
use kvroute_bench::{BLOCK_SIZE, Random, frames};
use kvroute_engine::types::{EngineHash, Tier};
use kvroute_engine::{Index, IndexConfig, Participant, Store, Writer};
use std::hint::black_box;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Sample {
    payload: Vec<u8>,
    hashes: Vec<u64>,
    tokens: Vec<u32>,
    parent: Option<u64>,
}

/// One batch with one stored event, map-shaped as vLLM sends it since 0.24.
fn sample(blocks: usize, parent: Option<u64>, random: &mut Random) -> Sample {
    let hashes: Vec<u64> = (0..blocks).map(|_| random.bits()).collect();
    let tokens = (0..blocks * BLOCK_SIZE as usize).map(|_| random.below(128_000) as u32);
    let tokens: Vec<u32> = tokens.collect();
    let names: Vec<_> = hashes.iter().copied().map(EngineHash).collect();
    let payload = frames::payload(vec![frames::stored(
        parent.map(EngineHash),
        &names,
        &tokens,
    )]);
    Sample {
        payload,
        hashes,
        tokens,
        parent,
    }
}

fn decode(payload: &[u8], scratch: &mut Scratch, mut each: impl FnMut(&Stored<'_>)) {
    let mut batch = Batch::open(payload).unwrap_or_else(|e| panic!("{e}"));
    while let Some(step) = batch.next(scratch).unwrap_or_else(|e| panic!("{e}")) {
        match step {
            Step::Event(Event::Stored(stored)) => each(&stored),
            other => panic!("{other:?}"),
        }
    }
}

fn check(sample: &Sample, scratch: &mut Scratch) {
    let mut events = 0;
    decode(&sample.payload, scratch, |stored| {
        events += 1;
        assert!(
            stored
                .hashes
                .iter()
                .map(|hash| hash.0)
                .eq(sample.hashes.iter().copied())
        );
        assert_eq!(stored.tokens, sample.tokens);
        assert_eq!(stored.parent, sample.parent.map(EngineHash));
    });
    assert_eq!(events, 1);
}

fn apply(at: &Participant, writer: &mut Writer, stored: &Stored<'_>) {
    let event = Store {
        adapter: stored.lora_name,
        block_size: stored.block_size,
        tier: Tier::Gpu,
        parent: stored.parent,
        hashes: stored.hashes,
        tokens: stored.tokens,
        extra: stored.extra,
        says_extra: stored.says_extra,
    };
    if let Err(error) = writer.store(at, &event) {
        panic!("{error}");
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut random = Random(42);
    let mut scratch = Scratch::default();
    for blocks in [1, 16, 64] {
        let one = sample(blocks, None, &mut random);
        check(&one, &mut scratch);
        let mut group = criterion.benchmark_group("wire");
        group.throughput(Throughput::Elements(blocks as u64));
        group.bench_function(format!("decode/{blocks}"), |b| {
            b.iter(|| {
                decode(black_box(&one.payload), &mut scratch, |s| {
                    black_box(s);
                })
            });
        });
        group.finish();
    }
    let many: Vec<_> = (0..512).map(|_| sample(16, None, &mut random)).collect();
    let blocks: usize = many.iter().map(|one| one.hashes.len()).sum();
    let mut group = criterion.benchmark_group("wire");
    group.throughput(Throughput::Elements(blocks as u64));
    let fresh = || {
        let index = Index::new(IndexConfig::default());
        let writer = index.writer("m").unwrap_or_else(|e| panic!("{e}"));
        (index.participant(), writer)
    };
    group.bench_function("decode, key, store", |b| {
        b.iter_batched(
            fresh,
            |(at, mut writer)| {
                for one in &many {
                    decode(&one.payload, &mut scratch, |stored| {
                        apply(&at, &mut writer, stored)
                    });
                }
                assert_eq!(writer.blocks(), blocks as u64);
                (at, writer)
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
    criterion.final_summary();
}
