//! One record of a dump, from bytes: its form is checked here, what it says where it is applied.
use super::super::bytes::{self, Reader, RunHead, Short};
use super::super::names::Copies;
use super::super::waiting::Orphan;
use super::RestoreError;
use crate::limits::{BLOCK_SIZE_MAX, CONTEXTS_MAX, DUMP_ADAPTER_MAX, DUMP_BLOCKS_MAX};
use crate::types::{BlockKey, EngineHash, TIERS};

/// What a dump begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) seed: u64,
    pub(super) incomplete: bool,
    pub(super) names: u64,
}

/// A record. Lists are as they lie in the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Record<'a> {
    Context {
        block_size: u32,
        adapter: &'a str,
    },
    Group {
        number: u32,
        blocks: u32,
    },
    Members {
        group: u8,
        copies: u32,
        names: &'a [[u8; 8]],
    },
    Run(Run<'a>),
    Name {
        run: u32,
        offset: u16,
        hash: EngineHash,
        copies: Copies,
    },
    Waiting {
        hash: EngineHash,
        copies: Copies,
        why: Why,
    },
    End,
}

/// Consecutive blocks of a chain. The stretches fit into the blocks, and the names fill the stretches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run<'a> {
    pub(super) head: RunHead,
    pub(super) stretches: &'a [[u8; 4]],
    pub(super) keys: &'a [[u8; 8]],
    pub(super) names: &'a [[u8; 8]],
}

/// Why a name waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    NoContent,
    Conflict,
    /// With the number of its context in the dump.
    Orphan(Orphan),
}

/// A record cannot be had.
#[derive(Clone, Copy, Debug)]
pub(super) enum Failed {
    /// Its end is not there yet.
    Short,
    Wrong(RestoreError),
}

impl From<Short> for Failed {
    fn from(_: Short) -> Self {
        Self::Short
    }
}

impl From<RestoreError> for Failed {
    fn from(wrong: RestoreError) -> Self {
        Self::Wrong(wrong)
    }
}

/// Checks a number against its bounds.
pub(super) fn within(
    field: &'static str,
    value: impl Into<u64>,
    allowed: std::ops::RangeInclusive<u64>,
) -> Result<(), RestoreError> {
    let value = value.into();
    if allowed.contains(&value) {
        return Ok(());
    }
    Err(RestoreError::Value { field, value })
}

/// The first bytes of a dump.
pub(super) fn header(reader: &mut Reader<'_>) -> Result<Header, Failed> {
    let magic = reader.magic()?;
    if magic != bytes::MAGIC {
        return Err(RestoreError::Version(magic).into());
    }
    let seed = reader.u64()?;
    let incomplete = reader.u8()?;
    within("incomplete", incomplete, 0..=1)?;
    Ok(Header {
        seed,
        incomplete: incomplete == 1,
        names: reader.u64()?,
    })
}

/// The next record, with the byte that says what it is.
pub(super) fn next<'a>(reader: &mut Reader<'a>) -> Result<(u8, Record<'a>), Failed> {
    let kind = reader.u8()?;
    let record = match kind {
        bytes::CONTEXT => context(reader)?,
        bytes::GROUP => {
            let (number, blocks) = (reader.u32()?, reader.u32()?);
            within("window", blocks, 1..=u64::from(u32::MAX))?;
            Record::Group { number, blocks }
        }
        bytes::MEMBERS => members(reader)?,
        bytes::RUN => Record::Run(run(reader)?),
        bytes::NAME => Record::Name {
            run: reader.u32()?,
            offset: reader.u16()?,
            hash: reader.hash()?,
            copies: copies(reader)?,
        },
        bytes::WAITING => Record::Waiting {
            hash: reader.hash()?,
            copies: copies(reader)?,
            why: why(reader)?,
        },
        bytes::END => Record::End,
        _ => return Err(RestoreError::Record(kind).into()),
    };
    Ok((kind, record))
}

fn context<'a>(reader: &mut Reader<'a>) -> Result<Record<'a>, Failed> {
    let block_size = reader.u32()?;
    within("block size", block_size, 1..=BLOCK_SIZE_MAX.into())?;
    let len = reader.u16()?;
    within("adapter's length", len, 0..=DUMP_ADAPTER_MAX as u64)?;
    let adapter = std::str::from_utf8(reader.take(len.into())?);
    let adapter = adapter.map_err(|_| RestoreError::Adapter)?;
    Ok(Record::Context {
        block_size,
        adapter,
    })
}

fn members<'a>(reader: &mut Reader<'a>) -> Result<Record<'a>, Failed> {
    let (group, count, copies) = (reader.u8()?, reader.u16()?, reader.u32()?);
    within("members", count, 1..=bytes::MEMBERS_MAX as u64)?;
    within("copies", copies, 1..=u64::from(u32::MAX))?;
    Ok(Record::Members {
        group,
        copies,
        names: reader.numbers(count.into())?,
    })
}

fn run<'a>(reader: &mut Reader<'a>) -> Result<Run<'a>, Failed> {
    let head = reader.run()?;
    within("blocks", head.blocks, 1..=DUMP_BLOCKS_MAX.into())?;
    // There is a block at least in each.
    within("stretches", head.stretches, 0..=head.blocks.into())?;
    let stretches: &[[u8; 4]] = reader.numbers(head.stretches.into())?;
    let (mut blocks, mut names) = (0_u64, 0_usize);
    for &stretch in stretches {
        let (skipped, held) = stretch_of(stretch);
        within("stretch", held, 1..=u64::from(head.blocks))?;
        blocks += u64::from(skipped) + u64::from(held);
        names += usize::from(held);
    }
    within("blocks of stretches", blocks, 0..=head.blocks.into())?;
    Ok(Run {
        head,
        stretches,
        keys: reader.numbers(head.blocks.into())?,
        names: reader.numbers(names)?,
    })
}

/// How many blocks are skipped, then held.
pub(super) fn stretch_of([a, b, c, d]: [u8; 4]) -> (u16, u16) {
    (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]))
}

fn copies(reader: &mut Reader<'_>) -> Result<Copies, Failed> {
    let said = reader.u8()?;
    let tiers = said & (bytes::COUNTS - 1);
    let most = bytes::COUNTS - 1 + bytes::COUNTS;
    within("copies", said, 1..=most.into())?;
    within("tiers", tiers, 1..=u64::from(bytes::COUNTS - 1))?;
    let mut copies = [0; TIERS];
    for (tier, copies) in copies.iter_mut().enumerate() {
        if tiers >> tier & 1 == 0 {
            continue;
        }
        *copies = if said & bytes::COUNTS == 0 {
            1
        } else {
            reader.u32()?
        };
        within("copies", *copies, 1..=u64::from(u32::MAX))?;
    }
    Ok(copies)
}

fn why(reader: &mut Reader<'_>) -> Result<Why, Failed> {
    let why = reader.u8()?;
    within("why", why, 0..=bytes::ORPHAN_UNSAID.into())?;
    match why {
        bytes::NO_CONTENT => return Ok(Why::NoContent),
        bytes::CONFLICT => return Ok(Why::Conflict),
        _ => {}
    }
    let (parent, key, context) = (reader.hash()?, reader.u64()?, reader.u16()?);
    within("context", context, 0..=CONTEXTS_MAX as u64 - 1)?;
    Ok(Why::Orphan(Orphan {
        parent,
        key: key_of(key)?,
        context: context.into(),
        says_extra: why == bytes::ORPHAN,
    }))
}

/// A block key: zero is none.
#[inline]
pub(super) fn key_of(key: u64) -> Result<BlockKey, RestoreError> {
    if key == 0 {
        let field = "block key";
        return Err(RestoreError::Value { field, value: 0 });
    }
    Ok(BlockKey::new(key))
}
