//! A process of made-up engines, which come and go as they are told, and publish until they are told to pause.
//!
//! It is told by lines on its standard input, in order:
//!
//! | line | what it does |
//! |---|---|
//! | `start N IP EVENTS REPLAY` | engine N lives there |
//! | `stop N` | it dies without a word |
//! | `restart N` | it begins a new life in the same place |
//! | `pause K` | nobody publishes; one line of JSON for each engine, with prompts that K of them were asked, and an empty one |
//! | a JSON object | one line: the blocks of that prompt that each engine holds |
//! | `go` | they publish again |
use crate::Failure;
use kvroute::fake::cache::CacheOptions;
use kvroute::fake::encode::{Dialect, Encoder};
use kvroute::fake::prompts::{Habits, Scope};
use kvroute::fake::rank::{Rank, RankOptions};
use kvroute::fake::{FakeEngine, Options};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Tokens per block.
pub(crate) const BLOCK_SIZE: u32 = 16;

/// Adapters that engines are asked for.
const ADAPTERS: u64 = 2;

/// How long engines wait for requests of replays at a time: there are hundreds of them.
const GLANCE: Duration = Duration::from_millis(40);

/// A prompt that an engine was asked, as the node is asked for it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Asked {
    pub(crate) tokens: Vec<u32>,
    pub(crate) salt: Option<String>,
    /// The adapter's number, 0 for none.
    pub(crate) adapter: u32,
    /// What events call it.
    pub(crate) lora: Option<String>,
}

/// An engine as it knows itself.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Truth {
    pub(crate) engine: u64,
    /// Batches of this life.
    pub(crate) published: u64,
    /// How many lives there were before, in the same place.
    pub(crate) life: u64,
    /// Different blocks that it holds.
    pub(crate) held: u64,
    pub(crate) asked: Option<Asked>,
}

/// All names of adapters in events.
pub(crate) fn adapters() -> impl Iterator<Item = String> {
    let scope = |adapter| Scope {
        adapter: adapter as u32,
        salt: None,
    };
    let of = move |dialect: Dialect| {
        (1..=ADAPTERS).filter_map(move |adapter| dialect.adapter(&scope(adapter)))
    };
    [Dialect::V0_9, Dialect::V0_32].into_iter().flat_map(of)
}

struct Engine {
    sockets: FakeEngine,
    rank: Rank,
}

#[derive(Default)]
struct State {
    engines: BTreeMap<u64, Engine>,
    paused: bool,
}

type Shared = Arc<Mutex<State>>;

fn lock(shared: &Shared) -> MutexGuard<'_, State> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `engines SEED RATE`: batches in a second, of all engines together.
pub(crate) fn run(words: &[&str]) -> Result<(), Failure> {
    let [seed, rate] = words else {
        return Err("usage: churn engines SEED RATE".into());
    };
    let (seed, rate): (u64, u32) = (seed.parse()?, rate.parse()?);
    let shared = Shared::default();
    let publisher = Arc::clone(&shared);
    thread::spawn(move || {
        if let Err(error) = publish(&publisher, rate) {
            eprintln!("churn: an engine cannot publish: {error}");
            std::process::exit(1);
        }
    });
    println!("ready");
    std::io::stdout().flush()?;
    for line in std::io::stdin().lock().lines() {
        obey(&shared, seed, &line?)?;
    }
    Ok(())
}

/// Each engine in its turn.
fn publish(shared: &Shared, rate: u32) -> Result<(), Failure> {
    let pause = Duration::from_secs(1) / rate.max(1);
    let mut next = Instant::now();
    let mut last = 0;
    loop {
        last = publish_after(&mut lock(shared), last)?;
        // What could not be published in time is not made up for.
        next = (next + pause).max(Instant::now());
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

/// The engine with the next number publishes; its number, or 0 after the last one.
fn publish_after(state: &mut State, last: u64) -> Result<u64, Failure> {
    let mut after = state.engines.range_mut((Excluded(last), Unbounded));
    let Some((&n, engine)) = after.next().filter(|_| !state.paused) else {
        return Ok(0);
    };
    if let Some(batch) = engine.rank.batch() {
        engine.sockets.publish(batch.sequence, &batch.payload)?;
    }
    Ok(n)
}

fn obey(shared: &Shared, seed: u64, line: &str) -> Result<(), Failure> {
    let words: Vec<&str> = line.split(' ').collect();
    match words.as_slice() {
        ["start", n, ip, events, replay] => {
            let n: u64 = n.parse()?;
            let engine = start(n, seed, ip, events, replay)?;
            lock(shared).engines.insert(n, engine);
        }
        ["stop", n] => {
            // Not dropped under the lock: that takes a while.
            let gone = lock(shared).engines.remove(&n.parse()?);
            drop(gone);
        }
        ["restart", n] => {
            let n: u64 = n.parse()?;
            let gone = lock(shared).engines.remove(&n);
            if let Some(Engine { sockets, mut rank }) = gone {
                let sockets = sockets.restart_process()?;
                rank.restart(false);
                lock(shared).engines.insert(n, Engine { sockets, rank });
            }
        }
        ["pause", asked] => {
            let mut state = lock(shared);
            state.paused = true;
            tell(&state.engines, asked.parse()?)?;
        }
        ["go"] => lock(shared).paused = false,
        _ => hold(&lock(shared).engines, &serde_json::from_str(line)?)?,
    }
    Ok(())
}

fn start(n: u64, seed: u64, ip: &str, events: &str, replay: &str) -> Result<Engine, Failure> {
    let dialect = Dialect::ALL[n as usize % Dialect::ALL.len()];
    let sockets = FakeEngine::bind(Options {
        events: format!("tcp://{ip}:{events}"),
        replay: Some(format!("tcp://{ip}:{replay}")),
        framing: dialect.framing(),
        glance: GLANCE,
        ..Options::default()
    })?;
    let rank = Rank::new(RankOptions {
        encoder: Encoder {
            dialect,
            bytes: n.is_multiple_of(3),
            unknown_fields: n.is_multiple_of(5),
            block_size: BLOCK_SIZE,
            rank: 0,
        },
        cache: CacheOptions {
            // Some thirty requests, so that all that live for some seconds evict.
            blocks: 600,
            offloaded: 0,
            placeholders: false,
            block_size: BLOCK_SIZE,
            chunk: 64,
            seed: seed ^ (n << 32),
        },
        habits: Habits {
            block_size: BLOCK_SIZE,
            systems: 12,
            system_blocks: 24,
            turn_blocks: 12,
            blocks_max: 80,
            adapters: ADAPTERS,
            salted_per_mille: 50,
        },
        fleet: 7,
        seed: seed.wrapping_mul(31).wrapping_add(n),
        running_max: 4,
        resets_per_mille: 2,
    });
    Ok(Engine { sockets, rank })
}

/// What every engine holds, as it knows itself; of some, spread over all, what they were asked last.
fn tell(engines: &BTreeMap<u64, Engine>, asked: usize) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let every = (engines.len() / asked.max(1)).max(1);
    for (place, (&n, engine)) in engines.iter().enumerate() {
        let rank = &engine.rank;
        let last = rank
            .asked()
            .last()
            .filter(|_| place % every == 0 && place / every < asked);
        let truth = Truth {
            engine: n,
            published: rank.next(),
            life: rank.life(),
            held: rank.cache().distinct() as u64,
            asked: last.map(|prompt| Asked {
                tokens: prompt.tokens.clone(),
                salt: prompt.scope.salt.as_deref().map(str::to_owned),
                adapter: prompt.scope.adapter,
                lora: rank.dialect().adapter(&prompt.scope),
            }),
        };
        writeln!(out, "{}", json!(truth))?;
    }
    writeln!(out)?;
    Ok(out.flush()?)
}

/// How many leading blocks of a prompt each engine holds; those that hold none are left out.
fn hold(engines: &BTreeMap<u64, Engine>, asked: &Asked) -> Result<(), Failure> {
    let scope = Scope {
        adapter: asked.adapter,
        salt: asked.salt.as_deref().map(Into::into),
    };
    let of = |(&n, engine): (&u64, &Engine)| {
        // Engines of another age call the adapter by another name, so the node is not asked for theirs.
        let same = engine.rank.dialect().adapter(&scope) == asked.lora;
        let blocks = engine.rank.cache().reusable(&asked.tokens, &scope)[0];
        (same && blocks > 0).then_some((n, blocks))
    };
    let held: Vec<(u64, u32)> = engines.iter().filter_map(of).collect();
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", json!(held))?;
    Ok(out.flush()?)
}
