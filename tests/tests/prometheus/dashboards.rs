//! The dashboard's file is what is made of its panels, and has the shape that Grafana reads.
use crate::texts::deploy;
use kvroute_tests::dashboards::{ROWS, dashboard};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;

/// `KVROUTE_WRITE=1 cargo test -p kvroute-tests --test prometheus dashboard` writes the file anew.
#[test]
fn the_dashboard_is_what_is_made_of_its_panels() {
    let file = deploy("grafana").join("kvroute.json");
    let made = serde_json::to_string_pretty(&dashboard()).expect("JSON") + "\n";
    if std::env::var("KVROUTE_WRITE").as_deref() == Ok("1") {
        fs::write(&file, &made).expect("the file can be written");
    }
    let there = fs::read_to_string(&file).unwrap_or_default();
    let same = there == made;
    assert!(
        same,
        "{} is not what its panels make: KVROUTE_WRITE=1 writes it",
        file.display()
    );
}

/// Panels inside and beside rows.
fn panels(of: &Value) -> Vec<&Value> {
    let list = of["panels"].as_array().map(Vec::as_slice);
    let list = list.unwrap_or_default().iter();
    list.flat_map(|panel| {
        let mut all = panels(panel);
        all.insert(0, panel);
        all
    })
    .collect()
}

#[test]
fn panels_are_told_apart_and_do_not_overlap() {
    let dashboard = dashboard();
    let all = panels(&dashboard);
    let heads = ROWS.len();
    let expected: usize = ROWS.iter().map(|row| row.panels.len()).sum();
    assert_eq!(all.len(), heads + expected);
    let ids: BTreeSet<_> = all.iter().map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), all.len(), "ids");
    let titles: BTreeSet<_> = all.iter().map(|panel| panel["title"].as_str()).collect();
    assert_eq!(titles.len(), all.len(), "titles");
    let mut rows = vec![dashboard["panels"].as_array().expect("panels").clone()];
    rows.extend(
        all.iter()
            .filter_map(|panel| panel["panels"].as_array().cloned()),
    );
    for row in rows {
        let mut taken = BTreeSet::new();
        for panel in &row {
            let place = |key: &str| panel["gridPos"][key].as_u64().expect("a number");
            assert!(place("x") + place("w") <= 24, "{panel}");
            for x in place("x")..place("x") + place("w") {
                for y in place("y")..place("y") + place("h") {
                    assert!(taken.insert((x, y)), "{} overlaps", panel["title"]);
                }
            }
        }
    }
}

#[test]
fn every_panel_says_what_it_shows() {
    for panel in ROWS.iter().flat_map(|row| row.panels) {
        let description = panel.description;
        assert!(
            description.len() > 20 && description.ends_with('.'),
            "{}",
            panel.title
        );
        assert!(
            !panel.unit.is_empty() && !panel.queries.is_empty(),
            "{}",
            panel.title
        );
        let table = panel.queries.iter().all(|(_, legend)| legend.is_empty());
        let named = panel.queries.iter().all(|(_, legend)| !legend.is_empty());
        let is_table = panel.kind == kvroute_tests::dashboards::Kind::Table;
        assert!(
            if is_table { table } else { named },
            "{}: legends",
            panel.title
        );
    }
}
