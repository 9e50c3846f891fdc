//! What the batches of a replay mean to the run, and to what is held back.
use super::phase::{Phase, Proof, Why};
use super::run::Seen;
use super::{Action, Batch, ClearReason, DropReason, Payload, Sequence};
use crate::status::ReplayOutcome;

impl<P: Payload> Sequence<P> {
    /// A batch of the replay that runs.
    pub(super) fn accept_replayed(&mut self, batch: Batch<P>, proof: Proof, why: Why) {
        let (sequence, checksum) = (batch.sequence, batch.checksum);
        if self.answered.is_some_and(|last| sequence < last) {
            return self.broken_replay();
        }
        self.answered = Some(sequence);
        let seen = self.run.as_ref().map(|run| run.seen(sequence, checksum));
        match seen {
            None => {
                self.apply(batch);
                self.prove(Proof::Fresh);
            }
            Some(Seen::Next) if proof != Proof::Missing => self.apply(batch),
            Some(Seen::Next | Seen::Ahead) => {
                self.count_hole(sequence);
                self.clear(ClearReason::Gap);
                self.apply(batch);
                self.prove(Proof::Fresh);
            }
            Some(Seen::Same) => {
                self.dropped(1, DropReason::Duplicate);
                if proof == Proof::Missing {
                    self.prove(Proof::Overlap);
                }
            }
            Some(Seen::Other) if proof == Proof::Missing => {
                self.dropped(1, DropReason::OtherLife);
                self.new_life(why);
                return;
            }
            Some(Seen::Other) => self.dropped(1, DropReason::OtherLife),
            Some(Seen::Unknown) => self.dropped(1, DropReason::Duplicate),
        }
        self.drop_repeated(sequence, checksum);
    }

    /// A ring is in order. One that goes back has told of numbers that were not its own, and which is not known.
    fn broken_replay(&mut self) {
        self.dropped(1, DropReason::OtherLife);
        self.clear(ClearReason::Unproven);
        self.actions.push_back(Action::StopReplay);
        self.outcome = Some(ReplayOutcome::Failed);
        self.replay_failed();
    }

    /// Drops the held batches that have the number of one that was answered. One with other bytes is of the life
    /// before if it was there before the replay was asked for, or came over a connection that is lost. Else
    /// either may be: a connection can outlive an engine behind a proxy, and an answer can be late. A replay
    /// that is asked for now is answered by the present life.
    fn drop_repeated(&mut self, sequence: u64, checksum: u64) {
        while let Some(front) = self.held.front().filter(|front| front.sequence == sequence) {
            if front.checksum == checksum {
                self.drop_front(DropReason::Duplicate);
            } else if self.before_ask > 0 || self.old > 0 {
                self.drop_front(DropReason::OtherLife);
            } else {
                return self.new_life(Why::Start);
            }
        }
    }

    /// A hole inside a replay, or before it: part of the gap that it was asked for, or one more.
    fn count_hole(&mut self, found: u64) {
        let last = self.last();
        match &mut self.phase {
            Phase::Replaying {
                why: why @ Why::Gap,
                ..
            } => *why = Why::Start,
            _ => {
                self.tally.gaps += 1;
                // Without a number before it nobody knows how many are missing.
                let missed = last.map(|last| found.saturating_sub(last.saturating_add(1)));
                self.tally.miss(missed.unwrap_or(0));
            }
        }
    }

    fn prove(&mut self, now: Proof) {
        if let Phase::Replaying { proof, .. } = &mut self.phase {
            *proof = now;
        }
    }
}
