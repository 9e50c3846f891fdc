//! What a follower tells its worker's status: how far it can be trusted and why, and what changed in a turn.
use super::super::sequence::{Payload, Tally};
use super::super::trust::{self, Facts};
use super::Follower;
use crate::status::{Cause, Trust};

impl<P: Payload + AsRef<[u8]>> Follower<P> {
    /// How far it can be trusted now.
    #[must_use]
    pub fn trust(&self) -> Trust {
        self.state().0
    }

    /// The same, and why.
    pub(super) fn state(&self) -> (Trust, Cause) {
        let facts = Facts {
            distrusted: self.applier.is_distrusted() || self.distrust.holds(),
            unheard: self.unheard,
            catching_up: self.catching_up || self.held_up,
            // Lookups do not see it yet.
            unsettled: !self.applier.writer().is_settled(),
            partial: self.applier.is_partial(),
        };
        let (trust, why) = trust::overall(self.sequence.state(), facts);
        let why = match why {
            Cause::Contradicted if self.applier.is_distrusted() => Cause::Meaning,
            Cause::CatchingUp if self.held_up => Cause::HeldUp,
            Cause::Lost if self.applier.only_waits() => Cause::Orphans,
            why => why,
        };
        (trust, why)
    }

    /// Its events are not looked at for some time; or are again.
    pub fn hold_up(&mut self, held_up: bool) {
        self.held_up = held_up;
        self.publish();
    }

    /// Tells what happened to numbers. Before what is done about it, so that the history has both in that order.
    pub(super) fn tell_tally(&mut self) {
        let tally = self.sequence.take_tally();
        if tally != Tally::default() {
            self.status.add_gaps(tally.gaps, tally.missed, tally.before);
            self.status.add_restarts(tally.restarts);
        }
    }

    /// Tells what changed.
    pub(super) fn publish(&mut self) {
        self.tell_tally();
        let held_back = match self.sequence.holds_back() {
            true => self.sequence.waiting(),
            false => 0,
        };
        self.status.counts().set_held_back(held_back as u64);
        self.status.set_last_sequence(self.applied);
        self.status.set_blocks(self.applier.writer().blocks());
        self.status.set_state(self.state());
    }
}
