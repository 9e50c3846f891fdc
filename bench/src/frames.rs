//! Batches of events as vLLM publishes them since 0.24: what an engine says while it serves the workload.
use crate::{BLOCK_SIZE, Conversation, Random, keys, names, told};
use kvroute_engine::types::EngineHash;
use rmpv::Value;
use std::collections::VecDeque;

/// A stored event, with all fields that a full-attention engine sends.
#[must_use]
pub fn stored(parent: Option<EngineHash>, hashes: &[EngineHash], tokens: &[u32]) -> Value {
    let list = |values: Vec<Value>| Value::Array(values);
    event(
        "BlockStored",
        vec![
            (
                "block_hashes",
                list(hashes.iter().map(|h| h.0.into()).collect()),
            ),
            (
                "parent_block_hash",
                parent.map_or(Value::Nil, |hash| hash.0.into()),
            ),
            (
                "token_ids",
                list(tokens.iter().map(|&t| t.into()).collect()),
            ),
            ("block_size", BLOCK_SIZE.into()),
            ("lora_id", Value::Nil),
            ("medium", "GPU".into()),
            ("lora_name", Value::Nil),
            ("extra_keys", Value::Array(vec![Value::Nil; hashes.len()])),
            ("group_idx", 0.into()),
            ("kv_cache_spec_kind", "full_attention".into()),
        ],
    )
}

/// A removed event: engines name one block in each.
#[must_use]
pub fn removed(hash: EngineHash) -> Value {
    event(
        "BlockRemoved",
        vec![
            ("block_hashes", Value::Array(vec![hash.0.into()])),
            ("medium", "GPU".into()),
            ("group_idx", 0.into()),
        ],
    )
}

fn event(kind: &str, fields: Vec<(&str, Value)>) -> Value {
    let named = |(name, value): (&str, Value)| (Value::from(name), value);
    let tag = named(("type", kind.into()));
    Value::Map(
        std::iter::once(tag)
            .chain(fields.into_iter().map(named))
            .collect(),
    )
}

/// The payload of a batch.
///
/// # Panics
/// Never: a vector takes all that is written to it.
#[must_use]
pub fn payload(events: Vec<Value>) -> Vec<u8> {
    let batch = Value::Array(vec![1.5e9.into(), Value::Array(events), 0.into()]);
    let mut payload = Vec::new();
    if let Err(error) = rmpv::encode::write_value(&mut payload, &batch) {
        panic!("encoding into memory: {error}");
    }
    payload
}

/// What an engine says, and what that comes to.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// One for each of its steps.
    pub payloads: Vec<Vec<u8>>,
    /// Blocks stored.
    pub stored: u64,
    /// Blocks removed.
    pub removed: u64,
}

/// The frames of an engine that serves these conversations one after the other, in steps of 4 to 40 blocks (or one
/// block each, as while it decodes), and evicts the oldest conversation, tail first, when it has no room for a step.
/// Tells at most `blocks` stored blocks, in whole conversations.
#[must_use]
pub fn serve(all: &[Conversation], capacity: usize, single: bool, blocks: u64, seed: u64) -> Said {
    let mut random = Random(seed);
    let mut said = Said::default();
    let mut held: VecDeque<Vec<EngineHash>> = VecDeque::new();
    let mut used = 0;
    for conversation in all {
        let whole = conversation.blocks();
        if said.stored + whole as u64 > blocks {
            break;
        }
        // Each conversation is one of its own, so that all of its blocks are new.
        let names = names(
            held.len() + said.payloads.len(),
            &keys(&conversation.tokens, seed),
        );
        let turns = match single {
            true => told::single(0..whole),
            false => told::turns(0..whole, &mut random),
        };
        for turn in turns {
            let mut events = Vec::new();
            used += turn.len();
            while used > capacity {
                let Some(oldest) = held.front_mut() else {
                    break;
                };
                match oldest.pop() {
                    Some(hash) => {
                        events.push(removed(hash));
                        said.removed += 1;
                        used -= 1;
                    }
                    None => drop(held.pop_front()),
                }
            }
            let size = BLOCK_SIZE as usize;
            let parent = turn.start.checked_sub(1).map(|at| names[at]);
            let tokens = &conversation.tokens[turn.start * size..turn.end * size];
            said.stored += turn.len() as u64;
            events.push(stored(parent, &names[turn], tokens));
            said.payloads.push(payload(events));
        }
        held.push_back(names);
    }
    said
}
