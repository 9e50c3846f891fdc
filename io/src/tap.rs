//! A subscriber for tools: what an engine publishes, message by message, and what its ring has, asked once.
use crate::limits::{REPLAY_WHOLE_TIME_MAX, RING_TIME_MAX, TAP_GLANCE};
use crate::stream::replay::{Answer, DELIMITER, read_answer, sequence_frame};
use crate::stream::socket::{Link, Message, Socket, SocketError, Sockets, Subscriber};
use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A subscription to one engine.
#[derive(Debug)]
pub struct Tap {
    sockets: Sockets,
    subscriber: Subscriber,
    topic: Vec<u8>,
    links: VecDeque<Link>,
    connected: bool,
    connections: u64,
    other_topics: u64,
}

impl Tap {
    /// Subscribes to the engine at `events`; messages whose topic does not begin with `topic` are counted only.
    ///
    /// # Errors
    /// The endpoint is none.
    pub fn open(events: &str, topic: &str) -> Result<Self, SocketError> {
        let sockets = Sockets::new(1)?;
        let subscriber = sockets.subscriber(events)?;
        Ok(Self {
            sockets,
            subscriber,
            topic: topic.as_bytes().to_vec(),
            links: VecDeque::new(),
            connected: false,
            connections: 0,
            other_topics: 0,
        })
    }

    /// Whether somebody who speaks ZeroMQ is there, as far as was looked.
    #[must_use]
    pub const fn is_connected(&self) -> bool {
        self.connected
    }

    /// How often a connection was made.
    #[must_use]
    pub const fn connections(&self) -> u64 {
        self.connections
    }

    /// Messages of other topics.
    #[must_use]
    pub const fn other_topics(&self) -> u64 {
        self.other_topics
    }

    /// Takes the next message, if there is one.
    ///
    /// # Errors
    /// The socket fails.
    pub fn receive(&mut self, message: &mut Message) -> Result<bool, SocketError> {
        self.look(message)?;
        while self.subscriber.socket().receive(message)? {
            let topic = message.frames().first();
            if topic.is_some_and(|topic| topic.bytes().starts_with(&self.topic)) {
                return Ok(true);
            }
            self.other_topics += 1;
        }
        Ok(false)
    }

    /// Waits for a message, or [`TAP_GLANCE`].
    ///
    /// # Errors
    /// The socket fails.
    pub fn wait(&self) -> Result<(), SocketError> {
        self.subscriber.socket().wait(TAP_GLANCE).map(drop)
    }

    /// Asks the ring at `endpoint` for all from `start` on.
    ///
    /// # Errors
    /// The endpoint is none.
    pub fn ask(&self, endpoint: &str, start: u64) -> Result<Asked, SocketError> {
        let socket = self.sockets.requester(endpoint)?;
        socket.send(&[DELIMITER, &sequence_frame(start)])?;
        Ok(Asked {
            socket,
            give_up: Instant::now() + RING_TIME_MAX,
            end: Instant::now() + REPLAY_WHOLE_TIME_MAX,
            frames: None,
        })
    }

    /// Sees what became of the connection.
    fn look(&mut self, message: &mut Message) -> Result<(), SocketError> {
        self.subscriber.monitor().read(message, &mut self.links)?;
        for link in self.links.drain(..) {
            self.connected = link == Link::Up;
            self.connections += u64::from(self.connected);
        }
        Ok(())
    }
}

/// A ring that was asked.
#[derive(Debug)]
pub struct Asked {
    socket: Socket,
    give_up: Instant,
    /// Also an answer without end has one.
    end: Instant,
    frames: Option<usize>,
}

/// What a ring has said.
#[derive(Debug)]
pub enum Told<'m> {
    /// One of its batches.
    Batch {
        /// The topic, if its answers have one.
        topic: &'m [u8],
        /// The batch's number.
        sequence: u64,
        /// Its MessagePack bytes.
        payload: &'m [u8],
    },
    /// There are no more.
    End,
    /// A message that no engine sends.
    Nonsense,
    /// Nothing yet.
    Nothing,
    /// Nothing, and it is not waited for any longer.
    Silent,
}

impl Asked {
    /// How many frames its answers have: 3 up to vLLM 0.25, then 4. `None` before the first.
    #[must_use]
    pub const fn frames(&self) -> Option<usize> {
        self.frames
    }

    /// Its next word.
    ///
    /// # Errors
    /// The socket fails.
    pub fn next<'m>(&mut self, message: &'m mut Message) -> Result<Told<'m>, SocketError> {
        if Instant::now() >= self.end {
            return Ok(Told::Silent);
        }
        if !self.socket.receive(message)? {
            let late = Instant::now() >= self.give_up;
            return Ok(if late { Told::Silent } else { Told::Nothing });
        }
        self.give_up = Instant::now() + RING_TIME_MAX;
        let frames: Vec<&[u8]> = message.frames().iter().map(|frame| frame.bytes()).collect();
        let Ok(answer) = read_answer(&frames) else {
            return Ok(Told::Nonsense);
        };
        self.frames = Some(frames.len());
        Ok(match answer {
            Answer::End => Told::End,
            Answer::Batch(batch) => Told::Batch {
                topic: match *frames {
                    [_, topic, _, _] => topic,
                    _ => b"",
                },
                sequence: batch.sequence,
                payload: batch.payload,
            },
        })
    }
}

/// When a tool ends by itself.
#[derive(Clone, Copy, Debug)]
pub struct Until {
    /// After so many messages.
    pub count: Option<u64>,
    /// After so long.
    pub time: Option<Duration>,
    /// If nothing was heard for so long from the start.
    pub wait: Duration,
}

/// Why nothing came, in words that say what to look at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Deaf {
    /// Nobody answered.
    #[error(
        "{0}: nobody there speaks ZeroMQ after {1} s. Check: the address and its port (rank r adds r); that the engine runs with \
         --kv-events-config, with \"enable_kv_cache_events\": true, \"publisher\": \"zmq\"; that it binds (an endpoint with * in it: \
         one that names a host connects, and waits for somebody else to bind); firewalls and network policies between here and there"
    )]
    Unconnected(String, u64),
    /// The connection was there, and nothing came.
    #[error(
        "{0}: connected, and nothing was published in {1} s. Check: that the engine serves requests (an idle one is silent); that this is \
         the events' port and not that of replays; that the prefix cache is on; {2} messages of other topics came"
    )]
    Silent(String, u64, u64),
}

impl Tap {
    /// Why nothing was heard in so long.
    #[must_use]
    pub fn why_deaf(&self, events: &str, wait: Duration) -> Deaf {
        let events = events.to_owned();
        match self.connections {
            0 => Deaf::Unconnected(events, wait.as_secs()),
            _ => Deaf::Silent(events, wait.as_secs(), self.other_topics),
        }
    }
}

/// Now, in seconds since 1970.
#[must_use]
pub fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}
