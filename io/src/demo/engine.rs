//! One rank of a recorded engine, played by a fake one.
use crate::fake::{FakeEngine, Framing, Options};
use crate::limits::APPLIED_TIME_MAX;
use crate::trace::{Message, Recording};
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

/// First vLLM version whose replays carry the topic.
const FOUR_FRAMES_SINCE: [u32; 3] = [0, 26, 0];

/// A batch as if it were made now: nothing else of it is changed. With the recorded time the demo would show how long ago that was,
/// in place of how late its own events come.
fn stamped(payload: &[u8]) -> Vec<u8> {
    let mut payload = payload.to_vec();
    if let [0x90..=0x9f, rest @ ..] = payload.as_mut_slice()
        && let Some(time) = rest.first_chunk_mut::<9>().filter(|time| time[0] == 0xcb)
        && let Ok(now) = SystemTime::now().duration_since(UNIX_EPOCH)
    {
        // There is room for it: it cannot fail.
        let _ = rmp::encode::write_f64(&mut time.as_mut_slice(), now.as_secs_f64());
    }
    payload
}

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
        self.sockets()?.publish(number, &stamped(&message.payload))
    }

    fn sockets(&self) -> io::Result<&FakeEngine> {
        self.sockets
            .as_ref()
            .ok_or_else(|| io::Error::other("the engine is not running"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_time_of_a_batch_is_changed() {
        let mut recorded = vec![0x93];
        rmp::encode::write_f64(&mut recorded, 1.5).unwrap();
        recorded.extend([0x90, 0xc0]);
        let stamped = stamped(&recorded);
        assert_eq!(stamped.len(), recorded.len());
        assert_eq!(
            (&stamped[..2], &stamped[10..]),
            (&recorded[..2], &recorded[10..])
        );
        let time = rmp::decode::read_f64(&mut &stamped[1..]).unwrap();
        assert!(time > 1.7e9, "{time}");
    }

    #[test]
    fn what_has_no_such_time_is_left_as_it_is() {
        for other in [
            &[][..],
            &[0x93],
            &[0x93, 0xcb, 1, 2],
            &[0x93, 0x01, 0x90],
            &[0x81; 20],
        ] {
            assert_eq!(stamped(other), other);
        }
    }
}
