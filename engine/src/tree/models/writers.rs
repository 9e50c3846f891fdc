//! Writers against writers: the same slot, the same child, the same trie node, life and death.
use super::super::seat::Seat;
use super::*;

#[test]
fn a_segment_is_seen_whole() {
    model(|main| {
        let (mut one, mut two) = (main.store(0, &[2]), main.store(1, &[2]));
        // Both need a second segment for the same key; the loser of that race writes into the winner's.
        let (two, ()) = main.race(
            move |main| {
                assert_eq!(two[0].claim(1, key(3), 1, &main.pin()), Claim::Ours);
                two
            },
            |main| assert_eq!(one[0].claim(1, key(3), 1, &main.pin()), Claim::Ours),
        );
        assert_eq!(one[0].run().more_keys().count(), 1);
        main.leave(one);
        main.leave(two);
    });
}

#[test]
fn one_slot_takes_one_key() {
    model(|main| {
        let (mut one, mut two) = (main.store(0, &[2]), main.store(1, &[2]));
        let ((mut two, theirs), own) = main.race(
            move |main| {
                let claim = two[0].claim(1, key(3), 1, &main.pin());
                (two, claim)
            },
            |main| one[0].claim(1, key(4), 1, &main.pin()),
        );
        assert!((own == Claim::Ours) != (theirs == Claim::Ours));
        let there = if own == Claim::Ours { 4 } else { 3 };
        assert_eq!(one[0].key(1, &main.pin()), Some(key(there)));
        assert_eq!(two[0].key(1, &main.pin()), Some(key(there)));
        main.leave(one);
        main.leave(two);
    });
}

#[test]
fn chains_that_diverge_are_both_found() {
    model(|main| {
        let (theirs, own) = main.race(|main| main.store(0, &[2, 3]), |main| main.store(1, &[2, 4]));
        for (worker, last) in [(0, 3), (1, 4)] {
            assert_eq!(main.held(&[2, last])[worker], 2);
            assert_eq!(main.held(&[2, last])[1 - worker], 1);
        }
        // Who came second branched off.
        assert_eq!(theirs.len() + own.len(), 3);
        main.leave(theirs);
        main.leave(own);
    });
}

#[test]
fn a_child_is_made_while_its_parent_grows() {
    model(|main| {
        let (mut one, two) = (main.store(0, &[2, 3]), main.store(1, &[2, 4]));
        let (three, ()) = main.race(
            |main| main.store(2, &[2, 4, 5]),
            |main| {
                assert_eq!(one[0].claim(2, key(6), 1, &main.pin()), Claim::Ours);
                one[0].add(2);
                one[0].publish(WorkerId(0));
            },
        );
        assert!(same(three[1].run(), two[1].run()));
        assert_eq!(main.held(&[2, 3, 6])[0], 3);
        assert_eq!(main.held(&[2, 4, 5])[1], 2);
        assert_eq!(main.held(&[2, 4, 5])[2], 3);
        for held in [one, two, three] {
            main.leave(held);
        }
    });
}

#[test]
fn equal_children_are_one_run() {
    model(|main| {
        let (theirs, own) = main.race(|main| main.store(0, &[2]), |main| main.store(1, &[2]));
        assert!(same(theirs[0].run(), own[0].run()));
        assert_eq!([main.held(&[2])[0], main.held(&[2])[1]], [1, 1]);
        main.leave(theirs);
        main.leave(own);
        assert!(!main.has_child(2));
    });
}

#[test]
fn colliding_children_are_pushed_down() {
    model(|main| {
        // 2 and 4 are equal in the lowest bit, so one must be pushed down.
        let (theirs, own) = main.race(
            |main| main.store(0, &[2]),
            |main| {
                let own = main.store(1, &[4]);
                assert!(main.has_child(4), "a linked child is always found");
                own
            },
        );
        assert_eq!([main.held(&[2])[0], main.held(&[4])[1]], [1, 1]);
        main.leave(theirs);
        main.leave(own);
    });
}

/// A worker's run alone below two trie nodes (three with 6), in which keys 2, 4 and 6 collide.
fn below_nodes(main: &Thread) -> Vec<Holding> {
    let (two, four) = (main.store(0, &[2]), main.store(1, &[4]));
    main.leave(four);
    two
}

#[test]
fn a_dying_node_takes_nothing_with_it() {
    model(|main| {
        let two = below_nodes(main);
        // The nodes lose their last run while another is put into an empty slot of the lower one.
        let ((), four) = main.race(
            move |main| main.leave(two),
            |main| {
                let four = main.store(1, &[4]);
                assert!(main.has_child(4), "a linked child is always found");
                four
            },
        );
        assert_eq!(main.held(&[4])[1], 1);
        assert!(!main.has_child(2));
        // In exactly one place: found again, not made again.
        let again = main.store(2, &[4]);
        assert!(same(again[0].run(), four[0].run()));
        main.leave(four);
        main.leave(again);
    });
}

#[test]
fn a_run_is_pushed_down_while_it_dies() {
    model(|main| {
        let two = below_nodes(main);
        // 6 meets 2 in its slot.
        let ((), six) = main.race(move |main| main.leave(two), |main| main.store(1, &[6]));
        assert_eq!(main.held(&[6])[1], 1);
        assert!(!main.has_child(2));
        let again = main.store(2, &[6]);
        assert!(same(again[0].run(), six[0].run()));
        main.leave(six);
        main.leave(again);
    });
}

#[test]
fn the_last_runs_of_a_node_leave_together() {
    model(|main| {
        let (two, four) = (main.store(0, &[2]), main.store(1, &[4]));
        main.race(move |main| main.leave(two), |main| main.leave(four));
        assert!(!main.has_child(2) && !main.has_child(4));
    });
}

#[test]
fn a_dying_node_is_replaced_by_two() {
    model_of_three(|main| {
        let two = below_nodes(main);
        let third = main.spawn(|main| main.store(2, &[8]));
        let ((), four) = main.race(move |main| main.leave(two), |main| main.store(1, &[4]));
        let eight = third.join().unwrap();
        assert_eq!([main.held(&[4])[1], main.held(&[8])[2]], [1, 1]);
        assert!(!main.has_child(2));
        main.leave(four);
        main.leave(eight);
    });
}

#[test]
fn a_dying_run_is_refused_or_lives_on() {
    model(|main| {
        let own = main.store(0, &[2]);
        let (theirs, ()) = main.race(
            |main| {
                let theirs = main.store(1, &[2]);
                // Whichever run it is, it must be the one that lookups find.
                assert_eq!(main.held(&[2])[1], 1);
                theirs
            },
            |main| main.leave(own),
        );
        assert_eq!(main.held(&[2])[1], 1);
        main.leave(theirs);
        assert!(!main.has_child(2));
    });
}

#[test]
fn a_dying_run_is_killed_twice_over() {
    model(|main| {
        let own = main.store(0, &[2]);
        // The rival may take its reference on the dying run just before the kill and give it back just after.
        main.race(
            |main| {
                let theirs = main.store(1, &[2]);
                main.leave(theirs);
            },
            |main| main.leave(own),
        );
        assert!(!main.has_child(2));
    });
}

#[test]
fn a_run_is_appended_to_while_others_leave() {
    model(|main| {
        let own = main.store(0, &[2, 3]);
        let (theirs, ()) = main.race(|main| main.store(1, &[2, 3, 4]), |main| main.leave(own));
        assert_eq!(main.held(&[2, 3, 4])[1], 3);
        assert_eq!(main.held(&[2, 3, 4])[0], 0);
        main.leave(theirs);
        assert!(!main.has_child(2));
    });
}

#[test]
fn a_parent_dies_after_its_child_only() {
    model(|main| {
        let pin = main.pin();
        let parent = main.root().child(0, key(2), 1, &pin);
        let child = parent.child(1, key(3), 1, &pin);
        drop(pin);
        main.race(
            move |main| child.release(&main.pin()),
            |main| parent.release(&main.pin()),
        );
        assert!(!main.has_child(2));
    });
}

#[test]
fn a_child_is_born_while_its_brother_kills_their_parent() {
    model(|main| {
        let pin = main.pin();
        let parent = main.root().child(0, key(2), 1, &pin);
        let child = parent.child(1, key(3), 1, &pin);
        parent.release(&pin);
        drop(pin);
        let (theirs, ()) = main.race(
            |main| main.store(1, &[2, 4]),
            |main| child.release(&main.pin()),
        );
        assert_eq!(main.held(&[2, 4])[1], 2);
        main.leave(theirs);
        assert!(!main.has_child(2));
    });
}

#[test]
fn what_is_taken_for_a_run_is_given_back() {
    model(|main| {
        let (mut one, two) = (main.store(0, &[2]), main.store(1, &[2]));
        // One lets the run grow and leaves; whoever leaves last must see all segments to give them back.
        main.race(
            move |main| {
                assert_eq!(one[0].claim(1, key(3), 1, &main.pin()), Claim::Ours);
                main.leave(one);
            },
            |main| main.leave(two),
        );
    });
}

#[test]
fn a_dying_run_grows() {
    model(|main| {
        let own = main.store(0, &[2]);
        // The rival may enter the run after the last one left it, let it grow, and leave before the kill.
        main.race(
            |main| {
                let theirs = main.store(1, &[2, 3]);
                main.leave(theirs);
            },
            |main| main.leave(own),
        );
    });
}

#[test]
fn a_root_is_freed_after_its_last_child() {
    loom::model(|| {
        let collector = Collector::new();
        let root = Hold::root();
        let pin = Pin::new(collector.register().pin());
        let child = root.child(0, key(2), 1, &pin);
        drop(pin);
        let theirs = collector.clone();
        let rival = thread::spawn(move || {
            child.release(&Pin::new(theirs.register().pin()));
        });
        // Frees it at once if the child is gone, and leaks it otherwise.
        root.free();
        rival.join().unwrap();
    });
}

#[test]
fn every_holder_finds_a_word_of_its_own() {
    model(|main| {
        let own = main.store(0, &[2]);
        // A word comes free while another holder looks for one: both later ones get one each.
        let (theirs, own) = main.race(
            |main| main.store(1, &[2]),
            |main| {
                main.leave(own);
                main.store(2, &[2])
            },
        );
        assert_eq!(main.held(&[2]), [0, 1, 1, 0]);
        main.leave(theirs);
        main.leave(own);
    });
}

#[test]
fn holders_grow_by_one_segment_for_all() {
    model(|main| {
        let pin = main.pin();
        let run = || main.root().child(0, key(2), 1, &pin);
        let (first, second, third) = (run(), run(), run());
        let first = Seat::take(first, entry(0, 1), &pin);
        let (second, third) = main.race(
            move |main| Seat::take(second, entry(1, 1), &main.pin()),
            |main| Seat::take(third, entry(2, 1), &main.pin()),
        );
        assert_eq!(main.held(&[2]), [1, 1, 1, 0]);
        for seat in [first, second, third] {
            seat.leave(&pin);
        }
        drop(pin);
    });
}
