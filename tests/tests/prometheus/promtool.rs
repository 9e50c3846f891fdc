//! Prometheus' own tool on the rules, their tests and the sample configuration.
use crate::texts::{alerts, deploy};
use kvroute_tests::gateways::find_binary;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub(crate) fn promtool() -> Option<PathBuf> {
    find_binary("KVROUTE_TEST_PROMTOOL", "promtool")
}

fn run(tool: &Path, words: &[&str]) {
    let mut command = Command::new(tool);
    command.args(words).current_dir(deploy("prometheus"));
    let output = command.output().expect("promtool runs");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "promtool {words:?}: {said}");
}

/// What promtool says about a scrape.
pub(crate) fn lint(tool: &Path, scrape: &[u8]) -> String {
    let mut command = Command::new(tool);
    command.args(["check", "metrics"]);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("promtool runs");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(scrape).expect("promtool reads");
    drop(stdin);
    let output = child.wait_with_output().expect("promtool ends");
    (String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr)).into_owned()
}

/// The files of tests, in order.
fn tests() -> Vec<PathBuf> {
    let folder = fs::read_dir(deploy("prometheus/tests")).expect("the tests are there");
    let mut files: Vec<_> = folder.map(|file| file.expect("a file").path()).collect();
    files.sort();
    files
}

#[test]
fn rules_and_configuration_are_valid() {
    let Some(tool) = promtool() else { return };
    run(
        &tool,
        &["check", "rules", "recording-rules.yaml", "alert-rules.yaml"],
    );
    run(&tool, &["check", "config", "prometheus.yaml"]);
}

#[test]
fn rules_say_what_their_tests_expect() {
    let Some(tool) = promtool() else { return };
    for file in tests() {
        run(&tool, &["test", "rules", &file.to_string_lossy()]);
    }
}

/// A test that only sees an alert fire, or only sees it not fire, could not fail.
#[test]
fn each_alert_is_tested_firing_and_not_firing() {
    let mut seen = BTreeMap::<String, (bool, bool)>::new();
    for file in tests() {
        let text = fs::read_to_string(&file).expect("it is there");
        let file: Value = yaml_serde::from_str(&text).expect("YAML");
        for test in file["tests"].as_array().expect("tests") {
            for case in test["alert_rule_test"].as_array().into_iter().flatten() {
                let name = case["alertname"].as_str().expect("a name").to_owned();
                let fires = case["exp_alerts"]
                    .as_array()
                    .is_some_and(|list| !list.is_empty());
                let (firing, silent) = seen.entry(name).or_default();
                *firing |= fires;
                *silent |= !fires;
            }
        }
    }
    for alert in alerts() {
        assert_eq!(seen.get(&alert.name), Some(&(true, true)), "{}", alert.name);
    }
}
