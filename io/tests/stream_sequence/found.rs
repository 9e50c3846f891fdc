//! What the simulator of streams under faults (`stream_faults`) has found.
use super::bench::Did::{Applied, Asked, Cleared, Dropped};
use super::bench::*;
use kvroute::status::Trust;
use kvroute::stream::sequence::ClearReason::{Gap, Rebuild, Restart, Unproven};
use kvroute::stream::sequence::DropReason::{Duplicate, HeldBackFull, OtherLife};
use kvroute::stream::sequence::Sequence;

/// A thread had stalled, and 32 MB of batches of an engine without a replay socket were waiting. What did not
/// fit was dropped, the rest applied, and the worker was exact until the next batch showed the
/// gap: minutes, if the engine was idle, without the removals that were dropped.
#[test]
fn what_is_dropped_for_want_of_room_is_a_gap_at_once_without_a_replay_socket() {
    let mut machine = alone().with_held_bytes_max(20);
    for n in 0..3 {
        machine.live(batch(1, n));
    }
    assert_eq!(
        drain(&mut machine),
        [
            Dropped(1, HeldBackFull),
            Applied(0),
            Applied(1),
            Cleared(Gap)
        ]
    );
    assert_eq!(
        (machine.trust(), machine.take_tally().gaps),
        (Trust::Partial, 1)
    );
    assert_eq!(live(&mut machine, 1, &[3]), [Applied(3)]);
    assert_eq!(
        (machine.trust(), machine.take_tally().gaps),
        (Trust::Partial, 0)
    );
}

/// Behind a proxy that keeps the node's connections, an engine restarted while it was answering a replay. The answers
/// of the old life were slower than the new life's first live batches; those were dropped as leftovers, and the
/// new life's next batch was applied on top of the old life's history: credited with blocks that nobody
/// held, and exact.
#[test]
fn late_answers_of_the_life_before_do_not_begin_the_new_one() {
    let mut machine = Sequence::new(true);
    machine.connected();
    assert_eq!(drain(&mut machine), [Asked(0)]);
    assert_eq!(live(&mut machine, 2, &[0, 1]), []);
    machine.replayed(batch(1, 0));
    assert_eq!(
        drain(&mut machine),
        [
            Applied(0),
            Cleared(Restart),
            Dropped(2, OtherLife),
            Asked(0)
        ]
    );
    assert_eq!(replay(&mut machine, 2, &[0, 1]), [Applied(0), Applied(1)]);
    assert_eq!(live(&mut machine, 2, &[2]), [Applied(2)]);
}

/// The same the other way around: the old life's batches were held back while the new life answered with its
/// first, and were applied after it.
#[test]
fn what_is_held_of_the_life_before_does_not_follow_the_new_one() {
    let mut machine = Sequence::new(true);
    machine.connected();
    assert_eq!(drain(&mut machine), [Asked(0)]);
    assert_eq!(live(&mut machine, 1, &[0, 1, 2]), []);
    machine.replayed(batch(2, 0));
    assert_eq!(
        drain(&mut machine),
        [
            Applied(0),
            Cleared(Restart),
            Dropped(3, OtherLife),
            Asked(0)
        ]
    );
    assert_eq!(replay(&mut machine, 2, &[0]), [Applied(0)]);
    assert_eq!(machine.trust(), Trust::Exact);
}

/// Behind a proxy, an engine restarted in the middle of a replay, which therefore never ended. The new life's first
/// batches were held back meanwhile; when the replay was given up they were dropped as leftovers of the life
/// before, because a replay had said otherwise, and the next batch was applied on top of the old life's.
#[test]
fn a_replay_that_broke_off_knows_nothing_of_what_came_after_it_was_asked_for() {
    let mut machine = Sequence::new(true);
    machine.connected();
    assert_eq!(drain(&mut machine), [Asked(0)]);
    (0..3).for_each(|n| machine.replayed(batch(1, n)));
    assert_eq!(drain(&mut machine), [Applied(0), Applied(1), Applied(2)]);
    assert_eq!(live(&mut machine, 2, &[0, 1]), []);
    machine.replay_failed();
    assert_eq!(
        drain(&mut machine),
        [Cleared(Restart), Applied(0), Applied(1)]
    );
    assert_eq!(
        (machine.trust(), machine.take_tally().restarts),
        (Trust::Exact, 1)
    );
}

/// A partial run was live while an earlier beginning was asked for. Two batches were published after the engine had
/// answered, and were applied before the first answer was read. That cleared the run and began anew, up to where
/// the answer ended: the two were missing, and the worker was exact until the next batch showed a gap.
#[test]
fn what_was_live_while_a_replay_was_on_its_way_is_asked_for_again() {
    let mut machine = Sequence::new(true);
    machine.connected();
    assert_eq!(live(&mut machine, 1, &[3]), [Asked(0)]);
    machine.replay_failed();
    assert_eq!(drain(&mut machine), [Applied(3)]);
    machine.retry();
    assert_eq!(drain(&mut machine), [Asked(0)]);
    assert_eq!(live(&mut machine, 1, &[4, 5]), [Applied(4), Applied(5)]);
    let did = replay(&mut machine, 1, &[0, 1, 2, 3]);
    assert_eq!(did[0], Cleared(Rebuild));
    assert_eq!(did[4..], [Applied(3), Asked(3)]);
    assert_eq!(machine.trust(), Trust::Replaying);
    let did = replay(&mut machine, 1, &[3, 4, 5]);
    assert_eq!(did, [Dropped(1, Duplicate), Applied(4), Applied(5)]);
    assert_eq!(
        (machine.trust(), machine.take_tally().gaps),
        (Trust::Exact, 0)
    );
    assert_eq!(live(&mut machine, 1, &[6]), [Applied(6)]);
}

/// A partial run came from a ring that had rotated, and nothing was heard live yet when the engine restarted behind a
/// proxy. Its new numbers were older than anything that could be compared, and each above the last: all were
/// taken for duplicates that had been queued while the replay ran, until they came up to the run's.
#[test]
fn number_0_begins_a_life_that_a_later_run_does_not_know() {
    let mut machine = Sequence::new(true);
    machine.connected();
    assert_eq!(drain(&mut machine), [Asked(0)]);
    assert_eq!(
        replay(&mut machine, 1, &[77, 78]),
        [Applied(77), Applied(78)]
    );
    let did = live(&mut machine, 2, &[0, 1]);
    assert_eq!(did, [Cleared(Restart), Applied(0), Applied(1)]);
    assert_eq!(
        (machine.trust(), machine.take_tally().restarts),
        (Trust::Exact, 1)
    );
}

/// A worker was told to verify while its replay waited for its cool-down. Then that could be asked for, and failed at
/// once; the machine went live, and only now took out the second request. Its answers were dropped, because none
/// was waited for, its end marker was taken for that of a retry, and no other was asked for ever after.
#[test]
fn a_failed_replay_takes_a_second_request_with_it() {
    let mut machine = whole(1);
    assert_eq!(live(&mut machine, 1, &[5]), [Asked(1)]);
    machine.verify(false);
    machine.replay_failed();
    assert_eq!(drain(&mut machine), [Cleared(Unproven), Applied(5)]);
    assert!(machine.wants_retry());
    machine.retry();
    assert_eq!(drain(&mut machine), [Asked(0)]);
    let did = replay(&mut machine, 1, &[0, 1, 2, 3, 4, 5]);
    assert_eq!(did[0], Cleared(Rebuild));
    assert_eq!((machine.trust(), machine.last()), (Trust::Exact, Some(5)));
}

/// An engine's answer had a number far ahead of its life, and its batch began with a clear. From then on every live
/// batch was taken for one that had been queued while the replay ran: dropped, and the worker exact.
#[test]
fn a_number_far_ahead_in_a_replay_does_not_silence_the_stream() {
    let mut machine = Sequence::new(true);
    machine.connected();
    assert_eq!(drain(&mut machine), [Asked(0)]);
    machine.replayed(batch(1, 0));
    machine.replayed(clearing(1, 1_000_000));
    machine.replayed(batch(1, 2));
    machine.replay_ended();
    let _ = drain(&mut machine);
    let _ = live(&mut machine, 1, &[3, 4, 5]);
    assert!(
        machine.last() == Some(5) || machine.trust() != Trust::Exact,
        "{:?} at {:?}",
        machine.trust(),
        machine.last()
    );
}

/// Doubled live batches, older than a ring that had rotated, were held back: each second one was taken for a
/// restart, and led to another replay after the longest pause.
#[test]
fn a_batch_that_comes_twice_is_no_restart() {
    let mut machine = Sequence::new(true);
    machine.connected();
    assert_eq!(live(&mut machine, 1, &[7, 7, 8, 8]), [Asked(0)]);
    let did = replay(&mut machine, 1, &[20, 21]);
    assert_eq!(did[..2], [Applied(20), Applied(21)]);
    assert_eq!(did[2..], [(); 4].map(|()| Dropped(1, Duplicate)));
    assert_eq!(
        (machine.trust(), machine.take_tally().restarts),
        (Trust::Partial, 0)
    );
}

/// Batches of a connection that was lost waited for the replay that was to say whether their engine still lived.
/// Somebody asked for another proof meanwhile, and that replay no longer knew what it had been asked for: when it ended,
/// in an idle engine's new life, the old batches were applied.
#[test]
fn a_proof_that_is_asked_for_twice_is_still_one_of_the_life() {
    let mut machine = Sequence::new(true);
    machine.connected();
    assert_eq!(live(&mut machine, 1, &[0, 1, 2, 3]), [Asked(0)]);
    machine.disconnected();
    machine.connected();
    machine.verify(false);
    drain(&mut machine);
    assert_eq!(replay(&mut machine, 2, &[]), [Dropped(4, OtherLife)]);
    assert_eq!((machine.last(), machine.trust()), (None, Trust::Exact));
}
