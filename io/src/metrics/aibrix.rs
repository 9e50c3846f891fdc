//! The same counters under AIBrix's names, so that its dashboards and alerts go on. What AIBrix counts and this node cannot
//! is left out.
use super::ingest::{batch_times, followed};
use super::{Escaped, Scale, add_up, counter, gauge, histogram, observed};
use crate::fleet::{Fleet, FleetView, WorkerInfo};
use crate::status::{
    Counted, EventKind, LATENCY_BOUNDS, MATCH_BUCKETS, ModelSums, ReplayOutcome, RouteError,
    SkipReason, SyncMode, ThreadStatus, Trust, UNKNOWN_MODEL, WorkerCounts, WorkerStatus,
};
use kvroute_engine::choose::Reason;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabel, EncodeLabelSet, LabelSetEncoder,
};
use std::collections::BTreeMap;
use std::fmt::Result;

/// Appends them.
pub(super) fn aibrix(
    encoder: &mut DescriptorEncoder<'_>,
    fleet: &Fleet,
    view: &FleetView,
    threads: &[ThreadStatus],
    mode: SyncMode,
) -> Result {
    sockets(encoder, view)?;
    connections(encoder, view)?;
    events(encoder, view)?;
    let help = "Time to decode and apply one batch, of those that are measured, over all pods.";
    let name = "aibrix_kvcache_zmq_event_processing_duration_seconds";
    let apply = batch_times(fleet).0.map(without_the_first_three);
    observed(histogram(encoder, name, help)?, apply, Scale::Seconds)?;
    errors(encoder, view)?;
    let sync = match mode {
        SyncMode::Decisions | SyncMode::DecisionsWithTokenizer => "false",
        _ => "true",
    };
    let models = models(view, threads);
    choices(encoder, &models, sync)?;
    latencies(encoder, &models, sync)?;
    indexer(encoder, fleet, view, &models)
}

/// A worker, as AIBrix names pods, with our rank.
#[derive(Debug)]
struct Of<'v> {
    info: &'v WorkerInfo,
    further: Option<(&'static str, &'static str)>,
}

impl EncodeLabelSet for Of<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result {
        ("pod_key", Escaped(&self.info.pod().pod)).encode(encoder.encode_label())?;
        ("rank", self.info.rank()).encode(encoder.encode_label())?;
        match self.further {
            Some(label) => label.encode(encoder.encode_label()),
            None => Ok(()),
        }
    }
}

fn sockets(encoder: &mut DescriptorEncoder<'_>, view: &FleetView) -> Result {
    type Read = fn(&WorkerStatus) -> u64;
    const COUNTERS: [(&str, &str, Read); 6] = [
        (
            "aibrix_kvcache_zmq_connections",
            "How often the event socket was connected.",
            |status| status.counts().connections()[0],
        ),
        (
            "aibrix_kvcache_zmq_disconnections",
            "How often the event socket lost its connection.",
            |status| status.counts().connections()[1],
        ),
        (
            "aibrix_kvcache_zmq_missed_events",
            "Batches that were missing when a gap was seen.",
            |status| status.counts().missed(),
        ),
        (
            "aibrix_kvcache_zmq_replay_requests",
            "Replays asked for.",
            WorkerStatus::replays,
        ),
        (
            "aibrix_kvcache_zmq_replay_success",
            "Replays that brought all that was asked for.",
            |status| status.counts().outcome(ReplayOutcome::Complete),
        ),
        (
            "aibrix_kvcache_zmq_replay_failures",
            "Replays that did not: some was missing, no answer in time, or no replay.",
            |status| {
                let failed = [
                    ReplayOutcome::Partial,
                    ReplayOutcome::Silent,
                    ReplayOutcome::Failed,
                ];
                failed.map(|how| status.counts().outcome(how)).iter().sum()
            },
        ),
    ];
    for (name, help, read) in COUNTERS {
        let mut metric = counter(encoder, name, help)?;
        for info in followed(view) {
            let labels = Of {
                info,
                further: None,
            };
            add_up(metric.encode_family(&labels)?, read(info.status()))?;
        }
    }
    Ok(())
}

fn connections(encoder: &mut DescriptorEncoder<'_>, view: &FleetView) -> Result {
    type Gauge = fn(&WorkerStatus) -> Option<u64>;
    const GAUGES: [(&str, &str, Gauge); 2] = [
        (
            "aibrix_kvcache_zmq_connection_status",
            "1 while the event socket is connected.",
            |status| Some(status.counts().is_connected().into()),
        ),
        (
            "aibrix_kvcache_zmq_last_sequence_id",
            "Number of the last batch applied.",
            WorkerStatus::last_sequence,
        ),
    ];
    for (name, help, read) in GAUGES {
        let mut metric = gauge(encoder, name, help, None)?;
        for info in followed(view) {
            if let Some(value) = read(info.status()) {
                let labels = Of {
                    info,
                    further: None,
                };
                metric.encode_family(&labels)?.encode_gauge(&value)?;
            }
        }
    }
    Ok(())
}

const EVENT_TYPES: [(EventKind, &str); 3] = [
    (EventKind::Stored, "BLOCK_STORED"),
    (EventKind::Removed, "BLOCK_REMOVED"),
    (EventKind::Cleared, "ALL_BLOCKS_CLEARED"),
];

fn events(encoder: &mut DescriptorEncoder<'_>, view: &FleetView) -> Result {
    type Read = fn(&WorkerCounts, EventKind) -> u64;
    const COUNTERS: [(&str, &str, Read); 2] = [
        (
            "aibrix_kvcache_zmq_events_received",
            "Events that were understood.",
            |counts, kind| counts.of_kind(kind).1,
        ),
        (
            "aibrix_kvcache_zmq_events_processed",
            "Events that were applied.",
            |counts, kind| counts.of_kind(kind).0,
        ),
    ];
    for (name, help, read) in COUNTERS {
        let mut metric = counter(encoder, name, help)?;
        for info in followed(view) {
            for (kind, word) in EVENT_TYPES {
                let further = Some(("event_type", word));
                let count = read(info.status().counts(), kind);
                add_up(metric.encode_family(&Of { info, further })?, count)?;
            }
        }
    }
    Ok(())
}

fn errors(encoder: &mut DescriptorEncoder<'_>, view: &FleetView) -> Result {
    let help = "What went wrong with sockets, with decoding and with applying events.";
    let mut metric = counter(encoder, "aibrix_kvcache_zmq_errors", help)?;
    for info in followed(view) {
        let counts = info.status().counts();
        let (mut decode, mut handle) = (0, 0);
        for (reason, _, count) in counts.skipped() {
            match error_of(reason) {
                Some("decode") => decode += count,
                Some(_) => handle += count,
                None => {}
            }
        }
        let errors = [
            ("consume_events", counts.socket_failures()),
            ("decode", decode),
            ("handle_event", handle),
        ];
        for (word, count) in errors {
            let further = Some(("error_type", word));
            add_up(metric.encode_family(&Of { info, further })?, count)?;
        }
    }
    Ok(())
}

/// What AIBrix would call it; nothing if it is no error.
const fn error_of(reason: SkipReason) -> Option<&'static str> {
    match reason {
        SkipReason::UnknownTag
        | SkipReason::Shape
        | SkipReason::Field
        | SkipReason::MissingField
        | SkipReason::TokenPairs
        | SkipReason::MalformedBatch
        | SkipReason::Framing
        | SkipReason::FrameTooLarge => Some("decode"),
        SkipReason::Counts
        | SkipReason::Group
        | SkipReason::Medium
        | SkipReason::Contexts
        | SkipReason::WaitingFull
        | SkipReason::IndexFull
        | SkipReason::HashConflict => Some("handle_event"),
        SkipReason::Duplicate
        | SkipReason::OtherLife
        | SkipReason::HeldBackFull
        | SkipReason::UnknownRemoval => None,
    }
}

/// AIBrix's bounds begin at 10 us.
fn without_the_first_three(counted: Counted<18>) -> Counted<15> {
    let mut fewer = Counted::none(LATENCY_BOUNDS);
    for (at, count) in counted.buckets.into_iter().enumerate() {
        fewer.buckets[at.saturating_sub(3)] += count;
    }
    fewer.above = counted.above;
    fewer.sum = counted.sum;
    fewer
}

/// What all threads have counted of each model of the fleet, and of those that nobody serves.
fn models(view: &FleetView, threads: &[ThreadStatus]) -> BTreeMap<String, ModelSums> {
    let served = view.models();
    let mut models: BTreeMap<_, _> = served
        .map(|model| (model.to_owned(), ModelSums::default()))
        .collect();
    models.entry(UNKNOWN_MODEL.to_owned()).or_default();
    for model in threads.iter().flat_map(|thread| thread.models.all()) {
        if let Some(sums) = models.get_mut(model.name()) {
            model.add_to(sums);
        }
    }
    models
}

type Models = BTreeMap<String, ModelSums>;

fn choices(encoder: &mut DescriptorEncoder<'_>, models: &Models, sync: &'static str) -> Result {
    let of = |model| [("model", Escaped(model)), ("using_kv_sync", Escaped(sync))];
    let help = "Targets chosen, by the share of the prompt's whole blocks that the target holds.";
    let mut metric = counter(encoder, "aibrix_prefix_cache_routing_decisions", help)?;
    for (model, sums) in models {
        for (bucket, count) in MATCH_BUCKETS.into_iter().zip(sums.shares) {
            let labels = (of(model), [("match_percent_bucket", bucket)]);
            add_up(metric.encode_family(&labels)?, count)?;
        }
    }
    let help = "Targets chosen by the policy prefix-cache, by how; ways that occurred.";
    let mut metric = counter(encoder, "aibrix_prefix_cache_routing_selection", help)?;
    for (model, sums) in models {
        for (reason, count) in Reason::ALL.into_iter().zip(sums.selections) {
            if count != 0 {
                let labels = (of(model), [("selection", reason.as_str())]);
                add_up(metric.encode_family(&labels)?, count)?;
            }
        }
    }
    let help = "Requests for which no target was chosen, by reason.";
    let mut metric = counter(encoder, "aibrix_prefix_cache_routing_errors", help)?;
    for (model, sums) in models {
        for (why, count) in RouteError::ALL.iter().zip(sums.errors) {
            if count != 0 || (model == UNKNOWN_MODEL) == (*why == RouteError::UnknownModel) {
                let labels = (of(model), [("reason", why.as_str())]);
                add_up(metric.encode_family(&labels)?, count)?;
            }
        }
    }
    let help = "Choices for which loads were so far apart that only the idlest were admitted.";
    let mut metric = counter(encoder, "aibrix_prefix_cache_load_imbalance", help)?;
    for (model, sums) in models {
        add_up(metric.encode_family(&of(model))?, sums.imbalanced)?;
    }
    Ok(())
}

fn latencies(encoder: &mut DescriptorEncoder<'_>, models: &Models, sync: &'static str) -> Result {
    let help =
        "Time of a choice, its lookup included and the tokenizer not, of those that are measured.";
    let name = "aibrix_prefix_cache_routing_latency_seconds";
    let mut metric = histogram(encoder, name, help)?;
    for (model, sums) in models {
        let labels = [("model", Escaped(model)), ("using_kv_sync", Escaped(sync))];
        observed(
            metric.encode_family(&labels)?,
            Some(sums.took),
            Scale::Seconds,
        )?;
    }
    let help = "Share of the prompt's whole blocks that the chosen target holds.";
    let mut metric = histogram(encoder, "aibrix_sync_indexer_match_percentage", help)?;
    for (model, sums) in models {
        let labels = [("model", Escaped(model))];
        observed(
            metric.encode_family(&labels)?,
            Some(sums.percents),
            Scale::One,
        )?;
    }
    Ok(())
}

fn indexer(
    encoder: &mut DescriptorEncoder<'_>,
    fleet: &Fleet,
    view: &FleetView,
    models: &Models,
) -> Result {
    let help =
        "1 if some pod of the model is known by its events (sync), or by decisions only (local).";
    let mut metric = gauge(encoder, "aibrix_prefix_cache_indexer_status", help, None)?;
    for model in models.keys().filter(|model| *model != UNKNOWN_MODEL) {
        let trusts = || {
            view.of_model(model)
                .iter()
                .map(|info| info.status().trust())
        };
        let synced = trusts().any(|t| matches!(t, Trust::Exact | Trust::Partial));
        let local = trusts().any(|t| t == Trust::Approximate);
        for (kind, is) in [("sync", synced), ("local", local)] {
            let labels = [("model", Escaped(model)), ("indexer_type", Escaped(kind))];
            metric
                .encode_family(&labels)?
                .encode_gauge(&u64::from(is))?;
        }
    }
    let mut contexts: BTreeMap<&str, u64> = view.models().map(|model| (model, 0)).collect();
    fleet.index().each_context(|model, _, _| {
        if let Some(count) = contexts.get_mut(model) {
            *count += 1;
        }
    });
    let help = "Adapters and block sizes of which blocks are held.";
    let mut metric = gauge(encoder, "aibrix_sync_indexer_contexts", help, None)?;
    for (model, count) in &contexts {
        let labels = [("model", Escaped(model))];
        metric.encode_family(&labels)?.encode_gauge(count)?;
    }
    let help = "Names of blocks that are known, over all workers.";
    let names: u64 = view.workers().map(|info| info.status().blocks()).sum();
    gauge(encoder, "aibrix_sync_indexer_mappings", help, None)?.encode_gauge(&names)?;
    let help = "Blocks of workers that were forgotten, by reason.";
    let mut metric = counter(encoder, "aibrix_sync_indexer_evictions", help)?;
    let evicted = fleet.index().evicted();
    add_up(metric.encode_family(&[("reason", "budget")])?, evicted)
}
