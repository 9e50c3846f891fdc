//! `POST /v1/route`: where a request goes, and why.
use crate::client::Response;
use crate::fixture::{Blocks, Fixture, events_of, prompt};
use kvroute::status::Trust;
use kvroute_engine::hash::{ExtraDigest, SEED_DEFAULT, block_key};
use kvroute_engine::types::Tier;
use serde_json::{Value, json};

/// Three pods `a`, `b`, `c` that serve model `m` at ports 1, 2, 3.
fn three() -> Fixture {
    let fixture = Fixture::new();
    for (pod, port) in [("a", 1), ("b", 2), ("c", 3)] {
        add_at(&fixture, pod, port);
    }
    fixture
}

fn add_at(fixture: &Fixture, pod: &str, port: u16) {
    let endpoint = format!("10.0.0.7:{port}");
    fixture.add(json!({"pod": pod, "model": "m", "events": events_of(pod), "endpoint": endpoint}));
}

fn route(fixture: &Fixture, asked: &Value) -> Value {
    let response = fixture.client().post("/v1/route", asked);
    assert_eq!(response.status, 200, "{response:?}");
    response.json()
}

/// (pod, reason, matched tokens) of an answer.
fn brief(answer: &Value) -> (&str, &str, u64) {
    (
        answer["target"]["pod"].as_str().unwrap(),
        answer["reason"].as_str().unwrap(),
        answer["matched_tokens"].as_u64().unwrap(),
    )
}

fn assert_target_headers(response: &Response, endpoint: &str, rank: Option<&str>) {
    assert_eq!(response.header("target-pod"), Some(endpoint));
    assert_eq!(
        response.header("x-gateway-destination-endpoint"),
        Some(endpoint)
    );
    assert_eq!(response.header("x-data-parallel-rank"), rank);
}

#[test]
fn the_answer_is_as_documented() {
    let fixture = three();
    fixture.store("b#0", &Blocks::of(&prompt(12)));
    fixture.store("c#0", &Blocks::of(&prompt(4)));
    let asked = json!({"model": "m", "token_ids": prompt(18), "stream": true, "dry_run": true});
    let response = fixture.client().post("/v1/route", &asked);
    assert_eq!(response.status, 200, "{response:?}");
    assert_target_headers(&response, "10.0.0.7:2", None);
    let answer = response.json();
    let id = response.header("x-kvroute-request-id").unwrap();
    let candidate = |pod: &str, endpoint: &str, blocks: u64| {
        let tokens = 4 * blocks;
        json!({"pod": pod, "endpoint": endpoint, "rank": 0, "block_size": 4, "matched_blocks": blocks,
            "matched_tokens": tokens, "tiers": {"gpu": tokens, "cpu": tokens, "disk": tokens},
            "state": "exact", "age_ms": null})
    };
    let expected = json!({
        "request_id": id,
        "target": {"pod": "b", "endpoint": "10.0.0.7:2", "rank": 0},
        "reason": "prefix_match",
        "matched_tokens": 12,
        "speculative_tokens": 0,
        "headers": {"target-pod": "10.0.0.7:2", "x-gateway-destination-endpoint": "10.0.0.7:2"},
        "candidates": [candidate("b", "10.0.0.7:2", 3), candidate("c", "10.0.0.7:3", 1)],
    });
    assert_eq!(answer, expected);

    let body = asked.to_string();
    let headers = "accept: application/msgpack\r\n";
    let packed = fixture
        .client()
        .request("POST", "/v1/route", headers, body.as_bytes());
    assert_eq!(packed.header("content-type"), Some("application/msgpack"));
    let mut unpacked: Value = rmp_serde::from_slice(&packed.body).unwrap();
    unpacked["request_id"] = json!(id);
    assert_eq!(unpacked, expected);
    assert_target_headers(&packed, "10.0.0.7:2", None);
}

#[test]
fn loads_decide_as_the_rules_say() {
    let fixture = three();
    fixture.store("a#0", &Blocks::of(&prompt(12)));
    fixture.store("b#0", &Blocks::of(&prompt(8)));
    let with = |loads: Value| {
        route(
            &fixture,
            &json!({"model": "m", "token_ids": prompt(13), "loads": loads}),
        )
    };
    let one = |running: u32| json!({"running": running, "waiting": 0});
    for (loads, expected) in [
        // Mean 1.33, deviation 1.15: 2 is within the limit.
        (json!({"a": one(2), "c": one(2)}), ("a", "prefix_match", 12)),
        // Mean 2.67, deviation 4.62: 8 is above, but b is not.
        (json!({"a": one(8)}), ("b", "prefix_match", 8)),
        // 9 ahead, so only those with none count: b has a match among them.
        (json!({"a": one(9)}), ("b", "prefix_match", 8)),
        (
            json!({"a": one(9), "b": one(1)}),
            ("c", "prefix_match_skipped", 0),
        ),
        (
            json!({"a": {"running": 1, "waiting": 8}, "b": {"waiting": 9}}),
            ("c", "prefix_match_skipped", 0),
        ),
        (
            json!({"a": {}, "unknown": one(99)}),
            ("a", "prefix_match", 12),
        ),
    ] {
        assert_eq!(brief(&with(loads.clone())), expected, "{loads}");
    }
}

#[test]
fn a_minimum_is_in_tokens() {
    let fixture = three();
    fixture.store("b#0", &Blocks::of(&prompt(8)));
    let with = |minimum: u64| {
        json!({"model": "m", "token_ids": prompt(12), "minimum_match": minimum,
            "loads": {"a": {"running": 1}, "b": {"running": 1}}})
    };
    let reached = route(&fixture, &with(8));
    assert_eq!(brief(&reached), ("b", "prefix_match", 8));
    let missed = route(&fixture, &with(9));
    assert_eq!(brief(&missed), ("c", "least_request_fallback", 0));
}

#[test]
fn only_named_pods_are_chosen() {
    let fixture = three();
    fixture.store("b#0", &Blocks::of(&prompt(8)));
    let asked = |names: &[&str]| json!({"model": "m", "token_ids": prompt(9), "candidates": names});
    let one = route(&fixture, &asked(&["a"]));
    assert_eq!(brief(&one), ("a", "single_candidate", 0));
    let listed = one["candidates"].as_array().unwrap();
    assert_eq!(listed.len(), 1, "as /v1/match: what is named is listed");
    let both = route(&fixture, &asked(&["c", "b", "b", "nobody"]));
    assert_eq!(brief(&both), ("b", "prefix_match", 8));
    let nobody = fixture.client().post("/v1/route", &asked(&["nobody"]));
    assert_eq!(
        nobody.refusal(),
        (503, "no_eligible_worker".to_owned(), None)
    );
    assert_eq!(nobody.header("target-pod"), None);
}

#[test]
fn only_what_requests_can_be_sent_to_is_chosen() {
    let fixture = Fixture::new();
    fixture.add_pod("a");
    fixture.store("a#0", &Blocks::of(&prompt(8)));
    let asked = json!({"model": "m", "token_ids": prompt(9)});
    let nobody = fixture.client().post("/v1/route", &asked);
    assert_eq!(
        nobody.refusal(),
        (503, "no_eligible_worker".to_owned(), None)
    );
    add_at(&fixture, "b", 2);
    assert_eq!(
        brief(&route(&fixture, &asked)),
        ("b", "single_candidate", 0)
    );
    let unknown = json!({"model": "n", "token_ids": prompt(9)});
    let unknown = fixture.client().post("/v1/route", &unknown);
    let expected = (404, "model_not_found".to_owned(), Some("model".to_owned()));
    assert_eq!(unknown.refusal(), expected);
}

#[test]
fn who_is_distrusted_is_chosen_by_load_only() {
    let fixture = three();
    fixture.store("b#0", &Blocks::of(&prompt(8)));
    fixture.status("b#0").set_trust(Trust::Distrusted);
    let asked = |loads: Value| json!({"model": "m", "token_ids": prompt(9), "loads": loads});
    let busy = json!({"a": {"running": 1}, "c": {"running": 1}});
    let answer = route(&fixture, &asked(busy));
    assert_eq!(brief(&answer), ("b", "least_request_fallback", 0));
}

#[test]
fn openai_bodies_pass_as_they_are() {
    let fixture = three();
    fixture.store("b#0", &Blocks::of(&prompt(8)));
    let mut client = fixture.client();
    let chat = json!({
        "model": "m", "messages": [{"role": "user", "content": "hi"}], "temperature": 0.5,
        "stream_options": {"include_usage": true}, "tools": [], "max_tokens": 7, "dry_run": true,
    });
    let text = json!({"model": "m", "prompt": "hi", "n": 1, "logprobs": null, "dry_run": true});
    let ids = json!({"model": "m", "prompt": prompt(9), "max_tokens": 7, "dry_run": true});
    for (path, body, reason) in [
        ("/v1/route/v1/chat/completions", &chat, "no_tokens"),
        ("/v1/route", &chat, "no_tokens"),
        ("/v1/route/v1/completions", &text, "no_tokens"),
        ("/v1/route/v1/completions", &ids, "prefix_match"),
        ("/v1/route", &ids, "prefix_match"),
    ] {
        let response = client.post(path, body);
        assert_eq!(response.status, 200, "{path} {body} {response:?}");
        let answer = response.json();
        assert_eq!(answer["reason"], reason, "{path} {body}");
        if reason == "prefix_match" {
            assert_eq!(brief(&answer), ("b", "prefix_match", 8));
        }
    }
    // By load, with or without tokens.
    let loads = json!({"a": {"running": 2}, "b": {"running": 1}, "c": {"running": 2}});
    let mut chat = chat;
    chat["loads"] = loads;
    let response = client.post("/v1/route/v1/chat/completions", &chat);
    assert_eq!(brief(&response.json()), ("b", "no_tokens", 0));
}

#[test]
fn prompts_of_unknown_tokens_are_spread_evenly_and_the_same_everywhere() {
    let (one, other) = (three(), three());
    let mut counts = [0; 3];
    for n in 0..60 {
        let body = json!({"model": "m", "messages": [{"role": "user", "content": format!("{n}")}]});
        let (first, second) = (route(&one, &body), route(&other, &body));
        assert_eq!(first["target"], second["target"], "two replicas");
        let pod = first["target"]["pod"].as_str().unwrap();
        counts["abc".find(pod).unwrap()] += 1;
    }
    // 20 each, with a deviation of 3.7.
    assert!(counts.iter().all(|n| (6..35).contains(n)), "{counts:?}");
}

#[test]
fn block_hashes_are_keys() {
    let fixture = three();
    fixture.store("b#0", &Blocks::of(&prompt(8)));
    let key = |tokens: &[u32]| block_key(SEED_DEFAULT, tokens, ExtraDigest::NONE).get();
    let hashes = [key(&[1, 2, 3, 4]), key(&[5, 6, 7, 8]), 7];
    let asked = json!({"model": "m", "block_hashes": hashes, "dry_run": true});
    let answer = route(&fixture, &asked);
    assert_eq!(brief(&answer), ("b", "prefix_match", 8));
    let signed = hashes.map(u64::cast_signed);
    let answer = route(&fixture, &json!({"model": "m", "block_hashes": signed}));
    assert_eq!(brief(&answer), ("b", "prefix_match", 8));
    for (body, why) in [
        (json!({"block_hashes": []}), "empty"),
        (json!({"block_hashes": ["x"]}), "not a number"),
        (json!({"block_hashes": [1.5]}), "not whole"),
        (json!({"block_hashes": [1], "token_ids": [1]}), "both"),
        (json!({"block_hashes": [1], "cache_salt": "s"}), "salted"),
        (json!({"block_hashes": [1], "extra_keys": [null]}), "extra"),
    ] {
        let mut body = body;
        body["model"] = json!("m");
        let refused = fixture.client().post("/v1/route", &body).refusal();
        let (status, code, field) = refused;
        assert_eq!((status, code.as_str()), (400, "invalid_request"), "{why}");
        assert_eq!(field.as_deref(), Some("block_hashes"), "{why}");
    }
}

#[test]
fn salts_and_adapters_are_minded() {
    let fixture = Fixture::new();
    for (pod, lora) in [("a", json!(["ad"])), ("b", json!(["ad"])), ("c", json!([]))] {
        fixture.add(json!({"pod": pod, "model": "m", "events": events_of(pod),
            "endpoint": "h:1", "lora": lora}));
    }
    fixture.store(
        "b#0",
        &Blocks {
            adapter: Some("ad"),
            ..Blocks::of(&prompt(8))
        },
    );
    fixture.store("c#0", &Blocks::of(&prompt(8)));
    let base = json!({"model": "m", "token_ids": prompt(9)});
    assert_eq!(brief(&route(&fixture, &base)), ("c", "prefix_match", 8));
    let salted = json!({"model": "m", "token_ids": prompt(9), "cache_salt": "s"});
    let answer = route(&fixture, &salted);
    assert_eq!(brief(&answer).1, "least_request_fallback");
    // c, which has not the adapter, is not chosen even if it is the idlest.
    let loads = json!({"a": {"running": 5}, "b": {"running": 6}});
    for (model, lora) in [("m", json!("ad")), ("ad", Value::Null)] {
        let mut asked = json!({"model": model, "lora": lora, "token_ids": prompt(9)});
        asked["loads"] = loads.clone();
        assert_eq!(brief(&route(&fixture, &asked)), ("b", "prefix_match", 8));
        asked["minimum_match"] = json!(9);
        let answer = route(&fixture, &asked);
        assert_eq!(brief(&answer), ("a", "least_request_fallback", 0));
    }
}

#[test]
fn ranks_are_targets_of_their_own() {
    let fixture = Fixture::new();
    fixture.add(
        json!({"pod": "a", "model": "m", "events": "tcp://h:10", "endpoint": "h:1",
        "ranks": 2}),
    );
    fixture.store("a#1", &Blocks::of(&prompt(8)));
    let asked = json!({"model": "m", "token_ids": prompt(9)});
    let response = fixture.client().post("/v1/route", &asked);
    assert_target_headers(&response, "h:1", Some("1"));
    let answer = response.json();
    assert_eq!(answer["target"]["rank"], 1);
    assert_eq!(answer["headers"]["x-data-parallel-rank"], "1");
    // The load of one rank by its name.
    let loads = json!({"a": {"running": 1}, "a#1": {"running": 20}});
    let asked = json!({"model": "m", "token_ids": prompt(9), "loads": loads});
    let answer = route(&fixture, &asked);
    assert_eq!(answer["target"]["rank"], 0, "{answer}");
    assert_eq!(answer["headers"]["x-data-parallel-rank"], "0");
}

#[test]
fn the_other_policies_go_by_name() {
    let fixture = three();
    fixture.store("b#0", &Blocks::of(&prompt(8)));
    let with = |policy: &str, dry_run: bool| {
        let loads = json!({"a": {"running": 1}, "b": {"running": 1}});
        let asked = json!({"model": "m", "token_ids": prompt(9), "policy": policy,
            "dry_run": dry_run, "loads": loads});
        let answer = route(&fixture, &asked);
        let (pod, reason, _) = brief(&answer);
        (pod.to_owned(), reason.to_owned())
    };
    let at = |pod: &str, reason: &str| (pod.to_owned(), reason.to_owned());
    assert_eq!(with("prefix-cache", false), at("b", "prefix_match"));
    assert_eq!(with("least-request", false), at("c", "least_request"));
    for (pod, dry_run) in [
        ("a", false),
        ("b", true),
        ("b", false),
        ("c", false),
        ("a", false),
    ] {
        assert_eq!(with("round-robin", dry_run), at(pod, "round_robin"));
    }
    let mut seen: Vec<_> = (0..100).map(|_| with("random", false).0).collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, ["a", "b", "c"]);
}

#[test]
fn binary_requests_take_the_same_fields() {
    let fixture = three();
    fixture.add(json!({"pod": "d", "model": "m", "events": events_of("d"), "endpoint": "h:4"}));
    fixture.store(
        "d#0",
        &Blocks {
            tier: Tier::Cpu,
            ..Blocks::of(&prompt(8))
        },
    );
    let mut client = fixture.client();
    let mut ask = |query: &str| {
        let path = format!("/v1/route?model=m&{query}");
        client.post_tokens(&path, "", &prompt(9))
    };
    assert_eq!(brief(&ask("").json()), ("d", "prefix_match", 8));
    let answer = ask("minimum_match=9&candidates=d,a").json();
    assert_eq!(brief(&answer).1, "least_request_fallback");
    assert_eq!(
        brief(&ask("policy=round-robin&dry_run=true").json()),
        ("a", "round_robin", 0)
    );
    for (query, field) in [
        ("policy=best", "policy"),
        ("minimum_match=-1", "minimum_match"),
        ("dry_run=1", "dry_run"),
    ] {
        let (status, _, named) = ask(query).refusal();
        assert_eq!((status, named.as_deref()), (400, Some(field)));
    }
}

#[test]
fn bad_fields_are_named() {
    let fixture = three();
    let mut client = fixture.client();
    for (body, field) in [
        (json!({"token_ids": [1]}), "model"),
        (json!({"model": "", "token_ids": [1]}), "model"),
        (json!({"model": "m", "token_ids": []}), "token_ids"),
        (json!({"model": "m", "token_ids": [-1]}), "token_ids"),
        (json!({"model": "m", "prompt": [1, "a"]}), "prompt"),
        (json!({"model": "m", "policy": "best"}), "policy"),
        (json!({"model": "m", "policy": 1}), "policy"),
        (json!({"model": "m", "loads": []}), "loads"),
        (
            json!({"model": "m", "loads": {"a": {"running": -1}}}),
            "loads",
        ),
        (json!({"model": "m", "minimum_match": -1}), "minimum_match"),
        (json!({"model": "m", "dry_run": "yes"}), "dry_run"),
        (json!({"model": "m", "candidates": "a"}), "candidates"),
        (json!({"model": "m", "limit": 0}), "limit"),
        (json!({"model": "m", "block_size": 0}), "block_size"),
    ] {
        let (status, code, named) = client.post("/v1/route", &body).refusal();
        assert_eq!((status, code.as_str()), (400, "invalid_request"), "{body}");
        assert_eq!(named.as_deref(), Some(field), "{body}");
    }
    let (status, code, _) = client.post_text("/v1/route", "{").refusal();
    assert_eq!((status, code.as_str()), (400, "invalid_json"));
    let (status, _, _) = client.get("/v1/route").refusal();
    assert_eq!(status, 405);
}
