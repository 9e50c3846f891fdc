//! One pod of the simulated fleet: its engine, and the real decoder and writer that its events go to.
//!
//! Batches are written as vLLM 0.32 writes them and reach the follower some time later, in order; what follows is
//! the code of the node.
use super::engine::{Engine, EngineOptions};
use crate::fake::encode::{Dialect, Encoder};
use crate::status::{Trust, WorkerStatus};
use crate::stream::follow::{Acted, Follower, Timing};
use crate::wire::Scratch;
use kvroute_engine::{Participant, Writer};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What feeding events takes, shared by the pods of one run.
pub(crate) struct Feeding<'a> {
    pub(crate) at: &'a Participant,
    pub(crate) scratch: Scratch,
    /// What virtual time begins with; nothing depends on it.
    base: Instant,
}

impl<'a> Feeding<'a> {
    pub(crate) fn new(at: &'a Participant) -> Self {
        Self {
            at,
            scratch: Scratch::default(),
            base: Instant::now(),
        }
    }
}

/// One pod.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) engine: Engine,
    encoder: Encoder,
    follower: Follower<Vec<u8>>,
    /// Published, and not at the node yet: when each arrives there, in microseconds.
    underway: VecDeque<(u64, Vec<u8>)>,
    next: u64,
    /// Bytes of all batches.
    pub(crate) bytes: u64,
    connected: bool,
}

impl Pod {
    pub(crate) fn new(options: EngineOptions, writer: Writer, name: String) -> Self {
        let status = Arc::new(WorkerStatus::default());
        Self {
            engine: Engine::new(options),
            encoder: Encoder {
                dialect: Dialect::V0_32,
                bytes: false,
                unknown_fields: false,
                block_size: options.block_size,
                rank: 0,
            },
            follower: Follower::new(writer, status, name, false, Timing::default()),
            underway: VecDeque::new(),
            next: 0,
            bytes: 0,
            connected: false,
        }
    }

    /// Sends what the engine has to say; it arrives `delay` microseconds from `now`.
    pub(crate) fn publish(&mut self, now: u64, delay: u64) {
        let events = self.engine.take_events();
        if events.is_empty() {
            return;
        }
        let seconds = Duration::from_micros(now).as_secs_f64();
        let payload = self.encoder.batch(seconds, &events);
        self.bytes += payload.len() as u64;
        self.underway.push_back((now + delay, payload));
    }

    /// Applies what has arrived by `now`.
    pub(crate) fn receive(&mut self, now: u64, feeding: &mut Feeding<'_>) {
        let mut came = false;
        while let Some((_, payload)) = self.underway.pop_front_if(|(due, _)| *due <= now) {
            let instant = feeding.base + Duration::from_micros(now);
            if !std::mem::replace(&mut self.connected, true) {
                self.follower.connecting(instant);
                self.follower.connected(instant);
            }
            self.follower.live(self.next, payload);
            self.next += 1;
            self.act(instant, feeding);
            came = true;
        }
        if came {
            while !self.follower.settle(feeding.at) {}
        }
    }

    fn act(&mut self, instant: Instant, feeding: &mut Feeding<'_>) {
        loop {
            let acted = self.follower.act(instant, feeding.at, &mut feeding.scratch);
            match acted {
                Acted::Idle => return,
                Acted::More => {}
                // There is no replay socket. Batches come in order, so nothing ever asks for one.
                Acted::Ask { .. } | Acted::Stop => self.follower.replay_failed(),
            }
        }
    }

    /// Whether the node says that it knows exactly what the engine holds.
    pub(crate) fn is_exact(&self) -> bool {
        self.next == 0 || self.follower.trust() == Trust::Exact
    }

    /// The next batch never arrives.
    #[cfg(test)]
    pub(crate) fn lose(&mut self) {
        self.underway.pop_front();
    }

    /// Blocks that the node believes the engine to hold.
    pub(crate) fn blocks(&self) -> u64 {
        self.follower.writer().blocks()
    }
}
