//! `POST /v1/match`: who holds how much of this prompt.
use super::error::{ApiError, Reply};
use super::lookup::{Found, Prompt, Query, Scores, unknown_model};
use super::match_request::{Params, Request};
use super::prompt::{self, Parsed};
use super::render;
use super::spans;
use super::state::{Call, Step, ThreadState, Told};
use super::text::{self, Text};
use crate::fleet::WorkerJson;
use crate::status::now_ms;
use crate::tokenize::{Ask, Asker, Wanted};
use kvroute_engine::types::{Tier, TokenBytes};
use serde::Serialize;
use std::cmp::Ordering;
use std::collections::BTreeSet;

/// The answer to one request.
#[derive(Debug, Serialize)]
pub(super) struct Answer<'a> {
    pub(super) model: &'a str,
    pub(super) tokens: usize,
    pub(super) candidates: Vec<Candidate<'a>>,
}

/// A worker as answers list it.
#[derive(Debug, Serialize)]
pub(super) struct Candidate<'a> {
    /// Pod, endpoint and rank as they stand in JSON.
    #[serde(skip)]
    pub(super) json: &'a WorkerJson,
    pub(super) pod: &'a str,
    pub(super) endpoint: Option<&'a str>,
    pub(super) rank: u32,
    pub(super) block_size: Option<u32>,
    pub(super) matched_blocks: u32,
    pub(super) matched_tokens: u64,
    pub(super) tiers: Tiers,
    pub(super) state: &'static str,
    pub(super) age_ms: Option<u64>,
}

/// Leading tokens held in a tier or a faster one.
#[derive(Debug, Serialize)]
pub(super) struct Tiers {
    pub(super) gpu: u64,
    pub(super) cpu: u64,
    pub(super) disk: u64,
}

/// Answers `POST /v1/match`.
pub(super) fn answer(state: &mut ThreadState, call: &Call<'_>) -> Result<Step, ApiError> {
    let render = |answer: &Answer<'_>| match call.wants_msgpack() {
        true => Reply::msgpack(answer),
        false => Ok(Reply::rendered(render::matches(answer))),
    };
    if call.sends_octets() {
        let params = Params::read(call.query())?;
        let tokens = prompt::octets(call.body)?;
        return respond(state, &params.request()?, tokens, render)?.map(Step::Done);
    }
    match one(state, call.body, call.told, render)? {
        One::Done(reply) => reply.map(Step::Done),
        One::Tokenize(ask) => Ok(Step::Tokenize(vec![ask])),
    }
}

/// What one request has come to.
#[derive(Debug)]
pub(super) enum One<R> {
    /// What was rendered.
    Done(R),
    /// Its prompt has to be tokenized.
    Tokenize(Ask),
}

/// Answers one JSON request, and hands the answer to `render`.
pub(super) fn one<R>(
    state: &mut ThreadState,
    body: &[u8],
    told: &[Told],
    render: impl FnOnce(&Answer<'_>) -> R,
) -> Result<One<R>, ApiError> {
    state.reading(|state, scratch| {
        let Parsed { fields, tokens } = scratch.json(body, "token_ids")?;
        match tokens {
            Some(tokens) => {
                respond(state, &fields, prompt::not_empty(tokens)?, render).map(One::Done)
            }
            None => of_text(state, body, told, &fields, render),
        }
    })
}

fn of_text<R>(
    state: &mut ThreadState,
    body: &[u8],
    told: &[Told],
    request: &Request<'_>,
    render: impl FnOnce(&Answer<'_>) -> R,
) -> Result<One<R>, ApiError> {
    let tokenizer = state.tokenizer.is_some();
    if !tokenizer || request.text().is_none() {
        return Err(request.no_tokens(tokenizer));
    }
    let asker = Asker {
        model: request.model()?,
        lora: request.lora(),
        items_known: request.says_extra_keys(),
    };
    if !state.lookup.knows(&state.fleet, asker.model) {
        return Err(unknown_model(asker.model));
    }
    match Text::find(state.tokenizer.as_ref(), told, body, Wanted::Either, &asker) {
        Text::Known { tokens, .. } => {
            respond(state, request, text::bytes(&tokens), render).map(One::Done)
        }
        Text::Wanted(ask) => Ok(One::Tokenize(ask)),
        Text::Failed(failure) => Err(request.untokenized(&failure)),
        Text::Unfit(unfit) => Err(ApiError::field(unfit.field, unfit.why)),
        Text::None => Err(request.no_tokens(tokenizer)),
    }
}

fn respond<R>(
    state: &mut ThreadState,
    request: &Request<'_>,
    tokens: &[TokenBytes],
    render: impl FnOnce(&Answer<'_>) -> R,
) -> Result<R, ApiError> {
    let query = Query {
        model: request.model()?,
        lora: request.lora(),
        cache_salt: request.cache_salt(),
        extra_keys: request.extra_keys(),
        block_size: request.block_size()?,
        prompt: Prompt::Tokens(tokens),
    };
    let candidates = request.candidates()?;
    let limit = request.limit()?;
    let ThreadState {
        fleet,
        lookup,
        traced,
        ..
    } = state;
    let part = spans::part(traced, "lookup");
    lookup.run(fleet, &query, |scores| {
        spans::looked_up(traced, part, &query, scores);
        let found = best(list(scores, candidates), limit);
        let now = now_ms();
        let candidates = found.iter().map(|found| Candidate::new(found, now));
        render(&Answer {
            model: query.model,
            tokens: tokens.len(),
            candidates: candidates.collect(),
        })
    })
}

/// The workers with a match; or all of the pods that are named, each once.
pub(super) fn list<'v>(scores: &Scores<'v>, candidates: Option<&[String]>) -> Vec<Found<'v>> {
    match candidates {
        None => scores.credited().collect(),
        Some(names) => {
            let names: BTreeSet<_> = names.iter().collect();
            names
                .into_iter()
                .flat_map(|name| scores.of_pod(name))
                .collect()
        }
    }
}

/// The first `limit` in order, best first.
pub(super) fn best(mut found: Vec<Found<'_>>, limit: usize) -> Vec<Found<'_>> {
    if found.len() > limit {
        found.select_nth_unstable_by(limit, order);
        found.truncate(limit);
    }
    found.sort_unstable_by(order);
    found
}

/// The most tokens first; then by name and rank, so that every replica answers the same.
fn order(a: &Found<'_>, b: &Found<'_>) -> Ordering {
    (b.matched(), a.place).cmp(&(a.matched(), b.place))
}

impl<'v> Candidate<'v> {
    /// As of the moment `now`, in milliseconds since 1970.
    pub(super) fn new(found: &Found<'v>, now: u64) -> Self {
        let (info, score) = (found.info, found.score);
        let tokens = |tier| score.map_or(0, |score| score.tokens(tier));
        let block_size = score.map(|score| score.block_size);
        let last_event = info.status().last_event_ms();
        Self {
            json: info.json(),
            pod: &info.pod().pod,
            endpoint: info.pod().endpoint.as_deref(),
            rank: info.rank(),
            block_size: block_size.or(info.block_size()),
            matched_blocks: score.map_or(0, |score| score.blocks[Tier::Disk.index()]),
            matched_tokens: found.matched(),
            tiers: Tiers {
                gpu: tokens(Tier::Gpu),
                cpu: tokens(Tier::Cpu),
                disk: tokens(Tier::Disk),
            },
            state: found.trust.as_str(),
            age_ms: last_event.map(|at| now.saturating_sub(at)),
        }
    }
}
