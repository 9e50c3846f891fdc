//! Metrics of requests and lookups.
use super::{Scale, add_up, counter, gauge, histogram, observed, of_threads};
use crate::limits::TIMES_MEASURED_ONE_OF;
use crate::status::{CodeClass, Endpoint, LookupKind, SHARES, ThreadStatus};
use prometheus_client::encoding::DescriptorEncoder;
use std::fmt::{Result, Write};

/// What requests came to, but for the time that they took.
pub(super) fn requests(encoder: &mut DescriptorEncoder<'_>, threads: &[ThreadStatus]) -> Result {
    let help = "Requests that were answered.";
    let mut metric = counter(encoder, "kvroute_requests", help)?;
    for &endpoint in Endpoint::ALL {
        for &code in CodeClass::ALL {
            let labels = [("endpoint", endpoint.as_str()), ("code", code.as_str())];
            let counts = threads.iter().map(|t| t.requests.answered(endpoint, code));
            add_up(metric.encode_family(&labels)?, counts.sum())?;
        }
    }
    let help = "Requests under way.";
    let now: u64 = threads.iter().map(|t| t.requests.under_way()).sum();
    gauge(encoder, "kvroute_requests_in_flight", help, None)?.encode_gauge(&now)
}

/// What lookups came to.
pub(super) fn lookups(encoder: &mut DescriptorEncoder<'_>, threads: &[ThreadStatus]) -> Result {
    let help = format!(
        "Time of one lookup in the index, block keys included; one of {TIMES_MEASURED_ONE_OF} lookups is measured."
    );
    let mut metric = histogram(encoder, "kvroute_lookup_duration_seconds", &help)?;
    for &kind in LookupKind::ALL {
        let sums = of_threads(threads.iter().map(|t| t.lookups.times(kind)));
        let labels = [("kind", kind.as_str())];
        observed(metric.encode_family(&labels)?, sums, Scale::Seconds)?;
    }
    let help =
        "Tokens of prompts that were looked up, and those of them that the best candidate holds.";
    let mut metric = counter(encoder, "kvroute_lookup_tokens", help)?;
    for (at, result) in ["asked", "matched"].into_iter().enumerate() {
        let sum = threads.iter().map(|t| t.lookups.tokens()[at]).sum();
        add_up(metric.encode_family(&[("result", result)])?, sum)?;
    }
    let help = "Lookups by the share of the prompt's whole blocks that the best candidate holds, in percent.";
    let mut metric = counter(encoder, "kvroute_lookup_matches", help)?;
    for (at, percent) in SHARES.into_iter().enumerate() {
        let sum = threads.iter().map(|t| t.lookups.shares()[at]).sum();
        add_up(metric.encode_family(&[("percent", percent)])?, sum)?;
    }
    Ok(())
}

/// The time that requests took. Written by hand, since the library lets nobody make an exemplar but its own histograms,
/// which are slower and cannot be summed.
pub(super) fn durations(text: &mut String, threads: &[ThreadStatus], exemplars: bool) -> Result {
    const NAME: &str = "kvroute_request_duration_seconds";
    writeln!(
        text,
        "# HELP {NAME} From a request's head to its answer, tokenizer included; exemplars are the latest request of each bucket."
    )?;
    writeln!(text, "# TYPE {NAME} histogram")?;
    for &endpoint in Endpoint::ALL {
        let Some(sums) = of_threads(threads.iter().map(|t| t.requests.times(endpoint))) else {
            continue;
        };
        let named = |at: usize| {
            let latest = threads
                .iter()
                .filter_map(|t| t.requests.latest(endpoint)[at]);
            latest
                .max_by_key(|&(.., at_ms)| at_ms)
                .filter(|_| exemplars)
        };
        let endpoint = endpoint.as_str();
        let mut cumulative = 0;
        for (at, count) in sums.buckets.iter().chain([&sums.above]).enumerate() {
            cumulative += count;
            let bound = match sums.bounds.get(at) {
                Some(&bound) => Scale::Seconds.of(bound).to_string(),
                None => "+Inf".to_owned(),
            };
            write!(
                text,
                "{NAME}_bucket{{endpoint=\"{endpoint}\",le=\"{bound}\"}} {cumulative}"
            )?;
            match named(at) {
                Some((name, took, _)) => {
                    let (label, took) = (name.label(), Scale::Seconds.of(took));
                    writeln!(text, " # {{{label}=\"{name}\"}} {took}")?;
                }
                None => writeln!(text)?,
            }
        }
        let sum = Scale::Seconds.of(sums.sum);
        writeln!(text, "{NAME}_sum{{endpoint=\"{endpoint}\"}} {sum}")?;
        writeln!(text, "{NAME}_count{{endpoint=\"{endpoint}\"}} {cumulative}")?;
    }
    Ok(())
}
