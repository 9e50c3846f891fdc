//! The words of the field as types: block key, engine hash, worker, tier.
use std::num::NonZeroU64;

/// Our own identity of one block's content: its token ids and extra keys, not its position.
///
/// Never zero, so that zero can mean "nothing here yet" in shared slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockKey(NonZeroU64);

impl BlockKey {
    /// The key for a 64-bit hash. Zero, which one hash in 2^64 gives, becomes one.
    #[must_use]
    pub const fn new(hash: u64) -> Self {
        match NonZeroU64::new(hash) {
            Some(hash) => Self(hash),
            None => Self(NonZeroU64::MIN),
        }
    }

    /// The 64 bits.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

/// A token id as it lies in messages: little-endian, at any alignment.
pub type TokenBytes = [u8; 4];

/// The identity that an engine gives to a block, opaque to us.
///
/// Unique only within one worker and one life of its engine: seeds differ between processes
/// (vLLM up to 0.28, and its xxhash modes in every version).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EngineHash(pub u64);

/// The number of a worker (one data-parallel rank of one pod) in one index; dense, from zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub(crate) u32);

impl WorkerId {
    /// The number as an array index, below [`crate::limits::WORKERS_MAX`].
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Where a copy of a block lives, fastest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tier {
    /// In the accelerator's memory: reused at once.
    Gpu = 0,
    /// In the host's memory: must be copied first.
    Cpu = 1,
    /// On disk or on another machine.
    Disk = 2,
}

/// How many tiers there are.
pub const TIERS: usize = 3;

impl Tier {
    /// All tiers, fastest first.
    pub const ALL: [Self; TIERS] = [Self::Gpu, Self::Cpu, Self::Disk];

    /// The tier as an array index.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// What prefixes never match across: model, adapter, block size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Context<'a> {
    /// The served model's name.
    pub model: &'a str,
    /// The LoRA adapter's name, if any.
    pub adapter: Option<&'a str>,
    /// Tokens per block.
    pub block_size: u32,
}
