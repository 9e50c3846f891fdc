//! What the rules go by.
use crate::fleet::SourceReport;
use crate::status::Trust;

/// What a node knows of itself at one moment.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The moment, in milliseconds since 1970.
    pub now_ms: u64,
    /// When the node was started, in milliseconds since 1970.
    pub started_ms: u64,
    /// Whether it is told to stop.
    pub stopping: bool,
    /// What the node waits for before it is ready.
    pub waiting: Option<String>,
    /// What the mode means, if it is not what was asked for.
    pub invalid_mode: Option<&'static str>,
    /// All workers.
    pub workers: Vec<WorkerFact>,
    /// The sources of pods.
    pub sources: Vec<SourceReport>,
    /// Bytes of the index.
    pub index_bytes: u64,
    /// Bytes that it may take.
    pub index_bytes_max: Option<u64>,
    /// Open descriptors, and how many may be open.
    pub descriptors: Option<(u64, u64)>,
    /// Models whose local tokenizers are off.
    pub tokenizers_off: Vec<String>,
    /// What was counted lately.
    pub lately: Option<Lately>,
}

/// One worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerFact {
    /// The pod's name.
    pub pod: String,
    /// Its trust state.
    pub state: Trust,
    /// Since when, in milliseconds since 1970.
    pub since_ms: Option<u64>,
    /// Why no events can be expected of it.
    pub problem: Option<String>,
    /// Restarts within the last hour.
    pub restarts: u64,
    /// How often feedback contradicted it within the last six hours.
    pub contradictions: u64,
    /// When all that it held was dropped because of batches that were lost, if that was within the last half hour and nothing has filled
    /// the gap since. In milliseconds since 1970.
    pub lost_ms: Option<u64>,
}

/// What was counted within some minutes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lately {
    /// The seconds that it is about.
    pub seconds: f64,
    /// HTTP requests answered.
    pub requests: u64,
    /// Of these, by a fault of the node.
    pub failed: u64,
    /// Lookups.
    pub lookups: u64,
    /// Seconds that lookups took: the 99th percentile.
    pub lookup_p99: Option<f64>,
    /// Seconds that requests took: the 99th percentile.
    pub request_p99: Option<f64>,
    /// Seconds between an engine's publishing and the index: the 99th percentile.
    pub lag_p99: Option<f64>,
    /// Events that were skipped because a bound was met, by reason.
    pub dropped: Vec<(&'static str, u64)>,
    /// Events that were not understood, by reason.
    pub unknown: Vec<(&'static str, u64)>,
    /// Requests and connections that were turned away, by reason.
    pub refused: Vec<(&'static str, u64)>,
    /// Files that could not be read again, by what they hold.
    pub reload_failures: Vec<(&'static str, u64)>,
}
