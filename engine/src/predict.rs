//! What a worker is expected to hold soon or still, each block until a deadline of its own.
//!
//! A router knows of coverage that no event has told: it has just sent a request to a worker, whose
//! blocks will be there before their events are (speculative); or the worker sends no events, and
//! what the router sent there is all that is known (approximate). [`Predictions`] holds such prefixes
//! for a time to live. They stand in the index under a worker number of their own, so that a
//! prediction never adds to, hides or removes what an engine has told: a lookup reports both workers,
//! and the caller decides what each is worth. A prediction that has come true needs no end of
//! its own: the exact worker is credited from then on, and the deadline passes.
//!
//! # Deadlines
//!
//! A record of a prompt at `now` says of each of its whole blocks: held until `now + ttl`. A block's
//! deadline is the latest that any record has said of it since it came. From that follows, for every
//! block and the block before it:
//!
//! > **A parent's deadline is never earlier than its child's.** Whoever records a child records the
//! > whole prompt up to it, hence its parent, with the same deadline; and the parent was there no
//! > later than the child, since it leaves after it. So all that was said of the child was
//! > said of the parent too, and the latest of that is no earlier.
//!
//! Time is the caller's: milliseconds, from any beginning. Nothing above assumes that it grows. A
//! record with an earlier time than the last one says an earlier deadline, which lowers none; an
//! expiry with an earlier time finds less that is due.
//!
//! # Who leaves first
//!
//! The earliest deadline, among equals the deepest block, among equals in that too the lowest name:
//! both when deadlines pass and when the bound is reached. By the above, a child always comes before
//! its parent in this order. Hence the next block to leave is always a *tip*, a block without children
//! here, and it is enough to keep the tips in order: a queue with an entry for each prompt rather
//! than for each block. A block becomes a tip when its last child leaves. So no block can outlive its
//! parent, the queue has no stale entries, and to renew a prefix is a write to each block's own entry
//! in the table and at most one move in the queue. (A queue of all blocks, each moved when it comes
//! up and was renewed meanwhile, was the other design: a single record might have to move them all.)
//!
//! # Names
//!
//! The writer wants a name for each block. Ours is a chained hash: of the context, then of (name of
//! the parent, block key). Two blocks have one name once in 2^64 pairs. The later one is then taken
//! for the earlier one, or it is not taken in and the earlier one counts for nothing until it leaves:
//! wrong predictions, which end at their deadlines like all others.
//!
//! # What is not here
//!
//! Withdrawing a record (its request failed). A block would have to fall back to the latest deadline
//! that *other* records have said, which takes all their deadlines, not one: memory that grows with
//! the requests, not with the blocks. To lower a deadline without knowing them would take from other
//! requests what they still vouch for. A record that turns out to be wrong therefore stays until its
//! deadline; the time to live is the bound of that error.
use crate::hash::{BlockHasher, ExtraDigest, checksum};
use crate::index::Participant;
use crate::limits::{
    BLOCK_SIZE_MAX, PREDICTED_BLOCKS_DEFAULT, PREDICTED_BLOCKS_MAX, PREDICTED_STEP,
};
use crate::types::{BlockKey, EngineHash, Tier, TokenBytes, WorkerId};
use crate::writer::{StoreError, StoreKeys, Writer};
use ahash::AHashMap;
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::collections::hash_map::Entry;

/// How long and how much is predicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PredictConfig {
    /// How long a record holds its blocks, in milliseconds.
    pub ttl_ms: u64,
    /// Blocks held at most; more than [`PREDICTED_BLOCKS_MAX`] is that.
    pub max_blocks: usize,
}

impl PredictConfig {
    /// With this time to live in milliseconds, and [`PREDICTED_BLOCKS_DEFAULT`] blocks. There is no
    /// default time to live: what bridges the delay of events is seconds, what replaces events is
    /// as long as engines keep blocks.
    #[must_use]
    pub const fn new(ttl_ms: u64) -> Self {
        Self {
            ttl_ms,
            max_blocks: PREDICTED_BLOCKS_DEFAULT,
        }
    }
}

/// A request's prompt, as it is sent to the worker.
#[derive(Clone, Copy, Debug)]
pub struct Prompt<'a> {
    /// The LoRA adapter's name.
    pub adapter: Option<&'a str>,
    /// Tokens per block, 1 to [`BLOCK_SIZE_MAX`].
    pub block_size: u32,
    /// What is in its blocks.
    pub blocks: Blocks<'a>,
}

/// The content of a prompt's blocks.
#[derive(Clone, Copy, Debug)]
pub enum Blocks<'a> {
    /// By token ids.
    Tokens {
        /// All of them; those past the last whole block count for nothing.
        tokens: &'a [TokenBytes],
        /// One for each whole block, or empty if no block has extra keys.
        extra: &'a [ExtraDigest],
    },
    /// By the blocks' keys, which are under the index's own seed.
    Keys(&'a [BlockKey]),
}

/// What a record did, in blocks. The whole blocks of its prompt are `recorded + renewed + dropped`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordReport {
    /// Of the prompt: held from now on.
    pub recorded: usize,
    /// Of the prompt: held already. Their deadline is the later one of two.
    pub renewed: usize,
    /// Of the prompt: not taken in, because all that is held has later deadlines or is less deep (or,
    /// once in 2^64, because of a name that two blocks share).
    pub dropped: usize,
    /// Of other prompts: left to make room, whatever their deadlines.
    pub evicted: usize,
}

/// What an expiry did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExpireReport {
    /// Blocks that left because their deadline has come.
    pub expired: usize,
    /// Whether there are more that should.
    pub more: bool,
}

/// One worker's predicted blocks. Dropping it removes them all and frees its number.
#[derive(Debug)]
pub struct Predictions {
    /// Holds exactly the blocks of `held`, with one copy each.
    writer: Writer,
    config: PredictConfig,
    held: Held,
}

impl Predictions {
    /// Predictions through a writer of their own, which has stored nothing yet and serves the worker's model.
    #[must_use]
    pub fn new(writer: Writer, config: PredictConfig) -> Self {
        let max_blocks = config.max_blocks.min(PREDICTED_BLOCKS_MAX);
        Self {
            writer,
            config: PredictConfig {
                max_blocks,
                ..config
            },
            held: Held::default(),
        }
    }

    /// The number under which lookups report what is predicted: not that of the worker's exact coverage.
    #[must_use]
    pub fn id(&self) -> WorkerId {
        self.writer.id()
    }

    /// Blocks held, due ones included until they are expired.
    #[must_use]
    pub fn blocks(&self) -> usize {
        self.held.blocks.len()
    }

    /// The earliest deadline of a block, in milliseconds of the caller's time: when [`Self::expire`]
    /// will have something to do. O(log prompts).
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        self.held.tips.first().map(|tip| tip.deadline)
    }

    /// Holds every whole block of the prompt until `now + ttl` (milliseconds), those that are held already
    /// until then at least. If that is more than the bound, the blocks with the earliest deadlines leave, the
    /// deepest first among equals, be they others or of this prompt. Meanwhile up to
    /// [`PREDICTED_STEP`] blocks more than the bound are held. If the index has no bytes left, all that is
    /// predicted here goes: it is worth less than anything that an engine has told.
    ///
    /// O(blocks of the prompt + log prompts), and O(log prompts) for each block that leaves.
    ///
    /// # Errors
    /// A prompt that does not fit together, or whose context has no room in the index: it changes nothing.
    ///
    /// # Panics
    /// If `at` belongs to another index.
    pub fn record(
        &mut self,
        at: &Participant,
        prompt: &Prompt<'_>,
        now: u64,
    ) -> Result<RecordReport, StoreError> {
        let whole = prompt.whole_blocks()?;
        let deadline = now.saturating_add(self.config.ttl_ms);
        let hasher = BlockHasher::new(at.index().hash_seed());
        let mut report = RecordReport::default();
        let mut step = Step::new(prompt);
        let mut done = 0;
        // In steps: keys and names need no allocation, and the bound is exceeded by a step, not by a prompt.
        // The blocks held already come first, so all of them are renewed before any block leaves:
        // the prompt cannot push out its own beginning.
        while done < whole {
            step.go_on(prompt, &hasher, done, PREDICTED_STEP.min(whole - done));
            done += step.len;
            match self.take_in(at, prompt, &step, deadline, &mut report)? {
                Taken::Whole => {}
                Taken::Part => {
                    report.dropped += whole - done;
                    break;
                }
                Taken::NoMemory => {
                    let known = report.recorded + report.renewed;
                    report = RecordReport {
                        dropped: whole,
                        evicted: report.evicted + self.blocks().saturating_sub(known),
                        ..RecordReport::default()
                    };
                    // At once: a writer's own clear gives bytes back slice by slice, and nobody would ask for the slices.
                    self.take_out(at, usize::MAX, u64::MAX);
                    break;
                }
            }
        }
        Ok(report)
    }

    /// Takes in a step's blocks.
    fn take_in(
        &mut self,
        at: &Participant,
        prompt: &Prompt<'_>,
        step: &Step,
        deadline: u64,
        report: &mut RecordReport,
    ) -> Result<Taken, StoreError> {
        let (keys, names) = (step.keys(), step.names());
        let known = self.held.renew(names, deadline);
        report.renewed += known;
        let (old, new) = names.split_at(known);
        if new.is_empty() {
            return Ok(Taken::Whole);
        }
        let parent = old.last().copied().or(step.parent);
        let event = StoreKeys {
            adapter: prompt.adapter,
            block_size: prompt.block_size,
            parent,
            hashes: new,
            keys: &keys[known..],
        };
        // Only a context that is new here can be refused. Then nothing was known, and nothing has changed.
        let stored = self.writer.store_keys(at, &event)?;
        if stored.evicted > 0 || stored.dropped > 0 {
            return Ok(Taken::NoMemory);
        }
        let linked = self.held.link(parent, new, deadline);
        let (linked, refused) = new.split_at(linked);
        if !refused.is_empty() {
            self.writer.remove(at, Tier::Gpu, refused);
        }
        let too_many = self.blocks().saturating_sub(self.config.max_blocks);
        let gone = self.take_out(at, too_many, u64::MAX);
        // What is not held of these is their end: each has its parent.
        let held = |&&name: &&EngineHash| self.held.blocks.contains_key(&name);
        let lost = linked.iter().rev().take_while(|name| !held(name)).count();
        let kept = linked.len() - lost;
        report.recorded += kept;
        report.dropped += new.len() - kept;
        report.evicted += gone - lost;
        Ok(match kept == new.len() {
            true => Taken::Whole,
            false => Taken::Part,
        })
    }

    /// Takes out blocks whose deadline has come (`deadline <= now`, in milliseconds), at most
    /// `max_blocks` of them, so that the caller has its thread back in time. A block that is due counts
    /// until it is taken out.
    /// O(log prompts) for each block.
    ///
    /// # Panics
    /// If `at` belongs to another index.
    pub fn expire(&mut self, at: &Participant, now: u64, max_blocks: usize) -> ExpireReport {
        let expired = self.take_out(at, max_blocks, now);
        let more = self.next_deadline().is_some_and(|deadline| deadline <= now);
        ExpireReport { expired, more }
    }

    /// Forgets everything (the worker has restarted or was emptied). O(blocks).
    ///
    /// # Panics
    /// If `at` belongs to another index.
    pub fn clear(&mut self, at: &Participant) {
        self.writer.clear(at);
        self.held = Held::default();
    }

    /// Takes out the first `count` blocks of those that leave next, as far as their deadlines are no
    /// later than `until`; how many.
    fn take_out(&mut self, at: &Participant, count: usize, until: u64) -> usize {
        let mut names = [EngineHash(0); PREDICTED_STEP];
        let mut gone = 0;
        while gone < count {
            let mut filled = 0;
            for slot in names.iter_mut().take(count - gone) {
                let Some(name) = self.held.pop(until) else {
                    break;
                };
                *slot = name;
                filled += 1;
            }
            if filled == 0 {
                break;
            }
            self.writer.remove(at, Tier::Gpu, &names[..filled]);
            gone += filled;
        }
        gone
    }
}

/// What became of a step.
enum Taken {
    /// All of it is held.
    Whole,
    /// Its end is not held.
    Part,
    /// The index has no bytes for it: what the writer forgot to make room is not known here.
    NoMemory,
}

impl Prompt<'_> {
    /// How many whole blocks it has, if it fits together.
    fn whole_blocks(&self) -> Result<usize, StoreError> {
        if self.block_size == 0 || self.block_size > BLOCK_SIZE_MAX {
            return Err(StoreError::BlockSize(self.block_size));
        }
        match self.blocks {
            Blocks::Keys(keys) => Ok(keys.len()),
            Blocks::Tokens { tokens, extra } => {
                let (extra, hashes) = (extra.len(), tokens.len() / self.block_size as usize);
                match extra == 0 || extra == hashes {
                    true => Ok(hashes),
                    false => Err(StoreError::ExtraCount { extra, hashes }),
                }
            }
        }
    }

    /// The keys of its blocks from block `first` on, as many as `keys` has room for; it has that many.
    fn keys(&self, hasher: &BlockHasher, first: usize, keys: &mut [BlockKey]) {
        match self.blocks {
            Blocks::Keys(known) => keys.copy_from_slice(&known[first..first + keys.len()]),
            Blocks::Tokens { tokens, extra } => {
                let size = self.block_size as usize;
                let blocks = tokens[first * size..].chunks_exact(size);
                for (at, (key, tokens)) in keys.iter_mut().zip(blocks).enumerate() {
                    let extra = extra.get(first + at).copied().unwrap_or_default();
                    *key = hasher.key_of_bytes(tokens, extra);
                }
            }
        }
    }
}

/// Blocks of a prompt that are handled at once.
struct Step {
    len: usize,
    keys: [BlockKey; PREDICTED_STEP],
    names: [EngineHash; PREDICTED_STEP],
    /// The block before them.
    parent: Option<EngineHash>,
    /// What the next block's name follows from.
    last: u64,
}

impl Step {
    /// Before the first block of a prompt.
    fn new(prompt: &Prompt<'_>) -> Self {
        // The adapter "" is none, as it is for the contexts of an index.
        let adapter = prompt.adapter.unwrap_or_default();
        Self {
            len: 0,
            keys: [BlockKey::new(0); PREDICTED_STEP],
            names: [EngineHash(0); PREDICTED_STEP],
            parent: None,
            last: chained(checksum(adapter.as_bytes()), u64::from(prompt.block_size)),
        }
    }

    /// The prompt's `len` blocks from block `first` on, which follow those of the step before.
    fn go_on(&mut self, prompt: &Prompt<'_>, hasher: &BlockHasher, first: usize, len: usize) {
        self.parent = self.names().last().copied();
        self.len = len;
        prompt.keys(hasher, first, &mut self.keys[..len]);
        for (key, name) in self.keys[..len].iter().zip(&mut self.names) {
            self.last = chained(self.last, key.get());
            *name = EngineHash(self.last);
        }
    }

    fn keys(&self) -> &[BlockKey] {
        &self.keys[..self.len]
    }

    fn names(&self) -> &[EngineHash] {
        &self.names[..self.len]
    }
}

/// A hash of what came before and what follows.
fn chained(before: u64, next: u64) -> u64 {
    let mut both = [0; 16];
    both[..8].copy_from_slice(&before.to_le_bytes());
    both[8..].copy_from_slice(&next.to_le_bytes());
    checksum(&both)
}

/// What is known of one block.
#[derive(Clone, Copy, Debug)]
struct Block {
    deadline: u64,
    /// The block before it, if `depth` is not zero.
    parent: EngineHash,
    /// Blocks before it. Only the order of blocks is made of it: that it stops at its largest
    /// number, after 2^32 blocks of one prompt, leaves the tips in charge.
    depth: u32,
    /// Blocks here whose parent it is.
    children: u32,
}

const _: () = assert!(size_of::<(EngineHash, Block)>() == 32);
const _: () = assert!(PREDICTED_BLOCKS_MAX + PREDICTED_STEP < u32::MAX as usize);

/// A tip's place in the queue: the least leaves first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Tip {
    deadline: u64,
    depth: Reverse<u32>,
    name: EngineHash,
}

impl Block {
    fn tip(&self, name: EngineHash) -> Tip {
        Tip {
            deadline: self.deadline,
            depth: Reverse(self.depth),
            name,
        }
    }
}

/// The blocks held, and which of them leaves next.
///
/// Every block's parent is here, with a deadline no earlier; `tips` has exactly the blocks without children.
#[derive(Debug, Default)]
struct Held {
    blocks: AHashMap<EngineHash, Block>,
    tips: BTreeSet<Tip>,
}

impl Held {
    /// Renews those of the names that are here before the first that is not; how many.
    fn renew(&mut self, names: &[EngineHash], deadline: u64) -> usize {
        for (at, &name) in names.iter().enumerate() {
            let Some(block) = self.blocks.get_mut(&name) else {
                return at;
            };
            if deadline <= block.deadline {
                continue;
            }
            if block.children == 0 {
                self.tips.remove(&block.tip(name));
            }
            block.deadline = deadline;
            if block.children == 0 {
                self.tips.insert(block.tip(name));
            }
        }
        names.len()
    }

    /// Adds a chain of blocks after `parent`, which is here and has no earlier deadline, up to the first
    /// whose name is here already; how many.
    fn link(&mut self, parent: Option<EngineHash>, names: &[EngineHash], deadline: u64) -> usize {
        let before = parent.and_then(|parent| self.blocks.get(&parent));
        let mut depth = before.map_or(0, |before| before.depth.saturating_add(1));
        let mut last = parent;
        let mut linked = 0;
        for &name in names {
            let Entry::Vacant(slot) = self.blocks.entry(name) else {
                break;
            };
            slot.insert(Block {
                deadline,
                parent: last.unwrap_or(name),
                depth,
                // The next one of the chain; put right below for the last.
                children: 1,
            });
            last = Some(name);
            depth = depth.saturating_add(1);
            linked += 1;
        }
        if linked == 0 {
            return 0;
        }
        if let Some(parent) = parent {
            self.gain_child(parent);
        }
        if let Some(last) = last {
            self.lose_child(last);
        }
        linked
    }

    /// Takes out the block that leaves next, if its deadline is no later than `until`.
    fn pop(&mut self, until: u64) -> Option<EngineHash> {
        let tip = self.tips.first().filter(|tip| tip.deadline <= until)?;
        let name = tip.name;
        self.tips.pop_first();
        let block = self.blocks.remove(&name)?;
        if block.depth > 0 {
            self.lose_child(block.parent);
        }
        Some(name)
    }

    fn gain_child(&mut self, name: EngineHash) {
        if let Some(block) = self.blocks.get_mut(&name) {
            if block.children == 0 {
                self.tips.remove(&block.tip(name));
            }
            block.children += 1;
        }
    }

    fn lose_child(&mut self, name: EngineHash) {
        if let Some(block) = self.blocks.get_mut(&name) {
            block.children -= 1;
            if block.children == 0 {
                self.tips.insert(block.tip(name));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What no test can bring about from outside: two blocks with one name.
    #[test]
    fn a_name_that_is_taken_ends_the_chain_before_it() {
        let [a, b, c] = [1, 2, 3].map(EngineHash);
        let mut held = Held::default();
        assert_eq!(held.link(None, &[a, b], 5), 2);
        assert_eq!(held.link(Some(b), &[c, a], 5), 1);
        assert_eq!(held.link(Some(a), &[c], 5), 0);
        let order: Vec<_> = std::iter::from_fn(|| held.pop(5)).collect();
        assert_eq!(order, [c, b, a]);
        assert!(held.blocks.is_empty());
    }
}
