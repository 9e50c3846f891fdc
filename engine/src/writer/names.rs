//! Engine hash -> place and copies, for one worker.
//!
//! The common name (placed, copies on the GPU only) takes 16 bytes; others spill their counts.
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

#[derive(Clone, Copy, Debug)]
struct Name {
    holding: u32,
    offset: u16,
    /// On the GPU, and none elsewhere; or [`SPILLED`].
    copies: u16,
}

const _: () = assert!(size_of::<(EngineHash, Name)>() == 16);

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
    names: AHashMap<EngineHash, Name>,
    spilled: AHashMap<EngineHash, Copies>,
    placed: usize,
}

impl Names {
    /// Names with a place.
    pub(super) fn placed(&self) -> usize {
        self.placed
    }

    pub(super) fn contains(&self, hash: EngineHash) -> bool {
        self.names.contains_key(&hash)
    }

    pub(super) fn place(&self, hash: EngineHash) -> Option<Place> {
        let name = self
            .names
            .get(&hash)
            .filter(|name| name.holding != NOWHERE)?;
        Some(Place {
            holding: name.holding,
            offset: name.offset,
        })
    }

    /// A new name with one copy.
    pub(super) fn insert(&mut self, hash: EngineHash, tier: Tier, place: Option<Place>) {
        let name = Name {
            holding: NOWHERE,
            offset: 0,
            copies: 0,
        };
        self.names.insert(hash, name);
        self.add(hash, tier);
        if let Some(place) = place {
            self.set_place(hash, Some(place));
        }
    }

    pub(super) fn set_place(&mut self, hash: EngineHash, place: Option<Place>) {
        let Some(name) = self.names.get_mut(&hash) else {
            return;
        };
        self.placed -= usize::from(name.holding != NOWHERE);
        self.placed += usize::from(place.is_some());
        name.holding = place.map_or(NOWHERE, |place| place.holding);
        name.offset = place.map_or(0, |place| place.offset);
    }

    /// One more copy of a known name; whether it is the first of that tier.
    pub(super) fn add(&mut self, hash: EngineHash, tier: Tier) -> bool {
        let Some(name) = self.names.get_mut(&hash) else {
            return false;
        };
        if name.copies != SPILLED && tier == Tier::Gpu && name.copies + 1 < SPILLED {
            name.copies += 1;
            return name.copies == 1;
        }
        let inline = u32::from(name.copies);
        let copies = self.spilled.entry(hash).or_insert([inline, 0, 0]);
        name.copies = SPILLED;
        let count = &mut copies[tier.index()];
        *count = count.saturating_add(1);
        *count == 1
    }

    /// One copy less.
    pub(super) fn take(&mut self, hash: EngineHash, tier: Tier) -> Taken {
        let Some(name) = self.names.get_mut(&hash) else {
            return Taken::Unknown;
        };
        if name.copies != SPILLED {
            match (tier, name.copies) {
                (Tier::Gpu, 2..) => {
                    name.copies -= 1;
                    return Taken::Copies;
                }
                (Tier::Gpu, 1) => return self.gone(hash),
                _ => return Taken::Unknown,
            }
        }
        let Some(copies) = self.spilled.get_mut(&hash) else {
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
            return self.gone(hash);
        }
        Taken::LastOfTier
    }

    /// In which tiers a name has copies.
    pub(super) fn tiers(&self, hash: EngineHash) -> Tiers {
        let Some(name) = self.names.get(&hash) else {
            return Tiers::default();
        };
        let inline = [u32::from(name.copies), 0, 0];
        let copies = self.spilled.get(&hash).unwrap_or(&inline);
        Tier::ALL
            .into_iter()
            .filter(|tier| copies[tier.index()] > 0)
            .fold(Tiers::default(), Tiers::with)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn gone(&mut self, hash: EngineHash) -> Taken {
        self.set_place(hash, None);
        self.names.remove(&hash);
        self.spilled.remove(&hash);
        Taken::Last
    }
}
