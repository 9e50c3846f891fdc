//! Every alert has a page, every page an alert, and what pages name is there.
use crate::texts::{alerts, deploy, metrics, records};
use crate::world::World;
use std::collections::BTreeSet;
use std::fs;

const BASE: &str = "https://github.com/kvroute/kvroute/blob/main/deploy/runbooks/";

/// What every page has, in this order.
const SECTIONS: [&str; 6] = [
    "## Meaning",
    "## Impact",
    "## First look",
    "## Causes",
    "## Fixes",
    "## Over when",
];

/// Names and texts; the list of them is `README.md`.
fn pages() -> Vec<(String, String)> {
    let folder = fs::read_dir(deploy("runbooks")).expect("the pages are there");
    let mut pages: Vec<_> = folder
        .map(|file| {
            let path = file.expect("a file").path();
            let name = path
                .file_stem()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            (name, fs::read_to_string(path).expect("a text"))
        })
        .collect();
    pages.sort();
    pages
}

#[test]
fn alerts_and_pages_are_one_to_one() {
    let alerts = alerts();
    for alert in &alerts {
        let name = &alert.name;
        let severity = alert.labels["severity"].as_str();
        assert!(
            matches!(severity, Some("page" | "ticket")),
            "{name}: {severity:?}"
        );
        for key in ["summary", "description"] {
            let text = alert.annotations[key].as_str();
            assert!(text.is_some_and(|text| text.len() > 20), "{name}: {key}");
        }
        let url = alert.annotations["runbook_url"].as_str();
        assert_eq!(url, Some(&*format!("{BASE}{name}.md")));
    }
    let alerts: BTreeSet<_> = alerts.into_iter().map(|alert| alert.name).collect();
    let (list, pages): (Vec<_>, Vec<_>) =
        pages().into_iter().partition(|(name, _)| name == "README");
    let pages: BTreeSet<_> = pages.into_iter().map(|(name, _)| name).collect();
    assert_eq!(pages, alerts);
    for name in &alerts {
        let link = format!("[{name}]({name}.md)");
        assert!(list[0].1.contains(&link), "README.md does not list {name}");
    }
}

#[test]
fn pages_have_all_sections() {
    for (name, text) in pages().iter().filter(|(name, _)| name != "README") {
        assert!(text.starts_with(&format!("# {name}\n")), "{name}");
        let heads: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("## "))
            .collect();
        assert_eq!(heads, SECTIONS, "{name}");
        for section in SECTIONS {
            let (_, rest) = text.split_once(section).expect("it is there");
            let body = rest.split("\n## ").next().unwrap_or_default();
            assert!(body.trim().len() > 20, "{name}: {section} is empty");
        }
        let (_, look) = text.split_once("## First look").expect("it is there");
        let look = look.split("\n## ").next().unwrap_or_default();
        assert!(look.contains("```"), "{name}: no command in the first look");
    }
}

/// Metrics that pages, rules and panels name are in a scrape of a node, or recorded.
#[test]
#[ignore = "series that the node does not have yet"]
fn named_metrics_are_scraped_or_recorded() {
    let world = World::start();
    let families = world.names();
    let mut known: BTreeSet<String> = records().into_iter().map(|rule| rule.name).collect();
    known.extend(families);
    let mut unknown = BTreeSet::new();
    let mut look = |place: &str, text: &str| {
        let names = metrics(text)
            .into_iter()
            .filter(|name| !known.contains(name));
        unknown.extend(names.map(|name| format!("{place}: {name}")));
    };
    for (name, text) in pages() {
        look(&name, &text);
    }
    for rule in alerts().iter().chain(&records()) {
        look(&rule.name, &rule.expr);
        look(&rule.name, &rule.annotations.to_string());
    }
    for (title, expr, _) in crate::texts::panels() {
        look(title, &expr);
    }
    for (name, selector, _) in crate::texts::variables() {
        look(name, selector);
    }
    assert!(unknown.is_empty(), "nobody knows these:\n{unknown:#?}");
}
