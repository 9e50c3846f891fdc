//! A node and what it is for: engines whose events are applied, have gaps or are unknown; lookups, choices, texts, feedback.
use kvroute::config::Config;
use kvroute::fake::cache::CacheEvent;
use kvroute::fake::encode::{Dialect, Encoder};
use kvroute::fake::{FakeEngine, Options};
use kvroute::node::Node;
use kvroute_engine::types::Tier;
use kvroute_tests::gateways::{BLOCK_SIZE, Client, HELD, Tokenizer, chain, prompt};
use rmpv::Value as Packed;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(crate) const MODEL: &str = "llama-8b";

/// Time for the node to subscribe, on a machine that is busy with builds.
const SUBSCRIBE_TIME_MAX: Duration = Duration::from_secs(60);

/// What engines say of their load.
const LOAD: &str = "# TYPE vllm:num_requests_running gauge\n\
    vllm:num_requests_running{model_name=\"llama-8b\"} 2.0\n\
    # TYPE vllm:num_requests_waiting gauge\n\
    vllm:num_requests_waiting{model_name=\"llama-8b\"} 1.0\n\
    # TYPE vllm:kv_cache_usage_perc gauge\n\
    vllm:kv_cache_usage_perc{model_name=\"llama-8b\"} 0.25\n";

/// What an engine's batches are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Habit {
    /// All arrive.
    Exact,
    /// Every other one is lost, and is in the ring.
    Loses,
    /// They tell of something that nobody knows.
    Unknown,
}

#[derive(Debug)]
struct Engine {
    socket: FakeEngine,
    habit: Habit,
    next: u64,
}

/// The node with its engines.
#[derive(Debug)]
pub(crate) struct World {
    node: Node,
    engines: Vec<Engine>,
    tokenizer: Tokenizer,
    rounds: u32,
}

impl World {
    pub(crate) fn start() -> Self {
        let node = Node::start(&Config::default()).expect("the node starts");
        let tokenizer = Tokenizer::start("0.12.0").expect("a port is free");
        tokenizer.set_metrics(LOAD);
        let client = Client {
            address: node.http_addr(),
        };
        let habits = [Habit::Exact, Habit::Loses, Habit::Unknown];
        let engines = (0..).zip(habits).map(|(number, habit)| {
            let socket = FakeEngine::bind(Options::default()).expect("ports are free");
            let pod = json!({
                "pod": format!("ns/pod-{number}"), "model": MODEL, "endpoint": tokenizer.endpoint(),
                "events": socket.events_endpoint(), "replay": socket.replay_endpoint(),
            });
            let answer = client.post("/v1/workers", "", &pod);
            assert!(answer.status < 300, "{answer:?}");
            let subscribed = socket.wait_for_subscriber(SUBSCRIBE_TIME_MAX);
            subscribed.expect("the node subscribes");
            Engine {
                socket,
                habit,
                next: 0,
            }
        });
        Self {
            engines: engines.collect(),
            node,
            tokenizer,
            rounds: 0,
        }
    }

    pub(crate) fn client(&self) -> Client {
        Client {
            address: self.node.http_addr(),
        }
    }

    /// A scrape, in the format that this asks for.
    pub(crate) fn scrape(&self, accept: &str) -> String {
        let answer = self
            .client()
            .get("/metrics", &format!("accept: {accept}\r\n"));
        assert_eq!(answer.status, 200);
        answer.text()
    }

    /// The names that series of the node can have, those without any series now included.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        let text = self.scrape("application/openmetrics-text; version=1.0.0");
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let types = types.filter_map(|line| line.split_once(' '));
        let names = types.flat_map(|(name, kind)| {
            let ends: &[&str] = match kind {
                "counter" => &["_total"],
                "histogram" => &["", "_bucket", "_sum", "_count"],
                _ => &[""],
            };
            let name = name.strip_suffix("_total").unwrap_or(name);
            ends.iter().map(move |end| format!("{name}{end}"))
        });
        names.collect()
    }

    /// Some of everything.
    pub(crate) fn work(&mut self) {
        self.rounds += 1;
        for engine in &mut self.engines {
            engine.step(self.rounds);
        }
        self.ask();
        self.route();
    }

    /// Lookups, by all endpoints.
    fn ask(&self) {
        let client = self.client();
        let tokens = prompt(self.rounds, HELD * BLOCK_SIZE);
        let request = json!({"model": MODEL, "token_ids": tokens});
        let good = [
            ("/v1/match", request.clone()),
            (
                "/v1/match:batch",
                json!({"requests": [request.clone(), request]}),
            ),
            (
                "/query",
                json!({"model": MODEL, "block_size": BLOCK_SIZE, "token_ids": tokens}),
            ),
        ];
        for (path, body) in good {
            let answer = client.post(path, "", &body);
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        }
        let hashes = json!({"model": MODEL, "block_size": BLOCK_SIZE, "block_hashes": [1, 2, 3], "block_hash": [1, 2, 3]});
        assert!(client.post("/query_by_hash", "", &hashes).status < 500);
        let bad = client.post("/v1/match", "", &json!({"model": MODEL}));
        assert_eq!(bad.status, 400);
        assert_eq!(client.get("/v1/sources", "").status, 200);
    }

    /// Choices, of token ids and of texts, and what became of them.
    fn route(&self) {
        let client = self.client();
        let tokens = prompt(self.rounds, HELD * BLOCK_SIZE);
        let request = json!({"model": MODEL, "token_ids": tokens});
        let answer = client.post("/v1/route", "", &request);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let answer = answer.json();
        let id = answer["request_id"].as_str().expect("a name");
        assert_eq!(client.get(&format!("/v1/explain/{id}"), "").status, 200);
        let held = answer["matched_tokens"].as_u64().unwrap_or_default();
        // A block less than was said, and now and then one more.
        let cached = held.saturating_sub(16) + u64::from(self.rounds % 3 == 0) * 32;
        let told = json!({"request_id": id, "cached_tokens": cached, "finished": true});
        assert!(client.post("/v1/feedback", "", &told).status < 500);
        let text = format!("round {}", self.rounds);
        let body = json!({"model": MODEL, "prompt": text});
        self.tokenizer.add_tokens(&body, &tokens);
        // The second time from the cache; the last one is a text that the engine fails at.
        for body in [&body, &body, &json!({"model": MODEL, "prompt": "unknown"})] {
            let routed = client.post("/v1/route/v1/completions", "", body);
            assert_eq!(routed.status, 200, "{}", routed.text());
        }
        let checked = client.post("/v1/ext_authz/v1/completions", "", &request);
        assert!(checked.status < 500, "{}", checked.text());
    }
}

impl Engine {
    fn step(&mut self, round: u32) {
        let payload = match self.habit {
            Habit::Exact | Habit::Loses => stored(round),
            Habit::Unknown => unknown(),
        };
        if self.habit == Habit::Loses {
            self.socket.lose(self.next, &stored(round + 1_000));
            self.next += 1;
        }
        let sent = self.socket.publish(self.next, &payload);
        sent.expect("the socket is open");
        self.next += 1;
    }
}

fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("after 1970").as_secs_f64()
}

/// A batch that stores the blocks of a prompt, and takes the last of them away again.
fn stored(number: u32) -> Vec<u8> {
    let encoder = Encoder {
        dialect: Dialect::V0_32,
        bytes: true,
        unknown_fields: false,
        block_size: BLOCK_SIZE,
        rank: 0,
    };
    let stored = CacheEvent::Stored {
        tier: Tier::Gpu,
        links: chain(number),
        placeholder: false,
    };
    encoder.batch(now(), &[stored])
}

/// A batch of one event that no engine sends.
fn unknown() -> Vec<u8> {
    let event = Packed::Array(vec!["BlockFramed".into(), 7.into()]);
    let batch = Packed::Array(vec![now().into(), Packed::Array(vec![event]), 0.into()]);
    let mut out = Vec::new();
    rmpv::encode::write_value(&mut out, &batch).expect("memory");
    out
}

/// What `names` is made of.
#[test]
fn names_of_series_are_told_by_their_types() {
    let world = World::start();
    let names = world.names();
    for name in [
        "kvroute_ready",
        "kvroute_gaps_total",
        "kvroute_start_seconds",
    ] {
        assert!(names.contains(name), "{name}");
    }
    let value: Value = world.client().get("/readyz", "").json();
    assert!(value.is_object());
}
