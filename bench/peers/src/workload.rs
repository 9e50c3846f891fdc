//! What all contenders are asked to do: the workload of `kvroute-bench`, some deep conversations,
//! and some that only the churn beside a reader stores.
//!
//! Everything is worked out before anything is timed: which worker stores which blocks in which
//! turn, in which order they leave, what is asked, and what the right answers are.
use dynamo_kv_router::LocalBlockHash;
use dynamo_kv_router::protocols::{BlockHashOptions, compute_block_hash_for_seq};
use kv_index::{ContentHash, compute_request_content_hashes};
use kvroute_bench::{BLOCK_SIZE, Conversation, Random, Size, conversations, keys, names};
use kvroute_engine::hash::SEED_DEFAULT;
use kvroute_engine::types::{BlockKey, EngineHash};
use std::collections::{BTreeMap, HashSet};

/// Tokens per block, as an array length.
pub(crate) const BLOCK: usize = BLOCK_SIZE as usize;
/// Unknown blocks after the cached ones of a query.
const UNKNOWN: usize = 4;
/// Conversations in one turn of the churn.
const CHURN: usize = 16;
/// Token ids that no conversation has: of a query's unknown blocks, and of a miss.
const FOREIGN: usize = 200_000;

/// Consecutive blocks of one conversation that one worker stores or loses in one event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    /// The worker.
    pub(crate) worker: usize,
    /// The conversation.
    pub(crate) conversation: usize,
    /// The first block.
    pub(crate) from: usize,
    /// One past the last block.
    pub(crate) to: usize,
}

impl Turn {
    /// Its blocks in forward order.
    pub(crate) fn blocks(&self) -> std::ops::Range<usize> {
        self.from..self.to
    }

    /// Its blocks in an array that holds the conversation's blocks last first.
    pub(crate) fn reversed(&self, all: usize) -> std::ops::Range<usize> {
        all - self.to..all - self.from
    }
}

/// How many blocks all these turns have.
pub(crate) fn blocks(turns: &[Turn]) -> u64 {
    turns.iter().map(|turn| turn.blocks().len() as u64).sum()
}

/// Stores and the removals that undo them.
#[derive(Clone, Debug)]
pub(crate) struct Churn {
    /// First these.
    pub(crate) stores: Vec<Turn>,
    /// Then these.
    pub(crate) removals: Vec<Turn>,
}

/// All that the contenders are fed.
#[derive(Debug)]
pub(crate) struct Workload {
    /// How many workers there are.
    pub(crate) workers: usize,
    /// Regular conversations, then deep ones, then those for the churn.
    pub(crate) conversations: Vec<Conversation>,
    /// How many are regular, and how many are regular or deep: these are stored at the beginning.
    regular: usize,
    stored: usize,
    /// Every (block, worker) entry once. An engine does not store what it has cached, so that a worker's
    /// second conversation with a system prompt starts after the prompt.
    pub(crate) stores: Vec<Turn>,
    /// Every entry once: conversations in random order, each from its tail, then the system prompts.
    pub(crate) removals: Vec<Turn>,
    /// Repeated by the writer while a reader looks things up.
    pub(crate) churn: Vec<Churn>,
}

/// What is added to the size that `kvroute-bench` defines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extra {
    /// (conversations, blocks of each) beyond the depth of the regular ones.
    pub(crate) deep: [(usize, usize); 2],
    /// Turns of the churn.
    pub(crate) churn: usize,
    /// How many workers share the conversations of one system prompt; all if `None`.
    pub(crate) pool: Option<usize>,
}

impl Extra {
    /// Nothing: exactly the size on which memory figures were published.
    pub(crate) const NONE: Self = Self {
        deep: [(0, 0); 2],
        churn: 0,
        pool: None,
    };
    /// For [`Size::FULL`].
    pub(crate) const FULL: Self = Self {
        deep: [(32, 1_100), (4, 8_200)],
        churn: 32,
        pool: None,
    };
    /// For [`Size::TINY`].
    pub(crate) const TINY: Self = Self {
        deep: [(4, 1_100), (1, 8_200)],
        churn: 2,
        pool: None,
    };
}

impl Extra {
    /// Moves each conversation to the workers of its system prompt's pool.
    fn gather(&self, size: Size, all: &mut [Conversation]) {
        let Some(pool) = self.pool else { return };
        for (at, conversation) in all.iter_mut().enumerate() {
            // Pools overlap: as many begin at every worker.
            let first = at / size.conversations * 7;
            for worker in &mut conversation.workers {
                *worker = (first + *worker % pool) % size.workers;
            }
            conversation.workers.sort_unstable();
            conversation.workers.dedup();
        }
    }
}

impl Workload {
    /// Everything for a size, by seed.
    pub(crate) fn new(size: Size, extra: Extra, seed: u64) -> Self {
        let mut random = Random(seed ^ 0xdee9);
        let mut all = conversations(size, seed);
        let regular = all.len();
        extra.gather(size, &mut all);
        // The conversations of one system prompt are next to each other.
        let mut systems: Vec<usize> = (0..regular).map(|at| at / size.conversations).collect();
        let mut more = |all: &mut Vec<Conversation>, blocks: usize, random: &mut Random| {
            let like = random.below(regular);
            let mut tokens = all[like].tokens[..size.system_blocks * BLOCK].to_vec();
            tokens.extend((0..blocks * BLOCK).map(|_| random.below(128_000) as u32));
            // Its workers have the system prompt, whoever else has.
            let workers = all[like].workers.clone();
            all.push(Conversation { tokens, workers });
            systems.push(systems[like]);
        };
        for (count, blocks) in extra.deep {
            for _ in 0..count {
                more(&mut all, blocks - size.system_blocks, &mut random);
            }
        }
        let stored = all.len();
        for _ in 0..extra.churn * CHURN {
            let blocks = 1 + random.below(size.conversation_blocks);
            more(&mut all, blocks, &mut random);
        }
        let mut workload = Self {
            workers: size.workers,
            conversations: all,
            regular,
            stored,
            stores: Vec::new(),
            removals: Vec::new(),
            churn: Vec::new(),
        };
        workload.plan(size.system_blocks, &systems, &mut random);
        workload
    }

    /// Works out the turns.
    fn plan(&mut self, system_blocks: usize, systems: &[usize], random: &mut Random) {
        let mut held = HashSet::new();
        let (mut tails, mut prompts) = (Vec::new(), Vec::new());
        let stored = self.conversations[..self.stored].iter();
        for (conversation, (c, system)) in stored.zip(systems).enumerate() {
            for &worker in &c.workers {
                let whole = |from, to| Turn {
                    worker,
                    conversation,
                    from,
                    to,
                };
                let tail = whole(system_blocks, c.blocks());
                if held.insert((worker, system)) {
                    prompts.push(whole(0, system_blocks));
                    self.stores.extend(split(whole(0, c.blocks()), random));
                } else {
                    self.stores.extend(split(tail, random));
                }
                tails.push(tail);
            }
        }
        for at in (1..tails.len()).rev() {
            tails.swap(at, random.below(at + 1));
        }
        for whole in tails.into_iter().chain(prompts) {
            self.removals.extend(split(whole, random).into_iter().rev());
        }
        let fresh: Vec<usize> = (self.stored..self.conversations.len()).collect();
        for group in fresh.chunks(CHURN) {
            let mut stores = Vec::new();
            for &conversation in group {
                let c = &self.conversations[conversation];
                let tail = Turn {
                    worker: c.workers[0],
                    conversation,
                    from: system_blocks,
                    to: c.blocks(),
                };
                stores.extend(split(tail, random));
            }
            let removals = stores.iter().rev().copied().collect();
            self.churn.push(Churn { stores, removals });
        }
    }

    /// The same holders in a fleet of `workers`: they are every `stride`th, and each of the others
    /// holds a small conversation of its own.
    pub(crate) fn spread(&self, workers: usize, stride: usize) -> Self {
        // Another seed than the conversations', or the first of them would be repeated.
        let mut random = Random(0xf1ee7);
        let mut all = self.conversations[..self.stored].to_vec();
        for worker in all.iter_mut().flat_map(|c| &mut c.workers) {
            *worker *= stride;
        }
        let move_out = |turn: &Turn| Turn {
            worker: turn.worker * stride,
            ..*turn
        };
        let mut stores: Vec<_> = self.stores.iter().map(move_out).collect();
        for worker in (0..workers).filter(|worker| worker % stride != 0) {
            stores.push(Turn {
                worker,
                conversation: all.len(),
                from: 0,
                to: 8,
            });
            let tokens = (0..8 * BLOCK).map(|_| random.below(128_000) as u32);
            all.push(Conversation {
                tokens: tokens.collect(),
                workers: vec![worker],
            });
        }
        Self {
            workers,
            regular: self.regular,
            stored: all.len(),
            conversations: all,
            stores,
            removals: Vec::new(),
            churn: Vec::new(),
        }
    }

    /// What engines call a conversation's blocks: hashes chained over the content, the same on all
    /// workers, which is what both peers assume.
    pub(crate) fn names(&self, conversation: usize) -> Vec<EngineHash> {
        let tokens = &self.conversations[conversation].tokens;
        names(0, &keys(tokens, SEED_DEFAULT))
    }

    /// Queries of `depth` cached blocks and some unknown ones, each with its answer.
    pub(crate) fn queries(&self, depth: usize, count: usize, random: &mut Random) -> Vec<Query> {
        let fits = |&at: &usize| self.conversations[at].blocks() >= depth;
        let mut from: Vec<_> = (0..self.regular).filter(fits).collect();
        if from.is_empty() {
            from = (self.regular..self.stored).filter(fits).collect();
        }
        let pick = |_| self.query(from[random.below(from.len())], depth, random);
        (0..count).map(pick).collect()
    }

    /// Queries that go on from whole regular conversations, of any depth.
    pub(crate) fn mixed(&self, count: usize, random: &mut Random) -> Vec<Query> {
        let pick = |_| {
            let conversation = random.below(self.regular);
            self.query(
                conversation,
                self.conversations[conversation].blocks(),
                random,
            )
        };
        (0..count).map(pick).collect()
    }

    /// Queries of `blocks` blocks that nobody holds.
    pub(crate) fn misses(blocks: usize, count: usize, random: &mut Random) -> Vec<Query> {
        let pick = |_| {
            let tokens = (0..blocks * BLOCK).map(|_| (FOREIGN + random.below(1_000)) as u32);
            Query::new(tokens.collect(), BTreeMap::new())
        };
        (0..count).map(pick).collect()
    }

    fn query(&self, conversation: usize, depth: usize, random: &mut Random) -> Query {
        let mut tokens = self.conversations[conversation].tokens[..depth * BLOCK].to_vec();
        tokens.extend((0..UNKNOWN * BLOCK).map(|_| (FOREIGN + random.below(1_000)) as u32));
        let mut expected = BTreeMap::new();
        for other in &self.conversations[..self.stored] {
            let same = |(a, b): &(&[u32], &[u32])| a == b;
            let theirs = other.tokens.chunks_exact(BLOCK);
            let common = theirs.zip(tokens.chunks_exact(BLOCK)).take_while(same);
            let common = common.count() as u32;
            for &worker in other.workers.iter().filter(|_| common > 0) {
                let best = expected.entry(worker).or_insert(0);
                *best = common.max(*best);
            }
        }
        Query::new(tokens, expected)
    }
}

/// Cuts blocks into turns of 4 to 40, as chats grow.
fn split(whole: Turn, random: &mut Random) -> Vec<Turn> {
    let mut turns = Vec::new();
    let mut from = whole.from;
    while from < whole.to {
        let to = (from + 4 + random.below(37)).min(whole.to);
        turns.push(Turn { from, to, ..whole });
        from = to;
    }
    turns
}

/// A request, in every contender's terms, and its answer.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    /// Token ids.
    pub(crate) tokens: Vec<u32>,
    /// Our block keys.
    pub(crate) keys: Vec<BlockKey>,
    /// The hashes of kv-index.
    pub(crate) contents: Vec<ContentHash>,
    /// The hashes of Dynamo.
    pub(crate) locals: Vec<LocalBlockHash>,
    /// Leading blocks by worker.
    pub(crate) expected: BTreeMap<usize, u32>,
}

impl Query {
    fn new(tokens: Vec<u32>, expected: BTreeMap<usize, u32>) -> Self {
        Self {
            keys: keys(&tokens, SEED_DEFAULT),
            contents: compute_request_content_hashes(&tokens, BLOCK),
            locals: local_hashes(&tokens),
            tokens,
            expected,
        }
    }

    /// The same request in a fleet that [`Workload::spread`] made.
    pub(crate) fn spread(&self, stride: usize) -> Self {
        let expected = self.expected.iter();
        Self {
            expected: expected.map(|(&w, &b)| (w * stride, b)).collect(),
            ..self.clone()
        }
    }
}

/// The block hashes that Dynamo computes for a request.
pub(crate) fn local_hashes(tokens: &[u32]) -> Vec<LocalBlockHash> {
    compute_block_hash_for_seq(tokens, BLOCK_SIZE, BlockHashOptions::default())
}
