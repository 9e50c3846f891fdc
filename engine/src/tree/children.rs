//! The runs that branch off a run: a lock-free hash trie keyed by (offset, first key).
//!
//! A slot is empty, a run, or a node of the next level (low bit set). The path of a run is made of
//! the bits of its first key mixed with its offset, then of its offset: two runs never share all of it,
//! and equal keys at different offsets part early. A run stands
//! in the deepest slot that its path leads to. Two runs that meet in a slot are pushed down: the
//! slot is exchanged for a node that holds the old one. Nodes are never taken away before their
//! owner goes, so at each moment exactly one slot can hold a given run: two writers that insert the
//! same (offset, key) meet in it, and one of them loses.
//!
//! Tried and dropped: linear probing with tombstones, which needs a second table during growth.
use super::run::Run;
use crate::sync::{AtomicPtr, Ordering, Watch};
use crate::types::BlockKey;
use crossbeam_epoch::Guard;
use std::ptr;

const FAN: usize = if cfg!(crossbeam_loom) { 2 } else { 16 };
const BITS: u32 = FAN.trailing_zeros();

/// Set in a slot's pointer when it leads to a node.
const NODE: usize = 1;

#[derive(Debug)]
struct Node {
    slots: [AtomicPtr<Run>; FAN],
    watch: Watch,
}

impl Node {
    fn empty() -> Self {
        Self {
            slots: std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())),
            watch: Watch::new(),
        }
    }
}

/// The children of one run.
#[derive(Debug)]
pub(crate) struct Children {
    /// Null, or a node with the low bit set.
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
    fn new(branch: u32, key: BlockKey) -> Self {
        let branch = u64::from(branch);
        Self {
            mixed: key.get() ^ branch.wrapping_mul(ODD),
            branch,
            level: 0,
        }
    }

    fn of(run: &Run) -> Self {
        // A child's first key is there before it is linked.
        let key = run.key(0).unwrap_or(BlockKey::new(0));
        Self::new(run.branch(), key)
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
/// `at` was loaded (Acquire) from a slot of a trie that outlives `'a`, and a run that it points to
/// is not freed during `'a`: the caller is pinned since before the load.
unsafe fn read<'a>(at: *mut Run) -> Slot<'a> {
    if at.is_null() {
        return Slot::Empty;
    }
    if at.addr() & NODE == 0 {
        // SAFETY: the caller's promise.
        return Slot::Run(unsafe { &*at });
    }
    let node = at.map_addr(|address| address & !NODE).cast::<Node>();
    // SAFETY: nodes live as long as their trie.
    let node = unsafe { &*node };
    node.watch.read();
    Slot::Node(node)
}

impl Children {
    pub(crate) fn empty() -> Self {
        Self {
            top: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// The child at (branch, key); it may be dead. O(log children).
    pub(crate) fn find<'g>(
        &'g self,
        branch: u32,
        key: BlockKey,
        _guard: &'g Guard,
    ) -> Option<&'g Run> {
        let mut path = Path::new(branch, key);
        let mut slot = &self.top;
        loop {
            // Acquire: pairs with the Release in `insert`.
            let at = slot.load(Ordering::Acquire);
            // SAFETY: loaded under the pin from this trie.
            match unsafe { read(at) } {
                Slot::Empty => return None,
                Slot::Run(run) => return path.leads_to(run).then_some(run),
                Slot::Node(node) => {
                    slot = &node.slots[path.digit()];
                    path = path.deeper();
                }
            }
        }
    }

    /// Links a run; given back if its place is taken. Lock-free.
    pub(crate) fn insert<'g>(
        &'g self,
        run: Box<Run>,
        _guard: &'g Guard,
    ) -> Result<&'g Run, Box<Run>> {
        let mut path = Path::of(&run);
        let new = Box::into_raw(run);
        let mut slot = self.top_node();
        loop {
            // Acquire: pairs with the Releases below.
            let at = slot.load(Ordering::Acquire);
            // SAFETY: loaded under the pin from this trie.
            match unsafe { read(at) } {
                Slot::Node(node) => {
                    slot = &node.slots[path.digit()];
                    path = path.deeper();
                }
                Slot::Empty => {
                    // Release: pairs with the Acquire in `find`. Relaxed on failure: loaded again.
                    let linked =
                        slot.compare_exchange(at, new, Ordering::Release, Ordering::Relaxed);
                    if linked.is_ok() {
                        // SAFETY: linked now, and retired at the earliest after the caller's pin.
                        return Ok(unsafe { &*new });
                    }
                }
                Slot::Run(there) if path.leads_to(there) => {
                    // SAFETY: never published, so this is the only owner.
                    return Err(unsafe { Box::from_raw(new) });
                }
                Slot::Run(there) => push_down(slot, there, path),
            }
        }
    }

    /// Unlinks a run; whether this call did it. Lock-free.
    pub(crate) fn remove(&self, run: &Run, _guard: &Guard) -> bool {
        let mut path = Path::of(run);
        let mut slot = &self.top;
        loop {
            // Acquire: pairs with the Release in `insert`.
            let at = slot.load(Ordering::Acquire);
            // SAFETY: loaded under the pin from this trie.
            match unsafe { read(at) } {
                Slot::Node(node) => {
                    slot = &node.slots[path.digit()];
                    path = path.deeper();
                }
                Slot::Run(there) if ptr::eq(there, run) => {
                    // Release: what was done to the run comes before it is out of reach. Relaxed
                    // on failure: it was pushed down or unlinked, which the next load shows.
                    let null = ptr::null_mut();
                    let unlinked =
                        slot.compare_exchange(at, null, Ordering::Release, Ordering::Relaxed);
                    if unlinked.is_ok() {
                        return true;
                    }
                }
                Slot::Empty | Slot::Run(_) => return false,
            }
        }
    }

    /// Moves all runs out, when nobody else can reach them.
    pub(crate) fn take(&mut self, out: &mut Vec<Run>) {
        let top = std::mem::replace(&mut self.top, AtomicPtr::new(ptr::null_mut()));
        take_slot(&top, out);
    }

    /// The top slot, with its node made.
    fn top_node(&self) -> &AtomicPtr<Run> {
        // Relaxed: only asks whether there is a node; `insert` loads it again.
        if self.top.load(Ordering::Relaxed).is_null() {
            exchange_for_node(&self.top, ptr::null_mut(), Node::empty());
        }
        &self.top
    }
}

/// Exchanges the run in a slot for a node that holds it. `path` stands at the node's level.
fn push_down(slot: &AtomicPtr<Run>, there: &Run, path: Path) {
    let digit = Path {
        level: path.level,
        ..Path::of(there)
    }
    .digit();
    let node = Node::empty();
    let at = ptr::from_ref(there).cast_mut();
    // Relaxed: the node is not shared yet.
    node.slots[digit].store(at, Ordering::Relaxed);
    exchange_for_node(slot, at, node);
}

fn exchange_for_node(slot: &AtomicPtr<Run>, old: *mut Run, node: Node) {
    let node = Box::into_raw(Box::new(node));
    // Release: pairs with the Acquire in `find`, `insert`, `remove`. Relaxed on failure: the slot
    // is loaded again.
    let exchanged = slot.compare_exchange(old, tagged(node), Ordering::Release, Ordering::Relaxed);
    if exchanged.is_err() {
        // SAFETY: never published; it does not own the run that it points to.
        drop(unsafe { Box::from_raw(node) });
    }
}

/// Frees the nodes below a slot that nobody else can reach; the runs go to `out`. The depth is
/// that of a path, so recursion is bounded.
fn take_slot(slot: &AtomicPtr<Run>, out: &mut Vec<Run>) {
    // Relaxed: the caller is the only owner.
    let at = slot.load(Ordering::Relaxed);
    if at.is_null() {
        return;
    }
    if at.addr() & NODE == 0 {
        // SAFETY: linked runs are owned by their slot, and nobody else can reach it.
        out.push(*unsafe { Box::from_raw(at) });
        return;
    }
    let node = at.map_addr(|address| address & !NODE).cast::<Node>();
    // SAFETY: nodes are owned by their slot, and nobody else can reach it.
    let node = unsafe { Box::from_raw(node) };
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
