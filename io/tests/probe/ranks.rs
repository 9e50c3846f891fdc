//! Where engines say that their ranks publish.
use crate::engine::{HttpEngine, Reply};
use crate::rig::{Rig, until};
use kvroute::fleet::ProbeFailure;
use serde_json::{Value, json};
use std::sync::Arc;

const METRICS: &str = "process_start_time_seconds 5\n";

/// An engine that names these sources, as vLLM 0.31 and later do.
fn engine(sources: &Value) -> HttpEngine {
    let engine = HttpEngine::new();
    engine.set_body("/metrics", METRICS);
    engine.set_body("/kv_event_sources", sources.to_string());
    engine
}

fn source(events: &str, replay: Option<&str>) -> Value {
    json!({
        "enable_kv_cache_events": true, "publisher": "zmq", "endpoint": events,
        "replay_endpoint": replay, "buffer_steps": 10000, "hwm": 100000,
        "max_queue_size": 100000, "topic": "kv@pod@tiny",
    })
}

#[test]
fn a_pod_without_events_gets_what_its_engine_names() {
    let engine = engine(&json!({
        "0": source("tcp://*:7000", Some("tcp://*:7100")),
        "1": source("tcp://[::]:7004", None),
        "2": source("tcp://10.9.9.9:40123", None),
    }));
    let rig = Rig::new();
    rig.add(json!({"pod": "a", "model": "m", "endpoint": engine.endpoint()}));
    let expected = [
        "a#0 tcp://127.0.0.1:7000 tcp://127.0.0.1:7100",
        "a#1 tcp://127.0.0.1:7004 -",
        "a#2 tcp://10.9.9.9:40123 -",
    ];
    until("the named ranks", || rig.workers() == expected);
    let head = engine.first_head();
    assert!(head.starts_with("GET /metrics HTTP/1.1\r\n"), "{head}");
    let host = format!("host: {}\r\n", engine.endpoint());
    assert!(head.to_ascii_lowercase().contains(&host), "{head}");
    assert_eq!(rig.problem("a"), None);
    assert_eq!(rig.failed(), []);

    // Another process has other ports; what stays keeps its worker.
    let first = Arc::clone(&rig.fleet.view().pod("a")[0]);
    let moved = json!({
        "0": source("tcp://*:7000", Some("tcp://*:7100")),
        "1": source("tcp://*:7005", None),
    });
    engine.set_body("/kv_event_sources", moved.to_string());
    engine.set_body("/metrics", "process_start_time_seconds 6\n");
    let expected = [
        "a#0 tcp://127.0.0.1:7000 tcp://127.0.0.1:7100",
        "a#1 tcp://127.0.0.1:7005 -",
    ];
    until("the new ranks", || rig.workers() == expected);
    assert!(Arc::ptr_eq(&first, &rig.fleet.view().pod("a")[0]));
    assert!(
        rig.verified()
            .contains(&"a#0 tcp://127.0.0.1:7000".to_owned())
    );
}

#[test]
fn an_engine_that_does_not_know_the_question_has_the_default_ports() {
    let rig = Rig::new();
    let old = HttpEngine::new();
    old.set_body("/metrics", METRICS);
    rig.add(json!({"pod": "a", "model": "m", "endpoint": old.endpoint()}));
    until("some probes", || old.asked("/metrics") > 30);
    assert_eq!(
        rig.workers(),
        ["a#0 tcp://127.0.0.1:5557 tcp://127.0.0.1:5558"]
    );
    assert_eq!(rig.failed(), [], "it is not at fault");
    let asked = old.asked("/kv_event_sources");
    assert!((1..10).contains(&asked), "now and then: {asked}");
}

#[test]
fn an_engine_without_events_is_named_with_the_reason() {
    let off = json!({"0": {
        "enable_kv_cache_events": false, "publisher": "null", "endpoint": "tcp://*:5557",
        "replay_endpoint": null,
    }});
    let engine = engine(&off);
    let rig = Rig::new();
    rig.add(json!({"pod": "a", "model": "m", "endpoint": engine.endpoint()}));
    until("the reason", || rig.problem("a").is_some());
    let problem = rig.problem("a").unwrap();
    assert!(problem.contains("not enabled"), "{problem}");
    let defaults = ["a#0 tcp://127.0.0.1:5557 tcp://127.0.0.1:5558"];
    assert_eq!(rig.workers(), defaults, "it is kept, and asked again");

    let on = json!({"0": source("tcp://*:7000", None)});
    engine.set_body("/kv_event_sources", on.to_string());
    until("the named rank", || {
        rig.workers() == ["a#0 tcp://127.0.0.1:7000 -"]
    });
    until("no reason any more", || rig.problem("a").is_none());
}

#[test]
fn events_that_are_given_stay_and_a_contradiction_is_named() {
    let engine = engine(&json!({"0": source("tcp://*:7000", Some("tcp://*:7100"))}));
    let rig = Rig::new();
    for (pod, events, replay) in [
        ("same", "tcp://other-name:7000", "tcp://other-name:7100"),
        ("events", "tcp://h:7001", "tcp://h:7100"),
        ("replay", "tcp://g:7000", "tcp://g:7101"),
    ] {
        rig.add(json!({"pod": pod, "model": "m", "endpoint": engine.endpoint(), "events": events, "replay": replay}));
    }
    rig.add(json!({"pod": "ranks", "model": "m", "endpoint": engine.endpoint(), "events": "tcp://i:7000", "ranks": 2}));
    let before = rig.workers();
    for (pod, parts) in [
        ("events", ["tcp://127.0.0.1:7000", "tcp://h:7001"]),
        ("replay", ["tcp://127.0.0.1:7100", "tcp://g:7101"]),
        ("ranks", ["tcp://127.0.0.1:7000", "rank 1"]),
    ] {
        until("the contradiction", || rig.problem(pod).is_some());
        let problem = rig.problem(pod).unwrap();
        for part in parts {
            assert!(problem.contains(part), "{pod}: {problem}");
        }
    }
    until("some probes", || engine.asked("/kv_event_sources") > 8);
    assert_eq!(rig.problem("same"), None);
    assert_eq!(rig.workers(), before);
}

/// Two pods that name one address: the second is refused, and said so.
#[test]
fn ranks_that_are_another_pods_are_not_taken() {
    let engine = engine(&json!({"0": source("tcp://*:7000", None)}));
    let rig = Rig::new();
    rig.add(json!({"pod": "b", "model": "m", "events": "tcp://127.0.0.1:7000"}));
    rig.add(json!({"pod": "a", "model": "m", "endpoint": engine.endpoint()}));
    until("the reason", || rig.problem("a").is_some());
    let problem = rig.problem("a").unwrap();
    assert!(problem.contains("b#0"), "{problem}");
    assert_eq!(rig.failed(), [ProbeFailure::Ranks]);
    assert_eq!(
        rig.workers(),
        [
            "a#0 tcp://127.0.0.1:5557 tcp://127.0.0.1:5558",
            "b#0 tcp://127.0.0.1:7000 -"
        ]
    );
}

#[test]
fn garbage_changes_nothing() {
    let engine = engine(&json!({"0": source("tcp://*:7000", None)}));
    let rig = Rig::new();
    rig.add(json!({"pod": "a", "model": "m", "endpoint": engine.endpoint()}));
    let named = ["a#0 tcp://127.0.0.1:7000 -"];
    until("the named rank", || rig.workers() == named);
    for garbage in ["", "[]", "{\"0\":{\"endpoint\":7}}", "<html>"] {
        let before = rig.failures(ProbeFailure::Content);
        engine.set_body("/kv_event_sources", garbage);
        until("the failure", || {
            rig.failures(ProbeFailure::Content) > before
        });
    }
    engine.set("/kv_event_sources", Reply::Status(500));
    until("the failure", || rig.failures(ProbeFailure::Status) > 0);
    assert_eq!(rig.workers(), named);
}
