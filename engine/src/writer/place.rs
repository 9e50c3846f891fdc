//! Finding a block's place in the tree, and keeping count of what stands there.
use super::names::{At, Name, Place};
use super::waiting::{Orphan, Unplaced};
use super::{Block, StoreReport, Writer};
use crate::hash::kept_apart_key;
use crate::limits::RUN_BLOCKS_MAX;
use crate::tree::Pin;
use crate::tree::holding::{Holding, Tiers};
use crate::tree::run::{Claim, Hold};
use crate::types::{BlockKey, EngineHash, Tier};

impl Orphan {
    fn of(parent: EngineHash, block: &Block) -> Self {
        Self {
            parent,
            key: block.key,
            context: block.context,
            says_extra: block.says_extra,
        }
    }

    fn block(self, hash: EngineHash) -> Block {
        Block {
            hash,
            key: self.key,
            context: self.context,
            says_extra: self.says_extra,
            tier: Tier::Gpu,
            following: 1,
        }
    }

    /// Whether a block that is told again has the content that was told before.
    fn is_of(self, block: &Block) -> bool {
        self.key == block.key && self.context == block.context
    }
}

/// Where the next block of a chain is to stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cursor {
    /// At the beginning.
    Root,
    /// After this block.
    After(Place),
    /// After a block whose place is not known.
    Unknown(EngineHash),
}

impl Writer {
    /// The cursor after a block that an event names as a parent.
    pub(super) fn cursor_after(&self, parent: EngineHash, context: u32) -> Cursor {
        match self.names.place(parent) {
            // A parent in another context is no parent: the block waits, and is never credited.
            Some(place) if self.context_of(place) == Some(context) => Cursor::After(place),
            _ => Cursor::Unknown(parent),
        }
    }

    /// Stores one block of an event; where the next one stands.
    #[inline]
    pub(super) fn store_block(
        &mut self,
        cursor: Cursor,
        block: &Block,
        report: &mut StoreReport,
        pin: &Pin,
    ) -> Cursor {
        let hash = block.hash;
        if let Some((at, name)) = self.names.find(hash) {
            return self.store_known(cursor, block, at, name, report, pin);
        }
        if let Cursor::Unknown(parent) = cursor {
            self.wait(parent, block, report);
            return Cursor::Unknown(hash);
        }
        report.stored += 1;
        let place = self.find_place(cursor, block, pin);
        self.enter_tier(place, block.tier);
        self.names.insert(hash, block.tier, Some(place));
        self.placed(hash, place, report, pin);
        Cursor::After(place)
    }

    /// Stores one more copy of a name that is known already.
    fn store_known(
        &mut self,
        cursor: Cursor,
        block: &Block,
        at: At,
        name: Name,
        report: &mut StoreReport,
        pin: &Pin,
    ) -> Cursor {
        let hash = block.hash;
        if let Some(place) = name.place() {
            if self.is_consistent(place, block, pin) {
                report.copies += 1;
                self.add_copy(hash, at, name, block.tier);
                return Cursor::After(place);
            }
            self.discredit(hash, place, pin);
            return self.conflict(block, report);
        }
        match (self.waiting.get(hash), cursor) {
            (Some(Unplaced::Conflict), _) => self.conflict(block, report),
            (Some(Unplaced::Orphan(orphan)), _) if !orphan.is_of(block) => {
                self.conflict(block, report)
            }
            (_, Cursor::Unknown(parent)) => {
                report.copies += 1;
                self.names.add(hash, at, block.tier);
                let orphan = Orphan::of(parent, block);
                self.waiting.insert(hash, Unplaced::Orphan(orphan));
                Cursor::Unknown(hash)
            }
            (_, Cursor::Root | Cursor::After(_)) => {
                report.attached += 1;
                self.waiting.remove(hash);
                self.names.add(hash, at, block.tier);
                Cursor::After(self.give_place(cursor, block, report, pin))
            }
        }
    }

    /// One more copy of a name that was told with another content before.
    fn conflict(&mut self, block: &Block, report: &mut StoreReport) -> Cursor {
        report.conflicts += 1;
        self.incomplete = true;
        self.waiting.insert(block.hash, Unplaced::Conflict);
        if let Some((at, _)) = self.names.find(block.hash) {
            self.names.add(block.hash, at, block.tier);
        }
        Cursor::Unknown(block.hash)
    }

    /// One more copy of a known name.
    pub(super) fn add_copy(&mut self, hash: EngineHash, at: At, name: Name, tier: Tier) {
        if self.names.add(hash, at, tier)
            && let Some(place) = name.place()
        {
            self.enter_tier(place, tier);
        }
        if let Some(holding) = self.holdings.get_mut(name.holding) {
            holding.touched = self.clock;
        }
    }

    /// The last copy that some name had in this tier is gone.
    pub(super) fn leave_tier(&mut self, place: Place, tier: Tier, pin: &Pin) {
        let offset = u32::from(place.offset);
        let ordinary = tier == Tier::Gpu && !self.is_crowded(place);
        match self.holdings.change(place.holding) {
            Some(holding) if ordinary && holding.is_on_gpu_only() => holding.remove(offset),
            _ => {
                let mut count = self.crowded.get(&place).copied().unwrap_or([1, 0, 0]);
                count[tier.index()] = count[tier.index()].saturating_sub(1);
                self.set_count(place, count);
            }
        }
        self.leave_if_empty(place.holding, pin);
    }

    #[inline]
    pub(super) fn enter_tier(&mut self, place: Place, tier: Tier) {
        let offset = u32::from(place.offset);
        let clock = self.clock;
        let Some(holding) = self.holdings.change(place.holding) else {
            return;
        };
        holding.touched = clock;
        let held = holding.contains(offset);
        if !held && tier == Tier::Gpu {
            holding.add(offset);
            return;
        }
        let default = [u32::from(held), 0, 0];
        let mut count = self.crowded.get(&place).copied().unwrap_or(default);
        count[tier.index()] += 1;
        self.set_count(place, count);
    }

    #[inline]
    fn is_crowded(&self, place: Place) -> bool {
        !self.crowded.is_empty() && self.crowded.contains_key(&place)
    }

    /// Sets how many names have copies in each tier of a place.
    fn set_count(&mut self, place: Place, count: [u32; 3]) {
        let tiers = Tier::ALL
            .into_iter()
            .filter(|tier| count[tier.index()] > 0)
            .fold(Tiers::default(), Tiers::with);
        if count == [1, 0, 0] || tiers.is_empty() {
            self.crowded.remove(&place);
        } else {
            self.crowded.insert(place, count);
        }
        self.holdings.set(place, tiers);
    }

    #[inline]
    pub(super) fn leave_if_empty(&mut self, at: u32, pin: &Pin) {
        if self.holdings.get(at).is_some_and(Holding::is_empty) {
            self.leave_run(at, pin);
        }
    }

    /// Takes the worker out of a run in which it holds nothing that counts any more.
    pub(super) fn leave_run(&mut self, at: u32, pin: &Pin) {
        if let Some(windows) = &mut self.windows {
            windows.left(at, &self.holdings);
        }
        if let Some(context) = self.holdings.leave(at, pin) {
            self.contexts.left(context);
        }
    }

    /// Gives a name without a place its place, with the copies it has.
    fn give_place(
        &mut self,
        cursor: Cursor,
        block: &Block,
        report: &mut StoreReport,
        pin: &Pin,
    ) -> Place {
        let place = self.give_one_place(cursor, block, pin);
        self.placed(block.hash, place, report, pin);
        place
    }

    fn give_one_place(&mut self, cursor: Cursor, block: &Block, pin: &Pin) -> Place {
        let place = self.find_place(cursor, block, pin);
        let tiers = self.names.tiers(block.hash);
        for tier in Tier::ALL.into_iter().filter(|&tier| tiers.contains(tier)) {
            self.enter_tier(place, tier);
        }
        self.names.set_place(block.hash, Some(place));
        place
    }

    /// A name has got its place: what waited for it follows.
    #[inline]
    pub(super) fn placed(
        &mut self,
        hash: EngineHash,
        place: Place,
        report: &mut StoreReport,
        pin: &Pin,
    ) {
        if let Some(windows) = &mut self.windows {
            windows.placed(hash, place, &mut self.holdings, pin);
        }
        if self.waiting.orphans() > 0 {
            self.attach_children(hash, report, pin);
        }
    }

    /// A name is about to lose its place.
    #[inline]
    pub(super) fn unplaced(&mut self, hash: EngineHash, place: Place, pin: &Pin) {
        if let Some(windows) = &mut self.windows {
            windows.unplaced(hash, place, &mut self.holdings, pin);
        }
    }

    /// Where a block that is not placed yet is to stand.
    #[inline]
    fn find_place(&mut self, cursor: Cursor, block: &Block, pin: &Pin) -> Place {
        let place = self.descend(cursor, block, block.key, pin);
        if !block.says_extra && self.is_held(place) {
            let apart = kept_apart_key(block.key, block.hash);
            return self.descend(cursor, block, apart, pin);
        }
        place
    }

    /// The place of (cursor, key), made if needed, with a holding of this worker's there.
    #[inline]
    pub(super) fn descend(
        &mut self,
        cursor: Cursor,
        block: &Block,
        key: BlockKey,
        pin: &Pin,
    ) -> Place {
        let following = block.following;
        if let Cursor::After(place) = cursor {
            let next = u32::from(place.offset) + 1;
            let Some(holding) = self.holdings.get_mut(place.holding) else {
                unreachable!("a placed name has a holding");
            };
            if next < RUN_BLOCKS_MAX && holding.claim(next, key, following, pin) == Claim::Ours {
                let offset = next as u16;
                return Place { offset, ..place };
            }
            let child = holding.hold().child(next, key, following, pin);
            return self.enter(child, block.context, pin);
        }
        let used = self.contexts.get(block.context);
        let Some(root) = used.and_then(|used| used.tree().root()) else {
            unreachable!("a block's context is in use");
        };
        let child = root.child(0, key, following, pin);
        self.enter(child, block.context, pin)
    }

    /// The beginning of a run, with a holding there.
    fn enter(&mut self, run: Hold, context: u32, pin: &Pin) -> Place {
        let (holding, new) = self.holdings.enter(run, context, pin);
        if new {
            self.contexts.entered(context);
            if let Some(windows) = &mut self.windows {
                windows.entered(holding, &self.holdings);
            }
        }
        Place { holding, offset: 0 }
    }

    /// Places what waited for a name, and what waited for that.
    #[cold]
    fn attach_children(&mut self, placed: EngineHash, report: &mut StoreReport, pin: &Pin) {
        let mut parent = placed;
        let mut further = Vec::new();
        loop {
            let Some(hash) = self.waiting.child_of(parent) else {
                match further.pop() {
                    Some(next) => parent = next,
                    None => return,
                }
                continue;
            };
            let Some(Unplaced::Orphan(orphan)) = self.waiting.remove(hash) else {
                return;
            };
            let cursor = self.cursor_after(parent, orphan.context);
            if matches!(cursor, Cursor::After(_)) {
                let place = self.give_one_place(cursor, &orphan.block(hash), pin);
                if let Some(windows) = &mut self.windows {
                    windows.placed(hash, place, &mut self.holdings, pin);
                }
                report.attached += 1;
                further.push(hash);
            } else {
                // Its parent belongs to another context: a contradiction, so it never counts.
                self.waiting.insert(hash, Unplaced::Conflict);
                self.incomplete = true;
                report.conflicts += 1;
            }
        }
    }

    /// Keeps a new block whose parent is not known.
    fn wait(&mut self, parent: EngineHash, block: &Block, report: &mut StoreReport) {
        if self.waiting.is_full() {
            report.dropped += 1;
            self.incomplete = true;
            return;
        }
        report.waiting += 1;
        self.names.insert(block.hash, block.tier, None);
        let orphan = Orphan::of(parent, block);
        self.waiting.insert(block.hash, Unplaced::Orphan(orphan));
    }

    /// Takes a name that turned out to have two contents out of the tree: it counts for nothing.
    fn discredit(&mut self, hash: EngineHash, place: Place, pin: &Pin) {
        self.unplaced(hash, place, pin);
        let tiers = self.names.tiers(hash);
        self.names.set_place(hash, None);
        let present = Tier::ALL.into_iter().filter(|&tier| tiers.contains(tier));
        for tier in present {
            self.leave_tier(place, tier, pin);
        }
    }

    /// Whether a placed name's block has the content that an event now says.
    fn is_consistent(&mut self, place: Place, block: &Block, pin: &Pin) -> bool {
        let Some(holding) = self.holdings.get_mut(place.holding) else {
            return false;
        };
        if holding.context != block.context {
            return false;
        }
        let there = holding.key(u32::from(place.offset), pin);
        there == Some(block.key) || there == Some(kept_apart_key(block.key, block.hash))
    }

    fn is_held(&self, place: Place) -> bool {
        self.holdings
            .get(place.holding)
            .is_some_and(|holding| holding.contains(u32::from(place.offset)))
    }

    pub(super) fn context_of(&self, place: Place) -> Option<u32> {
        self.holdings
            .get(place.holding)
            .map(|holding| holding.context)
    }
}
