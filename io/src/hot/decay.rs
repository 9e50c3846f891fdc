//! Counts that decay by half in [`HOT_HALF_LIFE`], without being touched: what comes later weighs more.
use crate::limits::{HOT_HALF_LIFE, HOT_HALF_LIVES_MAX};
use std::time::Duration;

/// The weight of moments. A count is the sum of weights at the moments that it counts; its value at a moment is that sum by the moment's weight.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Decay {
    /// The moment of weight one.
    origin: Duration,
}

impl Decay {
    /// The weight of a moment. Those before the origin weigh as much as the origin.
    pub(super) fn weight(&self, now: Duration) -> f64 {
        half_lives(now.saturating_sub(self.origin)).exp2()
    }

    /// What all sums have to be multiplied by now, so that weights stay numbers: a power of two; or nothing.
    pub(super) fn rebase(&mut self, now: Duration) -> Option<f64> {
        let whole = half_lives(now.saturating_sub(self.origin)).floor();
        if whole < HOT_HALF_LIVES_MAX {
            return None;
        }
        self.origin += HOT_HALF_LIFE.saturating_mul(whole as u32);
        Some((-whole).exp2())
    }
}

/// How many half-lives a time is.
pub(super) fn half_lives(time: Duration) -> f64 {
    time.as_secs_f64() / HOT_HALF_LIFE.as_secs_f64()
}
