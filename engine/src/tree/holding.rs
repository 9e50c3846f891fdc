//! What one worker holds of one run: private to its writer, published as entries of the run.
use super::Pin;
use super::entry::Entry;
use super::run::{Claim, Hold, Run};
use super::seat::Seat;
use super::window::Word;
use crate::types::{BlockKey, TIERS, Tier, WorkerId};

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

    /// One past the highest of the set, zero for none. O(run length / 64).
    fn end(&self) -> u32 {
        let word = self.0.iter().rposition(|&word| word != 0);
        word.map_or(0, |word| {
            (word as u32 + 1) * 64 - self.0[word].leading_zeros()
        })
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

/// One worker's blocks in one run. Changes are seen by lookups after [`Holding::publish`].
#[derive(Debug)]
pub(crate) struct Holding {
    seat: Seat,
    /// Which of the writer's contexts the run belongs to.
    pub(crate) context: u32,
    /// When the writer last stored something here, by its own count.
    pub(crate) touched: u32,
    /// Blocks `[0, cutoff)` are held, block `cutoff` is not.
    cutoff: u32,
    /// All blocks held.
    count: u32,
    /// What the cutoff does not say. Most holdings have none.
    rest: Option<Box<Rest>>,
}

/// The exceptions of a holding.
#[derive(Debug, Default)]
struct Rest {
    /// Held blocks past the cutoff.
    beyond: Bits,
    /// Held blocks that are not on the GPU; and in neither GPU nor CPU memory. Only for workers with
    /// other tiers than the GPU.
    missing: Option<[Bits; TIERS - 1]>,
}

#[cfg(not(crossbeam_loom))]
const _: () = assert!(size_of::<Holding>() == 64);

impl Holding {
    /// Enters the worker into the run, holding nothing yet.
    pub(crate) fn enter(run: Hold, worker: WorkerId, context: u32, pin: &Pin) -> Self {
        let nothing = Entry {
            worker,
            blocks: [0; TIERS],
        };
        Self {
            seat: Seat::take(run, nothing, pin),
            context,
            touched: 0,
            cutoff: 0,
            count: 0,
            rest: None,
        }
    }

    pub(crate) fn run(&self) -> &Run {
        &self.seat
    }

    pub(crate) fn hold(&self) -> &Hold {
        self.seat.run()
    }

    /// See [`Seat::claim`].
    #[inline]
    pub(crate) fn claim(&mut self, offset: u32, key: BlockKey, following: u32, pin: &Pin) -> Claim {
        self.seat.claim(offset, key, following, pin)
    }

    /// See [`Seat::prefetch`].
    #[inline]
    pub(crate) fn prefetch(&self, offset: u32) {
        self.seat.prefetch(offset);
    }

    /// See [`Seat::key`].
    #[inline]
    pub(crate) fn key(&mut self, offset: u32, pin: &Pin) -> Option<BlockKey> {
        self.seat.key(offset, pin)
    }

    #[inline]
    pub(crate) fn contains(&self, offset: u32) -> bool {
        offset < self.cutoff || self.is_beyond(offset)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// All blocks held.
    pub(crate) fn len(&self) -> u32 {
        self.count
    }

    /// One past the last block held. O(1), O(run length / 64) past a hole.
    pub(crate) fn end(&self) -> u32 {
        let beyond = self.rest.as_ref().map_or(0, |rest| rest.beyond.end());
        self.cutoff.max(beyond)
    }

    /// Whether all blocks held are on the GPU.
    #[inline]
    pub(crate) fn is_on_gpu_only(&self) -> bool {
        self.rest.as_ref().is_none_or(|rest| rest.missing.is_none())
    }

    /// Sets in which tiers the block at `offset` has copies.
    pub(crate) fn set(&mut self, offset: u32, tiers: Tiers) {
        match (self.contains(offset), !tiers.is_empty()) {
            (false, true) => self.add(offset),
            (true, false) => self.remove(offset),
            _ => {}
        }
        self.set_missing(offset, tiers);
    }

    /// A block that was not held is now, on the GPU.
    #[inline]
    pub(crate) fn add(&mut self, offset: u32) {
        self.count += 1;
        if offset != self.cutoff {
            self.rest.get_or_insert_default().beyond.insert(offset);
            return;
        }
        self.cutoff = offset + 1;
        if let Some(rest) = &mut self.rest {
            self.cutoff = rest.beyond.take_run(offset + 1);
        }
    }

    /// A block that was held is not any more, in no tier. With blocks off the GPU, use
    /// [`Holding::set`].
    #[inline]
    pub(crate) fn remove(&mut self, offset: u32) {
        self.count -= 1;
        if offset >= self.cutoff {
            if let Some(rest) = &mut self.rest {
                rest.beyond.remove(offset);
            }
            return;
        }
        if offset + 1 < self.cutoff {
            let rest = self.rest.get_or_insert_default();
            rest.beyond.insert_range(offset + 1, self.cutoff);
        }
        self.cutoff = offset;
    }

    /// Lets lookups see what is held, in one store.
    #[inline]
    pub(crate) fn publish(&self, worker: WorkerId) {
        let mut blocks = [self.cutoff; TIERS];
        let missing = self.rest.as_ref().and_then(|rest| rest.missing.as_ref());
        if let Some([not_gpu, not_cpu]) = missing {
            let held = |bits: &Bits, most: u32| bits.first().map_or(most, |at| at.min(most));
            blocks[Tier::Cpu.index()] = held(not_cpu, self.cutoff);
            blocks[Tier::Gpu.index()] = held(not_gpu, blocks[Tier::Cpu.index()]);
        }
        self.seat.set(Entry { worker, blocks });
    }

    /// See [`Seat::set_window`].
    pub(crate) fn set_window(&mut self, word: Word, pin: &Pin) {
        self.seat.set_window(word, pin);
    }

    /// Takes the worker out of the run.
    pub(crate) fn leave(self, pin: &Pin) {
        self.seat.leave(pin);
    }

    fn is_beyond(&self, offset: u32) -> bool {
        let rest = self.rest.as_ref();
        rest.is_some_and(|rest| rest.beyond.contains(offset))
    }

    fn set_missing(&mut self, offset: u32, tiers: Tiers) {
        let lacks = [tiers.lacks(Tier::Gpu), tiers.lacks(Tier::Cpu)];
        if self.is_on_gpu_only() && lacks == [false; TIERS - 1] {
            return;
        }
        let rest = self.rest.get_or_insert_default();
        let missing = rest.missing.get_or_insert_default();
        for (bits, lacks) in missing.iter_mut().zip(lacks) {
            match lacks {
                true => bits.insert(offset),
                false => bits.remove(offset),
            }
        }
    }
}
