//! Random histories of engines with sliding-window groups: every answer of the index equals the literal
//! model's.
#[path = "histories/windowed.rs"]
mod windowed;

use kvroute_engine::types::{TIERS, Tier};
use kvroute_engine::{Budget, Index, IndexConfig};
use proptest::prelude::*;
use windowed::{Chain, GROUPS, Models, Side, Step, WORKERS, history, prompts};

/// Workers in an index of their own.
fn side(windows: Vec<[u32; GROUPS]>, budget: Budget) -> Side {
    let index = Index::new(IndexConfig {
        budget,
        ..IndexConfig::default()
    });
    let mut side = Side::beside(&index, windows);
    side.alone = true;
    side
}

#[test]
fn a_budget_takes_the_oldest_leaf_alone() {
    let prompt = |n: u8| Chain {
        variant: 0,
        says_extra: true,
        blocks: vec![n],
    };
    // As many bytes as two prompts take: one of three has to go.
    let mut bytes = None;
    for prompts in [2, 3] {
        let budget = Budget {
            bytes,
            ..Budget::default()
        };
        let windows = vec![[1; GROUPS]; WORKERS];
        let mut side = side(windows, budget);
        for n in 0..prompts {
            // The last event of all is the one that exceeds the budget.
            side.store_window(0, 0, Tier::Gpu, &prompt(n).hashes());
            side.store(0, &prompt(n), 0, Tier::Gpu);
            assert_eq!(side.answers(&prompt(n))[0], [1; TIERS]);
        }
        bytes = Some(side.index.bytes());
        if prompts == 2 {
            continue;
        }
        assert_eq!(side.writers[0].trim(&side.at), 1);
        assert_eq!(side.answers(&prompt(0))[0], [0; TIERS]);
        side.remove(0, None, Tier::Gpu, &prompt(0).hashes());
        for n in 1..prompts {
            assert_eq!(side.answers(&prompt(n))[0], [1; TIERS]);
            side.remove(0, Some(0), Tier::Gpu, &prompt(n).hashes());
            assert_eq!(side.answers(&prompt(n))[0], [0; TIERS]);
        }
    }
}

/// Asks for a prompt: no answer is above the model's.
fn check_is_at_most(side: &mut Side, models: &Models, prompt: &Chain) {
    let answers = side.answers(prompt).into_iter();
    for (worker, (found, most)) in answers.zip(models.scores(prompt)).enumerate() {
        let windows = side.windows[worker];
        assert!(
            found.iter().zip(most).all(|(&found, most)| found <= most),
            "worker {worker}, windows {windows:?}, prompt {prompt:?}: {found:?} > {most:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn every_answer_equals_the_model((windows, history) in history(50)) {
        let mut models = Models::new(windows.clone());
        let mut side = side(windows, Budget::default());
        for (step, prompt) in &history {
            side.apply(step);
            models.apply(step);
            side.check(&models, prompt);
            if let Step::Compute { chain, .. } | Step::Remove { chain, .. } = step {
                side.check(&models, chain);
            }
        }
        prompts(&history).for_each(|prompt| side.check(&models, prompt));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// But for engines that leave it open which of two names is whose, which a budget makes one forget.
    #[test]
    fn what_a_budget_forgets_is_never_credited(
        (windows, mut history) in history(50),
        bytes in 4_000..25_000_u64,
    ) {
        for (step, _) in &mut history {
            if let Step::Compute { chain, .. }
            | Step::Offload { chain, .. }
            | Step::Remove { chain, .. } = step
            {
                chain.says_extra = true;
                chain.variant = chain.variant.min(1);
            }
        }
        let budget = Budget { bytes: Some(bytes), ..Budget::default() };
        let mut models = Models::new(windows.clone());
        let mut side = side(windows, budget);
        for (step, prompt) in &history {
            side.apply(step);
            models.apply(step);
            check_is_at_most(&mut side, &models, prompt);
        }
        prompts(&history).for_each(|prompt| check_is_at_most(&mut side, &models, prompt));
        side.writers.clear();
        assert_eq!(side.index.bytes(), 0, "bytes that nobody has");
    }
}
