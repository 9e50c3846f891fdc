//! A whole node that finds an engine's ranks by asking, and then follows them.
use crate::engine::HttpEngine;
use crate::rig::{PATIENCE, until};
use kvroute::config::{Config, RoutingConfig};
use kvroute::fake::{FakeEngine, Options};
use kvroute::node::Node;
use rmpv::Value;
use serde_json::json;
use std::time::Duration;

/// A batch that stores one block of four tokens.
fn batch() -> Vec<u8> {
    let text = |text: &str| Value::from(text);
    let event = Value::Map(vec![
        (text("type"), text("BlockStored")),
        (text("block_hashes"), Value::Array(vec![Value::from(7)])),
        (text("parent_block_hash"), Value::Nil),
        (
            text("token_ids"),
            Value::Array((1..=4).map(Value::from).collect()),
        ),
        (text("block_size"), Value::from(4)),
        (text("lora_id"), Value::Nil),
        (text("medium"), text("GPU")),
        (text("lora_name"), Value::Nil),
    ]);
    let batch = Value::Array(vec![
        Value::F64(1.0),
        Value::Array(vec![event]),
        Value::from(0),
    ]);
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, &batch).unwrap();
    bytes
}

#[test]
fn an_engine_is_found_by_its_endpoint_and_followed() {
    let ranks = [(); 2].map(|()| FakeEngine::bind(Options::default()).unwrap());
    let source = |engine: &FakeEngine| {
        // The engine says what it was told to bind to.
        let port = |endpoint: &str| endpoint.rsplit_once(':').unwrap().1.to_owned();
        let bound = |endpoint: &str| format!("tcp://*:{}", port(endpoint));
        json!({
            "enable_kv_cache_events": true, "publisher": "zmq",
            "endpoint": bound(engine.events_endpoint()),
            "replay_endpoint": engine.replay_endpoint().map(bound),
        })
    };
    let http = HttpEngine::new();
    http.set_body("/metrics", "process_start_time_seconds 5\n");
    let sources = json!({"0": source(&ranks[0]), "1": source(&ranks[1])});
    http.set_body("/kv_event_sources", sources.to_string());
    let config = Config {
        probe_interval: Some(Duration::from_millis(100)),
        ..Config::default()
    };
    let node = Node::start(&config).unwrap();
    let pod = json!({"pod": "a", "model": "m", "endpoint": http.endpoint()});
    node.fleet()
        .add(serde_json::from_value(pod).unwrap())
        .unwrap();
    for engine in &ranks {
        engine.wait_for_subscriber(PATIENCE).unwrap();
    }
    ranks[1].publish(0, &batch()).unwrap();
    until("the block of rank 1", || {
        let view = node.fleet().view();
        let blocks: Vec<_> = view
            .pod("a")
            .iter()
            .map(|info| info.status().blocks())
            .collect();
        blocks == [0, 1]
    });
    node.stop();
}

#[test]
fn a_node_without_probes_asks_nobody() {
    let http = HttpEngine::new();
    let config = Config {
        probe_interval: None,
        routing: RoutingConfig {
            load_interval: None,
            ..RoutingConfig::default()
        },
        ..Config::default()
    };
    let node = Node::start(&config).unwrap();
    let pod = json!({"pod": "a", "model": "m", "endpoint": http.endpoint()});
    node.fleet()
        .add(serde_json::from_value(pod).unwrap())
        .unwrap();
    node.stop();
    assert_eq!(http.asked("/metrics"), 0);
}
