//! Many writers and readers at once: readers check the contract while it happens, and the end state
//! equals the literal model.
//!
//! All workers store, evict, tear holes into and heal prefixes of the same few chains, under two names for a
//! block and in three tiers; now and then one is cleared, in one go or slice by slice, or leaves and another
//! takes its place. So runs are shared, diverge, die and are made again all the time.
//!
//! Each writer's thread keeps a log: for each block the tiers in which its worker has it, as a word that
//! is odd while a change is on its way. A reader takes the words of a chain before and after a lookup. What it
//! is told must have been held at some moment between; and what was held all the time it must be told.
use kvroute_engine::hash::block_key;
use kvroute_engine::oracle::{OracleStore, OracleWorker};
use kvroute_engine::types::{BlockKey, EngineHash, TIERS, Tier};
use kvroute_engine::{Index, IndexConfig, Matches, Participant, Store, Writer};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst, fence};
use std::thread;

const WRITERS: usize = if cfg!(miri) { 2 } else { 5 };
const READERS: usize = if cfg!(miri) { 1 } else { 3 };
const STEPS: usize = if cfg!(miri) { 20 } else { 20_000 };
const DEPTH: usize = 24;
/// Chains come in pairs that agree in so many blocks.
const SHARED: [usize; 3] = [1, 12, 21];
const CHAINS: usize = SHARED.len() * 2;
const BLOCKS: usize = CHAINS * DEPTH;
const NAMES: usize = 2;
/// Runs that make a clear a large one, which is done slice by slice.
const MANY: u32 = 1_100;

/// The blocks of a chain by number; a number stands for one content.
fn chain(number: usize) -> [usize; DEPTH] {
    let pair = number / 2;
    std::array::from_fn(|at| {
        let of = if at < SHARED[pair] { pair * 2 } else { number };
        of * DEPTH + at
    })
}

fn key(block: usize) -> BlockKey {
    block_key(1337, &[block as u32], Default::default())
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }

    /// A range of a chain that is not empty.
    fn range(&mut self) -> (usize, usize) {
        let from = self.below(DEPTH);
        (from, from + 1 + self.below(DEPTH - from))
    }

    fn tier(&mut self) -> Tier {
        [Tier::Gpu, Tier::Gpu, Tier::Gpu, Tier::Cpu, Tier::Disk][self.below(5)]
    }
}

/// What one worker's thread says about it.
struct Log {
    /// Which worker of this thread it is, the worker's number plus one, and whether lookups may miss it
    /// as a whole; zero before the first one.
    worker: AtomicU64,
    /// By block: how often it was changed (odd: on the way), and in which tiers it is.
    blocks: Vec<AtomicU64>,
}

/// One bit for each tier; while a change is on its way, those of before and after.
const TIER_BITS: u32 = 8;

impl Log {
    fn new() -> Self {
        Self {
            worker: AtomicU64::new(0),
            blocks: (0..BLOCKS).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    fn step(&self, block: usize, tiers: u64) {
        let version = self.blocks[block].load(SeqCst) >> TIER_BITS;
        self.blocks[block].store((version + 1) << TIER_BITS | tiers, SeqCst);
    }

    fn snapshot(&self, chain: &[usize; DEPTH]) -> Snapshot {
        Snapshot {
            worker: self.worker.load(SeqCst),
            blocks: chain.map(|block| self.blocks[block].load(SeqCst)),
        }
    }
}

struct Snapshot {
    worker: u64,
    blocks: [u64; DEPTH],
}

/// Of one block: the tiers in which it was at some moment between, and at all moments.
fn between(before: u64, after: u64) -> (u64, u64) {
    let all = (1 << TIERS) - 1;
    let changes = (after >> TIER_BITS) - (before >> TIER_BITS);
    let ever = match changes {
        0..=3 => (before | after) & all,
        _ => all,
    };
    let steady = changes == 0 && (before >> TIER_BITS).is_multiple_of(2);
    (ever, if steady { before & all } else { 0 })
}

/// A worker's thread's own knowledge.
struct Worker<'a> {
    index: &'a Arc<Index>,
    at: Participant,
    writer: Writer,
    model: OracleWorker,
    log: &'a Log,
    number: u64,
    generation: u64,
    /// Copies by block, name and tier.
    copies: Vec<[[u32; TIERS]; NAMES]>,
    /// A large clear is not done yet.
    hidden: bool,
}

impl<'a> Worker<'a> {
    fn new(index: &'a Arc<Index>, number: usize, log: &'a Log) -> Self {
        let this = Self {
            index,
            at: index.participant(),
            writer: index.writer("m").unwrap(),
            model: OracleWorker::default(),
            log,
            number: number as u64,
            generation: 1,
            copies: vec![[[0; TIERS]; NAMES]; BLOCKS],
            hidden: false,
        };
        this.say_who();
        this
    }

    fn say_who(&self) {
        let who = self.generation << 32 | (self.writer.id().index() as u64 + 1) << 1;
        self.log.worker.store(who | u64::from(self.hidden), SeqCst);
        fence(SeqCst);
    }

    fn name(&self, block: usize, name: usize) -> EngineHash {
        EngineHash(self.number << 48 | (name as u64) << 32 | block as u64)
    }

    fn has(&self, block: usize, name: usize) -> bool {
        self.copies[block][name] != [0; TIERS]
    }

    fn tiers(copies: &[[u32; TIERS]; NAMES]) -> u64 {
        let there = |tier: &usize| copies.iter().any(|name| name[*tier] > 0);
        (0..TIERS).filter(there).map(|tier| 1 << tier).sum()
    }

    /// Changes the copies, and the index by `apply`, with the log kept around it.
    fn change(
        &mut self,
        change: impl Fn(&mut Vec<[[u32; TIERS]; NAMES]>),
        apply: impl FnOnce(&mut Self),
    ) {
        let mut copies = self.copies.clone();
        change(&mut copies);
        let pairs = self.copies.iter().zip(&copies).enumerate();
        let changed: Vec<_> = pairs
            .map(|(block, (old, new))| (block, Self::tiers(old), Self::tiers(new)))
            .filter(|(_, old, new)| old != new)
            .collect();
        for &(block, old, new) in &changed {
            self.log.step(block, old | new);
        }
        fence(SeqCst);
        apply(self);
        self.copies = copies;
        for &(block, _, new) in &changed {
            self.log.step(block, new);
        }
    }

    /// Stores blocks `[from, to)` of a chain, if the name before them is there to be their parent.
    fn store(&mut self, blocks: &[usize], before: Option<usize>, name: usize, tier: Tier) {
        if before.is_some_and(|before| !self.has(before, name)) {
            return;
        }
        let parent = before.map(|before| self.name(before, name));
        let hashes: Vec<_> = blocks.iter().map(|&b| self.name(b, name)).collect();
        let tokens: Vec<_> = blocks.iter().map(|&b| b as u32).collect();
        let told = hashes.iter().zip(blocks);
        let told: Vec<_> = told.map(|(&hash, &b)| (hash, Some(key(b)))).collect();
        self.change(
            |copies| {
                for &block in blocks {
                    copies[block][name][tier.index()] += 1;
                }
            },
            |this| {
                let event = Store {
                    adapter: None,
                    block_size: 1,
                    tier,
                    parent,
                    hashes: &hashes,
                    tokens: &tokens,
                    extra: &[],
                    says_extra: true,
                };
                this.writer.store(&this.at, &event).unwrap();
                this.model.store(&OracleStore {
                    context: 0,
                    tier,
                    parent,
                    blocks: &told,
                    says_extra: true,
                });
            },
        );
    }

    /// Copies of blocks that are there, told by name only.
    fn offload(&mut self, blocks: &[usize], name: usize, tier: Tier) {
        let there = blocks.iter().copied().filter(|&b| self.has(b, name));
        let there: Vec<_> = there.collect();
        let hashes: Vec<_> = there.iter().map(|&b| self.name(b, name)).collect();
        let told: Vec<_> = hashes.iter().map(|&hash| (hash, None)).collect();
        self.change(
            |copies| {
                for &block in &there {
                    copies[block][name][tier.index()] += 1;
                }
            },
            |this| {
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
                this.writer.store(&this.at, &event).unwrap();
                this.model.store(&OracleStore {
                    context: 0,
                    tier,
                    parent: None,
                    blocks: &told,
                    says_extra: true,
                });
            },
        );
    }

    /// Removes blocks under these names from a tier, all copies, in this order.
    fn remove(&mut self, blocks: &[usize], names: &[usize], tier: Tier) {
        let mut hashes = Vec::new();
        for &block in blocks {
            for &name in names {
                let copies = self.copies[block][name][tier.index()];
                hashes.extend((0..copies).map(|_| self.name(block, name)));
            }
        }
        self.change(
            |copies| {
                for &block in blocks {
                    for &name in names {
                        copies[block][name][tier.index()] = 0;
                    }
                }
            },
            |this| {
                this.writer.remove(&this.at, tier, &hashes);
                this.model.remove(tier, &hashes);
            },
        );
    }

    fn clear(&mut self) {
        self.change(
            |copies| copies.fill([[0; TIERS]; NAMES]),
            |this| {
                this.writer.clear(&this.at);
                this.model.clear();
            },
        );
    }

    /// Clears so many runs that it takes slices. Until they are done, lookups do not see the worker.
    fn clear_many(&mut self) {
        for n in 0..MANY {
            let name = [EngineHash(self.number << 48 | 1 << 40 | u64::from(n))];
            let event = Store {
                adapter: None,
                block_size: 1,
                tier: Tier::Gpu,
                parent: None,
                hashes: &name,
                tokens: &[1_000_000 + n],
                extra: &[],
                says_extra: true,
            };
            self.writer.store(&self.at, &event).unwrap();
        }
        self.hidden = true;
        self.say_who();
        self.clear();
    }

    /// The worker leaves and another takes its place.
    fn leave(&mut self) {
        self.change(
            |copies| copies.fill([[0; TIERS]; NAMES]),
            |this| {
                this.writer = this.index.writer("m").unwrap();
                this.model.clear();
                this.generation += 1;
                this.hidden = false;
                this.say_who();
            },
        );
    }

    fn run(&mut self) {
        let mut random = Random(0x5eed + self.number);
        for step in 0..STEPS {
            let chain = chain(random.below(CHAINS));
            let (from, to) = random.range();
            let before = from.checked_sub(1).map(|at| chain[at]);
            let name = random.below(8) / 7;
            let mut range = chain[from..to].to_vec();
            match random.below(100) {
                0..30 => self.store(&chain[..to], None, name, random.tier()),
                30..50 => self.store(&range, before, name, random.tier()),
                50..60 => self.offload(&range, name, Tier::Cpu),
                60..75 => {
                    // From the tail, as engines evict.
                    range.reverse();
                    self.remove(&range, &[0, 1], Tier::Gpu);
                }
                75..85 => self.remove(&range, &[name], random.tier()),
                85..95 => {
                    // A hole, or the head, under all names and in all tiers.
                    for tier in Tier::ALL {
                        self.remove(&range[..1], &[0, 1], tier);
                    }
                }
                95..98 if step % 4 == 0 => self.clear(),
                98 => self.leave(),
                99 if step % 8 == 0 => self.clear_many(),
                _ => {}
            }
            if self.hidden && self.writer.settle(&self.at, 64) {
                self.hidden = false;
                self.say_who();
            }
        }
        while !self.writer.settle(&self.at, 64) {}
        self.hidden = false;
        self.say_who();
    }
}

/// Checks one worker's answer; how many blocks of it were certain.
fn judge(before: &Snapshot, after: &Snapshot, told: [u32; TIERS]) -> u64 {
    let known = before.worker == after.worker && after.worker & 1 == 0;
    let mut certain = 0;
    for (tier, told) in told.into_iter().enumerate() {
        let as_fast = (2 << tier) - 1;
        let mut steady = known;
        for at in 0..DEPTH {
            let (ever, always) = between(before.blocks[at], after.blocks[at]);
            let told = at < told as usize;
            assert!(
                !told || ever & as_fast != 0,
                "block {at} in tier {tier} was never held"
            );
            steady &= always & as_fast != 0;
            assert!(
                !steady || told,
                "block {at} in tier {tier} was held all the time"
            );
            certain += u64::from(steady);
        }
    }
    certain
}

/// Looks chains up until all writers are done; how many blocks were certain.
fn read(index: &Arc<Index>, logs: &[Log], done: &AtomicUsize, seed: u64) -> u64 {
    let at = index.participant();
    let mut random = Random(seed);
    let mut matches = Matches::new();
    let mut certain = 0;
    while done.load(SeqCst) < WRITERS {
        let chain = chain(random.below(CHAINS));
        let keys = chain.map(key);
        let before: Vec<_> = logs.iter().map(|log| log.snapshot(&chain)).collect();
        fence(SeqCst);
        let mut found = Vec::new();
        for context in at.pin().contexts("m", None) {
            context.lookup(&mut keys.as_slice(), &mut matches);
            found.extend_from_slice(matches.hits());
        }
        fence(SeqCst);
        let after: Vec<_> = logs.iter().map(|log| log.snapshot(&chain)).collect();
        let mut unknown = found.len();
        for (before, after) in before.iter().zip(&after) {
            let mut ids = vec![before.worker & 0xffff_fffe, after.worker & 0xffff_fffe];
            ids.dedup();
            for id in ids {
                let of = |hit: &&kvroute_engine::Hit| hit.worker.index() as u64 + 1 == id >> 1;
                let hits: Vec<_> = found.iter().filter(of).collect();
                assert!(hits.len() <= 1, "a worker is reported twice");
                unknown -= hits.len();
                let told = hits.first().map_or([0; TIERS], |hit| hit.blocks);
                certain += judge(before, after, told);
            }
        }
        let replaced = |(b, a): (&Snapshot, &Snapshot)| (a.worker >> 32) - (b.worker >> 32) > 1;
        let some_came_and_went = before.iter().zip(&after).any(replaced);
        assert!(
            unknown == 0 || some_came_and_went,
            "a worker that is not there any more"
        );
    }
    certain
}

#[test]
fn racing_lookups_keep_the_contract() {
    let index = Index::new(IndexConfig::default());
    let logs: Vec<_> = (0..WRITERS).map(|_| Log::new()).collect();
    let done = AtomicUsize::new(0);
    let (ended, certain) = thread::scope(|scope| {
        let (index, logs, done) = (&index, &logs, &done);
        let writers: Vec<_> = logs
            .iter()
            .enumerate()
            .map(|(number, log)| {
                scope.spawn(move || {
                    let mut worker = Worker::new(index, number, log);
                    worker.run();
                    done.fetch_add(1, SeqCst);
                    (worker.writer, worker.model)
                })
            })
            .collect();
        let readers: Vec<_> = (0..READERS)
            .map(|reader| scope.spawn(move || read(index, logs, done, 77 + reader as u64)))
            .collect();
        let ended: Vec<_> = writers.into_iter().map(|t| t.join().unwrap()).collect();
        let certain: u64 = readers.into_iter().map(|t| t.join().unwrap()).sum();
        (ended, certain)
    });
    assert!(certain > 0, "no answer could be judged");
    let at = index.participant();
    let mut matches = Matches::new();
    for number in 0..CHAINS {
        let keys = chain(number).map(key);
        let mut found = Vec::new();
        for context in at.pin().contexts("m", None) {
            context.lookup(&mut keys.as_slice(), &mut matches);
            found.extend_from_slice(matches.hits());
        }
        for (writer, model) in &ended {
            let told = found.iter().find(|hit| hit.worker == writer.id());
            let told = told.map_or([0; TIERS], |hit| hit.blocks);
            assert_eq!(told, model.score(0, &keys), "chain {number}");
        }
    }
}
