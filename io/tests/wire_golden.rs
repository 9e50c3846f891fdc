//! Payloads of real engines, of every version, decode to what their encoder was given.
mod wire_support;

use kvroute::wire::Scratch;
use wire_support::{Seen, assert_finds, decode, expect_batch, golden, tree};

#[test]
fn every_golden_payload_decodes_to_what_was_encoded() {
    let mut scratch = Scratch::default();
    let (mut encoded, mut recorded) = (0, 0);
    for golden in golden() {
        let value = match golden.decoded {
            Some(decoded) => {
                encoded += 1;
                decoded
            }
            None => {
                recorded += 1;
                tree(&golden.payload).expect("sound MessagePack")
            }
        };
        let expected = expect_batch(&value);
        let (events, ..) = expected.as_ref().expect("a batch");
        assert!(
            events.iter().all(Option::is_some),
            "{}: {events:?}",
            golden.name
        );
        assert_finds(
            &golden.name,
            &decode(&golden.payload, &mut scratch),
            &expected,
        );
    }
    assert!(encoded >= 170, "{encoded}");
    assert!(recorded >= 32, "{recorded}");
}

/// The comparison above would hold if both sides overlooked the same thing, so here are the
/// fields of one payload that has them all, by hand.
#[test]
fn all_optional_fields_are_read() {
    let mut goldens = golden().into_iter();
    let wanted = |name: &str| name.contains("0.32.0") && name.ends_with("all optional fields");
    let golden = goldens
        .find(|golden| wanted(&golden.name))
        .expect("the payload");
    let decoded = decode(&golden.payload, &mut Scratch::default());
    let [Seen::Stored(stored), Seen::Removed(removed)] = &decoded.events[..] else {
        panic!("{decoded:?}");
    };
    assert_eq!(stored.hashes, [u64::MAX, 0x0123_4567_89ab_cdef]);
    assert_eq!(stored.tokens, [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(
        (stored.block_size, stored.parent, stored.lora_id),
        (4, None, None)
    );
    assert_eq!(
        (stored.medium.as_deref(), stored.group, stored.window),
        (Some("GPU"), Some(0), Some(64))
    );
    assert_eq!(stored.kind.as_deref(), Some("full_attention"));
    assert!(stored.says_extra);
    assert_eq!(stored.extra.len(), 2);
    assert!(!stored.extra[0].is_none() && stored.extra[1].is_none());
    assert_eq!(removed.hashes, [u64::MAX, 0x0123_4567_89ab_cdef]);
    assert_eq!(
        (removed.medium.as_deref(), removed.group),
        (Some("STORAGE"), Some(1))
    );
    assert_eq!(decoded.end, Ok((1_700_000_000.25, Some(0))));
}

#[test]
fn versions_that_cannot_state_extra_keys_say_so() {
    let mut seen = Vec::new();
    for golden in golden() {
        let version = golden.name.rsplit('/').next().expect("a name").to_owned();
        for event in decode(&golden.payload, &mut Scratch::default()).events {
            if let Seen::Stored(stored) = event {
                seen.push((version.clone(), stored.says_extra));
            }
        }
    }
    for (version, says_extra) in [
        ("0.9.0.post2.jsonl", false),
        ("0.12.0.jsonl", false),
        ("0.14.0.jsonl", false),
        ("0.17.0.jsonl", true),
        ("0.23.0.jsonl", true),
        ("0.24.0.jsonl", true),
        ("0.32.0.jsonl", true),
    ] {
        let mut of_version = seen
            .iter()
            .filter(|(name, _)| name.starts_with(version))
            .peekable();
        assert!(of_version.peek().is_some(), "{version}");
        assert!(of_version.all(|(_, says)| *says == says_extra), "{version}");
    }
}
