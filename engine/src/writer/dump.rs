//! Writing what a worker holds as bytes, bit by bit. The format is told in `bytes.rs`.
//!
//! Names stand in the order of their table and are wanted in that of their blocks, so a first walk over the table
//! puts the ordinary ones into slots by block, and a last one writes the others.
mod plan;

use super::Writer;
use super::bytes::{self, RunHead, put, put_copies};
use super::names::{Copies, Place};
use super::waiting::Unplaced;
use crate::limits::{DUMP_ADAPTER_MAX, DUMP_BLOCKS_MAX};
use crate::types::EngineHash;
use plan::{Parent, Plan, Planned, Source};
use std::ops::Range;

/// Why a dump cannot go on. What was written of it is worth nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DumpError {
    /// An event was applied to the writer since the dump began, or it is another writer.
    #[error("the worker was changed while it was dumped")]
    Changed,
    /// An adapter's name is longer than a dump can say.
    #[error("an adapter's name of {0} bytes; {DUMP_ADAPTER_MAX} are possible")]
    Adapter(usize),
    /// The worker's runs cannot be numbered in 32 bits.
    #[error("too many runs for a dump")]
    TooManyRuns,
}

/// What a portion of a table costs, in blocks written.
const PORTION: usize = 4;

/// Portions that are handled together.
const PORTIONS: usize = 16;

/// What it costs to plan a run, in blocks written: some cache misses.
const RUN: usize = 12;

/// A worker's contents on their way into bytes: made by [`Writer::dump`].
#[derive(Debug)]
pub struct Dump {
    /// Where it was begun: the index, the worker, and the changes to it so far.
    of: (usize, usize, u64),
    stage: Stage,
    /// How far the stage has come.
    at: usize,
    plan: Plan,
    /// By slot: the ordinary name of a block.
    hashes: Vec<EngineHash>,
    /// By slot, a bit for each: whether there is one.
    filled: Vec<u64>,
    /// Names that are not in slots.
    others: usize,
}

/// What is to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Begin,
    Plan,
    Sort,
    Members(usize),
    /// From which block on the run at hand is to be written.
    Runs(u32),
    Others,
    Done,
}

impl Writer {
    /// Begins a dump of what the worker holds. O(1); the work is done by [`Dump::write_some`].
    #[must_use]
    pub fn dump(&self) -> Dump {
        Dump {
            of: self.version(),
            stage: Stage::Begin,
            at: 0,
            plan: Plan::default(),
            hashes: Vec::new(),
            filled: Vec::new(),
            others: 0,
        }
    }
}

impl Dump {
    /// Appends to `out` what about `blocks` blocks take, in bytes or in time, and at least a step; true when the
    /// dump is complete. Nothing may be stored, removed or cleared between the calls. The dump keeps
    /// 8 bytes for each block meanwhile. O(blocks), and O(contexts) in the first call.
    ///
    /// A dump says nothing of the model and has no checksum: both are the caller's.
    pub fn write_some(
        &mut self,
        writer: &Writer,
        out: &mut Vec<u8>,
        blocks: usize,
    ) -> Result<bool, DumpError> {
        if self.of != writer.version() {
            return Err(DumpError::Changed);
        }
        let mut left = blocks;
        loop {
            let spent = self.step(writer, out)?;
            left = left.saturating_sub(spent);
            if self.stage == Stage::Done {
                return Ok(true);
            }
            if left == 0 {
                return Ok(false);
            }
        }
    }

    /// Does the next bit; what it cost in blocks written.
    fn step(&mut self, writer: &Writer, out: &mut Vec<u8>) -> Result<usize, DumpError> {
        match self.stage {
            Stage::Begin => begin(writer, out)?,
            Stage::Plan => return self.plan_some(writer),
            Stage::Members(group) => return Ok(self.members(group, writer, out)),
            Stage::Sort => return Ok(self.sort_some(writer)),
            Stage::Runs(from) => return Ok(self.run(from, writer, out)),
            Stage::Others => return Ok(self.others(writer, out)),
            Stage::Done => return Ok(0),
        }
        self.next(Stage::Members(0));
        Ok(1)
    }

    fn next(&mut self, stage: Stage) {
        self.stage = stage;
        self.at = 0;
    }

    fn members(&mut self, group: usize, writer: &Writer, out: &mut Vec<u8>) -> usize {
        let groups = writer.windows.as_ref().map(|windows| &windows.groups);
        let Some(members) = groups.and_then(|groups| groups.get(group)) else {
            self.next(Stage::Plan);
            return 1;
        };
        let to = (self.at + PORTIONS).min(members.names.portions());
        let entries = (self.at..to).flat_map(|at| members.names.portion(at));
        let mut entries: Vec<_> = entries.map(|(hash, copies)| (copies, hash)).collect();
        entries.sort_unstable();
        for alike in entries.chunk_by(|(one, _), (other, _)| one == other) {
            for some in alike.chunks(bytes::MEMBERS_MAX) {
                // Both fit, by the bounds on groups and on a record.
                out.extend([bytes::MEMBERS, group as u8]);
                put(out, &(some.len() as u16).to_le_bytes());
                put(out, &some[0].0.to_le_bytes());
                some.iter()
                    .for_each(|(_, hash)| put(out, &hash.0.to_le_bytes()));
            }
        }
        self.at = to;
        if to == members.names.portions() {
            self.next(Stage::Members(group + 1));
        }
        PORTIONS * PORTION
    }

    fn plan_some(&mut self, writer: &Writer) -> Result<usize, DumpError> {
        if self.at < writer.holdings.bound() {
            let new = self.plan.add(self.at as u32, &writer.holdings);
            self.at += 1;
            return Ok(1 + new * RUN);
        }
        if !self.plan.number_records() {
            return Err(DumpError::TooManyRuns);
        }
        self.hashes = vec![EngineHash(0); self.plan.slots];
        self.filled = vec![0; self.plan.slots.div_ceil(64)];
        self.next(Stage::Sort);
        Ok(1)
    }

    /// Puts the ordinary names of some portions of the table into their slots.
    fn sort_some(&mut self, writer: &Writer) -> usize {
        let Self {
            plan,
            hashes,
            filled,
            others,
            ..
        } = self;
        let to = (self.at + PORTIONS).min(writer.names.portions());
        let entries = (self.at..to).flat_map(|at| writer.names.portion(at));
        entries.for_each(|(hash, name)| {
            let place = name.place().filter(|_| name.copies == 1);
            let slot = place.map_or(usize::MAX, |place| plan.slot(place.holding, place.offset));
            let Some(word) = filled.get_mut(slot / 64) else {
                *others += 1;
                return;
            };
            if *word >> (slot % 64) & 1 == 1 {
                *others += 1;
                return;
            }
            *word |= 1 << (slot % 64);
            hashes[slot] = hash;
        });
        self.at = to;
        if to == writer.names.portions() {
            self.next(Stage::Runs(0));
        }
        PORTIONS * PORTION
    }

    /// Writes one record of the run at hand.
    fn run(&mut self, from: u32, writer: &Writer, out: &mut Vec<u8>) -> usize {
        let Some(&run) = self.plan.runs.get(self.at) else {
            self.next(Stage::Others);
            return 1;
        };
        let to = run.blocks.min(from + DUMP_BLOCKS_MAX);
        self.put_run(run, from, to, writer, out);
        if to == run.blocks {
            self.at += 1;
            self.stage = Stage::Runs(0);
        } else {
            self.stage = Stage::Runs(to);
        }
        1 + (to - from) as usize
    }

    fn put_run(&self, run: Planned, from: u32, to: u32, writer: &Writer, out: &mut Vec<u8>) {
        let (holding, first, path) = match run.source {
            Source::Held { holding, first } => (writer.holdings.get(holding), first, None),
            Source::Path(path) => (None, 0, self.plan.paths.get(path)),
        };
        let slots = first + from.min(run.slots) as usize..first + to.min(run.slots) as usize;
        let stretches = Stretches {
            filled: &self.filled,
            slots,
        };
        let (parent, at) = self.before(run, from, writer);
        let head = RunHead {
            // Both are at most `DUMP_BLOCKS_MAX`.
            blocks: (to - from) as u16,
            stretches: stretches.clone().count() as u16,
            parent,
            at,
            age: holding.map_or(u32::MAX, |there| writer.clock.wrapping_sub(there.touched)),
        };
        head.put(out);
        out.reserve((to - from) as usize * 2 * size_of::<u64>());
        for (skipped, held) in stretches.clone() {
            put(out, &skipped.to_le_bytes());
            put(out, &(held.len() as u16).to_le_bytes());
        }
        if let Some(holding) = holding {
            let keys = holding.run().keys(from, to);
            keys.for_each(|key| put(out, &key.to_le_bytes()));
        }
        if let Some(keys) = path {
            let keys = &keys[from as usize..to as usize];
            keys.iter().for_each(|key| put(out, &key.to_le_bytes()));
        }
        for (_, held) in stretches {
            let hashes = &self.hashes[held];
            hashes
                .iter()
                .for_each(|hash| put(out, &hash.0.to_le_bytes()));
        }
    }

    /// What a record says of the block before its first one.
    fn before(&self, run: Planned, from: u32, writer: &Writer) -> (u32, u32) {
        let after = |record: u32, before: u32| {
            let (further, at) = (before / DUMP_BLOCKS_MAX, before % DUMP_BLOCKS_MAX);
            (record + further + 1, at)
        };
        match (from.checked_sub(1), run.parent) {
            (Some(before), _) => after(run.record, before),
            (None, Parent::Run { planned, branch }) => {
                // What branches off a run that has blocks does so after one of them.
                after(self.plan.runs[planned as usize].record, branch - 1)
            }
            (None, Parent::Root(context)) => {
                let numbers = writer.contexts.iter().map(|(number, _)| number);
                (
                    0,
                    numbers.take_while(|&number| number < context).count() as u32,
                )
            }
        }
    }

    /// Writes the names of one portion that are not in slots.
    fn others(&mut self, writer: &Writer, out: &mut Vec<u8>) -> usize {
        if self.others == 0 || self.at == writer.names.portions() {
            out.push(bytes::END);
            self.next(Stage::Done);
            return 1;
        }
        let mut cost = 0;
        for (hash, name) in writer.names.portion(self.at) {
            cost += 1;
            let copies = writer.names.copies(hash, name);
            match name.place() {
                Some(place) if self.is_in_slot(hash, place) => {}
                Some(place) => {
                    self.put_name(hash, place, out);
                    put_copies(out, copies);
                }
                None => put_waiting(hash, copies, writer, out),
            }
        }
        self.at += 1;
        1 + cost
    }

    fn is_in_slot(&self, hash: EngineHash, place: Place) -> bool {
        let slot = self.plan.slot(place.holding, place.offset);
        let word = self.filled.get(slot / 64);
        word.is_some_and(|word| word >> (slot % 64) & 1 == 1) && self.hashes[slot] == hash
    }

    fn put_name(&self, hash: EngineHash, place: Place, out: &mut Vec<u8>) {
        let planned = self.plan.of_holding(place.holding);
        let record = planned.map_or(u32::MAX, |planned| self.plan.runs[planned as usize].record);
        let offset = u32::from(place.offset);
        out.push(bytes::NAME);
        put(out, &(record + offset / DUMP_BLOCKS_MAX).to_le_bytes());
        put(out, &((offset % DUMP_BLOCKS_MAX) as u16).to_le_bytes());
        put(out, &hash.0.to_le_bytes());
    }
}

/// Which slots are filled: how many are not, then those that are.
#[derive(Clone, Debug)]
struct Stretches<'a> {
    filled: &'a [u64],
    slots: Range<usize>,
}

impl Stretches<'_> {
    /// The next slot that is filled, or is not; the end if there is none. O(slots / 64).
    fn seek(&self, from: usize, is_filled: bool) -> usize {
        let mut at = from;
        while at < self.slots.end {
            let word = self.filled[at / 64] ^ if is_filled { 0 } else { u64::MAX };
            let ahead = word >> (at % 64);
            if ahead != 0 {
                return self.slots.end.min(at + ahead.trailing_zeros() as usize);
            }
            at = (at / 64 + 1) * 64;
        }
        self.slots.end
    }
}

impl Iterator for Stretches<'_> {
    type Item = (u16, Range<usize>);

    fn next(&mut self) -> Option<Self::Item> {
        let begin = self.seek(self.slots.start, true);
        if begin == self.slots.end {
            return None;
        }
        // Within one record.
        let skipped = (begin - self.slots.start) as u16;
        let end = self.seek(begin, false);
        self.slots.start = end;
        Some((skipped, begin..end))
    }
}

/// Writes what comes before all else.
fn begin(writer: &Writer, out: &mut Vec<u8>) -> Result<(), DumpError> {
    put(out, &bytes::MAGIC);
    put(out, &writer.index.hash_seed().to_le_bytes());
    out.push(u8::from(writer.incomplete));
    put(out, &(writer.names.len() as u64).to_le_bytes());
    for (_, tree) in writer.contexts.iter() {
        let adapter = tree.adapter();
        if adapter.len() > DUMP_ADAPTER_MAX {
            return Err(DumpError::Adapter(adapter.len()));
        }
        out.push(bytes::CONTEXT);
        put(out, &tree.tree().block_size.to_le_bytes());
        put(out, &(adapter.len() as u16).to_le_bytes());
        put(out, adapter.as_bytes());
    }
    let groups = writer.windows.iter().flat_map(|windows| &windows.groups);
    for group in groups {
        out.push(bytes::GROUP);
        put(out, &group.number.to_le_bytes());
        put(out, &group.blocks.to_le_bytes());
    }
    Ok(())
}

fn put_waiting(hash: EngineHash, copies: Copies, writer: &Writer, out: &mut Vec<u8>) {
    out.push(bytes::WAITING);
    put(out, &hash.0.to_le_bytes());
    put_copies(out, copies);
    let orphan = match writer.waiting.get(hash) {
        Some(Unplaced::Orphan(orphan)) => orphan,
        Some(Unplaced::Conflict) => return out.push(bytes::CONFLICT),
        Some(Unplaced::NoContent) | None => return out.push(bytes::NO_CONTENT),
    };
    out.push(match orphan.says_extra {
        true => bytes::ORPHAN,
        false => bytes::ORPHAN_UNSAID,
    });
    put(out, &orphan.parent.0.to_le_bytes());
    put(out, &orphan.key.get().to_le_bytes());
    let numbers = writer.contexts.iter().map(|(number, _)| number);
    let context = numbers.take_while(|&number| number < orphan.context);
    // Contexts are bounded.
    put(out, &(context.count() as u16).to_le_bytes());
}
