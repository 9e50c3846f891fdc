//! The command line: what there is to run, and how it ends.
mod demo;
mod fake_engine;
mod serve;

use clap::{Parser, Subcommand};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// How the process ends, by sysexits.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Done.
    Done = 0,
    /// Bad usage or configuration.
    Usage = 64,
    /// Something it needs is unavailable.
    Unavailable = 69,
    /// Our fault.
    Internal = 70,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Which pod holds how much of this prompt's KV cache: a routing node for LLM serving.
#[derive(Debug, Parser)]
#[command(name = "kvroute", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the node
    Serve(Box<serve::Args>),
    /// Run a node whose fleet replays recorded engines
    Demo(demo::Args),
    /// Publish made-up events as engines do, to try a node without a GPU
    FakeEngine(fake_engine::Args),
}

/// Parses the arguments and runs what they say.
pub(crate) fn run(args: impl IntoIterator<Item = OsString>) -> Exit {
    match Cli::try_parse_from(args) {
        Ok(cli) => match cli.command {
            Command::Serve(args) => serve::run(*args),
            Command::Demo(args) => demo::run(args),
            Command::FakeEngine(args) => fake_engine::run(&args),
        },
        Err(error) => {
            // Help and version go to stdout and are no errors. A closed stdout is nobody's business.
            let _ = error.print();
            if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Done
            }
        }
    }
}

/// Set by Ctrl-C and SIGTERM from now on.
pub(crate) fn told_to_stop() -> Result<Arc<AtomicBool>, Exit> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        if let Err(error) = signal_hook::flag::register(signal, Arc::clone(&stop)) {
            complain(&format_args!("cannot handle signals: {error}"));
            return Err(Exit::Internal);
        }
    }
    Ok(stop)
}

/// Says what went wrong, for the person who started the process.
pub(crate) fn complain(error: &dyn std::fmt::Display) {
    eprintln!("kvroute: {error}");
}
