//! `GET /v1/explain/{request_id}` and `POST /v1/feedback`.
use crate::fixture::{Blocks, Fixture, events_of, prompt};
use kvroute::config::RoutingConfig;
use kvroute::http::ServerConfig;
use kvroute::limits::{DECISION_CANDIDATES_MAX, DECISIONS_PER_THREAD};
use kvroute::status::Trust;
use serde_json::{Value, json};

fn three(threads: usize) -> Fixture {
    let fixture = Fixture::with(threads, 1.0);
    for (pod, endpoint) in [("a", "h:1"), ("b", "h:2"), ("c", "h:3")] {
        fixture
            .add(json!({"pod": pod, "model": "m", "events": events_of(pod), "endpoint": endpoint}));
    }
    fixture
}

fn route(fixture: &Fixture, asked: &Value) -> String {
    let answer = fixture.client().post("/v1/route", asked).json();
    answer["request_id"].as_str().unwrap().to_owned()
}

#[test]
fn a_choice_is_explained() {
    let fixture = three(1);
    fixture.store("a#0", &Blocks::of(&prompt(12)));
    fixture.store("b#0", &Blocks::of(&prompt(8)));
    fixture.status("c#0").set_trust(Trust::Stale);
    let asked = json!({"model": "m", "token_ids": prompt(14), "minimum_match": 4,
        "loads": {"a": {"running": 6, "waiting": 1}, "b": {"running": 1}}});
    let id = route(&fixture, &asked);
    let mut client = fixture.client();
    let response = client.get(&format!("/v1/explain/{id}"));
    assert_eq!(response.status, 200);
    let mut explained = response.json();
    // Loads 7, 1 and 0: mean 8/3, squares 18.78 + 2.78 + 7.11 = 28.67, half of it 14.33, its root 3.786.
    let gate = explained["gate"].take();
    let close = |field: &str, expected: f64| {
        let value = gate[field].as_f64().unwrap();
        assert!((value - expected).abs() < 1e-3, "{gate}");
    };
    close("mean", 2.667);
    close("deviation", 3.786);
    close("limit", 6.453);
    assert_eq!(gate["least"], 0);
    assert_eq!(gate["most"], 7);
    assert_eq!(gate["imbalanced"], false);
    assert!(explained["at_ms"].take().as_u64().is_some());
    let candidate = |pod: &str, endpoint: &str, tokens: u64, load: (u64, u64), state: &str| {
        json!({"pod": pod, "endpoint": endpoint, "rank": 0, "matched_tokens": tokens, "speculative_tokens": 0,
            "tiers": {"gpu": tokens, "cpu": tokens, "disk": tokens},
            "running": load.0, "waiting": load.1, "queued_tokens": 0, "active_tokens": 0,
            "credit": if state == "stale" { 0.5 } else { 1.0 }, "cost": (14 - tokens) * 1_000,
            "admitted": pod != "a", "score": tokens, "state": state, "chosen": pod == "b"})
    };
    let expected = json!({
        "request_id": id, "at_ms": null, "model": "m", "policy": "prefix-cache",
        "reason": "prefix_match", "dry_run": false, "tokens": 14, "blocks": null, "minimum_match": 4, "session": false,
        "target": {"pod": "b", "endpoint": "h:2", "rank": 0}, "matched_tokens": 8, "speculative_tokens": 0,
        "gate": null,
        "candidates": [
            candidate("a", "h:1", 12, (6, 1), "exact"),
            candidate("b", "h:2", 8, (1, 0), "exact"),
            candidate("c", "h:3", 0, (0, 0), "stale"),
        ],
        "left_out": 0, "feedback": null, "shadow": null,
    });
    assert_eq!(explained, expected);

    // A pod that is gone has no name any more, but the target keeps it.
    for pod in ["/v1/workers/a", "/v1/workers/b"] {
        assert_eq!(client.delete(pod).status, 204);
    }
    let explained = client.get(&format!("/v1/explain/{id}")).json();
    let pods = explained["candidates"].as_array().unwrap();
    let pods: Vec<_> = pods.iter().map(|c| c["pod"].as_str()).collect();
    assert_eq!(pods, [None, Some("b"), Some("c")]);
}

#[test]
fn a_prompt_is_not_remembered() {
    let fixture = three(1);
    let secret = "a word that nobody else says";
    let asked = json!({"model": "m", "messages": [{"role": "user", "content": secret}],
        "dry_run": true, "policy": "least-request"});
    let id = route(&fixture, &asked);
    let response = fixture.client().get(&format!("/v1/explain/{id}"));
    let explained = response.json();
    assert!(!explained.to_string().contains("word"), "{explained}");
    assert_eq!(explained["tokens"], Value::Null);
    assert_eq!(explained["dry_run"], true);
    assert_eq!(explained["candidates"][0]["score"], 0);
}

#[test]
fn every_thread_finds_every_decision() {
    let fixture = three(3);
    let asked = json!({"model": "m", "token_ids": prompt(8)});
    // Connections are spread over the threads by the kernel.
    let ids: Vec<_> = (0..40).map(|_| route(&fixture, &asked)).collect();
    let threads: std::collections::BTreeSet<_> = ids.iter().map(|id| &id[8..12]).collect();
    assert!(threads.len() > 1, "all on one thread: {threads:?}");
    for id in &ids {
        let mut client = fixture.client();
        let explained = client.get(&format!("/v1/explain/{id}")).json();
        assert_eq!(explained["request_id"], json!(id));
    }
}

#[test]
fn the_oldest_decisions_are_forgotten() {
    let fixture = three(1);
    let mut client = fixture.client();
    let asked = json!({"model": "m", "token_ids": prompt(8)});
    let mut route = || {
        let answer = client.post("/v1/route", &asked).json();
        answer["request_id"].as_str().unwrap().to_owned()
    };
    let ids: Vec<_> = (0..=DECISIONS_PER_THREAD).map(|_| route()).collect();
    let mut status = |id: &String| client.get(&format!("/v1/explain/{id}")).status;
    assert_eq!(status(&ids[0]), 404);
    assert_eq!(status(&ids[1]), 200);
    assert_eq!(status(&ids[DECISIONS_PER_THREAD]), 200);
}

#[test]
fn as_many_decisions_are_remembered_as_the_setting_says() {
    let fixture = Fixture::serving(&ServerConfig {
        routing: RoutingConfig {
            decisions: 3,
            ..RoutingConfig::default()
        },
        ..ServerConfig::default()
    });
    fixture.add(json!({"pod": "a", "model": "m", "events": events_of("a"), "endpoint": "h:1"}));
    let asked = json!({"model": "m", "token_ids": prompt(8)});
    let mut client = fixture.client();
    let mut route = || {
        let answer = client.post("/v1/route", &asked).json();
        answer["request_id"].as_str().unwrap().to_owned()
    };
    let ids: Vec<_> = (0..7).map(|_| route()).collect();
    let mut status = |id: &String| client.get(&format!("/v1/explain/{id}")).status;
    let found: Vec<_> = ids.iter().map(&mut status).collect();
    assert_eq!(found, [404, 404, 404, 404, 200, 200, 200]);
}

#[test]
fn of_many_candidates_the_best_are_remembered() {
    let fixture = Fixture::new();
    let ranks = DECISION_CANDIDATES_MAX as u64 + 44;
    for at in 0..4 {
        fixture.add(
            json!({"pod": format!("p{at}"), "model": "m", "endpoint": "h:1",
            "events": format!("ipc:///tmp/p{at}"), "ranks": ranks / 4}),
        );
    }
    fixture.store("p3#3", &Blocks::of(&prompt(8)));
    let loads = json!({"p3#3": {"running": 50}, "p2": {"running": 1}});
    let asked = json!({"model": "m", "token_ids": prompt(9), "loads": loads});
    let id = route(&fixture, &asked);
    let explained = fixture.client().get(&format!("/v1/explain/{id}")).json();
    assert_eq!(explained["left_out"], 44);
    let candidates = explained["candidates"].as_array().unwrap();
    assert_eq!(candidates.len(), DECISION_CANDIDATES_MAX);
    assert_eq!(candidates[0]["matched_tokens"], 8, "the best match");
    assert_eq!(candidates.iter().filter(|c| c["chosen"] == true).count(), 1);
    // Of the 172 candidates, 44 are left out, among them all 43 that are busier.
    assert!(candidates.iter().all(|c| c["running"] != 1));
}

#[test]
fn feedback_is_noted() {
    let fixture = three(1);
    let mut client = fixture.client();
    let id = route(&fixture, &json!({"model": "m", "token_ids": prompt(8)}));
    let mut tell = |mut feedback: Value| {
        feedback["request_id"] = json!(id);
        let response = client.post("/v1/feedback", &feedback);
        assert_eq!((response.status, response.body.len()), (204, 0));
        let explained = client.get(&format!("/v1/explain/{id}")).json();
        explained["feedback"].clone()
    };
    let first = tell(json!({"cached_tokens": 4, "whatever": 1}));
    assert_eq!(first, json!({"cached_tokens": 4, "finished": false}));
    let second = tell(json!({"finished": true}));
    assert_eq!(second, json!({"cached_tokens": 4, "finished": true}));
    let third = tell(json!({"cached_tokens": 0, "finished": false}));
    assert_eq!(third, json!({"cached_tokens": 0, "finished": true}));
}

#[test]
fn feedback_that_cannot_be_is_refused() {
    let fixture = three(1);
    let mut client = fixture.client();
    let id = route(&fixture, &json!({"model": "m", "token_ids": prompt(8)}));
    let other = format!("{}{}", &id[..20], "ffff");
    for (body, status, field) in [
        (json!({"cached_tokens": 1}), 400, "request_id"),
        (json!({"request_id": 7}), 400, "request_id"),
        (
            json!({"request_id": id, "cached_tokens": -1}),
            400,
            "cached_tokens",
        ),
        (json!({"request_id": id, "finished": 1}), 400, "finished"),
        (json!({"request_id": other}), 404, "request_id"),
        (json!({"request_id": "nobody"}), 404, "request_id"),
    ] {
        let (said, _, named) = client.post("/v1/feedback", &body).refusal();
        assert_eq!((said, named.as_deref()), (status, Some(field)), "{body}");
    }
    for id in [other.as_str(), "x", "a%2Fb"] {
        let (status, code, _) = client.get(&format!("/v1/explain/{id}")).refusal();
        let expected = (404, "request_not_found");
        assert_eq!((status, code.as_str()), expected, "{id}");
    }
}
