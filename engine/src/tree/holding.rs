//! What one worker holds of one run: private to its writer, published as entries of the run.
use super::entry::{Entry, NONE};
use super::run::{Hold, Run};
use crate::types::{TIERS, Tier, WorkerId};
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

    /// Inserts all of `[from, to)`. O(length / 64).
    fn insert_range(&mut self, from: u32, to: u32) {
        let mut at = from;
        while at < to {
            let end = to.min((at / 64 + 1) * 64);
            let word = at as usize / 64;
            if self.0.len() <= word {
                self.0.resize(word + 1, 0);
            }
            let ones = u64::MAX >> (64 - (end - at));
            self.0[word] |= ones << (at % 64);
            at = end;
        }
    }

    /// Takes out all that is in the set without a break from `from` on; where the break is.
    /// O(length / 64).
    fn take_run(&mut self, from: u32) -> u32 {
        let mut at = from;
        while let Some(word) = self.0.get_mut(at as usize / 64) {
            let shift = at % 64;
            let ones = (*word >> shift).trailing_ones().min(64 - shift);
            if ones == 0 {
                break;
            }
            *word &= !((u64::MAX >> (64 - ones)) << shift);
            at += ones;
            if !at.is_multiple_of(64) {
                break;
            }
        }
        at
    }

    /// O(run length / 64).
    fn first(&self) -> Option<u32> {
        let word = self.0.iter().position(|&word| word != 0)?;
        let at = word * 64 + self.0[word].trailing_zeros() as usize;
        u32::try_from(at).ok()
    }
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
    /// Held blocks that are not on the GPU; and in neither GPU nor CPU memory. Only for workers with
    /// other tiers than the GPU.
    missing: Option<Box<[Bits; TIERS - 1]>>,
}

impl Holding {
    /// Enters the worker into the run, holding nothing yet.
    pub(crate) fn enter(run: Hold, worker: WorkerId, context: u32) -> Self {
        let entry = run.claim_entry(Entry {
            worker,
            cutoff: 0,
            not_gpu: NONE,
            not_cpu: NONE,
        });
        Self {
            run,
            worker,
            context,
            entry,
            cutoff: 0,
            count: 0,
            beyond: Bits::default(),
            missing: None,
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

    /// Sets in which tiers the block at `offset` has copies, and publishes it in one store.
    pub(crate) fn set(&mut self, offset: u32, tiers: Tiers) {
        match (self.contains(offset), !tiers.is_empty()) {
            (false, true) => self.add(offset),
            (true, false) => self.remove(offset),
            _ => {}
        }
        self.set_missing(offset, tiers);
        self.publish();
    }

    /// Takes the worker out of the run.
    pub(crate) fn leave(self, guard: &Guard) {
        self.run.clear_entry(self.entry);
        self.run.release(guard);
    }

    fn add(&mut self, offset: u32) {
        self.count += 1;
        if offset == self.cutoff {
            self.cutoff = self.beyond.take_run(offset + 1);
        } else {
            self.beyond.insert(offset);
        }
    }

    fn remove(&mut self, offset: u32) {
        self.count -= 1;
        if offset >= self.cutoff {
            self.beyond.remove(offset);
            return;
        }
        self.beyond.insert_range(offset + 1, self.cutoff);
        self.cutoff = offset;
    }

    fn set_missing(&mut self, offset: u32, tiers: Tiers) {
        let lacks = [tiers.lacks(Tier::Gpu), tiers.lacks(Tier::Cpu)];
        if self.missing.is_none() && lacks == [false; TIERS - 1] {
            return;
        }
        let missing = self.missing.get_or_insert_default();
        for (bits, lacks) in missing.iter_mut().zip(lacks) {
            match lacks {
                true => bits.insert(offset),
                false => bits.remove(offset),
            }
        }
    }

    fn publish(&self) {
        let first = |tier: Tier| {
            let missing = self.missing.as_ref()?;
            missing[tier.index()].first()
        };
        self.run.set_entry(
            self.entry,
            Entry {
                worker: self.worker,
                cutoff: self.cutoff,
                not_gpu: first(Tier::Gpu).unwrap_or(NONE),
                not_cpu: first(Tier::Cpu).unwrap_or(NONE),
            },
        );
    }
}
