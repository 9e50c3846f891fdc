//! Random batches in random shapes: what was put in comes out.
mod wire_support;

use kvroute::wire::Scratch;
use proptest::prelude::*;
use rmpv::Value;
use wire_support::{
    REMOVED, Removed, STORED, Seen, Stored, assert_finds, decode, expect_batch, expect_extra,
};

/// A small generator of choices for shapes, so that proptest has to shrink one seed only.
struct Choices(u64);

impl Choices {
    /// A number below `bound` (splitmix64).
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

/// Writes `width` bytes of `value`, big-endian.
fn number(out: &mut Vec<u8>, marker: u8, value: u64, width: usize) {
    out.push(marker);
    out.extend((0..width).rev().map(|place| (value >> (8 * place)) as u8));
}

/// Encodes a value in any of the forms that MessagePack allows for it, not only the shortest.
fn encode(value: &Value, choices: &mut Choices, out: &mut Vec<u8>) {
    match value {
        Value::Integer(integer) => {
            let wide = integer.as_i64().map_or(u64::MAX, i64::unsigned_abs);
            let signed = integer.as_i64();
            let unsigned = integer.as_u64();
            let mut forms: Vec<(u8, usize)> = Vec::new();
            for (place, width) in [1, 2, 4, 8].into_iter().enumerate() {
                let bits = 8 * width as u32;
                if unsigned.is_some_and(|value| bits == 64 || value >> bits == 0) {
                    forms.push((0xcc + place as u8, width));
                }
                let limit = 1_u64 << (bits - 1);
                if signed.is_some_and(|value| wide < limit || (value < 0 && wide == limit)) {
                    forms.push((0xd0 + place as u8, width));
                }
            }
            let (marker, width) = forms[choices.below(forms.len() as u64) as usize];
            let bits = unsigned
                .or(signed.map(i64::cast_unsigned))
                .expect("an integer");
            number(out, marker, bits, width);
        }
        Value::String(text) => {
            let text = text.as_bytes();
            length(
                out,
                choices,
                text.len(),
                [Some((0xa0, 31)), Some((0xd9, 255))],
                [0xda, 0xdb],
            );
            out.extend(text);
        }
        Value::Binary(bytes) => {
            length(
                out,
                choices,
                bytes.len(),
                [None, Some((0xc4, 255))],
                [0xc5, 0xc6],
            );
            out.extend(bytes);
        }
        Value::Array(values) => {
            length(
                out,
                choices,
                values.len(),
                [Some((0x90, 15)), None],
                [0xdc, 0xdd],
            );
            values.iter().for_each(|value| encode(value, choices, out));
        }
        Value::Map(pairs) => {
            length(
                out,
                choices,
                pairs.len(),
                [Some((0x80, 15)), None],
                [0xde, 0xdf],
            );
            for (key, value) in pairs {
                encode(key, choices, out);
                encode(value, choices, out);
            }
        }
        other => rmpv::encode::write_value(out, other).expect("written"),
    }
}

/// A length in one of its forms: inside the marker, in one byte, in two, in four.
fn length(
    out: &mut Vec<u8>,
    choices: &mut Choices,
    len: usize,
    short: [Option<(u8, usize)>; 2],
    long: [u8; 2],
) {
    let fits = |form: Option<(u8, usize)>| form.filter(|(_, most)| len <= *most);
    match (choices.below(4), fits(short[0]), fits(short[1])) {
        (0, Some((marker, _)), _) => out.push(marker | len as u8),
        (1, _, Some((marker, _))) => number(out, marker, len as u64, 1),
        (2, ..) => number(out, long[0], len as u64, 2),
        _ => number(out, long[1], len as u64, 4),
    }
}

/// A block hash in one of its forms, and its 64 bits.
fn hash() -> impl Strategy<Value = (u64, Value)> {
    prop_oneof![
        any::<u64>().prop_map(|value| (value, value.into())),
        (0..300_u64).prop_map(|value| (value, value.into())),
        any::<i64>().prop_map(|value| (value.cast_unsigned(), value.into())),
        prop::collection::vec(any::<u8>(), 1..40).prop_map(|bytes| {
            let last = &bytes[bytes.len().saturating_sub(8)..];
            let bits = last
                .iter()
                .fold(0, |bits, &byte| bits * 256 + u64::from(byte));
            (bits, Value::Binary(bytes))
        }),
    ]
}

fn tokens() -> impl Strategy<Value = Vec<u32>> {
    let mixed = prop_oneof![0..128_u32, 128..256_u32, 256..65_536_u32, any::<u32>()];
    prop_oneof![
        prop::collection::vec(mixed, 0..80),
        prop::collection::vec(256..65_536_u32, 0..80),
    ]
}

/// Any value that can be among extra keys.
fn key() -> impl Strategy<Value = Value> {
    let atom = prop_oneof![
        Just(Value::Nil),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-zé]{0,40}".prop_map(Value::from),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(Value::Binary),
    ];
    atom.prop_recursive(4, 16, 4, |inner| {
        let pair = (inner.clone(), inner.clone());
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Value::Array),
            prop::collection::vec(pair, 0..3).prop_map(Value::Map),
        ]
    })
}

fn extra_keys() -> impl Strategy<Value = Value> {
    let entry = prop_oneof![
        Just(Value::Nil),
        prop::collection::vec(key(), 0..3).prop_map(Value::Array),
        prop::collection::vec(key(), 0..3).prop_map(|mut keys| {
            keys.insert(0, "ada".into());
            Value::Array(keys)
        }),
    ];
    prop_oneof![
        Just(Value::Nil),
        prop::collection::vec(Just(Value::Nil), 0..9).prop_map(Value::Array),
        prop::collection::vec(entry, 0..5).prop_map(Value::Array),
    ]
}

fn name() -> impl Strategy<Value = Option<String>> {
    prop_oneof![
        Just(None),
        Just(Some("ada".to_owned())),
        "[A-Zé]{0,50}".prop_map(Some)
    ]
}

fn or_nil<T: Into<Value>>(value: Option<T>) -> Value {
    value.map_or(Value::Nil, Into::into)
}

type Fields = (Seen, Vec<(&'static str, Value)>);

/// A stored event with all its fields.
fn stored() -> impl Strategy<Value = Fields> {
    let lists = (
        prop::collection::vec(hash(), 0..20),
        prop::option::of(hash()),
        tokens(),
        extra_keys(),
    );
    let texts = (name(), name(), name());
    let numbers = (
        1..u32::MAX,
        any::<Option<i64>>(),
        any::<Option<u32>>(),
        any::<Option<u32>>(),
    );
    (lists, texts, numbers).prop_map(|(lists, texts, numbers)| {
        let (hashes, parent, tokens, keys) = lists;
        let (lora_name, medium, kind) = texts;
        let (block_size, lora_id, group, window) = numbers;
        let values = [
            Value::Array(hashes.iter().map(|(_, value)| value.clone()).collect()),
            or_nil(parent.clone().map(|(_, value)| value)),
            Value::Array(tokens.iter().map(|&token| token.into()).collect()),
            block_size.into(),
            or_nil(lora_id),
            or_nil(medium.clone()),
            or_nil(lora_name.clone()),
            keys.clone(),
            or_nil(group),
            or_nil(kind.clone()),
            or_nil(window),
        ];
        let event = Stored {
            hashes: hashes.iter().map(|(bits, _)| *bits).collect(),
            parent: parent.map(|(bits, _)| bits),
            extra: expect_extra(&keys, lora_name.as_deref()).expect("keys that can be hashed"),
            says_extra: true,
            tokens,
            block_size,
            lora_id,
            lora_name,
            medium,
            group,
            kind,
            window,
        };
        (
            Seen::Stored(event),
            STORED.into_iter().zip(values).collect(),
        )
    })
}

fn removed() -> impl Strategy<Value = Fields> {
    let fields = (
        prop::collection::vec(hash(), 0..40),
        name(),
        any::<Option<u32>>(),
    );
    fields.prop_map(|(hashes, medium, group)| {
        let list = hashes.iter().map(|(_, value)| value.clone()).collect();
        let values = [Value::Array(list), or_nil(medium.clone()), or_nil(group)];
        let hashes = hashes.iter().map(|(bits, _)| *bits).collect();
        let event = Removed {
            hashes,
            medium,
            group,
        };
        (
            Seen::Removed(event),
            REMOVED.into_iter().zip(values).collect(),
        )
    })
}

fn event() -> impl Strategy<Value = Fields> {
    prop_oneof![4 => stored(), 2 => removed(), 1 => Just((Seen::Cleared, Vec::new()))]
}

/// An event in one of its shapes, and what is left of it there.
fn shape((seen, fields): Fields, choices: &mut Choices) -> (Seen, Value) {
    let (tag, needed) = match seen {
        Seen::Stored(_) => ("BlockStored", 4),
        Seen::Removed(_) => ("BlockRemoved", 1),
        _ => ("AllBlocksCleared", 0),
    };
    if choices.below(2) == 0 {
        return (seen, shape_map(tag, needed, fields, choices));
    }
    let len = needed + choices.below((fields.len() - needed) as u64 + 1) as usize;
    let mut values = vec![Value::from(tag)];
    values.extend(fields[..len].iter().map(|(_, value)| value.clone()));
    if len == fields.len() {
        values.extend((0..choices.below(3)).map(Value::from));
    }
    let says_extra = values.len() >= 9;
    (cut(seen, len, says_extra), Value::Array(values))
}

/// What is left of an event of which an array has only `len` fields.
fn cut(seen: Seen, len: usize, says_extra: bool) -> Seen {
    match seen {
        Seen::Stored(all) => Seen::Stored(Stored {
            lora_id: all.lora_id.filter(|_| len > 4),
            medium: all.medium.filter(|_| len > 5),
            lora_name: all.lora_name.filter(|_| len > 6),
            extra: if len > 7 { all.extra } else { Vec::new() },
            says_extra,
            group: all.group.filter(|_| len > 8),
            kind: all.kind.filter(|_| len > 9),
            window: all.window.filter(|_| len > 10),
            ..all
        }),
        Seen::Removed(all) => Seen::Removed(Removed {
            medium: all.medium.filter(|_| len > 1),
            group: all.group.filter(|_| len > 2),
            ..all
        }),
        other => other,
    }
}

/// A map with nil fields left out or not, unknown keys, and any order.
fn shape_map(tag: &str, needed: usize, fields: Vec<(&str, Value)>, choices: &mut Choices) -> Value {
    let mut pairs = vec![(Value::from("type"), Value::from(tag))];
    for (index, (name, value)) in fields.into_iter().enumerate() {
        if index < needed || !value.is_nil() || choices.below(2) == 0 {
            pairs.push((name.into(), value));
        }
    }
    if choices.below(2) == 0 {
        let odd = Value::Array(vec![Value::from("block_hashes"), 1.into()]);
        pairs.push(("session_id".into(), odd.clone()));
        pairs.push((odd, Value::Map(vec![(Value::Nil, Value::from("type"))])));
        choices.shuffle(&mut pairs);
    }
    Value::Map(pairs)
}

fn shape_batch(events: Vec<Value>, ts: f64, rank: Option<i64>, choices: &mut Choices) -> Value {
    let events = Value::Array(events);
    if choices.below(2) == 0 {
        let mut parts = vec![ts.into(), events];
        if rank.is_some() || choices.below(2) == 0 {
            parts.push(or_nil(rank));
            parts.extend((0..choices.below(3)).map(|_| Value::from("further")));
        }
        return Value::Array(parts);
    }
    let mut pairs = vec![
        (Value::from("ts"), ts.into()),
        ("events".into(), events),
        ("further".into(), Value::Array(vec![Value::Nil])),
    ];
    if rank.is_some() || choices.below(2) == 0 {
        pairs.push(("data_parallel_rank".into(), or_nil(rank)));
    }
    choices.shuffle(&mut pairs);
    Value::Map(pairs)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_was_encoded_is_decoded(
        events in prop::collection::vec(event(), 0..6),
        ts in any::<f64>(),
        rank in any::<Option<i64>>(),
        seed in any::<u64>(),
    ) {
        let mut choices = Choices(seed);
        let (expected, values): (Vec<_>, Vec<_>) =
            events.into_iter().map(|event| shape(event, &mut choices)).unzip();
        let batch = shape_batch(values, ts, rank, &mut choices);
        let mut shortest = Vec::new();
        rmpv::encode::write_value(&mut shortest, &batch).expect("written");
        let mut any_form = Vec::new();
        encode(&batch, &mut choices, &mut any_form);
        let mut scratch = Scratch::default();
        for payload in [shortest, any_form] {
            let decoded = decode(&payload, &mut scratch);
            prop_assert_eq!(&decoded.events, &expected);
            let end = decoded.end.map(|(ts, rank)| (ts.to_bits(), rank));
            prop_assert_eq!(end, Ok((ts.to_bits(), rank)));
        }
    }

    /// Any value in the place of any field: the decoder and the other library agree on what can be read.
    #[test]
    fn a_field_of_any_kind_is_read_or_skips_its_event(
        event in prop_oneof![stored(), removed()],
        place in any::<prop::sample::Index>(),
        odd in prop_oneof![key(), extra_keys()],
        seed in any::<u64>(),
    ) {
        let mut choices = Choices(seed);
        let (_, mut value) = shape(event, &mut choices);
        match &mut value {
            Value::Array(parts) => *place.get_mut(parts) = odd,
            Value::Map(pairs) => place.get_mut(pairs).1 = odd,
            _ => unreachable!("events are arrays or maps"),
        }
        let batch = shape_batch(vec![value], 0.0, None, &mut choices);
        let mut payload = Vec::new();
        encode(&batch, &mut choices, &mut payload);
        let decoded = decode(&payload, &mut Scratch::default());
        assert_finds("a changed event", &decoded, &expect_batch(&batch));
    }
}
