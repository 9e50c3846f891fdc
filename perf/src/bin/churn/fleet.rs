//! The pods as they really are, with the processes that their engines live in.
use crate::process::Process;
use crate::ways::{Step, Way};
use crate::{Failure, Size};
use kvroute_bench::Random;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Instant;

/// Models that pods serve when they come.
const MODELS: usize = 4;

/// Where an engine is. Each life of a pod has an address of its own, of the 16 million that loopback has.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) ip: Ipv4Addr,
    pub(crate) events: u16,
    pub(crate) replay: u16,
}

impl Place {
    /// The usual ports of an address that nobody had in this run, nor probably in another one at the same time.
    fn new(number: u64) -> Self {
        let [c, b, above, ..] = number.to_le_bytes();
        let run = std::process::id() as u8;
        Self {
            ip: Ipv4Addr::new(127, 64 | run.wrapping_add(above) & 63, b, c),
            events: 5_557,
            replay: 5_558,
        }
    }

    pub(crate) fn events(&self) -> String {
        format!("tcp://{}:{}", self.ip, self.events)
    }
}

/// A pod that the node has been told of.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    /// With its namespace.
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) model: String,
    pub(crate) place: Place,
    pub(crate) process: usize,
    /// The number of its engine.
    pub(crate) engine: u64,
    /// Whether it is in the middle of something.
    pub(crate) busy: bool,
}

/// All pods, who tells the node of them, and where their engines are.
pub(crate) struct Fleet {
    pub(crate) pods: BTreeMap<String, Pod>,
    pub(crate) way: Way,
    pub(crate) processes: Vec<Process>,
    /// When the node was last told something about a pod, for each that there ever was.
    pub(crate) told: BTreeMap<String, Instant>,
    /// Names of models that were used.
    pub(crate) models: Vec<String>,
    pub(crate) random: Random,
    rate: u64,
    names: u64,
    engines: u64,
}

impl Fleet {
    pub(crate) fn start(size: &Size, way: Way) -> Result<Self, Failure> {
        let mut fleet = Self {
            pods: BTreeMap::new(),
            way,
            processes: Vec::new(),
            told: BTreeMap::new(),
            models: (0..MODELS).map(|model| format!("m{model}")).collect(),
            random: Random(u64::from(std::process::id())),
            rate: size.rate,
            names: 0,
            engines: 0,
        };
        for _ in 0..size.processes {
            let process = fleet.start_process()?;
            fleet.processes.push(process);
        }
        Ok(fleet)
    }

    fn start_process(&mut self) -> Result<Process, Failure> {
        let seed = self.random.below(1 << 30);
        let words = [
            "engines".to_owned(),
            seed.to_string(),
            self.rate.to_string(),
        ];
        let mut process = Process::start(&words)?;
        process.line()?;
        Ok(process)
    }

    /// A machine is lost, with all engines on it; another takes its place. The pods that were there.
    pub(crate) fn lose_process(&mut self) -> Result<Vec<String>, Failure> {
        let lost = self.random.below(self.processes.len());
        self.processes[lost].kill()?;
        self.processes[lost] = self.start_process()?;
        let pods = self.pods.values().filter(|pod| pod.process == lost);
        Ok(pods.map(|pod| pod.name.clone()).collect())
    }

    /// A pod comes.
    pub(crate) fn spawn(&mut self) -> Result<(), Failure> {
        self.names += 1;
        let model = self.models[self.random.below(MODELS)].clone();
        let mut pod = Pod {
            name: format!("churn/pod-{}", self.names),
            uid: String::new(),
            model,
            place: Place::new(0),
            process: self.names as usize % self.processes.len(),
            engine: 0,
            busy: false,
        };
        self.settle(&mut pod)?;
        self.tell(&mut pod, Step::Born)?;
        self.pods.insert(pod.name.clone(), pod);
        Ok(())
    }

    /// A pod gets an engine in a place of its own.
    pub(crate) fn settle(&mut self, pod: &mut Pod) -> Result<(), Failure> {
        pod.place = Place::new(self.engines + 1);
        self.start_engine(pod)
    }

    /// The same at the address that it has, on ports that it did not have.
    pub(crate) fn settle_beside(&mut self, pod: &mut Pod) -> Result<(), Failure> {
        pod.place.events += 10;
        pod.place.replay += 10;
        self.start_engine(pod)
    }

    fn start_engine(&mut self, pod: &mut Pod) -> Result<(), Failure> {
        self.engines += 1;
        pod.engine = self.engines;
        pod.uid = format!("uid-{}", pod.engine);
        let Place { ip, events, replay } = pod.place;
        let line = format!("start {} {ip} {events} {replay}", pod.engine);
        self.processes[pod.process].say(&line)
    }

    /// Its engine dies without a word.
    pub(crate) fn stop_engine(&mut self, pod: &Pod) -> Result<(), Failure> {
        let line = format!("stop {}", pod.engine);
        self.processes[pod.process].say(&line)
    }

    /// A model that it does not serve: often one that nobody ever served.
    pub(crate) fn other_model(&mut self, model: &str) -> String {
        let known = self.models[self.random.below(MODELS)].clone();
        if known != model && self.random.below(4) > 0 {
            return known;
        }
        let fresh = format!("m{}", self.models.len());
        self.models.push(fresh.clone());
        fresh
    }

    /// The node is told, in whatever way it is.
    pub(crate) fn tell(&mut self, pod: &mut Pod, step: Step) -> Result<(), Failure> {
        self.told.insert(pod.name.clone(), Instant::now());
        self.way.tell(pod, step)
    }
}
