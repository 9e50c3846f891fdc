//! The sequence machine: what to do with each numbered batch of one worker. Pure: no sockets, no clock.
//!
//! An engine numbers its batches 0, 1, 2, … in each of its lives. Live batches may be lost, never
//! reordered or doubled; a replay repeats what the engine's ring still has; after a restart the
//! numbers begin again at 0 and nothing else says so. The machine turns this into [`Action`]s so that
//! what was applied since the last [`Action::Clear`] (the *run*) is always an unbroken row of batches
//! of one life. A run is *whole* if nothing before it matters: it begins with number 0, or with a
//! batch that begins by clearing everything. Only a whole run is [`Trust::Exact`](crate::status::Trust::Exact).
//!
//! A run is never patched over a hole: the lost batches may have held removals, and a worker must never
//! look better than it is. What cannot be filled from the ring clears the worker.
//!
//! | phase | live batches | left by |
//! |---|---|---|
//! | `Live` | judged one by one, see below | gap, restart, reconnect: ask for a replay |
//! | `Replaying` | held back, bounded by bytes | end marker, failure |
//! | `Rebuilding` (a partial run is live, and an earlier beginning was asked for) | judged | first answer: an earlier beginning clears the run and is `Replaying`; else `Live` |
//!
//! A live batch with number n, the last applied being l:
//!
//! | n | verdict |
//! |---|---|
//! | l + 1 | apply |
//! | above l + 1 | gap: hold back, ask for a replay from l itself. Without a replay socket, or if the replay that just ended did not bring what is missing: clear, begin a run at n |
//! | not above l, same checksum as the batch applied under n | duplicate (replay and live overlap) |
//! | not above l, and not above the last live number either | restart: live numbers never go back in one life |
//! | not above l, other checksum | restart; but if it was received before the last replay was asked for, a leftover: drop |
//! | 0, the run having begun later, and not received before the last replay ended | restart |
//! | not above l, too old to compare, above the last live number | duplicate: it was queued while the replay ran |
//!
//! With nothing applied yet, 0 is applied and anything else is a gap from the very beginning (without a
//! replay socket: the beginning of a partial run). A batch that begins with a clear needs no past: it
//! begins a whole run wherever a gap or a restart is found.
//!
//! A replay whose numbers go back has lied, and has failed; what it brought is dropped.
//!
//! A replay is asked from l itself. Its batch l must have the bytes that were applied, else, or if the
//! ring does not reach up to l at all, the engine is in a new life: clear, ask again from 0. If its first batch
//! is after l (a ring that has rotated), or it has a hole, the run is cleared and begins there, partial.
//!
//! Every connection of the event socket asks for a replay, because only its overlap proves that the
//! engine is still in the same life: one that restarted while we were away may have come to exactly
//! l + 1. Without a replay socket nothing proves it, so a reconnection clears the worker.
mod action;
mod answers;
mod held;
mod phase;
mod report;
mod run;

pub use action::{Action, Batch, ClearReason, DropReason, Payload, Tally};

use crate::limits::HELD_BACK_BYTES_MAX;
use crate::status::ReplayOutcome;
use held::Held;
use phase::{Phase, Proof, Verdict, Why};
use run::{Run, Seen};
use std::collections::VecDeque;

/// The machine of one worker. See the module's text.
#[derive(Clone, Debug)]
pub struct Sequence<P> {
    has_replay: bool,
    held_bytes_max: usize,
    connected: bool,
    ever_connected: bool,
    /// The first connection is still waited for.
    patient: bool,
    phase: Phase,
    run: Option<Run>,
    /// The last live number judged on this connection.
    heard: Option<u64>,
    held: Held<P>,
    /// How many of the held batches came over a connection that is lost.
    old: usize,
    /// How many of the held batches were received before the last replay was asked for. Its
    /// answer has them if they are of the life that answers, and what is missing before them.
    before_ask: usize,
    /// How many of the held batches the replay that ended has settled: what is missing before them
    /// will not come any more.
    settled: usize,
    /// How many of the held batches were received before the last replay was over.
    before_end: usize,
    /// The last number of the replay that runs.
    answered: Option<u64>,
    /// The gap before the first settled batch is counted.
    gap_counted: bool,
    /// The last number of a run that was given up for the replay's earlier beginning. The replay may have been
    /// answered before that was published.
    reach: Option<u64>,
    /// Live batches were dropped because too much was held back.
    overflowed: bool,
    /// How many.
    overflow: u64,
    /// How the replay that ran last has ended, if that was seen here.
    outcome: Option<ReplayOutcome>,
    /// What was handed out last came of a live batch.
    of_live: bool,
    /// A replay from 0 has ended without a batch: the engine has published nothing.
    empty: bool,
    /// A batch of this life was applied: a ring that has nothing then proves nothing.
    published: bool,
    /// A replay broke off, and nothing live has shown yet that it was complete.
    behind: bool,
    /// A replay has failed that may succeed later.
    want_more: bool,
    actions: VecDeque<Action<P>>,
    tally: Tally,
}

impl<P: Payload> Sequence<P> {
    /// A machine that has seen nothing. Without a replay socket, gaps cannot be filled.
    #[must_use]
    pub fn new(has_replay: bool) -> Self {
        Self {
            has_replay,
            held_bytes_max: HELD_BACK_BYTES_MAX,
            connected: false,
            ever_connected: false,
            patient: true,
            phase: Phase::Live,
            run: None,
            heard: None,
            held: Held::default(),
            old: 0,
            before_ask: 0,
            settled: 0,
            before_end: 0,
            answered: None,
            gap_counted: false,
            reach: None,
            overflowed: false,
            overflow: 0,
            outcome: None,
            of_live: false,
            empty: false,
            published: false,
            behind: false,
            want_more: false,
            actions: VecDeque::new(),
            tally: Tally::default(),
        }
    }

    /// What was applied in another process is known again: the batches `first` to `last` of some life, the last one
    /// with this checksum. The first connection asks for the replay that proves it.
    pub fn resume(&mut self, first: u64, last: u64, checksum: u64, whole: bool) {
        self.run = Some(Run::resume(first, last, checksum, whole));
        // Whether the ring reaches further back is not known any more.
        self.want_more = !whole;
    }

    /// What [`Self::resume`] needs to go on from here.
    #[must_use]
    pub fn resumable(&self) -> Option<(u64, u64, u64, bool)> {
        let run = self.run.as_ref()?;
        Some((run.first(), run.last(), run.checksum()?, run.whole()))
    }

    /// Bounds the held batches by another number of bytes than [`HELD_BACK_BYTES_MAX`].
    #[must_use]
    pub const fn with_held_bytes_max(mut self, bytes: usize) -> Self {
        self.held_bytes_max = bytes;
        self
    }

    /// The event socket is connected. Batches that were given since [`Self::disconnected`] came over
    /// this connection.
    pub fn connected(&mut self) {
        self.heard = None;
        self.reach = None;
        self.connected = true;
        let again = std::mem::replace(&mut self.ever_connected, true);
        if self.has_replay {
            self.ask(if again { Why::Reconnection } else { Why::Start });
        } else if again {
            self.drop_held(self.old);
            self.clear(ClearReason::Unproven);
        }
    }

    /// The event socket has lost its connection. All batches that came over it must have been given to
    /// [`Self::live`].
    pub fn disconnected(&mut self) {
        self.connected = false;
        self.old = self.held.len();
        self.patient = false;
        match self.phase {
            Phase::Live => return,
            Phase::Rebuilding => self.phase = Phase::Live,
            // Nothing may be judged before the engine's life is proven, so the phase stays.
            Phase::Replaying { .. } => {}
        }
        self.actions.push_back(Action::StopReplay);
    }

    /// The first connection takes too long: the worker no longer counts as about to be replayed.
    pub const fn not_reached(&mut self) {
        self.patient = false;
    }

    /// The engine may be another one than it was. It proves its life by a replay; without a replay socket nothing
    /// does, so the worker is cleared unless its connection is `young`: made to the engine as it is now.
    /// What is not connected is proven anyway as soon as it is.
    pub fn verify(&mut self, young: bool) {
        if !self.connected {
            return;
        }
        if self.has_replay {
            // What came over a connection that was lost is still to be proven.
            self.ask(match self.phase {
                Phase::Replaying { why, .. } if why == Why::Reconnection => why,
                _ => Why::Start,
            });
        } else if !young {
            self.drop_held(self.held.len());
            self.clear(ClearReason::Unproven);
        }
    }

    /// What the run came to is not what the engine has, although no number was missed. It is dropped, and had anew from
    /// the ring; without a replay socket a partial run begins with the next batch.
    pub fn start_over(&mut self) {
        self.reach = None;
        self.clear(ClearReason::Distrusted);
        if self.connected && self.has_replay {
            // What came over a connection that was lost is still to be proven.
            self.ask(match self.phase {
                Phase::Replaying { why, .. } if why == Why::Reconnection => why,
                _ => Why::Start,
            });
        }
    }

    /// A live batch was received. It is judged by [`Self::pop`].
    pub fn live(&mut self, batch: Batch<P>) {
        let bytes = self.held.bytes().saturating_add(batch.payload.bytes());
        if self.overflowed || (bytes > self.held_bytes_max && !self.held.is_empty()) {
            self.overflowed = true;
            self.overflow += 1;
            self.dropped(1, DropReason::HeldBackFull);
        } else {
            self.held.push(batch);
        }
    }

    /// A batch came from the replay that was asked for last.
    pub fn replayed(&mut self, batch: Batch<P>) {
        match self.phase {
            Phase::Live => self.dropped(1, DropReason::NotAsked),
            Phase::Replaying { proof, why, .. } => self.accept_replayed(batch, proof, why),
            Phase::Rebuilding => {
                if self
                    .run
                    .as_ref()
                    .is_none_or(|run| batch.sequence < run.first())
                {
                    self.reach = self.last();
                    self.clear(ClearReason::Rebuild);
                    self.phase = Phase::Replaying {
                        proof: Proof::Missing,
                        why: Why::Start,
                        all: true,
                    };
                    self.accept_replayed(batch, Proof::Missing, Why::Start);
                } else {
                    self.phase = Phase::Live;
                    self.want_more = false;
                    self.outcome = Some(ReplayOutcome::Partial);
                    self.dropped(1, DropReason::Duplicate);
                    self.actions.push_back(Action::StopReplay);
                }
            }
        }
    }

    /// The replay's end marker came.
    pub fn replay_ended(&mut self) {
        let Phase::Replaying { proof, why, all } = self.phase else {
            self.outcome = Some(ReplayOutcome::Partial);
            self.phase = Phase::Live;
            self.want_more = false;
            return;
        };
        self.outcome = Some(self.outcome_at_end(proof));
        self.want_more &= !all;
        self.behind = false;
        self.drop_unproven(why);
        if self.run.is_some() && proof == Proof::Missing {
            if why != Why::Gap || !self.front_is_ahead() {
                self.new_life(why);
                return;
            }
            // The ring has nothing although the engine is past it: it keeps no ring.
            self.clear(ClearReason::Gap);
        }
        if self.reach.take() > self.last() {
            return self.ask(Why::Start);
        }
        self.empty = self.run.is_none() && !self.published;
        self.settle(self.before_ask, why);
    }

    /// The replay was silent for too long or its socket failed. [`Self::wants_retry`] may hold now.
    pub fn replay_failed(&mut self) {
        // One that was asked for meanwhile, and is not yet: it would be answered to a machine that no longer waits.
        self.actions
            .retain(|action| !matches!(action, Action::AskReplay { .. }));
        self.want_more = true;
        self.reach = None;
        let Phase::Replaying { proof, why, .. } = self.phase else {
            self.phase = Phase::Live;
            return;
        };
        self.drop_unproven(why);
        if proof == Proof::Missing {
            self.clear(ClearReason::Unproven);
        }
        self.behind = self.held.is_empty();
        self.settle(self.held.len(), why);
    }

    /// Whether a replay that failed should be asked for again, after a while.
    #[must_use]
    pub fn wants_retry(&self) -> bool {
        let lacks = self.behind || self.run.as_ref().is_none_or(|run| !run.whole());
        self.want_more && self.connected && self.phase == Phase::Live && lacks
    }

    /// Asks again. Live batches are not held back for it while there is something to answer with.
    pub fn retry(&mut self) {
        if !self.wants_retry() {
            return;
        }
        if self.behind || self.run.is_none() {
            self.ask(Why::Start);
        } else {
            self.answered = None;
            self.phase = Phase::Rebuilding;
            self.actions.push_back(Action::AskReplay { from: 0 });
        }
    }

    /// The batch that was just applied held a clear: nothing before it matters.
    pub fn cleared(&mut self) {
        if let Some(run) = &mut self.run {
            run.make_whole();
        }
    }

    /// The next thing to do; `None` until something new comes in. O(1).
    pub fn pop(&mut self) -> Option<Action<P>> {
        self.of_live = false;
        loop {
            if let Some(action) = self.actions.pop_front() {
                return Some(action);
            }
            // What comes over a connection that is not known yet waits for it.
            let waits = self.holds_back() || !(self.connected || self.old > 0);
            if waits || !self.judge_front() {
                return None;
            }
            self.of_live = true;
        }
    }

    /// How many live batches wait to be judged.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.held.len()
    }

    /// Whether live batches are held back now.
    #[must_use]
    pub const fn holds_back(&self) -> bool {
        matches!(self.phase, Phase::Replaying { .. })
    }

    /// The number of the last batch applied in this run.
    #[must_use]
    pub fn last(&self) -> Option<u64> {
        self.run.as_ref().map(Run::last)
    }

    /// Judges the first held batch; `false` if nothing can be done now.
    fn judge_front(&mut self) -> bool {
        let Some(front) = self.held.front() else {
            return self.notice_overflow();
        };
        match self.judge(front) {
            Verdict::Next => self.accept_front(),
            Verdict::Duplicate => self.drop_front(DropReason::Duplicate),
            Verdict::Leftover => self.drop_front(DropReason::OtherLife),
            Verdict::Gap => return self.gap(),
            Verdict::Restart => self.restarted(),
        }
        true
    }

    fn judge(&self, front: &Batch<P>) -> Verdict {
        let Some(run) = &self.run else {
            return if self.can_begin(front) {
                Verdict::Next
            } else {
                Verdict::Gap
            };
        };
        let goes_back = self.heard.is_some_and(|heard| front.sequence <= heard);
        match run.seen(front.sequence, front.checksum) {
            Seen::Next => Verdict::Next,
            Seen::Ahead => Verdict::Gap,
            Seen::Same => Verdict::Duplicate,
            // The same number twice is one batch twice, as far as can be seen.
            Seen::Unknown if self.heard == Some(front.sequence) => Verdict::Duplicate,
            Seen::Other | Seen::Unknown if goes_back => Verdict::Restart,
            // It was there before the replay was asked for, so the replay knows better.
            Seen::Other if self.before_ask > 0 => Verdict::Leftover,
            Seen::Other => Verdict::Restart,
            // From here on a whole run can be had in any case.
            Seen::Unknown if front.sequence == 0 && run.first() > 0 && self.before_end == 0 => {
                Verdict::Restart
            }
            Seen::Unknown => Verdict::Duplicate,
        }
    }

    /// Whether a run may begin with this batch without asking the ring first.
    fn can_begin(&self, batch: &Batch<P>) -> bool {
        !self.has_replay || self.settled > 0 || batch.begins_whole()
    }

    fn accept_front(&mut self) {
        if let Some(batch) = self.pop_held() {
            self.heard = Some(batch.sequence);
            self.gap_counted = false;
            self.behind = false;
            self.apply(batch);
        }
    }

    fn drop_front(&mut self, reason: DropReason) {
        if let Some(batch) = self.pop_held() {
            self.heard = Some(batch.sequence);
            self.dropped(1, reason);
        }
    }

    /// Numbers are missing before the first held batch.
    fn gap(&mut self) -> bool {
        if self.held.front().is_some_and(|front| self.can_begin(front)) {
            if !std::mem::take(&mut self.gap_counted) {
                self.count_gap();
            }
            self.clear(ClearReason::Gap);
        } else if self.connected {
            self.count_gap();
            self.ask(Why::Gap);
        } else {
            return false;
        }
        true
    }

    /// The first held batch is of a new life.
    fn restarted(&mut self) {
        self.tally.restarts += 1;
        self.published = false;
        self.clear(ClearReason::Restart);
        self.heard = None;
        self.settled = 0;
        let begins = self.held.front().is_some_and(|front| self.can_begin(front));
        if !begins && self.connected {
            self.ask(Why::Gap);
        }
    }

    /// A replay shows that the engine is in a new life. What came over this connection is of that life,
    /// unless the connection has outlived the engine. Then what is held back may be of either; it was
    /// received before the next replay is asked for, so that has what is of the new life.
    fn new_life(&mut self, why: Why) {
        self.outcome = Some(ReplayOutcome::OtherLife);
        self.tally.restarts += 1;
        self.published = false;
        self.reach = None;
        self.clear(ClearReason::Restart);
        self.heard = None;
        self.drop_held(match why {
            Why::Reconnection => self.old,
            Why::Start | Why::Gap => self.held.len(),
        });
        self.ask(Why::Start);
    }

    fn notice_overflow(&mut self) -> bool {
        if !self.overflowed || (self.has_replay && !self.connected) {
            return false;
        }
        self.overflowed = false;
        self.tally.gaps += 1;
        let missed = std::mem::take(&mut self.overflow);
        self.tally.miss(missed);
        if self.has_replay {
            self.ask(Why::Gap);
        } else {
            self.clear(ClearReason::Gap);
        }
        true
    }

    fn apply(&mut self, batch: Batch<P>) {
        match &mut self.run {
            Some(run) => run.extend(batch.sequence, batch.checksum),
            None => {
                self.run = Some(Run::begin(
                    batch.sequence,
                    batch.checksum,
                    batch.begins_whole(),
                ));
            }
        }
        self.empty = false;
        self.published = true;
        self.actions.push_back(Action::Apply(batch));
    }

    fn ask(&mut self, why: Why) {
        let from = self.last();
        self.phase = Phase::Replaying {
            proof: Proof::Missing,
            why,
            all: from.is_none(),
        };
        self.before_ask = self.held.len();
        self.answered = None;
        self.settled = 0;
        self.empty = false;
        self.actions.push_back(Action::AskReplay {
            from: from.unwrap_or(0),
        });
    }

    fn clear(&mut self, reason: ClearReason) {
        if self.run.take().is_some() {
            self.actions.push_back(Action::Clear(reason));
        }
    }

    fn front_is_ahead(&self) -> bool {
        let last = self.last();
        self.held
            .front()
            .is_some_and(|front| last.is_none_or(|last| front.sequence > last))
    }

    /// The replay is over: so many of the held batches have got from it what they will ever get.
    fn settle(&mut self, batches: usize, why: Why) {
        self.settled = batches;
        self.before_end = self.held.len();
        self.gap_counted = why == Why::Gap;
        self.phase = Phase::Live;
    }

    /// After a reconnection: what came before is of the engine's present life only if the replay
    /// repeated it, and then it is not held any more.
    fn drop_unproven(&mut self, why: Why) {
        if why == Why::Reconnection {
            self.drop_held(self.old);
        }
    }

    fn pop_held(&mut self) -> Option<Batch<P>> {
        let batch = self.held.pop()?;
        self.old = self.old.saturating_sub(1);
        self.before_ask = self.before_ask.saturating_sub(1);
        self.settled = self.settled.saturating_sub(1);
        self.before_end = self.before_end.saturating_sub(1);
        Some(batch)
    }

    fn drop_held(&mut self, batches: usize) {
        let dropped = (0..batches).map_while(|_| self.pop_held()).count();
        if dropped != 0 {
            self.dropped(dropped as u64, DropReason::OtherLife);
        }
    }

    fn dropped(&mut self, batches: u64, reason: DropReason) {
        self.actions.push_back(Action::Drop { batches, reason });
    }
}
