//! Metrics of what was predicted against what was delivered, and of decisions that nobody obeys.
use super::{Escaped, Labels, add_up, counter, gauge};
use crate::accuracy::{Sums, Totals};
use crate::fleet::{Fleet, FleetView, WorkerInfo};
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabel, EncodeLabelSet, LabelSetEncoder,
};
use std::collections::BTreeMap;
use std::fmt::Result;

/// What feedback came to.
pub(super) fn feedback(
    encoder: &mut DescriptorEncoder<'_>,
    fleet: &Fleet,
    view: &FleetView,
) -> Result {
    let help = "Feedback on cached tokens, by what it was good for.";
    let mut metric = counter(encoder, "kvroute_feedback", help)?;
    for (of, count) in fleet.feedback().uses() {
        let labels = [("use", of.as_str())];
        add_up(metric.encode_family(&labels)?, count)?;
    }
    tokens(encoder, view)?;
    let help = "How often what a worker holds was had anew because its engine did not deliver it.";
    let mut metric = counter(encoder, "kvroute_distrusts", help)?;
    for info in view.workers() {
        let labels = Labels::of(info, None);
        add_up(metric.encode_family(&labels)?, info.status().distrusts())?;
    }
    ratios(encoder, view)
}

fn tokens(encoder: &mut DescriptorEncoder<'_>, view: &FleetView) -> Result {
    type Read = fn(&Totals) -> u64;
    const TOKENS: [(&str, &str, Read); 4] = [
        (
            "kvroute_feedback_predicted_tokens",
            "Tokens that the worker was said to hold of requests with feedback.",
            |totals| totals.predicted,
        ),
        (
            "kvroute_feedback_delivered_tokens",
            "Tokens that its engine reused for them.",
            |totals| totals.delivered,
        ),
        (
            "kvroute_feedback_over_tokens",
            "Tokens that it was said to hold, and that were not reused.",
            |totals| totals.over,
        ),
        (
            "kvroute_feedback_under_tokens",
            "Tokens reused beyond those that it was said to hold.",
            |totals| totals.under,
        ),
    ];
    for (name, help, read) in TOKENS {
        let mut metric = counter(encoder, name, help)?;
        for info in view.workers() {
            let totals = info.accuracy().totals();
            if totals != Totals::default() {
                add_up(metric.encode_family(&OfModel(info))?, read(&totals))?;
            }
        }
    }
    Ok(())
}

/// Of each worker's latest comparisons, by model.
fn ratios(encoder: &mut DescriptorEncoder<'_>, view: &FleetView) -> Result {
    let mut models = BTreeMap::<&str, Sums>::new();
    for info in view.workers() {
        let latest = info.accuracy().latest();
        models.entry(&info.pod().model).or_default().merge(latest);
    }
    type Whole = fn(&Sums) -> u64;
    const RATIOS: [(&str, &str, Whole); 2] = [
        (
            "kvroute_feedback_precision",
            "Share of the tokens said to be held that was reused, in each worker's latest 32 feedbacks.",
            |sums| sums.predicted,
        ),
        (
            "kvroute_feedback_recall",
            "Share of the tokens reused that was said to be held, in each worker's latest 32 feedbacks.",
            |sums| sums.delivered,
        ),
    ];
    for (name, help, whole) in RATIOS {
        let mut metric = gauge(encoder, name, help, None)?;
        for (model, sums) in &models {
            if let Some(ratio) = ratio(sums.both, whole(sums)) {
                let labels = [("model", Escaped(model))];
                metric.encode_family(&labels)?.encode_gauge(&ratio)?;
            }
        }
    }
    Ok(())
}

/// What decisions that nobody obeyed came to.
pub(super) fn shadows(
    encoder: &mut DescriptorEncoder<'_>,
    fleet: &Fleet,
    view: &FleetView,
) -> Result {
    let shadows = fleet.feedback().shadows();
    let help = "Decisions in shadow mode whose request the caller sent to the same pod, and to another one.";
    let mut metric = counter(encoder, "kvroute_shadow_decisions", help)?;
    for (agreed, count) in [("true", shadows.agreed), ("false", shadows.disagreed)] {
        let labels = [("agreed", agreed)];
        add_up(metric.encode_family(&labels)?, count)?;
    }
    let help = "Of these, requests sent to a pod that was not among the candidates.";
    let metric = counter(encoder, "kvroute_shadow_unknown_targets", help)?;
    add_up(metric, shadows.unknown_targets)?;
    let help =
        "Tokens that could be reused where the node would have sent requests, and where they went.";
    let mut metric = counter(encoder, "kvroute_shadow_tokens", help)?;
    for (by, count) in [
        ("node", shadows.own_tokens),
        ("caller", shadows.their_tokens),
    ] {
        let labels = [("by", by)];
        add_up(metric.encode_family(&labels)?, count)?;
    }
    let mut models = BTreeMap::<&str, (u64, u64)>::new();
    for info in view.workers() {
        let (agreed, disagreed) = info.accuracy().shadows();
        let counts = models.entry(&info.pod().model).or_default();
        *counts = (counts.0 + agreed, counts.1 + disagreed);
    }
    let help = "Share of the decisions in shadow mode that the caller made, too.";
    let mut metric = gauge(encoder, "kvroute_shadow_agreement", help, None)?;
    for (model, (agreed, disagreed)) in models {
        if let Some(ratio) = ratio(agreed, agreed + disagreed) {
            let labels = [("model", Escaped(model))];
            metric.encode_family(&labels)?.encode_gauge(&ratio)?;
        }
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a ratio for the eye")]
fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole != 0).then(|| part as f64 / whole as f64)
}

/// A worker's labels, with its model.
#[derive(Debug)]
struct OfModel<'v>(&'v WorkerInfo);

impl EncodeLabelSet for OfModel<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result {
        Labels::of(self.0, None).encode(encoder)?;
        ("model", Escaped(&self.0.pod().model)).encode(encoder.encode_label())
    }
}
