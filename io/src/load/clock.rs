//! The time by which bookings expire and scrapes grow old: monotonic, in milliseconds since the clock was made.
use super::wheel::SLOTS;
use crate::limits::{
    LOAD_AGE_INTERVALS, LOAD_AGE_MIN, LOAD_INTERVAL_DEFAULT, REQUEST_TIME_DEFAULT,
};
use std::time::{Duration, Instant};

/// A clock that all who read or write loads share.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    /// Milliseconds of a wheel's slot; not zero.
    slot_ms: u64,
    /// Age in milliseconds up to which a scrape counts.
    fresh_ms: u64,
}

/// A moment by a [`Clock`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Milliseconds since the clock was made.
    pub ms: u64,
    /// The period of the wheels that it is in.
    pub tick: u32,
    /// Scrapes asked before this many milliseconds are too old.
    pub fresh_from_ms: u64,
}

impl Default for Clock {
    fn default() -> Self {
        Self::new(REQUEST_TIME_DEFAULT, Some(LOAD_INTERVAL_DEFAULT))
    }
}

impl Clock {
    /// Bookings expire after `request_time`, at most a fifteenth of it later. Scrapes made every `interval` count for
    /// [`LOAD_AGE_INTERVALS`] of them, at least for [`LOAD_AGE_MIN`].
    #[must_use]
    pub fn new(request_time: Duration, interval: Option<Duration>) -> Self {
        let age = interval.map_or(LOAD_AGE_MIN, |interval| {
            (interval * LOAD_AGE_INTERVALS).max(LOAD_AGE_MIN)
        });
        // A booking made at the end of its period is to last for the whole time: one period is not counted.
        let slot = request_time.as_millis().div_ceil(SLOTS as u128 - 1);
        Self {
            start: Instant::now(),
            slot_ms: u64::try_from(slot).unwrap_or(u64::MAX).max(1),
            fresh_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.at(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// So many milliseconds after the clock was made.
    #[must_use]
    pub fn at(&self, ms: u64) -> Moment {
        Moment {
            ms,
            tick: u32::try_from(ms / self.slot_ms).unwrap_or(u32::MAX),
            fresh_from_ms: ms.saturating_sub(self.fresh_ms),
        }
    }
}
