//! Dumps worked by hand: the bytes, and what they restore to; budgets and ages; workers that do not rest.
#[path = "histories/by_hand.rs"]
mod by_hand;
#[path = "histories/slices.rs"]
mod slices;

use by_hand::{Bytes, index, names, offload, score, store, store_in};
use kvroute_engine::hash::{ExtraDigest, SEED_DEFAULT, block_key};
use kvroute_engine::types::{EngineHash, Tier};
use kvroute_engine::{
    DumpError, Dumped, DumpedName, DumpedParent, Index, Participant, RestoreError, RestoreReport,
    WindowGroup, Writer,
};
use slices::{Random, dump, restore};
use std::sync::Arc;

/// The dump is this one, and restores to what `check` says.
fn is_dump(writer: &Writer, expected: &Bytes, check: impl Fn(&mut Writer, &Participant)) {
    let written = dump(writer, &mut Random(1));
    assert_eq!(written, expected.0);
    let (index, at) = index(None);
    let mut restored = index.writer("m").unwrap();
    let report = restore(&mut restored, &at, &written, &mut Random(2)).unwrap();
    let expected = RestoreReport {
        stored: writer.blocks(),
        waiting: writer.waiting() as u64,
        dropped: 0,
    };
    assert_eq!(report, expected);
    assert_eq!(restored.incomplete(), writer.incomplete());
    check(&mut restored, &at);
    restored.clear(&at);
    restored.forget_windows();
    assert_eq!(index.bytes(), 0);
}

#[test]
fn an_empty_worker() {
    let (index, _) = index(None);
    let writer = index.writer("m").unwrap();
    is_dump(&writer, &Bytes::header(0, 0).end(), |_, _| {});
}

#[test]
fn a_chain_with_a_hole_and_a_copy_elsewhere() {
    let (index, at) = index(None);
    let mut writer = index.writer("m").unwrap();
    store(&mut writer, &at, None, &[(10, 1), (11, 2), (12, 3)]);
    let chain = |bytes: Bytes| bytes.key(1).key(2).key(3);
    let bytes = chain(Bytes::plain(3).run(3, &[(0, 3)], 0, 0, 0));
    is_dump(&writer, &bytes.u64(10).u64(11).u64(12).end(), |_, at| {
        assert_eq!(score(at, &[1, 2, 3, 4]), [3; 3]);
    });
    writer.remove(&at, Tier::Gpu, &[EngineHash(11)]);
    let bytes = chain(Bytes::plain(2).run(3, &[(0, 1), (1, 1)], 0, 0, 0));
    is_dump(&writer, &bytes.u64(10).u64(12).end(), |writer, at| {
        assert_eq!(score(at, &[1, 2, 3]), [1; 3]);
        store(writer, at, Some(10), &[(13, 2)]);
        assert_eq!(score(at, &[1, 2, 3]), [3; 3], "the hole has healed");
    });
    offload(&mut writer, &at, 12);
    let bytes = chain(Bytes::plain(2).run(3, &[(0, 1)], 0, 0, 0)).u64(10);
    let bytes = bytes.name(0, 2, 12).u8(0b011).end();
    is_dump(&writer, &bytes, |writer, at| {
        store(writer, at, Some(10), &[(13, 2)]);
        writer.remove(at, Tier::Gpu, &[EngineHash(12)]);
        assert_eq!(score(at, &[1, 2, 3]), [2, 3, 3]);
    });
    store(&mut writer, &at, None, &[(10, 1)]);
    // The run was used in the event before the last one, which the copy by name alone is not.
    let bytes = chain(Bytes::plain(2).run(3, &[], 0, 0, 0));
    let [twice, other] = [
        bytes.clone().name(0, 0, 10).u8(0b1001).u32(2),
        bytes.name(0, 2, 12).u8(0b011),
    ];
    let written = dump(&writer, &mut Random(3));
    // Names that are not ordinary come in any order.
    let either = [
        twice.clone().name(0, 2, 12).u8(0b011).end(),
        other.name(0, 0, 10).u8(0b1001).u32(2).end(),
    ];
    assert!(either.iter().any(|bytes| bytes.0 == written));
}

#[test]
fn a_dump_is_read_run_by_run() {
    let keys = |bytes: Bytes| bytes.key(1).key(2).key(3);
    let bytes = Bytes::plain(6).u8(1).u32(4).u16(2).raw(b"fr");
    let bytes = keys(bytes.run(3, &[(0, 1), (1, 1)], 1, 1, 0))
        .u64(10)
        .u64(12);
    // It follows block 2 of the run before.
    let bytes = bytes.run(1, &[], 1, 2, 0).key(9);
    let bytes = bytes
        .name(1, 0, 14)
        .u8(0b010)
        .name(0, 1, 11)
        .u8(0b1001)
        .u32(2);
    let bytes = bytes.name(0, 2, 13).u8(0b110);
    let bytes = bytes.u8(6).u64(20).u8(1).u8(0).end();
    // A run that begins a prompt has no parent; the one above says it follows a run that is not there.
    let wrong = Dumped::read(&bytes.0).unwrap_err();
    assert_eq!(
        wrong,
        RestoreError::Value {
            field: "run",
            value: 0
        }
    );
    let mut right = bytes.0;
    let parent = Bytes::plain(6).0.len() + 9 + 5;
    right[parent] = 0;
    let dumped = Dumped::read(&right).unwrap();
    assert_eq!(dumped.contexts(), [("", 1), ("fr", 4)]);
    assert_eq!((dumped.waiting(), dumped.members()), (1, 0));
    let [first, second] = dumped.runs() else {
        panic!("{:?}", dumped.runs());
    };
    assert_eq!((first.parent(), first.context()), (DumpedParent::Root, 1));
    let after = DumpedParent::Block { run: 0, at: 2 };
    assert_eq!((second.parent(), second.context()), (after, 1));
    let key = |token| block_key(SEED_DEFAULT, &[token], ExtraDigest::NONE);
    assert!(first.keys().eq([1, 2, 3].map(key)));
    let ordinary = [(0, EngineHash(10)), (2, EngineHash(12))];
    assert!(first.ordinary().eq(ordinary));
    assert_eq!(second.ordinary().count(), 0);
    let name = |run, offset, hash, copies| DumpedName {
        run,
        offset,
        hash: EngineHash(hash),
        copies,
    };
    let others = [name(0, 1, 11, [2, 0, 0]), name(0, 2, 13, [0, 1, 1])];
    assert_eq!(dumped.names(0), others);
    assert_eq!(dumped.names(1), [name(1, 0, 14, [0, 1, 0])]);
    assert_eq!(dumped.names_of(0, 2), (Some(EngineHash(12)), &others[1..]));
    assert_eq!(dumped.names_of(0, 1), (None, &others[..1]));
    assert_eq!(dumped.names_of(2, 0), (None, &[][..]));
}

#[test]
fn branches_long_runs_and_ways_through() {
    let (index, at) = index(None);
    let mut writer = index.writer("m").unwrap();
    let long: Vec<_> = (0..1_500_u32).map(|n| (1_000 + u64::from(n), n)).collect();
    store(&mut writer, &at, None, &long);
    store(&mut writer, &at, Some(1_000 + 1_199), &[(5, 77)]);
    let keys = |bytes: Bytes, range: std::ops::Range<u32>| range.fold(bytes, Bytes::key);
    let hashes =
        |bytes: Bytes, range: std::ops::Range<u64>| range.fold(bytes, |b, n| b.u64(1_000 + n));
    let bytes = keys(
        Bytes::plain(1_501).run(1_024, &[(0, 1_024)], 0, 0, 1),
        0..1_024,
    );
    let bytes = hashes(bytes, 0..1_024).run(476, &[(0, 476)], 1, 1_023, 1);
    let bytes = hashes(keys(bytes, 1_024..1_500), 1_024..1_500);
    // It follows block 1,199 of the chain, which is block 175 of the second record.
    let bytes = bytes.run(1, &[(0, 1)], 2, 175, 0).key(77).u64(5);
    is_dump(&writer, &bytes.end(), |_, at| {
        let all: Vec<_> = (0..1_500).collect();
        assert_eq!(score(at, &all), [1_500; 3]);
        let branch: Vec<_> = (0..1_200).chain([77]).collect();
        assert_eq!(score(at, &branch), [1_201; 3]);
    });
    // Only the branch is left: the chain is the way to it.
    writer.remove(&at, Tier::Gpu, &names(1_000..2_500));
    let bytes = Bytes::plain(1).run(1_024, &[], 0, 0, u32::MAX);
    let bytes = keys(bytes, 0..1_024).run(176, &[], 1, 1_023, u32::MAX);
    let bytes = keys(bytes, 1_024..1_200).run(1, &[(0, 1)], 2, 175, 0);
    let bytes = bytes.key(77).u64(5).end();
    the_way_is_not_held(&bytes.0, &long);
    is_dump(&writer, &bytes, |writer, at| {
        let branch: Vec<_> = (0..1_200).chain([77]).collect();
        assert_eq!(score(at, &branch), [0; 3]);
        store(writer, at, None, &long[..1_200]);
        assert_eq!(score(at, &branch), [1_201; 3]);
    });
}

/// Beside a worker that has the chain, from which the branch goes off there too.
fn the_way_is_not_held(bytes: &[u8], chain: &[(u64, u32)]) {
    let (index, at) = index(None);
    let mut other = index.writer("m").unwrap();
    store(&mut other, &at, None, chain);
    let before = index.bytes();
    let mut restored = index.writer("m").unwrap();
    restore(&mut restored, &at, bytes, &mut Random(2)).unwrap();
    restored.remove(&at, Tier::Gpu, &[EngineHash(5)]);
    assert_eq!(index.bytes(), before);
    drop(other);
    assert_eq!(index.bytes(), 0);
    drop(restored);
}

#[test]
fn waiting_names() {
    let (index, at) = index(None);
    let mut writer = index.writer("m").unwrap();
    store(&mut writer, &at, Some(8), &[(9, 2)]);
    let bytes = Bytes::plain(1)
        .u8(6)
        .u64(9)
        .u8(0b001)
        .u8(2)
        .u64(8)
        .key(2)
        .u16(0);
    is_dump(&writer, &bytes.end(), |writer, at| {
        assert_eq!(writer.orphans(), 1);
        store(writer, at, None, &[(8, 1)]);
        assert_eq!(score(at, &[1, 2]), [2; 3]);
    });
    writer.clear(&at);
    offload(&mut writer, &at, 9);
    is_dump(
        &writer,
        &Bytes::header(0, 1).u8(6).u64(9).u8(0b010).u8(0).end(),
        |writer, at| {
            store(writer, at, None, &[(9, 1)]);
            assert_eq!(score(at, &[1]), [1; 3]);
        },
    );
    writer.clear(&at);
    store(&mut writer, &at, None, &[(9, 1)]);
    store(&mut writer, &at, None, &[(9, 2)]);
    let bytes = Bytes::header(1, 1).u8(6).u64(9).u8(0b1001).u32(2).u8(1);
    is_dump(&writer, &bytes.end(), |writer, at| {
        store(writer, at, None, &[(9, 1)]);
        assert_eq!(score(at, &[1]), [0; 3]);
        for _ in 0..3 {
            writer.remove(at, Tier::Gpu, &[EngineHash(9)]);
        }
        store(writer, at, None, &[(9, 1)]);
        assert_eq!(score(at, &[1]), [1; 3]);
    });
}

#[test]
fn contexts_and_window_groups() {
    let (index, at) = index(None);
    let mut writer = index.writer("m").unwrap();
    let group = WindowGroup {
        number: 3,
        blocks: 1,
    };
    store_in(&mut writer, &at, Some("é"), None, &[(1, 1)]);
    store(&mut writer, &at, None, &[(2, 1), (3, 2)]);
    for name in [3, 3, 4] {
        let hash = [EngineHash(name)];
        writer.store_window(&at, group, Tier::Gpu, &hash).unwrap();
    }
    let bytes = Bytes::header(0, 3).u8(1).u32(1).u16(2).raw("é".as_bytes());
    let bytes = bytes.u8(1).u32(1).u16(0).u8(2).u32(3).u32(1);
    let bytes = bytes.u8(3).u8(0).u16(1).u32(1).u64(4);
    let bytes = bytes.u8(3).u8(0).u16(1).u32(2).u64(3);
    let bytes = bytes.run(1, &[(0, 1)], 0, 0, 1).key(1).u64(1);
    let bytes = bytes.run(2, &[(0, 2)], 0, 1, 0).key(1).key(2).u64(2).u64(3);
    is_dump(&writer, &bytes.end(), |writer, at| {
        assert_eq!(score(at, &[1, 2]), [2; 3]);
        assert_eq!(score(at, &[1]), [0; 3], "not in the window group");
        assert_eq!(at.pin().contexts("m", Some("é")).count(), 1);
        store(writer, at, Some(3), &[(4, 3)]);
        assert_eq!(score(at, &[1, 2, 3]), [3; 3]);
        writer.remove_window(at, 3, Tier::Gpu, &names([4, 3]));
        assert_eq!(score(at, &[1, 2, 3]), [2; 3]);
    });
}

/// Chains of 50 blocks on one worker; a block's name is its token.
fn chains(count: u32) -> (Arc<Index>, Participant, Writer) {
    let (index, at) = index(None);
    let mut writer = index.writer("m").unwrap();
    for n in 0..count {
        let chain: Vec<_> = (n * 50..n * 50 + 50).map(|t| (u64::from(t), t)).collect();
        store(&mut writer, &at, None, &chain);
    }
    (index, at, writer)
}

#[test]
fn a_restore_stays_within_the_budget() {
    const BYTES: u64 = 200_000;
    let (_index, at, mut large) = chains(1_000);
    // Chains that go on from others, and names that are not ordinary.
    for n in 0..1_000_u32 {
        let last = u64::from(n * 50 + 25);
        store(
            &mut large,
            &at,
            Some(last),
            &[(1_000_000 + u64::from(n), n)],
        );
        offload(&mut large, &at, last);
        offload(&mut large, &at, 2_000_000 + u64::from(n));
    }
    let bytes = dump(&large, &mut Random(1));
    let (index, at) = index(Some(BYTES));
    let mut writer = index.writer("m").unwrap();
    let report = restore(&mut writer, &at, &bytes, &mut Random(7)).unwrap();
    assert!(
        report.stored > 1_000 && report.dropped > 1_000,
        "{report:?}"
    );
    let names = large.blocks() + large.waiting() as u64;
    assert_eq!(report.stored + report.waiting + report.dropped, names);
    assert!(writer.incomplete());
    // What one call does is one event.
    assert!(index.bytes() < BYTES + 1_024 * 64, "{}", index.bytes());
    for n in (0..1_000_u32).step_by(7) {
        let mut chain: Vec<_> = (n * 50..n * 50 + 26).collect();
        chain.push(n);
        let [gpu, _, all] = score(&at, &chain);
        // The block that is named twice over may be missing, or the branch.
        assert!(
            [0, 25, 26, 27].contains(&all) && gpu == all,
            "{gpu} of {all}"
        );
    }
    writer.clear(&at);
    while !writer.settle(&at, 1_000) {}
    assert_eq!(index.bytes(), 0);
}

#[test]
fn what_was_used_last_is_known_after_a_restore() {
    let (_index, at, mut original) = chains(3);
    // The oldest chain is used again.
    store(&mut original, &at, None, &[(0, 0)]);
    let bytes = dump(&original, &mut Random(1));
    let restored = |budget| {
        let (index, at) = index(budget);
        let mut writer = index.writer("m").unwrap();
        restore(&mut writer, &at, &bytes, &mut Random(7)).unwrap();
        (index, at, writer)
    };
    let (unbounded, _at, _writer) = restored(None);
    let (_index, at, mut writer) = restored(Some(unbounded.bytes()));
    assert!(!writer.incomplete());
    // The first one exceeds the budget, the second one has to make room.
    store(&mut writer, &at, None, &[(500, 500)]);
    store(&mut writer, &at, None, &[(501, 501)]);
    let held = [0, 50, 100].map(|first| score(&at, &[first, first + 1])[0]);
    assert_eq!(held, [2, 0, 2]);
}

#[test]
fn a_worker_must_rest() {
    let (index, at) = index(None);
    let mut writer = index.writer("m").unwrap();
    let mut other = index.writer("m").unwrap();
    for writer in [&mut writer, &mut other] {
        store(writer, &at, None, &[(1, 1), (2, 2)]);
    }
    let mut begun = writer.dump();
    let mut out = Vec::new();
    assert_eq!(begun.write_some(&writer, &mut out, 0), Ok(false));
    assert_eq!(
        begun.write_some(&other, &mut out, 0),
        Err(DumpError::Changed)
    );
    assert!(writer.settle(&at, 1));
    assert_eq!(writer.trim(&at), 0);
    assert_eq!(
        begun.write_some(&writer, &mut out, 0),
        Ok(false),
        "nothing has changed"
    );
    writer.remove(&at, Tier::Gpu, &[EngineHash(2)]);
    assert_eq!(
        begun.write_some(&writer, &mut out, 0),
        Err(DumpError::Changed)
    );

    let bytes = dump(&other, &mut Random(1));
    assert_eq!(writer.restore().unwrap_err(), RestoreError::NotEmpty);
    writer.clear(&at);
    let mut begun = writer.restore().unwrap();
    assert!(writer.incomplete());
    let fed = begun.feed(&mut other, &at, &bytes, 1);
    assert_eq!(fed, Err(RestoreError::Changed));
    assert_eq!(other.blocks(), 2, "it was not touched");
    let taken = begun.feed(&mut writer, &at, &bytes, 1).unwrap();
    assert!(0 < taken && taken < bytes.len());
    let rest = &bytes[taken..];
    assert_eq!(
        begun.finish(&mut writer, &at, 1),
        Err(RestoreError::Truncated)
    );
    assert_eq!(
        begun.feed(&mut writer, &at, rest, 9),
        Err(RestoreError::Changed)
    );

    let mut begun = writer.restore().unwrap();
    let taken = begun.feed(&mut writer, &at, &bytes, 1).unwrap();
    store(&mut writer, &at, None, &[(7, 7)]);
    let fed = begun.feed(&mut writer, &at, &bytes[taken..], 9);
    assert_eq!(fed, Err(RestoreError::Changed));
    assert!(writer.blocks() == 1 && writer.incomplete());

    let group = WindowGroup {
        number: 1,
        blocks: 1,
    };
    writer.clear(&at);
    writer.store_window(&at, group, Tier::Gpu, &[]).unwrap();
    assert_eq!(writer.restore().unwrap_err(), RestoreError::NotEmpty);
    writer.forget_windows();
    assert!(writer.restore().is_ok());
}
