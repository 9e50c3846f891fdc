//! Random histories of engines with sliding-window groups: every answer of the index equals the literal
//! model's.
//!
//! Histories are made of few tokens, few names and short chains that share prefixes and diverge inside runs.
//! Window groups get their events before, after or without those of the full-attention group, whole or with only
//! some of the blocks named; blocks leave either in any order, by second names too.
use kvroute_engine::hash::{ExtraDigest, block_key};
use kvroute_engine::oracle::{OracleStore, OracleWorker};
use kvroute_engine::types::{BlockKey, EngineHash, TIERS, Tier};
use kvroute_engine::{
    Budget, Index, IndexConfig, Matches, Participant, Store, WindowGroup, Writer,
};
use proptest::prelude::*;
use std::sync::Arc;

const WORKERS: usize = 4;
/// The last worker's engine has full attention only.
const WINDOWED: usize = WORKERS - 1;
const GROUPS: usize = 3;
const BLOCK_SIZE: u32 = 2;

/// One step of a history.
#[derive(Clone, Debug)]
enum Step {
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
struct Chain {
    /// How its names are made: another variant names equal content differently, the last one is a broken engine
    /// that names by position only.
    variant: u64,
    /// Where names are not said to be of different content: a second one is kept apart.
    says_extra: bool,
    blocks: Vec<u8>,
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

    fn hashes(&self) -> Vec<EngineHash> {
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

/// The index and the model side by side.
struct Pair {
    index: Arc<Index>,
    participant: Participant,
    writers: Vec<Writer>,
    models: Vec<OracleWorker>,
    /// By worker and group: the window in blocks.
    windows: Vec<[u32; GROUPS]>,
    matches: Matches,
}

impl Pair {
    fn new(windows: Vec<[u32; GROUPS]>, budget: Budget) -> Self {
        let index = Index::new(IndexConfig {
            budget,
            ..IndexConfig::default()
        });
        let writers = (0..WORKERS).map(|_| index.writer("m").unwrap()).collect();
        Self {
            participant: index.participant(),
            index,
            writers,
            models: vec![OracleWorker::default(); WORKERS],
            windows,
            matches: Matches::new(),
        }
    }

    fn apply(&mut self, step: &Step) {
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
                chain,
                mask,
                from_tail,
                tier,
            } => {
                let mut hashes = masked(&chain.hashes(), *mask);
                if *from_tail {
                    hashes.reverse();
                }
                self.remove(*worker, *group, *tier, &hashes);
            }
            Step::Clear { worker } => {
                self.writers[*worker].clear(&self.participant);
                self.models[*worker].clear();
            }
            Step::Restart { worker, windows } => {
                self.windows[*worker] = *windows;
                self.writers[*worker].clear(&self.participant);
                self.writers[*worker].forget_windows();
                self.models[*worker] = OracleWorker::default();
            }
            Step::Leave { worker } => {
                self.writers[*worker] = self.index.writer("m").unwrap();
                self.models[*worker] = OracleWorker::default();
            }
        }
    }

    fn store(&mut self, worker: usize, chain: &Chain, from: usize, tier: Tier) {
        let (hashes, tokens) = (chain.hashes(), chain.tokens());
        let parent = from.checked_sub(1).map(|at| hashes[at]);
        let event = Store {
            adapter: None,
            block_size: BLOCK_SIZE,
            tier,
            parent,
            hashes: &hashes[from..],
            tokens: &tokens[from * BLOCK_SIZE as usize..],
            extra: &[],
            says_extra: chain.says_extra,
        };
        self.writers[worker]
            .store(&self.participant, &event)
            .unwrap();
        let keys = chain.keys().into_iter().map(Some);
        let blocks: Vec<_> = hashes.into_iter().zip(keys).collect();
        self.models[worker].store(&OracleStore {
            context: 0,
            tier,
            parent,
            blocks: &blocks[from..],
            says_extra: chain.says_extra,
        });
    }

    fn offload(&mut self, worker: usize, chain: &Chain, tier: Tier) {
        let hashes = chain.hashes();
        let event = Store {
            adapter: None,
            block_size: 0,
            tier,
            parent: None,
            hashes: &hashes,
            tokens: &[],
            extra: &[],
            says_extra: true,
        };
        self.writers[worker]
            .store(&self.participant, &event)
            .unwrap();
        let blocks: Vec<_> = hashes.iter().map(|&hash| (hash, None)).collect();
        self.models[worker].store(&OracleStore {
            context: 0,
            tier,
            parent: None,
            blocks: &blocks,
            says_extra: true,
        });
    }

    fn store_window(&mut self, worker: usize, group: usize, tier: Tier, hashes: &[EngineHash]) {
        if worker >= WINDOWED {
            return;
        }
        let blocks = self.windows[worker][group];
        let number = group as u32 * 3;
        let group = WindowGroup { number, blocks };
        self.writers[worker]
            .store_window(&self.participant, group, tier, hashes)
            .unwrap();
        self.models[worker].store_window(number, blocks, tier, hashes);
    }

    fn remove(&mut self, worker: usize, group: Option<usize>, tier: Tier, hashes: &[EngineHash]) {
        let (writer, model) = (&mut self.writers[worker], &mut self.models[worker]);
        match group {
            None => {
                writer.remove(&self.participant, tier, hashes);
                model.remove(tier, hashes);
            }
            Some(group) => {
                let number = group as u32 * 3;
                writer.remove_window(&self.participant, number, tier, hashes);
                model.remove_window(number, tier, hashes);
            }
        }
    }

    /// Asks for a prompt; every worker's answer is to compare with the model's.
    fn answers(&mut self, prompt: &Chain) -> Vec<([u32; TIERS], [u32; TIERS])> {
        let keys = prompt.keys();
        let mut found = [[0; TIERS]; WORKERS];
        let pinned = self.participant.pin();
        for context in pinned.contexts("m", None) {
            context.lookup(&mut keys.as_slice(), &mut self.matches);
            for hit in self.matches.hits() {
                let worker = self.writers.iter().position(|w| w.id() == hit.worker);
                let worker = worker.expect("a worker that is there");
                assert_eq!(found[worker], [0; TIERS], "a worker twice");
                assert!(hit.blocks[TIERS - 1] > 0, "a worker without blocks");
                found[worker] = hit.blocks;
            }
        }
        drop(pinned);
        let expected = self.models.iter().map(|model| model.score(0, &keys));
        found.into_iter().zip(expected).collect()
    }

    fn check_is_at_most(&mut self, prompt: &Chain) {
        for (worker, (found, most)) in self.answers(prompt).into_iter().enumerate() {
            let windows = self.windows[worker];
            assert!(
                found.iter().zip(most).all(|(&found, most)| found <= most),
                "worker {worker}, windows {windows:?}, prompt {prompt:?}: {found:?} > {most:?}"
            );
        }
    }

    fn check(&mut self, prompt: &Chain) {
        for (worker, (found, expected)) in self.answers(prompt).into_iter().enumerate() {
            let windows = self.windows[worker];
            assert_eq!(
                found, expected,
                "worker {worker}, windows {windows:?}, prompt {prompt:?}"
            );
        }
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

fn windows() -> impl Strategy<Value = [u32; GROUPS]> {
    let blocks = || prop_oneof![8 => 1..=4_u32, 1 => 5..40_u32, 1 => Just(u32::MAX), 1 => Just(0)];
    [blocks(), blocks(), blocks()]
}

fn step() -> impl Strategy<Value = Step> {
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

#[test]
fn a_budget_takes_the_oldest_leaf_alone() {
    let prompt = |n: u8| Chain {
        variant: 0,
        says_extra: true,
        blocks: vec![n],
    };
    // As many bytes as two prompts take: one of three has to go.
    let mut bytes = None;
    for prompts in [2, 3] {
        let budget = Budget {
            bytes,
            ..Budget::default()
        };
        let mut pair = Pair::new(vec![[1; GROUPS]; WORKERS], budget);
        for n in 0..prompts {
            // The last event of all is the one that exceeds the budget.
            pair.store_window(0, 0, Tier::Gpu, &prompt(n).hashes());
            pair.store(0, &prompt(n), 0, Tier::Gpu);
            pair.check(&prompt(n));
        }
        bytes = Some(pair.index.bytes());
        if prompts == 2 {
            continue;
        }
        assert_eq!(pair.writers[0].trim(&pair.participant), 1);
        assert_eq!(pair.answers(&prompt(0))[0].0, [0; TIERS]);
        pair.remove(0, None, Tier::Gpu, &prompt(0).hashes());
        for n in 1..prompts {
            pair.check(&prompt(n));
            pair.remove(0, Some(0), Tier::Gpu, &prompt(n).hashes());
            pair.check(&prompt(n));
        }
    }
}

type History = Vec<(Step, Chain)>;

fn history(len: usize) -> impl Strategy<Value = (Vec<[u32; GROUPS]>, History)> {
    let windows = prop::collection::vec(windows(), WORKERS);
    (windows, prop::collection::vec((step(), chain()), 1..len))
}

/// The chains of a history that are worth asking for.
fn prompts(history: &History) -> impl Iterator<Item = &Chain> {
    let of_step = |step| match step {
        &Step::Compute { ref chain, .. } | &Step::Remove { ref chain, .. } => Some(chain),
        _ => None,
    };
    let all = history.iter();
    all.flat_map(move |(step, prompt)| [Some(prompt), of_step(step)].into_iter().flatten())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn every_answer_equals_the_model((windows, history) in history(50)) {
        let mut pair = Pair::new(windows, Budget::default());
        for (step, prompt) in &history {
            pair.apply(step);
            pair.check(prompt);
            if let Step::Compute { chain, .. } | Step::Remove { chain, .. } = step {
                pair.check(chain);
            }
        }
        prompts(&history).for_each(|prompt| pair.check(prompt));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// But for engines that leave it open which of two names is whose, which a budget makes one forget.
    #[test]
    fn what_a_budget_forgets_is_never_credited(
        (windows, mut history) in history(50),
        bytes in 4_000..25_000_u64,
    ) {
        for (step, _) in &mut history {
            if let Step::Compute { chain, .. }
            | Step::Offload { chain, .. }
            | Step::Remove { chain, .. } = step
            {
                chain.says_extra = true;
                chain.variant = chain.variant.min(1);
            }
        }
        let budget = Budget { bytes: Some(bytes), ..Budget::default() };
        let mut pair = Pair::new(windows, budget);
        for (step, prompt) in &history {
            pair.apply(step);
            pair.check_is_at_most(prompt);
        }
        prompts(&history).for_each(|prompt| pair.check_is_at_most(prompt));
        pair.writers.clear();
        assert_eq!(pair.index.bytes(), 0, "bytes that nobody has");
    }
}
