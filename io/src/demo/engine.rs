//! One rank of a recorded engine, played by a fake one.
use crate::fake::encode::stamped;
use crate::fake::{FakeEngine, Framing, Options};
use crate::limits::APPLIED_TIME_MAX;
use crate::trace::{Message, Recording};
use std::io;
use std::time::SystemTime;

/// First vLLM version whose replays carry the topic.
const FOUR_FRAMES_SINCE: [u32; 3] = [0, 26, 0];

/// A publisher of the recording, on sockets of its own.
#[derive(Debug)]
pub(super) struct Engine<'r> {
    /// Its name in the recording.
    pub publisher: &'r str,
    /// The name that the node knows it by.
    pub pod: String,
    /// Its rank in the pod.
    pub rank: u32,
    /// `None` only if it could not be started again.
    sockets: Option<FakeEngine>,
    last: Option<u64>,
}

impl<'r> Engine<'r> {
    /// Starts an engine that has published nothing.
    pub(super) fn start(
        recording: &Recording,
        publisher: &'r str,
        pod: String,
    ) -> io::Result<Self> {
        let first = recording
            .messages
            .iter()
            .find(|message| message.pod == publisher);
        let framing = match recording.engine {
            Some(version) if version < FOUR_FRAMES_SINCE => Framing::Three,
            _ => Framing::Four,
        };
        let topic = first.map(|message| String::from_utf8_lossy(&message.topic).into_owned());
        let options = Options {
            framing,
            topic: topic.unwrap_or_default(),
            ..Options::default()
        };
        Ok(Self {
            publisher,
            pod,
            rank: first.map_or(0, Message::rank),
            sockets: Some(FakeEngine::bind(options)?),
            last: None,
        })
    }

    /// Where it publishes, and where it answers replays.
    pub(super) fn endpoints(&self) -> (Option<&str>, Option<&str>) {
        let sockets = self.sockets.as_ref();
        (
            sockets.map(FakeEngine::events_endpoint),
            sockets.and_then(FakeEngine::replay_endpoint),
        )
    }

    /// Waits until the node subscribes.
    pub(super) fn wait_for_subscriber(&self) -> io::Result<()> {
        self.sockets()?.wait_for_subscriber(APPLIED_TIME_MAX)
    }

    /// Publishes a batch. A number that goes back is a new life, and is begun as engines begin it: the
    /// connections break, the ring is empty.
    pub(super) fn publish(&mut self, message: &Message) -> io::Result<()> {
        let Some(number) = message.number() else {
            let frames = [&message.topic, &message.sequence, &message.payload];
            return self.sockets()?.publish_frames(&frames.map(Vec::as_slice));
        };
        if self.last.is_some_and(|last| number <= last)
            && let Some(sockets) = self.sockets.take()
        {
            self.sockets = Some(sockets.restart_process()?);
            self.wait_for_subscriber()?;
        }
        self.last = Some(number);
        self.sockets()?
            .publish(number, &stamped(&message.payload, SystemTime::now()))
    }

    fn sockets(&self) -> io::Result<&FakeEngine> {
        self.sockets
            .as_ref()
            .ok_or_else(|| io::Error::other("the engine is not running"))
    }
}
