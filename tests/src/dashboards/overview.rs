//! What is looked at first.
use super::Kind::{Lines, Stack, Stat};
use super::{Row, panel};

pub(super) const ROW: Row = Row {
    title: "Overview",
    panels: &[
        panel(
            Stat,
            "Replicas ready",
            "short",
            "Replicas of kvroute that are ready, as /readyz says it. Once ready a replica stays so until it is told to stop.",
            &[("sum(kvroute_ready{NODE})", "ready")],
        ),
        panel(
            Stat,
            "Workers",
            "short",
            "Ranks of engines that the best informed replica knows. Zero: every route is answered 503.",
            &[("max(sum by (instance) (kvroute_workers{NODE}))", "workers")],
        ),
        panel(
            Stat,
            "Synchronised",
            "percentunit",
            "Share of the workers that a replica answers for with what their events say (exact, partial, approximate), at the worst \
             replica. Below a half at all replicas is a page.",
            &[(
                r#"min(sum by (instance) (kvroute_workers{NODE,state=~"exact|partial|approximate"}) / (sum by (instance) (kvroute_workers{NODE}) > 0))"#,
                "synchronised",
            )],
        ),
        panel(
            Stat,
            "Prompt tokens held",
            "percentunit",
            "Of the tokens of all prompts looked up, those that the best candidate held: what routing by prefix can save.",
            &[(
                r#"sum(rate(kvroute_lookup_tokens_total{NODE,result="matched"}[$__rate_interval])) / (sum(rate(kvroute_lookup_tokens_total{NODE,result="asked"}[$__rate_interval])) > 0)"#,
                "held",
            )],
        ),
        panel(
            Stat,
            "Requests",
            "reqps",
            "Answered requests, of all endpoints and replicas.",
            &[(
                "sum(rate(kvroute_requests_total{NODE}[$__rate_interval]))",
                "requests",
            )],
        ),
        panel(
            Stat,
            "Failed requests",
            "percentunit",
            "Share of the requests that were answered 5xx: no pod could be named, or a bound was met.",
            &[(
                r#"(sum(rate(kvroute_requests_total{NODE,code="5xx"}[$__rate_interval])) or vector(0)) / (sum(rate(kvroute_requests_total{NODE}[$__rate_interval])) > 0)"#,
                "failed",
            )],
        ),
        panel(
            Stat,
            "Alerts firing",
            "short",
            "Alerts of kvroute that are firing. Each has a page in deploy/runbooks.",
            &[(
                r#"count(ALERTS{alertname=~"Kvroute.+",alertstate="firing"}) or vector(0)"#,
                "alerts",
            )],
        ),
        panel(
            Stat,
            "Versions",
            "short",
            "Replicas by their version. More than one: a rollout that goes on, or has stopped.",
            &[(
                "count by (version) (kvroute_build_info{NODE})",
                "{{version}}",
            )],
        ),
        panel(
            Stack,
            "Workers by state",
            "short",
            "Workers of all replicas by the state of their answers; each replica counts each worker. A band of stale is a network, of \
             distrusted an engine, of replaying a start.",
            &[("sum by (state) (kvroute_workers{NODE})", "{{state}}")],
        ),
        panel(
            Stack,
            "Requests by endpoint",
            "reqps",
            "Answered requests by what was asked.",
            &[(
                "sum by (endpoint) (rate(kvroute_requests_total{NODE}[$__rate_interval])) > 0",
                "{{endpoint}}",
            )],
        ),
        panel(
            Lines,
            "Request duration",
            "s",
            "From the head of a request to its answer, tokenizer included. Texts that are not in the tokenizer's cache take what the \
             engine takes, 2 s at most.",
            &[
                (
                    "histogram_quantile(0.5, sum by (le) (rate(kvroute_request_duration_seconds_bucket{NODE}[$__rate_interval])))",
                    "p50",
                ),
                (
                    "histogram_quantile(0.99, sum by (le) (rate(kvroute_request_duration_seconds_bucket{NODE}[$__rate_interval])))",
                    "p99",
                ),
                (
                    "histogram_quantile(0.999, sum by (le) (rate(kvroute_request_duration_seconds_bucket{NODE}[$__rate_interval])))",
                    "p99.9",
                ),
            ],
        ),
        panel(
            Lines,
            "Memory",
            "bytes",
            "Memory of each replica, and how much of it is the index.",
            &[
                ("process_resident_memory_bytes{NODE}", "{{instance}}"),
                ("kvroute_index_bytes{NODE}", "{{instance}} index"),
            ],
        ),
        panel(
            Lines,
            "Processor",
            "short",
            "Cores in use by each replica. As many as its threads: it is at its end.",
            &[(
                "rate(process_cpu_seconds_total{NODE}[$__rate_interval])",
                "{{instance}}",
            )],
        ),
        panel(
            Lines,
            "Ingest lag",
            "s",
            "From the time that an engine wrote on a batch of events until it is in the index. The clocks of both machines are in it.",
            &[
                (
                    "histogram_quantile(0.5, sum by (le) (rate(kvroute_ingest_lag_seconds_bucket{NODE}[$__rate_interval])))",
                    "p50",
                ),
                (
                    "histogram_quantile(0.99, sum by (le) (rate(kvroute_ingest_lag_seconds_bucket{NODE}[$__rate_interval])))",
                    "p99",
                ),
            ],
        ),
    ],
};
