//! The bounds of traces.
use std::time::Duration;

/// Share of requests without a parent's decision that are traced, unless it is set.
pub const OTLP_SAMPLE_DEFAULT: f64 = 0.01;
/// Bytes of `tracestate`, as W3C asks to pass on at least; longer ones are left out whole.
pub const TRACE_STATE_BYTES_MAX: usize = 512;
/// Bytes of a text among a span's attributes; names of models and pods are shorter.
pub const SPAN_TEXT_BYTES_MAX: usize = 256;
/// Spans of one request beside its own: a batch looks many prompts up.
pub const SPANS_PER_REQUEST_MAX: usize = 64;
/// Spans that wait to be exported, at some 600 bytes each; with more, those of further requests are dropped.
pub const SPANS_WAITING_MAX: usize = 8_192;
/// Requests whose spans wait: most have three.
pub const TRACES_WAITING_MAX: usize = 4_096;
/// Spans in one call of the collector.
pub const SPANS_PER_CALL_MAX: usize = 512;
/// Time for which spans are gathered for a call.
pub const SPANS_GATHER_TIME: Duration = Duration::from_secs(1);
/// Time for one call. While it lasts, spans wait.
pub const OTLP_TIME_MAX: Duration = Duration::from_secs(5);
/// Time for what still waits when the node ends.
pub const OTLP_LAST_TIME_MAX: Duration = Duration::from_millis(500);
/// Bytes of a collector's answer that are read: how many spans it has not taken.
pub const OTLP_ANSWER_BYTES_MAX: usize = 64 << 10;
/// Bytes of the head of its answer.
pub const OTLP_HEAD_BYTES_MAX: usize = 16 << 10;
/// Threads that look the collector's name up: one may hang.
pub const OTLP_RESOLVERS: usize = 1;
