//! One event at a time: what is skipped alone and why, and the finer points of what is read.
mod wire_support;

use kvroute::status::SkipReason;
use kvroute::wire::Scratch;
use kvroute_engine::hash::{ExtraDigest, ExtraHasher};
use rmpv::Value;
use wire_support::{Removed, STORED, Seen, Stored, decode};

/// Stands for a text that is not UTF-8, which the other library would not write as one.
const NOT_UTF8: &str = "\u{1}\u{2}";

/// Encodes a value, and makes [`NOT_UTF8`] what it stands for.
fn encode(value: &Value) -> Vec<u8> {
    let mut payload = Vec::new();
    rmpv::encode::write_value(&mut payload, value).expect("written");
    while let Some(at) = payload
        .windows(3)
        .position(|bytes| bytes == b"\xa2\x01\x02")
    {
        payload[at + 1..at + 3].copy_from_slice(b"\xff\xfe");
    }
    payload
}

fn list(values: &[Value]) -> Value {
    Value::Array(values.to_vec())
}

fn map(pairs: &[(&str, Value)]) -> Value {
    Value::Map(
        pairs
            .iter()
            .map(|(key, value)| ((*key).into(), value.clone()))
            .collect(),
    )
}

/// A stored event of four tokens in two blocks as its fields.
fn fields() -> Vec<(&'static str, Value)> {
    let values = [
        list(&[7.into(), 8.into()]),
        Value::Nil,
        list(&[1.into(), 2.into(), 3.into(), 4.into()]),
        2.into(),
        Value::Nil,
        "GPU".into(),
        Value::Nil,
        Value::Nil,
        0.into(),
        "full_attention".into(),
        Value::Nil,
    ];
    STORED.into_iter().zip(values).collect()
}

fn as_map(fields: &[(&'static str, Value)]) -> Value {
    map(&[&[("type", "BlockStored".into())], fields].concat())
}

fn as_array(fields: &[(&'static str, Value)]) -> Value {
    let values = fields.iter().map(|(_, value)| value.clone());
    Value::Array(
        [Value::from("BlockStored")]
            .into_iter()
            .chain(values)
            .collect(),
    )
}

/// The fields with one replaced.
fn with(name: &'static str, value: Value) -> Vec<(&'static str, Value)> {
    let mut fields = fields();
    let place = fields
        .iter_mut()
        .find(|(key, _)| *key == name)
        .expect("a field");
    place.1 = value;
    fields
}

fn removed(hash: u64) -> Value {
    list(&["BlockRemoved".into(), list(&[hash.into()]), "GPU".into()])
}

fn seen_removed(hash: u64) -> Seen {
    Seen::Removed(Removed {
        hashes: vec![hash],
        medium: Some("GPU".into()),
        group: None,
    })
}

/// Decodes the event between two good ones, in both shapes of batch, and asserts that those are read.
fn between(event: &Value) -> Seen {
    let events = list(&[removed(1), event.clone(), removed(2)]);
    let array = list(&[1.5.into(), events.clone(), 3.into()]);
    let pairs = [
        ("data_parallel_rank", 3.into()),
        ("events", events),
        ("ts", 1.5.into()),
    ];
    let mut found = [array, map(&pairs)].map(|batch| {
        let decoded = decode(&encode(&batch), &mut Scratch::default());
        assert_eq!(decoded.end, Ok((1.5, Some(3))), "{event}");
        assert_eq!(decoded.events.len(), 3, "{event}");
        assert_eq!(decoded.events[0], seen_removed(1), "{event}");
        assert_eq!(decoded.events[2], seen_removed(2), "{event}");
        decoded.events
    });
    assert_eq!(found[0], found[1], "{event}");
    found[0].swap_remove(1)
}

fn stored(event: &Value) -> Stored {
    match between(event) {
        Seen::Stored(stored) => stored,
        other => panic!("{event}: {other:?}"),
    }
}

#[track_caller]
fn assert_skipped(event: &Value, reason: SkipReason) {
    assert_eq!(between(event), Seen::Skipped(reason), "{event}");
}

#[test]
fn an_unknown_tag_is_skipped_alone() {
    for event in [
        list(&["BlockMoved".into(), list(&[1.into()])]),
        list(&["".into()]),
        map(&[
            ("type", "BlockMoved".into()),
            ("block_hashes", "not a list".into()),
        ]),
        map(&[
            ("block_hashes", "not a list".into()),
            ("type", "blockstored".into()),
        ]),
    ] {
        assert_skipped(&event, SkipReason::UnknownTag);
    }
}

#[test]
fn what_has_no_tag_is_skipped_alone() {
    for event in [
        Value::Nil,
        5.into(),
        "BlockStored".into(),
        Value::Ext(1, vec![2; 40]),
        list(&[]),
        list(&[5.into(), list(&[])]),
        list(&[Value::Binary(b"BlockRemoved".to_vec()), list(&[])]),
        map(&[]),
        map(&[("block_hashes", list(&[]))]),
        map(&[("type", 7.into())]),
        map(&[("medium", "GPU".into()), ("type", Value::Nil)]),
    ] {
        assert_skipped(&event, SkipReason::Shape);
    }
}

#[test]
fn a_field_of_the_wrong_kind_skips_its_event_alone() {
    let one = |value: Value| list(&[value]);
    let cases = [
        ("block_hashes", Value::from(7)),
        ("block_hashes", one("7".into())),
        ("block_hashes", one(Value::Nil)),
        ("block_hashes", one(Value::F64(7.0))),
        ("block_hashes", one(Value::Binary(vec![]))),
        ("parent_block_hash", "7".into()),
        ("parent_block_hash", Value::Binary(vec![])),
        ("parent_block_hash", one(7.into())),
        ("token_ids", 7.into()),
        ("token_ids", Value::Binary(vec![1, 2, 3, 4])),
        ("token_ids", one((-1).into())),
        ("token_ids", one((1_u64 << 32).into())),
        ("token_ids", one(Value::F64(1.0))),
        ("token_ids", one(Value::Nil)),
        ("token_ids", one(list(&[1.into(), 2.into(), 3.into()]))),
        ("token_ids", one(list(&[1.into(), "2".into()]))),
        ("block_size", Value::Nil),
        ("block_size", (-2).into()),
        ("block_size", (1_u64 << 32).into()),
        ("block_size", list(&[2.into()])),
        ("lora_id", "1".into()),
        ("lora_id", u64::MAX.into()),
        ("medium", 1.into()),
        ("medium", NOT_UTF8.into()),
        ("lora_name", 1.into()),
        ("lora_name", NOT_UTF8.into()),
        ("lora_name", map(&[("cache_salt", "s".into())])),
        ("extra_keys", "salt".into()),
        ("extra_keys", one("salt".into())),
        ("extra_keys", one(one(NOT_UTF8.into()))),
        ("extra_keys", one(one(Value::Ext(1, vec![2])))),
        ("group_idx", (-1).into()),
        ("group_idx", "0".into()),
        ("kv_cache_spec_kind", 0.into()),
        ("kv_cache_spec_sliding_window", "64".into()),
        ("kv_cache_spec_sliding_window", true.into()),
    ];
    for (name, value) in cases {
        let fields = with(name, value);
        assert_skipped(&as_array(&fields), SkipReason::Field);
        assert_skipped(&as_map(&fields), SkipReason::Field);
    }
    let removed = list(&["BlockRemoved".into(), "7".into()]);
    assert_skipped(&removed, SkipReason::Field);
}

#[test]
fn an_event_without_a_field_that_it_needs_is_skipped_alone() {
    for missing in &STORED[..4] {
        let mut fields = fields();
        fields.retain(|(name, _)| name != missing);
        assert_skipped(&as_map(&fields), SkipReason::MissingField);
    }
    for len in 0..4 {
        assert_skipped(&as_array(&fields()[..len]), SkipReason::MissingField);
    }
    assert_skipped(&list(&["BlockRemoved".into()]), SkipReason::MissingField);
    assert_skipped(
        &map(&[("type", "BlockRemoved".into())]),
        SkipReason::MissingField,
    );
}

#[test]
fn token_pairs_are_recognised_and_skipped_alone() {
    let pair = |a: u32, b: u32| list(&[a.into(), b.into()]);
    let fields = with(
        "token_ids",
        list(&[pair(1, 2), pair(2, 300), pair(300, 70_000), pair(4, 5)]),
    );
    assert_skipped(&as_array(&fields), SkipReason::TokenPairs);
    assert_skipped(&as_map(&fields), SkipReason::TokenPairs);
}

#[test]
fn tokens_in_blocks_of_none_are_skipped_alone() {
    assert_skipped(&as_array(&with("block_size", 0.into())), SkipReason::Counts);
    let mut fields = with("block_size", 0.into());
    fields[2].1 = list(&[]);
    assert_eq!(stored(&as_array(&fields)).block_size, 0);
}

#[test]
fn missing_tails_are_absent_fields() {
    for len in 4..=STORED.len() {
        let event = stored(&as_array(&fields()[..len]));
        assert_eq!(
            (event.hashes.len(), event.tokens.len(), event.block_size),
            (2, 4, 2)
        );
        assert_eq!(event.medium.is_some(), len > 5, "{len}");
        assert_eq!(event.says_extra, len >= 8, "{len}");
        assert_eq!(event.group, (len >= 9).then_some(0), "{len}");
        assert_eq!(event.kind.is_some(), len >= 10, "{len}");
    }
}

#[test]
fn the_type_may_come_last_and_unknown_keys_anywhere() {
    let mut pairs = vec![(Value::from("ownership"), list(&[map(&[("a", 1.into())])]))];
    pairs.push((list(&[1.into(), 2.into()]), "a key that is a list".into()));
    pairs.push((Value::Nil, Value::Nil));
    pairs.extend(
        fields()
            .into_iter()
            .rev()
            .map(|(key, value)| (key.into(), value)),
    );
    pairs.push(("type".into(), "BlockStored".into()));
    let turned = stored(&Value::Map(pairs));
    assert_eq!(turned, stored(&as_map(&fields())));
}

#[test]
fn of_equal_keys_the_last_counts_but_of_types_the_first() {
    let mut fields = fields();
    fields.push(("token_ids", list(&[9.into()])));
    fields.push(("medium", Value::Nil));
    fields.push(("extra_keys", list(&[list(&["salt".into()])])));
    fields.push(("extra_keys", list(&[Value::Nil])));
    fields.push(("type", "AllBlocksCleared".into()));
    let event = stored(&as_map(&fields));
    assert_eq!(event.tokens, [9]);
    assert_eq!(event.medium, None);
    assert_eq!(event.extra, []);
}

#[test]
fn hashes_fold_to_their_last_eight_bytes() {
    let bytes = |len: u8| Value::Binary((1..=len).collect());
    let hashes = [
        bytes(1),
        bytes(3),
        bytes(8),
        bytes(9),
        bytes(32),
        (-1).into(),
        u64::MAX.into(),
    ];
    let event = stored(&as_map(&with("block_hashes", list(&hashes))));
    assert_eq!(
        event.hashes,
        [
            0x01,
            0x01_0203,
            0x0102_0304_0506_0708,
            0x0203_0405_0607_0809,
            0x191a_1b1c_1d1e_1f20,
            u64::MAX,
            u64::MAX,
        ]
    );
}

fn digest(build: impl FnOnce(&mut ExtraHasher)) -> ExtraDigest {
    let mut hasher = ExtraHasher::new();
    build(&mut hasher);
    hasher.finish()
}

#[test]
fn extra_keys_are_hashed_without_the_adapter_even_if_it_is_named_later() {
    let salt = digest(|hasher| hasher.text("salt"));
    let keys = list(&[list(&["ada".into(), "salt".into()]), list(&["ada".into()])]);
    for fields in [
        vec![("lora_name", "ada".into()), ("extra_keys", keys.clone())],
        vec![("extra_keys", keys.clone()), ("lora_name", "ada".into())],
    ] {
        let others = self::fields()
            .into_iter()
            .filter(|(key, _)| !["lora_name", "extra_keys"].contains(key));
        let event = stored(&as_map(&others.chain(fields).collect::<Vec<_>>()));
        assert_eq!(event.extra, [salt, ExtraDigest::NONE]);
    }
    let named = |name: Value| {
        let mut fields = with("extra_keys", keys.clone());
        fields[6].1 = name;
        stored(&as_map(&fields)).extra
    };
    let kept = digest(|hasher| {
        hasher.text("ada");
        hasher.text("salt");
    });
    assert_eq!(named(Value::Nil)[0], kept);
    assert_eq!(named("another".into())[0], kept);
}

#[test]
fn extra_keys_that_are_all_nothing_are_none() {
    for keys in [
        Value::Nil,
        list(&[]),
        list(&[Value::Nil, Value::Nil]),
        list(&[list(&[]), Value::Nil]),
    ] {
        let event = stored(&as_map(&with("extra_keys", keys)));
        assert_eq!(event.extra, []);
        assert!(event.says_extra);
    }
}

#[test]
fn nested_extra_keys_are_hashed_as_they_are_written() {
    let item = list(&["id".into(), (-22).into()]);
    let entry = [
        item,
        Value::Binary(vec![1, 2]),
        map(&[("k", 0.5.into())]),
        true.into(),
        Value::Nil,
    ];
    let event = stored(&as_map(&with(
        "extra_keys",
        list(&[Value::Nil, list(&entry)]),
    )));
    let expected = digest(|hasher| {
        hasher.list(2);
        hasher.text("id");
        hasher.integer(-22);
        hasher.bytes(&[1, 2]);
        hasher.map(1);
        hasher.text("k");
        hasher.float(0.5);
        hasher.boolean(true);
        hasher.nil();
    });
    assert_eq!(event.extra, [ExtraDigest::NONE, expected]);
}
