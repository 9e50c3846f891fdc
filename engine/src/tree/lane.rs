//! The entries of a run's holders: one word that says how much of the run a worker holds.
use crate::types::{Tier, WorkerId};

/// What an entry's value means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Lane {
    /// The worker holds the blocks before the value, in any tier.
    Held = 1,
    /// The first held block that is not in GPU memory.
    NotGpu = 2,
    /// The first held block that is in neither GPU nor CPU memory.
    NotCpu = 3,
}

impl Lane {
    /// The lane that limits the cumulative count of a tier; `None` for the last tier.
    pub(crate) const fn limiting(tier: Tier) -> Option<Self> {
        match tier {
            Tier::Gpu => Some(Self::NotGpu),
            Tier::Cpu => Some(Self::NotCpu),
            Tier::Disk => None,
        }
    }
}

/// Worker (24 bits), lane (8 bits), value (32 bits): read and written as one atomic word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) worker: WorkerId,
    pub(crate) lane: Lane,
    pub(crate) value: u32,
}

impl Entry {
    pub(crate) const fn word(self) -> u64 {
        (self.worker.0 as u64) << 40 | (self.lane as u64) << 32 | self.value as u64
    }

    pub(crate) const fn from_word(word: u64) -> Option<Self> {
        let lane = match (word >> 32) as u8 {
            1 => Lane::Held,
            2 => Lane::NotGpu,
            3 => Lane::NotCpu,
            _ => return None,
        };
        Some(Self {
            worker: WorkerId((word >> 40) as u32),
            lane,
            value: word as u32,
        })
    }

    pub(crate) fn is_tier_lane(self) -> bool {
        self.lane != Lane::Held
    }
}
