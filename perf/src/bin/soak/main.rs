//! A long run of a node against engines that die: does it stay right, and does it stay small?
//!
//! `cargo run --release -p kvroute-perf --bin soak -- --minutes 20` starts a node in one process and 200 made-up
//! engines in eight others, which publish over real ZeroMQ and are killed without notice, one process at a time;
//! what comes in its place are engines in a new life on the same ports. Every minute the engines pause, the node gets
//! time to hear what is on its way, and every worker is compared with what its engine really holds: the number of
//! blocks, and the answers to the prompts that it was asked. One JSON object a line goes to stdout for each such look.
//! `--tiny` only sees that it works.
mod drive;
mod engines;
mod node;
mod process;
mod watch;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How much of it.
#[derive(Clone, Copy, Debug)]
struct Size {
    seconds: u64,
    /// Between two looks.
    look: u64,
    processes: usize,
    /// Engines of each process.
    engines: usize,
    /// Physical blocks of each engine.
    blocks: usize,
    /// Batches of each process in a second.
    rate: u64,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["node"] => node::run(),
        ["engines", rest @ ..] => engines::run(rest),
        ["--tiny"] => drive::run(Size {
            seconds: 6,
            look: 2,
            processes: 2,
            engines: 3,
            blocks: 300,
            rate: 60,
        }),
        ["--minutes", minutes] => minutes
            .parse()
            .map_err(Into::into)
            .and_then(|minutes: u64| {
                drive::run(Size {
                    seconds: 60 * minutes,
                    look: 60,
                    processes: 8,
                    engines: 25,
                    blocks: 8_000,
                    rate: 125,
                })
            }),
        _ => Err("usage: soak --minutes N | --tiny".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::FAILURE
        }
    }
}
