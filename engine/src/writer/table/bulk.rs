//! Many entries of a table at once: going through all in portions, and making room beforehand.
use super::{Bucket, CHUNK, EMPTY, LOAD, Name, ODD, SLOTS, Slot, Table};
use crate::types::EngineHash;

/// The inverse of [`ODD`] modulo 2^64.
const INVERSE: u64 = {
    // Newton: each round doubles the bits that are right, of which an odd number has three.
    let mut inverse = ODD;
    let mut round = 0;
    while round < 5 {
        inverse = inverse.wrapping_mul(2_u64.wrapping_sub(ODD.wrapping_mul(inverse)));
        round += 1;
    }
    inverse
};

const _: () = assert!(ODD.wrapping_mul(INVERSE) == 1);

impl Table {
    /// How many [`Table::portion`]s there are.
    pub(in crate::writer) fn portions(&self) -> usize {
        self.buckets + 1
    }

    /// The entries of one bucket, or, last of all, those that found no bucket.
    #[inline]
    pub(in crate::writer) fn portion(
        &self,
        at: usize,
    ) -> impl Iterator<Item = (EngineHash, Name)> + '_ {
        let hash = self.unmixer();
        let slots: &[Slot] = if at < self.buckets {
            &self.bucket(at).0
        } else {
            &[]
        };
        let there = slots.iter().filter(|slot| slot.name.copies > 0);
        let there = there.map(|slot| (slot.mixed, slot.name));
        let overflow = (at == self.buckets).then_some(&self.overflow);
        let rest = overflow.into_iter().flatten();
        let all = there.chain(rest.map(|(&mixed, &name)| (mixed, name)));
        all.map(move |(mixed, name)| (hash(mixed), name))
    }

    /// What makes hashes of mixed ones.
    pub(in crate::writer) fn unmixer(&self) -> impl Fn(u64) -> EngineHash + use<> {
        let key = self.key;
        move |mixed| {
            let mut hash = mixed ^ (mixed >> 29) ^ (mixed >> 58);
            hash = hash.wrapping_mul(INVERSE);
            hash ^= hash >> 32;
            EngineHash(hash.wrapping_mul(INVERSE) ^ key)
        }
    }

    /// Makes room for so many entries, so that they go in without the table's growing in between. Only for a
    /// table without buckets. O(entries / 4).
    pub(in crate::writer) fn reserve(&mut self, entries: usize) {
        if self.buckets > 0 || entries == 0 {
            return;
        }
        self.buckets = (entries.saturating_mul(64)).div_ceil(LOAD);
        self.mask = self.buckets.next_power_of_two() / 2;
        self.mask = self.mask.saturating_sub(1);
        let chunk = || Box::new([Bucket([EMPTY; SLOTS]); CHUNK]);
        self.chunks.resize_with(self.buckets.div_ceil(CHUNK), chunk);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn name(n: u64) -> Name {
        Name {
            holding: n as u32,
            offset: 7,
            copies: 1,
        }
    }

    #[test]
    fn all_portions_are_all_entries() {
        let mut table = Table::default();
        let mut model = BTreeMap::new();
        for n in 0..1_000_u64 {
            let hash = n.wrapping_mul(0x1234_5678_9abc_def1);
            table.insert(EngineHash(hash), name(n));
            model.insert(hash, name(n));
        }
        // One that found no bucket.
        let hash = EngineHash(u64::MAX);
        table.overflow.insert(table.mix(hash), name(5));
        model.insert(hash.0, name(5));
        let all = (0..table.portions()).flat_map(|at| table.portion(at));
        let all: BTreeMap<_, _> = all.map(|(hash, name)| (hash.0, name)).collect();
        assert_eq!(all, model);
        assert_eq!(Table::default().portion(0).count(), 0);
    }

    #[test]
    fn a_table_with_room_does_not_grow() {
        for entries in [1, 2, 3, 13, 100, 207, 208, 1_000, 5_000] {
            let mut table = Table::default();
            table.reserve(entries);
            let (buckets, bytes) = (table.buckets, table.bytes());
            assert!(table.mask < buckets && buckets <= 2 * (table.mask + 1));
            for n in 0..entries as u64 {
                table.insert(EngineHash(n), name(n));
            }
            assert_eq!((table.buckets, table.bytes()), (buckets, bytes));
            for n in 0..entries as u64 {
                let at = table.find(EngineHash(n)).unwrap();
                assert_eq!(table.get(at), Some(name(n)));
            }
            // It grows and shrinks as any other.
            for n in entries as u64..3 * entries as u64 {
                table.insert(EngineHash(n), name(n));
            }
            for n in 0..3 * entries as u64 {
                let at = table.find(EngineHash(n)).unwrap();
                table.remove(at);
            }
            assert_eq!((table.len(), table.chunks.len()), (0, 0), "{entries}");
        }
    }
}
