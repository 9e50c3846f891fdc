//! One worker on its IO thread: its sockets, and the follower that they feed.
//!
//! A turn asks what became of the connection, receives live batches, asks again, and lets the follower
//! judge. So it knows of a lost connection before it judges what came over the next one:
//! libzmq reports both in order, and what it reports the second time happened while batches were
//! received. For the same reason the connection is looked at between receiving an answer of a replay
//! and judging it: an engine that answers in a new life has broken the connection of the life before.
//!
//! Before anything else a worker that was saved is loaded from its file. While it is dumped, in slices too, its events
//! wait in libzmq's queues.
//!
//! A turn is bounded. While more is held back than one turn may apply, no live batch is received:
//! libzmq keeps them. While actions are left over, no answer is received: an answer must never meet
//! a follower that has asked anew.
use super::NewWorker;
use super::endpoints::Endpoints;
use super::follow::{Acted, Follower, Timing};
use super::governor::Permit;
use super::keep::{Dumping, Loading};
use super::pinned::Context;
use super::replay::{Answer, DELIMITER, read_answer, read_live, sequence_frame};
use super::resolve::Answered;
use super::saved::SaveTo;
use super::sequence::Payload;
use super::socket::{Frame, Link, Message, Socket, SocketError, Subscriber};
use crate::limits::{
    ASKS_PER_TURN_MAX, BACKOFF_MAX, BACKOFF_MIN, BATCHES_PER_TURN_MAX, FRAMES_MAX,
    PERMIT_IDLE_TIME_MAX, SUBSCRIPTION_QUEUE_MAX,
};
use crate::quiet::Throttle;
use crate::status::{IoStatus, SkipReason};
use crate::wire;
use kvroute_engine::types::WorkerId;
use kvroute_engine::{Participant, Writer};
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

static FAILED: Throttle = Throttle::new();
static NOT_LOADED: Throttle = Throttle::new();

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
    /// Given back when the replay is over; or earlier, if no answer comes: an engine that does not answer is not
    /// kept from anything.
    permit: Option<Permit>,
    /// When that is, while there is no answer.
    permit_until: Option<Instant>,
}

/// One worker.
#[derive(Debug)]
pub(super) struct Worker {
    id: WorkerId,
    endpoints: Endpoints,
    follower: Follower<Frame>,
    subscription: Option<Subscriber>,
    replay: Option<Replay>,
    /// A replay from this number waits for a permit.
    wish: Option<u64>,
    /// It is in the governor's line.
    in_line: bool,
    links: VecDeque<Link>,
    /// When a socket that could not be opened is tried again.
    reopen_at: Option<Instant>,
    backoff: Duration,
    /// A socket was opened in this turn: its descriptor may have fired before it was waited on.
    opened: bool,
    /// The last turn's bound was reached before the follower had judged all that it could.
    backlog: bool,
    loading: Option<Loading>,
    saving: VecDeque<SaveTo>,
    dumping: Option<Dumping>,
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
    pub(super) fn new(new: NewWorker, timing: Timing, measured: &Arc<IoStatus>) -> Self {
        let id = new.writer.id();
        let timing = Timing {
            // A hasher with keys of its own is the standard library's source of chance.
            seed: RandomState::new().build_hasher().finish(),
            ..timing
        };
        let has_replay = new.replay.is_some();
        Self {
            id,
            follower: Follower::new(new.writer, new.status, new.name, has_replay, timing)
                .measured(Arc::clone(measured)),
            endpoints: Endpoints::new(new.events, new.replay),
            subscription: None,
            replay: None,
            wish: None,
            in_line: false,
            links: VecDeque::new(),
            reopen_at: None,
            backoff: BACKOFF_MIN,
            opened: false,
            backlog: false,
            loading: new.kept.map(Loading::new),
            saving: VecDeque::new(),
            dumping: None,
        }
    }

    /// Does what can be done now, up to a bound.
    pub(super) fn turn(&mut self, context: &mut Context<'_>) -> Turn {
        // A dump that ends lets what has waited in at once.
        if self.load_some(context) || self.dump_some() {
            return Turn {
                more: true,
                timer: None,
            };
        }
        let stepped = match self.subscription {
            None => self.subscribe(context),
            Some(_) => self.step(context),
        };
        let mut more = stepped.unwrap_or_else(|error| {
            self.follower.socket_failed();
            if let Some(more) = FAILED.pass() {
                let worker = self.follower.name();
                tracing::warn!(worker, %error, more, "a socket failed; it will be opened again");
            }
            self.reopen(context);
            false
        });
        if self.follower.check_time(context.now).is_some() {
            self.close_replay(context.registry);
        }
        self.check_permit(context.now);
        more |= self.act(context) | std::mem::take(&mut self.opened);
        // What a large clear left goes in slices, so that the thread's other workers do not wait for it.
        more |= !self.follower.settle(context.at);
        if self.endpoints.are_old(context.now) {
            self.endpoints.ask(self.id, context);
        }
        let permit = self.replay.as_ref().and_then(|replay| replay.permit_until);
        let timer = [
            self.follower.due(),
            self.reopen_at,
            self.endpoints.due(),
            permit,
        ];
        let timer = timer.into_iter().flatten().min();
        debug_assert!(
            more || timer.is_none_or(|due| due > context.now),
            "a timer that stays due would keep the thread busy for ever"
        );
        Turn { more, timer }
    }

    /// Whether it is still to be loaded from a snapshot.
    pub(super) fn is_loading(&self) -> bool {
        self.loading.is_some()
    }

    /// Forgets what was stored longest ago if the index is nearly full.
    pub(super) fn trim(&mut self, at: &Participant) {
        // A dump ends if what it goes through changes.
        if !self.is_loading() && self.dumping.is_none() {
            self.follower.trim(at);
        }
    }

    /// Closes the sockets; what it held is still to be taken out of the index.
    pub(super) fn into_writer(self) -> Writer {
        self.follower.into_writer()
    }

    /// The engine may be another one than it was.
    pub(super) fn verify(&mut self, now: Instant) {
        self.follower.verify(now);
    }

    /// It was started anew.
    pub(super) fn restarted(&mut self) {
        self.follower.restarted();
    }

    /// It serves, but nothing is heard from it.
    pub(super) fn unheard(&mut self, now: Instant) {
        self.follower.unheard(now);
    }

    /// Its engine does not deliver what it is said to hold.
    pub(super) fn distrust(&mut self, now: Instant) {
        self.follower.distrust(now);
    }

    /// It is to be saved.
    pub(super) fn save(&mut self, to: SaveTo) {
        self.saving.push_back(to);
    }

    /// Loads a slice of what it was saved as; whether there is more.
    fn load_some(&mut self, context: &Context<'_>) -> bool {
        let Some(loading) = &mut self.loading else {
            return false;
        };
        match loading.load_some(context.at, &mut self.follower) {
            Ok(false) => return true,
            Ok(true) => {}
            Err(error) => {
                if let Some(more) = NOT_LOADED.pass() {
                    let worker = self.follower.name();
                    tracing::warn!(worker, %error, more, "not loaded from the snapshot; it starts cold");
                }
            }
        }
        self.loading = None;
        false
    }

    /// Dumps a slice of what it holds for whoever wants it saved; whether there is more.
    fn dump_some(&mut self) -> bool {
        if self.dumping.is_none() {
            let Some(to) = self.saving.pop_front() else {
                return false;
            };
            let standing = self.follower.standing();
            if standing.is_some() || to.takes_blocks() {
                self.dumping = Some(Dumping::new(self.follower.writer(), standing, to));
            } else {
                to.give_blocks(None);
            }
        }
        if let Some(dumping) = self.dumping.take() {
            let long = dumping.is_long();
            self.dumping = dumping.dump_some(self.follower.writer());
            if long {
                self.follower.hold_up(self.dumping.is_some());
            }
        }
        self.dumping.is_some() || !self.saving.is_empty()
    }

    /// Its hosts have addresses, or not.
    pub(super) fn resolved(&mut self, answer: Answered, context: &mut Context<'_>) {
        let connected = self.follower.is_connected();
        match self.endpoints.resolved(answer, connected, context.now) {
            Ok(false) => {}
            // They have moved, or are known at last.
            Ok(true) if self.subscription.is_some() => {
                self.reopen(context);
                self.reopen_at = None;
            }
            Ok(true) => self.reopen_at = None,
            Err(error) => {
                if let Some(more) = FAILED.pass() {
                    let worker = self.follower.name();
                    tracing::warn!(worker, %error, more, "a host has no address; it will be asked for again");
                }
                self.follower.not_reached();
            }
        }
    }

    /// Its turn in the governor's line has come.
    pub(super) fn granted(&mut self, permit: Permit, context: &mut Context<'_>) {
        self.in_line = false;
        if let Some(from) = self.wish.take() {
            self.open_replay(from, permit, context);
        }
    }

    /// Opens the event socket. The turn that follows reads what the registration may have missed.
    fn subscribe(&mut self, context: &mut Context<'_>) -> Result<bool, SocketError> {
        if self.reopen_at.is_some_and(|at| at > context.now) {
            return Ok(false);
        }
        if !self.endpoints.are_known() {
            self.endpoints.ask(self.id, context);
            return Ok(false);
        }
        let subscriber = context.sockets.subscriber(&self.endpoints.events)?;
        let (events, links) = (
            subscriber.socket().descriptor()?,
            subscriber.monitor().descriptor()?,
        );
        for (descriptor, token) in [(events, context.token), (links, context.token + 1)] {
            register(context.registry, descriptor, token)
                .map_err(|source| subscriber.socket().cannot_wait(&source))?;
        }
        self.subscription = Some(subscriber);
        self.reopen_at = None;
        self.follower.connecting(context.now);
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
            self.follower.disconnected();
            self.endpoints.disconnected(context.now);
        }
        self.follower.not_reached();
        self.reopen_at = Some(context.now + self.backoff);
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
    }

    fn step(&mut self, context: &mut Context<'_>) -> Result<bool, SocketError> {
        self.read_links(context)?;
        let mut more = self.backlog || self.receive_live(context, BATCHES_PER_TURN_MAX)?;
        self.read_links(context)?;
        if self.act(context) {
            return Ok(true);
        }
        more |= self.receive_replay(context)?;
        Ok(more)
    }

    /// Tells the follower what became of the connection; whether anything did. Before it reports that a
    /// connection is lost, libzmq hands out all that came over it; so this is received first. What
    /// comes later came over the next connection. (After an error of the protocol, say a frame beyond all bounds, what was
    /// read with it comes after the report. Such an engine is not one that is followed exactly anyway.)
    fn read_links(&mut self, context: &mut Context<'_>) -> Result<bool, SocketError> {
        if let Some(subscription) = &self.subscription {
            subscription
                .monitor()
                .read(context.message, &mut self.links)?;
        }
        let changed = !self.links.is_empty();
        while let Some(link) = self.links.pop_front() {
            match link {
                Link::Up => {
                    self.backoff = BACKOFF_MIN;
                    self.endpoints.connected();
                    self.follower.connected(context.now);
                }
                Link::Down => {
                    // No more than the socket can queue, so that a flood ends this too.
                    for _ in 0..=SUBSCRIPTION_QUEUE_MAX.unsigned_abs() / BATCHES_PER_TURN_MAX {
                        if !self.receive_live(context, BATCHES_PER_TURN_MAX)? {
                            break;
                        }
                    }
                    self.follower.disconnected();
                    self.endpoints.disconnected(context.now);
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
            match read_message(context.message, |frames| Ok(read_live(frames)?.sequence)) {
                Ok(sequence) => {
                    if let Some(payload) = context.message.take_last() {
                        self.follower.live(sequence, payload);
                    }
                }
                Err(reason) => self.follower.skipped(reason),
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
            replay.permit_until = None;
            let answer = std::mem::take(context.message);
            if self.read_links(context)? {
                // The answer is worth nothing: after a connection another replay is asked for.
                self.act(context);
                return Ok(true);
            }
            *context.message = answer;
            match read_message(context.message, number_of_answer) {
                Ok(None) => {
                    self.close_replay(context.registry);
                    self.follower.ended();
                }
                Ok(Some(sequence)) => {
                    if let Some(payload) = context.message.take_last() {
                        self.follower.answered(context.now, sequence, payload);
                    }
                }
                Err(reason) => {
                    self.close_replay(context.registry);
                    self.follower.answered_badly(reason);
                }
            }
            if self.act(context) {
                return Ok(true);
            }
        }
        Ok(true)
    }

    /// Does what the follower says, up to a bound; whether that was reached.
    fn act(&mut self, context: &mut Context<'_>) -> bool {
        for _ in 0..ASKS_PER_TURN_MAX {
            match self.follower.act(context.now, context.at, context.scratch) {
                Acted::Idle => {
                    self.backlog = false;
                    return false;
                }
                Acted::More => break,
                Acted::Stop => self.close_replay(context.registry),
                Acted::Ask { from } => self.ask_replay(from, context),
            }
        }
        self.backlog = true;
        true
    }

    fn ask_replay(&mut self, from: u64, context: &mut Context<'_>) {
        self.close_replay(context.registry);
        if self.in_line {
            self.wish = Some(from);
            return;
        }
        match context.governor.ask(self.id, context.inbox) {
            Some(permit) => self.open_replay(from, permit, context),
            None => {
                self.in_line = true;
                self.wish = Some(from);
            }
        }
    }

    fn open_replay(&mut self, from: u64, permit: Permit, context: &mut Context<'_>) {
        match self.try_ask(from, permit, context) {
            Ok(()) => self.follower.asked(context.now),
            Err(error) => {
                if let Some(more) = FAILED.pass() {
                    let worker = self.follower.name();
                    tracing::warn!(worker, %error, more, "cannot ask for a replay");
                }
                self.follower.replay_failed();
            }
        }
    }

    fn try_ask(
        &mut self,
        from: u64,
        permit: Permit,
        context: &mut Context<'_>,
    ) -> Result<(), SocketError> {
        let socket = context.sockets.requester(&self.endpoints.replay)?;
        // Queued until the connection is there.
        socket.send(&[DELIMITER, &sequence_frame(from)])?;
        let descriptor = socket.descriptor()?;
        register(context.registry, descriptor, context.token + 2)
            .map_err(|source| socket.cannot_wait(&source))?;
        self.opened = true;
        self.replay = Some(Replay {
            socket,
            descriptor,
            permit: Some(permit),
            permit_until: Some(context.now + PERMIT_IDLE_TIME_MAX),
        });
        Ok(())
    }

    /// A replay that nobody answers is waited for, but others need not.
    fn check_permit(&mut self, now: Instant) {
        if let Some(replay) = &mut self.replay
            && replay.permit_until.is_some_and(|at| at <= now)
        {
            replay.permit_until = None;
            replay.permit = None;
        }
    }

    fn close_replay(&mut self, registry: &Registry) {
        self.wish = None;
        if let Some(replay) = self.replay.take() {
            deregister(registry, replay.descriptor);
        }
    }
}

/// The number of a replay's batch; `None` for its end.
fn number_of_answer(frames: &[&[u8]]) -> Result<Option<u64>, SkipReason> {
    match read_answer(frames)? {
        Answer::End => Ok(None),
        Answer::Batch(raw) => Ok(Some(raw.sequence)),
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

/// Waits on a descriptor.
fn register(registry: &Registry, descriptor: RawFd, token: usize) -> io::Result<()> {
    registry.register(&mut SourceFd(&descriptor), Token(token), Interest::READABLE)
}

fn deregister(registry: &Registry, descriptor: RawFd) {
    if let Err(error) = registry.deregister(&mut SourceFd(&descriptor)) {
        tracing::debug!(%error, "cannot cease to wait on a socket");
    }
}
