//! A replica that starts beside another: it is warm before it is ready, and alone it is ready when it has caught up.
use crate::running::{PATIENCE, Running};
use kvroute::fake::{FakeEngine, Options};
use rmpv::Value as Packed;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const ENGINES: u64 = 3;
const BATCHES: u64 = 60;
const BLOCK_SIZE: u64 = 4;

/// What batch n of this engine stores one block of, at the root.
fn tokens(engine: u64, n: u64) -> Vec<u64> {
    let first = (engine * 1_000 + n) * 10;
    (first..first + BLOCK_SIZE).collect()
}

fn batch(engine: u64, n: u64) -> Vec<u8> {
    let list = |numbers: Vec<u64>| Packed::Array(numbers.into_iter().map(Packed::from).collect());
    let event = Packed::Map(vec![
        ("type".into(), "BlockStored".into()),
        ("block_hashes".into(), list(vec![n + 1])),
        ("parent_block_hash".into(), Packed::Nil),
        ("token_ids".into(), list(tokens(engine, n))),
        ("block_size".into(), BLOCK_SIZE.into()),
    ]);
    let time = Packed::F64((engine * 1_000 + n) as f64);
    let batch = Packed::Array(vec![time, Packed::Array(vec![event]), 0.into()]);
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, &batch).unwrap();
    bytes
}

/// Engines whose rings keep so many batches, and the fleet file that names them.
fn engines(folder: &TempDir, ring: usize) -> (Vec<FakeEngine>, String) {
    let options = Options {
        ring,
        ..Options::default()
    };
    let engines: Vec<_> = (0..ENGINES)
        .map(|_| FakeEngine::bind(options.clone()).unwrap())
        .collect();
    let mut fleet = "pods:\n".to_owned();
    for (at, engine) in engines.iter().enumerate() {
        let (events, replay) = (engine.events_endpoint(), engine.replay_endpoint().unwrap());
        let pod = format!("{{pod: e{at}, model: m, events: '{events}', replay: '{replay}'}}");
        writeln!(fleet, "- {pod}").unwrap();
    }
    let path = folder.path().join("fleet.yaml");
    fs::write(&path, fleet).unwrap();
    (engines, path.to_str().unwrap().to_owned())
}

fn ask(node: &Running, tokens: &[u64]) -> Value {
    let body = json!({"model": "m", "token_ids": tokens}).to_string();
    let mut stream = node.connect();
    write!(
        stream,
        "POST /v1/match HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let answer = crate::running::rest(&mut stream);
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer}"))
}

/// (pod, tokens, state) of who is said to hold what this batch stored; empty while nobody serves the model.
fn holders(node: &Running, engine: u64, n: u64) -> Vec<(String, u64, String)> {
    let answer = ask(node, &tokens(engine, n));
    let candidates = answer["candidates"].as_array().cloned();
    let brief = |c: Value| {
        let text = |key: &str| c[key].as_str().unwrap().to_owned();
        (
            text("pod"),
            c["matched_tokens"].as_u64().unwrap(),
            text("state"),
        )
    };
    candidates
        .unwrap_or_default()
        .into_iter()
        .map(brief)
        .collect()
}

fn all(node: &Running, batches: u64) -> Vec<Vec<(String, u64, String)>> {
    let each = (0..ENGINES).flat_map(|engine| (0..batches).map(move |n| (engine, n)));
    each.map(|(engine, n)| holders(node, engine, n)).collect()
}

fn whole(batches: u64) -> Vec<Vec<(String, u64, String)>> {
    let each = (0..ENGINES).flat_map(|engine| (0..batches).map(move |_| engine));
    each.map(|engine| vec![(format!("e{engine}"), BLOCK_SIZE, "exact".to_owned())])
        .collect()
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < give_up, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Until it is ready; meanwhile nobody may be called exact who is not known to hold what was stored first.
fn wait_warm(node: &Running) {
    until("it is ready", || {
        let ready = node.get("/readyz").starts_with("HTTP/1.1 200 ");
        for engine in 0..ENGINES {
            // Asked before the list of states, which may only grow truer.
            let held = holders(node, engine, 0);
            let workers = node.get("/v1/workers");
            let body = workers.split_once("\r\n\r\n").unwrap().1;
            let workers: Vec<Value> = serde_json::from_str(body).unwrap();
            for worker in &workers {
                let exact = worker["state"] == "exact";
                if exact && worker["pod"] == format!("e{engine}") {
                    let now = holders(node, engine, 0);
                    assert!(!now.is_empty(), "exact on less: {worker}, before {held:?}");
                }
            }
        }
        ready
    });
}

#[test]
fn a_second_replica_is_warm_before_it_is_ready() {
    let folder = TempDir::new().unwrap();
    // Of 60 batches the last 20 can be had again.
    let (engines, fleet) = engines(&folder, 20);
    let common = [
        "--listen",
        "127.0.0.1:0",
        "--probe-interval",
        "0",
        "--fleet",
        &fleet,
    ];
    let first = Running::start(&common);
    // Before anything is published it has found that there is nothing to be replayed.
    first.wait_ready(200);
    for (at, engine) in (0..).zip(&engines) {
        engine.wait_for_subscriber(PATIENCE).unwrap();
        for n in 0..BATCHES {
            engine.publish(n, &batch(at, n)).unwrap();
        }
    }
    until("the first one knows all", || {
        all(&first, BATCHES) == whole(BATCHES)
    });
    let peers = ["--peers", first.said("listen")];
    let second = Running::start(&[&common[..], &peers].concat());
    wait_warm(&second);
    assert_eq!(all(&second, BATCHES), whole(BATCHES));
    // Without the first one it could not have known: what is left of the ring is a third.
    let alone = Running::start(&common);
    alone.wait_ready(200);
    let partial = "partial".to_owned();
    assert!(holders(&alone, 0, 0).is_empty());
    assert_eq!(
        holders(&alone, 0, 59),
        [("e0".to_owned(), BLOCK_SIZE, partial)]
    );
}

#[test]
fn a_replica_alone_is_ready_when_it_has_caught_up() {
    let folder = TempDir::new().unwrap();
    let (engines, fleet) = engines(&folder, 1_000);
    for (at, engine) in (0..).zip(&engines) {
        for n in 0..BATCHES {
            engine.publish(n, &batch(at, n)).unwrap();
        }
    }
    let node = Running::start(&["--listen", "127.0.0.1:0", "--fleet", &fleet]);
    wait_warm(&node);
    assert_eq!(all(&node, BATCHES), whole(BATCHES));
    assert_eq!(node.metric("kvroute_ready "), 1);
}
