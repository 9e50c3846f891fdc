//! What single events do, and what faults in them do to trust.
use super::rig::*;
use kvroute::limits::FRAME_BYTES_MAX;
use kvroute::status::{SkipReason, Trust};
use rmpv::Value;

#[test]
fn adapters_are_contexts_of_their_own() {
    let (rig, engine) = (Rig::new(), engine());
    let worker = following(&rig, &engine, 1);
    let by_name = stored_with(1, 1, &[("lora_name", "sql".into())]);
    let by_number = stored_with(1, 2, &[("lora_id", 7.into())]);
    engine
        .publish(1, &payload(1, 1, vec![by_name, by_number]))
        .unwrap();
    worker.wait_for(1);
    assert_eq!(rig.score(&worker, None, &tokens(1, 1)), 0);
    assert_eq!(rig.score(&worker, Some("sql"), &tokens(1, 1)), 1);
    assert_eq!(rig.score(&worker, Some("lora_id:7"), &tokens(1, 2)), 1);
    let names: Vec<String> = worker
        .status
        .adapter_names()
        .iter()
        .map(|n| n.to_string())
        .collect();
    assert_eq!(names, ["lora_id:7", "sql"]);
    assert_eq!(worker.status.trust(), Trust::Exact);
}

#[test]
fn a_removal_takes_the_copy_of_its_medium_only() {
    let (rig, engine) = (Rig::new(), engine());
    let worker = following(&rig, &engine, 1);
    let copies = ["GPU", "cpu", "STORAGE"].map(|m| stored_with(1, 1, &[("medium", m.into())]));
    engine.publish(1, &payload(1, 1, copies.to_vec())).unwrap();
    for (n, medium, left) in [(2, "CPU", 1), (3, "Disk", 1), (4, "GPU", 0)] {
        let event = removed_with(1, 1, &[("medium", medium.into())]);
        engine
            .publish(n, &payload(1, n as u32, vec![event]))
            .unwrap();
        worker.wait_for(n);
        assert_eq!(
            rig.score(&worker, None, &tokens(1, 1)),
            left,
            "after {medium}"
        );
    }
    assert_eq!(worker.status.trust(), Trust::Exact);
}

#[test]
fn a_removal_of_what_is_not_there_is_counted_and_harmless() {
    let (rig, engine) = (Rig::new(), engine());
    let worker = following(&rig, &engine, 2);
    engine
        .publish(
            2,
            &payload(1, 2, vec![removed(1, 9), removed(1, 0), removed(1, 0)]),
        )
        .unwrap();
    worker.wait_for(2);
    assert_eq!(worker.skipped(SkipReason::UnknownRemoval), 2);
    assert_eq!(worker.status.trust(), Trust::Exact);
    assert_eq!(rig.held(&worker, 1, 0..3), [1]);
}

#[test]
fn an_event_of_the_future_does_not_disturb_the_others() {
    let (rig, engine) = (Rig::new(), engine());
    let worker = following(&rig, &engine, 1);
    let events = vec![stored(1, 1), event("BlockAdmired", &[]), stored(1, 2)];
    engine.publish(1, &payload(1, 1, events)).unwrap();
    worker.wait_for(1);
    assert_eq!(worker.skipped(SkipReason::UnknownTag), 1);
    assert_eq!(rig.held(&worker, 1, 0..4), [0, 1, 2]);
}

#[test]
fn a_store_that_is_not_understood_only_makes_the_worker_partial() {
    let (rig, engine) = (Rig::new(), engine());
    let worker = following(&rig, &engine, 1);
    let pair = Value::Array(vec![1.into(), 2.into()]);
    let pairs = [("token_ids", Value::Array(vec![pair; BLOCK_SIZE]))];
    let fits_not = [("token_ids", Value::Array(vec![1.into()]))];
    let elsewhere = [("medium", "MARS".into())];
    let faults = [&pairs, &fits_not, &elsewhere].map(|fault| stored_with(1, 5, fault));
    let mut events = faults.to_vec();
    events.push(stored(1, 1));
    engine.publish(1, &payload(1, 1, events)).unwrap();
    worker.wait_for(1);
    for reason in [
        SkipReason::TokenPairs,
        SkipReason::Counts,
        SkipReason::Medium,
    ] {
        assert_eq!(worker.skipped(reason), 1, "{reason:?}");
    }
    assert_eq!(worker.status.trust(), Trust::Partial);
    assert_eq!(rig.held(&worker, 1, 0..3), [0, 1]);
}

#[test]
fn a_fault_that_may_hide_a_removal_leaves_nothing_credited() {
    let no_event = Value::from(17);
    let no_hashes = event("BlockRemoved", &[("block_hashes", "x".into())]);
    let elsewhere = removed_with(1, 9, &[("medium", "MARS".into())]);
    for (fault, reason) in [
        (no_event, SkipReason::Shape),
        (no_hashes, SkipReason::Field),
        (elsewhere, SkipReason::Medium),
    ] {
        let (rig, engine) = (Rig::new(), engine());
        let worker = following(&rig, &engine, 2);
        engine
            .publish(2, &payload(1, 2, vec![fault, stored(1, 2)]))
            .unwrap();
        worker.wait_for(2);
        assert_eq!(worker.skipped(reason), 1, "{reason:?}");
        assert_eq!(worker.status.trust(), Trust::Partial, "{reason:?}");
        assert_eq!(rig.held(&worker, 1, 0..4), [2], "{reason:?}");
    }
}

#[test]
fn a_batch_that_breaks_off_leaves_nothing_credited() {
    let (rig, engine) = (Rig::new(), engine());
    let worker = following(&rig, &engine, 2);
    let whole = payload(1, 2, vec![stored(1, 2), removed(1, 0)]);
    engine.publish(2, &whole[..whole.len() - 3]).unwrap();
    worker.wait_for(2);
    assert_eq!(worker.skipped(SkipReason::MalformedBatch), 1);
    assert_eq!(worker.status.trust(), Trust::Partial);
    assert_eq!(rig.held(&worker, 1, 0..4), NONE);
    // A clear makes it void.
    engine
        .publish(3, &payload(1, 3, vec![cleared(), stored(1, 3)]))
        .unwrap();
    worker.wait_for(3);
    worker.wait_until(Trust::Exact);
    assert_eq!(rig.held(&worker, 1, 0..4), [3]);
}

#[test]
fn a_group_of_unknown_meaning_is_never_credited() {
    let (rig, engine) = (Rig::new(), engine());
    let worker = following(&rig, &engine, 2);
    let kind = |name: &str, group: u32| {
        [
            ("group_idx", Value::from(group)),
            ("kv_cache_spec_kind", Value::from(name)),
        ]
    };
    let events = vec![
        stored_with(1, 2, &kind("full_attention", 0)),
        stored_with(1, 2, &kind("sliding_window", 1)),
        stored_with(1, 3, &kind("full_attention", 0)),
    ];
    engine.publish(2, &payload(1, 2, events)).unwrap();
    worker.wait_for(2);
    assert_eq!(worker.status.trust(), Trust::Distrusted);
    assert_eq!(worker.skipped(SkipReason::Group), 1);
    assert_eq!(rig.held(&worker, 1, 0..5), NONE);
    // It stays so through a clear, and ends with the engine's life.
    engine
        .publish(3, &payload(1, 3, vec![cleared(), stored(1, 3)]))
        .unwrap();
    worker.wait_for(3);
    assert_eq!(worker.status.trust(), Trust::Distrusted);
    assert_eq!(rig.held(&worker, 1, 0..5), NONE);
    engine.restart();
    publish(&engine, 2, 0..1);
    worker.wait_for(0);
    worker.wait_until(Trust::Exact);
    assert_eq!(rig.held(&worker, 2, 0..2), [0]);
}

#[test]
fn two_full_groups_are_not_mistaken_for_one() {
    let (rig, engine) = (Rig::new(), engine());
    let worker = following(&rig, &engine, 1);
    let group = |n: u32| {
        [
            ("group_idx", Value::from(n)),
            ("kv_cache_spec_kind", Value::from("full_attention")),
        ]
    };
    // Both groups hold the block; then one of them evicts it, so it cannot be reused.
    let events = vec![stored_with(1, 1, &group(0)), stored_with(1, 1, &group(1))];
    engine.publish(1, &payload(1, 1, events)).unwrap();
    let gone = removed_with(1, 1, &[("group_idx", Value::from(0))]);
    engine.publish(2, &payload(1, 2, vec![gone])).unwrap();
    worker.wait_for(2);
    assert_eq!(rig.score(&worker, None, &tokens(1, 1)), 0);
}

#[test]
fn a_batch_that_is_too_large_is_lost_at_once() {
    let (rig, engine) = (Rig::new(), engine());
    let worker = following(&rig, &engine, 2);
    // Whatever it holds, it may remove what was stored before.
    engine.publish(2, &vec![0; FRAME_BYTES_MAX + 1]).unwrap();
    worker.wait_for(2);
    assert_eq!(worker.skipped(SkipReason::FrameTooLarge), 1);
    assert_eq!(worker.status.trust(), Trust::Partial);
    assert_eq!(rig.held(&worker, 1, 0..2), NONE);
    publish(&engine, 1, 3..4);
    worker.wait_for(3);
    assert_eq!(rig.held(&worker, 1, 0..4), [3]);
}
