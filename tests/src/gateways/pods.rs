//! A node with three pods: real ZeroMQ events, and backends that say who they are.
use super::backend::Backend;
use super::http::{Client, Framing};
use kvroute::config::Config;
use kvroute::fake::cache::{CacheEvent, Link};
use kvroute::fake::encode::{Dialect, Encoder};
use kvroute::fake::prompts::Scope;
use kvroute::fake::{FakeEngine, Options};
use kvroute::fleet::PodSpec;
use kvroute::node::Node;
use kvroute_engine::types::Tier;
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Tokens per block.
pub const BLOCK_SIZE: u32 = 16;

/// Time for an event to show, on a machine that is busy with builds.
const SHOWN_TIME_MAX: Duration = Duration::from_secs(60);

/// Blocks that each pod holds of its own prompt.
const HELD: u32 = 4;

/// A pod: its name is its backend's.
#[derive(Debug)]
struct Pod {
    name: String,
    backend: Backend,
    /// Keeps its sockets open.
    _engine: FakeEngine,
}

/// The node with its pods, and one backend more that no pod has.
#[derive(Debug)]
pub struct Pods {
    node: Option<Node>,
    http: SocketAddr,
    pods: Vec<Pod>,
    other: Backend,
}

/// The prompt of which the pod of this number holds the first four blocks, so many tokens of it.
#[must_use]
pub fn prompt(pod: u32, tokens: u32) -> Vec<u32> {
    (0..tokens).map(|at| 100_000 * (pod + 1) + at).collect()
}

impl Pods {
    /// Starts a node, and one pod for each of these models.
    ///
    /// # Panics
    /// Something does not start, or an event does not show in time.
    #[must_use]
    pub fn start(models: &[&str]) -> Self {
        let config = Config {
            probe_interval: None,
            ..Config::default()
        };
        let node = Node::start(&config).expect("the node starts");
        let pods = (0..).zip(models);
        let pods = pods.map(|(number, model)| Pod::start(&node, number, model));
        let pods: Vec<_> = pods.collect();
        let pods = Self {
            http: node.http_addr(),
            node: Some(node),
            pods,
            other: Backend::start("other").expect("a port is free"),
        };
        for (number, model) in (0..).zip(models) {
            pods.wait_until_shown(number, model);
        }
        pods
    }

    /// Where the node answers, or did.
    #[must_use]
    pub fn node(&self) -> SocketAddr {
        self.http
    }

    /// Where the backend listens that no pod has.
    #[must_use]
    pub fn other(&self) -> SocketAddr {
        self.other.address()
    }

    /// The name of a pod and of its backend.
    #[must_use]
    pub fn name(&self, pod: u32) -> &str {
        &self.pods[pod as usize].name
    }

    /// Ends the node; the pods go on.
    pub fn stop_node(&mut self) {
        if let Some(node) = self.node.take() {
            node.stop();
        }
    }

    /// Ends a pod's backend; the node does not know.
    pub fn stop_backend(&mut self, pod: u32) {
        let ended = Backend::start("ended").expect("a port is free");
        drop(std::mem::replace(
            &mut self.pods[pod as usize].backend,
            ended,
        ));
    }

    fn wait_until_shown(&self, pod: u32, model: &str) {
        let client = Client { address: self.http };
        let asked = json!({"model": model, "token_ids": prompt(pod, HELD * BLOCK_SIZE)});
        let asked = asked.to_string();
        let give_up = Instant::now() + SHOWN_TIME_MAX;
        loop {
            let answer = client.send("POST", "/v1/match", "", asked.as_bytes(), Framing::Length);
            let answer = answer.expect("the node answers").json();
            let best = &answer["candidates"][0];
            if best["matched_blocks"] == HELD && best["pod"] == self.name(pod) {
                return;
            }
            assert!(Instant::now() < give_up, "not shown: {answer}");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Pod {
    fn start(node: &Node, number: u32, model: &str) -> Self {
        let name = format!("ns/pod-{number}");
        let backend = Backend::start(&name).expect("a port is free");
        let engine = FakeEngine::bind(Options::default()).expect("ports are free");
        let pod: PodSpec = serde_json::from_value(json!({
            "pod": name, "model": model, "endpoint": backend.address().to_string(),
            "events": engine.events_endpoint(), "replay": engine.replay_endpoint(),
        }))
        .expect("a pod's description");
        node.fleet().add(pod).expect("the pod is new");
        engine
            .wait_for_subscriber(SHOWN_TIME_MAX)
            .expect("the node subscribes");
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
        engine
            .publish(0, &encoder.batch(0.0, &[stored]))
            .expect("the socket is open");
        Self {
            name,
            backend,
            _engine: engine,
        }
    }
}

/// The blocks that a pod holds.
fn chain(pod: u32) -> Vec<Arc<Link>> {
    let tokens = prompt(pod, HELD * BLOCK_SIZE);
    let mut links: Vec<Arc<Link>> = Vec::new();
    for (hash, block) in (1..).zip(tokens.chunks(BLOCK_SIZE as usize)) {
        links.push(Arc::new(Link {
            parent: links.last().cloned(),
            hash: u64::from(pod) << 32 | hash,
            tokens: block.into(),
            scope: Scope {
                adapter: 0,
                salt: None,
            },
        }));
    }
    links
}
