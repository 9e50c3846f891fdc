//! Texts into tokens.
use super::Kind::{Heatmap, Lines, Stack};
use super::{Row, panel};

pub(super) const ROW: Row = Row {
    title: "Tokenizer",
    panels: &[
        panel(
            Stack,
            "Prompts with tokens",
            "ops",
            "Prompts that came as text, by where their tokens came from.",
            &[(
                "sum by (from) (rate(kvroute_tokenizer_prompts_total{NODE}[$__rate_interval]))",
                "{{from}}",
            )],
        ),
        panel(
            Stack,
            "Prompts without tokens",
            "ops",
            "They are routed by load. refused and unsupported are of the prompts, the others of engines.",
            &[(
                "sum by (reason) (rate(kvroute_tokenizer_failures_total{NODE}[$__rate_interval]))",
                "{{reason}}",
            )],
        ),
        panel(
            Lines,
            "Time to tokens",
            "s",
            "From a prompt to its tokens, by where they came from.",
            &[
                (
                    "histogram_quantile(0.5, sum by (from, le) (rate(kvroute_tokenizer_duration_seconds_bucket{NODE}[$__rate_interval])))",
                    "{{from}} p50",
                ),
                (
                    "histogram_quantile(0.99, sum by (from, le) (rate(kvroute_tokenizer_duration_seconds_bucket{NODE}[$__rate_interval])))",
                    "{{from}} p99",
                ),
            ],
        ),
        panel(
            Heatmap,
            "Time to tokens, all prompts",
            "s",
            "The same, prompt by prompt.",
            &[(
                "sum by (le) (increase(kvroute_tokenizer_duration_seconds_bucket{NODE}[$__rate_interval]))",
                "{{le}}",
            )],
        ),
        panel(
            Lines,
            "Calls of /tokenize",
            "ops",
            "Calls; those to a second pod beside a slow one, those after one that failed, and prompts that shared another's call.",
            &[
                (
                    "sum(rate(kvroute_tokenizer_calls_total{NODE}[$__rate_interval]))",
                    "calls",
                ),
                (
                    "sum(rate(kvroute_tokenizer_hedges_total{NODE}[$__rate_interval]))",
                    "second pod",
                ),
                (
                    "sum(rate(kvroute_tokenizer_retries_total{NODE}[$__rate_interval]))",
                    "again",
                ),
                (
                    "sum(rate(kvroute_tokenizer_shared_total{NODE}[$__rate_interval]))",
                    "shared",
                ),
            ],
        ),
        panel(
            Lines,
            "Calls under way",
            "short",
            "At most --tokenizer-concurrency at each replica.",
            &[("kvroute_tokenizer_calls_now{NODE}", "{{instance}}")],
        ),
        panel(
            Lines,
            "Cache: hits",
            "percentunit",
            "Share of the prompts with tokens whose tokens were remembered.",
            &[(
                r#"sum(rate(kvroute_tokenizer_prompts_total{NODE,from="cache"}[$__rate_interval])) / (sum(rate(kvroute_tokenizer_prompts_total{NODE}[$__rate_interval])) > 0)"#,
                "hits",
            )],
        ),
        panel(
            Lines,
            "Cache: memory",
            "bytes",
            "Memory of remembered tokens, at most --tokenizer-cache.",
            &[("kvroute_tokenizer_cache_bytes{NODE}", "{{instance}}")],
        ),
        panel(
            Lines,
            "Cache: entries",
            "short",
            "Prompts whose tokens are remembered.",
            &[("kvroute_tokenizer_cache_entries{NODE}", "{{instance}}")],
        ),
        panel(
            Lines,
            "Local tokenizers: state",
            "short",
            "1 for the state of each model's local tokenizer. It is used when it is on.",
            &[(
                "max by (model, state) (kvroute_local_tokenizer_state{MODEL}) == 1",
                "{{model}} {{state}}",
            )],
        ),
        panel(
            Lines,
            "Local tokenizers: prompts",
            "ops",
            "Prompts that a local tokenizer was asked for, by what became of them.",
            &[(
                "sum by (model, outcome) (rate(kvroute_local_tokenizer_prompts_total{MODEL}[$__rate_interval]))",
                "{{model}} {{outcome}}",
            )],
        ),
        panel(
            Lines,
            "Local tokenizers: comparisons",
            "short",
            "Comparisons with the engine. One that differs switches the tokenizer off.",
            &[(
                "sum by (model, outcome) (increase(kvroute_local_tokenizer_comparisons_total{MODEL}[$__rate_interval]))",
                "{{model}} {{outcome}}",
            )],
        ),
    ],
};
