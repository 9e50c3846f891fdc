//! `GET /v1/prefixes`: the prefixes that lookups found held most often, and on how many pods.
use super::error::{ApiError, Reply};
use super::match_request::required;
use super::params;
use super::state::{Call, ThreadState};
use crate::hot::{ContextDigest, HotNode, Picture};
use crate::limits::{HOT_BLOCKS_MAX, HOT_HALF_LIFE, PREFIXES_DEFAULT, PREFIXES_MAX};
use crate::status::now_ms;
use hyper::StatusCode;
use serde::Serialize;

/// What is asked.
#[derive(Debug)]
struct Wish {
    model: Option<String>,
    limit: usize,
}

impl Wish {
    /// Unknown parameters are ignored, of repeated ones the last counts.
    fn read(query: &str) -> Result<Self, ApiError> {
        let mut wish = Self {
            model: None,
            limit: PREFIXES_DEFAULT,
        };
        for (name, value) in params::pairs(query) {
            match name {
                "model" => {
                    let model = params::decode_value(name, value)?;
                    required(name, Some(&model))?;
                    wish.model = Some(model);
                }
                "limit" => {
                    let limit: u64 = params::number(name, value)?;
                    let possible = usize::try_from(limit);
                    let possible = possible.ok().filter(|n| (1..=PREFIXES_MAX).contains(n));
                    wish.limit = possible.ok_or_else(|| {
                        let message = format!("{limit}; 1 to {PREFIXES_MAX} are possible");
                        ApiError::field("limit", message)
                    })?;
                }
                _ => {}
            }
        }
        Ok(wish)
    }
}

/// A context that somebody holds blocks of.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    model: String,
    lora: String,
    block_size: u32,
}

#[derive(Debug, Serialize)]
struct Answer<'n> {
    now_ms: u64,
    since_ms: u64,
    half_life_seconds: u64,
    exact: bool,
    lookups: f64,
    left_out: LeftOut,
    depth_blocks_max: usize,
    contexts: Vec<Context<'n>>,
}

#[derive(Debug, Serialize)]
struct LeftOut {
    busy: u64,
    full: u64,
    /// Pieces that were forgotten before their time.
    forgotten: u64,
}

#[derive(Debug, Serialize)]
struct Context<'n> {
    model: &'n str,
    lora: Option<&'n str>,
    block_size: u32,
    asked: f64,
    nodes: Vec<Node>,
}

#[derive(Debug, Serialize)]
struct Node {
    id: u32,
    parent: Option<u32>,
    key: String,
    from_tokens: u64,
    to_tokens: u64,
    asked: f64,
    pods: u32,
    workers: u32,
    last_ms: u64,
}

/// `GET /v1/prefixes`. O(what is remembered + contexts).
pub(super) fn list(state: &mut ThreadState, call: &Call<'_>) -> Result<Reply, ApiError> {
    let wish = Wish::read(call.query())?;
    let mut names = Vec::new();
    state.fleet.index().each_context(|model, lora, block_size| {
        if wish.model.as_deref().is_none_or(|wanted| wanted == model) {
            names.push(Name {
                model: model.to_owned(),
                lora: lora.to_owned(),
                block_size,
            });
        }
    });
    // Of those asked for alike, the same one is first each time.
    names.sort_unstable();
    let digests = names.iter();
    let digests = digests.map(|name| ContextDigest::of(&name.model, &name.lora, name.block_size));
    let digests: Vec<_> = digests.collect();
    let picture = state.router.hot().picture(&digests, wish.limit);
    Reply::json(StatusCode::OK, &answer(&picture, &names))
}

fn answer<'n>(picture: &Picture, names: &'n [Name]) -> Answer<'n> {
    let now_ms = now_ms();
    let since_ms = now_ms.saturating_sub(picture.now.as_millis() as u64);
    let contexts = picture.contexts.iter().filter_map(|context| {
        let name = names.get(context.context)?;
        let nodes = context.nodes.iter();
        let nodes = nodes.map(|node| shown(node, name.block_size, since_ms));
        Some(Context {
            model: &name.model,
            lora: Some(name.lora.as_str()).filter(|lora| !lora.is_empty()),
            block_size: name.block_size,
            asked: count(context.asked),
            nodes: nodes.collect(),
        })
    });
    Answer {
        now_ms,
        since_ms,
        half_life_seconds: HOT_HALF_LIFE.as_secs(),
        exact: picture.exact,
        lookups: count(picture.lookups),
        left_out: LeftOut {
            busy: picture.busy,
            full: picture.full,
            forgotten: picture.forgotten,
        },
        depth_blocks_max: HOT_BLOCKS_MAX,
        contexts: contexts.collect(),
    }
}

fn shown(node: &HotNode, block_size: u32, since_ms: u64) -> Node {
    let tokens = |blocks: u32| u64::from(blocks) * u64::from(block_size);
    Node {
        id: node.id,
        parent: node.parent,
        key: format!("{:016x}", node.key),
        from_tokens: tokens(node.from),
        to_tokens: tokens(node.to),
        asked: count(node.asked),
        pods: node.held.pods,
        workers: node.held.workers,
        last_ms: since_ms + node.last_ms,
    }
}

/// Of thousandths.
fn count(thousandths: u64) -> f64 {
    thousandths as f64 / 1_000.0
}
