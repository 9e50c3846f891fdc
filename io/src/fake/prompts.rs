//! What clients ask of an engine: conversations that begin with one of a few system prompts, for one of a
//! few adapters, some with a cache salt.
//!
//! The system prompts depend on the fleet's seed alone, so the engines of a fleet meet in them.
use super::chance::{Chance, mix};
use std::sync::Arc;

/// Conversations that are continued; the oldest is forgotten for a new one.
const CONVERSATIONS_MAX: usize = 24;

/// A prompt as the engine sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// Its token ids.
    pub tokens: Vec<u32>,
    /// Whose cache: the adapter's number, 0 for none; and the salt.
    pub scope: Scope,
}

/// What parts the cache beside the tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scope {
    /// The adapter's number, from 1 on; 0 for none.
    pub adapter: u32,
    /// The cache salt.
    pub salt: Option<Arc<str>>,
}

/// How much of what is asked.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// Tokens per block, to which lengths are related.
    pub block_size: u32,
    /// How many system prompts there are.
    pub systems: u64,
    /// Blocks of the longest system prompt.
    pub system_blocks: u64,
    /// Blocks of the longest turn of a conversation.
    pub turn_blocks: u64,
    /// Blocks of the longest prompt; a conversation ends there.
    pub blocks_max: u64,
    /// How many adapters there are.
    pub adapters: u64,
    /// Of a thousand conversations, how many have a salt.
    pub salted_per_mille: u64,
}

/// A stream of prompts.
#[derive(Clone, Debug)]
pub struct Prompts {
    habits: Habits,
    /// Makes the system prompts.
    fleet: u64,
    chance: Chance,
    conversations: Vec<Prompt>,
}

impl Prompts {
    /// What clients ask of one engine of a fleet.
    #[must_use]
    pub fn new(habits: Habits, fleet: u64, chance: Chance) -> Self {
        Self {
            habits,
            fleet,
            chance,
            conversations: Vec::new(),
        }
    }

    /// The next prompt: of a new conversation, of one that goes on, or one that was asked before.
    pub fn ask(&mut self) -> Prompt {
        let begins = self.conversations.is_empty() || self.chance.per_mille(350);
        let at = if begins {
            let begun = self.begin();
            if self.conversations.len() >= CONVERSATIONS_MAX {
                self.conversations.remove(0);
            }
            self.conversations.push(begun);
            self.conversations.len() - 1
        } else {
            self.chance.place(self.conversations.len())
        };
        if !begins && self.chance.per_mille(700) {
            let turn = self.tokens(self.habits.turn_blocks);
            let tokens = &mut self.conversations[at].tokens;
            let room = self.habits.blocks_max * u64::from(self.habits.block_size);
            if (tokens.len() + turn.len()) as u64 <= room {
                tokens.extend(turn);
            }
        }
        self.conversations[at].clone()
    }

    /// Tokens that an engine generates for a prompt: those of the same prompt are often the same.
    pub fn generate(&mut self, prompt: &Prompt) -> Vec<u32> {
        let seed =
            prompt.tokens.iter().fold(
                self.fleet,
                |h, &token| mix(h.wrapping_add(u64::from(token))),
            );
        let varied = self.chance.per_mille(300);
        let mut chance = match varied {
            true => self.chance.fork(),
            false => Chance::new(seed),
        };
        let most = self.habits.turn_blocks * u64::from(self.habits.block_size);
        let len = chance.below(most + 1);
        (0..len).map(|_| token(&mut chance)).collect()
    }

    fn begin(&mut self) -> Prompt {
        let system = self.chance.below(self.habits.systems);
        let mut chance = Chance::new(mix(self.fleet ^ mix(system + 1)));
        let most = self.habits.system_blocks * u64::from(self.habits.block_size);
        let len = chance.between(1, most.max(1));
        let mut tokens: Vec<u32> = (0..len).map(|_| token(&mut chance)).collect();
        tokens.extend(self.tokens(self.habits.turn_blocks));
        let adapter = match self.chance.per_mille(600) {
            true => 0,
            false => self.chance.below(self.habits.adapters + 1) as u32,
        };
        let salted = self.chance.per_mille(self.habits.salted_per_mille);
        let salt = salted.then(|| format!("tenant-{}", self.chance.below(2)).into());
        Prompt {
            tokens,
            scope: Scope { adapter, salt },
        }
    }

    fn tokens(&mut self, blocks: u64) -> Vec<u32> {
        let most = blocks * u64::from(self.habits.block_size);
        let len = self.chance.between(1, most.max(1));
        // Often a whole number of blocks, so that a prompt that is asked again ends with a block.
        let size = u64::from(self.habits.block_size);
        let len = match self.chance.per_mille(300) {
            true => len.next_multiple_of(size),
            false => len,
        };
        (0..len).map(|_| token(&mut self.chance)).collect()
    }
}

/// A token id of a usual vocabulary.
fn token(chance: &mut Chance) -> u32 {
    chance.below(128_000) as u32
}
