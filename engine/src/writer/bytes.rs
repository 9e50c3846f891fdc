//! The bytes of a dump: what one worker holds, as records.
//!
//! All numbers are little-endian. A dump begins with
//!
//! ```text
//! magic and version  4   "kvd\x01"
//! hash seed          8   of the block keys
//! incomplete         1   0 or 1: whether the worker may have held more
//! names              8   how many follow in runs, names and waiting names
//! ```
//!
//! and goes on with records, each of which begins with a byte that says what it is. They come in this order,
//! only names and waiting names are mixed:
//!
//! ```text
//! 1 context       block size 4, bytes of the adapter's name 2, the name in UTF-8 (none: empty)
//! 2 window group  number 4, blocks 4
//! 3 members       window group 1, count 2, copies of each on the GPU 4, count * engine hash 8
//! 4 run           blocks 2, stretches 2, parent 4, at 4, age 4,
//!                 stretches * (skipped 2, held 2), blocks * block key 8, all held * engine hash 8
//! 5 name          run 4, offset 2, engine hash 8, copies
//! 6 waiting name  engine hash 8, copies, why 1,
//!                 of an orphan: parent's engine hash 8, block key 8, context 2
//! 7 end
//!
//! copies          1: bits 0 to 2 for the tiers with copies; bit 3 if the counts follow, 4 for each of
//!                 these tiers, else it is one copy in each
//! why             0 no content, 1 conflict, 2 orphan, 3 orphan whose event could not say extra keys
//! ```
//!
//! Contexts, window groups and runs are numbered from zero as they come. A run is consecutive blocks of a
//! chain. Where `parent` is zero it begins a prompt, and `at` is its context; else it follows block `at` of run
//! `parent` - 1, which comes before. Of its blocks, the stretches say which are held in the ordinary way: one
//! name of one copy on the GPU. A stretch is so many blocks that are not, then so many that are. All other
//! names of blocks come as records of their own; blocks without a name are only passed through. `age` is
//! how many stored events ago the worker last stored something there.
//!
//! Every worker's dump has the keys of all its blocks, also of those that others hold too. That costs 8 bytes
//! an entry, and spares all agreement between dumps: each can be made, kept and read on its own.
use crate::limits::{DUMP_ADAPTER_MAX, DUMP_BLOCKS_MAX};
use crate::types::{EngineHash, TIERS};

pub(super) const MAGIC: [u8; 4] = *b"kvd\x01";

pub(super) const CONTEXT: u8 = 1;
pub(super) const GROUP: u8 = 2;
pub(super) const MEMBERS: u8 = 3;
pub(super) const RUN: u8 = 4;
pub(super) const NAME: u8 = 5;
pub(super) const WAITING: u8 = 6;
pub(super) const END: u8 = 7;

pub(super) const NO_CONTENT: u8 = 0;
pub(super) const CONFLICT: u8 = 1;
pub(super) const ORPHAN: u8 = 2;
pub(super) const ORPHAN_UNSAID: u8 = 3;

/// In `copies`: the counts follow.
pub(super) const COUNTS: u8 = 1 << TIERS;

/// Names in one record of members at most.
pub(super) const MEMBERS_MAX: usize = DUMP_BLOCKS_MAX as usize;

/// Bytes of a run's record before its stretches.
const RUN_HEAD: usize = 17;

/// The longest record, in bytes: whoever reads a dump in pieces needs a buffer of this size.
pub const DUMP_RECORD_MAX: usize = {
    let blocks = DUMP_BLOCKS_MAX as usize;
    // Every second block can be a stretch; then half of them have hashes.
    let run = RUN_HEAD + blocks.div_ceil(2) * 4 + 2 * 8 * blocks;
    assert!(run > 7 + DUMP_ADAPTER_MAX, "a context's record is shorter");
    run
};

/// What a run's record says before its stretches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RunHead {
    pub(super) blocks: u16,
    pub(super) stretches: u16,
    pub(super) parent: u32,
    pub(super) at: u32,
    pub(super) age: u32,
}

impl RunHead {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.push(RUN);
        put(out, &self.blocks.to_le_bytes());
        put(out, &self.stretches.to_le_bytes());
        put(out, &self.parent.to_le_bytes());
        put(out, &self.at.to_le_bytes());
        put(out, &self.age.to_le_bytes());
    }
}

#[inline]
pub(super) fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(bytes);
}

/// A name's copies by tier, of which there is at least one.
pub(super) fn put_copies(out: &mut Vec<u8>, copies: [u32; TIERS]) {
    let present = copies.iter().enumerate().filter(|(_, copies)| **copies > 0);
    let tiers = present.fold(0, |tiers, (at, _)| tiers | 1 << at);
    let counts = copies.iter().any(|&copies| copies > 1);
    out.push(tiers | if counts { COUNTS } else { 0 });
    for copies in copies.iter().filter(|&&copies| counts && copies > 0) {
        put(out, &copies.to_le_bytes());
    }
}

/// Bytes that are being read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    pub(super) bytes: &'a [u8],
}

/// The bytes end within a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Short;

impl<'a> Reader<'a> {
    #[inline]
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], Short> {
        let (taken, rest) = self.bytes.split_at_checked(len).ok_or(Short)?;
        self.bytes = rest;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Short> {
        let (taken, rest) = self.bytes.split_first_chunk().ok_or(Short)?;
        self.bytes = rest;
        Ok(*taken)
    }

    pub(super) fn magic(&mut self) -> Result<[u8; 4], Short> {
        self.array()
    }

    #[inline]
    pub(super) fn u8(&mut self) -> Result<u8, Short> {
        self.array().map(u8::from_le_bytes)
    }

    #[inline]
    pub(super) fn u16(&mut self) -> Result<u16, Short> {
        self.array().map(u16::from_le_bytes)
    }

    #[inline]
    pub(super) fn u32(&mut self) -> Result<u32, Short> {
        self.array().map(u32::from_le_bytes)
    }

    #[inline]
    pub(super) fn u64(&mut self) -> Result<u64, Short> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn hash(&mut self) -> Result<EngineHash, Short> {
        self.u64().map(EngineHash)
    }

    /// So many numbers of `N` bytes.
    #[inline]
    pub(super) fn numbers<const N: usize>(&mut self, count: usize) -> Result<&'a [[u8; N]], Short> {
        Ok(self.take(count * N)?.as_chunks().0)
    }

    pub(super) fn run(&mut self) -> Result<RunHead, Short> {
        Ok(RunHead {
            blocks: self.u16()?,
            stretches: self.u16()?,
            parent: self.u32()?,
            at: self.u32()?,
            age: self.u32()?,
        })
    }
}
