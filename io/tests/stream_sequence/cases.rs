//! Hand-worked cases.
use super::bench::Did::{Applied, Asked, Cleared, Dropped, Stopped};
use super::bench::*;
use kvroute::status::Trust;
use kvroute::stream::sequence::ClearReason::{Gap, Rebuild, Restart, Unproven};
use kvroute::stream::sequence::DropReason::{Duplicate, HeldBackFull, NotAsked, OtherLife};
use kvroute::stream::sequence::Sequence;

#[test]
fn trust_before_the_first_connection() {
    let mut machine = Sequence::<Plain>::new(true);
    assert_eq!(machine.trust(), Trust::Replaying);
    machine.not_reached();
    assert_eq!(machine.trust(), Trust::Stale);
    machine.connected();
    assert_eq!(machine.trust(), Trust::Replaying);
}

#[test]
fn an_engine_that_published_nothing_is_exactly_known() {
    let mut machine = Sequence::new(true);
    machine.connected();
    assert_eq!(drain(&mut machine), [Asked(0)]);
    assert_eq!(replay(&mut machine, 1, &[]), []);
    assert_eq!(machine.trust(), Trust::Exact);
    assert_eq!(live(&mut machine, 1, &[0, 1]), [Applied(0), Applied(1)]);
    assert_eq!(machine.trust(), Trust::Exact);
    assert_eq!(machine.last(), Some(1));
}

#[test]
fn live_batches_wait_for_the_replay_and_its_overlap_is_dropped() {
    let mut machine = Sequence::new(true);
    machine.connected();
    assert_eq!(live(&mut machine, 1, &[2, 3, 4]), [Asked(0)]);
    assert!(machine.holds_back());
    assert_eq!(machine.trust(), Trust::Replaying);
    assert_eq!(
        replay(&mut machine, 1, &[0, 1, 2, 3]),
        [
            Applied(0),
            Applied(1),
            Applied(2),
            Dropped(1, Duplicate),
            Applied(3),
            Dropped(1, Duplicate),
            Applied(4)
        ]
    );
    assert_eq!(machine.trust(), Trust::Exact);
}

#[test]
fn a_backlog_older_than_the_checksums_is_not_taken_for_a_restart() {
    let mut machine = whole(1_000);
    assert_eq!(
        live(&mut machine, 1, &[10, 11, 1_000, 1_001]),
        [
            Dropped(1, Duplicate),
            Dropped(1, Duplicate),
            Dropped(1, Duplicate),
            Applied(1_001)
        ]
    );
    assert_eq!(machine.take_tally().restarts, 0);
}

#[test]
fn a_gap_is_filled_by_a_replay_from_the_last_number() {
    let mut machine = whole(4);
    assert_eq!(live(&mut machine, 1, &[5, 8]), [Applied(5), Asked(5)]);
    assert_eq!(
        replay(&mut machine, 1, &[5, 6, 7, 8]),
        [
            Dropped(1, Duplicate),
            Applied(6),
            Applied(7),
            Applied(8),
            Dropped(1, Duplicate)
        ]
    );
    assert_eq!(
        (machine.trust(), machine.take_tally().gaps),
        (Trust::Exact, 1)
    );
}

#[test]
fn batches_are_missed_from_a_known_number_on() {
    let mut machine = whole(4);
    live(&mut machine, 1, &[5, 8]);
    assert_eq!(machine.take_tally().missed, 2, "6 and 7");
    // Who knows nothing does not know what is missing, however often the engine does not answer.
    let mut machine = Sequence::new(true);
    machine.connected();
    assert_eq!(live(&mut machine, 1, &[1_000_000]), [Asked(0)]);
    for _ in 0..3 {
        machine.replay_failed();
        drain(&mut machine);
        machine.retry();
        drain(&mut machine);
    }
    assert_eq!(machine.take_tally().missed, 0);
}

#[test]
fn a_number_that_was_damaged_is_counted_up_to_the_largest() {
    let mut machine = alone();
    for _ in 0..3 {
        live(&mut machine, 1, &[0, u64::MAX - 1]);
    }
    assert_eq!(machine.take_tally().missed, u64::MAX);
}

#[test]
fn a_gap_without_a_replay_socket_clears() {
    let mut machine = alone();
    assert_eq!(live(&mut machine, 1, &[0, 1]), [Applied(0), Applied(1)]);
    assert_eq!(machine.trust(), Trust::Exact);
    assert_eq!(live(&mut machine, 1, &[3]), [Cleared(Gap), Applied(3)]);
    assert_eq!(
        (machine.trust(), machine.take_tally().gaps),
        (Trust::Partial, 1)
    );
}

#[test]
fn a_late_start_without_a_replay_socket_is_partial_until_a_clear() {
    let mut machine = alone();
    assert_eq!(machine.trust(), Trust::Partial);
    assert_eq!(live(&mut machine, 1, &[7]), [Applied(7)]);
    assert_eq!(machine.trust(), Trust::Partial);
    machine.live(clearing(1, 8));
    assert_eq!(drain(&mut machine), [Applied(8)]);
    machine.cleared();
    assert_eq!(
        (machine.trust(), machine.take_tally().gaps),
        (Trust::Exact, 0)
    );
}

#[test]
fn a_batch_that_begins_with_a_clear_needs_no_past() {
    let mut machine = whole(3);
    machine.live(clearing(1, 9));
    assert_eq!(drain(&mut machine), [Cleared(Gap), Applied(9)]);
    assert_eq!(
        (machine.trust(), machine.take_tally().gaps),
        (Trust::Exact, 1)
    );
}

#[test]
fn a_rotated_ring_is_partial_history() {
    let mut machine = Sequence::new(true);
    machine.connected();
    assert_eq!(drain(&mut machine), [Asked(0)]);
    assert_eq!(
        replay(&mut machine, 1, &[66, 67]),
        [Applied(66), Applied(67)]
    );
    assert_eq!(machine.trust(), Trust::Partial);
    assert!(!machine.wants_retry(), "a ring only rotates on");
    // The same in the middle: 3 and 4 are lost, and what they removed with them.
    let mut machine = whole(2);
    assert_eq!(live(&mut machine, 1, &[6]), [Asked(2)]);
    assert_eq!(
        replay(&mut machine, 1, &[5, 6]),
        [Cleared(Gap), Applied(5), Applied(6), Dropped(1, Duplicate)]
    );
    assert_eq!(
        (machine.trust(), machine.take_tally().gaps),
        (Trust::Partial, 1)
    );
}

#[test]
fn the_first_number_after_the_last_proves_nothing() {
    let mut machine = whole(2);
    assert_eq!(live(&mut machine, 1, &[4]), [Asked(2)]);
    assert_eq!(
        replay(&mut machine, 1, &[3, 4]),
        [Cleared(Gap), Applied(3), Applied(4), Dropped(1, Duplicate)]
    );
    assert_eq!(machine.trust(), Trust::Partial);
}

#[test]
fn a_hole_inside_a_replay_clears() {
    let mut machine = whole(2);
    assert_eq!(live(&mut machine, 1, &[7]), [Asked(2)]);
    assert_eq!(
        replay(&mut machine, 1, &[2, 3, 5, 6]),
        [
            Dropped(1, Duplicate),
            Applied(3),
            Cleared(Gap),
            Applied(5),
            Applied(6),
            Applied(7)
        ]
    );
    assert_eq!(
        (machine.trust(), machine.take_tally().gaps),
        (Trust::Partial, 1)
    );
}

#[test]
fn a_number_lost_for_ever_costs_one_replay_not_a_loop() {
    let mut machine = whole(2);
    assert_eq!(live(&mut machine, 1, &[4]), [Asked(2)]);
    assert_eq!(
        replay(&mut machine, 1, &[2]),
        [Dropped(1, Duplicate), Cleared(Gap), Applied(4)]
    );
    assert_eq!(live(&mut machine, 1, &[5]), [Applied(5)]);
    assert_eq!(
        (machine.trust(), machine.take_tally().gaps),
        (Trust::Partial, 1)
    );
}

#[test]
fn a_ring_without_room_leaves_a_partial_run() {
    let mut machine = whole(2);
    assert_eq!(live(&mut machine, 1, &[5]), [Asked(2)]);
    assert_eq!(replay(&mut machine, 1, &[]), [Cleared(Gap), Applied(5)]);
    assert_eq!(
        (machine.trust(), machine.take_tally().restarts),
        (Trust::Partial, 0)
    );
}

#[test]
fn a_restart_on_one_connection() {
    let mut machine = whole(3);
    assert_eq!(live(&mut machine, 1, &[4]), [Applied(4)]);
    assert_eq!(
        live(&mut machine, 2, &[0, 1]),
        [Cleared(Restart), Applied(0), Applied(1)]
    );
    assert_eq!(
        (machine.trust(), machine.take_tally().restarts),
        (Trust::Exact, 1)
    );
}

#[test]
fn a_restart_whose_beginning_was_missed_asks_for_it() {
    let mut machine = whole(3);
    assert_eq!(live(&mut machine, 1, &[4]), [Applied(4)]);
    assert_eq!(live(&mut machine, 2, &[2]), [Cleared(Restart), Asked(0)]);
    assert_eq!(
        replay(&mut machine, 2, &[0, 1, 2]),
        [Applied(0), Applied(1), Applied(2), Dropped(1, Duplicate)]
    );
    let tally = machine.take_tally();
    assert_eq!(
        (machine.trust(), tally.restarts, tally.gaps),
        (Trust::Exact, 1, 0)
    );
}

#[test]
fn a_restart_without_a_replay_socket() {
    let mut machine = alone();
    assert_eq!(
        live(&mut machine, 1, &[0, 1, 2]),
        [Applied(0), Applied(1), Applied(2)]
    );
    assert_eq!(live(&mut machine, 2, &[0]), [Cleared(Restart), Applied(0)]);
    assert_eq!(machine.trust(), Trust::Exact);
    assert_eq!(live(&mut machine, 2, &[1, 2]), [Applied(1), Applied(2)]);
    // The beginning of the third life is lost.
    assert_eq!(live(&mut machine, 3, &[1]), [Cleared(Restart), Applied(1)]);
    assert_eq!(
        (machine.trust(), machine.take_tally().restarts),
        (Trust::Partial, 2)
    );
}

#[test]
fn a_reconnection_to_the_same_life_goes_on() {
    let mut machine = whole(3);
    machine.disconnected();
    assert_eq!(machine.trust(), Trust::Stale);
    machine.connected();
    assert_eq!(drain(&mut machine), [Asked(3)]);
    assert_eq!(
        replay(&mut machine, 1, &[3, 4]),
        [Dropped(1, Duplicate), Applied(4)]
    );
    assert_eq!(live(&mut machine, 1, &[5]), [Applied(5)]);
    let tally = machine.take_tally();
    assert_eq!(
        (machine.trust(), tally.restarts, tally.gaps),
        (Trust::Exact, 0, 0)
    );
}

#[test]
fn a_restart_that_overtook_us_while_away_is_caught() {
    let mut machine = whole(3);
    machine.disconnected();
    machine.connected();
    // To the number it looks like a continuation.
    assert_eq!(live(&mut machine, 2, &[4]), [Asked(3)]);
    machine.replayed(batch(2, 3));
    assert_eq!(
        drain(&mut machine),
        [Dropped(1, OtherLife), Cleared(Restart), Asked(0)]
    );
    assert_eq!(
        replay(&mut machine, 2, &[0, 1, 2, 3, 4]),
        [
            Applied(0),
            Applied(1),
            Applied(2),
            Applied(3),
            Applied(4),
            Dropped(1, Duplicate)
        ]
    );
    assert_eq!(
        (machine.trust(), machine.take_tally().restarts),
        (Trust::Exact, 1)
    );
}

#[test]
fn a_restart_that_is_still_behind_us_is_caught_without_a_live_batch() {
    let mut machine = whole(9);
    machine.disconnected();
    machine.connected();
    assert_eq!(drain(&mut machine), [Asked(9)]);
    assert_eq!(replay(&mut machine, 2, &[]), [Cleared(Restart), Asked(0)]);
    assert_eq!(replay(&mut machine, 2, &[0, 1]), [Applied(0), Applied(1)]);
    assert_eq!(machine.trust(), Trust::Exact);
}

#[test]
fn leftovers_of_the_life_before_are_never_applied_to_the_new_one() {
    let mut machine = whole(3);
    // 4 and 5 were received, but the connection is another one before they are judged.
    machine.live(batch(1, 4));
    machine.live(batch(1, 5));
    machine.disconnected();
    machine.connected();
    assert_eq!(drain(&mut machine), [Asked(3)]);
    assert_eq!(
        replay(&mut machine, 2, &[]),
        [Dropped(2, OtherLife), Cleared(Restart), Asked(0)]
    );
    assert_eq!(replay(&mut machine, 2, &[0]), [Applied(0)]);
}

#[test]
fn without_a_replay_socket_a_reconnection_proves_nothing() {
    let mut machine = alone();
    assert_eq!(live(&mut machine, 1, &[0, 1]), [Applied(0), Applied(1)]);
    machine.disconnected();
    assert_eq!(machine.trust(), Trust::Stale);
    machine.connected();
    assert_eq!(live(&mut machine, 2, &[2]), [Cleared(Unproven), Applied(2)]);
    assert_eq!(machine.trust(), Trust::Partial);
}

#[test]
fn a_restart_hidden_behind_a_proxy_is_seen_by_its_bytes() {
    let mut machine = whole(300);
    // The new life's first 200 numbers were lost on the way.
    assert_eq!(live(&mut machine, 2, &[200]), [Cleared(Restart), Asked(0)]);
    // The engine says otherwise: it was a leftover.
    let numbers: Vec<u64> = (0..=300).collect();
    let did = replay(&mut machine, 1, &numbers);
    assert_eq!(did.len(), 302);
    assert_eq!(did[201], Dropped(1, OtherLife));
    assert_eq!(live(&mut machine, 1, &[301]), [Applied(301)]);
}

#[test]
fn a_silent_replay_leaves_a_partial_run_and_is_asked_again() {
    let mut machine = Sequence::new(true);
    machine.connected();
    assert_eq!(live(&mut machine, 1, &[5, 6]), [Asked(0)]);
    machine.replay_failed();
    assert_eq!(drain(&mut machine), [Applied(5), Applied(6)]);
    assert_eq!(machine.trust(), Trust::Partial);
    assert!(machine.wants_retry());
    machine.retry();
    // What there is stays in use until the replay answers.
    assert_eq!(live(&mut machine, 1, &[7]), [Asked(0), Applied(7)]);
    assert_eq!(machine.trust(), Trust::Partial);
    let did = replay(&mut machine, 1, &[0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(did[..3], [Cleared(Rebuild), Applied(0), Applied(1)]);
    assert_eq!((machine.trust(), machine.last()), (Trust::Exact, Some(7)));
    assert!(!machine.wants_retry());
}

#[test]
fn a_retry_that_reaches_no_further_back_is_given_up() {
    let mut machine = Sequence::new(true);
    machine.connected();
    assert_eq!(live(&mut machine, 1, &[5]), [Asked(0)]);
    machine.replay_failed();
    assert_eq!(drain(&mut machine), [Applied(5)]);
    machine.retry();
    assert_eq!(drain(&mut machine), [Asked(0)]);
    machine.replayed(batch(1, 5));
    assert_eq!(drain(&mut machine), [Dropped(1, Duplicate), Stopped]);
    assert!(!machine.wants_retry());
    assert_eq!(machine.trust(), Trust::Partial);
}

#[test]
fn an_engine_that_is_silent_in_every_way_is_stale() {
    let mut machine = Sequence::<Plain>::new(true);
    machine.connected();
    assert_eq!(drain(&mut machine), [Asked(0)]);
    machine.replay_failed();
    assert_eq!(machine.trust(), Trust::Stale);
    machine.retry();
    assert_eq!(drain(&mut machine), [Asked(0)]);
    assert_eq!(replay(&mut machine, 1, &[0]), [Applied(0)]);
    assert_eq!(machine.trust(), Trust::Exact);
}

#[test]
fn a_silent_replay_after_a_reconnection_drops_what_is_unproven() {
    let mut machine = whole(3);
    machine.disconnected();
    machine.connected();
    assert_eq!(live(&mut machine, 1, &[4]), [Asked(3)]);
    machine.replay_failed();
    assert_eq!(drain(&mut machine), [Cleared(Unproven), Applied(4)]);
    assert_eq!(machine.trust(), Trust::Partial);
}

#[test]
fn a_replay_that_breaks_off_is_stale_until_a_live_batch_joins_it() {
    let mut machine = Sequence::new(true);
    machine.connected();
    assert_eq!(drain(&mut machine), [Asked(0)]);
    machine.replayed(batch(1, 0));
    machine.replay_failed();
    assert_eq!(drain(&mut machine), [Applied(0)]);
    assert_eq!(machine.trust(), Trust::Stale);
    assert!(machine.wants_retry());
    assert_eq!(live(&mut machine, 1, &[1]), [Applied(1)]);
    assert_eq!(machine.trust(), Trust::Exact);
    assert!(!machine.wants_retry());
}

#[test]
fn too_much_held_back_becomes_a_gap_that_is_asked_for() {
    let mut machine = Sequence::new(true).with_held_bytes_max(25);
    machine.connected();
    assert_eq!(
        live(&mut machine, 1, &[1, 2, 3, 4]),
        [Asked(0), Dropped(1, HeldBackFull), Dropped(1, HeldBackFull)]
    );
    assert_eq!(
        replay(&mut machine, 1, &[0]),
        [Applied(0), Applied(1), Applied(2), Asked(2)]
    );
    assert_eq!(machine.trust(), Trust::Replaying);
    assert_eq!(
        replay(&mut machine, 1, &[2, 3, 4]),
        [Dropped(1, Duplicate), Applied(3), Applied(4)]
    );
    assert_eq!(
        (machine.trust(), machine.take_tally().gaps),
        (Trust::Exact, 1)
    );
}

#[test]
fn an_answer_that_nobody_asked_for_is_dropped() {
    let mut machine = whole(3);
    machine.replayed(batch(1, 4));
    assert_eq!(drain(&mut machine), [Dropped(1, NotAsked)]);
}

#[test]
fn losing_the_connection_stops_the_replay_and_the_next_one_asks_again() {
    let mut machine = Sequence::new(true);
    machine.connected();
    machine.replayed(batch(1, 0));
    machine.disconnected();
    assert_eq!(drain(&mut machine), [Asked(0), Applied(0), Stopped]);
    assert_eq!(machine.trust(), Trust::Stale);
    machine.connected();
    assert_eq!(drain(&mut machine), [Asked(0)]);
    assert_eq!(
        replay(&mut machine, 1, &[0, 1]),
        [Dropped(1, Duplicate), Applied(1)]
    );
    assert_eq!(machine.trust(), Trust::Exact);
}

#[test]
fn numbers_at_the_end_of_their_range_do_not_panic() {
    let mut machine = alone();
    let did = live(&mut machine, 1, &[u64::MAX - 1, u64::MAX, 0, u64::MAX]);
    assert_eq!(
        did,
        [
            Applied(u64::MAX - 1),
            Applied(u64::MAX),
            Cleared(Restart),
            Applied(0),
            Cleared(Gap),
            Applied(u64::MAX)
        ]
    );
}

#[test]
fn what_comes_over_a_new_connection_waits_until_it_is_known() {
    let mut machine = alone();
    assert_eq!(live(&mut machine, 1, &[0, 1]), [Applied(0), Applied(1)]);
    machine.disconnected();
    // The socket may hand these out before its monitor tells of the connection.
    assert_eq!(live(&mut machine, 2, &[0, 1]), []);
    machine.connected();
    assert_eq!(
        drain(&mut machine),
        [Cleared(Unproven), Applied(0), Applied(1)]
    );
    assert_eq!(machine.trust(), Trust::Exact);
}

#[test]
fn what_came_over_the_old_connection_still_counts() {
    let mut machine = whole(3);
    machine.live(batch(1, 4));
    machine.disconnected();
    assert_eq!(drain(&mut machine), [Applied(4)]);
    machine.live(batch(2, 5));
    assert_eq!(drain(&mut machine), []);
    machine.connected();
    assert_eq!(drain(&mut machine), [Asked(4)]);
    // The new life's batch is kept: the ring that answers may be too small for it.
    machine.replayed(batch(2, 4));
    assert_eq!(
        drain(&mut machine),
        [Dropped(1, OtherLife), Cleared(Restart), Asked(0)]
    );
    assert_eq!(replay(&mut machine, 2, &[4]), [Applied(4), Applied(5)]);
    assert_eq!(machine.trust(), Trust::Partial);
}
