//! Bounds of what is remembered for whoever looks: of the node, and of each worker.
use super::IDLE_TIME_MIN;
use std::time::Duration;

/// Entries of a worker's history: what led to its present state, some screens of it.
pub const HISTORY_ENTRIES_MAX: usize = 32;
/// Within this time what happens to a worker again is one entry that is counted up: a connection that breaks each second
/// would push out all others in five.
pub const HISTORY_MERGED_TIME: Duration = Duration::from_secs(60);

/// Between two samples of the node's counters: the eye sees no more, and a sample goes over all workers.
pub const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
/// A stream of samples is never taken for idle while somebody reads it.
const _: () = assert!(3 * SAMPLE_INTERVAL.as_millis() < IDLE_TIME_MIN.as_millis());

/// Samples that are kept: a quarter of an hour, at some 700 bytes each.
pub const SAMPLES_MAX: usize = 900;
/// Quantiles are of what was measured in this time: shorter, and they jump where little is asked.
pub const QUANTILE_TIME: Duration = Duration::from_secs(15);
/// States of the histograms that are kept for it: one for each sample in that time, and the one before.
pub const QUANTILE_STATES_MAX: usize = 16;
/// Streams of samples at once: some people, each with some windows. Each has up to half a megabyte under way when it begins.
pub const FLOW_STREAMS_MAX: usize = 32;
/// Time for the reader of such a stream to take one sample: a network that breaks for a moment, and no more.
pub const FLOW_PATIENCE: Duration = Duration::from_secs(15);
/// Between two states of the counters that problems are judged by.
pub const MINUTE: Duration = Duration::from_secs(60);
/// States that are kept: problems are judged by ten minutes, the longest time of an alert's rate that the node can judge alone.
pub const MINUTES_KEPT: usize = 11;
