//! A run: consecutive block keys, who holds how many of them, and the runs that branch off.
//!
//! # States
//!
//! `state` counts references: one for each [`Hold`] and one for each linked child. Who takes it to
//! zero tries to exchange zero for [`DEAD`]; success is final. A reference taken in between makes
//! the exchange fail, and the run lives on. A reference is refused once `DEAD` is set (the count
//! is then garbage). So: alive -> dead -> unlinked from its parent -> retired to the epoch.
//!
//! A dead run is unlinked by whoever meets it first, its killer or a writer that wants its place;
//! the one whose exchange empties the parent's slot also gives back the child's reference on the
//! parent. Only the killer retires it, after it is unlinked, so no new pin can reach it.
//!
//! # Who writes what
//!
//! `keys`: any writer, each word once, from zero to a key, in order of offsets. `holders`: a word
//! is claimed from zero by compare-and-swap and from then on written by the claiming worker alone.
//! `parent`, `branch`: before publication only.
use super::array::Words;
use super::children::Children;
use super::entry::Entry;
use crate::limits::FIRST_SEGMENT_MAX;
use crate::sync::{AtomicU64, Ordering, Watch};
use crate::types::BlockKey;
use crossbeam_epoch::{Guard, Shared};
use std::ptr::NonNull;

/// Set once in `state`, when the last reference is gone for good.
const DEAD: u64 = 1 << 63;

/// Holder entries in the first segment: most runs are held by a few workers.
const HOLDERS_FIRST: u32 = if cfg!(crossbeam_loom) { 1 } else { 4 };

/// One run. See the module's text for its life.
#[derive(Debug)]
pub(crate) struct Run {
    state: AtomicU64,
    /// The run it branches off, `None` for a root. Alive while this run is linked.
    parent: Option<NonNull<Run>>,
    /// The offset in the parent at which this run's first block would stand.
    branch: u32,
    keys: Words,
    holders: Words,
    children: Children,
    watch: Watch,
}

// SAFETY: `parent` is only dereferenced while the child's reference keeps it, or under a pin that
// began before that reference was given back; everything else is atomics.
unsafe impl Send for Run {}
// SAFETY: as above.
unsafe impl Sync for Run {}

/// What became of a claim on a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Claim {
    /// The slot holds the key asked for, by this claim or an earlier one.
    Ours,
    /// The slot holds another key: the chain diverges here.
    Other,
}

/// A counted reference on a run: as long as it exists, the run is alive. Must be given back with
/// [`Hold::release`]; a dropped one leaks its run.
#[derive(Debug)]
#[must_use]
pub(crate) struct Hold(NonNull<Run>);

// SAFETY: a reference count on a `Sync` value.
unsafe impl Send for Hold {}
// SAFETY: as above.
unsafe impl Sync for Hold {}

impl std::ops::Deref for Hold {
    type Target = Run;

    fn deref(&self) -> &Run {
        // SAFETY: the counted reference keeps the run from dying, so from being retired.
        unsafe { self.0.as_ref() }
    }
}

impl Hold {
    /// A new tree's root: no blocks, only children.
    pub(crate) fn root() -> Self {
        Self(NonNull::from(Box::leak(Box::new(Run::new(
            None,
            0,
            Words::new(0),
        )))))
    }

    /// The run's address: its identity while it is held.
    pub(crate) fn address(&self) -> usize {
        self.0.addr().get()
    }

    /// The child that begins with `key` at `branch`, found or made, with room for `first` blocks.
    /// Lock-free: a retry means that another writer linked or unlinked a run.
    pub(crate) fn child(&self, branch: u32, key: BlockKey, first: u32, guard: &Guard) -> Self {
        loop {
            match self.children.find(branch, key, guard) {
                Some(child) if child.try_reference() => return Self(NonNull::from(child)),
                Some(dead) => dead.unlink(guard),
                None => {}
            }
            let keys = Words::starting_with(key.get(), first.min(FIRST_SEGMENT_MAX));
            let new = Box::new(Run::new(Some(self.0), branch, keys));
            // Relaxed: this hold keeps the count above zero.
            self.state.fetch_add(1, Ordering::Relaxed);
            match self.children.insert(new, guard) {
                Ok(linked) => return Self(NonNull::from(linked)),
                Err(refused) => {
                    drop(refused);
                    self.dereference(guard);
                }
            }
        }
    }

    /// Frees a root that nobody else refers to; leaks it if somebody does, which cannot be: writers
    /// leave a tree's runs before they leave the tree.
    pub(crate) fn free(self) {
        // Acquire: pairs with the AcqRel in `dereference`: all that others did is over.
        if self.parent.is_none() && self.state.load(Ordering::Acquire) == 1 {
            // SAFETY: made by `root` from a box; this is the only reference, no child is linked, and
            // what borrowed the run through this hold is gone, since the hold was moved here.
            drop(unsafe { Box::from_raw(self.0.as_ptr()) });
        }
    }

    /// Gives the reference back; the last one kills the run, and perhaps its ancestors.
    pub(crate) fn release(self, guard: &Guard) {
        self.dereference(guard);
    }
}

impl Run {
    fn new(parent: Option<NonNull<Self>>, branch: u32, keys: Words) -> Self {
        Self {
            state: AtomicU64::new(1),
            parent,
            branch,
            keys,
            holders: Words::new(HOLDERS_FIRST),
            children: Children::empty(),
            watch: Watch::new(),
        }
    }

    pub(crate) fn branch(&self) -> u32 {
        self.watch.read();
        self.branch
    }

    /// The key of the block at `offset`, `None` past the end. O(log offset).
    pub(crate) fn key(&self, offset: u32) -> Option<BlockKey> {
        let mut before = 0;
        for segment in self.keys.segments() {
            let at = offset as usize - before;
            if at < segment.len() {
                // Relaxed: written once, and nothing is reached through it.
                let key = segment[at].load(Ordering::Relaxed);
                return (key != 0).then(|| BlockKey::new(key));
            }
            before += segment.len();
        }
        None
    }

    /// Segments of key slots, for walking; zero ends the run.
    pub(crate) fn key_segments(&self) -> impl Iterator<Item = &[AtomicU64]> {
        self.keys.segments()
    }

    /// Claims the slot at `offset`, whose predecessor is claimed already, for `key`. Wait-free.
    pub(crate) fn claim(&self, offset: u32, key: BlockKey) -> Claim {
        let slot = self.keys.at(offset);
        // Relaxed, both: the word itself is all that is communicated.
        let mut there = slot.load(Ordering::Relaxed);
        if there == 0 {
            match slot.compare_exchange(0, key.get(), Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Claim::Ours,
                Err(other) => there = other,
            }
        }
        if there == key.get() {
            Claim::Ours
        } else {
            Claim::Other
        }
    }

    /// The child that begins with `key` at `branch`.
    pub(crate) fn find_child<'g>(
        &'g self,
        branch: u32,
        key: BlockKey,
        guard: &'g Guard,
    ) -> Option<&'g Self> {
        self.children.find(branch, key, guard)
    }

    /// Enters a holder; the result is the entry's place for [`Run::set_entry`]. O(holders).
    pub(crate) fn claim_entry(&self, entry: Entry) -> u32 {
        let mut at = 0;
        for word in self.holders.segments().flatten() {
            if claim(word, entry) {
                return at;
            }
            at += 1;
        }
        while !claim(self.holders.at(at), entry) {
            at += 1;
        }
        at
    }

    /// Overwrites the caller's own entry.
    pub(crate) fn set_entry(&self, at: u32, entry: Entry) {
        // Release: pairs with the Acquire in `entries`.
        self.holders.at(at).store(entry.word(), Ordering::Release);
    }

    /// Takes the caller's own entry out.
    pub(crate) fn clear_entry(&self, at: u32) {
        // Release: pairs with the Acquire in `entries`.
        self.holders.at(at).store(0, Ordering::Release);
    }

    /// All entries at this moment, word by word.
    pub(crate) fn entries(&self) -> impl Iterator<Item = Entry> {
        self.holders
            .segments()
            .flatten()
            // Acquire: pairs with the Release in `claim`, `set_entry`, `clear_entry`.
            .filter_map(|word| Entry::from_word(word.load(Ordering::Acquire)))
    }

    /// Takes a reference unless the run is dead. Wait-free.
    fn try_reference(&self) -> bool {
        // Acquire: pairs with the AcqRel in `dereference`, so that a new holder sees what former
        // ones left.
        self.state.fetch_add(1, Ordering::Acquire) & DEAD == 0
    }

    /// Gives a reference back, and kills, unlinks and retires what nobody refers to any more.
    fn dereference(&self, guard: &Guard) {
        let mut run = self;
        // AcqRel: whoever kills it comes after all that other holders did (pairs with itself).
        while run.state.fetch_sub(1, Ordering::AcqRel) == 1 {
            // AcqRel: as above. Relaxed on failure: somebody took a reference, nothing to do.
            let killed = run
                .state
                .compare_exchange(0, DEAD, Ordering::AcqRel, Ordering::Relaxed);
            if killed.is_err() {
                return;
            }
            let parent = run.unlinked_from(guard);
            let retired = Shared::from(std::ptr::from_ref(run));
            // SAFETY: dead and unlinked, so no new pin reaches it; this thread alone killed it.
            unsafe { guard.defer_destroy(retired) };
            match parent {
                Some(parent) => run = parent,
                None => return,
            }
        }
    }

    /// Unlinks a dead run that stands in somebody's way.
    fn unlink(&self, guard: &Guard) {
        if let Some(parent) = self.unlinked_from(guard) {
            parent.dereference(guard);
        }
    }

    /// Unlinks a dead run; its parent, if this call did it: the caller owes it a dereference.
    fn unlinked_from<'g>(&self, guard: &'g Guard) -> Option<&'g Self> {
        let parent = self.parent?;
        // SAFETY: this run was linked, so its parent alive, when this thread's pin was already
        // in place: it was then found through the parent, or held by this thread.
        let parent = unsafe { parent.as_ref() };
        parent.children.remove(self, guard).then_some(parent)
    }
}

/// Claims an empty holder word.
fn claim(word: &AtomicU64, entry: Entry) -> bool {
    // Relaxed load: only a hint. Release: pairs with the Acquire in `entries`.
    word.load(Ordering::Relaxed) == 0
        && word
            .compare_exchange(0, entry.word(), Ordering::Release, Ordering::Relaxed)
            .is_ok()
}

impl Drop for Run {
    /// A run that dies has no children; should one ever have some, they may be deep: no recursion.
    fn drop(&mut self) {
        let mut below = Vec::new();
        self.children.take(&mut below);
        while let Some(mut run) = below.pop() {
            run.children.take(&mut below);
        }
    }
}
