//! The index and a thread's way into it.
use crate::budget::{Account, Budget, Ledgers};
use crate::contexts::{Contexts, TooManyContexts, TreeUse};
use crate::limits::{CONTEXTS_MAX, WORKERS_MAX};
use crate::sync::{AtomicU32, Ordering};
use crate::tree::Tree;
use crate::tree::keys::Keys;
use crate::tree::read::{self, Matches};
use crate::types::{Context, WorkerId};
use crate::worker_set::Marks;
use crate::writer::Writer;
use crossbeam_epoch::{Collector, Guard, LocalHandle};
use crossbeam_queue::SegQueue;
use std::cell::Cell;
use std::sync::Arc;

/// What an index is made with.
#[derive(Clone, Debug)]
pub struct IndexConfig {
    /// The seed of the block keys, [`crate::hash::SEED_DEFAULT`] unless the deployment has its own.
    pub hash_seed: u64,
    /// How many bytes it may take.
    pub budget: Budget,
    /// Contexts (model, adapter, block size) that it has room for, up to [`CONTEXTS_MAX`].
    pub contexts_max: usize,
}

impl Default for IndexConfig {
    fn default() -> Self {
        Self {
            hash_seed: crate::hash::SEED_DEFAULT,
            budget: Budget::default(),
            contexts_max: CONTEXTS_MAX,
        }
    }
}

/// The index has [`WORKERS_MAX`] workers already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the index has room for no more than {WORKERS_MAX} workers")]
pub struct TooManyWorkers;

/// Which worker holds which prefix, for all contexts.
#[derive(Debug)]
pub struct Index {
    hash_seed: u64,
    collector: Collector,
    contexts: Contexts,
    workers: Arc<Workers>,
    ledgers: Ledgers,
}

impl Index {
    /// An empty index.
    #[must_use]
    pub fn new(config: IndexConfig) -> Arc<Self> {
        let collector = Collector::new();
        Arc::new(Self {
            hash_seed: config.hash_seed,
            contexts: Contexts::new(config.contexts_max),
            collector,
            workers: Arc::new(Workers {
                ids: WorkerIds::default(),
                marks: Marks::new(),
            }),
            ledgers: Ledgers::new(config.budget),
        })
    }

    /// The seed of its block keys.
    #[must_use]
    pub fn hash_seed(&self) -> u64 {
        self.hash_seed
    }

    /// Registers the calling thread: one for each thread, kept as long as the thread works.
    #[must_use]
    pub fn participant(self: &Arc<Self>) -> Participant {
        Participant {
            handle: self.collector.register(),
            index: Arc::clone(self),
            hint: Cell::new(0),
        }
    }

    /// A new worker that serves `model` and holds nothing.
    pub fn writer(self: &Arc<Self>, model: &str) -> Result<Writer, TooManyWorkers> {
        let id = self.workers.ids.take().ok_or(TooManyWorkers)?;
        Ok(Writer::new(Arc::clone(self), id, model))
    }

    /// Numbers of workers that are taken, those included that lookups may still report. It may be off by what other
    /// threads take and free meanwhile.
    #[must_use]
    pub fn workers(&self) -> usize {
        let ids = &self.workers.ids;
        ids.bound().saturating_sub(ids.free.len())
    }

    pub(crate) fn begin_use(
        &self,
        context: Context<'_>,
        guard: &Guard,
    ) -> Result<TreeUse, TooManyContexts> {
        self.contexts.begin_use(context, guard)
    }

    /// Bytes taken: by runs and by what writers keep for themselves.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.ledgers.used()
    }

    /// The bound of the index's bytes, if it has one.
    #[must_use]
    pub fn bytes_max(&self) -> Option<u64> {
        self.ledgers.bytes_max()
    }

    /// Whether no more than a sixteenth of its bytes is left: time for [`Writer::trim`](crate::Writer::trim).
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        self.ledgers.is_crowded()
    }

    /// Runs (unbranched pieces of prefixes) that there are, without the roots of contexts. O(1): a sum that writers keep.
    #[must_use]
    pub fn runs(&self) -> u64 {
        self.ledgers.runs()
    }

    /// Blocks of workers that were forgotten to stay within the byte budget, since the start.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.ledgers.evicted()
    }

    /// Calls `each` with the model, the adapter ("" for none) and the block size of every context. O(contexts).
    pub fn each_context(&self, each: impl FnMut(&str, &str, u32)) {
        let guard = self.collector.register().pin();
        self.contexts.each(&guard, each);
    }

    /// Bytes taken for one model.
    #[must_use]
    pub fn model_bytes(&self, model: &str) -> u64 {
        self.ledgers
            .used_by(model, &self.collector.register().pin())
    }

    pub(crate) fn account(&self, model: &str) -> Account {
        self.ledgers
            .account(model, &self.collector.register().pin())
    }

    pub(crate) fn marks(&self) -> &Marks {
        &self.workers.marks
    }

    pub(crate) fn end_uses<'a>(&self, uses: impl Iterator<Item = &'a TreeUse>, guard: &Guard) {
        self.contexts.end_uses(uses, guard);
    }

    /// Frees a worker's number once no lookup that began before can still report it.
    pub(crate) fn end_worker(&self, worker: WorkerId, guard: &Guard) {
        let workers = Arc::clone(&self.workers);
        guard.defer(move || {
            workers.marks.windowed.set(worker, false);
            workers.marks.leaving.set(worker, false);
            workers.ids.free.push(worker);
        });
        guard.flush();
    }
}

/// What outlives a worker until no lookup can report it any more.
#[derive(Debug)]
struct Workers {
    ids: WorkerIds,
    marks: Marks,
}

/// The numbers of workers. A freed one rests until [`RESTING`] others were freed after it (or no fresh
/// number is left), so that a name that was looked up by number does not change under a reader's feet.
#[derive(Debug, Default)]
struct WorkerIds {
    /// Numbers never used are from here on.
    next: AtomicU32,
    free: SegQueue<WorkerId>,
}

/// Freed numbers that rest before the oldest is used again.
const RESTING: usize = 1024;

impl WorkerIds {
    fn take(&self) -> Option<WorkerId> {
        if self.free.len() > RESTING
            && let Some(worker) = self.free.pop()
        {
            return Some(worker);
        }
        // Relaxed: a count; what belongs to the number is published with its first entry.
        let fresh = self
            .next
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
                (next < WORKERS_MAX).then_some(next + 1)
            });
        fresh.ok().map(WorkerId).or_else(|| self.free.pop())
    }

    /// One more than the highest number in use.
    fn bound(&self) -> usize {
        // Relaxed: a lookup may miss a worker that comes while it runs.
        self.next.load(Ordering::Relaxed) as usize
    }
}

/// A thread's registration with the index's epochs.
#[derive(Debug)]
pub struct Participant {
    handle: LocalHandle,
    index: Arc<Index>,
    /// Where the context asked for last stands among all.
    hint: Cell<usize>,
}

impl Participant {
    /// Pins the epoch: what is read meanwhile is not freed. Hold it for one lookup or one batch.
    #[must_use]
    pub fn pin(&self) -> Pinned<'_> {
        Pinned {
            guard: self.handle.pin(),
            index: &self.index,
            hint: &self.hint,
        }
    }

    /// The index.
    #[must_use]
    pub fn index(&self) -> &Arc<Index> {
        &self.index
    }

    /// Hands retired memory to the collector and lets it free what nobody can reach any more.
    pub fn collect(&self) {
        self.handle.pin().flush();
    }

    pub(crate) fn guard(&self) -> Guard {
        self.handle.pin()
    }
}

/// A pinned epoch: the way to look things up.
#[derive(Debug)]
pub struct Pinned<'p> {
    guard: Guard,
    index: &'p Index,
    hint: &'p Cell<usize>,
}

impl Pinned<'_> {
    /// The contexts of (model, adapter): one for each block size in use. No allocation.
    pub fn contexts(
        &self,
        model: &str,
        adapter: Option<&str>,
    ) -> impl Iterator<Item = ContextView<'_>> {
        let contexts = &self.index.contexts;
        let trees = contexts.trees(model, adapter, self.hint, &self.guard);
        trees.iter().map(|tree| ContextView {
            tree,
            guard: &self.guard,
            workers: self.index.workers.ids.bound(),
            marks: &self.index.workers.marks,
        })
    }
}

/// One context, as of a pin.
#[derive(Debug)]
pub struct ContextView<'g> {
    tree: &'g Tree,
    guard: &'g Guard,
    workers: usize,
    marks: &'g Marks,
}

impl ContextView<'_> {
    /// Tokens per block.
    #[must_use]
    pub fn block_size(&self) -> u32 {
        self.tree.block_size
    }

    /// Replaces the contents of `out` by every worker that holds at least the first block.
    /// Allocates only if the fleet has grown since `out` was last used.
    pub fn lookup(&self, keys: &mut impl Keys, out: &mut Matches) {
        if let Some(root) = self.tree.root() {
            read::lookup(root, self.workers, self.marks, keys, out, self.guard);
        }
    }
}
