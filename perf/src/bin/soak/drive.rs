//! Starts the processes, kills some of them, and compares.
use crate::engines::BLOCK_SIZE;
use crate::process::Process;
use crate::watch::taken;
use crate::{Failure, Size};
use kvroute::demo::Client;
use kvroute_bench::Random;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// What looks found, in all.
#[derive(Debug, Default)]
struct Found {
    answers: u64,
    /// Answers or counts of workers that say `exact` and are not.
    wrong: u64,
    /// The same of workers that say `partial`, and have more than their engines.
    over: u64,
    /// Workers that did not come to rest in time.
    late: u64,
}

struct Soak {
    size: Size,
    node: Process,
    client: Client,
    engines: Vec<Process>,
    port: usize,
    random: Random,
    kills: u64,
    found: Found,
}

/// Time for the node to hear what is on its way, and to bring up to date what was killed just before.
const CALM_TIME: Duration = Duration::from_secs(40);

/// Between two kills.
const KILL_INTERVAL: Duration = Duration::from_secs(17);

pub(crate) fn run(size: Size) -> Result<(), Failure> {
    let mut soak = Soak::start(size)?;
    let begun = Instant::now();
    let interval = match size.seconds < 60 {
        true => Duration::from_secs(1),
        false => KILL_INTERVAL,
    };
    let mut kill = begun + interval;
    let mut look = begun + Duration::from_secs(size.look);
    while begun.elapsed() < Duration::from_secs(size.seconds) {
        std::thread::sleep(Duration::from_millis(100));
        if Instant::now() >= kill {
            soak.kill_one()?;
            kill = Instant::now() + interval;
        }
        if Instant::now() >= look {
            soak.look(begun)?;
            look = Instant::now() + Duration::from_secs(size.look);
        }
    }
    soak.look(begun)?;
    let Found {
        answers,
        wrong,
        over,
        late,
    } = soak.found;
    let kills = soak.kills;
    println!(
        "{}",
        json!({"answers": answers, "wrong": wrong, "over": over, "late": late, "kills": kills})
    );
    match answers > 0 && wrong + over + late == 0 {
        true => Ok(()),
        false => Err("the node was not right about all workers".into()),
    }
}

impl Soak {
    fn start(size: Size) -> Result<Self, Failure> {
        let mut node = Process::start(&["node".to_owned()])?;
        let address: SocketAddr = node.line()?.parse()?;
        let mut soak = Self {
            size,
            node,
            client: Client::new(address),
            engines: Vec::new(),
            // Below the ports that the system gives out by itself.
            port: 21_000,
            random: Random(u64::from(std::process::id())),
            kills: 0,
            found: Found::default(),
        };
        for process in 0..size.processes {
            let engines = soak.start_engines(process)?;
            soak.engines.push(engines);
        }
        for engine in 0..size.processes * size.engines {
            let port = soak.port + 2 * engine;
            let pod = json!({
                "pod": name(engine), "model": "m", "events": format!("tcp://127.0.0.1:{port}"),
                "replay": format!("tcp://127.0.0.1:{}", port + 1),
            });
            let _: Value = soak.client.post("/v1/workers", &pod)?;
        }
        Ok(soak)
    }

    fn start_engines(&mut self, process: usize) -> Result<Process, Failure> {
        let Size {
            engines,
            blocks,
            rate,
            ..
        } = self.size;
        let first = process * engines;
        let seed = self.random.below(1 << 30);
        let numbers = [
            first,
            engines,
            self.port + 2 * first,
            seed,
            blocks,
            rate as usize,
        ];
        let mut words = vec!["engines".to_owned()];
        words.extend(numbers.iter().map(usize::to_string));
        let mut process = Process::start(&words)?;
        process.line()?;
        Ok(process)
    }

    /// Kills a process as the kernel does when it is out of memory, and starts another in its place.
    fn kill_one(&mut self) -> Result<(), Failure> {
        let process = self.random.below(self.engines.len());
        self.engines[process].kill()?;
        self.kills += 1;
        self.engines[process] = self.start_engines(process)?;
        Ok(())
    }

    /// Pauses all engines and compares each with what the node says.
    fn look(&mut self, begun: Instant) -> Result<(), Failure> {
        for process in &mut self.engines {
            process.say("pause")?;
        }
        let mut truth = Vec::new();
        for process in &mut self.engines {
            loop {
                let line = process.line()?;
                if line.is_empty() {
                    break;
                }
                truth.push(serde_json::from_str::<Value>(&line)?);
            }
        }
        let calm = Instant::now() + CALM_TIME;
        let mut workers = self.workers()?;
        while !truth.iter().all(|engine| is_calm(&workers, engine)) && Instant::now() < calm {
            std::thread::sleep(Duration::from_millis(50));
            workers = self.workers()?;
        }
        for engine in &truth {
            self.compare(&workers, engine)?;
        }
        self.report(begun, &workers)?;
        for process in &mut self.engines {
            process.say("go")?;
        }
        Ok(())
    }

    fn workers(&mut self) -> Result<Vec<Value>, Failure> {
        Ok(self.client.get("/v1/workers")?)
    }

    fn compare(&mut self, workers: &[Value], engine: &Value) -> Result<(), Failure> {
        let Some(worker) = worker(workers, engine) else {
            return Err("a worker is missing".into());
        };
        let late = !is_calm(workers, engine);
        self.found.late += u64::from(late);
        if late {
            eprintln!(
                "soak: not at rest: {worker}, published {}",
                engine["published"]
            );
            return Ok(());
        }
        let exact = worker["state"] == "exact";
        self.judge(
            exact,
            worker["blocks"].as_u64(),
            engine["held"].as_u64(),
            worker,
        );
        let prompts = engine["prompts"].as_array().cloned().unwrap_or_default();
        for prompt in prompts {
            let request = json!({
                "model": "m", "token_ids": prompt["tokens"], "cache_salt": prompt["salt"],
                "candidates": [worker["pod"]],
            });
            let answer: Value = self.client.post("/v1/match", &request)?;
            let tokens = answer["candidates"][0]["tiers"]["gpu"].as_u64();
            let blocks = tokens.map(|tokens| tokens / u64::from(BLOCK_SIZE));
            self.judge(exact, blocks, prompt["blocks"].as_u64(), worker);
        }
        Ok(())
    }

    fn judge(&mut self, exact: bool, said: Option<u64>, truth: Option<u64>, worker: &Value) {
        self.found.answers += 1;
        if exact && said != truth {
            self.found.wrong += 1;
            eprintln!("soak: said {said:?}, but it is {truth:?}: {worker}");
        } else if said > truth {
            self.found.over += 1;
            eprintln!("soak: said {said:?}, but it is only {truth:?}: {worker}");
        }
    }

    fn report(&mut self, begun: Instant, workers: &[Value]) -> Result<(), Failure> {
        let sum = |key: &str| -> u64 { workers.iter().filter_map(|w| w[key].as_u64()).sum() };
        let exact = workers.iter().filter(|w| w["state"] == "exact").count();
        let taken = taken(self.node.id())?;
        let line = json!({
            "seconds": begun.elapsed().as_secs(),
            "resident_mb": (taken.resident_mb * 10.0).round() / 10.0,
            "threads": taken.threads,
            "descriptors": taken.descriptors,
            "cpu_seconds": (taken.cpu_seconds * 10.0).round() / 10.0,
            "blocks": sum("blocks"),
            "exact": exact,
            "workers": workers.len(),
            "replays": sum("replays"),
            "restarts": sum("restarts"),
            "gaps": sum("gaps"),
            "kills": self.kills,
            "answers": self.found.answers,
            "wrong": self.found.wrong + self.found.over,
        });
        println!("{line}");
        Ok(())
    }
}

fn name(engine: usize) -> String {
    format!("soak/{engine}")
}

fn worker<'w>(workers: &'w [Value], engine: &Value) -> Option<&'w Value> {
    let name = name(engine["engine"].as_u64()? as usize);
    workers.iter().find(|worker| worker["pod"] == name.as_str())
}

/// Whether the node has heard all that an engine published, and says so.
fn is_calm(workers: &[Value], engine: &Value) -> bool {
    let Some(worker) = worker(workers, engine) else {
        return false;
    };
    let last = engine["published"].as_u64().and_then(|n| n.checked_sub(1));
    let settled = worker["state"] == "exact" || worker["state"] == "partial";
    settled && worker["last_sequence"].as_u64() == last
}
