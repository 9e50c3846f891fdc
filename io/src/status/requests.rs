//! What one thread that answers requests counts of them and of its lookups.
use super::exemplar::{Exemplar, RequestName};
use super::histogram::{Counted, Histogram, bump, nanoseconds};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

words! {
    /// What a request asks for.
    Endpoint {
        /// `/v1/match`.
        Match = "match",
        /// `/v1/match:batch`.
        Batch = "batch",
        /// `/v1/route`, and OpenAI's paths behind it.
        Route = "route",
        /// A gateway's check.
        ExtAuthz = "ext_authz",
        /// `/query`.
        Query = "query",
        /// `/query_by_hash`.
        QueryByHash = "query_by_hash",
        /// `/v1/feedback`.
        Feedback = "feedback",
        /// `/v1/explain`.
        Explain = "explain",
        /// Anything else, unknown paths among it.
        Other = "other",
    }
}

words! {
    /// How a request was answered.
    CodeClass {
        /// As it was asked.
        Done = "2xx",
        /// The request's fault, or a bound that it met.
        Refused = "4xx",
        /// The node's.
        Failed = "5xx",
    }
}

words! {
    /// How a prompt is given.
    LookupKind {
        /// As token ids.
        Tokens = "tokens",
        /// As hashes of its blocks.
        Hashes = "hashes",
    }
}

/// Upper bounds of lookups in nanoseconds: from half a microsecond on.
const LOOKUP_BOUNDS: &[u64; 15] = &[
    500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 256_000, 512_000, 1_000_000,
    4_000_000, 16_000_000, 64_000_000,
];

/// Upper bounds of requests in nanoseconds: 5 us, and twice as long each, up to 5 s.
pub const REQUEST_BOUNDS: &[u64; 21] = &doubled(5_000);

/// `N` bounds, each twice the one before.
pub(super) const fn doubled<const N: usize>(first: u64) -> [u64; N] {
    let mut bounds = [first; N];
    let mut at = 1;
    while at < N {
        bounds[at] = bounds[at - 1] * 2;
        at += 1;
    }
    bounds
}

/// Shares of a prompt, as words.
pub const SHARES: [&str; 6] = ["0", "1-24", "25-49", "50-74", "75-99", "100"];

/// What became of lookups.
#[derive(Debug)]
pub struct LookupStatus {
    took: [Histogram<15>; LookupKind::ALL.len()],
    asked: AtomicU64,
    matched: AtomicU64,
    /// As [`SHARES`].
    shares: [AtomicU64; SHARES.len()],
}

impl Default for LookupStatus {
    fn default() -> Self {
        Self {
            took: [const { Histogram::new(LOOKUP_BOUNDS) }; LookupKind::ALL.len()],
            asked: AtomicU64::new(0),
            matched: AtomicU64::new(0),
            shares: [const { AtomicU64::new(0) }; SHARES.len()],
        }
    }
}

impl LookupStatus {
    /// Counts the time that a lookup took.
    #[inline]
    pub fn took(&self, kind: LookupKind, time: Duration) {
        self.took[kind as usize].observe_time(time);
    }

    /// Counts the tokens of a prompt, those that the best worker holds, and their share in whole percent, 100 being all whole blocks.
    #[inline]
    pub fn matched(&self, asked: u64, matched: u64, percent: u64) {
        bump(&self.asked, asked);
        bump(&self.matched, matched);
        let share = match percent {
            0 => 0,
            1..25 => 1,
            25..50 => 2,
            50..75 => 3,
            75..100 => 4,
            _ => 5,
        };
        bump(&self.shares[share], 1);
    }

    /// Times of lookups that were measured.
    #[must_use]
    pub fn times(&self, kind: LookupKind) -> Counted<15> {
        self.took[kind as usize].read()
    }

    /// Tokens asked for, and those of them that were held.
    #[must_use]
    pub fn tokens(&self) -> [u64; 2] {
        [&self.asked, &self.matched].map(|count| count.load(Relaxed))
    }

    /// Lookups by share, as [`SHARES`].
    #[must_use]
    pub fn shares(&self) -> [u64; SHARES.len()] {
        self.shares.each_ref().map(|count| count.load(Relaxed))
    }
}

/// Requests of one kind.
#[derive(Debug)]
struct OfEndpoint {
    answered: [AtomicU64; CodeClass::ALL.len()],
    took: Histogram<21>,
    /// By bucket, the last one for what took longer.
    latest: [Exemplar; 22],
}

impl Default for OfEndpoint {
    fn default() -> Self {
        Self {
            answered: Default::default(),
            took: Histogram::new(REQUEST_BOUNDS),
            latest: Default::default(),
        }
    }
}

/// What became of requests.
#[derive(Debug, Default)]
pub struct RequestStatus {
    endpoints: [OfEndpoint; Endpoint::ALL.len()],
    under_way: AtomicU64,
}

/// Since when the ages of exemplars count.
static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A request that is under way, until dropped.
#[derive(Debug)]
pub struct UnderWay<'s> {
    status: &'s RequestStatus,
    began: Instant,
}

impl RequestStatus {
    /// A request begins, on the only thread that counts here.
    #[inline]
    pub fn begin(&self) -> UnderWay<'_> {
        bump(&self.under_way, 1);
        UnderWay {
            status: self,
            began: Instant::now(),
        }
    }

    /// Requests under way.
    #[must_use]
    pub fn under_way(&self) -> u64 {
        self.under_way.load(Relaxed)
    }

    /// Requests that were answered.
    #[must_use]
    pub fn answered(&self, endpoint: Endpoint, code: CodeClass) -> u64 {
        self.endpoints[endpoint as usize].answered[code as usize].load(Relaxed)
    }

    /// The time that they took.
    #[must_use]
    pub fn times(&self, endpoint: Endpoint) -> Counted<21> {
        self.endpoints[endpoint as usize].took.read()
    }

    /// The latest request of each bucket that has a name, its nanoseconds, and when it was answered (the later, the larger, on all
    /// threads); the last one is of those above all bounds.
    #[must_use]
    pub fn latest(&self, endpoint: Endpoint) -> [Option<(RequestName, u64, u64)>; 22] {
        let latest = &self.endpoints[endpoint as usize].latest;
        latest.each_ref().map(Exemplar::read)
    }
}

impl UnderWay<'_> {
    /// The request is answered.
    #[inline]
    pub fn answered(self, endpoint: Endpoint, status: u16, name: Option<RequestName>) {
        let now = Instant::now();
        let took = nanoseconds(now.saturating_duration_since(self.began));
        let of = &self.status.endpoints[endpoint as usize];
        let code = match status {
            ..400 => CodeClass::Done,
            400..500 => CodeClass::Refused,
            _ => CodeClass::Failed,
        };
        bump(&of.answered[code as usize], 1);
        let bucket = of.took.observe(took);
        if let Some(name) = name {
            let at = now.saturating_duration_since(*BEGINNING);
            let at_ms = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
            of.latest[bucket].note(name, took, at_ms);
        }
    }
}

impl Drop for UnderWay<'_> {
    /// Also if whoever asked has gone before it was answered.
    fn drop(&mut self) {
        bump(&self.status.under_way, u64::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_under_way_until_it_is_answered_or_given_up() {
        let status = RequestStatus::default();
        let (first, second) = (status.begin(), status.begin());
        assert_eq!(status.under_way(), 2);
        drop(first);
        assert_eq!(status.under_way(), 1);
        second.answered(Endpoint::Route, 404, Some(RequestName::Request(5)));
        assert_eq!(status.under_way(), 0);
        assert_eq!(status.answered(Endpoint::Route, CodeClass::Refused), 1);
        assert_eq!(status.times(Endpoint::Route).count(), 1);
        let latest = status.latest(Endpoint::Route);
        let named = latest.iter().flatten().map(|&(name, took, _)| (name, took));
        assert_eq!(
            named.collect::<Vec<_>>(),
            [(RequestName::Request(5), status.times(Endpoint::Route).sum)]
        );
    }

    #[test]
    fn shares_are_whole_percents() {
        let status = LookupStatus::default();
        for percent in [0, 1, 24, 25, 49, 50, 74, 75, 99, 100, 100] {
            status.matched(10, 3, percent);
        }
        assert_eq!(status.shares(), [1, 2, 2, 2, 2, 2]);
        assert_eq!(status.tokens(), [110, 33]);
    }

    #[test]
    fn bounds_grow_twofold() {
        assert_eq!(REQUEST_BOUNDS[..3], [5_000, 10_000, 20_000]);
        assert_eq!(REQUEST_BOUNDS[20], 5_242_880_000);
    }
}
