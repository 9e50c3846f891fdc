//! Loom models: each explores every interleaving (up to the preemption bound) of a small race.
//!
//! `RUSTFLAGS="--cfg crossbeam_loom" LOOM_MAX_PREEMPTIONS=2 cargo test --release -p kvroute-engine --lib models`
//!
//! Under loom the limits shrink (fan of two, segments of one word, runs of four), so that growth,
//! push-down and death happen in them. Reads of runs, nodes and segments go through `sync::Watch`, so one
//! that is seen before its contents or after its end is reported. And every model ends with an account: what
//! its operations took they gave back, so nothing is left linked and nothing was retired twice.
//!
//! ARCHITECTURE.md says which model notices which ordering.
mod readers;
mod writers;

use super::Pin;
use super::entry::Entry;
use super::holding::Holding;
use super::read::{Matches, lookup};
use super::run::{Claim, Hold, Run};
use crate::limits::RUN_BLOCKS_MAX;
use crate::types::{BlockKey, TIERS, WorkerId};
use crate::worker_set::Marks;
use crossbeam_epoch::{Collector, LocalHandle};
use loom::sync::Arc;
use loom::thread::{self, JoinHandle};
use std::sync::atomic::{AtomicIsize, Ordering};

/// Workers that lookups know of.
const WORKERS: usize = 4;

fn key(n: u64) -> BlockKey {
    BlockKey::new(n)
}

fn entry(worker: u32, blocks: u32) -> Entry {
    Entry {
        worker: WorkerId(worker),
        blocks: [blocks; TIERS],
    }
}

/// A tree shared by several threads, freed when the last one drops it.
struct Shared {
    root: Option<Hold>,
    collector: Collector,
    marks: Marks,
    /// Bytes taken and not given back. Of std, so that loom does not see it.
    taken: AtomicIsize,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.root.take().unwrap().free();
        if !std::thread::panicking() {
            assert_eq!(*self.taken.get_mut(), 0, "taken and not given back");
        }
    }
}

/// A pin for one operation, settled with the tree.
struct Operation<'a> {
    pin: Pin,
    tree: &'a Shared,
}

impl std::ops::Deref for Operation<'_> {
    type Target = Pin;

    fn deref(&self) -> &Pin {
        &self.pin
    }
}

impl Operation<'_> {
    /// Stores a chain for a worker that holds nothing yet, as writers do.
    fn store(&self, worker: u32, keys: &[u64]) -> Vec<Holding> {
        let root = self.tree.root.as_ref().unwrap();
        let mut held: Vec<Holding> = Vec::new();
        let mut next = 0;
        for &block in keys {
            if let Some(last) = held.last_mut()
                && next < RUN_BLOCKS_MAX
                && last.claim(next, key(block), 1, self) == Claim::Ours
            {
                last.add(next);
                next += 1;
                continue;
            }
            let run = match held.last() {
                None => root.child(0, key(block), 1, self),
                Some(last) => {
                    last.publish(WorkerId(worker));
                    last.hold().child(next, key(block), 1, self)
                }
            };
            held.push(self.enter(run, worker));
            next = 1;
        }
        held.last().unwrap().publish(WorkerId(worker));
        held
    }

    /// Enters a worker into a run, with the first block, not published yet.
    fn enter(&self, run: Hold, worker: u32) -> Holding {
        let mut holding = Holding::enter(run, WorkerId(worker), 0, self);
        holding.add(0);
        holding
    }

    /// Takes a worker out of its runs.
    fn leave(&self, held: Vec<Holding>) {
        for holding in held.into_iter().rev() {
            holding.leave(self);
        }
    }
}

impl Drop for Operation<'_> {
    fn drop(&mut self) {
        let taken = self.pin.settle().0;
        self.tree.taken.fetch_add(taken, Ordering::Relaxed);
    }
}

/// A thread's way to the tree. Registered once: every registration is a race of its own.
struct Thread {
    handle: LocalHandle,
    tree: Arc<Shared>,
}

impl Thread {
    fn new(tree: Arc<Shared>) -> Self {
        let handle = tree.collector.register();
        Self { handle, tree }
    }

    /// Runs `other` on a second thread beside `own`; what both made of it.
    fn race<A: 'static, B>(
        &self,
        other: impl FnOnce(&Self) -> A + 'static,
        own: impl FnOnce(&Self) -> B,
    ) -> (A, B) {
        let rival = self.spawn(other);
        let own = own(self);
        (rival.join().unwrap(), own)
    }

    fn spawn<A: 'static>(&self, other: impl FnOnce(&Self) -> A + 'static) -> JoinHandle<A> {
        let tree = Arc::clone(&self.tree);
        thread::spawn(move || other(&Self::new(tree)))
    }

    fn root(&self) -> &Hold {
        self.tree.root.as_ref().unwrap()
    }

    fn marks(&self) -> &Marks {
        &self.tree.marks
    }

    fn pin(&self) -> Operation<'_> {
        let pin = Pin::new(self.handle.pin());
        let tree = &self.tree;
        Operation { pin, tree }
    }

    /// A lookup: the blocks of every worker, of which none may be reported twice.
    fn find(&self, keys: &[u64]) -> [[u32; TIERS]; WORKERS] {
        self.find_among(WORKERS, keys)
    }

    /// A lookup that knows of so many workers.
    fn find_among(&self, workers: usize, keys: &[u64]) -> [[u32; TIERS]; WORKERS] {
        let keys: Vec<_> = keys.iter().copied().map(key).collect();
        let mut keys = keys.as_slice();
        let mut out = Matches::new();
        let guard = &self.pin().pin.guard;
        lookup(
            self.root(),
            workers,
            self.marks(),
            &mut keys,
            &mut out,
            guard,
        );
        let mut found = [[0; TIERS]; WORKERS];
        for hit in out.hits() {
            let there = &mut found[hit.worker.index()];
            assert_eq!(*there, [0; TIERS], "a worker is reported twice");
            *there = hit.blocks;
        }
        found
    }

    /// A lookup: what each worker holds in any tier.
    fn held(&self, keys: &[u64]) -> [u32; WORKERS] {
        self.find(keys).map(|blocks| blocks[TIERS - 1])
    }

    fn has_child(&self, first: u64) -> bool {
        let pin = self.pin();
        let child = self.root().find_child(0, key(first), &pin.guard);
        child.is_some()
    }

    /// [`Operation::store`] in an operation of its own.
    fn store(&self, worker: u32, keys: &[u64]) -> Vec<Holding> {
        self.pin().store(worker, keys)
    }

    /// [`Operation::leave`] in an operation of its own.
    fn leave(&self, held: Vec<Holding>) {
        self.pin().leave(held);
    }

    /// Frees what is retired and out of every pin's reach.
    fn collect(&self) {
        for _ in 0..3 {
            self.handle.pin().flush();
        }
    }
}

/// Explores what the threads of a model can do to each other in an empty tree.
fn model(races: impl Fn(&Thread) + Send + Sync + 'static) {
    explore(loom::model::Builder::new(), races);
}

/// With three threads, of which at most one is interrupted: more would take hours.
fn model_of_three(races: impl Fn(&Thread) + Send + Sync + 'static) {
    let mut explorer = loom::model::Builder::new();
    explorer.preemption_bound = Some(1);
    explore(explorer, races);
}

fn explore(mut explorer: loom::model::Builder, races: impl Fn(&Thread) + Send + Sync + 'static) {
    explorer.max_branches = 20_000;
    explorer.check(move || {
        let tree = Arc::new(Shared {
            root: Some(Hold::root()),
            collector: Collector::new(),
            marks: Marks::new(),
            taken: AtomicIsize::new(0),
        });
        races(&Thread::new(tree));
    });
}

fn same(a: &Run, b: &Run) -> bool {
    std::ptr::eq(a, b)
}
