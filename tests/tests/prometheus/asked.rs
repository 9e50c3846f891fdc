//! Every expression, asked of a real Prometheus that scrapes a running node.
use crate::promtool::{lint, promtool};
use crate::server::Prometheus;
use crate::texts::{alerts, panels, records, variables};
use crate::world::World;
use kvroute_tests::dashboards::{ANNOTATIONS, expression};
use kvroute_tests::gateways::find_binary;
use serde_json::Value;
use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

/// Time for all that is to have data to have it, on a machine that is busy with builds.
const DATA_TIME_MAX: Duration = Duration::from_secs(120);

/// Queries of panels that may come to nothing here: panel, legend, reason.
const EMPTY_PANELS: &[(&str, &str, &str)] = &[
    (
        "Memory of the index",
        "{{instance}} budget",
        "the node of this test has no budget",
    ),
    (
        "Predictions",
        "{{reason}}",
        "every decision of this test is learnt from",
    ),
    (
        "Pods by source",
        "{{source}} refused: {{reason}}",
        "no pod is refused",
    ),
    (
        "Log and spans left out",
        "spans: {{reason}}",
        "no spans are exported",
    ),
    (
        "Local tokenizers: state",
        "{{model}} {{state}}",
        "no local tokenizer",
    ),
    (
        "Local tokenizers: prompts",
        "{{model}} {{outcome}}",
        "no local tokenizer",
    ),
    (
        "Local tokenizers: comparisons",
        "{{model}} {{outcome}}",
        "no local tokenizer",
    ),
];

/// Records that come to nothing within a test.
const EMPTY_RECORDS: &[(&str, &str)] = &[
    (
        "worker:kvroute_worker_state:stuck10m",
        "it looks ten minutes back",
    ),
    (
        "worker:kvroute_gaps_unrepaired:increase30m",
        "replays fill the gaps",
    ),
    (
        "instance:kvroute_index_budget_used:ratio",
        "the node of this test has no budget",
    ),
];

/// As Grafana would ask, with one job and everything of it.
fn filled(expr: &str) -> String {
    expr.replace("$__rate_interval", "30s")
        .replace("$job", "kvroute")
        .replace("$instance", ".*")
        .replace("$model", ".*")
        .replace("$pod", ".*")
}

/// The labels that a legend names.
fn labels(legend: &str) -> impl Iterator<Item = &str> {
    let parts = legend.split("{{").skip(1);
    parts.filter_map(|part| part.split("}}").next())
}

/// One thing that is to have data.
#[derive(Debug)]
struct Wanted {
    what: String,
    expr: String,
    labels: Vec<String>,
}

fn wanted() -> Vec<Wanted> {
    let panels = panels().filter(|(title, _, legend)| {
        let empty = |&(panel, of, _): &(&str, &str, &str)| panel == *title && of == *legend;
        !EMPTY_PANELS.iter().any(empty)
    });
    let panels = panels.map(|(title, expr, legend)| Wanted {
        what: format!("panel {title}, {legend}"),
        expr: filled(&expr),
        labels: labels(legend).map(str::to_owned).collect(),
    });
    let records = records().into_iter();
    let records = records.filter(|rule| !EMPTY_RECORDS.iter().any(|(name, _)| *name == rule.name));
    let records = records.map(|rule| Wanted {
        what: "record".to_owned(),
        expr: rule.name,
        labels: Vec::new(),
    });
    panels.chain(records).collect()
}

/// Whether it has data; what has not all labels that its legend names is noted.
fn answered(prometheus: &Prometheus, wanted: &Wanted, unlabelled: &mut BTreeSet<String>) -> bool {
    let series = prometheus.query(&wanted.expr);
    for one in &series {
        let labels = one["metric"].as_object().expect("labels");
        // `or vector(0)` has none.
        let missing = wanted.labels.iter().filter(|_| !labels.is_empty());
        let missing = missing.filter(|label| !labels.contains_key(*label));
        unlabelled.extend(missing.map(|label| format!("{}: no {label}", wanted.what)));
    }
    !series.is_empty()
}

/// Rules that were not evaluated yet; those that failed end the test.
fn unevaluated(prometheus: &Prometheus) -> usize {
    let answer = prometheus.get("/api/v1/rules");
    let groups = answer["data"]["groups"].as_array().expect("groups").iter();
    let rules: Vec<&Value> = groups
        .flat_map(|group| group["rules"].as_array().expect("rules"))
        .collect();
    assert_eq!(rules.len(), alerts().len() + records().len());
    for rule in &rules {
        assert_ne!(rule["health"], "err", "{rule}");
    }
    rules.iter().filter(|rule| rule["health"] != "ok").count()
}

/// What no data is expected of: it is understood.
fn understood(prometheus: &Prometheus) {
    for rule in alerts().iter().chain(&records()) {
        prometheus.query(&rule.expr);
    }
    for (_, expr, _) in panels() {
        prometheus.query(&filled(&expr));
    }
    for (_, _, expr, _) in ANNOTATIONS {
        prometheus.query(&filled(&expression(expr)));
    }
}

#[test]
#[ignore = "series that the node does not have yet"]
fn every_expression_is_understood_and_has_data() {
    let Some(binary) = find_binary("KVROUTE_TEST_PROMETHEUS", "prometheus") else {
        return;
    };
    let mut world = World::start();
    world.work();
    let prometheus = Prometheus::start(&binary, world.client().address);
    understood(&prometheus);
    let give_up = Instant::now() + DATA_TIME_MAX;
    let (mut wanted, mut unlabelled) = (wanted(), BTreeSet::new());
    loop {
        // Rates see what changes between two scrapes only, so there is work all the time.
        world.work();
        wanted.retain(|one| !answered(&prometheus, one, &mut unlabelled));
        let unevaluated = unevaluated(&prometheus);
        if wanted.is_empty() && unevaluated == 0 {
            break;
        }
        let late = Instant::now() >= give_up;
        assert!(
            !late,
            "{unevaluated} rules not evaluated, no data:\n{wanted:#?}"
        );
        thread::sleep(Duration::from_millis(200));
    }
    assert!(unlabelled.is_empty(), "{unlabelled:#?}");
    for (name, selector, label) in variables() {
        let values = prometheus.values(label, &filled(selector));
        assert!(!values.is_empty(), "variable {name}");
    }
    // The engine's pod, though the target has a pod of its own.
    let pods = prometheus.values("pod", "kvroute_worker_blocks");
    assert_eq!(pods, ["ns/pod-0", "ns/pod-1", "ns/pod-2"]);
    let own = prometheus.values("pod", "kvroute_ready");
    assert_eq!(own, ["kvroute-0"]);
}

/// What is excused is there to be excused.
#[test]
fn excuses_are_of_panels_and_records_that_exist() {
    for (panel, legend, reason) in EMPTY_PANELS {
        assert!(reason.len() > 10);
        let found = panels().any(|(title, _, of)| title == *panel && of == *legend);
        assert!(found, "{panel}: {legend}");
    }
    for (name, reason) in EMPTY_RECORDS {
        assert!(
            reason.len() > 10 && records().iter().any(|rule| rule.name == *name),
            "{name}"
        );
    }
}

/// Prometheus' own opinion of names, types and help.
#[test]
#[ignore = "series that the node does not have yet"]
fn a_scrape_is_as_prometheus_wants_it() {
    let Some(tool) = promtool() else { return };
    let mut world = World::start();
    world.work();
    let text = world.scrape("text/plain; version=0.0.4");
    let said = lint(&tool, text.as_bytes());
    assert_eq!(said, "", "promtool check metrics");
}
