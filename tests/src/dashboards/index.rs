//! What is known, and what it takes.
use super::Kind::{Lines, Stack};
use super::{Row, panel};

pub(super) const ROW: Row = Row {
    title: "Index",
    panels: &[
        panel(
            Lines,
            "Memory of the index",
            "bytes",
            "What the index takes, and its budget if there is one.",
            &[
                ("kvroute_index_bytes{NODE}", "{{instance}}"),
                ("kvroute_index_budget_bytes{NODE}", "{{instance}} budget"),
            ],
        ),
        panel(
            Lines,
            "Entries",
            "short",
            "Blocks by holder: a block that two workers hold is two entries.",
            &[("kvroute_index_entries{NODE}", "{{instance}}")],
        ),
        panel(
            Lines,
            "Runs and contexts",
            "short",
            "Runs are chains of blocks that are kept together; contexts are models, adapters and block sizes.",
            &[
                ("kvroute_index_runs{NODE}", "{{instance}} runs"),
                ("kvroute_index_contexts{NODE}", "{{instance}} contexts"),
            ],
        ),
        panel(
            Lines,
            "Forgotten for want of room",
            "ops",
            "Blocks that engines may still hold, forgotten because of the budget; and predicted ones.",
            &[
                (
                    "sum by (instance) (rate(kvroute_index_evictions_total{NODE}[$__rate_interval]))",
                    "{{instance}} blocks",
                ),
                (
                    "sum by (instance) (rate(kvroute_predicted_blocks_evicted_total{NODE}[$__rate_interval]))",
                    "{{instance}} predicted",
                ),
            ],
        ),
        panel(
            Lines,
            "Blocks stored and removed",
            "ops",
            "Blocks in applied events. As many removed as stored: caches are full.",
            &[(
                "sum by (type) (rate(kvroute_blocks_total{WORKER}[$__rate_interval]))",
                "{{type}}",
            )],
        ),
        panel(
            Lines,
            "Blocks by worker",
            "short",
            "What the ten fullest workers hold.",
            &[(
                "topk(10, max by (pod, rank) (kvroute_worker_blocks{WORKER}))",
                "{{pod}} {{rank}}",
            )],
        ),
        panel(
            Stack,
            "Predicted blocks",
            "short",
            "Blocks learnt from decisions: of pods without events (approximate), and of requests just sent (speculative).",
            &[("sum by (kind) (kvroute_predicted_blocks{NODE})", "{{kind}}")],
        ),
        panel(
            Lines,
            "Predictions",
            "ops",
            "Decisions that were learnt from, and those that were not, or not wholly, by reason.",
            &[
                (
                    "sum(rate(kvroute_predictions_total{NODE}[$__rate_interval]))",
                    "learnt",
                ),
                (
                    "sum by (reason) (rate(kvroute_predictions_dropped_total{NODE}[$__rate_interval])) > 0",
                    "{{reason}}",
                ),
            ],
        ),
    ],
};
