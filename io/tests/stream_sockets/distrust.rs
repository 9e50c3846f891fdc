//! Workers whose engines do not deliver what they are said to hold.
use super::rig::*;
use kvroute::fake::{FakeEngine, Options};
use kvroute::status::Trust;
use kvroute::stream::StreamsConfig;
use kvroute::stream::follow::Timing;
use std::time::Duration;

#[test]
fn what_a_distrusted_worker_holds_is_had_anew_and_believed_again() {
    let (rig, engine) = (Rig::new(), engine());
    let worker = following(&rig, &engine, 4);
    worker.wait_until(Trust::Exact);
    assert_eq!(
        (worker.status.replays(), worker.status.dropped_at_ms()),
        (1, 0)
    );
    rig.streams.distrust(worker.id);
    until("a second replay", || worker.status.replays() == 2);
    worker.wait_until(Trust::Exact);
    worker.wait_for(3);
    assert_eq!(rig.held(&worker, 1, 0..5), [0, 1, 2, 3]);
    assert_eq!(
        (worker.status.distrusts(), worker.status.restarts()),
        (1, 0)
    );
    assert_ne!(worker.status.dropped_at_ms(), 0);
    // Every batch was applied again, and the next one follows.
    assert_eq!(worker.status.batches(), 8);
    publish(&engine, 1, 4..5);
    worker.wait_for(4);
    assert_eq!(rig.held(&worker, 1, 0..6), [0, 1, 2, 3, 4]);
    assert_eq!(worker.status.trust(), Trust::Exact);
}

#[test]
fn it_is_no_better_than_the_ring_justifies() {
    let engine = FakeEngine::bind(Options {
        ring: 2,
        ..Options::default()
    })
    .unwrap();
    let rig = Rig::new();
    let worker = rig.follow(&engine);
    engine.wait_for_subscriber(PATIENCE).unwrap();
    // The replay of an empty ring is over; from now on it rotates.
    worker.wait_until(Trust::Exact);
    publish(&engine, 1, 0..5);
    worker.wait_for(4);
    worker.wait_until(Trust::Exact);
    rig.streams.distrust(worker.id);
    worker.wait_until(Trust::Partial);
    worker.wait_for(4);
    assert_eq!(rig.held(&worker, 1, 0..6), [3, 4]);
}

#[test]
fn nothing_is_held_until_the_replay_is_over() {
    // Longer than the test.
    let (rig, engine) = (Rig::with_replay_time(PATIENCE * 2), engine());
    let worker = following(&rig, &engine, 3);
    worker.wait_until(Trust::Exact);
    engine.set_silent(true);
    rig.streams.distrust(worker.id);
    worker.wait_until(Trust::Distrusted);
    until("nothing is held", || rig.held(&worker, 1, 0..4) == NONE);
    // A further word changes nothing.
    rig.streams.distrust(worker.id);
    publish(&engine, 1, 3..4);
    until("a third replay is asked for by nobody", || {
        worker.status.replays() == 2
    });
    // The index is emptied before the status is written.
    until("no number is known", || {
        worker.status.last_sequence().is_none()
    });
    assert_eq!(
        (worker.status.trust(), worker.status.distrusts()),
        (Trust::Distrusted, 1)
    );
    // A new connection has all anew in any case.
    let engine = engine.restart_process().unwrap();
    publish(&engine, 2, 0..2);
    worker.wait_for(1);
    worker.wait_until(Trust::Exact);
    assert_eq!(rig.held(&worker, 2, 0..3), [0, 1]);
    assert_eq!(rig.held(&worker, 1, 0..4), NONE);
}

#[test]
fn one_that_goes_on_so_is_left_distrusted_for_longer() {
    let rig = Rig::with(StreamsConfig {
        timing: Timing {
            resync: Duration::from_hours(1),
            ..Timing::default()
        },
        ..StreamsConfig::default()
    });
    let engine = engine();
    let worker = following(&rig, &engine, 3);
    worker.wait_until(Trust::Exact);
    rig.streams.distrust(worker.id);
    until("had anew", || worker.status.replays() == 2);
    worker.wait_until(Trust::Exact);
    rig.streams.distrust(worker.id);
    worker.wait_until(Trust::Distrusted);
    // It is followed all the same.
    publish(&engine, 1, 3..4);
    worker.wait_for(3);
    assert_eq!(worker.status.trust(), Trust::Distrusted);
    assert_eq!((worker.status.replays(), worker.status.distrusts()), (2, 2));
    // In its next life there is nothing to hold against it.
    let engine = engine.restart_process().unwrap();
    publish(&engine, 2, 0..2);
    worker.wait_for(1);
    worker.wait_until(Trust::Exact);
    assert_eq!(rig.held(&worker, 2, 0..3), [0, 1]);
}

#[test]
fn without_a_replay_socket_it_begins_with_nothing() {
    let (rig, engine) = (Rig::new(), engine_without_replay());
    let worker = rig.follow(&engine);
    engine.wait_for_subscriber(PATIENCE).unwrap();
    publish(&engine, 1, 0..3);
    worker.wait_for(2);
    worker.wait_until(Trust::Exact);
    rig.streams.distrust(worker.id);
    until("nothing is held", || rig.held(&worker, 1, 0..4) == NONE);
    publish(&engine, 1, 3..5);
    worker.wait_for(4);
    worker.wait_until(Trust::Partial);
    assert_eq!(rig.held(&worker, 1, 0..6), [3, 4]);
}
