//! What the engines hold, what is asked of it, and the answers, worked out from the tokens alone.
use kvroute_bench::frames::{payload, stored};
use kvroute_bench::{
    BLOCK_SIZE, Conversation, Random, Size, conversations, deep, keys, names, told,
};
use kvroute_engine::hash::SEED_DEFAULT;
use kvroute_engine::types::EngineHash;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

/// Tokens per block, as a length.
pub(crate) const BLOCK: usize = BLOCK_SIZE as usize;

/// The model's name, for all engines and requests.
pub(crate) const MODEL: &str = "m";

const SEED: u64 = 42;

/// Blocks after the cached ones of a prompt that nobody holds.
const UNKNOWN_BLOCKS: usize = 4;

/// Token ids from here on are in no conversation.
const UNKNOWN_TOKENS: usize = 200_000;

/// Conversations beyond the depth of the regular ones, and their blocks.
const DEEP: (usize, usize) = (64, 1_100);
const DEEP_TINY: (usize, usize) = (8, 1_100);

/// Who holds what.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) workers: usize,
    pub(crate) conversations: Vec<Conversation>,
    /// Conversations by their first block: only those have blocks in common.
    by_start: HashMap<Vec<u32>, Vec<usize>>,
    tells: Vec<Tell>,
}

/// Blocks of a conversation that a worker announces.
#[derive(Clone, Debug)]
struct Tell {
    worker: usize,
    conversation: usize,
    blocks: Range<usize>,
}

/// What is asked, and the right answer.
#[derive(Clone, Debug)]
pub(crate) struct Prompt {
    pub(crate) tokens: Vec<u32>,
    /// The blocks' hashes, as RFC #1403 has its clients compute them.
    pub(crate) hashes: Vec<u64>,
    /// Leading tokens that each worker holds; who holds none is left out.
    pub(crate) held: BTreeMap<usize, u64>,
}

impl Workload {
    /// Keeps the conversations of one system prompt on `pool` workers.
    pub(crate) fn new(tiny: bool, pool: usize) -> Self {
        let size = if tiny { Size::TINY } else { Size::FULL };
        let mut all = conversations(size, SEED);
        for (at, conversation) in all.iter_mut().enumerate() {
            // Pools overlap: as many begin at every worker.
            let first = at / size.conversations * 7;
            for worker in &mut conversation.workers {
                *worker = (first + *worker % pool) % size.workers;
            }
            conversation.workers.sort_unstable();
            conversation.workers.dedup();
        }
        let (count, blocks) = if tiny { DEEP_TINY } else { DEEP };
        all.extend(deep(size, &all, count, blocks, SEED));
        let mut by_start: HashMap<_, Vec<_>> = HashMap::new();
        for (at, conversation) in all.iter().enumerate() {
            let start = conversation.tokens[..BLOCK].to_vec();
            by_start.entry(start).or_default().push(at);
        }
        let tells = tells(size, &all);
        Self {
            workers: size.workers,
            conversations: all,
            by_start,
            tells,
        }
    }

    /// How many (block, worker) entries there are: each is announced once.
    pub(crate) fn entries(&self) -> u64 {
        let blocks = self.tells.iter().map(|tell| tell.blocks.len() as u64);
        blocks.sum()
    }

    /// All batches in order, with their workers. Engines name equal blocks equally, which the peer assumes.
    pub(crate) fn batches(&self) -> impl Iterator<Item = (usize, Vec<u8>)> {
        let mut of = usize::MAX;
        let mut named: Vec<EngineHash> = Vec::new();
        self.tells.iter().map(move |tell| {
            let tokens = &self.conversations[tell.conversation].tokens;
            if of != tell.conversation {
                of = tell.conversation;
                named = names(0, &keys(tokens, SEED_DEFAULT));
            }
            let blocks = tell.blocks.clone();
            let parent = blocks.start.checked_sub(1).map(|at| named[at]);
            let tokens = &tokens[blocks.start * BLOCK..blocks.end * BLOCK];
            let batch = payload(vec![stored(parent, &named[blocks], tokens)]);
            (tell.worker, batch)
        })
    }

    /// `count` prompts of `depth` cached blocks and some that nobody holds.
    pub(crate) fn prompts(&self, depth: usize, count: usize) -> Vec<Prompt> {
        let mut random = Random(SEED ^ depth as u64);
        let fits = |&at: &usize| self.conversations[at].blocks() >= depth;
        let from: Vec<_> = (0..self.conversations.len()).filter(fits).collect();
        let one = |_| {
            let conversation = &self.conversations[from[random.below(from.len())]];
            let mut tokens = conversation.tokens[..depth * BLOCK].to_vec();
            let unknown = 0..UNKNOWN_BLOCKS * BLOCK;
            tokens.extend(unknown.map(|_| (UNKNOWN_TOKENS + random.below(1_000)) as u32));
            self.prompt(tokens)
        };
        (0..count).map(one).collect()
    }

    /// Every conversation as a prompt: their answers tell of every entry.
    pub(crate) fn whole(&self) -> impl Iterator<Item = Prompt> {
        let tokens = self.conversations.iter().map(|c| c.tokens.clone());
        tokens.map(|tokens| self.prompt(tokens))
    }

    fn prompt(&self, tokens: Vec<u32>) -> Prompt {
        let mut held = BTreeMap::new();
        let related = self.by_start.get(&tokens[..BLOCK]);
        for &at in related.into_iter().flatten() {
            let other = &self.conversations[at];
            let blocks = other.tokens.chunks_exact(BLOCK);
            let common = blocks.zip(tokens.chunks_exact(BLOCK));
            let common = common.take_while(|(a, b)| a == b).count() * BLOCK;
            for &worker in &other.workers {
                let best = held.entry(worker).or_insert(0);
                *best = (common as u64).max(*best);
            }
        }
        let hashes = keys(&tokens, SEED_DEFAULT);
        Prompt {
            hashes: hashes.iter().map(|key| key.get()).collect(),
            tokens,
            held,
        }
    }
}

/// What is announced, in turns of 4 to 40 blocks. An engine does not announce what it has cached, so a worker's
/// second conversation with a system prompt is told from the prompt's end on.
fn tells(size: Size, all: &[Conversation]) -> Vec<Tell> {
    let mut random = Random(SEED ^ 0x7e11);
    let mut cached = HashSet::new();
    let mut tells = Vec::new();
    for (conversation, c) in all.iter().enumerate() {
        let system = &c.tokens[..size.system_blocks * BLOCK];
        for &worker in &c.workers {
            let from = match cached.insert((worker, system)) {
                true => 0,
                false => size.system_blocks,
            };
            let turns = told::turns(from..c.blocks(), &mut random);
            tells.extend(turns.into_iter().map(|blocks| Tell {
                worker,
                conversation,
                blocks,
            }));
        }
    }
    tells
}
