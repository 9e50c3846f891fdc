//! `kvroute demo`: a whole node with a fleet that replays recorded traffic of real engines.
//!
//! Three pods publish, over real ZeroMQ sockets, what real vLLM servers published. Two of them replay
//! their recordings without end: each recorded request is asked of the node over real HTTP before the
//! engine's own later events are published, and the answer is compared with what the engine really reused
//! ([`crate::trace::judge`]). The third fills its cache and then stays as it is, for lookups by hand.
//!
//! Threads: one per replayed pod; the caller's thread prints. They end when `stop` is set.
mod engine;
mod player;
mod recordings;
mod tally;

pub use crate::client::{Client, ClientError};
pub use player::{Outcome, PlayError, Player};
pub use tally::Tally;

use crate::config::Config;
use crate::limits::{DEMO_END_TIME_MAX, DEMO_PAUSE_MAX};
use crate::node::{Node, StartError};
use crate::trace::judge::Verdict;
use crate::trace::{ReadError, Recording, Step, What};
use recordings::Part;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Where requests to the demo's pods would go, so that they can be chosen: a name that nobody can have (RFC 2606).
const NOWHERE: &str = "demo.invalid:8000";
/// How much faster than recorded time passes.
const SPEED_UP: f64 = 4.0;
/// Tokens of the prompt to look up by hand: one block of the steady pod.
const PROMPT_TOKENS: usize = 32;

/// Why the demo could not run or go on.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The node cannot start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// An embedded recording cannot be read.
    #[error("embedded recording: {0}")]
    Recording(#[from] ReadError),
    /// A recording cannot be played on.
    #[error(transparent)]
    Play(#[from] PlayError),
    /// A thread cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// Nobody reads what is printed.
    #[error("cannot print: {0}")]
    Print(io::Error),
}

/// What a player's thread reports.
enum Report {
    /// A prediction that was wrong, in words.
    Wrong(String),
    /// The player cannot go on.
    Failed(PlayError),
}

/// Runs the demo on `config.listen` until `stop` is set. On a terminal the running line is rewritten,
/// else a new one is printed every other second.
///
/// # Errors
/// A port that is taken, or a node that does not answer as it should.
pub fn run(
    config: &Config,
    stop: &Arc<AtomicBool>,
    out: &mut dyn Write,
    terminal: bool,
) -> Result<(), DemoError> {
    let parts = recordings::parts()?;
    let steady = recordings::steady()?;
    let node = Node::start(&unasked(config))?;
    let address = node.http_addr();
    let mut idle = Player::start_at(&steady.recording, address, steady.prefix, Some(NOWHERE))?;
    for message in &steady.recording.messages {
        idle.publish(message, None)?;
    }
    introduce(out, address, &parts, &steady).map_err(DemoError::Print)?;
    let tally = Arc::new(Mutex::new(Tally::default()));
    // One place for each player's last words, and some for wrong predictions: those wait.
    let (sender, reports) = mpsc::sync_channel(16);
    let mut players = Vec::new();
    for part in parts {
        let thread = PlayerThread {
            part,
            address,
            stop: Arc::clone(stop),
            tally: Arc::clone(&tally),
            reports: sender.clone(),
        };
        let name = format!("play {}", thread.part.prefix);
        let spawned = thread::Builder::new()
            .name(name)
            .spawn(move || thread.run());
        players.push(spawned.map_err(DemoError::Thread)?);
    }
    drop(sender);
    let result = watch(&tally, &reports, stop, out, terminal);
    stop.store(true, Relaxed);
    // A player may be in the middle of a lookup; what does not end in time ends with the process.
    let deadline = Instant::now() + DEMO_END_TIME_MAX;
    while players.iter().any(|player| !player.is_finished()) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
    }
    result
}

/// The same settings, but no engine is asked over HTTP: the demo's only publish.
fn unasked(config: &Config) -> Config {
    let mut config = config.clone();
    config.probe_interval = None;
    config.routing.load_interval = None;
    config
}

fn introduce(
    out: &mut dyn Write,
    address: SocketAddr,
    parts: &[Part],
    steady: &Part,
) -> io::Result<()> {
    let recording = &steady.recording;
    let tokens = recording
        .requests()
        .next()
        .map(|(_, request)| request.tokens.as_slice());
    let prompt = tokens
        .unwrap_or_default()
        .get(..PROMPT_TOKENS)
        .unwrap_or_default();
    let model = recording.base_model();
    writeln!(
        out,
        "kvroute answers on http://{address}; its fleet replays recorded engines:"
    )?;
    for part in parts.iter().chain([steady]) {
        for publisher in part.recording.publishers() {
            writeln!(out, "  {}{publisher}: {}", part.prefix, part.about)?;
        }
    }
    writeln!(
        out,
        "Every recorded request is looked up before its engine's later events are published, and the"
    )?;
    writeln!(
        out,
        "answer is compared with what the engine really took from its cache. \"allowed\" are requests that"
    )?;
    writeln!(
        out,
        "events cannot foretell: the first one after a cache reset. Ctrl-C ends the demo. Try:"
    )?;
    writeln!(out)?;
    writeln!(
        out,
        "  curl -s http://{address}/v1/match -d '{{\"model\":\"{model}\",\"token_ids\":{prompt:?}}}'"
    )?;
    writeln!(out, "  curl -s http://{address}/v1/workers")?;
    writeln!(out)?;
    writeln!(out, "Or look at it in a browser: http://{address}/")?;
    writeln!(out)?;
    out.flush()
}

/// Prints the running line until `stop` is set or a player fails.
fn watch(
    tally: &Mutex<Tally>,
    reports: &Receiver<Report>,
    stop: &AtomicBool,
    out: &mut dyn Write,
    terminal: bool,
) -> Result<(), DemoError> {
    const TICK: Duration = Duration::from_millis(50);
    let every = Duration::from_millis(if terminal { 200 } else { 2_000 });
    // Back to the line's start, empty it; and while it is rewritten, cut it at the edge: a line that
    // wraps could not be rewritten.
    let clear = if terminal { "\r\x1b[K" } else { "" };
    let (cut, end) = if terminal {
        ("\x1b[?7l", "\x1b[?7h")
    } else {
        ("", "\n")
    };
    let mut shown = Instant::now();
    let mut print = |text: &str| {
        out.write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .map_err(DemoError::Print)
    };
    let line = || {
        tally
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .to_string()
    };
    while !stop.load(Relaxed) {
        match reports.recv_timeout(TICK) {
            Ok(Report::Wrong(text)) => print(&format!("{clear}wrong: {text}\n"))?,
            Ok(Report::Failed(error)) => return Err(error.into()),
            Err(RecvTimeoutError::Timeout) => {}
            // Every player ended by itself: only `stop` makes them.
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if shown.elapsed() >= every {
            shown = Instant::now();
            print(&format!("{clear}{cut}{}{end}", line()))?;
        }
    }
    print(&format!("{clear}{}\n", line()))
}

/// One pod's recording, played over and over.
struct PlayerThread {
    part: Part,
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    tally: Arc<Mutex<Tally>>,
    reports: SyncSender<Report>,
}

impl PlayerThread {
    fn run(self) {
        if let Err(error) = self.play()
            && !self.stop.load(Relaxed)
        {
            // Nobody listens any more only when the demo ends.
            let _ = self.reports.send(Report::Failed(error));
        }
    }

    fn play(&self) -> Result<(), PlayError> {
        let recording = &self.part.recording;
        let (address, prefix) = (self.address, self.part.prefix);
        let mut player = Player::start_at(recording, address, prefix, Some(NOWHERE))?;
        for round in 0_u64.. {
            let first_number = round * recording.messages.len() as u64;
            let mut clock = None;
            for step in recording.steps() {
                let at = match step {
                    Step::Published(message) => message.at,
                    Step::Happened(_, entry) => entry.sent,
                };
                if !self.pause(at - clock.unwrap_or(at)) {
                    return Ok(());
                }
                clock = Some(at);
                match step {
                    Step::Published(message) => {
                        let number = message.number().unwrap_or_default();
                        player.publish(message, Some(first_number + number))?;
                    }
                    Step::Happened(at, _) => self.ask(&mut player, at)?,
                }
            }
        }
        Ok(())
    }

    fn ask(&self, player: &mut Player<'_>, at: usize) -> Result<(), PlayError> {
        let recording: &Recording = &self.part.recording;
        let Some(entry) = recording.entries.get(at) else {
            return Ok(());
        };
        let What::Request(request) = &entry.what else {
            return Ok(());
        };
        let outcome = player.ask(at, entry, request)?;
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.add(outcome.verdict, outcome.took);
        drop(tally);
        if matches!(outcome.verdict, Verdict::Under | Verdict::Over) {
            let text = format!(
                "{} {}: predicted {:?} tokens, the engine reused {}",
                recording.name, entry.label, outcome.predictions, request.cached_tokens
            );
            // The tally has it; a full queue only loses the words.
            let _ = self.reports.try_send(Report::Wrong(text));
        }
        Ok(())
    }

    /// Waits out a recorded pause, compressed; `false` if the demo is to end.
    fn pause(&self, seconds: f64) -> bool {
        const SLICE: Duration = Duration::from_millis(20);
        let pause = Duration::try_from_secs_f64(seconds / SPEED_UP).unwrap_or_default();
        let end = Instant::now() + pause.min(DEMO_PAUSE_MAX);
        while !self.stop.load(Relaxed) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            thread::sleep(left.min(SLICE));
        }
        false
    }
}
