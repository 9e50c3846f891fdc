//! The bytes of dumps: worked by hand, cut off, turned over, made up; bounds; and what is refused.
#[path = "histories/slices.rs"]
mod slices;

use kvroute_engine::hash::{ExtraDigest, SEED_DEFAULT, block_key};
use kvroute_engine::limits::{CONTEXTS_MAX, DUMP_ADAPTER_MAX, WAITING_MAX};
use kvroute_engine::types::{EngineHash, Tier};
use kvroute_engine::{
    Budget, DumpError, Index, IndexConfig, Matches, Participant, RestoreError, RestoreReport,
    Store, TokenKeys, WindowError, WindowGroup, Writer,
};
use slices::{Random, dump, restore};
use std::sync::Arc;

fn index(bytes: Option<u64>) -> (Arc<Index>, Participant) {
    let budget = Budget {
        bytes,
        ..Budget::default()
    };
    let index = Index::new(IndexConfig {
        budget,
        ..IndexConfig::default()
    });
    let at = index.participant();
    (index, at)
}

/// Stores blocks of one token after a parent. A block's name is its number.
fn store(writer: &mut Writer, at: &Participant, parent: Option<u64>, blocks: &[(u64, u32)]) {
    store_in(writer, at, None, parent, blocks);
}

fn store_in(
    writer: &mut Writer,
    at: &Participant,
    adapter: Option<&str>,
    parent: Option<u64>,
    blocks: &[(u64, u32)],
) {
    let event = Store {
        adapter,
        block_size: 1,
        tier: Tier::Gpu,
        parent: parent.map(EngineHash),
        hashes: &names(blocks.iter().map(|block| block.0)),
        tokens: &blocks.iter().map(|block| block.1).collect::<Vec<_>>(),
        extra: &[],
        says_extra: true,
    };
    writer.store(at, &event).unwrap();
}

/// A further copy, by name only.
fn offload(writer: &mut Writer, at: &Participant, name: u64) {
    let event = Store {
        adapter: None,
        block_size: 0,
        tier: Tier::Cpu,
        parent: None,
        hashes: &[EngineHash(name)],
        tokens: &[],
        extra: &[],
        says_extra: true,
    };
    writer.store(at, &event).unwrap();
}

fn names(numbers: impl IntoIterator<Item = u64>) -> Vec<EngineHash> {
    numbers.into_iter().map(EngineHash).collect()
}

/// Leading blocks of a prompt by tier, for the only worker.
fn score(at: &Participant, tokens: &[u32]) -> [u32; 3] {
    let mut out = Matches::new();
    for context in at.pin().contexts("m", None) {
        let mut keys = TokenKeys::new(SEED_DEFAULT, 1, tokens, &[]);
        context.lookup(&mut keys, &mut out);
    }
    out.hits().first().map_or([0; 3], |hit| hit.blocks)
}

/// Bytes put together one after the other.
#[derive(Clone, Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn header(incomplete: u8, names: u64) -> Self {
        let bytes = Self::default().raw(b"kvd\x01").u64(SEED_DEFAULT);
        bytes.u8(incomplete).u64(names)
    }

    /// The header of that many names, and the context of blocks of one token.
    fn plain(names: u64) -> Self {
        Self::header(0, names).u8(1).u32(1).u16(0)
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u8(self, number: u8) -> Self {
        self.raw(&[number])
    }

    fn u16(self, number: u16) -> Self {
        self.raw(&number.to_le_bytes())
    }

    fn u32(self, number: u32) -> Self {
        self.raw(&number.to_le_bytes())
    }

    fn u64(self, number: u64) -> Self {
        self.raw(&number.to_le_bytes())
    }

    /// The key of a block of one token.
    fn key(self, token: u32) -> Self {
        self.u64(block_key(SEED_DEFAULT, &[token], ExtraDigest::NONE).get())
    }

    fn run(self, blocks: u16, stretches: &[(u16, u16)], parent: u32, at: u32, age: u32) -> Self {
        let run = self.u8(4).u16(blocks).u16(stretches.len() as u16);
        let run = run.u32(parent).u32(at).u32(age);
        let stretches = stretches.iter();
        stretches.fold(run, |run, &(skipped, held)| run.u16(skipped).u16(held))
    }

    fn name(self, run: u32, offset: u16, hash: u64) -> Self {
        self.u8(5).u32(run).u16(offset).u64(hash)
    }

    fn end(self) -> Self {
        self.u8(7)
    }
}

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
    is_dump(&writer, &bytes.key(77).u64(5).end(), |writer, at| {
        let branch: Vec<_> = (0..1_200).chain([77]).collect();
        assert_eq!(score(at, &branch), [0; 3]);
        store(writer, at, None, &long[..1_200]);
        assert_eq!(score(at, &branch), [1_201; 3]);
    });
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

#[test]
fn what_makes_no_sense_is_refused() {
    use RestoreError as E;
    let one = |bytes: Bytes| bytes.run(2, &[(0, 2)], 0, 0, 0).key(1).key(2).u64(1).u64(2);
    let plain = || Bytes::plain(2);
    let waits = |bytes: Bytes, name| bytes.u8(6).u64(name).u8(1);
    let groups = (0..17).fold(plain(), |bytes, n| bytes.u8(2).u32(n).u32(1));
    let contexts = (0..CONTEXTS_MAX as u32).fold(plain(), |b, n| b.u8(1).u32(n % 8 + 1).u16(0));
    let other_seed = Bytes::default().raw(b"kvd\x01").u64(7).u8(0).u64(0);
    let seed = E::Seed {
        dump: 7,
        index: SEED_DEFAULT,
    };
    let refused = [
        (Bytes::default().raw(b"kvd\x02"), E::Version(*b"kvd\x02")),
        (other_seed, seed),
        (Bytes::header(2, 0), value("incomplete", 2)),
        (plain().u8(8), E::Record(8)),
        (one(plain()).u8(1).u32(1).u16(0), E::Order(1)),
        (
            waits(one(plain()), 7).u8(0).run(1, &[], 0, 0, 0).key(1),
            E::Order(4),
        ),
        (plain().u8(1).u32(0).u16(0), value("block size", 0)),
        (plain().u8(1).u32(8_193).u16(0), value("block size", 8_193)),
        (
            plain().u8(1).u32(1).u16(8_193),
            value("adapter's length", 8_193),
        ),
        (plain().u8(1).u32(1).u16(1).u8(0xff), E::Adapter),
        (contexts, value("contexts", CONTEXTS_MAX as u64)),
        (plain().u8(2).u32(1).u32(0), value("window", 0)),
        (
            plain().u8(2).u32(1).u32(2).u8(2).u32(1).u32(2),
            value("window group", 0),
        ),
        (groups, WindowError::TooMany.into()),
        (
            plain().u8(3).u8(0).u16(1).u32(1).u64(1),
            value("window group", 0),
        ),
        (
            plain().u8(2).u32(1).u32(2).u8(3).u8(0).u16(0).u32(1),
            value("members", 0),
        ),
        (
            plain().u8(2).u32(1).u32(2).u8(3).u8(0).u16(1).u32(0),
            value("copies", 0),
        ),
        (
            plain()
                .u8(2)
                .u32(1)
                .u32(2)
                .u8(3)
                .u8(0)
                .u16(2)
                .u32(1)
                .u64(1)
                .u64(1),
            E::NamedTwice(EngineHash(1)),
        ),
        (plain().run(0, &[], 0, 0, 0), value("blocks", 0)),
        (plain().run(1_025, &[], 0, 0, 0), value("blocks", 1_025)),
        (plain().run(2, &[(0, 1); 3], 0, 0, 0), value("stretches", 3)),
        (plain().run(2, &[(0, 0)], 0, 0, 0), value("stretch", 0)),
        (
            plain().run(2, &[(1, 2)], 0, 0, 0),
            value("blocks of stretches", 3),
        ),
        (plain().run(1, &[], 0, 1, 0).key(1), value("context", 1)),
        (plain().run(1, &[], 1, 0, 0).key(1), value("run", 0)),
        (one(plain()).run(1, &[], 2, 0, 0).key(1), value("run", 1)),
        (one(plain()).run(1, &[], 1, 2, 0).key(1), value("offset", 2)),
        (plain().run(1, &[], 0, 0, 0).u64(0), value("block key", 0)),
        (
            one(plain()).run(1, &[(0, 1)], 1, 1, 0).key(3).u64(2),
            E::NamedTwice(EngineHash(2)),
        ),
        (
            one(plain()).run(1, &[(0, 1)], 0, 0, 0).key(1).u64(3),
            E::HeldTwice(EngineHash(3)),
        ),
        (plain().name(0, 0, 3).u8(1), value("run", 0)),
        (one(plain()).name(0, 2, 3).u8(1), value("offset", 2)),
        (one(plain()).name(0, 0, 3).u8(0), value("copies", 0)),
        (one(plain()).name(0, 0, 3).u8(16), value("copies", 16)),
        (one(plain()).name(0, 0, 3).u8(8), value("tiers", 0)),
        (one(plain()).name(0, 0, 3).u8(9).u32(0), value("copies", 0)),
        (
            one(plain()).name(0, 0, 2).u8(1),
            E::NamedTwice(EngineHash(2)),
        ),
        (waits(one(plain()), 2).u8(0), E::NamedTwice(EngineHash(2))),
        (waits(plain(), 3).u8(4), value("why", 4)),
        (
            waits(plain(), 3).u8(2).u64(8).u64(0).u16(0),
            value("block key", 0),
        ),
        (
            waits(plain(), 3).u8(2).u64(8).u64(5).u16(1),
            value("context", 1),
        ),
        (
            waits(one(plain()), 3).u8(2).u64(2).u64(5).u16(0),
            E::NoOrphan(EngineHash(3)),
        ),
        (one(Bytes::plain(3)).end(), E::Names { said: 3, found: 2 }),
    ];
    for (at, (bytes, error)) in refused.into_iter().enumerate() {
        assert_eq!(try_restore(&bytes.0), Err(error), "number {at}");
    }
    assert_eq!(
        try_restore(&one(plain()).end().0).map(|report| report.stored),
        Ok(2)
    );
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
