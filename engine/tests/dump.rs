//! Dumps: what is restored answers like the literal model, whatever happens afterwards; and no bytes do harm.
#[path = "histories/full.rs"]
mod full;
#[path = "histories/windowed.rs"]
mod windowed;

use kvroute_engine::types::{EngineHash, TIERS, Tier};
use kvroute_engine::{
    Budget, DUMP_RECORD_MAX, DumpError, Index, IndexConfig, Keys, Matches, Participant,
    RestoreError, RestoreReport, Store, TokenKeys, WindowGroup, Writer,
};
use proptest::prelude::*;
use std::sync::Arc;

/// Numbers for the sizes of slices (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((z ^ (z >> 31)) % bound.max(1) as u64) as usize
    }
}

/// A worker's dump, in slices of any size.
fn dump(writer: &Writer, random: &mut Random) -> Vec<u8> {
    let (mut dump, mut out) = (writer.dump(), Vec::new());
    let most = [1, 40, 10_000][random.below(3)];
    while !dump
        .write_some(writer, &mut out, random.below(most))
        .unwrap()
    {}
    out
}

/// Restores a dump that comes in pieces of any size.
fn restore(
    writer: &mut Writer,
    at: &Participant,
    bytes: &[u8],
    random: &mut Random,
) -> Result<RestoreReport, RestoreError> {
    let mut restore = writer.restore()?;
    let most = [8, 100, 10_000][random.below(3)];
    let (mut from, mut to) = (0, 0);
    while to < bytes.len() && !restore.has_ended() {
        to = bytes.len().min(to + 1 + random.below(most));
        from += restore.feed(writer, at, &bytes[from..to])?;
        assert!(
            to - from < DUMP_RECORD_MAX,
            "what is left is one record at most"
        );
    }
    let runs = random.below(3);
    loop {
        if let Some(report) = restore.finish(writer, at, runs)? {
            assert_eq!(report.stored, writer.blocks());
            assert_eq!(report.waiting, writer.waiting() as u64);
            return Ok(report);
        }
    }
}

/// Restores all workers of one side into those of another one, which hold nothing.
fn carry(from: &[Writer], to: &mut [Writer], at: &Participant, random: &mut Random) {
    for (from, to) in from.iter().zip(to) {
        let bytes = dump(from, random);
        let report = restore(to, at, &bytes, random).unwrap();
        assert_eq!(report.dropped, 0);
    }
}

fn same(a: &[Writer], b: &[Writer]) {
    let state = |writer: &Writer| {
        let (blocks, waiting) = (writer.blocks(), writer.waiting());
        (blocks, waiting, writer.orphans(), writer.incomplete())
    };
    for (a, b) in a.iter().zip(b) {
        assert_eq!(state(a), state(b));
    }
}

/// Nothing is left when nobody holds anything.
fn ends_empty(index: &Index, writers: Vec<Writer>) {
    drop(writers);
    assert_eq!(index.bytes(), 0, "bytes that nobody has");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, ..ProptestConfig::default() })]

    /// Into an index of its own, among other chains of other workers, and beside the original.
    #[test]
    fn a_restored_worker_equals_the_model(
        history in prop::collection::vec((full::step(), full::chain()), 1..60),
        others in prop::collection::vec(full::step(), 0..20),
        cut in 0..60_usize,
        seed in any::<u64>(),
        shared in prop::bool::weighted(0.2),
        stay in any::<bool>(),
    ) {
        let mut random = Random(seed);
        let (before, after) = history.split_at(cut.min(history.len()));
        let (mut original, mut models) = (full::Side::new(), full::Models::new());
        for (step, _) in before {
            original.apply(step);
            models.apply(step);
        }
        let mut stranger = full::Side::new();
        others.iter().for_each(|step| stranger.apply(step));
        let index = if shared { &original.index } else { &stranger.index };
        let mut restored = full::Side::beside(index);
        carry(&original.writers, &mut restored.writers, &restored.at, &mut random);
        if !stay {
            stranger.writers.clear();
        }
        same(&original.writers, &restored.writers);
        for (_, prompt) in &history {
            restored.check(&models, prompt);
        }
        for (step, prompt) in after {
            original.apply(step);
            restored.apply(step);
            models.apply(step);
            same(&original.writers, &restored.writers);
            original.check(&models, prompt);
            restored.check(&models, prompt);
            if let full::Step::Store { chain, .. } | full::Step::Evict { chain, .. } = step {
                restored.check(&models, chain);
            }
        }
        // What is restored can be dumped again.
        let mut again = full::Side::new();
        carry(&restored.writers, &mut again.writers, &again.at, &mut random);
        for (_, prompt) in &history {
            again.check(&models, prompt);
        }
        ends_empty(&again.index, again.writers);
        let index = Arc::clone(&restored.index);
        drop((original.writers, stranger.writers));
        ends_empty(&index, restored.writers);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn a_restored_worker_with_windows_equals_the_model(
        (windows, history) in windowed::history(50),
        (other_windows, others) in windowed::history(12),
        cut in 0..50_usize,
        seed in any::<u64>(),
        shared in prop::bool::weighted(0.2),
    ) {
        let mut random = Random(seed);
        let (before, after) = history.split_at(cut.min(history.len()));
        let mut models = windowed::Models::new(windows.clone());
        let mut original = windowed::Side::new(windows, Budget::default());
        for (step, _) in before {
            original.apply(step);
            models.apply(step);
        }
        let mut stranger = windowed::Side::new(other_windows, Budget::default());
        others.iter().for_each(|(step, _)| stranger.apply(step));
        let index = if shared { &original.index } else { &stranger.index };
        let mut restored = windowed::Side::beside(index, original.windows.clone());
        carry(&original.writers, &mut restored.writers, &restored.at, &mut random);
        same(&original.writers, &restored.writers);
        windowed::prompts(&history).for_each(|prompt| restored.check(&models, prompt));
        for (step, prompt) in after {
            original.apply(step);
            restored.apply(step);
            models.apply(step);
            same(&original.writers, &restored.writers);
            original.check(&models, prompt);
            restored.check(&models, prompt);
        }
        windowed::prompts(&history).for_each(|prompt| restored.check(&models, prompt));
        let index = Arc::clone(&restored.index);
        drop((original.writers, stranger.writers));
        ends_empty(&index, restored.writers);
    }
}
