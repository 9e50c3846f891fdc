//! What a snapshot of 2 million entries costs: time, bytes, memory, and lookups meanwhile.
//!
//! `cargo run --release -p kvroute-perf --bin warm` lets a node follow 64 engines over real ZeroMQ until it holds the
//! workload of `kvroute-bench`, writes its snapshot while lookups go on, and starts a second node from it, up to the
//! moment when all workers are `exact` again. `--tiny` only sees that it works.
use kvroute::config::{Config, RoutingConfig};
use kvroute::fake::{FakeEngine, Options};
use kvroute::fleet::PodSpec;
use kvroute::node::Node;
use kvroute::status::Trust;
use kvroute::warm;
use kvroute_bench::frames::{payload, stored};
use kvroute_bench::{BLOCK_SIZE, Conversation, Random, Size, conversations, keys, names, told};
use kvroute_engine::{Matches, TokenKeys};
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};
use std::{fs, thread};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failure = Box<dyn std::error::Error>;

/// A run that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(300);

fn main() -> Result<(), Failure> {
    let tiny = std::env::args().any(|arg| arg == "--tiny");
    let size = if tiny { Size::TINY } else { Size::FULL };
    let all = conversations(size, 42);
    let engines = (0..size.workers).map(|_| {
        FakeEngine::bind(Options {
            ring: 4,
            ..Options::default()
        })
    });
    let engines = engines.collect::<Result<Vec<_>, _>>()?;
    let folder = tempfile::tempdir()?;
    let config = Config {
        snapshot_dir: Some(folder.path().to_owned()),
        snapshot_interval: None,
        io_threads: thread::available_parallelism()?.get(),
        probe_interval: None,
        routing: RoutingConfig {
            load_interval: None,
            ..RoutingConfig::default()
        },
        ..Config::default()
    };
    let node = start(&config, &engines)?;
    await_state(&node, &vec![None; engines.len()])?;
    let last = publish(&engines, &all)?;
    await_state(&node, &last)?;
    let entries = entries(&node);
    save(&node, &all, entries, &config)?;
    drop(node);
    load(&config, &engines, &last, entries)
}

/// Writes the snapshot, three times over, while lookups go on.
fn save(node: &Node, all: &[Conversation], entries: u64, config: &Config) -> Result<(), Failure> {
    let folder = config.snapshot_dir.as_deref().ok_or("no folder")?;
    let stop = AtomicBool::new(false);
    let quiet = lookups(node, all, &AtomicBool::new(true))?;
    for _ in 0..3 {
        let before = peak_mb(true)?;
        let cpu = cpu_ms()?;
        let begun = Instant::now();
        warm::save(node.fleet(), folder)?;
        let (alone, cpu) = (begun.elapsed(), cpu_ms()? - cpu);
        let (written, spent, busy) = thread::scope(|scope| {
            let reader = scope.spawn(|| lookups(node, all, &stop).map_err(|e| e.to_string()));
            thread::sleep(Duration::from_millis(20));
            let begun = Instant::now();
            let written = warm::save(node.fleet(), folder);
            let spent = begun.elapsed();
            stop.store(true, Relaxed);
            (written, spent, reader.join())
        });
        stop.store(false, Relaxed);
        let written = written?;
        let busy = busy.map_err(|_| "a thread has panicked")??;
        println!(
            "{}",
            json!({
                "what": "write", "entries": entries, "bytes": written.bytes,
                "bytes_per_entry": written.bytes as f64 / entries as f64,
                "ms": alone.as_secs_f64() * 1e3, "cpu_ms": cpu,
                "ms_beside_lookups": spent.as_secs_f64() * 1e3, "peak_mb_more": peak_mb(false)? - before,
                "lookup_p99_us": busy.1, "lookup_p99_us_quiet": quiet.1,
                "lookup_worst_us": busy.2, "lookup_worst_us_quiet": quiet.2,
            })
        );
    }
    Ok(())
}

/// Starts a node from the snapshot.
fn load(
    config: &Config,
    engines: &[FakeEngine],
    last: &[Option<u64>],
    entries: u64,
) -> Result<(), Failure> {
    for _ in 0..3 {
        let before = peak_mb(true)?;
        let begun = Instant::now();
        let folder = config.snapshot_dir.as_deref().ok_or("no folder")?;
        drop(warm::from_folder(
            folder,
            config.hash_seed.0,
            &AtomicBool::new(false),
        ));
        let checked = begun.elapsed();
        let (begun, cpu) = (Instant::now(), cpu_ms()?);
        let node = start(config, engines)?;
        while self::entries(&node) < entries && begun.elapsed() < PATIENCE {
            thread::sleep(Duration::from_micros(200));
        }
        let (loaded, cpu) = (begun.elapsed(), cpu_ms()? - cpu);
        await_state(&node, last)?;
        let exact = begun.elapsed();
        if self::entries(&node) != entries {
            return Err("not all entries are there again".into());
        }
        println!(
            "{}",
            json!({
                "what": "load", "entries": entries, "ms": loaded.as_secs_f64() * 1e3, "cpu_ms": cpu,
                "ms_to_check_the_file": checked.as_secs_f64() * 1e3,
                "ms_until_all_are_exact": exact.as_secs_f64() * 1e3,
                "peak_mb": peak_mb(false)? - before, "index_mb": node.fleet().index().bytes() as f64 / 1048576.0,
            })
        );
    }
    Ok(())
}

/// Number, p99 and worst of lookups' times in microseconds; each is checked to have found somebody.
fn lookups(
    node: &Node,
    all: &[Conversation],
    stop: &AtomicBool,
) -> Result<(usize, f64, f64), Failure> {
    let index = node.fleet().index();
    let at = index.participant();
    let mut matches = Matches::new();
    let mut random = Random(5);
    let mut times = Vec::new();
    let enough = if stop.load(Relaxed) {
        50_000
    } else {
        usize::MAX
    };
    while times.len() < enough && (enough < usize::MAX || !stop.load(Relaxed)) {
        let conversation = &all[random.below(all.len())];
        let begun = Instant::now();
        let mut keys = TokenKeys::new(index.hash_seed(), BLOCK_SIZE, &conversation.tokens, &[]);
        for context in at.pin().contexts("m", None) {
            context.lookup(&mut keys, &mut matches);
        }
        times.push(begun.elapsed().as_secs_f64() * 1e6);
        let whole = matches
            .hits()
            .iter()
            .filter(|hit| hit.blocks[0] as usize == conversation.blocks());
        if whole.count() < conversation.workers.len() {
            return Err("a lookup did not find who holds the prompt".into());
        }
    }
    times.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    Ok((times.len(), at(0.99), at(1.0)))
}

fn start(config: &Config, engines: &[FakeEngine]) -> Result<Node, Failure> {
    let node = Node::start(config)?;
    if !node.wait_entered(PATIENCE) {
        return Err("the node does not start".into());
    }
    for (n, engine) in engines.iter().enumerate() {
        let pod: PodSpec = serde_json::from_value(json!({
            "pod": format!("warm/{n:02}"), "uid": n.to_string(), "model": "m",
            "events": engine.events_endpoint(), "replay": engine.replay_endpoint(),
        }))?;
        node.fleet().add(pod)?;
    }
    Ok(node)
}

/// Publishes who holds which conversation; the last number of each engine.
fn publish(engines: &[FakeEngine], all: &[Conversation]) -> Result<Vec<Option<u64>>, Failure> {
    let mut next = vec![0; engines.len()];
    let mut random = Random(9);
    for conversation in all {
        let keys = keys(&conversation.tokens, 1337);
        let turns = told::turns(0..conversation.blocks(), &mut random);
        for &worker in &conversation.workers {
            let names = names(worker, &keys);
            for turn in &turns {
                let size = BLOCK_SIZE as usize;
                let parent = turn.start.checked_sub(1).map(|at| names[at]);
                let tokens = &conversation.tokens[turn.start * size..turn.end * size];
                let batch = payload(vec![stored(parent, &names[turn.clone()], tokens)]);
                engines[worker].publish(next[worker], &batch)?;
                next[worker] += 1;
            }
        }
        // No faster than the node follows, so that no queue overflows.
        thread::sleep(Duration::from_micros(300));
    }
    Ok(next
        .into_iter()
        .map(|next: u64| next.checked_sub(1))
        .collect())
}

fn await_state(node: &Node, last: &[Option<u64>]) -> Result<(), Failure> {
    let begun = Instant::now();
    loop {
        let view = node.fleet().view();
        let mut workers = view.workers().zip(last);
        let there = workers.all(|(info, &last)| {
            info.status().trust() == Trust::Exact && info.status().last_sequence() == last
        });
        if there {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            return Err("the node does not catch up".into());
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn entries(node: &Node) -> u64 {
    let view = node.fleet().view();
    view.workers().map(|info| info.status().blocks()).sum()
}

/// Processor time of all threads of this process.
fn cpu_ms() -> Result<f64, Failure> {
    let mut nanoseconds = 0;
    for task in fs::read_dir("/proc/self/task")? {
        let text = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
        nanoseconds += text
            .split(' ')
            .next()
            .and_then(|n| n.parse::<u64>().ok())
            .unwrap_or(0);
    }
    Ok(nanoseconds as f64 / 1e6)
}

/// The most memory that was resident so far; `forget`: as of now.
fn peak_mb(forget: bool) -> Result<f64, Failure> {
    if forget {
        fs::write("/proc/self/clear_refs", "5")?;
    }
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kb = line.and_then(|rest| rest.split_whitespace().next());
    Ok(kb.ok_or("no VmHWM")?.parse::<f64>()? / 1024.0)
}
