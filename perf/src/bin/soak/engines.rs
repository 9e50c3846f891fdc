//! A process of made-up engines: it publishes until it is told to pause, then says what each engine really holds.
//!
//! It is told by lines on its standard input: `pause` is answered by one line of JSON for each engine and an empty
//! one, `go` lets it publish again.
use crate::Failure;
use kvroute::fake::cache::CacheOptions;
use kvroute::fake::encode::{Dialect, Encoder};
use kvroute::fake::prompts::Habits;
use kvroute::fake::rank::{Rank, RankOptions};
use kvroute::fake::{FakeEngine, Framing, Options};
use serde_json::json;
use std::io::{BufRead, Write};
use std::sync::mpsc::{self, TryRecvError};
use std::time::{Duration, Instant};

/// Tokens per block.
pub(crate) const BLOCK_SIZE: u32 = 16;

/// Prompts of each engine that the node is asked for at a look.
const ASKED: usize = 8;

struct Engine {
    name: usize,
    sockets: FakeEngine,
    rank: Rank,
}

/// `engines FIRST COUNT PORT SEED BLOCKS RATE`: engine n publishes on PORT + 2 n and answers replays on the port after.
pub(crate) fn run(words: &[&str]) -> Result<(), Failure> {
    let numbers: Result<Vec<u64>, _> = words.iter().map(|word| word.parse::<u64>()).collect();
    let [first, count, port, seed, blocks, rate] = numbers?[..] else {
        return Err("usage: soak engines FIRST COUNT PORT SEED BLOCKS RATE".into());
    };
    let mut engines = (0..count)
        .map(|n| start(first + n, port + 2 * n, seed, blocks))
        .collect::<Result<Vec<_>, _>>()?;
    let (told, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if told.send(line).is_err() {
                return;
            }
        }
    });
    println!("ready");
    std::io::stdout().flush()?;
    let pause = Duration::from_secs(1) / u32::try_from(rate.max(1))?;
    let mut next = Instant::now();
    let mut turn = 0;
    loop {
        match lines.try_recv() {
            Ok(line) if line == "pause" => {
                tell(&engines)?;
                // Whatever comes is `go`.
                lines.recv()?;
                next = Instant::now();
            }
            Ok(_) | Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => return Ok(()),
        }
        let at = turn % engines.len();
        publish(&mut engines[at])?;
        turn += 1;
        next += pause;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

fn start(name: u64, port: u64, seed: u64, blocks: u64) -> Result<Engine, Failure> {
    let dialects = Dialect::ALL;
    let dialect = dialects[name as usize % dialects.len()];
    let framing = match dialect >= Dialect::V0_32 {
        true => Framing::Four,
        false => Framing::Three,
    };
    let sockets = FakeEngine::bind(Options {
        events: format!("tcp://127.0.0.1:{port}"),
        replay: Some(format!("tcp://127.0.0.1:{}", port + 1)),
        framing,
        ..Options::default()
    })?;
    let rank = Rank::new(RankOptions {
        encoder: Encoder {
            dialect,
            bytes: name.is_multiple_of(3),
            unknown_fields: name.is_multiple_of(5),
            block_size: BLOCK_SIZE,
            rank: 0,
        },
        cache: CacheOptions {
            blocks: blocks as usize,
            offloaded: 0,
            placeholders: false,
            block_size: BLOCK_SIZE,
            chunk: 64,
            seed: seed ^ (name << 32),
        },
        habits: Habits {
            block_size: BLOCK_SIZE,
            systems: 40,
            system_blocks: 32,
            turn_blocks: 24,
            blocks_max: 200,
            adapters: 0,
            salted_per_mille: 50,
        },
        fleet: 7,
        seed: seed.wrapping_mul(31).wrapping_add(name),
        running_max: 4,
        resets_per_mille: 1,
    });
    let name = name as usize;
    Ok(Engine {
        name,
        sockets,
        rank,
    })
}

fn publish(engine: &mut Engine) -> Result<(), Failure> {
    if let Some(batch) = engine.rank.batch() {
        engine.sockets.publish(batch.sequence, &batch.payload)?;
    }
    Ok(())
}

/// What every engine holds, as it knows itself.
fn tell(engines: &[Engine]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    for engine in engines {
        let cache = engine.rank.cache();
        let asked = engine.rank.asked().iter().rev().take(ASKED);
        let prompts: Vec<_> = asked
            .map(|prompt| {
                let blocks = cache.reusable(&prompt.tokens, &prompt.scope)[0];
                let salt = prompt.scope.salt.as_deref();
                json!({"tokens": prompt.tokens, "salt": salt, "blocks": blocks})
            })
            .collect();
        let line = json!({
            "engine": engine.name,
            "published": engine.rank.next(),
            "held": cache.distinct(),
            "prompts": prompts,
        });
        writeln!(out, "{line}")?;
    }
    writeln!(out)?;
    Ok(out.flush()?)
}
