//! The command line: what there is to run, and how it ends.
mod ask;
mod check_config;
mod demo;
mod dump;
mod fake_engine;
mod inspect;
mod record;
mod refused;
mod reload;
mod replay;
mod screen;
mod serve;
mod simulate;
mod top;

use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};
use kvroute::limits::TOOL_TIME_MAX;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

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
    /// Say what the settings come to, where each was said, and what is wrong with them; then end
    CheckConfig(Box<check_config::Args>),
    /// Run a node whose fleet replays recorded engines
    Demo(demo::Args),
    /// Publish made-up events as engines do, to try a node without a GPU
    FakeEngine(fake_engine::Args),
    /// Show what a running node says that its pods hold
    Dump(dump::Args),
    /// Show what one engine publishes, live
    Inspect(inspect::Args),
    /// Write down what one engine publishes, for a bug report
    Record(record::Args),
    /// Publish again what was recorded
    Replay(replay::Args),
    /// Show a running node, its rates and its workers, again and again
    Top(top::Args),
    /// Replay a trace of requests against a simulated fleet, under each policy
    Simulate(simulate::Args),
}

/// By which flag or variable each setting was given.
#[derive(Debug)]
pub(crate) struct Origins(BTreeMap<String, String>);

impl Origins {
    /// Of the subcommand that is run.
    fn new(matches: &ArgMatches) -> Self {
        let mut origins = BTreeMap::new();
        let command = Cli::command();
        if let Some((name, matches)) = matches.subcommand()
            && let Some(command) = command.find_subcommand(name)
        {
            for arg in command.get_arguments() {
                let key = arg.get_id().as_str();
                let origin = match matches.value_source(key) {
                    Some(ValueSource::CommandLine) => {
                        arg.get_long().map(|flag| format!("--{flag}"))
                    }
                    Some(ValueSource::EnvVariable) => arg
                        .get_env()
                        .map(|name| name.to_string_lossy().into_owned()),
                    _ => None,
                };
                origins.extend(origin.map(|origin| (key.to_owned(), origin)));
            }
        }
        Self(origins)
    }

    /// By key.
    pub(crate) fn into_names(self) -> BTreeMap<String, String> {
        self.0
    }
}

/// All variables that some subcommand reads.
pub(crate) fn variables() -> BTreeSet<String> {
    let command = Cli::command();
    let args = command
        .get_subcommands()
        .flat_map(clap::Command::get_arguments);
    let names = args.filter_map(|arg| arg.get_env());
    names
        .map(|name| name.to_string_lossy().into_owned())
        .collect()
}

/// The command line. What variables have is not shown in its help: it may be private.
fn command() -> clap::Command {
    let all = Cli::command();
    all.mut_subcommands(|one| {
        // A negative number is a value that is refused, not a flag that is unknown.
        one.mut_args(|arg| match arg.get_action().takes_values() {
            true => arg.hide_env_values(true).allow_negative_numbers(true),
            false => arg,
        })
    })
}

/// Parses the arguments and runs what they say.
pub(crate) fn run(args: impl IntoIterator<Item = OsString>) -> Exit {
    let args: Vec<_> = args.into_iter().collect();
    let matches = command().try_get_matches_from(&args);
    let cli = matches.and_then(|matches| {
        let origins = Origins::new(&matches);
        Ok((Cli::from_arg_matches(&matches)?, origins))
    });
    match cli {
        Ok((cli, origins)) => match cli.command {
            Command::Serve(args) => serve::run(*args, origins),
            Command::CheckConfig(args) => check_config::run(*args, origins),
            Command::Demo(args) => demo::run(args),
            Command::FakeEngine(args) => fake_engine::run(&args),
            Command::Dump(args) => dump::run(&args),
            Command::Inspect(args) => inspect::run(args),
            Command::Record(args) => record::run(args),
            Command::Replay(args) => replay::run(args),
            Command::Top(args) => top::run(&args),
            Command::Simulate(args) => simulate::run(&args),
        },
        Err(error) => {
            if let Some(refusal) = refused::setting(&error, &args) {
                complain(&refusal);
                return Exit::Usage;
            }
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

/// Reads a time in seconds, of a flag.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok();
    let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let fits = |time: &Duration| *time > Duration::ZERO && *time <= TOOL_TIME_MAX;
    let most = TOOL_TIME_MAX.as_secs();
    time.filter(fits)
        .ok_or_else(|| format!("{text:?} is no time above 0 and up to {most} seconds"))
}

/// Says what went wrong, for the person who started the process.
pub(crate) fn complain(error: &dyn std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "kvroute: {error}");
}
