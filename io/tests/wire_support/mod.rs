//! What the decoder's tests share: an owned form of what was decoded, and an independent
//! reading of the same batch from the value tree that another MessagePack library builds.
#![allow(dead_code, reason = "each test file uses a part")]

use kvroute::status::SkipReason;
use kvroute::wire::{Batch, BatchError, Event, Scratch, Step};
use kvroute_engine::hash::{ExtraDigest, ExtraHasher};
use rmpv::Value;
use serde_json::Value as Json;
use std::path::PathBuf;

/// An event, owned.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Seen {
    Stored(Stored),
    Removed(Removed),
    Cleared,
    Skipped(SkipReason),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Stored {
    pub(crate) hashes: Vec<u64>,
    pub(crate) parent: Option<u64>,
    pub(crate) tokens: Vec<u32>,
    pub(crate) block_size: u32,
    pub(crate) lora_id: Option<i64>,
    pub(crate) lora_name: Option<String>,
    pub(crate) medium: Option<String>,
    pub(crate) extra: Vec<ExtraDigest>,
    pub(crate) says_extra: bool,
    pub(crate) group: Option<u32>,
    pub(crate) kind: Option<String>,
    pub(crate) window: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Removed {
    pub(crate) hashes: Vec<u64>,
    pub(crate) medium: Option<String>,
    pub(crate) group: Option<u32>,
}

/// A batch, owned: its events, then its time and rank, or the error that ended it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Decoded {
    pub(crate) events: Vec<Seen>,
    pub(crate) end: Result<(f64, Option<i64>), BatchError>,
}

/// Runs the decoder to its end.
pub(crate) fn decode(payload: &[u8], scratch: &mut Scratch) -> Decoded {
    let mut events = Vec::new();
    let mut batch = match Batch::open(payload) {
        Ok(batch) => batch,
        Err(error) => {
            return Decoded {
                events,
                end: Err(error),
            };
        }
    };
    loop {
        let step = match batch.next(scratch) {
            Ok(Some(step)) => step,
            Ok(None) => break,
            Err(error) => {
                assert_eq!(batch.next(scratch), Err(error), "an error must stay");
                return Decoded {
                    events,
                    end: Err(error),
                };
            }
        };
        events.push(own(step));
        assert!(events.len() <= payload.len(), "more events than bytes");
    }
    assert_eq!(batch.next(scratch), Ok(None), "an end must stay");
    Decoded {
        events,
        end: Ok((batch.timestamp(), batch.rank())),
    }
}

fn own(step: Step<'_>) -> Seen {
    let text = |text: Option<&str>| text.map(str::to_owned);
    match step {
        Step::Skipped(reason) => Seen::Skipped(reason),
        Step::Event(Event::Cleared) => Seen::Cleared,
        Step::Event(Event::Removed(event)) => Seen::Removed(Removed {
            hashes: event.hashes.iter().map(|hash| hash.0).collect(),
            medium: text(event.medium),
            group: event.group,
        }),
        Step::Event(Event::Stored(event)) => Seen::Stored(Stored {
            hashes: event.hashes.iter().map(|hash| hash.0).collect(),
            parent: event.parent.map(|hash| hash.0),
            tokens: event.tokens.to_vec(),
            block_size: event.block_size,
            lora_id: event.lora_id,
            lora_name: text(event.lora_name),
            medium: text(event.medium),
            extra: event.extra.to_vec(),
            says_extra: event.says_extra,
            group: event.group,
            kind: text(event.kind),
            window: event.window,
        }),
    }
}

/// Fields of a stored event after its tag, as vLLM declares them.
pub(crate) const STORED: [&str; 11] = [
    "block_hashes",
    "parent_block_hash",
    "token_ids",
    "block_size",
    "lora_id",
    "medium",
    "lora_name",
    "extra_keys",
    "group_idx",
    "kv_cache_spec_kind",
    "kv_cache_spec_sliding_window",
];

/// The same of a removed event.
pub(crate) const REMOVED: [&str; 3] = ["block_hashes", "medium", "group_idx"];

/// A batch read from a value tree. `None`: no batch. An event that must be skipped is `None`.
pub(crate) type Expected = Option<(Vec<Option<Seen>>, f64, Option<i64>)>;

/// What the decoder has to find in a batch, read from its value tree.
pub(crate) fn expect_batch(batch: &Value) -> Expected {
    let (ts, events, rank) = match batch {
        Value::Array(parts) => (parts.first()?, parts.get(1)?, parts.get(2)),
        Value::Map(pairs) => {
            let last = |name| {
                pairs
                    .iter()
                    .rev()
                    .find(|(key, _)| key.as_str() == Some(name))
            };
            let of_type = |name, right: fn(&Value) -> bool| {
                pairs
                    .iter()
                    .all(|(key, value)| key.as_str() != Some(name) || right(value))
            };
            let all_right = of_type("ts", |ts| time(ts).is_some())
                && of_type("data_parallel_rank", |rank| {
                    optional(rank, integer::<i64>).is_some()
                });
            if !all_right {
                return None;
            }
            (
                &last("ts")?.1,
                &last("events")?.1,
                last("data_parallel_rank").map(|(_, rank)| rank),
            )
        }
        _ => return None,
    };
    let events = list(events)?.iter().map(expect_event).collect();
    let rank = rank.map_or(Some(None), |rank| optional(rank, integer::<i64>))?;
    Some((events, time(ts)?, rank))
}

fn time(value: &Value) -> Option<f64> {
    match value {
        Value::F32(time) => Some((*time).into()),
        Value::F64(time) => Some(*time),
        Value::Integer(time) => time.as_f64(),
        _ => None,
    }
}

fn expect_event(event: &Value) -> Option<Seen> {
    let (tag, fields, says_extra): (_, Vec<(&str, &Value)>, _) = match event {
        Value::Array(parts) => {
            let tag = parts.first()?.as_str()?;
            let names: &[&str] = if tag == "BlockStored" {
                &STORED
            } else {
                &REMOVED
            };
            let fields = names.iter().copied().zip(&parts[1..]).collect();
            (tag, fields, parts.len() >= 9)
        }
        Value::Map(pairs) => {
            let named = pairs
                .iter()
                .filter_map(|(key, value)| Some((key.as_str()?, value)));
            let fields: Vec<_> = named.collect();
            let tag = fields.iter().find(|(key, _)| *key == "type")?.1.as_str()?;
            (tag, fields, true)
        }
        _ => return None,
    };
    match tag {
        "BlockStored" => expect_stored(&fields, says_extra).map(Seen::Stored),
        "BlockRemoved" => expect_removed(&fields).map(Seen::Removed),
        "AllBlocksCleared" => Some(Seen::Cleared),
        _ => None,
    }
}

fn expect_stored(fields: &[(&str, &Value)], says_extra: bool) -> Option<Stored> {
    let mut event = Stored {
        says_extra,
        ..Stored::default()
    };
    let mut extra = &Value::Nil;
    for &(name, value) in fields {
        match name {
            "block_hashes" => {
                event.hashes = list(value)?.iter().map(hash).collect::<Option<_>>()?
            }
            "parent_block_hash" => event.parent = optional(value, hash)?,
            "token_ids" => {
                event.tokens = list(value)?.iter().map(integer).collect::<Option<_>>()?
            }
            "block_size" => event.block_size = integer(value)?,
            "lora_id" => event.lora_id = optional(value, integer)?,
            "medium" => event.medium = optional(value, text)?,
            "lora_name" => event.lora_name = optional(value, text)?,
            "extra_keys" => extra = value,
            "group_idx" => event.group = optional(value, integer)?,
            "kv_cache_spec_kind" => event.kind = optional(value, text)?,
            "kv_cache_spec_sliding_window" => event.window = optional(value, integer)?,
            _ => {}
        }
    }
    let has = |name| fields.iter().any(|(key, _)| key == name);
    let whole = STORED[..4].iter().all(has) && (event.block_size > 0 || event.tokens.is_empty());
    event.extra = expect_extra(extra, event.lora_name.as_deref())?;
    whole.then_some(event)
}

fn expect_removed(fields: &[(&str, &Value)]) -> Option<Removed> {
    let mut event = Removed::default();
    for &(name, value) in fields {
        match name {
            "block_hashes" => {
                event.hashes = list(value)?.iter().map(hash).collect::<Option<_>>()?
            }
            "medium" => event.medium = optional(value, text)?,
            "group_idx" => event.group = optional(value, integer)?,
            _ => {}
        }
    }
    fields
        .iter()
        .any(|(key, _)| *key == "block_hashes")
        .then_some(event)
}

/// The digests of extra keys; none at all if no block has any.
pub(crate) fn expect_extra(keys: &Value, adapter: Option<&str>) -> Option<Vec<ExtraDigest>> {
    let mut digests = Vec::new();
    for entry in list(keys)? {
        let mut elements = list(entry)?;
        if let (Some(adapter), Some((first, others))) = (adapter, elements.split_first())
            && first.as_str() == Some(adapter)
        {
            elements = others;
        }
        let mut hasher = ExtraHasher::new();
        elements
            .iter()
            .try_for_each(|element| walk(element, &mut hasher))?;
        digests.push(hasher.finish());
    }
    let any = digests.iter().any(|digest| !digest.is_none());
    Some(if any { digests } else { Vec::new() })
}

fn walk(value: &Value, hasher: &mut ExtraHasher) -> Option<()> {
    match value {
        Value::Nil => hasher.nil(),
        Value::Boolean(value) => hasher.boolean(*value),
        Value::Integer(_) => hasher.integer(integer(value)?),
        Value::F32(value) => hasher.float((*value).into()),
        Value::F64(value) => hasher.float(*value),
        Value::String(text) => hasher.text(text.as_str()?),
        Value::Binary(bytes) => hasher.bytes(bytes),
        Value::Array(values) => {
            hasher.list(u32::try_from(values.len()).ok()?);
            values.iter().try_for_each(|value| walk(value, hasher))?;
        }
        Value::Map(pairs) => {
            hasher.map(u32::try_from(pairs.len()).ok()?);
            let mut values = pairs.iter().flat_map(|(key, value)| [key, value]);
            values.try_for_each(|value| walk(value, hasher))?;
        }
        Value::Ext(..) => return None,
    }
    Some(())
}

fn optional<T>(value: &Value, read: impl Fn(&Value) -> Option<T>) -> Option<Option<T>> {
    if value.is_nil() {
        Some(None)
    } else {
        read(value).map(Some)
    }
}

fn list(value: &Value) -> Option<&[Value]> {
    if value.is_nil() {
        Some(&[])
    } else {
        value.as_array().map(Vec::as_slice)
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn integer<T: TryFrom<i128>>(value: &Value) -> Option<T> {
    let wide = value
        .as_u64()
        .map(i128::from)
        .or(value.as_i64().map(i128::from))?;
    T::try_from(wide).ok()
}

/// A hash's 64 bits: an integer's own, or a byte string's last eight bytes as a number.
fn hash(value: &Value) -> Option<u64> {
    match value {
        Value::Integer(_) => integer::<i128>(value).map(|wide| wide.rem_euclid(1 << 64) as u64),
        Value::Binary(bytes) if !bytes.is_empty() => {
            let last = bytes.iter().rev().take(8);
            Some(
                last.zip(0..)
                    .map(|(&byte, place)| u64::from(byte) << (8 * place))
                    .sum(),
            )
        }
        _ => None,
    }
}

/// The depth of containers inside each other.
pub(crate) fn depth(value: &Value) -> u32 {
    let inner = match value {
        Value::Array(values) => values.iter().map(depth).max(),
        Value::Map(pairs) => pairs
            .iter()
            .map(|(key, value)| depth(key).max(depth(value)))
            .max(),
        _ => return 0,
    };
    1 + inner.unwrap_or(0)
}

/// The one value that `bytes` hold and nothing more, as another library reads it.
pub(crate) fn tree(bytes: &[u8]) -> Option<Value> {
    let mut rest = bytes;
    let value = rmpv::decode::read_value(&mut rest).ok()?;
    rest.is_empty().then_some(value)
}

/// A line of a golden file as a value tree; byte strings are written "bytes:<hex>" there.
pub(crate) fn tree_of_json(json: &Json) -> Value {
    match json {
        Json::Null => Value::Nil,
        Json::Bool(value) => (*value).into(),
        Json::Number(value) => match (value.as_u64(), value.as_i64()) {
            (Some(value), _) => value.into(),
            (_, Some(value)) => value.into(),
            _ => value.as_f64().expect("a number").into(),
        },
        Json::String(text) => match text.strip_prefix("bytes:") {
            Some(hex) => Value::Binary(unhex(hex)),
            None => text.as_str().into(),
        },
        Json::Array(values) => Value::Array(values.iter().map(tree_of_json).collect()),
        Json::Object(pairs) => Value::Map(
            pairs
                .iter()
                .map(|(key, value)| (key.as_str().into(), tree_of_json(value)))
                .collect(),
        ),
    }
}

pub(crate) fn unhex(hex: &str) -> Vec<u8> {
    assert!(hex.len().is_multiple_of(2), "{hex}");
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex digits");
    (0..hex.len()).step_by(2).map(byte).collect()
}

/// A payload of `tests/golden`.
pub(crate) struct Golden {
    /// File and description.
    pub(crate) name: String,
    pub(crate) payload: Vec<u8>,
    /// What the encoder was given; absent for frames of running engines.
    pub(crate) decoded: Option<Value>,
}

/// All payloads of `tests/golden`.
pub(crate) fn golden() -> Vec<Golden> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    let entries = std::fs::read_dir(&folder).expect("tests/golden");
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "jsonl")
    });
    paths.sort();
    let mut all = Vec::new();
    for path in paths {
        for line in std::fs::read_to_string(&path).expect("a file").lines() {
            let line: Json = serde_json::from_str(line).expect("a line of JSON");
            let text = |key: &str| line.get(key).and_then(Json::as_str).unwrap_or_default();
            all.push(Golden {
                name: format!("{} {}{}", path.display(), text("desc"), text("source")),
                payload: unhex(text("payload")),
                decoded: line.get("decoded").map(tree_of_json),
            });
        }
    }
    all
}

/// Asserts that the decoder finds in `payload` what `expected` says.
pub(crate) fn assert_finds(name: &str, decoded: &Decoded, expected: &Expected) {
    match (expected, &decoded.end) {
        (None, end) => assert!(end.is_err(), "{name}: not a batch, yet {decoded:?}"),
        (Some(_), Err(error)) => panic!("{name}: {error}"),
        (Some((events, ts, rank)), Ok(end)) => {
            assert_eq!(end.0.to_bits(), ts.to_bits(), "{name}");
            assert_eq!(end.1, *rank, "{name}");
            assert_eq!(decoded.events.len(), events.len(), "{name}");
            for (found, event) in decoded.events.iter().zip(events) {
                match event {
                    Some(event) => assert_eq!(found, event, "{name}"),
                    None => assert!(matches!(found, Seen::Skipped(_)), "{name}: {found:?}"),
                }
            }
        }
    }
}
