//! `GET /dump`: every block that is held, in events that lead to the same index elsewhere.
use crate::fixture::{Blocks, Fixture, prompt};
use kvroute::status::Trust;
use kvroute_engine::types::Tier;
use serde_json::{Value, json};

/// XXH3-64 with seed 1337 as little-endian `u32`, by another library: of (1 2 3 4), (5 6 7 8), (9 10 11 12),
/// (9 9 9 9), and (1 2 3 4 5 6 7 8).
const KEYS: [u64; 5] = [
    0xcb38_e4d7_fb2d_ca5c,
    0xe8d3_ec39_b907_b74c,
    0x06b7_48f1_777d_599c,
    0xb53c_7478_409b_7e5b,
    0x3fc6_d96b_481a_c357,
];

fn stored(
    worker: &Value,
    rank: u32,
    tier: &str,
    id: u64,
    parent: Value,
    blocks: &[(u64, u64)],
) -> Value {
    let blocks: Vec<_> = blocks
        .iter()
        .map(|(name, key)| json!({"block_hash": name, "tokens_hash": key, "mm_extra_info": null}))
        .collect();
    let stored = json!({"parent_hash": parent, "start_position": null, "blocks": blocks});
    let event = json!({"event_id": id, "data": {"stored": stored}, "dp_rank": rank});
    json!({"worker_id": worker, "storage_tier": tier, "event": event})
}

fn entry(adapter: Value, block_size: u32, events: &[Value], left_out: Value) -> Value {
    json!({
        "model_name": "m", "lora_name": adapter, "block_size": block_size, "events": events,
        "left_out": left_out,
    })
}

fn nothing_left_out() -> Value {
    json!({"beyond_a_hole": 0, "waiting": 0, "window_groups": 0, "workers": {}})
}

#[test]
fn nothing_held_is_an_empty_object() {
    let fixture = Fixture::new();
    fixture.add_pod("a");
    let response = fixture.client().get("/dump");
    assert_eq!((response.status, response.json()), (200, json!({})));
}

#[test]
fn chains_branches_and_tiers_are_told() {
    let fixture = Fixture::new();
    // A name that is a number is said as one.
    fixture.add(json!({"pod": "7", "model": "m", "events": "tcp://w:5557", "ranks": 2}));
    let all = prompt(12);
    fixture.store("7#1", &Blocks::of(&all[..8]));
    for (tier, after) in [(Tier::Cpu, 1), (Tier::Disk, 2)] {
        let blocks = Blocks {
            tier,
            after,
            ..Blocks::of(&all)
        };
        fixture.store("7#1", &blocks);
    }
    // A second name of the first block, and another second block.
    let branch = Blocks {
        chain: 1,
        ..Blocks::of(&[1, 2, 3, 4, 9, 9, 9, 9])
    };
    fixture.store("7#1", &branch);
    let other = 1 << 32;
    // Of two names of one block, either may be the first that is said.
    let expected = |first: u64, second: u64| {
        let event = |tier, id, parent, blocks: &[_]| stored(&json!(7), 1, tier, id, parent, blocks);
        let events = [
            event("device", 0, Value::Null, &[(first, KEYS[0]), (2, KEYS[1])]),
            event("device", 1, Value::Null, &[(second, KEYS[0])]),
            event(
                "host_pinned",
                2,
                json!(first),
                &[(2, KEYS[1]), (3, KEYS[2])],
            ),
            event("disk", 3, json!(2), &[(3, KEYS[2])]),
            event("device", 4, json!(first), &[(other + 2, KEYS[3])]),
        ];
        json!({"m:default": entry(Value::Null, 4, &events, nothing_left_out())})
    };
    let response = fixture.client().get("/dump");
    assert_eq!(response.header("content-type"), Some("application/json"));
    let either = [expected(1, other + 1), expected(other + 1, 1)];
    assert!(either.contains(&response.json()), "{}", response.json());
}

#[test]
fn contexts_have_entries_of_their_own() {
    let fixture = Fixture::new();
    fixture.add(json!({"pod": "ns/a", "model": "m", "events": "tcp://a:5557", "lora": ["fr"]}));
    fixture.add_pod("b");
    let of = |name: &str, key| {
        let blocks = &[(1, key)];
        stored(&json!(name), 0, "device", 0, Value::Null, blocks)
    };
    fixture.store(
        "ns/a#0",
        &Blocks {
            adapter: Some("fr"),
            ..Blocks::of(&prompt(4))
        },
    );
    fixture.store("b#0", &Blocks::of(&prompt(4)));
    let all = prompt(8);
    let larger = Blocks {
        block_size: 8,
        chain: 1,
        ..Blocks::of(&all)
    };
    fixture.store("ns/a#0", &larger);
    let name = (1 << 32) + 1;
    let large = stored(
        &json!("ns/a"),
        0,
        "device",
        0,
        Value::Null,
        &[(name, KEYS[4])],
    );
    let expected = json!({
        "m:default": entry(Value::Null, 4, &[of("b", KEYS[0])], nothing_left_out()),
        "m:block_size=8": entry(Value::Null, 8, &[large], nothing_left_out()),
        "fr:default": entry(json!("fr"), 4, &[of("ns/a", KEYS[0])], nothing_left_out()),
    });
    assert_eq!(fixture.client().get("/dump").json(), expected);
}

#[test]
fn what_cannot_be_said_is_counted() {
    let fixture = Fixture::new();
    for pod in ["a", "bad", "gone"] {
        fixture.add_pod(pod);
        fixture.store(&format!("{pod}#0"), &Blocks::of(&prompt(16)));
    }
    let all = prompt(20);
    let blocks = Blocks {
        tier: Tier::Cpu,
        after: 2,
        ..Blocks::of(&all)
    };
    fixture.store("a#0", &blocks);
    // Blocks 3 and 4 are left on GPU and CPU, block 5 on the CPU.
    fixture.remove("a#0", Tier::Gpu, &[2]);
    fixture.status("bad#0").set_trust(Trust::Distrusted);
    fixture.lose("gone#0");
    let events = [stored(
        &json!("a"),
        0,
        "device",
        0,
        Value::Null,
        &[(1, KEYS[0])],
    )];
    let left_out = json!({
        "beyond_a_hole": 5, "waiting": 0, "window_groups": 0,
        "workers": {"bad#0": "distrusted", "gone#0": "not_saved"},
    });
    let expected = json!({"m:default": entry(Value::Null, 4, &events, left_out)});
    assert_eq!(fixture.client().get("/dump").json(), expected);
}

/// Several pieces, and several records of one chain.
#[test]
fn a_long_chain_comes_whole() {
    let fixture = Fixture::new();
    fixture.add_pod("a");
    let blocks = 5_000;
    fixture.store("a#0", &Blocks::of(&prompt(4 * blocks)));
    let answer = fixture.client().get("/dump").json();
    let events = answer["m:default"]["events"].as_array().unwrap();
    let (mut last, mut hashes) = (Value::Null, Vec::new());
    for (id, routed) in events.iter().enumerate() {
        assert_eq!(routed["event"]["event_id"], id);
        let stored = &routed["event"]["data"]["stored"];
        assert_eq!(stored["parent_hash"], last);
        for block in stored["blocks"].as_array().unwrap() {
            last = block["block_hash"].clone();
            hashes.push(block["tokens_hash"].clone());
        }
    }
    assert!(events.len() > 1);
    assert_eq!(last, blocks);
    let asked = json!({"model_name": "m", "block_hashes": hashes});
    let answer = fixture.client().post("/query_by_hash", &asked).json();
    assert_eq!(answer["scores"], json!({"a": {"0": 4 * blocks}}));
}

#[test]
fn a_thread_sends_one_at_a_time() {
    let fixture = Fixture::new();
    fixture.add_pod("a");
    fixture.store("a#0", &Blocks::of(&prompt(4)));
    fixture.hold_up();
    let mut first = fixture.client();
    first.send(b"GET /dump HTTP/1.1\r\nhost: x\r\n\r\n");
    let head = first.receive_head();
    assert_eq!(head.status, 200);
    for path in ["/dump", "/v1/snapshot"] {
        let (status, code, _) = fixture.client().get(path).refusal();
        assert_eq!((status, code.as_str()), (503, "busy"), "{path}");
    }
    fixture.go_on();
    let body: Value = serde_json::from_slice(&first.receive_body(&head)).unwrap();
    assert_eq!(body["m:default"]["events"].as_array().unwrap().len(), 1);
    assert_eq!(fixture.client().get("/dump").json(), body);
}
