//! Engines that do wrong, over real sockets. The same and more in virtual time: `stream_faults`.
use super::rig::*;
use kvroute::status::{SkipReason, Trust};
use std::time::Duration;

#[test]
fn what_was_lost_doubled_or_late_is_made_good() {
    for fault in [
        "lose=3",
        "double=2",
        "reorder=4",
        "slow=2",
        "half=2",
        "silent",
    ] {
        let rig = Rig::with_replay_time(Duration::from_millis(200));
        let engine = engine();
        lose(&engine, 1, 0..3);
        engine.set_faults(fault.parse().unwrap());
        let worker = rig.follow(&engine);
        engine.wait_for_subscriber(PATIENCE).unwrap();
        publish(&engine, 1, 3..23);
        // Only what was sent before the calm was sent wrongly.
        engine.set_faults("ring=10000".parse().unwrap());
        publish(&engine, 1, 23..25);
        until(&format!("{fault}: {:?}", worker.status), || {
            worker.status.last_sequence() == Some(24) && worker.status.trust() == Trust::Exact
        });
        let all: Vec<u32> = (0..25).collect();
        assert_eq!(rig.held(&worker, 1, 0..26), all, "{fault}");
    }
}

#[test]
fn a_payload_that_was_damaged_leaves_nothing_of_before_credited() {
    for fault in ["truncate=5", "garbage=5"] {
        let (rig, engine) = (Rig::new(), engine());
        let worker = following(&rig, &engine, 4);
        engine.set_faults(fault.parse().unwrap());
        publish(&engine, 1, 4..8);
        worker.wait_for(7);
        worker.wait_until(Trust::Partial);
        assert_eq!(worker.skipped(SkipReason::MalformedBatch), 1, "{fault}");
        // The fifth batch of all is number 4.
        assert_eq!(rig.held(&worker, 1, 0..9), [5, 6, 7], "{fault}");
    }
}
