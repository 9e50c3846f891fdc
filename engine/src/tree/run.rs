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
//! Keys: any writer, each word once, from zero to a key, in order of offsets. Holders and windows: a
//! word is claimed from zero by compare-and-swap and from then on written by the claiming worker
//! alone. `parent`, `branch`: before publication only.
//!
//! # Layout
//!
//! What a lookup needs to get through is in the first line, the first holders and keys follow in
//! the next ones, all in one allocation.
use super::array::{Chain, Segment};
use super::children::Children;
use super::entry::Entry;
use super::{Pin, tail};
use crate::limits::FIRST_SEGMENT_MAX;
use crate::sync::{AtomicPtr, AtomicU32, AtomicU64, Ordering, Watch, prefetch_lines};
use crate::types::BlockKey;
use crossbeam_epoch::Guard;
use std::ptr::{self, NonNull};

/// Set once in `state`, when the last reference is gone for good.
const DEAD: u64 = 1 << 63;

/// Holder entries in line: most runs are held by a few workers.
const HOLDERS_FIRST: u32 = if cfg!(crossbeam_loom) { 1 } else { 4 };

/// Fewest holder entries in a further segment, so that 32 are in line or in the first one. A prompt that
/// more than a few workers share is soon shared by many.
const HOLDERS_SECOND: u32 = if cfg!(crossbeam_loom) { 1 } else { 28 };

/// Further segments of keys whose addresses stand in the header, so that a lookup can ask for all at once
/// instead of one after the other.
const SEGMENTS: usize = if cfg!(crossbeam_loom) { 1 } else { 4 };

/// Fewest window words in a segment.
const WINDOWS_FIRST: u32 = if cfg!(crossbeam_loom) { 1 } else { 4 };

/// One run. See the module's text for its life.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Run {
    /// The run it branches off, `None` for a root. Alive while this run is linked.
    parent: Option<NonNull<Run>>,
    /// The words behind this header: the first segment of keys.
    first: NonNull<AtomicU64>,
    first_len: u32,
    /// The offset in the parent at which this run's first block would stand.
    branch: u32,
    children: Children,
    more_holders: Chain,
    more_keys: [Chain; SEGMENTS],
    windows: Chain,
    /// Entries taken out so far. A lookup that sees it unchanged has seen no worker twice.
    left: AtomicU32,
    /// Entries in use: a hint where to look for a free one.
    used: AtomicU32,
    holders: [AtomicU64; HOLDERS_FIRST as usize],
    state: AtomicU64,
    /// Entries ever claimed at the end: a hint like `used`.
    ends: AtomicU32,
    /// The entry that was taken out last, or null: a hint like `used`.
    vacant: AtomicPtr<AtomicU64>,
    watch: Watch,
}

#[cfg(not(crossbeam_loom))]
const _: () = assert!(size_of::<Run>() == 144);

// SAFETY: `parent` is only dereferenced while the child's reference keeps it, or under a pin that
// began before that reference was given back; `first` leads to atomics that live as long as the run;
// everything else is atomics.
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

/// A run that nobody else knows of yet, or any more.
#[derive(Debug)]
pub(crate) struct OwnedRun(NonNull<Run>);

impl OwnedRun {
    fn new(parent: Option<NonNull<Run>>, branch: u32, first: Option<BlockKey>, len: u32) -> Self {
        let run = tail::allocate(len, |words| Run {
            parent,
            first: words,
            first_len: len,
            branch,
            children: Children::empty(),
            more_holders: Chain::empty(),
            more_keys: std::array::from_fn(|_| Chain::empty()),
            windows: Chain::empty(),
            left: AtomicU32::new(0),
            used: AtomicU32::new(0),
            holders: std::array::from_fn(|_| AtomicU64::new(0)),
            state: AtomicU64::new(1),
            ends: AtomicU32::new(0),
            vacant: AtomicPtr::new(ptr::null_mut()),
            watch: Watch::new(),
        });
        let this = Self(run);
        if let (Some(key), Some(word)) = (first, this.first_keys().first()) {
            // Relaxed: not shared yet; whoever publishes the run releases it.
            word.store(key.get(), Ordering::Relaxed);
        }
        this
    }

    /// Hands the run over to the slot that links it.
    pub(crate) fn into_raw(self) -> *mut Run {
        let run = self.0.as_ptr();
        std::mem::forget(self);
        run
    }

    /// # Safety
    /// `run` comes from [`OwnedRun::into_raw`], and the caller is now its only user.
    pub(crate) unsafe fn from_raw(run: NonNull<Run>) -> Self {
        Self(run)
    }
}

impl std::ops::Deref for OwnedRun {
    type Target = Run;

    fn deref(&self) -> &Run {
        // SAFETY: owned, so not freed.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for OwnedRun {
    /// A run that dies has no children; should one ever have some, they may be deep: no recursion.
    fn drop(&mut self) {
        let mut below = Vec::new();
        // SAFETY: owned by this value alone.
        unsafe { self.0.as_mut() }.children.take(&mut below);
        while let Some(run) = below.pop() {
            // SAFETY: taken from its slot, which was its only owner.
            unsafe { &mut *run.0.as_ptr() }.children.take(&mut below);
        }
        let len = self.first_len;
        // SAFETY: owned by this value alone, and made by `new` with this length.
        unsafe { tail::free(self.0, len) };
    }
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
        Self(OwnedRun::new(None, 0, None, 0).into_non_null())
    }

    /// The runs that it branches off, the nearest first, the root last.
    pub(crate) fn ancestors(&self) -> impl Iterator<Item = &Run> {
        let above = |run: &&Run| {
            let parent = run.parent?;
            // SAFETY: a run that is held is alive, so linked, and as long as it is, its reference keeps its
            // parent alive; so do theirs.
            Some(unsafe { parent.as_ref() })
        };
        std::iter::successors(Some(&**self), above).skip(1)
    }

    /// The child that begins with `key` at `branch`, found or made, with room for `first` blocks.
    /// Lock-free: a retry means that another writer linked or unlinked a run.
    pub(crate) fn child(&self, branch: u32, key: BlockKey, first: u32, pin: &Pin) -> Self {
        loop {
            match self.children.find(branch, key, &pin.guard) {
                Some(child) if child.try_reference() => return Self(NonNull::from(child)),
                Some(dead) => dead.unlink(pin),
                None => {}
            }
            let len = first.clamp(1, FIRST_SEGMENT_MAX);
            let new = OwnedRun::new(Some(self.0), branch, Some(key), len);
            // Relaxed: this hold keeps the count above zero.
            self.state.fetch_add(1, Ordering::Relaxed);
            match self.children.insert(new, pin) {
                Ok(linked) => {
                    pin.took_run(tail::bytes::<Run>(len));
                    return Self(linked);
                }
                Err(refused) => {
                    drop(refused);
                    self.dereference(pin);
                }
            }
        }
    }

    /// Frees a root that nobody else refers to; leaks it if somebody does, which cannot be: writers
    /// leave a tree's runs before they leave the tree.
    pub(crate) fn free(self) {
        // Acquire: pairs with the Release in `dereference`: all that others did is over.
        if self.parent.is_none() && self.state.load(Ordering::Acquire) == 1 {
            // SAFETY: made by `root`; this is the only reference, no child is linked, and what
            // borrowed the run through this hold is gone, since the hold was moved here.
            drop(unsafe { OwnedRun::from_raw(self.0) });
        }
    }

    /// Gives the reference back; the last one kills the run, and perhaps its ancestors.
    pub(crate) fn release(self, pin: &Pin) {
        self.dereference(pin);
    }
}

impl OwnedRun {
    fn into_non_null(self) -> NonNull<Run> {
        let run = self.0;
        std::mem::forget(self);
        run
    }
}

impl Run {
    pub(crate) fn branch(&self) -> u32 {
        self.watch.read();
        self.branch
    }

    /// Its address: its identity while it is held.
    pub(crate) fn address(&self) -> usize {
        ptr::from_ref(self).addr()
    }

    /// The address of the run that it branches off.
    pub(crate) fn parent_address(&self) -> Option<usize> {
        self.parent.map(|parent| parent.addr().get())
    }

    /// The first segment of key slots.
    pub(crate) fn first_keys(&self) -> &[AtomicU64] {
        self.watch.read();
        // SAFETY: made with `first_len` words behind it, which live as long as it does.
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.first_len as usize) }
    }

    /// Further segments of key slots; zero ends the run.
    pub(crate) fn more_keys(&self) -> impl Iterator<Item = &Segment> {
        let inline = self.more_keys.iter().map_while(Chain::next);
        let last = self.more_keys.last().and_then(Chain::next);
        inline.chain(last.into_iter().flat_map(|last| last.next.iter()))
    }

    /// The keys of blocks `[from, to)`, all of them claimed; zero for one that is not.
    pub(crate) fn keys(&self, from: u32, to: u32) -> impl Iterator<Item = u64> {
        let mut start = 0;
        let more = self.more_keys().map(Segment::words);
        let segments = std::iter::once(self.first_keys()).chain(more);
        let parts = segments.map_while(move |words| {
            let end = start + words.len() as u32;
            let part = from.clamp(start, end) - start..to.clamp(start, end) - start;
            let begun = start < to;
            start = end;
            begun.then(|| &words[part.start as usize..part.end as usize])
        });
        // Relaxed: written once, and nothing is reached through it.
        parts.flatten().map(|word| word.load(Ordering::Relaxed))
    }

    /// The first key; there before the run is linked. Zero for a root.
    pub(crate) fn first_key(&self) -> u64 {
        // Relaxed: written before the run was published.
        let first = self.first_keys().first();
        first.map_or(0, |word| word.load(Ordering::Relaxed))
    }

    /// The segment with the slot at `offset` and where it begins, made if needed. Then it is long enough
    /// for the `following` blocks from there, but neither longer than all before it nor much shorter.
    /// O(log offset).
    pub(crate) fn segment(&self, offset: u32, following: u32, pin: &Pin) -> (&[AtomicU64], u32) {
        let (mut words, mut start) = (self.first_keys(), 0);
        let (mut inline, mut next) = (self.more_keys.iter(), None);
        while offset - start >= words.len() as u32 {
            start += words.len() as u32;
            let most = start.max(if cfg!(crossbeam_loom) { 1 } else { 8 });
            // The fewer segments may still come in the header, the longer they are.
            let least = most / if inline.len() > 1 { 3 } else { 1 };
            let Some(chain) = inline.next().or(next) else {
                unreachable!("each segment has a next one");
            };
            let segment = chain.next_or_grow(following.clamp(least.max(1), most), pin);
            words = segment.words();
            next = Some(&segment.next);
        }
        (words, start)
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

    /// Enters a holder. O(1) if nobody has left, or one has left just before; else O(holders).
    pub(crate) fn claim_entry(&self, entry: Entry, pin: &Pin) -> &AtomicU64 {
        // Acquire: pairs with the Release in `clear_entry`, whose thread has seen the word's segment.
        let vacant = self.vacant.swap(ptr::null_mut(), Ordering::Acquire);
        // SAFETY: null, or one of this run's words, which live as long as it does.
        if let Some(word) = unsafe { vacant.as_ref() }
            && claim(word, entry.word())
        {
            // Relaxed: a hint.
            self.used.fetch_add(1, Ordering::Relaxed);
            return word;
        }
        // Relaxed, all: hints.
        let used = self.used.fetch_add(1, Ordering::Relaxed);
        if used < self.ends.load(Ordering::Relaxed)
            && let Some(word) = self.holders().find(|word| claim(word, entry.word()))
        {
            return word;
        }
        loop {
            let at = self.ends.fetch_add(1, Ordering::Relaxed);
            let word = self.holder(at, pin);
            if claim(word, entry.word()) {
                return word;
            }
        }
    }

    /// Takes the caller's own entry out.
    pub(crate) fn clear_entry(&self, entry: &AtomicU64) {
        // Relaxed: the count below releases it, and a zero tells nobody anything.
        entry.store(0, Ordering::Relaxed);
        // Release: pairs with the Acquire in `departures`: who does not see the count sees the entry gone.
        self.left.fetch_add(1, Ordering::Release);
        // Relaxed: a hint.
        self.used.fetch_sub(1, Ordering::Relaxed);
        let vacant = ptr::from_ref(entry).cast_mut();
        // Release: pairs with the Acquire in `claim_entry`.
        self.vacant.store(vacant, Ordering::Release);
    }

    /// How many holders have left so far. The same before and after reading the entries: no worker
    /// was seen twice, at its old entry and at a new one.
    pub(crate) fn departures(&self) -> u32 {
        // Acquire: pairs with the Release in `clear_entry`.
        self.left.load(Ordering::Acquire)
    }

    /// All holder words.
    pub(crate) fn holders(&self) -> impl Iterator<Item = &AtomicU64> {
        let more = self.more_holders.iter().flat_map(Segment::words);
        self.holders.iter().chain(more)
    }

    /// The holder words in line, and the further ones.
    pub(crate) fn holder_segments(&self) -> (&[AtomicU64], &Chain) {
        (&self.holders, &self.more_holders)
    }

    fn holder(&self, at: u32, pin: &Pin) -> &AtomicU64 {
        let (mut words, mut start) = (&self.holders[..], 0);
        let mut chain = &self.more_holders;
        while at - start >= words.len() as u32 {
            start += words.len() as u32;
            let len = if start == HOLDERS_FIRST {
                HOLDERS_SECOND
            } else {
                start
            };
            let segment = chain.next_or_grow(len, pin);
            words = segment.words();
            chain = &segment.next;
        }
        &words[(at - start) as usize]
    }

    /// Window words, of all workers.
    pub(crate) fn windows(&self) -> impl Iterator<Item = &AtomicU64> {
        self.windows.iter().flat_map(Segment::words)
    }

    /// Enters a window word. O(words).
    pub(crate) fn claim_window(&self, word: u64, pin: &Pin) -> &AtomicU64 {
        let (mut chain, mut before) = (&self.windows, 0);
        loop {
            let segment = chain.next_or_grow(WINDOWS_FIRST.max(before), pin);
            if let Some(free) = segment.words().iter().find(|free| claim(free, word)) {
                return free;
            }
            before += segment.words().len() as u32;
            chain = &segment.next;
        }
    }

    /// Asks for what a lookup that has come here will read beside the first keys.
    #[inline]
    pub(crate) fn prefetch(&self) {
        let lines = self.first_len as usize / (64 / size_of::<u64>());
        prefetch_lines(self.first.as_ptr().cast_const().cast(), lines);
        self.more_keys[0].prefetch(3);
        self.more_holders.prefetch(4);
        self.children.prefetch();
    }

    /// Asks for what a worker that leaves will write.
    #[inline]
    pub(crate) fn prefetch_state(&self) {
        prefetch_lines(ptr::from_ref(&self.state).cast(), 1);
        prefetch_lines(ptr::from_ref(&self.left).cast(), 1);
    }

    /// Asks for the further segments of keys.
    #[inline]
    pub(crate) fn prefetch_keys(&self) {
        for chain in self.more_keys.iter().skip(1) {
            chain.prefetch(3);
        }
    }

    /// Takes a reference unless the run is dead. Wait-free.
    fn try_reference(&self) -> bool {
        // Relaxed: the run was published by the slot in which it was found; `dereference` orders its end.
        self.state.fetch_add(1, Ordering::Relaxed) & DEAD == 0
    }

    /// Gives a reference back, and kills, unlinks and retires what nobody refers to any more.
    fn dereference(&self, pin: &Pin) {
        let mut run = self;
        // Release: pairs with the Acquire below and in `Hold::free`.
        while run.state.fetch_sub(1, Ordering::Release) == 1 {
            // Acquire: pairs with the Release above: whoever kills it sees all that other holders did, so
            // that all segments are given back. Relaxed on failure: somebody took a reference.
            let killed = run
                .state
                .compare_exchange(0, DEAD, Ordering::Acquire, Ordering::Relaxed);
            if killed.is_err() {
                return;
            }
            let parent = run.unlinked_from(pin);
            pin.gave_back_run(run.bytes());
            run.retire(&pin.guard);
            match parent {
                Some(parent) => run = parent,
                None => return,
            }
        }
    }

    fn bytes(&self) -> usize {
        tail::bytes::<Self>(self.first_len)
            + self.key_bytes()
            + self.more_holders.bytes()
            + self.windows.bytes()
    }

    fn key_bytes(&self) -> usize {
        // The last chain counts what follows it, the others are of one segment.
        self.more_keys.iter().map(Chain::bytes).sum()
    }

    /// Leaves a dead and unlinked run to the epoch. By its killer only.
    fn retire(&self, guard: &Guard) {
        /// A run on its way out, sent to whichever thread collects it.
        struct Dead(NonNull<Run>);
        // SAFETY: `Run` is `Send` and `Sync`.
        unsafe impl Send for Dead {}
        let dead = Dead(NonNull::from(self));
        let free = move || {
            let dead = dead;
            // SAFETY: linked runs come from `into_raw`. This one is dead and unlinked, no pin
            // from before is left, and its one killer retires it once.
            drop(unsafe { OwnedRun::from_raw(dead.0) });
        };
        // SAFETY: the closure owns what it touches, see above.
        unsafe { guard.defer_unchecked(free) };
    }

    /// Unlinks a dead run that stands in somebody's way.
    fn unlink(&self, pin: &Pin) {
        if let Some(parent) = self.unlinked_from(pin) {
            parent.dereference(pin);
        }
    }

    /// Unlinks a dead run; its parent, if this call did it: the caller owes it a dereference.
    fn unlinked_from<'g>(&self, pin: &'g Pin) -> Option<&'g Self> {
        let parent = self.parent?;
        // SAFETY: this run was linked, so its parent alive, when this thread's pin was already
        // in place: it was then found through the parent, or held by this thread.
        let parent = unsafe { parent.as_ref() };
        parent.children.remove(self, pin).then_some(parent)
    }
}

/// Claims an empty word.
fn claim(word: &AtomicU64, value: u64) -> bool {
    // Relaxed load: only a hint. Release: as in `Seat::set`, for entries that have blocks at once.
    word.load(Ordering::Relaxed) == 0
        && word
            .compare_exchange(0, value, Ordering::Release, Ordering::Relaxed)
            .is_ok()
}
