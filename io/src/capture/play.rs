//! Publishes a capture again, over real sockets and with the engine's protocol of replays.
use super::file::{CaptureError, Reader, Record};
use crate::fake::{FakeEngine, Framing, Options as EngineOptions};
use crate::inspect::sequence::Numbers;
use crate::limits::{
    PLAY_BURST, PLAY_BURST_PAUSE, PLAY_LINGER, PLAY_PAUSE_MAX, TAP_GLANCE, TOOL_TIME_MAX,
};
use crate::stream::replay::read_live;
use crate::wire::parts::{self, EventHead, Shape, Visitor};
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

/// How fast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// So many times as fast as it was recorded.
    Times(f64),
    /// Without pauses, but for those that keep libzmq's queues from running over.
    Unpaced,
}

/// What to play, and where.
#[derive(Clone, Debug)]
pub struct Options {
    /// The capture.
    pub file: PathBuf,
    /// Where to publish.
    pub bind: String,
    /// Where to answer replays.
    pub replay_bind: Option<String>,
    /// How fast.
    pub pace: Pace,
    /// Begin again at the end, as an engine that restarts.
    pub repeat: bool,
    /// Stay after the last batch, and answer replays until told to stop.
    pub stay: bool,
    /// Batches that the ring keeps.
    pub ring: usize,
    /// Whose messages, if there are those of several publishers; else the first one's.
    pub pod: Option<String>,
}

/// How far it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Played {
    /// Where it publishes.
    pub events: String,
    /// Where it answers replays.
    pub replay: Option<String>,
    /// Messages published.
    pub published: u64,
    /// Batches that were put into the ring only, as they came from one.
    pub from_ring: u64,
    /// Restarts, of the engine in the capture and of the capture itself.
    pub restarts: u64,
    /// Messages of other publishers, which were left out.
    pub others: u64,
    /// Why the capture was not played to its end, if it is cut off or damaged.
    pub cut: Option<String>,
}

/// What is told while it plays.
#[derive(Clone, Copy, Debug)]
pub enum Word<'p> {
    /// It waits for somebody to subscribe.
    Waiting(&'p Played),
    /// A second has passed.
    Playing(&'p Played),
    /// All is published.
    Done(&'p Played),
}

/// Why a capture cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum PlayError {
    /// The file.
    #[error(transparent)]
    File(#[from] CaptureError),
    /// The sockets.
    #[error("{0}")]
    Socket(io::Error),
    /// It has nothing of that publisher.
    #[error("{path}: no message of {pod:?}", path = .0.display(), pod = .1)]
    NoPod(PathBuf, String),
    /// What it is told cannot be printed.
    #[error("cannot print: {0}")]
    Tell(io::Error),
}

type Tell<'t> = &'t mut dyn FnMut(Word<'_>) -> io::Result<()>;

/// Plays until the end of the file, or until `stop` is set.
///
/// # Errors
/// The file cannot be used, an endpoint not be had, or `tell` fails.
pub fn play(options: &Options, stop: &AtomicBool, tell: Tell<'_>) -> Result<Played, PlayError> {
    let mut reader = Reader::open(&options.file)?;
    let pod = options.pod.clone();
    let pod = pod.or_else(|| reader.first().map(|first| first.pod.clone()));
    let engine = FakeEngine::bind(EngineOptions {
        events: options.bind.clone(),
        replay: options.replay_bind.clone(),
        ring: options.ring,
        framing: framing(&reader),
        topic: topic(&reader),
        ..EngineOptions::default()
    });
    let engine = engine.map_err(PlayError::Socket)?;
    let played = Played {
        events: engine.events_endpoint().to_owned(),
        replay: engine.replay_endpoint().map(str::to_owned),
        ..Played::default()
    };
    let mut player = Player {
        engine: Some(engine),
        played,
        numbers: Numbers::default(),
        pace: options.pace,
        started: None,
        tell,
        tell_at: Instant::now() + Duration::from_secs(1),
        stop,
    };
    loop {
        player.file(&mut reader, pod.as_deref().unwrap_or_default())?;
        let published = player.played.published + player.played.from_ring;
        if let (0, Some(pod), false) = (published, &pod, player.stopped()) {
            return Err(PlayError::NoPod(options.file.clone(), pod.clone()));
        }
        if !options.repeat || player.stopped() {
            break;
        }
        reader = Reader::open(&options.file)?;
        player.restart()?;
        player.numbers = Numbers::default();
    }
    player.end(options.stay)
}

struct Player<'p> {
    /// `None` only if it could not be started again.
    engine: Option<FakeEngine>,
    played: Played,
    numbers: Numbers,
    pace: Pace,
    /// When the first live message was published, and when it was recorded.
    started: Option<(Instant, f64)>,
    tell: Tell<'p>,
    tell_at: Instant,
    stop: &'p AtomicBool,
}

impl Player<'_> {
    fn stopped(&self) -> bool {
        // Relaxed: the flag guards nothing else.
        self.stop.load(Relaxed)
    }

    /// Plays a file from its beginning.
    fn file(&mut self, reader: &mut Reader, pod: &str) -> Result<(), PlayError> {
        self.started = None;
        let mut is_awaited = false;
        while let Some(record) = reader.next()? {
            if record.pod != pod {
                self.played.others += 1;
                continue;
            }
            // What the ring had comes first, and is there before anybody asks.
            if record.from_ring && !is_awaited && self.keep(&record)? {
                continue;
            }
            if !is_awaited {
                is_awaited = true;
                self.wait_for_subscriber()?;
            }
            if self.stopped() {
                return Ok(());
            }
            self.publish(&record)?;
        }
        self.played.cut = reader.cut().map(str::to_owned);
        // There was nothing but a ring: who subscribes is to have it.
        if !is_awaited && self.played.from_ring > 0 {
            self.wait_for_subscriber()?;
        }
        Ok(())
    }

    /// Puts a batch into the ring only; false if there is none that anybody could ask.
    fn keep(&mut self, record: &Record) -> Result<bool, PlayError> {
        let engine = self.engine()?;
        let frames: Vec<&[u8]> = record.frames.iter().map(Vec::as_slice).collect();
        let (Some(_), Ok(batch)) = (engine.replay_endpoint(), read_live(&frames)) else {
            return Ok(false);
        };
        engine.lose(batch.sequence, batch.payload);
        self.numbers.take(batch.sequence);
        self.played.from_ring += 1;
        Ok(true)
    }

    fn publish(&mut self, record: &Record) -> Result<(), PlayError> {
        let frames: Vec<&[u8]> = record.frames.iter().map(Vec::as_slice).collect();
        if let Ok(batch) = read_live(&frames) {
            let before = self.numbers.restarts;
            self.numbers.take(batch.sequence);
            if self.numbers.restarts > before {
                self.restart()?;
                self.wait_for_subscriber()?;
            }
        }
        self.pause(record)?;
        if self.stopped() {
            return Ok(());
        }
        let engine = self.engine()?;
        let sent = match *frames.as_slice() {
            [topic, number, payload] => engine.publish_recorded(topic, number, payload),
            _ => engine.publish_frames(&frames),
        };
        sent.map_err(PlayError::Socket)?;
        self.played.published += 1;
        self.tell_in_time()
    }

    /// Waits until it is a message's turn.
    fn pause(&mut self, record: &Record) -> Result<(), PlayError> {
        let now = Instant::now();
        let Pace::Times(times) = self.pace else {
            if self.played.published % PLAY_BURST == PLAY_BURST - 1 {
                thread::sleep(PLAY_BURST_PAUSE);
            }
            return Ok(());
        };
        // Batches of a ring tell when they were asked for, not when they were published.
        if record.from_ring {
            return Ok(());
        }
        let &mut (start, first) = self.started.get_or_insert((now, record.at));
        let after = ((record.at - first) / times).clamp(0.0, TOOL_TIME_MAX.as_secs_f64());
        let due = start + Duration::from_secs_f64(after);
        let due = due.min(now + PLAY_PAUSE_MAX);
        while !self.stopped() && Instant::now() < due {
            thread::sleep(
                due.saturating_duration_since(Instant::now())
                    .min(TAP_GLANCE),
            );
            self.tell_in_time()?;
        }
        Ok(())
    }

    /// A new process on the same ports, with an empty ring.
    fn restart(&mut self) -> Result<(), PlayError> {
        if let Some(engine) = self.engine.take() {
            self.engine = Some(engine.restart_process().map_err(PlayError::Socket)?);
        }
        let last = self.numbers.last;
        self.numbers = Numbers::default();
        last.into_iter().for_each(|last| self.numbers.take(last));
        self.played.restarts += 1;
        Ok(())
    }

    fn wait_for_subscriber(&mut self) -> Result<(), PlayError> {
        (self.tell)(Word::Waiting(&self.played)).map_err(PlayError::Tell)?;
        while !self.stopped() {
            match self.engine()?.wait_for_subscriber(TAP_GLANCE) {
                Ok(()) => break,
                Err(error) if error.kind() == ErrorKind::TimedOut => {}
                Err(error) => return Err(PlayError::Socket(error)),
            }
        }
        Ok(())
    }

    /// Stays as long as it is to.
    fn end(self, stays: bool) -> Result<Played, PlayError> {
        (self.tell)(Word::Done(&self.played)).map_err(PlayError::Tell)?;
        let end = Instant::now() + PLAY_LINGER;
        while !self.stopped() && (stays || Instant::now() < end) {
            thread::sleep(TAP_GLANCE);
        }
        Ok(self.played)
    }

    fn tell_in_time(&mut self) -> Result<(), PlayError> {
        if Instant::now() < self.tell_at {
            return Ok(());
        }
        self.tell_at += Duration::from_secs(1);
        (self.tell)(Word::Playing(&self.played)).map_err(PlayError::Tell)
    }

    fn engine(&self) -> Result<&FakeEngine, PlayError> {
        let none = || PlayError::Socket(io::Error::other("the engine is not running"));
        self.engine.as_ref().ok_or_else(none)
    }
}

/// As the recorded engine's ring answers: said by the capture, or as the versions do whose events look like these.
fn framing(reader: &Reader) -> Framing {
    struct First(Option<Shape>);
    impl<'a> Visitor<'a> for First {
        fn event(&mut self, event: &EventHead<'a>) {
            self.0.get_or_insert(event.shape);
        }
    }
    let said = reader.header().and_then(|header| header.replay_frames);
    let mut first = First(None);
    if let Some(payload) = reader.first().and_then(|record| record.frames.get(2)) {
        // Broken bytes have no shape.
        let _ = parts::walk(payload, &mut first);
    }
    match (said, first.0) {
        (Some(3), _) | (None, Some(Shape::Array)) => Framing::Three,
        _ => Framing::Four,
    }
}

fn topic(reader: &Reader) -> String {
    let topic = reader.first().and_then(|record| record.frames.first());
    topic.map_or_else(String::new, |topic| {
        String::from_utf8_lossy(topic).into_owned()
    })
}
