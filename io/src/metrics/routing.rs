//! Metrics of choices, and of the loads that they go by.
use super::{Labels, add_up, counter, gauge, seconds};
use crate::fleet::{Fleet, FleetView};
use crate::load::Scrape;
use crate::status::{RouteStatus, ThreadStatus};
use kvroute_engine::choose::{Policy, Reason};
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Unit;
use std::fmt::Result;

/// What was chosen.
pub(super) fn choices(encoder: &mut DescriptorEncoder<'_>, threads: &[ThreadStatus]) -> Result {
    let routes = || threads.iter().map(|thread| &thread.routes);
    let mut decisions = [[0; Reason::ALL.len()]; Policy::ALL.len()];
    for (policy, reason, count) in routes().flat_map(RouteStatus::decisions) {
        decisions[policy as usize][reason as usize] += count;
    }
    let help = "Targets chosen, by policy and reason; those that occurred.";
    let mut metric = counter(encoder, "kvroute_decisions", help)?;
    for policy in Policy::ALL {
        for reason in Reason::ALL {
            let count = decisions[policy as usize][reason as usize];
            if count != 0 {
                let labels = [("policy", policy.as_str()), ("reason", reason.as_str())];
                add_up(metric.encode_family(&labels)?, count)?;
            }
        }
    }
    let help = "Choices made anew because another thread had booked their target meanwhile.";
    let conflicts = routes().map(RouteStatus::conflicts).sum();
    add_up(
        counter(encoder, "kvroute_booking_conflicts", help)?,
        conflicts,
    )?;
    let help = "Targets booked although others went on booking them meanwhile.";
    let blind = routes().map(RouteStatus::blind).sum();
    add_up(counter(encoder, "kvroute_bookings_blind", help)?, blind)
}

/// How busy the workers are.
pub(super) fn loads(
    encoder: &mut DescriptorEncoder<'_>,
    fleet: &Fleet,
    view: &FleetView,
) -> Result {
    let now = fleet.clock().now();
    let help = "Requests that this node has sent to the worker, and that have neither finished nor expired.";
    let mut metric = gauge(encoder, "kvroute_worker_bookings", help, None)?;
    for info in view.workers() {
        let labels = Labels::of(info, None);
        let count = info.load().own(now).in_flight();
        metric.encode_family(&labels)?.encode_gauge(&count)?;
    }
    let help = "Requests sent to the worker of whose end nobody told in time.";
    let mut metric = counter(encoder, "kvroute_bookings_expired", help)?;
    for info in view.workers() {
        let labels = Labels::of(info, None);
        add_up(metric.encode_family(&labels)?, info.load().own(now).expired)?;
    }
    type Read = fn(&Scrape) -> u32;
    const SAID: [(&str, &str, Read); 2] = [
        (
            "kvroute_worker_running",
            "Requests that the engine last said to run.",
            |scrape| scrape.running,
        ),
        (
            "kvroute_worker_waiting",
            "Requests that the engine last said to wait.",
            |scrape| scrape.waiting,
        ),
    ];
    for (name, help, read) in SAID {
        let mut metric = gauge(encoder, name, help, None)?;
        for info in view.workers() {
            if let Some((scrape, _)) = info.load().scraped(now) {
                let labels = Labels::of(info, None);
                let count = u64::from(read(&scrape));
                metric.encode_family(&labels)?.encode_gauge(&count)?;
            }
        }
    }
    let help = "Share of the cache that the engine last said to be in use.";
    let mut metric = gauge(
        encoder,
        "kvroute_worker_cache_usage",
        help,
        Some(&Unit::Ratios),
    )?;
    for info in view.workers() {
        let scraped = info.load().scraped(now);
        if let Some(usage) = scraped.and_then(|(scrape, _)| scrape.usage) {
            let labels = Labels::of(info, None);
            metric.encode_family(&labels)?.encode_gauge(&usage)?;
        }
    }
    let help = "Time since the engine was asked for the load that it last said.";
    let mut metric = gauge(encoder, "kvroute_load_age", help, Some(&Unit::Seconds))?;
    for info in view.workers() {
        if let Some((_, age_ms)) = info.load().scraped(now) {
            let labels = Labels::of(info, None);
            metric
                .encode_family(&labels)?
                .encode_gauge(&seconds(age_ms))?;
        }
    }
    Ok(())
}
