//! Fake engines in real time: one pod of so many ranks that serve made-up traffic, restart now and then, and
//! do wrong what they are told to.
use super::cache::CacheOptions;
use super::chance::{Chance, mix};
use super::encode::{Dialect, Encoder};
use super::faults::Faults;
use super::prompts::{Habits, Prompt};
use super::rank::{Rank, RankOptions};
use super::{FakeEngine, Options};
use std::io;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Longest pause between two looks at whether it is to stop.
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// How often it reports.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// What kind of pod.
#[derive(Clone, Debug)]
pub struct DriveOptions {
    /// Where rank 0 publishes; rank r adds r to the port, unless that is 0.
    pub events: String,
    /// The same of replays.
    pub replay: String,
    /// Data-parallel ranks.
    pub ranks: u32,
    /// Tokens per block.
    pub block_size: u32,
    /// Which engine's events.
    pub dialect: Dialect,
    /// Batches a second, of each rank.
    pub rate: f64,
    /// Physical blocks of each rank.
    pub blocks: usize,
    /// What the traffic is made of.
    pub seed: u64,
    /// What goes wrong.
    pub faults: Faults,
    /// Every rank restarts after so long.
    pub restart_every: Option<Duration>,
}

/// One rank, as far as it has come.
#[derive(Clone, Debug)]
pub struct RankReport {
    /// Where it publishes.
    pub events: String,
    /// Where it answers replays.
    pub replay: Option<String>,
    /// How many lives there were before.
    pub life: u64,
    /// The number of its last batch in this life.
    pub last: Option<u64>,
    /// Batches published in all lives.
    pub published: u64,
    /// Different blocks that it holds.
    pub blocks: usize,
}

struct Driven {
    rank: Rank,
    /// `None` only if it could not be started again.
    engine: Option<FakeEngine>,
    published: u64,
    due: Instant,
    restart_at: Option<Instant>,
}

/// A pod that is being driven. Dropping it is its sudden death.
pub struct Drive {
    options: DriveOptions,
    ranks: Vec<Driven>,
}

impl std::fmt::Debug for Drive {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Drive")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Drive {
    /// Binds the sockets of all ranks.
    ///
    /// # Errors
    /// An endpoint that has no port, or cannot be bound.
    pub fn start(options: DriveOptions) -> io::Result<Self> {
        let mut chance = Chance::new(options.seed);
        let fleet = chance.next();
        let ranks = (0..options.ranks).map(|rank| {
            let engine = FakeEngine::bind(Options {
                events: of_rank(&options.events, rank)?,
                replay: Some(of_rank(&options.replay, rank)?),
                framing: options.dialect.framing(),
                ..Options::default()
            })?;
            engine.set_faults(options.faults);
            let now = Instant::now();
            Ok(Driven {
                rank: Rank::new(rank_options(&options, rank, fleet, chance.next())),
                engine: Some(engine),
                published: 0,
                due: now,
                restart_at: options.restart_every.map(|every| now + every),
            })
        });
        let ranks = ranks.collect::<io::Result<_>>()?;
        Ok(Self { options, ranks })
    }

    /// How far the ranks have come.
    #[must_use]
    pub fn report(&self) -> Vec<RankReport> {
        let report = |driven: &Driven| {
            let engine = driven.engine.as_ref();
            let events = engine.map_or("", FakeEngine::events_endpoint);
            let replay = engine.and_then(FakeEngine::replay_endpoint);
            RankReport {
                events: as_asked(&self.options.events, events),
                replay: replay.map(|bound| as_asked(&self.options.replay, bound)),
                life: driven.rank.life(),
                last: driven.rank.next().checked_sub(1),
                published: driven.published,
                blocks: driven.rank.cache().distinct(),
            }
        };
        self.ranks.iter().map(report).collect()
    }

    /// A prompt that was asked lately, of the base model and without a salt.
    #[must_use]
    pub fn prompt(&self) -> Option<&Prompt> {
        let asked = self.ranks.iter().flat_map(|driven| driven.rank.asked());
        asked
            .rev()
            .find(|prompt| prompt.scope.adapter == 0 && prompt.scope.salt.is_none())
    }

    /// Publishes until `stop` says so, or the time is up; `told` every second how far it has come.
    ///
    /// # Errors
    /// A socket fails, a restarted rank cannot have its ports, or `told` fails.
    pub fn run(
        &mut self,
        duration: Option<Duration>,
        stop: &dyn Fn() -> bool,
        told: &mut dyn FnMut(&Self) -> io::Result<()>,
    ) -> io::Result<()> {
        let start = Instant::now();
        let end = duration.map(|duration| start + duration);
        let mut report_at = start + REPORT_EVERY;
        while !stop() {
            let now = Instant::now();
            if end.is_some_and(|end| end <= now) {
                break;
            }
            self.step(now)?;
            if report_at <= now {
                told(self)?;
                report_at += REPORT_EVERY;
            }
            let due = self.ranks.iter().map(|driven| driven.due).min();
            let next = due.map_or(report_at, |due| due.min(report_at));
            let next = end.map_or(next, |end| next.min(end));
            let pause = next.saturating_duration_since(Instant::now());
            std::thread::sleep(pause.min(PAUSE_MAX));
        }
        Ok(())
    }

    /// Does what is due.
    fn step(&mut self, now: Instant) -> io::Result<()> {
        for driven in &mut self.ranks {
            if driven.restart_at.is_some_and(|at| at <= now) {
                driven.restart(&self.options.faults)?;
                driven.restart_at = self.options.restart_every.map(|every| now + every);
                let idle = Duration::from_secs(self.options.faults.idle.unwrap_or(0));
                driven.due = now + idle;
            }
            if driven.due <= now {
                driven.publish()?;
                let pause = Duration::from_secs_f64(1.0 / self.options.rate);
                // What could not be published in time is not made up for.
                driven.due = (driven.due + pause).max(now);
            }
        }
        Ok(())
    }
}

impl Driven {
    fn publish(&mut self) -> io::Result<()> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let time = since.map_or(0.0, |since| since.as_secs_f64());
        if let Some(batch) = self.rank.batch_at(time)
            && let Some(engine) = &self.engine
        {
            self.published += 1;
            engine.publish(batch.sequence, &batch.payload)?;
        }
        Ok(())
    }

    /// Another process on the same ports.
    fn restart(&mut self, faults: &Faults) -> io::Result<()> {
        let last = self.rank.next();
        if let Some(engine) = self.engine.take() {
            let engine = engine.restart_process()?;
            engine.set_faults(*faults);
            self.engine = Some(engine);
        }
        self.rank.restart(faults.same_hashes);
        for _ in 0..faults.overtake.map_or(0, |more| last.saturating_add(more)) {
            self.publish()?;
        }
        Ok(())
    }
}

fn rank_options(options: &DriveOptions, rank: u32, fleet: u64, seed: u64) -> RankOptions {
    let blocks = options.blocks;
    // Prompts of at most a quarter of the cache, so that several fit.
    let longest = (blocks as u64 / 4).clamp(1, 256);
    RankOptions {
        encoder: Encoder {
            dialect: options.dialect,
            bytes: false,
            unknown_fields: false,
            block_size: options.block_size,
            rank,
        },
        cache: CacheOptions {
            blocks,
            offloaded: 0,
            placeholders: false,
            block_size: options.block_size,
            chunk: 64,
            // Fixed where engines have a fixed one, so that ranks name equal blocks alike.
            seed: match options.dialect {
                Dialect::V0_32 => fleet,
                Dialect::V0_9 | Dialect::V0_12 | Dialect::V0_23 => mix(seed),
            },
        },
        habits: Habits {
            block_size: options.block_size,
            systems: 4,
            system_blocks: (longest / 4).max(1),
            turn_blocks: (longest / 8).max(1),
            blocks_max: longest,
            adapters: 1,
            salted_per_mille: 50,
        },
        fleet,
        seed,
        running_max: 4,
        resets_per_mille: 0,
    }
}

/// The endpoint of a rank: its port is the first one's plus its number, unless the system chooses.
fn of_rank(endpoint: &str, rank: u32) -> io::Result<String> {
    let wrong = || {
        let what = format!("{endpoint:?} is no endpoint with a port for rank {rank}");
        io::Error::new(io::ErrorKind::InvalidInput, what)
    };
    if endpoint.starts_with("ipc://") && rank == 0 {
        return Ok(endpoint.to_owned());
    }
    let (host, port) = endpoint.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse::<u16>().map_err(|_| wrong())?;
    let port = match port {
        0 => 0,
        port => u16::try_from(u32::from(port) + rank).map_err(|_| wrong())?,
    };
    Ok(format!("{host}:{port}"))
}

/// The host that was asked for with the port that is bound: libzmq tells addresses in a form of its own.
fn as_asked(asked: &str, bound: &str) -> String {
    match (asked.rsplit_once(':'), bound.rsplit_once(':')) {
        (Some((host, _)), Some((_, port))) if asked.starts_with("tcp://") => {
            format!("{host}:{port}")
        }
        _ => bound.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rank_adds_its_number_to_the_port() {
        assert_eq!(of_rank("tcp://*:5557", 3).unwrap(), "tcp://*:5560");
        assert_eq!(of_rank("tcp://h:0", 3).unwrap(), "tcp://h:0");
        for (endpoint, rank) in [("tcp://h", 0), ("tcp://h:x", 0), ("tcp://h:65535", 1)] {
            let error = of_rank(endpoint, rank).unwrap_err().to_string();
            assert!(error.contains(endpoint), "{error}");
        }
    }
}
