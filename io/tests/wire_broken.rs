//! Bytes that are no batch: an error with its place, soon, and never more.
mod wire_support;

use kvroute::limits::NESTING_MAX;
use kvroute::wire::{BatchErrorKind, Scratch};
use wire_support::{Decoded, Seen, assert_finds, decode, depth, expect_batch, golden, tree};

/// The decoder agrees with another library about what `payload` is, whatever it is.
fn assert_agrees(name: &str, payload: &[u8], decoded: &Decoded) {
    let value = tree(payload);
    match decoded.end.map_err(|error| (error.kind, error.offset)) {
        // The other library takes 0xc1 for nil, and allows far more depth.
        Err((BatchErrorKind::Reserved, offset)) => assert_eq!(payload[offset], 0xc1, "{name}"),
        Err((BatchErrorKind::Nesting, _)) => {
            assert!(
                value.is_none_or(|value| depth(&value) > NESTING_MAX),
                "{name}"
            );
        }
        _ => assert_finds(name, decoded, &value.as_ref().and_then(expect_batch)),
    }
}

#[test]
fn a_payload_cut_anywhere_is_an_error_after_a_part_of_its_events() {
    let mut scratch = Scratch::default();
    for golden in golden() {
        let whole = decode(&golden.payload, &mut scratch).events;
        for len in 0..golden.payload.len() {
            let cut = decode(&golden.payload[..len], &mut scratch);
            let error = cut.end.expect_err(&golden.name);
            assert!(error.offset <= len, "{}: {error} of {len}", golden.name);
            assert!(
                whole.starts_with(&cut.events),
                "{} cut at {len}",
                golden.name
            );
        }
    }
}

#[test]
fn a_payload_with_any_bit_flipped_decodes_as_another_library_reads_it() {
    let mut scratch = Scratch::default();
    let (mut sound, mut broken) = (0, 0);
    for golden in golden() {
        let mut payload = golden.payload;
        for bit in 0..8 * payload.len() {
            payload[bit / 8] ^= 1 << (bit % 8);
            let decoded = decode(&payload, &mut scratch);
            assert_agrees(&format!("{} bit {bit}", golden.name), &payload, &decoded);
            *(if decoded.end.is_ok() {
                &mut sound
            } else {
                &mut broken
            }) += 1;
            payload[bit / 8] ^= 1 << (bit % 8);
        }
    }
    assert!(sound > 100_000 && broken > 50_000, "{sound} {broken}");
}

fn error_of(payload: &[u8]) -> (BatchErrorKind, usize) {
    let decoded = decode(payload, &mut Scratch::default());
    let error = decoded.end.expect_err("an error");
    (error.kind, error.offset)
}

#[test]
fn a_batch_that_is_none_says_what_is_wrong_and_where() {
    use BatchErrorKind::{Field, Missing, Reserved, Shape, Trailing, Truncated};
    let cases: &[(&[u8], BatchErrorKind, usize)] = &[
        (b"", Truncated, 0),
        (b"\xc1", Reserved, 0),
        (b"\xa4type", Shape, 0),
        (b"\xc0", Shape, 0),
        (b"\x90", Missing("ts"), 1),
        (b"\x91\x01", Missing("events"), 1),
        (b"\x92\xc0\x90", Field("ts"), 1),
        (b"\x92\x01\x05", Field("events"), 2),
        (b"\x93\x01\x90\xa1x", Field("data_parallel_rank"), 3),
        (
            b"\x93\x01\x90\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
            Field("data_parallel_rank"),
            3,
        ),
        (b"\x92\x01\x90\x00", Trailing, 3),
        (b"\x93\x01\x90\xc1", Reserved, 3),
        (b"\x92\x01\x91\xc1", Reserved, 3),
        (b"\x92\x01\x91\xcd\x00", Truncated, 3),
        (b"\x80", Missing("events"), 1),
        (b"\x81\xa6events\x90", Missing("ts"), 1),
        (b"\x81\xa2ts\x01", Missing("events"), 1),
        (b"\x82\xa2ts\x01\xa6events\xc3", Field("events"), 12),
        (b"\x82\xa2ts\xc3\xa6events\x90", Field("ts"), 4),
        (b"\x82\xa2ts\x01\xa6events\x90\x00", Trailing, 13),
    ];
    for (payload, kind, offset) in cases {
        assert_eq!(error_of(payload), (*kind, *offset), "{payload:x?}");
    }
}

#[test]
fn nil_is_an_empty_list_of_events() {
    let decoded = decode(b"\x92\x01\xc0", &mut Scratch::default());
    assert_eq!(
        decoded,
        Decoded {
            events: vec![],
            end: Ok((1.0, None))
        }
    );
}

/// Openings of a batch up to a place where any value could be.
const PLACES: [(&str, &[u8]); 11] = [
    ("the batch", b""),
    ("the time", b"\x92"),
    ("the events", b"\x92\x01"),
    ("an event", b"\x92\x01\x91"),
    ("an event in a map", b"\x82\xa2ts\x01\xa6events\x91"),
    ("the hashes", b"\x92\x01\x91\x96\xabBlockStored"),
    ("a hash", b"\x92\x01\x91\x96\xabBlockStored\x91"),
    ("the tokens", b"\x92\x01\x91\x96\xabBlockStored\x91\x05\xc0"),
    (
        "the extra keys",
        b"\x92\x01\x91\x82\xa4type\xabBlockStored\xaaextra_keys",
    ),
    (
        "an unknown field",
        b"\x92\x01\x91\x82\xa4type\xb0AllBlocksCleared\xa1x",
    ),
    ("a key before the type", b"\x92\x01\x91\x82"),
];

#[test]
fn a_length_beyond_the_payload_is_refused_before_anything_is_reserved() {
    let bombs: [(&[u8], BatchErrorKind); 6] = [
        (b"\xdd\xff\xff\xff\xff", BatchErrorKind::Length(u32::MAX)),
        (b"\xdc\xff\xff", BatchErrorKind::Length(0xffff)),
        (b"\xdf\xff\xff\xff\xff", BatchErrorKind::Length(u32::MAX)),
        (b"\xdb\xff\xff\xff\xff", BatchErrorKind::Truncated),
        (b"\xc6\xff\xff\xff\xff", BatchErrorKind::Truncated),
        (b"\xc9\xff\xff\xff\xff\x01", BatchErrorKind::Truncated),
    ];
    for (place, opening) in PLACES {
        for (bomb, kind) in bombs {
            let payload = [opening, bomb, &[0; 20]].concat();
            let mut scratch = Scratch::default();
            let error = decode(&payload, &mut scratch).end.expect_err(place);
            assert_eq!(
                (error.kind, error.offset),
                (kind, opening.len()),
                "{place} {bomb:x?}"
            );
            assert!(
                scratch.heap_bytes() <= 20 * payload.len(),
                "{place} {bomb:x?}"
            );
        }
    }
}

/// A map of one pair takes at least two bytes, an array of one element one.
#[test]
fn a_length_is_believed_up_to_the_last_byte() {
    assert_eq!(
        error_of(b"\x92\x01\xdd\x00\x00\x00\x02\x01"),
        (BatchErrorKind::Length(2), 2)
    );
    assert_eq!(
        error_of(b"\x92\x01\x91\x82\xa1a\x01"),
        (BatchErrorKind::Length(2), 3)
    );
    let decoded = decode(
        b"\x92\x01\xdd\x00\x00\x00\x02\x01\x01",
        &mut Scratch::default(),
    );
    assert_eq!(decoded.events.len(), 2);
    assert!(decoded.end.is_ok());
}

#[test]
fn a_hundred_thousand_levels_are_refused_at_the_limit() {
    for (place, opening) in PLACES {
        for level in [&b"\x91"[..], b"\x81\x00", b"\x81"] {
            let payload = [opening, &level.repeat(100_000)].concat();
            let (kind, offset) = error_of(&payload);
            match kind {
                BatchErrorKind::Nesting => assert!(offset <= opening.len() + 2 * 16, "{place}"),
                // Where the shape of the batch itself settles it sooner.
                BatchErrorKind::Field(_) | BatchErrorKind::Missing(_) => {
                    assert!(offset <= opening.len() + 1)
                }
                kind => panic!("{place}: {kind}"),
            }
        }
    }
}

#[test]
fn nesting_is_allowed_up_to_the_limit_whatever_the_shape_of_the_batch() {
    // The batch, its events and the event are three levels.
    for (inner, allowed) in [(NESTING_MAX - 3, true), (NESTING_MAX - 2, false)] {
        let field = [&b"\x91".repeat(inner as usize - 1)[..], b"\x90"].concat();
        let event = [b"\x82\xa4type\xb0AllBlocksCleared\xa1x", &field[..]].concat();
        for opening in [&b"\x92\x01\x91"[..], b"\x82\xa2ts\x01\xa6events\x91"] {
            let payload = [opening, &event].concat();
            let decoded = decode(&payload, &mut Scratch::default());
            match allowed {
                true => assert_eq!(decoded.events, [Seen::Cleared]),
                false => assert_eq!(error_of(&payload).0, BatchErrorKind::Nesting),
            }
            assert_eq!(decoded.end.is_ok(), allowed);
        }
    }
}

/// An event that claims the bytes of those after it makes the decoder reserve room for them. The
/// walk over that event then takes them too, so the claim is not made again by each of them.
#[test]
fn an_event_that_claims_the_bytes_of_the_others_takes_them() {
    let event = b"\x96\xabBlockStored\xdc\x40\x00\xa1x";
    let payload = [b"\x92\x01\xdc\x40\x00", &event.repeat(0x4000)[..]].concat();
    let mut scratch = Scratch::default();
    let decoded = decode(&payload, &mut scratch);
    assert_eq!(decoded.events, []);
    assert!(decoded.end.is_err());
    assert!(scratch.heap_bytes() <= 8 * 0x4000);
}
