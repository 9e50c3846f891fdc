//! What one worker holds of sliding-window groups, and where a prefix may therefore end.
//!
//! An engine with sliding-window layers stores and evicts the blocks of each such group on their own,
//! under the names of the full-attention group's blocks: a name's place is known through that group alone.
//! A name of a window group that has no place yet counts for nothing until it gets one.
//!
//! For each block that the worker holds a tail is kept by group: how many blocks up to and including this one are
//! in the group without a break, counted no further than the group needs. A prefix may end at a
//! block if every group's tail there is as long as needed. A tail depends on the one before it alone,
//! so a change is carried down the chain, and into the runs that branch off, until tails stay as they are:
//! at most a window's length along each branch.
mod members;

use super::holdings::Holdings;
use super::names::{Names, Place};
use super::{StoreReport, Writer};
use crate::index::Participant;
use crate::limits::{WAITING_MAX, WINDOW_GROUPS_MAX};
use crate::tree::Pin;
use crate::tree::window::{BITS, Word};
use crate::types::{EngineHash, Tier, WorkerId};
use ahash::AHashMap;
use members::Members;
use std::collections::BTreeSet;

/// A sliding-window group of a worker's engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowGroup {
    /// The engine's number of the group.
    pub number: u32,
    /// Blocks before the end of a prefix that must be in the group: ceil((window - 1) / block size).
    pub blocks: u32,
}

/// A group that cannot be taken in. What the worker can reuse is then not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// Groups are bounded.
    #[error("more than {WINDOW_GROUPS_MAX} sliding-window groups")]
    TooMany,
    /// The same group had another window before.
    #[error("group {number} had a window of {before} blocks, now {now}")]
    Changed {
        /// The group.
        number: u32,
        /// Its window in blocks so far.
        before: u32,
        /// The window that was said now.
        now: u32,
    },
}

#[derive(Debug)]
pub(super) struct Group {
    pub(super) number: u32,
    pub(super) blocks: u32,
    pub(super) names: Members,
}

/// What is known of one block in one group.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    /// Names of the block that are in the group.
    names: u32,
    /// Blocks up to and including this one that are in the group without a break, at most as many as it needs.
    tail: u32,
}

/// What is known of the blocks of one holding. Past what is known, all tails are zero.
#[derive(Debug, Default)]
struct Cover {
    /// By offset, then by group.
    cells: Vec<Cell>,
    /// By window word: where a prefix may end, as published.
    ends: Vec<u32>,
}

impl Cover {
    fn bytes(&self) -> usize {
        self.cells.capacity() * size_of::<Cell>() + self.ends.capacity() * size_of::<u32>()
    }
}

/// The tails of one block, by group.
type Tails = [u32; WINDOW_GROUPS_MAX];

/// The sliding-window groups of one worker.
#[derive(Debug)]
pub(super) struct Windows {
    worker: WorkerId,
    pub(super) groups: Vec<Group>,
    /// By holding.
    covers: AHashMap<u32, Cover>,
    /// (address of a run, where another one branches off it, the holding there), roots' branches aside.
    below: BTreeSet<(usize, u32, u32)>,
    /// Bytes of all covers.
    cover_bytes: usize,
}

impl Windows {
    fn new(worker: WorkerId, holdings: &Holdings) -> Self {
        let mut this = Self {
            worker,
            groups: Vec::new(),
            covers: AHashMap::default(),
            below: BTreeSet::new(),
            cover_bytes: 0,
        };
        for (at, _) in holdings.iter() {
            this.entered(at, holdings);
        }
        this
    }

    /// Bytes allocated, about.
    pub(super) fn bytes(&self) -> usize {
        let names = self.groups.iter().map(|group| group.names.bytes());
        self.cover_bytes
            + names.sum::<usize>()
            + self.covers.capacity() * size_of::<(u32, Cover)>()
            // Trees are half to fully filled.
            + self.below.len() * 2 * size_of::<(usize, u32, u32)>()
    }

    /// The worker holds blocks in a run that it did not.
    pub(super) fn entered(&mut self, at: u32, holdings: &Holdings) {
        self.covers.insert(at, Cover::default());
        self.below.extend(branch(at, holdings));
    }

    /// The worker is about to leave a run: all names have lost their places there, or nothing branches off it. So
    /// what follows need not be told.
    pub(super) fn left(&mut self, at: u32, holdings: &Holdings) {
        if let Some(gone) = self.covers.remove(&at) {
            self.cover_bytes -= gone.bytes();
            debug_assert!(
                gone.cells.iter().all(|cell| cell.names == 0) || self.is_leaf(at, holdings)
            );
        }
        if let Some(branch) = branch(at, holdings) {
            self.below.remove(&branch);
        }
    }

    fn is_leaf(&self, at: u32, holdings: &Holdings) -> bool {
        let address = holdings.get(at).map(|there| there.hold().address());
        let below = |at: usize| self.below.range((at, 0, 0)..=(at, u32::MAX, u32::MAX));
        address.is_none_or(|at| below(at).next().is_none())
    }

    /// A name has got a place.
    pub(super) fn placed(
        &mut self,
        hash: EngineHash,
        place: Place,
        holdings: &mut Holdings,
        pin: &Pin,
    ) {
        self.count_all(hash, place, holdings, pin, |names| names.saturating_add(1));
    }

    /// A name is about to lose its place.
    pub(super) fn unplaced(
        &mut self,
        hash: EngineHash,
        place: Place,
        holdings: &mut Holdings,
        pin: &Pin,
    ) {
        self.count_all(hash, place, holdings, pin, |names| names.saturating_sub(1));
    }

    /// Nothing is held any more. The groups are still the engine's.
    pub(super) fn clear(&mut self) {
        self.covers = AHashMap::default();
        self.below.clear();
        self.cover_bytes = 0;
        for group in &mut self.groups {
            group.names = Members::default();
        }
    }

    /// Forgets names that have no place. O(names).
    pub(super) fn forget_unplaced(&mut self, names: &Names) {
        for group in &mut self.groups {
            group.names.retain(|hash| names.place(hash).is_some());
        }
    }

    /// Counts a name in or out in all groups that it is in.
    fn count_all(
        &mut self,
        hash: EngineHash,
        place: Place,
        holdings: &mut Holdings,
        pin: &Pin,
        change: impl Fn(u32) -> u32,
    ) {
        let mut member = false;
        for at in 0..self.groups.len() {
            if self.groups[at].names.contains(hash) {
                self.count(at, place, &change);
                member = true;
            }
        }
        if member {
            let from = (place.holding, u32::from(place.offset));
            self.refresh(vec![from], holdings, pin);
        }
    }

    /// Counts a name in or out in one group.
    fn count(&mut self, group: usize, place: Place, change: impl Fn(u32) -> u32) {
        let Some(cover) = self.covers.get_mut(&place.holding) else {
            return;
        };
        let groups = self.groups.len();
        let end = (usize::from(place.offset) + 1) * groups;
        if cover.cells.len() < end {
            let before = cover.bytes();
            cover.cells.resize(end, Cell::default());
            self.cover_bytes += cover.bytes() - before;
        }
        let names = &mut cover.cells[end - groups + group].names;
        *names = change(*names);
    }

    /// Works the tails out anew from blocks on (holding and offset), as far as they change.
    fn refresh(&mut self, mut from: Vec<(u32, u32)>, holdings: &mut Holdings, pin: &Pin) {
        while let Some((holding, offset)) = from.pop() {
            let Some(there) = holdings.get(holding) else {
                continue;
            };
            let address = there.hold().address();
            let before = self.tails_before(holding, offset, holdings);
            let end = self.carry(holding, offset, before);
            if offset == end {
                continue;
            }
            let branches = (address, offset + 1, 0)..=(address, end, u32::MAX);
            let below = self.below.range(branches);
            from.extend(below.map(|&(_, _, child)| (child, 0)));
            self.publish(holding, offset, end, holdings, pin);
        }
    }

    /// The tails of the block before one.
    fn tails_before(&self, holding: u32, offset: u32, holdings: &Holdings) -> Tails {
        if let Some(before) = offset.checked_sub(1) {
            return self.tails(holding, before);
        }
        let mut tails = Tails::default();
        let Some(run) = holdings.get(holding).map(|there| there.run()) else {
            return tails;
        };
        if let Some(before) = run.branch().checked_sub(1) {
            let parent = run.parent_address();
            let parent = parent.and_then(|parent| holdings.by_address(parent));
            return parent.map_or(tails, |parent| self.tails(parent, before));
        }
        // Before the first block nothing is missing.
        for (tail, group) in tails.iter_mut().zip(&self.groups) {
            *tail = group.blocks;
        }
        tails
    }

    fn tails(&self, holding: u32, offset: u32) -> Tails {
        let mut tails = Tails::default();
        let first = offset as usize * self.groups.len();
        let cells = self.covers.get(&holding).map(|cover| cover.cells.iter());
        let cells = cells.into_iter().flatten().skip(first);
        for ((tail, cell), _) in tails.iter_mut().zip(cells).zip(&self.groups) {
            *tail = cell.tail;
        }
        tails
    }

    /// Works out the tails of a run's blocks from `offset` on, which follow `tails`; the end of those that
    /// have changed.
    fn carry(&mut self, holding: u32, offset: u32, mut tails: Tails) -> u32 {
        let Some(cover) = self.covers.get_mut(&holding) else {
            return offset;
        };
        let blocks = cover.cells.chunks_exact_mut(self.groups.len().max(1));
        let mut end = offset;
        for block in blocks.skip(offset as usize) {
            let mut same = true;
            for ((cell, group), tail) in block.iter_mut().zip(&self.groups).zip(&mut tails) {
                *tail = match cell.names {
                    0 => 0,
                    _ => tail.saturating_add(1).min(group.blocks),
                };
                same &= cell.tail == *tail;
                cell.tail = *tail;
            }
            if same {
                break;
            }
            end += 1;
        }
        end
    }

    /// Publishes where prefixes may end among the blocks `[offset, end)` of a run.
    fn publish(&mut self, holding: u32, offset: u32, end: u32, holdings: &mut Holdings, pin: &Pin) {
        let Some(cover) = self.covers.get_mut(&holding) else {
            return;
        };
        let groups = &self.groups;
        let words = end.div_ceil(BITS) as usize;
        if cover.ends.len() < words {
            let before = cover.bytes();
            cover.ends.resize(words, 0);
            self.cover_bytes += cover.bytes() - before;
        }
        for at in offset / BITS..end.div_ceil(BITS) {
            let blocks = cover.cells.chunks_exact(groups.len().max(1));
            let blocks = blocks.skip((at * BITS) as usize).take(BITS as usize);
            let mut ends = 0;
            for (bit, block) in blocks.enumerate() {
                let mut cells = block.iter().zip(groups);
                let may_end = cells.all(|(cell, group)| cell.tail == group.blocks);
                ends |= u32::from(may_end) << bit;
            }
            let published = &mut cover.ends[at as usize];
            if *published == ends {
                continue;
            }
            *published = ends;
            let word = Word {
                worker: self.worker,
                group: at as u16,
                ends,
            };
            if let Some(holding) = holdings.get_mut(holding) {
                holding.set_window(word, pin);
            }
        }
    }

    /// A new group: until it has blocks, no prefix may end anywhere.
    fn add(&mut self, group: WindowGroup, holdings: &mut Holdings, pin: &Pin) {
        let before = self.groups.len();
        self.groups.push(Group {
            number: group.number,
            blocks: group.blocks,
            names: Members::default(),
        });
        let mut all = Vec::new();
        self.cover_bytes = 0;
        for (&at, cover) in &mut self.covers {
            let blocks = cover.cells.chunks_exact(before.max(1));
            let len = blocks.len() as u32;
            let widened = blocks.flat_map(|block| block.iter().copied().chain([Cell::default()]));
            cover.cells = widened.collect();
            self.cover_bytes += cover.bytes();
            all.push((at, len));
        }
        for (at, len) in all {
            self.publish(at, 0, len, holdings, pin);
        }
    }
}

/// Where a holding's run branches off another one. Roots hold nothing, so what branches off them never changes.
fn branch(at: u32, holdings: &Holdings) -> Option<(usize, u32, u32)> {
    let run = holdings.get(at)?.run();
    let parent = run.parent_address().filter(|_| run.branch() > 0)?;
    Some((parent, run.branch(), at))
}

impl Writer {
    /// Applies a stored event of a sliding-window group. From the first one on, the worker's score is the
    /// longest prefix that all its groups allow to reuse. Copies off the GPU raise no score.
    /// O(blocks × window) at most.
    ///
    /// # Panics
    /// If `at` belongs to another index.
    pub fn store_window(
        &mut self,
        at: &Participant,
        group: WindowGroup,
        tier: Tier,
        hashes: &[EngineHash],
    ) -> Result<StoreReport, WindowError> {
        let mut report = StoreReport::default();
        if group.blocks == 0 {
            // It never keeps a prefix from being reused.
            return Ok(report);
        }
        let pin = &self.begin(at);
        let number = self.window_group(group, pin);
        if let Ok(number) = number
            && tier == Tier::Gpu
            && self.make_room(hashes.len(), &mut report, pin)
        {
            self.store_members(number, hashes, &mut report, pin);
        }
        self.end(pin);
        number.map(|_| report)
    }

    fn store_members(
        &mut self,
        group: usize,
        hashes: &[EngineHash],
        report: &mut StoreReport,
        pin: &Pin,
    ) {
        let Some(windows) = &mut self.windows else {
            return;
        };
        let most = self.names.placed() + WAITING_MAX;
        for &hash in hashes {
            let names = &mut windows.groups[group].names;
            if names.add(hash) {
                report.copies += 1;
                continue;
            }
            if names.len() >= most {
                report.dropped += 1;
                self.incomplete = true;
                continue;
            }
            names.insert(hash, 1);
            let Some(place) = self.names.place(hash) else {
                report.waiting += 1;
                continue;
            };
            report.stored += 1;
            windows.count(group, place, |names| names.saturating_add(1));
            let from = (place.holding, u32::from(place.offset));
            windows.refresh(vec![from], &mut self.holdings, pin);
        }
    }

    /// Applies a removed event of a sliding-window group; how many of the names were not there.
    /// O(blocks × window) at most.
    ///
    /// # Panics
    /// If `at` belongs to another index.
    pub fn remove_window(
        &mut self,
        at: &Participant,
        number: u32,
        tier: Tier,
        hashes: &[EngineHash],
    ) -> u32 {
        let pin = &self.begin(at);
        let mut unknown = 0;
        let windows = self.windows.as_mut().filter(|_| tier == Tier::Gpu);
        if let Some(windows) = windows
            && let Some(group) = windows.groups.iter().position(|g| g.number == number)
        {
            for &hash in hashes {
                match windows.groups[group].names.take(hash) {
                    None => unknown += 1,
                    Some(0) => {
                        if let Some(place) = self.names.place(hash) {
                            windows.count(group, place, |names| names.saturating_sub(1));
                            let from = (place.holding, u32::from(place.offset));
                            windows.refresh(vec![from], &mut self.holdings, pin);
                        }
                    }
                    Some(_) => {}
                }
            }
        }
        self.end(pin);
        unknown
    }

    /// Forgets that the engine has sliding-window groups, when another one may have taken its place. While
    /// anything is held, which they may bound, it does nothing.
    pub fn forget_windows(&mut self) {
        if self.holdings.len() == 0 && self.windows.take().is_some() {
            self.changes += 1;
            self.index.marks().windowed.set(self.id, false);
        }
    }

    /// The place of a group among the worker's.
    pub(super) fn window_group(
        &mut self,
        group: WindowGroup,
        pin: &Pin,
    ) -> Result<usize, WindowError> {
        let windows = self.windows.get_or_insert_with(|| {
            self.index.marks().windowed.set(self.id, true);
            Box::new(Windows::new(self.id, &self.holdings))
        });
        let there = windows.groups.iter().position(|g| g.number == group.number);
        let Some(there) = there else {
            if windows.groups.len() >= WINDOW_GROUPS_MAX {
                return Err(WindowError::TooMany);
            }
            windows.add(group, &mut self.holdings, pin);
            return Ok(windows.groups.len() - 1);
        };
        let before = windows.groups[there].blocks;
        if before != group.blocks {
            let (number, now) = (group.number, group.blocks);
            return Err(WindowError::Changed {
                number,
                before,
                now,
            });
        }
        Ok(there)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::{Index, IndexConfig};
    use crate::writer::Store;

    #[test]
    fn nothing_is_kept_of_blocks_that_are_gone() {
        let index = Index::new(IndexConfig::default());
        let at = index.participant();
        let mut writer = index.writer("m").unwrap();
        let group = WindowGroup {
            number: 3,
            blocks: 2,
        };
        // Two chains that part after the first block, in a window group too.
        let chains = [[1, 2, 3], [1, 4, 5]];
        for clear in [false, true] {
            for tokens in chains {
                let hashes = tokens.map(|token| EngineHash(u64::from(token)));
                let event = Store {
                    adapter: None,
                    block_size: 1,
                    tier: Tier::Gpu,
                    parent: None,
                    hashes: &hashes,
                    tokens: &tokens,
                    extra: &[],
                    says_extra: true,
                };
                writer.store(&at, &event).unwrap();
                writer.store_window(&at, group, Tier::Gpu, &hashes).unwrap();
            }
            let windows = writer.windows.as_ref().unwrap();
            assert_eq!((windows.covers.len(), windows.below.len()), (2, 1));
            assert!(windows.cover_bytes > 0);
            if clear {
                writer.clear(&at);
            } else {
                for hash in chains.as_flattened().iter().map(|&n| EngineHash(n.into())) {
                    writer.remove_window(&at, group.number, Tier::Gpu, &[hash]);
                    writer.remove(&at, Tier::Gpu, &[hash]);
                }
            }
            let windows = writer.windows.as_ref().unwrap();
            assert_eq!((windows.covers.len(), windows.below.len()), (0, 0));
            assert_eq!(windows.cover_bytes, 0);
            assert!(windows.groups[0].names.len() == 0);
        }
    }
}
