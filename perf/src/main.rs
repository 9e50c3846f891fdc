//! Prints what the in-process hops cost on this machine, beside their budgets.
use kvroute_bench::{BLOCK_SIZE, Filled, Size, conversations, keys, store};
use kvroute_engine::hash::{ExtraDigest, block_key};
use kvroute_engine::{Index, IndexConfig, Matches, TokenKeys};
use std::hint::black_box;
use std::time::Instant;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let size = Size {
        systems: 50,
        ..Size::FULL
    };
    let all = conversations(size, 42);
    let filled = Filled::new(size, &all, 42);
    let tokens: Vec<u32> = (0..BLOCK_SIZE).collect();
    report(
        "hash one 16-token block",
        5.0,
        time(1_000_000, || {
            black_box(block_key(1337, black_box(&tokens), ExtraDigest::NONE));
        }),
    );
    lookups(&filled, &all);
    stores(&all);
}

fn lookups(filled: &Filled, all: &[kvroute_bench::Conversation]) {
    let mut out = Matches::new();
    let deep: Vec<_> = all.iter().filter(|c| c.blocks() == 256).collect();
    let mut next = deep.iter().cycle();
    let mut wrong = 0;
    let ns = time(20_000, || {
        let Some(conversation) = next.next() else {
            return;
        };
        for context in filled.at.pin().contexts("m", None) {
            let mut keys = TokenKeys::new(1337, BLOCK_SIZE, &conversation.tokens, &[]);
            context.lookup(&mut keys, &mut out);
        }
        let whole = out.hits().iter().filter(|hit| hit.blocks[2] == 256).count();
        wrong += usize::from(whole < conversation.workers.len());
    });
    assert_eq!(wrong, 0, "every conversation is found whole on its workers");
    report("lookup of 256 blocks from tokens", 1_600.0, ns);
    let miss: Vec<u32> = (0..260 * BLOCK_SIZE).map(|n| 300_000 + n).collect();
    let ns = time(200_000, || {
        for context in filled.at.pin().contexts("m", None) {
            context.lookup(
                &mut TokenKeys::new(1337, BLOCK_SIZE, black_box(&miss), &[]),
                &mut out,
            );
        }
    });
    assert!(out.hits().is_empty());
    report("miss at the first block of 260", 150.0, ns);
}

fn stores(all: &[kvroute_bench::Conversation]) {
    let index = Index::new(IndexConfig::default());
    let at = index.participant();
    let Ok(mut writer) = index.writer("m") else {
        return;
    };
    let sample = &all[..200];
    let blocks: usize = sample.iter().map(|c| keys(&c.tokens, 1337).len()).sum();
    let start = Instant::now();
    for conversation in sample {
        store(&at, &mut writer, 0, conversation, &[conversation.blocks()]);
    }
    let ns = start.elapsed().as_nanos() as f64 / blocks as f64;
    report("key and store one block (naming it included)", 65.0, ns);
}

fn time(rounds: u32, mut work: impl FnMut()) -> f64 {
    (0..rounds / 10).for_each(|_| work());
    let start = Instant::now();
    (0..rounds).for_each(|_| work());
    start.elapsed().as_nanos() as f64 / f64::from(rounds)
}

fn report(hop: &str, budget_ns: f64, ns: f64) {
    println!("{{\"hop\":\"{hop}\",\"ns\":{ns:.1},\"budget_ns\":{budget_ns}}}");
}
