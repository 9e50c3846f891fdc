//! Nodes that start where others stopped: whole nodes, real engines' sockets, files and HTTP.
use super::rig::*;
use kvroute::config::Config;
use kvroute::fake::{FakeEngine, Options};
use kvroute::fleet::{PodSpec, WorkerInfo};
use kvroute::node::Node;
use kvroute::snapshot::{FILE_NAME, FormatError, ReadError, Snapshot};
use kvroute::status::Trust;
use kvroute::warm;
use kvroute_engine::Matches;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

const POD: &str = "ns/warm";

fn config(folder: &Path) -> Config {
    Config {
        snapshot_dir: Some(folder.to_owned()),
        snapshot_interval: None,
        probe_interval: None,
        ..Config::default()
    }
}

fn start(config: &Config) -> Node {
    let node = Node::start(config).expect("the node starts");
    assert!(node.wait_entered(PATIENCE));
    node
}

fn follow_as(node: &Node, engine: &FakeEngine, uid: Option<&str>) -> Arc<WorkerInfo> {
    let pod = PodSpec {
        pod: POD.to_owned(),
        uid: uid.map(str::to_owned),
        model: MODEL.to_owned(),
        events: Some(engine.events_endpoint().to_owned()),
        replay: engine.replay_endpoint().map(str::to_owned),
        ..pod_spec()
    };
    node.fleet().add(pod).expect("the pod is added");
    Arc::clone(&node.fleet().view().pod(POD)[0])
}

fn follow(node: &Node, engine: &FakeEngine) -> Arc<WorkerInfo> {
    follow_as(node, engine, Some("uid-1"))
}

fn pod_spec() -> PodSpec {
    serde_json::from_value(serde_json::json!({
        "pod": POD, "model": MODEL, "events": "tcp://127.0.0.1:1"
    }))
    .expect("a pod")
}

/// An engine whose ring keeps so many batches.
fn engine_with_ring(ring: usize) -> FakeEngine {
    FakeEngine::bind(Options {
        ring,
        ..Options::default()
    })
    .expect("bind")
}

/// Which of these batches' blocks the worker holds.
fn held(node: &Node, info: &WorkerInfo, life: u32, batches: std::ops::Range<u32>) -> Vec<u32> {
    let index = node.fleet().index();
    let participant = index.participant();
    let mut matches = Matches::new();
    batches
        .filter(|&n| {
            let pinned = participant.pin();
            pinned.contexts(MODEL, None).any(|context| {
                let prompt = tokens(life, n);
                let mut keys = kvroute_engine::TokenKeys::new(
                    index.hash_seed(),
                    context.block_size(),
                    &prompt,
                    &[],
                );
                context.lookup(&mut keys, &mut matches);
                let mut hits = matches.hits().iter();
                hits.any(|hit| hit.worker == info.id() && hit.blocks[0] == 1)
            })
        })
        .collect()
}

fn wait(info: &WorkerInfo, sequence: u64, trust: Trust) {
    let status = info.status();
    until("the worker is there", || {
        status.last_sequence() == Some(sequence) && status.trust() == trust
    });
}

/// Until the replay at the start has found nothing: later the ring may have rotated before it is asked.
fn follow_from_the_beginning(info: &WorkerInfo, engine: &FakeEngine) {
    engine.wait_for_subscriber(PATIENCE).unwrap();
    until("nothing was replayed", || {
        info.status().trust() == Trust::Exact
    });
}

/// A node that follows the engine, and stops; the file that it leaves.
fn leave(folder: &Path, engine: &FakeEngine, batches: u32) {
    let node = start(&config(folder));
    let info = follow(&node, engine);
    follow_from_the_beginning(&info, engine);
    publish(engine, 1, 0..batches);
    wait(&info, u64::from(batches) - 1, Trust::Exact);
    drop(info);
    node.stop();
    assert!(folder.join(FILE_NAME).exists());
}

/// The ring has rotated meanwhile: without the snapshot the node would know 20 batches of 60, and say `partial`.
#[test]
fn a_node_goes_on_where_it_stopped() {
    let (folder, engine) = (TempDir::new().unwrap(), engine_with_ring(20));
    leave(folder.path(), &engine, 50);
    lose(&engine, 1, 50..60);
    let node = start(&config(folder.path()));
    let info = follow(&node, &engine);
    wait(&info, 59, Trust::Exact);
    assert_eq!(held(&node, &info, 1, 0..61).len(), 60);
    assert_eq!(info.status().restarts(), 0);
    assert_eq!(info.status().block_size(), Some(BLOCK_SIZE as u32));
    // And on from there, removals of restored blocks too.
    engine.wait_for_subscriber(PATIENCE).unwrap();
    let events = vec![removed(1, 7), stored(1, 60)];
    engine.publish(60, &payload(1, 60, events)).unwrap();
    wait(&info, 60, Trust::Exact);
    let expected: Vec<u32> = (0..61).filter(|&n| n != 7).collect();
    assert_eq!(held(&node, &info, 1, 0..62), expected);
}

#[test]
fn without_the_snapshot_it_would_be_partial() {
    let (folder, engine) = (TempDir::new().unwrap(), engine_with_ring(20));
    leave(folder.path(), &engine, 50);
    fs::remove_file(folder.path().join(FILE_NAME)).unwrap();
    let node = start(&config(folder.path()));
    let info = follow(&node, &engine);
    wait(&info, 49, Trust::Partial);
    assert_eq!(held(&node, &info, 1, 0..50), (30..50).collect::<Vec<_>>());
}

/// It has published as many batches again, so its numbers alone do not tell.
#[test]
fn an_engine_that_restarted_meanwhile_is_not_believed_to_hold_what_it_held() {
    let (folder, engine) = (TempDir::new().unwrap(), engine_with_ring(100));
    leave(folder.path(), &engine, 10);
    let engine = engine.restart_process().unwrap();
    lose(&engine, 2, 0..15);
    let node = start(&config(folder.path()));
    let info = follow(&node, &engine);
    wait(&info, 14, Trust::Exact);
    assert_eq!(held(&node, &info, 1, 0..10), NONE);
    assert_eq!(held(&node, &info, 2, 0..15).len(), 15);
}

/// Idle since it restarted: its ring is empty.
#[test]
fn an_idle_engine_that_restarted_meanwhile_holds_nothing() {
    let (folder, engine) = (TempDir::new().unwrap(), engine_with_ring(100));
    leave(folder.path(), &engine, 10);
    let engine = engine.restart_process().unwrap();
    let node = start(&config(folder.path()));
    let info = follow(&node, &engine);
    until("it is known to be empty", || {
        info.status().trust() == Trust::Exact
    });
    assert_eq!(held(&node, &info, 1, 0..10), NONE);
    assert_eq!(info.status().last_sequence(), None);
}

#[test]
fn another_incarnation_of_a_pod_starts_cold() {
    let (folder, engine) = (TempDir::new().unwrap(), engine_with_ring(5));
    leave(folder.path(), &engine, 10);
    let node = start(&config(folder.path()));
    let info = follow_as(&node, &engine, Some("uid-2"));
    wait(&info, 9, Trust::Partial);
    assert_eq!(held(&node, &info, 1, 0..10), [5, 6, 7, 8, 9]);
}

#[test]
fn a_node_starts_from_a_peer() {
    let (folder, engine) = (TempDir::new().unwrap(), engine_with_ring(20));
    let first = start(&config(folder.path()));
    let info = follow(&first, &engine);
    follow_from_the_beginning(&info, &engine);
    publish(&engine, 1, 0..50);
    wait(&info, 49, Trust::Exact);
    let second = start(&Config {
        // Nobody listens at the first one.
        peers: vec!["127.0.0.1:1".to_owned(), first.http_addr().to_string()],
        snapshot_dir: None,
        ..config(folder.path())
    });
    let there = follow(&second, &engine);
    wait(&there, 49, Trust::Exact);
    assert_eq!(held(&second, &there, 1, 0..51).len(), 50);
}

/// A snapshot may be made while the worker goes on, as often as one likes.
#[test]
fn snapshots_of_a_worker_under_load_are_whole() {
    let (folder, engine) = (TempDir::new().unwrap(), engine_with_ring(10_000));
    let node = start(&config(folder.path()));
    let info = follow(&node, &engine);
    engine.wait_for_subscriber(PATIENCE).unwrap();
    let mut saved = 0;
    for from in (0..2_000).step_by(100) {
        publish(&engine, 1, from..from + 100);
        let written = warm::save(node.fleet(), folder.path()).unwrap();
        saved += written.workers;
    }
    wait(&info, 1_999, Trust::Exact);
    assert!(saved > 0);
    assert_eq!(held(&node, &info, 1, 0..2_000).len(), 2_000);
    drop((info, node));
    let node = start(&config(folder.path()));
    let info = follow(&node, &engine);
    wait(&info, 1_999, Trust::Exact);
    assert_eq!(held(&node, &info, 1, 0..2_000).len(), 2_000);
}

fn open(bytes: &[u8], seed: u64) -> Result<Snapshot, ReadError> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Snapshot::open(file, seed)
}

#[test]
fn a_bad_snapshot_is_refused_with_the_reason() {
    let (folder, engine) = (TempDir::new().unwrap(), engine());
    leave(folder.path(), &engine, 10);
    let path = folder.path().join(FILE_NAME);
    let good = fs::read(&path).unwrap();
    assert_eq!(open(&good, 1337).unwrap().len(), 1);
    for length in 0..good.len() {
        assert!(open(&good[..length], 1337).is_err(), "cut at {length}");
    }
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            assert!(open(&bad, 1337).is_err(), "bit {bit} of byte {at}");
        }
    }
    let mut longer = good.clone();
    longer.push(0);
    assert!(open(&longer, 1337).is_err());
    let refused = |bytes: &[u8], seed| match open(bytes, seed) {
        Err(ReadError::Format(error)) => error,
        other => panic!("{other:?}"),
    };
    let seed = FormatError::HashSeed;
    assert_eq!(refused(&good, 1338), seed);
    assert_eq!(refused(&[b'x'; 64], 1337), FormatError::Foreign);
    let mut newer = good.clone();
    newer[7] = 2;
    assert_eq!(refused(&newer, 1337), FormatError::Version(2));
    // A node starts cold with it.
    File::create(&path).unwrap().write_all(&newer).unwrap();
    let node = start(&config(folder.path()));
    let info = follow(&node, &engine);
    wait(&info, 9, Trust::Exact);
    assert_eq!(held(&node, &info, 1, 0..10).len(), 10);
}

/// A node whose fleet registers itself starts without any pod. If it stops before they are back, what it could have
/// started from is still there.
#[test]
fn nobody_does_not_take_the_place_of_somebody() {
    let (folder, engine) = (TempDir::new().unwrap(), engine());
    leave(folder.path(), &engine, 10);
    start(&config(folder.path())).stop();
    let file = File::open(folder.path().join(FILE_NAME)).unwrap();
    assert_eq!(Snapshot::open(file, 1337).unwrap().len(), 1);
    let names = fs::read_dir(folder.path()).unwrap();
    assert_eq!(names.count(), 1, "nothing is left lying about");
}
