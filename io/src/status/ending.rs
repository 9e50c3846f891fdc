//! How far the node is on its way to its end, and how much time is left for it.
use crate::limits::{GRACE_MARGIN_MAX, GRACE_RESERVE_MAX};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// A step of the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum EndStep {
    /// It says that it is not ready, and still accepts connections.
    Notice = 0,
    /// Requests in flight are finished.
    Requests = 1,
    /// The last snapshot is written.
    Snapshot = 2,
    /// Threads and sockets end.
    Threads = 3,
}

impl EndStep {
    /// All of them, in order.
    pub const ALL: [Self; 4] = [Self::Notice, Self::Requests, Self::Snapshot, Self::Threads];

    /// What it is, for the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Notice => "notice",
            Self::Requests => "requests in flight",
            Self::Snapshot => "last snapshot",
            Self::Threads => "threads",
        }
    }
}

/// The end of a node: shared by who goes through its steps and who watches over their time.
#[derive(Clone, Debug, Default)]
pub struct Ending {
    /// When the last step has to be over; `None` for whenever.
    deadline: Option<Instant>,
    /// What the steps before the snapshot leave of that.
    reserve: Duration,
    /// The number of the step at hand.
    step: Arc<AtomicUsize>,
}

impl Ending {
    /// One that is over so long after `now`, but for a margin.
    #[must_use]
    pub fn within(grace: Duration, now: Instant) -> Self {
        Self {
            deadline: Some(now + (grace - GRACE_MARGIN_MAX.min(grace / 10))),
            reserve: GRACE_RESERVE_MAX.min(grace / 5),
            step: Arc::default(),
        }
    }

    /// What a grace period leaves to the steps before the snapshot.
    #[must_use]
    pub fn before_snapshot(grace: Duration) -> Duration {
        let margin = GRACE_MARGIN_MAX.min(grace / 10);
        grace.saturating_sub(margin + GRACE_RESERVE_MAX.min(grace / 5))
    }

    /// When it has to be over, if that is said.
    #[must_use]
    pub const fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// So long, or as long as a step before the snapshot may take.
    #[must_use]
    pub fn at_most(&self, time: Duration) -> Duration {
        self.at_most_from(Instant::now(), time)
    }

    fn at_most_from(&self, now: Instant, time: Duration) -> Duration {
        match self.deadline {
            Some(deadline) => {
                let left = deadline.saturating_duration_since(now);
                time.min(left.saturating_sub(self.reserve))
            }
            None => time,
        }
    }

    /// This step begins, those before it are over.
    pub fn enter(&self, step: EndStep) {
        // Relaxed: it is only told.
        self.step.store(step as usize, Relaxed);
    }

    /// The step at hand and those after it, for the log.
    #[must_use]
    pub fn undone(&self) -> String {
        let left = EndStep::ALL.iter().skip(self.step.load(Relaxed));
        left.map(|step| step.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn early_steps_leave_time_to_later_ones() {
        let now = Instant::now();
        let ending = Ending::within(30 * SECOND, now);
        assert_eq!(ending.deadline(), Some(now + 29 * SECOND));
        assert_eq!(ending.at_most_from(now, 10 * SECOND), 10 * SECOND);
        assert_eq!(ending.at_most_from(now, 60 * SECOND), 24 * SECOND);
        assert_eq!(
            ending.at_most_from(now + 20 * SECOND, 60 * SECOND),
            4 * SECOND
        );
        assert_eq!(
            ending.at_most_from(now + 40 * SECOND, SECOND),
            Duration::ZERO
        );
        let short = Ending::within(SECOND, now);
        assert_eq!(short.deadline(), Some(now + SECOND * 9 / 10));
        assert_eq!(short.at_most_from(now, SECOND), SECOND * 7 / 10);
        assert_eq!(
            Ending::default().at_most_from(now, 60 * SECOND),
            60 * SECOND
        );
    }

    #[test]
    fn what_is_left_undone_is_the_step_at_hand_and_what_comes_after() {
        let ending = Ending::default();
        ending.enter(EndStep::Requests);
        assert_eq!(
            ending.undone(),
            "requests in flight, last snapshot, threads"
        );
        ending.clone().enter(EndStep::Threads);
        assert_eq!(ending.undone(), "threads");
    }
}
