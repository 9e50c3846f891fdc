//! The files that are tested, and the names of metrics in them.
use kvroute_tests::dashboards::{ROWS, VARIABLES, expression};
use kvroute_tests::tidy::root;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

/// A folder under `deploy`.
pub(crate) fn deploy(folder: &str) -> PathBuf {
    root().join("deploy").join(folder)
}

/// One rule: an alert's or a record's name, its expression, its annotations.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) name: String,
    pub(crate) expr: String,
    pub(crate) labels: Value,
    pub(crate) annotations: Value,
}

/// The rules of a file; `kind` is `alert` or `record`.
pub(crate) fn rules(file: &str, kind: &str) -> Vec<Rule> {
    let text = fs::read_to_string(deploy("prometheus").join(file)).expect("the rules are there");
    let file: Value = yaml_serde::from_str(&text).expect("YAML");
    let groups = file["groups"].as_array().expect("groups").iter();
    let rules = groups.flat_map(|group| group["rules"].as_array().expect("rules").clone());
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let rules = rules.map(|rule| Rule {
        name: text(&rule[kind]),
        expr: text(&rule["expr"]),
        labels: rule["labels"].clone(),
        annotations: rule["annotations"].clone(),
    });
    rules.collect()
}

pub(crate) fn alerts() -> Vec<Rule> {
    rules("alert-rules.yaml", "alert")
}

pub(crate) fn records() -> Vec<Rule> {
    rules("recording-rules.yaml", "record")
}

/// Every expression of panels, by panel.
pub(crate) fn panels() -> impl Iterator<Item = (&'static str, String, &'static str)> {
    let panels = ROWS.iter().flat_map(|row| row.panels);
    panels.flat_map(|panel| {
        let queries = panel.queries.iter();
        queries.map(|(expr, legend)| (panel.title, expression(expr), *legend))
    })
}

/// Every variable's label and selector.
pub(crate) fn variables() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    VARIABLES.iter().map(|&(name, _, query, _)| {
        let inside = query.strip_prefix("label_values(").expect("label values");
        let (selector, label) = inside.rsplit_once(", ").expect("two arguments");
        (name, selector, label.trim_end_matches(')'))
    })
}

/// The metrics that a text names, whatever else is in it: words that begin as the node's metrics do, and recorded ones.
pub(crate) fn metrics(text: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let words = text.split(|c| !word(c)).map(|word| word.trim_matches(':'));
    let named = words.filter(|word| {
        let own = ["kvroute_", "aibrix_", "process_"];
        let recorded = word.split(':').count() == 3 && word.contains("_");
        recorded || own.iter().any(|prefix| word.starts_with(prefix))
    });
    named.map(str::to_owned).collect()
}

#[test]
fn metrics_are_found_in_expressions() {
    let expr = r#"sum by (pod) (rate(kvroute_gaps_total{job="kvroute_x"}[5m])) / instance:kvroute_workers:sum > process_threads"#;
    let found = metrics(expr);
    let expected = [
        "instance:kvroute_workers:sum",
        "kvroute_gaps_total",
        "kvroute_x",
        "process_threads",
    ];
    assert_eq!(found, expected.map(str::to_owned).into());
}
