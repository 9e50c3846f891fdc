//! The wires between an engine and the node: what is on the way, and when it arrives. Times are microseconds.
use crate::faults::{Kind, LiveMode};
use kvroute::fake::chance::Chance;
use kvroute::fake::ring::Answers;
use kvroute::status::SkipReason;
use std::collections::VecDeque;

/// A message of the event socket.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    /// A batch, perhaps not as it was sent.
    Batch {
        life: usize,
        sequence: u64,
        payload: Vec<u8>,
    },
    /// Frames that are no batch.
    Skipped(SkipReason),
}

/// The event connection.
#[derive(Debug, Default)]
pub(crate) struct Live {
    pub(crate) up: bool,
    /// When the engine begins to send: the subscription has arrived.
    pub(crate) subscribed_at: u64,
    pub(crate) flying: VecDeque<(u64, Message)>,
    /// What became of the connection, and when the node can see it: the life that it was made to, or none.
    pub(crate) links: VecDeque<(u64, Option<usize>)>,
    last: u64,
}

impl Live {
    /// Sends a batch; the faults that struck it, and when the node is to look.
    pub(crate) fn send(
        &mut self,
        now: u64,
        message: Message,
        mode: &LiveMode,
        chance: &mut Chance,
    ) -> (Vec<Kind>, Option<u64>) {
        if !self.up || now < self.subscribed_at {
            return (Vec::new(), None);
        }
        let mut struck = Vec::new();
        let mut strikes = |kind: Kind, often: u64, chance: &mut Chance| {
            let strikes = chance.per_mille(often);
            if strikes {
                struck.push(kind);
            }
            strikes
        };
        if strikes(Kind::Loss, mode.loss, chance) {
            return (struck, None);
        }
        let mut message = message;
        if let Message::Batch { payload, .. } = &mut message {
            if strikes(Kind::Truncate, mode.truncate, chance) {
                payload.truncate(chance.place(payload.len()));
            } else if strikes(Kind::Garbage, mode.garbage, chance) {
                payload
                    .iter_mut()
                    .for_each(|byte| *byte = chance.next() as u8 | 0xc1);
            }
        }
        if strikes(Kind::Framing, mode.framing, chance) {
            message = Message::Skipped(SkipReason::Framing);
        }
        let twice = strikes(Kind::Double, mode.double, chance);
        let swap = strikes(Kind::Reorder, mode.reorder, chance);
        for _ in 0..1 + u32::from(twice) {
            self.last = self
                .last
                .max(now + chance.between(20, mode.latency.max(20)));
            self.flying.push_back((self.last, message.clone()));
        }
        if swap {
            self.swap_last();
        }
        (struck, Some(self.last))
    }

    /// The newest message and the one before it change places, if they are of one life.
    fn swap_last(&mut self) {
        let last = self.flying.len().wrapping_sub(1);
        let before = self.flying.len().wrapping_sub(2);
        let life = |at: usize| match self.flying.get(at) {
            Some((_, Message::Batch { life, .. })) => Some(*life),
            _ => None,
        };
        if life(last).is_some() && life(last) == life(before) {
            let times = (self.flying[last].0, self.flying[before].0);
            self.flying.swap(last, before);
            (self.flying[last].0, self.flying[before].0) = times;
        }
    }

    /// What has arrived by now is handed out still; what is on the way is lost.
    pub(crate) fn cut(&mut self, now: u64) {
        self.flying.retain(|(at, _)| *at <= now);
        if self.up {
            self.up = false;
            self.links.push_back((now, None));
        }
        self.last = now;
    }

    /// Nobody receives any more.
    pub(crate) fn close(&mut self, now: u64) {
        self.up = false;
        self.flying.clear();
        self.links.clear();
        self.last = now;
    }

    pub(crate) fn connect(&mut self, now: u64, subscription: u64, life: usize) {
        if !self.up {
            self.up = true;
            self.links.push_back((now, Some(life)));
            self.subscribed_at = now + subscription;
            self.last = self.last.max(self.subscribed_at);
        }
    }

    /// The next message that has arrived.
    pub(crate) fn receive(&mut self, now: u64) -> Option<Message> {
        match self.flying.front() {
            Some((at, _)) if *at <= now => self.flying.pop_front().map(|(_, message)| message),
            _ => None,
        }
    }

    /// The next change of the connection that can be seen.
    pub(crate) fn link(&mut self, now: u64) -> Option<Option<usize>> {
        match self.links.front() {
            Some((at, _)) if *at <= now => self.links.pop_front().map(|(_, life)| life),
            _ => None,
        }
    }
}

/// A replay socket, from the request to its end.
#[derive(Debug)]
pub(crate) struct Requester {
    /// Tells it from others that were closed.
    pub(crate) id: u64,
    pub(crate) from: u64,
    /// The request has not reached an engine yet.
    pub(crate) unserved: bool,
    /// The life that answers, and what it still has to say.
    pub(crate) source: Option<(usize, Answers)>,
    /// Microseconds between two of its messages.
    pub(crate) pace: u64,
    pub(crate) flying: VecDeque<(u64, usize, Vec<Vec<u8>>)>,
    last: u64,
}

impl Requester {
    pub(crate) fn new(id: u64, from: u64) -> Self {
        Self {
            id,
            from,
            unserved: true,
            source: None,
            pace: 0,
            flying: VecDeque::new(),
            last: 0,
        }
    }

    /// The engine says its next message; when it arrives. `None`: it says no more.
    pub(crate) fn say(&mut self, now: u64, latency: u64) -> Option<u64> {
        let (life, answers) = self.source.as_mut()?;
        let frames = answers.next()?;
        self.last = self.last.max(now + latency);
        self.flying.push_back((self.last, *life, frames));
        Some(self.last)
    }

    pub(crate) fn receive(&mut self, now: u64) -> Option<(usize, Vec<Vec<u8>>)> {
        match self.flying.front() {
            Some((at, ..)) if *at <= now => self
                .flying
                .pop_front()
                .map(|(_, life, frames)| (life, frames)),
            _ => None,
        }
    }

    /// The engine is gone: what it had not sent is lost.
    pub(crate) fn cut(&mut self, now: u64, chance: &mut Chance) {
        self.source = None;
        if chance.per_mille(500) {
            self.flying.retain(|(at, ..)| *at <= now);
        }
    }
}
