//! Answers replays on a thread of its own.
use super::Shared;
use super::ring::{Answers, Form};
use crate::stream::socket::{Message, Socket, SocketError};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Pause between two messages of a replay that does not end.
const ENDLESS_PAUSE: Duration = Duration::from_millis(1);

/// The ROUTER socket and what it answers from.
pub(super) struct Replier {
    pub(super) socket: Socket,
    pub(super) shared: Arc<Shared>,
    /// How long it waits before it looks whether it is to end.
    pub(super) glance: Duration,
    /// Without faults: those are asked for each request.
    pub(super) form: Form,
}

impl Replier {
    pub(super) fn run(self) {
        let mut message = Message::default();
        while !self.shared.stopped() {
            let answered = self
                .socket
                .wait(self.glance)
                .and_then(|_| self.answer_all(&mut message));
            if let Err(error) = answered {
                tracing::error!(%error, "the fake engine answers no more replays");
                return;
            }
        }
    }

    fn answer_all(&self, message: &mut Message) -> Result<(), SocketError> {
        while self.socket.receive(message)? {
            let faults = *self.shared.faults();
            if faults.silent || message.is_too_long() {
                continue;
            }
            if let [identity, _, start] = message.frames()
                && let Some(start) = number(start.bytes())
            {
                let identity = identity.bytes().to_vec();
                let form = Form {
                    faults,
                    ..self.form.clone()
                };
                self.answer(&identity, start, &form)?;
            }
        }
        Ok(())
    }

    fn answer(&self, identity: &[u8], start: u64, form: &Form) -> Result<(), SocketError> {
        let ring = self.shared.ring();
        let answers = ring.answers(start, form);
        if !form.faults.endless {
            // As engines do it: nothing is published in between.
            return self.send_all(identity, answers, form.faults.slow);
        }
        drop(ring);
        for frames in answers {
            self.send(identity, &frames)?;
            thread::sleep(form.faults.slow.unwrap_or(ENDLESS_PAUSE));
            // Whoever asks next has been waiting for this one to end.
            if self.shared.stopped() || self.socket.wait(Duration::ZERO)? {
                break;
            }
        }
        Ok(())
    }

    fn send_all(
        &self,
        identity: &[u8],
        answers: Answers,
        pause: Option<Duration>,
    ) -> Result<(), SocketError> {
        for frames in answers {
            if let Some(pause) = pause {
                thread::sleep(pause);
            }
            if self.shared.stopped() {
                break;
            }
            self.send(identity, &frames)?;
        }
        Ok(())
    }

    fn send(&self, identity: &[u8], frames: &[Vec<u8>]) -> Result<(), SocketError> {
        let frames = frames.iter().map(Vec::as_slice);
        let frames: Vec<&[u8]> = std::iter::once(identity).chain(frames).collect();
        self.socket.send(&frames)?;
        Ok(())
    }
}

/// A big-endian number of any length, as engines read the start; `None` if it is beyond 64 bits.
fn number(bytes: &[u8]) -> Option<u64> {
    let add = |number: u64, &byte| number.checked_mul(256)?.checked_add(u64::from(byte));
    bytes.iter().try_fold(0, add)
}
