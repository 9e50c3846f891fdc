//! Bytes that are no dump: cut off, turned over, made up, or against what can be. Each is refused, or is what some
//! worker may hold; none panics, takes more memory than in proportion, or leaves anything behind.
#[path = "histories/by_hand.rs"]
mod by_hand;
#[path = "histories/slices.rs"]
mod slices;

use by_hand::{Bytes, index, names, offload, score, store, store_in};
use kvroute_engine::hash::SEED_DEFAULT;
use kvroute_engine::limits::{CONTEXTS_MAX, DUMP_ADAPTER_MAX, WAITING_MAX};
use kvroute_engine::types::{EngineHash, Tier};
use kvroute_engine::{
    DumpError, Dumped, DumpedParent, RestoreError, RestoreReport, WindowError, WindowGroup,
};
use slices::{Random, dump, restore};

/// A dump that has something of everything.
fn rich() -> Vec<u8> {
    let (index, at) = index(None);
    let mut writer = index.writer("m").unwrap();
    store(&mut writer, &at, None, &[(1, 1), (2, 2), (3, 3), (4, 4)]);
    store(&mut writer, &at, Some(2), &[(5, 5), (6, 6)]);
    store(&mut writer, &at, None, &[(7, 1), (8, 2)]);
    store_in(&mut writer, &at, Some("a"), None, &[(9, 1)]);
    store(&mut writer, &at, Some(99), &[(10, 1), (11, 2)]);
    store(&mut writer, &at, None, &[(9, 2)]);
    offload(&mut writer, &at, 4);
    offload(&mut writer, &at, 12);
    for (number, name) in [(1, 3), (4, 6), (4, 50)] {
        let group = WindowGroup { number, blocks: 2 };
        let hash = [EngineHash(name)];
        writer.store_window(&at, group, Tier::Gpu, &hash).unwrap();
    }
    writer.remove(&at, Tier::Gpu, &names([1, 3]));
    dump(&writer, &mut Random(9))
}

/// Reads whatever bytes, and all that they say; whether they can be read.
fn try_read(bytes: &[u8]) -> bool {
    let Ok(dumped) = Dumped::read(bytes) else {
        return false;
    };
    for (at, run) in dumped.runs().iter().enumerate() {
        assert!(run.context() < dumped.contexts().len());
        let blocks = run.keys().len() as u16;
        let held: Vec<_> = run.ordinary().collect();
        assert!(dumped.names(at).iter().all(|name| name.offset < blocks));
        for offset in 0..blocks {
            let (ordinary, others) = dumped.names_of(at, offset);
            let listed = held.iter().find(|name| name.0 == offset);
            assert_eq!(ordinary, listed.map(|name| name.1));
            assert!(others.iter().all(|name| name.offset == offset));
        }
        if let DumpedParent::Block { run, at: before } = run.parent() {
            assert!(run < at && usize::from(before) < dumped.runs()[run].keys().len());
        }
    }
    true
}

/// Restores whatever bytes. Nothing may panic, the writer is as good as any after it, and all of it can be cleared;
/// no more is allocated than in proportion.
fn try_restore(bytes: &[u8]) -> Result<RestoreReport, RestoreError> {
    let (index, at) = index(None);
    let mut writer = index.writer("m").unwrap();
    let mut result = Err(RestoreError::Truncated);
    let counted = allocation_counter::measure(|| {
        let seed = bytes.iter().map(|&byte| u64::from(byte)).sum();
        result = restore(&mut writer, &at, bytes, &mut Random(seed));
    });
    let most = 32 * 1024 + 64 * bytes.len() as u64;
    assert!(counted.bytes_max < most, "{} of {most}", counted.bytes_max);
    if result.is_err() {
        assert_eq!((writer.blocks(), writer.waiting()), (0, 0));
        while !writer.settle(&at, 100) {}
        assert_eq!(index.bytes(), 0);
    }
    assert!(
        try_read(bytes) || result.is_err(),
        "what is restored can be read"
    );
    let again = dump(&writer, &mut Random(1));
    assert_eq!(again.last(), Some(&7));
    store(&mut writer, &at, None, &[(1, 1), (2, 2), (70, 3)]);
    writer.remove(&at, Tier::Gpu, &names(0..100));
    writer.clear(&at);
    while !writer.settle(&at, 100) {}
    writer.forget_windows();
    assert_eq!(index.bytes(), 0);
    result
}

#[test]
fn a_dump_that_is_cut_off_is_refused() {
    let bytes = rich();
    for len in 0..bytes.len() {
        assert_eq!(try_restore(&bytes[..len]), Err(RestoreError::Truncated));
    }
    let report = try_restore(&bytes).unwrap();
    assert_eq!(report.dropped, 0);
    assert_eq!((report.stored, report.waiting), (6, 4));
}

#[test]
fn bytes_that_are_turned_over_do_no_harm() {
    let bytes = rich();
    let mut refused = 0;
    for at in 0..bytes.len() * 8 {
        let mut bytes = bytes.clone();
        bytes[at / 8] ^= 1 << (at % 8);
        refused += usize::from(try_restore(&bytes).is_err());
    }
    assert!(
        refused > bytes.len(),
        "{refused} of {} bits",
        bytes.len() * 8
    );
    let mut random = Random(3);
    for _ in 0..20_000 {
        let mut bytes = bytes.clone();
        for _ in 0..1 + random.below(4) {
            let at = random.below(bytes.len());
            bytes[at] = [0, 1, 7, 0xff, random.below(256) as u8][random.below(5)];
        }
        _ = try_restore(&bytes);
    }
}

#[test]
fn made_up_bytes_do_no_harm() {
    let mut random = Random(5);
    for _ in 0..20_000 {
        let mut bytes = Bytes::plain(random.below(20) as u64);
        for _ in 0..random.below(12) {
            // Records of small numbers, so that many are right.
            let number = |random: &mut Random| random.below(6) as u64;
            bytes = match random.below(8) {
                0 => bytes.u8(1).u32(number(&mut random) as u32).u16(0),
                1 => bytes.u8(2).u32(number(&mut random) as u32).u32(2),
                2 => bytes.u8(3).u8(0).u16(1).u32(1).u64(number(&mut random)),
                3..6 => {
                    let blocks = 1 + random.below(4) as u16;
                    let held = random.below(blocks.into()) as u16;
                    let stretches = [(0, held)];
                    let stretches = &stretches[..usize::from(held > 0)];
                    let [parent, at] = [(); 2].map(|()| random.below(4) as u32);
                    let run = bytes.run(blocks, stretches, parent, at, 1);
                    let run = (0..blocks).fold(run, |run, _| run.key(random.below(3) as u32));
                    (0..held).fold(run, |run, _| run.u64(random.below(40) as u64))
                }
                6 => {
                    let [run, offset] = [(); 2].map(|()| random.below(4));
                    let name = bytes.name(run as u32, offset as u16, number(&mut random));
                    name.u8(1 + random.below(7) as u8)
                }
                _ => bytes
                    .u8(6)
                    .u64(number(&mut random))
                    .u8(1)
                    .u8(random.below(2) as u8),
            };
        }
        _ = try_restore(&bytes.end().0);
        let raw: Vec<_> = (0..random.below(60))
            .map(|_| random.below(9) as u8)
            .collect();
        _ = try_restore(&Bytes::plain(3).raw(&raw).0);
    }
}

#[test]
fn lengths_that_are_said_are_not_believed() {
    let long = |bytes: Bytes| try_restore(&bytes.0).unwrap_err();
    assert_eq!(long(Bytes::header(0, u64::MAX)), RestoreError::Truncated);
    let run = Bytes::plain(1).run(1_024, &[(0, 1_024)], 0, 0, 0).key(1);
    assert_eq!(long(run), RestoreError::Truncated);
    let members = Bytes::plain(1).u8(2).u32(1).u32(1).u8(3).u8(0);
    assert_eq!(long(members.u16(1_024).u32(1)), RestoreError::Truncated);
    let adapter = Bytes::header(0, 1)
        .u8(1)
        .u32(1)
        .u16(DUMP_ADAPTER_MAX as u16);
    assert_eq!(long(adapter), RestoreError::Truncated);
}

fn value(field: &'static str, value: u64) -> RestoreError {
    RestoreError::Value { field, value }
}

/// Two blocks after all that.
fn one(bytes: Bytes) -> Bytes {
    let run = bytes.run(2, &[(0, 2)], 0, 0, 0).key(1).key(2);
    run.u64(1).u64(2)
}

/// A context, and that there are two names.
fn plain() -> Bytes {
    Bytes::plain(2)
}

fn are_refused<const N: usize>(refused: [(Bytes, RestoreError); N]) {
    for (at, (bytes, error)) in refused.into_iter().enumerate() {
        assert_eq!(try_restore(&bytes.0), Err(error), "number {at}");
    }
    let right = try_restore(&one(plain()).end().0);
    assert_eq!(right.map(|report| report.stored), Ok(2));
}

#[test]
fn heads_that_make_no_sense_are_refused() {
    let contexts = (0..CONTEXTS_MAX as u32).fold(plain(), |b, n| b.u8(1).u32(n % 8 + 1).u16(0));
    let other_seed = Bytes::default().raw(b"kvd\x01").u64(7).u8(0).u64(0);
    let seed = RestoreError::Seed {
        dump: 7,
        index: SEED_DEFAULT,
    };
    let names = RestoreError::Names { said: 3, found: 2 };
    let long = value("adapter's length", 8_193);
    let version = RestoreError::Version(*b"kvd\x02");
    are_refused([
        (Bytes::default().raw(b"kvd\x02"), version),
        (other_seed, seed),
        (Bytes::header(2, 0), value("incomplete", 2)),
        (plain().u8(8), RestoreError::Record(8)),
        (one(plain()).u8(1).u32(1).u16(0), RestoreError::Order(1)),
        (plain().u8(1).u32(0).u16(0), value("block size", 0)),
        (plain().u8(1).u32(8_193).u16(0), value("block size", 8_193)),
        (plain().u8(1).u32(1).u16(8_193), long),
        (plain().u8(1).u32(1).u16(1).u8(0xff), RestoreError::Adapter),
        (contexts, value("contexts", CONTEXTS_MAX as u64)),
        (one(Bytes::plain(3)).end(), names),
    ]);
}

#[test]
fn window_groups_that_make_no_sense_are_refused() {
    let group = || plain().u8(2).u32(1).u32(2);
    let many = (0..17).fold(plain(), |bytes, n| bytes.u8(2).u32(n).u32(1));
    let members = |count, copies| group().u8(3).u8(0).u16(count).u32(copies);
    let changed = WindowError::Changed {
        number: 1,
        before: 2,
        now: 3,
    };
    let twice = RestoreError::NamedTwice(EngineHash(1));
    are_refused([
        (plain().u8(2).u32(1).u32(0), value("window", 0)),
        (group().u8(2).u32(1).u32(2), value("window group", 0)),
        (group().u8(2).u32(1).u32(3), changed.into()),
        (many, WindowError::TooMany.into()),
        (
            plain().u8(3).u8(0).u16(1).u32(1).u64(1),
            value("window group", 0),
        ),
        (
            group().u8(3).u8(1).u16(1).u32(1).u64(1),
            value("window group", 1),
        ),
        (members(0, 1), value("members", 0)),
        (members(1_025, 1), value("members", 1_025)),
        (members(1, 0), value("copies", 0)),
        (members(2, 1).u64(1).u64(1), twice),
    ]);
}

#[test]
fn runs_that_make_no_sense_are_refused() {
    let long = value("blocks of stretches", 3);
    let twice = one(plain()).run(1, &[(0, 1)], 1, 1, 0).key(3).u64(2);
    let again = one(plain()).run(1, &[(0, 1)], 0, 0, 0).key(1).u64(3);
    are_refused([
        (plain().run(0, &[], 0, 0, 0), value("blocks", 0)),
        (plain().run(1_025, &[], 0, 0, 0), value("blocks", 1_025)),
        (plain().run(2, &[(0, 1); 3], 0, 0, 0), value("stretches", 3)),
        (plain().run(2, &[(0, 0)], 0, 0, 0), value("stretch", 0)),
        (plain().run(2, &[(1, 2)], 0, 0, 0), long),
        (plain().run(1, &[], 0, 1, 0).key(1), value("context", 1)),
        (plain().run(1, &[], 1, 0, 0).key(1), value("run", 0)),
        (one(plain()).run(1, &[], 2, 0, 0).key(1), value("run", 1)),
        (one(plain()).run(1, &[], 1, 2, 0).key(1), value("offset", 2)),
        (plain().run(1, &[], 0, 0, 0).u64(0), value("block key", 0)),
        (twice, RestoreError::NamedTwice(EngineHash(2))),
        (again, RestoreError::HeldTwice(EngineHash(3))),
    ]);
}

#[test]
fn names_that_make_no_sense_are_refused() {
    let waits = |bytes: Bytes, name| bytes.u8(6).u64(name).u8(1);
    let twice = || RestoreError::NamedTwice(EngineHash(2));
    let orphan = |bytes, parent, key, context| {
        let orphan = waits(bytes, 3).u8(2);
        orphan.u64(parent).u64(key).u16(context)
    };
    let late = waits(one(plain()), 7).u8(0).run(1, &[], 0, 0, 0).key(1);
    let there = RestoreError::NoOrphan(EngineHash(3));
    are_refused([
        (plain().name(0, 0, 3).u8(1), value("run", 0)),
        (one(plain()).name(0, 2, 3).u8(1), value("offset", 2)),
        (one(plain()).name(0, 0, 3).u8(0), value("copies", 0)),
        (one(plain()).name(0, 0, 3).u8(16), value("copies", 16)),
        (one(plain()).name(0, 0, 3).u8(8), value("tiers", 0)),
        (one(plain()).name(0, 0, 3).u8(9).u32(0), value("copies", 0)),
        (one(plain()).name(0, 0, 2).u8(1), twice()),
        (waits(one(plain()), 2).u8(0), twice()),
        (waits(plain(), 3).u8(4), value("why", 4)),
        (orphan(plain(), 8, 0, 0), value("block key", 0)),
        (orphan(plain(), 8, 5, 1), value("context", 1)),
        (orphan(one(plain()), 2, 5, 0), there),
        (late, RestoreError::Order(4)),
    ]);
}
#[test]
fn names_that_wait_are_bounded_but_for_conflicts() {
    let waiting = |count: usize, why: u8| {
        let bytes = Bytes::header(1, count as u64);
        let names = 0..count as u64;
        let bytes = names.fold(bytes, |bytes, n| bytes.u8(6).u64(n).u8(1).u8(why));
        try_restore(&bytes.end().0).map(|report| report.waiting)
    };
    assert_eq!(waiting(WAITING_MAX, 0), Ok(WAITING_MAX as u64));
    let beyond = WAITING_MAX as u64 + 1;
    assert_eq!(
        waiting(WAITING_MAX + 1, 0),
        Err(value("waiting names", beyond))
    );
    // They may be as many as names had places.
    assert_eq!(waiting(WAITING_MAX + 1, 1), Ok(beyond));
}

#[test]
fn members_without_a_place_are_bounded() {
    let bytes = Bytes::header(0, 0).u8(2).u32(1).u32(1);
    let record = |bytes: Bytes, first: u64| {
        let bytes = bytes.u8(3).u8(0).u16(1_024).u32(1);
        (first..first + 1_024).fold(bytes, Bytes::u64)
    };
    let all = (0..65).fold(bytes, |bytes, n| record(bytes, n * 1_024));
    let (index, at) = index(None);
    let mut writer = index.writer("m").unwrap();
    restore(&mut writer, &at, &all.end().0, &mut Random(1)).unwrap();
    assert!(writer.incomplete(), "some were dropped");
    store(&mut writer, &at, None, &[(5, 1)]);
    assert_eq!(score(&at, &[1]), [0; 3], "a member that was dropped");
}

#[test]
fn an_adapter_with_a_very_long_name_is_not_dumped() {
    let (index, at) = index(None);
    let mut writer = index.writer("m").unwrap();
    let name = "a".repeat(DUMP_ADAPTER_MAX);
    store_in(&mut writer, &at, Some(&name), None, &[(1, 1)]);
    assert!(try_restore(&dump(&writer, &mut Random(1))).is_ok());
    let name = "a".repeat(DUMP_ADAPTER_MAX + 1);
    store_in(&mut writer, &at, Some(&name), None, &[(2, 1)]);
    let written = writer.dump().write_some(&writer, &mut Vec::new(), 1);
    assert_eq!(written, Err(DumpError::Adapter(name.len())));
}
