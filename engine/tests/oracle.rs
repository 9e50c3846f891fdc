//! Random histories: every answer of the index equals the literal model's.
#[path = "histories/full.rs"]
mod full;

use full::{Models, Side, Step, chain, step};
use kvroute_engine::{Index, IndexConfig};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn every_answer_equals_the_model(
        history in prop::collection::vec((step(), chain()), 1..60),
    ) {
        let (mut side, mut models) = (Side::beside(&Index::new(IndexConfig::default())), Models::new());
        side.alone = true;
        for (step, prompt) in &history {
            side.apply(step);
            models.apply(step);
            side.check(&models, prompt);
        }
        for (step, prompt) in &history {
            side.check(&models, prompt);
            if let Step::Store { chain, .. } | Step::Evict { chain, .. } = step {
                side.check(&models, chain);
            }
        }
    }
}
