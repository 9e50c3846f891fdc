//! A node with three pods: real ZeroMQ events, and backends that say who they are.
use super::backend::Backend;
use super::http::{Client, Framing};
use kvroute::config::{Config, RoutingConfig};
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
pub const HELD: u32 = 4;

/// A pod: its name is its backend's.
#[derive(Debug)]
struct Pod {
    name: String,
    model: String,
    backend: Backend,
    /// One for each rank: keeps its sockets open.
    engines: Vec<FakeEngine>,
}

/// The node with its pods, and one backend more that no pod has.
#[derive(Debug)]
pub struct Pods {
    node: Option<Node>,
    http: SocketAddr,
    pods: Vec<Pod>,
    other: Backend,
}

/// The prompt of this number, so many tokens of it. Pod `n` holds the first four blocks of prompt `n`.
#[must_use]
pub fn prompt(number: u32, tokens: u32) -> Vec<u32> {
    (0..tokens).map(|at| 100_000 * (number + 1) + at).collect()
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
            routing: RoutingConfig {
                load_interval: None,
                ..RoutingConfig::default()
            },
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
        for number in (0..).take(models.len()) {
            pods.wait_until_shown(number, number);
        }
        pods
    }

    /// Gives a pod one rank more, which holds the first four blocks of the prompt of this number.
    ///
    /// # Panics
    /// The node is stopped, or its event does not show in time.
    pub fn add_rank(&mut self, pod: u32, number: u32) {
        let node = self.node.as_ref().expect("the node is running");
        self.pods[pod as usize].add_rank(node, number);
        self.wait_until_shown(pod, number);
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

    fn wait_until_shown(&self, pod: u32, number: u32) {
        let client = Client { address: self.http };
        let tokens = prompt(number, HELD * BLOCK_SIZE);
        let asked = json!({"model": self.pods[pod as usize].model, "token_ids": tokens});
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
        let mut pod = Self {
            backend: Backend::start(&name).expect("a port is free"),
            name,
            model: model.to_owned(),
            engines: Vec::new(),
        };
        pod.add_rank(node, number);
        pod
    }

    fn add_rank(&mut self, node: &Node, number: u32) {
        let engine = FakeEngine::bind(Options::default()).expect("ports are free");
        let rank = u32::try_from(self.engines.len()).expect("there are few");
        let pod: PodSpec = serde_json::from_value(json!({
            "pod": self.name, "model": self.model, "endpoint": self.backend.address().to_string(),
            "events": engine.events_endpoint(), "replay": engine.replay_endpoint(),
            "first_rank": rank,
        }))
        .expect("a pod's description");
        node.fleet().add(pod).expect("the rank is new");
        engine
            .wait_for_subscriber(SHOWN_TIME_MAX)
            .expect("the node subscribes");
        let encoder = Encoder {
            dialect: Dialect::V0_32,
            bytes: true,
            unknown_fields: false,
            block_size: BLOCK_SIZE,
            rank,
        };
        let stored = CacheEvent::Stored {
            tier: Tier::Gpu,
            links: chain(number),
            placeholder: false,
        };
        engine
            .publish(0, &encoder.batch(0.0, &[stored]))
            .expect("the socket is open");
        self.engines.push(engine);
    }
}

/// The first four blocks of a prompt, as events tell them.
#[must_use]
pub fn chain(number: u32) -> Vec<Arc<Link>> {
    let tokens = prompt(number, HELD * BLOCK_SIZE);
    let mut links: Vec<Arc<Link>> = Vec::new();
    for (hash, block) in (1..).zip(tokens.chunks(BLOCK_SIZE as usize)) {
        links.push(Arc::new(Link {
            parent: links.last().cloned(),
            hash: u64::from(number) << 32 | hash,
            tokens: block.into(),
            scope: Scope {
                adapter: 0,
                salt: None,
            },
        }));
    }
    links
}
