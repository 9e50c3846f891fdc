//! Several workers, floods, and leaving.
use super::rig::*;
use kvroute::fake::FakeEngine;
use kvroute::status::Trust;
use kvroute::stream::StreamsConfig;
use kvroute_engine::{Budget, IndexConfig};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::thread;

/// Publishes as fast as it can until it is told to stop; counts.
fn flood(engine: &FakeEngine, stop: &AtomicBool, published: &AtomicU32) {
    while !stop.load(Relaxed) {
        let n = published.load(Relaxed);
        // The blocks repeat, so the index does not grow.
        engine
            .publish(n.into(), &plain(1, n % 100))
            .expect("publish");
        published.store(n + 1, Relaxed);
    }
}

#[test]
fn a_flood_of_one_worker_does_not_silence_another() {
    let rig = Rig::new();
    let (loud, quiet) = (engine(), engine());
    let flooded = rig.follow(&loud);
    let worker = following(&rig, &quiet, 1);
    loud.wait_for_subscriber(PATIENCE).unwrap();
    let (stop, published) = (AtomicBool::new(false), AtomicU32::new(0));
    thread::scope(|scope| {
        scope.spawn(|| flood(&loud, &stop, &published));
        until("the flood has begun", || flooded.status.batches() > 100);
        for n in 1..50 {
            publish(&quiet, 1, n..n + 1);
            worker.wait_for(n.into());
        }
        stop.store(true, Relaxed);
    });
    assert_eq!(worker.status.trust(), Trust::Exact);
    assert_eq!(rig.held(&worker, 1, 0..50).len(), 50);
    // The flooded one loses nothing in the end.
    let last = u64::from(published.load(Relaxed));
    loud.publish(last, &plain(1, 0)).unwrap();
    flooded.wait_for(last);
    assert_eq!(rig.held(&flooded, 1, 0..100).len(), 100);
}

#[test]
fn a_worker_that_is_removed_under_a_flood_leaves_nothing() {
    let (rig, engine) = (Rig::new(), engine());
    let worker = rig.follow(&engine);
    engine.wait_for_subscriber(PATIENCE).unwrap();
    let (stop, published) = (AtomicBool::new(false), AtomicU32::new(0));
    thread::scope(|scope| {
        scope.spawn(|| flood(&engine, &stop, &published));
        until("the flood has begun", || worker.status.batches() > 100);
        rig.streams.remove(worker.id);
        until("the worker is gone", || {
            rig.index
                .participant()
                .pin()
                .contexts(MODEL, None)
                .next()
                .is_none()
        });
        let at = published.load(Relaxed);
        until("the flood goes on", || published.load(Relaxed) > at + 100);
        stop.store(true, Relaxed);
    });
    assert!(
        rig.index
            .participant()
            .pin()
            .contexts(MODEL, None)
            .next()
            .is_none()
    );
    // The same engine can be followed again.
    let again = rig.follow(&engine);
    again.wait_for(u64::from(published.load(Relaxed)) - 1);
}

#[test]
fn a_worker_that_is_removed_at_once_was_never_there() {
    let (rig, engine) = (Rig::new(), engine());
    publish(&engine, 1, 0..3);
    for _ in 0..50 {
        let worker = rig.follow(&engine);
        rig.streams.remove(worker.id);
        rig.streams.remove(worker.id);
    }
    let worker = rig.follow(&engine);
    worker.wait_for(2);
    until("only one worker is left", || {
        rig.held(&worker, 1, 0..4) == [0, 1, 2]
    });
}

#[test]
fn many_workers_with_dead_ones_among_them() {
    let rig = Rig::new();
    let dead = engine();
    let (events, replay) = (
        dead.events_endpoint().to_owned(),
        dead.replay_endpoint().unwrap(),
    );
    let replay = replay.to_owned();
    drop(dead);
    let dead: Vec<_> = (0..10)
        .map(|_| rig.follow_at(&events, Some(&replay)))
        .collect();
    let engines: Vec<_> = (0..10).map(|_| engine()).collect();
    engines.iter().for_each(|engine| publish(engine, 1, 0..5));
    let workers: Vec<_> = engines.iter().map(|engine| rig.follow(engine)).collect();
    for worker in &workers {
        worker.wait_for(4);
        worker.wait_until(Trust::Exact);
        assert_eq!(rig.held(worker, 1, 0..6), [0, 1, 2, 3, 4]);
    }
    assert!(
        dead.iter()
            .all(|worker| worker.status.last_sequence().is_none())
    );
    // With everything still connected, or trying to.
    drop(rig);
}

/// More sockets than libzmq allows in a context unless it is told otherwise. Each of the workers must notice its
/// connection.
#[test]
fn more_workers_than_libzmq_expects() {
    let rig = Rig::new();
    let engine = engine();
    publish(&engine, 1, 0..1);
    let workers: Vec<_> = (0..400).map(|_| rig.follow(&engine)).collect();
    for worker in &workers {
        worker.wait_for(0);
        worker.wait_until(Trust::Exact);
    }
    for worker in workers {
        rig.streams.remove(worker.id);
    }
    until("all are gone", || {
        rig.index
            .participant()
            .pin()
            .contexts(MODEL, None)
            .next()
            .is_none()
    });
}

#[test]
fn a_long_backlog_is_applied_in_order_and_whole() {
    let rig = Rig::new();
    let engine = engine();
    publish(&engine, 1, 0..5_000);
    let worker = rig.follow(&engine);
    engine.wait_for_subscriber(PATIENCE).unwrap();
    publish(&engine, 1, 5_000..8_000);
    worker.wait_for(7_999);
    worker.wait_until(Trust::Exact);
    assert_eq!(rig.held(&worker, 1, 0..8_001).len(), 8_000);
    assert_eq!(
        (worker.status.restarts(), worker.status.batches()),
        (0, 8_000)
    );
}

#[test]
fn one_that_has_filled_the_index_makes_room_for_another() {
    const BYTES: u64 = 300_000;
    const BATCHES: u32 = 3_000;
    let budget = Budget {
        bytes: Some(BYTES),
        ..Budget::default()
    };
    let index = IndexConfig {
        budget,
        ..IndexConfig::default()
    };
    let rig = Rig::with_index(index, StreamsConfig::default());
    let (early, late) = (engine(), engine());
    let first = rig.follow(&early);
    let second = rig.follow(&late);
    early.wait_for_subscriber(PATIENCE).unwrap();
    late.wait_for_subscriber(PATIENCE).unwrap();
    publish(&early, 1, 0..BATCHES);
    first.wait_for(u64::from(BATCHES) - 1);
    // More than there is room for, so the oldest are forgotten.
    let full = first.status.blocks();
    assert!(full > 100 && full < u64::from(BATCHES), "{full}");
    until("it says so", || first.status.trust() == Trust::Partial);
    // Forgetting of its own only, it would have what was left: a sixteenth at most.
    let mut published = 0;
    until("they share", || {
        publish(&late, 2, published..published + 20);
        published += 20;
        second.wait_for(u64::from(published) - 1);
        second.status.blocks() > full / 4
    });
    assert!(first.status.blocks() < full);
    until("it is within its bound", || rig.index.bytes() <= BYTES);
}
