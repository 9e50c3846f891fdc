//! Writes down what an engine publishes, message by message.
use super::file::{CaptureError, Header, Record, Writer};
use super::scrub::Scrubber;
use crate::limits::FRAMES_MAX;
use crate::stream::replay::{read_live, sequence_frame};
use crate::stream::socket::{Message, SocketError};
use crate::tap::{Deaf, Tap, Told, Until, now};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Between two words on how far it is.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Numbers of the ring's batches that are remembered, not to write them twice: more than rings have.
const RING_KEPT_MAX: usize = 1 << 20;

/// What to write down, and where.
#[derive(Debug)]
pub struct Options {
    /// Where the engine publishes.
    pub events: String,
    /// Where its ring is asked for what was before.
    pub replay: Option<String>,
    /// With what topics begin.
    pub topic: String,
    /// When to end; messages are counted.
    pub until: Until,
    /// The file; it must not be there.
    pub output: PathBuf,
    /// Bytes of the file after which it ends.
    pub bytes_max: u64,
    /// Replaces what is private; `None` to keep it.
    pub scrubber: Option<Scrubber>,
}

/// What was written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Messages.
    pub messages: u64,
    /// Of them, batches of the ring.
    pub from_ring: u64,
    /// Live batches that were left out because the ring had them.
    pub doubled: u64,
    /// Whether the ring was asked and did not answer to its end.
    pub ring_is_silent: bool,
    /// Payloads of which only the length was kept, since they could not be taken apart.
    pub withheld: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Whether the file became too large.
    pub is_full: bool,
}

/// Why nothing, or no more, can be written down.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A socket fails.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// Nothing was heard.
    #[error(transparent)]
    Deaf(#[from] Deaf),
    /// The file.
    #[error(transparent)]
    File(#[from] CaptureError),
}

/// Writes until `stop` is set, or as the options say; `told` every second how far it is.
///
/// # Errors
/// A socket or the file fails, or nothing was heard in time: then there is no file.
pub fn record(
    options: Options,
    stop: &AtomicBool,
    told: &mut dyn FnMut(&Written),
) -> Result<Written, RecordError> {
    let tap = Tap::open(&options.events, &options.topic)?;
    let writer = Writer::create(&options.output)?;
    let mut session = Session {
        tap,
        writer,
        options,
        message: Message::default(),
        began: false,
        ring: HashMap::new(),
        written: Written::default(),
    };
    let why = match session.run(stop, told) {
        Ok(why) => why,
        Err(error) => {
            if session.written.messages == 0 {
                session.writer.discard();
            }
            return Err(error);
        }
    };
    session.begin(None)?;
    let withheld = session.options.scrubber.as_ref().map(Scrubber::withheld);
    session.written.withheld = withheld.unwrap_or_default();
    session.written.bytes = session.writer.end(why)?;
    Ok(session.written)
}

struct Session {
    tap: Tap,
    writer: Writer,
    options: Options,
    message: Message,
    /// Whether the first line is written.
    began: bool,
    /// What the ring had: payloads' checksums by number.
    ring: HashMap<u64, u64>,
    written: Written,
}

impl Session {
    /// Why it ended.
    fn run(
        &mut self,
        stop: &AtomicBool,
        told: &mut dyn FnMut(&Written),
    ) -> Result<&'static str, RecordError> {
        let until = self.options.until;
        let start = Instant::now();
        let mut next = start + TELL_EVERY;
        let mut ring = self.options.replay.clone();
        loop {
            self.writer.flush_in_time()?;
            if Instant::now() >= next {
                next += TELL_EVERY;
                self.written.bytes = self.writer.bytes();
                told(&self.written);
            }
            let time = start.elapsed();
            let up = until.time.is_some_and(|most| time >= most);
            // Relaxed: the flag guards nothing else.
            if stop.load(Relaxed) {
                return Ok("told to");
            }
            if self.written.messages == 0 && (up || time >= until.wait) {
                let waited = until.wait.min(time);
                return Err(self.tap.why_deaf(&self.options.events, waited).into());
            }
            if up {
                return Ok("time");
            }
            if until
                .count
                .is_some_and(|most| self.written.messages >= most)
            {
                return Ok("count");
            }
            if self.writer.bytes() >= self.options.bytes_max {
                self.written.is_full = true;
                return Ok("size");
            }
            let heard = self.tap.receive(&mut self.message)?;
            // Only once it is subscribed: what is published from now on comes, whatever the ring has.
            if (heard || self.tap.is_connected())
                && let Some(endpoint) = ring.take()
            {
                self.ask_ring(&endpoint, start, stop)?;
            }
            match heard {
                true => self.live()?,
                false => self.tap.wait()?,
            }
        }
    }

    /// Writes what the ring has. Live messages wait in libzmq's queue meanwhile.
    fn ask_ring(
        &mut self,
        endpoint: &str,
        start: Instant,
        stop: &AtomicBool,
    ) -> Result<(), RecordError> {
        let mut asked = self.tap.ask(endpoint, 0)?;
        let mut answer = Message::default();
        while !stop.load(Relaxed) {
            match asked.next(&mut answer)? {
                Told::Batch {
                    topic,
                    sequence,
                    payload,
                } => {
                    if self.ring.len() < RING_KEPT_MAX {
                        self.ring.insert(sequence, checksum(payload));
                    }
                    let number = sequence_frame(sequence);
                    let frames = [topic, &number, payload].map(<[u8]>::to_vec);
                    self.begin(asked.frames())?;
                    self.write(frames.to_vec(), true)?;
                    self.written.from_ring += 1;
                    self.writer.flush_in_time()?;
                }
                Told::End => break,
                Told::Silent => {
                    self.written.ring_is_silent = true;
                    break;
                }
                Told::Nonsense => {}
                Told::Nothing => std::thread::sleep(Duration::from_millis(1)),
            }
            let full = self.writer.bytes() >= self.options.bytes_max;
            let until = self.options.until;
            let up = until.time.is_some_and(|most| start.elapsed() >= most);
            if full
                || up
                || until
                    .count
                    .is_some_and(|most| self.written.messages >= most)
            {
                break;
            }
        }
        self.begin(asked.frames())
    }

    /// Writes a live message, unless the ring had it.
    fn live(&mut self) -> Result<(), RecordError> {
        let frames: Vec<&[u8]> = self
            .message
            .frames()
            .iter()
            .map(|frame| frame.bytes())
            .collect();
        if let Ok(batch) = read_live(&frames)
            && self.ring.remove(&batch.sequence) == Some(checksum(batch.payload))
        {
            self.written.doubled += 1;
            return Ok(());
        }
        debug_assert!(frames.len() <= FRAMES_MAX);
        let frames = frames.into_iter().map(<[u8]>::to_vec).collect();
        self.begin(None)?;
        self.write(frames, false)
    }

    fn write(&mut self, mut frames: Vec<Vec<u8>>, from_ring: bool) -> Result<(), RecordError> {
        if let Some(scrubber) = &mut self.options.scrubber {
            for (at, frame) in frames.iter_mut().enumerate() {
                *frame = match at {
                    0 => scrubber.topic(frame),
                    1 if frame.len() == 8 => continue,
                    2 => scrubber.payload(frame),
                    _ => scrubber.other(frame),
                };
            }
        }
        self.writer.write(&Record {
            at: now(),
            pod: "engine".to_owned(),
            frames,
            from_ring,
        })?;
        self.written.messages += 1;
        Ok(())
    }

    /// Writes the first line, once.
    fn begin(&mut self, replay_frames: Option<usize>) -> Result<(), RecordError> {
        if self.began {
            return Ok(());
        }
        self.began = true;
        let replaced = self.options.scrubber.is_some();
        let header = Header {
            started: now(),
            events: (!replaced).then(|| self.options.events.clone()),
            replay_frames,
            replaced,
            ..Header::default()
        };
        Ok(self.writer.header(header)?)
    }
}

fn checksum(payload: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    payload.hash(&mut hasher);
    hasher.finish()
}
