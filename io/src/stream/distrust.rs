//! When what a distrusted worker holds is had anew; pure.
//!
//! The first time at once. A worker whose engine goes on to contradict its own events is had anew after a pause that doubles,
//! and nothing is credited meanwhile: a replay costs the engine, and would end nothing.
use super::sequence::ClearReason;
use crate::limits::{RESYNC_FORGET, RESYNC_PAUSE_MAX};
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// It is believed.
    #[default]
    No,
    /// It is not, and is had anew then.
    Waiting(Instant),
    /// What it held is dropped, and the replay that brings it again is under way.
    UnderWay,
}

/// Whether a worker is distrusted because of what its engine delivered.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Distrust {
    phase: Phase,
    /// How often, since the last forgetting.
    times: u32,
    last: Option<Instant>,
}

impl Distrust {
    pub(super) fn holds(&self) -> bool {
        self.phase != Phase::No
    }

    /// It is distrusted from now on; for how long until it is had anew.
    pub(super) fn begin(&mut self, now: Instant, first_pause: Duration) -> Duration {
        let quiet = |last: Instant| now.saturating_duration_since(last) >= RESYNC_FORGET;
        if self.last.is_none_or(quiet) {
            self.times = 0;
        }
        let pause = match self.times {
            0 => Duration::ZERO,
            n => first_pause.saturating_mul(1 << (n - 1).min(16)),
        };
        let pause = pause.min(RESYNC_PAUSE_MAX);
        self.times = self.times.saturating_add(1);
        self.last = Some(now + pause);
        self.phase = Phase::Waiting(now + pause);
        pause
    }

    /// When it is had anew, if that is still to come.
    pub(super) fn due(&self) -> Option<Instant> {
        match self.phase {
            Phase::Waiting(at) => Some(at),
            Phase::No | Phase::UnderWay => None,
        }
    }

    /// Whether it is to be had anew now; it is under way then.
    pub(super) fn take_due(&mut self, now: Instant) -> bool {
        let due = self.due().is_some_and(|at| at <= now);
        if due {
            self.phase = Phase::UnderWay;
        }
        due
    }

    /// The replay is over, however it went: what is held now came after all was dropped.
    pub(super) fn end_if_under_way(&mut self) {
        if self.phase == Phase::UnderWay {
            self.phase = Phase::No;
        }
    }

    /// All that it held was dropped. For another reason than this one, there is nothing left to distrust.
    pub(super) fn dropped(&mut self, reason: ClearReason) {
        if reason != ClearReason::Distrusted {
            self.phase = Phase::No;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    #[test]
    fn pauses_double_up_to_a_bound_and_are_forgotten() {
        let (mut distrust, mut now) = (Distrust::default(), Instant::now());
        for minutes in [0, 1, 2, 4, 8, 16, 32, 60, 60] {
            let pause = distrust.begin(now, MINUTE);
            assert_eq!(pause, MINUTE * minutes);
            assert!(distrust.holds());
            assert_eq!(distrust.take_due(now), minutes == 0, "{minutes}");
            now += pause;
            assert_eq!(distrust.due().is_some(), minutes != 0);
            assert_eq!(distrust.take_due(now), minutes != 0);
            assert_eq!((distrust.due(), distrust.holds()), (None, true));
            distrust.end_if_under_way();
            assert!(!distrust.holds());
        }
        assert_eq!(distrust.begin(now + RESYNC_FORGET, MINUTE), Duration::ZERO);
    }

    #[test]
    fn what_is_dropped_for_another_reason_needs_no_distrust() {
        use ClearReason::{Distrusted, Gap, Rebuild, Restart, Unproven};
        for (reason, holds) in [
            (Distrusted, true),
            (Restart, false),
            (Gap, false),
            (Unproven, false),
            (Rebuild, false),
        ] {
            let mut distrust = Distrust::default();
            distrust.begin(Instant::now(), MINUTE);
            distrust.end_if_under_way();
            assert!(distrust.holds(), "it waits");
            distrust.dropped(reason);
            assert_eq!(distrust.holds(), holds, "{reason:?}");
        }
    }
}
