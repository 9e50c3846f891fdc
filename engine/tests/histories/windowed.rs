//! Random histories of engines with sliding-window groups, an index to which they happen, and the literal model.
//!
//! Histories are made of few tokens, few names and short chains that share prefixes and diverge inside runs.
//! Window groups get their events before, after or without those of the full-attention group, whole or with only
//! some of the blocks named; blocks leave either in any order, by second names too.
use kvroute_engine::hash::{ExtraDigest, block_key};
use kvroute_engine::oracle::{OracleStore, OracleWorker};
use kvroute_engine::types::{BlockKey, EngineHash, TIERS, Tier};
use kvroute_engine::{Index, Matches, Participant, Store, WindowGroup, Writer};
use proptest::prelude::*;
use std::sync::Arc;

pub(crate) const WORKERS: usize = 4;
/// The last worker's engine has full attention only.
const WINDOWED: usize = WORKERS - 1;
pub(crate) const GROUPS: usize = 3;
const BLOCK_SIZE: u32 = 2;

/// One step of a history.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// As an engine computes a prompt: a chain is stored from a block on, in some groups some blocks of it.
    Compute {
        worker: usize,
        chain: Chain,
        from: usize,
        tier: Tier,
        /// By group: which blocks are named; none: no event of that group.
        masks: [Option<u64>; GROUPS],
        /// Whether the events of the window groups come before that of the full one.
        before: bool,
    },
    /// Copies are told by name only.
    Offload {
        worker: usize,
        chain: Chain,
        tier: Tier,
    },
    /// Some blocks of a chain leave one group, or (no group) the full-attention group.
    Remove {
        worker: usize,
        group: Option<usize>,
        chain: Chain,
        mask: u64,
        from_tail: bool,
        tier: Tier,
    },
    Clear {
        worker: usize,
    },
    /// The engine restarts, perhaps with other windows.
    Restart {
        worker: usize,
        windows: [u32; GROUPS],
    },
    /// The worker leaves and another takes its place.
    Leave {
        worker: usize,
    },
}

/// A chain of blocks by content.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    /// How its names are made: another variant names equal content differently, the last one is a broken engine
    /// that names by position only.
    pub(crate) variant: u64,
    /// Where names are not said to be of different content: a second one is kept apart.
    pub(crate) says_extra: bool,
    pub(crate) blocks: Vec<u8>,
}

impl Chain {
    fn tokens(&self) -> Vec<u32> {
        let block = |&b: &u8| [u32::from(b), u32::from(b) + 100];
        self.blocks.iter().flat_map(block).collect()
    }

    fn keys(&self) -> Vec<BlockKey> {
        let tokens = self.tokens();
        let blocks = tokens.chunks_exact(BLOCK_SIZE as usize);
        blocks
            .map(|tokens| block_key(1337, tokens, ExtraDigest::default()))
            .collect()
    }

    pub(crate) fn hashes(&self) -> Vec<EngineHash> {
        let mut state = 17 + self.variant;
        let name = |&block: &u8| {
            let content = if self.variant < 2 {
                u64::from(block)
            } else {
                0
            };
            state = (state ^ content.wrapping_add(0x1234_5678_9abc))
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(29);
            EngineHash(state)
        };
        self.blocks.iter().map(name).collect()
    }
}

/// What a mask leaves of a list; longer lists repeat it.
fn masked(hashes: &[EngineHash], mask: u64) -> Vec<EngineHash> {
    let named = |(at, _): &(usize, &EngineHash)| mask >> (at % 64) & 1 == 1;
    let hashes = hashes.iter().enumerate().filter(named);
    hashes.map(|(_, &hash)| hash).collect()
}

/// Workers in an index, perhaps beside others.
pub(crate) struct Side {
    pub(crate) index: Arc<Index>,
    pub(crate) at: Participant,
    pub(crate) writers: Vec<Writer>,
    /// By worker and group: the window in blocks.
    pub(crate) windows: Vec<[u32; GROUPS]>,
    /// No other workers are in the index.
    pub(crate) alone: bool,
    matches: Matches,
}

impl Side {
    /// New workers in an index that may have others.
    pub(crate) fn beside(index: &Arc<Index>, windows: Vec<[u32; GROUPS]>) -> Self {
        Self {
            index: Arc::clone(index),
            at: index.participant(),
            writers: (0..WORKERS).map(|_| index.writer("m").unwrap()).collect(),
            windows,
            alone: false,
            matches: Matches::new(),
        }
    }

    pub(crate) fn apply(&mut self, step: &Step) {
        match step {
            Step::Compute {
                worker,
                chain,
                from,
                tier,
                masks,
                before,
            } => {
                let from = from % chain.blocks.len();
                if !before {
                    self.store(*worker, chain, from, *tier);
                }
                let hashes = chain.hashes();
                for (group, mask) in masks.iter().enumerate() {
                    if let Some(mask) = mask {
                        self.store_window(*worker, group, *tier, &masked(&hashes[from..], *mask));
                    }
                }
                if *before {
                    self.store(*worker, chain, from, *tier);
                }
            }
            Step::Offload {
                worker,
                chain,
                tier,
            } => self.offload(*worker, chain, *tier),
            Step::Remove {
                worker,
                group,
                tier,
                ..
            } => self.remove(*worker, *group, *tier, &step.removed()),
            Step::Clear { worker } => self.writers[*worker].clear(&self.at),
            Step::Restart { worker, windows } => {
                self.windows[*worker] = *windows;
                self.writers[*worker].clear(&self.at);
                self.writers[*worker].forget_windows();
            }
            Step::Leave { worker } => {
                self.writers[*worker] = self.index.writer("m").unwrap();
            }
        }
    }

    pub(crate) fn store(&mut self, worker: usize, chain: &Chain, from: usize, tier: Tier) {
        let (hashes, tokens) = (chain.hashes(), chain.tokens());
        let event = Store {
            adapter: None,
            block_size: BLOCK_SIZE,
            tier,
            parent: from.checked_sub(1).map(|at| hashes[at]),
            hashes: &hashes[from..],
            tokens: &tokens[from * BLOCK_SIZE as usize..],
            extra: &[],
            says_extra: chain.says_extra,
        };
        self.writers[worker].store(&self.at, &event).unwrap();
    }

    fn offload(&mut self, worker: usize, chain: &Chain, tier: Tier) {
        let event = Store {
            adapter: None,
            block_size: 0,
            tier,
            parent: None,
            hashes: &chain.hashes(),
            tokens: &[],
            extra: &[],
            says_extra: true,
        };
        self.writers[worker].store(&self.at, &event).unwrap();
    }

    pub(crate) fn store_window(
        &mut self,
        worker: usize,
        group: usize,
        tier: Tier,
        hashes: &[EngineHash],
    ) {
        if worker >= WINDOWED {
            return;
        }
        let group = WindowGroup {
            number: group as u32 * 3,
            blocks: self.windows[worker][group],
        };
        self.writers[worker]
            .store_window(&self.at, group, tier, hashes)
            .unwrap();
    }

    pub(crate) fn remove(
        &mut self,
        worker: usize,
        group: Option<usize>,
        tier: Tier,
        hashes: &[EngineHash],
    ) {
        let writer = &mut self.writers[worker];
        match group {
            None => {
                writer.remove(&self.at, tier, hashes);
            }
            Some(group) => {
                writer.remove_window(&self.at, group as u32 * 3, tier, hashes);
            }
        }
    }

    /// Asks for a prompt: every worker's answer. Workers of other sides are left out.
    pub(crate) fn answers(&mut self, prompt: &Chain) -> Vec<[u32; TIERS]> {
        let keys = prompt.keys();
        let mut found = vec![[0; TIERS]; WORKERS];
        let pinned = self.at.pin();
        for context in pinned.contexts("m", None) {
            context.lookup(&mut keys.as_slice(), &mut self.matches);
            for hit in self.matches.hits() {
                assert!(hit.blocks[TIERS - 1] > 0, "a worker without blocks");
                let worker = self.writers.iter().position(|w| w.id() == hit.worker);
                let Some(worker) = worker else {
                    assert!(!self.alone, "a worker that is not there");
                    continue;
                };
                assert_eq!(found[worker], [0; TIERS], "a worker twice");
                found[worker] = hit.blocks;
            }
        }
        found
    }

    /// Asks for a prompt and compares every worker's answer.
    pub(crate) fn check(&mut self, models: &Models, prompt: &Chain) {
        let answers = self.answers(prompt).into_iter();
        for (worker, (found, expected)) in answers.zip(models.scores(prompt)).enumerate() {
            let windows = self.windows[worker];
            assert_eq!(
                found, expected,
                "worker {worker}, windows {windows:?}, prompt {prompt:?}"
            );
        }
    }
}

impl Step {
    /// The names that a removal names.
    fn removed(&self) -> Vec<EngineHash> {
        let Self::Remove {
            chain,
            mask,
            from_tail,
            ..
        } = self
        else {
            return Vec::new();
        };
        let mut hashes = masked(&chain.hashes(), *mask);
        if *from_tail {
            hashes.reverse();
        }
        hashes
    }
}

/// The literal model of every worker.
pub(crate) struct Models {
    workers: Vec<OracleWorker>,
    windows: Vec<[u32; GROUPS]>,
}

impl Models {
    pub(crate) fn new(windows: Vec<[u32; GROUPS]>) -> Self {
        Self {
            workers: vec![OracleWorker::default(); WORKERS],
            windows,
        }
    }

    pub(crate) fn scores(&self, prompt: &Chain) -> Vec<[u32; TIERS]> {
        let keys = prompt.keys();
        let models = self.workers.iter();
        models.map(|model| model.score(0, &keys)).collect()
    }

    pub(crate) fn apply(&mut self, step: &Step) {
        match step {
            Step::Compute {
                worker,
                chain,
                from,
                tier,
                masks,
                before,
            } => {
                let from = from % chain.blocks.len();
                let keys: Vec<_> = chain.keys().into_iter().map(Some).collect();
                if !before {
                    self.store(*worker, chain, from, *tier, &keys);
                }
                let hashes = chain.hashes();
                let masks = masks.iter().enumerate();
                for (group, mask) in masks.filter(|_| *worker < WINDOWED) {
                    if let Some(mask) = mask {
                        let blocks = self.windows[*worker][group];
                        let named = masked(&hashes[from..], *mask);
                        let model = &mut self.workers[*worker];
                        model.store_window(group as u32 * 3, blocks, *tier, &named);
                    }
                }
                if *before {
                    self.store(*worker, chain, from, *tier, &keys);
                }
            }
            Step::Offload {
                worker,
                chain,
                tier,
            } => self.store(*worker, chain, 0, *tier, &vec![None; chain.blocks.len()]),
            Step::Remove {
                worker,
                group,
                tier,
                ..
            } => {
                let (model, hashes) = (&mut self.workers[*worker], step.removed());
                match group {
                    None => model.remove(*tier, &hashes),
                    Some(group) => model.remove_window(*group as u32 * 3, *tier, &hashes),
                }
            }
            Step::Clear { worker } => self.workers[*worker].clear(),
            Step::Restart { worker, windows } => {
                self.windows[*worker] = *windows;
                self.workers[*worker] = OracleWorker::default();
            }
            Step::Leave { worker } => self.workers[*worker] = OracleWorker::default(),
        }
    }

    fn store(
        &mut self,
        worker: usize,
        chain: &Chain,
        from: usize,
        tier: Tier,
        keys: &[Option<BlockKey>],
    ) {
        let hashes = chain.hashes();
        let parent = from.checked_sub(1).map(|at| hashes[at]);
        let blocks: Vec<_> = hashes.into_iter().zip(keys.iter().copied()).collect();
        self.workers[worker].store(&OracleStore {
            context: 0,
            tier,
            parent,
            blocks: &blocks[from..],
            says_extra: chain.says_extra,
        });
    }
}

/// Prefixes of a few long chains, some of which go their own way from some block on.
fn chain() -> impl Strategy<Value = Chain> {
    let len = prop_oneof![12 => 1..16_usize, 1 => 16..80_usize];
    let turn = prop::option::weighted(0.4, (0..16_usize, 0..2_u8));
    let blocks = (0..2_u8, len, turn).prop_map(|(stem, len, turn)| {
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
    let variant = prop_oneof![16 => Just(0), 4 => Just(1), 1 => Just(2)];
    (variant, prop::bool::weighted(0.8), blocks).prop_map(|(variant, says_extra, blocks)| Chain {
        variant,
        says_extra,
        blocks,
    })
}

fn tier() -> impl Strategy<Value = Tier> {
    prop_oneof![12 => Just(Tier::Gpu), 1 => Just(Tier::Cpu), 1 => Just(Tier::Disk)]
}

/// Which blocks an event names: all, all but one, the tail, a stretch, any.
fn mask() -> impl Strategy<Value = u64> {
    let stretch = (0..16_u32, 1..12_u32).prop_map(|(from, len)| ((1 << len) - 1) << from);
    prop_oneof![
        6 => Just(u64::MAX),
        2 => (0..16_u32).prop_map(|at| !(1 << at)),
        2 => (0..16_u32).prop_map(|from| u64::MAX << from),
        2 => stretch,
        2 => any::<u64>(),
        1 => Just(0),
    ]
}

pub(crate) fn windows() -> impl Strategy<Value = [u32; GROUPS]> {
    let blocks = || prop_oneof![8 => 1..=4_u32, 1 => 5..40_u32, 1 => Just(u32::MAX), 1 => Just(0)];
    [blocks(), blocks(), blocks()]
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let worker = || prop_oneof![3 => Just(0), 3 => Just(1), 1 => 0..WORKERS];
    let from = prop_oneof![4 => Just(0), 2 => 0..8_usize];
    // Most engines have one or two window groups.
    let masks = [
        prop::option::weighted(0.9, mask()),
        prop::option::weighted(0.5, mask()),
        prop::option::weighted(0.1, mask()),
    ];
    let compute = (worker(), chain(), from, tier(), masks, any::<bool>());
    let group = prop_oneof![2 => Just(None), 4 => (0..GROUPS).prop_map(Some)];
    let few = prop_oneof![3 => (0..16_u32).prop_map(|at| 1 << at), 1 => mask()];
    let remove = (worker(), group, chain(), few, any::<bool>(), tier());
    prop_oneof![
        12 => compute.prop_map(|(worker, chain, from, tier, masks, before)| Step::Compute {
            worker, chain, from, tier, masks, before,
        }),
        1 => (worker(), chain(), tier())
            .prop_map(|(worker, chain, tier)| Step::Offload { worker, chain, tier }),
        14 => remove.prop_map(|(worker, group, chain, mask, from_tail, tier)| Step::Remove {
            worker, group, chain, mask, from_tail, tier,
        }),
        1 => worker().prop_map(|worker| Step::Clear { worker }),
        1 => (worker(), windows()).prop_map(|(worker, windows)| Step::Restart { worker, windows }),
        1 => worker().prop_map(|worker| Step::Leave { worker }),
    ]
}

pub(crate) type History = Vec<(Step, Chain)>;

pub(crate) fn history(len: usize) -> impl Strategy<Value = (Vec<[u32; GROUPS]>, History)> {
    let windows = prop::collection::vec(windows(), WORKERS);
    (windows, prop::collection::vec((step(), chain()), 1..len))
}

/// The chains of a history that are worth asking for.
pub(crate) fn prompts(history: &History) -> impl Iterator<Item = &Chain> {
    let of_step = |step| match step {
        &Step::Compute { ref chain, .. } | &Step::Remove { ref chain, .. } => Some(chain),
        _ => None,
    };
    let all = history.iter();
    all.flat_map(move |(step, prompt)| [Some(prompt), of_step(step)].into_iter().flatten())
}
