//! `kvroute replay`: what was recorded, published again.
use super::{Exit, complain, told_to_stop};
use kvroute::capture::play::{self, Options, Pace, PlayError, Played, Word};
use kvroute::limits::{PLAY_RING_DEFAULT, PLAY_RING_MAX};
use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  kvroute replay bug.jsonl.gz --bind 'tcp://*:5557' --replay-bind 'tcp://*:5558'
  kvroute replay bug.jsonl.gz --bind tcp://127.0.0.1:5557 --as-fast --stay

Waits for a subscriber, such as a node with a pod whose events are there. Numbers that go back are a restart of the engine: the
connections break, and the ring is empty. Events of recorded traffic (JSON lines) can be played, too. A file that was cut off is
played up to there. Ends with the file, or with Ctrl-C.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The capture
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Where to publish
    #[arg(long, value_name = "ENDPOINT", default_value = "tcp://127.0.0.1:5557")]
    bind: String,
    /// Where to answer replays [default: nowhere]
    #[arg(long, value_name = "ENDPOINT")]
    replay_bind: Option<String>,
    /// So many times as fast as it was recorded
    #[arg(
        long,
        value_name = "TIMES",
        default_value_t = 1.0,
        conflicts_with = "as_fast"
    )]
    speed: f64,
    /// Without pauses
    #[arg(long)]
    as_fast: bool,
    /// Begin again at the end, as an engine that restarts
    #[arg(long = "loop")]
    repeat: bool,
    /// Stay after the last batch and answer replays, until Ctrl-C
    #[arg(long)]
    stay: bool,
    /// Batches that the ring keeps
    #[arg(long, value_name = "N", default_value_t = PLAY_RING_DEFAULT as u64,
        value_parser = clap::value_parser!(u64).range(1..=PLAY_RING_MAX))]
    ring: u64,
    /// Whose messages, if there are those of several publishers [default: the first one's]
    #[arg(long, value_name = "NAME")]
    pod: Option<String>,
}

/// Plays until the file or a signal ends it.
pub(crate) fn run(args: Args) -> Exit {
    if !(args.speed > 0.0 && args.speed.is_finite()) {
        complain(&format_args!(
            "--speed: {} is no number above 0",
            args.speed
        ));
        return Exit::Usage;
    }
    let stop = match told_to_stop() {
        Ok(stop) => stop,
        Err(exit) => return exit,
    };
    let options = Options {
        file: args.file,
        bind: args.bind,
        replay_bind: args.replay_bind,
        pace: match args.as_fast {
            true => Pace::Unpaced,
            false => Pace::Times(args.speed),
        },
        repeat: args.repeat,
        stay: args.stay,
        ring: usize::try_from(args.ring).unwrap_or(usize::MAX),
        pod: args.pod,
    };
    let mut out = io::stdout();
    let mut tell = |word: Word<'_>| {
        match word {
            Word::Waiting(played) => {
                let replay = played.replay.as_deref().unwrap_or("nowhere");
                let events = &played.events;
                writeln!(
                    out,
                    "waiting for a subscriber: {events}, replays on {replay}"
                )?;
            }
            Word::Playing(played) => writeln!(out, "{} published", played.published)?,
            Word::Done(played) => writeln!(out, "done: {}", summary(played))?,
        }
        out.flush()
    };
    match play::play(&options, &stop, &mut tell) {
        Ok(played) => {
            if let Some(cut) = &played.cut {
                complain(&format_args!(
                    "{}: {cut}; it was played up to there",
                    options.file.display()
                ));
            }
            Exit::Done
        }
        Err(PlayError::Tell(error)) if error.kind() == ErrorKind::BrokenPipe => Exit::Done,
        Err(error) => {
            complain(&error);
            match error {
                PlayError::File(_) | PlayError::NoPod(..) => Exit::Usage,
                PlayError::Socket(_) | PlayError::Tell(_) => Exit::Unavailable,
            }
        }
    }
}

fn summary(played: &Played) -> String {
    let mut text = format!("{} messages published", played.published);
    for (count, what) in [
        (played.from_ring, "batches in the ring from the start"),
        (played.restarts, "restarts"),
        (
            played.others,
            "messages of other publishers left out (--pod)",
        ),
    ] {
        if count > 0 {
            text += &format!(", {count} {what}");
        }
    }
    text
}
