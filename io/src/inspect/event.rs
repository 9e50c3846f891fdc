//! One event of an engine, as JSON or as a line. Token ids are private: they are counted, and told on request only.
use super::tally::Whose;
use crate::printable::Printable;
use crate::wire::{Event, Step};
use kvroute_engine::types::EngineHash;
use serde_json::{Value, json};

/// Hashes that a line names.
const HASHES_SHOWN: usize = 4;

/// As JSON. Hashes are hexadecimal.
#[must_use]
pub fn json(whose: &Whose, step: &Step<'_>, tokens: bool) -> Value {
    let mut value = match step {
        Step::Skipped(why) => json!({"event": "skipped", "reason": why.as_str()}),
        Step::Event(Event::Cleared) => json!({"event": "cleared"}),
        Step::Event(Event::Removed(removed)) => json!({
            "event": "removed", "hashes": hashes(removed.hashes), "medium": removed.medium, "group": removed.group,
        }),
        Step::Event(Event::Stored(stored)) => {
            let ids = tokens.then_some(stored.tokens);
            json!({
                "event": "stored", "hashes": hashes(stored.hashes), "parent": stored.parent.map(hex),
                "tokens": stored.tokens.len(), "token_ids": ids, "block_size": stored.block_size,
                "lora_id": stored.lora_id, "lora_name": stored.lora_name, "medium": stored.medium,
                "extra_keys": stored.extra.len(), "group": stored.group, "kind": stored.kind, "window": stored.window,
            })
        }
    };
    if let Some(object) = value.as_object_mut() {
        object.insert("sequence".to_owned(), json!(whose.sequence));
        object.insert("received".to_owned(), json!(whose.received));
        if !tokens {
            object.remove("token_ids");
        }
    }
    value
}

/// As a line for people.
#[must_use]
pub fn line(whose: &Whose, step: &Step<'_>, tokens: bool) -> String {
    let number = whose.sequence;
    match step {
        Step::Skipped(why) => format!("#{number} skipped: {}", why.as_str()),
        Step::Event(Event::Cleared) => format!("#{number} cleared"),
        Step::Event(Event::Removed(removed)) => {
            let medium = Printable(removed.medium.unwrap_or("-"));
            format!("#{number} removed {medium} {}", some(removed.hashes))
        }
        Step::Event(Event::Stored(stored)) => {
            let medium = Printable(stored.medium.unwrap_or("-"));
            let parent = stored.parent.map_or("root".to_owned(), hex);
            let adapter = stored.lora_name.map(|name| format!(" {}", Printable(name)));
            let ids = match tokens {
                true => format!(" {:?}", stored.tokens),
                false => String::new(),
            };
            format!(
                "#{number} stored {medium} {} after {parent}, {} tokens in blocks of {}{}{ids}",
                some(stored.hashes),
                stored.tokens.len(),
                stored.block_size,
                adapter.unwrap_or_default(),
            )
        }
    }
}

fn hex(hash: EngineHash) -> String {
    format!("{:#018x}", hash.0)
}

fn hashes(hashes: &[EngineHash]) -> Vec<String> {
    hashes.iter().map(|&hash| hex(hash)).collect()
}

fn some(all: &[EngineHash]) -> String {
    let shown = hashes(&all[..all.len().min(HASHES_SHOWN)]).join(" ");
    match all.len().checked_sub(HASHES_SHOWN) {
        Some(more @ 1..) => format!("{shown} and {more} more"),
        _ => shown,
    }
}
