//! What was predicted against what was delivered: counted, judged, and what follows.
use crate::client::Client;
use crate::fixture::{Blocks, Fixture, events_of, prompt};
use kvroute::address::Address;
use kvroute::config::Config;
use kvroute::fake::{FakeEngine, Options};
use kvroute::node::Node;
use kvroute::status::{Dropped, Trust};
use rmpv::Value as Packed;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// A pod that holds ten blocks of four tokens, and may reuse all of them for a prompt of 41 tokens.
fn one() -> Fixture {
    let fixture = Fixture::new();
    fixture.add(json!({"pod": "a", "model": "m", "events": events_of("a"), "endpoint": "h:1"}));
    fixture.store("a#0", &Blocks::of(&prompt(40)));
    fixture.status("a#0").set_block_size(4);
    fixture
}

pub(crate) fn asked() -> Value {
    json!({"model": "m", "token_ids": prompt(41)})
}

fn route(client: &mut Client, asked: &Value) -> (String, u64) {
    let answer = client.post("/v1/route", asked).json();
    let id = answer["request_id"].as_str().unwrap().to_owned();
    (id, answer["matched_tokens"].as_u64().unwrap())
}

fn tell(client: &mut Client, id: &str, cached_tokens: u64) {
    let feedback = json!({"request_id": id, "cached_tokens": cached_tokens});
    assert_eq!(client.post("/v1/feedback", &feedback).status, 204);
}

/// Routes the prompt and says what was reused.
fn serve(client: &mut Client, cached_tokens: u64) {
    let (id, _) = route(client, &asked());
    tell(client, &id, cached_tokens);
}

pub(crate) fn metrics(client: &mut Client) -> String {
    String::from_utf8(client.get("/metrics").body).unwrap()
}

/// The value of a series.
pub(crate) fn series(text: &str, name: &str) -> Option<f64> {
    let mut lines = text.lines();
    let found = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    found.map(|value| value.parse().unwrap())
}

fn uses(client: &mut Client) -> [u64; 6] {
    let text = metrics(client);
    [
        "compared",
        "unpredicted",
        "late",
        "duplicate",
        "trial",
        "unknown",
    ]
    .map(|of| {
        let name = format!("kvroute_feedback_total{{use=\"{of}\"}}");
        series(&text, &name).unwrap() as u64
    })
}

#[test]
fn predicted_and_delivered_tokens_are_counted() {
    let fixture = one();
    let mut client = fixture.client();
    for cached_tokens in [40, 28, 48] {
        serve(&mut client, cached_tokens);
    }
    let text = metrics(&mut client);
    for (of, expected) in [
        ("predicted", 120),
        // An engine reuses no more than there is: 41 of the last.
        ("delivered", 109),
        ("over", 12),
        ("under", 1),
    ] {
        let name =
            format!("kvroute_feedback_{of}_tokens_total{{pod=\"a\",rank=\"0\",model=\"m\"}}");
        assert_eq!(series(&text, &name), Some(f64::from(expected)), "{text}");
    }
    // Of both: 40, 28 and 40.
    let precision = series(&text, "kvroute_feedback_precision{model=\"m\"}").unwrap();
    let recall = series(&text, "kvroute_feedback_recall{model=\"m\"}").unwrap();
    assert!((precision - 108.0 / 120.0).abs() < 1e-9, "{precision}");
    assert!((recall - 108.0 / 109.0).abs() < 1e-9, "{recall}");
}

#[test]
fn a_worker_that_is_wrong_again_and_again_is_distrusted() {
    let fixture = one();
    let mut client = fixture.client();
    for _ in 0..7 {
        serve(&mut client, 20);
    }
    assert_eq!(fixture.status("a#0").trust(), Trust::Exact);
    serve(&mut client, 20);
    assert_eq!(client.get("/v1/workers").json()[0]["state"], "distrusted");
    let (id, matched) = route(&mut client, &asked());
    assert_eq!(matched, 0, "nothing is credited");
    tell(&mut client, &id, 40);
    let text = metrics(&mut client);
    let name = "kvroute_distrusts_total{pod=\"a\",rank=\"0\"}";
    assert_eq!(series(&text, name), Some(1.0));
}

#[test]
fn what_is_legitimate_distrusts_nobody() {
    let fixture = one();
    let status = fixture.status("a#0");
    let mut client = fixture.client();
    // One block less; every other time nothing, as for requests that want the probabilities of their prompt; all of it.
    for cached_tokens in [36, 0, 40].into_iter().cycle().take(90) {
        serve(&mut client, cached_tokens);
    }
    // Evicted between choice and prefill, and told of.
    for turn in 0..60 {
        let (id, _) = route(&mut client, &asked());
        status.add_removals(5);
        tell(&mut client, &id, if turn % 2 == 0 { 20 } else { 40 });
    }
    assert_eq!(status.trust(), Trust::Exact);
    assert_eq!((status.distrusts(), uses(&mut client)[0]), (0, 150));
}

#[test]
fn what_is_known_to_be_uncertain_is_not_held_against_a_worker() {
    let fixture = one();
    let status = fixture.status("a#0");
    let mut client = fixture.client();
    for trust in [Trust::Stale, Trust::Replaying, Trust::Approximate] {
        status.set_trust(trust);
        for _ in 0..40 {
            serve(&mut client, 20);
        }
        assert_eq!(status.trust(), trust);
    }
}

#[test]
fn late_doubled_and_meaningless_feedback_is_not_compared() {
    let fixture = one();
    let status = fixture.status("a#0");
    let mut client = fixture.client();
    let ids: Vec<_> = (0..10).map(|_| route(&mut client, &asked()).0).collect();
    // What it held then is gone, for whatever reason.
    status.dropped(Dropped::Gap);
    ids.iter().for_each(|id| tell(&mut client, id, 20));
    assert_eq!(uses(&mut client), [0, 0, 10, 0, 0, 0]);
    ids.iter().for_each(|id| tell(&mut client, id, 20));
    assert_eq!(uses(&mut client), [0, 0, 10, 10, 0, 0]);
    let mut trial = asked();
    trial["dry_run"] = json!(true);
    let (id, _) = route(&mut client, &trial);
    tell(&mut client, &id, 0);
    let by_load = json!({"model": "m", "policy": "least-request", "messages": []});
    let answer = client.post("/v1/route", &by_load);
    if answer.status == 200 {
        let id = answer.json()["request_id"].as_str().unwrap().to_owned();
        tell(&mut client, &id, 0);
    }
    let elsewhere = json!({"request_id": ids[0], "cached_tokens": 1, "target": "somebody"});
    assert_eq!(client.post("/v1/feedback", &elsewhere).status, 204);
    let unknown = json!({"request_id": "0".repeat(24), "cached_tokens": 1});
    assert_eq!(client.post("/v1/feedback", &unknown).status, 404);
    let [compared, unpredicted, late, duplicate, trial, unknown] = uses(&mut client);
    assert_eq!(
        (compared, late, duplicate, trial, unknown),
        (0, 10, 11, 1, 1)
    );
    assert!(unpredicted <= 1);
    assert_eq!(status.trust(), Trust::Exact);
}

#[test]
fn feedback_may_name_another_target_than_the_one_chosen() {
    let fixture = one();
    fixture.add(json!({"pod": "b", "model": "m", "events": events_of("b"), "endpoint": "h:2"}));
    fixture.status("b#0").set_block_size(4);
    let mut client = fixture.client();
    for name in ["b", "b#0", "h:2"] {
        let (id, matched) = route(&mut client, &asked());
        assert_eq!(matched, 40, "the target is a");
        let feedback = json!({"request_id": id, "cached_tokens": 8, "target": name});
        assert_eq!(client.post("/v1/feedback", &feedback).status, 204);
    }
    let text = metrics(&mut client);
    let of = |pod: &str, side: &str| {
        let labels = format!("pod=\"{pod}\",rank=\"0\",model=\"m\"");
        series(
            &text,
            &format!("kvroute_feedback_{side}_tokens_total{{{labels}}}"),
        )
    };
    assert_eq!(
        (of("b", "predicted"), of("b", "under")),
        (Some(0.0), Some(24.0))
    );
    assert_eq!(of("a", "predicted"), None);
}

/// A batch that stores ten blocks of four tokens.
pub(crate) fn ten_blocks() -> Vec<u8> {
    let list =
        |numbers: std::ops::RangeInclusive<u64>| Packed::Array(numbers.map(Packed::from).collect());
    let event = Packed::Map(vec![
        ("type".into(), "BlockStored".into()),
        ("block_hashes".into(), list(101..=110)),
        ("parent_block_hash".into(), Packed::Nil),
        ("token_ids".into(), list(1..=40)),
        ("block_size".into(), 4.into()),
    ]);
    let batch = Packed::Array(vec![Packed::F64(1.0), Packed::Array(vec![event]), 0.into()]);
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, &batch).unwrap();
    bytes
}

pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let give_up = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < give_up, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A whole node and an engine that publishes one thing and reuses another.
#[test]
fn an_engine_that_does_not_deliver_is_had_anew_and_recovers() {
    let node = Node::start(&Config {
        listen: vec![Address::parse("127.0.0.1:0").unwrap()],
        probe_interval: None,
        ..Config::default()
    })
    .unwrap();
    let engine = FakeEngine::bind(Options::default()).unwrap();
    engine.publish(0, &ten_blocks()).unwrap();
    let mut client = Client::new(node.http_addr());
    let pod = json!({
        "pod": "a", "model": "m", "endpoint": "127.0.0.1:9", "events": engine.events_endpoint(),
        "replay": engine.replay_endpoint(),
    });
    assert_eq!(client.post("/v1/workers", &pod).status, 201);
    let worker = |client: &mut Client| client.get("/v1/workers").json()[0].clone();
    until("all is held", || {
        let worker = worker(&mut client);
        worker["state"] == "exact" && worker["blocks"] == 10
    });
    for _ in 0..8 {
        let (id, matched) = route(&mut client, &asked());
        assert_eq!(matched, 40);
        tell(&mut client, &id, 20);
    }
    until("it is had anew", || {
        let worker = worker(&mut client);
        worker["state"] == "exact" && worker["replays"] == 2 && worker["blocks"] == 10
    });
    let name = "kvroute_distrusts_total{pod=\"a\",rank=\"0\"}";
    assert_eq!(series(&metrics(&mut client), name), Some(1.0));
    // What came before that is nobody's fault any more; from now on it delivers.
    for _ in 0..40 {
        serve(&mut client, 40);
    }
    assert_eq!(worker(&mut client)["state"], "exact");
    let text = metrics(&mut client);
    assert_eq!(series(&text, name), Some(1.0));
    assert_eq!(
        series(&text, "kvroute_feedback_precision{model=\"m\"}"),
        Some(1.0)
    );
}
