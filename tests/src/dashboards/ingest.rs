//! From engines' sockets into the index.
use super::Kind::{Heatmap, Lines, Stack, Table};
use super::{Row, panel};

pub(super) const ROW: Row = Row {
    title: "Ingest: events of engines",
    panels: &[
        panel(
            Stack,
            "Events applied",
            "ops",
            "Events by what they say. Cleared is an engine that resets its cache.",
            &[(
                "sum by (type) (rate(kvroute_events_total{WORKER}[$__rate_interval]))",
                "{{type}}",
            )],
        ),
        panel(
            Lines,
            "Event shapes",
            "ops",
            "Events by how they are written. It changes when engines do.",
            &[(
                "sum by (shape) (rate(kvroute_events_total{WORKER}[$__rate_interval]))",
                "{{shape}}",
            )],
        ),
        panel(
            Lines,
            "Batches applied",
            "ops",
            "The ten busiest workers, as the busiest replica sees them. An engine publishes one a step at most.",
            &[(
                "topk(10, max by (pod, rank) (rate(kvroute_batches_total{WORKER}[$__rate_interval])))",
                "{{pod}} {{rank}}",
            )],
        ),
        panel(
            Heatmap,
            "Ingest lag, all batches",
            "s",
            "From the time on a batch until it is applied. A second band far above is an engine whose clock is off, or one that is behind.",
            &[(
                "sum by (le) (increase(kvroute_ingest_lag_seconds_bucket{NODE}[$__rate_interval]))",
                "{{le}}",
            )],
        ),
        panel(
            Lines,
            "Ingest lag by worker",
            "s",
            "The lag of the last live batch of the ten latest workers.",
            &[(
                "topk(10, max by (pod, rank) (kvroute_worker_lag_seconds{WORKER}))",
                "{{pod}} {{rank}}",
            )],
        ),
        panel(
            Lines,
            "Time to apply a batch",
            "s",
            "Decoding a batch and writing it into the index.",
            &[
                (
                    "histogram_quantile(0.5, sum by (le) (rate(kvroute_apply_duration_seconds_bucket{NODE}[$__rate_interval])))",
                    "p50",
                ),
                (
                    "histogram_quantile(0.99, sum by (le) (rate(kvroute_apply_duration_seconds_bucket{NODE}[$__rate_interval])))",
                    "p99",
                ),
            ],
        ),
        panel(
            Stack,
            "Skipped events",
            "ops",
            "What was not applied, by reason and shape. Duplicates and those of another life belong to replays; unknown_tag, shape, field, \
             missing_field are engines that are not understood.",
            &[(
                "sum by (reason, shape) (rate(kvroute_events_skipped_total{WORKER}[$__rate_interval]))",
                "{{reason}} ({{shape}})",
            )],
        ),
        panel(
            Lines,
            "Gaps",
            "short",
            "Gaps in the numbers of batches, batches missing in them, and how often all that a worker held was dropped.",
            &[
                (
                    "sum(increase(kvroute_gaps_total{WORKER}[$__rate_interval]))",
                    "gaps",
                ),
                (
                    "sum(increase(kvroute_missed_batches_total{WORKER}[$__rate_interval]))",
                    "missing batches",
                ),
                (
                    "sum(increase(kvroute_worker_drops_total{WORKER}[$__rate_interval]))",
                    "drops",
                ),
            ],
        ),
        panel(
            Lines,
            "Replays",
            "short",
            "Replays asked for, and how they ended.",
            &[
                (
                    "sum(increase(kvroute_replays_total{WORKER}[$__rate_interval]))",
                    "asked for",
                ),
                (
                    "sum by (outcome) (increase(kvroute_replay_outcomes_total{WORKER}[$__rate_interval]))",
                    "{{outcome}}",
                ),
            ],
        ),
        panel(
            Lines,
            "Held back while a replay runs",
            "short",
            "Live batches that wait for the end of their worker's replay.",
            &[(
                "sum by (instance) (kvroute_held_back_batches{WORKER})",
                "{{instance}}",
            )],
        ),
        panel(
            Lines,
            "Connections to engines",
            "short",
            "Workers whose event socket is connected, and how often sockets connected and broke off.",
            &[
                (
                    "sum by (instance) (kvroute_worker_connected{WORKER})",
                    "{{instance}} connected",
                ),
                (
                    "sum(increase(kvroute_connections_total{WORKER}[$__rate_interval]))",
                    "connections made",
                ),
                (
                    "sum(increase(kvroute_disconnections_total{WORKER}[$__rate_interval]))",
                    "connections lost",
                ),
            ],
        ),
        panel(
            Lines,
            "Restarts of engines",
            "short",
            "Restarts that were noticed, by pod.",
            &[(
                "max by (pod, rank) (increase(kvroute_restarts_total{WORKER}[$__rate_interval])) > 0 or vector(0)",
                "{{pod}} {{rank}}",
            )],
        ),
        panel(
            Lines,
            "Silence",
            "s",
            "Time since the last message of the ten most silent workers. An engine without work is silent and well.",
            &[(
                "topk(10, max by (pod, rank) (kvroute_last_event_age_seconds{WORKER}))",
                "{{pod}} {{rank}}",
            )],
        ),
        panel(
            Table,
            "Workers that are not exact",
            "short",
            "State of each worker at each replica. GET /v1/workers says more.",
            &[(
                r#"kvroute_worker_state{WORKER,state!~"exact|approximate"}"#,
                "",
            )],
        ),
        panel(
            Table,
            "Last sequence number",
            "none",
            "The last batch that was applied. Replicas differ by what is on its way.",
            &[(
                "max by (instance, pod, rank) (kvroute_worker_last_sequence{WORKER})",
                "",
            )],
        ),
    ],
};
