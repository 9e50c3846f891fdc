//! An index that holds a workload.
use crate::told::{Told, turns};
use crate::{BLOCK_SIZE, Conversation, Random, Size};
use kvroute_engine::{Index, IndexConfig, Keys, Matches, Participant, Writer};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// The model that all workers serve.
pub const MODEL: &str = "m";

/// An index filled with conversations.
#[derive(Debug)]
pub struct Filled {
    /// The index.
    pub index: Arc<Index>,
    /// This thread's registration.
    pub at: Participant,
    /// The workers. Each one's place is its number in the index.
    pub writers: Vec<Writer>,
    /// (block, worker) entries.
    pub entries: u64,
}

impl Filled {
    /// An index with workers that hold nothing.
    ///
    /// # Panics
    /// If there are more workers than an index takes.
    #[must_use]
    pub fn empty(workers: usize) -> Self {
        let index = Index::new(IndexConfig::default());
        let writers: Result<Vec<_>, _> = (0..workers).map(|_| index.writer(MODEL)).collect();
        let writers = writers.unwrap_or_else(|e| panic!("{e}"));
        let numbers = writers.iter().map(|writer| writer.id().index());
        assert!(numbers.eq(0..workers), "a new index numbers from zero");
        Self {
            at: index.participant(),
            index,
            writers,
            entries: 0,
        }
    }

    /// Stores every conversation on its workers, in turns of 4 to 40 blocks as chats arrive. A worker
    /// that has the system prompt does not store it again: engines tell nothing of what they reuse.
    #[must_use]
    pub fn new(size: Size, conversations: &[Conversation], seed: u64) -> Self {
        let mut filled = Self::empty(size.workers);
        for told in Plan::new(size, conversations, seed) {
            told.store(&filled.at, &mut filled.writers);
        }
        filled.entries = filled.writers.iter().map(Writer::blocks).sum();
        filled
    }

    /// Asks for a prompt.
    pub fn lookup(&self, keys: &mut impl Keys, out: &mut Matches) {
        lookup(&self.at, keys, out);
    }
}

/// Asks for a prompt. There must be a context to ask in, or `out` is not touched.
pub fn lookup(at: &Participant, keys: &mut impl Keys, out: &mut Matches) {
    for context in at.pin().contexts(MODEL, None) {
        context.lookup(keys, out);
    }
}

/// The answer: leading blocks by worker, in any tier.
#[must_use]
pub fn answer(out: &Matches) -> BTreeMap<usize, u32> {
    let hits = out.hits().iter();
    hits.map(|hit| (hit.worker.index(), hit.blocks[2]))
        .collect()
}

/// What the workers are told, one conversation and worker after the other.
#[derive(Debug)]
pub struct Plan<'c> {
    size: Size,
    left: std::slice::Iter<'c, Conversation>,
    /// The conversation at hand and those of its workers that are left.
    now: Option<(&'c Conversation, &'c [usize])>,
    /// (worker, last block of a system prompt) of those who have it.
    held: HashSet<(usize, &'c [u32])>,
    random: Random,
}

impl<'c> Plan<'c> {
    /// The plan for conversations that begin with system prompts of that size.
    #[must_use]
    pub fn new(size: Size, conversations: &'c [Conversation], seed: u64) -> Self {
        Self {
            size,
            left: conversations.iter(),
            now: None,
            held: HashSet::new(),
            random: Random(seed),
        }
    }
}

impl<'c> Iterator for Plan<'c> {
    type Item = Told<'c>;

    fn next(&mut self) -> Option<Told<'c>> {
        let (conversation, worker) = loop {
            match self.now {
                Some((conversation, [worker, rest @ ..])) => {
                    self.now = Some((conversation, rest));
                    break (conversation, *worker);
                }
                _ => {
                    let conversation = self.left.next()?;
                    self.now = Some((conversation, &conversation.workers));
                }
            }
        };
        let (system, block) = (self.size.system_blocks, BLOCK_SIZE as usize);
        let last = conversation
            .tokens
            .get((system - 1) * block..system * block);
        let has = last.is_some_and(|last| !self.held.insert((worker, last)));
        let from = if has { system } else { 0 };
        let turns = turns(from..conversation.blocks(), &mut self.random);
        Some(Told::new(
            worker,
            conversation,
            turns,
            kvroute_engine::hash::SEED_DEFAULT,
        ))
    }
}
