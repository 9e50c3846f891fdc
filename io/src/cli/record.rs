//! `kvroute record`: what one engine publishes, into a file.
use super::{Exit, complain, seconds, told_to_stop};
use kvroute::capture::file::CaptureErrorKind;
use kvroute::capture::keyed::Keyed;
use kvroute::capture::record::{self, Options, RecordError, Written};
use kvroute::capture::scrub::Scrubber;
use kvroute::limits::{CAPTURE_BYTES_DEFAULT, TAP_WAIT_DEFAULT};
use kvroute::tap::Until;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  kvroute record tcp://10.0.0.7:5557 --replay tcp://10.0.0.7:5558 --output bug.jsonl.gz --for 60
  kvroute record tcp://10.0.0.7:5557 --output bug.jsonl.gz --count 1000 --keep-tokens

Unless --keep-tokens is said, token ids, block hashes, salts, names of adapters, models, pods and images, and all fields
that are not known are replaced by keyed values: equal ones stay equal, so that prefixes are still found again. The key is
made up and thrown away. How often a token comes can still be counted, and with enough traffic of a known kind that may
tell which it is: give such a file to whom you trust. With --keep-tokens it has what users wrote.

The file is JSON lines, gzip-compressed, readable by its owner only; `kvroute replay` publishes it again. It is written as it
comes, so one that was cut off is good up to there. Ends with Ctrl-C. Exit 69 if nothing was heard within --wait.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Where the engine publishes; rank r adds r to the port
    #[arg(value_name = "tcp://HOST:PORT")]
    events: String,
    /// The file to write; it must not be there
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Where its ring of latest batches is asked for what was before
    #[arg(long, value_name = "tcp://HOST:PORT")]
    replay: Option<String>,
    /// Only messages whose topic begins so
    #[arg(long, value_name = "TOPIC", default_value = "")]
    topic: String,
    /// End after so many messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after so many seconds
    #[arg(long = "for", value_name = "SECONDS", value_parser = seconds)]
    time: Option<Duration>,
    /// Give up if nothing is heard in so many seconds [default: 10]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    wait: Option<Duration>,
    /// End when the file has so many bytes
    #[arg(long, value_name = "BYTES", default_value_t = CAPTURE_BYTES_DEFAULT,
        value_parser = clap::value_parser!(u64).range(1..))]
    max_bytes: u64,
    /// Replace what is private; this is the default
    #[arg(long, conflicts_with = "keep_tokens")]
    hash_tokens: bool,
    /// Keep what is private: everything as it was published
    #[arg(long)]
    keep_tokens: bool,
    /// Replace by this key, so that several captures are replaced alike
    #[arg(long, value_name = "FILE", conflicts_with = "keep_tokens")]
    key_file: Option<PathBuf>,
}

/// Records until a signal, a number, a time or a size ends it.
pub(crate) fn run(args: Args) -> Exit {
    let stop = match told_to_stop() {
        Ok(stop) => stop,
        Err(exit) => return exit,
    };
    let scrubber = match scrubber(&args) {
        Ok(scrubber) => scrubber,
        Err(error) => {
            complain(&error);
            return Exit::Usage;
        }
    };
    let output = args.output.clone();
    let options = Options {
        events: args.events,
        replay: args.replay,
        topic: args.topic,
        until: Until {
            count: args.count,
            time: args.time,
            wait: args.wait.unwrap_or(TAP_WAIT_DEFAULT),
        },
        output: args.output,
        bytes_max: args.max_bytes,
        scrubber,
    };
    let mut told = |written: &Written| {
        let (messages, bytes) = (written.messages, written.bytes);
        let _ = writeln!(io::stderr(), "{messages} messages, {bytes} bytes");
    };
    match record::record(options, &stop, &mut told) {
        Ok(written) => {
            let _ = writeln!(io::stdout(), "{}: {}", output.display(), summary(&written));
            Exit::Done
        }
        Err(error) => {
            complain(&error);
            match error {
                RecordError::Socket(error) if error.is_usage() => Exit::Usage,
                RecordError::File(error) if cannot_be_written(&error.kind) => Exit::Usage,
                _ => Exit::Unavailable,
            }
        }
    }
}

/// Whether another file should be named.
fn cannot_be_written(kind: &CaptureErrorKind) -> bool {
    use io::ErrorKind::{AlreadyExists, IsADirectory, NotFound, PermissionDenied};
    let kinds = [AlreadyExists, IsADirectory, NotFound, PermissionDenied];
    matches!(kind, CaptureErrorKind::Io(error) if kinds.contains(&error.kind()))
}

fn scrubber(args: &Args) -> Result<Option<Scrubber>, String> {
    if args.keep_tokens {
        return Ok(None);
    }
    let keyed = match &args.key_file {
        None => Keyed::random().map_err(|error| error.to_string())?,
        Some(path) => Keyed::from_file(path)
            .map_err(|error| format!("--key-file: {}: {error}", path.display()))?,
    };
    Ok(Some(Scrubber::new(keyed)))
}

fn summary(written: &Written) -> String {
    let mut text = format!("{} messages, {} bytes", written.messages, written.bytes);
    for (count, what) in [
        (written.from_ring, "of them from the ring"),
        (written.doubled, "live ones left out that the ring had"),
        (
            written.withheld,
            "could not be taken apart: only their length is kept",
        ),
    ] {
        if count > 0 {
            text += &format!(", {count} {what}");
        }
    }
    if written.ring_is_silent {
        text += "; the ring did not answer to its end";
    }
    if written.is_full {
        text += "; ended by --max-bytes";
    }
    text
}
