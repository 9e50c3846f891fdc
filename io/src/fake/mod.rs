//! A fake engine: real PUB and ROUTER sockets, scripted batches. For tests and the demo.
//!
//! It publishes what it is given, keeps the last batches in a ring, and answers replay requests as
//! vLLM does: one message for each batch of the ring from the number asked for on, silently from the
//! oldest that is left, then an end marker; no answer at all to a message of another shape.
use crate::limits::FRAMES_MAX;
use crate::stream::replay::sequence_frame;
use crate::stream::socket::{Message, Socket, SocketError, Sockets};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use std::collections::VecDeque;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How replay answers are framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// `["", number, payload]`: vLLM 0.9 to 0.25.
    Three,
    /// `["", topic, number, payload]`: vLLM from 0.26 on.
    Four,
}

/// What a fake engine is made with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it publishes; port 0 lets the system choose.
    pub events: String,
    /// Where it answers replay requests, if it does.
    pub replay: Option<String>,
    /// Batches that it keeps for replay.
    pub ring: usize,
    /// How it frames replay answers.
    pub framing: Framing,
    /// The first frame of its messages.
    pub topic: Vec<u8>,
    /// Whether it leaves replay requests unanswered.
    pub silent: bool,
}

impl Default for Options {
    /// An engine of today on two free ports of this machine.
    fn default() -> Self {
        Self {
            events: "tcp://127.0.0.1:0".to_owned(),
            replay: Some("tcp://127.0.0.1:0".to_owned()),
            ring: 10_000,
            framing: Framing::Four,
            topic: Vec::new(),
            silent: false,
        }
    }
}

/// A running fake engine. Dropping it closes its sockets.
#[derive(Debug)]
pub struct FakeEngine {
    events: String,
    replay: Option<String>,
    orders: Option<Sender<Order>>,
    join: Option<JoinHandle<()>>,
}

/// What its thread is told. The channel has no bound: tests and the demo feed it by hand.
enum Order {
    /// Publish a batch and keep it.
    Publish(u64, Vec<u8>),
    /// Keep a batch without publishing it, as if it had been lost on the way.
    Lose(u64, Vec<u8>),
    /// Publish a message of any frames.
    Raw(Vec<Vec<u8>>),
    /// Forget the ring, as a new process has.
    Restart,
    /// Answer when all before is done and at least so many subscriptions have come.
    WaitForSubscribers(usize, Sender<()>),
}

impl FakeEngine {
    /// Binds the sockets and starts the thread.
    pub fn bind(options: Options) -> Result<Self, SocketError> {
        let sockets = Sockets::default();
        let publisher = sockets.publisher(&options.events)?;
        let replier = options
            .replay
            .as_deref()
            .map(|at| sockets.replier(at))
            .transpose()?;
        let events = publisher.bound_to()?;
        let replay = replier.as_ref().map(Socket::bound_to).transpose()?;
        let (orders, inbox) = unbounded();
        let engine = Engine {
            ring: VecDeque::new(),
            subscriptions: 0,
            waiting: Vec::new(),
            publisher,
            replier,
            options,
        };
        let join = thread::Builder::new()
            .name("fake-engine".to_owned())
            .spawn(move || engine.run(&inbox))
            .inspect_err(|error| tracing::error!(%error, "cannot start a thread"))
            .ok();
        Ok(Self {
            events,
            replay,
            orders: Some(orders),
            join,
        })
    }

    /// Where it publishes.
    #[must_use]
    pub fn events_endpoint(&self) -> &str {
        &self.events
    }

    /// Where it answers replay requests.
    #[must_use]
    pub fn replay_endpoint(&self) -> Option<&str> {
        self.replay.as_deref()
    }

    /// Publishes a batch and keeps it for replay.
    pub fn publish(&self, sequence: u64, payload: &[u8]) {
        self.order(Order::Publish(sequence, payload.to_owned()));
    }

    /// Keeps a batch for replay without publishing it: lost on the way to everybody.
    pub fn lose(&self, sequence: u64, payload: &[u8]) {
        self.order(Order::Lose(sequence, payload.to_owned()));
    }

    /// Publishes a message of any frames, which is not kept.
    pub fn publish_raw(&self, frames: &[&[u8]]) {
        self.order(Order::Raw(
            frames.iter().map(|frame| frame.to_vec()).collect(),
        ));
    }

    /// Forgets the ring, as a restarted engine does; connections stay.
    pub fn restart(&self) {
        self.order(Order::Restart);
    }

    /// Waits until all orders are carried out and `count` subscriptions have come since the start;
    /// `false` if that takes longer than `time`.
    #[must_use]
    pub fn wait_for_subscribers(&self, count: usize, time: Duration) -> bool {
        let (done, wait) = bounded(1);
        self.order(Order::WaitForSubscribers(count, done));
        wait.recv_timeout(time).is_ok()
    }

    fn order(&self, order: Order) {
        if let Some(orders) = &self.orders
            && orders.send(order).is_err()
        {
            tracing::error!("a fake engine's thread has ended");
        }
    }
}

impl Drop for FakeEngine {
    fn drop(&mut self) {
        self.orders = None;
        if self.join.take().is_some_and(|join| join.join().is_err()) {
            tracing::error!("a fake engine's thread has panicked");
        }
    }
}

/// The thread's side.
struct Engine {
    publisher: Socket,
    replier: Option<Socket>,
    options: Options,
    ring: VecDeque<(u64, Vec<u8>)>,
    subscriptions: usize,
    waiting: Vec<(usize, Sender<()>)>,
}

/// Between looks at the sockets while there are no orders.
const LOOK: Duration = Duration::from_millis(2);

impl Engine {
    fn run(mut self, inbox: &Receiver<Order>) {
        loop {
            match inbox.recv_timeout(LOOK) {
                Ok(order) => self.obey(order),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if let Err(error) = self.look() {
                tracing::error!(%error, "a fake engine's socket failed");
                return;
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Publish(sequence, payload) => {
                let number = sequence_frame(sequence);
                self.send(&[&self.options.topic, &number, &payload]);
                self.keep(sequence, payload);
            }
            Order::Lose(sequence, payload) => self.keep(sequence, payload),
            Order::Raw(frames) => {
                let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
                self.send(&frames);
            }
            Order::Restart => self.ring.clear(),
            Order::WaitForSubscribers(count, done) => self.waiting.push((count, done)),
        }
    }

    fn keep(&mut self, sequence: u64, payload: Vec<u8>) {
        self.ring.push_back((sequence, payload));
        while self.ring.len() > self.options.ring {
            self.ring.pop_front();
        }
    }

    fn send(&self, frames: &[&[u8]]) {
        if let Err(error) = self.publisher.send(frames) {
            tracing::error!(%error, "a fake engine cannot publish");
        }
    }

    /// Takes in subscriptions and answers replay requests.
    fn look(&mut self) -> Result<(), SocketError> {
        let mut message = Message::default();
        while self.publisher.receive(&mut message)? {
            let subscribes = message
                .frames()
                .first()
                .is_some_and(|f| f.bytes().first() == Some(&1));
            self.subscriptions += usize::from(subscribes);
        }
        let come = self.subscriptions;
        self.waiting
            .retain(|(count, done)| *count > come || done.send(()).is_err());
        let Some(replier) = &self.replier else {
            return Ok(());
        };
        while replier.receive(&mut message)? {
            let [identity, _, start] = message.frames() else {
                continue;
            };
            if !self.options.silent {
                let start = start
                    .bytes()
                    .iter()
                    .fold(0_u64, |n, &byte| n << 8 | u64::from(byte));
                self.answer(replier, identity.bytes(), start)?;
            }
        }
        Ok(())
    }

    fn answer(&self, to: &Socket, identity: &[u8], start: u64) -> Result<(), SocketError> {
        let from_start = self.ring.iter().filter(|(sequence, _)| *sequence >= start);
        for (sequence, payload) in from_start {
            let number = sequence_frame(*sequence);
            self.reply(to, identity, &self.options.topic, &number, payload)?;
        }
        self.reply(to, identity, b"", &[0xff; 8], b"")
    }

    /// Sends one message of an answer, waiting for room as the engine's publisher does.
    fn reply(
        &self,
        to: &Socket,
        identity: &[u8],
        topic: &[u8],
        number: &[u8],
        payload: &[u8],
    ) -> Result<(), SocketError> {
        const PATIENCE: Duration = Duration::from_secs(5);
        let four: [&[u8]; 5] = [identity, b"", topic, number, payload];
        let three: [&[u8]; 4] = [identity, b"", number, payload];
        let frames: &[&[u8]] = match self.options.framing {
            Framing::Three => &three,
            Framing::Four => &four,
        };
        let start = Instant::now();
        while !to.send(frames)? && start.elapsed() < PATIENCE {
            thread::sleep(LOOK);
        }
        Ok(())
    }
}

const _: () = assert!(FRAMES_MAX >= 3);
