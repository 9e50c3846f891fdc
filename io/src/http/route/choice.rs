//! From a query to the worker that should serve it.
use super::decisions::{Considered, Made, PromptLength, RequestId, Seat};
use super::learn;
use super::shadow;
use crate::config::RoutingConfig;
use crate::fleet::{Fleet, FleetView, WorkerInfo};
use crate::hot::Hot;
use crate::http::error::ApiError;
use crate::http::live::Habit;
use crate::http::lookup::{Found, Lookup, Prompt, Query, Score, Scores};
use crate::http::spans::{self, Traced};
use crate::limits::{BOOKING_TRIES_MAX, DECISION_CANDIDATES_MAX, TIMES_MEASURED_ONE_OF};
use crate::load::{Booking, Moment};
use crate::otel::{Part, Passed, Value};
use crate::status::{Chosen, OwnModels, OwnStatus, RouteError, UNKNOWN_MODEL, now_ms};
use hyper::StatusCode;
use kvroute_engine::choose::{self, Ask, Candidate, Choice, Load, Policy, Reason, tie};
use kvroute_engine::hash::checksum;
use kvroute_engine::types::{TIERS, Tier};
use serde::Deserialize;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

/// One thread's means to choose, used again and again.
#[derive(Debug)]
pub(in crate::http) struct Router {
    pub(super) seat: Seat,
    /// Whether nobody obeys.
    shadow: bool,
    candidates: Vec<Candidate>,
    /// By candidate: how often it was booked when its load was read.
    booked: Vec<u64>,
    considered: Vec<Considered>,
    models: OwnModels,
    /// Choices so far.
    choices: u64,
}

/// How a request's choice is to be made.
#[derive(Debug)]
pub(super) struct Wish<'q> {
    /// With a prompt of no tokens if it is not known.
    pub(super) query: Query<'q>,
    /// Whether the prompt is known.
    pub(super) tokens_known: bool,
    /// Whether there are images and the like in it, of which only placeholders are known.
    pub(super) items: bool,
    /// How it is made as far as the request does not say it.
    pub(super) habit: Habit,
    pub(super) policy: Option<Policy>,
    /// In tokens.
    pub(super) minimum_match: Option<u64>,
    /// Stands for the session that the request belongs to.
    pub(super) session: Option<u64>,
    pub(super) loads: Option<&'q Loads>,
    /// The pods that may be chosen; all if not given.
    pub(super) named: Option<&'q [String]>,
    /// Whether only to say what would be chosen.
    pub(super) dry_run: bool,
    /// Decides ties if the prompt is not known; may be empty.
    pub(super) body: &'q [u8],
    /// Where the caller says that the request goes, whatever is chosen.
    pub(super) actual: Option<&'q str>,
}

/// The load of pods, by name, or of single ranks, by `name#rank`.
pub(super) type Loads = BTreeMap<String, LoadOf>;

/// What one pod or rank has to do, as the caller counts it.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct LoadOf {
    running: u32,
    waiting: u32,
    queued_tokens: u64,
    active_tokens: u64,
}

/// A choice that was made.
#[derive(Debug)]
pub(super) struct Decided<'v> {
    pub(super) id: RequestId,
    pub(super) reason: Reason,
    pub(super) target: Found<'v>,
    /// Leading tokens of the prompt that the target would reuse of what it holds.
    pub(super) matched: u64,
    /// Further ones that it would reuse of what was just sent there.
    pub(super) speculative: u64,
    /// Whether the target's pod has other ranks than the first.
    pub(super) ranked: bool,
    /// Whether nobody is to obey.
    pub(super) shadow: bool,
    /// What the target is told of the request's trace.
    pub(super) passed: Option<Passed>,
    /// Whether loads were so far apart that only the idlest were admitted.
    imbalanced: bool,
}

impl Router {
    /// For the thread that has this seat.
    pub(in crate::http) fn new(seat: Seat, config: &RoutingConfig) -> Self {
        Self {
            seat,
            shadow: config.shadow,
            candidates: Vec::new(),
            booked: Vec::new(),
            considered: Vec::new(),
            models: OwnModels::default(),
            choices: 0,
        }
    }

    /// What the thread counts.
    pub(in crate::http) fn status(&self) -> &OwnStatus {
        self.seat.status()
    }

    /// What all threads remember of the prefixes that they find held.
    pub(in crate::http) fn hot(&self) -> &Arc<Hot> {
        self.seat.hot()
    }

    /// Counts a request for which nothing was chosen.
    pub(super) fn failed(&mut self, view: &FleetView, model: Option<&str>, why: RouteError) {
        let served = |name: &str| view.has_model(name);
        let model = model.filter(|model| served(model)).unwrap_or(UNKNOWN_MODEL);
        let shown = &self.seat.status().models;
        self.models.of(shown, model, served).failed(why);
    }

    /// Looks the prompt up, chooses, and hands the choice to `read` with all scores. 404 if nobody serves the
    /// model, 503 if nobody who does may be the target.
    pub(super) fn decide<R>(
        &mut self,
        fleet: &Fleet,
        lookup: &mut Lookup,
        traced: &mut Traced,
        wish: &Wish<'_>,
        read: impl FnOnce(&Decided<'_>, &Scores<'_>) -> R,
    ) -> Result<R, ApiError> {
        let query = &wish.query;
        let began = self.choices.is_multiple_of(TIMES_MEASURED_ONE_OF);
        let began = began.then(Instant::now);
        self.choices = self.choices.wrapping_add(1);
        let adapted = lookup.models_with(fleet, query.model);
        // The model that an adapter belongs to.
        let model = adapted.first().map_or(query.model, String::as_str);
        let part = spans::part(traced, "lookup");
        let result = lookup.run(fleet, query, |scores| {
            spans::looked_up(traced, part, query, scores);
            let part = spans::part(traced, "choose");
            let found = eligible(scores, wish, &adapted);
            let mut decided = match self.choose(fleet, scores.view(), wish, &found) {
                Ok(decided) => decided,
                Err(error) => {
                    if !wish.dry_run {
                        self.failed(scores.view(), Some(model), RouteError::NoTarget);
                    }
                    return Err(error);
                }
            };
            decided.trace(traced, part, found.len());
            if !wish.dry_run {
                self.count(scores.view(), wish, &decided, began);
            }
            learn::note(fleet, scores, wish, &decided.target);
            Ok(read(&decided, scores))
        });
        result.unwrap_or_else(|error| {
            let why = match error.is_about_model() {
                true => RouteError::UnknownModel,
                false => RouteError::Request,
            };
            if !wish.dry_run {
                self.failed(&fleet.view(), Some(model), why);
            }
            Err(error)
        })
    }

    /// Counts a choice by its model.
    fn count(
        &mut self,
        view: &FleetView,
        wish: &Wish<'_>,
        decided: &Decided<'_>,
        began: Option<Instant>,
    ) {
        let by_prefix = wish.policy.unwrap_or(wish.habit.policy) == Policy::PrefixCache;
        let chosen = Chosen {
            percent: (decided.target.score).map_or(0, |score| score.percent(&wish.query.prompt)),
            selection: by_prefix.then_some(decided.reason),
            imbalanced: decided.imbalanced,
            took: began.map(|began| began.elapsed()),
        };
        let (shown, model) = (&self.seat.status().models, &decided.target.info.pod().model);
        let served = |name: &str| view.has_model(name);
        self.models.of(shown, model, served).chosen(&chosen);
    }

    fn choose<'v>(
        &mut self,
        fleet: &Fleet,
        view: &FleetView,
        wish: &Wish<'_>,
        found: &[Found<'v>],
    ) -> Result<Decided<'v>, ApiError> {
        let now = fleet.clock().now();
        let ask = self.ask(wish, found);
        self.considered.clear();
        self.considered
            .extend(found.iter().map(|found| consider(found, wish)));
        let candidates = found.iter().zip(&self.considered);
        self.candidates.clear();
        self.candidates.extend(
            candidates.map(|(found, considered)| considered.candidate(found.info.identity())),
        );
        let (choice, booking) = self.choose_and_book(view, wish, &ask, found, now)?;
        let target = found[choice.at];
        let matched = self.considered[choice.at].matched();
        let speculative = self.candidates[choice.at].matched() - matched;
        if !wish.dry_run {
            self.seat.status().routes.decided(ask.policy, choice.reason);
        }
        let id = self.enter(wish, &ask, &choice, found, booking);
        if self.shadow && !wish.dry_run {
            shadow::told(fleet, &self.seat, id, wish.actual);
        }
        Ok(Decided {
            id,
            reason: choice.reason,
            target,
            matched,
            speculative,
            ranked: is_ranked(view, target.info),
            shadow: self.shadow,
            passed: None,
            imbalanced: choice.gate.imbalanced,
        })
    }

    /// What is asked of the candidates.
    fn ask(&self, wish: &Wish<'_>, found: &[Found<'_>]) -> Ask {
        let policy = wish.policy.unwrap_or(wish.habit.policy);
        Ask {
            policy,
            minimum_match: wish.minimum_match.unwrap_or(wish.habit.minimum_match),
            tokens_known: wish.tokens_known,
            prompt_tokens: prompt_tokens(wish, found),
            session: wish.session,
            turn: match policy {
                Policy::RoundRobin => self.seat.turn(wish.dry_run),
                _ => 0,
            },
            draw: self.seat.draw(),
        }
    }

    /// One step: the target is booked only if nobody has booked it since its load was read, else all is read and
    /// chosen anew, a bounded number of times. Loads that the caller gives stay as they are, so there is nothing to read anew.
    fn choose_and_book(
        &mut self,
        view: &FleetView,
        wish: &Wish<'_>,
        ask: &Ask,
        found: &[Found<'_>],
        now: Moment,
    ) -> Result<(Choice, Option<Booking>), ApiError> {
        let mut tries = match (wish.loads, ask.policy) {
            (Some(_), _) | (None, Policy::RoundRobin | Policy::Random) => 0,
            _ => BOOKING_TRIES_MAX,
        };
        loop {
            self.read_loads(view, wish, found, now);
            let prefix = |matched| prefix(wish, found, matched, ask.draw);
            let choice = choose::choose(&self.candidates, ask, &wish.habit.rules, prefix);
            let choice = choice.ok_or_else(|| nobody(wish))?;
            // What is sent elsewhere is no load of the target.
            if wish.dry_run || self.shadow {
                return Ok((choice, None));
            }
            let load = found[choice.at].info.load();
            let matched = self.candidates[choice.at].matched();
            let uncached = ask.prompt_tokens.saturating_sub(matched);
            if tries == 0 {
                let booking = load.book_blindly(now, uncached, ask.prompt_tokens);
                return Ok((choice, Some(booking)));
            }
            let seen = self.booked[choice.at];
            if let Some(booking) = load.book(seen, now, uncached, ask.prompt_tokens) {
                return Ok((choice, Some(booking)));
            }
            tries -= 1;
            self.seat.status().routes.conflict(tries == 0);
        }
    }

    /// What each candidate has to do now.
    fn read_loads(&mut self, view: &FleetView, wish: &Wish<'_>, found: &[Found<'_>], now: Moment) {
        self.booked.clear();
        for (candidate, found) in self.candidates.iter_mut().zip(found) {
            let reading = found.info.load().read(now);
            self.booked.push(reading.booked);
            candidate.load = match wish.loads {
                Some(loads) => given_load(view, found.info, loads),
                None => reading.load,
            };
        }
    }

    /// Remembers a choice.
    fn enter(
        &mut self,
        wish: &Wish<'_>,
        ask: &Ask,
        choice: &Choice,
        found: &[Found<'_>],
        booking: Option<Booking>,
    ) -> RequestId {
        let matched = self.considered[choice.at].matched();
        for (considered, candidate) in self.considered.iter_mut().zip(&self.candidates) {
            considered.load = candidate.load;
        }
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
            policy: ask.policy,
            reason: choice.reason,
            dry_run: wish.dry_run,
            prompt: wish.tokens_known.then_some(match wish.query.prompt {
                Prompt::Tokens(tokens) => PromptLength::Tokens(tokens.len()),
                Prompt::Keys(keys) => PromptLength::Blocks(keys.len()),
            }),
            minimum_match: ask.minimum_match,
            prompt_tokens: ask.prompt_tokens,
            session: ask.session.is_some(),
            rules: wish.habit.rules,
            gate: choice.gate,
            target: target.info,
            matched,
            credited: self.candidates[choice.at].matched(),
            booking,
            candidates: &self.considered[..kept],
            left_out: self.considered.len() - kept,
            shadow: self.shadow && !wish.dry_run,
        })
    }
}

impl Decided<'_> {
    /// Tells the request's trace, and takes what the target is to be told of it.
    fn trace(&mut self, traced: &mut Traced, part: Option<Part>, candidates: usize) {
        let Some(trace) = traced else {
            return;
        };
        self.passed = Some(trace.passed().clone());
        let info = self.target.info;
        if let Some(mut part) = part {
            part.set("kvroute.candidates", Value::Number(candidates as u64));
            trace.end(part);
            let id = self.id.to_string();
            trace.set("kvroute.request_id", Value::Text(&id));
            trace.set("kvroute.target.pod", Value::Text(&info.pod().pod));
            trace.set("kvroute.target.rank", Value::Number(info.rank().into()));
            trace.set("kvroute.target.matched_tokens", Value::Number(self.matched));
            trace.set("kvroute.reason", Value::Text(self.reason.as_str()));
            trace.set("kvroute.shadow", Value::Flag(self.shadow));
        }
    }
}

/// The longest match first, then the fewest requests.
pub(super) fn order(considered: &Considered) -> impl Ord + use<> {
    let matched = considered.matched().max(considered.expected.into());
    (Reverse(matched), considered.load.requests())
}

/// The workers that may be the target, by pod and rank: they have an endpoint, requests may be sent to them, they are among the named pods and, where
/// descriptions say who has the adapter, have it.
fn eligible<'v>(scores: &Scores<'v>, wish: &Wish<'_>, adapted: &[String]) -> Vec<Found<'v>> {
    let (view, name) = (scores.view(), wish.query.model);
    let mut eligible = Vec::new();
    let mut of_model = |model: &str, adapter: Option<&str>| {
        let adapter = adapter.filter(|a| view.models_with_adapter(a).any(|other| other == model));
        let able = |info: &&Arc<WorkerInfo>| {
            info.pod().model == model
                && info.pod().endpoint.is_some()
                && info.is_serving()
                && adapter.is_none_or(|adapter| has_adapter(info, adapter))
        };
        let found = |info| scores.expecting(info);
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

/// What is known of a worker before loads are read.
fn consider(found: &Found<'_>, wish: &Wish<'_>) -> Considered {
    Considered {
        worker: found.info.id(),
        serial: found.info.serial(),
        matched: reusable(found.score, wish).map(bounded),
        expected: bounded(reusable(found.expected, wish)[Tier::Gpu.index()]),
        load: Load::default(),
        trust: found.trust,
    }
}

/// Leading tokens of the prompt that a worker would reuse, by tier: what it holds, but never the last token, which engines
/// always compute, and so not the block that it is in. Of a prompt that came as keys of blocks the end is not known.
fn reusable(score: Option<Score>, wish: &Wish<'_>) -> [u64; TIERS] {
    let Some(score) = score else {
        return [0; TIERS];
    };
    let most = match wish.query.prompt {
        Prompt::Keys(_) => u64::MAX,
        Prompt::Tokens(tokens) => {
            let (before_last, block) = (tokens.len().saturating_sub(1), score.block_size);
            before_last as u64 / u64::from(block.max(1)) * u64::from(block)
        }
    };
    Tier::ALL.map(|tier| score.tokens(tier).min(most))
}

/// How long the prompt is; of one that came as keys of blocks, by the largest block among those that hold some of it.
fn prompt_tokens(wish: &Wish<'_>, found: &[Found<'_>]) -> u64 {
    match wish.query.prompt {
        Prompt::Tokens(tokens) => tokens.len() as u64,
        Prompt::Keys(keys) => {
            let scores = found.iter().filter_map(|found| found.score);
            let block = scores.map(|score| score.block_size).max().unwrap_or(0);
            keys.len() as u64 * u64::from(block)
        }
    }
}

/// A load as the caller says it, who knows best what it has sent: nothing that this node counts is added. A pod that is
/// not named has nothing to do; all ranks of one that is share its numbers.
fn given_load(view: &FleetView, info: &WorkerInfo, loads: &Loads) -> Load {
    let of_rank = is_ranked(view, info)
        .then(|| loads.get(&info.label()))
        .flatten();
    let load = of_rank.or_else(|| loads.get(&info.pod().pod));
    load.map_or_else(Load::default, |load| Load {
        running: load.running,
        waiting: load.waiting,
        queued_tokens: load.queued_tokens,
        active_tokens: load.active_tokens,
    })
}

/// Whether a worker's pod has other ranks than the first.
fn is_ranked(view: &FleetView, info: &WorkerInfo) -> bool {
    info.rank() > 0 || view.pod(&info.pod().pod).len() > 1
}

/// Tokens as decisions remember them. A body has fewer than fit.
fn bounded(tokens: u64) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}

/// What decides between workers that hold `matched` leading tokens of the prompt: the prompt; if it is not known, the
/// body as it came; without one, chance.
fn prefix(wish: &Wish<'_>, found: &[Found<'_>], matched: u64, draw: u64) -> u64 {
    match wish.query.prompt {
        _ if !wish.tokens_known && wish.body.is_empty() => draw,
        _ if !wish.tokens_known => checksum(wish.body),
        Prompt::Tokens(tokens) => tie::prefix_of_tokens(tokens, matched),
        Prompt::Keys(keys) => {
            let longest = found.iter().filter_map(learn::longest);
            let tied = longest.filter(|score| score.matched() == matched);
            let blocks = tied.map(|score| score.blocks[Tier::Disk.index()]).max();
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
