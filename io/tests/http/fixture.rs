//! A server over a fleet whose workers the test drives: in place of the IO threads stands a table
//! of writers.
use crate::client::Client;
use kvroute::config::TokenizerConfig;
use kvroute::fleet::{Fleet, PodSpec, Subscribe, Terms};
use kvroute::http::{Server, ServerConfig, ServerError};
use kvroute::load::Clock;
use kvroute::otel::Tracer;
use kvroute::predict::{LearnConfig, Learner};
use kvroute::status::{Trust, WorkerStatus};
use kvroute::stream::saved::SaveTo;
use kvroute::stream::{NewWorker, QueueFull};
use kvroute::tokenize::{Running, Tokenizer};
use kvroute_engine::hash::ExtraDigest;
use kvroute_engine::types::{EngineHash, Tier, WorkerId};
use kvroute_engine::{Index, IndexConfig, Participant, Store};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

/// The workers, by `pod#rank`; and what is to be saved of them, while that is held up.
#[derive(Clone, Default)]
struct Engines(
    Arc<Mutex<BTreeMap<String, NewWorker>>>,
    Arc<Mutex<Option<HeldUp>>>,
);

type HeldUp = Vec<(WorkerId, SaveTo)>;

impl Engines {
    /// Gives a worker's blocks to whoever wants them saved; nothing of one that is not there.
    fn give(&self, id: WorkerId, to: SaveTo) {
        let workers = self.0.lock().unwrap();
        let found = workers.values().find(|worker| worker.writer.id() == id);
        let dump = found.map(|worker| {
            let (mut dump, mut bytes) = (worker.writer.dump(), Vec::new());
            while !dump.write_some(&worker.writer, &mut bytes, 7).unwrap() {}
            bytes
        });
        to.give_blocks(dump);
    }
}

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

    /// A distrusted worker stays so: nobody replays here.
    fn distrust(&self, id: WorkerId) {
        let workers = self.0.lock().unwrap();
        let worker = workers.values().find(|worker| worker.writer.id() == id);
        if let Some(worker) = worker {
            worker.status.add_distrust();
            worker.status.set_trust(Trust::Distrusted);
        }
    }

    fn save(&self, id: WorkerId, to: SaveTo) {
        let mut held_up = self.1.lock().unwrap();
        if let Some(held_up) = &mut *held_up {
            return held_up.push((id, to));
        }
        drop(held_up);
        self.give(id, to);
    }
}

/// The running server.
pub(crate) struct Fixture {
    pub(crate) server: Server,
    /// Ends after the server.
    pub(crate) tokenizer: Option<Running>,
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
        let fixture = Self::serving(&ServerConfig {
            threads,
            ..ServerConfig::default()
        });
        fixture.fleet.start().set_terms(Terms {
            share: ready_share,
            ..Terms::default()
        });
        fixture
    }

    pub(crate) fn serving(config: &ServerConfig) -> Self {
        Self::try_serving(config).unwrap()
    }

    pub(crate) fn try_serving(config: &ServerConfig) -> Result<Self, ServerError> {
        Self::start(Index::new(IndexConfig::default()), config, None)
    }

    /// With a tokenizer.
    pub(crate) fn tokenizing(config: &TokenizerConfig) -> Self {
        let index = Index::new(IndexConfig::default());
        Self::start(index, &ServerConfig::default(), Some(config)).unwrap()
    }

    /// With a tokenizer, and somebody who traces.
    pub(crate) fn tracing(config: &TokenizerConfig, tracer: &Tracer) -> Self {
        let index = Index::new(IndexConfig::default());
        let with = (Some(config), Some(tracer));
        Self::start_with(index, &ServerConfig::default(), with, |fleet| fleet).unwrap()
    }

    pub(crate) fn over(index: Arc<Index>) -> Self {
        Self::start(index, &ServerConfig::default(), None).unwrap()
    }

    /// Over a fleet that learns from decisions.
    pub(crate) fn learning(learn: LearnConfig, event_sync: bool) -> Self {
        let index = Index::new(IndexConfig::default());
        let learner = Learner::start(&index, learn).unwrap();
        let learning = |fleet: Fleet| fleet.learning(learner, event_sync);
        Self::start_with(index, &ServerConfig::default(), (None, None), learning).unwrap()
    }

    fn start(
        index: Arc<Index>,
        config: &ServerConfig,
        tokenizer: Option<&TokenizerConfig>,
    ) -> Result<Self, ServerError> {
        Self::start_with(index, config, (tokenizer, None), |fleet| fleet)
    }

    fn start_with(
        index: Arc<Index>,
        config: &ServerConfig,
        (tokenizer, tracer): (Option<&TokenizerConfig>, Option<&Tracer>),
        complete: impl FnOnce(Fleet) -> Fleet,
    ) -> Result<Self, ServerError> {
        let participant = index.participant();
        let engines = Engines::default();
        let routing = &config.routing;
        let clock = Clock::new(routing.request_time, routing.load_interval);
        let fleet = Fleet::new(index, engines.clone()).timed(clock);
        let fleet = Arc::new(complete(fleet));
        let tokenizer = tokenizer.map(|config| Tokenizer::start(config, &fleet).unwrap());
        let way = tokenizer.as_ref().map(Running::tokenizer);
        Ok(Self {
            server: Server::start_with(config, &fleet, way, tracer)?,
            tokenizer,
            fleet,
            engines,
            participant,
        })
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

    /// The workers that are subscribed to.
    pub(crate) fn followed(&self) -> Vec<String> {
        self.engines.0.lock().unwrap().keys().cloned().collect()
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
        let taken = report.stored + report.copies;
        assert_eq!(taken as usize, hashes.len(), "{report:?}");
    }

    /// Removes blocks of a worker by their names.
    pub(crate) fn remove(&self, worker: &str, tier: Tier, names: &[u64]) {
        let names: Vec<_> = names.iter().copied().map(EngineHash).collect();
        let mut workers = self.engines.0.lock().unwrap();
        let writer = &mut workers.get_mut(worker).unwrap().writer;
        let report = writer.remove(&self.participant, tier, &names);
        assert_eq!(report.unknown, 0, "{report:?}");
    }

    /// Loses a worker's thread: nothing can be saved of it any more.
    pub(crate) fn lose(&self, worker: &str) {
        assert!(self.engines.0.lock().unwrap().remove(worker).is_some());
    }

    /// From now on, what is to be saved waits.
    pub(crate) fn hold_up(&self) {
        *self.engines.1.lock().unwrap() = Some(Vec::new());
    }

    /// Saves what has waited, and goes on.
    pub(crate) fn go_on(&self) {
        let held_up = self.engines.1.lock().unwrap().take();
        for (id, to) in held_up.into_iter().flatten() {
            self.engines.give(id, to);
        }
    }
}
