//! The dashboard in `deploy/grafana`, as it is made: panels are rows of tables, the JSON around them is the same for all.
mod choice;
mod index;
mod ingest;
mod json;
mod lookups;
mod node;
mod overview;
mod tokenizer;

use serde_json::Value;

/// How a panel shows its queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The last value of each query, large.
    Stat,
    /// Lines over time.
    Lines,
    /// The same, one upon the other.
    Stack,
    /// A histogram's buckets over time.
    Heatmap,
    /// The last values, a row for each series.
    Table,
}

/// One panel. In its expressions `NODE` stands for the labels of the chosen replicas, `WORKER` for those and the chosen pods,
/// `MODEL` for those of the replicas and the chosen models.
#[derive(Clone, Copy, Debug)]
pub struct Panel {
    /// Its name, the only one of its kind.
    pub title: &'static str,
    /// What is to be seen, and what it means if it looks odd.
    pub description: &'static str,
    /// How it is shown.
    pub kind: Kind,
    /// Grafana's word for the unit of its values.
    pub unit: &'static str,
    /// Expressions and legends.
    pub queries: &'static [(&'static str, &'static str)],
}

/// A group of panels.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its name.
    pub title: &'static str,
    /// In order.
    pub panels: &'static [Panel],
}

/// All of the dashboard. The first row is open, the others are opened by whoever wants to know more.
pub const ROWS: &[Row] = &[
    overview::ROW,
    ingest::ROW,
    index::ROW,
    lookups::ROW,
    choice::ROW,
    tokenizer::ROW,
    node::ROW,
];

/// Variables: name, label, query, description.
pub const VARIABLES: &[(&str, &str, &str, &str)] = &[
    (
        "job",
        "Job",
        "label_values(kvroute_ready, job)",
        "Prometheus' jobs that scrape kvroute",
    ),
    (
        "instance",
        "Replica",
        r#"label_values(kvroute_ready{job=~"$job"}, instance)"#,
        "Replicas of kvroute",
    ),
    (
        "model",
        "Model",
        r#"label_values(aibrix_prefix_cache_indexer_status{job=~"$job",instance=~"$instance"}, model)"#,
        "Models, where a panel tells them apart",
    ),
    (
        "pod",
        "Engine",
        r#"label_values(kvroute_worker_blocks{job=~"$job",instance=~"$instance"}, pod)"#,
        "Engines' pods, where a panel tells them apart",
    ),
];

/// Annotations: name, colour, expression, text.
pub const ANNOTATIONS: &[(&str, &str, &str, &str)] = &[
    (
        "Starts of kvroute",
        "blue",
        "changes(process_start_time_seconds{NODE}[$__rate_interval]) > 0",
        "{{instance}} was started",
    ),
    (
        "Restarts of engines",
        "orange",
        "sum by (pod, rank) (increase(kvroute_restarts_total{WORKER}[$__rate_interval])) > 0",
        "{{pod}} rank {{rank}} restarted",
    ),
    (
        "Alerts",
        "red",
        r#"ALERTS{alertname=~"Kvroute.+",alertstate="firing",job=~"$job"}"#,
        "{{alertname}} ({{severity}})",
    ),
];

const NODE: &str = r#"job=~"$job",instance=~"$instance""#;

/// An expression with the labels that its words stand for, as Grafana gets it.
#[must_use]
pub fn expression(text: &str) -> String {
    text.replace("{WORKER", &format!(r#"{{{NODE},pod=~"$pod""#))
        .replace("{MODEL", &format!(r#"{{{NODE},model=~"$model""#))
        .replace("{NODE", &format!("{{{NODE}"))
}

/// The dashboard as Grafana imports it.
#[must_use]
pub fn dashboard() -> Value {
    json::dashboard()
}

const fn panel(
    kind: Kind,
    title: &'static str,
    unit: &'static str,
    description: &'static str,
    queries: &'static [(&'static str, &'static str)],
) -> Panel {
    Panel {
        title,
        description,
        kind,
        unit,
        queries,
    }
}
