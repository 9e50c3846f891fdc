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
use super::holdings::Holdings;
use super::names::Place;
use super::{StoreReport, Writer};
use crate::index::Participant;
use crate::limits::{WAITING_MAX, WINDOW_GROUPS_MAX};
use crate::tree::Pin;
use crate::tree::window::{BITS, Word};
use crate::types::{EngineHash, Tier, WorkerId};
use ahash::AHashMap;

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
struct Group {
    number: u32,
    blocks: u32,
    /// Copies on the GPU.
    names: AHashMap<EngineHash, u32>,
}

/// What is known of the blocks of one holding.
#[derive(Debug, Default)]
struct Cover {
    /// By offset, then by group: names of the block that are in the group.
    counts: Vec<Vec<u16>>,
    /// By offset, then by group.
    tails: Vec<Vec<u32>>,
    /// By window word: where a prefix may end, as published.
    ends: Vec<u32>,
}

/// The sliding-window groups of one worker.
#[derive(Debug)]
pub(super) struct Windows {
    worker: WorkerId,
    groups: Vec<Group>,
    /// By holding.
    covers: AHashMap<u32, Cover>,
    /// By address of a run: the holdings in runs that branch off it.
    below: AHashMap<usize, Vec<u32>>,
}

impl Windows {
    fn new(worker: WorkerId, holdings: &Holdings) -> Self {
        let mut this = Self {
            worker,
            groups: Vec::new(),
            covers: AHashMap::default(),
            below: AHashMap::default(),
        };
        for (at, _) in holdings.iter() {
            this.entered(at, holdings);
        }
        this
    }

    /// The worker holds blocks in a run that it did not.
    pub(super) fn entered(&mut self, at: u32, holdings: &Holdings) {
        self.covers.insert(at, Cover::default());
        let run = holdings.get(at).map(|holding| holding.run());
        if let Some(parent) = run.and_then(|run| run.parent_address()) {
            self.below.entry(parent).or_default().push(at);
        }
    }

    /// The worker is about to leave a run. What branches off it follows nothing any more.
    pub(super) fn left(&mut self, at: u32, holdings: &mut Holdings, pin: &Pin) {
        self.covers.remove(&at);
        let Some(holding) = holdings.get(at) else {
            return;
        };
        let address = holding.hold().address();
        if let Some(parent) = holding.run().parent_address()
            && let Some(siblings) = self.below.get_mut(&parent)
        {
            siblings.retain(|&sibling| sibling != at);
            if siblings.is_empty() {
                self.below.remove(&parent);
            }
        }
        for child in self.below.get(&address).cloned().unwrap_or_default() {
            self.refresh(child, 0, holdings, pin);
        }
    }

    /// A name has got a place.
    pub(super) fn placed(
        &mut self,
        hash: EngineHash,
        place: Place,
        holdings: &mut Holdings,
        pin: &Pin,
    ) {
        self.count(hash, place, holdings, pin, |count| count.saturating_add(1));
    }

    /// A name is about to lose its place.
    pub(super) fn unplaced(
        &mut self,
        hash: EngineHash,
        place: Place,
        holdings: &mut Holdings,
        pin: &Pin,
    ) {
        self.count(hash, place, holdings, pin, |count| count.saturating_sub(1));
    }

    /// Nothing is held any more. The groups are still the engine's.
    pub(super) fn clear(&mut self) {
        self.covers.clear();
        self.below.clear();
        for group in &mut self.groups {
            group.names.clear();
        }
    }

    fn count(
        &mut self,
        hash: EngineHash,
        place: Place,
        holdings: &mut Holdings,
        pin: &Pin,
        change: impl Fn(u16) -> u16,
    ) {
        let has = |group: &Group| group.names.contains_key(&hash);
        let members: Vec<_> = self.groups.iter().map(has).collect();
        if !members.contains(&true) {
            return;
        }
        for at in (0..members.len()).filter(|&at| members[at]) {
            self.count_one(at, place, &change);
        }
        self.refresh(place.holding, u32::from(place.offset), holdings, pin);
    }

    fn count_one(&mut self, group: usize, place: Place, change: &impl Fn(u16) -> u16) {
        let Some(cover) = self.covers.get_mut(&place.holding) else {
            return;
        };
        let offset = usize::from(place.offset);
        if cover.counts.len() <= offset {
            cover.counts.resize(offset + 1, Vec::new());
            cover.tails.resize(offset + 1, Vec::new());
        }
        let counts = &mut cover.counts[offset];
        if counts.len() <= group {
            counts.resize(group + 1, 0);
        }
        counts[group] = change(counts[group]);
    }

    /// Works the tails out anew from a block on, as far as they change.
    fn refresh(&mut self, holding: u32, offset: u32, holdings: &mut Holdings, pin: &Pin) {
        let mut from = vec![(holding, offset)];
        while let Some((holding, offset)) = from.pop() {
            let before = self.tails_before(holding, offset, holdings);
            let Some(address) = holdings.get(holding).map(|there| there.hold().address()) else {
                continue;
            };
            let end = self.carry(holding, offset, before);
            let branches = offset + 1..=end;
            for &child in self.below.get(&address).into_iter().flatten() {
                let branch = holdings.get(child).map(|child| child.run().branch());
                if branch.is_some_and(|branch| branches.contains(&branch)) {
                    from.push((child, 0));
                }
            }
            self.publish(holding, offset, end, holdings, pin);
        }
    }

    /// The tails of the block before one, by group.
    fn tails_before(&self, holding: u32, offset: u32, holdings: &Holdings) -> Vec<u32> {
        let tails = |holding: u32, offset: u32| {
            let cover = self.covers.get(&holding);
            let tails = cover.and_then(|cover| cover.tails.get(offset as usize));
            tails.cloned().unwrap_or_default()
        };
        if let Some(before) = offset.checked_sub(1) {
            return tails(holding, before);
        }
        let Some(run) = holdings.get(holding).map(|there| there.run()) else {
            return Vec::new();
        };
        match run.branch().checked_sub(1) {
            // Before the first block nothing is missing.
            None => self.groups.iter().map(|group| group.blocks).collect(),
            Some(before) => {
                let parent = run.parent_address();
                let parent = parent.and_then(|parent| holdings.by_address(parent));
                parent.map_or_else(Vec::new, |parent| tails(parent, before))
            }
        }
    }

    /// Works out the tails of a run's blocks from `offset` on; the end of those that may have changed.
    fn carry(&mut self, holding: u32, offset: u32, mut before: Vec<u32>) -> u32 {
        let Some(cover) = self.covers.get_mut(&holding) else {
            return offset;
        };
        let known = cover.counts.len();
        for at in offset as usize..known {
            let counts = &cover.counts[at];
            let tail = |(group, of): (usize, &Group)| {
                let member = counts.get(group).is_some_and(|&count| count > 0);
                let before = before.get(group).copied().unwrap_or(0);
                if member {
                    (before + 1).min(of.blocks)
                } else {
                    0
                }
            };
            let tails: Vec<_> = self.groups.iter().enumerate().map(tail).collect();
            let same = tails == cover.tails[at];
            cover.tails[at].clone_from(&tails);
            before = tails;
            if same {
                return at as u32 + 1;
            }
        }
        // Past what is known all tails are zero; a branch there is told so.
        known.max(offset as usize + 1) as u32
    }

    /// Publishes where prefixes may end among the blocks `[offset, end)` of a run.
    fn publish(&mut self, holding: u32, offset: u32, end: u32, holdings: &mut Holdings, pin: &Pin) {
        let Some(cover) = self.covers.get_mut(&holding) else {
            return;
        };
        let groups = &self.groups;
        let may_end = |tails: &Vec<u32>| {
            let long = |(group, of): (usize, &Group)| tails.get(group) == Some(&of.blocks);
            groups.iter().enumerate().all(long)
        };
        for group in offset / BITS..end.div_ceil(BITS) {
            let first = (group * BITS) as usize;
            let tails = cover.tails.iter().skip(first).take(BITS as usize);
            let bits = tails.enumerate().filter(|(_, tails)| may_end(tails));
            let ends = bits.fold(0, |ends, (bit, _)| ends | 1 << bit);
            let at = group as usize;
            if cover.ends.len() <= at {
                cover.ends.resize(at + 1, 0);
            }
            if cover.ends[at] == ends {
                continue;
            }
            cover.ends[at] = ends;
            let word = Word {
                worker: self.worker,
                group: group as u16,
                ends,
            };
            if let Some(holding) = holdings.get_mut(holding) {
                holding.set_window(word, pin);
            }
        }
    }

    /// A new group: until it has blocks, no prefix may end anywhere.
    fn add(&mut self, group: WindowGroup, holdings: &mut Holdings, pin: &Pin) {
        self.groups.push(Group {
            number: group.number,
            blocks: group.blocks,
            names: AHashMap::default(),
        });
        let all: Vec<_> = self.covers.iter().collect();
        let all: Vec<_> = all
            .into_iter()
            .map(|(&at, cover)| (at, cover.tails.len() as u32))
            .collect();
        for (at, len) in all {
            self.publish(at, 0, len, holdings, pin);
        }
    }
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
        let pin = &self.begin(at);
        let mut report = StoreReport::default();
        if group.blocks == 0 {
            // It never keeps a prefix from being reused.
            return Ok(report);
        }
        let number = self.window_group(group, pin)?;
        let most = self.names.placed() + WAITING_MAX;
        let Some(windows) = &mut self.windows else {
            return Ok(report);
        };
        for &hash in hashes.iter().filter(|_| tier == Tier::Gpu) {
            let names = &mut windows.groups[number].names;
            if let Some(copies) = names.get_mut(&hash) {
                *copies = copies.saturating_add(1);
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
            windows.count_one(number, place, &|count| count.saturating_add(1));
            let offset = u32::from(place.offset);
            windows.refresh(place.holding, offset, &mut self.holdings, pin);
        }
        self.end(pin);
        Ok(report)
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
                let names = &mut windows.groups[group].names;
                match names.get_mut(&hash) {
                    None => unknown += 1,
                    Some(copies) if *copies > 1 => *copies -= 1,
                    Some(_) => {
                        names.remove(&hash);
                        if let Some(place) = self.names.place(hash) {
                            windows.count_one(group, place, &|count| count.saturating_sub(1));
                            let offset = u32::from(place.offset);
                            windows.refresh(place.holding, offset, &mut self.holdings, pin);
                        }
                    }
                }
            }
        }
        self.end(pin);
        unknown
    }

    /// Forgets that the engine has sliding-window groups, when another one may have taken its place. To be
    /// called when nothing is held.
    pub fn forget_windows(&mut self) {
        if self.windows.take().is_some() {
            self.index.marks().windowed.set(self.id, false);
        }
    }

    /// The place of a group among the worker's.
    fn window_group(&mut self, group: WindowGroup, pin: &Pin) -> Result<usize, WindowError> {
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
