//! kvroute's index beside the two fastest others: kv-index's `ChainIndex` ("chain") and Dynamo's
//! `ConcurrentRadixTreeCompressed` ("crtc").
//!
//! Without an argument it starts itself once per trial and once per contender for memory, and prints
//! the table. See the README for what each row times.
mod chain;
mod contender;
mod crtc;
mod lane;
mod memory;
mod ours;
mod report;
mod rows;
mod trial;
mod workload;

use kvroute_bench::Size;
use serde_json::{Value, json};
use std::process::{Command, ExitCode};
use trial::{Effort, NAMES};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "\
usage: kvroute-peers [--trials N] [--json] [WORKLOAD]        the table over N trials (5)
       kvroute-peers trial [WORKLOAD]                       one trial, as JSON
       kvroute-peers memory kvroute|chain|crtc [WORKLOAD]   one memory figure, as JSON
WORKLOAD: [--tiny] [--pool WORKERS]   a pool of workers for each system prompt (all)";
/// The exit code for wrong arguments.
const BAD_USAGE: u8 = 64;

/// What to do.
#[derive(Debug, Default)]
struct Arguments {
    words: Vec<String>,
    trials: usize,
    json: bool,
    tiny: bool,
    pool: Option<usize>,
}

impl Arguments {
    fn read(mut from: impl Iterator<Item = String>) -> Option<Self> {
        let mut arguments = Self {
            trials: 5,
            ..Self::default()
        };
        while let Some(argument) = from.next() {
            match argument.as_str() {
                "--tiny" => arguments.tiny = true,
                "--json" => arguments.json = true,
                "--trials" => arguments.trials = positive(from.next())?,
                "--pool" => arguments.pool = Some(positive(from.next())?),
                flag if flag.starts_with('-') => return None,
                _ => arguments.words.push(argument),
            }
        }
        Some(arguments)
    }

    fn size(&self) -> Size {
        if self.tiny { Size::TINY } else { Size::FULL }
    }

    /// The same workload, for a child.
    fn workload(&self) -> Vec<String> {
        let tiny = self.tiny.then(|| "--tiny".to_owned());
        let pool = self
            .pool
            .map(|pool| ["--pool".to_owned(), pool.to_string()]);
        tiny.into_iter().chain(pool.into_iter().flatten()).collect()
    }
}

fn positive(text: Option<String>) -> Option<usize> {
    text?.parse().ok().filter(|&number| number > 0)
}

fn main() -> ExitCode {
    let Some(arguments) = Arguments::read(std::env::args().skip(1)) else {
        return usage();
    };
    let words: Vec<_> = arguments.words.iter().map(String::as_str).collect();
    match words[..] {
        [] => compare(&arguments),
        ["trial"] => {
            let tiny = arguments.tiny;
            let effort = if tiny { Effort::TINY } else { Effort::FULL };
            println!("{}", trial::run(&effort, arguments.pool));
            ExitCode::SUCCESS
        }
        ["memory", name] => match memory::run(name, arguments.size(), arguments.pool) {
            Some(answer) => {
                println!("{answer}");
                ExitCode::SUCCESS
            }
            None => usage(),
        },
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(BAD_USAGE)
}

fn compare(arguments: &Arguments) -> ExitCode {
    let mut trials = Vec::new();
    for number in 1..=arguments.trials {
        eprintln!("trial {number} of {}", arguments.trials);
        match one(&arguments.workload()) {
            Ok(trial) => trials.push(trial),
            Err(why) => {
                eprintln!("{why}");
                return ExitCode::FAILURE;
            }
        }
    }
    if arguments.json {
        println!("{}", report::json(&trials));
    } else {
        print!("{}", report::table(&trials));
    }
    ExitCode::SUCCESS
}

/// One trial with its memory figures, each from a fresh process.
fn one(workload: &[String]) -> Result<Value, String> {
    let mut trial = child(&["trial"], workload)?;
    for name in NAMES {
        let memory = child(&["memory", name], workload)?;
        trial["rows"]["memory"][name] = json!(memory["bytes_per_entry"]);
    }
    Ok(trial)
}

/// Runs this program with other arguments and reads its answer.
fn child(words: &[&str], workload: &[String]) -> Result<Value, String> {
    let what = words.join(" ");
    let program = std::env::current_exe().map_err(|e| format!("{what}: {e}"))?;
    let mut command = Command::new(program);
    command.args(words).args(workload);
    command.stderr(std::process::Stdio::inherit());
    let output = command.output().map_err(|e| format!("{what}: {e}"))?;
    if !output.status.success() {
        return Err(format!("{what}: {}", output.status));
    }
    serde_json::from_slice(&output.stdout).map_err(|e| format!("{what}: {e}"))
}
