//! The outcomes of a simulation as a table for people and as JSON.
use super::{Difference, Hardware, Options, Outcome, Spread, Trace};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// How the trace was changed before it was played.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Times as fast.
    pub speed: f64,
    /// Whether requests of one moment were spread until the next.
    pub spread: bool,
}

/// What was simulated, in lines of a caption.
#[must_use]
pub fn caption(trace: &Trace, pace: Pace, options: &Options) -> Vec<String> {
    let requests = trace.requests();
    let prompts: u64 = requests.iter().map(|r| u64::from(r.input)).sum();
    let last = requests.last().map_or(0, |request| request.at);
    let seconds = last as f64 / 1e6;
    let rate = requests.len() as f64 / seconds.max(1e-6);
    let coarse = if pace.spread {
        ", spread between the trace's times"
    } else {
        ""
    };
    let tokens = u64::from(options.cache_blocks) * u64::from(options.block_size);
    let rules = &options.rules;
    vec![
        format!(
            "{} requests in {seconds:.0} s ({rate:.2} a second, {} x the trace's speed{coarse}), {:.0} prompt tokens a second",
            requests.len(),
            pace.speed,
            prompts as f64 / seconds.max(1e-6),
        ),
        format!(
            "{} pods, {}: {} blocks of {} ({tokens} tokens) each",
            options.pods,
            options.hardware.about(),
            options.cache_blocks,
            options.block_size
        ),
        format!(
            "seed {}, events after {} ms, metrics every {} ms, requests taken for finished after {} s, speculative {} s, approximate {} s and {} blocks",
            options.seed,
            options.event_delay_us as f64 / 1e3,
            options.scrape_interval_us / 1_000,
            options.request_ms / 1_000,
            options.speculative_ms as f64 / 1e3,
            options.approximate_ms as f64 / 1e3,
            options.approximate_blocks
        ),
        format!(
            "prefix-cache: imbalance {}, deviations {}; cost: prefill {}, decode {}",
            rules.imbalance,
            rules.deviations,
            f64::from(rules.weights.prefill) / 1e3,
            f64::from(rules.weights.decode) / 1e3
        ),
    ]
}

/// One column of the table: its head, its unit, and what stands in it.
type Column = (&'static str, &'static str, fn(&Outcome) -> String);

const COLUMNS: &[Column] = &[
    ("policy", "", |o| o.strategy.as_str().to_owned()),
    ("hits", "%", |o| format!("{:.1}", 100.0 * o.hit_ratio())),
    ("saved", "Mtok", |o| {
        format!("{:.1}", o.saved_tokens as f64 / 1e6)
    }),
    ("TTFT mean", "s", |o| format!("{:.2}", o.ttft.mean)),
    ("p50", "s", |o| format!("{:.2}", o.ttft.p50)),
    ("p90", "s", |o| format!("{:.2}", o.ttft.p90)),
    ("p99", "s", |o| format!("{:.2}", o.ttft.p99)),
    ("latency p50", "s", |o| format!("{:.1}", o.latency.p50)),
    ("p99", "s", |o| format!("{:.1}", o.latency.p99)),
    ("output", "tok/s", |o| format!("{:.0}", o.output_rate())),
    ("busy", "%", |o| format!("{:.0}", 100.0 * o.busy())),
    ("prefill", "max/mean", |o| {
        format!("{:.2}", o.prefill_imbalance())
    }),
    ("in flight", "cv", |o| {
        format!("{:.2}", o.in_flight_variation)
    }),
    ("preempted", "", |o| o.preemptions.to_string()),
];

const KNOWN: &[Column] = &[
    ("policy", "", |o| o.strategy.as_str().to_owned()),
    ("index = cache", "% of choices", |o| {
        share(o.indexed.equal, o.requests)
    }),
    ("over", "tok", |o| o.indexed.over.to_string()),
    ("under", "tok", |o| o.indexed.under.to_string()),
    ("expected = reused", "% of requests", |o| {
        o.expected
            .map_or("-".to_owned(), |d| share(d.equal, o.requests))
    }),
    ("over", "tok", |o| of(o.expected, |d| d.over)),
    ("under", "tok", |o| of(o.expected, |d| d.under)),
    ("compared at the end", "(all equal)", |o| {
        o.compared.to_string()
    }),
    ("events", "MB", |o| {
        format!("{:.0}", o.event_bytes as f64 / 1e6)
    }),
];

fn share(part: u64, whole: u64) -> String {
    format!("{:.2}", 100.0 * part as f64 / whole.max(1) as f64)
}

fn of(difference: Option<Difference>, part: fn(Difference) -> u64) -> String {
    difference.map_or("-".to_owned(), |difference| part(difference).to_string())
}

/// The table, with its caption.
#[must_use]
pub fn table(caption: &[String], outcomes: &[Outcome]) -> String {
    let mut out = String::new();
    for line in caption {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{line}");
    }
    for (about, columns) in [
        ("What it comes to", COLUMNS),
        (
            "What was known: the index against the chosen pod's cache when it was chosen, and what was expected against what was reused",
            KNOWN,
        ),
    ] {
        let _ = writeln!(out, "\n{about}");
        out.push_str(&columns_of(columns, outcomes));
    }
    out
}

fn columns_of(columns: &[Column], outcomes: &[Outcome]) -> String {
    let heads = columns.iter().map(|(head, _, _)| (*head).to_owned());
    let units = columns.iter().map(|(_, unit, _)| (*unit).to_owned());
    let mut rows: Vec<Vec<String>> = vec![heads.collect(), units.collect()];
    for outcome in outcomes {
        rows.push(columns.iter().map(|(_, _, of)| of(outcome)).collect());
    }
    let width = |at: usize| rows.iter().map(|row| row[at].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut out = String::new();
    for row in &rows {
        let mut line = String::new();
        for (at, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let width = *width;
            let _ = match at {
                0 => write!(line, "{cell:<width$}"),
                _ => write!(line, "  {cell:>width$}"),
            };
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// All of it as JSON: what was simulated, and an object for each run. Times in seconds.
#[must_use]
pub fn json(trace: &Trace, pace: Pace, options: &Options, outcomes: &[Outcome]) -> Value {
    json!({
        "requests": trace.requests().len(),
        "speed": pace.speed,
        "spread": pace.spread,
        "pods": options.pods,
        "seed": options.seed,
        "engine": options.hardware.as_str(),
        "block_size": options.block_size,
        "cache_blocks": options.cache_blocks,
        "imbalance": options.rules.imbalance,
        "deviations": options.rules.deviations,
        "cost_prefill": f64::from(options.rules.weights.prefill) / 1e3,
        "cost_decode": f64::from(options.rules.weights.decode) / 1e3,
        "event_delay_seconds": options.event_delay_us as f64 / 1e6,
        "load_interval_seconds": options.scrape_interval_us as f64 / 1e6,
        "request_seconds": options.request_ms as f64 / 1e3,
        "speculative_seconds": options.speculative_ms as f64 / 1e3,
        "approximate_seconds": options.approximate_ms as f64 / 1e3,
        "approximate_blocks": options.approximate_blocks,
        "engine_limits": limits(options.hardware),
        "runs": outcomes.iter().map(run).collect::<Vec<_>>(),
    })
}

fn limits(hardware: Hardware) -> Value {
    json!({"step_tokens": hardware.step_tokens(), "step_requests": hardware.step_requests()})
}

fn run(outcome: &Outcome) -> Value {
    json!({
        "policy": outcome.strategy.as_str(),
        "requests": outcome.requests,
        "prompt_tokens": outcome.prompt_tokens,
        "saved_tokens": outcome.saved_tokens,
        "hit_ratio": outcome.hit_ratio(),
        "generated_tokens": outcome.generated_tokens,
        "seconds": outcome.seconds,
        "output_tokens_per_second": outcome.output_rate(),
        "ttft": spread(&outcome.ttft),
        "latency": spread(&outcome.latency),
        "busy": outcome.busy_by_pod,
        "prefill_tokens": outcome.prefill_by_pod,
        "prefill_imbalance": outcome.prefill_imbalance(),
        "in_flight_variation": outcome.in_flight_variation,
        "preemptions": outcome.preemptions,
        "indexed": difference(outcome.indexed),
        "expected": outcome.expected.map(difference),
        "compared": outcome.compared,
        "event_bytes": outcome.event_bytes,
    })
}

fn spread(spread: &Spread) -> Value {
    json!({"mean": spread.mean, "p50": spread.p50, "p90": spread.p90, "p99": spread.p99, "max": spread.max})
}

fn difference(difference: Difference) -> Value {
    json!({"equal": difference.equal, "over": difference.over, "under": difference.under})
}
