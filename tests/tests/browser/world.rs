//! A node and its engines, which the test lets publish: what each really holds is the test's own count.
use kvroute::config::{Config, RoutingConfig};
use kvroute::fake::cache::CacheEvent;
use kvroute::fake::encode::{Dialect, Encoder};
use kvroute::fake::{FakeEngine, Options};
use kvroute::fleet::PodSpec;
use kvroute::node::Node;
use kvroute_engine::types::Tier;
use kvroute_tests::browser::PATIENCE;
use kvroute_tests::gateways::{BLOCK_SIZE, Client, Tokenizer, chain};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub(crate) const MODEL: &str = "llama-8b";

/// What engines say of their load: two requests run, one waits, a quarter of the cache is in use.
const LOAD: &str = "# TYPE vllm:num_requests_running gauge\n\
    vllm:num_requests_running{engine=\"0\",model_name=\"m\"} 2.0\n\
    # TYPE vllm:num_requests_waiting gauge\n\
    vllm:num_requests_waiting{engine=\"0\",model_name=\"m\"} 1.0\n\
    # TYPE vllm:kv_cache_usage_perc gauge\n\
    vllm:kv_cache_usage_perc{engine=\"0\",model_name=\"m\"} 0.25\n";

/// An engine, and all that it has said.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) pod: String,
    pub(crate) model: String,
    /// `None` once it is dead.
    socket: Option<FakeEngine>,
    /// Says its load.
    http: Tokenizer,
    /// The next batch's number.
    pub(crate) next: u64,
    /// The blocks it holds.
    held: BTreeSet<u64>,
}

/// The node with its engines.
#[derive(Debug)]
pub(crate) struct World {
    node: Option<Node>,
    config: Config,
    address: SocketAddr,
    pub(crate) engines: Vec<Engine>,
}

/// Settings of a node that asks its engines for their load.
pub(crate) fn config() -> Config {
    Config {
        probe_interval: Some(Duration::from_secs(1)),
        ..Config::default()
    }
}

/// Settings of a node that asks engines for nothing.
pub(crate) fn quiet() -> Config {
    Config {
        probe_interval: None,
        routing: RoutingConfig {
            load_interval: None,
            ..RoutingConfig::default()
        },
        ..Config::default()
    }
}

impl World {
    /// Starts a node by these settings, with an engine for each pod and model.
    pub(crate) fn start(config: Config, pods: &[(&str, &str)]) -> Self {
        let node = Node::start(&config).expect("the node starts");
        let mut world = Self {
            address: node.http_addr(),
            node: Some(node),
            config,
            engines: Vec::new(),
        };
        for (pod, model) in pods {
            world.add(pod, model);
        }
        world
    }

    /// Adds a pod with a real engine, and waits until its events are listened to. Its number.
    pub(crate) fn add(&mut self, pod: &str, model: &str) -> usize {
        let socket = FakeEngine::bind(Options::default()).expect("ports are free");
        let http = Tokenizer::start("0.12.0").expect("a port is free");
        http.set_metrics(LOAD);
        self.engines.push(Engine {
            pod: pod.to_owned(),
            model: model.to_owned(),
            socket: Some(socket),
            http,
            next: 0,
            held: BTreeSet::new(),
        });
        let number = self.engines.len() - 1;
        self.enter(number);
        number
    }

    fn enter(&self, number: usize) {
        let engine = &self.engines[number];
        let socket = engine.socket.as_ref().expect("it is alive");
        self.register(&json!({
            "pod": engine.pod, "model": engine.model, "endpoint": engine.http.endpoint(),
            "events": socket.events_endpoint(), "replay": socket.replay_endpoint(),
        }));
        let subscribed = socket.wait_for_subscriber(PATIENCE);
        subscribed.expect("the node subscribes");
    }

    /// Adds a pod, as its description is.
    pub(crate) fn register(&self, pod: &Value) {
        let spec: PodSpec = serde_json::from_value(pod.clone()).expect("a pod's description");
        let added = self.node().fleet().add(spec);
        added.unwrap_or_else(|error| panic!("{pod}: {error}"));
    }

    fn node(&self) -> &Node {
        self.node.as_ref().expect("the node is running")
    }

    /// Where the admin listener is, if there is one.
    pub(crate) fn admin_address(&self) -> String {
        let address = self.node().admin_address();
        address.expect("there is one").to_string()
    }

    /// Where it answers, or did.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn client(&self) -> Client {
        Client {
            address: self.address,
        }
    }

    /// The answer of a path.
    pub(crate) fn get(&self, path: &str) -> Value {
        let answer = self.client().get(path, "");
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    /// Posts to a path, and has its answer.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Value {
        let answer = self.client().post(path, "", body);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    /// An engine stores the four blocks of the prompt of this number, in one batch.
    pub(crate) fn store(&mut self, engine: usize, number: u32) {
        let links = chain(number);
        let hashes = links.iter().map(|link| link.hash);
        self.engines[engine].held.extend(hashes);
        self.publish(
            engine,
            CacheEvent::Stored {
                tier: Tier::Gpu,
                links,
                placeholder: false,
            },
        );
    }

    /// An engine loses the last block of that prompt.
    pub(crate) fn evict(&mut self, engine: usize, number: u32) {
        let last = chain(number).last().expect("four blocks").hash;
        assert!(self.engines[engine].held.remove(&last), "it has it");
        self.publish(
            engine,
            CacheEvent::Removed {
                tier: Tier::Gpu,
                hashes: vec![last],
            },
        );
    }

    fn publish(&mut self, engine: usize, event: CacheEvent) {
        let engine = &mut self.engines[engine];
        let batch = batch(event);
        let socket = engine.socket.as_ref().expect("it is alive");
        socket.publish(engine.next, &batch).expect("it is open");
        engine.next += 1;
    }

    /// A batch that stores a prompt is lost on its way; it is in the engine's ring.
    pub(crate) fn lose(&mut self, engine: usize, number: u32) {
        let engine = &mut self.engines[engine];
        let links = chain(number);
        engine.held.extend(links.iter().map(|link| link.hash));
        let batch = batch(CacheEvent::Stored {
            tier: Tier::Gpu,
            links,
            placeholder: false,
        });
        let socket = engine.socket.as_ref().expect("it is alive");
        socket.lose(engine.next, &batch);
        engine.next += 1;
    }

    /// An engine's tokenizer makes these tokens of a text.
    pub(crate) fn teach(&self, engine: usize, text: &str, tokens: &[u32]) {
        let engine = &self.engines[engine];
        let body = json!({"model": engine.model, "prompt": text});
        engine.http.add_tokens(&body, tokens);
    }

    /// An engine dies; its pod stays described.
    pub(crate) fn kill(&mut self, engine: usize) {
        drop(self.engines[engine].socket.take());
    }

    /// How many blocks an engine holds, by what it has said.
    pub(crate) fn held(&self, engine: usize) -> usize {
        self.engines[engine].held.len()
    }

    /// Waits until the node has applied all that the engines have said.
    pub(crate) fn settle(&self) {
        let give_up = Instant::now() + PATIENCE;
        while !(0..self.engines.len()).all(|engine| self.is_applied(engine)) {
            assert!(Instant::now() < give_up, "not applied: {:?}", self.engines);
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn is_applied(&self, number: usize) -> bool {
        let engine = &self.engines[number];
        let view = self.node().fleet().view();
        let ranks = view.pod(&engine.pod);
        ranks.first().is_some_and(|info| {
            let status = info.status();
            let last = engine.next.checked_sub(1);
            status.last_sequence() == last && status.blocks() == self.held(number) as u64
        })
    }

    /// The node ends; the engines go on.
    pub(crate) fn stop_node(&mut self) {
        if let Some(node) = self.node.take() {
            node.stop();
        }
    }

    /// Another node begins where the one before was, and is told of the engines that live.
    pub(crate) fn start_node(&mut self) {
        self.config.listen = vec![self.address.into()];
        let give_up = Instant::now() + PATIENCE;
        let node = loop {
            match Node::start(&self.config) {
                Ok(node) => break node,
                // Somebody may have the port for a moment.
                Err(error) => assert!(Instant::now() < give_up, "{error}"),
            }
            thread::sleep(Duration::from_millis(50));
        };
        self.node = Some(node);
        for number in 0..self.engines.len() {
            if self.engines[number].socket.is_some() {
                self.enter(number);
            }
        }
    }
}

fn batch(event: CacheEvent) -> Vec<u8> {
    let encoder = Encoder {
        dialect: Dialect::V0_32,
        bytes: true,
        unknown_fields: false,
        block_size: BLOCK_SIZE,
        rank: 0,
    };
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    encoder.batch(since.expect("after 1970").as_secs_f64(), &[event])
}
