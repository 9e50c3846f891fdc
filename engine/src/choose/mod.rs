//! The choice of a worker for one request, from what each candidate holds of its prompt and how busy it is.
//!
//! Pure, and without allocation: candidates in, one of them and the reason out. What a policy needs of
//! chance or of turns is passed in, and nothing is booked. All candidates are looked at at most four times, so a choice
//! is O(candidates).
//!
//! `prefix-cache` follows AIBrix's rules, with their load gate judged for each candidate:
//!
//! 1. If the busiest candidate has more than [`Rules::imbalance`] requests more than the idlest, only those
//!    with the fewest requests are admitted; else those whose requests do not exceed mean + factor x sample standard
//!    deviation ([`Gate`]).
//! 2. Of the admitted candidates with a match, the longest match wins, then the fewest requests.
//! 3. Without one, the fewest requests of all win.
//!
//! `cost` takes the candidate with the least work for this request ([`cost`]). A request of a session stays with the
//! session's candidate as long as its load allows, whatever the policy.
//!
//! A match counts as far as what is known of the candidate is trusted ([`Candidate::credit`]).
//!
//! What is equal so far is decided by rendezvous hashing on the prompt's prefix ([`tie`]), the same way in every
//! replica.
mod cost;
mod gate;
pub mod tie;

pub use cost::{Cost, Weights, cost};
pub use gate::{Gate, Rules};

use crate::types::{TIERS, Tier};
use std::cmp::Reverse;

/// The requests that a worker has now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Being computed.
    pub running: u32,
    /// Waiting in the engine's queue.
    pub waiting: u32,
    /// Prompt tokens that it has yet to compute for them, as far as that is known.
    pub queued_tokens: u64,
    /// Tokens that its requests keep in its cache now, as far as that is known.
    pub active_tokens: u64,
}

impl Load {
    /// All requests at the worker: what AIBrix counts as running, since a gateway cannot tell the two apart.
    #[must_use]
    pub const fn requests(self) -> u64 {
        self.running as u64 + self.waiting as u64
    }
}

/// What is known of one worker that a request may go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Stands for the worker in ties; see [`tie::identity`].
    pub identity: u64,
    /// Leading tokens of the prompt that it holds, in each tier or a faster one.
    pub matched: [u64; TIERS],
    /// What of its match counts, in thousandths: [`FULL_CREDIT`] for what is known exactly, nothing for what
    /// cannot be trusted. More than that is that.
    pub credit: u16,
    /// What it has to do already.
    pub load: Load,
}

/// The whole of a match counts.
pub const FULL_CREDIT: u16 = 1_000;

impl Candidate {
    /// Leading tokens held in any tier.
    #[must_use]
    pub const fn matched(&self) -> u64 {
        self.matched[Tier::Disk.index()]
    }

    /// What of them counts.
    #[must_use]
    pub const fn credited(&self) -> u64 {
        self.share(self.matched())
    }

    /// What counts of so many tokens.
    const fn share(&self, tokens: u64) -> u64 {
        if self.credit >= FULL_CREDIT {
            return tokens;
        }
        // Whole thousands first: no product is out of range.
        let (thousands, rest) = (tokens / 1_000, tokens % 1_000);
        thousands * self.credit as u64 + rest * self.credit as u64 / 1_000
    }
}

/// How to choose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// The longest cached prefix, unless its worker is too busy.
    #[default]
    PrefixCache,
    /// The least work: what is not cached of the prompt, what is queued, what is in use.
    Cost,
    /// The fewest requests.
    LeastRequest,
    /// One after the other.
    RoundRobin,
    /// Any.
    Random,
}

impl Policy {
    /// All policies.
    pub const ALL: [Self; 5] = [
        Self::PrefixCache,
        Self::Cost,
        Self::LeastRequest,
        Self::RoundRobin,
        Self::Random,
    ];

    /// Its name in requests, answers and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PrefixCache => "prefix-cache",
            Self::Cost => "cost",
            Self::LeastRequest => "least-request",
            Self::RoundRobin => "round-robin",
            Self::Random => "random",
        }
    }

    /// The policy of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.as_str() == name)
    }
}

/// Why the target was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It holds the longest prefix of those that are not too busy.
    PrefixMatch,
    /// All that hold a prefix are too busy; it has the fewest requests.
    PrefixMatchSkipped,
    /// Nobody holds a prefix worth mentioning; it has the fewest requests.
    LeastRequestFallback,
    /// The prompt's tokens are not known; it has the fewest requests.
    NoTokens,
    /// There is no other.
    SingleCandidate,
    /// The request's session is served there.
    Session,
    /// It has the least work to do.
    Cost,
    /// The policy asked for the fewest requests.
    LeastRequest,
    /// The policy asked for the next one.
    RoundRobin,
    /// The policy asked for any.
    Random,
}

impl Reason {
    /// All reasons, in order.
    pub const ALL: [Self; 10] = [
        Self::PrefixMatch,
        Self::PrefixMatchSkipped,
        Self::LeastRequestFallback,
        Self::NoTokens,
        Self::SingleCandidate,
        Self::Session,
        Self::Cost,
        Self::LeastRequest,
        Self::RoundRobin,
        Self::Random,
    ];

    /// The word used in answers and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PrefixMatch => "prefix_match",
            Self::PrefixMatchSkipped => "prefix_match_skipped",
            Self::LeastRequestFallback => "least_request_fallback",
            Self::NoTokens => "no_tokens",
            Self::SingleCandidate => "single_candidate",
            Self::Session => "session",
            Self::Cost => "cost",
            Self::LeastRequest => "least_request",
            Self::RoundRobin => "round_robin",
            Self::Random => "random",
        }
    }
}

/// What is asked beside the candidates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// How to choose.
    pub policy: Policy,
    /// Tokens below which a match does not count as one.
    pub minimum_match: u64,
    /// Whether the prompt's tokens are known.
    pub tokens_known: bool,
    /// How many they are; 0 if they are not known.
    pub prompt_tokens: u64,
    /// Stands for the session that the request belongs to, if it is to stay with one candidate.
    pub session: Option<u64>,
    /// Whose turn it is, for `round-robin`; grows by one with each choice.
    pub turn: u64,
    /// A random number, for `random`.
    pub draw: u64,
}

/// The chosen candidate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// Its place among the candidates.
    pub at: usize,
    /// Why this one.
    pub reason: Reason,
    /// What the loads of all candidates allowed.
    pub gate: Gate,
}

/// Chooses one of the candidates; `None` if there is none.
///
/// `prefix` hashes the prompt for ties between candidates that all hold so many of its leading tokens. It is called at
/// most once, and only for a tie.
pub fn choose(
    candidates: &[Candidate],
    ask: &Ask,
    rules: &Rules,
    prefix: impl FnOnce(u64) -> u64,
) -> Option<Choice> {
    let gate = Gate::of(candidates, rules)?;
    if let Some(at) = pinned(candidates, ask, &gate) {
        let reason = Reason::Session;
        return Some(Choice { at, reason, gate });
    }
    let (at, reason) = match ask.policy {
        Policy::PrefixCache if !ask.tokens_known => {
            (least(candidates, &gate, prefix), Reason::NoTokens)
        }
        Policy::Cost if !ask.tokens_known => (
            cost::least(candidates, ask, rules, prefix),
            Reason::NoTokens,
        ),
        _ if candidates.len() == 1 => (0, Reason::SingleCandidate),
        Policy::PrefixCache => by_prefix(candidates, ask, &gate, prefix),
        Policy::Cost => (cost::least(candidates, ask, rules, prefix), Reason::Cost),
        Policy::LeastRequest => (least(candidates, &gate, prefix), Reason::LeastRequest),
        Policy::RoundRobin => (spread(ask.turn, candidates.len()), Reason::RoundRobin),
        Policy::Random => (spread(ask.draw, candidates.len()), Reason::Random),
    };
    Some(Choice { at, reason, gate })
}

/// The candidate of the request's session, the heaviest for it, if there are several and its load allows.
fn pinned(candidates: &[Candidate], ask: &Ask, gate: &Gate) -> Option<usize> {
    let session = ask.session.filter(|_| candidates.len() > 1)?;
    let at = tie::break_among(candidates, |_| true, || session);
    gate.admits(candidates[at].load).then_some(at)
}

fn by_prefix(
    candidates: &[Candidate],
    ask: &Ask,
    gate: &Gate,
    prefix: impl FnOnce(u64) -> u64,
) -> (usize, Reason) {
    let matches = |c: &Candidate| c.credited() >= ask.minimum_match.max(1);
    let rank = |c: &Candidate| (c.credited(), Reverse(c.load.requests()));
    let fits = |c: &Candidate| matches(c) && gate.admits(c.load);
    if let Some(best) = candidates.iter().filter(|c| fits(c)).map(rank).max() {
        let equal = |c: &Candidate| fits(c) && rank(c) == best;
        let held = || {
            candidates
                .iter()
                .filter(|c| equal(c))
                .map(Candidate::matched)
        };
        let at = tie::break_among(candidates, equal, || prefix(held().max().unwrap_or(0)));
        return (at, Reason::PrefixMatch);
    }
    let reason = if candidates.iter().any(matches) {
        Reason::PrefixMatchSkipped
    } else {
        Reason::LeastRequestFallback
    };
    (least(candidates, gate, prefix), reason)
}

/// A candidate with the fewest requests.
fn least(candidates: &[Candidate], gate: &Gate, prefix: impl FnOnce(u64) -> u64) -> usize {
    let equal = |c: &Candidate| c.load.requests() == gate.least;
    tie::break_among(candidates, equal, || prefix(0))
}

/// A place below `count`, which is not zero, evenly over all numbers.
fn spread(number: u64, count: usize) -> usize {
    let at = number % count.max(1) as u64;
    usize::try_from(at).unwrap_or(0)
}
