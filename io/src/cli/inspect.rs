//! `kvroute inspect`: what one engine publishes, live.
use super::{Exit, complain, seconds, told_to_stop};
use kvroute::inspect::report::Report;
use kvroute::inspect::tally::Whose;
use kvroute::inspect::{self, InspectError, Options, Show, event};
use kvroute::limits::TAP_WAIT_DEFAULT;
use kvroute::tap::Until;
use kvroute::wire::Step;
use std::io::{self, ErrorKind, IsTerminal, Stdout, Write};
use std::time::Duration;

/// To the first place of an empty screen.
const CLEAR: &str = "\x1b[H\x1b[2J";

const EXAMPLES: &str = "\
Examples:
  kvroute inspect tcp://10.0.0.7:5557
  kvroute inspect tcp://10.0.0.7:5557 --replay tcp://10.0.0.7:5558 --for 30
  kvroute inspect tcp://10.0.0.7:5557 --json --events --count 100 | jq .

Ends with Ctrl-C. Exit 69 if nothing was heard within --wait.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Where the engine publishes; rank r adds r to the port
    #[arg(value_name = "tcp://HOST:PORT")]
    events: String,
    /// Where its ring of latest batches can be asked, to tell how deep it is: the engine's publisher sends all of it
    #[arg(long, value_name = "tcp://HOST:PORT")]
    replay: Option<String>,
    /// Only messages whose topic begins so
    #[arg(long, value_name = "TOPIC", default_value = "")]
    topic: String,
    /// Print JSON, one object a second and one at the end
    #[arg(long)]
    json: bool,
    /// Print each event, too
    #[arg(long = "events")]
    each: bool,
    /// Print token ids with --events: they are what users wrote
    #[arg(long, requires = "each")]
    tokens: bool,
    /// End after so many batches
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after so many seconds
    #[arg(long = "for", value_name = "SECONDS", value_parser = seconds)]
    time: Option<Duration>,
    /// Give up if nothing is heard in so many seconds [default: 10]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    wait: Option<Duration>,
}

/// Looks until a signal, a number or a time ends it.
pub(crate) fn run(args: Args) -> Exit {
    let stop = match told_to_stop() {
        Ok(stop) => stop,
        Err(exit) => return exit,
    };
    let options = Options {
        events: args.events,
        replay: args.replay,
        topic: args.topic,
        until: Until {
            count: args.count,
            time: args.time,
            wait: args.wait.unwrap_or(TAP_WAIT_DEFAULT),
        },
    };
    let out = io::stdout();
    let mut shown = Shown {
        redraws: out.is_terminal() && !args.json && !args.each,
        out,
        json: args.json,
        each: args.each,
        tokens: args.tokens,
    };
    let ended = inspect::run(&options, &stop, &mut shown);
    match ended.and_then(|report| Ok(shown.summary(&report)?)) {
        Ok(()) => Exit::Done,
        // Whoever read it has seen enough.
        Err(InspectError::Show(error)) if error.kind() == ErrorKind::BrokenPipe => Exit::Done,
        Err(error) => {
            complain(&error);
            match error {
                InspectError::Socket(error) if error.is_usage() => Exit::Usage,
                _ => Exit::Unavailable,
            }
        }
    }
}

/// Where and how it is shown.
struct Shown {
    out: Stdout,
    /// On a terminal the screen is drawn again each second.
    redraws: bool,
    json: bool,
    each: bool,
    tokens: bool,
}

impl Shown {
    fn summary(&mut self, report: &Report) -> io::Result<()> {
        match self.json {
            true => self.object("summary", report)?,
            false => write!(self.out, "{}", report.screen())?,
        }
        self.out.flush()
    }

    fn object(&mut self, kind: &str, report: &Report) -> io::Result<()> {
        let mut object = serde_json::to_value(report)?;
        object["report"] = kind.into();
        writeln!(self.out, "{object}")
    }
}

impl Show for Shown {
    fn event(&mut self, whose: &Whose, step: &Step<'_>) -> io::Result<()> {
        match (self.each, self.json) {
            (false, _) => Ok(()),
            (true, true) => writeln!(self.out, "{}", event::json(whose, step, self.tokens)),
            (true, false) => writeln!(self.out, "{}", event::line(whose, step, self.tokens)),
        }
    }

    fn report(&mut self, report: &Report) -> io::Result<()> {
        if self.json {
            self.object("interval", report)?;
        } else if self.redraws {
            write!(self.out, "{CLEAR}{}", report.screen())?;
        } else {
            writeln!(self.out, "{}", report.line())?;
        }
        self.out.flush()
    }
}
