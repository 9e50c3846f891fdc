//! Which pod was chosen, by what, and whether it was right.
use super::Kind::{Lines, Stack};
use super::{Row, panel};

pub(super) const ROW: Row = Row {
    title: "Choice and feedback",
    panels: &[
        panel(
            Stack,
            "Choices by reason",
            "ops",
            "no_tokens: texts without tokens, routed by load. prefix_match_skipped: the pod with the prefix was too busy.",
            &[(
                "sum by (reason) (rate(kvroute_decisions_total{NODE}[$__rate_interval]))",
                "{{reason}}",
            )],
        ),
        panel(
            Stack,
            "Choices by policy",
            "ops",
            "The policy that decided, the node's or the request's.",
            &[(
                "sum by (policy) (rate(kvroute_decisions_total{NODE}[$__rate_interval]))",
                "{{policy}}",
            )],
        ),
        panel(
            Stack,
            "Choices by share held",
            "ops",
            "Routed requests by how much of their prompt was held, in percent, as AIBrix's gateway counts them.",
            &[(
                "sum by (match_percent_bucket) (rate(aibrix_prefix_cache_routing_decisions_total{MODEL}[$__rate_interval]))",
                "{{match_percent_bucket}} %",
            )],
        ),
        panel(
            Lines,
            "Requests booked on workers",
            "short",
            "Requests that replicas have sent to the ten busiest workers and of whose end nobody has told yet.",
            &[(
                "topk(10, sum by (pod, rank) (kvroute_worker_bookings{WORKER}))",
                "{{pod}} {{rank}}",
            )],
        ),
        panel(
            Lines,
            "Requests in engines",
            "short",
            "What engines last said: requests that run and that wait, over the chosen pods.",
            &[
                (
                    "sum(max by (pod, rank) (kvroute_worker_running{WORKER}))",
                    "running",
                ),
                (
                    "sum(max by (pod, rank) (kvroute_worker_waiting{WORKER}))",
                    "waiting",
                ),
            ],
        ),
        panel(
            Lines,
            "Cache in use",
            "percentunit",
            "Share of its cache that an engine last said to be in use, the ten fullest.",
            &[(
                "topk(10, max by (pod, rank) (kvroute_worker_cache_usage_ratios{WORKER}))",
                "{{pod}} {{rank}}",
            )],
        ),
        panel(
            Lines,
            "Age of loads",
            "s",
            "Time since the load was asked for that is routed by. Each engine is asked every second.",
            &[(
                "topk(10, max by (pod, rank) (kvroute_load_age_seconds{WORKER}))",
                "{{pod}} {{rank}}",
            )],
        ),
        panel(
            Lines,
            "Bookings that went wrong",
            "ops",
            "Bookings of whose end nobody told in time, and choices that were made anew or blindly because others booked meanwhile.",
            &[
                (
                    "sum(rate(kvroute_bookings_expired_total{WORKER}[$__rate_interval]))",
                    "expired",
                ),
                (
                    "sum(rate(kvroute_booking_conflicts_total{NODE}[$__rate_interval]))",
                    "made anew",
                ),
                (
                    "sum(rate(kvroute_bookings_blind_total{NODE}[$__rate_interval]))",
                    "blind",
                ),
            ],
        ),
        panel(
            Lines,
            "Predicted against delivered",
            "short",
            "Tokens a second of requests with feedback: said to be held, really reused, and the difference both ways. Over is what was promised and \
             not delivered.",
            &[
                (
                    r#"sum(rate(kvroute_feedback_predicted_tokens_total{WORKER,model=~"$model"}[$__rate_interval]))"#,
                    "predicted",
                ),
                (
                    r#"sum(rate(kvroute_feedback_delivered_tokens_total{WORKER,model=~"$model"}[$__rate_interval]))"#,
                    "delivered",
                ),
                (
                    r#"sum(rate(kvroute_feedback_over_tokens_total{WORKER,model=~"$model"}[$__rate_interval]))"#,
                    "over",
                ),
                (
                    r#"sum(rate(kvroute_feedback_under_tokens_total{WORKER,model=~"$model"}[$__rate_interval]))"#,
                    "under",
                ),
            ],
        ),
        panel(
            Lines,
            "Precision and recall",
            "percentunit",
            "Of the tokens said to be held, those reused; of those reused, those said to be held. Each worker's latest 32 feedbacks.",
            &[
                (
                    "min by (model) (kvroute_feedback_precision{MODEL})",
                    "{{model}} precision",
                ),
                (
                    "min by (model) (kvroute_feedback_recall{MODEL})",
                    "{{model}} recall",
                ),
            ],
        ),
        panel(
            Lines,
            "Feedback",
            "ops",
            "Feedback by what it was good for, and workers that were had anew because of it.",
            &[
                (
                    "sum by (use) (rate(kvroute_feedback_total{NODE}[$__rate_interval]))",
                    "{{use}}",
                ),
                (
                    "sum(increase(kvroute_distrusts_total{WORKER}[$__rate_interval]))",
                    "had anew",
                ),
            ],
        ),
        panel(
            Lines,
            "Shadow: agreement",
            "ops",
            "With --shadow: decisions whose request the caller sent to the same pod, and elsewhere; of these, to a pod that is not known.",
            &[
                (
                    "sum by (agreed) (rate(kvroute_shadow_decisions_total{NODE}[$__rate_interval]))",
                    "agreed: {{agreed}}",
                ),
                (
                    "sum(rate(kvroute_shadow_unknown_targets_total{NODE}[$__rate_interval]))",
                    "unknown target",
                ),
            ],
        ),
        panel(
            Lines,
            "Shadow: tokens reusable",
            "short",
            "With --shadow: tokens that could be reused where the node would have sent requests, and where they went.",
            &[(
                "sum by (by) (rate(kvroute_shadow_tokens_total{NODE}[$__rate_interval]))",
                "by the {{by}}",
            )],
        ),
    ],
};
