//! What was booked, and how it ended: cumulative counts, and a wheel for what has not ended yet.
use super::wheel::Wheel;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Cumulative counts of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Ever booked.
    pub booked: u64,
    /// Of those, ended by feedback.
    pub finished: u64,
    /// Of those, ended by their age.
    pub expired: u64,
}

impl Counts {
    /// Booked and not ended. What ends while the counts are read may be missing from it.
    #[must_use]
    pub const fn in_flight(&self) -> u64 {
        self.booked
            .saturating_sub(self.finished)
            .saturating_sub(self.expired)
    }
}

/// The books of one kind: requests, or tokens.
#[derive(Debug, Default)]
pub(super) struct Account {
    booked: AtomicU64,
    finished: AtomicU64,
    expired: AtomicU64,
    wheel: Wheel,
}

impl Account {
    pub(super) fn counts(&self) -> Counts {
        Counts {
            booked: self.booked.load(Relaxed),
            finished: self.finished.load(Relaxed),
            expired: self.expired.load(Relaxed),
        }
    }

    /// Books one, if nobody has booked anything since `seen` was read. A success must be followed by
    /// [`Account::put`].
    pub(super) fn claim_one(&self, seen: u64) -> bool {
        let one_more = seen.wrapping_add(1);
        let swapped = self
            .booked
            .compare_exchange(seen, one_more, Relaxed, Relaxed);
        swapped.is_ok()
    }

    /// Books without looking. Must be followed by [`Account::put`].
    pub(super) fn claim(&self, amount: u32) {
        self.booked.fetch_add(amount.into(), Relaxed);
    }

    /// Has what was claimed expire one day.
    pub(super) fn put(&self, tick: u32, amount: u32) {
        self.expire_some(self.wheel.put(tick, amount));
    }

    pub(super) fn finish(&self, tick: u32, amount: u32) {
        let taken = self.wheel.take(tick, amount);
        self.finished.fetch_add(taken, Relaxed);
    }

    pub(super) fn expire(&self, now: u32) {
        self.expire_some(self.wheel.expire(now));
    }

    fn expire_some(&self, amount: u64) {
        if amount != 0 {
            self.expired.fetch_add(amount, Relaxed);
        }
    }
}
