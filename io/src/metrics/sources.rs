//! Metrics of the sources of pods.
use super::{add_up, counter, gauge, seconds};
use crate::fleet::{Fleet, SourceReport};
use crate::status::now_ms;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Unit;
use std::fmt::Result;

/// How each source stands that there is.
pub(super) fn sources(encoder: &mut DescriptorEncoder<'_>, fleet: &Fleet) -> Result {
    type Read = fn(&SourceReport) -> u64;
    const GAUGES: [(&str, &str, Read); 2] = [
        (
            "kvroute_source_pods",
            "Pods that the source describes, refused ones included.",
            |report| report.pods as u64,
        ),
        (
            "kvroute_source_following",
            "1 while the source is heard and all that it described first is in the fleet.",
            |report| u64::from(report.state == "following"),
        ),
    ];
    const COUNTERS: [(&str, &str, Read); 2] = [
        (
            "kvroute_source_updates",
            "How often the source described something else than before.",
            |report| report.updates,
        ),
        (
            "kvroute_source_failures",
            "How often the source could not be heard or understood.",
            |report| report.failures,
        ),
    ];
    let reports = fleet.sources().reports();
    for (name, help, read) in GAUGES {
        let mut metric = gauge(encoder, name, help, None)?;
        for report in &reports {
            let labels = [("source", report.source)];
            metric.encode_family(&labels)?.encode_gauge(&read(report))?;
        }
    }
    let help = "Pods that the source describes and the fleet does not have from it; reasons that there are.";
    let mut metric = gauge(encoder, "kvroute_source_refused", help, None)?;
    for report in &reports {
        for (reason, count) in &report.refused_by {
            let labels = [("source", report.source), ("reason", *reason)];
            metric
                .encode_family(&labels)?
                .encode_gauge(&(*count as u64))?;
        }
    }
    for (name, help, read) in COUNTERS {
        let mut metric = counter(encoder, name, help)?;
        for report in &reports {
            let labels = [("source", report.source)];
            add_up(metric.encode_family(&labels)?, read(report))?;
        }
    }
    let help = "Time since the source was heard; none before the first time.";
    let unit = Some(&Unit::Seconds);
    let mut metric = gauge(encoder, "kvroute_source_heard_age", help, unit)?;
    let now = now_ms();
    for report in &reports {
        if let Some(heard) = report.heard_ms {
            let labels = [("source", report.source)];
            let age = seconds(now.saturating_sub(heard));
            metric.encode_family(&labels)?.encode_gauge(&age)?;
        }
    }
    Ok(())
}
