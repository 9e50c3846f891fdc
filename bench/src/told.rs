//! What one worker tells of one conversation: made ready before anything is timed.
use crate::{BLOCK_SIZE, Conversation, Random, keys, names};
use kvroute_engine::types::{EngineHash, Tier};
use kvroute_engine::{Participant, Store, Writer};
use std::ops::Range;

/// The events by which one worker stores one conversation, or what it lacks of it, and loses it again.
#[derive(Clone, Debug)]
pub struct Told<'c> {
    /// The worker.
    pub worker: usize,
    /// The conversation.
    pub conversation: &'c Conversation,
    turns: Vec<Range<usize>>,
    names: Vec<EngineHash>,
    /// The same, last block first: chains leave from their tails.
    reversed: Vec<EngineHash>,
}

impl<'c> Told<'c> {
    /// The conversation from block `from` on, in these turns.
    #[must_use]
    pub fn new(
        worker: usize,
        conversation: &'c Conversation,
        turns: Vec<Range<usize>>,
        seed: u64,
    ) -> Self {
        let names = names(worker, &keys(&conversation.tokens, seed));
        let reversed = names.iter().rev().copied().collect();
        Self {
            worker,
            conversation,
            turns,
            names,
            reversed,
        }
    }

    /// Blocks of all turns.
    #[must_use]
    pub fn blocks(&self) -> usize {
        self.turns.iter().map(Range::len).sum()
    }

    /// How many turns there are.
    #[must_use]
    pub fn turns(&self) -> usize {
        self.turns.len()
    }

    /// Stores one turn, if there is one of that number; how many blocks it has.
    pub fn store_turn(&self, turn: usize, at: &Participant, writers: &mut [Writer]) -> usize {
        let Some(blocks) = self.turns.get(turn) else {
            return 0;
        };
        let size = BLOCK_SIZE as usize;
        let event = Store {
            adapter: None,
            block_size: BLOCK_SIZE,
            tier: Tier::Gpu,
            parent: blocks.start.checked_sub(1).map(|at| self.names[at]),
            hashes: &self.names[blocks.clone()],
            tokens: &self.conversation.tokens[blocks.start * size..blocks.end * size],
            extra: &[],
            says_extra: true,
        };
        let stored = writers[self.worker].store(at, &event);
        assert!(stored.is_ok(), "the workload fits: {stored:?}");
        blocks.len()
    }

    /// Removes one turn, if there is one of that number, from its tail; how many blocks it has.
    pub fn remove_turn(&self, turn: usize, at: &Participant, writers: &mut [Writer]) -> usize {
        let Some(blocks) = self.turns.get(turn) else {
            return 0;
        };
        let all = self.reversed.len();
        let names = &self.reversed[all - blocks.end..all - blocks.start];
        writers[self.worker].remove(at, Tier::Gpu, names);
        blocks.len()
    }

    /// Stores all turns.
    pub fn store(&self, at: &Participant, writers: &mut [Writer]) {
        for turn in 0..self.turns.len() {
            self.store_turn(turn, at, writers);
        }
    }

    /// Removes all turns, the last one first.
    pub fn remove(&self, at: &Participant, writers: &mut [Writer]) {
        for turn in (0..self.turns.len()).rev() {
            self.remove_turn(turn, at, writers);
        }
    }
}

/// Stores many, turn by turn: conversations go on at the same time.
pub fn store_interleaved(all: &[Told<'_>], at: &Participant, writers: &mut [Writer]) {
    let most = all.iter().map(Told::turns).max().unwrap_or(0);
    for turn in 0..most {
        for told in all {
            told.store_turn(turn, at, writers);
        }
    }
}

/// Blocks of many.
#[must_use]
pub fn blocks(all: &[Told<'_>]) -> u64 {
    all.iter().map(|told| told.blocks() as u64).sum()
}

/// Cuts blocks into turns of 4 to 40, as chats grow.
#[must_use]
pub fn turns(blocks: Range<usize>, random: &mut Random) -> Vec<Range<usize>> {
    let mut turns = Vec::new();
    let mut from = blocks.start;
    while from < blocks.end {
        let to = (from + 4 + random.below(37)).min(blocks.end);
        turns.push(from..to);
        from = to;
    }
    turns
}

/// Cuts blocks into turns of one block, as they come while an engine decodes.
#[must_use]
pub fn single(blocks: Range<usize>) -> Vec<Range<usize>> {
    blocks.map(|at| at..at + 1).collect()
}
