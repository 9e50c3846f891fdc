//! A scripted engine with real sockets, for tests, the demo and `kvroute fake-engine`: it publishes what it is
//! given and answers replays from a ring, as vLLM does, or wrong in the ways that [`faults`] names.
//!
//! What to publish, if not a recording, comes from [`rank`]: made-up traffic ([`prompts`]) through a model of
//! an engine's prefix cache ([`cache`]), written as engines of each age write it ([`encode`]). [`drive`] does
//! that in real time.
//!
//! What it copies of the real publisher, seen in recorded traffic: a request is answered only if it
//! arrives as exactly three frames (the first is the asker's identity, the second is not looked at);
//! the start is a big-endian number of any length; a start that is older than the ring is answered
//! from the oldest batch left, without a word; the end marker has the number -1 and no payload; a
//! batch enters the ring after it was sent, and no replay is answered in between.
//!
//! Numbers are the caller's, so that tests can leave some out, repeat them, or begin again at 0.
pub mod cache;
pub mod chance;
pub mod drive;
pub mod encode;
pub mod faults;
pub mod prompts;
pub mod rank;
mod replier;
pub mod ring;

use crate::stream::replay::{read_live, sequence_frame};
use crate::stream::socket::{Message, Socket, SocketError, Sockets};
use faults::Faults;
use replier::Replier;
use ring::{Form, Ring};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long a socket is waited for before other things are looked at.
const GLANCE: Duration = Duration::from_millis(5);

/// How long a new process waits for the ports of the one before.
const REBIND_TIME_MAX: Duration = Duration::from_secs(10);

/// The frames of a replay's answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// `["", number, payload]`: vLLM 0.9 to 0.25.
    Three,
    /// `["", topic, number, payload]`: vLLM from 0.26.
    Four,
}

/// What kind of engine.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to publish; port 0 is one that the system chooses.
    pub events: String,
    /// Where to answer replays; `None` for an engine without.
    pub replay: Option<String>,
    /// How many batches the ring keeps.
    pub ring: usize,
    /// The frames of its answers.
    pub framing: Framing,
    /// The topic of every batch.
    pub topic: String,
    /// How long requests of replays are waited for at a time: its end may take as long. Hundreds in one process
    /// should look up less often.
    pub glance: Duration,
}

impl Default for Options {
    /// vLLM's defaults since 0.26, on ports of this machine that the system chooses.
    fn default() -> Self {
        Self {
            events: "tcp://127.0.0.1:0".to_owned(),
            replay: Some("tcp://127.0.0.1:0".to_owned()),
            ring: 10_000,
            framing: Framing::Four,
            topic: String::new(),
            glance: GLANCE,
        }
    }
}

/// A running engine. Dropping it is its sudden death: what was not sent yet is lost.
#[derive(Debug)]
pub struct FakeEngine {
    /// With the endpoints that it is really bound to.
    options: Options,
    publisher: Mutex<Socket>,
    /// What the publisher and the thread that answers replays share.
    shared: Arc<Shared>,
    replier: Option<JoinHandle<()>>,
    sent: Mutex<Sent>,
    /// Whether somebody subscribes, as far as was looked.
    subscribed: AtomicBool,
}

#[derive(Debug)]
struct Shared {
    ring: Mutex<Ring>,
    faults: Mutex<Faults>,
    stop: AtomicBool,
}

impl Shared {
    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// What of the live batches was sent, for faults that strike one in so many.
#[derive(Debug, Default)]
struct Sent {
    batches: u64,
    /// Is to be sent after the next one.
    late: Option<(u64, Vec<u8>)>,
}

impl FakeEngine {
    /// Starts an engine that has published nothing.
    ///
    /// # Errors
    /// An endpoint cannot be bound.
    pub fn bind(options: Options) -> io::Result<Self> {
        let sockets = Sockets::new(1).map_err(other)?;
        let publisher = sockets.publisher(&options.events).map_err(other)?;
        let mut options = options;
        options.events = publisher.bound_to().map_err(other)?;
        let shared = Arc::new(Shared {
            ring: Mutex::new(Ring::new(options.ring)),
            faults: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let replier = match options.replay.take() {
            None => None,
            Some(endpoint) => {
                let socket = sockets.replier(&endpoint).map_err(other)?;
                options.replay = Some(socket.bound_to().map_err(other)?);
                let replier = Replier {
                    socket,
                    shared: Arc::clone(&shared),
                    glance: options.glance,
                    form: Form {
                        framing: options.framing,
                        topic: options.topic.clone(),
                        faults: Faults::default(),
                    },
                };
                let thread = thread::Builder::new().name("fake-replay".to_owned());
                Some(thread.spawn(move || replier.run())?)
            }
        };
        Ok(Self {
            options,
            publisher: Mutex::new(publisher),
            shared,
            replier,
            sent: Mutex::default(),
            subscribed: AtomicBool::new(false),
        })
    }

    /// Where it publishes, to be connected to.
    #[must_use]
    pub fn events_endpoint(&self) -> &str {
        &self.options.events
    }

    /// Where it answers replays.
    #[must_use]
    pub fn replay_endpoint(&self) -> Option<&str> {
        self.options.replay.as_deref()
    }

    /// Publishes a batch and puts it into the ring. Without a subscriber only the ring gets it.
    ///
    /// # Errors
    /// The socket fails.
    pub fn publish(&self, sequence: u64, payload: &[u8]) -> io::Result<()> {
        let mut ring = self.shared.ring();
        self.send_live(sequence, payload)?;
        ring.push(sequence, payload);
        Ok(())
    }

    /// Publishes a recorded message as it was, its topic and number too. The ring gets it if the number
    /// is one.
    ///
    /// # Errors
    /// The socket fails.
    pub fn publish_recorded(&self, topic: &[u8], number: &[u8], payload: &[u8]) -> io::Result<()> {
        let mut ring = self.shared.ring();
        self.publish_frames(&[topic, number, payload])?;
        if let Ok(batch) = read_live(&[topic, number, payload]) {
            ring.push(batch.sequence, payload);
        }
        Ok(())
    }

    /// Puts a batch into the ring only: one that was lost on its way to the subscribers.
    pub fn lose(&self, sequence: u64, payload: &[u8]) {
        self.shared.ring().push(sequence, payload);
    }

    /// Publishes any frames, also such as no engine sends. The ring does not get them.
    ///
    /// # Errors
    /// The socket fails.
    pub fn publish_frames(&self, frames: &[&[u8]]) -> io::Result<()> {
        self.publisher().send(frames).map_err(other)?;
        Ok(())
    }

    /// From now on replays are not answered, or are again. A request that comes meanwhile is lost.
    pub fn set_silent(&self, silent: bool) {
        self.shared.faults().silent = silent;
    }

    /// From now on these things go wrong, and nothing else.
    pub fn set_faults(&self, faults: Faults) {
        let ring = faults.ring.and_then(|ring| usize::try_from(ring).ok());
        let ring = ring.unwrap_or(self.options.ring).min(self.options.ring);
        self.shared.ring().set_max(ring);
        *self.shared.faults() = faults;
    }

    /// A new life behind the same connections, as behind a proxy: the ring is empty.
    pub fn restart(&self) {
        self.shared.ring().clear();
    }

    /// A new life as engines really have it: the connections break, the ports stay.
    ///
    /// # Errors
    /// The ports cannot be had again in time.
    pub fn restart_process(self) -> io::Result<Self> {
        let options = self.options.clone();
        drop(self);
        let give_up = Instant::now() + REBIND_TIME_MAX;
        loop {
            // libzmq closes sockets in the background, so the ports come free a little later.
            match Self::bind(options.clone()) {
                Err(_) if Instant::now() < give_up => thread::sleep(GLANCE),
                bound => return bound,
            }
        }
    }

    /// Waits until somebody subscribes: what is published before reaches nobody.
    ///
    /// # Errors
    /// Nobody did in time, or the socket fails.
    pub fn wait_for_subscriber(&self, timeout: Duration) -> io::Result<()> {
        let give_up = Instant::now() + timeout;
        let mut message = Message::default();
        loop {
            let publisher = self.publisher();
            while publisher.receive(&mut message).map_err(other)? {
                // libzmq: 1 and the prefix when one is subscribed to, 0 when nobody is left.
                let first = message.frames().first();
                if let Some(&kind) = first.and_then(|frame| frame.bytes().first()) {
                    self.subscribed.store(kind == 1, Ordering::Relaxed);
                }
            }
            if self.subscribed.load(Ordering::Relaxed) {
                return Ok(());
            }
            if Instant::now() >= give_up {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "nobody subscribes"));
            }
            publisher.wait(GLANCE).map_err(other)?;
        }
    }

    /// Sends a live batch, unless a fault strikes.
    fn send_live(&self, sequence: u64, payload: &[u8]) -> io::Result<()> {
        let faults = *self.shared.faults();
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.batches += 1;
        let strikes = |one_in: Option<u64>| one_in.is_some_and(|n| sent.batches.is_multiple_of(n));
        let cut = &payload[..payload.len() / 2];
        let payload = match (strikes(faults.garbage), strikes(faults.truncate)) {
            (true, _) => &[0xc1; 40],
            (_, true) => cut,
            (false, false) => payload,
        };
        if strikes(faults.lose) {
            return Ok(());
        }
        let twice = strikes(faults.double);
        if strikes(faults.reorder) && sent.late.is_none() {
            sent.late = Some((sequence, payload.to_vec()));
            return Ok(());
        }
        let late = sent.late.take();
        drop(sent);
        for _ in 0..1 + u32::from(twice) {
            self.send_batch(sequence, payload)?;
        }
        late.map_or(Ok(()), |(sequence, payload)| {
            self.send_batch(sequence, &payload)
        })
    }

    fn send_batch(&self, sequence: u64, payload: &[u8]) -> io::Result<()> {
        let number = sequence_frame(sequence);
        self.publish_frames(&[self.options.topic.as_bytes(), &number, payload])
    }

    fn publisher(&self) -> MutexGuard<'_, Socket> {
        self.publisher
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for FakeEngine {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if self
            .replier
            .take()
            .is_some_and(|thread| thread.join().is_err())
        {
            tracing::error!("the fake engine's replay thread has panicked");
        }
    }
}

fn other(error: SocketError) -> io::Error {
    io::Error::other(error)
}
