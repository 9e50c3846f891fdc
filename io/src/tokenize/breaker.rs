//! Whether an endpoint is asked at all: not while it fails again and again; pure.
use crate::limits::{BREAKER_FAILURES, BREAKER_PAUSE_MAX, BREAKER_PAUSE_MIN};
use std::time::{Duration, Instant};

/// The circuit breaker of one endpoint.
///
/// Closed, it lets everything through. [`BREAKER_FAILURES`] failures in a row open it for a pause; then one call is let
/// through as a trial, which closes it or opens it for twice as long.
#[derive(Debug)]
pub(super) struct Breaker {
    state: State,
    /// Failures in a row while closed.
    failures: u32,
    /// Of the latest opening.
    pause: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open {
        until: Instant,
    },
    /// A trial is under way.
    Trial,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            state: State::Closed,
            failures: 0,
            pause: Duration::ZERO,
        }
    }
}

impl Breaker {
    /// How long no call may begin; nothing while a trial is under way.
    pub(super) fn pause(&self, now: Instant) -> Option<Duration> {
        match self.state {
            State::Closed => Some(Duration::ZERO),
            State::Open { until } => Some(until.saturating_duration_since(now)),
            State::Trial => None,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// A call begins that was allowed.
    pub(super) fn begin(&mut self) {
        if !self.is_closed() {
            self.state = State::Trial;
        }
    }

    pub(super) fn succeed(&mut self) {
        *self = Self::default();
    }

    pub(super) fn fail(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        match self.state {
            State::Closed if self.failures < BREAKER_FAILURES => {}
            // A call that began before the breaker opened says nothing new.
            State::Open { .. } => {}
            State::Closed | State::Trial => {
                self.pause = (self.pause * 2).clamp(BREAKER_PAUSE_MIN, BREAKER_PAUSE_MAX);
                let until = now + self.pause;
                self.state = State::Open { until };
            }
        }
    }

    /// A call ended without a word: nobody waits for it any more. Another one may be the trial.
    pub(super) fn abandon(&mut self, now: Instant) {
        if self.state == State::Trial {
            self.state = State::Open { until: now };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Did {
        Begin,
        Succeed,
        Fail,
        Abandon,
    }
    use Did::{Abandon, Begin, Fail, Succeed};

    /// After all that was done at these milliseconds, whether a call is allowed at those.
    #[test]
    fn the_breaker_by_hand() {
        assert_eq!(
            (BREAKER_FAILURES, BREAKER_PAUSE_MIN.as_millis()),
            (5, 1_000)
        );
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let four = [(0, Fail), (0, Fail), (0, Fail), (0, Fail)];
        let five = [&four[..], &[(10, Fail)]].concat();
        let tried = [&five[..], &[(1_010, Begin)]].concat();
        for (done, allowed) in [
            (vec![], vec![(0, true)]),
            (four.to_vec(), vec![(0, true)]),
            (
                [&four[..], &[(1, Succeed)], &four[..]].concat(),
                vec![(2, true)],
            ),
            (
                five.clone(),
                vec![(10, false), (1_009, false), (1_010, true)],
            ),
            // Late failures do not make the pause longer.
            ([&five[..], &[(900, Fail)]].concat(), vec![(1_010, true)]),
            // One trial at a time.
            (tried.clone(), vec![(1_010, false), (9_000, false)]),
            (
                [&tried[..], &[(1_020, Succeed)]].concat(),
                vec![(1_020, true)],
            ),
            (
                [&tried[..], &[(1_020, Fail)]].concat(),
                vec![(3_019, false), (3_020, true)],
            ),
            (
                [&tried[..], &[(1_020, Abandon)]].concat(),
                vec![(1_020, true)],
            ),
            // It was not the trial that was abandoned.
            (
                [&five[..], &[(20, Abandon)]].concat(),
                vec![(20, false), (1_010, true)],
            ),
            // After a success all begins anew.
            (
                [&tried[..], &[(1_020, Succeed)], &four[..]].concat(),
                vec![(1_020, true)],
            ),
        ] {
            let mut breaker = Breaker::default();
            for &(ms, did) in &done {
                match did {
                    Begin => breaker.begin(),
                    Succeed => breaker.succeed(),
                    Fail => breaker.fail(at(ms)),
                    Abandon => breaker.abandon(at(ms)),
                }
            }
            for (ms, expected) in allowed {
                assert_eq!(
                    breaker.pause(at(ms)) == Some(Duration::ZERO),
                    expected,
                    "{done:?} at {ms}"
                );
            }
        }
    }

    #[test]
    fn pauses_grow_to_a_bound() {
        let mut breaker = Breaker::default();
        let mut now = Instant::now();
        for _ in 0..BREAKER_FAILURES {
            breaker.fail(now);
        }
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let begun = now;
            while breaker.pause(now) != Some(Duration::ZERO) {
                now += Duration::from_millis(500);
            }
            pauses.push((now - begun).as_secs());
            breaker.begin();
            breaker.fail(now);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 30]);
    }
}
