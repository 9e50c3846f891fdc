//! What is private in a message, replaced: token ids, names of blocks, salts, adapters, images, and all that is not known.
//!
//! Kept as they are: the numbers of batches, times, ranks, tags and names of fields, block sizes, groups, kinds, media,
//! and which values stand where. Everything else is replaced by [`Keyed`] values of its kind, in the bytes of the
//! payload as the engine wrote them. A payload whose bytes are broken cannot be taken apart, so nothing of it is kept
//! but its length.
//!
//! Equal tokens stay equal, or no prefix would be found again. So whoever has the capture can count how often a token
//! comes; it is no way to publish what users wrote.
use super::keyed::{Keyed, Kind};
use crate::wire::parts::{self, Part, Place, Scalar, TAG, Visitor};
use rmp::encode as write;
use std::ops::Range;

/// A byte that begins no MessagePack value.
const BROKEN: u8 = 0xc1;
/// Bytes of a word that may be kept: tags, names of fields, media and kinds are words of a schema.
const WORD_MAX: usize = 40;

/// Replaces what is private, message by message.
#[derive(Debug)]
pub struct Scrubber {
    keyed: Keyed,
    /// Payloads of which nothing was kept.
    withheld: u64,
}

impl Scrubber {
    /// With this key.
    #[must_use]
    pub const fn new(keyed: Keyed) -> Self {
        Self { keyed, withheld: 0 }
    }

    /// Payloads that could not be taken apart, of which only the length was kept.
    #[must_use]
    pub const fn withheld(&self) -> u64 {
        self.withheld
    }

    /// A payload without what is private. O(bytes).
    #[must_use]
    pub fn payload(&mut self, payload: &[u8]) -> Vec<u8> {
        let mut rewrite = Rewrite {
            keyed: &mut self.keyed,
            payload,
            copied: 0,
            out: Vec::with_capacity(payload.len() + payload.len() / 2),
        };
        if parts::walk(payload, &mut rewrite).is_err() {
            self.withheld += 1;
            return vec![BROKEN; payload.len()];
        }
        let rest = &payload[rewrite.copied..];
        rewrite.out.extend_from_slice(rest);
        rewrite.out
    }

    /// A topic: of `kv@pod@model` the names are replaced, of any other form all.
    #[must_use]
    pub fn topic(&self, topic: &[u8]) -> Vec<u8> {
        let mut parts = topic.split(|&byte| byte == b'@');
        let mut out = match parts.next() {
            Some(b"kv") => b"kv".to_vec(),
            _ => return self.keyed.text(topic).into_bytes(),
        };
        for part in parts {
            out.push(b'@');
            out.extend_from_slice(self.keyed.text(part).as_bytes());
        }
        out
    }

    /// A frame that is none of a batch.
    #[must_use]
    pub fn other(&self, frame: &[u8]) -> Vec<u8> {
        let mut frame = frame.to_vec();
        self.keyed.permute(Kind::Bytes, &mut frame);
        frame
    }
}

struct Rewrite<'a, 'k> {
    keyed: &'k mut Keyed,
    payload: &'a [u8],
    /// Bytes of the payload that are in `out`, replaced or not.
    copied: usize,
    out: Vec<u8>,
}

/// What becomes of a value.
enum Fate {
    Kept,
    Token,
    Hash,
    Private,
}

/// By the place of a value, and what it is.
fn fate(place: &Place<'_>, value: Scalar<'_>) -> Fate {
    if matches!(value, Scalar::Nil | Scalar::Bool) {
        return Fate::Kept;
    }
    let number = matches!(value, Scalar::Unsigned(_) | Scalar::Signed(_));
    let word = matches!(value, Scalar::Text(text) if is_word(text));
    let of_pair = (place.depth, place.index) == (3, 1);
    let Part::Known(field) = place.part else {
        // Keys of maps are names; an event without a tag has no fields.
        let is_name = place.is_key && place.depth == 0 && word;
        return if is_name { Fate::Kept } else { Fate::Private };
    };
    if place.is_key {
        // An engine may put a salt's name in the place of an adapter's.
        let known = place.depth == 0 || matches!(value, Scalar::Text(b"cache_salt"));
        return if known { Fate::Kept } else { Fate::Private };
    }
    let kept = match field {
        _ if place.part == TAG && place.in_event => word,
        "ts" => number || matches!(value, Scalar::Float(_)),
        "block_hashes" | "parent_block_hash" => return Fate::Hash,
        "token_ids" if number => return Fate::Token,
        "medium" | "kv_cache_spec_kind" => word && place.depth == 0,
        // The place of an image in its block.
        "extra_keys" => number && of_pair,
        "data_parallel_rank"
        | "block_size"
        | "lora_id"
        | "group_idx"
        | "kv_cache_spec_sliding_window" => number && place.depth == 0,
        _ => false,
    };
    if kept { Fate::Kept } else { Fate::Private }
}

fn is_word(text: &[u8]) -> bool {
    let of_word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    text.len() <= WORD_MAX && text.iter().all(of_word)
}

impl<'a> Visitor<'a> for Rewrite<'a, '_> {
    fn scalar(&mut self, place: &Place<'a>, value: Scalar<'a>, bytes: Range<usize>) {
        let fate = fate(place, value);
        if matches!(fate, Fate::Kept) {
            return;
        }
        let before = &self.payload[self.copied..bytes.start];
        self.out.extend_from_slice(before);
        self.copied = bytes.end;
        let written = match (fate, value) {
            (Fate::Kept, _) => Ok(()),
            (Fate::Token, Scalar::Unsigned(id)) => self.token(id),
            (Fate::Token, Scalar::Signed(id)) => self.token(id.cast_unsigned()),
            (Fate::Hash, Scalar::Unsigned(hash)) => self.integer(Kind::Hash, hash),
            (Fate::Hash, Scalar::Signed(hash)) => self.integer(Kind::Hash, hash.cast_unsigned()),
            (Fate::Hash, Scalar::Bytes(bytes)) => self.bytes(Kind::Hash, bytes),
            (_, Scalar::Unsigned(value)) => self.integer(Kind::Integer, value),
            (_, Scalar::Signed(value)) => self.integer(Kind::Integer, value.cast_unsigned()),
            (_, Scalar::Text(text)) => {
                let text = self.keyed.text(text);
                write::write_str(&mut self.out, &text).map_err(drop)
            }
            (_, Scalar::Bytes(bytes)) => self.bytes(Kind::Bytes, bytes),
            (_, Scalar::Float(_)) => write::write_f64(&mut self.out, 0.0).map_err(drop),
            (_, Scalar::Extension | Scalar::Nil | Scalar::Bool) => {
                write::write_nil(&mut self.out).map_err(drop)
            }
        };
        debug_assert!(written.is_ok(), "a vector takes all bytes");
    }
}

impl Rewrite<'_, '_> {
    /// A token id becomes another one; what is none, another that is none.
    fn token(&mut self, id: u64) -> Result<(), ()> {
        let replaced = match u32::try_from(id) {
            Ok(id) => u64::from(self.keyed.token(id)),
            Err(_) => {
                let mut id = self.keyed.integer(Kind::Token, id);
                while u32::try_from(id).is_ok() {
                    id = self.keyed.integer(Kind::Token, id);
                }
                id
            }
        };
        write::write_uint(&mut self.out, replaced)
            .map(drop)
            .map_err(drop)
    }

    /// Always in the widest form: its sign and size would tell something of what it was.
    fn integer(&mut self, kind: Kind, value: u64) -> Result<(), ()> {
        let value = self.keyed.integer(kind, value);
        write::write_u64(&mut self.out, value).map_err(drop)
    }

    fn bytes(&mut self, kind: Kind, bytes: &[u8]) -> Result<(), ()> {
        let mut bytes = bytes.to_vec();
        self.keyed.permute(kind, &mut bytes);
        write::write_bin(&mut self.out, &bytes).map_err(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rmpv::Value;

    fn read(bytes: &[u8]) -> Value {
        let mut rest = bytes;
        let value = rmpv::decode::read_value(&mut rest).unwrap();
        assert!(rest.is_empty());
        value
    }

    fn write(value: &Value) -> Vec<u8> {
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, value).unwrap();
        bytes
    }

    fn text(value: &str) -> Value {
        Value::from(value)
    }

    fn list(values: impl IntoIterator<Item = Value>) -> Value {
        Value::Array(values.into_iter().collect())
    }

    /// A batch of one stored event as a map, with something private in every field that can have it.
    fn batch() -> Value {
        let image = list([text(&"ab".repeat(32)), (-22).into()]);
        let fields = vec![
            (text("type"), text("BlockStored")),
            (
                text("block_hashes"),
                list([7.into(), Value::from(vec![1_u8; 32])]),
            ),
            (text("parent_block_hash"), (-7).into()),
            (text("token_ids"), list([5.into(), 70_000.into(), 5.into()])),
            (text("block_size"), 4.into()),
            (text("lora_id"), Value::Nil),
            (text("medium"), text("GPU")),
            (text("lora_name"), text("acme-support")),
            (
                text("extra_keys"),
                list([
                    list([text("acme-support"), image, text("tenant")]),
                    Value::Nil,
                ]),
            ),
            (text("group_idx"), 1.into()),
            (text("kv_cache_spec_kind"), text("sliding_window")),
            (text("kv_cache_spec_sliding_window"), 128.into()),
            (text("session_id"), text("user@example.org")),
            (text("secret number"), 4_711.into()),
        ];
        list([1.5.into(), list([Value::Map(fields)]), 3.into()])
    }

    fn field<'v>(batch: &'v Value, name: &str) -> &'v Value {
        let fields = batch[1][0].as_map().unwrap();
        &fields
            .iter()
            .find(|(key, _)| key.as_str() == Some(name))
            .unwrap()
            .1
    }

    #[test]
    fn what_is_private_is_replaced_and_the_rest_is_not() {
        let mut scrubber = Scrubber::new(Keyed::new(b"0123456789abcdef"));
        let bytes = scrubber.payload(&write(&batch()));
        let (before, after) = (batch(), read(&bytes));
        for name in [
            "type",
            "block_size",
            "lora_id",
            "medium",
            "group_idx",
            "kv_cache_spec_kind",
            "kv_cache_spec_sliding_window",
        ] {
            assert_eq!(field(&after, name), field(&before, name), "{name}");
        }
        assert_eq!((&after[0], &after[2]), (&before[0], &before[2]));
        let tokens = field(&after, "token_ids");
        assert_eq!(tokens[0], tokens[2]);
        assert!(tokens[0] != tokens[1] && tokens[0] != 5.into());
        assert_eq!(tokens[0].as_u64(), Some(scrubber.keyed.token(5).into()));
        let hashes = field(&after, "block_hashes");
        assert!(hashes[0].is_u64() && hashes[0] != 7.into());
        assert_eq!(hashes[1].as_slice().map(<[u8]>::len), Some(32));
        let parent = scrubber.keyed.integer(Kind::Hash, (-7_i64).cast_unsigned());
        assert_eq!(field(&after, "parent_block_hash").as_u64(), Some(parent));
        // The adapter's name is the same wherever it stands, or it would not be recognised.
        let extra = &field(&after, "extra_keys")[0];
        assert_eq!(&extra[0], field(&after, "lora_name"));
        assert_eq!(
            (extra[1][0].as_str().map(str::len), extra[1][1].as_i64()),
            (Some(64), Some(-22))
        );
        let all = format!("{after}");
        for private in ["acme", "tenant", "user@", "abab", "4711", "secret"] {
            assert!(
                format!("{before}").contains(private) && !all.contains(private),
                "{private}: {all}"
            );
        }
    }

    #[test]
    fn what_is_not_understood_is_not_kept() {
        let mut scrubber = Scrubber::new(Keyed::new(b"0123456789abcdef"));
        let strange = list([
            1.into(),
            list([
                list([text("BlockMoved"), 99.into(), text("private")]),
                list([98.into(), text("private")]),
                text("private"),
                Value::Map(vec![
                    (text("type"), text("a private tag")),
                    (97.into(), text("private")),
                ]),
            ]),
            Value::Nil,
            text("private"),
        ]);
        let after = read(&scrubber.payload(&write(&strange)));
        assert_eq!(after[1][0][0], text("BlockMoved"));
        let all = format!("{after}");
        for private in ["private", "99", "98,", "97"] {
            assert!(
                !all.contains(&format!("[{private}")) && !all.contains(&format!(" {private},")),
                "{all}"
            );
        }
        assert!(!all.contains("private"), "{all}");
        assert_eq!(scrubber.payload(b"\x93private"), [0xc1; 8]);
        assert_eq!(scrubber.withheld(), 1);
        assert_eq!(scrubber.topic(b""), b"");
        let topic = String::from_utf8(scrubber.topic(b"kv@pod@model")).unwrap();
        assert!(
            topic.starts_with("kv@") && topic.len() == 2 + 2 * 33,
            "{topic}"
        );
        assert_eq!(scrubber.topic(b"model").len(), 32);
    }
}
