//! What a screen shows of a node: from two looks at it to numbers and rows; pure.
use super::series::Series;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One entry of the node's list of workers, as far as it is shown.
#[derive(Clone, Debug, Deserialize)]
pub struct Worker {
    pod: String,
    rank: u32,
    model: String,
    state: String,
    last_sequence: Option<u64>,
    last_event_ms: Option<u64>,
    blocks: u64,
    gaps: u64,
    replays: u64,
    restarts: u64,
    #[serde(default)]
    events_skipped: BTreeMap<String, u64>,
    problem: Option<String>,
    #[serde(default = "yes")]
    serving: bool,
}

const fn yes() -> bool {
    true
}

/// One look at a node.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// When, in seconds on any clock.
    pub at: f64,
    /// When, in milliseconds since 1970.
    pub clock_ms: u64,
    /// Its workers.
    pub workers: Vec<Worker>,
    /// Its metrics, if they were answered.
    pub series: Option<Series>,
    /// Whether it is ready, and why not.
    pub ready: (bool, String),
}

/// By what rows are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// The worst first.
    #[default]
    Problem,
    /// By name.
    Pod,
    /// The most blocks first.
    Blocks,
    /// The longest silence first.
    Age,
    /// The largest lag first.
    Lag,
    /// The most load first.
    Load,
}

impl Sort {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Problem => "problem",
            Self::Pod => "pod",
            Self::Blocks => "blocks",
            Self::Age => "age",
            Self::Lag => "lag",
            Self::Load => "load",
        }
    }

    /// The one after it.
    #[must_use]
    pub const fn next(self) -> Self {
        match self {
            Self::Problem => Self::Pod,
            Self::Pod => Self::Blocks,
            Self::Blocks => Self::Age,
            Self::Age => Self::Lag,
            Self::Lag => Self::Load,
            Self::Load => Self::Problem,
        }
    }
}

/// All that is shown. What the node does not say is `None`.
#[derive(Clone, Debug, Serialize)]
pub struct View {
    /// Whether it is ready.
    pub ready: bool,
    /// Why it is not.
    pub reason: String,
    /// How many workers are in each state.
    pub states: BTreeMap<String, u64>,
    /// Events applied, per second.
    pub events_per_second: Option<f64>,
    /// Batches applied, per second.
    pub batches_per_second: Option<f64>,
    /// Lookups, per second.
    pub lookups_per_second: Option<f64>,
    /// Half of the lookups took no longer, in seconds.
    pub lookup_p50: Option<f64>,
    /// 99 of a hundred took no longer.
    pub lookup_p99: Option<f64>,
    /// Of the tokens that were asked for, the share that the best candidate holds.
    pub hit_ratio: Option<f64>,
    /// Bytes of the index.
    pub index_bytes: Option<f64>,
    /// How many it may have.
    pub index_budget_bytes: Option<f64>,
    /// The workers.
    pub workers: Vec<Row>,
}

/// One worker.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Its pod.
    pub pod: String,
    /// Its rank.
    pub rank: u32,
    /// Its model.
    pub model: String,
    /// Its trust state.
    pub state: String,
    /// How bad that is: 0 is nothing.
    pub severity: u32,
    /// Milliseconds since its last event, if the node's clock and this one agree.
    pub age_ms: Option<u64>,
    /// The last batch.
    pub last_sequence: Option<u64>,
    /// Blocks that it holds.
    pub blocks: u64,
    /// Gaps.
    pub gaps: u64,
    /// Replays.
    pub replays: u64,
    /// Restarts.
    pub restarts: u64,
    /// Events that were not understood.
    pub skipped: u64,
    /// Requests that run and wait.
    pub load: Option<f64>,
    /// From the batch's own time to its application, in seconds.
    pub lag: Option<f64>,
    /// What is wrong, in words.
    pub problem: Option<String>,
}

impl Row {
    fn with(
        worker: &Worker,
        clock_ms: u64,
        running: Option<f64>,
        waiting: Option<f64>,
        lag: Option<f64>,
    ) -> Self {
        let skipped = worker.events_skipped.values();
        let skipped = skipped.fold(0_u64, |sum, &count| sum.saturating_add(count));
        let of_state = match worker.state.as_str() {
            "exact" => 0,
            "approximate" => 2,
            "replaying" => 3,
            "partial" => 4,
            "stale" => 5,
            // Distrusted, and states to come.
            _ => 6,
        };
        let more = u32::from(skipped > 0) + u32::from(!worker.serving);
        let of_problem = if worker.problem.is_some() { 10 } else { 0 };
        Self {
            pod: worker.pod.clone(),
            rank: worker.rank,
            model: worker.model.clone(),
            state: worker.state.clone(),
            severity: of_problem + of_state + more,
            age_ms: worker.last_event_ms.map(|at| clock_ms.saturating_sub(at)),
            last_sequence: worker.last_sequence,
            blocks: worker.blocks,
            gaps: worker.gaps,
            replays: worker.replays,
            restarts: worker.restarts,
            skipped,
            load: running.map(|running| running + waiting.unwrap_or_default()),
            lag,
            problem: worker.problem.clone(),
        }
    }

    /// Whether a word is in its names or its state.
    fn has(&self, word: &str) -> bool {
        let of = [&self.pod, &self.model, &self.state];
        of.iter().any(|text| text.contains(word))
    }
}

impl View {
    /// Of the latest look, with rates since the one before. O(workers).
    #[must_use]
    pub fn new(now: &Look, before: Option<&Look>, sort: Sort, filter: &str) -> Self {
        let none = Series::default();
        let series = now.series.as_ref().unwrap_or(&none);
        let earlier = before.and_then(|look| look.series.as_ref());
        let seconds = before
            .map(|look| now.at - look.at)
            .filter(|seconds| *seconds > 0.0);
        let since = |name, label| {
            let before = earlier?.sum(name, label).unwrap_or_default();
            Some(series.sum(name, label)? - before)
        };
        let rate = |name| Some((since(name, None)? / seconds?).max(0.0));
        let tokens = |result| {
            let label = Some(("result", result));
            let name = "kvroute_lookup_tokens_total";
            since(name, label)
                .filter(|since| *since > 0.0)
                .or_else(|| series.sum(name, label))
        };
        const LOOKUPS: &str = "kvroute_lookup_duration_seconds_bucket";
        let quantile = |share| {
            let lately = series.quantile(LOOKUPS, earlier.unwrap_or(&none), share);
            lately.or_else(|| series.quantile(LOOKUPS, &none, share))
        };
        let asked = tokens("asked").filter(|asked| *asked > 0.0);
        let mut states = BTreeMap::new();
        for worker in &now.workers {
            *states.entry(worker.state.clone()).or_insert(0) += 1;
        }
        Self {
            ready: now.ready.0,
            reason: now.ready.1.clone(),
            states,
            events_per_second: rate("kvroute_events_total"),
            batches_per_second: rate("kvroute_batches_total"),
            lookups_per_second: rate("kvroute_lookup_matches_total"),
            lookup_p50: quantile(0.5),
            lookup_p99: quantile(0.99),
            hit_ratio: tokens("matched")
                .zip(asked)
                .map(|(matched, asked)| (matched / asked).min(1.0)),
            index_bytes: series.sum("kvroute_index_bytes", None),
            index_budget_bytes: series.sum("kvroute_index_budget_bytes", None),
            workers: rows(now, series, sort, filter),
        }
    }
}

fn rows(now: &Look, series: &Series, sort: Sort, filter: &str) -> Vec<Row> {
    let by = |name| series.by_worker(name);
    let (running, waiting) = (by("kvroute_worker_running"), by("kvroute_worker_waiting"));
    let lag = by("kvroute_worker_lag_seconds");
    let clock_ms = now.clock_ms;
    let rows = now.workers.iter().map(|worker| {
        let rank = worker.rank.to_string();
        let key = (worker.pod.as_str(), rank.as_str());
        let of = |from: &BTreeMap<_, f64>| from.get(&key).copied();
        Row::with(worker, clock_ms, of(&running), of(&waiting), of(&lag))
    });
    let mut rows: Vec<_> = rows.filter(|row| row.has(filter)).collect();
    let name = |row: &Row| (row.pod.clone(), row.rank);
    rows.sort_by_cached_key(name);
    let number = |of: Option<f64>| of.unwrap_or(-1.0);
    // Stable: equal ones stay in order of their names.
    match sort {
        Sort::Pod => {}
        Sort::Problem => rows.sort_by_key(|row| std::cmp::Reverse(row.severity)),
        Sort::Blocks => rows.sort_by_key(|row| std::cmp::Reverse(row.blocks)),
        Sort::Age => rows.sort_by_key(|row| std::cmp::Reverse(row.age_ms)),
        Sort::Lag => rows.sort_by(|a, b| number(b.lag).total_cmp(&number(a.lag))),
        Sort::Load => rows.sort_by(|a, b| number(b.load).total_cmp(&number(a.load))),
    }
    rows
}
