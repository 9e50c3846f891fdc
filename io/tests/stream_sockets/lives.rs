//! Restarts and lost connections.
use super::rig::*;
use kvroute::status::{SkipReason, Trust};

#[test]
fn a_restart_behind_the_same_connection() {
    let (rig, engine) = (Rig::new(), engine());
    let worker = following(&rig, &engine, 5);
    engine.restart();
    publish(&engine, 2, 0..2);
    worker.wait_for(1);
    worker.wait_until(Trust::Exact);
    assert_eq!(rig.held(&worker, 1, 0..6), NONE);
    assert_eq!(rig.held(&worker, 2, 0..6), [0, 1]);
    assert_eq!((worker.status.restarts(), worker.status.gaps()), (1, 0));
}

#[test]
fn a_restart_without_a_replay_socket() {
    let (rig, engine) = (Rig::new(), engine_without_replay());
    let worker = following(&rig, &engine, 3);
    engine.restart();
    publish(&engine, 2, 0..1);
    worker.wait_for(0);
    worker.wait_until(Trust::Exact);
    assert_eq!(rig.held(&worker, 1, 0..4), NONE);
    assert_eq!(rig.held(&worker, 2, 0..4), [0]);
    assert_eq!(worker.status.restarts(), 1);
}

#[test]
fn a_restarted_process_that_is_still_behind_is_noticed_before_it_publishes() {
    let (rig, engine) = (Rig::new(), engine());
    let worker = following(&rig, &engine, 5);
    let engine = engine.restart_process().unwrap();
    until("the old life is gone", || worker.status.restarts() == 1);
    worker.wait_until(Trust::Exact);
    assert_eq!(rig.held(&worker, 1, 0..6), NONE);
    engine.wait_for_subscriber(PATIENCE).unwrap();
    publish(&engine, 2, 0..2);
    worker.wait_for(1);
    assert_eq!(rig.held(&worker, 2, 0..6), [0, 1]);
}

#[test]
fn a_restarted_process_that_has_overtaken_us_is_caught() {
    let (rig, engine) = (Rig::new(), engine());
    let worker = following(&rig, &engine, 3);
    let engine = engine.restart_process().unwrap();
    // By its number the next live batch would continue the life before. These are in the ring before
    // the node can have asked, or they are missing when it does; either way it must notice.
    lose(&engine, 2, 0..3);
    engine.wait_for_subscriber(PATIENCE).unwrap();
    publish(&engine, 2, 3..4);
    worker.wait_for(3);
    worker.wait_until(Trust::Exact);
    assert_eq!(rig.held(&worker, 1, 0..5), NONE);
    assert_eq!(rig.held(&worker, 2, 0..5), [0, 1, 2, 3]);
    assert_eq!(worker.status.restarts(), 1);
}

#[test]
fn a_restarted_process_without_replay_is_followed_from_its_first_batch() {
    let (rig, engine) = (Rig::new(), engine_without_replay());
    let worker = following(&rig, &engine, 3);
    let engine = engine.restart_process().unwrap();
    engine.wait_for_subscriber(PATIENCE).unwrap();
    publish(&engine, 2, 0..3);
    until("the old life is gone", || {
        rig.held(&worker, 1, 0..4) == NONE
    });
    worker.wait_for(2);
    worker.wait_until(Trust::Exact);
    assert_eq!(rig.held(&worker, 2, 0..4), [0, 1, 2]);
}

#[test]
fn a_restarted_process_without_replay_leaves_nothing_of_the_life_before() {
    let (rig, engine) = (Rig::new(), engine_without_replay());
    let worker = following(&rig, &engine, 3);
    let engine = engine.restart_process().unwrap();
    engine.wait_for_subscriber(PATIENCE).unwrap();
    // What comes before the node has noticed the new connection is of no proven life, so it is dropped.
    let mut next = 3;
    until("the new life is followed", || {
        publish(&engine, 2, next..next + 1);
        next += 1;
        worker.status.last_sequence().is_some_and(|last| last >= 3)
    });
    worker.wait_for(u64::from(next) - 1);
    assert_eq!(worker.status.trust(), Trust::Partial);
    assert_eq!(rig.held(&worker, 1, 0..6), NONE);
    let held = rig.held(&worker, 2, 0..next);
    assert_eq!(held.last(), Some(&(next - 1)));
    assert!(held[0] >= 3 && held.windows(2).all(|two| two[1] == two[0] + 1));
}

/// Its container says so. The connection is young, and may be one to the engine before all the same.
#[test]
fn what_nobody_can_prove_is_dropped_when_an_engine_is_said_to_be_restarted() {
    let (rig, engine) = (Rig::new(), engine_without_replay());
    let worker = following(&rig, &engine, 3);
    rig.streams.restarted(worker.id);
    until("nothing is held", || rig.held(&worker, 1, 0..4) == NONE);
    publish(&engine, 1, 3..5);
    worker.wait_for(4);
    worker.wait_until(Trust::Partial);
    assert_eq!(rig.held(&worker, 1, 0..6), [3, 4]);
}

/// It was another container of its pod.
#[test]
fn what_a_replay_proves_outlives_a_restart_that_was_none() {
    let (rig, engine) = (Rig::new(), engine());
    let worker = following(&rig, &engine, 3);
    let before = worker.status.replays();
    rig.streams.restarted(worker.id);
    until("it was asked", || worker.status.replays() > before);
    worker.wait_until(Trust::Exact);
    assert_eq!(rig.held(&worker, 1, 0..4), [0, 1, 2]);
    assert_eq!(worker.status.restarts(), 0);
}

#[test]
fn a_dead_engine_is_stale() {
    let (rig, engine) = (Rig::new(), engine());
    let worker = following(&rig, &engine, 3);
    drop(engine);
    worker.wait_until(Trust::Stale);
    // It may come back as it was, so what it held is kept until more is known.
    assert_eq!(rig.held(&worker, 1, 0..4), [0, 1, 2]);
}

#[test]
fn trust_that_events_have_spoilt_comes_back_with_a_restart() {
    let (rig, engine) = (Rig::new(), engine());
    let worker = following(&rig, &engine, 2);
    engine.publish(2, b"no batch").unwrap();
    worker.wait_for(2);
    assert_eq!(worker.status.trust(), Trust::Partial);
    assert_eq!(worker.skipped(SkipReason::MalformedBatch), 1);
    engine.restart();
    publish(&engine, 2, 0..2);
    worker.wait_for(1);
    worker.wait_until(Trust::Exact);
}

/// Names are resolved on other threads than libzmq's: one that has no address delays nobody.
#[test]
fn hosts_may_have_names() {
    let (rig, engine) = (Rig::new(), engine());
    publish(&engine, 1, 0..3);
    let named = |endpoint: &str| {
        let port = endpoint.rsplit(':').next().unwrap();
        format!("tcp://localhost:{port}")
    };
    let lost = rig.follow_at("tcp://no-such-host.invalid:5557", None);
    let replay = engine.replay_endpoint().map(named);
    let worker = rig.follow_at(&named(engine.events_endpoint()), replay.as_deref());
    worker.wait_for(2);
    worker.wait_until(Trust::Exact);
    assert_eq!(rig.held(&worker, 1, 0..4), [0, 1, 2]);
    lost.wait_until(Trust::Stale);
    // It is found again in a new life.
    let engine = engine.restart_process().unwrap();
    publish(&engine, 2, 0..5);
    worker.wait_for(4);
    worker.wait_until(Trust::Exact);
    assert_eq!(rig.held(&worker, 1, 0..4), NONE);
}

/// Without a replay socket no restart is ever proven; a new connection may lead to a new life all the same.
#[test]
fn distrust_ends_with_a_restart_that_nothing_proves() {
    let (rig, engine) = (Rig::new(), engine_without_replay());
    let worker = rig.follow(&engine);
    engine.wait_for_subscriber(PATIENCE).unwrap();
    let kind = [("kv_cache_spec_kind", rmpv::Value::from("mamba"))];
    let batch = payload(1, 0, vec![stored_with(1, 0, &kind)]);
    engine.publish(0, &batch).unwrap();
    worker.wait_until(Trust::Distrusted);
    let engine = engine.restart_process().unwrap();
    engine.wait_for_subscriber(PATIENCE).unwrap();
    publish(&engine, 2, 0..2);
    worker.wait_for(1);
    worker.wait_until(Trust::Exact);
    assert_eq!(rig.held(&worker, 2, 0..3), [0, 1]);
}
