//! Random histories of engines with full attention, an index to which they happen, and the literal model.
//!
//! Histories are made of few tokens, few hashes and short chains, so that everything meets
//! everything: shared prefixes, divergence inside a run, holes and their healing, eviction from head,
//! middle and tail, duplicates, second names, orphans, tiers, clears, and workers that leave.
use kvroute_engine::hash::{ExtraDigest, ExtraHasher, block_key};
use kvroute_engine::oracle::{OracleStore, OracleWorker};
use kvroute_engine::types::{BlockKey, EngineHash, TIERS, Tier};
use kvroute_engine::{Index, Matches, Participant, Store, TokenKeys, Writer};
use proptest::prelude::*;
use std::sync::Arc;

pub(crate) const WORKERS: usize = 5;
const BLOCK_SIZE: u32 = 2;

/// One step of a history.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A chain of blocks is stored, beginning at block `from` of it: earlier ones are its parents.
    Store {
        worker: usize,
        chain: Chain,
        from: usize,
        tier: Tier,
    },
    /// Copies are told by name only.
    Offload {
        worker: usize,
        chain: Chain,
        tier: Tier,
    },
    /// One block of a chain leaves.
    Remove {
        worker: usize,
        chain: Chain,
        at: usize,
        tier: Tier,
    },
    /// A chain leaves from its tail down to `keep` blocks.
    Evict {
        worker: usize,
        chain: Chain,
        keep: usize,
    },
    Clear {
        worker: usize,
    },
    /// The worker leaves and another takes its place.
    Leave {
        worker: usize,
    },
}

/// A chain of blocks by content; its names depend on the worker's seed.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    adapter: bool,
    salted: bool,
    /// How this chain's names are made: another variant names equal content differently.
    variant: u8,
    says_extra: bool,
    blocks: Vec<u8>,
}

impl Chain {
    fn adapter(&self) -> Option<&'static str> {
        self.adapter.then_some("adapter")
    }

    fn tokens(&self) -> Vec<u32> {
        let block = |&b: &u8| [u32::from(b), u32::from(b) + 100];
        self.blocks.iter().flat_map(block).collect()
    }

    /// The extra keys as an engine says them: the salt on the first block, if it can say it.
    fn said(&self) -> Vec<ExtraDigest> {
        let mut extra = vec![ExtraDigest::NONE; self.blocks.len()];
        if self.salted && self.says_extra {
            extra[0] = salt();
        }
        extra
    }

    /// The engine's names: a chained hash over everything that the engine knows.
    fn hashes(&self, worker: usize) -> Vec<EngineHash> {
        let mut state = 17 + worker as u64 % 2;
        state = mix(state, u64::from(self.variant));
        // The last variant is a broken engine: one name for the same blocks of different contexts.
        if self.variant < 2 {
            state = mix(state, u64::from(self.adapter) * 2 + u64::from(self.salted));
        }
        let name = |&block: &u8| {
            state = mix(state, u64::from(block));
            EngineHash(state)
        };
        self.blocks.iter().map(name).collect()
    }
}

impl Chain {
    fn hash_at(&self, worker: usize, at: usize) -> EngineHash {
        self.hashes(worker)[at % self.blocks.len()]
    }

    /// All names but the first `keep`, the last one first.
    fn tail_first(&self, worker: usize, keep: usize) -> Vec<EngineHash> {
        let hashes = self.hashes(worker).into_iter();
        let mut hashes: Vec<_> = hashes.skip(keep).collect();
        hashes.reverse();
        hashes
    }
}

fn salt() -> ExtraDigest {
    let mut hasher = ExtraHasher::new();
    hasher.text("tenant");
    hasher.finish()
}

fn mix(a: u64, b: u64) -> u64 {
    (a ^ b.wrapping_add(0x1234_5678_9abc))
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(29)
}

fn keys(tokens: &[u32], extra: &[ExtraDigest]) -> Vec<BlockKey> {
    let blocks = tokens.chunks_exact(BLOCK_SIZE as usize).enumerate();
    let key = |(at, tokens): (usize, &[u32])| {
        block_key(1337, tokens, extra.get(at).copied().unwrap_or_default())
    };
    blocks.map(key).collect()
}

/// The keys of a prompt's blocks.
fn asked(prompt: &Chain) -> (Vec<u32>, Vec<ExtraDigest>, Vec<BlockKey>) {
    let tokens = prompt.tokens();
    let extra = if prompt.salted {
        vec![salt()]
    } else {
        Vec::new()
    };
    let keys = keys(&tokens, &extra);
    (tokens, extra, keys)
}

/// Workers in an index, perhaps beside others.
pub(crate) struct Side {
    pub(crate) index: Arc<Index>,
    pub(crate) at: Participant,
    pub(crate) writers: Vec<Writer>,
    /// No other workers are in the index.
    pub(crate) alone: bool,
    matches: Matches,
}

impl Side {
    /// New workers in an index that may have others.
    pub(crate) fn beside(index: &Arc<Index>) -> Self {
        Self {
            index: Arc::clone(index),
            at: index.participant(),
            writers: (0..WORKERS).map(|_| index.writer("m").unwrap()).collect(),
            alone: false,
            matches: Matches::new(),
        }
    }

    pub(crate) fn apply(&mut self, step: &Step) {
        match step {
            Step::Store {
                worker,
                chain,
                from,
                tier,
            } => self.store(*worker, chain, *from, *tier),
            Step::Offload {
                worker,
                chain,
                tier,
            } => {
                let event = Store {
                    adapter: chain.adapter(),
                    block_size: 0,
                    tier: *tier,
                    parent: None,
                    hashes: &chain.hashes(*worker),
                    tokens: &[],
                    extra: &[],
                    says_extra: true,
                };
                self.writers[*worker].store(&self.at, &event).unwrap();
            }
            Step::Remove {
                worker,
                chain,
                at,
                tier,
            } => {
                let hash = chain.hash_at(*worker, *at);
                self.writers[*worker].remove(&self.at, *tier, &[hash]);
            }
            Step::Evict {
                worker,
                chain,
                keep,
            } => {
                let hashes = chain.tail_first(*worker, *keep);
                self.writers[*worker].remove(&self.at, Tier::Gpu, &hashes);
            }
            Step::Clear { worker } => self.writers[*worker].clear(&self.at),
            Step::Leave { worker } => {
                self.writers[*worker] = self.index.writer("m").unwrap();
            }
        }
    }

    fn store(&mut self, worker: usize, chain: &Chain, from: usize, tier: Tier) {
        let hashes = chain.hashes(worker);
        let from = from % hashes.len();
        let event = Store {
            adapter: chain.adapter(),
            block_size: BLOCK_SIZE,
            tier,
            parent: from.checked_sub(1).map(|at| hashes[at]),
            hashes: &hashes[from..],
            tokens: &chain.tokens()[from * BLOCK_SIZE as usize..],
            extra: &chain.said()[from..],
            says_extra: chain.says_extra,
        };
        self.writers[worker].store(&self.at, &event).unwrap();
    }

    /// Asks for a prompt: every worker's answer. Workers of other sides are left out.
    pub(crate) fn answers(&mut self, prompt: &Chain) -> [[u32; TIERS]; WORKERS] {
        let (tokens, extra, keys) = asked(prompt);
        let mut found = [[0; TIERS]; WORKERS];
        let pinned = self.at.pin();
        for context in pinned.contexts("m", prompt.adapter()) {
            assert_eq!(context.block_size(), BLOCK_SIZE);
            let mut from_tokens = TokenKeys::new(1337, BLOCK_SIZE, &tokens, &extra);
            context.lookup(&mut from_tokens, &mut self.matches);
            for hit in self.matches.hits() {
                let worker = self.writers.iter().position(|w| w.id() == hit.worker);
                let Some(worker) = worker else {
                    assert!(!self.alone, "a worker that is not there");
                    continue;
                };
                assert_eq!(found[worker], [0; TIERS], "a worker twice");
                found[worker] = hit.blocks;
            }
            let mut by_keys = Matches::new();
            context.lookup(&mut keys.as_slice(), &mut by_keys);
            assert_eq!(by_keys.hits(), self.matches.hits());
        }
        found
    }

    /// Asks for a prompt and compares every worker's answer.
    pub(crate) fn check(&mut self, models: &Models, prompt: &Chain) {
        let found = self.answers(prompt);
        let (_, _, keys) = asked(prompt);
        let context = u32::from(prompt.adapter);
        for (worker, model) in models.0.iter().enumerate() {
            let expected = model.score(context, &keys);
            assert_eq!(
                found[worker], expected,
                "worker {worker}, prompt {prompt:?}"
            );
            assert_eq!(
                self.writers[worker].blocks(),
                model.blocks() as u64,
                "worker {worker}"
            );
        }
    }
}

/// The literal model of every worker.
pub(crate) struct Models(Vec<OracleWorker>);

impl Models {
    pub(crate) fn new() -> Self {
        Self(vec![OracleWorker::default(); WORKERS])
    }

    pub(crate) fn apply(&mut self, step: &Step) {
        match step {
            Step::Store {
                worker,
                chain,
                from,
                tier,
            } => {
                let keys = keys(&chain.tokens(), &chain.said());
                self.store(*worker, chain, *from, *tier, keys.into_iter().map(Some));
            }
            Step::Offload {
                worker,
                chain,
                tier,
            } => self.store(*worker, chain, 0, *tier, std::iter::repeat(None)),
            Step::Remove {
                worker,
                chain,
                at,
                tier,
            } => self.0[*worker].remove(*tier, &[chain.hash_at(*worker, *at)]),
            Step::Evict {
                worker,
                chain,
                keep,
            } => self.0[*worker].remove(Tier::Gpu, &chain.tail_first(*worker, *keep)),
            Step::Clear { worker } | Step::Leave { worker } => self.0[*worker].clear(),
        }
    }

    fn store(
        &mut self,
        worker: usize,
        chain: &Chain,
        from: usize,
        tier: Tier,
        keys: impl Iterator<Item = Option<BlockKey>>,
    ) {
        let hashes = chain.hashes(worker);
        let from = from % hashes.len();
        let parent = from.checked_sub(1).map(|at| hashes[at]);
        let blocks: Vec<_> = hashes.into_iter().zip(keys).collect();
        self.0[worker].store(&OracleStore {
            context: u32::from(chain.adapter),
            tier,
            parent,
            blocks: &blocks[from..],
            says_extra: chain.says_extra,
        });
    }
}

/// Prefixes of a few long chains, some of which go their own way from some block on.
pub(crate) fn chain() -> impl Strategy<Value = Chain> {
    let blocks = (
        0..3_u8,
        // Long ones fill several words of a holding's bitmaps and several segments of a run.
        prop_oneof![24 => 1..24_usize, 1 => 60..150_usize],
        prop::option::weighted(0.3, (0..24_usize, 0..2_u8)),
    );
    let blocks = blocks.prop_map(|(stem, len, turn)| {
        let (at, way) = turn.unwrap_or((len, 0));
        let block = |i: usize| {
            if i < at {
                stem + (i % 2) as u8
            } else {
                10 + way
            }
        };
        (0..len).map(block).collect()
    });
    (
        prop::bool::weighted(0.15),
        prop::bool::weighted(0.15),
        0..16_u8,
        blocks,
    )
        .prop_map(|(adapter, salted, variant, blocks)| Chain {
            adapter,
            salted,
            variant: [0, 1, 2][usize::from(variant > 10) + usize::from(variant > 13)],
            says_extra: variant % 4 != 0,
            blocks,
        })
}

fn tier() -> impl Strategy<Value = Tier> {
    prop_oneof![6 => Just(Tier::Gpu), 1 => Just(Tier::Cpu), 1 => Just(Tier::Disk)]
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let worker = 0..WORKERS;
    prop_oneof![
        10 => (worker.clone(), chain(), prop_oneof![4 => Just(0), 2 => 0..8_usize], tier())
            .prop_map(|(worker, chain, from, tier)| Step::Store { worker, chain, from, tier }),
        1 => (worker.clone(), chain(), tier())
            .prop_map(|(worker, chain, tier)| Step::Offload { worker, chain, tier }),
        8 => (worker.clone(), chain(), 0..12_usize, tier())
            .prop_map(|(worker, chain, at, tier)| Step::Remove { worker, chain, at, tier }),
        4 => (worker.clone(), chain(), 0..8_usize)
            .prop_map(|(worker, chain, keep)| Step::Evict { worker, chain, keep }),
        1 => worker.clone().prop_map(|worker| Step::Clear { worker }),
        1 => worker.prop_map(|worker| Step::Leave { worker }),
    ]
}
