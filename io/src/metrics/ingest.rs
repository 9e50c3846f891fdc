//! Metrics of events and of the connections that they come over.
use super::{Labels, Scale, add_up, counter, gauge, histogram, observed, of_threads};
use crate::fleet::{Fleet, FleetView, WorkerInfo};
use crate::limits::TIMES_MEASURED_ONE_OF;
use crate::status::{Counted, EventKind, ReplayOutcome, WorkerCounts, WorkerStatus};
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Unit;
use std::fmt::Result;

/// Workers whose events are followed: of others there is nothing to tell.
pub(super) fn followed(view: &FleetView) -> impl Iterator<Item = &WorkerInfo> {
    let workers = view.workers().map(|info| &**info);
    workers.filter(|info| !info.events().is_empty())
}

/// Times of batches, of all threads.
pub(super) fn batch_times(fleet: &Fleet) -> (Option<Counted<18>>, Option<Counted<19>>) {
    let (mut apply, mut lags) = (Vec::new(), Vec::new());
    fleet.measured(&mut |thread| {
        apply.push(thread.apply_times());
        lags.push(thread.lags());
    });
    (of_threads(apply.into_iter()), of_threads(lags.into_iter()))
}

/// Appends them.
pub(super) fn ingest(
    encoder: &mut DescriptorEncoder<'_>,
    fleet: &Fleet,
    view: &FleetView,
) -> Result {
    let (apply, lags) = batch_times(fleet);
    let help = "From a batch's own time stamp to its being applied, of the first live batch of each turn of a worker; 0 if its clock is ahead, a day at most. Replayed batches do not count.";
    observed(
        histogram(encoder, "kvroute_ingest_lag_seconds", help)?,
        lags,
        Scale::Seconds,
    )?;
    let help = format!(
        "Time to decode and apply one batch; one of {TIMES_MEASURED_ONE_OF} batches of a thread is measured."
    );
    let metric = histogram(encoder, "kvroute_apply_duration_seconds", &help)?;
    observed(metric, apply, Scale::Seconds)?;
    events(encoder, view)?;
    outcomes(encoder, view)?;
    numbers(encoder, view)?;
    gauges(encoder, view)
}

fn events(encoder: &mut DescriptorEncoder<'_>, view: &FleetView) -> Result {
    let help = "Events applied, by how they are written; shapes that occurred.";
    let mut metric = counter(encoder, "kvroute_events", help)?;
    for info in followed(view) {
        for (kind, shape, count) in info.status().counts().applied() {
            let labels = Labels::of(info, Some(("type", kind.as_str())));
            let labels = labels.and(("shape", shape.as_str()));
            add_up(metric.encode_family(&labels)?, count)?;
        }
    }
    let help = "Blocks in events that were applied.";
    let mut metric = counter(encoder, "kvroute_blocks", help)?;
    for info in followed(view) {
        let blocks = info.status().counts().blocks();
        for (kind, count) in [EventKind::Stored, EventKind::Removed]
            .into_iter()
            .zip(blocks)
        {
            let labels = Labels::of(info, Some(("type", kind.as_str())));
            add_up(metric.encode_family(&labels)?, count)?;
        }
    }
    Ok(())
}

fn outcomes(encoder: &mut DescriptorEncoder<'_>, view: &FleetView) -> Result {
    let help = "How replays ended; ways that occurred.";
    let mut metric = counter(encoder, "kvroute_replay_outcomes", help)?;
    for info in followed(view) {
        for &outcome in ReplayOutcome::ALL {
            let count = info.status().counts().outcome(outcome);
            if count != 0 {
                let labels = Labels::of(info, Some(("outcome", outcome.as_str())));
                add_up(metric.encode_family(&labels)?, count)?;
            }
        }
    }
    Ok(())
}

fn numbers(encoder: &mut DescriptorEncoder<'_>, view: &FleetView) -> Result {
    type Read = fn(&WorkerStatus) -> u64;
    const COUNTERS: [(&str, &str, Read); 4] = [
        (
            "kvroute_missed_batches",
            "Batches that were missing when a gap was seen, whether or not a replay has brought them.",
            |status| status.counts().missed(),
        ),
        (
            "kvroute_connections",
            "How often the event socket was connected.",
            |status| status.counts().connections()[0],
        ),
        (
            "kvroute_disconnections",
            "How often the event socket lost its connection.",
            |status| status.counts().connections()[1],
        ),
        (
            "kvroute_worker_drops",
            "How often all that the worker held was dropped.",
            WorkerStatus::drops,
        ),
    ];
    for (name, help, read) in COUNTERS {
        let mut metric = counter(encoder, name, help)?;
        for info in followed(view) {
            let labels = Labels::of(info, None);
            add_up(metric.encode_family(&labels)?, read(info.status()))?;
        }
    }
    Ok(())
}

fn gauges(encoder: &mut DescriptorEncoder<'_>, view: &FleetView) -> Result {
    type Read = fn(&WorkerCounts) -> u64;
    const GAUGES: [(&str, &str, Read); 2] = [
        (
            "kvroute_held_back_batches",
            "Live batches that are held back while a replay runs.",
            WorkerCounts::held_back,
        ),
        (
            "kvroute_worker_connected",
            "1 while the event socket is connected.",
            |counts| counts.is_connected().into(),
        ),
    ];
    for (name, help, read) in GAUGES {
        let mut metric = gauge(encoder, name, help, None)?;
        for info in followed(view) {
            let labels = Labels::of(info, None);
            let value = read(info.status().counts());
            metric.encode_family(&labels)?.encode_gauge(&value)?;
        }
    }
    let help = "Number of the last batch applied; none before the first, or after a restart.";
    let mut metric = gauge(encoder, "kvroute_worker_last_sequence", help, None)?;
    for info in followed(view) {
        if let Some(number) = info.status().last_sequence() {
            let labels = Labels::of(info, None);
            metric.encode_family(&labels)?.encode_gauge(&number)?;
        }
    }
    let help = "From the own time stamp of the live batch that was measured last to its being applied; none before the first.";
    let mut metric = gauge(encoder, "kvroute_worker_lag", help, Some(&Unit::Seconds))?;
    for info in followed(view) {
        if let Some(lag) = info.status().counts().lag() {
            let labels = Labels::of(info, None);
            let seconds = lag.as_secs_f64();
            metric.encode_family(&labels)?.encode_gauge(&seconds)?;
        }
    }
    Ok(())
}
