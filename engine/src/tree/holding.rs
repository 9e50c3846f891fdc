//! What one worker holds of one run: private to its writer, published as entries of the run.
use super::lane::{Entry, Lane};
use super::run::{Hold, Run};
use crate::types::{Tier, WorkerId};
use crossbeam_epoch::Guard;

/// A set of offsets in a run.
#[derive(Debug, Default)]
struct Bits(Vec<u64>);

impl Bits {
    fn contains(&self, at: u32) -> bool {
        let word = self.0.get(at as usize / 64);
        word.is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    fn insert(&mut self, at: u32) {
        let word = at as usize / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (at % 64);
    }

    fn remove(&mut self, at: u32) {
        if let Some(word) = self.0.get_mut(at as usize / 64) {
            *word &= !(1 << (at % 64));
        }
    }

    /// O(run length / 64).
    fn first(&self) -> Option<u32> {
        let word = self.0.iter().position(|&word| word != 0)?;
        let at = word * 64 + self.0[word].trailing_zeros() as usize;
        u32::try_from(at).ok()
    }
}

/// Held blocks that a tier lacks, as one published entry.
#[derive(Debug)]
struct TierLane {
    lane: Lane,
    missing: Bits,
    /// Where the entry stands, while there is one.
    entry: Option<u32>,
}

/// In which tiers a block has a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tiers(u8);

impl Tiers {
    pub(crate) fn with(self, tier: Tier) -> Self {
        Self(self.0 | 1 << tier.index())
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn contains(self, tier: Tier) -> bool {
        self.0 >> tier.index() & 1 == 1
    }

    /// Held, but in no tier as fast as this one.
    fn lacks(self, tier: Tier) -> bool {
        let faster_or_equal = (2 << tier.index()) - 1;
        self.0 != 0 && self.0 & faster_or_equal == 0
    }
}

/// One worker's blocks in one run.
#[derive(Debug)]
pub(crate) struct Holding {
    run: Hold,
    worker: WorkerId,
    /// Which of the writer's contexts the run belongs to.
    pub(crate) context: u32,
    /// Where the published entry stands.
    entry: u32,
    /// Blocks `[0, cutoff)` are held, block `cutoff` is not.
    cutoff: u32,
    /// All blocks held.
    count: u32,
    /// Held blocks past the cutoff.
    beyond: Bits,
    /// Only for workers with other tiers than the GPU.
    lanes: Vec<TierLane>,
}

impl Holding {
    /// Enters the worker into the run, holding nothing yet.
    pub(crate) fn enter(run: Hold, worker: WorkerId, context: u32) -> Self {
        let entry = run.claim_entry(Entry {
            worker,
            lane: Lane::Held,
            value: 0,
        });
        Self {
            run,
            worker,
            context,
            entry,
            cutoff: 0,
            count: 0,
            beyond: Bits::default(),
            lanes: Vec::new(),
        }
    }

    pub(crate) fn run(&self) -> &Run {
        &self.run
    }

    pub(crate) fn hold(&self) -> &Hold {
        &self.run
    }

    pub(crate) fn contains(&self, offset: u32) -> bool {
        offset < self.cutoff || self.beyond.contains(offset)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Sets in which tiers the block at `offset` has copies, and publishes it.
    ///
    /// Tier lanes that grow are published before the coverage grows, those that shrink after it has
    /// shrunk: a racing lookup never counts a block for a tier that it was not in.
    pub(crate) fn set(&mut self, offset: u32, tiers: Tiers) {
        for tier in [Tier::Gpu, Tier::Cpu] {
            if tiers.lacks(tier) {
                self.mark_missing(offset, tier);
            }
        }
        match (self.contains(offset), !tiers.is_empty()) {
            (false, true) => self.add(offset),
            (true, false) => self.remove(offset),
            _ => {}
        }
        if self.lanes.is_empty() {
            return;
        }
        for tier in [Tier::Gpu, Tier::Cpu] {
            if !tiers.lacks(tier) {
                self.unmark_missing(offset, tier);
            }
        }
    }

    /// Takes the worker out of the run.
    pub(crate) fn leave(self, guard: &Guard) {
        self.run.clear_entry(self.entry, false);
        for entry in self.lanes.iter().filter_map(|lane| lane.entry) {
            self.run.clear_entry(entry, true);
        }
        self.run.release(guard);
    }

    fn add(&mut self, offset: u32) {
        self.count += 1;
        if offset != self.cutoff {
            self.beyond.insert(offset);
            return;
        }
        self.cutoff += 1;
        while self.beyond.contains(self.cutoff) {
            self.beyond.remove(self.cutoff);
            self.cutoff += 1;
        }
        self.publish();
    }

    fn remove(&mut self, offset: u32) {
        self.count -= 1;
        if offset >= self.cutoff {
            self.beyond.remove(offset);
            return;
        }
        (offset + 1..self.cutoff).for_each(|held| self.beyond.insert(held));
        self.cutoff = offset;
        self.publish();
    }

    fn publish(&self) {
        self.run.set_entry(
            self.entry,
            Entry {
                worker: self.worker,
                lane: Lane::Held,
                value: self.cutoff,
            },
        );
    }

    fn mark_missing(&mut self, offset: u32, tier: Tier) {
        let Some(lane) = Lane::limiting(tier) else {
            return;
        };
        let at = match self.lanes.iter().position(|there| there.lane == lane) {
            Some(at) => at,
            None => {
                let missing = Bits::default();
                self.lanes.push(TierLane {
                    lane,
                    missing,
                    entry: None,
                });
                self.lanes.len() - 1
            }
        };
        self.lanes[at].missing.insert(offset);
        self.lanes[at].publish(&self.run, self.worker);
    }

    fn unmark_missing(&mut self, offset: u32, tier: Tier) {
        let lane = Lane::limiting(tier);
        let found = self.lanes.iter_mut().find(|there| Some(there.lane) == lane);
        if let Some(there) = found
            && there.missing.contains(offset)
        {
            there.missing.remove(offset);
            there.publish(&self.run, self.worker);
        }
    }
}

impl TierLane {
    fn publish(&mut self, run: &Run, worker: WorkerId) {
        let entry = self.missing.first().map(|value| Entry {
            worker,
            lane: self.lane,
            value,
        });
        match (self.entry, entry) {
            (None, Some(entry)) => self.entry = Some(run.claim_entry(entry)),
            (Some(at), Some(entry)) => run.set_entry(at, entry),
            (Some(at), None) => {
                run.clear_entry(at, true);
                self.entry = None;
            }
            (None, None) => {}
        }
    }
}
