//! Late starts, gaps, and what a ring can and cannot give back.
use super::rig::*;
use kvroute::fake::{FakeEngine, Framing, Options};
use kvroute::status::{SkipReason, Trust};
use kvroute::stream::StreamsConfig;
use kvroute::stream::follow::Timing;
use std::time::Duration;

#[test]
fn a_late_node_learns_from_the_ring_what_the_engine_holds() {
    for framing in [Framing::Three, Framing::Four] {
        let topic = "kv@pod@tiny".to_owned();
        let engine = FakeEngine::bind(Options {
            framing,
            topic,
            ..Options::default()
        })
        .unwrap();
        publish(&engine, 1, 0..5);
        let rig = Rig::new();
        let worker = rig.follow(&engine);
        worker.wait_for(4);
        worker.wait_until(Trust::Exact);
        assert_eq!(rig.held(&worker, 1, 0..6), [0, 1, 2, 3, 4], "{framing:?}");
        engine.wait_for_subscriber(PATIENCE).unwrap();
        publish(&engine, 1, 5..6);
        worker.wait_for(5);
        assert_eq!(rig.held(&worker, 1, 0..6), [0, 1, 2, 3, 4, 5]);
        let status = &worker.status;
        assert_eq!(
            (status.trust(), status.batches(), status.gaps()),
            (Trust::Exact, 6, 0)
        );
        assert_eq!((status.replays(), status.restarts()), (1, 0));
        assert_eq!((status.blocks(), status.block_size()), (6, Some(4)));
    }
}

#[test]
fn a_gap_is_healed_by_a_replay() {
    let (rig, engine) = (Rig::new(), engine());
    let worker = following(&rig, &engine, 3);
    lose(&engine, 1, 3..5);
    // What was lost held a removal.
    engine.lose(5, &payload(1, 5, vec![removed(1, 0)]));
    publish(&engine, 1, 6..8);
    worker.wait_for(7);
    worker.wait_until(Trust::Exact);
    assert_eq!(rig.held(&worker, 1, 0..9), [1, 2, 3, 4, 6, 7]);
    assert_eq!((worker.status.gaps(), worker.status.replays()), (1, 2));
    assert_eq!(worker.status.batches(), 8);
}

#[test]
fn a_gap_without_a_replay_socket_keeps_nothing_from_before() {
    let (rig, engine) = (Rig::new(), engine_without_replay());
    let worker = following(&rig, &engine, 2);
    publish(&engine, 1, 3..5);
    worker.wait_for(4);
    assert_eq!(worker.status.trust(), Trust::Partial);
    assert_eq!(rig.held(&worker, 1, 0..6), [3, 4]);
    assert_eq!((worker.status.gaps(), worker.status.replays()), (1, 0));
    // A clear makes all that was missed void.
    engine
        .publish(5, &payload(1, 5, vec![cleared(), stored(1, 5)]))
        .unwrap();
    worker.wait_for(5);
    worker.wait_until(Trust::Exact);
    assert_eq!(rig.held(&worker, 1, 0..6), [5]);
}

#[test]
fn a_clear_in_the_middle_of_a_batch_is_exact_too() {
    let (rig, engine) = (Rig::new(), engine_without_replay());
    let worker = rig.follow(&engine);
    engine.wait_for_subscriber(PATIENCE).unwrap();
    publish(&engine, 1, 7..8);
    worker.wait_for(7);
    assert_eq!(worker.status.trust(), Trust::Partial);
    let events = vec![stored(1, 8), cleared(), stored(1, 9)];
    engine.publish(8, &payload(1, 8, events)).unwrap();
    worker.wait_for(8);
    worker.wait_until(Trust::Exact);
    assert_eq!(rig.held(&worker, 1, 0..10), [9]);
}

#[test]
fn a_rotated_ring_is_never_silently_exact() {
    let engine = FakeEngine::bind(Options {
        ring: 8,
        ..Options::default()
    })
    .unwrap();
    publish(&engine, 1, 0..20);
    let rig = Rig::new();
    let worker = rig.follow(&engine);
    worker.wait_for(19);
    worker.wait_until(Trust::Partial);
    assert_eq!(rig.held(&worker, 1, 0..20), (12..20).collect::<Vec<_>>());
    // The same in the middle of a stream: 21 to 28 are gone from the ring.
    engine.wait_for_subscriber(PATIENCE).unwrap();
    publish(&engine, 1, 20..21);
    worker.wait_for(20);
    lose(&engine, 1, 21..36);
    publish(&engine, 1, 36..37);
    worker.wait_for(36);
    worker.wait_until(Trust::Partial);
    assert_eq!(rig.held(&worker, 1, 0..37), (29..37).collect::<Vec<_>>());
    assert_eq!((worker.status.gaps(), worker.status.restarts()), (1, 0));
}

#[test]
fn a_silent_replay_socket_is_not_waited_for_and_heals_later() {
    let rig = Rig::with_replay_time(Duration::from_millis(200));
    let engine = engine();
    engine.set_silent(true);
    lose(&engine, 1, 0..3);
    let worker = rig.follow(&engine);
    engine.wait_for_subscriber(PATIENCE).unwrap();
    publish(&engine, 1, 3..5);
    worker.wait_for(4);
    worker.wait_until(Trust::Partial);
    assert_eq!(rig.held(&worker, 1, 0..6), [3, 4]);
    // Live batches go on while it is asked again and again.
    publish(&engine, 1, 5..6);
    worker.wait_for(5);
    until("several replays", || worker.status.replays() >= 3);
    engine.set_silent(false);
    worker.wait_until(Trust::Exact);
    worker.wait_for(5);
    assert_eq!(rig.held(&worker, 1, 0..6), [0, 1, 2, 3, 4, 5]);
}

/// The pause before a retry that is no longer wanted must not leave a timer behind that is due for
/// ever: the IO thread checks that of itself, and nothing is applied if the check fails.
#[test]
fn a_retry_that_became_needless_is_forgotten() {
    let rig = Rig::with_replay_time(Duration::from_millis(50));
    let engine = engine();
    engine.set_silent(true);
    let worker = rig.follow(&engine);
    engine.wait_for_subscriber(PATIENCE).unwrap();
    publish(&engine, 1, 3..4);
    worker.wait_for(3);
    // The pauses double. After four replays the next one takes at least 400 ms, less the replay's 50.
    until("four replays", || worker.status.replays() >= 4);
    std::thread::sleep(Duration::from_millis(150));
    engine
        .publish(4, &payload(1, 4, vec![cleared(), stored(1, 4)]))
        .unwrap();
    worker.wait_for(4);
    worker.wait_until(Trust::Exact);
    // Until the pause is over.
    std::thread::sleep(Duration::from_millis(900));
    publish(&engine, 1, 5..6);
    worker.wait_for(5);
    assert_eq!(worker.status.trust(), Trust::Exact);
}

#[test]
fn an_engine_that_says_nothing_at_all_is_stale_until_it_speaks() {
    let rig = Rig::with_replay_time(Duration::from_millis(200));
    let engine = engine();
    engine.set_silent(true);
    lose(&engine, 1, 0..3);
    let worker = rig.follow(&engine);
    worker.wait_until(Trust::Stale);
    engine.set_silent(false);
    worker.wait_until(Trust::Exact);
    assert_eq!(rig.held(&worker, 1, 0..4), [0, 1, 2]);
}

#[test]
fn an_engine_that_comes_up_late_is_found() {
    // Its ports are known before it is there, as a pod's are.
    let born = engine();
    let (events, replay) = (
        born.events_endpoint().to_owned(),
        born.replay_endpoint().unwrap(),
    );
    let rig = Rig::with_replay_time(Duration::from_millis(200));
    let replay = replay.to_owned();
    drop(born);
    let worker = rig.follow_at(&events, Some(&replay));
    worker.wait_until(Trust::Stale);
    assert_eq!(worker.status.last_sequence(), None);
    let mut engine = None;
    until("the ports are free", || {
        let (events, replay) = (events.clone(), Some(replay.clone()));
        engine = FakeEngine::bind(Options {
            events,
            replay,
            ..Options::default()
        })
        .ok();
        engine.is_some()
    });
    publish(engine.as_ref().unwrap(), 1, 0..2);
    worker.wait_for(1);
    worker.wait_until(Trust::Exact);
}

#[test]
fn frames_that_are_no_batch_are_counted_and_the_stream_goes_on() {
    let (rig, engine) = (Rig::new(), engine());
    let worker = following(&rig, &engine, 2);
    let number = 2_u64.to_le_bytes();
    engine.publish_frames(&[&number, b"two frames"]).unwrap();
    engine
        .publish_frames(&[b"", b"", &number, b"four frames"])
        .unwrap();
    engine
        .publish_frames(&[b"", b"7 bytes", b"a bad number"])
        .unwrap();
    engine.publish_frames(&[b"x".as_slice(); 20]).unwrap();
    publish(&engine, 1, 2..4);
    worker.wait_for(3);
    assert_eq!(worker.skipped(SkipReason::Framing), 4);
    assert_eq!(
        (worker.status.trust(), worker.status.gaps()),
        (Trust::Exact, 0)
    );
    assert_eq!(rig.held(&worker, 1, 0..5), [0, 1, 2, 3]);
}

/// One replay at a time in the whole node: the second worker waits in line until the first one's is given up, and gets
/// its turn.
#[test]
fn replays_wait_in_line() {
    let rig = Rig::with(StreamsConfig {
        timing: Timing {
            replay: Duration::from_millis(100),
            ..Timing::default()
        },
        replays: 1,
        ..StreamsConfig::default()
    });
    let silent: Vec<_> = (0..3).map(|_| engine()).collect();
    silent.iter().for_each(|engine| engine.set_silent(true));
    let good = engine();
    publish(&good, 1, 0..4);
    let stuck: Vec<_> = silent.iter().map(|engine| rig.follow(engine)).collect();
    let worker = rig.follow(&good);
    worker.wait_for(3);
    worker.wait_until(Trust::Exact);
    // Those that get no answer are not in the way for ever, and one that goes while it waits leaves no hole.
    rig.streams.remove(stuck[1].id);
    silent[2].set_silent(false);
    stuck[2].wait_until(Trust::Exact);
}

/// An engine that loses batches all the time is asked less and less often.
#[test]
fn replays_of_one_worker_cool_down() {
    let rig = Rig::with(StreamsConfig {
        timing: Timing {
            cool_down: Duration::from_secs(3_600),
            cool_down_max: Duration::from_secs(3_600),
            ..Timing::default()
        },
        ..StreamsConfig::default()
    });
    let engine = engine();
    let worker = following(&rig, &engine, 1);
    for n in [2, 4] {
        lose(&engine, 1, n - 1..n);
        publish(&engine, 1, n..n + 1);
        worker.wait_for(n.into());
    }
    let asked = worker.status.replays();
    assert_eq!(asked, 3, "at the start, and for each gap");
    lose(&engine, 1, 5..6);
    publish(&engine, 1, 6..9);
    // Held back meanwhile, and said so.
    worker.wait_until(Trust::Replaying);
    until("all is received", || worker.status.gaps() == 3);
    assert_eq!(
        (worker.status.replays(), worker.status.last_sequence()),
        (asked, Some(4))
    );
}

/// Its replay is waited for, but the permit goes on to the next in line.
#[test]
fn a_silent_replay_keeps_nobody_else_waiting() {
    let rig = Rig::with(StreamsConfig {
        timing: Timing {
            replay: Duration::from_secs(3_600),
            replay_whole: Duration::from_secs(3_600),
            ..Timing::default()
        },
        replays: 1,
        ..StreamsConfig::default()
    });
    let (silent, good) = (engine(), engine());
    silent.set_silent(true);
    publish(&good, 1, 0..4);
    let stuck = rig.follow(&silent);
    silent.wait_for_subscriber(PATIENCE).unwrap();
    let worker = rig.follow(&good);
    worker.wait_for(3);
    worker.wait_until(Trust::Exact);
    assert_eq!(stuck.status.trust(), Trust::Replaying);
}
