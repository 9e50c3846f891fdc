//! `kvroute record` and `kvroute replay`: a node cannot tell a capture from the engine that it is of.
use crate::rig::{Node, PATIENCE, Running, batch, engine, run};
use kvroute::capture::file::Reader;
use kvroute::capture::keyed::Keyed;
use kvroute::fake::Framing;
use kvroute::fake::cache::CacheOptions;
use kvroute::fake::encode::{Dialect, Encoder};
use kvroute::fake::prompts::Habits;
use kvroute::fake::rank::{Rank, RankOptions};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use tempfile::TempDir;

const KEY: &str = "a key of the tests";
const BATCHES: u64 = 120;
const BEFORE: u64 = 40;
const BLOCK_SIZE: u32 = 4;

fn rank(dialect: Dialect, bytes: bool) -> Rank {
    Rank::new(RankOptions {
        encoder: Encoder {
            dialect,
            bytes,
            unknown_fields: true,
            block_size: BLOCK_SIZE,
            rank: 0,
        },
        cache: CacheOptions {
            blocks: 400,
            offloaded: 0,
            placeholders: false,
            block_size: BLOCK_SIZE,
            chunk: 16,
            seed: 5,
        },
        habits: Habits {
            block_size: BLOCK_SIZE,
            systems: 3,
            system_blocks: 8,
            turn_blocks: 6,
            blocks_max: 40,
            adapters: 1,
            salted_per_mille: 200,
        },
        fleet: 1,
        seed: 2,
        running_max: 4,
        resets_per_mille: 0,
    })
}

/// What a node holds: one line each for a name in a tier of an adapter, with its block's key.
fn held(node: &Node) -> BTreeSet<String> {
    let dump = node.ask("GET", "/dump", &Value::Null);
    let mut held = BTreeSet::new();
    for entry in dump.as_object().unwrap().values() {
        assert_eq!(entry["left_out"]["beyond_a_hole"], 0, "{entry}");
        for event in entry["events"].as_array().unwrap() {
            for block in event["event"]["data"]["stored"]["blocks"]
                .as_array()
                .unwrap()
            {
                let of = [
                    &entry["lora_name"],
                    &entry["block_size"],
                    &event["storage_tier"],
                ];
                held.insert(format!("{of:?} {block}"));
            }
        }
    }
    held
}

/// How many names each adapter's tiers have, without the adapters' own names.
fn shape(held: &BTreeSet<String>) -> Vec<usize> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for line in held {
        *counts.entry(line.split_once('{').unwrap().0).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_values().collect();
    counts.sort_unstable();
    counts
}

/// A capture that is being played, and where.
struct Playing {
    running: Running,
    events: String,
    replay: String,
}

fn play(file: &Path, more: &[&str]) -> Playing {
    let any = "tcp://127.0.0.1:0";
    let mut args = vec![
        "replay",
        file.to_str().unwrap(),
        "--bind",
        any,
        "--replay-bind",
        any,
        "--as-fast",
        "--stay",
    ];
    args.extend(more);
    let running = Running::start(&args);
    let line = running.said("waiting for a subscriber");
    let mut words = line
        .split([' ', ','])
        .filter(|word| word.starts_with("tcp://"));
    let mut next = || words.next().unwrap().to_owned();
    Playing {
        events: next(),
        replay: next(),
        running,
    }
}

/// What a node holds that follows a capture from its beginning, and the worker.
fn followed(file: &Path, last: u64, more: &[&str]) -> (Node, BTreeSet<String>, Value) {
    let playing = play(file, more);
    let node = Node::start();
    node.follow("pod", &playing.events, Some(&playing.replay));
    playing.running.said("done");
    let worker = node.caught_up(last);
    let held = held(&node);
    playing.running.interrupt();
    assert_eq!(playing.running.end().0, 0);
    (node, held, worker)
}

fn matched(node: &Node, tokens: &[u32], lora: Option<&str>, salt: Option<&str>) -> u64 {
    let query = json!({"model": "m", "token_ids": tokens, "lora": lora, "cache_salt": salt});
    let answer = node.ask("POST", "/v1/match", &query);
    answer["candidates"][0]["matched_blocks"]
        .as_u64()
        .unwrap_or(0)
}

fn payloads(file: &Path) -> Vec<Vec<u8>> {
    let mut reader = Reader::open(file).unwrap();
    let mut payloads = Vec::new();
    while let Some(record) = reader.next().unwrap() {
        payloads.push(record.frames[2].clone());
    }
    assert_eq!(reader.cut(), None);
    payloads
}

fn round_trip(dialect: Dialect, bytes: bool) {
    let dir = TempDir::new().unwrap();
    let (kept, replaced, key) = (
        dir.path().join("kept"),
        dir.path().join("replaced"),
        dir.path().join("key"),
    );
    std::fs::write(&key, KEY).unwrap();
    let engine = engine(dialect.framing(), "kv@pod@m");
    let mut rank = rank(dialect, bytes);
    let mut publish = |until: u64| {
        while rank.next() < until {
            let batch = rank.batch().unwrap();
            engine.publish(batch.sequence, &batch.payload).unwrap();
        }
        rank.asked().to_vec()
    };
    publish(BEFORE);
    let count = BATCHES.to_string();
    let (events, replay) = (engine.events_endpoint(), engine.replay_endpoint().unwrap());
    let recording = Running::start(&[
        "record",
        events,
        "--replay",
        replay,
        "--output",
        kept.to_str().unwrap(),
        "--keep-tokens",
        "--count",
        &count,
    ]);
    engine.wait_for_subscriber(PATIENCE).unwrap();
    let asked = publish(BATCHES);
    let (code, lines, err) = recording.end();
    assert_eq!(code, 0, "{err}");
    assert!(
        lines[0].contains(&format!("{BATCHES} messages")),
        "{lines:?}"
    );
    // What the node makes of the engine itself.
    let node = Node::start();
    node.follow("pod", events, Some(replay));
    assert_eq!(node.caught_up(BATCHES - 1)["state"], "exact");
    let expected = held(&node);
    assert!(expected.len() > 100, "{expected:?}");
    let (again, found, worker) = followed(&kept, BATCHES - 1, &[]);
    assert_eq!(worker["state"], "exact");
    assert_eq!(found, expected);
    again.stop();

    // A capture of the capture, with what is private replaced.
    let playing = play(&kept, &[]);
    let (code, _, err) = run(&[
        "record",
        &playing.events,
        "--replay",
        &playing.replay,
        "--output",
        replaced.to_str().unwrap(),
        "--key-file",
        key.to_str().unwrap(),
        "--count",
        &count,
    ]);
    assert_eq!(code, 0, "{err}");
    let (other, found, worker) = followed(&replaced, BATCHES - 1, &[]);
    assert_eq!(worker["state"], "exact");
    assert_eq!(shape(&found), shape(&expected));
    assert!(found.is_disjoint(&expected));
    let mut keyed = Keyed::new(KEY.as_bytes());
    let mut hits = 0;
    for prompt in &asked {
        let scope = &prompt.scope;
        let lora = dialect.adapter(scope);
        let salt = scope.salt.as_deref();
        let before = matched(&node, &prompt.tokens, lora.as_deref(), salt);
        let tokens: Vec<u32> = prompt
            .tokens
            .iter()
            .map(|&token| keyed.token(token))
            .collect();
        // Adapters that are told by number only keep it.
        let lora = lora.map(|name| match name.starts_with("lora_id:") {
            true => name,
            false => keyed.text(name.as_bytes()),
        });
        let salt = salt.map(|salt| keyed.text(salt.as_bytes()));
        let after = matched(&other, &tokens, lora.as_deref(), salt.as_deref());
        assert_eq!(after, before, "{prompt:?}");
        assert_eq!(matched(&other, &prompt.tokens, None, None), 0);
        hits += before;
    }
    assert!(hits > 0);
    other.stop();
    node.stop();
    assert_eq!(payloads(&kept).len() as u64, BATCHES);
    assert_eq!(payloads(&replaced).len() as u64, BATCHES);
    let written = [kept, replaced].map(|file| {
        let all = payloads(&file).concat();
        String::from_utf8_lossy(&all).contains("adapter-")
    });
    assert_eq!(written, [dialect >= Dialect::V0_23, false]);
}

#[test]
fn a_node_cannot_tell_a_capture_from_the_engine_events_as_maps() {
    round_trip(Dialect::V0_32, true);
}

#[test]
fn a_node_cannot_tell_a_capture_from_the_engine_events_as_arrays() {
    round_trip(Dialect::V0_12, false);
}

#[test]
fn traffic_of_a_real_engine_keeps_its_structure() {
    let dir = TempDir::new().unwrap();
    let replaced = dir.path().join("replaced");
    let traces = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/traces");
    let trace = traces.join("v0.32.0-multimodal-bs32/mm.events.jsonl.gz");
    let mut reader = Reader::open(&trace).unwrap();
    let mut last = 0;
    let mut count = 0_u64;
    while let Some(record) = reader.next().unwrap() {
        last = record.frames[1]
            .iter()
            .fold(0_u64, |n, &byte| n << 8 | u64::from(byte));
        count += 1;
    }
    let (node, expected, _) = followed(&trace, last, &[]);
    node.stop();
    assert!(expected.len() > 10);
    let playing = play(&trace, &[]);
    let count = count.to_string();
    let (code, _, err) = run(&[
        "record",
        &playing.events,
        "--output",
        replaced.to_str().unwrap(),
        "--hash-tokens",
        "--count",
        &count,
    ]);
    assert_eq!(code, 0, "{err}");
    let (node, found, _) = followed(&replaced, last, &[]);
    node.stop();
    assert_eq!(
        (shape(&found), found.len()),
        (shape(&expected), expected.len())
    );
    assert!(found.is_disjoint(&expected));
}

#[test]
fn a_capture_that_was_cut_off_is_played_up_to_there() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("capture");
    let engine = engine(Framing::Four, "");
    let output = file.to_str().unwrap();
    let recording = Running::start(&["record", engine.events_endpoint(), "--output", output]);
    engine.wait_for_subscriber(PATIENCE).unwrap();
    for n in 0..5 {
        engine.publish(n, &batch(&[])).unwrap();
    }
    recording.logged("5 messages");
    recording.interrupt();
    let (code, lines, _) = recording.end();
    assert!(code == 0 && lines[0].contains("5 messages"), "{lines:?}");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() - 12]).unwrap();
    let subscriber =
        Running::start(&["replay", output, "--bind", "tcp://127.0.0.1:0", "--as-fast"]);
    let line = subscriber.said("waiting");
    let events = line
        .split([' ', ','])
        .find(|word| word.starts_with("tcp://"))
        .unwrap()
        .to_owned();
    let (code, out, err) = run(&["inspect", &events, "--json", "--count", "5"]);
    assert_eq!(code, 0, "{out}{err}");
    let (code, _, err) = subscriber.end();
    assert!(code == 0 && err.contains("played up to there"), "{err}");
    // What is there is not written over.
    let (code, _, err) = run(&[
        "record",
        engine.events_endpoint(),
        "--output",
        output,
        "--wait",
        "1",
    ]);
    assert!(code == 64 && err.contains(output), "{err}");
    let (code, _, err) = run(&["replay", dir.path().join("none").to_str().unwrap()]);
    assert!(code == 64 && err.contains("none"), "{err}");
    let nothing = dir.path().join("nothing");
    let (code, _, err) = run(&[
        "record",
        "tcp://127.0.0.1:9",
        "--output",
        nothing.to_str().unwrap(),
        "--wait",
        "0.2",
    ]);
    assert!(code == 69 && err.contains("Check: "), "{err}");
    assert!(!nothing.exists());
    for tool in ["record", "replay"] {
        let (code, help, _) = run(&[tool, "--help"]);
        assert!(
            code == 0 && help.contains(&format!("  kvroute {tool} ")),
            "{help}"
        );
    }
}

#[test]
fn a_restart_in_a_capture_is_one_of_the_player() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("capture");
    let line = |n: u8| {
        format!(
            "{{\"t\":1,\"pod\":\"a\",\"topic\":\"\",\"seq\":\"00000000000000{n:02x}\",\"payload\":\"93009000\"}}\n"
        )
    };
    let text: String = [4, 5, 0, 1].map(line).concat();
    std::fs::write(&file, text + &line(2).replace("\"a\"", "\"b\"")).unwrap();
    let playing = play(&file, &[]);
    let inspecting = Running::start(&["inspect", &playing.events, "--json", "--count", "4"]);
    let done = playing.running.said("done");
    assert!(
        done.contains("4 messages published, 1 restarts, 1 messages of other"),
        "{done}"
    );
    let (code, lines, _) = inspecting.end();
    assert_eq!(code, 0);
    let summary: Value = serde_json::from_str(lines.last().unwrap()).unwrap();
    assert_eq!(summary["sequence"]["restarts"], 1);
    assert_eq!(summary["connections"], 2);
}
