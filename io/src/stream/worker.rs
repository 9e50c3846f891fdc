//! One worker on its IO thread: its sockets, its sequence machine, its writer.
//!
//! A turn asks what became of the connection, receives live batches, asks again, and lets the machine
//! judge. So the machine knows of a lost connection before it judges what came over the next one:
//! libzmq reports both in order, and what it reports the second time happened while batches were
//! received. For the same reason the connection is looked at between receiving an answer of a replay
//! and judging it: an engine that answers in a new life has broken the connection of the life before.
//!
//! A turn is bounded. While more is held back than one turn may apply, no live batch is received:
//! libzmq keeps them. While actions are left over, no answer is received: an answer must never meet
//! a machine that has asked anew.
use super::NewWorker;
use super::apply::Applier;
use super::pinned::Context;
use super::replay::{Answer, DELIMITER, read_answer, read_live, sequence_frame};
use super::sequence::{Action, Batch, ClearReason, DropReason, Payload, Sequence};
use super::socket::{Frame, Link, Message, Socket, SocketError, Subscriber};
use crate::limits::{
    ACTIONS_PER_TURN_MAX, BACKOFF_MAX, BACKOFF_MIN, BATCHES_PER_TURN_MAX, FRAMES_MAX,
    REPLAY_WHOLE_TIME_MAX, SUBSCRIPTION_QUEUE_MAX,
};
use crate::status::{SkipReason, Trust, WorkerStatus};
use crate::wire;
use kvroute_engine::Writer;
use kvroute_engine::hash::checksum;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a turn leaves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    /// It has more to read.
    pub(super) more: bool,
    /// When it wants a turn even if nothing comes.
    pub(super) timer: Option<Instant>,
}

/// A replay that runs.
#[derive(Debug)]
struct Replay {
    socket: Socket,
    descriptor: RawFd,
    /// Without progress it has failed then.
    deadline: Instant,
    /// It has failed then in any case.
    end: Instant,
}

/// One worker.
#[derive(Debug)]
pub(super) struct Worker {
    name: String,
    events: String,
    replay_endpoint: Option<String>,
    status: Arc<WorkerStatus>,
    sequence: Sequence<Frame>,
    applier: Applier,
    subscription: Option<Subscriber>,
    replay: Option<Replay>,
    links: VecDeque<Link>,
    /// When a failed replay, or a socket that could not be opened, is tried again.
    retry_at: Option<Instant>,
    backoff: Duration,
    /// When the first connection has taken too long.
    patience: Option<Instant>,
    /// A socket was opened in this turn: its descriptor may have fired before it was waited on.
    opened: bool,
    /// The number of the last batch that is in the index. The machine may be ahead.
    applied: Option<u64>,
    /// The last turn's bound was reached before the machine had judged all that it could.
    backlog: bool,
    /// A replay has ended, and what was held back meanwhile is not applied yet.
    catching_up: bool,
}

impl Payload for Frame {
    fn bytes(&self) -> usize {
        self.bytes().len() + size_of::<Self>()
    }

    fn starts_with_clear(&self) -> bool {
        wire::starts_with_clear(self.bytes())
    }
}

impl Worker {
    pub(super) fn new(new: NewWorker) -> Self {
        Self {
            sequence: Sequence::new(new.replay.is_some()),
            applier: Applier::new(new.writer),
            name: new.name,
            events: new.events,
            replay_endpoint: new.replay,
            status: new.status,
            subscription: None,
            replay: None,
            links: VecDeque::new(),
            retry_at: None,
            backoff: BACKOFF_MIN,
            patience: None,
            opened: false,
            applied: None,
            backlog: false,
            catching_up: false,
        }
    }

    /// Does what can be done now, up to a bound.
    pub(super) fn turn(&mut self, context: &mut Context<'_>) -> Turn {
        let more = match self.subscription {
            None => self.subscribe(context),
            Some(_) => self.step(context),
        };
        let more = more.unwrap_or_else(|error| {
            tracing::warn!(worker = self.name, %error, "a socket failed; it will be opened again");
            self.reopen(context);
            false
        });
        let more = self.check_time(context) | more | std::mem::take(&mut self.opened);
        // What a large clear left goes in slices, so that the thread's other workers do not wait for it.
        let more = more | !self.applier.settle(context.at);
        self.catching_up &= self.sequence.waiting() > 0;
        self.publish();
        let timer = self.timer();
        debug_assert!(
            timer.is_none_or(|due| due > context.now),
            "a timer that stays due would keep the thread busy for ever"
        );
        Turn { more, timer }
    }

    /// Closes the sockets; what it held is still to be taken out of the index.
    pub(super) fn into_writer(self) -> Writer {
        self.applier.into_writer()
    }

    /// Opens the event socket. The turn that follows reads what the registration may have missed.
    fn subscribe(&mut self, context: &mut Context<'_>) -> Result<bool, SocketError> {
        if self.retry_at.is_some_and(|at| at > context.now) {
            return Ok(false);
        }
        let subscriber = context.sockets.subscriber(&self.events)?;
        let (events, links) = (
            subscriber.socket().descriptor()?,
            subscriber.monitor().descriptor()?,
        );
        register(context.registry, events, context.token);
        register(context.registry, links, context.token + 1);
        self.subscription = Some(subscriber);
        self.retry_at = None;
        self.patience = Some(context.now + context.replay_time);
        Ok(true)
    }

    /// Gives sockets up that do not work; they are opened again after a while.
    fn reopen(&mut self, context: &mut Context<'_>) {
        self.close_replay(context.registry);
        if let Some(subscription) = self.subscription.take() {
            let sockets = [
                subscription.socket().descriptor(),
                subscription.monitor().descriptor(),
            ];
            sockets
                .into_iter()
                .flatten()
                .for_each(|fd| deregister(context.registry, fd));
            self.sequence.disconnected();
        }
        self.sequence.not_reached();
        self.back_off(context.now);
    }

    fn step(&mut self, context: &mut Context<'_>) -> Result<bool, SocketError> {
        self.read_links(context)?;
        let mut more = self.backlog || self.receive_live(context, BATCHES_PER_TURN_MAX)?;
        self.read_links(context)?;
        if self.act(context)? {
            return Ok(true);
        }
        more |= self.receive_replay(context)?;
        Ok(more)
    }

    /// Tells the machine what became of the connection; whether anything did. Before it reports that a
    /// connection is lost, libzmq hands out all that came over it; so this is received first. What
    /// comes later came over the next connection.
    fn read_links(&mut self, context: &mut Context<'_>) -> Result<bool, SocketError> {
        if let Some(subscription) = &self.subscription {
            subscription
                .monitor()
                .read(context.message, &mut self.links)?;
        }
        let changed = !self.links.is_empty();
        while let Some(link) = self.links.pop_front() {
            self.patience = None;
            match link {
                Link::Up => self.sequence.connected(),
                Link::Down => {
                    // No more than the socket can queue, so that a flood ends this too.
                    for _ in 0..=SUBSCRIPTION_QUEUE_MAX.unsigned_abs() / BATCHES_PER_TURN_MAX {
                        if !self.receive_live(context, BATCHES_PER_TURN_MAX)? {
                            break;
                        }
                    }
                    self.sequence.disconnected();
                }
            }
        }
        Ok(changed)
    }

    /// Receives live batches; whether there may be more.
    fn receive_live(&mut self, context: &mut Context<'_>, limit: u32) -> Result<bool, SocketError> {
        let Some(subscription) = &self.subscription else {
            return Ok(false);
        };
        for _ in 0..limit {
            if !subscription.socket().receive(context.message)? {
                return Ok(false);
            }
            self.status.touch();
            match read_message(context.message, read_live) {
                Ok(raw) => {
                    let (sequence, checksum) = (raw.sequence, checksum(raw.payload));
                    if let Some(payload) = context.message.take_last() {
                        self.sequence.live(Batch {
                            sequence,
                            checksum,
                            payload,
                        });
                    }
                }
                Err(reason) => self.status.add_skipped(reason, 1),
            }
        }
        Ok(true)
    }

    /// Receives what a replay answers; whether there may be more.
    fn receive_replay(&mut self, context: &mut Context<'_>) -> Result<bool, SocketError> {
        for _ in 0..BATCHES_PER_TURN_MAX {
            let Some(replay) = &mut self.replay else {
                return Ok(false);
            };
            if !replay.socket.receive(context.message)? {
                return Ok(false);
            }
            replay.deadline = context.now + context.replay_time;
            self.status.touch();
            let answer = std::mem::take(context.message);
            if self.read_links(context)? {
                // The answer is worth nothing: after a connection another replay is asked for.
                self.act(context)?;
                return Ok(true);
            }
            *context.message = answer;
            match read_message(context.message, read_answer) {
                Ok(Answer::End) => {
                    self.close_replay(context.registry);
                    self.backoff = BACKOFF_MIN;
                    self.catching_up = true;
                    self.sequence.replay_ended();
                }
                Ok(Answer::Batch(raw)) => {
                    let (sequence, checksum) = (raw.sequence, checksum(raw.payload));
                    if let Some(payload) = context.message.take_last() {
                        self.sequence.replayed(Batch {
                            sequence,
                            checksum,
                            payload,
                        });
                    }
                }
                Err(reason) => self.status.add_skipped(reason, 1),
            }
            if self.act(context)? {
                return Ok(true);
            }
        }
        Ok(true)
    }

    /// Does what the machine says, up to a bound; whether that was reached.
    fn act(&mut self, context: &mut Context<'_>) -> Result<bool, SocketError> {
        for _ in 0..ACTIONS_PER_TURN_MAX {
            let Some(action) = self.sequence.pop() else {
                self.backlog = false;
                return Ok(false);
            };
            match action {
                Action::Apply(batch) => self.apply(&batch, context),
                Action::Clear(reason) => {
                    tracing::info!(worker = self.name, ?reason, "dropped what it held");
                    let restarted = reason == ClearReason::Restart;
                    self.applier.reset(context.at, restarted);
                    self.applied = None;
                }
                Action::AskReplay { from } => self.ask_replay(from, context),
                Action::StopReplay => self.close_replay(context.registry),
                Action::Drop { batches, reason } => {
                    let reason = match reason {
                        DropReason::Duplicate => SkipReason::Duplicate,
                        DropReason::OtherLife | DropReason::NotAsked => SkipReason::OtherLife,
                        DropReason::HeldBackFull => SkipReason::HeldBackFull,
                    };
                    self.status.add_skipped(reason, batches);
                }
            }
        }
        self.backlog = true;
        Ok(true)
    }

    fn apply(&mut self, batch: &Batch<Frame>, context: &mut Context<'_>) {
        let payload = batch.payload.bytes();
        let applied = self
            .applier
            .apply(context.at, payload, context.scratch, &self.status);
        if applied.cleared {
            self.sequence.cleared();
        }
        self.status.add_batches(1);
        // The trust first: who sees the number sees at least this batch's trust.
        self.publish_trust();
        self.applied = Some(batch.sequence);
        self.status.set_last_sequence(self.applied);
    }

    fn ask_replay(&mut self, from: u64, context: &mut Context<'_>) {
        self.close_replay(context.registry);
        self.retry_at = None;
        self.status.add_replays(1);
        if let Err(error) = self.try_ask(from, context) {
            tracing::warn!(worker = self.name, %error, "cannot ask for a replay");
            self.sequence.replay_failed();
        }
    }

    fn try_ask(&mut self, from: u64, context: &mut Context<'_>) -> Result<(), SocketError> {
        let Some(endpoint) = &self.replay_endpoint else {
            self.sequence.replay_failed();
            return Ok(());
        };
        let socket = context.sockets.requester(endpoint)?;
        // Queued until the connection is there.
        socket.send(&[DELIMITER, &sequence_frame(from)])?;
        let descriptor = socket.descriptor()?;
        register(context.registry, descriptor, context.token + 2);
        self.opened = true;
        self.replay = Some(Replay {
            socket,
            descriptor,
            deadline: context.now + context.replay_time,
            end: context.now + REPLAY_WHOLE_TIME_MAX,
        });
        Ok(())
    }

    fn close_replay(&mut self, registry: &Registry) {
        if let Some(replay) = self.replay.take() {
            deregister(registry, replay.descriptor);
        }
    }

    /// Does what is due by the clock; whether something is left to do at once.
    fn check_time(&mut self, context: &mut Context<'_>) -> bool {
        let now = context.now;
        if self
            .replay
            .as_ref()
            .is_some_and(|replay| replay.deadline.min(replay.end) <= now)
        {
            tracing::info!(worker = self.name, "a replay was not answered in time");
            self.close_replay(context.registry);
            self.catching_up = true;
            self.sequence.replay_failed();
        }
        if self.patience.is_some_and(|at| at <= now) {
            self.patience = None;
            self.sequence.not_reached();
        }
        let more = self.act(context).unwrap_or_else(|error| {
            tracing::warn!(worker = self.name, %error, "a socket failed");
            self.reopen(context);
            false
        });
        if self.subscription.is_none() || self.replay.is_some() {
            return more;
        }
        match self.retry_at {
            _ if !self.sequence.wants_retry() => self.retry_at = None,
            None => self.back_off(now),
            Some(at) if at <= now => {
                self.retry_at = None;
                self.sequence.retry();
                return true;
            }
            Some(_) => {}
        }
        more
    }

    /// The next attempt: after twice the time of the last one, less up to half by chance.
    fn back_off(&mut self, now: Instant) {
        // A hasher with keys of its own is the standard library's source of chance.
        let chance = RandomState::new().build_hasher().finish() >> 32;
        let spread = chance as f64 / f64::from(u32::MAX);
        self.retry_at = Some(now + self.backoff.mul_f64(1.0 - spread / 2.0));
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
    }

    fn timer(&self) -> Option<Instant> {
        let replay = self
            .replay
            .as_ref()
            .map(|replay| replay.deadline.min(replay.end));
        [replay, self.retry_at, self.patience]
            .into_iter()
            .flatten()
            .min()
    }

    /// Tells what changed.
    fn publish(&mut self) {
        let tally = self.sequence.take_tally();
        self.status.add_gaps(tally.gaps);
        self.status.add_restarts(tally.restarts);
        self.status.set_last_sequence(self.applied);
        self.status.set_blocks(self.applier.writer().blocks());
        self.publish_trust();
    }

    fn publish_trust(&self) {
        let trust = match self.sequence.trust() {
            _ if self.applier.is_distrusted() => Trust::Distrusted,
            Trust::Exact if self.catching_up => Trust::Replaying,
            // Lookups do not see it yet.
            Trust::Exact if !self.applier.writer().is_settled() => Trust::Replaying,
            Trust::Exact if self.applier.is_partial() => Trust::Partial,
            trust => trust,
        };
        self.status.set_trust(trust);
    }
}

/// Reads a message's frames, at most as many as are kept.
fn read_message<'m, T>(
    message: &'m Message,
    read: impl FnOnce(&[&'m [u8]]) -> Result<T, SkipReason>,
) -> Result<T, SkipReason> {
    if message.is_too_long() {
        return Err(SkipReason::Framing);
    }
    let mut frames = [&[][..]; FRAMES_MAX];
    let kept = message.frames();
    for (place, frame) in frames.iter_mut().zip(kept) {
        *place = frame.bytes();
    }
    read(&frames[..kept.len().min(FRAMES_MAX)])
}

/// Waits on a descriptor. If the system refuses, the worker is looked at by the clock alone.
fn register(registry: &Registry, descriptor: RawFd, token: usize) {
    let registered =
        registry.register(&mut SourceFd(&descriptor), Token(token), Interest::READABLE);
    if let Err(error) = registered {
        tracing::error!(%error, "cannot wait on a socket");
    }
}

fn deregister(registry: &Registry, descriptor: RawFd) {
    if let Err(error) = registry.deregister(&mut SourceFd(&descriptor)) {
        tracing::debug!(%error, "cannot cease to wait on a socket");
    }
}
