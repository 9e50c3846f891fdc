//! The engines: 64 real publishers, which both systems follow until they hold everything.
use crate::Failure;
use crate::check;
use crate::client::Client;
use crate::grid::{Encoding, Series};
use crate::requests::render;
use crate::servers::Process;
use crate::workload::{BLOCK, MODEL, Workload};
use kvroute::fake::{FakeEngine, Options};
use serde_json::{Value, json};
use std::thread;
use std::time::{Duration, Instant};

/// Who is not done by then has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Batches between two pauses, and the pause: so fast that the slower one follows.
const BURST: usize = 64;
const PAUSE: Duration = Duration::from_millis(6);

/// Between two looks.
const GLANCE: Duration = Duration::from_millis(20);

/// Publishes the workload and waits until both hold it. The engines must live on: who loses its engine may
/// forget what it held. Their rings keep every batch, so that whoever misses one can ask for it.
pub(crate) fn fill(
    workload: &Workload,
    kvroute: &Process,
    dynamo: Option<&Process>,
) -> Result<Vec<FakeEngine>, Failure> {
    let engines = (0..workload.workers).map(|_| FakeEngine::bind(Options::default()));
    let engines = engines.collect::<Result<Vec<_>, _>>()?;
    let mut ours = kvroute.client()?;
    for (n, engine) in engines.iter().enumerate() {
        let pod = json!({
            "pod": n.to_string(), "model": MODEL, "endpoint": format!("10.0.0.{n}:8000"),
            "events": engine.events_endpoint(), "replay": engine.replay_endpoint(),
        });
        let answer = ours.post("/v1/workers", &pod)?;
        if answer.status != 201 {
            answer.good()?;
        }
    }
    if let Some(dynamo) = dynamo {
        let mut theirs = dynamo.client()?;
        for (n, engine) in engines.iter().enumerate() {
            let worker = json!({
                "instance_id": n, "endpoint": engine.events_endpoint(), "model_name": MODEL,
                "block_size": BLOCK, "replay_endpoint": engine.replay_endpoint(),
            });
            let answer = theirs.post("/register", &worker)?;
            if answer.status != 201 {
                answer.good()?;
            }
        }
    }
    let mut last = vec![None; engines.len()];
    wait_until("follow the engines", || caught_up(&mut ours, &last, 0))?;
    let mut next = vec![0_u64; engines.len()];
    for (n, (worker, batch)) in workload.batches().enumerate() {
        engines[worker].publish(next[worker], &batch)?;
        last[worker] = Some(next[worker]);
        next[worker] += 1;
        if n % BURST == 0 {
            thread::sleep(PAUSE);
        }
    }
    let entries = workload.entries();
    wait_until("hold everything", || caught_up(&mut ours, &last, entries))?;
    all_is_held(workload, Series::Match, &mut ours)?;
    all_is_held(workload, Series::Query, &mut ours)?;
    if let Some(dynamo) = dynamo {
        let mut theirs = dynamo.client()?;
        wait_until("hold the same as the node", || {
            all_is_held(workload, Series::Dynamo, &mut theirs)
        })?;
    }
    Ok(engines)
}

/// Waits until it is well, or long enough to say why not.
fn wait_until(what: &str, mut well: impl FnMut() -> Result<(), Failure>) -> Result<(), Failure> {
    let begun = Instant::now();
    loop {
        match well() {
            Ok(()) => return Ok(()),
            Err(error) if begun.elapsed() > PATIENCE => {
                return Err(format!("it does not {what}: {error}").into());
            }
            Err(_) => thread::sleep(GLANCE),
        }
    }
}

/// Whether the node has applied every engine's last batch, and holds so many entries.
fn caught_up(ours: &mut Client, last: &[Option<u64>], entries: u64) -> Result<(), Failure> {
    let answer = ours.get("/v1/workers")?;
    let workers: Vec<Value> = serde_json::from_slice(answer.good()?)?;
    if workers.len() != last.len() {
        return Err(format!("{} workers", workers.len()).into());
    }
    for worker in &workers {
        let (state, pod) = (&worker["state"], &worker["pod"]);
        let number: usize = pod.as_str().unwrap_or_default().parse()?;
        let sequence = worker["last_sequence"].as_u64();
        if state != "exact" || sequence != last[number] {
            return Err(format!("worker {pod} is {state} at {sequence:?}").into());
        }
    }
    let held = workers
        .iter()
        .filter_map(|worker| worker["blocks"].as_u64());
    match held.sum::<u64>() {
        held if held == entries => Ok(()),
        held => Err(format!("{held} entries, not {entries}").into()),
    }
}

/// Asks for every conversation: together the answers tell of every entry.
fn all_is_held(workload: &Workload, series: Series, client: &mut Client) -> Result<(), Failure> {
    for prompt in workload.whole() {
        let request = render(series, Encoding::Compact, Some(&prompt), 0);
        let answer = client.exchange(&request)?;
        check::answer(series, Encoding::Compact, Some(&prompt), answer.good()?)?;
    }
    Ok(())
}
