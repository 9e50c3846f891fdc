//! Engine hash -> place and copies, for one worker.
//!
//! The common name (copies on the GPU only) takes 16 bytes of the table; others spill their counts.
use super::table::Table;
pub(super) use super::table::{At, Name};
use crate::tree::holding::Tiers;
use crate::types::{EngineHash, TIERS, Tier};
use ahash::AHashMap;

/// Where a name's block stands: which of the writer's holdings, and the offset in its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) holding: u32,
    pub(super) offset: u16,
}

/// `holding` of a name whose place is not known.
const NOWHERE: u32 = u32::MAX;

/// `copies` of a name whose counts have spilled.
const SPILLED: u16 = u16::MAX;

impl Name {
    #[inline]
    pub(super) fn place(self) -> Option<Place> {
        (self.holding != NOWHERE).then_some(Place {
            holding: self.holding,
            offset: self.offset,
        })
    }
}

/// Copies by tier.
pub(super) type Copies = [u32; TIERS];

/// What a removed copy leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// There was no copy in that tier.
    Unknown,
    /// Other copies remain in that tier.
    Copies,
    /// The last one of that tier; copies in other tiers remain.
    LastOfTier,
    /// The last one; the name is gone.
    Last,
}

/// All names of one worker that have at least one copy.
#[derive(Debug, Default)]
pub(super) struct Names {
    table: Table,
    /// By mixed hash.
    spilled: AHashMap<u64, Copies>,
    placed: usize,
}

impl Names {
    /// Names with a place.
    pub(super) fn placed(&self) -> usize {
        self.placed
    }

    /// Bytes allocated.
    pub(super) fn bytes(&self) -> usize {
        let spilled = size_of::<(u64, Copies)>() + 1;
        self.table.bytes() + self.spilled.capacity() * spilled
    }

    /// Asks for what `find` will read.
    #[inline]
    pub(super) fn prefetch(&self, hash: EngineHash) {
        self.table.prefetch(hash);
    }

    #[inline]
    pub(super) fn find(&self, hash: EngineHash) -> Option<(At, Name)> {
        let at = self.table.find(hash)?;
        Some((at, self.table.get(at)?))
    }

    pub(super) fn place(&self, hash: EngineHash) -> Option<Place> {
        self.find(hash)?.1.place()
    }

    /// A new name with one copy.
    #[inline]
    pub(super) fn insert(&mut self, hash: EngineHash, tier: Tier, place: Option<Place>) {
        self.placed += usize::from(place.is_some());
        let name = Name {
            holding: place.map_or(NOWHERE, |place| place.holding),
            offset: place.map_or(0, |place| place.offset),
            copies: if tier == Tier::Gpu { 1 } else { SPILLED },
        };
        if tier != Tier::Gpu {
            let mut copies = Copies::default();
            copies[tier.index()] = 1;
            self.spilled.insert(self.table.mixed(hash), copies);
        }
        self.table.insert(hash, name);
    }

    pub(super) fn set_place(&mut self, hash: EngineHash, place: Option<Place>) {
        let at = self.table.find(hash);
        let Some(name) = at.and_then(|at| self.table.get_mut(at)) else {
            return;
        };
        self.placed -= usize::from(name.holding != NOWHERE);
        self.placed += usize::from(place.is_some());
        name.holding = place.map_or(NOWHERE, |place| place.holding);
        name.offset = place.map_or(0, |place| place.offset);
    }

    /// One more copy of a known name; whether it is the first of that tier.
    pub(super) fn add(&mut self, hash: EngineHash, at: At, tier: Tier) -> bool {
        let Some(name) = self.table.get_mut(at) else {
            return false;
        };
        if name.copies != SPILLED && tier == Tier::Gpu && name.copies + 1 < SPILLED {
            name.copies += 1;
            return false;
        }
        let inline = u32::from(name.copies);
        name.copies = SPILLED;
        let mixed = self.table.mixed(hash);
        let copies = self.spilled.entry(mixed).or_insert([inline, 0, 0]);
        let count = &mut copies[tier.index()];
        *count = count.saturating_add(1);
        *count == 1
    }

    /// One copy less of a known name.
    #[inline]
    pub(super) fn take(&mut self, hash: EngineHash, at: At, tier: Tier) -> Taken {
        let Some(name) = self.table.get_mut(at) else {
            return Taken::Unknown;
        };
        match (tier, name.copies) {
            (_, SPILLED) => self.take_spilled(hash, at, tier),
            (Tier::Gpu, 2..) => {
                name.copies -= 1;
                Taken::Copies
            }
            (Tier::Gpu, 1) => self.gone(at),
            _ => Taken::Unknown,
        }
    }

    fn take_spilled(&mut self, hash: EngineHash, at: At, tier: Tier) -> Taken {
        let mixed = self.table.mixed(hash);
        let Some(copies) = self.spilled.get_mut(&mixed) else {
            return Taken::Unknown;
        };
        let count = &mut copies[tier.index()];
        match *count {
            0 => return Taken::Unknown,
            1 => *count = 0,
            _ => {
                *count -= 1;
                return Taken::Copies;
            }
        }
        if copies.iter().all(|&count| count == 0) {
            self.spilled.remove(&mixed);
            return self.gone(at);
        }
        Taken::LastOfTier
    }

    /// In which tiers a name has copies.
    pub(super) fn tiers(&self, hash: EngineHash) -> Tiers {
        let Some((_, name)) = self.find(hash) else {
            return Tiers::default();
        };
        let copies = self.copies(hash, name);
        Tier::ALL
            .into_iter()
            .filter(|tier| copies[tier.index()] > 0)
            .fold(Tiers::default(), Tiers::with)
    }

    /// The copies of a name that is there.
    pub(super) fn copies(&self, hash: EngineHash, name: Name) -> Copies {
        let inline = [u32::from(name.copies), 0, 0];
        match name.copies {
            SPILLED => {
                let spilled = self.spilled.get(&self.table.mixed(hash));
                spilled.copied().unwrap_or(inline)
            }
            _ => inline,
        }
    }

    /// A new name with at least one copy.
    pub(super) fn insert_copies(&mut self, hash: EngineHash, copies: Copies, place: Option<Place>) {
        self.placed += usize::from(place.is_some());
        let [gpu, others @ ..] = copies;
        let inline = u16::try_from(gpu).ok().filter(|&gpu| gpu < SPILLED);
        let inline = inline.filter(|_| others == [0; TIERS - 1]);
        if inline.is_none() {
            self.spilled.insert(self.table.mixed(hash), copies);
        }
        let name = Name {
            holding: place.map_or(NOWHERE, |place| place.holding),
            offset: place.map_or(0, |place| place.offset),
            copies: inline.unwrap_or(SPILLED),
        };
        self.table.insert(hash, name);
    }

    /// Makes room for so many names, if there are none yet. O(names / 4).
    pub(super) fn reserve(&mut self, names: usize) {
        self.table.reserve(names);
    }

    /// See [`Table::portions`].
    pub(super) fn portions(&self) -> usize {
        self.table.portions()
    }

    /// See [`Table::portion`].
    #[inline]
    pub(super) fn portion(&self, at: usize) -> impl Iterator<Item = (EngineHash, Name)> + '_ {
        self.table.portion(at)
    }

    /// Names.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Forgets names by place; how many. O(names).
    pub(super) fn forget(&mut self, mut gone: impl FnMut(Place) -> bool) -> usize {
        let before = self.table.len();
        let (placed, spilled) = (&mut self.placed, &mut self.spilled);
        self.table.retain(|mixed, name| {
            let goes = name.place().is_some_and(&mut gone);
            if goes {
                *placed -= 1;
                spilled.remove(&mixed);
            }
            !goes
        });
        before - self.table.len()
    }

    /// Leaves no names; what they took is to be freed by the caller, in slices.
    pub(super) fn take_all(&mut self) -> Table {
        self.spilled = AHashMap::default();
        self.placed = 0;
        self.table.take()
    }

    fn gone(&mut self, at: At) -> Taken {
        let name = self.table.get(at);
        self.placed -= usize::from(name.is_some_and(|name| name.holding != NOWHERE));
        self.table.remove(at);
        Taken::Last
    }
}
