//! What was chosen, by how and why: the counters of one thread that chooses.
use kvroute_engine::choose::{Policy, Reason};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters of one thread, which alone writes them; read by anybody. Each is only a number, so Relaxed. Aligned so that threads do not
/// write into one cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct RouteStatus {
    decisions: [[AtomicU64; Reason::ALL.len()]; Policy::ALL.len()],
    conflicts: AtomicU64,
    blind: AtomicU64,
}

impl RouteStatus {
    /// Counts a choice.
    pub fn decided(&self, policy: Policy, reason: Reason) {
        self.decisions[policy as usize][reason as usize].fetch_add(1, Relaxed);
    }

    /// Counts a choice that was made anew because its target was booked meanwhile; the `last` time it is booked unseen.
    pub fn conflict(&self, last: bool) {
        self.conflicts.fetch_add(1, Relaxed);
        self.blind.fetch_add(last.into(), Relaxed);
    }

    /// Choices by policy and reason, those that occurred.
    pub fn decisions(&self) -> impl Iterator<Item = (Policy, Reason, u64)> {
        let each = move |policy: Policy| {
            Reason::ALL.into_iter().map(move |reason| {
                let count = self.decisions[policy as usize][reason as usize].load(Relaxed);
                (policy, reason, count)
            })
        };
        let all = Policy::ALL.into_iter().flat_map(each);
        all.filter(|&(_, _, count)| count != 0)
    }

    /// Choices made anew.
    #[must_use]
    pub fn conflicts(&self) -> u64 {
        self.conflicts.load(Relaxed)
    }

    /// Targets booked though others had booked them meanwhile.
    #[must_use]
    pub fn blind(&self) -> u64 {
        self.blind.load(Relaxed)
    }
}
