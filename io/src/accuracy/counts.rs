//! What feedback came to, and how often callers decided like a node that is not obeyed.
use crate::limits::SHADOW_LOG_INTERVAL;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What one feedback on cached tokens was good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Use {
    /// It was compared with what was predicted.
    Compared,
    /// Nothing was predicted: the prompt's tokens were not known, or the worker was not looked at.
    Unpredicted,
    /// The worker has dropped all that it held since the decision.
    Late,
    /// The decision had its feedback already.
    Duplicate,
    /// The decision was a trial.
    Trial,
    /// The decision is not known, or forgotten.
    Unknown,
}

impl Use {
    /// All of them, in order of their numbers.
    pub const ALL: [Self; 6] = [
        Self::Compared,
        Self::Unpredicted,
        Self::Late,
        Self::Duplicate,
        Self::Trial,
        Self::Unknown,
    ];

    /// The word used in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Compared => "compared",
            Self::Unpredicted => "unpredicted",
            Self::Late => "late",
            Self::Duplicate => "duplicate",
            Self::Trial => "trial",
            Self::Unknown => "unknown",
        }
    }
}

/// The node's counters. Each is only a number, so Relaxed.
#[derive(Debug, Default)]
pub struct FeedbackCounts {
    uses: [AtomicU64; Use::ALL.len()],
    agreed: AtomicU64,
    disagreed: AtomicU64,
    own_tokens: AtomicU64,
    their_tokens: AtomicU64,
    unknown_targets: AtomicU64,
    logged_at_ms: AtomicU64,
}

/// What decisions that nobody obeyed came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shadows {
    /// The caller decided alike.
    pub agreed: u64,
    /// It did not.
    pub disagreed: u64,
    /// Of these, the caller's target was not among the candidates.
    pub unknown_targets: u64,
    /// Tokens that could have been reused where the node would have sent the requests.
    pub own_tokens: u64,
    /// The same where they were sent.
    pub their_tokens: u64,
}

impl FeedbackCounts {
    /// Counts a feedback.
    pub fn add(&self, of: Use) {
        self.uses[of as usize].fetch_add(1, Relaxed);
    }

    /// Feedbacks by what they were good for.
    pub fn uses(&self) -> impl Iterator<Item = (Use, u64)> {
        Use::ALL
            .into_iter()
            .map(|of| (of, self.uses[of as usize].load(Relaxed)))
    }

    /// Counts a decision that was compared with the caller's: what each of the two targets could have reused; `None` for
    /// one that is not known.
    pub fn shadowed(&self, agreed: bool, own: u64, theirs: Option<u64>) {
        let count = if agreed {
            &self.agreed
        } else {
            &self.disagreed
        };
        count.fetch_add(1, Relaxed);
        match theirs {
            Some(theirs) => {
                self.own_tokens.fetch_add(own, Relaxed);
                self.their_tokens.fetch_add(theirs, Relaxed);
            }
            None => {
                self.unknown_targets.fetch_add(1, Relaxed);
            }
        }
    }

    /// What decisions that nobody obeyed came to.
    #[must_use]
    pub fn shadows(&self) -> Shadows {
        Shadows {
            agreed: self.agreed.load(Relaxed),
            disagreed: self.disagreed.load(Relaxed),
            unknown_targets: self.unknown_targets.load(Relaxed),
            own_tokens: self.own_tokens.load(Relaxed),
            their_tokens: self.their_tokens.load(Relaxed),
        }
    }

    /// Whether it is time for a line of the log that sums them up; `true` once in [`SHADOW_LOG_INTERVAL`].
    pub fn is_time_to_log(&self, now_ms: u64) -> bool {
        let interval = u64::try_from(SHADOW_LOG_INTERVAL.as_millis()).unwrap_or(u64::MAX);
        let last = self.logged_at_ms.load(Relaxed);
        let due = now_ms.saturating_sub(last) >= interval;
        // Whoever puts its time in place of the last one logs.
        due && self
            .logged_at_ms
            .compare_exchange(last, now_ms, Relaxed, Relaxed)
            .is_ok()
    }
}
