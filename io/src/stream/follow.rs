//! One worker without its sockets: sequence machine, writer, deadlines. Pure but for the index: the time is passed in.
//!
//! Whoever has the sockets (or plays them) tells what comes in and what became of the connection, calls
//! [`Follower::act`] until it is idle, does what that asks for, and calls [`Follower::check_time`] when
//! [`Follower::due`] says so. A turn ends with [`Follower::settle`].
//!
//! A replay may stall the engine that answers it (it runs in the publisher's thread), so a worker's replays
//! have a cool-down: the first three come at once, further ones wait, twice as long each time, until
//! none was asked for during [`Timing::cool_down_forget`]. Meanwhile live batches are held back as during a replay.
mod asking;
mod telling;

use super::apply::Applier;
use super::distrust::Distrust;
use super::saved::Standing;
use super::sequence::{Action, Batch, ClearReason, DropReason, Payload, Sequence};
pub use super::timing::Timing;
use crate::limits::{ACTIONS_PER_TURN_MAX, BACKOFF_MIN, CONNECTION_RECENT};
use crate::quiet::Throttle;
use crate::status::{Dropped, IoStatus, ReplayOutcome, SkipReason, WorkerStatus};
use crate::wire::{self, Scratch};
use kvroute_engine::hash::checksum;
use kvroute_engine::{Participant, Writer};
use std::sync::Arc;
use std::time::{Duration, Instant};

static DROPPED: Throttle = Throttle::new();
static UNANSWERED: Throttle = Throttle::new();

/// What a follower wants of whoever has the sockets.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acted {
    /// Nothing is left to do until something comes in or is due.
    Idle,
    /// The bound of one turn is reached: call again after others had their turn. Until then no answer
    /// of a replay may be given in.
    More,
    /// Ask for a replay from this number, and say so by [`Follower::asked`].
    Ask {
        /// The first number asked for.
        from: u64,
    },
    /// Give the replay up, or the wish for one that waits for its turn.
    Stop,
}

/// When a replay that runs has failed.
#[derive(Clone, Copy, Debug)]
struct Deadline {
    /// Without progress.
    progress: Instant,
    /// In any case.
    end: Instant,
}

/// When replays may be asked for.
#[derive(Clone, Copy, Debug, Default)]
struct CoolDown {
    /// Asked for since the last forgetting.
    asked: u32,
    last: Option<Instant>,
    next: Option<Instant>,
}

/// One worker.
#[derive(Debug)]
pub struct Follower<P> {
    name: String,
    status: Arc<WorkerStatus>,
    timing: Timing,
    chance: u64,
    sequence: Sequence<P>,
    has_replay: bool,
    applier: Applier,
    /// A replay that the machine wants and that waits for its cool-down.
    wanted: Option<u64>,
    /// A replay was asked for, and has neither ended nor failed.
    open: bool,
    deadline: Option<Deadline>,
    cool_down: CoolDown,
    /// When a failed replay is tried again.
    retry_at: Option<Instant>,
    backoff: Duration,
    /// When the first connection has taken too long.
    patience: Option<Instant>,
    connected_at: Option<Instant>,
    /// The number of the last batch that is in the index. The machine may be ahead.
    applied: Option<u64>,
    /// A replay has ended, and what was held back meanwhile is not applied yet.
    catching_up: bool,
    /// It serves, but nothing was heard from it.
    unheard: bool,
    /// Its events wait for something else, and have for some time.
    held_up: bool,
    /// Feedback contradicts what it is said to hold.
    distrust: Distrust,
    /// Where its thread measures batches, if it does.
    measured: Option<Arc<IoStatus>>,
    /// The lag of a batch was measured in this turn.
    lag_measured: bool,
}

impl Payload for Vec<u8> {
    fn bytes(&self) -> usize {
        self.len() + size_of::<Self>()
    }

    fn starts_with_clear(&self) -> bool {
        wire::starts_with_clear(self)
    }
}

impl<P: Payload + AsRef<[u8]>> Follower<P> {
    /// For a worker that holds nothing.
    #[must_use]
    pub fn new(
        writer: Writer,
        status: Arc<WorkerStatus>,
        name: String,
        has_replay: bool,
        timing: Timing,
    ) -> Self {
        Self {
            name,
            status,
            timing,
            chance: timing.seed | 1,
            sequence: Sequence::new(has_replay),
            has_replay,
            applier: Applier::new(writer),
            wanted: None,
            open: false,
            deadline: None,
            cool_down: CoolDown::default(),
            retry_at: None,
            backoff: BACKOFF_MIN,
            patience: None,
            connected_at: None,
            applied: None,
            catching_up: false,
            unheard: false,
            held_up: false,
            distrust: Distrust::default(),
            measured: None,
            lag_measured: false,
        }
    }

    /// Has its batches measured. Whoever calls it from now on does so on the thread that these counters are of.
    #[must_use]
    pub fn measured(mut self, counters: Arc<IoStatus>) -> Self {
        self.measured = Some(counters);
        self
    }

    /// `pod#rank`, for logs.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it reports.
    #[must_use]
    pub fn status(&self) -> &Arc<WorkerStatus> {
        &self.status
    }

    /// Its writer.
    #[must_use]
    pub fn writer(&self) -> &Writer {
        self.applier.writer()
    }

    /// Its writer; what it held is still to be taken out of the index.
    #[must_use]
    pub fn into_writer(self) -> Writer {
        self.applier.into_writer()
    }

    /// The first connection is waited for from now on.
    pub fn connecting(&mut self, now: Instant) {
        self.patience = Some(now + self.timing.replay);
    }

    /// The event socket is connected. What is given from now on came over this connection.
    pub fn connected(&mut self, now: Instant) {
        self.patience = None;
        self.connected_at = Some(now);
        self.status.connected();
        self.sequence.connected();
    }

    /// The event socket has lost its connection. All that came over it was given.
    pub fn disconnected(&mut self) {
        self.patience = None;
        if self.connected_at.take().is_some() {
            self.status.disconnected();
        }
        // All is dropped, and the next connection has it anew in any case.
        self.distrust.end_if_under_way();
        self.sequence.disconnected();
    }

    /// Whether the event socket is connected.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connected_at.is_some()
    }

    /// The event socket cannot be opened.
    pub fn not_reached(&mut self) {
        self.sequence.not_reached();
    }

    /// A socket failed.
    pub fn socket_failed(&self) {
        self.status.counts().socket_failed();
    }

    /// A live batch.
    pub fn live(&mut self, sequence: u64, payload: P) {
        self.heard();
        let checksum = checksum(payload.as_ref());
        self.sequence.live(Batch {
            sequence,
            checksum,
            payload,
        });
    }

    /// A live message that is no batch. If it took a number, that will be missed.
    pub fn skipped(&mut self, reason: SkipReason) {
        self.heard();
        self.status.add_skipped(reason, 1);
    }

    /// An answer of the replay that is no batch. What it should have been is not known, so the replay has failed: its
    /// end would not mean that nothing is missing.
    pub fn answered_badly(&mut self, reason: SkipReason) {
        self.status.add_skipped(reason, 1);
        self.replay_failed();
    }

    /// A message came over the event socket.
    fn heard(&mut self) {
        self.status.touch();
        self.unheard = false;
    }

    /// The replay's socket has something to say.
    fn progress(&mut self, now: Instant) {
        if let Some(deadline) = &mut self.deadline {
            deadline.progress = now + self.timing.replay;
        }
    }

    /// A batch of the replay that was asked for last.
    pub fn answered(&mut self, now: Instant, sequence: u64, payload: P) {
        self.progress(now);
        let checksum = checksum(payload.as_ref());
        self.sequence.replayed(Batch {
            sequence,
            checksum,
            payload,
        });
    }

    /// Its end marker.
    pub fn ended(&mut self) {
        if self.wanted.is_none() {
            self.distrust.end_if_under_way();
        }
        self.backoff = BACKOFF_MIN;
        self.catching_up = true;
        self.sequence.replay_ended();
        self.closed(ReplayOutcome::Complete);
    }

    /// It failed: its socket does not work, or what it answered is no replay.
    pub fn replay_failed(&mut self) {
        self.failed(ReplayOutcome::Failed);
    }

    fn failed(&mut self, how: ReplayOutcome) {
        self.closed(how);
        if self.wanted.is_none() {
            self.distrust.end_if_under_way();
        }
        self.catching_up = true;
        self.sequence.replay_failed();
    }

    /// The request for a replay is on its way.
    pub fn asked(&mut self, now: Instant) {
        self.deadline = Some(Deadline {
            progress: now + self.timing.replay,
            end: now + self.timing.replay_whole,
        });
    }

    /// The engine may be another one than it was: it is asked to prove its life by a replay. Without a replay
    /// socket only the connection can tell, and one that is young was made to the engine as it is now.
    pub fn verify(&mut self, now: Instant) {
        let recent = |at: Instant| now.saturating_duration_since(at) < CONNECTION_RECENT;
        let young = self.connected_at.is_some_and(recent);
        self.sequence.verify(young);
    }

    /// The engine was started anew. Even a young connection may have been made to the one before, so without a replay
    /// socket what it held is dropped.
    pub fn restarted(&mut self) {
        self.sequence.verify(false);
    }

    /// It serves, but nothing is heard from it: what it holds may be out of date.
    pub fn unheard(&mut self, now: Instant) {
        self.unheard = true;
        self.verify(now);
    }

    /// Its engine does not deliver what it is said to hold: nothing is credited until it is had anew. That is done at
    /// once, and after a pause if it was done before, twice as long each time.
    pub fn distrust(&mut self, now: Instant) {
        if self.distrust.holds() {
            return;
        }
        let pause = self.distrust.begin(now, self.timing.resync);
        self.status.add_distrust();
        let pause_ms = pause.as_millis();
        tracing::warn!(
            worker = self.name,
            pause_ms,
            "it does not deliver what its events say; what it holds is had anew"
        );
        self.resync_if_due(now);
        self.publish();
    }

    /// Drops what it holds and asks for all of it again, if the time for that has come.
    fn resync_if_due(&mut self, now: Instant) {
        if !self.distrust.take_due(now) {
            return;
        }
        self.sequence.start_over();
        if !self.has_replay || !self.is_connected() {
            self.distrust.end_if_under_way();
        }
    }

    /// How far it has come; `None` if there is nothing worth saving: nothing was applied, its events are not
    /// understood, nothing could prove later that its engine is still in the same life, or the machine is ahead of
    /// the index.
    #[must_use]
    pub fn standing(&self) -> Option<Standing> {
        let (first, last, checksum, whole) = self.sequence.resumable()?;
        let distrusted = self.applier.is_distrusted() || self.distrust.holds();
        if self.applied != Some(last) || distrusted || !self.has_replay {
            return None;
        }
        Some(Standing {
            first,
            last,
            checksum,
            whole,
            partial: self.applier.lost_some(),
            groups: self.applier.groups().clone(),
            block_size: self.status.block_size(),
            adapters: self.status.adapter_names(),
        })
    }

    /// Its writer was restored, and it goes on from there. To be called before the first connection.
    pub fn resume(&mut self, standing: Standing) {
        let Standing {
            first,
            last,
            checksum,
            whole,
            ..
        } = standing;
        self.sequence.resume(first, last, checksum, whole);
        self.applier.resume(standing.partial, standing.groups);
        self.applied = Some(last);
        if let Some(size) = standing.block_size {
            self.status.set_block_size(size);
        }
        for adapter in &standing.adapters {
            self.status.learn_adapter(adapter);
        }
        self.publish();
    }

    /// Its writer, to restore it.
    pub fn writer_mut(&mut self) -> &mut Writer {
        self.applier.writer_mut()
    }

    /// Does what the machine says, up to a bound.
    pub fn act(&mut self, now: Instant, at: &Participant, scratch: &mut Scratch) -> Acted {
        for _ in 0..ACTIONS_PER_TURN_MAX {
            let Some(action) = self.sequence.pop() else {
                if self.may_ask(now)
                    && let Some(from) = self.wanted.take()
                {
                    self.note_ask(now, from);
                    return Acted::Ask { from };
                }
                return self.idle(now);
            };
            match action {
                Action::Apply(batch) => self.apply(&batch, at, scratch),
                Action::Clear(reason) => self.clear(reason, at),
                Action::AskReplay { from } => {
                    self.wanted = Some(from);
                    self.retry_at = None;
                    if self.closed(ReplayOutcome::Stopped) {
                        return Acted::Stop;
                    }
                }
                Action::StopReplay => {
                    self.wanted = None;
                    if self.closed(ReplayOutcome::Stopped) {
                        return Acted::Stop;
                    }
                }
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
        Acted::More
    }

    /// Takes a slice of what large clears left out of the index; whether nothing is left. To be called at the end of
    /// every turn: it tells the status what changed in it.
    pub fn settle(&mut self, at: &Participant) -> bool {
        let settled = self.applier.settle(at);
        self.lag_measured = false;
        self.publish();
        settled
    }

    /// Forgets what was stored longest ago if the index is nearly full; how many blocks. O(blocks of the worker) if it is.
    pub fn trim(&mut self, at: &Participant) -> usize {
        let forgotten = self.applier.writer_mut().trim(at);
        if forgotten > 0 {
            self.publish();
        }
        forgotten
    }

    /// When [`Self::check_time`] is to be called even if nothing comes.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        let replay = self
            .deadline
            .map(|deadline| deadline.progress.min(deadline.end));
        let wanted = self.wanted.and(self.cool_down.next);
        [
            replay,
            wanted,
            self.retry_at,
            self.patience,
            self.distrust.due(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Does what is due by the clock. Call [`Self::act`] afterwards.
    #[must_use = "the replay's socket is to be closed"]
    pub fn check_time(&mut self, now: Instant) -> Option<ReplayTimedOut> {
        let late = |deadline: Deadline| deadline.progress.min(deadline.end) <= now;
        let timed_out = self.deadline.is_some_and(late).then(|| {
            if let Some(more) = UNANSWERED.pass() {
                tracing::info!(
                    worker = self.name,
                    more,
                    "a replay was not answered in time"
                );
            }
            self.failed(ReplayOutcome::Silent);
            ReplayTimedOut
        });
        if self.patience.is_some_and(|at| at <= now) {
            self.patience = None;
            self.sequence.not_reached();
        }
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            self.sequence.retry();
        }
        self.resync_if_due(now);
        timed_out
    }

    /// How many live batches wait to be judged.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.sequence.waiting()
    }

    fn idle(&mut self, now: Instant) -> Acted {
        // What was just judged may be a reason to ask again, and nothing else would bring that up.
        self.plan_retry(now);
        self.catching_up &= self.sequence.waiting() > 0;
        Acted::Idle
    }

    fn apply(&mut self, batch: &Batch<P>, at: &Participant, scratch: &mut Scratch) {
        let payload = batch.payload.as_ref();
        let began = self.measured.as_ref().and_then(|measured| measured.begin());
        let applied = self.applier.apply(at, payload, scratch, &self.status);
        if let Some(measured) = &self.measured {
            measured.end(began);
            // Once a turn: to read the clock for each would be more than is spent on all other counters.
            let wanted = !self.lag_measured && self.sequence.is_of_live();
            if let Some(time) = applied.timestamp.filter(|_| wanted) {
                measured.applied(self.status.counts(), time);
                self.lag_measured = true;
            }
        }
        if applied.cleared {
            self.status.dropped(Dropped::Cleared);
            self.sequence.cleared();
        }
        self.status.add_batches(1);
        // The trust first: who sees the number sees at least this batch's trust.
        self.status.set_state(self.state());
        self.applied = Some(batch.sequence);
        self.status.set_last_sequence(self.applied);
    }

    fn clear(&mut self, reason: ClearReason, at: &Participant) {
        if let Some(more) = DROPPED.pass() {
            tracing::info!(worker = self.name, ?reason, more, "dropped what it held");
        }
        // Without a proof it may be another life, in which groups mean something else.
        let other_life = matches!(reason, ClearReason::Restart | ClearReason::Unproven);
        self.applier.reset(at, other_life);
        self.tell_tally();
        self.status.dropped(reason.told());
        self.distrust.dropped(reason);
        self.applied = None;
    }
}

/// A replay was not answered in time: its socket is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayTimedOut;
