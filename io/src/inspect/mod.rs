//! `kvroute inspect`: what one engine publishes, looked at while it does.
//!
//! [`tally`] counts what messages come to, [`engine`] guesses who wrote them, [`report`] shows it; this file has the
//! loop around the socket.
pub mod engine;
pub mod event;
pub mod report;
pub mod sequence;
pub mod tally;
pub mod words;

use crate::stream::replay::sequence_frame;
use crate::stream::socket::{Message, SocketError};
use crate::tap::{Asked, Deaf, Tap, Told, Until, now};
use crate::wire::Step;
use report::{Lag, Rates, Report, RingReport};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tally::{Counts, Tally, Whose};

/// Between two reports.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Whom to look at, and for how long.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it publishes.
    pub events: String,
    /// Where its ring can be asked.
    pub replay: Option<String>,
    /// With what topics begin.
    pub topic: String,
    /// When to end; batches are counted.
    pub until: Until,
}

/// Is shown what was seen.
pub trait Show {
    /// One event.
    ///
    /// # Errors
    /// It cannot be shown.
    fn event(&mut self, whose: &Whose, step: &Step<'_>) -> io::Result<()>;

    /// All until now, once a second.
    ///
    /// # Errors
    /// It cannot be shown.
    fn report(&mut self, report: &Report) -> io::Result<()>;
}

/// Why nothing can be looked at.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// A socket fails.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// Nothing was heard.
    #[error(transparent)]
    Deaf(#[from] Deaf),
    /// What was seen cannot be shown.
    #[error("cannot print: {0}")]
    Show(#[from] io::Error),
}

/// Looks until `stop` is set, or as the options say; returns what it came to.
///
/// # Errors
/// A socket fails, nothing was heard in time, or `show` fails.
pub fn run(
    options: &Options,
    stop: &AtomicBool,
    show: &mut dyn Show,
) -> Result<Report, InspectError> {
    let mut watch = Watch::open(options)?;
    let start = Instant::now();
    let mut next = start + REPORT_EVERY;
    // Relaxed: the flag guards nothing else.
    while !stop.load(Relaxed) {
        let time = start.elapsed();
        let counted = watch.tally.counts.batches;
        if options.until.count.is_some_and(|count| counted >= count) {
            break;
        }
        let up = options.until.time.is_some_and(|most| time >= most);
        if !watch.is_heard() && (up || time >= options.until.wait) {
            let waited = options.until.wait.min(time);
            return Err(watch.tap.why_deaf(&options.events, waited).into());
        }
        if up {
            break;
        }
        watch.turn(show)?;
        if Instant::now() >= next {
            next += REPORT_EVERY;
            show.report(&watch.report(options, start))?;
        }
    }
    Ok(watch.last_report(options, start))
}

struct Watch {
    tap: Tap,
    tally: Tally,
    message: Message,
    ring: Option<Ring>,
    before: (Counts, Instant),
}

struct Ring {
    asked: Option<Asked>,
    outcome: &'static str,
    tally: Tally,
    frames: Option<usize>,
}

impl Watch {
    fn open(options: &Options) -> Result<Self, SocketError> {
        let tap = Tap::open(&options.events, &options.topic)?;
        let asked = options.replay.as_ref().map(|replay| tap.ask(replay, 0));
        let ring = asked.transpose()?.map(|asked| Ring {
            asked: Some(asked),
            outcome: "asked",
            tally: Tally::default(),
            frames: None,
        });
        Ok(Self {
            tap,
            tally: Tally::default(),
            message: Message::default(),
            ring,
            before: (Counts::default(), Instant::now()),
        })
    }

    /// Whether anything was said, by publisher or ring.
    fn is_heard(&self) -> bool {
        let ring = self.ring.as_ref();
        self.tally.counts.messages > 0 || ring.is_some_and(|ring| ring.frames.is_some())
    }

    /// Takes what has come.
    fn turn(&mut self, show: &mut dyn Show) -> Result<(), InspectError> {
        let mut busy = false;
        if let Some(ring) = &mut self.ring {
            busy = ring.turn(&mut self.message)?;
        }
        if !self.tap.receive(&mut self.message)? {
            if !busy {
                self.tap.wait()?;
            }
            return Ok(());
        }
        let frames: Vec<&[u8]> = self
            .message
            .frames()
            .iter()
            .map(|frame| frame.bytes())
            .collect();
        let mut failed = None;
        let mut each = |whose: &Whose, step: &Step<'_>| {
            if failed.is_none() {
                failed = show.event(whose, step).err();
            }
        };
        let too_long = self.message.is_too_long();
        self.tally.message(&frames, too_long, now(), &mut each);
        match failed {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    /// All until now; rates and lags are of the time since the one before.
    fn report(&mut self, options: &Options, start: Instant) -> Report {
        let (before, since) = self.before;
        let seconds = since.elapsed().as_secs_f64();
        let rates = Rates::of(&before, &self.tally.counts, seconds);
        self.before = (self.tally.counts, Instant::now());
        let lag_ms = Lag::of(std::mem::take(&mut self.tally.lags));
        let ring = self.ring.as_ref();
        Report {
            seconds: start.elapsed().as_secs_f64(),
            events: options.events.clone(),
            connected: self.tap.is_connected(),
            connections: self.tap.connections(),
            rates,
            lag_ms,
            other_topics: self.tap.other_topics(),
            ring: ring.map(|ring| ring.report(options.replay.clone().unwrap_or_default())),
            ..Report::of(&self.tally)
        }
    }

    /// The same with the rates of all the time.
    fn last_report(&mut self, options: &Options, start: Instant) -> Report {
        self.before = (Counts::default(), start);
        self.report(options, start)
    }
}

impl Ring {
    /// Takes its next word; whether there was one.
    fn turn(&mut self, message: &mut Message) -> Result<bool, SocketError> {
        let Some(asked) = &mut self.asked else {
            return Ok(false);
        };
        let mut busy = true;
        match asked.next(message)? {
            Told::Batch {
                topic,
                sequence,
                payload,
            } => {
                let frames = [topic, &sequence_frame(sequence), payload];
                self.tally.message(&frames, false, now(), &mut |_, _| ());
                self.tally.lags.clear();
            }
            Told::End => self.end("complete"),
            Told::Silent => self.end("silent"),
            Told::Nonsense => {}
            Told::Nothing => busy = false,
        }
        if let Some(frames) = self.asked.as_ref().and_then(Asked::frames) {
            self.frames = Some(frames);
            self.tally.version.ring(frames);
        }
        Ok(busy)
    }

    fn end(&mut self, outcome: &'static str) {
        let frames = self.asked.take().and_then(|asked| asked.frames());
        self.frames = frames.or(self.frames);
        frames
            .into_iter()
            .for_each(|frames| self.tally.version.ring(frames));
        self.outcome = outcome;
    }

    fn report(&self, replay: String) -> RingReport {
        RingReport {
            replay,
            outcome: self.outcome,
            batches: self.tally.counts.batches,
            bytes: self.tally.counts.bytes,
            sequence: self.tally.numbers.clone(),
            frames: self.frames,
            engine: self.tally.version.guess(),
        }
    }
}
