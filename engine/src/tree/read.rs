//! The lookup: one walk from the root, comparing the request's keys and the holders' coverage.
//!
//! For each run on the request's path, first the key slots are compared as far as they agree (m
//! blocks, at depth b), then the holders are read. A worker that covers everything up to b and the
//! first c blocks of this run has depth b + min(c, m); it stays in the race only if that is b + m. The
//! walk ends where the request does, where no child has the next key, or where nobody stays.
//!
//! The request's key of a block is asked for only when it is compared, so no token past the first
//! mismatch is ever hashed.
use super::entry::Entry;
use super::run::Run;
use crate::hash::{ExtraDigest, block_key};
use crate::sync::Ordering;
use crate::types::{BlockKey, TIERS, Tier, WorkerId};
use crossbeam_epoch::Guard;

/// A request's block keys, computed as they are asked for, in order.
pub trait Keys {
    /// The key of a block; `None` past the last whole block. A block may be asked for twice.
    fn key(&mut self, block: usize) -> Option<BlockKey>;
}

impl Keys for &[BlockKey] {
    fn key(&mut self, block: usize) -> Option<BlockKey> {
        self.get(block).copied()
    }
}

/// Keys computed from token ids.
#[derive(Clone, Copy, Debug)]
pub struct TokenKeys<'a> {
    seed: u64,
    block_size: usize,
    tokens: &'a [u32],
    extra: &'a [ExtraDigest],
}

impl<'a> TokenKeys<'a> {
    /// `extra` is by block; where it is shorter, the blocks have none.
    #[must_use]
    pub fn new(seed: u64, block_size: u32, tokens: &'a [u32], extra: &'a [ExtraDigest]) -> Self {
        Self {
            seed,
            block_size: (block_size as usize).max(1),
            tokens,
            extra,
        }
    }
}

impl Keys for TokenKeys<'_> {
    fn key(&mut self, block: usize) -> Option<BlockKey> {
        let first = block.checked_mul(self.block_size)?;
        let tokens = self
            .tokens
            .get(first..first.checked_add(self.block_size)?)?;
        let extra = self.extra.get(block).copied().unwrap_or_default();
        Some(block_key(self.seed, tokens, extra))
    }
}

/// One worker that holds at least the first block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// The worker.
    pub worker: WorkerId,
    /// Leading blocks of the request that it holds, cumulative by tier: on the GPU; on the GPU or
    /// the CPU; anywhere. The last one is the score.
    pub blocks: [u32; TIERS],
}

/// A lookup's result, to be used again and again: it allocates only while the fleet grows.
#[derive(Debug, Default)]
pub struct Matches {
    /// By worker; all untouched between lookups.
    depths: Vec<Depth>,
    /// Workers whose `depths` are touched.
    touched: Vec<u32>,
    hits: Vec<Hit>,
}

/// How deep one worker's coverage goes.
#[derive(Clone, Copy, Debug)]
struct Depth {
    /// Leading blocks held, 0 while untouched.
    held: u32,
    /// The first block that is not in GPU memory; likewise neither there nor in CPU memory.
    limits: [u32; TIERS - 1],
}

const UNTOUCHED: Depth = Depth {
    held: 0,
    limits: [u32::MAX; TIERS - 1],
};

impl Matches {
    /// An empty result.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The workers found, in no particular order.
    #[must_use]
    pub fn hits(&self) -> &[Hit] {
        &self.hits
    }

    /// Room for workers `0..workers`, and no hits.
    fn prepare(&mut self, workers: usize) {
        self.hits.clear();
        if self.depths.len() < workers {
            self.depths.resize(workers, UNTOUCHED);
            self.touched.reserve(workers);
            self.hits.reserve(workers);
        }
    }

    /// Takes one run's entry in; whether its worker covers all of the `matched` blocks.
    fn cover(&mut self, entry: Entry, base: u32, matched: u32) -> bool {
        let Some(depth) = self.depths.get_mut(entry.worker.index()) else {
            // Registered after the lookup began: it may be missed.
            return false;
        };
        if depth.held != base || entry.cutoff == 0 {
            return false;
        }
        depth.held = base + entry.cutoff.min(matched);
        for (limit, first) in depth.limits.iter_mut().zip([entry.not_gpu, entry.not_cpu]) {
            // A block past the branch that the request takes limits nothing.
            if first < depth.held - base {
                *limit = (*limit).min(base + first);
            }
        }
        if base == 0 {
            self.touched.push(entry.worker.0);
        }
        entry.cutoff >= matched
    }

    fn finish(&mut self) {
        for worker in self.touched.drain(..) {
            let depth = std::mem::replace(&mut self.depths[worker as usize], UNTOUCHED);
            let cpu = depth.held.min(depth.limits[Tier::Cpu.index()]);
            let gpu = cpu.min(depth.limits[Tier::Gpu.index()]);
            self.hits.push(Hit {
                worker: WorkerId(worker),
                blocks: [gpu, cpu, depth.held],
            });
        }
    }
}

/// Finds every worker that holds the request's first block, and how far each goes on.
/// O(matched blocks + holders of the runs walked).
pub(crate) fn lookup(
    root: &Run,
    workers: usize,
    keys: &mut impl Keys,
    out: &mut Matches,
    guard: &Guard,
) {
    out.prepare(workers);
    let (mut run, mut at, mut base) = (root, 0, 0_usize);
    while let Some(key) = keys.key(base)
        && let Some(child) = run.find_child(at, key, guard)
    {
        let matched = matched_blocks(child, base, keys);
        if !read_holders(child, base, matched, out) {
            break;
        }
        run = child;
        at = matched;
        base += matched as usize;
    }
    out.finish();
}

/// Blocks of `run` that agree with the request from block `base` on; the first one is known to.
fn matched_blocks(run: &Run, base: usize, keys: &mut impl Keys) -> u32 {
    let mut matched = 0;
    for segment in run.key_segments() {
        for slot in segment {
            let Some(key) = keys.key(base + matched as usize) else {
                return matched;
            };
            // Relaxed: written once, and nothing is reached through it.
            if slot.load(Ordering::Relaxed) != key.get() {
                return matched;
            }
            matched += 1;
        }
    }
    matched
}

/// Reads who holds how much of a run; whether anybody holds all that matched.
fn read_holders(run: &Run, base: usize, matched: u32, out: &mut Matches) -> bool {
    let Ok(base) = u32::try_from(base) else {
        return false;
    };
    let mut going_on = false;
    for entry in run.entries() {
        going_on |= out.cover(entry, base, matched);
    }
    going_on
}
