//! `kvroute fake-engine`: a pod without a GPU, to try a node with.
use super::{Exit, complain, told_to_stop};
use kvroute::fake::drive::{Drive, DriveOptions, RankReport};
use kvroute::fake::encode::Dialect;
use kvroute::fake::faults::Faults;
use kvroute::limits::{FAKE_BLOCKS_MAX, FAKE_RANKS_MAX};
use kvroute_engine::limits::BLOCK_SIZE_MAX;
use serde_json::json;
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Blocks of the prompt that is printed to be looked up by hand.
const PROMPT_BLOCKS: usize = 2;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to publish events; rank r adds r to the port
    #[arg(long, value_name = "ENDPOINT", default_value = "tcp://127.0.0.1:5557")]
    events: String,
    /// Where to answer replays; rank r adds r to the port
    #[arg(long, value_name = "ENDPOINT", default_value = "tcp://127.0.0.1:5558")]
    replay: String,
    /// Data-parallel ranks
    #[arg(long, value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(FAKE_RANKS_MAX)))]
    ranks: u32,
    /// Tokens per block
    #[arg(long, value_name = "TOKENS", default_value_t = 16,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(BLOCK_SIZE_MAX)))]
    block_size: u32,
    /// Which vLLM's events: 0.9, 0.12, 0.23 or 0.32
    #[arg(long, value_name = "VERSION", default_value = "0.32")]
    dialect: Dialect,
    /// Batches a second, of each rank
    #[arg(long, value_name = "BATCHES", default_value_t = 10.0)]
    rate: f64,
    /// Physical blocks of each rank
    #[arg(long, value_name = "N", default_value_t = 4_096,
        value_parser = clap::value_parser!(u64).range(1..=FAKE_BLOCKS_MAX))]
    blocks: u64,
    /// What the traffic is made of
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u64,
    #[arg(long = "fault", value_name = "NAME[=N]",
        help = format!("What goes wrong; repeatable: {}", Faults::HELP))]
    faults: Vec<String>,
    /// Restart every rank after so many seconds, again and again
    #[arg(long, value_name = "SECONDS",
        value_parser = clap::value_parser!(u64).range(1..))]
    restart_every: Option<u64>,
    /// End after so many seconds
    #[arg(long, value_name = "SECONDS")]
    duration: Option<u64>,
    /// Print JSON, one object a second
    #[arg(long)]
    json: bool,
}

impl Args {
    fn options(&self) -> Result<DriveOptions, String> {
        if !(self.rate > 0.0 && self.rate.is_finite()) {
            return Err(format!("--rate: {} is no number above 0", self.rate));
        }
        let mut faults = Faults::default();
        for fault in &self.faults {
            let added = faults.add(fault);
            added.map_err(|error| format!("--fault: {error}"))?;
        }
        let (events, replay) = (port(&self.events), port(&self.replay));
        if let (Some(events), Some(replay)) = (events, replay)
            && events != 0
            && events.abs_diff(replay) < self.ranks
        {
            let (ranks, apart) = (self.ranks, events.abs_diff(replay));
            return Err(format!(
                "--replay: {ranks} ranks need ports further apart than {apart}: rank r adds r to both"
            ));
        }
        Ok(DriveOptions {
            events: self.events.clone(),
            replay: self.replay.clone(),
            ranks: self.ranks,
            block_size: self.block_size,
            dialect: self.dialect,
            rate: self.rate,
            blocks: usize::try_from(self.blocks).unwrap_or(usize::MAX),
            seed: self.seed,
            faults,
            restart_every: self.restart_every.map(Duration::from_secs),
        })
    }
}

fn port(endpoint: &str) -> Option<u32> {
    endpoint.rsplit_once(':')?.1.parse().ok()
}

/// Runs the pod until a signal or its time ends it.
pub(crate) fn run(args: &Args) -> Exit {
    let options = match args.options() {
        Ok(options) => options,
        Err(error) => {
            complain(&error);
            return Exit::Usage;
        }
    };
    let stop = match told_to_stop() {
        Ok(stop) => stop,
        Err(exit) => return exit,
    };
    let drive = match Drive::start(options) {
        Ok(drive) => drive,
        Err(error) => {
            complain(&error);
            return match error.kind() {
                ErrorKind::InvalidInput => Exit::Usage,
                _ => Exit::Unavailable,
            };
        }
    };
    match publish(drive, args, &stop) {
        Ok(()) => Exit::Done,
        // Whoever read it has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Exit::Done,
        Err(error) => {
            complain(&error);
            Exit::Unavailable
        }
    }
}

fn publish(mut drive: Drive, args: &Args, stop: &AtomicBool) -> io::Result<()> {
    let mut out = io::stdout();
    introduce(&mut out, &drive, args)?;
    let start = Instant::now();
    let mut shown = args.json;
    let mut told = |drive: &Drive| {
        let seconds = start.elapsed().as_secs();
        let report = drive.report();
        if args.json {
            writeln!(out, "{}", as_json(seconds, &report))?;
        } else {
            writeln!(out, "{}", as_text(seconds, &report))?;
        }
        if !shown {
            shown = show_prompt(&mut out, drive, args)?;
        }
        out.flush()
    };
    let duration = args.duration.map(Duration::from_secs);
    // Relaxed: the flag guards nothing else.
    drive.run(duration, &|| stop.load(Ordering::Relaxed), &mut told)
}

fn introduce(out: &mut dyn Write, drive: &Drive, args: &Args) -> io::Result<()> {
    let report = drive.report();
    if args.json {
        writeln!(out, "{}", as_json(0, &report))?;
        return out.flush();
    }
    writeln!(
        out,
        "events of vLLM {}, {} tokens a block, {} blocks a rank, {} batches a second:",
        args.dialect.as_str(),
        args.block_size,
        args.blocks,
        args.rate
    )?;
    for (rank, of) in report.iter().enumerate() {
        let replay = of.replay.as_deref().unwrap_or("nowhere");
        writeln!(out, "  rank {rank}: {}, replays on {replay}", of.events)?;
    }
    if let Some(first) = report.first() {
        let pod = json!({
            "pod": "fake/engine", "model": "fake", "events": first.events, "replay": first.replay,
            "ranks": args.ranks,
        });
        writeln!(out, "  curl localhost:8080/v1/workers -d '{pod}'")?;
    }
    out.flush()
}

/// Prints a lookup to paste; whether there was one.
fn show_prompt(out: &mut dyn Write, drive: &Drive, args: &Args) -> io::Result<bool> {
    let Some(prompt) = drive.prompt() else {
        return Ok(false);
    };
    let most = PROMPT_BLOCKS.saturating_mul(args.block_size as usize);
    let tokens = &prompt.tokens[..prompt.tokens.len().min(most)];
    let query = json!({"model": "fake", "token_ids": tokens});
    writeln!(out, "  curl localhost:8080/v1/match -d '{query}'")?;
    Ok(true)
}

fn as_text(seconds: u64, report: &[RankReport]) -> String {
    let ranks = report.iter().enumerate().map(|(rank, of)| {
        let last = of
            .last
            .map_or("nothing".to_owned(), |last| last.to_string());
        let (life, blocks, published) = (of.life, of.blocks, of.published);
        format!("rank {rank}: life {life}, last {last}, {blocks} blocks, {published} batches")
    });
    format!("{seconds:>5} s  {}", ranks.collect::<Vec<_>>().join(" | "))
}

fn as_json(seconds: u64, report: &[RankReport]) -> serde_json::Value {
    let ranks = report.iter().enumerate().map(|(rank, of)| {
        json!({
            "rank": rank, "events": of.events, "replay": of.replay, "life": of.life,
            "last_sequence": of.last, "blocks": of.blocks, "batches": of.published,
        })
    });
    json!({"seconds": seconds, "ranks": ranks.collect::<Vec<_>>()})
}
