//! `kvroute top`: a running node, looked at again and again.
use super::ask::Node;
use super::screen::{Key, Screen};
use super::{Exit, complain, seconds, told_to_stop};
use kvroute::client::ClientError;
use kvroute::limits::TOP_INTERVAL_MIN;
use kvroute::printable::Printable;
use kvroute::top::Looker;
use kvroute::top::frame::{Form, frame};
use kvroute::top::view::{Look, Sort, View};
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

const EXAMPLES: &str = "\
Examples:
  kvroute top http://127.0.0.1:8080
  kvroute top https://kvroute.example.org --token-file /run/token --interval 5
  kvroute top http://127.0.0.1:8080 --once --json | jq .workers

Keys: q ends, s sorts by the next column, / filters by pod, model or state (Enter ends the filter, Esc clears it). Rates are of the
time since the frame before; in the first one, latencies and the hit ratio are of all the time. What the node does not say is -.";

/// Longest filter.
const FILTER_MAX: usize = 64;
/// Longest wait for a key before it is looked whether to stop.
const GLANCE: Duration = Duration::from_millis(100);

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    node: Node,
    /// Seconds between two looks [default: 1]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    interval: Option<Duration>,
    /// Print one frame and end
    #[arg(long)]
    once: bool,
    /// Print JSON, one object for each look
    #[arg(long)]
    json: bool,
}

enum Failure {
    Client(ClientError),
    Show(io::Error),
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Show(error)
    }
}

/// Shows until a key or a signal ends it.
pub(crate) fn run(args: &Args) -> Exit {
    let client = match args.node.client() {
        Ok(client) => client,
        Err(error) => {
            complain(&error);
            return Exit::Usage;
        }
    };
    let stop = match told_to_stop() {
        Ok(stop) => stop,
        Err(exit) => return exit,
    };
    let interval = args.interval.unwrap_or(Duration::from_secs(1));
    let interval = interval.max(TOP_INTERVAL_MIN);
    let looker = Looker::new(client);
    let is_screen = io::stdout().is_terminal() && io::stdin().is_terminal();
    let shown = match is_screen && !args.once && !args.json {
        true => on_screen(looker, interval, &stop),
        false => as_lines(looker, interval, args, &stop),
    };
    match shown {
        Ok(()) => Exit::Done,
        // Whoever read it has seen enough.
        Err(Failure::Show(error)) if error.kind() == ErrorKind::BrokenPipe => Exit::Done,
        Err(Failure::Show(error)) => {
            complain(&error);
            Exit::Unavailable
        }
        Err(Failure::Client(error)) => {
            complain(&error);
            Exit::Unavailable
        }
    }
}

/// One frame after the other.
fn as_lines(
    mut looker: Looker,
    interval: Duration,
    args: &Args,
    stop: &AtomicBool,
) -> Result<(), Failure> {
    let mut out = io::stdout();
    let mut before: Option<Look> = None;
    let form = Form {
        width: None,
        height: None,
        sort: Sort::default(),
        filter: String::new(),
    };
    loop {
        let next = Instant::now() + interval;
        let look = looker.look()?;
        let view = View::new(&look, before.as_ref(), form.sort, &form.filter);
        if args.json {
            let json = serde_json::to_string(&view).map_err(io::Error::from)?;
            writeln!(out, "{json}")?;
        } else {
            let blank = if before.is_some() { "\n" } else { "" };
            writeln!(out, "{blank}{}", frame(&view, &form).join("\n"))?;
        }
        out.flush()?;
        before = Some(look);
        // Relaxed: the flag guards nothing else.
        while !stop.load(Relaxed) && !args.once && Instant::now() < next {
            std::thread::sleep(GLANCE.min(next.saturating_duration_since(Instant::now())));
        }
        if args.once || stop.load(Relaxed) {
            return Ok(());
        }
    }
}

/// What a person has chosen.
#[derive(Default)]
struct Choice {
    sort: Sort,
    filter: String,
    /// Whether the filter is being typed.
    types: bool,
}

impl Choice {
    /// Obeys a key; whether it is to end.
    fn obey(&mut self, key: Key) -> bool {
        match (key, self.types) {
            (Key::Interrupt, _) | (Key::Char('q'), false) => return true,
            (Key::Char('s'), false) => self.sort = self.sort.next(),
            (Key::Char('/'), false) => self.types = true,
            (Key::Char(c), true) if self.filter.len() < FILTER_MAX => self.filter.push(c),
            (Key::Back, true) => drop(self.filter.pop()),
            (Key::Enter, _) => self.types = false,
            (Key::Escape, _) => {
                self.types = false;
                self.filter.clear();
            }
            _ => {}
        }
        false
    }
}

/// Frames in place of each other, until a key says so.
fn on_screen(mut looker: Looker, interval: Duration, stop: &AtomicBool) -> Result<(), Failure> {
    // A node that was never there is told on the terminal as it was.
    let mut looks = (None, looker.look()?);
    let mut trouble = None;
    let mut screen = Screen::take()?;
    let mut choice = Choice::default();
    let mut next = Instant::now() + interval;
    loop {
        draw(&mut screen, &looks, trouble.as_deref(), &choice)?;
        let wait = next.saturating_duration_since(Instant::now()).min(GLANCE);
        if let Some(key) = screen.key(wait)?
            && choice.obey(key)
        {
            return Ok(());
        }
        // Relaxed: the flag guards nothing else.
        if stop.load(Relaxed) {
            return Ok(());
        }
        if Instant::now() >= next {
            next = Instant::now() + interval;
            match looker.look() {
                Ok(look) => {
                    looks = (Some(looks.1), look);
                    trouble = None;
                }
                Err(error) => trouble = Some(error.to_string()),
            }
        }
    }
}

fn draw(
    screen: &mut Screen,
    looks: &(Option<Look>, Look),
    trouble: Option<&str>,
    choice: &Choice,
) -> io::Result<()> {
    let (columns, lines) = screen.size();
    let view = View::new(&looks.1, looks.0.as_ref(), choice.sort, &choice.filter);
    let form = Form {
        width: Some(columns),
        height: Some(lines),
        sort: choice.sort,
        filter: choice.filter.clone(),
    };
    let mut frame = frame(&view, &form);
    // The empty line above the table.
    if let Some(line) = frame.get_mut(3) {
        *line = match (trouble, choice.types) {
            (Some(trouble), _) => format!("NO ANSWER: {}", Printable(trouble)),
            (None, true) => format!("/{}_", Printable(&choice.filter)),
            (None, false) => String::new(),
        };
        *line = kvroute::printable::cut(line, columns);
    }
    screen.draw(&frame)
}
