//! What is learnt from decisions: pods without events, and requests whose events are not there yet.
use crate::client::Client;
use crate::fixture::{Blocks, Fixture, events_of, prompt};
use kvroute::config::{Config, RoutingConfig};
use kvroute::fake::{FakeEngine, Options};
use kvroute::fleet::Fleet;
use kvroute::node::Node;
use kvroute::predict::{LearnConfig, LearnStatus, Record, Unlearnt};
use kvroute::status::Trust;
use kvroute_engine::hash::{ExtraDigest, SEED_DEFAULT, block_key};
use kvroute_engine::types::BlockKey;
use rmpv::Value as Packed;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A test that waits longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Nothing ends by itself in a test.
pub(crate) const LONG: Duration = Duration::from_hours(1);

/// Ends by itself in a test that waits for it.
const SHORT: Duration = Duration::from_millis(20);

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < give_up, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub(crate) const fn times(speculative: Duration, approximate: Duration) -> LearnConfig {
    LearnConfig {
        speculative: Some(speculative),
        approximate,
        max_blocks: 1_000,
        shadow: false,
    }
}

/// A whole node with real engines.
fn node(learn: LearnConfig, event_sync: bool) -> Node {
    let config = Config {
        probe_interval: None,
        routing: RoutingConfig {
            event_sync,
            speculative_time: learn.speculative,
            approximate_time: learn.approximate,
            approximate_blocks: learn.max_blocks,
            ..RoutingConfig::default()
        },
        ..Config::default()
    };
    let node = Node::start(&config).unwrap();
    assert!(node.wait_entered(PATIENCE));
    node
}

fn add(client: &mut Client, pod: &Value) {
    let response = client.post("/v1/workers", pod);
    assert_eq!(response.status, 201, "{response:?}");
}

/// A pod without events, at a port of its own.
fn add_silent(client: &mut Client, pod: &str, port: u16) {
    let endpoint = format!("10.0.0.7:{port}");
    let silent = json!({"pod": pod, "model": "m", "endpoint": endpoint, "kv_events": false, "block_size": 4});
    add(client, &silent);
}

/// A pod with events that has told of nothing yet, and its engine.
fn add_engine(node: &Node, client: &mut Client, pod: &str, port: u16) -> FakeEngine {
    let engine = FakeEngine::bind(Options::default()).unwrap();
    let endpoint = format!("10.0.0.7:{port}");
    add(
        client,
        &json!({"pod": pod, "model": "m", "endpoint": endpoint, "events": engine.events_endpoint(),
            "replay": engine.replay_endpoint(), "block_size": 4}),
    );
    engine.wait_for_subscriber(PATIENCE).unwrap();
    let status = Arc::clone(node.fleet().view().pod(pod)[0].status());
    until("the engine is followed", || status.trust() == Trust::Exact);
    engine
}

/// The batch that stores all whole blocks of a prompt, of four tokens each.
fn stored(tokens: &[u32]) -> Vec<u8> {
    let blocks = tokens.len() / 4;
    let numbers =
        |numbers: Vec<u32>| Packed::Array(numbers.into_iter().map(Packed::from).collect());
    let fields = [
        ("type", Packed::from("BlockStored")),
        ("block_hashes", numbers((1..=blocks as u32).collect())),
        ("parent_block_hash", Packed::Nil),
        ("token_ids", numbers(tokens[..blocks * 4].to_vec())),
        ("block_size", Packed::from(4)),
    ];
    let event = fields.map(|(name, value)| (Packed::from(name), value));
    let events = Packed::Array(vec![Packed::Map(event.into())]);
    let batch = Packed::Array(vec![Packed::F64(1.0), events, Packed::from(0)]);
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, &batch).unwrap();
    bytes
}

fn route(client: &mut Client, asked: &Value) -> Value {
    let response = client.post("/v1/route", asked);
    assert_eq!(response.status, 200, "{response:?}");
    response.json()
}

/// Only asks, with nothing to do for anybody.
fn trial(client: &mut Client, tokens: &[u32]) -> Value {
    let asked = json!({"model": "m", "token_ids": tokens, "loads": {}, "dry_run": true});
    route(client, &asked)
}

/// Routes a prompt, with nothing to do for anybody; where to.
pub(crate) fn send(client: &mut Client, tokens: &[u32]) -> String {
    let answer = route(
        client,
        &json!({"model": "m", "token_ids": tokens, "loads": {}}),
    );
    answer["target"]["pod"].as_str().unwrap().to_owned()
}

/// (pod, tokens, state) of all that match.
pub(crate) fn matches(client: &mut Client, tokens: &[u32]) -> Vec<(String, u64, String)> {
    let response = client.post("/v1/match", &json!({"model": "m", "token_ids": tokens}));
    assert_eq!(response.status, 200, "{response:?}");
    let answer = response.json();
    let candidates = answer["candidates"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let each = |c: &Value| {
        (
            text(&c["pod"]),
            c["matched_tokens"].as_u64().unwrap(),
            text(&c["state"]),
        )
    };
    candidates.map(each).collect()
}

pub(crate) fn learnt(fleet: &Fleet) -> &LearnStatus {
    fleet.learner().unwrap().status()
}

fn wait_learnt(fleet: &Fleet, decisions: u64) {
    until("it is learnt", || learnt(fleet).learnt() == decisions);
}

fn unlearnt(fleet: &Fleet, why: Unlearnt) -> u64 {
    learnt(fleet).unlearnt().find(|of| of.0 == why).unwrap().1
}

#[test]
fn a_pod_without_events_is_known_by_what_was_sent_to_it() {
    let node = node(times(LONG, LONG), true);
    let mut client = Client::new(node.http_addr());
    for (pod, port) in [("a", 1), ("b", 2), ("c", 3)] {
        add_silent(&mut client, pod, port);
    }
    assert_eq!(client.get("/readyz").status, 200);
    let asked = json!({"model": "m", "token_ids": prompt(14), "loads": {}});
    let first = route(&mut client, &asked);
    assert_eq!(first["reason"], "least_request_fallback");
    assert_eq!(
        (&first["matched_tokens"], &first["speculative_tokens"]),
        (&json!(0), &json!(0))
    );
    let pod = first["target"]["pod"].as_str().unwrap();
    wait_learnt(node.fleet(), 1);
    let second = trial(&mut client, &prompt(18));
    assert_eq!(second["reason"], "prefix_match");
    assert_eq!(second["target"], first["target"]);
    assert_eq!(
        (&second["matched_tokens"], &second["speculative_tokens"]),
        (&json!(12), &json!(0))
    );
    assert_eq!(second["candidates"][0]["state"], "approximate");
    assert!(second["candidates"][0]["age_ms"].is_u64());
    assert_eq!(
        matches(&mut client, &prompt(8)),
        [(pod.to_owned(), 8, "approximate".to_owned())]
    );
    let workers = client.get("/v1/workers").json();
    for worker in workers.as_array().unwrap() {
        let blocks = if worker["pod"] == *pod { 3 } else { 0 };
        assert_eq!(
            (&worker["blocks"], &worker["state"]),
            (&json!(blocks), &json!("approximate"))
        );
        assert_eq!(worker["events"], Value::Null);
    }
    let metrics = String::from_utf8(client.get("/metrics").body).unwrap();
    let blocks = "kvroute_predicted_blocks{kind=\"approximate\"} 3\n";
    assert!(metrics.contains(blocks), "{metrics}");
}

#[test]
fn what_was_learnt_of_a_pod_without_events_passes() {
    let node = node(times(LONG, SHORT), true);
    let mut client = Client::new(node.http_addr());
    add_silent(&mut client, "a", 1);
    send(&mut client, &prompt(12));
    wait_learnt(node.fleet(), 1);
    until("it passes", || matches(&mut client, &prompt(12)).is_empty());
    until("it is taken out", || {
        learnt(node.fleet()).approximate_blocks() == 0
    });
    assert_eq!(trial(&mut client, &prompt(12))["matched_tokens"], 0);
}

#[test]
fn a_request_is_expected_where_it_went_until_its_events_come() {
    let node = node(times(LONG, LONG), true);
    let mut client = Client::new(node.http_addr());
    let pods = ["a", "b", "c"];
    let engines: Vec<_> = (1..)
        .zip(pods)
        .map(|(port, pod)| add_engine(&node, &mut client, pod, port))
        .collect();
    let pod = send(&mut client, &prompt(14));
    wait_learnt(node.fleet(), 1);
    let second = trial(&mut client, &prompt(18));
    assert_eq!(
        (&second["reason"], &second["target"]["pod"]),
        (&json!("prefix_match"), &json!(pod))
    );
    assert_eq!(
        (&second["matched_tokens"], &second["speculative_tokens"]),
        (&json!(0), &json!(12))
    );
    assert_eq!(second["candidates"], json!([]), "nobody holds anything");
    assert!(matches(&mut client, &prompt(14)).is_empty());
    let asked = json!({"model_name": "m", "token_ids": prompt(14)});
    assert_eq!(client.post("/query", &asked).json()["scores"], json!({}));
    let id = second["request_id"].as_str().unwrap();
    let explained = client.get(&format!("/v1/explain/{id}")).json();
    let best = &explained["candidates"][0];
    assert_eq!(
        (&best["matched_tokens"], &best["speculative_tokens"]),
        (&json!(0), &json!(12))
    );
    assert_eq!(
        (&best["pod"], &best["score"], &best["state"]),
        (&json!(pod), &json!(12), &json!("exact"))
    );
    assert_eq!(explained["speculative_tokens"], 12);

    // The engine has computed the first chunk, then all of it.
    let engine = &engines[pods.iter().position(|name| *name == pod).unwrap()];
    for (number, tokens) in [(0, 8), (1, 12)] {
        engine.publish(number, &stored(&prompt(tokens))).unwrap();
        let held = (pod.clone(), u64::from(tokens), "exact".to_owned());
        until("the events come", || {
            matches(&mut client, &prompt(14)) == [held.clone()]
        });
        let answer = trial(&mut client, &prompt(18));
        assert_eq!(answer["target"]["pod"], pod);
        assert_eq!(answer["matched_tokens"], tokens);
        assert_eq!(answer["speculative_tokens"], 12 - tokens);
    }
    // What is held already is nothing to be learnt.
    assert_eq!(send(&mut client, &prompt(12)), pod);
    send(&mut client, &prompt(16));
    wait_learnt(node.fleet(), 2);
}

#[test]
fn what_was_expected_passes_without_its_events() {
    let node = node(times(SHORT, LONG), true);
    let mut client = Client::new(node.http_addr());
    let _engine = add_engine(&node, &mut client, "a", 1);
    send(&mut client, &prompt(12));
    wait_learnt(node.fleet(), 1);
    until("it passes", || {
        trial(&mut client, &prompt(12))["speculative_tokens"] == 0
    });
    until("it is taken out", || {
        learnt(node.fleet()).speculative_blocks() == 0
    });
}

#[test]
fn pods_with_and_without_events_stand_side_by_side() {
    let node = node(times(LONG, LONG), true);
    let mut client = Client::new(node.http_addr());
    let engine = add_engine(&node, &mut client, "with", 1);
    add_silent(&mut client, "without", 2);
    engine.publish(0, &stored(&prompt(8))).unwrap();
    let exact = ("with".to_owned(), 8, "exact".to_owned());
    until("the events come", || {
        matches(&mut client, &prompt(12)) == [exact.clone()]
    });
    let to = |pod: &str| json!({"model": "m", "token_ids": prompt(13), "candidates": [pod]});
    route(&mut client, &to("with"));
    route(&mut client, &to("without"));
    wait_learnt(node.fleet(), 2);
    let approximate = ("without".to_owned(), 12, "approximate".to_owned());
    assert_eq!(matches(&mut client, &prompt(12)), [approximate, exact]);
    let answer = route(&mut client, &to("with"));
    assert_eq!(
        (&answer["matched_tokens"], &answer["speculative_tokens"]),
        (&json!(8), &json!(4))
    );
    let ready = client.get("/readyz").json();
    assert_eq!(
        (&ready["states"]["exact"], &ready["states"]["approximate"]),
        (&json!(1), &json!(1))
    );
}

#[test]
fn a_restarted_engine_is_expected_to_hold_nothing() {
    let node = node(times(LONG, LONG), true);
    let mut client = Client::new(node.http_addr());
    let engine = add_engine(&node, &mut client, "a", 1);
    add_silent(&mut client, "b", 2);
    engine.publish(0, &stored(&[90, 91, 92, 93])).unwrap();
    engine.publish(1, &stored(&[90, 91, 92, 93])).unwrap();
    let infos = ["a", "b"].map(|pod| Arc::clone(&node.fleet().view().pod(pod)[0]));
    until("the events come", || {
        infos[0].status().last_sequence() == Some(1)
    });
    for pod in ["a", "b"] {
        route(
            &mut client,
            &json!({"model": "m", "token_ids": prompt(12), "candidates": [pod]}),
        );
    }
    wait_learnt(node.fleet(), 2);
    let expected = |client: &mut Client| {
        let asked =
            json!({"model": "m", "token_ids": prompt(13), "candidates": ["a"], "dry_run": true});
        route(client, &asked)["speculative_tokens"]
            .as_u64()
            .unwrap()
    };
    assert_eq!(expected(&mut client), 12);
    engine.restart();
    engine.publish(0, &stored(&[80, 81, 82, 83])).unwrap();
    until("the restart is noticed", || {
        infos[0].status().restarts() > 0
    });
    assert_eq!(expected(&mut client), 0);

    assert_eq!(matches(&mut client, &prompt(12)).len(), 1);
    node.fleet().verify(infos[1].id());
    until("all of it is forgotten", || {
        matches(&mut client, &prompt(12)).is_empty()
    });
    assert_eq!(infos[1].status().restarts(), 1);
}

#[test]
fn of_a_pod_that_was_removed_nothing_is_left() {
    let node = node(times(LONG, LONG), true);
    let (index, at) = (node.fleet().index(), node.fleet().index().participant());
    let mut client = Client::new(node.http_addr());
    let mut left = Vec::new();
    for round in 1..=3 {
        let _engine = add_engine(&node, &mut client, "a", 1);
        add_silent(&mut client, "b", 2);
        for pod in ["a", "b"] {
            route(
                &mut client,
                &json!({"model": "m", "token_ids": prompt(400), "candidates": [pod]}),
            );
        }
        wait_learnt(node.fleet(), 2 * round);
        assert_eq!(learnt(node.fleet()).speculative_blocks(), 100);
        for pod in ["a", "b"] {
            assert_eq!(client.delete(&format!("/v1/workers/{pod}")).status, 204);
        }
        until("all of it is freed", || {
            at.collect();
            index.workers() == 0
        });
        left.push(index.bytes());
        assert_eq!(learnt(node.fleet()).approximate_blocks(), 0);
        assert_eq!(learnt(node.fleet()).speculative_blocks(), 0);
    }
    assert_eq!(left, [0, 0, 0]);
}

/// Where a request went then is not known.
#[test]
fn what_is_only_compared_is_not_learnt_from() {
    let shadow = LearnConfig {
        shadow: true,
        ..times(LONG, LONG)
    };
    let fixture = Fixture::learning(shadow, true);
    let mut client = fixture.client();
    let silent = json!({"pod": "b", "model": "m", "endpoint": "h:2", "kv_events": false});
    add(&mut client, &silent);
    send(&mut client, &prompt(32));
    // Whatever was sent to the thread came before this, and the pod is there once it has come.
    let info = Arc::clone(&fixture.fleet.view().pod("b")[0]);
    let learner = fixture.fleet.learner().unwrap();
    let keys = [7, 8, 9].map(BlockKey::new);
    let (record, _) = Record::new(
        info.subject(),
        None,
        16,
        kvroute_engine::Blocks::Keys(&keys),
    );
    learner.record(record);
    wait_learnt(&fixture.fleet, 1);
    assert_eq!(info.status().blocks(), 3, "and not those of the decision");
}

/// A fixture with two pods, `a` with events and `b` without.
fn mixed() -> Fixture {
    let fixture = Fixture::learning(times(LONG, LONG), true);
    fixture.add(json!({"pod": "a", "model": "m", "events": events_of("a"), "endpoint": "h:1"}));
    let mut client = fixture.client();
    add(
        &mut client,
        &json!({"pod": "b", "model": "m", "endpoint": "h:2", "kv_events": false, "lora": ["l"]}),
    );
    fixture
}

#[test]
fn what_is_learnt_is_what_the_engine_would_cache() {
    let fixture = mixed();
    let (fleet, mut client) = (&fixture.fleet, fixture.client());
    // Blocks are as long as those of the other pod of the model.
    fixture.store("a#0", &Blocks::of(&prompt(4)));
    fixture.status("a#0").set_block_size(4);
    let to_b = |more: Value| {
        let mut asked = json!({"model": "m", "candidates": ["b"]});
        let fields = more.as_object().unwrap().clone();
        asked.as_object_mut().unwrap().extend(fields);
        asked
    };
    let matched = |client: &mut Client, more: Value| {
        let mut asked = to_b(more);
        asked["dry_run"] = json!(true);
        // Of the last token's block nothing is reused.
        asked["token_ids"].as_array_mut().unwrap().push(json!(0));
        route(client, &asked)["matched_tokens"].as_u64().unwrap()
    };
    let tokens = |from: u32| (from..from + 12).collect::<Vec<_>>();
    let salted = |from: u32, salt: &str| json!({"token_ids": tokens(from), "cache_salt": salt});
    let adapted = |from: u32, lora: &str| json!({"token_ids": tokens(from), "lora": lora});
    let keys: Vec<_> = tokens(300)
        .chunks(4)
        .map(|block| block_key(SEED_DEFAULT, block, ExtraDigest::NONE).get())
        .collect();
    let hashes = |size: u32| json!({"block_hashes": keys, "block_size": size});
    for asked in [salted(100, "s"), adapted(200, "l"), hashes(4)] {
        route(&mut client, &to_b(asked));
    }
    wait_learnt(fleet, 3);
    for (asked, expected) in [
        (salted(100, "s"), 12),
        (salted(100, "t"), 0),
        (json!({"token_ids": tokens(100)}), 0),
        (adapted(200, "l"), 12),
        (json!({"token_ids": tokens(200)}), 0),
        (json!({"token_ids": tokens(300)}), 12),
    ] {
        assert_eq!(matched(&mut client, asked.clone()), expected, "{asked}");
    }

    // None of these is learnt from.
    let mut dry = to_b(json!({"token_ids": tokens(400)}));
    dry["dry_run"] = json!(true);
    for asked in [
        dry,
        to_b(adapted(400, "nobody named it")),
        to_b(hashes(8)),
        to_b(json!({"prompt": "text"})),
        to_b(json!({"token_ids": [1, 2, 3]})),
    ] {
        route(&mut client, &asked);
    }
    let last = to_b(json!({"token_ids": tokens(500)}));
    route(&mut client, &last);
    wait_learnt(fleet, 4);
    assert_eq!(unlearnt(fleet, Unlearnt::UnknownAdapter), 1);
    assert_eq!(unlearnt(fleet, Unlearnt::BlockSize), 1);
    assert_eq!(matched(&mut client, json!({"token_ids": tokens(400)})), 0);
}

#[test]
fn a_distrusted_worker_is_credited_with_no_expectation() {
    let fixture = mixed();
    let mut client = fixture.client();
    let asked = json!({"model": "m", "token_ids": prompt(33), "candidates": ["a"]});
    route(&mut client, &asked);
    wait_learnt(&fixture.fleet, 1);
    assert_eq!(route(&mut client, &asked)["speculative_tokens"], 32);
    wait_learnt(&fixture.fleet, 2);
    fixture.status("a#0").set_trust(Trust::Distrusted);
    assert_eq!(route(&mut client, &asked)["speculative_tokens"], 0);
    fixture.status("a#0").set_trust(Trust::Exact);
    assert_eq!(route(&mut client, &asked)["speculative_tokens"], 32);
    wait_learnt(&fixture.fleet, 3);
}

#[test]
fn without_event_sync_nobody_is_subscribed_to() {
    let fixture = Fixture::learning(times(LONG, LONG), false);
    let mut client = fixture.client();
    for (pod, port) in [("a", 1), ("b", 2)] {
        let endpoint = format!("h:{port}");
        add(
            &mut client,
            &json!({"pod": pod, "model": "m", "events": events_of(pod), "endpoint": endpoint}),
        );
    }
    assert!(fixture.followed().is_empty());
    assert_eq!(client.get("/readyz").status, 200);
    let pod = send(&mut client, &prompt(32));
    wait_learnt(&fixture.fleet, 1);
    assert_eq!(
        matches(&mut client, &prompt(32)),
        [(pod.clone(), 32, "approximate".to_owned())]
    );
    assert_eq!(trial(&mut client, &prompt(32))["target"]["pod"], pod);
}

#[test]
fn a_pod_without_events_needs_a_node_that_learns() {
    let fixture = Fixture::new();
    let silent = json!({"pod": "a", "model": "m", "endpoint": "h:1", "kv_events": false});
    let refused = fixture.client().post("/v1/workers", &silent).refusal();
    assert_eq!(
        refused,
        (
            400,
            "invalid_request".to_owned(),
            Some("kv_events".to_owned())
        )
    );
    let both = json!({"pod": "a", "model": "m", "events": events_of("a"), "kv_events": false});
    let learning = Fixture::learning(times(LONG, LONG), true);
    let refused = learning.client().post("/v1/workers", &both).refusal();
    assert_eq!(
        refused,
        (
            400,
            "invalid_request".to_owned(),
            Some("kv_events".to_owned())
        )
    );
}
