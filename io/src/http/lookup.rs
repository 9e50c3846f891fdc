//! From a query to the workers that hold a prefix of it: what `/v1/match` and `/query` share.
use super::error::ApiError;
use super::extra;
use super::samples::Samples;
use crate::fleet::{Fleet, FleetView, WorkerInfo};
use crate::hot::Hot;
use crate::limits::TIMES_MEASURED_ONE_OF;
use crate::status::{LookupKind, OwnStatus, Trust};
use hyper::StatusCode;
use kvroute_engine::hash::ExtraDigest;
use kvroute_engine::types::{BlockKey, TIERS, Tier, TokenBytes, WorkerId};
use kvroute_engine::{Matches, Participant, Pinned, TokenKeys};
use std::sync::Arc;
use std::time::Instant;

/// What is asked.
#[derive(Clone, Debug)]
pub(super) struct Query<'q> {
    /// The model's name, or that of an adapter, as engines accept it.
    pub(super) model: &'q str,
    /// The adapter's name.
    pub(super) lora: Option<&'q str>,
    pub(super) cache_salt: Option<&'q str>,
    /// By block; may be shorter than the prompt.
    pub(super) extra_keys: &'q [extra::Entry<'q>],
    /// Only contexts of this block size; all if not given.
    pub(super) block_size: Option<u32>,
    pub(super) prompt: Prompt<'q>,
}

/// A prompt, in whole blocks of which prefixes are looked up.
#[derive(Clone, Copy, Debug)]
pub(super) enum Prompt<'q> {
    /// Its token ids.
    Tokens(&'q [TokenBytes]),
    /// The keys of its blocks, which are under the index's own seed.
    Keys(&'q [BlockKey]),
}

impl Prompt<'_> {
    /// What its lookup counts as; none if there is nothing in it to look up.
    fn kind(&self) -> Option<LookupKind> {
        match self {
            Self::Tokens([]) | Self::Keys([]) => None,
            Self::Tokens(_) => Some(LookupKind::Tokens),
            Self::Keys(_) => Some(LookupKind::Hashes),
        }
    }
}

/// What one worker holds of a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Score {
    pub(super) worker: WorkerId,
    /// Tokens per block of the context in which it holds the most.
    pub(super) block_size: u32,
    /// Leading blocks held, cumulative by tier.
    pub(super) blocks: [u32; TIERS],
}

impl Score {
    /// Leading tokens held in a tier or a faster one.
    pub(super) fn tokens(&self, tier: Tier) -> u64 {
        u64::from(self.blocks[tier.index()]) * u64::from(self.block_size)
    }

    /// Leading tokens held anywhere.
    pub(super) fn matched(&self) -> u64 {
        self.tokens(Tier::Disk)
    }

    /// Share of the prompt's whole blocks that is held anywhere, in percent.
    pub(super) fn percent(&self, prompt: &Prompt<'_>) -> u64 {
        let whole = match prompt {
            Prompt::Tokens(tokens) => tokens.len() as u64 / u64::from(self.block_size.max(1)),
            Prompt::Keys(keys) => keys.len() as u64,
        };
        u64::from(self.blocks[Tier::Disk.index()]) * 100 / whole.max(1)
    }
}

/// A worker of the answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'v> {
    pub(super) info: &'v Arc<WorkerInfo>,
    /// Read once, so that what is credited and what is said of it agree.
    pub(super) trust: Trust,
    /// None without a match, or if the worker is distrusted.
    pub(super) score: Option<Score>,
    /// What it is expected to hold because of requests just routed, if that was asked for: see [`Scores::expecting`].
    pub(super) expected: Option<Score>,
    /// Where it stands among all workers by name and rank.
    pub(super) place: u32,
}

impl<'v> Found<'v> {
    /// A worker with what was found of it. One that is distrusted is credited with nothing.
    fn new(view: &FleetView, info: &'v Arc<WorkerInfo>, score: Option<Score>) -> Self {
        let trust = info.status().trust();
        Self {
            info,
            trust,
            score: score.filter(|_| trust != Trust::Distrusted),
            expected: None,
            place: view.place(info.id()),
        }
    }

    /// Leading tokens held anywhere.
    pub(super) fn matched(&self) -> u64 {
        self.score.map_or(0, |score| score.matched())
    }
}

/// All scores of one lookup, with the fleet that their workers belong to.
#[derive(Debug)]
pub(super) struct Scores<'v> {
    view: &'v FleetView,
    /// By worker, each once.
    scores: &'v [Score],
    extra: &'v [ExtraDigest],
}

impl<'v> Scores<'v> {
    /// The workers that are credited with something, in no particular order.
    pub(super) fn credited(&self) -> impl Iterator<Item = Found<'v>> {
        let view = self.view;
        self.scores
            .iter()
            .filter_map(move |&score| {
                let info = view.worker(score.worker)?;
                Some(Found::new(view, info, Some(score)))
            })
            .filter(|found| found.matched() > 0)
    }

    /// The fleet that the scores' workers belong to.
    pub(super) fn view(&self) -> &'v FleetView {
        self.view
    }

    /// A worker with what it is credited with.
    pub(super) fn of(&self, info: &'v Arc<WorkerInfo>) -> Found<'v> {
        let scores = self.scores;
        let at = scores.binary_search_by_key(&info.id(), |score| score.worker);
        Found::new(self.view, info, at.ok().map(|at| scores[at]))
    }

    /// The same with what it is expected to hold. That stands among the scores like what workers hold, but under numbers
    /// of which the fleet knows nothing, so nobody else meets it.
    pub(super) fn expecting(&self, info: &'v Arc<WorkerInfo>) -> Found<'v> {
        let mut found = self.of(info);
        if let Some(number) = info.subject().expected()
            && found.trust != Trust::Distrusted
        {
            let by_number = |score: &Score| score.worker.index();
            let at = self.scores.binary_search_by_key(&number, by_number);
            found.expected = at.ok().map(|at| self.scores[at]);
        }
        found
    }

    /// The digests of the extra keys of the prompt's blocks; may be fewer, none of which the rest has any.
    pub(super) fn extra(&self) -> &'v [ExtraDigest] {
        self.extra
    }

    /// Every rank of a pod, credited or not; nothing if the pod is not known.
    pub(super) fn of_pod(&self, pod: &str) -> impl Iterator<Item = Found<'v>> {
        self.view.pod(pod).iter().map(|info| self.of(info))
    }
}

/// One thread's means to look things up, used again and again.
#[derive(Debug)]
pub(super) struct Lookup {
    participant: Participant,
    matches: Matches,
    scores: Vec<Score>,
    extra: Vec<ExtraDigest>,
    /// What the thread counts.
    status: OwnStatus,
    /// Lookups so far.
    lookups: u64,
    samples: Samples,
}

impl Lookup {
    /// Registers the calling thread with the fleet's index.
    pub(super) fn new(fleet: &Fleet, status: OwnStatus, hot: Arc<Hot>) -> Self {
        Self {
            status,
            lookups: 0,
            samples: Samples::new(hot),
            participant: fleet.index().participant(),
            matches: Matches::new(),
            scores: Vec::new(),
            extra: Vec::new(),
        }
    }

    /// The models that have an adapter of this name; none if it is a model's.
    pub(super) fn models_with(&mut self, fleet: &Fleet, name: &str) -> Vec<String> {
        let view = fleet.view();
        if view.has_model(name) {
            return Vec::new();
        }
        let pin = self.participant.pin();
        let models = models_with(&view, &pin, name);
        models.into_iter().map(str::to_owned).collect()
    }

    /// Whether anybody serves a model, or an adapter, of this name.
    pub(super) fn knows(&mut self, fleet: &Fleet, name: &str) -> bool {
        fleet.view().has_model(name) || !self.models_with(fleet, name).is_empty()
    }

    /// Looks a query up and hands the result to `read`.
    pub(super) fn run<R>(
        &mut self,
        fleet: &Fleet,
        query: &Query<'_>,
        read: impl FnOnce(&Scores<'_>) -> R,
    ) -> Result<R, ApiError> {
        let Self {
            participant,
            matches,
            scores,
            extra,
            status,
            lookups,
            samples,
        } = self;
        scores.clear();
        let kind = query.prompt.kind();
        let began = *lookups % TIMES_MEASURED_ONE_OF == 0 && kind.is_some();
        let began = began.then(Instant::now);
        let pin = participant.pin();
        let mut work = Work {
            pin: &pin,
            query,
            seed: fleet.index().hash_seed(),
            matches,
            scores,
            extra,
            block_size: 0,
        };
        let view = fleet.view();
        let adapter = work.ask_all(&view)?;
        let block_size = work.block_size;
        keep_best(scores);
        if let (Some(kind), Some(began)) = (kind, began) {
            status.lookups.took(kind, began.elapsed());
        }
        // Anew, after the lookup and under its pin: see `Fleet::view`.
        let view = fleet.view();
        let view: &FleetView = &view;
        if kind.is_some() {
            *lookups = lookups.wrapping_add(1);
            count(status, query, view, scores, block_size);
        }
        let found = Scores {
            view,
            scores,
            extra,
        };
        if kind.is_some() && samples.due() {
            samples.add(fleet.index().hash_seed(), query, adapter, &found);
        }
        Ok(read(&found))
    }
}

/// One query under way.
struct Work<'w, 'q> {
    pin: &'w Pinned<'w>,
    query: &'w Query<'q>,
    seed: u64,
    matches: &'w mut Matches,
    scores: &'w mut Vec<Score>,
    extra: &'w mut Vec<ExtraDigest>,
    /// The largest of the contexts that were asked.
    block_size: u32,
}

impl<'q> Work<'_, 'q> {
    /// Asks every context that the names stand for; the adapter of them all.
    fn ask_all(&mut self, view: &FleetView) -> Result<Option<&'q str>, ApiError> {
        let query = self.query;
        if view.has_model(query.model) {
            self.ask(query.model, query.lora)?;
            return Ok(query.lora);
        }
        let models = models_with(view, self.pin, query.model);
        if models.is_empty() {
            return Err(unknown_model(query.model));
        }
        let adapter = query.lora.unwrap_or(query.model);
        for model in models {
            self.ask(model, Some(adapter))?;
        }
        Ok(Some(adapter))
    }

    /// Asks every context of (model, adapter), or the one of the block size asked for.
    fn ask(&mut self, model: &str, adapter: Option<&str>) -> Result<(), ApiError> {
        let query = self.query;
        self.extra.clear();
        if query.cache_salt.is_some() || !query.extra_keys.is_empty() {
            extra::digests(query.extra_keys, adapter, query.cache_salt, self.extra)?;
        }
        for context in self.pin.contexts(model, adapter) {
            let block_size = context.block_size();
            if query.block_size.is_some_and(|asked| asked != block_size) {
                continue;
            }
            self.block_size = self.block_size.max(block_size);
            match query.prompt {
                Prompt::Tokens(tokens) => {
                    let mut keys = TokenKeys::of_bytes(self.seed, block_size, tokens, self.extra);
                    context.lookup(&mut keys, self.matches);
                }
                Prompt::Keys(mut keys) => context.lookup(&mut keys, self.matches),
            }
            self.scores
                .extend(self.matches.hits().iter().map(|hit| Score {
                    worker: hit.worker,
                    block_size,
                    blocks: hit.blocks,
                }));
        }
        Ok(())
    }
}

/// Counts a lookup by what the worker that holds the most of its prompt is credited with.
fn count(
    status: &OwnStatus,
    query: &Query<'_>,
    view: &FleetView,
    scores: &[Score],
    block_size: u32,
) {
    let mut best: Option<&Score> = None;
    for score in scores {
        let more = best.is_none_or(|best| score.matched() > best.matched());
        let credited = || {
            let info = view.worker(score.worker);
            info.is_some_and(|info| info.status().trust() != Trust::Distrusted)
        };
        // In this order, so that few workers are looked at.
        if more && credited() {
            best = Some(score);
        }
    }
    let asked = match query.prompt {
        Prompt::Tokens(tokens) => tokens.len() as u64,
        Prompt::Keys(keys) => keys.len() as u64 * u64::from(block_size),
    };
    let (matched, percent) =
        best.map_or((0, 0), |best| (best.matched(), best.percent(&query.prompt)));
    status.lookups.matched(asked, matched, percent);
}

/// Sorts by worker and keeps each worker's best.
fn keep_best(scores: &mut Vec<Score>) {
    scores.sort_unstable_by_key(|score| (score.worker, std::cmp::Reverse(score.matched())));
    scores.dedup_by_key(|score| score.worker);
}

/// The models that have an adapter of this name: by the pods' descriptions, by the index (somebody
/// holds blocks of it now), else by what events ever said. O(models) unless it comes to the last.
fn models_with<'v>(view: &'v FleetView, pin: &Pinned<'_>, adapter: &str) -> Vec<&'v str> {
    let declared = view.models_with_adapter(adapter);
    let held = |model: &&str| pin.contexts(model, Some(adapter)).next().is_some();
    let mut models: Vec<_> = declared.chain(view.models().filter(held)).collect();
    if models.is_empty() {
        models = view
            .workers()
            .filter(|info| info.status().knows_adapter(adapter))
            .map(|info| info.pod().model.as_str())
            .collect();
    }
    models.sort_unstable();
    models.dedup();
    models
}

/// 404: nobody serves it.
pub(super) fn unknown_model(model: &str) -> ApiError {
    let message = format!("no worker serves a model or an adapter {model:?}");
    ApiError::new(StatusCode::NOT_FOUND, "model_not_found", message).at("model")
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvroute_engine::{Index, IndexConfig};

    #[test]
    fn a_worker_counts_once_with_its_best_context() {
        let index = Index::new(IndexConfig::default());
        let writers = [index.writer("m").unwrap(), index.writer("m").unwrap()];
        let score = |at: usize, block_size, blocks| Score {
            worker: writers[at].id(),
            block_size,
            blocks: [blocks; TIERS],
        };
        let mut scores = vec![
            score(1, 16, 3),
            score(0, 16, 3),
            score(0, 64, 1),
            score(1, 32, 1),
        ];
        keep_best(&mut scores);
        assert_eq!(scores, [score(0, 64, 1), score(1, 16, 3)]);
    }
}
