//! The latest decisions of all HTTP threads, to be explained and fed back on.
//!
//! Each thread that answers writes into a ring of its own; the id of a decision names thread and slot, so any thread finds it.
//! Nobody waits: a slot is replaced whole, and a decision that is read stays as long as it is needed.
use super::credit;
use crate::fleet::WorkerInfo;
use crate::hot::Hot;
use crate::load::Booking;
use crate::status::{OwnStatus, RequestName, ThreadStatus, Trust};
use arc_swap::ArcSwapOption;
use kvroute_engine::choose::{Candidate, Gate, Load, Policy, Reason, Rules};
use kvroute_engine::types::{TIERS, Tier, WorkerId};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::str::FromStr;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Arc, OnceLock};

/// The name of a decision: 24 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequestId {
    /// Of the process, by chance: an id of another replica, or of another life, is not taken for one of ours.
    process: u32,
    thread: u16,
    /// 48 bits.
    count: u64,
}

const COUNT_BITS: u64 = (1 << 48) - 1;

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            process,
            thread,
            count,
        } = self;
        write!(f, "{process:08x}{thread:04x}{count:012x}")
    }
}

impl RequestId {
    /// As exemplars name it.
    pub(super) fn name(self) -> RequestName {
        let low = u64::from(self.thread) << 48 | self.count;
        RequestName::Request(u128::from(self.process) << 64 | u128::from(low))
    }
}

/// Not the form of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoId;

impl FromStr for RequestId {
    type Err = NoId;

    fn from_str(text: &str) -> Result<Self, NoId> {
        let digits = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        if text.len() != 24 || !text.bytes().all(digits) {
            return Err(NoId);
        }
        let part = |range| u64::from_str_radix(&text[range], 16).map_err(|_| NoId);
        Ok(Self {
            process: u32::try_from(part(0..8)?).map_err(|_| NoId)?,
            thread: u16::try_from(part(8..12)?).map_err(|_| NoId)?,
            count: part(12..24)?,
        })
    }
}

/// One candidate of a decision. Plain numbers: a reference to each worker would be counted up and down by every
/// thread for every request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Considered {
    pub(super) worker: WorkerId,
    /// Tells whether the worker of that number is still the same.
    pub(super) serial: u64,
    /// Leading tokens, by tier. A body has fewer than fit.
    pub(super) matched: [u32; TIERS],
    /// Leading tokens that it was expected to hold because of requests just sent there; zero unless that was asked for.
    pub(super) expected: u32,
    pub(super) load: Load,
    pub(super) trust: Trust,
}

const _: () = assert!(size_of::<Considered>() == 56);

impl Considered {
    /// Leading tokens held in any tier.
    pub(super) fn matched(&self) -> u64 {
        self.matched[Tier::Disk.index()].into()
    }

    /// As the policies see it.
    pub(super) fn candidate(&self, identity: u64) -> Candidate {
        Candidate {
            identity,
            matched: self.matched.map(|held| held.max(self.expected).into()),
            credit: credit::of(self.trust),
            load: self.load,
        }
    }
}

/// How one choice was made.
#[derive(Debug)]
pub(super) struct Decision {
    pub(super) id: RequestId,
    /// Since 1970.
    pub(super) at_ms: u64,
    /// The model or adapter that was asked for.
    pub(super) model: Box<str>,
    pub(super) policy: Policy,
    pub(super) reason: Reason,
    pub(super) dry_run: bool,
    /// Length of the prompt in whole or part; `None` if it is not known.
    pub(super) prompt: Option<PromptLength>,
    pub(super) minimum_match: u64,
    /// Tokens of the prompt, as far as they are known.
    pub(super) prompt_tokens: u64,
    /// Whether the request belongs to a session.
    pub(super) session: bool,
    /// The numbers that it was made by; others may hold by now.
    pub(super) rules: Rules,
    pub(super) gate: Gate,
    pub(super) target: Arc<WorkerInfo>,
    /// Leading tokens that the target would reuse of what it holds.
    pub(super) matched: u64,
    /// The same with what was just sent there, which is what it was chosen for.
    pub(super) credited: u64,
    /// Of the target; none of a trial.
    booking: Option<Booking>,
    pub(super) candidates: Box<[Considered]>,
    /// Candidates beyond those.
    pub(super) left_out: usize,
    /// Whether nobody was to obey it.
    pub(super) shadow: bool,
    /// Removals that the target's engine had told of.
    pub(super) removals: u64,
    actual: OnceLock<Actual>,
    delivered: Delivered,
}

/// Where the caller sent a request that the node was not to decide.
#[derive(Debug)]
pub(super) struct Actual {
    /// As the caller said it.
    pub(super) name: Box<str>,
    /// Whether the node would have done the same.
    pub(super) agreed: bool,
    /// Leading tokens that could have been reused there; `None` if it was not a candidate.
    pub(super) matched: Option<u64>,
}

/// How long a prompt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PromptLength {
    Tokens(usize),
    Blocks(usize),
}

/// What feedback said. Numbers that anybody may overwrite, each on its own, so Relaxed; but who sees `told`
/// sees what was told.
#[derive(Debug)]
struct Delivered {
    told: AtomicBool,
    /// [`UNKNOWN`] if it was not said.
    cached_tokens: AtomicU64,
    finished: AtomicBool,
}

const UNKNOWN: u64 = u64::MAX;

impl Default for Delivered {
    fn default() -> Self {
        Self {
            told: AtomicBool::new(false),
            cached_tokens: AtomicU64::new(UNKNOWN),
            finished: AtomicBool::new(false),
        }
    }
}

/// What the engine made of a routed request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) cached_tokens: Option<u64>,
    pub(super) finished: bool,
}

/// A decision but for its name.
#[derive(Debug)]
pub(super) struct Made<'m> {
    pub(super) at_ms: u64,
    pub(super) model: &'m str,
    pub(super) policy: Policy,
    pub(super) reason: Reason,
    pub(super) dry_run: bool,
    pub(super) prompt: Option<PromptLength>,
    pub(super) minimum_match: u64,
    pub(super) prompt_tokens: u64,
    pub(super) session: bool,
    pub(super) rules: Rules,
    pub(super) gate: Gate,
    pub(super) target: &'m Arc<WorkerInfo>,
    pub(super) matched: u64,
    pub(super) credited: u64,
    pub(super) booking: Option<Booking>,
    pub(super) candidates: &'m [Considered],
    pub(super) left_out: usize,
    pub(super) shadow: bool,
}

impl Decision {
    /// Takes note of feedback. What it does not say stays; once finished, a request stays finished, and its booking is taken
    /// back once. Whether the cached tokens are said for the first time.
    pub(super) fn note(&self, outcome: Outcome) -> bool {
        let Delivered {
            told,
            cached_tokens,
            finished,
        } = &self.delivered;
        let first = outcome.cached_tokens.is_some_and(|tokens| {
            // So many tokens no prompt has.
            let tokens = tokens.min(UNKNOWN - 1);
            cached_tokens.swap(tokens, Relaxed) == UNKNOWN
        });
        if outcome.finished
            && !finished.swap(true, Relaxed)
            && let Some(booking) = &self.booking
        {
            self.target.load().finish(booking);
        }
        // Release: pairs with the Acquire in `outcome`.
        told.store(true, Release);
        first
    }

    /// Takes note of where the caller sent the request; `false` if that is known already.
    pub(super) fn tell(&self, actual: Actual) -> bool {
        self.actual.set(actual).is_ok()
    }

    /// Where the caller sent the request, if it has said so.
    pub(super) fn actual(&self) -> Option<&Actual> {
        self.actual.get()
    }

    /// What feedback said, if there was any.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        // Acquire: pairs with the Release in `note`.
        self.delivered.told.load(Acquire).then(|| {
            let tokens = self.delivered.cached_tokens.load(Relaxed);
            Outcome {
                cached_tokens: (tokens != UNKNOWN).then_some(tokens),
                finished: self.delivered.finished.load(Relaxed),
            }
        })
    }
}

type Ring = Box<[ArcSwapOption<Decision>]>;

/// The rings of all threads.
#[derive(Debug)]
struct Rings {
    process: u32,
    threads: Box<[Ring]>,
    /// Shared, so that the policy goes round the pods and not each thread on its own; only a number, so Relaxed.
    turn: AtomicU64,
}

/// One thread's place among the rings.
#[derive(Debug)]
pub(in crate::http) struct Seat {
    rings: Arc<Rings>,
    /// What the thread counts.
    status: OwnStatus,
    /// What all threads remember of the prefixes that they find held.
    hot: Arc<Hot>,
    thread: u16,
    count: u64,
    chance: RandomState,
}

/// A seat for each of so many threads, at most 65,536, with room for so many decisions.
pub(in crate::http) fn seats(threads: usize, decisions: usize) -> impl Iterator<Item = Seat> {
    let chance = RandomState::new();
    let process = (chance.hash_one(0) >> 32) as u32;
    let numbers = 0..=u16::MAX;
    let ring = || (0..decisions).map(|_| ArcSwapOption::empty()).collect();
    let rings = Arc::new(Rings {
        process,
        threads: numbers.clone().take(threads).map(|_| ring()).collect(),
        turn: AtomicU64::new(0),
    });
    let status: Arc<[_]> = (0..threads).map(|_| ThreadStatus::default()).collect();
    let hot = Arc::new(Hot::new());
    numbers.take(threads).map(move |thread| Seat {
        rings: Arc::clone(&rings),
        status: OwnStatus::of(Arc::clone(&status), thread.into()),
        hot: Arc::clone(&hot),
        thread,
        count: 0,
        chance: RandomState::new(),
    })
}

impl Seat {
    /// Whose turn it is; moves on unless the question is a trial only.
    pub(super) fn turn(&self, trial: bool) -> u64 {
        self.rings.turn.fetch_add(u64::from(!trial), Relaxed)
    }

    /// A random number, another one for each decision.
    pub(super) fn draw(&self) -> u64 {
        self.chance.hash_one(self.count)
    }

    /// What this thread counts.
    pub(in crate::http) fn status(&self) -> &OwnStatus {
        &self.status
    }

    /// What all threads remember of the prefixes that they find held.
    pub(super) fn hot(&self) -> &Arc<Hot> {
        &self.hot
    }

    /// Remembers a decision, in place of an old one.
    pub(super) fn enter(&mut self, made: &Made<'_>) -> RequestId {
        let id = RequestId {
            process: self.rings.process,
            thread: self.thread,
            count: self.count,
        };
        self.count = (self.count + 1) & COUNT_BITS;
        let decision = Decision {
            id,
            at_ms: made.at_ms,
            model: made.model.into(),
            policy: made.policy,
            reason: made.reason,
            dry_run: made.dry_run,
            prompt: made.prompt,
            minimum_match: made.minimum_match,
            prompt_tokens: made.prompt_tokens,
            session: made.session,
            rules: made.rules,
            gate: made.gate,
            target: Arc::clone(made.target),
            matched: made.matched,
            credited: made.credited,
            booking: made.booking,
            candidates: made.candidates.into(),
            left_out: made.left_out,
            shadow: made.shadow,
            removals: made.target.status().removals(),
            actual: OnceLock::new(),
            delivered: Delivered::default(),
        };
        if let Some(slot) = self.rings.slot(id) {
            slot.store(Some(Arc::new(decision)));
        }
        id
    }

    /// The decision of this name, unless it was never made here or is forgotten.
    pub(super) fn find(&self, id: RequestId) -> Option<Arc<Decision>> {
        let found = self.rings.slot(id)?.load_full();
        found.filter(|decision| decision.id == id)
    }
}

impl Rings {
    fn slot(&self, id: RequestId) -> Option<&ArcSwapOption<Decision>> {
        let ring = self.threads.get(usize::from(id.thread))?;
        let at = id.count.checked_rem(ring.len() as u64)?;
        ring.get(usize::try_from(at).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_written() {
        let id = RequestId {
            process: 0xdead_beef,
            thread: 7,
            count: COUNT_BITS,
        };
        assert_eq!(id.to_string(), "deadbeef0007ffffffffffff");
        assert_eq!("deadbeef0007ffffffffffff".parse(), Ok(id));
        for wrong in [
            "",
            "deadbeef0007fffffffffff",
            "deadbeef0007fffffffffffff",
            "Deadbeef0007ffffffffffff",
            "+eadbeef0007ffffffffffff",
            "deadbeef0007fffffffffff\u{e9}",
        ] {
            assert_eq!(wrong.parse::<RequestId>(), Err(NoId), "{wrong}");
        }
    }

    #[test]
    fn turns_go_on_over_all_seats() {
        let seats: Vec<_> = seats(2, 3).collect();
        let turns = [
            seats[0].turn(false),
            seats[1].turn(true),
            seats[1].turn(false),
            seats[0].turn(false),
        ];
        assert_eq!(turns, [0, 1, 1, 2]);
    }
}
