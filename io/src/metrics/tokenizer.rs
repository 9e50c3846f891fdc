//! What became of prompts that came as text.
use super::{Escaped, Scale, add_up, counter, gauge, histogram, observed};
use crate::fleet::FleetView;
use crate::tokenize::local::State;
use crate::tokenize::{Origin, Tokenizer};
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Unit;
use std::fmt::Result;

/// Appends them.
pub(super) fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    tokenizer: &Tokenizer,
    view: &FleetView,
) -> Result {
    let counts = tokenizer.counts();
    let (cached, told) = counts.tokens();
    let help = "Prompts that came as text, by where their tokens came from.";
    let mut metric = counter(encoder, "kvroute_tokenizer_prompts", help)?;
    for (from, count) in [("cache", cached), ("engine", told)] {
        add_up(metric.encode_family(&[("from", from)])?, count)?;
    }
    let help = "Prompts that came as text and have no tokens.";
    let mut metric = counter(encoder, "kvroute_tokenizer_failures", help)?;
    for (why, count) in counts.failures() {
        add_up(metric.encode_family(&[("reason", why)])?, count)?;
    }
    let [calls, hedges, retries] = counts.calls();
    for (name, help, count) in [
        ("kvroute_tokenizer_calls", "Calls of /tokenize.", calls),
        (
            "kvroute_tokenizer_hedges",
            "Calls of a second pod beside a first one that is slow.",
            hedges,
        ),
        (
            "kvroute_tokenizer_retries",
            "Calls after one that had failed.",
            retries,
        ),
        (
            "kvroute_tokenizer_shared",
            "Prompts that shared the call of an equal one.",
            counts.shared(),
        ),
    ] {
        add_up(counter(encoder, name, help)?, count)?;
    }
    let help = "Calls of /tokenize under way.";
    gauge(encoder, "kvroute_tokenizer_calls_now", help, None)?.encode_gauge(&counts.calls_now())?;
    let (entries, bytes) = tokenizer.cache_size();
    let help = "Prompts whose tokens are remembered.";
    gauge(encoder, "kvroute_tokenizer_cache_entries", help, None)?.encode_gauge(&entries)?;
    let help = "Memory that remembered tokens take.";
    let unit = Some(&Unit::Bytes);
    gauge(encoder, "kvroute_tokenizer_cache", help, unit)?.encode_gauge(&bytes)?;
    times(encoder, tokenizer, view)?;
    locally(encoder, tokenizer)
}

/// How long it took.
fn times(encoder: &mut DescriptorEncoder<'_>, tokenizer: &Tokenizer, view: &FleetView) -> Result {
    let times = tokenizer.counts().times();
    let help = "From a prompt to its tokens, by where they came from.";
    let mut metric = histogram(encoder, "kvroute_tokenizer_duration_seconds", help)?;
    for origin in Origin::ALL {
        let labels = [("from", origin.as_str())];
        let metric = metric.encode_family(&labels)?;
        observed(metric, Some(times.of(origin)), Scale::Seconds)?;
    }
    let asked = times.asked(view);
    let help = "Prompts that engines were asked for.";
    let mut metric = counter(encoder, "aibrix_tokenizer_pool_requests", help)?;
    for (model, counted) in &asked {
        let labels = [("model", Escaped(model))];
        add_up(metric.encode_family(&labels)?, counted.count())?;
    }
    let help = "Time of prompts that engines were asked for, whatever came of it.";
    let mut metric = histogram(encoder, "aibrix_tokenizer_pool_latency_seconds", help)?;
    for (model, counted) in &asked {
        let labels = [("model", Escaped(model))];
        observed(
            metric.encode_family(&labels)?,
            Some(*counted),
            Scale::Seconds,
        )?;
    }
    Ok(())
}

/// Of those in this process.
fn locally(encoder: &mut DescriptorEncoder<'_>, tokenizer: &Tokenizer) -> Result {
    let locals = || tokenizer.locals().all();
    let help = "1 for the state of the model's local tokenizer.";
    let mut metric = gauge(encoder, "kvroute_local_tokenizer_state", help, None)?;
    for local in locals() {
        for state in State::ALL {
            let labels = [("model", local.name()), ("state", state.as_str())];
            let is = u64::from(local.state() == state);
            metric.encode_family(&labels)?.encode_gauge(&is)?;
        }
    }
    let help = "Prompts that a local tokenizer was asked for, by what became of them.";
    let mut metric = counter(encoder, "kvroute_local_tokenizer_prompts", help)?;
    for local in locals() {
        for (outcome, count) in local.outcomes() {
            let labels = [("model", local.name()), ("outcome", outcome)];
            add_up(metric.encode_family(&labels)?, count)?;
        }
    }
    let help = "Comparisons of a local tokenizer with the engines; all probes together are one.";
    let mut metric = counter(encoder, "kvroute_local_tokenizer_comparisons", help)?;
    for local in locals() {
        for (outcome, count) in local.comparisons() {
            let labels = [("model", local.name()), ("outcome", outcome)];
            add_up(metric.encode_family(&labels)?, count)?;
        }
    }
    Ok(())
}
