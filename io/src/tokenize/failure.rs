//! Why a prompt has no tokens, and how often.
use super::times::Times;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Why a prompt has no tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nobody has answered in time.
    Timeout,
    /// No connection, or one that broke off.
    Connect,
    /// The answer's status is neither 200 nor one that is about the prompt.
    Status(u16),
    /// Every pod of the model has failed too often lately.
    BreakerOpen,
    /// Too much is under way.
    Busy,
    /// The answer is not one that engines give.
    Content,
    /// The answer is too long.
    TooLarge,
    /// No pod of the model has an endpoint.
    NoPod,
    /// The engine does not take the prompt; its message.
    Refused(Arc<str>),
    /// What the engine would make of the prompt cannot be known.
    Unsupported(&'static str),
    /// The node is stopping.
    Stopped,
}

impl Failure {
    /// The labels of all of them, in order of their numbers.
    pub const LABELS: [&'static str; 11] = [
        "timeout",
        "connect",
        "status",
        "breaker_open",
        "busy",
        "content",
        "too_large",
        "no_pod",
        "refused",
        "unsupported",
        "stopped",
    ];

    const fn number(&self) -> usize {
        match self {
            Self::Timeout => 0,
            Self::Connect => 1,
            Self::Status(_) => 2,
            Self::BreakerOpen => 3,
            Self::Busy => 4,
            Self::Content => 5,
            Self::TooLarge => 6,
            Self::NoPod => 7,
            Self::Refused(_) => 8,
            Self::Unsupported(_) => 9,
            Self::Stopped => 10,
        }
    }

    /// The word used in metrics and the log.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        Self::LABELS[self.number()]
    }

    /// Whether another call may do better.
    pub(super) const fn is_passing(&self) -> bool {
        match self {
            Self::Timeout | Self::Connect => true,
            Self::Status(status) => matches!(status, 408 | 429 | 500..=599),
            _ => false,
        }
    }

    /// Whether it is the endpoint's fault, and not the prompt's or ours.
    pub(super) const fn is_the_endpoints(&self) -> bool {
        match self {
            Self::Timeout | Self::Connect | Self::Content => true,
            Self::Status(status) => !matches!(status, 404 | 413 | 414),
            _ => false,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("no pod has answered in time"),
            Self::Connect => f.write_str("no connection to a pod"),
            Self::Status(status) => write!(f, "the pod has answered with status {status}"),
            Self::BreakerOpen => f.write_str("all pods of the model have failed too often lately"),
            Self::Busy => f.write_str("too many prompts are under way"),
            Self::Content => f.write_str("what the pod has answered are no tokens"),
            Self::TooLarge => f.write_str("the pod's answer is too long"),
            Self::NoPod => f.write_str("no pod of the model has an endpoint"),
            Self::Refused(message) => f.write_str(message),
            Self::Unsupported(why) => f.write_str(why),
            Self::Stopped => f.write_str("the node is stopping"),
        }
    }
}

/// What prompts came to, counted. Each is only a number, so Relaxed.
#[derive(Debug, Default)]
pub struct Counts {
    cached: AtomicU64,
    tokens: AtomicU64,
    failures: [AtomicU64; Failure::LABELS.len()],
    calls: AtomicU64,
    hedges: AtomicU64,
    retries: AtomicU64,
    shared: AtomicU64,
    calls_now: AtomicU64,
    times: Times,
}

impl Counts {
    /// Prompts whose tokens were in the cache, and such that were asked for.
    #[must_use]
    pub fn tokens(&self) -> (u64, u64) {
        (self.cached.load(Relaxed), self.tokens.load(Relaxed))
    }

    /// Prompts without tokens, by reason.
    pub fn failures(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.failures.iter().map(|count| count.load(Relaxed));
        Failure::LABELS.into_iter().zip(counts)
    }

    /// Calls of endpoints: all, those among them that were second ones beside a slow first one, and those after one that
    /// had failed.
    #[must_use]
    pub fn calls(&self) -> [u64; 3] {
        [&self.calls, &self.hedges, &self.retries].map(|count| count.load(Relaxed))
    }

    /// Prompts that shared the call of an equal one.
    #[must_use]
    pub fn shared(&self) -> u64 {
        self.shared.load(Relaxed)
    }

    /// How long prompts took.
    #[must_use]
    pub fn times(&self) -> &Times {
        &self.times
    }

    /// Calls under way.
    #[must_use]
    pub fn calls_now(&self) -> u64 {
        self.calls_now.load(Relaxed)
    }

    pub(super) fn add_cached(&self) {
        self.cached.fetch_add(1, Relaxed);
    }

    pub(super) fn add<T>(&self, outcome: &Result<T, Failure>) {
        let count = match outcome {
            Ok(_) => &self.tokens,
            Err(failure) => &self.failures[failure.number()],
        };
        count.fetch_add(1, Relaxed);
    }

    pub(super) fn add_hedge(&self) {
        self.hedges.fetch_add(1, Relaxed);
    }

    pub(super) fn add_retry(&self) {
        self.retries.fetch_add(1, Relaxed);
    }

    pub(super) fn add_shared(&self) {
        self.shared.fetch_add(1, Relaxed);
    }

    pub(super) fn begin_call(&self) {
        self.calls.fetch_add(1, Relaxed);
        self.calls_now.fetch_add(1, Relaxed);
    }

    pub(super) fn end_call(&self) {
        self.calls_now.fetch_sub(1, Relaxed);
    }
}
