//! What the simulator of streams under faults (`stream_faults`) has found.
use super::bench::Did::{Applied, Asked, Cleared, Dropped};
use super::bench::*;
use kvroute::status::Trust;
use kvroute::stream::sequence::ClearReason::Gap;
use kvroute::stream::sequence::DropReason::HeldBackFull;

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
