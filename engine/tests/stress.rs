//! Many writers and readers at once: readers check the contract while it happens, and the end state
//! equals the literal model.
//!
//! All workers store and evict prefixes of the same few chains, so runs are shared, diverge, die
//! and are made again all the time. Each writer's thread keeps, for each chain, the depth that its
//! worker holds for sure and the depth that it may hold (`sure <= held <= maybe`), and publishes
//! them around each change. A reader that sees the same bounds before and after a lookup, in an
//! interval without change, knows the only right answer.
use kvroute_engine::hash::block_key;
use kvroute_engine::oracle::{OracleStore, OracleWorker};
use kvroute_engine::types::{BlockKey, EngineHash, Tier};
use kvroute_engine::{Index, IndexConfig, Matches, Store, Writer};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;

const WRITERS: usize = 3;
const READERS: usize = 2;
const CHAINS: usize = 6;
const DEPTH: usize = 24;
const STEPS: usize = 6_000;

/// Blocks of a chain: pairs of chains share their first half.
fn chain_tokens(chain: usize) -> Vec<u32> {
    let block = |i: usize| {
        if i < DEPTH / 2 {
            chain / 2 * 1000 + i
        } else {
            chain * 1000 + 500 + i
        }
    };
    (0..DEPTH).map(|i| block(i) as u32).collect()
}

fn chain_names(worker: usize, chain: usize) -> Vec<EngineHash> {
    let name = |token: u32| EngineHash((worker as u64) << 32 | u64::from(token));
    chain_tokens(chain).into_iter().map(name).collect()
}

fn chain_keys(chain: usize) -> Vec<BlockKey> {
    let key = |token| block_key(1337, &[token], Default::default());
    chain_tokens(chain).into_iter().map(key).collect()
}

/// Per worker and chain: a version (odd while a change is on its way) and the depth held.
type Log = Vec<Vec<AtomicU64>>;

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

/// Each worker uses one chain of each pair, so that its chains do not share blocks.
fn chains_of(worker: usize) -> impl Iterator<Item = usize> {
    (0..CHAINS / 2).map(move |pair| pair * 2 + (worker + pair) % 2)
}

fn write(
    index: &Arc<Index>,
    mut writer: Writer,
    worker: usize,
    log: &Log,
) -> (Writer, OracleWorker) {
    let at = index.participant();
    let mut random = Random(0x5eed + worker as u64);
    let mut model = OracleWorker::default();
    let mut depths = [0; CHAINS];
    let chains: Vec<_> = chains_of(worker).collect();
    for _ in 0..STEPS {
        let chain = chains[random.below(chains.len())];
        let (names, tokens, keys) = (
            chain_names(worker, chain),
            chain_tokens(chain),
            chain_keys(chain),
        );
        let (old, new) = (depths[chain], random.below(DEPTH + 1));
        let version = log[worker][chain].load(SeqCst) >> 32;
        log[worker][chain].store((version + 1) << 32, SeqCst);
        if new > old {
            let parent = old.checked_sub(1).map(|at| names[at]);
            let event = Store {
                adapter: None,
                block_size: 1,
                tier: Tier::Gpu,
                parent,
                hashes: &names[old..new],
                tokens: &tokens[old..new],
                extra: &[],
                says_extra: true,
            };
            writer.store(&at, &event).unwrap();
            let blocks: Vec<_> = (old..new).map(|i| (names[i], Some(keys[i]))).collect();
            model.store(&OracleStore {
                context: 0,
                tier: Tier::Gpu,
                parent,
                blocks: &blocks,
                says_extra: true,
            });
        } else {
            let mut gone = names[new..old].to_vec();
            gone.reverse();
            writer.remove(&at, Tier::Gpu, &gone);
            model.remove(Tier::Gpu, &gone);
        }
        depths[chain] = new;
        log[worker][chain].store((version + 2) << 32 | new as u64, SeqCst);
    }
    (writer, model)
}

/// Looks chains up until `done`; how many answers could be judged.
fn read(
    index: &Arc<Index>,
    ids: &[kvroute_engine::types::WorkerId],
    log: &Log,
    done: &AtomicU64,
    seed: u64,
) -> u64 {
    let at = index.participant();
    let mut random = Random(seed);
    let mut matches = Matches::new();
    let mut judged = 0;
    while done.load(SeqCst) < WRITERS as u64 {
        let chain = random.below(CHAINS);
        let keys = chain_keys(chain);
        let before: Vec<u64> = (0..WRITERS).map(|w| log[w][chain].load(SeqCst)).collect();
        let pinned = at.pin();
        for context in pinned.contexts("m", None) {
            context.lookup(&mut keys.as_slice(), &mut matches);
        }
        drop(pinned);
        for worker in 0..WRITERS {
            let after = log[worker][chain].load(SeqCst);
            let steady =
                before[worker] == after && (after >> 32).is_multiple_of(2) && after >> 32 > 0;
            let score = matches.hits().iter().find(|hit| hit.worker == ids[worker]);
            let score = score.map_or(0, |hit| hit.blocks[2]);
            if steady && chains_of(worker).any(|own| own == chain) {
                assert_eq!(
                    u64::from(score),
                    after & 0xffff_ffff,
                    "worker {worker}, chain {chain}"
                );
                judged += 1;
            }
        }
    }
    judged
}

#[test]
fn racing_lookups_keep_the_contract() {
    let index = Index::new(IndexConfig::default());
    let log: Log = (0..WRITERS)
        .map(|_| (0..CHAINS).map(|_| AtomicU64::new(0)).collect())
        .collect();
    let writers: Vec<_> = (0..WRITERS).map(|_| index.writer("m").unwrap()).collect();
    let ids: Vec<_> = writers.iter().map(Writer::id).collect();
    let done = AtomicU64::new(0);
    let (ended, judged) = thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS)
            .map(|r| {
                scope.spawn({
                    let (index, ids, log, done) = (&index, &ids, &log, &done);
                    move || read(index, ids, log, done, 77 + r as u64)
                })
            })
            .collect();
        let writers: Vec<_> = writers
            .into_iter()
            .enumerate()
            .map(|(w, writer)| {
                scope.spawn({
                    let (index, log, done) = (&index, &log, &done);
                    move || {
                        let ended = write(index, writer, w, log);
                        done.fetch_add(1, SeqCst);
                        ended
                    }
                })
            })
            .collect();
        let ended: Vec<_> = writers.into_iter().map(|t| t.join().unwrap()).collect();
        let judged: u64 = readers.into_iter().map(|t| t.join().unwrap()).sum();
        (ended, judged)
    });
    assert!(judged > 0, "no answer could be judged");
    let at = index.participant();
    let mut matches = Matches::new();
    for chain in 0..CHAINS {
        let keys = chain_keys(chain);
        for context in at.pin().contexts("m", None) {
            context.lookup(&mut keys.as_slice(), &mut matches);
        }
        for (writer, model) in &ended {
            let score = matches.hits().iter().find(|hit| hit.worker == writer.id());
            let score = score.map_or([0; 3], |hit| hit.blocks);
            assert_eq!(score, model.score(0, &keys), "chain {chain}");
        }
    }
}
