//! A long run of a node whose fleet comes and goes: does it follow, and does it give back what it took?
//!
//! `cargo run --release -p kvroute-perf --bin churn -- --minutes 10` starts a node in one process and up to 500 made-up
//! engines in eight others, each at an address of its own, which publish over real ZeroMQ. Every second some
//! 5 to 10 % of the pods come to the end of a way of life ([`life`]), and others come. The node is told of them in one of the ways
//! it has ([`ways`]): `--by kubernetes`, `file` or `http`; what tells it breaks now and then. Every half minute all
//! pause, and what the node says is compared with what there is ([`look`]): its list of workers, each worker's
//! blocks, credit in answers; and what it takes with what as many pods may take: threads, descriptors, series of
//! metrics, numbers in the index. At the end all pods go, and nothing may be left. `--json` prints each look as
//! one JSON object a line; `--tiny` only sees that it works.
mod drive;
mod engines;
mod fleet;
mod life;
mod look;
mod node;
mod plain;
#[path = "../soak/process.rs"]
mod process;
mod table;
#[path = "../soak/watch.rs"]
mod watch;
mod ways;

use std::process::ExitCode;
use ways::By;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const USAGE: &str =
    "usage: churn --minutes N | --tiny, and [--pods N] [--by kubernetes|file|http] [--json]";

/// How much of it.
#[derive(Clone, Copy, Debug)]
struct Size {
    seconds: u64,
    /// Between two looks.
    look: u64,
    pods: usize,
    processes: usize,
    /// Batches of each process in a second.
    rate: u64,
    by: By,
    json: bool,
}

impl Size {
    /// Hardly more than a start and an end.
    const TINY: Self = Self {
        seconds: 12,
        look: 6,
        pods: 40,
        processes: 2,
        rate: 80,
        by: By::Http,
        json: false,
    };

    /// 500 pods, for as long as is said.
    const FULL: Self = Self {
        seconds: 600,
        look: 30,
        pods: 500,
        processes: 8,
        rate: 125,
        by: By::Http,
        json: false,
    };

    fn read(words: &[&str]) -> Result<Self, Failure> {
        let tiny = words.contains(&"--tiny");
        let mut size = if tiny { Self::TINY } else { Self::FULL };
        let mut words = words.iter();
        let mut said = tiny;
        while let Some(&word) = words.next() {
            match word {
                "--tiny" => continue,
                "--json" => {
                    size.json = true;
                    continue;
                }
                _ => {}
            }
            let &value = words.next().ok_or(USAGE)?;
            match word {
                "--minutes" => {
                    size.seconds = 60 * value.parse::<u64>()?;
                    said = true;
                }
                "--pods" => size.pods = value.parse()?,
                "--by" => size.by = value.parse()?,
                _ => return Err(USAGE.into()),
            }
        }
        if !said || size.pods == 0 {
            return Err(USAGE.into());
        }
        Ok(size)
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["node", rest @ ..] => node::run(rest),
        ["engines", rest @ ..] => engines::run(rest),
        words => Size::read(words).and_then(drive::run),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("churn: {error}");
            ExitCode::FAILURE
        }
    }
}
