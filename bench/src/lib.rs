//! The workload of the index benchmarks: system prompts, and conversations that go on from them.
//!
//! Deterministic by seed. The full size is the one on which peers are compared: 64 workers, 200 system
//! prompts of 64 blocks, 50 conversations each of up to 192 further blocks, every conversation on
//! one to three workers.
pub mod filled;
pub mod frames;
pub mod machine;
pub mod query;
pub mod told;

pub use filled::Filled;
pub use query::Query;
pub use told::Told;

use kvroute_engine::hash::{ExtraDigest, block_key};
use kvroute_engine::types::{BlockKey, EngineHash, Tier};
use kvroute_engine::{Participant, Store, Writer};

/// Tokens per block.
pub const BLOCK_SIZE: u32 = 16;

/// How large a workload is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Workers.
    pub workers: usize,
    /// System prompts.
    pub systems: usize,
    /// Blocks of each system prompt.
    pub system_blocks: usize,
    /// Conversations that begin with each system prompt.
    pub conversations: usize,
    /// Most blocks that a conversation adds.
    pub conversation_blocks: usize,
}

impl Size {
    /// The size for comparisons with peers.
    pub const FULL: Self = Self {
        workers: 64,
        systems: 200,
        system_blocks: 64,
        conversations: 50,
        conversation_blocks: 192,
    };

    /// A size that is built in a blink, for runs that only check that everything works.
    pub const TINY: Self = Self {
        workers: 8,
        systems: 4,
        system_blocks: 64,
        conversations: 4,
        conversation_blocks: 192,
    };
}

/// One conversation: its blocks from the system prompt's first one on, and who holds them.
#[derive(Clone, Debug)]
pub struct Conversation {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// Workers that hold all of it.
    pub workers: Vec<usize>,
}

impl Conversation {
    /// Whole blocks.
    #[must_use]
    pub fn blocks(&self) -> usize {
        self.tokens.len() / BLOCK_SIZE as usize
    }
}

/// A small generator of numbers (splitmix64), so that a seed means the same everywhere.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.bits() % bound.max(1) as u64) as usize
    }

    /// The token ids of so many blocks, all below 128,000.
    pub fn tokens(&mut self, blocks: usize) -> impl Iterator<Item = u32> {
        (0..blocks * BLOCK_SIZE as usize).map(|_| (self.bits() % 128_000) as u32)
    }
}

/// All conversations of a size and seed.
#[must_use]
pub fn conversations(size: Size, seed: u64) -> Vec<Conversation> {
    let mut random = Random(seed);
    let mut all = Vec::new();
    for _ in 0..size.systems {
        let system: Vec<u32> = random.tokens(size.system_blocks).collect();
        for _ in 0..size.conversations {
            let blocks = 1 + random.below(size.conversation_blocks);
            let mut tokens = system.clone();
            tokens.extend(random.tokens(blocks));
            let mut workers: Vec<_> = (0..1 + random.below(3))
                .map(|_| random.below(size.workers))
                .collect();
            workers.sort_unstable();
            workers.dedup();
            all.push(Conversation { tokens, workers });
        }
    }
    all
}

/// Conversations of `blocks` blocks each, beyond the depth of the regular ones. Each goes on from the
/// system prompt of some regular one, on the same workers.
#[must_use]
pub fn deep(
    size: Size,
    regular: &[Conversation],
    count: usize,
    blocks: usize,
    seed: u64,
) -> Vec<Conversation> {
    let mut random = Random(seed ^ blocks as u64);
    let added = blocks.saturating_sub(size.system_blocks);
    let one = |_| branch(size, regular, added, &mut random);
    (0..count).map(one).collect()
}

/// Conversations as long as regular ones that nobody has yet: what writers store and lose again.
#[must_use]
pub fn fresh(size: Size, regular: &[Conversation], count: usize, seed: u64) -> Vec<Conversation> {
    let mut random = Random(seed ^ 0xf4e5);
    let one = |_| {
        let blocks = 1 + random.below(size.conversation_blocks);
        branch(size, regular, blocks, &mut random)
    };
    (0..count).map(one).collect()
}

fn branch(size: Size, regular: &[Conversation], added: usize, random: &mut Random) -> Conversation {
    let like = &regular[random.below(regular.len())];
    let mut tokens = like.tokens[..size.system_blocks * BLOCK_SIZE as usize].to_vec();
    tokens.extend(random.tokens(added));
    Conversation {
        tokens,
        workers: like.workers.clone(),
    }
}

/// The block keys of a prompt, computed apart from any lookup.
#[must_use]
pub fn keys(tokens: &[u32], seed: u64) -> Vec<BlockKey> {
    tokens
        .chunks_exact(BLOCK_SIZE as usize)
        .map(|block| block_key(seed, block, ExtraDigest::NONE))
        .collect()
}

/// An engine's names for a prompt's blocks: chained, and different for each worker.
#[must_use]
pub fn names(worker: usize, keys: &[BlockKey]) -> Vec<EngineHash> {
    let mut state = worker as u64;
    let name = |key: &BlockKey| {
        state = Random(state ^ key.get()).bits();
        EngineHash(state)
    };
    keys.iter().map(name).collect()
}

/// Stores one conversation on one worker, turn by turn (`turns` are blocks per event).
pub fn store(
    at: &Participant,
    writer: &mut Writer,
    worker: usize,
    conversation: &Conversation,
    turns: &[usize],
) {
    let keys = keys(&conversation.tokens, at.index().hash_seed());
    let names = names(worker, &keys);
    let mut from = 0;
    for turn in turns {
        let to = from + turn;
        let event = Store {
            adapter: None,
            block_size: BLOCK_SIZE,
            tier: Tier::Gpu,
            parent: from.checked_sub(1).map(|at| names[at]),
            hashes: &names[from..to],
            tokens: &conversation.tokens[from * BLOCK_SIZE as usize..to * BLOCK_SIZE as usize],
            extra: &[],
            says_extra: true,
        };
        let stored = writer.store(at, &event);
        assert!(stored.is_ok(), "the workload fits: {stored:?}");
        from = to;
    }
}
