//! Staying within the byte budget: a writer forgets its least recently used leaves.
//!
//! A leaf is a run in which the worker holds blocks, and from which no other such run branches off. It
//! was used when the worker last stored something there (a lookup leaves no trace: it writes nothing). Only the writer
//! that stores is asked to forget, since nobody else may touch what it holds; one that has nothing to forget drops
//! what it was to store. So the index is never larger than its budget by more than one event of each writer.
use super::{StoreReport, Writer};
use crate::index::Participant;
use crate::tree::Pin;
use crate::tree::holding::Holding;
use ahash::AHashSet;

/// At least this part of the names is forgotten at once, since finding them is a walk over all.
const PART: usize = 16;

impl Writer {
    /// Forgets least recently used leaves if no more than a sixteenth is left of what the index, or the worker's model, may
    /// take; how many names. To be called now and then for all workers: those that store forget of their own only, and
    /// one that is new has nothing to forget.
    /// O(names of the worker) if it is.
    ///
    /// # Panics
    /// If `at` belongs to another index.
    pub fn trim(&mut self, at: &Participant) -> usize {
        let pin = self.begin_tending(at);
        let evicted = if self.account.is_crowded() {
            self.evict(0, &pin)
        } else {
            0
        };
        self.end(&pin);
        evicted
    }

    /// Makes room for an event of so many blocks; whether there is any.
    pub(super) fn make_room(&mut self, blocks: usize, report: &mut StoreReport, pin: &Pin) -> bool {
        if !self.account.is_over() {
            return true;
        }
        report.evicted = u32::try_from(self.evict(blocks, pin)).unwrap_or(u32::MAX);
        self.end(pin);
        if !self.account.is_over() {
            return true;
        }
        report.dropped = u32::try_from(blocks).unwrap_or(u32::MAX);
        report.over_budget = report.dropped;
        self.incomplete = true;
        false
    }

    /// Forgets the oldest leaves: twice the blocks asked for, or more.
    fn evict(&mut self, blocks: usize, pin: &Pin) -> usize {
        let wanted = (2 * blocks).max(self.names.len().div_ceil(PART));
        let mut gone = AHashSet::new();
        let mut found = 0;
        for (at, len) in self.leaves() {
            if found >= wanted {
                break;
            }
            found += len;
            gone.insert(at);
        }
        for &at in &gone {
            self.leave_run(at, pin);
        }
        if gone.is_empty() {
            return 0;
        }
        self.incomplete = true;
        self.changes += 1;
        self.crowded
            .retain(|place, _| !gone.contains(&place.holding));
        let forgotten = self.names.forget(|place| gone.contains(&place.holding));
        self.account.evicted(forgotten);
        if let Some(windows) = &mut self.windows {
            windows.forget_unplaced(&self.names);
        }
        forgotten
    }

    /// Leaves and how many blocks they have, the least recently used first.
    fn leaves(&self) -> Vec<(u32, usize)> {
        let parent = |(_, holding): (u32, &Holding)| holding.run().parent_address();
        let parents: AHashSet<_> = self.holdings.iter().filter_map(parent).collect();
        let is_leaf = |(_, holding): &(u32, &Holding)| !parents.contains(&holding.hold().address());
        let mut leaves: Vec<_> = self.holdings.iter().filter(is_leaf).collect();
        // By age, so that a clock that has gone around does no harm.
        leaves.sort_by_key(|(_, holding)| {
            std::cmp::Reverse(self.clock.wrapping_sub(holding.touched))
        });
        let sized = |(at, holding): (u32, &Holding)| (at, holding.len() as usize);
        leaves.into_iter().map(sized).collect()
    }
}
