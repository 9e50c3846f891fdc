//! The node's metrics in Prometheus' text format or that of OpenMetrics, read from the fleet and the threads at each
//! scrape: a worker's series go with the worker, and nothing is counted twice.
mod aibrix;
mod feedback;
mod index;
mod ingest;
mod process;
mod requests;
mod routing;
mod sources;
mod text;
mod tokenizer;

pub use text::Format;

pub use process::descriptors;

use crate::fleet::{Fleet, FleetView, WorkerInfo};
use crate::logging;
use crate::otel;
use crate::predict::LearnStatus;
use crate::status::{Counted, HttpStatus, ThreadStatus, WorkerStatus};
use crate::tokenize::Tokenizer;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabel, EncodeLabelSet, EncodeLabelValue, LabelSetEncoder,
    LabelValueEncoder, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use std::fmt::{Error, Result, Write};
use std::sync::Arc;

/// All metrics as text. O(workers).
pub fn render(
    fleet: &Arc<Fleet>,
    http: &Arc<HttpStatus>,
    threads: &Arc<[ThreadStatus]>,
    tokenizer: Option<&Tokenizer>,
    format: Format,
) -> std::result::Result<String, Error> {
    let mut registry = Registry::default();
    let metrics = NodeMetrics {
        fleet: Arc::clone(fleet),
        http: Arc::clone(http),
        threads: Arc::clone(threads),
        tokenizer: tokenizer.cloned(),
    };
    registry.register_collector(Box::new(metrics));
    let mut text = String::new();
    encode_registry(&mut text, &registry)?;
    requests::durations(&mut text, threads, format == Format::Open)?;
    match format {
        Format::Classic => text::classic(&text),
        Format::Open => {
            encode_eof(&mut text)?;
            Ok(text)
        }
    }
}

#[derive(Debug)]
struct NodeMetrics {
    fleet: Arc<Fleet>,
    http: Arc<HttpStatus>,
    threads: Arc<[ThreadStatus]>,
    tokenizer: Option<Tokenizer>,
}

impl Collector for NodeMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result {
        let view = self.fleet.view();
        process::build(&mut encoder)?;
        process::process(&mut encoder)?;
        self.node(&mut encoder, &view)?;
        index::index(&mut encoder, &self.fleet, &view)?;
        requests::requests(&mut encoder, &self.threads)?;
        requests::lookups(&mut encoder, &self.threads)?;
        sources::sources(&mut encoder, &self.fleet)?;
        self.http(&mut encoder)?;
        if let Some(tokenizer) = &self.tokenizer {
            tokenizer::encode(&mut encoder, tokenizer, &view)?;
        }
        if let Some(learner) = self.fleet.learner() {
            learnt(&mut encoder, learner.status())?;
        }
        states(&mut encoder, &view)?;
        sizes(&mut encoder, &view)?;
        routing::choices(&mut encoder, &self.threads)?;
        routing::loads(&mut encoder, &self.fleet, &view)?;
        feedback::feedback(&mut encoder, &self.fleet, &view)?;
        feedback::shadows(&mut encoder, &self.fleet, &view)?;
        counts(&mut encoder, &view)?;
        skipped(&mut encoder, &view)?;
        ingest::ingest(&mut encoder, &self.fleet, &view)?;
        let mode = self.http.sync_mode();
        aibrix::aibrix(&mut encoder, &self.fleet, &view, &self.threads, mode)
    }
}

impl NodeMetrics {
    /// What is not of one worker.
    fn node(&self, encoder: &mut DescriptorEncoder<'_>, view: &FleetView) -> Result {
        let help = "Workers by the state of their answers.";
        let mut metric = gauge(encoder, "kvroute_workers", help, None)?;
        for (state, count) in view.states() {
            let labels = [("state", state)];
            metric.encode_family(&labels)?.encode_gauge(&count)?;
        }
        let ready = self.fleet.readiness().is_ready() && !self.http.is_leaving();
        let help = "1 while the node is ready, as /readyz says it.";
        gauge(encoder, "kvroute_ready", help, None)?.encode_gauge(&u64::from(ready))?;
        let help = "Time that each step of the start took; none before its end.";
        let mut metric = gauge(encoder, "kvroute_start", help, Some(&Unit::Seconds))?;
        for (step, took) in self.fleet.start().took() {
            let labels = [("step", step.as_str())];
            metric
                .encode_family(&labels)?
                .encode_gauge(&took.as_secs_f64())?;
        }
        logged(encoder)?;
        let help = "Answers of engines over HTTP that could not be used.";
        let mut metric = counter(encoder, "kvroute_probe_failures", help)?;
        for (why, count) in self.fleet.probes().failures() {
            let labels = [("reason", why.as_str())];
            add_up(metric.encode_family(&labels)?, count)?;
        }
        Ok(())
    }

    fn http(&self, encoder: &mut DescriptorEncoder<'_>) -> Result {
        let help = "1 unless event synchronisation was asked for without the tokenizer that it needs for texts.";
        let name = "aibrix_kv_sync_configuration_valid";
        gauge(encoder, name, help, None)?
            .encode_gauge(&u64::from(self.http.sync_mode().is_valid()))?;
        let help = "Connections of HTTP clients.";
        gauge(encoder, "kvroute_http_connections", help, None)?
            .encode_gauge(&self.http.connections())?;
        let help = "Connections and requests that were turned away before they were answered.";
        let mut metric = counter(encoder, "kvroute_http_refused", help)?;
        for (why, count) in self.http.refused() {
            let labels = [("reason", why.as_str())];
            add_up(metric.encode_family(&labels)?, count)?;
        }
        let help = "Certificates, token files and configurations that were read again and could not be used.";
        let mut metric = counter(encoder, "kvroute_reload_failures", help)?;
        for (what, count) in self.http.reload_failures() {
            let labels = [("file", what.as_str())];
            add_up(metric.encode_family(&labels)?, count)?;
        }
        Ok(())
    }
}

/// What the log left out, and what became of spans.
fn logged(encoder: &mut DescriptorEncoder<'_>) -> Result {
    let help = "Lines of the log left out because their place in the code logged too many.";
    let metric = counter(encoder, "kvroute_log_suppressed", help)?;
    add_up(metric, logging::suppressed())?;
    let help = "Lines of the log lost because nobody read it fast enough.";
    let metric = counter(encoder, "kvroute_log_lost", help)?;
    add_up(metric, logging::lost())?;
    let help = "Spans that a collector has taken.";
    let metric = counter(encoder, "kvroute_spans_exported", help)?;
    add_up(metric, otel::exported())?;
    let help = "Spans that were not exported.";
    let mut metric = counter(encoder, "kvroute_spans_dropped", help)?;
    for (why, count) in otel::dropped() {
        let labels = [("reason", why)];
        add_up(metric.encode_family(&labels)?, count)?;
    }
    Ok(())
}

/// What was learnt from decisions.
fn learnt(encoder: &mut DescriptorEncoder<'_>, status: &LearnStatus) -> Result {
    let help = "Blocks that were learnt from decisions: of workers without events, and of others until their events come.";
    let mut metric = gauge(encoder, "kvroute_predicted_blocks", help, None)?;
    for (kind, blocks) in [
        ("approximate", status.approximate_blocks()),
        ("speculative", status.speculative_blocks()),
    ] {
        let labels = [("kind", kind)];
        metric.encode_family(&labels)?.encode_gauge(&blocks)?;
    }
    let help = "Decisions that were learnt from.";
    let metric = counter(encoder, "kvroute_predictions", help)?;
    add_up(metric, status.learnt())?;
    let help = "Decisions that were not learnt from, or not wholly.";
    let mut metric = counter(encoder, "kvroute_predictions_dropped", help)?;
    for (why, count) in status.unlearnt() {
        let labels = [("reason", why.as_str())];
        add_up(metric.encode_family(&labels)?, count)?;
    }
    let help = "Predicted blocks that left, or were not taken in, for want of room.";
    let metric = counter(encoder, "kvroute_predicted_blocks_evicted", help)?;
    add_up(metric, status.evicted())
}

fn states(encoder: &mut DescriptorEncoder<'_>, view: &FleetView) -> Result {
    let help = "1 for the state that the worker is in.";
    let mut metric = gauge(encoder, "kvroute_worker_state", help, None)?;
    for info in view.workers() {
        let state = info.status().trust().as_str();
        let labels = Labels::of(info, Some(("state", state)));
        metric.encode_family(&labels)?.encode_gauge(&1_u64)?;
    }
    Ok(())
}

fn sizes(encoder: &mut DescriptorEncoder<'_>, view: &FleetView) -> Result {
    let help = "Blocks that the worker holds.";
    let mut metric = gauge(encoder, "kvroute_worker_blocks", help, None)?;
    for info in view.workers() {
        let labels = Labels::of(info, None);
        let blocks = info.status().blocks();
        metric.encode_family(&labels)?.encode_gauge(&blocks)?;
    }
    let help = "Time since the worker's last message; none before the first.";
    let unit = Some(&Unit::Seconds);
    let mut metric = gauge(encoder, "kvroute_last_event_age", help, unit)?;
    for info in view.workers() {
        if let Some(age) = info.status().age_ms() {
            let labels = Labels::of(info, None);
            metric.encode_family(&labels)?.encode_gauge(&seconds(age))?;
        }
    }
    Ok(())
}

fn counts(encoder: &mut DescriptorEncoder<'_>, view: &FleetView) -> Result {
    type Read = fn(&WorkerStatus) -> u64;
    const COUNTERS: [(&str, &str, Read); 4] = [
        ("kvroute_batches", "Batches applied.", WorkerStatus::batches),
        (
            "kvroute_gaps",
            "Gaps seen in the numbers of batches.",
            WorkerStatus::gaps,
        ),
        (
            "kvroute_replays",
            "Replays asked for.",
            WorkerStatus::replays,
        ),
        (
            "kvroute_restarts",
            "Restarts of the engine noticed.",
            WorkerStatus::restarts,
        ),
    ];
    for (name, help, read) in COUNTERS {
        let mut metric = counter(encoder, name, help)?;
        for info in view.workers() {
            let labels = Labels::of(info, None);
            add_up(metric.encode_family(&labels)?, read(info.status()))?;
        }
    }
    Ok(())
}

fn skipped(encoder: &mut DescriptorEncoder<'_>, view: &FleetView) -> Result {
    let help = "Events, batches and frames that were not applied; reasons that occurred.";
    let mut metric = counter(encoder, "kvroute_events_skipped", help)?;
    for info in view.workers() {
        for (why, shape, count) in info.status().counts().skipped() {
            let labels = Labels::of(info, Some(("reason", why.as_str())));
            let labels = labels.and(("shape", shape));
            add_up(metric.encode_family(&labels)?, count)?;
        }
    }
    Ok(())
}

fn gauge<'e>(
    encoder: &'e mut DescriptorEncoder<'_>,
    name: &'e str,
    help: &str,
    unit: Option<&'e Unit>,
) -> std::result::Result<MetricEncoder<'e>, Error> {
    encoder.encode_descriptor(name, help, unit, MetricType::Gauge)
}

fn counter<'e>(
    encoder: &'e mut DescriptorEncoder<'_>,
    name: &'e str,
    help: &str,
) -> std::result::Result<MetricEncoder<'e>, Error> {
    encoder.encode_descriptor(name, help, None, MetricType::Counter)
}

fn histogram<'e>(
    encoder: &'e mut DescriptorEncoder<'_>,
    name: &'e str,
    help: &str,
) -> std::result::Result<MetricEncoder<'e>, Error> {
    encoder.encode_descriptor(name, help, None, MetricType::Histogram)
}

/// What a histogram's numbers stand for.
#[derive(Clone, Copy, Debug)]
enum Scale {
    /// Nanoseconds, told in seconds.
    Seconds,
    /// Themselves.
    One,
}

impl Scale {
    #[expect(
        clippy::cast_precision_loss,
        reason = "sums of times for the eye; bounds are exact"
    )]
    fn of(self, value: u64) -> f64 {
        match self {
            Self::Seconds => value as f64 / 1e9,
            Self::One => value as f64,
        }
    }
}

/// Writes a histogram, if anybody counts one.
fn observed<const N: usize>(
    mut metric: MetricEncoder<'_>,
    counted: Option<Counted<N>>,
    scale: Scale,
) -> Result {
    let Some(counted) = counted else {
        return Ok(());
    };
    let mut buckets = Vec::with_capacity(N + 1);
    let bounds = counted.bounds.iter().map(|&bound| scale.of(bound));
    buckets.extend(bounds.zip(counted.buckets));
    // The library's word for no bound.
    buckets.push((f64::MAX, counted.above));
    let (sum, count) = (scale.of(counted.sum), counted.count());
    metric.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
}

/// What all threads have counted; `None` without any thread.
fn of_threads<const N: usize>(mut each: impl Iterator<Item = Counted<N>>) -> Option<Counted<N>> {
    let mut sums = each.next()?;
    each.for_each(|counted| sums.add(&counted));
    Some(sums)
}

fn add_up(mut metric: MetricEncoder<'_>, count: u64) -> Result {
    metric.encode_counter::<NoLabelSet, u64, f64>(&count, None)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "exact up to 285,000 years in milliseconds"
)]
fn seconds(milliseconds: u64) -> f64 {
    milliseconds as f64 / 1_000.0
}

/// A worker's labels, and up to two of the series.
#[derive(Debug)]
struct Labels<'v> {
    pod: &'v str,
    rank: u32,
    further: [Option<(&'static str, &'static str)>; 2],
}

impl<'v> Labels<'v> {
    fn of(info: &'v WorkerInfo, further: Option<(&'static str, &'static str)>) -> Self {
        Self {
            pod: &info.pod().pod,
            rank: info.rank(),
            further: [further, None],
        }
    }

    fn and(mut self, label: (&'static str, &'static str)) -> Self {
        self.further[1] = Some(label);
        self
    }
}

impl EncodeLabelSet for Labels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result {
        ("pod", Escaped(self.pod)).encode(encoder.encode_label())?;
        ("rank", self.rank).encode(encoder.encode_label())?;
        for label in self.further.iter().flatten() {
            label.encode(encoder.encode_label())?;
        }
        Ok(())
    }
}

/// A label's value from outside. The library writes values as they are.
#[derive(Debug)]
struct Escaped<'v>(&'v str);

impl EncodeLabelValue for Escaped<'_> {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result {
        self.0.chars().try_for_each(|c| match c {
            '\\' => encoder.write_str(r"\\"),
            '"' => encoder.write_str("\\\""),
            '\n' => encoder.write_str(r"\n"),
            c => encoder.write_char(c),
        })
    }
}
