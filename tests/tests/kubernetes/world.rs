//! A node, the API server that it watches, and engines.
use kvroute::config::{
    Config, DiscoveryConfig, KubernetesConfig, Namespaces, Preset, RoutingConfig,
};
use kvroute::fake::cache::CacheEvent;
use kvroute::fake::encode::{Dialect, Encoder};
use kvroute::fake::{FakeEngine, Options};
use kvroute::fleet::SourceReport;
use kvroute::node::Node;
use kvroute_engine::types::Tier;
use kvroute_tests::apiserver::{ApiServer, PodScript, PodTemplate, TOKEN, Verb};
use kvroute_tests::gateways::{BLOCK_SIZE, Client, HELD, Response, chain, prompt};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

/// The model of most pods.
pub(crate) const MODEL: &str = "llama-8b";
/// The namespace of most pods.
pub(crate) const NAMESPACE: &str = "serving";

/// Time for something to show, on a machine that is busy with builds, and after pauses between attempts.
const SHOWN_TIME_MAX: Duration = Duration::from_secs(90);

/// The node with the API server.
pub(crate) struct World {
    pub(crate) api: ApiServer,
    pub(crate) node: Node,
}

/// An engine with the events of one pod.
pub(crate) struct Engine {
    pub(crate) fake: FakeEngine,
    host: String,
}

/// What the node is told of Kubernetes.
pub(crate) fn settings(api: &ApiServer, token: &str) -> KubernetesConfig {
    KubernetesConfig {
        namespaces: Namespaces::Named(vec![NAMESPACE.to_owned()]),
        preset: Preset::Aibrix,
        selector: None,
        not_ready: false,
        kubeconfig: Some(api.kubeconfig(token)),
    }
}

/// Waits until something holds; `None` is not yet.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let give_up = Instant::now() + SHOWN_TIME_MAX;
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) => assert!(Instant::now() < give_up, "{what}: not in time: {seen}"),
        }
        thread::sleep(Duration::from_millis(10));
    }
}

impl World {
    /// A node that watches the usual namespace.
    pub(crate) fn start() -> Self {
        let api = ApiServer::start();
        let settings = settings(&api, TOKEN);
        Self::start_with(api, settings)
    }

    pub(crate) fn start_with(api: ApiServer, kubernetes: KubernetesConfig) -> Self {
        let config = Config {
            probe_interval: None,
            routing: RoutingConfig {
                load_interval: None,
                speculative_time: None,
                ..RoutingConfig::default()
            },
            discovery: DiscoveryConfig {
                kubernetes: Some(kubernetes),
                ..DiscoveryConfig::default()
            },
            ..Config::default()
        };
        let node = Node::start(&config).expect("the node starts");
        Self { api, node }
    }

    pub(crate) fn client(&self) -> Client {
        let address = self.node.http_addr();
        Client { address }
    }

    fn ask(&self, path: &str, model: &str, number: u32) -> Response {
        let tokens = prompt(number, (HELD + 1) * BLOCK_SIZE);
        let body = json!({"model": model, "token_ids": tokens});
        self.client().post(path, "", &body)
    }

    /// All workers, as the node tells them, by pod.
    pub(crate) fn workers(&self) -> BTreeMap<String, Value> {
        let answer = self.client().get("/v1/workers", "").json();
        let workers = answer.as_array().expect("a list").iter();
        let named = |worker: &Value| (worker["pod"].as_str().unwrap().to_owned(), worker.clone());
        workers.map(named).collect()
    }

    /// The number of a pod's entry in the fleet: another one once it was let go and entered anew.
    pub(crate) fn entry(&self, pod: &str) -> u64 {
        let view = self.node.fleet().view();
        view.pod(pod).first().expect("the pod is known").serial()
    }

    /// Waits until the node has these pods and no others.
    pub(crate) fn wait_for_pods(&self, pods: &[&str]) {
        let what = format!("the pods {pods:?}");
        until(&what, || {
            let workers = self.workers();
            let names: Vec<_> = workers.keys().map(String::as_str).collect();
            if names == pods {
                Ok(())
            } else {
                Err(format!("{workers:?}, {:?}", self.report()))
            }
        });
    }

    /// Waits until one field of a pod is this.
    pub(crate) fn wait_for_field(&self, pod: &str, field: &str, value: &Value) {
        until(&format!("{field} of {pod} is {value}"), || {
            let found = self.workers().remove(pod).unwrap_or_default();
            if found[field] == *value {
                Ok(())
            } else {
                Err(format!("{found}"))
            }
        });
    }

    /// How many blocks of a prompt each pod of a model holds, of those that hold any.
    pub(crate) fn holders(&self, model: &str, number: u32) -> BTreeMap<String, u32> {
        let answer = self.ask("/v1/match", model, number);
        if answer.status != 200 {
            // Nobody serves that model.
            return BTreeMap::new();
        }
        let answer = answer.json();
        let candidates = answer["candidates"].as_array().expect("a list").iter();
        let held = candidates.filter_map(|candidate| {
            let blocks = u32::try_from(candidate["matched_blocks"].as_u64()?).ok()?;
            Some((candidate["pod"].as_str()?.to_owned(), blocks))
        });
        held.filter(|(_, blocks)| *blocks > 0).collect()
    }

    /// Waits until exactly these pods hold the prompt of this number.
    pub(crate) fn wait_for_holders(&self, model: &str, number: u32, pods: &[&str]) {
        let expected: BTreeMap<_, _> = pods.iter().map(|&pod| (pod.to_owned(), HELD)).collect();
        until(&format!("{pods:?} hold prompt {number} of {model}"), || {
            let found = self.holders(model, number);
            if found == expected {
                return Ok(());
            }
            Err(format!(
                "{found:?} of {:?}, {:?}",
                self.workers(),
                self.report()
            ))
        });
    }

    /// The pod that a prompt goes to; the error is the answer.
    pub(crate) fn route(&self, model: &str, number: u32) -> Result<String, String> {
        let answer = self.ask("/v1/route", model, number);
        if answer.status != 200 {
            return Err(format!("{answer:?}"));
        }
        let pod = answer.json()["target"]["pod"].clone();
        Ok(pod.as_str().expect("a target has a pod").to_owned())
    }

    /// Waits until a prompt goes to this pod.
    pub(crate) fn wait_for_route(&self, model: &str, number: u32, pod: &str) {
        until(&format!("prompt {number} of {model} goes to {pod}"), || {
            let found = self.route(model, number)?;
            if found == pod { Ok(()) } else { Err(found) }
        });
    }

    /// How Kubernetes stands as a source.
    pub(crate) fn report(&self) -> SourceReport {
        let reports = self.node.fleet().sources().reports();
        let found = reports.into_iter().find(|r| r.source == "kubernetes");
        found.expect("Kubernetes is a source")
    }

    /// Waits until Kubernetes stands so; its report comes back.
    pub(crate) fn wait_for_state(&self, state: &str) -> SourceReport {
        until(&format!("kubernetes is {state}"), || {
            let report = self.report();
            if report.state == state {
                Ok(report)
            } else {
                Err(format!("{report:?}"))
            }
        })
    }

    /// Waits until something is wrong with Kubernetes, and what is said of it has this text.
    pub(crate) fn wait_for_error(&self, text: &str) -> SourceReport {
        until(&format!("kubernetes says {text:?}"), || {
            let report = self.report();
            let said = report.error.as_deref().unwrap_or_default();
            if said.contains(text) {
                Ok(report)
            } else {
                Err(format!("{report:?}"))
            }
        })
    }

    /// Creates the pod of an engine, which starts and is ready.
    pub(crate) fn add(&self, engine: &Engine, template: PodTemplate) -> PodScript {
        let pod = self.api.create(template);
        pod.start(&engine.host);
        pod
    }

    /// An engine that holds the prompt of this number, and its pod of the usual model: known to the node.
    pub(crate) fn usual(&self, name: &str, number: u32) -> (Engine, PodScript) {
        let engine = Engine::holding(number);
        let pod = self.add(&engine, engine.template(NAMESPACE, name, MODEL));
        let name = format!("{NAMESPACE}/{name}");
        until(&format!("{name} holds {number}"), || {
            let found = self.holders(MODEL, number);
            let held = found.get(&name) == Some(&HELD);
            if held {
                Ok(())
            } else {
                Err(format!("{:?} {:?}", self.workers(), self.report()))
            }
        });
        (engine, pod)
    }

    /// Asserts that nothing was asked but to list and watch pods.
    pub(crate) fn assert_only_pods_were_asked_for(&self) {
        let requests = self.api.requests();
        assert!(!requests.is_empty());
        for request in requests {
            let known = [Verb::Get, Verb::List, Verb::Watch].contains(&request.verb);
            assert!(known && request.path.ends_with("/pods"), "{request:?}");
        }
    }
}

impl Engine {
    /// An engine at 127.0.0.1 that has published nothing.
    pub(crate) fn start() -> Self {
        Self::start_at("127.0.0.1", 0, 0)
    }

    /// An engine at an address of this machine; port 0 is one that the system chooses.
    pub(crate) fn start_at(host: &str, events: u16, replay: u16) -> Self {
        let at = |port: u16| format!("tcp://{host}:{port}");
        let options = Options {
            events: at(events),
            replay: Some(at(replay)),
            ..Options::default()
        };
        let fake = until("an engine's ports are free", || {
            FakeEngine::bind(options.clone()).map_err(|error| error.to_string())
        });
        let host = host.to_owned();
        Self { fake, host }
    }

    /// An engine that holds the prompt of this number.
    pub(crate) fn holding(number: u32) -> Self {
        let engine = Self::start();
        engine.store(0, number);
        engine
    }

    /// Publishes the blocks of a prompt as its batch of this sequence number; who does not subscribe yet finds it in
    /// the ring.
    pub(crate) fn store(&self, sequence: u64, number: u32) {
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
        let batch = encoder.batch(0.0, &[stored]);
        let sent = self.fake.publish(sequence, &batch);
        sent.expect("the socket is open");
    }

    pub(crate) fn events_port(&self) -> u16 {
        port(self.fake.events_endpoint())
    }

    pub(crate) fn replay_port(&self) -> u16 {
        port(self.fake.replay_endpoint().expect("it answers replays"))
    }

    /// A pod of it with AIBrix's labels and where its events are.
    pub(crate) fn template(&self, namespace: &str, name: &str, model: &str) -> PodTemplate {
        let template = PodTemplate::new(namespace, name);
        let template = template.label("model.aibrix.ai/name", model);
        let template = template.label("model.aibrix.ai/kv-events-enabled", "true");
        self.annotate(template.label("model.aibrix.ai/port", "8123"))
    }

    /// The template with where its events are.
    pub(crate) fn annotate(&self, template: PodTemplate) -> PodTemplate {
        let template = template.annotation("kvroute.io/events-port", self.events_port());
        template.annotation("kvroute.io/replay-port", self.replay_port())
    }
}

fn port(endpoint: &str) -> u16 {
    let port = endpoint.rsplit_once(':').and_then(|(_, p)| p.parse().ok());
    port.expect("an endpoint has a port")
}
