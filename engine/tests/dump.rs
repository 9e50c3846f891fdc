//! Dumps: what is restored answers like the literal model, whatever happens afterwards; and no bytes do harm.
#[path = "histories/full.rs"]
mod full;
#[path = "histories/slices.rs"]
mod slices;
#[path = "histories/windowed.rs"]
mod windowed;

use kvroute_engine::{Index, IndexConfig, Participant, Writer};
use proptest::prelude::*;
use slices::{Random, dump, restore};
use std::sync::Arc;

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
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

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
        let index = Index::new(IndexConfig::default());
        let (mut original, mut models) = (full::Side::beside(&index), full::Models::new());
        for (step, _) in before {
            original.apply(step);
            models.apply(step);
        }
        let mut stranger = full::Side::beside(&Index::new(IndexConfig::default()));
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
        let mut again = full::Side::beside(&Index::new(IndexConfig::default()));
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
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

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
        let index = Index::new(IndexConfig::default());
        let mut original = windowed::Side::beside(&index, windows);
        for (step, _) in before {
            original.apply(step);
            models.apply(step);
        }
        let index = Index::new(IndexConfig::default());
        let mut stranger = windowed::Side::beside(&index, other_windows);
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
