//! What single events do, and what faults in them do to trust.
use super::rig::*;
use kvroute::fake::FakeEngine;
use kvroute::limits::FRAME_BYTES_MAX;
use kvroute::status::{SkipReason, Trust};
use rmpv::Value;

/// Another engine's life, in which all is as it should be.
fn begins_anew(rig: &Rig, worker: &Followed, engine: &FakeEngine) {
    engine.restart();
    publish(engine, 2, 0..1);
    worker.wait_for(0);
    worker.wait_until(Trust::Exact);
    assert_eq!(rig.held(worker, 2, 0..2), [0]);
}

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
    worker.wait_until(Trust::Exact);
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
    worker.wait_until(Trust::Exact);
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
    worker.wait_until(Trust::Exact);
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
    worker.wait_until(Trust::Partial);
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
    worker.wait_until(Trust::Partial);
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
        stored_with(1, 2, &kind("mamba", 1)),
        stored_with(1, 3, &kind("full_attention", 0)),
    ];
    engine.publish(2, &payload(1, 2, events)).unwrap();
    worker.wait_for(2);
    worker.wait_until(Trust::Distrusted);
    assert_eq!(worker.skipped(SkipReason::Group), 1);
    assert_eq!(rig.held(&worker, 1, 0..5), NONE);
    // It stays so through a clear, and ends with the engine's life.
    engine
        .publish(3, &payload(1, 3, vec![cleared(), stored(1, 3)]))
        .unwrap();
    worker.wait_for(3);
    worker.wait_until(Trust::Distrusted);
    assert_eq!(rig.held(&worker, 1, 0..5), NONE);
    begins_anew(&rig, &worker, &engine);
}

#[test]
fn a_window_without_its_size_is_never_credited() {
    let (rig, engine) = (Rig::new(), engine());
    let worker = following(&rig, &engine, 2);
    let unsized_window = [
        ("group_idx", Value::from(1)),
        ("kv_cache_spec_kind", Value::from("sliding_window")),
    ];
    let event = stored_with(1, 2, &unsized_window);
    engine.publish(2, &payload(1, 2, vec![event])).unwrap();
    worker.wait_for(2);
    worker.wait_until(Trust::Distrusted);
    assert_eq!(worker.skipped(SkipReason::Group), 1);
    assert_eq!(rig.held(&worker, 1, 0..2), NONE);
}

/// Fields of a group: its number, and its window in tokens unless it is full attention.
fn group(number: u32, window: Option<u32>) -> Vec<(&'static str, Value)> {
    let kind = window.map_or("full_attention", |_| "sliding_window");
    let mut fields = vec![
        ("group_idx", Value::from(number)),
        ("kv_cache_spec_kind", Value::from(kind)),
    ];
    if let Some(window) = window {
        fields.push(("kv_cache_spec_sliding_window", Value::from(window)));
    }
    fields
}

/// A window of one block.
const WINDOW: u32 = BLOCK_SIZE as u32 + 1;

/// A worker that follows from before the first batch on.
fn joining(rig: &Rig, engine: &FakeEngine) -> Followed {
    let worker = rig.follow(engine);
    engine.wait_for_subscriber(PATIENCE).expect("a subscriber");
    worker
}

#[test]
fn a_sliding_window_bounds_what_is_credited() {
    let (rig, engine) = (Rig::new(), engine());
    let worker = joining(&rig, &engine);
    let of = |n: u32| [("group_idx", Value::from(n))];
    // Blocks 0 and 1 are prompts of one block each. The window's group has the lower number, and is told first.
    let window = group(0, Some(WINDOW));
    let masked = |group: &[(&str, Value)]| {
        let tokens = tokens(1, 1).into_iter().map(Value::from).collect();
        let fields = [
            ("block_hashes", Value::Array(Vec::new())),
            ("parent_block_hash", Value::Nil),
            ("token_ids", Value::Array(tokens)),
            ("block_size", Value::from(BLOCK_SIZE)),
        ];
        event("BlockStored", &[&fields, group].concat())
    };
    let both = |n: u32| {
        let windowed = stored_with(1, n, &window);
        vec![windowed, stored_with(1, n, &group(1, None))]
    };
    let steps = [
        (both(0), vec![0]),
        // All of the event's blocks are left out: the window is there, and block 1 not in it.
        (
            vec![masked(&window), stored_with(1, 1, &group(1, None))],
            vec![0],
        ),
        (vec![stored_with(1, 1, &window)], vec![0, 1]),
        // Evicted from the window, then told again and evicted from the full group.
        (vec![removed_with(1, 0, &of(0))], vec![1]),
        (vec![stored_with(1, 0, &window)], vec![0, 1]),
        (vec![removed_with(1, 1, &of(1))], vec![0]),
        // Nothing was ever stored in that group.
        (vec![removed_with(1, 0, &of(7))], vec![0]),
        (vec![cleared()], vec![]),
        (vec![stored_with(1, 0, &group(1, None))], vec![]),
        (both(1), vec![1]),
    ];
    for (n, (events, expected)) in steps.into_iter().enumerate() {
        let n = n as u32;
        engine.publish(n.into(), &payload(1, n, events)).unwrap();
        worker.wait_for(n.into());
        assert_eq!(rig.held(&worker, 1, 0..2), expected, "after batch {n}");
    }
    worker.wait_until(Trust::Exact);
    assert_eq!(worker.skipped(SkipReason::UnknownRemoval), 1);
    // Another engine, without windows.
    begins_anew(&rig, &worker, &engine);
}

#[test]
fn a_window_bounds_even_if_its_blocks_cannot_be_taken_in() {
    let (rig, engine) = (Rig::new(), engine());
    let worker = joining(&rig, &engine);
    let mut elsewhere = group(0, Some(WINDOW));
    elsewhere.push(("medium", "MARS".into()));
    let events = vec![
        stored_with(1, 0, &elsewhere),
        stored_with(1, 0, &group(1, None)),
    ];
    engine.publish(0, &payload(1, 0, events)).unwrap();
    worker.wait_for(0);
    worker.wait_until(Trust::Partial);
    assert_eq!(worker.skipped(SkipReason::Medium), 1);
    assert_eq!(rig.held(&worker, 1, 0..1), NONE);
}

#[test]
fn two_full_groups_are_not_mistaken_for_one() {
    let (rig, engine) = (Rig::new(), engine());
    let worker = following(&rig, &engine, 1);
    let group = |n: u32| group(n, None);
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
    worker.wait_until(Trust::Partial);
    assert_eq!(rig.held(&worker, 1, 0..2), NONE);
    publish(&engine, 1, 3..4);
    worker.wait_for(3);
    assert_eq!(rig.held(&worker, 1, 0..4), [3]);
}
