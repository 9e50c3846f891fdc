//! A server over a fleet whose workers the test drives: in place of the IO threads stands a table
//! of writers.
use crate::client::Client;
use kvroute::fleet::{Fleet, PodSpec, Subscribe};
use kvroute::http::{Server, ServerConfig};
use kvroute::status::{Trust, WorkerStatus};
use kvroute::stream::saved::SaveTo;
use kvroute::stream::{NewWorker, QueueFull};
use kvroute_engine::hash::ExtraDigest;
use kvroute_engine::types::{EngineHash, Tier, WorkerId};
use kvroute_engine::{Index, IndexConfig, Participant, Store};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

/// The workers, by `pod#rank`.
#[derive(Clone, Default)]
struct Engines(Arc<Mutex<BTreeMap<String, NewWorker>>>);

impl fmt::Debug for Engines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.lock().unwrap().keys())
            .finish()
    }
}

/// Workers that [`Engines`] has room for.
const ROOM: usize = 400;

impl Subscribe for Engines {
    fn add(&self, worker: NewWorker) -> Result<(), QueueFull> {
        let mut workers = self.0.lock().unwrap();
        if workers.len() == ROOM {
            return Err(QueueFull);
        }
        workers.insert(worker.name.clone(), worker);
        Ok(())
    }

    fn remove(&self, id: WorkerId) {
        let mut workers = self.0.lock().unwrap();
        workers.retain(|_, worker| worker.writer.id() != id);
    }

    fn verify(&self, _: WorkerId) {}

    fn unheard(&self, _: WorkerId) {}

    fn save(&self, _: WorkerId, to: SaveTo) {
        drop(to);
    }
}

/// The running server.
pub(crate) struct Fixture {
    pub(crate) server: Server,
    pub(crate) fleet: Arc<Fleet>,
    engines: Engines,
    participant: Participant,
}

/// Blocks to be stored: those of a prompt, but for the first ones.
pub(crate) struct Blocks<'b> {
    pub(crate) adapter: Option<&'b str>,
    pub(crate) block_size: u32,
    pub(crate) tier: Tier,
    /// How many leading blocks of the prompt were stored before.
    pub(crate) after: usize,
    pub(crate) prompt: &'b [u32],
    /// By block of the prompt from `after` on.
    pub(crate) extra: &'b [ExtraDigest],
    /// Distinguishes the engine's names of this chain from those of others.
    pub(crate) chain: u64,
}

impl<'b> Blocks<'b> {
    /// Plain blocks of four tokens on the GPU.
    pub(crate) fn of(prompt: &'b [u32]) -> Self {
        Self {
            adapter: None,
            block_size: 4,
            tier: Tier::Gpu,
            after: 0,
            prompt,
            extra: &[],
            chain: 0,
        }
    }
}

/// The prompt 1, 2, 3, … of this length.
pub(crate) fn prompt(tokens: u32) -> Vec<u32> {
    (1..=tokens).collect()
}

/// Where a pod of the fixture publishes: at a host of its own.
pub(crate) fn events_of(pod: &str) -> String {
    format!("tcp://{pod}.invalid:5557")
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::with(1, 1.0)
    }

    pub(crate) fn with(threads: usize, ready_share: f64) -> Self {
        let index = Index::new(IndexConfig::default());
        let participant = index.participant();
        let engines = Engines::default();
        let fleet = Arc::new(Fleet::new(index, engines.clone()));
        let config = ServerConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            threads,
            ready_share,
        };
        Self {
            server: Server::start(&config, &fleet).unwrap(),
            fleet,
            engines,
            participant,
        }
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.server.local_addr())
    }

    /// Adds a pod; all its workers are `exact`.
    pub(crate) fn add(&self, pod: Value) {
        let pod: PodSpec = serde_json::from_value(pod).unwrap();
        let name = pod.pod.clone();
        self.fleet.add(pod).unwrap();
        for info in self.fleet.view().pod(&name) {
            info.status().set_trust(Trust::Exact);
        }
    }

    /// Adds a pod that serves model `m`.
    pub(crate) fn add_pod(&self, pod: &str) {
        self.add(serde_json::json!({"pod": pod, "model": "m", "events": events_of(pod)}));
    }

    pub(crate) fn status(&self, worker: &str) -> Arc<WorkerStatus> {
        Arc::clone(&self.engines.0.lock().unwrap()[worker].status)
    }

    /// Stores blocks as an event of the worker would.
    pub(crate) fn store(&self, worker: &str, blocks: &Blocks<'_>) {
        let name = |block: u64| EngineHash((blocks.chain << 32) | (block + 1));
        let size = blocks.block_size as usize;
        let count = blocks.prompt.len() / size;
        let hashes: Vec<_> = (blocks.after..count)
            .map(|block| name(block as u64))
            .collect();
        let event = Store {
            adapter: blocks.adapter,
            block_size: blocks.block_size,
            tier: blocks.tier,
            parent: (blocks.after as u64).checked_sub(1).map(name),
            hashes: &hashes,
            tokens: &blocks.prompt[blocks.after * size..count * size],
            extra: blocks.extra,
            says_extra: true,
        };
        let mut workers = self.engines.0.lock().unwrap();
        let writer = &mut workers.get_mut(worker).unwrap().writer;
        let report = writer.store(&self.participant, &event).unwrap();
        assert_eq!(report.stored as usize, hashes.len(), "{report:?}");
    }
}
