//! Finding a block's place in the tree, and keeping count of what stands there.
use super::names::Place;
use super::waiting::{Orphan, Unplaced};
use super::{Block, StoreReport, Writer};
use crate::hash::kept_apart_key;
use crate::limits::RUN_BLOCKS_MAX;
use crate::tree::holding::{Holding, Tiers};
use crate::tree::run::{Claim, Hold};
use crate::types::{BlockKey, EngineHash, Tier};
use crossbeam_epoch::Guard;

impl Orphan {
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
    pub(super) fn store_block(
        &mut self,
        cursor: Cursor,
        block: &Block,
        report: &mut StoreReport,
        guard: &Guard,
    ) -> Cursor {
        let hash = block.hash;
        if let Some(place) = self.names.place(hash) {
            if self.is_consistent(place, block) {
                report.copies += 1;
                self.add_copy(hash, block.tier);
                return Cursor::After(place);
            }
            self.discredit(hash, place, guard);
            return self.conflict(block, report);
        }
        let unplaced = self.waiting.get(hash);
        match unplaced {
            Some(Unplaced::Orphan(orphan)) if !orphan.is_of(block) => {
                return self.conflict(block, report);
            }
            Some(Unplaced::Conflict) => return self.conflict(block, report),
            _ => {}
        }
        let known = unplaced.is_some();
        if let Cursor::Unknown(parent) = cursor {
            self.wait(parent, block, known, report);
            return Cursor::Unknown(hash);
        }
        if known {
            report.attached += 1;
            self.waiting.remove(hash);
            self.add_copy(hash, block.tier);
        } else {
            report.stored += 1;
            self.names.insert(hash, block.tier, None);
        }
        let place = self.settle(cursor, block, guard);
        self.attach_children(hash, report, guard);
        Cursor::After(place)
    }

    /// One more copy of a name that was told with another content before.
    fn conflict(&mut self, block: &Block, report: &mut StoreReport) -> Cursor {
        report.conflicts += 1;
        self.incomplete = true;
        self.waiting.insert(block.hash, Unplaced::Conflict);
        self.add_copy(block.hash, block.tier);
        Cursor::Unknown(block.hash)
    }

    /// One more copy of a known name.
    pub(super) fn add_copy(&mut self, hash: EngineHash, tier: Tier) {
        if self.names.add(hash, tier)
            && let Some(place) = self.names.place(hash)
        {
            self.enter_tier(place, tier);
        }
    }

    /// The last copy that some name had in this tier is gone.
    pub(super) fn leave_tier(&mut self, place: Place, tier: Tier, guard: &Guard) {
        let mut count = self.crowded.get(&place).copied().unwrap_or([1, 0, 0]);
        count[tier.index()] = count[tier.index()].saturating_sub(1);
        self.set_count(place, count);
        self.leave_if_empty(place.holding, guard);
    }

    fn enter_tier(&mut self, place: Place, tier: Tier) {
        let ordinary = self
            .holding(place)
            .is_some_and(|there| there.contains(u32::from(place.offset)));
        let default = [u32::from(ordinary), 0, 0];
        let mut count = self.crowded.get(&place).copied().unwrap_or(default);
        count[tier.index()] += 1;
        self.set_count(place, count);
    }

    /// Sets how many names have copies in each tier of a place, and publishes it.
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
        if let Some(Some(holding)) = self.holdings.get_mut(place.holding as usize) {
            holding.set(u32::from(place.offset), tiers);
        }
    }

    fn leave_if_empty(&mut self, at: u32, guard: &Guard) {
        let slot = self.holdings.get_mut(at as usize);
        if let Some(holding) = slot.and_then(|slot| slot.take_if(|there| there.is_empty())) {
            self.by_run.remove(&holding.hold().address());
            self.holdings_free.push(at);
            holding.leave(guard);
        }
    }

    /// Gives a name without a place its place, with the copies it has.
    fn settle(&mut self, cursor: Cursor, block: &Block, guard: &Guard) -> Place {
        let mut place = self.descend(cursor, block.context, block.key, block.following, guard);
        if !block.says_extra && self.is_held(place) {
            let apart = kept_apart_key(block.key, block.hash);
            place = self.descend(cursor, block.context, apart, block.following, guard);
        }
        let tiers = self.names.tiers(block.hash);
        for tier in Tier::ALL.into_iter().filter(|&tier| tiers.contains(tier)) {
            self.enter_tier(place, tier);
        }
        self.names.set_place(block.hash, Some(place));
        place
    }

    /// The place of (cursor, key), made if needed, with a holding of this worker's there.
    fn descend(
        &mut self,
        cursor: Cursor,
        context: u32,
        key: BlockKey,
        first: usize,
        guard: &Guard,
    ) -> Place {
        let first = u32::try_from(first).unwrap_or(RUN_BLOCKS_MAX);
        let child = match cursor {
            Cursor::After(place) => {
                let next = u32::from(place.offset) + 1;
                let Some(holding) = self.holding(place) else {
                    unreachable!("a placed name has a holding");
                };
                if next < RUN_BLOCKS_MAX && holding.run().claim(next, key) == Claim::Ours {
                    let offset = u16::try_from(next).unwrap_or(u16::MAX);
                    return Place { offset, ..place };
                }
                holding.hold().child(next, key, first, guard)
            }
            Cursor::Root | Cursor::Unknown(_) => {
                let used = self.contexts.get(context as usize);
                let Some(root) = used.and_then(|used| used.tree().root()) else {
                    unreachable!("a block's context is in use");
                };
                root.child(0, key, first, guard)
            }
        };
        Place {
            holding: self.enter(child, context, guard),
            offset: 0,
        }
    }

    /// The writer's holding in a run.
    fn enter(&mut self, run: Hold, context: u32, guard: &Guard) -> u32 {
        let address = run.address();
        if let Some(&there) = self.by_run.get(&address) {
            run.release(guard);
            return there;
        }
        let holding = Some(Holding::enter(run, self.id, context));
        let at = match self.holdings_free.pop() {
            Some(at) => {
                self.holdings[at as usize] = holding;
                at
            }
            None => {
                self.holdings.push(holding);
                u32::try_from(self.holdings.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.by_run.insert(address, at);
        at
    }

    /// Places what waited for a name, and what waited for that.
    fn attach_children(&mut self, placed: EngineHash, report: &mut StoreReport, guard: &Guard) {
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
                let block = Block {
                    hash,
                    key: orphan.key,
                    context: orphan.context,
                    says_extra: orphan.says_extra,
                    tier: Tier::Gpu,
                    following: 1,
                };
                self.settle(cursor, &block, guard);
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

    /// Keeps a block whose parent is not known.
    fn wait(&mut self, parent: EngineHash, block: &Block, known: bool, report: &mut StoreReport) {
        let orphan = Orphan {
            parent,
            key: block.key,
            context: block.context,
            says_extra: block.says_extra,
        };
        if known {
            report.copies += 1;
            self.names.add(block.hash, block.tier);
            self.waiting.insert(block.hash, Unplaced::Orphan(orphan));
        } else if self.waiting.is_full() {
            report.dropped += 1;
            self.incomplete = true;
        } else {
            report.waiting += 1;
            self.names.insert(block.hash, block.tier, None);
            self.waiting.insert(block.hash, Unplaced::Orphan(orphan));
        }
    }

    /// Takes a name that turned out to have two contents out of the tree: it counts for nothing.
    fn discredit(&mut self, hash: EngineHash, place: Place, guard: &Guard) {
        let tiers = self.names.tiers(hash);
        self.names.set_place(hash, None);
        let present = Tier::ALL.into_iter().filter(|&tier| tiers.contains(tier));
        for tier in present {
            self.leave_tier(place, tier, guard);
        }
    }

    /// Whether a placed name's block has the content that an event now says.
    fn is_consistent(&self, place: Place, block: &Block) -> bool {
        let there = self.holding(place).and_then(|holding| {
            (holding.context == block.context)
                .then(|| holding.run().key(u32::from(place.offset)))
                .flatten()
        });
        there == Some(block.key) || there == Some(kept_apart_key(block.key, block.hash))
    }

    fn is_held(&self, place: Place) -> bool {
        self.holding(place)
            .is_some_and(|holding| holding.contains(u32::from(place.offset)))
    }

    fn holding(&self, place: Place) -> Option<&Holding> {
        self.holdings.get(place.holding as usize)?.as_ref()
    }

    fn context_of(&self, place: Place) -> Option<u32> {
        self.holding(place).map(|holding| holding.context)
    }
}
