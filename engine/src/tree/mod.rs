//! A radix tree that never splits.
//!
//! Nodes are append-only [`run`]s of block keys. A chain that diverges inside a run starts a child
//! there and the run stays whole, so the place of a block, (run, offset), never changes while
//! anyone holds it. For each run and holder one atomic word says how many leading blocks of
//! the run the worker holds, and in which tiers ([`entry`]); what it holds beyond that, after an eviction from the head or
//! the middle, is remembered by its writer alone ([`holding`]), because no prefix can use it until the
//! hole is filled.
//!
//! A (parent block, key) has exactly one place: the parent's successor slot, if it holds that key
//! (slots are written once), else the child at that offset, which is unique ([`children`]).
pub(crate) mod array;
pub(crate) mod children;
pub(crate) mod entry;
pub(crate) mod hit;
pub(crate) mod holding;
pub(crate) mod keys;
#[cfg(all(test, crossbeam_loom))]
mod models;
pub(crate) mod read;
pub(crate) mod run;
pub(crate) mod seat;
mod tail;
pub(crate) mod window;

use crate::sync::{AtomicU64, Ordering};
use crossbeam_epoch::Guard;
use run::Hold;
use std::cell::Cell;

/// Set once in `users` when the last user is gone for good.
const DEAD: u64 = 1 << 63;

/// A writer's pin, which also counts the bytes that trees took or gave back under it.
#[derive(Debug)]
pub(crate) struct Pin {
    pub(crate) guard: Guard,
    taken: Cell<isize>,
    /// Runs that were made, less those that ended.
    runs: Cell<isize>,
}

impl Pin {
    pub(crate) fn new(guard: Guard) -> Self {
        Self {
            guard,
            taken: Cell::new(0),
            runs: Cell::new(0),
        }
    }

    pub(crate) fn took(&self, bytes: usize) {
        self.taken
            .set(self.taken.get().saturating_add_unsigned(bytes));
    }

    pub(crate) fn gave_back(&self, bytes: usize) {
        self.taken
            .set(self.taken.get().saturating_sub_unsigned(bytes));
    }

    /// A run was made, of so many bytes.
    pub(crate) fn took_run(&self, bytes: usize) {
        self.took(bytes);
        self.runs.set(self.runs.get().saturating_add(1));
    }

    /// A run has ended, which was of so many bytes.
    pub(crate) fn gave_back_run(&self, bytes: usize) {
        self.gave_back(bytes);
        self.runs.set(self.runs.get().saturating_sub(1));
    }

    /// Bytes and runs that came, less those that went, since the last call.
    pub(crate) fn settle(&self) -> (isize, isize) {
        (self.taken.take(), self.runs.take())
    }
}

/// The tree of one context.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) block_size: u32,
    /// Writers that use it, or [`DEAD`].
    users: AtomicU64,
    /// `None` only while dropping.
    root: Option<Hold>,
}

impl Tree {
    /// An empty tree with one user.
    pub(crate) fn new(block_size: u32) -> Self {
        Self {
            block_size,
            users: AtomicU64::new(1),
            root: Some(Hold::root()),
        }
    }

    pub(crate) fn root(&self) -> Option<&Hold> {
        self.root.as_ref()
    }

    /// Becomes a user, unless the tree is on its way out. Wait-free.
    pub(crate) fn try_use(&self) -> bool {
        // Relaxed: a tree is reached through a map that publishes it.
        self.users.fetch_add(1, Ordering::Relaxed) & DEAD == 0
    }

    /// Ceases to be a user; true if the tree died by it and must be taken out of its map.
    pub(crate) fn end_use(&self) -> bool {
        // Relaxed, all: a count. What users did to the tree is ordered by its runs' own counts and by the
        // `Arc` that each of them has.
        if self.users.fetch_sub(1, Ordering::Relaxed) != 1 {
            return false;
        }
        self.users
            .compare_exchange(0, DEAD, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }
}

impl Drop for Tree {
    /// No epoch is needed: readers reach a tree through a map that keeps it, and writers have left. (A
    /// collector kept here would be kept by its own garbage for ever.)
    fn drop(&mut self) {
        if let Some(root) = self.root.take() {
            root.free();
        }
    }
}
