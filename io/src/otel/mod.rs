//! Traces of requests, sent to a collector by OpenTelemetry's protocol over HTTP.
//!
//! A request's way: its `traceparent` is read (`context`), or chance decides whether it is traced; what is done for it is noted (`span`);
//! when it is over, its spans go through a bounded queue to a thread of their own, which sends them in batches (`export`). Nothing waits
//! for the collector, and what it does not get is counted. Without a collector there is no [`Tracer`], and requests are not looked
//! at.
mod context;
mod export;
mod span;

pub use context::{Parent, Passed, SpanId, TraceId, trace_state};
pub use span::{Entered, Part, Trace, Value, current};

use crate::limits::{OTLP_SAMPLE_DEFAULT, SPANS_WAITING_MAX, TRACES_WAITING_MAX};
use export::Exporter;
use opentelemetry_proto::tonic::trace::v1::Span;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use tokio::sync::{mpsc, oneshot};

/// Which requests are traced, and who is told.
#[derive(Clone, Debug, PartialEq)]
pub struct OtelConfig {
    /// The collector, as `http://host:port` and perhaps a path; nothing is traced without it.
    pub endpoint: Option<String>,
    /// Share of requests without a parent's decision that are traced, 0 to 1.
    pub sample: f64,
    /// What the node is called there.
    pub service: String,
}

impl Default for OtelConfig {
    fn default() -> Self {
        Self {
            endpoint: None,
            sample: OTLP_SAMPLE_DEFAULT,
            service: "kvroute".to_owned(),
        }
    }
}

/// Why spans were not exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// Too many wait.
    Queue,
    /// The request had too many.
    Many,
    /// The collector cannot be reached, or breaks off.
    Unreachable,
    /// It takes too long.
    Timeout,
    /// It refuses the call.
    Refused,
    /// It has taken the call, but not these of its spans.
    Rejected,
}

impl Dropped {
    const ALL: [Self; 6] = [
        Self::Queue,
        Self::Many,
        Self::Unreachable,
        Self::Timeout,
        Self::Refused,
        Self::Rejected,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Many => "many",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Refused => "refused",
            Self::Rejected => "rejected",
        }
    }

    /// Relaxed: a number for people.
    fn add(self, spans: usize) {
        DROPPED[self as usize].fetch_add(spans as u64, Relaxed);
    }
}

/// By reason, for the whole process.
static DROPPED: [AtomicU64; Dropped::ALL.len()] = [const { AtomicU64::new(0) }; Dropped::ALL.len()];
/// Spans that a collector has taken.
static EXPORTED: AtomicU64 = AtomicU64::new(0);

/// Spans that were not exported, by reason.
pub fn dropped() -> impl Iterator<Item = (&'static str, u64)> {
    let all = Dropped::ALL.iter();
    all.map(|why| (why.as_str(), DROPPED[*why as usize].load(Relaxed)))
}

/// Spans that a collector has taken.
#[must_use]
pub fn exported() -> u64 {
    EXPORTED.load(Relaxed)
}

/// Decides which requests are traced, and has the way to the collector. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tracer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    sample: f64,
    queue: mpsc::Sender<Vec<Span>>,
    /// Spans in the queue. Relaxed, always: a number that bounds itself.
    waiting: Arc<AtomicUsize>,
}

/// The thread that exports. Dropped, it sends what still waits, for a bounded time.
#[derive(Debug)]
pub struct Running {
    tracer: Tracer,
    stop: Option<oneshot::Sender<()>>,
    join: Option<JoinHandle<()>>,
}

impl Tracer {
    /// Starts the thread, `kvroute-otlp`; nothing without a collector.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(config: &OtelConfig) -> io::Result<Option<Running>> {
        let Some(endpoint) = &config.endpoint else {
            return Ok(None);
        };
        let (queue, incoming) = mpsc::channel(TRACES_WAITING_MAX);
        let (stop, stopped) = oneshot::channel();
        let waiting = Arc::<AtomicUsize>::default();
        let exporter = Exporter::new(endpoint, &config.service, Arc::clone(&waiting));
        let thread = thread::Builder::new().name("kvroute-otlp".to_owned());
        let join = thread.spawn(move || export::run(exporter, incoming, stopped))?;
        let sample = config.sample;
        Ok(Some(Running {
            tracer: Self(Arc::new(Shared {
                sample,
                queue,
                waiting,
            })),
            stop: Some(stop),
            join: Some(join),
        }))
    }

    /// A request begins: `parent` and `state` are what it came with. Nothing if there is neither anything to record nor to pass on.
    #[must_use]
    pub fn begin(
        &self,
        name: &'static str,
        parent: Option<Parent>,
        state: Option<Box<str>>,
    ) -> Option<Box<Trace>> {
        let trace = match parent {
            Some(parent) if !parent.sampled => Trace::passing(parent, state),
            None if fastrand::f64() >= self.0.sample => return None,
            // A state belongs to a parent.
            None => Trace::recorded(self.clone(), name, None, None),
            parent => Trace::recorded(self.clone(), name, parent, state),
        };
        Some(Box::new(trace))
    }

    /// Takes spans if there is room for them. Never waits.
    fn send(&self, spans: Vec<Span>) {
        let (shared, count) = (&self.0, spans.len());
        let waiting = shared.waiting.fetch_add(count, Relaxed) + count;
        if waiting > SPANS_WAITING_MAX || shared.queue.try_send(spans).is_err() {
            shared.waiting.fetch_sub(count, Relaxed);
            Dropped::Queue.add(count);
        }
    }
}

impl Running {
    /// The way to it.
    #[must_use]
    pub fn tracer(&self) -> &Tracer {
        &self.tracer
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if self.join.take().is_some_and(|join| join.join().is_err()) {
            tracing::error!("the thread that exports spans has panicked");
        }
    }
}
