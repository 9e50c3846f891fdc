//! `kvroute simulate`: what routing would have saved on a trace, under each policy.
use super::{Exit, complain};
use clap::builder::PossibleValuesParser;
use kvroute::limits::{
    APPROXIMATE_BLOCKS_DEFAULT, APPROXIMATE_TIME_DEFAULT, LOAD_INTERVAL_DEFAULT,
    REQUEST_TIME_DEFAULT, REQUEST_TIME_MAX, SIMULATED_BLOCKS_MAX, SIMULATED_PODS_MAX,
    SPECULATIVE_TIME_DEFAULT, TRACE_REQUESTS_MAX, WEIGHT_MAX,
};
use kvroute::simulate::report::{self, Pace};
use kvroute::simulate::{self, Hardware, Options, Outcome, Progress, Strategy, Trace, plot};
use kvroute_engine::choose::{Rules, Weights};
use kvroute_engine::limits::{BLOCK_SIZE_MAX, PREDICTED_BLOCKS_MAX};
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Between two looks at how far it is.
const GLANCE: Duration = Duration::from_millis(100);

/// Letters of the progress bar.
const BAR: u64 = 30;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The trace: one JSON object a line, {"timestamp", "input_length", "output_length", "hash_ids"}
    #[arg(value_name = "TRACE")]
    trace: PathBuf,
    /// Pods of the fleet
    #[arg(long, value_name = "N", default_value_t = 8,
        value_parser = clap::value_parser!(u64).range(1..=SIMULATED_PODS_MAX as u64))]
    pods: u64,
    /// What is drawn at random
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u64,
    /// Policies to compare, repeatable [default: all]
    #[arg(long = "policy", value_name = "NAME",
        value_parser = PossibleValuesParser::new(Strategy::ALL.map(Strategy::as_str)))]
    policies: Vec<String>,
    /// The engines: a100 (Llama 3 8B on one A100 80 GB) or mocker (the curve of Dynamo's)
    #[arg(long, value_name = "NAME", default_value = "a100",
        value_parser = PossibleValuesParser::new(Hardware::ALL.map(Hardware::as_str)))]
    engine: String,
    /// Requests come so many times as fast as in the trace
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    speed: f64,
    /// Spread requests with one timestamp evenly until the next: some traces count time in seconds
    #[arg(long)]
    spread: bool,
    /// Tokens per block
    #[arg(long, value_name = "TOKENS", default_value_t = 16,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(BLOCK_SIZE_MAX)))]
    block_size: u32,
    /// Blocks of each pod's cache [default: what the engine's memory holds]
    #[arg(long, value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(SIMULATED_BLOCKS_MAX)))]
    cache_blocks: Option<u32>,
    /// Milliseconds from an engine's event to the index
    #[arg(long, value_name = "MS", default_value_t = 2,
        value_parser = clap::value_parser!(u64).range(0..=60_000))]
    event_delay: u64,
    /// Milliseconds between two looks at the engines' queues
    #[arg(long, value_name = "MS", default_value_t = LOAD_INTERVAL_DEFAULT.as_millis() as u64,
        value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    load_interval: u64,
    /// Seconds after which a routed request is taken for finished
    #[arg(long, value_name = "SECONDS", default_value_t = REQUEST_TIME_DEFAULT.as_secs(),
        value_parser = clap::value_parser!(u64).range(1..=REQUEST_TIME_MAX.as_secs()))]
    request_time: u64,
    /// Seconds for which a decision counts as cached where there are events; 0 for not at all
    #[arg(long, value_name = "SECONDS", default_value_t = SPECULATIVE_TIME_DEFAULT.as_secs(),
        value_parser = clap::value_parser!(u64).range(0..=86_400))]
    speculative_time: u64,
    /// The same for policy approximate
    #[arg(long, value_name = "SECONDS", default_value_t = APPROXIMATE_TIME_DEFAULT.as_secs(),
        value_parser = clap::value_parser!(u64).range(1..=604_800))]
    approximate_time: u64,
    /// Blocks of decisions that are remembered for one pod [default: as many as it caches, 65536 at most]
    #[arg(long, value_name = "N",
        value_parser = clap::value_parser!(u64).range(1..=PREDICTED_BLOCKS_MAX as u64))]
    approximate_blocks: Option<u64>,
    /// Requests that the busiest pod may have more than the idlest before prefixes matter only among the idlest
    #[arg(long, value_name = "REQUESTS", default_value_t = Rules::default().imbalance)]
    imbalance: u64,
    /// Standard deviations above the mean number of requests up to which a pod is not too busy
    #[arg(long, value_name = "FACTOR", default_value_t = Rules::default().deviations)]
    deviations: f64,
    /// What a token to be computed counts in policy cost
    #[arg(long, value_name = "WEIGHT", default_value_t = f64::from(Weights::default().prefill) / 1e3)]
    cost_prefill: f64,
    /// What a token in use by other requests counts in policy cost
    #[arg(long, value_name = "WEIGHT", default_value_t = f64::from(Weights::default().decode) / 1e3)]
    cost_decode: f64,
    /// Only the first requests of the trace
    #[arg(long, value_name = "N", default_value_t = TRACE_REQUESTS_MAX as u64,
        value_parser = clap::value_parser!(u64).range(1..=TRACE_REQUESTS_MAX as u64))]
    limit: u64,
    /// Draw the outcomes into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    fn options(&self) -> Result<Options, String> {
        let mut known = Hardware::ALL.into_iter();
        let hardware = known.find(|known| known.as_str() == self.engine);
        let hardware = hardware.ok_or_else(|| format!("--engine: {:?} is unknown", self.engine))?;
        let named: Result<Vec<Strategy>, _> = self.policies.iter().map(|n| n.parse()).collect();
        let mut strategies = named.map_err(|error| format!("--policy: {error}"))?;
        if strategies.is_empty() {
            strategies.extend(Strategy::ALL);
        }
        let fits = hardware.cache_tokens() / self.block_size;
        let cache_blocks = self.cache_blocks.unwrap_or(fits.max(1));
        let approximate_blocks = match self.approximate_blocks {
            Some(blocks) => usize::try_from(blocks).unwrap_or(usize::MAX),
            // To expect more than fits is to expect what is not there.
            None => APPROXIMATE_BLOCKS_DEFAULT.min(cache_blocks as usize),
        };
        Ok(Options {
            pods: usize::try_from(self.pods).unwrap_or(usize::MAX),
            seed: self.seed,
            strategies,
            hardware,
            block_size: self.block_size,
            cache_blocks,
            rules: self.rules()?,
            event_delay_us: self.event_delay * 1_000,
            scrape_interval_us: self.load_interval * 1_000,
            request_ms: self.request_time * 1_000,
            speculative_ms: self.speculative_time * 1_000,
            approximate_ms: self.approximate_time * 1_000,
            approximate_blocks,
        })
    }

    fn rules(&self) -> Result<Rules, String> {
        if !(self.deviations >= 0.0 && self.deviations.is_finite()) {
            let given = self.deviations;
            return Err(format!("--deviations: {given} is no number from 0 on"));
        }
        Ok(Rules {
            imbalance: self.imbalance,
            deviations: self.deviations,
            weights: Weights {
                prefill: weight("--cost-prefill", self.cost_prefill)?,
                decode: weight("--cost-decode", self.cost_decode)?,
                ..Weights::default()
            },
        })
    }

    fn read(&self) -> Result<Trace, Exit> {
        if !(self.speed > 0.0 && self.speed.is_finite()) {
            complain(&format_args!(
                "--speed: {} is no number above 0",
                self.speed
            ));
            return Err(Exit::Usage);
        }
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let mut trace = Trace::read(&self.trace, limit).map_err(|error| {
            complain(&error);
            match error.is_missing() {
                true => Exit::Unavailable,
                false => Exit::Usage,
            }
        })?;
        if self.spread {
            trace.spread();
        }
        trace.speed_up(self.speed);
        Ok(trace)
    }
}

/// A weight in thousandths.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be between 0 and WEIGHT_MAX"
)]
fn weight(flag: &str, given: f64) -> Result<u32, String> {
    if (0.0..=WEIGHT_MAX).contains(&given) {
        return Ok((given * 1_000.0).round() as u32);
    }
    Err(format!("{flag}: {given} is not between 0 and {WEIGHT_MAX}"))
}

/// Simulates, prints, draws.
pub(crate) fn run(args: &Args) -> Exit {
    simulated(args).unwrap_or_else(|exit| exit)
}

fn simulated(args: &Args) -> Result<Exit, Exit> {
    let options = args.options().map_err(|error| {
        complain(&error);
        Exit::Usage
    })?;
    let trace = args.read()?;
    let outcomes = watched(&trace, &options)?;
    let pace = Pace {
        speed: args.speed,
        spread: args.spread,
    };
    let caption = report::caption(&trace, pace, &options);
    let text = if args.json {
        let value = report::json(&trace, pace, &options, &outcomes);
        format!("{value:#}\n")
    } else {
        report::table(&caption, &outcomes)
    };
    if let Some(path) = &args.svg {
        let drawn = plot::draw(&caption, &outcomes).map_err(io::Error::other);
        let written = drawn.and_then(|svg| std::fs::write(path, svg));
        written.map_err(|error| {
            complain(&format_args!("{}: {error}", path.display()));
            Exit::Unavailable
        })?;
    }
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => Ok(Exit::Done),
        // Whoever read it has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Exit::Done),
        Err(error) => {
            complain(&error);
            Err(Exit::Unavailable)
        }
    }
}

/// Simulates, and shows how far it is if somebody looks.
fn watched(trace: &Trace, options: &Options) -> Result<Vec<Outcome>, Exit> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let progress = Progress::default();
    let ended = AtomicBool::new(false);
    let all = trace.requests().len() as u64 * options.strategies.len() as u64;
    let outcomes = thread::scope(|scope| {
        if io::stderr().is_terminal() {
            scope.spawn(|| show(&progress, all, &ended));
        }
        let outcomes = simulate::run(trace, options, threads, &progress);
        // Relaxed: the flag guards nothing else.
        ended.store(true, Ordering::Relaxed);
        outcomes
    });
    outcomes.map_err(|error| {
        complain(&error);
        match error.is_usage() {
            true => Exit::Usage,
            false => Exit::Internal,
        }
    })
}

fn show(progress: &Progress, all: u64, ended: &AtomicBool) {
    let start = Instant::now();
    while !ended.load(Ordering::Relaxed) {
        let served = progress.served().min(all);
        let full = served * BAR / all.max(1);
        let bar: String = (0..BAR)
            .map(|at| if at < full { '#' } else { '.' })
            .collect();
        let seconds = start.elapsed().as_secs();
        eprint!("\r[{bar}] {served} of {all} requests, {seconds} s ");
        thread::sleep(GLANCE);
    }
    // The line is cleared: what is printed follows.
    eprint!("\r\x1b[K");
}
