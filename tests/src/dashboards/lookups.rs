//! Who holds how much of a prompt: how fast that is answered, and what it comes to.
use super::Kind::{Heatmap, Lines, Stack};
use super::{Row, panel};

pub(super) const ROW: Row = Row {
    title: "Lookups and requests",
    panels: &[
        panel(
            Heatmap,
            "Lookup duration, all lookups",
            "s",
            "One lookup in the index, block keys included. It grows with the length of the prompt.",
            &[(
                "sum by (le) (increase(kvroute_lookup_duration_seconds_bucket{NODE}[$__rate_interval]))",
                "{{le}}",
            )],
        ),
        panel(
            Lines,
            "Lookup duration",
            "s",
            "The same, by what was asked with: token ids, or hashes of blocks.",
            &[
                (
                    "histogram_quantile(0.5, sum by (kind, le) (rate(kvroute_lookup_duration_seconds_bucket{NODE}[$__rate_interval])))",
                    "{{kind}} p50",
                ),
                (
                    "histogram_quantile(0.99, sum by (kind, le) (rate(kvroute_lookup_duration_seconds_bucket{NODE}[$__rate_interval])))",
                    "{{kind}} p99",
                ),
            ],
        ),
        panel(
            Lines,
            "Tokens looked up",
            "short",
            "Tokens a second of prompts looked up, and those of them that the best candidate held.",
            &[(
                "sum by (result) (rate(kvroute_lookup_tokens_total{NODE}[$__rate_interval]))",
                "{{result}}",
            )],
        ),
        panel(
            Stack,
            "Lookups by share held",
            "ops",
            "How much of a prompt the best candidate held, in percent.",
            &[(
                "sum by (percent) (rate(kvroute_lookup_matches_total{NODE}[$__rate_interval]))",
                "{{percent}} %",
            )],
        ),
        panel(
            Heatmap,
            "Request duration, all requests",
            "s",
            "From the head of a request to its answer. A second band is texts that engines tokenize.",
            &[(
                "sum by (le) (increase(kvroute_request_duration_seconds_bucket{NODE}[$__rate_interval]))",
                "{{le}}",
            )],
        ),
        panel(
            Lines,
            "Request duration by endpoint",
            "s",
            "One request in a hundred takes longer.",
            &[(
                "histogram_quantile(0.99, sum by (endpoint, le) (rate(kvroute_request_duration_seconds_bucket{NODE}[$__rate_interval])))",
                "{{endpoint}}",
            )],
        ),
        panel(
            Stack,
            "Answers by code",
            "reqps",
            "4xx is what clients did wrong, 5xx that no pod could be named or a bound was met.",
            &[(
                "sum by (code) (rate(kvroute_requests_total{NODE}[$__rate_interval]))",
                "{{code}}",
            )],
        ),
        panel(
            Lines,
            "Requests in flight",
            "short",
            "Requests under way, and connections of clients.",
            &[
                ("kvroute_requests_in_flight{NODE}", "{{instance}} requests"),
                ("kvroute_http_connections{NODE}", "{{instance}} connections"),
            ],
        ),
        panel(
            Lines,
            "Turned away",
            "ops",
            "Connections and requests that were ended before they were answered, by reason.",
            &[(
                "sum by (reason) (rate(kvroute_http_refused_total{NODE}[$__rate_interval]))",
                "{{reason}}",
            )],
        ),
    ],
};
