//! A hash table of 16-byte entries that grows in small steps.
//!
//! The map from engine hashes to places is the largest consumer of memory, and a table that doubles is
//! half empty after it did, and stops its thread while it does. Here:
//!
//! - Linear hashing over shards of about [`SHARD`] entries: shard n is added by splitting shard n - 2^k, so
//!   no insertion moves more than some hundred entries.
//! - Inside a shard, linear probing with the entries in order of their mixed hashes, whose highest bits
//!   are also their homes. A search ends where a larger one stands: at 86% after three slots on average,
//!   in one line or two adjacent ones. To enlarge a shard by a quarter, or to split it, is one pass over it from
//!   front to back.
//!
//! Entries hold the mixed hash only: mixing is a bijection, so equal mixed hashes are equal hashes. It is
//! keyed at random, so that nobody outside can aim at a place.
//!
//! Tried and dropped, with the time of a store in the peers' workload: cuckoo hashing with buckets of
//! four and linear hashing over single buckets at 84% (320 ns: every second insertion has to move others, each a
//! cache miss); cuckoo hashing inside shards (450 ns: to enlarge one costs 45 ns an entry).
//!
//! Sources: Litwin, "Linear hashing" (1980); Amble and Knuth, "Ordered hash tables" (1974).
use crate::sync::prefetch_lines;
use crate::types::EngineHash;
use ahash::RandomState;

/// Entries in a shard, on average over all shards; single ones have half to twice as many.
const SHARD: usize = 256;

/// Slots are allocated by this many: a cache line.
const LINE: usize = 4;

/// Slots of a shard at its end that are nobody's home, and one in [`SPARE_PART`] of all beside, so that a
/// shard that is made larger again and again has room for any entries in the end.
const SPARE: usize = 6;

/// See [`SPARE`].
const SPARE_PART: usize = 64;

/// Entries of a shard at which it is enlarged, in 64ths of its slots.
const FULL: usize = 55;

/// Entries of a shard below which it is made smaller, in 64ths of its slots.
const LOW: usize = 28;

/// Entries of a shard that is made anew, at most, in 64ths of its slots.
const FRESH: usize = 50;

/// What is kept of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) holding: u32,
    pub(super) offset: u16,
    /// On the GPU, and none elsewhere; or `SPILLED`. Zero: the slot is empty.
    pub(super) copies: u16,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    mixed: u64,
    name: Name,
}

const _: () = assert!(size_of::<Slot>() * LINE == 64);

const EMPTY: Slot = Slot {
    mixed: 0,
    name: Name {
        holding: 0,
        offset: 0,
        copies: 0,
    },
};

impl Slot {
    #[inline]
    fn is_empty(&self) -> bool {
        self.name.copies == 0
    }
}

/// A part of the table: all entries whose mixed hash leads to it.
#[derive(Debug, Default)]
struct Shard {
    slots: Box<[Slot]>,
    len: usize,
}

impl Shard {
    fn with_slots(slots: usize) -> Self {
        Self {
            slots: vec![EMPTY; slots].into(),
            len: 0,
        }
    }

    /// Where the search for an entry begins: in proportion to its highest bits.
    #[inline]
    fn home(&self, mixed: u64) -> usize {
        let slots = self.slots.len();
        let homes = slots.saturating_sub(SPARE + slots / SPARE_PART) as u64;
        ((mixed >> 32) * homes >> 32) as usize
    }

    /// The place of an entry, or else of the first one after it or of an empty slot; the end if there is
    /// neither.
    #[inline]
    fn seek(&self, mixed: u64) -> usize {
        let mut at = self.home(mixed);
        while let Some(slot) = self.slots.get(at)
            && !slot.is_empty()
            && slot.mixed < mixed
        {
            at += 1;
        }
        at
    }

    #[inline]
    fn find(&self, mixed: u64) -> Option<usize> {
        let at = self.seek(mixed);
        let there = self.slots.get(at)?;
        (there.mixed == mixed && !there.is_empty()).then_some(at)
    }

    /// Enters an entry that is not there; whether there was room.
    #[inline]
    fn insert(&mut self, slot: Slot) -> bool {
        let at = self.seek(slot.mixed);
        let Some(rest) = self.slots.get_mut(at..) else {
            return false;
        };
        let Some(free) = rest.iter().position(Slot::is_empty) else {
            return false;
        };
        rest.copy_within(..free, 1);
        rest[0] = slot;
        self.len += 1;
        true
    }

    /// Takes an entry out; those behind it that are not at home move up.
    #[inline]
    fn remove(&mut self, at: usize) {
        let mut end = at + 1;
        while let Some(slot) = self.slots.get(end)
            && !slot.is_empty()
            && self.home(slot.mixed) < end
        {
            end += 1;
        }
        self.slots.copy_within(at + 1..end, at);
        self.slots[end - 1] = EMPTY;
        self.len -= 1;
    }

    /// Enters an entry that comes after all that are there. `end` is where these end, and moves on.
    /// Whether there was room.
    #[inline]
    fn append(&mut self, slot: Slot, end: &mut usize) -> bool {
        let at = self.home(slot.mixed).max(*end);
        let Some(free) = self.slots.get_mut(at) else {
            return false;
        };
        *free = slot;
        *end = at + 1;
        self.len += 1;
        true
    }

    fn is_full(&self) -> bool {
        self.len * 64 >= self.slots.len() * FULL
    }

    fn iter(&self) -> impl Iterator<Item = Slot> {
        self.slots.iter().copied().filter(|slot| !slot.is_empty())
    }

    /// A shard of some of the entries of this one, with at least so many slots. A shard that turns
    /// out too small for its entries (all at its end, say) is made larger.
    fn copy(&self, mut slots: usize, keeps: impl Fn(u64) -> bool) -> Self {
        loop {
            let mut new = Self::with_slots(slots);
            let mut end = 0;
            let mut kept = self.iter().filter(|slot| keeps(slot.mixed));
            if kept.all(|slot| new.append(slot, &mut end)) {
                return new;
            }
            slots = larger(slots);
        }
    }
}

/// The next number of slots: four steps for each doubling, as the usual allocators have them.
fn larger(slots: usize) -> usize {
    let lines = slots / LINE;
    let step = match lines {
        0..3 => 3 - lines,
        3..8 => 1,
        _ => 1 << (lines.ilog2() - 2),
    };
    (lines + step) * LINE
}

/// Slots of a shard that is made for so many entries.
fn slots_for(entries: usize) -> usize {
    let mut slots = 0;
    while entries * 64 > slots * FRESH {
        slots = larger(slots);
    }
    slots
}

/// Where an entry stands, until the next insertion or removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct At {
    shard: u32,
    slot: u32,
}

/// The table. Entries with no copies do not exist.
#[derive(Debug)]
pub(super) struct Table {
    /// At least `mask + 1` or none, at most twice that.
    shards: Vec<Shard>,
    /// A power of two, less one.
    mask: usize,
    len: usize,
    slots: usize,
    key: u64,
}

/// An odd number with its bits well spread (2^64 divided by the golden ratio).
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

impl Default for Table {
    fn default() -> Self {
        Self {
            shards: Vec::new(),
            mask: 0,
            len: 0,
            slots: 0,
            key: RandomState::new().hash_one(ODD),
        }
    }
}

impl Table {
    /// Entries.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes allocated.
    pub(super) fn bytes(&self) -> usize {
        self.slots * size_of::<Slot>() + self.shards.capacity() * size_of::<Shard>()
    }

    /// Asks for the cache lines of a hash that is about to be used.
    #[inline]
    pub(super) fn prefetch(&self, hash: EngineHash) {
        let mixed = self.mix(hash);
        if let Some(shard) = self.shards.get(self.home(mixed))
            && let Some(slot) = shard.slots.get(shard.home(mixed))
        {
            prefetch_lines(std::ptr::from_ref(slot).cast(), 2);
        }
    }

    #[inline]
    pub(super) fn find(&self, hash: EngineHash) -> Option<At> {
        let mixed = self.mix(hash);
        let home = self.home(mixed);
        let slot = self.shards.get(home)?.find(mixed)?;
        Some(At {
            shard: home as u32,
            slot: slot as u32,
        })
    }

    #[inline]
    pub(super) fn get(&self, at: At) -> Option<Name> {
        let shard = self.shards.get(at.shard as usize)?;
        Some(shard.slots.get(at.slot as usize)?.name)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, at: At) -> Option<&mut Name> {
        let shard = self.shards.get_mut(at.shard as usize)?;
        Some(&mut shard.slots.get_mut(at.slot as usize)?.name)
    }

    /// Enters a name that is not there, with at least one copy. O(1) on average, and never more than
    /// the moves of some hundred entries.
    #[inline]
    pub(super) fn insert(&mut self, hash: EngineHash, name: Name) {
        debug_assert!(name.copies > 0);
        let mixed = self.mix(hash);
        self.len += 1;
        if self.len > self.shards.len() * SHARD {
            self.split();
        }
        let home = self.home(mixed);
        if self.shards[home].is_full() {
            self.enlarge(home);
        }
        while !self.shards[home].insert(Slot { mixed, name }) {
            self.enlarge(home);
        }
    }

    #[inline]
    pub(super) fn remove(&mut self, at: At) {
        let home = at.shard as usize;
        let Some(shard) = self.shards.get_mut(home) else {
            return;
        };
        shard.remove(at.slot as usize);
        self.len -= 1;
        if shard.len * 64 < shard.slots.len() * LOW {
            self.reduce(home);
        }
    }

    /// Removes the entries that are not to stay, and makes the rest as small as if it were new.
    /// O(entries).
    pub(super) fn retain(&mut self, mut stays: impl FnMut(u64, Name) -> bool) {
        self.len = 0;
        for home in 0..self.shards.len() {
            let shard = &mut self.shards[home];
            for slot in shard.slots.iter_mut().filter(|slot| !slot.is_empty()) {
                if !stays(slot.mixed, slot.name) {
                    *slot = EMPTY;
                    shard.len -= 1;
                }
            }
            self.len += shard.len;
            // Even at the same size: what stays may have to move up to where it is searched for.
            self.rebuild(home, slots_for(self.shards[home].len));
        }
        while self.is_sparse() {
            self.merge();
        }
    }

    /// The whole, to be freed in slices; the table is empty then.
    pub(super) fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    /// Frees some of a table that is not used any more; whether that was all.
    pub(super) fn free_some(&mut self, shards: usize) -> bool {
        let keep = self.shards.len().saturating_sub(shards);
        for shard in self.shards.drain(keep..) {
            self.slots -= shard.slots.len();
        }
        keep == 0
    }

    /// The mixed hash, which identifies the hash in this table.
    pub(super) fn mixed(&self, hash: EngineHash) -> u64 {
        self.mix(hash)
    }

    /// A bijection, so that mixed hashes identify hashes.
    #[inline]
    fn mix(&self, hash: EngineHash) -> u64 {
        let mut mixed = (hash.0 ^ self.key).wrapping_mul(ODD);
        mixed ^= mixed >> 32;
        mixed = mixed.wrapping_mul(ODD);
        mixed ^ (mixed >> 29)
    }

    /// Linear hashing by the lowest bits: shards past the end are not split off yet.
    #[inline]
    fn home(&self, mixed: u64) -> usize {
        let home = mixed as usize & (2 * self.mask + 1);
        if home >= self.shards.len() {
            home & self.mask
        } else {
            home
        }
    }

    /// Adds a shard and takes its entries out of the one that they are in so far.
    #[cold]
    fn split(&mut self) {
        let new = self.shards.len();
        if new > 2 * self.mask + 1 {
            self.mask = 2 * self.mask + 1;
        }
        self.shards.push(Shard::default());
        if new == 0 {
            return;
        }
        let old = new & self.mask;
        let before = std::mem::take(&mut self.shards[old]);
        let goes = |mixed| self.home(mixed) == new;
        let going = before.iter().filter(|slot| goes(slot.mixed)).count();
        let stay = before.copy(slots_for(before.len - going), |mixed| !goes(mixed));
        let go = before.copy(slots_for(going), goes);
        self.slots = self.slots + stay.slots.len() + go.slots.len() - before.slots.len();
        self.shards[old] = stay;
        self.shards[new] = go;
    }

    /// Takes the last shard away; its entries go to where they would be without it.
    #[cold]
    fn merge(&mut self) {
        let Some(gone) = self.shards.pop() else {
            return;
        };
        self.slots -= gone.slots.len();
        let last = self.shards.len();
        if self.len == 0 {
            *self = Self::default();
            return;
        }
        if last <= self.mask {
            self.mask /= 2;
        }
        let home = last & self.mask;
        self.rebuild(home, slots_for(self.shards[home].len + gone.len));
        for slot in gone.iter() {
            while !self.shards[home].insert(slot) {
                self.enlarge(home);
            }
        }
    }

    #[cold]
    fn enlarge(&mut self, home: usize) {
        self.rebuild(home, larger(self.shards[home].slots.len()));
    }

    /// A shard has become sparse.
    #[cold]
    fn reduce(&mut self, home: usize) {
        self.rebuild(home, slots_for(self.shards[home].len));
        if self.is_sparse() {
            self.merge();
        }
    }

    /// Whether the last shard should go. The margin keeps a table from going back and forth.
    fn is_sparse(&self) -> bool {
        self.len * 2 < self.shards.len().saturating_sub(1) * SHARD
            || self.len == 0 && !self.shards.is_empty()
    }

    fn rebuild(&mut self, home: usize, slots: usize) {
        let new = self.shards[home].copy(slots, |_| true);
        self.slots = self.slots + new.slots.len() - self.shards[home].slots.len();
        self.shards[home] = new;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn name(n: u64) -> Name {
        Name {
            holding: n as u32,
            offset: (n >> 32) as u16,
            copies: 1 + (n % 3) as u16,
        }
    }

    fn check(table: &Table, model: &BTreeMap<u64, Name>) {
        assert_eq!(table.len(), model.len());
        for (&hash, &name) in model {
            let at = table.find(EngineHash(hash));
            assert_eq!(at.and_then(|at| table.get(at)), Some(name), "{hash}");
        }
        let slots = table.shards.iter().map(|shard| shard.slots.len());
        assert_eq!(table.slots, slots.sum());
    }

    #[test]
    fn it_equals_a_map() {
        let (mut table, mut model) = (Table::default(), BTreeMap::new());
        let mut random = 1_u64;
        for round in 0..60_000_u64 {
            random = random.wrapping_mul(ODD).wrapping_add(round);
            let hash = random >> 50;
            // Grows for two thirds of the time, shrinks for the rest.
            let insert = (random >> 20) % 16 < if round < 40_000 { 11 } else { 2 };
            match (table.find(EngineHash(hash)), insert) {
                (None, true) => {
                    table.insert(EngineHash(hash), name(round));
                    model.insert(hash, name(round));
                }
                (Some(at), false) => {
                    table.remove(at);
                    model.remove(&hash);
                }
                (found, _) => assert_eq!(found.is_some(), model.contains_key(&hash)),
            }
            if round % 4_096 == 0 {
                check(&table, &model);
            }
        }
        check(&table, &model);
        table.retain(|_, name| name.holding % 2 == 0);
        model.retain(|_, name| name.holding % 2 == 0);
        check(&table, &model);
        for hash in model.keys() {
            let at = table.find(EngineHash(*hash)).unwrap();
            table.remove(at);
        }
        assert_eq!((table.len(), table.bytes()), (0, 0));
    }

    #[test]
    fn the_load_stays_high_at_every_size() {
        let mut table = Table::default();
        let mut sum = 0.0;
        for n in 0..100_000_u64 {
            table.insert(EngineHash(n), name(n));
            if n >= 1_000 {
                let each = table.bytes() as f64 / (n + 1) as f64;
                assert!(each < 23.0, "{each} bytes at {n}");
                sum += each;
            }
        }
        // 16 bytes at 78% are 20.5.
        assert!(sum / 99_000.0 < 21.0, "{} bytes on average", sum / 99_000.0);
    }

    /// What a broken mix, or very bad luck, would give.
    #[test]
    fn entries_of_one_home_all_find_room() {
        for high in [0, 1 << 31, u64::from(u32::MAX)] {
            let mut shard = Shard::with_slots(12);
            let mixed = |n: u64| high << 32 | n;
            for n in (0..200).rev() {
                let slot = Slot {
                    mixed: mixed(n),
                    name: name(n),
                };
                while !shard.insert(slot) {
                    shard = shard.copy(larger(shard.slots.len()), |_| true);
                }
            }
            for n in 0..200 {
                let at = shard.find(mixed(n)).unwrap();
                assert_eq!(shard.slots[at].name, name(n));
            }
            for n in (0..200).step_by(2) {
                shard.remove(shard.find(mixed(n)).unwrap());
            }
            let found = (0..200).filter(|&n| shard.find(mixed(n)).is_some());
            assert!(found.eq((1..200).step_by(2)));
        }
    }
}
