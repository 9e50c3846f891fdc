//! How often engines were asked over HTTP, and why some did not answer as they should.
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! failures {
    ($($(#[$doc:meta])* $name:ident = $label:literal,)*) => {
        /// Why an engine's answer could not be used.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(usize)]
        pub enum ProbeFailure { $($(#[$doc])* $name,)* }

        impl ProbeFailure {
            /// All reasons, in order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The label used in metrics and logs.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }
        }
    };
}

failures! {
    /// The host's name has no address.
    Resolve = "resolve",
    /// No connection: refused, or no way there.
    Connect = "connect",
    /// Too slow, wherever it was slow.
    Timeout = "timeout",
    /// What came is not HTTP/1.1, or broke off.
    Http = "http",
    /// Another status than 200.
    Status = "status",
    /// The body is longer than the limit.
    TooLarge = "too_large",
    /// The body is not what it should be.
    Content = "content",
    /// The fleet cannot have the ranks that the engine names.
    Ranks = "ranks",
}

/// Counts of all probes. Written by the probe's thread, read by anybody; each is only a number, so Relaxed.
#[derive(Debug, Default)]
pub struct ProbeCounts {
    failures: [AtomicU64; ProbeFailure::ALL.len()],
}

impl ProbeCounts {
    /// Counts one failure.
    pub fn add_failure(&self, why: ProbeFailure) {
        self.failures[why as usize].fetch_add(1, Relaxed);
    }

    /// Failures by reason, also those that never occurred.
    pub fn failures(&self) -> impl Iterator<Item = (ProbeFailure, u64)> {
        ProbeFailure::ALL
            .iter()
            .map(|&why| (why, self.failures[why as usize].load(Relaxed)))
    }
}
