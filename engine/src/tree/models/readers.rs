//! Lookups against writers: what is credited was held, who holds is found, what is read is not freed.
use super::super::holding::Tiers;
use super::super::seat::Seat;
use super::super::window::Word;
use super::*;
use crate::sync::{Rcu, Watch};
use crate::types::Tier;

#[test]
fn a_lookup_keeps_what_it_reads() {
    model(|main| {
        let (own, other) = (main.store(0, &[2, 3]), main.store(1, &[2, 4]));
        let (seen, ()) = main.race(
            |main| main.find(&[2, 4]),
            |main| {
                main.leave(own);
                main.leave(other);
                main.collect();
            },
        );
        assert!(seen[0][2] <= 1 && seen[1][2] <= 2);
        assert!(!main.has_child(2));
    });
}

#[test]
fn a_lookup_keeps_the_nodes_it_walks() {
    model(|main| {
        let (own, other) = (main.store(0, &[2]), main.store(1, &[4]));
        let (seen, ()) = main.race(
            |main| main.find(&[4]),
            |main| {
                main.leave(own);
                main.leave(other);
                main.collect();
            },
        );
        assert!(seen[1][2] <= 1);
    });
}

#[test]
fn a_steady_holder_is_always_found() {
    model(|main| {
        let (own, steady) = (main.store(0, &[2]), main.store(1, &[2, 3]));
        let (seen, newcomer) = main.race(
            |main| main.find(&[2, 3]),
            |main| {
                main.leave(own);
                main.store(2, &[2, 3, 4])
            },
        );
        assert_eq!(seen[1][2], 2);
        main.leave(steady);
        main.leave(newcomer);
    });
}

#[test]
fn a_steady_child_is_found_while_others_are_pushed_down() {
    model(|main| {
        let steady = main.store(0, &[2]);
        let (seen, ()) = main.race(
            |main| main.held(&[2])[0],
            |main| {
                let other = main.store(1, &[4]);
                main.leave(other);
            },
        );
        assert_eq!(seen, 1);
        main.leave(steady);
    });
}

#[test]
fn newcomers_hide_nobody() {
    model(|main| {
        let former = [main.store(1, &[2]), main.store(2, &[2])];
        let steady = main.store(0, &[2]);
        former.into_iter().for_each(|held| main.leave(held));
        // The lookup knows of worker 0 only. Others come while it runs, into the words before that one's.
        let (seen, newcomers) = main.race(
            |main| main.find_among(1, &[2]),
            |main| [main.store(1, &[2]), main.store(2, &[2])],
        );
        assert_eq!(seen[0], [1; 3]);
        main.leave(steady);
        newcomers.into_iter().for_each(|held| main.leave(held));
    });
}

#[test]
fn a_block_is_never_credited_to_a_tier_it_was_not_in() {
    model(|main| {
        let mut own = main.store(0, &[2]);
        let pin = main.pin();
        assert_eq!(own[0].claim(1, key(3), 1, &pin), Claim::Ours);
        drop(pin);
        let (seen, ()) = main.race(
            |main| main.find(&[2, 3])[0],
            |_| {
                // A block that is on the CPU alone comes and goes behind one on the GPU.
                own[0].set(1, Tiers::default().with(Tier::Cpu));
                own[0].publish(WorkerId(0));
                own[0].set(1, Tiers::default());
                own[0].publish(WorkerId(0));
            },
        );
        assert!(seen == [1; 3] || seen == [1, 2, 2], "{seen:?}");
        main.leave(own);
    });
}

#[test]
fn a_hole_cuts_off_what_is_behind_it_until_it_heals() {
    model(|main| {
        let mut own = main.store(0, &[2, 3, 4]);
        let (seen, ()) = main.race(
            |main| main.held(&[2, 3, 4])[0],
            |_| {
                own[0].remove(1);
                own[0].publish(WorkerId(0));
                own[0].add(1);
                own[0].publish(WorkerId(0));
            },
        );
        assert!(seen == 1 || seen == 3, "{seen}");
        assert_eq!(main.held(&[2, 3, 4])[0], 3);
        main.leave(own);
    });
}

#[test]
fn a_head_that_is_evicted_takes_all_with_it() {
    model(|main| {
        let mut own = main.store(0, &[2, 3]);
        let (seen, ()) = main.race(
            |main| main.held(&[2, 3])[0],
            |main| {
                own[0].remove(0);
                own[0].publish(WorkerId(0));
                // The tail is appended to meanwhile.
                assert_eq!(own[0].claim(2, key(4), 1, &main.pin()), Claim::Ours);
                own[0].add(2);
                own[0].publish(WorkerId(0));
            },
        );
        assert!(seen == 0 || seen == 2, "{seen}");
        assert_eq!(main.held(&[2, 3, 4])[0], 0);
        own[0].add(0);
        own[0].publish(WorkerId(0));
        assert_eq!(main.held(&[2, 3, 4])[0], 3);
        main.leave(own);
    });
}

#[test]
fn a_worker_is_never_credited_with_another_ones_entry() {
    model(|main| {
        let own = main.store(0, &[2, 3]);
        let (seen, other) = main.race(
            |main| main.find(&[2, 3]),
            |main| {
                main.leave(own);
                // Into the word that is free now.
                main.store(1, &[2])
            },
        );
        assert!([0, 2].contains(&seen[0][2]) && seen[1][2] <= 1, "{seen:?}");
        main.leave(other);
    });
}

/// The run of key 2 has room for one more holder: its segment is not what publishes the next entry.
fn leave_a_word_free(main: &Thread) {
    let left = main.store(3, &[2]);
    main.leave(left);
}

#[test]
fn a_worker_that_comes_again_is_reported_once() {
    model(|main| {
        let (own, steady) = (main.store(0, &[2]), main.store(1, &[2]));
        leave_a_word_free(main);
        let (seen, (own, other)) = main.race(
            |main| main.find(&[2]),
            |main| {
                // In one operation: the pin of another one would be a fence between them.
                let pin = main.pin();
                pin.leave(own);
                // Another takes its word, so that it comes back to a later one.
                let other = pin.store(2, &[2]);
                (pin.store(0, &[2]), other)
            },
        );
        assert_eq!(seen[1][2], 1);
        for held in [own, steady, other] {
            main.leave(held);
        }
    });
}

#[test]
fn an_entry_with_blocks_is_reported_once() {
    model(|main| {
        let pin = main.pin();
        let run = || main.root().child(0, key(2), 1, &pin);
        let (steady, again, other) = (run(), run(), run());
        let own = Seat::take(run(), entry(0, 1), &pin);
        let steady = Seat::take(steady, entry(1, 1), &pin);
        leave_a_word_free(main);
        let (_, seats) = main.race(
            |main| main.find(&[2]),
            |main| {
                let pin = main.pin();
                own.leave(&pin);
                let other = Seat::take(other, entry(2, 1), &pin);
                [other, Seat::take(again, entry(0, 1), &pin)]
            },
        );
        steady.leave(&pin);
        seats.into_iter().for_each(|seat| seat.leave(&pin));
        drop(pin);
    });
}

#[test]
fn a_worker_that_is_cleared_is_reported_once() {
    model(|main| {
        let old = main.store(0, &[2]);
        leave_a_word_free(main);
        // As a large clear does: the mark first, then new events beside the old entries.
        let (_, new) = main.race(
            |main| main.find(&[2]),
            |main| {
                main.marks().leaving.set(WorkerId(0), true);
                main.store(0, &[2])
            },
        );
        assert_eq!(main.held(&[2])[0], 0);
        main.leave(old);
        main.leave(new);
    });
}

#[test]
fn windows_name_their_worker() {
    model(|main| {
        let (mut own, mut other) = (main.store(0, &[2, 3]), main.store(1, &[2, 3]));
        let word = |worker, ends| Word {
            worker: WorkerId(worker),
            group: 0,
            ends,
        };
        for worker in [0, 1] {
            main.marks().windowed.set(WorkerId(worker), true);
        }
        own[0].set_window(word(0, 0b01), &main.pin());
        let (seen, other) = main.race(
            |main| main.find(&[2, 3]),
            |main| {
                // The word is taken out, and another worker's takes its place.
                own[0].set_window(word(0, 0), &main.pin());
                other[0].set_window(word(1, 0b10), &main.pin());
                own[0].set_window(word(0, 0b01), &main.pin());
                other
            },
        );
        assert!(seen[0][2] <= 1, "{seen:?}");
        assert!([0, 2].contains(&seen[1][2]), "{seen:?}");
        assert_eq!(main.held(&[2, 3]), [1, 2, 0, 0]);
        main.leave(own);
        main.leave(other);
        assert!(!main.has_child(2));
    });
}

#[test]
fn windows_are_minded_further_down() {
    model(|main| {
        let mut other = main.store(1, &[2, 3]);
        other.extend(main.store(2, &[2, 4]));
        // Room for one more holder there, too.
        let left = main.store(3, &[2, 4]);
        main.leave(left);
        let mut held = main.store(0, &[2]);
        // As above, of a worker that is found already when it tells of its windows.
        let (seen, held) = main.race(
            |main| main.held(&[2, 4]),
            |main| {
                let pin = main.pin();
                main.marks().windowed.set(WorkerId(0), true);
                let child = held[0].hold().child(1, key(4), 1, &pin);
                let below = pin.enter(child, 0);
                below.publish(WorkerId(0));
                held.push(below);
                held
            },
        );
        assert!(seen[0] <= 1);
        assert_eq!(seen[1..3], [1, 2]);
        main.leave(held);
        main.leave(other);
    });
}

#[test]
fn every_window_finds_a_word_of_its_own() {
    model(|main| {
        let (mut one, mut two) = (main.store(0, &[2]), main.store(1, &[2]));
        let word = |worker| Word {
            worker: WorkerId(worker),
            group: 0,
            ends: 1,
        };
        for worker in [0, 1] {
            main.marks().windowed.set(WorkerId(worker), true);
        }
        let (two, ()) = main.race(
            move |main| {
                two[0].set_window(word(1), &main.pin());
                two
            },
            |main| {
                one[0].set_window(word(0), &main.pin());
                assert_eq!(main.held(&[2])[0], 1);
            },
        );
        assert_eq!(main.held(&[2]), [1, 1, 0, 0]);
        main.leave(one);
        main.leave(two);
    });
}

#[test]
fn windows_are_minded_as_soon_as_there_are_some() {
    model(|main| {
        let other = main.store(1, &[2]);
        // A lookup that began before the worker told of its windows must not take its blocks without them.
        let (seen, held) = main.race(
            |main| main.held(&[2]),
            |main| {
                main.marks().windowed.set(WorkerId(0), true);
                main.store(0, &[2])
            },
        );
        assert_eq!(seen[..2], [0, 1]);
        main.leave(held);
        main.leave(other);
    });
}

/// A value that is replaced whole.
struct Value(Watch, u32);

/// A shared value that is 1, and doubled by [`double`].
fn value() -> (Arc<Rcu<Value>>, Collector) {
    let one = Value(Watch::new(), 1);
    (Arc::new(Rcu::new(one)), Collector::new())
}

fn double(cell: &Rcu<Value>, collector: &Collector) {
    let guard = collector.register().pin();
    cell.update(&guard, |old| {
        old.0.read();
        Some(Value(Watch::new(), old.1 * 2))
    });
}

fn load(cell: &Rcu<Value>, collector: &Collector) -> u32 {
    let guard = collector.register().pin();
    let value = cell.load(&guard);
    value.0.read();
    value.1
}

#[test]
fn a_replaced_value_is_seen_whole() {
    loom::model(|| {
        let (cell, collector) = value();
        let (other, theirs) = (Arc::clone(&cell), collector.clone());
        let reader = thread::spawn(move || load(&other, &theirs));
        double(&cell, &collector);
        assert!([1, 2].contains(&reader.join().unwrap()));
    });
}

#[test]
fn no_replacement_is_lost() {
    loom::model(|| {
        let (cell, collector) = value();
        let (other, theirs) = (Arc::clone(&cell), collector.clone());
        let rival = thread::spawn(move || double(&other, &theirs));
        double(&cell, &collector);
        rival.join().unwrap();
        assert_eq!(load(&cell, &collector), 4);
    });
}
