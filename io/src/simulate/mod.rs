//! `kvroute simulate`: what would routing have saved on this trace? A fleet in virtual time, under each way to choose.
//!
//! What is simulated is the engines (`engine`, [`hardware`], `pool`) and time. What is real is the node's own: the
//! engines' events are written as vLLM writes them, decoded, judged and applied by the code that serves (`pod`), and
//! pods are chosen by the engine's rules from lookups in the real index and the node's own books of loads (`router`). Each run ends with a comparison of the index
//! with every cache; a run in which they differ fails.
//!
//! | not simulated | effect |
//! |---|---|
//! | time of tokenizing, routing and the network | the same for all ways to choose but for the lookup, which takes microseconds |
//! | users who wait for an answer before they ask again | requests come when the trace says, however slow the fleet is |
//! | copies of blocks elsewhere (CPU, disk) | only what is in the GPU's memory is reused |
//! | failures, restarts, lost events | see `io/tests/stream_faults` |
mod engine;
mod fleet;
pub mod hardware;
pub mod plot;
mod pod;
mod pool;
pub mod report;
mod router;
mod strategy;
mod tally;
pub mod trace;

pub use hardware::Hardware;
pub use strategy::Strategy;
pub use tally::{Difference, Outcome, Spread};
pub use trace::{Request, Trace, TraceError};

use crate::limits::{SIMULATION_THREADS_MAX, SIMULATION_TIME_MAX_US};
use kvroute_engine::choose::Rules;
use kvroute_engine::{StoreError, TooManyWorkers};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// What is simulated.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Pods.
    pub pods: usize,
    /// What is drawn at random depends on it.
    pub seed: u64,
    /// How pods are chosen: a run for each.
    pub strategies: Vec<Strategy>,
    /// The engines.
    pub hardware: Hardware,
    /// Tokens per block.
    pub block_size: u32,
    /// Blocks of each engine's cache.
    pub cache_blocks: u32,
    /// The numbers of the policies.
    pub rules: Rules,
    /// From an engine's event to the node's index, in microseconds.
    pub event_delay_us: u64,
    /// Between two readings of the engines' metrics, in microseconds, above 0.
    pub scrape_interval_us: u64,
    /// Time after which a routed request is taken for finished, in milliseconds.
    pub request_ms: u64,
    /// For how long a decision counts as cached where there are events, in milliseconds; 0 for not at all.
    pub speculative_ms: u64,
    /// The same without events.
    pub approximate_ms: u64,
    /// Blocks of decisions that are remembered for one pod.
    pub approximate_blocks: usize,
}

/// Why a simulation came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// A request can never be served.
    #[error(
        "request {request}: prompt and answer take {needed} blocks, a cache has {blocks} (--cache-blocks)"
    )]
    NoRoom {
        /// Its place in the trace, from 1.
        request: usize,
        /// Blocks that it takes.
        needed: u64,
        /// Blocks of a cache.
        blocks: u32,
    },
    /// There are no pods.
    #[error("there are no pods")]
    NoPods,
    /// There are too many pods.
    #[error(transparent)]
    Workers(#[from] TooManyWorkers),
    /// Decisions could not be remembered.
    #[error("decisions could not be remembered: {0}")]
    Predict(#[from] StoreError),
    /// The fleet never catches up.
    #[error(
        "the fleet is hopelessly overloaded: requests are not served after {} hours of virtual time", SIMULATION_TIME_MAX_US / 3_600_000_000
    )]
    TooLong,
    /// The index is not exact: a fault of ours.
    #[error(
        "{}: the index is not exact: pod {pod}, {}: the index says {index} blocks, the cache holds {cache}",
        strategy.as_str(),
        request.map_or("in all".to_owned(), |request| format!("request {}", request + 1))
    )]
    Inexact {
        /// The run.
        strategy: Strategy,
        /// The pod.
        pod: usize,
        /// The prompt that was compared, from 0; `None` for the sum of all blocks.
        request: Option<usize>,
        /// Blocks by the index.
        index: u64,
        /// Blocks in the cache.
        cache: u64,
    },
    /// A thread could not be started, or ended without a result.
    #[error("a thread of the simulation failed: {0}")]
    Thread(String),
}

impl SimulateError {
    /// Whether what was asked for cannot be, as against a fault of ours.
    #[must_use]
    pub const fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::NoRoom { .. } | Self::NoPods | Self::Workers(_) | Self::TooLong
        )
    }
}

/// How far all runs together are.
#[derive(Debug, Default)]
pub struct Progress {
    served: AtomicU64,
}

impl Progress {
    /// Requests served, over all runs.
    #[must_use]
    pub fn served(&self) -> u64 {
        // Relaxed: a number to look at.
        self.served.load(Ordering::Relaxed)
    }
}

/// Runs the trace under each way to choose, on `threads` threads; the outcomes in the order of [`Options::strategies`], the same
/// for the same options and trace.
///
/// # Errors
/// The first run that failed; see [`SimulateError`].
pub fn run(
    trace: &Trace,
    options: &Options,
    threads: usize,
    progress: &Progress,
) -> Result<Vec<Outcome>, SimulateError> {
    check_room(trace, options)?;
    let strategies = &options.strategies;
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<_>> = Mutex::new(strategies.iter().map(|_| None).collect());
    let work = || {
        // Relaxed: each number is handed out once; the results are behind the lock.
        while let at = next.fetch_add(1, Ordering::Relaxed)
            && let Some(&strategy) = strategies.get(at)
        {
            let done = || {
                progress.served.fetch_add(1, Ordering::Relaxed);
            };
            let result = fleet::run(trace, strategy, options, &done);
            let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
            results[at] = Some(result);
        }
    };
    let threads = threads.clamp(1, SIMULATION_THREADS_MAX);
    thread::scope(|scope| {
        let others: Result<Vec<_>, _> = (1..threads.min(strategies.len()))
            .map(|_| thread::Builder::new().spawn_scoped(scope, work))
            .collect();
        work();
        for other in others.map_err(|error| SimulateError::Thread(error.to_string()))? {
            let ended = other.join();
            ended.map_err(|_| SimulateError::Thread("it panicked".to_owned()))?;
        }
        Ok::<_, SimulateError>(())
    })?;
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    let missing = || SimulateError::Thread("a run has no result".to_owned());
    results
        .into_iter()
        .map(|result| result.ok_or_else(missing)?)
        .collect()
}

/// Every request must fit into an empty cache, or it would wait for ever.
fn check_room(trace: &Trace, options: &Options) -> Result<(), SimulateError> {
    for (at, request) in trace.requests().iter().enumerate() {
        let needed = u64::from(request.total()).div_ceil(u64::from(options.block_size));
        if needed > u64::from(options.cache_blocks) {
            return Err(SimulateError::NoRoom {
                request: at + 1,
                needed,
                blocks: options.cache_blocks,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
