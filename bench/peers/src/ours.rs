//! kvroute's index.
//!
//! Inside the timing of a store: hashing the tokens of every block (the peers get their hashes ready), as
//! engines send tokens and the node must hash them. Inside that of a lookup: pinning the epoch and
//! finding the context by the model's name.
use crate::contender::{Contender, Plan, Race, Step, race, write_until};
use crate::workload::{BLOCK, Query, Turn, Workload};
use kvroute_bench::BLOCK_SIZE;
use kvroute_engine::hash::SEED_DEFAULT;
use kvroute_engine::types::{EngineHash, Tier, WorkerId};
use kvroute_engine::{Index, IndexConfig, Keys, Matches, Participant, Store, TokenKeys, Writer};
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

const MODEL: &str = "m";

/// The engines' names of all blocks, by conversation.
#[derive(Debug)]
pub(crate) struct Feed<'w> {
    workload: &'w Workload,
    names: Vec<Vec<EngineHash>>,
    /// The same, last block first: removals take a slice.
    reversed: Vec<Vec<EngineHash>>,
}

impl<'w> Feed<'w> {
    /// Works them out.
    pub(crate) fn new(workload: &'w Workload) -> Self {
        let all = 0..workload.conversations.len();
        let names: Vec<_> = all.map(|at| workload.names(at)).collect();
        let turned = |names: &Vec<EngineHash>| names.iter().rev().copied().collect();
        Self {
            workload,
            reversed: names.iter().map(turned).collect(),
            names,
        }
    }
}

/// The index and its writers.
#[derive(Debug)]
pub(crate) struct Ours<'w> {
    feed: &'w Feed<'w>,
    at: Participant,
    writers: Vec<Writer>,
    numbers: HashMap<WorkerId, usize>,
    out: Matches,
    /// Whether there was a context to look in; without one `out` is an older answer.
    looked: bool,
}

impl<'w> Ours<'w> {
    /// An empty index with all workers.
    pub(crate) fn new(feed: &'w Feed<'w>) -> Self {
        let index = Index::new(IndexConfig::default());
        let all = 0..feed.workload.workers;
        let writers: Result<Vec<_>, _> = all.map(|_| index.writer(MODEL)).collect();
        let writers = writers.unwrap_or_else(|e| panic!("kvroute refuses a worker: {e}"));
        let ids = writers.iter().map(Writer::id);
        Self {
            feed,
            at: index.participant(),
            numbers: ids.zip(0..).collect(),
            writers,
            out: Matches::new(),
            looked: false,
        }
    }
}

fn apply(feed: &Feed<'_>, at: &Participant, writers: &mut [Writer], step: Step, turns: &[Turn]) {
    for turn in turns {
        let names = &feed.names[turn.conversation];
        let writer = &mut writers[turn.worker];
        if step == Step::Remove {
            let reversed = &feed.reversed[turn.conversation];
            writer.remove(at, Tier::Gpu, &reversed[turn.reversed(names.len())]);
            continue;
        }
        let tokens = &feed.workload.conversations[turn.conversation].tokens;
        let event = Store {
            adapter: None,
            block_size: BLOCK_SIZE,
            tier: Tier::Gpu,
            parent: turn.from.checked_sub(1).map(|at| names[at]),
            hashes: &names[turn.blocks()],
            tokens: &tokens[turn.from * BLOCK..turn.to * BLOCK],
            extra: &[],
            says_extra: true,
        };
        let stored = writer.store(at, &event);
        assert!(stored.is_ok(), "kvroute refuses a store: {stored:?}");
    }
}

fn lookup(at: &Participant, keys: &mut impl Keys, out: &mut Matches) -> bool {
    let mut looked = false;
    for context in at.pin().contexts(MODEL, None) {
        context.lookup(keys, out);
        looked = true;
    }
    looked
}

impl Contender for Ours<'_> {
    fn store(&mut self, turns: &[Turn]) -> Duration {
        let begin = Instant::now();
        apply(self.feed, &self.at, &mut self.writers, Step::Store, turns);
        begin.elapsed()
    }

    fn remove(&mut self, turns: &[Turn]) -> Duration {
        let begin = Instant::now();
        apply(self.feed, &self.at, &mut self.writers, Step::Remove, turns);
        begin.elapsed()
    }

    fn clear(&mut self, worker: usize) -> Duration {
        let begin = Instant::now();
        self.writers[worker].clear(&self.at);
        begin.elapsed()
    }

    fn by_hashes(&mut self, query: &Query) {
        self.looked = lookup(&self.at, &mut query.keys.as_slice(), &mut self.out);
    }

    fn by_tokens(&mut self, query: &Query) {
        let mut keys = TokenKeys::new(SEED_DEFAULT, BLOCK_SIZE, &query.tokens, &[]);
        self.looked = lookup(&self.at, &mut keys, &mut self.out);
    }

    fn answer(&self) -> BTreeMap<usize, u32> {
        let hits = self.out.hits().iter().filter(|_| self.looked);
        hits.map(|hit| (self.numbers[&hit.worker], hit.blocks[Tier::Disk.index()]))
            .collect()
    }

    fn entries(&self) -> Option<u64> {
        Some(self.writers.iter().map(Writer::blocks).sum())
    }

    fn race(&mut self, plan: &Plan<'_>) -> Race {
        let (feed, writers, out) = (self.feed, &mut self.writers, &mut self.out);
        let (index, at) = (self.at.index().clone(), &self.at);
        race(
            plan,
            move |stop| {
                let at = index.participant();
                write_until(stop, plan.churn, |step, turns| {
                    apply(feed, &at, writers, step, turns);
                })
            },
            |query| {
                lookup(at, &mut query.keys.as_slice(), out);
            },
        )
    }
}
