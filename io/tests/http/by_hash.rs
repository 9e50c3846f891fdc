//! `POST /query_by_hash`: answered as `/query` is for the tokens that the hashes were made of.
use crate::batch::{packed, unpacked};
use crate::client::Client;
use crate::fixture::{Blocks, Fixture, prompt};
use kvroute_engine::types::Tier;
use kvroute_engine::{Index, IndexConfig};
use serde_json::{Value, json};

const PATH: &str = "/query_by_hash";

/// XXH3-64 with seed 1337 of (1 2 3 4), (5 6 7 8) and (9 10 11 12) as little-endian `u32`, by another library.
const HASHES: [u64; 3] = [
    0xcb38_e4d7_fb2d_ca5c,
    0xe8d3_ec39_b907_b74c,
    0x06b7_48f1_777d_599c,
];

/// Rank 0 holds two blocks on the GPU and one more on the CPU, rank 1 one.
fn fixture() -> (Fixture, Client) {
    let fixture = Fixture::new();
    fixture.add(json!({"pod": "w", "model": "m", "events": "tcp://w:5557", "ranks": 2}));
    let prompt = prompt(12);
    for (worker, tier, after, end) in [
        ("w#0", Tier::Gpu, 0, 8),
        ("w#0", Tier::Cpu, 2, 12),
        ("w#1", Tier::Gpu, 0, 4),
    ] {
        let blocks = Blocks {
            tier,
            after,
            ..Blocks::of(&prompt[..end])
        };
        fixture.store(worker, &blocks);
    }
    let client = fixture.client();
    (fixture, client)
}

fn body(hashes: impl serde::Serialize) -> Value {
    json!({"model_name": "m", "block_hashes": hashes})
}

#[test]
fn hashes_are_answered_as_tokens_are() {
    let (_fixture, mut client) = fixture();
    let tokens = json!({"model_name": "m", "token_ids": prompt(12)});
    let expected = client.post("/query", &tokens).json();
    assert_eq!(expected["scores"], json!({"w": {"0": 8, "1": 4}}));
    assert_eq!(expected["instances"]["w"]["longest_matched"], 12);
    let response = client.post(PATH, &body(HASHES));
    assert_eq!((response.status, response.json()), (200, expected.clone()));
    let signed = HASHES.map(u64::cast_signed);
    assert!(signed.iter().any(|hash| *hash < 0), "{signed:?}");
    assert_eq!(client.post(PATH, &body(signed)).json(), expected);
    assert_eq!(
        unpacked(&packed(&mut client, PATH, &body(HASHES))),
        expected
    );
    assert_eq!(unpacked(&packed(&mut client, "/query", &tokens)), expected);
    let first = client.post(PATH, &body(&HASHES[..1])).json();
    assert_eq!(first["scores"], json!({"w": {"0": 4, "1": 4}}));
    // The blocks of a prompt that begins otherwise.
    let nothing = json!({"scores": {}, "frequencies": [], "instances": {}});
    for none in [&HASHES[1..], &[0], &[u64::MAX], &[]] {
        let response = client.post(PATH, &body(none));
        assert_eq!((response.status, response.json()), (200, nothing.clone()));
    }
}

#[test]
fn an_adapter_is_named() {
    let (fixture, mut client) = fixture();
    let prompt = prompt(12);
    let blocks = Blocks {
        adapter: Some("fr"),
        chain: 1,
        ..Blocks::of(&prompt)
    };
    fixture.store("w#1", &blocks);
    let mut asked = body(HASHES);
    asked["lora_name"] = json!("fr");
    asked["tenant_id"] = json!("default");
    let scores = client.post(PATH, &asked).json()["scores"].clone();
    assert_eq!(scores, json!({"w": {"1": 12}}));
    asked["block_size"] = json!(16);
    assert_eq!(client.post(PATH, &asked).json()["scores"], json!({}));
}

#[test]
fn a_wrong_query_names_its_field() {
    let (_fixture, mut client) = fixture();
    let with = |field: &str, value: Value| {
        let mut body = body([1]);
        body[field] = value;
        body
    };
    for (body, status, field) in [
        (json!({"model_name": "m"}), 400, "block_hashes"),
        (with("block_hashes", Value::Null), 400, "block_hashes"),
        (with("block_hashes", json!(7)), 400, "block_hashes"),
        (with("block_hashes", json!([1, "2"])), 400, "block_hashes"),
        (with("block_hashes", json!([1.5])), 400, "block_hashes"),
        (with("block_size", json!(0)), 400, "block_size"),
        (with("cache_salt", json!("t")), 400, "cache_salt"),
        (with("model_name", Value::Null), 400, "model_name"),
        (with("model_name", json!("unknown")), 404, "model_name"),
    ] {
        let (got, _, named) = client.post(PATH, &body).refusal();
        assert_eq!((got, named.as_deref()), (status, Some(field)), "{body}");
    }
    let large = r#"{"model_name":"m","block_hashes":[18446744073709551616]}"#;
    let (got, _, named) = client.post_text(PATH, large).refusal();
    assert_eq!((got, named.as_deref()), (400, Some("block_hashes")));
}

#[test]
fn another_seed_is_told() {
    let config = IndexConfig {
        hash_seed: 7,
        ..IndexConfig::default()
    };
    let fixture = Fixture::over(Index::new(config));
    fixture.add_pod("a");
    let response = fixture.client().post(PATH, &body(HASHES));
    let (status, code, field) = response.refusal();
    let got = (status, code.as_str(), field.as_deref());
    assert_eq!(got, (400, "invalid_request", Some("block_hashes")));
    let message = response.json()["error"]["message"].to_string();
    assert!(message.contains("private seed, not with 1337"), "{message}");
}
