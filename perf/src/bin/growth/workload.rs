//! Conversations made from their numbers whenever they are needed, so that nothing but the index grows.
//!
//! As in `kvroute-bench`: system prompts of 64 blocks, 50 conversations each of up to 192 further blocks,
//! on one to three workers. Every fifth has all 192, for lookups of 256 blocks.
use kvroute_bench::told::{Told, turns};
use kvroute_bench::{BLOCK_SIZE, Conversation, Query, Random, query};
use kvroute_engine::hash::SEED_DEFAULT;
use std::collections::BTreeMap;

/// Blocks of a system prompt.
pub(crate) const SYSTEM: usize = 64;
/// Conversations that begin with each system prompt.
pub(crate) const CONVERSATIONS: usize = 50;
/// Most blocks that a conversation adds.
const TAIL: usize = 192;
/// One in so many adds that many.
const DEEP: usize = 5;
const SEED: u64 = 42;

/// Which conversation: of which system prompt, and which one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Number {
    pub(crate) system: usize,
    pub(crate) at: usize,
}

/// All of it, as numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    pub(crate) workers: usize,
    pub(crate) systems: usize,
    /// (block, worker) entries of all.
    pub(crate) entries: u64,
}

/// A conversation without its tokens.
#[derive(Clone, Copy, Debug)]
struct Sketch {
    tail: usize,
    workers: [usize; 3],
    count: usize,
    /// For the tokens.
    random: u64,
}

impl Sketch {
    fn workers(&self) -> &[usize] {
        &self.workers[..self.count]
    }
}

impl Workload {
    /// As many system prompts as it takes to have `entries` or some more.
    pub(crate) fn new(entries: u64, workers: usize) -> Self {
        let mut all = Self {
            workers,
            systems: 0,
            entries: 0,
        };
        while all.entries < entries {
            all.entries += all.of_system(all.systems);
            all.systems += 1;
        }
        all
    }

    fn of_system(&self, system: usize) -> u64 {
        let conversations = (0..CONVERSATIONS).map(|at| Number { system, at });
        let tails = conversations.map(|number| {
            let sketch = self.sketch(number);
            sketch.tail * sketch.count
        });
        let tails: usize = tails.sum();
        (tails + SYSTEM * self.holders(system, CONVERSATIONS).len()) as u64
    }

    /// Workers of the first `count` conversations of a system prompt.
    fn holders(&self, system: usize, count: usize) -> Vec<usize> {
        let mut holders = Vec::with_capacity(3 * count);
        for at in 0..count {
            holders.extend_from_slice(self.sketch(Number { system, at }).workers());
        }
        holders.sort_unstable();
        holders.dedup();
        holders
    }

    fn sketch(&self, number: Number) -> Sketch {
        let place = (number.system * CONVERSATIONS + number.at) as u64;
        // Mixed once: neighbouring seeds would give the same numbers, shifted by one.
        let mut random = Random(Random(SEED ^ (place << 20)).bits());
        let some = 1 + random.below(TAIL);
        let tail = if number.at.is_multiple_of(DEEP) {
            TAIL
        } else {
            some
        };
        let mut workers = [0; 3];
        let mut count = 0;
        for _ in 0..1 + random.below(3) {
            let worker = random.below(self.workers);
            if !workers[..count].contains(&worker) {
                workers[count] = worker;
                count += 1;
            }
        }
        Sketch {
            tail,
            workers,
            count,
            random: random.bits(),
        }
    }

    /// A conversation.
    pub(crate) fn conversation(&self, number: Number) -> Conversation {
        let sketch = self.sketch(number);
        let mut system = Random(Random(!SEED ^ ((number.system as u64) << 20)).bits());
        let mut tokens = Vec::with_capacity((SYSTEM + sketch.tail) * BLOCK_SIZE as usize);
        tokens.extend(system.tokens(SYSTEM));
        tokens.extend(Random(sketch.random).tokens(sketch.tail));
        Conversation {
            tokens,
            workers: sketch.workers().to_vec(),
        }
    }

    /// All conversations, in an order in which those of one system prompt are far apart.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = Number> {
        let systems = self.systems;
        (0..CONVERSATIONS).flat_map(move |at| (0..systems).map(move |system| Number { system, at }))
    }

    /// A conversation chosen at random.
    pub(crate) fn any(&self, random: &mut Random) -> Number {
        Number {
            system: random.below(self.systems),
            at: random.below(CONVERSATIONS),
        }
    }

    /// What its workers tell of a conversation when it arrives in the order of [`Self::numbers`]: with
    /// the system prompt if an earlier one has not brought it.
    pub(crate) fn arrival<'c>(
        &self,
        number: Number,
        conversation: &'c Conversation,
    ) -> impl Iterator<Item = Told<'c>> {
        let held = self.holders(number.system, number.at);
        let mut random = Random(number.system as u64);
        conversation.workers.iter().map(move |&worker| {
            let has = held.binary_search(&worker).is_ok();
            let from = if has { SYSTEM } else { 0 };
            let turns = turns(from..conversation.blocks(), &mut random);
            Told::new(worker, conversation, turns, SEED_DEFAULT)
        })
    }

    /// What its workers tell of all but the system prompt.
    pub(crate) fn tails<'c>(
        conversation: &'c Conversation,
        random: &mut Random,
    ) -> impl Iterator<Item = Told<'c>> {
        conversation.workers.iter().map(|&worker| {
            let turns = turns(SYSTEM..conversation.blocks(), random);
            Told::new(worker, conversation, turns, SEED_DEFAULT)
        })
    }

    /// A lookup of a whole conversation, and its answer: its workers have all of it, if `stored`; those of
    /// the other conversations have the system prompt.
    pub(crate) fn query(&self, number: Number, stored: bool, random: &mut Random) -> Query {
        let Conversation {
            mut tokens,
            workers,
        } = self.conversation(number);
        let depth = tokens.len() / BLOCK_SIZE as usize;
        tokens.extend(query::foreign(query::UNKNOWN, random));
        let holders = self.holders(number.system, CONVERSATIONS).into_iter();
        let mut expected: BTreeMap<_, _> = holders.map(|w| (w, SYSTEM as u32)).collect();
        if stored {
            expected.extend(workers.into_iter().map(|worker| (worker, depth as u32)));
        }
        Query::new(tokens, expected)
    }

    /// A lookup of 256 blocks.
    pub(crate) fn deep_query(&self, random: &mut Random) -> Query {
        let number = self.any(random);
        let at = number.at - number.at % DEEP;
        self.query(Number { at, ..number }, true, random)
    }
}
