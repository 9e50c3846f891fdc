//! What the machine tells beside its actions: trust, what happened, and how replays ended.
use super::phase::{Phase, Proof};
use super::run::Run;
use super::{Payload, Sequence, Tally};
use crate::status::{Cause, ReplayOutcome, Trust};

impl<P: Payload> Sequence<P> {
    /// How far the worker can be trusted, as far as numbers tell.
    #[must_use]
    pub fn trust(&self) -> Trust {
        self.state().0
    }

    /// The same, and why.
    #[must_use]
    pub fn state(&self) -> (Trust, Cause) {
        if !self.connected {
            return match (self.patient, self.ever_connected) {
                (true, _) => (Trust::Replaying, Cause::Waiting),
                (false, true) => (Trust::Stale, Cause::Disconnected),
                (false, false) => (Trust::Stale, Cause::Unreached),
            };
        }
        match (&self.phase, &self.run) {
            (Phase::Replaying { why, .. }, _) => (Trust::Replaying, why.told()),
            // What was lost of the live batches is about to be asked for.
            _ if self.overflowed => (Trust::Replaying, Cause::Overflow),
            (_, None) if self.empty => (Trust::Exact, Cause::Empty),
            (_, None) if self.want_more => (Trust::Stale, Cause::NoReplay),
            (_, Some(_)) if self.behind => (Trust::Stale, Cause::Behind),
            (_, Some(run)) if run.whole() => (Trust::Exact, Cause::Whole),
            (_, None | Some(_)) => (Trust::Partial, Cause::NoBeginning),
        }
    }

    /// What happened since this was last asked.
    pub fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// Whether what [`Self::pop`] gave last came of a live batch.
    #[must_use]
    pub const fn is_of_live(&self) -> bool {
        self.of_live
    }

    /// How the replay that ran last has ended, as far as its answers told; once.
    pub fn take_outcome(&mut self) -> Option<ReplayOutcome> {
        self.outcome.take()
    }

    /// How a replay has ended whose end marker came.
    pub(super) fn outcome_at_end(&self, proof: Proof) -> ReplayOutcome {
        let complete = match proof {
            Proof::Overlap => true,
            Proof::Fresh => self.run.as_ref().is_some_and(Run::whole),
            // Nothing has come; nothing is missing if nothing was ever published.
            Proof::Missing => {
                self.run.is_none()
                    && !self.published
                    && self.held.front().is_none_or(|front| self.can_begin(front))
            }
        };
        match complete {
            true => ReplayOutcome::Complete,
            false => ReplayOutcome::Partial,
        }
    }

    /// Counts a gap before the first held batch.
    pub(super) fn count_gap(&mut self) {
        self.tally.gaps += 1;
        self.tally.before = self.held.front().map(|front| front.sequence);
        // Without a number before it nobody knows how many are missing.
        if let (Some(last), Some(front)) = (self.last(), self.held.front()) {
            let between = front.sequence.saturating_sub(last).saturating_sub(1);
            self.tally.miss(between);
        }
    }
}
