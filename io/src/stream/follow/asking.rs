//! When a follower asks for replays: their cool-down, their ends, and the pause after one that failed.
use super::super::sequence::Payload;
use super::Follower;
use crate::limits::{BACKOFF_MAX, COOL_DOWN_FREE};
use crate::status::ReplayOutcome;
use std::time::{Duration, Instant};

impl<P: Payload + AsRef<[u8]>> Follower<P> {
    /// Whether the cool-down is over.
    pub(super) fn may_ask(&self, now: Instant) -> bool {
        self.cool_down.next.is_none_or(|next| next <= now)
    }

    /// A replay from this number on is asked for now: when the next one may be.
    pub(super) fn note_ask(&mut self, now: Instant, from: u64) {
        self.open = true;
        self.tell_tally();
        self.status.add_replay(from);
        let quiet =
            |last: Instant| now.saturating_duration_since(last) >= self.timing.cool_down_forget;
        if self.cool_down.last.is_none_or(quiet) {
            self.cool_down.asked = 0;
        }
        self.cool_down.last = Some(now);
        self.cool_down.asked = self.cool_down.asked.saturating_add(1);
        self.cool_down.next = self
            .cool_down
            .asked
            .checked_sub(COOL_DOWN_FREE)
            .map(|times| {
                let pause = self.timing.cool_down.saturating_mul(1 << times.min(16));
                now + self.some_of(pause.min(self.timing.cool_down_max))
            });
    }

    /// A replay is over, in this way unless its answers have told of another one; whether one was open, or about to be.
    pub(super) fn closed(&mut self, how: ReplayOutcome) -> bool {
        self.deadline = None;
        let told = self.sequence.take_outcome();
        let open = std::mem::take(&mut self.open);
        if open {
            self.status.add_outcome(told.unwrap_or(how));
        }
        open
    }

    /// When a failed replay is tried again, if that is not settled yet.
    pub(super) fn plan_retry(&mut self, now: Instant) {
        let asks = self.open || self.wanted.is_some();
        if asks || !self.sequence.wants_retry() {
            self.retry_at = None;
        } else if self.retry_at.is_none() {
            let pause = self.backoff;
            self.retry_at = Some(now + self.some_of(pause));
            self.backoff = (pause * 2).min(BACKOFF_MAX);
        }
    }

    /// Half of the time to all of it, by chance (xorshift64).
    fn some_of(&mut self, time: Duration) -> Duration {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        let share = (self.chance >> 32) as f64 / f64::from(u32::MAX);
        time.mul_f64(0.5 + share / 2.0)
    }
}
