//! Loom models: each explores every interleaving (up to the preemption bound) of a small race.
//!
//! `RUSTFLAGS="--cfg crossbeam_loom" LOOM_MAX_PREEMPTIONS=3 cargo test --release -p kvroute-engine --lib`
//!
//! Under loom the limits shrink (fan of two, segments of one word, runs of four), so that growth,
//! push-down and death happen in them. Reads of nodes go through `sync::Watch`, so a node that is
//! seen before its contents or after its end is reported.
use super::array::Words;
use super::entry::{Entry, NONE};
use super::read::{Matches, lookup};
use super::run::{Claim, Hold};
use crate::sync::{Ordering, Rcu};
use crate::types::{BlockKey, WorkerId};
use crossbeam_epoch::{Collector, Guard};
use loom::sync::Arc;
use loom::thread;

fn key(n: u64) -> BlockKey {
    BlockKey::new(n)
}

fn entry(worker: u32, cutoff: u32) -> Entry {
    Entry {
        worker: WorkerId(worker),
        cutoff,
        not_gpu: NONE,
        not_cpu: NONE,
    }
}

/// A tree shared by two threads, freed when the last one drops it.
struct Shared {
    root: Option<Hold>,
    collector: Collector,
}

impl Shared {
    fn new() -> Arc<Self> {
        let (root, collector) = (Some(Hold::root()), Collector::new());
        Arc::new(Self { root, collector })
    }

    fn root(&self) -> &Hold {
        self.root.as_ref().unwrap()
    }

    fn guard(&self) -> Guard {
        self.collector.register().pin()
    }

    fn held(&self, keys: &[BlockKey], worker: u32) -> [u32; 3] {
        let mut out = Matches::new();
        lookup(self.root(), 2, &mut &*keys, &mut out, &self.guard());
        let mut hits = out.hits().iter();
        hits.find(|hit| hit.worker == WorkerId(worker))
            .map_or([0; 3], |hit| hit.blocks)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let guard = self.guard();
        self.root.take().unwrap().release(&guard);
    }
}

#[test]
fn a_segment_is_seen_whole() {
    loom::model(|| {
        let words = Arc::new(Words::new(1));
        let other = Arc::clone(&words);
        let writer = thread::spawn(move || other.at(1).store(7, Ordering::Relaxed));
        words.at(1).fetch_or(8, Ordering::Relaxed);
        let seen = words.segments().nth(1).unwrap()[0].load(Ordering::Relaxed);
        assert!([7, 8, 15].contains(&seen));
        writer.join().unwrap();
        assert_eq!(words.segments().count(), 2);
    });
}

#[test]
fn one_slot_takes_one_key() {
    loom::model(|| {
        let tree = Shared::new();
        let run = tree.root().child(0, key(2), 1, &tree.guard());
        let other = Arc::clone(&tree);
        let rival = thread::spawn(move || {
            let guard = other.guard();
            let run = other.root().child(0, key(2), 1, &guard);
            let claim = run.claim(1, key(3));
            run.release(&guard);
            claim
        });
        let own = run.claim(1, key(4));
        let rival = rival.join().unwrap();
        assert!((own == Claim::Ours) != (rival == Claim::Ours));
        let expected = if own == Claim::Ours { 4 } else { 3 };
        assert_eq!(run.key(1), Some(key(expected)));
        run.release(&tree.guard());
    });
}

#[test]
fn equal_children_are_one_run() {
    loom::model(|| {
        let tree = Shared::new();
        let other = Arc::clone(&tree);
        let rival = thread::spawn(move || other.root().child(0, key(2), 1, &other.guard()));
        let own = tree.root().child(0, key(2), 1, &tree.guard());
        let rival = rival.join().unwrap();
        assert_eq!(own.address(), rival.address());
        own.release(&tree.guard());
        rival.release(&tree.guard());
        assert!(tree.root().find_child(0, key(2), &tree.guard()).is_none());
    });
}

#[test]
fn colliding_children_are_pushed_down() {
    loom::model(|| {
        let tree = Shared::new();
        // Equal in the lowest bit, so one must be pushed down.
        let other = Arc::clone(&tree);
        let rival = thread::spawn(move || other.root().child(0, key(2), 1, &other.guard()));
        let own = tree.root().child(0, key(4), 1, &tree.guard());
        let found = tree.root().find_child(0, key(4), &tree.guard()).is_some();
        assert!(found, "a linked child is always found");
        let rival = rival.join().unwrap();
        for k in [2, 4] {
            let guard = tree.guard();
            let child = tree.root().find_child(0, key(k), &guard).unwrap();
            assert_eq!(child.key(0), Some(key(k)));
        }
        own.release(&tree.guard());
        rival.release(&tree.guard());
    });
}

#[test]
fn a_dying_run_is_refused_or_lives_on() {
    loom::model(|| {
        let tree = Shared::new();
        let own = tree.root().child(0, key(2), 1, &tree.guard());
        let other = Arc::clone(&tree);
        let rival = thread::spawn(move || {
            let guard = other.guard();
            let run = other.root().child(0, key(2), 1, &guard);
            // Whichever run it is, it must be the one that lookups find.
            let found = other.root().find_child(0, key(2), &guard).unwrap();
            assert!(std::ptr::eq(found, &*run));
            run.claim_entry(entry(0, 1));
            run
        });
        own.release(&tree.guard());
        let run = rival.join().unwrap();
        assert_eq!(tree.held(&[key(2)], 0), [1; 3]);
        run.clear_entry(0);
        run.release(&tree.guard());
        assert!(tree.root().find_child(0, key(2), &tree.guard()).is_none());
    });
}

#[test]
fn a_parent_dies_after_its_child_only() {
    loom::model(|| {
        let tree = Shared::new();
        let parent = tree.root().child(0, key(2), 1, &tree.guard());
        let child = parent.child(1, key(3), 1, &tree.guard());
        let other = Arc::clone(&tree);
        let rival = thread::spawn(move || child.release(&other.guard()));
        parent.release(&tree.guard());
        rival.join().unwrap();
        assert!(tree.root().find_child(0, key(2), &tree.guard()).is_none());
    });
}

#[test]
fn a_lookup_keeps_what_it_reads() {
    loom::model(|| {
        let tree = Shared::new();
        let run = tree.root().child(0, key(2), 1, &tree.guard());
        run.claim_entry(entry(0, 1));
        let other = Arc::clone(&tree);
        let reader = thread::spawn(move || other.held(&[key(2)], 0));
        run.clear_entry(0);
        let guard = tree.guard();
        run.release(&guard);
        guard.flush();
        drop(guard);
        tree.guard().flush();
        assert!([[1; 3], [0; 3]].contains(&reader.join().unwrap()));
    });
}

#[test]
fn a_block_is_never_credited_to_a_tier_it_was_not_in() {
    loom::model(|| {
        let tree = Shared::new();
        let run = tree.root().child(0, key(2), 2, &tree.guard());
        assert_eq!(run.claim(1, key(3)), Claim::Ours);
        let at = run.claim_entry(entry(0, 1));
        let other = Arc::clone(&tree);
        let reader = thread::spawn(move || other.held(&[key(2), key(3)], 0));
        // A block that is on the CPU alone comes and goes behind one on the GPU.
        let on_cpu = Entry {
            not_gpu: 1,
            ..entry(0, 2)
        };
        run.set_entry(at, on_cpu);
        run.set_entry(at, entry(0, 1));
        let seen = reader.join().unwrap();
        assert!(seen == [1; 3] || seen == [1, 2, 2], "{seen:?}");
        run.clear_entry(at);
        run.release(&tree.guard());
    });
}

#[test]
fn a_worker_is_never_credited_with_another_ones_entry() {
    loom::model(|| {
        let tree = Shared::new();
        let run = tree.root().child(0, key(2), 1, &tree.guard());
        let at = run.claim_entry(entry(0, 1));
        let other = Arc::clone(&tree);
        let writer = thread::spawn(move || {
            let guard = other.guard();
            let run = other.root().child(0, key(2), 1, &guard);
            run.claim_entry(entry(1, 0));
            run
        });
        run.clear_entry(at);
        assert_eq!(tree.held(&[key(2)], 0), [0; 3]);
        assert_eq!(tree.held(&[key(2)], 1), [0; 3]);
        let rival = writer.join().unwrap();
        run.release(&tree.guard());
        rival.release(&tree.guard());
    });
}

#[test]
fn a_replaced_value_is_seen_whole() {
    use crate::sync::Watch;
    struct Value(Watch, u32);
    loom::model(|| {
        let collector = Collector::new();
        let cell = Arc::new(Rcu::new(Value(Watch::new(), 1)));
        let (other, theirs) = (Arc::clone(&cell), collector.clone());
        let writer = thread::spawn(move || {
            let guard = theirs.register().pin();
            other.update(&guard, |old| Some(Value(Watch::new(), old.1 + 1)));
            guard.flush();
        });
        let guard = collector.register().pin();
        let value = cell.load(&guard);
        value.0.read();
        assert!([1, 2].contains(&value.1));
        drop(guard);
        writer.join().unwrap();
    });
}
