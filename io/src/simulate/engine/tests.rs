//! The engine's steps by hand, and its cache against the literal model.
use super::*;
use crate::fake::cache::{Cache, CacheOptions};
use crate::fake::chance::Chance;
use crate::fake::prompts::Prompt;

fn engine(block_size: u32, blocks: u32) -> Engine {
    Engine::new(EngineOptions {
        hardware: Hardware::A100,
        block_size,
        blocks,
    })
}

fn submit(engine: &mut Engine, trace: &Trace, request: usize) {
    let mut tokens = Vec::new();
    trace.tokens(request, 0..trace.requests()[request].input, &mut tokens);
    let hashes = names(&tokens, engine.options.block_size);
    engine.submit(request, trace, hashes);
}

/// One step; what it computed and what came of it.
fn step(engine: &mut Engine, trace: &Trace) -> Option<(StepWork, Vec<Progress>)> {
    let mut progress = Vec::new();
    let (_, work) = engine.begin(trace, &mut progress)?;
    engine.end(&mut progress);
    Some((work, progress))
}

#[test]
fn a_long_prompt_is_computed_in_chunks_and_shares_its_last_step() {
    let mut trace = Trace::default();
    trace.push(0, 3_000, 2, &[1, 2, 3, 4, 5, 6]).unwrap();
    trace.push(0, 100, 1, &[7]).unwrap();
    let mut engine = engine(16, 1_000);
    submit(&mut engine, &trace, 0);
    submit(&mut engine, &trace, 1);
    let (work, progress) = step(&mut engine, &trace).unwrap();
    assert_eq!((work.tokens, work.prefill), (2_048, 2_048));
    assert_eq!(work.prefill_context, 2_048.0 * 2_047.0 / 2.0);
    let admitted = |request| Progress::Admitted { request, reused: 0 };
    assert_eq!(progress, [admitted(0)]);
    // 952 tokens that are left of it, and the whole of the other.
    let (work, progress) = step(&mut engine, &trace).unwrap();
    assert_eq!((work.tokens, work.prefill), (1_052, 1_052));
    let context = 952.0 * 2_048.0 + 952.0 * 951.0 / 2.0 + 100.0 * 99.0 / 2.0;
    assert_eq!(work.prefill_context, context);
    let expected = [
        admitted(1),
        Progress::FirstToken { request: 0 },
        Progress::FirstToken { request: 1 },
        Progress::Finished { request: 1 },
    ];
    assert_eq!(progress, expected);
    // One token with 3,000 before it. 188 of 1,000 blocks are in use.
    let (work, progress) = step(&mut engine, &trace).unwrap();
    assert_eq!((work.tokens, work.prefill), (1, 0));
    assert_eq!((work.decode_context, work.usage), (3_001, 0.188));
    assert_eq!(progress, [Progress::Finished { request: 0 }]);
    assert_eq!(step(&mut engine, &trace), None);
    // One event for each chunk: 128 blocks; 59 that the rest fills, and 6 of the other.
    let stored: Vec<_> = engine.take_events().iter().map(told).collect();
    assert_eq!(stored, ["+128 root", "+59 on", "+6 root"]);
}

/// An event by the number of its blocks.
fn told(event: &CacheEvent) -> String {
    match event {
        CacheEvent::Stored { links, .. } => {
            let on = links[0].parent.is_some();
            format!("+{} {}", links.len(), if on { "on" } else { "root" })
        }
        CacheEvent::Removed { hashes, .. } => format!("-{}", hashes.len()),
        CacheEvent::Cleared => "clear".to_owned(),
    }
}

#[test]
fn without_blocks_the_last_one_begins_again() {
    // Four blocks of four: each prompt takes two, and each needs a third for its ninth token.
    let mut trace = Trace::default();
    trace.push(0, 7, 4, &[1]).unwrap();
    trace.push(0, 7, 4, &[2]).unwrap();
    let mut engine = engine(4, 4);
    submit(&mut engine, &trace, 0);
    submit(&mut engine, &trace, 1);
    let mut all = Vec::new();
    let mut tokens = Vec::new();
    while let Some((work, progress)) = step(&mut engine, &trace) {
        all.extend(progress);
        tokens.push((work.tokens, work.prefill));
    }
    assert_eq!(engine.preemptions(), 1);
    // Both prompts, both first tokens; then only one goes on. The other has 9 tokens by then, of which its first block
    // is there still: the third block of the first one came from its second.
    let expected = [(14, 14), (2, 0), (1, 0), (1, 0), (5, 5), (1, 0)];
    assert_eq!(tokens, expected);
    let finished = |p: &&Progress| matches!(p, Progress::Finished { .. });
    let order: Vec<_> = all.iter().filter(finished).collect();
    let expected = [
        &Progress::Finished { request: 0 },
        &Progress::Finished { request: 1 },
    ];
    assert_eq!(order, expected);
    let admitted = |p: &&Progress| matches!(p, Progress::Admitted { .. });
    assert_eq!(all.iter().filter(admitted).count(), 2, "each once");
}

#[test]
fn what_has_no_room_waits_until_blocks_come_back() {
    let mut trace = Trace::default();
    trace.push(0, 48, 2, &[1]).unwrap();
    trace.push(0, 32, 1, &[2]).unwrap();
    let mut engine = engine(16, 4);
    submit(&mut engine, &trace, 0);
    submit(&mut engine, &trace, 1);
    let (work, _) = step(&mut engine, &trace).unwrap();
    assert_eq!((work.tokens, engine.waiting()), (48, 1));
    let (work, progress) = step(&mut engine, &trace).unwrap();
    assert_eq!((work.tokens, engine.waiting()), (1, 1));
    assert_eq!(progress, [Progress::Finished { request: 0 }]);
    let (work, _) = step(&mut engine, &trace).unwrap();
    assert_eq!((work.tokens, engine.waiting()), (32, 0));
}

/// Prompts of up to five ids of a few, each asked alone; lengths such that no block stays half full, which
/// the model does not have.
fn prompts(chance: &mut Chance, size: u64) -> Trace {
    let mut trace = Trace::default();
    for _ in 0..60 {
        let blocks = chance.between(1, 5);
        let family = chance.below(4);
        let ids: Vec<u64> = (0..blocks)
            .map(|at| {
                let varies = at > 1 && chance.per_mille(300);
                family * 100 + at + if varies { 50 } else { 0 }
            })
            .collect();
        let input = blocks * 512 - chance.below(512);
        let computed = (input + chance.below(300)).next_multiple_of(size);
        trace.push(0, input, computed - input + 1, &ids).unwrap();
    }
    trace
}

#[test]
fn its_cache_equals_the_literal_model() {
    const SIZE: u32 = 64;
    let mut evicted = 0;
    for seed in 0..40 {
        let trace = prompts(&mut Chance::new(seed), SIZE.into());
        let mut engine = engine(SIZE, 60);
        let mut model = Cache::new(CacheOptions {
            blocks: 60,
            offloaded: 0,
            placeholders: false,
            block_size: SIZE,
            chunk: 2_048 / SIZE as usize,
            seed,
        });
        let mut tokens = Vec::new();
        for (request, of) in trace.requests().iter().enumerate() {
            submit(&mut engine, &trace, request);
            let mut all = Vec::new();
            while let Some((_, progress)) = step(&mut engine, &trace) {
                all.extend(progress);
            }
            let Some(&Progress::Admitted { reused, .. }) = all.first() else {
                panic!("seed {seed}: {all:?}");
            };
            trace.tokens(request, 0..of.total() - 1, &mut tokens);
            let (prompt, generated) = tokens.split_at(of.input as usize);
            let prompt = Prompt {
                tokens: prompt.to_vec(),
                scope: Scope::default(),
            };
            let modelled = model.begin(&prompt, generated).unwrap() as u32;
            while model.running() > 0 {
                model.step();
            }
            assert_eq!(reused, modelled * SIZE, "seed {seed}, request {request}");
            assert_eq!(engine.pool().distinct(), model.distinct(), "seed {seed}");
            for earlier in 0..=request {
                let total = trace.requests()[earlier].total();
                trace.tokens(earlier, 0..total, &mut tokens);
                let held = engine.pool().leading(&names(&tokens, SIZE)) as u32;
                let modelled = model.reusable(&tokens, &Scope::default())[0];
                assert_eq!(held, modelled, "seed {seed}, request {request}, {earlier}");
            }
        }
        let removed = |event: &&CacheEvent| matches!(event, CacheEvent::Removed { .. });
        evicted += engine.take_events().iter().filter(removed).count();
    }
    assert!(evicted > 1_000, "{evicted}");
}
