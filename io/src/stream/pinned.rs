//! The loop of an IO thread: waits on all its workers' sockets, gives each its turn.
//!
//! libzmq's descriptors are edge-triggered hints, so a worker that had more to read than its turn
//! allows goes to the end of the ready list instead of being waited for. A turn is bounded by
//! [`crate::limits::BATCHES_PER_TURN_MAX`], so one flooding worker delays another by one turn at most.
use super::follow::Timing;
use super::governor::{Governor, Permit};
use super::resolve::Resolver;
use super::socket::{Message, Sockets};
use super::worker::{Turn, Worker};
use super::{Inbox, NewWorker, Note};
use crate::fatal::INTERNAL_ERROR;
use crate::limits::{
    COMMANDS_PER_TURN_MAX, READINESS_EVENTS_MAX, RUNS_PER_SLICE, TRIM_GLANCE, TRIM_PAUSE,
};
use crate::status::IoStatus;
use crate::wire::Scratch;
use ahash::AHashMap;
use crossbeam_channel::Receiver;
use kvroute_engine::types::WorkerId;
use kvroute_engine::{Index, Participant, Writer};
use mio::{Events, Poll, Registry, Token};
use std::collections::{BTreeSet, VecDeque};
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// The token of the thread's waker.
pub(super) const WAKE: Token = Token(usize::MAX);

/// Sockets of one worker that are waited on, each with a token of its own.
const TOKENS: usize = 3;

/// What a thread is started with.
#[derive(Debug)]
pub(super) struct Setup {
    pub(super) index: Arc<Index>,
    pub(super) sockets: Sockets,
    pub(super) governor: Arc<Governor>,
    pub(super) resolver: Resolver,
    pub(super) timing: Timing,
    pub(super) commands: Receiver<NewWorker>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) measured: Arc<IoStatus>,
}

/// What a worker needs of its thread during a turn.
#[derive(Debug)]
pub(super) struct Context<'t> {
    pub(super) at: &'t Participant,
    pub(super) sockets: &'t Sockets,
    pub(super) registry: &'t Registry,
    /// The first of the worker's tokens.
    pub(super) token: usize,
    pub(super) governor: &'t Arc<Governor>,
    pub(super) inbox: &'t Arc<Inbox>,
    pub(super) resolver: &'t Resolver,
    pub(super) now: Instant,
    pub(super) scratch: &'t mut Scratch,
    pub(super) message: &'t mut Message,
}

/// A worker in its slot.
#[derive(Debug)]
struct Slot {
    worker: Worker,
    id: WorkerId,
    /// It is on the ready list.
    ready: bool,
    timer: Option<Instant>,
}

/// One thread's workers.
#[derive(Debug, Default)]
struct Workers {
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    by_id: AHashMap<WorkerId, usize>,
    ready: VecDeque<usize>,
    timers: BTreeSet<(Instant, usize)>,
    /// Writers of workers that went, emptied slice by slice.
    leaving: Vec<Writer>,
    /// Workers to be loaded from a snapshot, one after the other: each fits into a cache, all together do not.
    loading: VecDeque<usize>,
    /// The one that last had to forget something for others.
    trimmed: usize,
}

/// Runs until it is told to stop.
pub(super) fn run(mut poll: Poll, setup: Setup) {
    let at = setup.index.participant();
    let mut workers = Workers::default();
    let mut events = Events::with_capacity(READINESS_EVENTS_MAX);
    let mut scratch = Scratch::default();
    let mut message = Message::default();
    // Acquire: pairs with the Release in `Streams::drop`.
    while !setup.inbox.stop.load(Ordering::Acquire) {
        let timeout = workers.timeout(&setup.commands, Instant::now());
        let timeout = match trim_pause(&setup.index) {
            Some(pause) => Some(timeout.map_or(pause, |timeout| timeout.min(pause))),
            None => timeout,
        };
        match poll.poll(&mut events, timeout) {
            Err(error) if error.kind() != ErrorKind::Interrupted => {
                tracing::error!(%error, "cannot wait for sockets; the node ends");
                crate::logging::flush();
                std::process::exit(INTERNAL_ERROR);
            }
            _ => {}
        }
        let readable = events.iter().map(|event| event.token());
        for token in readable.filter(|&token| token != WAKE) {
            workers.make_ready(token.0 / TOKENS);
        }
        workers.obey(&setup, &at);
        let now = Instant::now();
        workers.ring(now);
        let mut context = Context {
            at: &at,
            sockets: &setup.sockets,
            registry: poll.registry(),
            token: 0,
            governor: &setup.governor,
            inbox: &setup.inbox,
            resolver: &setup.resolver,
            now,
            scratch: &mut scratch,
            message: &mut message,
        };
        workers.heed(&mut context);
        workers.grant(&mut context);
        for _ in 0..workers.ready.len() {
            let Some(slot) = workers.ready.pop_front() else {
                break;
            };
            workers.turn(slot, &mut context);
        }
        workers.let_go(&at);
        workers.trim(&setup.index, &at);
    }
}

/// How soon to look at the index's bytes again, if they have a bound.
fn trim_pause(index: &Index) -> Option<Duration> {
    index.bytes_max().map(|_| match index.is_crowded() {
        true => TRIM_PAUSE,
        false => TRIM_GLANCE,
    })
}

impl Workers {
    /// How long nothing needs to be done unless a socket is ready; `None` for ever.
    fn timeout(&self, commands: &Receiver<NewWorker>, now: Instant) -> Option<Duration> {
        if !self.ready.is_empty() || !commands.is_empty() || !self.leaving.is_empty() {
            return Some(Duration::ZERO);
        }
        self.timers
            .first()
            .map(|(due, _)| due.saturating_duration_since(now))
    }

    fn make_ready(&mut self, at: usize) {
        if let Some(Some(slot)) = self.slots.get_mut(at)
            && !std::mem::replace(&mut slot.ready, true)
        {
            self.ready.push_back(at);
        }
    }

    /// Takes in new workers, then lets removed ones go. A worker is removed after it was added, so
    /// the removals are taken first, and its addition is then in the queue already.
    fn obey(&mut self, setup: &Setup, participant: &Participant) {
        let removals = setup.inbox.removed.len();
        let removed: Vec<_> = (0..removals)
            .map_while(|_| setup.inbox.removed.pop())
            .collect();
        let limit = match removed.is_empty() {
            true => COMMANDS_PER_TURN_MAX,
            false => usize::MAX,
        };
        for new in setup
            .commands
            .try_iter()
            .take(limit.min(setup.commands.len()))
        {
            self.insert(new, setup);
        }
        for id in removed {
            if let Some(at) = self.by_id.remove(&id) {
                self.take_out(at, participant);
            }
        }
    }

    fn insert(&mut self, new: NewWorker, setup: &Setup) {
        let id = new.writer.id();
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        let worker = Worker::new(new, setup.timing, &setup.measured);
        let waits = worker.is_loading() && !self.loading.is_empty();
        if worker.is_loading() {
            self.loading.push_back(at);
        }
        self.slots[at] = Some(Slot {
            worker,
            id,
            ready: false,
            timer: None,
        });
        self.by_id.insert(id, at);
        if !waits {
            self.make_ready(at);
        }
    }

    /// A worker is not to be loaded any more: the next one is.
    fn loaded(&mut self, at: usize) {
        let was_first = self.loading.front() == Some(&at);
        self.loading.retain(|&other| other != at);
        if was_first && let Some(&next) = self.loading.front() {
            self.make_ready(next);
        }
    }

    /// Tells workers what others say of their engines.
    fn heed(&mut self, context: &mut Context<'_>) {
        for _ in 0..context.inbox.notes.len() {
            let Some((id, note)) = context.inbox.notes.pop() else {
                return;
            };
            let Some(&at) = self.by_id.get(&id) else {
                continue;
            };
            if let Some(Some(slot)) = self.slots.get_mut(at) {
                context.token = at * TOKENS;
                match note {
                    Note::Verify => slot.worker.verify(context.now),
                    Note::Restarted => slot.worker.restarted(),
                    Note::Unheard => slot.worker.unheard(context.now),
                    Note::Distrust => slot.worker.distrust(context.now),
                    Note::Save(to) => slot.worker.save(to),
                    Note::Resolved(resolved) => slot.worker.resolved(resolved, context),
                }
            }
            self.make_ready(at);
        }
    }

    /// Hands permits for replays to those that waited for them. One that nobody wants any more is dropped, and
    /// so passed on.
    fn grant(&mut self, context: &mut Context<'_>) {
        for _ in 0..context.inbox.granted.len() {
            let Some((id, permit)) = context.inbox.granted.pop() else {
                return;
            };
            self.grant_one(id, permit, context);
        }
    }

    fn grant_one(&mut self, id: WorkerId, permit: Permit, context: &mut Context<'_>) {
        let Some(&at) = self.by_id.get(&id) else {
            return;
        };
        if let Some(Some(slot)) = self.slots.get_mut(at) {
            context.token = at * TOKENS;
            slot.worker.granted(permit, context);
        }
        self.make_ready(at);
    }

    /// Has the next worker forget something if the index is nearly full: a worker that stores forgets of its own only, and a
    /// new one has nothing to forget.
    fn trim(&mut self, index: &Index, at: &Participant) {
        if !index.is_crowded() || self.slots.is_empty() {
            return;
        }
        self.trimmed = (self.trimmed + 1) % self.slots.len();
        if let Some(slot) = &mut self.slots[self.trimmed] {
            slot.worker.trim(at);
        }
    }

    /// Empties the writers of workers that went a little further.
    fn let_go(&mut self, at: &Participant) {
        self.leaving
            .retain_mut(|writer| !writer.settle(at, RUNS_PER_SLICE));
    }

    /// Closes a worker's sockets. What it held is not seen by lookups any more, and is taken out of the index in
    /// slices.
    fn take_out(&mut self, at: usize, participant: &Participant) {
        if let Some(slot) = self.slots[at].take() {
            if let Some(due) = slot.timer {
                self.timers.remove(&(due, at));
            }
            self.ready.retain(|&ready| ready != at);
            self.loaded(at);
            self.free.push(at);
            tracing::debug!(worker = slot.id.index(), "unsubscribed");
            let mut writer = slot.worker.into_writer();
            writer.clear(participant);
            self.leaving.push(writer);
        }
    }

    /// Makes workers ready whose time has come.
    fn ring(&mut self, now: Instant) {
        while let Some(&(due, at)) = self.timers.first()
            && due <= now
        {
            self.timers.pop_first();
            if let Some(Some(slot)) = self.slots.get_mut(at) {
                slot.timer = None;
            }
            self.make_ready(at);
        }
    }

    fn turn(&mut self, at: usize, context: &mut Context<'_>) {
        let Some(Some(slot)) = self.slots.get_mut(at) else {
            return;
        };
        slot.ready = false;
        context.token = at * TOKENS;
        let loading = slot.worker.is_loading();
        let Turn { more, timer } = slot.worker.turn(context);
        let loaded = loading && !slot.worker.is_loading();
        if slot.timer != timer {
            if let Some(old) = std::mem::replace(&mut slot.timer, timer) {
                self.timers.remove(&(old, at));
            }
            if let Some(due) = timer {
                self.timers.insert((due, at));
            }
        }
        if more {
            self.make_ready(at);
        }
        if loaded {
            self.loaded(at);
        }
    }
}
