//! `GET /v1/flow`: what the node did in the last quarter of an hour, and what it does, as JSON or as server-sent events.
//!
//! Samples are taken on one thread, which wakes the streams on theirs. A stream sends the latest sample that there is when the
//! one before has gone out: who reads slowly misses some, and nothing waits for anybody but one sample in each
//! stream.
use super::error::{ApiError, JSON, Reply};
use super::state::{Call, ThreadState};
use crate::fleet::Fleet;
use crate::history::{Counts, History, Minutes, Rendered, Sampler, Skipped};
use crate::limits::{DUMP_PIECE_BYTES, FLOW_PATIENCE, FLOW_STREAMS_MAX, SAMPLE_INTERVAL};
use crate::status::{HttpStatus, ThreadStatus, now_ms};
use http_body_util::channel::{Channel, Sender};
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::{CACHE_CONTROL, HeaderName, HeaderValue};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::{spawn_local, yield_now};
use tokio::time::timeout;

const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");
const NO_STORE: (HeaderName, HeaderValue) = (CACHE_CONTROL, HeaderValue::from_static("no-store"));
/// So that nginx passes each event on at once.
const UNBUFFERED: (HeaderName, HeaderValue) = (
    HeaderName::from_static("x-accel-buffering"),
    HeaderValue::from_static("no"),
);

/// What streams are woken for.
#[derive(Clone, Debug, Default)]
struct Latest {
    sample: Option<Rendered>,
    /// The node is about to stop.
    ended: bool,
}

/// Whose counters they are.
#[derive(Debug)]
struct Counters {
    fleet: Arc<Fleet>,
    threads: Arc<[ThreadStatus]>,
    http: Arc<HttpStatus>,
    skipped: Mutex<Skipped>,
}

impl Counters {
    fn read(&self) -> Counts {
        let mut skipped = self.skipped.lock().unwrap_or_else(PoisonError::into_inner);
        let skipped = skipped.look(&self.fleet.view());
        Counts::read(skipped, &self.fleet, &self.threads, &self.http)
    }
}

/// The samples, and the streams that send them.
#[derive(Debug)]
pub(super) struct Flow {
    sampler: Mutex<Sampler>,
    /// What problems are judged by.
    minutes: Mutex<Minutes>,
    counters: Counters,
    history: History,
    latest: watch::Sender<Latest>,
    /// How many streams there are.
    streams: AtomicUsize,
}

impl Flow {
    pub(super) fn new(
        fleet: &Arc<Fleet>,
        threads: &Arc<[ThreadStatus]>,
        http: &Arc<HttpStatus>,
    ) -> Self {
        let now = Instant::now();
        let counters = Counters {
            fleet: Arc::clone(fleet),
            threads: Arc::clone(threads),
            http: Arc::clone(http),
            skipped: Mutex::default(),
        };
        Self {
            sampler: Mutex::new(Sampler::new(fleet, threads, now)),
            minutes: Mutex::new(Minutes::new(now, counters.read())),
            counters,
            history: History::default(),
            latest: watch::Sender::default(),
            streams: AtomicUsize::new(0),
        }
    }

    /// What was counted in the last minutes, and in how long a time. O(workers).
    pub(super) fn lately(&self) -> Option<(Duration, Counts)> {
        let counts = self.counters.read();
        self.minutes().until(Instant::now(), &counts)
    }

    fn minutes(&self) -> MutexGuard<'_, Minutes> {
        self.minutes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a sample now, and has it sent. O(workers).
    pub(super) fn sample(&self) {
        self.minutes().note(Instant::now(), || self.counters.read());
        let mut sampler = self.sampler.lock().unwrap_or_else(PoisonError::into_inner);
        let sample = sampler.sample(now_ms(), Instant::now());
        match self.history.add(&sample) {
            Ok(rendered) => self
                .latest
                .send_modify(|latest| latest.sample = Some(rendered)),
            Err(error) => tracing::error!(%error, "a sample cannot be written as JSON"),
        }
    }

    /// Ends all streams, and those that come when they have sent what there is.
    pub(super) fn end(&self) {
        self.latest.send_modify(|latest| latest.ended = true);
    }
}

/// A stream's place among those that may be, given back when dropped.
#[derive(Debug)]
struct Place(Arc<Flow>);

impl Place {
    fn take(flow: &Arc<Flow>) -> Result<Self, ApiError> {
        // Relaxed: a number that bounds itself, nothing is read because of it.
        let before = flow.streams.fetch_add(1, Relaxed);
        let place = Self(Arc::clone(flow));
        if before < FLOW_STREAMS_MAX {
            return Ok(place);
        }
        let message = format!("{FLOW_STREAMS_MAX} streams are open already");
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Err(ApiError::new(status, "too_many_streams", message).with("retry-after", "2"))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Relaxed);
    }
}

/// `GET /v1/flow`.
pub(super) fn answer(state: &mut ThreadState, call: &Call<'_>) -> Result<Reply, ApiError> {
    let flow = Arc::clone(&state.flow);
    let (sender, body) = Channel::new(1);
    let out = Out {
        to: sender,
        bytes: Vec::new(),
    };
    if !call.wants_event_stream() {
        drop(spawn_local(async move {
            let _ = whole(&flow, out).await;
        }));
        let mut reply = Reply::stream(JSON, body);
        reply.headers.push(NO_STORE);
        return Ok(reply);
    }
    let place = Place::take(&flow)?;
    drop(spawn_local(async move {
        // Whoever has gone knows, and whoever does not read cannot be told.
        let _ = stream(&flow, out).await;
        drop(place);
    }));
    let mut reply = Reply::stream(EVENT_STREAM, body);
    reply.headers.extend([NO_STORE, UNBUFFERED]);
    Ok(reply)
}

/// The one who asked has gone, or has stopped reading.
struct Gone;

async fn whole(flow: &Flow, mut out: Out) -> Result<(), Gone> {
    history(flow, &mut out).await?;
    out.send().await
}

/// Sends all that is kept, as far as it does not wait in `out` then; how many samples there were.
async fn history(flow: &Flow, out: &mut Out) -> Result<u64, Gone> {
    let (samples, count) = flow.history.all();
    let (now, interval) = (now_ms(), SAMPLE_INTERVAL.as_millis());
    out.text(&format!(
        "{{\"now_ms\":{now},\"interval_ms\":{interval},\"samples\":["
    ));
    for (n, sample) in samples.iter().enumerate() {
        if n > 0 {
            out.text(",");
        }
        out.text(sample);
        if out.bytes.len() >= DUMP_PIECE_BYTES {
            out.send().await?;
        }
    }
    out.text("]}");
    Ok(count)
}

async fn stream(flow: &Flow, mut out: Out) -> Result<(), Gone> {
    // Before what is kept is read, so that what comes meanwhile is seen.
    let mut latest = flow.latest.subscribe();
    out.text("retry: 2000\n\nevent: history\ndata: ");
    let mut sent = history(flow, &mut out).await?;
    out.text("\n\n");
    out.send().await?;
    loop {
        let Latest { sample, ended } = latest.borrow_and_update().clone();
        if ended {
            return Ok(());
        }
        if let Some(sample) = sample.filter(|sample| sample.number >= sent) {
            sent = sample.number + 1;
            out.text("event: sample\ndata: ");
            out.text(&sample.json);
            out.text("\n\n");
            out.send().await?;
        }
        // It is in `flow`, so it is there.
        latest.changed().await.map_err(|_| Gone)?;
    }
}

/// What is made of an answer, but not sent.
struct Out {
    to: Sender<Bytes>,
    bytes: Vec<u8>,
}

impl Out {
    fn text(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
    }

    /// Sends it, if the one who asked reads.
    async fn send(&mut self) -> Result<(), Gone> {
        let bytes = Bytes::from(std::mem::take(&mut self.bytes));
        let taken = timeout(FLOW_PATIENCE, self.to.send_data(bytes)).await;
        taken.map_err(|_| Gone)?.map_err(|_| Gone)?;
        // Lookups on this thread come first.
        yield_now().await;
        Ok(())
    }
}
