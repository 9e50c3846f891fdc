//! The only way to change what a worker holds.
//!
//! A writer owns all that a single thread needs to apply its worker's events: the names (engine hash ->
//! place, copies), the holdings (one for each run in which it holds blocks), the blocks that wait for
//! a parent. Shared memory is touched only through runs: claiming key slots, linking children, writing
//! the worker's own holder entries.
//!
//! A block leaves when the last copy of its last name does. Several names of one block are counted
//! together in `crowded`, which has an entry for each place that is not the ordinary case of one
//! name with copies on the GPU only.
mod bytes;
mod clear;
mod contexts;
mod dump;
mod evict;
mod holdings;
mod names;
mod place;
mod restore;
mod table;
mod waiting;
mod windows;

use crate::budget::Account;
use crate::hash::{BlockHasher, ExtraDigest};
use crate::index::{Index, Participant};
use crate::limits::BLOCK_SIZE_MAX;
use crate::tree::Pin;
use crate::types::{BlockKey, Context, EngineHash, TIERS, Tier, WorkerId};
use ahash::AHashMap;
pub use bytes::DUMP_RECORD_MAX;
use clear::Leaving;
use contexts::Used;
pub use dump::{Dump, DumpError};
use holdings::Holdings;
use names::{Names, Place, Taken};
use place::Cursor;
pub use restore::{Dumped, DumpedName, DumpedParent, DumpedRun};
pub use restore::{Restore, RestoreError, RestoreReport};
use std::sync::Arc;
use waiting::{Unplaced, Waiting};
use windows::Windows;
pub use windows::{WindowError, WindowGroup};

/// A stored event: consecutive blocks of one chain.
#[derive(Clone, Copy, Debug)]
pub struct Store<'a> {
    /// The LoRA adapter's name.
    pub adapter: Option<&'a str>,
    /// Tokens per block; unused if `tokens` is empty.
    pub block_size: u32,
    /// Where the copies are.
    pub tier: Tier,
    /// The block before `hashes[0]`, `None` at the beginning of a prompt.
    pub parent: Option<EngineHash>,
    /// The engine's names of the blocks, in order.
    pub hashes: &'a [EngineHash],
    /// `hashes.len() * block_size` token ids; or none: only the names are known (offloaded copies).
    pub tokens: &'a [u32],
    /// One for each hash, or empty if no block has extra keys.
    pub extra: &'a [ExtraDigest],
    /// Whether the event's shape can say extra keys (vLLM from 0.17 on). Where it cannot, a second
    /// name for the same content is a block of other, unsaid extra keys, and is kept apart.
    pub says_extra: bool,
}

/// Consecutive blocks of one chain on the GPU, whose keys are known already, under names of the caller's own.
#[derive(Clone, Copy, Debug)]
pub struct StoreKeys<'a> {
    /// The LoRA adapter's name.
    pub adapter: Option<&'a str>,
    /// Tokens per block.
    pub block_size: u32,
    /// The block before `hashes[0]`, `None` at the beginning of a prompt.
    pub parent: Option<EngineHash>,
    /// The names of the blocks, in order.
    pub hashes: &'a [EngineHash],
    /// One for each name, under the index's own seed.
    pub keys: &'a [BlockKey],
}

/// What a stored event did, in blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreReport {
    /// New names, placed.
    pub stored: u32,
    /// Further copies of known names.
    pub copies: u32,
    /// New names that wait for their parent or their content.
    pub waiting: u32,
    /// Names dropped because too many wait, or for want of bytes.
    pub dropped: u32,
    /// Of these, for want of bytes: nothing of the worker's own was left to forget.
    pub over_budget: u32,
    /// Known names with another content than before; they count for nothing from now on.
    pub conflicts: u32,
    /// Names that waited and were placed, from this event or earlier ones.
    pub attached: u32,
    /// Names forgotten to stay within the byte budget, oldest leaves first.
    pub evicted: u32,
}

/// What a removed event did, in blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoveReport {
    /// The last copy of that tier is gone.
    pub removed: u32,
    /// Other copies remain in that tier.
    pub copies: u32,
    /// There was no such copy.
    pub unknown: u32,
}

/// A stored event that does not fit together. Nothing of it was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Tokens and hashes do not fit the block size.
    #[error("{tokens} tokens for {hashes} blocks of {block_size}")]
    TokenCount {
        /// Token ids given.
        tokens: usize,
        /// Hashes given.
        hashes: usize,
        /// Tokens per block.
        block_size: u32,
    },
    /// A block size of zero or above the limit.
    #[error("block size {0}; 1 to {BLOCK_SIZE_MAX} are possible")]
    BlockSize(u32),
    /// Neither no extra keys nor one entry for each block.
    #[error("{extra} entries of extra keys for {hashes} blocks")]
    ExtraCount {
        /// Entries given.
        extra: usize,
        /// Hashes given.
        hashes: usize,
    },
    /// Not one key for each block.
    #[error("{keys} keys for {hashes} blocks")]
    KeyCount {
        /// Keys given.
        keys: usize,
        /// Hashes given.
        hashes: usize,
    },
    /// No room for the event's context.
    #[error(transparent)]
    TooManyContexts(#[from] crate::contexts::TooManyContexts),
}

/// One worker's writer. Dropping it removes all that the worker held, in one go, and frees its number;
/// to remove very much without a stall, [`Writer::clear`] and [`Writer::settle`] first.
#[derive(Debug)]
pub struct Writer {
    index: Arc<Index>,
    id: WorkerId,
    model: String,
    contexts: Used,
    names: Names,
    waiting: Waiting,
    holdings: Holdings,
    /// How many names have copies in each tier, for places that are not the ordinary case.
    crowded: AHashMap<Place, [u32; TIERS]>,
    /// What former clears left to be taken out.
    leaving: Leaving,
    /// Only for engines with sliding-window groups.
    windows: Option<Box<Windows>>,
    account: Account,
    /// Stored events so far, as the time of the least recently used leaves.
    clock: u32,
    /// Calls so far that may have changed what is held.
    changes: u64,
    incomplete: bool,
}

/// Blocks of an event that are handled together, so that their cache misses overlap.
const STEP: usize = 32;

impl Writer {
    pub(crate) fn new(index: Arc<Index>, id: WorkerId, model: &str) -> Self {
        let account = index.account(model);
        Self {
            index,
            id,
            model: model.to_owned(),
            contexts: Used::default(),
            names: Names::default(),
            waiting: Waiting::default(),
            holdings: Holdings::new(id),
            crowded: AHashMap::default(),
            leaving: Leaving::default(),
            windows: None,
            account,
            clock: 0,
            changes: 0,
            incomplete: false,
        }
    }

    /// The worker's number.
    #[must_use]
    pub fn id(&self) -> WorkerId {
        self.id
    }

    /// The model it serves.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Names with a known place: blocks, several names of one block counted each.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.names.placed() as u64
    }

    /// Names that wait for their parent or their content.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Of these, blocks whose parent is not known: what they add to a prefix is not counted yet.
    #[must_use]
    pub fn orphans(&self) -> usize {
        self.waiting.orphans()
    }

    /// Whether blocks were dropped or evicted since the last clear: the answers may be too low.
    #[must_use]
    pub fn incomplete(&self) -> bool {
        self.incomplete
    }

    /// Applies a stored event. O(blocks), plus what had waited for them.
    ///
    /// # Panics
    /// If `at` belongs to another index.
    pub fn store(
        &mut self,
        at: &Participant,
        event: &Store<'_>,
    ) -> Result<StoreReport, StoreError> {
        check(event)?;
        let pin = &self.begin(at);
        let mut report = StoreReport::default();
        let mut result = Ok(());
        if self.make_room(event.hashes.len(), &mut report, pin) {
            if event.tokens.is_empty() {
                for &hash in event.hashes {
                    self.store_unplaced(hash, event.tier, &mut report);
                }
            } else {
                let (seed, tokens) = (self.index.hash_seed(), event.tokens);
                let hasher = BlockHasher::new(seed);
                let block_size = event.block_size as usize;
                let keys = |from: usize, keys: &mut [u64; STEP]| {
                    let blocks = tokens[from * block_size..].chunks_exact(block_size);
                    for (at, (key, tokens)) in keys.iter_mut().zip(blocks).enumerate() {
                        let extra = event.extra.get(from + at).copied().unwrap_or_default();
                        *key = hasher.key(tokens, extra).get();
                    }
                };
                result = self.store_blocks(event, keys, &mut report, pin);
            }
        }
        self.end(pin);
        result.map(|()| report)
    }

    /// The same for blocks whose keys are known. O(blocks).
    ///
    /// # Errors
    /// A block size that cannot be, not one key for each name, or no room for the context: nothing was applied.
    ///
    /// # Panics
    /// If `at` belongs to another index.
    pub fn store_keys(
        &mut self,
        at: &Participant,
        event: &StoreKeys<'_>,
    ) -> Result<StoreReport, StoreError> {
        let (keys, hashes) = (event.keys.len(), event.hashes.len());
        if event.block_size == 0 || event.block_size > BLOCK_SIZE_MAX {
            return Err(StoreError::BlockSize(event.block_size));
        }
        if keys != hashes {
            return Err(StoreError::KeyCount { keys, hashes });
        }
        let pin = &self.begin(at);
        let mut report = StoreReport::default();
        let mut result = Ok(());
        if self.make_room(hashes, &mut report, pin) {
            let named = Store {
                adapter: event.adapter,
                block_size: event.block_size,
                tier: Tier::Gpu,
                parent: event.parent,
                hashes: event.hashes,
                tokens: &[],
                extra: &[],
                says_extra: true,
            };
            let keys = |from: usize, keys: &mut [u64; STEP]| {
                for (to, key) in keys.iter_mut().zip(&event.keys[from..]) {
                    *to = key.get();
                }
            };
            result = self.store_blocks(&named, keys, &mut report, pin);
        }
        self.end(pin);
        result.map(|()| report)
    }

    /// `fill` gives the keys from one block of the event on.
    fn store_blocks(
        &mut self,
        event: &Store<'_>,
        fill: impl Fn(usize, &mut [u64; STEP]),
        report: &mut StoreReport,
        pin: &Pin,
    ) -> Result<(), StoreError> {
        // A cache miss costs as much as the work on ten blocks, so what will be read is asked for as early as
        // its address is known: the names and the parent's, then where the parent stands, then its run.
        let hashes = event.hashes;
        self.prefetch_names(event.parent.as_slice());
        self.prefetch_names(hashes);
        let context = Context {
            model: &self.model,
            adapter: event.adapter,
            block_size: event.block_size,
        };
        let context = self.contexts.number(&self.index, context, &pin.guard)?;
        self.clock = self.clock.wrapping_add(1);
        let mut cursor = Cursor::Root;
        for from in (0..hashes.len()).step_by(STEP) {
            let hashes = &hashes[from..hashes.len().min(from + STEP)];
            if from > 0 {
                self.prefetch_names(hashes);
            }
            let mut keys = [0; STEP];
            fill(from, &mut keys);
            if from == 0 {
                cursor = self.first_cursor(event.parent, context);
            }
            if let Cursor::After(place) = cursor {
                self.holdings.prefetch(place);
            }
            for (at, &hash) in hashes.iter().enumerate() {
                let block = Block {
                    hash,
                    key: BlockKey::new(keys[at]),
                    context,
                    says_extra: event.says_extra,
                    tier: event.tier,
                    following: (event.hashes.len() - from - at) as u32,
                };
                cursor = self.store_block(cursor, &block, report, pin);
            }
        }
        Ok(())
    }

    /// Applies a removed event. O(blocks).
    ///
    /// # Panics
    /// If `at` belongs to another index.
    pub fn remove(&mut self, at: &Participant, tier: Tier, hashes: &[EngineHash]) -> RemoveReport {
        let pin = &self.begin(at);
        let mut report = RemoveReport::default();
        for step in hashes.chunks(STEP) {
            self.prefetch_names(step);
            for &hash in step {
                self.remove_copy(hash, tier, &mut report, pin);
            }
        }
        self.end(pin);
        report
    }

    /// Asks for the first names.
    #[inline]
    fn prefetch_names(&self, hashes: &[EngineHash]) {
        for &hash in hashes.iter().take(STEP) {
            self.names.prefetch(hash);
        }
    }

    fn first_cursor(&self, parent: Option<EngineHash>, context: u32) -> Cursor {
        let cursor = match parent {
            None => Cursor::Root,
            Some(parent) => self.cursor_after(parent, context),
        };
        if let Cursor::After(place) = cursor {
            self.holdings.prefetch_one(place.holding);
        }
        cursor
    }

    fn remove_copy(&mut self, hash: EngineHash, tier: Tier, report: &mut RemoveReport, pin: &Pin) {
        let Some((at, name)) = self.names.find(hash) else {
            report.unknown += 1;
            return;
        };
        let taken = self.names.take(hash, at, tier);
        match taken {
            Taken::Unknown => report.unknown += 1,
            Taken::Copies => report.copies += 1,
            Taken::LastOfTier | Taken::Last => report.removed += 1,
        }
        match (taken, name.place()) {
            (Taken::Last, None) => {
                self.waiting.remove(hash);
            }
            (Taken::Last | Taken::LastOfTier, Some(place)) => {
                if taken == Taken::Last {
                    self.unplaced(hash, place, pin);
                }
                self.leave_tier(place, tier, pin);
            }
            _ => {}
        }
    }

    /// The same as long as the worker holds the same: the index, the worker, the changes to it.
    fn version(&self) -> (usize, usize, u64) {
        let index = Arc::as_ptr(&self.index).addr();
        (index, self.id.index(), self.changes)
    }

    /// A pin for one operation that may change what is held, see [`Writer::begin_tending`].
    fn begin(&mut self, at: &Participant) -> Pin {
        self.changes += 1;
        self.begin_tending(at)
    }

    /// A pin for one operation, in which some of what former clears left is taken out.
    fn begin_tending(&mut self, at: &Participant) -> Pin {
        assert!(
            Arc::ptr_eq(at.index(), &self.index),
            "a participant of another index"
        );
        let pin = Pin::new(at.guard());
        if !self.leaving.is_done() {
            self.settle_some(clear::SLICE, &pin);
        }
        pin
    }

    /// The end of an operation: lookups see it all, the account knows what it took.
    fn end(&mut self, pin: &Pin) {
        self.holdings.publish();
        if self.waiting.orphans() == 0 {
            self.contexts.end_idle(&self.index, &pin.guard);
        }
        let windows = self.windows.as_ref().map_or(0, |windows| windows.bytes());
        let own = self.names.bytes() + self.holdings.bytes() + self.leaving.bytes() + windows;
        let (shared, runs) = pin.settle();
        self.account.settle(own, shared, runs);
    }

    /// A copy of a block that is known by name only.
    fn store_unplaced(&mut self, hash: EngineHash, tier: Tier, report: &mut StoreReport) {
        if let Some((at, name)) = self.names.find(hash) {
            report.copies += 1;
            self.add_copy(hash, at, name, tier);
        } else if self.waiting.is_full() {
            report.dropped += 1;
            self.incomplete = true;
        } else {
            report.waiting += 1;
            self.names.insert(hash, tier, None);
            self.waiting.insert(hash, Unplaced::NoContent);
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Not a participant's guard: a writer may be dropped on any thread.
        let index = Arc::clone(&self.index);
        let participant = index.participant();
        let pin = Pin::new(participant.guard());
        self.leave_all(&pin);
        let (shared, runs) = pin.settle();
        self.account.close(shared, runs);
        index.end_worker(self.id, &pin.guard);
    }
}

/// One block of a stored event.
#[derive(Clone, Copy, Debug)]
struct Block {
    hash: EngineHash,
    key: BlockKey,
    context: u32,
    says_extra: bool,
    tier: Tier,
    /// Blocks of the event from this one on: how long a new segment should be.
    following: u32,
}

fn check(event: &Store<'_>) -> Result<(), StoreError> {
    let (tokens, hashes) = (event.tokens.len(), event.hashes.len());
    let block_size = event.block_size;
    if tokens == 0 {
        return Ok(());
    }
    if block_size == 0 || block_size > BLOCK_SIZE_MAX {
        return Err(StoreError::BlockSize(block_size));
    }
    if hashes.checked_mul(block_size as usize) != Some(tokens) {
        return Err(StoreError::TokenCount {
            tokens,
            hashes,
            block_size,
        });
    }
    match event.extra.len() {
        extra if extra == 0 || extra == hashes => Ok(()),
        extra => Err(StoreError::ExtraCount { extra, hashes }),
    }
}
