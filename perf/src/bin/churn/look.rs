//! What the node says and takes against what there is.
use crate::Failure;
use crate::engines::{Asked, BLOCK_SIZE, Truth, adapters};
use crate::fleet::{Fleet, Pod};
use crate::plain;
use crate::process::Process;
use crate::watch::taken;
use kvroute::demo::Client;
use kvroute::limits::CANDIDATES_MAX;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Time for the node to hear what is on its way, and to bring up to date what came just before.
const CALM_TIME: Duration = Duration::from_secs(40);

/// Time after which it is told whom is waited for.
const SLOW_TIME: Duration = Duration::from_secs(5);

/// Time for what the node takes to settle: sockets are closed in the background, and engines are probed now and then.
const SETTLE_TIME: Duration = Duration::from_secs(20);

/// Time after which answers may name nobody that the node was told is gone.
const GONE_TIME: Duration = Duration::from_secs(20);

/// Prompts of each process that the node is asked for.
const ASKED: usize = 6;

/// Metrics that every pod has from its first moment on, one series for each rank.
const ALWAYS: &[&str] = &[
    "kvroute_batches_total",
    "kvroute_connections_total",
    "kvroute_disconnections_total",
    "kvroute_distrusts_total",
    "kvroute_gaps_total",
    "kvroute_missed_batches_total",
    "kvroute_replays_total",
    "kvroute_restarts_total",
    "kvroute_worker_blocks",
    "kvroute_worker_connected",
    "kvroute_worker_drops_total",
    "kvroute_worker_state",
];

/// What was wrong, in all.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Found {
    /// Comparisons of answers and counts.
    pub(crate) answers: u64,
    /// Of workers that say `exact` and are not.
    pub(crate) wrong: u64,
    /// Of workers that say something else, and are credited with more than their engines have.
    pub(crate) over: u64,
    /// Workers that were missing, or not at rest in time.
    pub(crate) late: u64,
    /// Workers and credit of pods that are gone.
    pub(crate) ghosts: u64,
    /// Threads, descriptors, series and numbers of the index that should not be there.
    pub(crate) leaks: u64,
}

impl Found {
    pub(crate) fn is_clean(&self) -> bool {
        self.answers > 0 && self.wrong + self.over + self.late + self.ghosts + self.leaks == 0
    }
}

/// What the node takes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Taken {
    pub(crate) threads: u64,
    pub(crate) descriptors: usize,
    /// Series of metrics that are of no pod.
    pub(crate) series: usize,
    /// Series of pods.
    pub(crate) pod_series: usize,
    /// Series of the metrics that every pod has: of the pod with the fewest, and of the one with the most.
    pub(crate) always: (usize, usize),
    /// Pods that are gone, and have series.
    pub(crate) strangers: usize,
    /// Numbers of workers in the index.
    pub(crate) numbers: u64,
    pub(crate) contexts: u64,
}

/// One look.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Look {
    pub(crate) seconds: u64,
    pub(crate) pods: usize,
    /// Pods that there ever were, and turns of their lives.
    pub(crate) turns: u64,
    #[serde(flatten)]
    pub(crate) taken: Taken,
    pub(crate) resident_mb: f64,
    pub(crate) index_mb: f64,
    pub(crate) blocks: u64,
    pub(crate) exact: usize,
    pub(crate) cpu_seconds: f64,
    /// Until every worker was at rest.
    pub(crate) calm_seconds: f64,
    #[serde(flatten)]
    pub(crate) found: Found,
}

/// What looks, and what it found.
pub(crate) struct Observer {
    pub(crate) node: Process,
    pub(crate) address: SocketAddr,
    client: Client,
    pub(crate) found: Found,
    /// What the node takes without pods.
    base: Taken,
    /// Descriptors that each pod adds.
    per_pod: Option<usize>,
    /// Prompts of the last look, with their models.
    asked: Vec<(String, Asked)>,
}

impl Observer {
    pub(crate) fn new(node: Process, address: SocketAddr) -> Self {
        Self {
            node,
            address,
            client: Client::new(address),
            found: Found::default(),
            base: Taken::default(),
            per_pod: None,
            asked: Vec::new(),
        }
    }

    /// Waits until there are so many workers, all of them at rest.
    pub(crate) fn wait_for(&mut self, workers: usize) -> Result<(), Failure> {
        let begun = Instant::now();
        while begun.elapsed() < CALM_TIME {
            let there = self.workers()?;
            if there.len() == workers && there.iter().all(|worker| worker["state"] == "exact") {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Err(format!("there are not {workers} workers in time").into())
    }

    /// Takes note of what the node takes without pods.
    pub(crate) fn begin(&mut self, fleet: &mut Fleet) -> Result<Look, Failure> {
        self.base = self.taken(fleet)?.0;
        self.look(fleet, 0, 0)
    }

    /// Compares all; everybody is paused meanwhile.
    pub(crate) fn look(
        &mut self,
        fleet: &mut Fleet,
        seconds: u64,
        turns: u64,
    ) -> Result<Look, Failure> {
        let begun = Instant::now();
        let truth = pause(fleet)?;
        let pods: BTreeMap<u64, Pod> = fleet.pods.values().map(|p| (p.engine, p.clone())).collect();
        let calm = |workers: &[Value]| {
            let resting = |pod: &&Pod| is_calm(workers, pod, truth.get(&pod.engine));
            workers.len() == pods.len() && pods.values().all(|pod| resting(&pod))
        };
        let mut workers = self.workers()?;
        let mut told = false;
        while !calm(&workers) && begun.elapsed() < CALM_TIME {
            if !told && begun.elapsed() > SLOW_TIME {
                told = true;
                self.tell_slow(fleet, &workers, &truth);
            }
            std::thread::sleep(Duration::from_millis(100));
            workers = self.workers()?;
        }
        let calm_seconds = begun.elapsed().as_secs_f64();
        let late = self.compare_workers(fleet, &workers, &truth);
        self.compare_answers(fleet, &workers, &truth, &late)?;
        let (taken, mb) = self.settled(fleet)?;
        for process in &mut fleet.processes {
            process.say("go")?;
        }
        let kernel = crate::watch::taken(self.node.id())?;
        Ok(Look {
            seconds,
            pods: pods.len(),
            turns,
            taken,
            resident_mb: kernel.resident_mb,
            index_mb: mb,
            blocks: workers.iter().filter_map(|w| w["blocks"].as_u64()).sum(),
            exact: workers.iter().filter(|w| w["state"] == "exact").count(),
            cpu_seconds: kernel.cpu_seconds,
            calm_seconds,
            found: self.found,
        })
    }

    /// Asks for one of the prompts of the last look while pods come and go: nobody is named who is gone.
    pub(crate) fn glance(&mut self, fleet: &mut Fleet) -> Result<(), Failure> {
        if self.asked.is_empty() {
            return Ok(());
        }
        let (model, asked) = self.asked[fleet.random.below(self.asked.len())].clone();
        for pod in self.credit(&model, &asked)?.keys() {
            let serves = fleet.pods.get(pod).is_some_and(|pod| pod.model == model);
            let told = fleet.told.get(pod);
            if !serves && told.is_none_or(|told| told.elapsed() > GONE_TIME) {
                self.found.ghosts += 1;
                eprintln!("churn: {pod} is credited for {model}, and is gone");
            }
        }
        Ok(())
    }

    fn workers(&mut self) -> Result<Vec<Value>, Failure> {
        Ok(self.client.get("/v1/workers")?)
    }

    /// Tells whom is waited for, and how the sources of pods stand.
    fn tell_slow(&mut self, fleet: &Fleet, workers: &[Value], truth: &BTreeMap<u64, Truth>) {
        let pods = fleet.pods.values();
        let slow = pods.filter(|pod| !is_calm(workers, pod, truth.get(&pod.engine)));
        let slow: Vec<_> = slow.collect();
        eprintln!(
            "churn: waiting for {} of {} pods; {} workers are listed",
            slow.len(),
            fleet.pods.len(),
            workers.len()
        );
        for pod in slow.iter().take(3) {
            let worker = find(workers, pod);
            let truth = truth.get(&pod.engine);
            let truth = truth.map(|truth| (truth.published, truth.life));
            eprintln!("churn: {pod:?}, batches and lives {truth:?}: {worker:?}");
        }
        // Not every node can say so.
        if let Ok(sources) = self.client.get::<Value>("/v1/sources") {
            eprintln!("churn: {sources}");
        }
    }

    /// The list against the pods, and blocks against what engines have; the engines that are late.
    fn compare_workers(
        &mut self,
        fleet: &Fleet,
        workers: &[Value],
        truth: &BTreeMap<u64, Truth>,
    ) -> Vec<u64> {
        for worker in workers {
            let pod = worker["pod"].as_str().and_then(|pod| fleet.pods.get(pod));
            if !pod.is_some_and(|pod| is_of(worker, pod)) {
                self.found.ghosts += 1;
                eprintln!("churn: nobody is like {worker}, but {pod:?}");
            }
        }
        let mut late = Vec::new();
        for pod in fleet.pods.values() {
            let truth = truth.get(&pod.engine);
            let worker = find(workers, pod);
            let (Some(worker), Some(truth), true) = (worker, truth, is_calm(workers, pod, truth))
            else {
                self.found.late += 1;
                late.push(pod.engine);
                let published = truth.map(|truth| truth.published);
                eprintln!("churn: not at rest: {pod:?}, published {published:?}: {worker:?}");
                continue;
            };
            let said = worker["blocks"].as_u64().unwrap_or(u64::MAX);
            self.judge(worker, said, truth.held, "blocks");
        }
        late
    }

    /// Credit in answers against what engines would reuse.
    fn compare_answers(
        &mut self,
        fleet: &mut Fleet,
        workers: &[Value],
        truth: &BTreeMap<u64, Truth>,
        late: &[u64],
    ) -> Result<(), Failure> {
        let model_of = |truth: &Truth| {
            let mut pods = fleet.pods.values();
            let pod = pods.find(|pod| pod.engine == truth.engine)?;
            Some((pod.model.clone(), truth.asked.clone()?))
        };
        self.asked = truth.values().filter_map(model_of).collect();
        for (model, asked) in self.asked.clone() {
            let held = hold(fleet, &asked)?;
            let mut credit = self.credit(&model, &asked)?;
            for pod in fleet.pods.values().filter(|pod| pod.model == model) {
                let said = credit.remove(&pod.name).unwrap_or(0);
                if let Some(worker) = find(workers, pod).filter(|_| !late.contains(&pod.engine)) {
                    let blocks = held.get(&pod.engine).copied().unwrap_or(0);
                    self.judge(worker, said, u64::from(blocks), "credit");
                }
            }
            for (pod, blocks) in credit {
                self.found.ghosts += 1;
                eprintln!("churn: {pod} is credited with {blocks} blocks of {model}, and is gone");
            }
        }
        Ok(())
    }

    fn judge(&mut self, worker: &Value, said: u64, truth: u64, what: &str) {
        self.found.answers += 1;
        if worker["state"] == "exact" && said != truth {
            self.found.wrong += 1;
            eprintln!("churn: {what} {said}, but it is {truth}: {worker}");
        } else if said > truth {
            self.found.over += 1;
            eprintln!("churn: {what} {said}, but it is only {truth}: {worker}");
        }
    }

    /// Blocks credited, by pod.
    fn credit(&mut self, model: &str, asked: &Asked) -> Result<BTreeMap<String, u64>, Failure> {
        let request = json!({
            "model": model, "token_ids": asked.tokens, "cache_salt": asked.salt, "lora": asked.lora,
            "limit": CANDIDATES_MAX,
        });
        let answer: Value = match self.client.post("/v1/match", &request) {
            Ok(answer) => answer,
            // Nobody serves the model any more.
            Err(error) if error.to_string().contains(" 404 ") => return Ok(BTreeMap::new()),
            Err(error) => return Err(error.into()),
        };
        let candidates = answer["candidates"].as_array().cloned().unwrap_or_default();
        let of = |candidate: Value| {
            let tokens = candidate["tiers"]["gpu"].as_u64()?;
            let pod = candidate["pod"].as_str()?.to_owned();
            (tokens > 0).then(|| (pod, tokens / u64::from(BLOCK_SIZE)))
        };
        Ok(candidates.into_iter().filter_map(of).collect())
    }

    /// What the node takes, once it is what so many pods may take, or it is late.
    fn settled(&mut self, fleet: &Fleet) -> Result<(Taken, f64), Failure> {
        let begun = Instant::now();
        loop {
            let (taken, mb) = self.taken(fleet)?;
            let wrong = self.leaks(&taken, fleet.pods.len());
            if !wrong.is_empty() && begun.elapsed() < SETTLE_TIME {
                std::thread::sleep(Duration::from_millis(250));
                continue;
            }
            for wrong in wrong {
                self.found.leaks += 1;
                eprintln!("churn: {wrong} with {} pods: {taken:?}", fleet.pods.len());
            }
            return Ok((taken, mb));
        }
    }

    /// What is not as it should be with so many pods.
    fn leaks(&mut self, taken: &Taken, pods: usize) -> Vec<&'static str> {
        let base = &self.base;
        let many = taken.descriptors.saturating_sub(base.descriptors);
        // The first whole numbers hold for the rest of the run.
        let whole = pods > 0 && many.is_multiple_of(pods);
        if self.per_pod.is_none() && whole {
            self.per_pod = Some(many / pods);
        }
        let expected = base.descriptors + self.per_pod.unwrap_or_default() * pods;
        let (fewest, most) = taken.always;
        let checks = [
            (taken.threads == base.threads, "threads"),
            (taken.descriptors == expected, "descriptors"),
            // Models, outcomes and kinds of events have series of their own, once there are any.
            (pods > 0 || taken.series == base.series, "series"),
            (taken.strangers == 0, "series of pods that are gone"),
            (fewest == most, "series of some pods"),
            (pods == 0 || fewest > 0, "series of pods"),
            (taken.numbers == pods as u64, "numbers of workers"),
            (pods > 0 || taken.contexts == 0, "contexts"),
        ];
        let wrong = checks.into_iter().filter(|(right, _)| !right);
        wrong.map(|(_, what)| what).collect()
    }

    /// As of now; and the megabytes of the index.
    fn taken(&mut self, fleet: &Fleet) -> Result<(Taken, f64), Failure> {
        let (of_pods, series) = plain::series(&plain::ask(self.address, "GET", "/metrics")?);
        let gone = of_pods.keys().filter(|pod| !fleet.pods.contains_key(*pod));
        let gone: Vec<_> = gone.collect();
        if !gone.is_empty() {
            eprintln!("churn: there are series of {gone:?}");
        }
        let is_one = |family: &&String| ALWAYS.contains(&family.as_str());
        let always = of_pods
            .values()
            .map(|of_pod| of_pod.iter().filter(is_one).count());
        let always = (
            always.clone().min().unwrap_or_default(),
            always.max().unwrap_or_default(),
        );
        let pod_series = of_pods.values().map(Vec::len).sum();
        let strangers = gone.len();
        let models = fleet.models.iter();
        let names: Vec<_> = models
            .flat_map(|model| {
                let base = (model.clone(), None);
                let others = adapters().map(|adapter| (model.clone(), Some(adapter)));
                std::iter::once(base).chain(others)
            })
            .collect();
        self.node.say(&json!(names).to_string())?;
        let index: Value = serde_json::from_str(&self.node.line()?)?;
        let number = |key: &str| index[key].as_u64().unwrap_or(u64::MAX);
        let kernel = taken(self.node.id())?;
        let taken = Taken {
            threads: kernel.threads,
            descriptors: kernel.descriptors,
            series,
            pod_series,
            always,
            strangers,
            numbers: number("workers"),
            contexts: number("contexts"),
        };
        Ok((taken, number("bytes") as f64 / 1e6))
    }

    /// All pods are gone: waits until nothing of them is left, and what there is then.
    pub(crate) fn end(
        &mut self,
        fleet: &mut Fleet,
        seconds: u64,
        turns: u64,
    ) -> Result<Look, Failure> {
        let look = self.look(fleet, seconds, turns)?;
        if look.blocks > 0 || look.index_mb > 0.0 {
            self.found.leaks += 1;
            eprintln!("churn: the index is not empty: {look:?}");
        }
        Ok(Look {
            found: self.found,
            ..look
        })
    }
}

/// Nobody publishes any more; what each engine holds.
fn pause(fleet: &mut Fleet) -> Result<BTreeMap<u64, Truth>, Failure> {
    for process in &mut fleet.processes {
        process.say(&format!("pause {ASKED}"))?;
    }
    let mut truth = BTreeMap::new();
    for process in &mut fleet.processes {
        loop {
            let line = process.line()?;
            if line.is_empty() {
                break;
            }
            let engine: Truth = serde_json::from_str(&line)?;
            truth.insert(engine.engine, engine);
        }
    }
    Ok(truth)
}

/// How many leading blocks of a prompt each engine holds.
fn hold(fleet: &mut Fleet, asked: &Asked) -> Result<BTreeMap<u64, u32>, Failure> {
    let line = json!(asked).to_string();
    for process in &mut fleet.processes {
        process.say(&line)?;
    }
    let mut held = BTreeMap::new();
    for process in &mut fleet.processes {
        let line: Vec<(u64, u32)> = serde_json::from_str(&process.line()?)?;
        held.extend(line);
    }
    Ok(held)
}

/// Whether this is the worker of this life of the pod.
fn is_of(worker: &Value, pod: &Pod) -> bool {
    worker["uid"] == pod.uid.as_str()
        && worker["model"] == pod.model.as_str()
        && worker["events"] == pod.place.events().as_str()
}

fn find<'w>(workers: &'w [Value], pod: &Pod) -> Option<&'w Value> {
    let mut found = workers.iter();
    found.find(|worker| worker["pod"] == pod.name.as_str() && is_of(worker, pod))
}

/// Whether the node has heard all that the engine of a pod published, and says so.
fn is_calm(workers: &[Value], pod: &Pod, truth: Option<&Truth>) -> bool {
    let (Some(worker), Some(truth)) = (find(workers, pod), truth) else {
        return false;
    };
    let settled = worker["state"] == "exact" || worker["state"] == "partial";
    settled && worker["last_sequence"].as_u64() == truth.published.checked_sub(1)
}
