//! What is counted of an engine's events and of requests: known batches over a real socket, known requests over real
//! HTTP, and each number worked out by hand.
use crate::client::Client;
use crate::exposition::{Exposition, Read, scrape};
use crate::fixture::prompt;
use kvroute::fake::{FakeEngine, Options};
use kvroute::fleet::{Fleet, PodSpec};
use kvroute::http::{Server, ServerConfig};
use kvroute::status::Trust;
use kvroute::stream::{Streams, StreamsConfig};
use kvroute_engine::hash::{ExtraDigest, SEED_DEFAULT, block_key};
use kvroute_engine::{Index, IndexConfig};
use rmpv::Value;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const POD: &str = "ns/p";
const PATIENCE: Duration = Duration::from_secs(60);

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < give_up, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A node that follows one engine.
struct Site {
    engine: FakeEngine,
    fleet: Arc<Fleet>,
    server: Server,
}

impl Site {
    fn new() -> Self {
        let engine = FakeEngine::bind(Options::default()).unwrap();
        let index = Index::new(IndexConfig::default());
        let streams = Streams::start(&index, &StreamsConfig::default()).unwrap();
        let fleet = Arc::new(Fleet::new(index, streams));
        let pod = json!({
            "pod": POD, "model": "m", "endpoint": "10.0.0.1:8000",
            "events": engine.events_endpoint(), "replay": engine.replay_endpoint(),
        });
        let pod: PodSpec = serde_json::from_value(pod).unwrap();
        fleet.add(pod).unwrap();
        let server = Server::start(&ServerConfig::default(), &fleet).unwrap();
        engine.wait_for_subscriber(PATIENCE).unwrap();
        let site = Self {
            engine,
            fleet,
            server,
        };
        // The engine's ring is empty, and the node has been told so.
        until("the first replay", || site.trust() == Trust::Exact);
        site
    }

    fn trust(&self) -> Trust {
        self.fleet.view().pod(POD)[0].status().trust()
    }

    fn wait_for(&self, sequence: u64) {
        until("a batch", || {
            let view = self.fleet.view();
            let status = view.pod(POD)[0].status();
            status.last_sequence() == Some(sequence) && status.counts().held_back() == 0
        });
    }

    fn client(&self) -> Client {
        Client::new(self.server.local_addr())
    }

    fn scrape(&self) -> Exposition {
        scrape(&mut self.client(), Read::Open).1
    }
}

/// A batch that was published so many seconds ago.
fn batch(age: f64, events: Vec<Value>) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let time = Value::from(now.as_secs_f64() - age);
    let mut bytes = Vec::new();
    let batch = Value::Array(vec![time, Value::Array(events), Value::from(0)]);
    rmpv::encode::write_value(&mut bytes, &batch).unwrap();
    bytes
}

fn numbers(values: impl IntoIterator<Item = u32>) -> Value {
    Value::Array(values.into_iter().map(Value::from).collect())
}

fn map(tag: &str, fields: Vec<(&str, Value)>) -> Value {
    let tag = (Value::from("type"), Value::from(tag));
    let fields = fields.into_iter().map(|(n, v)| (Value::from(n), v));
    Value::Map([tag].into_iter().chain(fields).collect())
}

fn stored_map(hashes: &[u32], parent: Option<u32>, tokens: &[u32]) -> Value {
    let fields = vec![
        ("block_hashes", numbers(hashes.iter().copied())),
        ("parent_block_hash", parent.map_or(Value::Nil, Value::from)),
        ("token_ids", numbers(tokens.iter().copied())),
        ("block_size", Value::from(4)),
    ];
    map("BlockStored", fields)
}

fn stored_array(hashes: &[u32], parent: Option<u32>, tokens: &[u32]) -> Value {
    Value::Array(vec![
        Value::from("BlockStored"),
        numbers(hashes.iter().copied()),
        parent.map_or(Value::Nil, Value::from),
        numbers(tokens.iter().copied()),
        Value::from(4),
        Value::Nil,
    ])
}

fn removed_array(hash: u32) -> Value {
    Value::Array(vec![Value::from("BlockRemoved"), numbers([hash])])
}

/// Four batches: the third one is lost on its way, and a replay brings it.
fn publish(site: &Site) {
    let tokens = prompt(16);
    let engine = &site.engine;
    let first = vec![stored_map(&[1, 2], None, &tokens[..8])];
    engine.publish(0, &batch(3.0, first)).unwrap();
    // So that each is the first of a turn.
    site.wait_for(0);
    let second = vec![
        stored_array(&[3, 4], Some(2), &tokens[8..]),
        removed_array(4),
        map("Nonsense", vec![]),
        Value::Array(vec![Value::from("BlockStored"), Value::from("x")]),
    ];
    // Its clock is ahead.
    engine.publish(1, &batch(-1_000.0, second)).unwrap();
    site.wait_for(1);
    let third = vec![stored_map(&[10], None, &[901, 902, 903, 904])];
    engine.lose(2, &batch(0.0, third));
    let fourth = vec![stored_map(&[11], None, &[911, 912, 913, 914])];
    engine.publish(3, &batch(0.0, fourth)).unwrap();
    site.wait_for(3);
    // The replay's end comes after its last batch.
    until("the end of the replay", || site.trust() == Trust::Partial);
}

#[test]
fn events_are_counted() {
    let site = Site::new();
    publish(&site);
    let found = site.scrape();
    let of = [("pod", POD), ("rank", "0")];
    let value =
        |name: &str, further: &[(&str, &str)]| found.value(name, &[&of[..], further].concat());
    for (name, expected) in [
        ("kvroute_batches_total", 4.0),
        ("kvroute_gaps_total", 1.0),
        ("kvroute_missed_batches_total", 1.0),
        ("kvroute_replays_total", 2.0),
        ("kvroute_connections_total", 1.0),
        ("kvroute_disconnections_total", 0.0),
        ("kvroute_worker_connected", 1.0),
        ("kvroute_worker_drops_total", 0.0),
        ("kvroute_worker_last_sequence", 3.0),
        ("kvroute_held_back_batches", 0.0),
    ] {
        assert_eq!(value(name, &[]), Some(expected), "{name}");
    }
    let events = |kind, shape| value("kvroute_events_total", &[("type", kind), ("shape", shape)]);
    assert_eq!(events("stored", "map"), Some(3.0));
    assert_eq!(events("stored", "array"), Some(1.0));
    assert_eq!(events("removed", "array"), Some(1.0));
    assert_eq!(events("removed", "map"), Some(0.0));
    assert_eq!(events("cleared", "array"), Some(0.0));
    let blocks = |kind| value("kvroute_blocks_total", &[("type", kind)]);
    assert_eq!(
        (blocks("stored"), blocks("removed")),
        (Some(6.0), Some(1.0))
    );
    let skipped = |reason, shape| {
        let labels = [("reason", reason), ("shape", shape)];
        value("kvroute_events_skipped_total", &labels)
    };
    assert_eq!(skipped("unknown_tag", "map"), Some(1.0));
    assert_eq!(skipped("field", "array"), Some(1.0));
    // The replay repeats the last batch known, and has the one that was held back.
    assert_eq!(skipped("duplicate", "batch"), Some(2.0));
    assert_eq!(found.sum("kvroute_events_skipped_total"), 4.0);
    let outcome = value("kvroute_replay_outcomes_total", &[("outcome", "complete")]);
    assert_eq!(outcome, Some(2.0));
    assert_eq!(found.sum("kvroute_replay_outcomes_total"), 2.0);
}

#[test]
fn lag_is_of_live_batches_and_never_below_zero() {
    let site = Site::new();
    publish(&site);
    let found = site.scrape();
    let bucket = |le| found.value("kvroute_ingest_lag_seconds_bucket", &[("le", le)]);
    // The first was three seconds old, the second one's time is still to come; the others came by the replay.
    assert_eq!(
        found.value("kvroute_ingest_lag_seconds_count", &[]),
        Some(2.0)
    );
    assert_eq!(bucket("0.0001"), Some(1.0));
    assert_eq!(bucket("2.0"), Some(1.0));
    assert_eq!(bucket("100.0"), Some(2.0));
    let sum = found.value("kvroute_ingest_lag_seconds_sum", &[]).unwrap();
    assert!((3.0..100.0).contains(&sum), "{sum}");
    let of = [("pod", POD), ("rank", "0")];
    assert_eq!(found.value("kvroute_worker_lag_seconds", &of), Some(0.0));
    // The first of seventeen is measured.
    let applied = found.value("kvroute_apply_duration_seconds_count", &[]);
    assert_eq!(applied, Some(1.0));
    let name = "aibrix_kvcache_zmq_event_processing_duration_seconds_count";
    assert_eq!(found.value(name, &[]), Some(1.0));
}

#[test]
fn aibrixs_names_say_the_same() {
    let site = Site::new();
    publish(&site);
    let found = site.scrape();
    let value = |name: &str, further: &[(&str, &str)]| {
        let name = format!("aibrix_kvcache_zmq_{name}");
        found.value(
            &name,
            &[&[("pod_key", POD), ("rank", "0")], further].concat(),
        )
    };
    for (name, expected) in [
        ("connections_total", 1.0),
        ("disconnections_total", 0.0),
        ("connection_status", 1.0),
        ("missed_events_total", 1.0),
        ("replay_requests_total", 2.0),
        ("replay_success_total", 2.0),
        ("replay_failures_total", 0.0),
        ("last_sequence_id", 3.0),
    ] {
        assert_eq!(value(name, &[]), Some(expected), "{name}");
    }
    for (kind, count) in [
        ("BLOCK_STORED", 4.0),
        ("BLOCK_REMOVED", 1.0),
        ("ALL_BLOCKS_CLEARED", 0.0),
    ] {
        for name in ["events_received_total", "events_processed_total"] {
            assert_eq!(
                value(name, &[("event_type", kind)]),
                Some(count),
                "{name} {kind}"
            );
        }
    }
    let error = |kind| value("errors_total", &[("error_type", kind)]);
    let errors = ["consume_events", "decode", "handle_event"].map(error);
    assert_eq!(errors, [Some(0.0), Some(2.0), Some(0.0)]);
}

#[test]
fn the_index_is_counted() {
    let site = Site::new();
    publish(&site);
    let found = site.scrape();
    let value = |name: &str| found.value(name, &[]);
    // Two and two blocks less the one that was removed, one and one; and the four of the first two are one run.
    assert_eq!(value("kvroute_index_entries"), Some(5.0));
    assert_eq!(value("kvroute_index_runs"), Some(3.0));
    assert_eq!(value("kvroute_index_contexts"), Some(1.0));
    assert_eq!(value("kvroute_index_evictions_total"), Some(0.0));
    assert_eq!(value("kvroute_index_budget_bytes"), None);
    assert_eq!(value("aibrix_sync_indexer_mappings"), Some(5.0));
    let contexts = found.value("aibrix_sync_indexer_contexts", &[("model", "m")]);
    assert_eq!(contexts, Some(1.0));
}

/// Three blocks of the prompt 1, 2, 3, … are held.
fn hold_three(site: &Site) {
    let events = vec![stored_map(&[1, 2, 3], None, &prompt(12))];
    site.engine.publish(0, &batch(0.0, events)).unwrap();
    site.wait_for(0);
}

#[test]
fn requests_and_lookups_are_counted() {
    let site = Site::new();
    hold_three(&site);
    let mut client = site.client();
    let mut post = |path: &str, body: serde_json::Value| client.post(path, &body);
    let ask = |tokens: &[u32]| json!({"model": "m", "token_ids": tokens});
    // Twelve tokens of 16, none of eight, and all of twelve 16 times.
    assert_eq!(post("/v1/match", ask(&prompt(16))).status, 200);
    assert_eq!(post("/v1/match", ask(&[7; 8])).status, 200);
    for _ in 0..16 {
        assert_eq!(post("/v1/match", ask(&prompt(12))).status, 200);
    }
    assert_eq!(post("/v1/match", json!({"model": "m"})).status, 400);
    let key = block_key(SEED_DEFAULT, &prompt(4), ExtraDigest::NONE).get();
    let hashes = json!({"model_name": "m", "block_hashes": [key]});
    assert_eq!(post("/query_by_hash", hashes).status, 200);
    let routed = post("/v1/route", ask(&prompt(16)));
    assert_eq!(routed.status, 200);
    let id = routed.json()["request_id"].as_str().unwrap().to_owned();
    let unknown = json!({"model": "none of ours", "token_ids": [1, 2, 3, 4]});
    assert_eq!(post("/v1/route", unknown).status, 404);
    assert_eq!(client.get("/nowhere").status, 404);

    let found = site.scrape();
    let answered = |endpoint, code| {
        let labels = [("endpoint", endpoint), ("code", code)];
        found.value("kvroute_requests_total", &labels)
    };
    for (endpoint, done, refused) in [
        ("match", 18.0, 1.0),
        ("batch", 0.0, 0.0),
        ("query_by_hash", 1.0, 0.0),
        ("route", 1.0, 1.0),
        ("other", 0.0, 1.0),
    ] {
        let codes = ["2xx", "4xx", "5xx"].map(|code| answered(endpoint, code));
        assert_eq!(codes, [Some(done), Some(refused), Some(0.0)], "{endpoint}");
        let count = found.value(
            "kvroute_request_duration_seconds_count",
            &[("endpoint", endpoint)],
        );
        assert_eq!(count, Some(done + refused), "{endpoint}");
    }
    // The scrape itself.
    assert_eq!(found.value("kvroute_requests_in_flight", &[]), Some(1.0));
    let tokens = |result| found.value("kvroute_lookup_tokens_total", &[("result", result)]);
    assert_eq!(tokens("asked"), Some(16.0 + 8.0 + 16.0 * 12.0 + 4.0 + 16.0));
    assert_eq!(tokens("matched"), Some(12.0 + 16.0 * 12.0 + 4.0 + 12.0));
    let share = |percent| found.value("kvroute_lookup_matches_total", &[("percent", percent)]);
    let shares = ["0", "1-24", "25-49", "50-74", "75-99", "100"].map(share);
    assert_eq!(shares, [1.0, 0.0, 0.0, 0.0, 2.0, 17.0].map(Some));
    // Of 20 lookups the first and the eighteenth are measured.
    let measured = |kind| found.value("kvroute_lookup_duration_seconds_count", &[("kind", kind)]);
    assert_eq!(
        (measured("tokens"), measured("hashes")),
        (Some(2.0), Some(0.0))
    );
    exemplar_is(&found, &id);
    choices_are_counted(&found);
}

/// The latest request of the bucket that has the routed one is that one.
fn exemplar_is(found: &Exposition, id: &str) {
    let of_routes = found.exemplars.iter().filter(|((name, labels), _)| {
        name == "kvroute_request_duration_seconds_bucket" && labels["endpoint"] == "route"
    });
    let named: Vec<_> = of_routes.map(|(_, (labels, _))| labels).collect();
    assert_eq!(named.len(), 1);
    assert_eq!(named[0]["request_id"], id);
    assert_eq!(found.exemplars.len(), 1, "matches have no names");
}

fn choices_are_counted(found: &Exposition) {
    let of = [("model", "m"), ("using_kv_sync", "true")];
    let value = |name: &str, further: &[(&str, &str)]| {
        let name = format!("aibrix_prefix_cache_{name}");
        found.value(&name, &[&of[..], further].concat())
    };
    for bucket in ["0", "1-25", "26-50", "51-75", "76-99", "100"] {
        let count = value(
            "routing_decisions_total",
            &[("match_percent_bucket", bucket)],
        );
        assert_eq!(
            count,
            Some(f64::from(u8::from(bucket == "51-75"))),
            "{bucket}"
        );
    }
    let selected = value(
        "routing_selection_total",
        &[("selection", "single_candidate")],
    );
    assert_eq!(selected, Some(1.0));
    assert_eq!(value("load_imbalance_total", &[]), Some(0.0));
    assert_eq!(value("routing_latency_seconds_count", &[]), Some(1.0));
    let no_target = value("routing_errors_total", &[("reason", "no_target_pod")]);
    assert_eq!(no_target, Some(0.0));
    let unknown = [
        ("model", "unknown"),
        ("using_kv_sync", "true"),
        ("reason", "model_not_found"),
    ];
    let name = "aibrix_prefix_cache_routing_errors_total";
    assert_eq!(found.value(name, &unknown), Some(1.0));
    let name = "aibrix_sync_indexer_match_percentage";
    let count = found.value(&format!("{name}_count"), &[("model", "m")]);
    let sum = found.value(&format!("{name}_sum"), &[("model", "m")]);
    assert_eq!((count, sum), (Some(1.0), Some(75.0)));
    for (kind, is) in [("sync", 1.0), ("local", 0.0)] {
        let labels = [("model", "m"), ("indexer_type", kind)];
        let status = found.value("aibrix_prefix_cache_indexer_status", &labels);
        assert_eq!(status, Some(is), "{kind}");
    }
}

#[test]
fn series_go_with_their_pod_and_their_model() {
    let site = Site::new();
    hold_three(&site);
    let route = json!({"model": "m", "token_ids": prompt(16)});
    assert_eq!(site.client().post("/v1/route", &route).status, 200);
    for read in [Read::Open, Read::Classic] {
        let (text, found) = scrape(&mut site.client(), read);
        assert!(text.contains(&format!("\"{POD}\"")));
        assert!(
            found
                .samples
                .keys()
                .any(|(_, labels)| labels.get("model").is_some_and(|m| m == "m"))
        );
    }
    assert!(site.fleet.remove(POD, None));
    for read in [Read::Open, Read::Classic] {
        let (text, found) = scrape(&mut site.client(), read);
        assert!(!text.contains(POD), "{text}");
        let models = found
            .samples
            .keys()
            .filter_map(|(_, labels)| labels.get("model"));
        assert!(models.into_iter().all(|model| model == "unknown"));
        for (_, labels) in found.samples.keys() {
            assert!(!labels.contains_key("pod") && !labels.contains_key("pod_key"));
        }
    }
}

/// What the system says of this very process.
#[test]
fn the_process_is_told_of() {
    let site = Site::new();
    let found = site.scrape();
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    assert_eq!(found.value("kvroute_build_info", &version), Some(1.0));
    if !cfg!(target_os = "linux") {
        return;
    }
    let value = |name: &str| found.value(name, &[]).unwrap_or_else(|| panic!("{name}"));
    assert!(value("process_resident_memory_bytes") > 1e6);
    assert!(value("process_cpu_seconds_total") > 0.0);
    let open = value("process_open_fds");
    assert!(open > 5.0 && open <= value("process_max_fds"), "{open}");
    // Those of the node: one for events, one or more for requests.
    assert!(value("process_threads") >= 3.0);
    let started = value("process_start_time_seconds");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    assert!(started > 1.6e9 && started <= now.as_secs_f64() + 1.0);
}
