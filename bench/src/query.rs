//! Requests, each with an answer that is worked out from the workload alone.
use crate::filled::{answer, lookup};
use crate::{BLOCK_SIZE, Conversation, Random, keys};
use kvroute_engine::hash::SEED_DEFAULT;
use kvroute_engine::types::BlockKey;
use kvroute_engine::{Matches, Participant, TokenKeys};
use std::collections::BTreeMap;

/// Unknown blocks after the cached ones of a query.
pub const UNKNOWN: usize = 4;

/// No conversation has token ids from here on.
const FOREIGN: u32 = 200_000;

/// A request and its answer.
#[derive(Clone, Debug)]
pub struct Query {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// The keys of its blocks.
    pub keys: Vec<BlockKey>,
    /// Leading blocks by worker.
    pub expected: BTreeMap<usize, u32>,
}

impl Query {
    /// A request whose answer is known.
    #[must_use]
    pub fn new(tokens: Vec<u32>, expected: BTreeMap<usize, u32>) -> Self {
        Self {
            keys: keys(&tokens, SEED_DEFAULT),
            tokens,
            expected,
        }
    }

    /// The first `depth` blocks of a conversation, then unknown ones, asked of all who hold `all`.
    #[must_use]
    pub fn of(
        all: &[Conversation],
        conversation: &Conversation,
        depth: usize,
        random: &mut Random,
    ) -> Self {
        let size = BLOCK_SIZE as usize;
        let mut tokens = conversation.tokens[..depth * size].to_vec();
        tokens.extend(foreign(UNKNOWN, random));
        let mut expected = BTreeMap::new();
        for other in all {
            let blocks = other.tokens.chunks_exact(size);
            let pairs = blocks.zip(tokens.chunks_exact(size));
            let common = pairs.take_while(|(theirs, ours)| theirs == ours).count();
            for &worker in other.workers.iter().filter(|_| common > 0) {
                let best = expected.entry(worker).or_insert(0);
                *best = (*best).max(common as u32);
            }
        }
        Self::new(tokens, expected)
    }

    /// So many blocks that nobody holds.
    #[must_use]
    pub fn miss(blocks: usize, random: &mut Random) -> Self {
        Self::new(foreign(blocks, random).collect(), BTreeMap::new())
    }

    /// Its keys as a lookup asks for them from token ids.
    #[must_use]
    pub fn token_keys(&self) -> TokenKeys<'_> {
        TokenKeys::new(SEED_DEFAULT, BLOCK_SIZE, &self.tokens, &[])
    }

    /// Asks both ways.
    ///
    /// # Panics
    /// If an answer is wrong.
    pub fn check(&self, at: &Participant, out: &mut Matches, when: &str) {
        lookup(at, &mut self.keys.as_slice(), out);
        assert_eq!(answer(out), self.expected, "from keys, {when}");
        lookup(at, &mut self.token_keys(), out);
        assert_eq!(answer(out), self.expected, "from tokens, {when}");
    }
}

/// Token ids of so many blocks that no conversation has.
pub fn foreign(blocks: usize, random: &mut Random) -> impl Iterator<Item = u32> {
    (0..blocks * BLOCK_SIZE as usize).map(|_| FOREIGN + random.below(1_000) as u32)
}

/// `count` queries of `depth` cached blocks, of conversations chosen at random among those that have
/// as many; of the first `regular` ones if any of these has.
#[must_use]
pub fn at_depth(
    all: &[Conversation],
    regular: usize,
    depth: usize,
    count: usize,
    random: &mut Random,
) -> Vec<Query> {
    let fits = |c: &&Conversation| c.blocks() >= depth;
    let mut from: Vec<_> = all[..regular].iter().filter(fits).collect();
    if from.is_empty() {
        from = all[regular..].iter().filter(fits).collect();
    }
    assert!(!from.is_empty(), "no conversation has {depth} blocks");
    let pick = |_| Query::of(all, from[random.below(from.len())], depth, random);
    (0..count).map(pick).collect()
}

/// `count` queries that go on from whole conversations among the first `regular` ones.
#[must_use]
pub fn mixed(
    all: &[Conversation],
    regular: usize,
    count: usize,
    random: &mut Random,
) -> Vec<Query> {
    let pick = |_| {
        let conversation = &all[random.below(regular)];
        Query::of(all, conversation, conversation.blocks(), random)
    };
    (0..count).map(pick).collect()
}
