//! The runs that branch off a run: a lock-free hash trie keyed by (offset, first key).
//!
//! A slot is empty, a run, or a node of the next level (low bit set). The path of a run is made of
//! the bits of its first key mixed with its offset, then of its offset: two runs never share all of it,
//! and equal keys at different offsets part early. A run stands in the deepest slot that its path leads
//! to. Two runs that meet in a slot are pushed down: the slot is exchanged for a node that holds the
//! old one. At each moment exactly one slot can hold a given run, so two writers that insert the
//! same (offset, key) meet in it, and one of them loses.
//!
//! A node lives as runs do: `state` counts its occupied slots and the writers about to occupy
//! one; who takes it to zero tries to exchange zero for [`DEAD`], and a dead node accepts nobody.
//! It is then unlinked by its killer or by a writer that wants its place, whoever succeeds
//! gives back the slot that it occupied one level up, and its killer retires it. So nodes are at most as many
//! as the levels above live runs.
//!
//! Tried and dropped: linear probing with tombstones, which needs a second table during growth; nodes
//! that stay until their owner goes, which under a long turnover of keys become more without end.
use super::Pin;
use super::run::{OwnedRun, Run};
use crate::sync::{AtomicPtr, AtomicU32, Ordering, Watch, prefetch_lines};
use crate::types::BlockKey;
use crossbeam_epoch::{Guard, Shared};
use std::ptr::{self, NonNull};

const FAN: usize = if cfg!(crossbeam_loom) { 2 } else { 16 };
const BITS: u32 = FAN.trailing_zeros();

/// Set in a slot's pointer when it leads to a node.
const NODE: usize = 1;

/// Set once in a node's `state`, when its last slot is empty for good.
const DEAD: u32 = 1 << 31;

#[derive(Debug)]
struct Node {
    slots: [AtomicPtr<Run>; FAN],
    /// Occupied slots, and writers about to occupy one; or [`DEAD`].
    state: AtomicU32,
    /// The slot that leads here, and the node that it is part of (`None`: of a run).
    from: NonNull<AtomicPtr<Run>>,
    above: Option<NonNull<Node>>,
    watch: Watch,
}

// SAFETY: `from` and `above` are part of the node above or of the owning run. Those stay while this
// node is linked, since it occupies their slot; it is unlinked under pins from before that.
unsafe impl Send for Node {}
// SAFETY: as above; everything else is atomics.
unsafe impl Sync for Node {}

/// The children of one run.
#[derive(Debug)]
pub(crate) struct Children {
    top: AtomicPtr<Run>,
}

/// What a slot holds.
enum Slot<'a> {
    Empty,
    Run(&'a Run),
    Node(&'a Node),
}

/// An odd number with its bits well spread (2^64 divided by the golden ratio).
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

/// The digits of a run's place, level by level.
#[derive(Clone, Copy)]
struct Path {
    /// The first key, mixed with the offset; with the offset it determines the key.
    mixed: u64,
    branch: u64,
    level: u32,
}

impl Path {
    fn new(branch: u32, key: u64) -> Self {
        let branch = u64::from(branch);
        Self {
            mixed: key ^ branch.wrapping_mul(ODD),
            branch,
            level: 0,
        }
    }

    fn of(run: &Run) -> Self {
        Self::new(run.branch(), run.first_key())
    }

    fn leads_to(self, run: &Run) -> bool {
        let other = Self::of(run);
        other.mixed == self.mixed && other.branch == self.branch
    }

    fn digit(self) -> usize {
        let shift = self.level * BITS;
        let bits = match shift.checked_sub(u64::BITS) {
            None => self.mixed >> shift,
            Some(shift) => self.branch >> shift,
        };
        (bits as usize) % FAN
    }

    fn deeper(self) -> Self {
        Self {
            level: self.level + 1,
            ..self
        }
    }
}

fn tagged(node: *mut Node) -> *mut Run {
    node.cast::<Run>().map_addr(|address| address | NODE)
}

/// # Safety
/// `at` was loaded (Acquire) from a slot of a trie under a pin that lasts for `'a`: what it leads to
/// was linked then, so it is not freed during `'a`.
unsafe fn read<'a>(at: *mut Run) -> Slot<'a> {
    if at.is_null() {
        return Slot::Empty;
    }
    if at.addr() & NODE == 0 {
        // SAFETY: the caller's promise.
        return Slot::Run(unsafe { &*at });
    }
    let node = at.map_addr(|address| address & !NODE).cast::<Node>();
    // SAFETY: the caller's promise.
    let node = unsafe { &*node };
    node.watch.read();
    Slot::Node(node)
}

/// A walk down a trie: the slot it stands at, and the node that this is part of.
struct Walk<'g> {
    slot: &'g AtomicPtr<Run>,
    node: Option<&'g Node>,
    path: Path,
}

impl<'g> Walk<'g> {
    /// What the slot holds, after going down to the deepest one on the path.
    #[inline]
    fn deepest(&mut self, _pinned: &'g Guard) -> (*mut Run, Option<&'g Run>) {
        loop {
            // Acquire: pairs with the Releases of `insert` and `push_down`.
            let at = self.slot.load(Ordering::Acquire);
            // SAFETY: loaded from this trie, under the pin that the caller shows.
            match unsafe { read(at) } {
                Slot::Empty => return (at, None),
                Slot::Run(run) => {
                    // Header and first keys.
                    prefetch_lines(at.cast_const().cast(), 4);
                    return (at, Some(run));
                }
                Slot::Node(node) => {
                    self.slot = &node.slots[self.path.digit()];
                    self.node = Some(node);
                    self.path = self.path.deeper();
                }
            }
        }
    }
}

impl Children {
    pub(crate) fn empty() -> Self {
        Self {
            top: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Asks for the first node or run.
    #[inline]
    pub(crate) fn prefetch(&self) {
        // Relaxed: nothing is read there.
        let at = self.top.load(Ordering::Relaxed);
        if !at.is_null() {
            prefetch_lines(at.map_addr(|address| address & !NODE).cast(), 2);
        }
    }

    fn walk<'g>(&'g self, path: Path) -> Walk<'g> {
        Walk {
            slot: &self.top,
            node: None,
            path,
        }
    }

    /// The child at (branch, key); it may be dead. O(log children).
    #[inline]
    pub(crate) fn find<'g>(
        &'g self,
        branch: u32,
        key: BlockKey,
        guard: &'g Guard,
    ) -> Option<&'g Run> {
        let path = Path::new(branch, key.get());
        let (_, run) = self.walk(path).deepest(guard);
        run.filter(|run| path.leads_to(run))
    }

    /// Links a run; given back if its place is taken. Lock-free.
    pub(crate) fn insert(&self, run: OwnedRun, pin: &Pin) -> Result<NonNull<Run>, OwnedRun> {
        let path = Path::of(&run);
        let new = NonNull::from(&*run);
        let mut walk = self.walk(path);
        loop {
            match walk.deepest(&pin.guard) {
                (_, Some(there)) if path.leads_to(there) => return Err(run),
                (_, Some(there)) => push_down(&walk, there, pin),
                (empty, None) => {
                    if walk.node.is_some_and(|node| !node.try_reference()) {
                        if let Some(dead) = walk.node {
                            dead.unlink(pin);
                        }
                        walk = self.walk(path);
                        continue;
                    }
                    let raw = new.as_ptr();
                    // Release: pairs with the Acquire in `deepest`. Relaxed on failure: loaded again.
                    let linked = walk.slot.compare_exchange(
                        empty,
                        raw,
                        Ordering::Release,
                        Ordering::Relaxed,
                    );
                    if linked.is_ok() {
                        let _linked = run.into_raw();
                        return Ok(new);
                    }
                    if let Some(node) = walk.node {
                        node.dereference(pin);
                    }
                }
            }
        }
    }

    /// Unlinks a run; whether this call did it. Lock-free.
    pub(crate) fn remove(&self, run: &Run, pin: &Pin) -> bool {
        let mut walk = self.walk(Path::of(run));
        loop {
            let (at, there) = walk.deepest(&pin.guard);
            if !there.is_some_and(|there| ptr::eq(there, run)) {
                return false;
            }
            // Relaxed: an empty slot tells nobody anything. On failure: it was pushed down or
            // unlinked, which the next load shows.
            let null = ptr::null_mut();
            let unlinked =
                walk.slot
                    .compare_exchange(at, null, Ordering::Relaxed, Ordering::Relaxed);
            if unlinked.is_ok() {
                if let Some(node) = walk.node {
                    node.dereference(pin);
                }
                return true;
            }
        }
    }

    /// Moves all runs out, when nobody else can reach them.
    pub(crate) fn take(&mut self, out: &mut Vec<OwnedRun>) {
        let top = std::mem::replace(&mut self.top, AtomicPtr::new(ptr::null_mut()));
        take_slot(&top, out);
    }
}

impl Node {
    /// About to occupy a slot, unless the node is dead. Wait-free.
    fn try_reference(&self) -> bool {
        // Relaxed: as in `dereference`.
        self.state.fetch_add(1, Ordering::Relaxed) & DEAD == 0
    }

    /// A slot is empty again; the last one kills the node, and perhaps those above.
    fn dereference(&self, pin: &Pin) {
        let mut node = self;
        // Relaxed, all: a count, in which whoever empties a slot comes after whoever filled it, because
        // the slot says so. Nothing is read because of it, and a node is used under pins only, so its
        // end is ordered by the epochs.
        while node.state.fetch_sub(1, Ordering::Relaxed) == 1 {
            // On failure somebody is about to occupy a slot.
            let killed = node
                .state
                .compare_exchange(0, DEAD, Ordering::Relaxed, Ordering::Relaxed);
            if killed.is_err() {
                return;
            }
            let above = node.unlinked_from();
            pin.gave_back(size_of::<Self>());
            let retired = Shared::from(ptr::from_ref(node));
            // SAFETY: made by `push_down` from a box; dead and unlinked, so no new pin reaches it;
            // this thread alone killed it.
            unsafe { pin.guard.defer_destroy(retired) };
            match above {
                Some(above) => node = above,
                None => return,
            }
        }
    }

    /// Unlinks a dead node that stands in somebody's way.
    fn unlink(&self, pin: &Pin) {
        if let Some(above) = self.unlinked_from() {
            above.dereference(pin);
        }
    }

    /// Unlinks a dead node; the node above, if there is one and this call did it: the caller owes it a
    /// dereference.
    fn unlinked_from(&self) -> Option<&Self> {
        // SAFETY: part of the node above or of the run, see `Send`: linked when this thread's pin
        // was already in place.
        let from = unsafe { self.from.as_ref() };
        let at = tagged(ptr::from_ref(self).cast_mut());
        // Relaxed: an empty slot tells nobody anything; on failure it is unlinked already.
        let unlinked =
            from.compare_exchange(at, ptr::null_mut(), Ordering::Relaxed, Ordering::Relaxed);
        if unlinked.is_err() {
            return None;
        }
        // SAFETY: as above.
        self.above.map(|above| unsafe { above.as_ref() })
    }
}

/// Exchanges the run in the walk's slot for a node that holds it.
fn push_down(walk: &Walk<'_>, there: &Run, pin: &Pin) {
    let digit = Path {
        level: walk.path.level,
        ..Path::of(there)
    }
    .digit();
    let node = Node {
        slots: std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())),
        state: AtomicU32::new(1),
        from: NonNull::from(walk.slot),
        above: walk.node.map(NonNull::from),
        watch: Watch::new(),
    };
    let at = ptr::from_ref(there).cast_mut();
    // Relaxed: the node is not shared yet.
    node.slots[digit].store(at, Ordering::Relaxed);
    let node = Box::into_raw(Box::new(node));
    // Release: pairs with the Acquire in `deepest`. Relaxed on failure: the slot is loaded again.
    let exchanged =
        walk.slot
            .compare_exchange(at, tagged(node), Ordering::Release, Ordering::Relaxed);
    if exchanged.is_ok() {
        pin.took(size_of::<Node>());
    } else {
        // SAFETY: never published; it does not own the run that it points to.
        drop(unsafe { Box::from_raw(node) });
    }
}

/// Frees the nodes below a slot that nobody else can reach; the runs go to `out`. The depth is
/// that of a path, so recursion is bounded.
fn take_slot(slot: &AtomicPtr<Run>, out: &mut Vec<OwnedRun>) {
    // Relaxed: the caller is the only owner.
    let Some(at) = NonNull::new(slot.load(Ordering::Relaxed)) else {
        return;
    };
    if at.addr().get() & NODE == 0 {
        // SAFETY: linked runs are owned by their slot, and nobody else can reach it.
        out.push(unsafe { OwnedRun::from_raw(at) });
        return;
    }
    let node = at.as_ptr().map_addr(|address| address & !NODE);
    // SAFETY: nodes are owned by their slot, and nobody else can reach it.
    let node = unsafe { Box::from_raw(node.cast::<Node>()) };
    for slot in &node.slots {
        take_slot(slot, out);
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        let mut runs = Vec::new();
        self.take(&mut runs);
    }
}
