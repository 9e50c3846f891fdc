//! The surface of RFC #1403 (KV-cache indexers): `/register`, `/unregister`, `/workers`, `/query`; further of it
//! are `by_hash` and `dump`.
//!
//! An instance is a pod, and is registered rank by rank. All counts are tokens. `scores` and `dp` are
//! what a rank holds on the GPU; `gpu`, `cpu` and `disk` are the best of the instance's ranks, each
//! tier with the faster ones; `longest_matched` is the longest prefix held anywhere. That is how
//! Dynamo's indexer, whose clients these are, counts them.
use super::error::{ApiError, Reply};
use super::json;
use super::lookup::{Prompt, Query, Scores};
use super::match_request::{given, not_zero, required};
use super::prompt::{self, Parsed};
use super::render;
use super::spans;
use super::state::{Call, ThreadState};
use super::workers::unknown;
use crate::fleet::PodSpec;
use hyper::StatusCode;
use kvroute_engine::types::Tier;
use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt;

/// An instance's name. Some clients count their instances.
#[derive(Debug)]
struct InstanceId(String);

impl<'de> Deserialize<'de> for InstanceId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IdVisitor;
        impl Visitor<'_> for IdVisitor {
            type Value = InstanceId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a whole number")
            }

            fn visit_str<E>(self, text: &str) -> Result<InstanceId, E> {
                Ok(InstanceId(text.to_owned()))
            }

            fn visit_u64<E>(self, number: u64) -> Result<InstanceId, E> {
                Ok(InstanceId(number.to_string()))
            }
        }
        deserializer.deserialize_any(IdVisitor)
    }
}

fn instance(id: Option<&InstanceId>) -> Result<&str, ApiError> {
    required("instance_id", id.map(|id| id.0.as_str()))
}

/// The body of `/register`. Groups and tenants are not told apart, and are ignored.
#[derive(Debug, Deserialize)]
struct Register {
    instance_id: Option<InstanceId>,
    endpoint: Option<String>,
    #[serde(alias = "modelname")]
    model_name: Option<String>,
    block_size: Option<u32>,
    dp_rank: Option<u32>,
    replay_endpoint: Option<String>,
}

/// `POST /register`: one rank of an instance.
pub(super) fn register(state: &mut ThreadState, call: &Call<'_>) -> Result<Reply, ApiError> {
    let body: Register = json::object(call.body)?;
    let instance = instance(body.instance_id.as_ref())?;
    let rank = body.dp_rank.unwrap_or(0);
    let model = required("model_name", body.model_name.as_deref())?;
    let pod = PodSpec {
        events: Some(required("endpoint", body.endpoint.as_deref())?.to_owned()),
        replay: body.replay_endpoint.filter(|replay| !replay.is_empty()),
        first_rank: rank,
        block_size: not_zero(body.block_size)?,
        ..PodSpec::new(instance, model)
    };
    state
        .fleet
        .add(pod)
        .map_err(|error| ApiError::from(error).renamed(rfc_name))?;
    let answer = json!({"status": "ok", "instance_id": instance, "dp_rank": rank});
    Reply::json(StatusCode::CREATED, &answer)
}

/// The RFC's name of a pod's field.
pub(super) fn rfc_name(field: &str) -> &str {
    match field {
        "pod" => "instance_id",
        "model" => "model_name",
        "events" => "endpoint",
        "replay" => "replay_endpoint",
        "first_rank" => "dp_rank",
        other => other,
    }
}

#[derive(Debug, Deserialize)]
struct Unregister {
    instance_id: Option<InstanceId>,
    #[serde(alias = "modelname")]
    model_name: Option<String>,
    dp_rank: Option<u32>,
}

/// `POST /unregister`: one rank of an instance, or all of them.
pub(super) fn unregister(state: &mut ThreadState, call: &Call<'_>) -> Result<Reply, ApiError> {
    let body: Unregister = json::object(call.body)?;
    let instance = instance(body.instance_id.as_ref())?;
    let model = body.model_name.as_deref();
    if !state.fleet.remove_served(instance, body.dp_rank, model) {
        return Err(unknown(instance).at("instance_id"));
    }
    let answer = json!({"status": "ok", "instance_id": instance});
    Reply::json(StatusCode::OK, &answer)
}

#[derive(Debug, Serialize)]
struct Registered<'v> {
    instance_id: &'v str,
    model_name: &'v str,
    block_size: Option<u32>,
    dp_rank: u32,
    endpoint: Option<&'v str>,
    replay_endpoint: Option<&'v str>,
}

/// `GET /workers`: every rank of every instance.
pub(super) fn list(state: &mut ThreadState, _: &Call<'_>) -> Result<Reply, ApiError> {
    let view = state.fleet.view();
    let ranks = view.workers().map(|info| Registered {
        instance_id: &info.pod().pod,
        model_name: &info.pod().model,
        block_size: info.block_size(),
        dp_rank: info.rank(),
        endpoint: Some(info.events()).filter(|events| !events.is_empty()),
        replay_endpoint: info.replay(),
    });
    Reply::json(StatusCode::OK, &ranks.collect::<Vec<_>>())
}

/// What `/query` and `/query_by_hash` are asked beside the list.
#[derive(Debug, Deserialize)]
pub(super) struct QueryBody {
    #[serde(alias = "model")]
    model_name: Option<String>,
    lora_name: Option<String>,
    pub(super) cache_salt: Option<String>,
    block_size: Option<u32>,
}

impl QueryBody {
    /// The query for this prompt.
    pub(super) fn query<'q>(&'q self, prompt: Prompt<'q>) -> Result<Query<'q>, ApiError> {
        Ok(Query {
            model: required("model_name", self.model_name.as_deref())?,
            lora: given(self.lora_name.as_deref()),
            cache_salt: given(self.cache_salt.as_deref()),
            extra_keys: &[],
            block_size: not_zero(self.block_size)?,
            prompt,
        })
    }
}

/// What instances hold of a prompt.
#[derive(Debug, Default, Serialize)]
pub(super) struct Overlap<'v> {
    scores: BTreeMap<&'v str, BTreeMap<Rank, u64>>,
    frequencies: [u64; 0],
    instances: BTreeMap<&'v str, Instance>,
}

#[derive(Debug, Default, Serialize)]
struct Instance {
    longest_matched: u64,
    gpu: u64,
    dp: BTreeMap<Rank, u64>,
    cpu: u64,
    disk: u64,
}

/// A rank as the name of a field: text in MessagePack too, where it could be a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank(u32);

impl Serialize for Rank {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// `POST /query`.
pub(super) fn query(state: &mut ThreadState, call: &Call<'_>) -> Result<Reply, ApiError> {
    state.reading(|state, scratch| {
        let parsed = scratch.json(call.body, "token_ids")?;
        find(state, call, &parsed)
    })
}

fn find(
    state: &mut ThreadState,
    call: &Call<'_>,
    parsed: &Parsed<'_, QueryBody>,
) -> Result<Reply, ApiError> {
    let tokens = parsed.tokens;
    let tokens = tokens.ok_or_else(|| ApiError::field("token_ids", "missing"))?;
    let prompt = Prompt::Tokens(prompt::not_empty(tokens)?);
    ask(state, call, &parsed.fields.query(prompt)?)
}

/// Looks a query up and answers it.
pub(super) fn ask(
    state: &mut ThreadState,
    call: &Call<'_>,
    query: &Query<'_>,
) -> Result<Reply, ApiError> {
    let ThreadState {
        fleet,
        lookup,
        traced,
        ..
    } = state;
    let part = spans::part(traced, "lookup");
    lookup
        .run(fleet, query, |scores| {
            spans::looked_up(traced, part, query, scores);
            match call.wants_msgpack() {
                true => Reply::msgpack(&overlap(scores)),
                false => Ok(Reply::rendered(rendered(scores))),
            }
        })
        .map_err(|error| error.renamed(rfc_name))?
}

/// The overlap as JSON.
fn rendered(scores: &Scores<'_>) -> Vec<u8> {
    let mut found: Vec<_> = scores.credited().collect();
    found.sort_unstable_by_key(|found| found.place);
    render::overlap(&found)
}

fn overlap<'v>(scores: &Scores<'v>) -> Overlap<'v> {
    let mut overlap = Overlap::default();
    for found in scores.credited() {
        let Some(score) = found.score else {
            continue;
        };
        let (pod, rank) = (found.info.pod().pod.as_str(), Rank(found.info.rank()));
        let gpu = score.tokens(Tier::Gpu);
        overlap.scores.entry(pod).or_default().insert(rank, gpu);
        let instance = overlap.instances.entry(pod).or_default();
        instance.dp.insert(rank, gpu);
        for (best, tokens) in [
            (&mut instance.gpu, gpu),
            (&mut instance.cpu, score.tokens(Tier::Cpu)),
            (&mut instance.disk, score.tokens(Tier::Disk)),
            (&mut instance.longest_matched, score.matched()),
        ] {
            *best = tokens.max(*best);
        }
    }
    overlap
}
