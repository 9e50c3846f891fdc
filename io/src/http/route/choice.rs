//! From a query to the worker that should serve it.
use super::decisions::{Considered, Made, PromptLength, RequestId, Seat};
use crate::fleet::{Fleet, FleetView, WorkerInfo};
use crate::http::error::ApiError;
use crate::http::lookup::{Found, Lookup, Prompt, Query, Scores};
use crate::limits::DECISION_CANDIDATES_MAX;
use crate::status::now_ms;
use hyper::StatusCode;
use kvroute_engine::choose::{self, Ask, Candidate, Choice, Load, Policy, Reason, Rules, tie};
use kvroute_engine::hash::checksum;
use kvroute_engine::types::{TIERS, Tier};
use serde::Deserialize;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// One thread's means to choose, used again and again.
#[derive(Debug)]
pub(in crate::http) struct Router {
    pub(super) seat: Seat,
    rules: Rules,
    candidates: Vec<Candidate>,
    considered: Vec<Considered>,
}

/// How a request's choice is to be made.
#[derive(Debug)]
pub(super) struct Wish<'q> {
    /// With a prompt of no tokens if it is not known.
    pub(super) query: Query<'q>,
    /// Whether the prompt is known.
    pub(super) tokens_known: bool,
    pub(super) policy: Policy,
    /// In tokens.
    pub(super) minimum_match: u64,
    pub(super) loads: Option<&'q Loads>,
    /// The pods that may be chosen; all if not given.
    pub(super) named: Option<&'q [String]>,
    /// Whether only to say what would be chosen.
    pub(super) dry_run: bool,
    /// Decides ties if the prompt is not known; may be empty.
    pub(super) body: &'q [u8],
}

/// The load of pods, by name, or of single ranks, by `name#rank`.
pub(super) type Loads = BTreeMap<String, LoadOf>;

/// The requests of one pod or rank.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct LoadOf {
    running: u32,
    waiting: u32,
}

/// A choice that was made.
#[derive(Debug)]
pub(super) struct Decided<'v> {
    pub(super) id: RequestId,
    pub(super) reason: Reason,
    pub(super) target: Found<'v>,
    /// Whether the target's pod has other ranks than the first.
    pub(super) ranked: bool,
}

impl Router {
    /// For the thread that has this seat.
    pub(in crate::http) fn new(seat: Seat) -> Self {
        Self {
            seat,
            rules: Rules::default(),
            candidates: Vec::new(),
            considered: Vec::new(),
        }
    }

    /// Looks the prompt up, chooses, and hands the choice to `read` with all scores. 404 if nobody serves the
    /// model, 503 if nobody who does may be the target.
    pub(super) fn decide<R>(
        &mut self,
        fleet: &Fleet,
        lookup: &mut Lookup,
        wish: &Wish<'_>,
        read: impl FnOnce(&Decided<'_>, &Scores<'_>) -> R,
    ) -> Result<R, ApiError> {
        let query = &wish.query;
        let adapted = lookup.models_with(fleet, query.model);
        lookup.run(fleet, query, |scores| {
            let found = eligible(scores, wish, &adapted);
            let decided = self.choose(scores.view(), wish, &found)?;
            Ok(read(&decided, scores))
        })?
    }

    fn choose<'v>(
        &mut self,
        view: &FleetView,
        wish: &Wish<'_>,
        found: &[Found<'v>],
    ) -> Result<Decided<'v>, ApiError> {
        self.candidates.clear();
        self.candidates.extend(found.iter().map(|found| Candidate {
            identity: found.info.identity(),
            matched: matched(found),
            credit: choose::FULL_CREDIT,
            load: load_of(view, found.info, wish.loads),
        }));
        let ask = Ask {
            policy: wish.policy,
            minimum_match: wish.minimum_match,
            tokens_known: wish.tokens_known,
            prompt_tokens: match wish.query.prompt {
                Prompt::Tokens(tokens) => tokens.len() as u64,
                Prompt::Keys(_) => 0,
            },
            session: None,
            turn: match wish.policy {
                Policy::RoundRobin => self.seat.turn(wish.dry_run),
                _ => 0,
            },
            draw: self.seat.draw(),
        };
        let prefix = |matched| prefix(wish, found, matched, ask.draw);
        let choice = choose::choose(&self.candidates, &ask, &self.rules, prefix);
        let choice = choice.ok_or_else(|| nobody(wish))?;
        let target = found[choice.at];
        let id = self.enter(wish, &choice, found);
        Ok(Decided {
            id,
            reason: choice.reason,
            target,
            ranked: is_ranked(view, target.info),
        })
    }

    /// Remembers a choice.
    fn enter(&mut self, wish: &Wish<'_>, choice: &Choice, found: &[Found<'_>]) -> RequestId {
        let candidates = found.iter().zip(&self.candidates);
        self.considered.clear();
        self.considered.extend(candidates.map(|(found, candidate)| {
            Considered {
                worker: found.info.id(),
                serial: found.info.serial(),
                matched: candidate
                    .matched
                    .map(|n| u32::try_from(n).unwrap_or(u32::MAX)),
                load: candidate.load,
                trust: found.trust,
            }
        }));
        if self.considered.len() > DECISION_CANDIDATES_MAX {
            self.considered.swap(0, choice.at);
            let rest = &mut self.considered[1..];
            rest.select_nth_unstable_by_key(DECISION_CANDIDATES_MAX - 1, order);
        }
        let kept = self.considered.len().min(DECISION_CANDIDATES_MAX);
        let target = &found[choice.at];
        self.seat.enter(&Made {
            at_ms: now_ms(),
            model: wish.query.model,
            policy: wish.policy,
            reason: choice.reason,
            dry_run: wish.dry_run,
            prompt: wish.tokens_known.then_some(match wish.query.prompt {
                Prompt::Tokens(tokens) => PromptLength::Tokens(tokens.len()),
                Prompt::Keys(keys) => PromptLength::Blocks(keys.len()),
            }),
            minimum_match: wish.minimum_match,
            gate: choice.gate,
            target: target.info,
            matched: target.matched(),
            candidates: &self.considered[..kept],
            left_out: self.considered.len() - kept,
        })
    }
}

/// The longest match first, then the fewest requests.
pub(super) fn order(considered: &Considered) -> impl Ord + use<> {
    let matched = considered.matched[Tier::Disk.index()];
    (Reverse(matched), considered.load.requests())
}

/// The workers that may be the target, by pod and rank: they have an endpoint, are among the named pods and, where
/// descriptions say who has the adapter, have it.
fn eligible<'v>(scores: &Scores<'v>, wish: &Wish<'_>, adapted: &[String]) -> Vec<Found<'v>> {
    let (view, name) = (scores.view(), wish.query.model);
    let mut eligible = Vec::new();
    let mut of_model = |model: &str, adapter: Option<&str>| {
        let adapter = adapter.filter(|a| view.models_with_adapter(a).any(|other| other == model));
        let able = |info: &&Arc<WorkerInfo>| {
            info.pod().model == model
                && info.pod().endpoint.is_some()
                && adapter.is_none_or(|adapter| has_adapter(info, adapter))
        };
        let found = |info| scores.of(info);
        match wish.named {
            None => eligible.extend(view.of_model(model).iter().filter(able).map(found)),
            Some(names) => {
                let names: BTreeSet<_> = names.iter().collect();
                let workers = names.into_iter().flat_map(|name| view.pod(name));
                eligible.extend(workers.filter(able).map(found));
            }
        }
    };
    if view.has_model(name) {
        of_model(name, wish.query.lora);
    } else {
        let adapter = wish.query.lora.or(Some(name));
        adapted.iter().for_each(|model| of_model(model, adapter));
    }
    eligible
}

fn has_adapter(info: &WorkerInfo, adapter: &str) -> bool {
    info.pod().lora.iter().any(|name| name == adapter) || info.status().knows_adapter(adapter)
}

fn matched(found: &Found<'_>) -> [u64; TIERS] {
    let score = found.score;
    Tier::ALL.map(|tier| score.map_or(0, |score| score.tokens(tier)))
}

/// A pod that is not named has nothing to do; all ranks of one that is share its number.
fn load_of(view: &FleetView, info: &WorkerInfo, loads: Option<&Loads>) -> Load {
    let Some(loads) = loads else {
        return Load::default();
    };
    let of_rank = is_ranked(view, info)
        .then(|| loads.get(&info.label()))
        .flatten();
    let load = of_rank.or_else(|| loads.get(&info.pod().pod));
    load.map_or_else(Load::default, |load| Load {
        running: load.running,
        waiting: load.waiting,
        ..Load::default()
    })
}

/// Whether a worker's pod has other ranks than the first.
fn is_ranked(view: &FleetView, info: &WorkerInfo) -> bool {
    info.rank() > 0 || view.pod(&info.pod().pod).len() > 1
}

/// What decides between workers that hold `matched` leading tokens of the prompt: the prompt; if it is not known, the
/// body as it came; without one, chance.
fn prefix(wish: &Wish<'_>, found: &[Found<'_>], matched: u64, draw: u64) -> u64 {
    match wish.query.prompt {
        _ if !wish.tokens_known && wish.body.is_empty() => draw,
        _ if !wish.tokens_known => checksum(wish.body),
        Prompt::Tokens(tokens) => tie::prefix_of_tokens(tokens, matched),
        Prompt::Keys(keys) => {
            let tied = found.iter().filter(|found| found.matched() == matched);
            let scores = tied.filter_map(|found| found.score);
            let blocks = scores.map(|score| score.blocks[Tier::Disk.index()]).max();
            tie::prefix_of_keys(keys, blocks.unwrap_or(0).into())
        }
    }
}

/// 503: there is no worker that could be the target.
fn nobody(wish: &Wish<'_>) -> ApiError {
    let model = wish.query.model;
    let message = match wish.named {
        Some(_) => format!("no candidate serves {model:?} and has an endpoint"),
        None => format!("no worker that serves {model:?} has an endpoint"),
    };
    ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "no_eligible_worker",
        message,
    )
}
