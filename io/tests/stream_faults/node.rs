//! The node's side of one worker: a follower, fed in the order in which an IO thread reads its sockets.
use crate::faults::Kind;
use crate::net::{Live, Message, Requester};
use crate::restart::{self, Saved};
use crate::truth::Life;
use kvroute::fake::chance::Chance;
use kvroute::limits::{ASKS_PER_TURN_MAX, BATCHES_PER_TURN_MAX, FRAMES_MAX};
use kvroute::status::{SkipReason, WorkerStatus};
use kvroute::stream::follow::{Acted, Follower, Timing};
use kvroute::stream::replay::{Answer, read_answer};
use kvroute::stream::sequence::Payload;
use kvroute::wire::{self, Scratch};
use kvroute_engine::{Participant, Writer};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A payload that is counted as long as somebody has it.
#[derive(Debug)]
pub(crate) struct Bytes {
    bytes: Vec<u8>,
    /// How many it claims to be.
    weight: usize,
    alive: Rc<Cell<usize>>,
}

impl Bytes {
    fn new(bytes: Vec<u8>, weight: usize, alive: &Rc<Cell<usize>>) -> Self {
        let weight = weight.max(bytes.len());
        alive.set(alive.get() + weight);
        Self {
            bytes,
            weight,
            alive: Rc::clone(alive),
        }
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        self.alive.set(self.alive.get() - self.weight);
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Payload for Bytes {
    fn bytes(&self) -> usize {
        self.weight
    }

    fn starts_with_clear(&self) -> bool {
        wire::starts_with_clear(&self.bytes)
    }
}

/// What a turn may use beside the worker.
pub(crate) struct Turn<'a> {
    pub(crate) now: u64,
    pub(crate) base: Instant,
    pub(crate) at: &'a Participant,
    pub(crate) scratch: &'a mut Scratch,
    pub(crate) live: &'a mut Live,
    pub(crate) lives: &'a mut [Life],
}

impl Turn<'_> {
    fn instant(&self) -> Instant {
        self.base + Duration::from_micros(self.now)
    }
}

/// What becomes of a wish for a replay, each a number of a thousand.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Asking {
    pub(crate) fails: u64,
    pub(crate) waits: u64,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) follower: Follower<Bytes>,
    pub(crate) status: Arc<WorkerStatus>,
    pub(crate) replay: Option<Requester>,
    /// A replay from this number waits for its turn.
    pub(crate) wish: Option<u64>,
    /// A request that is to be sent on its way.
    pub(crate) opened: bool,
    requests: u64,
    chance: Chance,
    pub(crate) asking: Asking,
    /// Faults that struck here.
    pub(crate) struck: Vec<Kind>,
    /// Bytes of all payloads that it has.
    pub(crate) alive: Rc<Cell<usize>>,
    /// How many bytes each payload claims to be.
    pub(crate) weight: usize,
    backlog: bool,
    /// A connection was made in the engine's present life. (A replay that ends without a batch does not tell
    /// a new life from an engine that keeps no ring.)
    pub(crate) knows_life: bool,
    /// What its follower is made with, also after a restart of the node.
    pub(crate) kind: restart::Kind,
    pub(crate) saved: Option<Saved>,
}

impl Node {
    pub(crate) fn new(
        writer: Writer,
        has_replay: bool,
        timing: Timing,
        weight: usize,
        chance: Chance,
    ) -> Self {
        let kind = restart::Kind { has_replay, timing };
        let (follower, status) = kind.follower(writer);
        Self {
            follower,
            status,
            replay: None,
            wish: None,
            opened: false,
            requests: 0,
            chance,
            asking: Asking::default(),
            struck: Vec::new(),
            alive: Rc::default(),
            weight,
            backlog: false,
            knows_life: false,
            kind,
            saved: None,
        }
    }

    /// One turn of the IO thread; whether there is more to do at once.
    pub(crate) fn turn(&mut self, turn: &mut Turn<'_>) -> bool {
        self.read_links(turn);
        let mut more = self.backlog || self.receive_live(turn, BATCHES_PER_TURN_MAX);
        turn.now += 3;
        self.read_links(turn);
        if self.act(turn) {
            more = true;
        } else {
            more |= self.receive_replay(turn);
        }
        if self.follower.check_time(turn.instant()).is_some() {
            self.close_replay();
        }
        more |= self.act(turn);
        more | !self.follower.settle(turn.at)
    }

    fn read_links(&mut self, turn: &mut Turn<'_>) -> bool {
        let mut changed = false;
        while let Some(link) = turn.live.link(turn.now) {
            changed = true;
            if let Some(life) = link {
                self.follower.connected(turn.instant());
                self.knows_life = life + 1 == turn.lives.len();
            } else {
                while self.receive_live(turn, u32::MAX) {}
                self.follower.disconnected();
            }
        }
        changed
    }

    fn receive_live(&mut self, turn: &mut Turn<'_>, limit: u32) -> bool {
        for _ in 0..limit {
            match turn.live.receive(turn.now) {
                None => return false,
                Some(Message::Skipped(reason)) => {
                    self.follower.skipped(reason);
                }
                Some(Message::Batch {
                    life,
                    sequence,
                    payload,
                }) => {
                    turn.lives[life].give(sequence, &payload);
                    let payload = Bytes::new(payload, self.weight, &self.alive);
                    self.follower.live(sequence, payload);
                }
            }
        }
        true
    }

    fn receive_replay(&mut self, turn: &mut Turn<'_>) -> bool {
        for _ in 0..BATCHES_PER_TURN_MAX {
            turn.now += 1;
            let Some((life, frames)) = self.replay.as_mut().and_then(|r| r.receive(turn.now))
            else {
                return false;
            };
            if self.read_links(turn) {
                self.act(turn);
                return true;
            }
            self.take_answer(turn, life, &frames);
            if self.act(turn) {
                return true;
            }
        }
        true
    }

    fn take_answer(&mut self, turn: &mut Turn<'_>, life: usize, frames: &[Vec<u8>]) {
        let now = turn.instant();
        let slices: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
        let read = match slices.len() > FRAMES_MAX {
            true => Err(SkipReason::Framing),
            false => read_answer(&slices),
        };
        match read {
            Ok(Answer::End) => {
                self.close_replay();
                self.follower.ended();
            }
            Ok(Answer::Batch(raw)) => {
                turn.lives[life].give(raw.sequence, raw.payload);
                let payload = Bytes::new(raw.payload.to_vec(), self.weight, &self.alive);
                self.follower.answered(now, raw.sequence, payload);
            }
            Err(reason) => {
                turn.lives[life].unreadable = true;
                self.close_replay();
                self.follower.answered_badly(reason);
            }
        }
    }

    fn act(&mut self, turn: &mut Turn<'_>) -> bool {
        for _ in 0..ASKS_PER_TURN_MAX {
            match self.follower.act(turn.instant(), turn.at, turn.scratch) {
                Acted::Idle => {
                    self.backlog = false;
                    return false;
                }
                Acted::More => break,
                Acted::Stop => self.close_replay(),
                Acted::Ask { from } => {
                    self.close_replay();
                    self.ask(from, turn.instant());
                }
            }
        }
        self.backlog = true;
        true
    }

    fn ask(&mut self, from: u64, now: Instant) {
        if self.chance.per_mille(self.asking.fails) {
            self.struck.push(Kind::SocketFails);
            self.follower.replay_failed();
        } else if self.chance.per_mille(self.asking.waits) {
            self.struck.push(Kind::Queued);
            self.wish = Some(from);
        } else {
            self.open(from, now);
        }
    }

    /// The request is on its way.
    pub(crate) fn open(&mut self, from: u64, now: Instant) {
        self.requests += 1;
        self.wish = None;
        self.replay = Some(Requester::new(self.requests, from));
        self.opened = true;
        self.follower.asked(now);
    }

    /// The sockets are closed.
    pub(crate) fn forget_sockets(&mut self) {
        self.close_replay();
        self.backlog = false;
        self.knows_life = false;
    }

    fn close_replay(&mut self) {
        self.replay = None;
        self.wish = None;
        self.opened = false;
    }
}
