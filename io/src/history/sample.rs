//! One sample, as it is sent.
use crate::status::Trust;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// What happened since the sample before, and what is.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Sample {
    /// When it was taken, in milliseconds since 1970.
    pub at_ms: u64,
    /// Milliseconds since the sample before, or since the node began.
    pub dt_ms: u64,
    /// Events applied.
    pub events: u64,
    /// Batches applied.
    pub batches: u64,
    /// Blocks of stored events that were applied.
    pub blocks_stored: u64,
    /// Blocks of removed events that were applied.
    pub blocks_removed: u64,
    /// Events, batches and frames that were not applied.
    pub skipped: u64,
    /// Gaps seen in the numbers of batches.
    pub gaps: u64,
    /// Replays asked for.
    pub replays: u64,
    /// Restarts of engines noticed.
    pub restarts: u64,
    /// Prompts that were looked up.
    pub lookups: u64,
    /// Tokens of these prompts.
    pub asked_tokens: u64,
    /// Those of them that the worker holds that holds the most.
    pub matched_tokens: u64,
    /// Requests that were answered.
    pub requests: u64,
    /// Those of them that the node could not answer.
    pub failed: u64,
    /// Those of them that were refused.
    pub refused: u64,
    /// Time of a lookup, of those that were measured.
    pub lookup_us: Option<Quantiles>,
    /// Time of a request that looks prompts up, or is about one.
    pub request_us: Option<Quantiles>,
    /// From an engine's publishing a batch to its being in the index, of those that were measured.
    pub lag_ms: Option<LagQuantiles>,
    /// Workers of the fleet.
    pub workers: u64,
    /// The same by state.
    pub states: States,
    /// Blocks that workers hold, each counted for each worker that holds it.
    pub blocks: u64,
    /// Bytes that the index takes.
    pub index_bytes: u64,
    /// Bytes of memory that the process takes, where the system tells.
    pub resident_bytes: Option<u64>,
}

/// Times in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quantiles {
    /// Half of them were up to this.
    pub p50: f64,
    /// Nine of ten.
    pub p90: f64,
    /// 99 of 100.
    pub p99: f64,
}

/// Times in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LagQuantiles {
    /// Half of them were up to this.
    pub p50: f64,
    /// 99 of 100.
    pub p99: f64,
}

/// How many workers are in each state, in the order of [`Trust::ALL`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct States(pub [u64; Trust::ALL.len()]);

impl Serialize for States {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (state, count) in Trust::ALL.iter().zip(self.0) {
            map.serialize_entry(state.as_str(), &count)?;
        }
        map.end()
    }
}
