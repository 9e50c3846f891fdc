//! Where pods come from, and the process.
use super::Kind::{Lines, Table};
use super::{Row, panel};

pub(super) const ROW: Row = Row {
    title: "Sources of pods, probes, process",
    panels: &[
        panel(
            Lines,
            "Sources followed",
            "short",
            "1 while a source is heard and all that it first described is in the fleet.",
            &[(
                "min by (instance, source) (kvroute_source_following{NODE})",
                "{{instance}} {{source}}",
            )],
        ),
        panel(
            Lines,
            "Pods by source",
            "short",
            "Pods that each source describes, and those that are refused, by reason.",
            &[
                ("max by (source) (kvroute_source_pods{NODE})", "{{source}}"),
                (
                    "max by (source, reason) (kvroute_source_refused{NODE})",
                    "{{source}} refused: {{reason}}",
                ),
            ],
        ),
        panel(
            Lines,
            "Sources: changes and failures",
            "short",
            "How often a source described something else, and could not be heard or understood.",
            &[
                (
                    "sum by (source) (increase(kvroute_source_updates_total{NODE}[$__rate_interval]))",
                    "{{source}} changes",
                ),
                (
                    "sum by (source) (increase(kvroute_source_failures_total{NODE}[$__rate_interval]))",
                    "{{source}} failures",
                ),
            ],
        ),
        panel(
            Lines,
            "Sources: last heard",
            "s",
            "Time since each source was heard.",
            &[(
                "max by (instance, source) (kvroute_source_heard_age_seconds{NODE})",
                "{{instance}} {{source}}",
            )],
        ),
        panel(
            Lines,
            "Failed probes",
            "ops",
            "Answers of engines over HTTP that could not be used, by reason.",
            &[(
                "sum by (reason) (rate(kvroute_probe_failures_total{NODE}[$__rate_interval]))",
                "{{reason}}",
            )],
        ),
        panel(
            Lines,
            "Open files",
            "short",
            "Descriptors of each replica, and its limit. A rank takes about eight.",
            &[
                ("process_open_fds{NODE}", "{{instance}}"),
                ("process_max_fds{NODE}", "{{instance}} limit"),
            ],
        ),
        panel(
            Lines,
            "Threads",
            "short",
            "Threads of each replica. They do not grow with the fleet.",
            &[("process_threads{NODE}", "{{instance}}")],
        ),
        panel(
            Lines,
            "Files that were refused",
            "short",
            "Certificates, token files and configurations that were read again and could not be used.",
            &[(
                "sum by (file) (increase(kvroute_reload_failures_total{NODE}[$__rate_interval]))",
                "{{file}}",
            )],
        ),
        panel(
            Lines,
            "Log and spans left out",
            "ops",
            "Lines that the log's rate limit left out, and spans that were not exported.",
            &[
                (
                    "sum(rate(kvroute_log_suppressed_total{NODE}[$__rate_interval]))",
                    "lines",
                ),
                (
                    "sum by (reason) (rate(kvroute_spans_dropped_total{NODE}[$__rate_interval]))",
                    "spans: {{reason}}",
                ),
            ],
        ),
        panel(
            Table,
            "The start, step by step",
            "s",
            "Time that each step of the start took: finding a snapshot, entering the pods, synchronising.",
            &[("max by (instance, step) (kvroute_start_seconds{NODE})", "")],
        ),
        panel(
            Table,
            "Configuration valid",
            "short",
            "0: events are synchronised without a tokenizer, so texts are routed by load.",
            &[(
                "min by (instance) (aibrix_kv_sync_configuration_valid{NODE})",
                "",
            )],
        ),
    ],
};
