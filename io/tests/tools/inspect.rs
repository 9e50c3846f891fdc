//! `kvroute inspect`.
use crate::rig::{PATIENCE, Running, batch, engine, run};
use kvroute::fake::Framing;
use serde_json::{Value, json};

/// Numbers 3, 4, 7, 6, 7, 0: one gap of two, one late, one repeated, and a new life, of the shapes below.
fn publish(engine: &kvroute::fake::FakeEngine) {
    let map = json!({
        "type": "BlockStored", "block_hashes": [255, 18_446_744_073_709_551_615_u64], "parent_block_hash": null,
        "token_ids": [11, 12, 13, 14, 15, 16, 17, 18], "block_size": 4, "lora_id": null, "medium": "GPU",
        "lora_name": "fr", "extra_keys": [["fr", "salt"], null], "group_idx": 0,
        "kv_cache_spec_kind": "full_attention", "locality": "LOCAL", "colour\u{1b}": 1,
    });
    let removed = json!({"type": "BlockRemoved", "block_hashes": [255], "medium": "CPU"});
    let array = json!([
        "BlockStored",
        ["0x00ff", "0x0102"],
        null,
        [1, 2, 3, 4],
        2,
        null,
        "GPU"
    ]);
    let strange = json!({"type": "BlockMoved", "from": 1});
    engine.publish(3, &batch(&[map])).unwrap();
    engine.publish(4, &batch(&[removed, strange])).unwrap();
    engine.publish(7, &batch(&[array])).unwrap();
    engine
        .publish(6, &batch(&[json!({"type": "AllBlocksCleared"})]))
        .unwrap();
    engine.publish(7, &batch(&[])).unwrap();
    engine
        .publish_frames(&[b"other", &[0; 8], b"\x90"])
        .unwrap();
    engine.publish_frames(&[b"kv@a", b"x"]).unwrap();
    engine.publish(0, b"\x93\xc1").unwrap();
}

fn last(lines: &[String]) -> Value {
    let line = lines.last().expect("a summary");
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

#[test]
fn everything_published_is_told_as_json() {
    let engine = engine(Framing::Four, "kv@a");
    engine.lose(1, &batch(&[]));
    engine.lose(2, &batch(&[]));
    let replay = engine.replay_endpoint().unwrap();
    let args = [
        "inspect",
        engine.events_endpoint(),
        "--replay",
        replay,
        "--json",
        "--topic",
        "kv@",
        "--count",
        "6",
    ];
    let running = Running::start(&args);
    engine.wait_for_subscriber(PATIENCE).unwrap();
    // The ring was asked at the start; what it had then is told.
    let interval = running.said("\"outcome\":\"complete\"");
    let ring: Value = serde_json::from_str(&interval).unwrap();
    let ring = &ring["ring"];
    assert_eq!((&ring["batches"], &ring["frames"]), (&json!(2), &json!(4)));
    assert_eq!(
        (&ring["sequence"]["first"], &ring["sequence"]["last"]),
        (&json!(1), &json!(2))
    );
    publish(&engine);
    let (code, lines, err) = running.end();
    assert_eq!((code, err.as_str()), (0, ""));
    let summary = last(&lines);
    let expected = json!({
        "messages": 7, "batches": 6, "events": 4, "skipped": 1, "stored": 2, "removed": 1, "cleared": 1,
        "blocks_stored": 4, "blocks_removed": 1, "tokens": 12,
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&summary["totals"][name], value, "{name}: {summary}");
    }
    let numbers = json!({
        "first": 3, "last": 0, "gaps": 1, "missing": 1, "late": 1, "repeated": 1, "restarts": 1,
    });
    assert_eq!(summary["sequence"], numbers);
    for (name, expected) in [
        ("report", json!("summary")),
        ("connected", json!(true)),
        ("batch_shapes", json!({"array": 5})),
        ("event_shapes", json!({"array": 1, "map": 4})),
        ("hash_kinds", json!({"integer": 3, "2 bytes": 2})),
        ("hash_sample", json!("0102")),
        ("block_sizes", json!({"2": 1, "4": 1})),
        ("groups", json!({"0: full_attention": 1})),
        ("media", json!({"CPU": 1, "GPU": 2})),
        ("adapters", json!({"fr": 1})),
        ("ranks", json!({"0": 5})),
        ("topics", json!({"kv@a": 7})),
        ("other_topics", json!(1)),
        ("unknown_tags", json!({"BlockMoved": 1})),
        (
            "unknown_fields",
            json!({"BlockStored.colour\\u{1b}": 1, "BlockStored.locality": 1, "BlockMoved.from": 1}),
        ),
        ("skipped", json!({"unknown_tag": 1})),
        (
            "broken",
            json!({"wrong frames": 1, "a length of 3 is more than the bytes left can hold": 1}),
        ),
        ("with_extra_keys", json!(1)),
    ] {
        assert_eq!(summary[name], expected, "{name}");
    }
    let guess = summary["engine"].as_str().unwrap();
    assert_eq!(
        guess,
        "several at one address: vLLM 0.10.2 to 0.13; vLLM 0.26 or later"
    );
}

#[test]
fn events_are_told_without_tokens_unless_they_are_asked_for() {
    for tokens in [false, true] {
        let engine = engine(Framing::Three, "");
        let events = engine.events_endpoint().to_owned();
        let mut args = vec!["inspect", &events, "--json", "--events", "--count", "6"];
        args.extend(tokens.then_some("--tokens"));
        let running = Running::start(&args);
        engine.wait_for_subscriber(PATIENCE).unwrap();
        publish(&engine);
        let (code, lines, _) = running.end();
        assert_eq!(code, 0);
        let lines: Vec<Value> = lines
            .iter()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let stored = lines.iter().find(|line| line["event"] == "stored").unwrap();
        assert_eq!(stored["sequence"], 3);
        assert_eq!(
            stored["hashes"],
            json!(["0x00000000000000ff", "0xffffffffffffffff"])
        );
        assert_eq!(
            (&stored["tokens"], &stored["lora_name"]),
            (&json!(8), &json!("fr"))
        );
        let ids = tokens.then(|| json!([11, 12, 13, 14, 15, 16, 17, 18]));
        assert_eq!(stored.get("token_ids"), ids.as_ref());
        let kinds: Vec<_> = lines
            .iter()
            .filter_map(|line| line["event"].as_str())
            .collect();
        assert_eq!(kinds, ["stored", "removed", "skipped", "stored", "cleared"]);
    }
}

#[test]
fn a_pipe_gets_a_line_a_second_and_ctrl_c_a_summary() {
    let engine = engine(Framing::Four, "");
    let running = Running::start(&["inspect", engine.events_endpoint()]);
    engine.wait_for_subscriber(PATIENCE).unwrap();
    publish(&engine);
    let line = running.said("skipped events");
    assert!(
        line.contains("1 restarts") && line.contains("2 broken batches"),
        "{line}"
    );
    running.interrupt();
    let (code, lines, _) = running.end();
    let text = lines.join("\n");
    assert_eq!(code, 0, "{text}");
    for words in [
        "hashes          2 bytes x2, integer x3",
        "UNKNOWN TAGS    BlockMoved x1",
        r"colour\u{1b}",
        "BlockRemoved (map): block_hashes, medium x1",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(!text.contains('\u{1b}'), "{text:?}");
}

#[test]
fn nobody_there_is_69_and_says_what_to_check() {
    let (code, _, err) = run(&["inspect", "tcp://127.0.0.1:9", "--wait", "0.3"]);
    assert_eq!(code, 69, "{err}");
    assert!(
        err.contains("--kv-events-config") && err.contains("127.0.0.1:9"),
        "{err}"
    );
    let silent = engine(Framing::Four, "");
    let (code, _, err) = run(&["inspect", silent.events_endpoint(), "--wait", "2"]);
    assert_eq!(code, 69, "{err}");
    assert!(
        err.contains("connected, and nothing was published"),
        "{err}"
    );
    for args in [
        &["inspect", "nonsense"][..],
        &["inspect", "tcp://127.0.0.1:9", "--for", "-1"],
        &["inspect"],
    ] {
        let (code, _, err) = run(args);
        assert_eq!(code, 64, "{args:?}: {err}");
    }
    let (code, help, _) = run(&["inspect", "--help"]);
    assert!(
        code == 0 && help.contains("kvroute inspect tcp://10.0.0.7:5557 --replay"),
        "{help}"
    );
}
