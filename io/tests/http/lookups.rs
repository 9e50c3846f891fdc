//! `POST /v1/match`: what is found, in which order, in which form.
use crate::fixture::{Blocks, Fixture, prompt};
use kvroute::status::{Trust, now_ms};
use kvroute_engine::types::Tier;
use serde_json::{Value, json};

/// A candidate of the answer, all on the GPU, in blocks of four.
fn candidate(pod: &str, blocks: u64) -> Value {
    let tokens = blocks * 4;
    json!({
        "pod": pod, "endpoint": null, "rank": 0, "block_size": 4,
        "matched_blocks": blocks, "matched_tokens": tokens,
        "tiers": {"gpu": tokens, "cpu": tokens, "disk": tokens},
        "state": "exact", "age_ms": null,
    })
}

/// (pod, rank, matched tokens) of an answer's candidates.
fn brief(answer: &Value) -> Vec<(String, u64, u64)> {
    let candidates = answer["candidates"]
        .as_array()
        .unwrap_or_else(|| panic!("{answer}"));
    candidates
        .iter()
        .map(|c| {
            let pod = c["pod"].as_str().unwrap().to_owned();
            (
                pod,
                c["rank"].as_u64().unwrap(),
                c["matched_tokens"].as_u64().unwrap(),
            )
        })
        .collect()
}

fn found(pods: &[(&str, u64)]) -> Vec<(String, u64, u64)> {
    pods.iter()
        .map(|(pod, tokens)| ((*pod).to_owned(), 0, *tokens))
        .collect()
}

#[test]
fn the_most_tokens_come_first_and_ties_go_by_name() {
    let fixture = Fixture::new();
    for pod in ["d", "b", "c", "a"] {
        fixture.add_pod(pod);
    }
    fixture.store("a#0", &Blocks::of(&prompt(4)));
    fixture.store("c#0", &Blocks::of(&prompt(12)));
    fixture.store("b#0", &Blocks::of(&prompt(12)));
    // Another prompt from its third block on.
    fixture.store("d#0", &Blocks::of(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 9]));
    let asked = json!({"model": "m", "token_ids": prompt(18), "whatever": {"else": [1]}});
    let response = fixture.client().post("/v1/match", &asked);
    assert_eq!(response.status, 200);
    let candidates = [
        candidate("b", 3),
        candidate("c", 3),
        candidate("d", 2),
        candidate("a", 1),
    ];
    assert_eq!(
        response.json(),
        json!({"model": "m", "tokens": 18, "candidates": candidates})
    );
}

#[test]
fn a_block_counts_only_when_whole() {
    let fixture = Fixture::new();
    fixture.add_pod("a");
    fixture.store("a#0", &Blocks::of(&prompt(8)));
    let mut client = fixture.client();
    for (tokens, expected) in [
        (3, None),
        (4, Some(4)),
        (7, Some(4)),
        (8, Some(8)),
        (9, Some(8)),
    ] {
        let answer = client
            .post(
                "/v1/match",
                &json!({"model": "m", "token_ids": prompt(tokens)}),
            )
            .json();
        let expected: Vec<_> = expected
            .into_iter()
            .map(|n| ("a".to_owned(), 0, n))
            .collect();
        assert_eq!(brief(&answer), expected, "{tokens} tokens");
        assert_eq!(answer["tokens"], tokens);
    }
}

#[test]
fn tiers_are_cumulative() {
    let fixture = Fixture::new();
    fixture.add(
        json!({"pod": "ns/a", "model": "m", "events": "tcp://h:1", "endpoint": "10.0.0.7:8000"}),
    );
    let prompt = prompt(24);
    for (tier, after, end) in [(Tier::Gpu, 0, 8), (Tier::Cpu, 2, 12), (Tier::Disk, 3, 20)] {
        let prompt = &prompt[..end];
        fixture.store(
            "ns/a#0",
            &Blocks {
                tier,
                after,
                ..Blocks::of(prompt)
            },
        );
    }
    let answer = fixture
        .client()
        .post("/v1/match", &json!({"model": "m", "token_ids": prompt}))
        .json();
    let expected = json!([{
        "pod": "ns/a", "endpoint": "10.0.0.7:8000", "rank": 0, "block_size": 4,
        "matched_blocks": 5, "matched_tokens": 20, "tiers": {"gpu": 8, "cpu": 12, "disk": 20},
        "state": "exact", "age_ms": null,
    }]);
    assert_eq!(answer["candidates"], expected);
}

#[test]
fn ranks_are_workers_of_their_own() {
    let fixture = Fixture::new();
    fixture.add(json!({"pod": "a", "model": "m", "events": "tcp://h:1", "ranks": 3}));
    fixture.store("a#1", &Blocks::of(&prompt(8)));
    fixture.store("a#2", &Blocks::of(&prompt(8)));
    let mut client = fixture.client();
    let asked = json!({"model": "m", "token_ids": prompt(8)});
    let answer = client.post("/v1/match", &asked).json();
    assert_eq!(
        brief(&answer),
        [("a".to_owned(), 1, 8), ("a".to_owned(), 2, 8)]
    );
    let asked = json!({"model": "m", "token_ids": prompt(8), "candidates": ["a"]});
    let answer = client.post("/v1/match", &asked).json();
    let all = [
        ("a".to_owned(), 1, 8),
        ("a".to_owned(), 2, 8),
        ("a".to_owned(), 0, 0),
    ];
    assert_eq!(brief(&answer), all);
}

#[test]
fn named_candidates_are_listed_with_or_without_a_match_and_no_others() {
    let fixture = Fixture::new();
    for pod in ["a", "b", "ns/c"] {
        fixture.add_pod(pod);
        fixture.store(&format!("{pod}#0"), &Blocks::of(&prompt(4)));
    }
    fixture.add(json!({"pod": "e", "model": "m", "events": "tcp://h:1", "block_size": 32}));
    let mut client = fixture.client();
    let names = json!(["e", "b", "nobody", "ns/c", "b"]);
    let asked = json!({"model": "m", "token_ids": prompt(4), "candidates": names});
    let answer = client.post("/v1/match", &asked).json();
    assert_eq!(brief(&answer), found(&[("b", 4), ("ns/c", 4), ("e", 0)]));
    let unmatched = json!({
        "pod": "e", "endpoint": null, "rank": 0, "block_size": 32, "matched_blocks": 0,
        "matched_tokens": 0, "tiers": {"gpu": 0, "cpu": 0, "disk": 0}, "state": "exact", "age_ms": null,
    });
    assert_eq!(answer["candidates"][2], unmatched);
    let asked = json!({"model": "m", "token_ids": prompt(4), "candidates": []});
    assert_eq!(brief(&client.post("/v1/match", &asked).json()), []);
    let asked = json!({"model": "m", "token_ids": prompt(4), "candidates": null});
    assert_eq!(brief(&client.post("/v1/match", &asked).json()).len(), 3);
}

#[test]
fn the_limit_keeps_the_best() {
    let fixture = Fixture::new();
    for (pod, tokens) in [("a", 4), ("b", 12), ("c", 8), ("d", 12)] {
        fixture.add_pod(pod);
        fixture.store(&format!("{pod}#0"), &Blocks::of(&prompt(tokens)));
    }
    let mut client = fixture.client();
    let mut ask = |limit: u64| {
        let asked = json!({"model": "m", "token_ids": prompt(12), "limit": limit});
        brief(&client.post("/v1/match", &asked).json())
    };
    let all = found(&[("b", 12), ("d", 12), ("c", 8), ("a", 4)]);
    for limit in 1..=5 {
        assert_eq!(
            ask(limit),
            all[..all.len().min(limit as usize)],
            "limit {limit}"
        );
    }
}

#[test]
fn by_default_sixteen_are_listed_but_all_that_are_named() {
    let fixture = Fixture::new();
    fixture.add(json!({"pod": "a", "model": "m", "events": "tcp://h:1", "ranks": 18}));
    for rank in 0..18 {
        fixture.store(&format!("a#{rank}"), &Blocks::of(&prompt(4)));
    }
    let mut client = fixture.client();
    let asked = json!({"model": "m", "token_ids": prompt(4)});
    assert_eq!(brief(&client.post("/v1/match", &asked).json()).len(), 16);
    let asked = json!({"model": "m", "token_ids": prompt(4), "candidates": ["a"]});
    assert_eq!(brief(&client.post("/v1/match", &asked).json()).len(), 18);
    let asked = json!({"model": "m", "token_ids": prompt(4), "candidates": ["a"], "limit": 3});
    assert_eq!(brief(&client.post("/v1/match", &asked).json()).len(), 3);
}

/// Four tokens in blocks of four, eight in blocks of two.
#[test]
fn a_worker_in_two_contexts_is_listed_once_with_its_best() {
    let fixture = Fixture::new();
    fixture.add_pod("a");
    fixture.store("a#0", &Blocks::of(&prompt(4)));
    fixture.store(
        "a#0",
        &Blocks {
            block_size: 2,
            chain: 1,
            ..Blocks::of(&prompt(8))
        },
    );
    let asked = json!({"model": "m", "token_ids": prompt(8)});
    let answer = fixture.client().post("/v1/match", &asked).json();
    assert_eq!(brief(&answer), found(&[("a", 8)]));
    assert_eq!(answer["candidates"][0]["block_size"], 2);
    assert_eq!(answer["candidates"][0]["matched_blocks"], 4);
}

#[test]
fn a_block_size_restricts_to_its_context() {
    let fixture = Fixture::new();
    fixture.add_pod("four");
    fixture.add_pod("two");
    fixture.store("four#0", &Blocks::of(&prompt(8)));
    fixture.store(
        "two#0",
        &Blocks {
            block_size: 2,
            ..Blocks::of(&prompt(6))
        },
    );
    let mut client = fixture.client();
    let mut ask = |block_size: Value| {
        let asked = json!({"model": "m", "token_ids": prompt(8), "block_size": block_size});
        brief(&client.post("/v1/match", &asked).json())
    };
    assert_eq!(ask(Value::Null), found(&[("four", 8), ("two", 6)]));
    assert_eq!(ask(json!(2)), found(&[("two", 6)]));
    assert_eq!(ask(json!(4)), found(&[("four", 8)]));
    assert_eq!(ask(json!(8)), []);
}

#[test]
fn binary_tokens_and_messagepack_answers_say_the_same() {
    let fixture = Fixture::new();
    for pod in ["ns/a", "b,c", "d"] {
        fixture.add_pod(pod);
        fixture.store(&format!("{pod}#0"), &Blocks::of(&prompt(8)));
    }
    fixture.status("d#0").touch();
    fixture.status("d#0").set_trust(Trust::Partial);
    let mut client = fixture.client();
    let asked =
        json!({"model": "m", "token_ids": prompt(9), "candidates": ["ns/a", "b,c"], "limit": 9});
    let plain = client.post("/v1/match", &asked).json();
    assert_eq!(brief(&plain), found(&[("b,c", 8), ("ns/a", 8)]));
    let path = "/v1/match?model=m&candidates=ns%2Fa&limit=9&candidates=,b%2Cc,&unknown=1";
    let binary = client.post_tokens(path, "accept: application/json\r\n", &prompt(9));
    assert_eq!(binary.json(), plain);
    for accept in [
        "application/msgpack",
        "text/html, Application/MSGPACK;q=0.9",
    ] {
        let headers = format!("accept: {accept}\r\n");
        let packed = client.post_tokens(path, &headers, &prompt(9));
        assert_eq!(packed.status, 200);
        assert_eq!(packed.header("content-type"), Some("application/msgpack"));
        let value: Value = rmp_serde::from_slice(&packed.body).unwrap();
        assert_eq!(value, plain);
    }
    let packed = client.request(
        "POST",
        "/v1/match",
        "accept: application/msgpack\r\n",
        asked.to_string().as_bytes(),
    );
    let value: Value = rmp_serde::from_slice(&packed.body).unwrap();
    assert_eq!(value, plain);
}

#[test]
fn state_and_age_are_the_workers_own() {
    let fixture = Fixture::new();
    fixture.add_pod("a");
    fixture.store("a#0", &Blocks::of(&prompt(4)));
    let status = fixture.status("a#0");
    let mut client = fixture.client();
    let asked = json!({"model": "m", "token_ids": prompt(4)});
    for trust in [
        Trust::Replaying,
        Trust::Partial,
        Trust::Approximate,
        Trust::Stale,
        Trust::Exact,
    ] {
        status.set_trust(trust);
        let answer = client.post("/v1/match", &asked).json();
        assert_eq!(answer["candidates"][0]["state"], trust.as_str());
        assert_eq!(answer["candidates"][0]["matched_tokens"], 4);
    }
    status.touch();
    let touched = now_ms();
    let answer = client.post("/v1/match", &asked).json();
    let age = answer["candidates"][0]["age_ms"].as_u64().unwrap();
    assert!(age <= now_ms() - touched + 1, "{age}");
}

#[test]
fn a_distrusted_worker_is_credited_with_nothing() {
    let fixture = Fixture::new();
    for pod in ["a", "b"] {
        fixture.add_pod(pod);
        fixture.store(&format!("{pod}#0"), &Blocks::of(&prompt(4)));
    }
    fixture.status("a#0").set_trust(Trust::Distrusted);
    let mut client = fixture.client();
    let asked = json!({"model": "m", "token_ids": prompt(4)});
    assert_eq!(
        brief(&client.post("/v1/match", &asked).json()),
        found(&[("b", 4)])
    );
    let asked = json!({"model": "m", "token_ids": prompt(4), "candidates": ["a", "b"]});
    let answer = client.post("/v1/match", &asked).json();
    assert_eq!(brief(&answer), found(&[("b", 4), ("a", 0)]));
    assert_eq!(answer["candidates"][1]["state"], "distrusted");
    assert_eq!(answer["candidates"][1]["matched_blocks"], 0);
}

#[test]
fn a_removed_pod_is_found_no_more() {
    let fixture = Fixture::new();
    for pod in ["ns/a", "b"] {
        fixture.add_pod(pod);
        fixture.store(&format!("{pod}#0"), &Blocks::of(&prompt(4)));
    }
    let mut client = fixture.client();
    let asked = json!({"model": "m", "token_ids": prompt(4)});
    assert_eq!(client.delete("/v1/workers/ns/a").status, 204);
    assert_eq!(
        brief(&client.post("/v1/match", &asked).json()),
        found(&[("b", 4)])
    );
    // A pod of the same name begins with nothing.
    fixture.add_pod("ns/a");
    assert_eq!(
        brief(&client.post("/v1/match", &asked).json()),
        found(&[("b", 4)])
    );
    assert_eq!(client.delete("/v1/workers/ns%2Fa").status, 204);
    assert_eq!(client.delete("/v1/workers/b").status, 204);
    let (status, code, field) = client.post("/v1/match", &asked).refusal();
    assert_eq!(
        (status, code.as_str(), field.as_deref()),
        (404, "model_not_found", Some("model"))
    );
}
