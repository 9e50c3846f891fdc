//! What a decision lets its target be expected to hold.
//!
//! Only `/v1/route` and gateways' checks ask for it, and say it apart from what is held: `matched_tokens` stays what
//! events have told, and what is expected beyond that is `speculative_tokens`.
use super::choice::Wish;
use crate::fleet::{Fleet, FleetView, WorkerInfo};
use crate::http::lookup::{Found, Prompt, Score, Scores};
use crate::limits::BLOCK_SIZE_APPROXIMATE;
use crate::predict::{Record, Unlearnt};
use crate::status::Trust;
use kvroute_engine::Blocks;
use kvroute_engine::types::Tier;

/// Other workers of the model that are asked for their block size.
const ASKED: usize = 64;

/// The longest prefix that a worker holds or is expected to hold.
pub(super) fn longest(found: &Found<'_>) -> Option<Score> {
    let scores = [found.score, found.expected].into_iter().flatten();
    scores.max_by_key(Score::matched)
}

/// Has it learnt that the prompt goes to `target`. Copies the prompt, unless all of it is held there already.
pub(super) fn note(fleet: &Fleet, scores: &Scores<'_>, wish: &Wish<'_>, target: &Found<'_>) {
    let info = target.info;
    let Some(learner) = fleet.learner() else {
        return;
    };
    let wanted = learner.learns_of(info.subject()) && target.trust != Trust::Distrusted;
    // Two prompts with different images may have the same tokens.
    if wish.dry_run || !wish.tokens_known || wish.items || !wanted {
        return;
    }
    let block_size = block_size(scores.view(), target);
    let prompt = match wish.query.prompt {
        Prompt::Tokens(tokens) => Blocks::Tokens {
            tokens,
            extra: scores.extra(),
        },
        Prompt::Keys(_) if !is_of(wish, target, block_size) => {
            return learner.status().add_unlearnt(Unlearnt::BlockSize);
        }
        Prompt::Keys(keys) => Blocks::Keys(keys),
    };
    let blocks = match prompt {
        Blocks::Tokens { tokens, .. } => tokens.len() / block_size as usize,
        Blocks::Keys(keys) => keys.len(),
    };
    let held = target.score.map_or(0, |score| score.tokens(Tier::Gpu));
    let whole = blocks as u64 * u64::from(block_size);
    if blocks == 0 || (!info.is_approximate() && held >= whole) {
        return;
    }
    let adapter = adapter(scores.view(), wish);
    if adapter.is_some_and(|adapter| !is_known(scores.view(), info, adapter)) {
        return learner.status().add_unlearnt(Unlearnt::UnknownAdapter);
    }
    let (record, whole) = Record::new(info.subject(), adapter, block_size, prompt);
    if !whole {
        learner.status().add_unlearnt(Unlearnt::TooLong);
    }
    learner.record(record);
}

/// Whether the keys of a prompt's blocks are of blocks of this size: it was said so, or the target holds some of them.
fn is_of(wish: &Wish<'_>, target: &Found<'_>, block_size: u32) -> bool {
    let held = target.score.map(|score| score.block_size);
    wish.query.block_size.or(held) == Some(block_size)
}

/// The adapter that the request is for: named beside the model, or in its place.
fn adapter<'q>(view: &FleetView, wish: &Wish<'q>) -> Option<&'q str> {
    let query = &wish.query;
    let model = Some(query.model).filter(|model| !view.has_model(model));
    query.lora.or(model)
}

/// Whether somebody but clients has named the adapter: each takes a context of the index.
fn is_known(view: &FleetView, info: &WorkerInfo, adapter: &str) -> bool {
    let model = info.pod().model.as_str();
    info.status().knows_adapter(adapter)
        || view
            .models_with_adapter(adapter)
            .any(|other| other == model)
}

/// Tokens of a block, for a worker of which they are not known: those of another one of its model.
fn block_size(view: &FleetView, target: &Found<'_>) -> u32 {
    let own = target.score.map(|score| score.block_size);
    let own = own.or(target.info.block_size());
    let others = || {
        let others = view.of_model(&target.info.pod().model).iter().take(ASKED);
        others.filter_map(|other| other.block_size()).next()
    };
    own.or_else(others).unwrap_or(BLOCK_SIZE_APPROXIMATE)
}
