//! A fleet whose streams only take note, and a probe that is in a hurry.
use kvroute::fleet::{Fleet, ProbeFailure, Subscribe};
use kvroute::http::GetLimits;
use kvroute::probe::{Probe, ProbeConfig};
use kvroute::stream::saved::SaveTo;
use kvroute::stream::{NewWorker, QueueFull};
use kvroute_engine::types::WorkerId;
use kvroute_engine::{Index, IndexConfig};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// A test that waits longer has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < give_up, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// What the streams were told.
#[derive(Debug, Default)]
struct Notes {
    names: BTreeMap<WorkerId, String>,
    verified: Vec<String>,
    unheard: Vec<String>,
}

#[derive(Clone, Debug, Default)]
struct Streams(Arc<Mutex<Notes>>);

impl Subscribe for Streams {
    fn add(&self, worker: NewWorker) -> Result<(), QueueFull> {
        let name = format!("{} {}", worker.name, worker.events);
        let mut notes = self.0.lock().unwrap();
        notes.names.insert(worker.writer.id(), name);
        Ok(())
    }

    fn remove(&self, worker: WorkerId) {
        self.0.lock().unwrap().names.remove(&worker);
    }

    fn verify(&self, worker: WorkerId) {
        let mut notes = self.0.lock().unwrap();
        let name = notes.names.get(&worker).cloned();
        notes.verified.extend(name);
    }

    fn unheard(&self, worker: WorkerId) {
        let mut notes = self.0.lock().unwrap();
        let name = notes.names.get(&worker).cloned();
        notes.unheard.extend(name);
    }

    fn distrust(&self, _: WorkerId) {}

    fn save(&self, _: WorkerId, to: SaveTo) {
        drop(to);
    }
}

pub(crate) struct Rig {
    pub(crate) fleet: Arc<Fleet>,
    streams: Streams,
    _probe: Probe,
}

/// Bounds that tests can reach. Those of time are generous where nothing is to run out.
pub(crate) fn limits() -> GetLimits {
    GetLimits {
        connect_time: Duration::from_secs(10),
        idle_time: Duration::from_secs(20),
        whole_time: Duration::from_secs(20),
        body_bytes: 64 << 10,
    }
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with(limits())
    }

    pub(crate) fn with(limits: GetLimits) -> Self {
        let streams = Streams::default();
        let index = Index::new(IndexConfig::default());
        let fleet = Arc::new(Fleet::new(index, streams.clone()));
        let config = ProbeConfig {
            interval: Duration::from_millis(10),
            silence_time: Some(Duration::from_millis(20)),
            limits,
            ..ProbeConfig::every(Duration::from_millis(10))
        };
        Self {
            _probe: Probe::start(config, &fleet).unwrap(),
            fleet,
            streams,
        }
    }

    pub(crate) fn add(&self, pod: Value) {
        let pod = serde_json::from_value(pod).unwrap();
        self.fleet.add(pod).unwrap();
    }

    /// `pod#rank`, events and replay of all workers.
    pub(crate) fn workers(&self) -> Vec<String> {
        let view = self.fleet.view();
        let worker = |info: &Arc<kvroute::fleet::WorkerInfo>| {
            let replay = info.replay().unwrap_or("-");
            format!("{} {} {replay}", info.label(), info.events())
        };
        view.workers().map(worker).collect()
    }

    pub(crate) fn problem(&self, pod: &str) -> Option<String> {
        let view = self.fleet.view();
        let problem = view.pod(pod).first()?.problem()?;
        Some(problem.to_string())
    }

    pub(crate) fn verified(&self) -> Vec<String> {
        self.streams.0.lock().unwrap().verified.clone()
    }

    pub(crate) fn unheard(&self) -> Vec<String> {
        self.streams.0.lock().unwrap().unheard.clone()
    }

    pub(crate) fn failures(&self, why: ProbeFailure) -> u64 {
        let mut counts = self.fleet.probes().failures();
        counts.find(|&(of, _)| of == why).unwrap().1
    }

    /// All reasons that occurred.
    pub(crate) fn failed(&self) -> Vec<ProbeFailure> {
        let counts = self.fleet.probes().failures();
        counts
            .filter(|&(_, count)| count != 0)
            .map(|(why, _)| why)
            .collect()
    }
}
