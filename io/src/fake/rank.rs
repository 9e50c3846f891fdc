//! One rank of an engine that serves made-up traffic: life after life, batch after batch.
use super::cache::{Cache, CacheOptions};
use super::chance::{Chance, mix};
use super::encode::{Dialect, Encoder};
use super::prompts::{Habits, Prompt, Prompts};

/// Steps without an event that are taken for one batch before it is given up.
const STEPS_PER_BATCH_MAX: u32 = 64;

/// Seconds since 1970 at which the first life begins, by the engine's clock.
const EPOCH: f64 = 1.7e9;

/// Seconds between the beginnings of two lives by that clock: more than batches in a life.
const LIFE_SECONDS: f64 = 1e7;

/// What kind of rank.
#[derive(Clone, Copy, Debug)]
pub struct RankOptions {
    /// How it writes.
    pub encoder: Encoder,
    /// Its cache. Copies on the CPU need a dialect that says the medium.
    pub cache: CacheOptions,
    /// What it is asked. Salts need a dialect that says them.
    pub habits: Habits,
    /// What the whole fleet's system prompts are made of.
    pub fleet: u64,
    /// What this rank's own traffic is made of.
    pub seed: u64,
    /// Requests that it runs at once.
    pub running_max: usize,
    /// Of a thousand batches, how many begin with a reset of the cache.
    pub resets_per_mille: u64,
}

/// A numbered batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Its number in the rank's life.
    pub sequence: u64,
    /// Its MessagePack bytes.
    pub payload: Vec<u8>,
}

/// One rank.
#[derive(Clone, Debug)]
pub struct Rank {
    options: RankOptions,
    cache: Cache,
    prompts: Prompts,
    chance: Chance,
    life: u64,
    next: u64,
    /// What was asked last, newest last.
    asked: Vec<Prompt>,
}

/// Prompts remembered, so that somebody may ask the node for them.
const ASKED_MAX: usize = 32;

impl Rank {
    /// A rank that has published nothing.
    #[must_use]
    pub fn new(mut options: RankOptions) -> Self {
        if !options.encoder.dialect.says_medium() {
            options.cache.offloaded = 0;
        }
        if !options.encoder.dialect.says_extra() {
            options.habits.salted_per_mille = 0;
        }
        let mut chance = Chance::new(options.seed);
        let prompts = Prompts::new(options.habits, options.fleet, chance.fork());
        Self {
            cache: Cache::new(options.cache),
            options,
            prompts,
            chance,
            life: 0,
            next: 0,
            asked: Vec::new(),
        }
    }

    /// Serves until there is something to say, and says it. `None` if nothing came of it. The engine's clock
    /// goes by the batches, so that a seed always gives the same bytes, and no two batches have the same.
    pub fn batch(&mut self) -> Option<Batch> {
        self.batch_at(EPOCH + self.life as f64 * LIFE_SECONDS + self.next as f64)
    }

    /// The same, at a time by the engine's clock, in seconds since 1970.
    pub fn batch_at(&mut self, time: f64) -> Option<Batch> {
        if self.chance.per_mille(self.options.resets_per_mille) {
            self.cache.reset();
        }
        for _ in 0..STEPS_PER_BATCH_MAX {
            self.serve();
            // A clear is said with the next step, before what is stored after it.
            if self.cache.has_events() {
                let events = self.cache.take_events();
                let payload = self.options.encoder.batch(time, &events);
                let sequence = self.next;
                self.next += 1;
                return Some(Batch { sequence, payload });
            }
        }
        None
    }

    /// Uses up a number, as a batch does that cannot be encoded; what it said is never told.
    pub fn lose_number(&mut self) {
        self.serve();
        self.cache.take_events();
        self.next += 1;
    }

    /// A new life: nothing is held, numbers begin at 0. With `same_hashes` a block is named as before,
    /// as by vLLM from 0.29 on.
    pub fn restart(&mut self, same_hashes: bool) {
        self.life += 1;
        self.next = 0;
        if !same_hashes {
            self.options.cache.seed = mix(self.options.cache.seed.wrapping_add(self.life));
        }
        self.cache = Cache::new(self.options.cache);
    }

    /// What it holds.
    #[must_use]
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// How it writes.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        self.options.encoder.dialect
    }

    /// How many lives there were before.
    #[must_use]
    pub fn life(&self) -> u64 {
        self.life
    }

    /// The number of its next batch.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Some prompts that were asked, newest last.
    #[must_use]
    pub fn asked(&self) -> &[Prompt] {
        &self.asked
    }

    /// One step of the scheduler: perhaps a new request, then all that run.
    fn serve(&mut self) {
        if self.cache.running() < self.options.running_max && self.chance.per_mille(700) {
            let prompt = self.prompts.ask();
            let generated = self.prompts.generate(&prompt);
            if self.cache.begin(&prompt, &generated).is_some() {
                if self.asked.len() >= ASKED_MAX {
                    self.asked.remove(0);
                }
                self.asked.push(prompt);
            }
        }
        self.cache.step();
    }
}
