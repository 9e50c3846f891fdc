//! A hash table of 16-byte entries that grows by one bucket at a time.
//!
//! The map from engine hashes to places is the largest consumer of memory, and a table that doubles is
//! half empty after it did, and stops its thread while it does. This one combines two old ideas:
//!
//! - Cuckoo hashing with buckets of four (one cache line): an entry lies in one of two buckets,
//!   so a search reads at most two lines, both known at once, and a removal leaves no mark. An entry
//!   that finds both full moves another one to that one's other bucket.
//! - Linear hashing: bucket n is added by splitting bucket n - 2^k, four entries at most, so the load stays
//!   where it is set ([`LOAD`]) at every size, and no insertion costs more than some cache lines.
//!
//! Entries hold the mixed hash only: mixing is a bijection, so equal mixed hashes are equal hashes. It is
//! keyed at random, so that nobody outside can aim at a bucket. What finds no place after [`KICKS`] moves goes to a
//! plain map, which is nearly always empty.
//!
//! Buckets that are not split yet are twice as loaded as the others. At this load every second insertion
//! finds both homes full, but an entry of theirs whose other home is split can nearly always move there.
//!
//! Tried and dropped, measured in the peers' workload: cuckoo hashing inside shards that are made anew by
//! a quarter larger (1.6 times the time of a store: to make one anew costs 45 ns an entry); ordered
//! linear probing in such shards (the same time, but 40 resident bytes an entry instead of 27: what a shard leaves
//! behind when it grows fits nobody else), and in shards of equal chunks (1.4 times the time).
//!
//! Sources: Pagh and Rodler, "Cuckoo hashing" (2001); Dietzfelbinger and Weidling (2007) for buckets;
//! Litwin, "Linear hashing" (1980).
mod bulk;

use crate::sync::prefetch;
use crate::types::EngineHash;
use ahash::{AHashMap, RandomState};

/// Entries in a bucket.
const SLOTS: usize = 4;

/// Buckets in a chunk: what is allocated at once.
const CHUNK: usize = 32;

/// Entries per bucket at which one is added, in 64ths: 81% of four.
const LOAD: usize = 207;

/// Entries per bucket below which one is taken away: 30%.
const LOW: usize = 77;

/// Moves before an entry is given to the overflow.
const KICKS: usize = 64;

/// What is kept of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) holding: u32,
    pub(super) offset: u16,
    /// On the GPU, and none elsewhere; or `SPILLED`. Zero: the slot is empty.
    pub(super) copies: u16,
}

const EMPTY: Slot = Slot {
    mixed: 0,
    name: Name {
        holding: 0,
        offset: 0,
        copies: 0,
    },
};

#[derive(Clone, Copy, Debug)]
struct Slot {
    mixed: u64,
    name: Name,
}

#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Bucket([Slot; SLOTS]);

const _: () = assert!(size_of::<Bucket>() == 64);

impl Bucket {
    #[inline]
    fn find(&self, mixed: u64) -> Option<usize> {
        let at = self.0.iter().position(|slot| slot.mixed == mixed)?;
        if self.0[at].name.copies != 0 {
            return Some(at);
        }
        // An empty slot's hash is zero, which one real hash may be as well.
        let there = |slot: &Slot| slot.mixed == mixed && slot.name.copies != 0;
        self.0.iter().position(there)
    }

    /// A bit for each empty slot.
    #[inline]
    fn empties(&self) -> usize {
        let bit = |at: usize| usize::from(self.0[at].name.copies == 0) << at;
        bit(0) | bit(1) | bit(2) | bit(3)
    }

    #[inline]
    fn free(&self) -> Option<usize> {
        match self.empties() {
            0 => None,
            empties => Some(empties.trailing_zeros() as usize),
        }
    }
}

/// How many bits are set: the instruction for it is not in every x86-64 processor.
const ONES: [u8; 1 << SLOTS] = [0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4];

/// Where an entry stands, until the next insertion or removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    Bucket(u32, u8),
    Overflow(u64),
}

/// The table. Entries with no copies do not exist.
#[derive(Debug)]
pub(super) struct Table {
    #[expect(clippy::vec_box, reason = "growth must not move the entries")]
    chunks: Vec<Box<[Bucket; CHUNK]>>,
    /// Buckets in use, at least `mask + 1`, at most twice that.
    buckets: usize,
    /// A power of two, less one.
    mask: usize,
    len: usize,
    overflow: AHashMap<u64, Name>,
    key: u64,
    /// Which entry of a full bucket is moved next.
    turn: usize,
}

/// An odd number with its bits well spread (2^64 divided by the golden ratio).
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

impl Default for Table {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            buckets: 0,
            mask: 0,
            len: 0,
            overflow: AHashMap::default(),
            key: RandomState::new().hash_one(ODD),
            turn: 0,
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
        self.chunks.len() * size_of::<[Bucket; CHUNK]>()
            + self.chunks.capacity() * size_of::<usize>()
    }

    /// Asks for the cache lines of a hash that is about to be used.
    #[inline]
    pub(super) fn prefetch(&self, hash: EngineHash) {
        if self.buckets > 0 {
            let [a, b] = self.homes(self.mix(hash));
            prefetch(self.bucket(a));
            prefetch(self.bucket(b));
        }
    }

    #[inline]
    pub(super) fn find(&self, hash: EngineHash) -> Option<At> {
        if self.buckets == 0 {
            return None;
        }
        let mixed = self.mix(hash);
        for home in self.homes(mixed) {
            if let Some(slot) = self.bucket(home).find(mixed) {
                return Some(At::Bucket(home as u32, slot as u8));
            }
        }
        if self.overflow.is_empty() {
            return None;
        }
        self.overflow
            .contains_key(&mixed)
            .then_some(At::Overflow(mixed))
    }

    #[inline]
    pub(super) fn get(&self, at: At) -> Option<Name> {
        match at {
            At::Bucket(bucket, slot) => {
                Some(self.bucket(bucket as usize).0[usize::from(slot) % SLOTS].name)
            }
            At::Overflow(mixed) => self.overflow.get(&mixed).copied(),
        }
    }

    #[inline]
    pub(super) fn get_mut(&mut self, at: At) -> Option<&mut Name> {
        match at {
            At::Bucket(bucket, slot) => {
                let bucket = self.bucket_mut(bucket as usize);
                Some(&mut bucket.0[usize::from(slot) % SLOTS].name)
            }
            At::Overflow(mixed) => self.overflow.get_mut(&mixed),
        }
    }

    /// Enters a name that is not there, with at least one copy. Amortised O(1), never more than the
    /// moves of [`KICKS`] entries.
    #[inline]
    pub(super) fn insert(&mut self, hash: EngineHash, name: Name) {
        debug_assert!(name.copies > 0);
        self.len += 1;
        while self.len * 64 > self.buckets * LOAD {
            self.grow();
        }
        let mixed = self.mix(hash);
        self.place(Slot { mixed, name });
    }

    pub(super) fn remove(&mut self, at: At) {
        match at {
            At::Bucket(bucket, slot) => {
                self.bucket_mut(bucket as usize).0[usize::from(slot) % SLOTS] = EMPTY;
            }
            At::Overflow(mixed) => {
                self.overflow.remove(&mixed);
            }
        }
        self.len -= 1;
        if self.len * 64 < self.buckets.saturating_sub(1) * LOW || self.len == 0 {
            self.shrink();
        }
    }

    /// Removes the entries that are not to stay, and the buckets that are then too many. O(entries).
    pub(super) fn retain(&mut self, mut stays: impl FnMut(u64, Name) -> bool) {
        for bucket in 0..self.buckets {
            for slot in 0..SLOTS {
                let there = &mut self.bucket_mut(bucket).0[slot];
                if there.name.copies > 0 && !stays(there.mixed, there.name) {
                    *there = EMPTY;
                    self.len -= 1;
                }
            }
        }
        let before = self.overflow.len();
        self.overflow.retain(|&mixed, name| stays(mixed, *name));
        self.len -= before - self.overflow.len();
        while self.len * 64 < self.buckets.saturating_sub(CHUNK) * LOAD {
            self.shrink();
        }
        if self.len == 0 {
            self.buckets = 0;
            self.mask = 0;
            self.chunks = Vec::new();
        }
    }

    /// The chunks, to be freed in slices; the table is empty then.
    pub(super) fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    /// Frees some of a table that is not used any more; whether that was all.
    pub(super) fn free_some(&mut self, chunks: usize) -> bool {
        let keep = self.chunks.len().saturating_sub(chunks);
        self.chunks.truncate(keep);
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

    #[inline]
    fn homes(&self, mixed: u64) -> [usize; 2] {
        [self.home(mixed as usize), self.home((mixed >> 32) as usize)]
    }

    /// Linear hashing: buckets past the end are not split yet.
    #[inline]
    fn home(&self, bits: usize) -> usize {
        let home = bits & (2 * self.mask + 1);
        if home >= self.buckets {
            home & self.mask
        } else {
            home
        }
    }

    #[inline]
    fn bucket(&self, at: usize) -> &Bucket {
        &self.chunks[at / CHUNK][at % CHUNK]
    }

    #[inline]
    fn bucket_mut(&mut self, at: usize) -> &mut Bucket {
        &mut self.chunks[at / CHUNK][at % CHUNK]
    }

    #[inline]
    fn place(&mut self, slot: Slot) {
        let [a, b] = self.homes(slot.mixed);
        let (in_a, in_b) = (self.bucket(a).empties(), self.bucket(b).empties());
        if in_a | in_b == 0 {
            return self.kick([a, b], slot);
        }
        let (home, empties) = if ONES[in_a] >= ONES[in_b] {
            (a, in_a)
        } else {
            (b, in_b)
        };
        self.bucket_mut(home).0[empties.trailing_zeros() as usize % SLOTS] = slot;
    }

    /// Both homes are full: moves others to make room.
    fn kick(&mut self, homes: [usize; 2], mut slot: Slot) {
        if self.move_one(homes, slot) {
            return;
        }
        let [mut home, _] = homes;
        for _ in 0..KICKS {
            self.turn = self.turn.wrapping_add(1);
            let victim = self.turn % SLOTS;
            std::mem::swap(&mut self.bucket_mut(home).0[victim], &mut slot);
            home = self.other_home(slot.mixed, home);
            if let Some(free) = self.bucket(home).free() {
                self.bucket_mut(home).0[free] = slot;
                return;
            }
            if self.move_one([home; 2], slot) {
                return;
            }
        }
        self.overflow.insert(slot.mixed, slot.name);
    }

    /// Moves an entry of one of the homes to its other one, if that has room, and puts this one in its place.
    /// Other homes that are split already are tried first: they are half as loaded, and to find that out
    /// reads nothing.
    fn move_one(&mut self, homes: [usize; 2], slot: Slot) -> bool {
        for split_first in [true, false] {
            for home in homes {
                for at in 0..SLOTS {
                    let there = self.bucket(home).0[at];
                    let other = self.other_home(there.mixed, home);
                    if self.is_split(other) != split_first {
                        continue;
                    }
                    if let Some(free) = self.bucket(other).free() {
                        self.bucket_mut(other).0[free] = there;
                        self.bucket_mut(home).0[at] = slot;
                        return true;
                    }
                }
            }
        }
        false
    }

    /// Whether a bucket is one of those that were split since the last doubling, or one that came of it.
    #[inline]
    fn is_split(&self, bucket: usize) -> bool {
        bucket > self.mask || bucket + self.mask + 1 < self.buckets
    }

    fn other_home(&self, mixed: u64, home: usize) -> usize {
        let [a, b] = self.homes(mixed);
        if a == home { b } else { a }
    }

    /// Adds a bucket and splits the one that its entries are in so far.
    fn grow(&mut self) {
        let new = self.buckets;
        if new == self.chunks.len() * CHUNK {
            self.chunks.push(Box::new([Bucket([EMPTY; SLOTS]); CHUNK]));
        }
        self.buckets += 1;
        if new == 0 {
            return;
        }
        if new > 2 * self.mask + 1 {
            self.mask = 2 * self.mask + 1;
        }
        let old = new & self.mask;
        let mut kept = 0;
        for at in 0..SLOTS {
            let slot = self.bucket(old).0[at];
            let homes = self.homes(slot.mixed);
            let may_stay = homes.contains(&old);
            if slot.name.copies == 0 || may_stay && (kept < SLOTS / 2 || !homes.contains(&new)) {
                kept += usize::from(slot.name.copies != 0);
                continue;
            }
            let fresh = self.bucket_mut(new);
            if let Some(free) = fresh.free() {
                fresh.0[free] = slot;
            }
            self.bucket_mut(old).0[at] = EMPTY;
        }
        let waiting = self.overflow.iter().next();
        if let Some((mixed, name)) = waiting.map(|(&mixed, &name)| (mixed, name)) {
            self.overflow.remove(&mixed);
            self.place(Slot { mixed, name });
        }
    }

    /// Takes the last bucket away; its entries go to where they would be without it.
    fn shrink(&mut self) {
        let Some(last) = self.buckets.checked_sub(1) else {
            return;
        };
        let slots = self.bucket(last).0;
        self.buckets = last;
        if last > 0 && last <= self.mask {
            self.mask /= 2;
        }
        for slot in slots.into_iter().filter(|slot| slot.name.copies > 0) {
            // Where it came from: to look at its other home as well would be a cache miss more.
            let source = last & self.mask;
            match self.bucket(source).free() {
                Some(free) if last > 0 => self.bucket_mut(source).0[free] = slot,
                _ => self.place(slot),
            }
        }
        if last == 0 {
            self.chunks = Vec::new();
        } else if last.is_multiple_of(CHUNK) {
            self.chunks.truncate(last / CHUNK);
        } else {
            *self.bucket_mut(last) = Bucket([EMPTY; SLOTS]);
        }
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
        for hash in model.keys() {
            let at = table.find(EngineHash(*hash)).unwrap();
            table.remove(at);
        }
        assert_eq!(
            (table.len(), table.buckets, table.bytes() / 2_048),
            (0, 0, 0)
        );
    }

    #[test]
    fn the_load_stays_high_at_every_size() {
        let mut table = Table::default();
        let mut worst = 0;
        for n in 0..100_000_u64 {
            table.insert(EngineHash(n), name(n));
            worst = worst.max(table.overflow.len());
            if n > 1_000 {
                // 16 bytes at 80% are 20; a chunk more, and the directory.
                assert!(table.bytes() < (n as usize + 1) * 21 + 4_096 + 1_024, "{n}");
            }
        }
        assert!(worst <= 4, "{worst} in the overflow");
    }

    #[test]
    fn what_overflows_is_not_lost() {
        // No room to move: every entry has the same two homes, as a broken mix would give.
        let mut table = Table::default();
        table.insert(EngineHash(0), name(0));
        let names: Vec<u64> = (1..12).collect();
        for &n in &names {
            // Past the growth check, into a table of one bucket.
            let mixed = table.mix(EngineHash(n));
            table.len += 1;
            table.place(Slot {
                mixed,
                name: name(n),
            });
        }
        assert_eq!((table.buckets, table.overflow.len()), (1, 8));
        for n in names {
            let at = table.find(EngineHash(n)).unwrap();
            assert_eq!(table.get(at), Some(name(n)));
        }
        table.insert(EngineHash(99), name(99));
        assert!(table.overflow.len() < 8, "growth takes them back");
        assert!((0..12).all(|n| table.find(EngineHash(n)).is_some()));
        let mut seen = 0;
        table.retain(|_, _| {
            seen += 1;
            false
        });
        assert_eq!((seen, table.len()), (13, 0));
    }
}
