//! Kubernetes objects as they are rendered.
use kvroute_tests::gateways::find_binary;
use serde::Deserialize;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Kinds that are not Kubernetes' own: their schemas are with whoever defines them.
const FOREIGN: &[&str] = &["ServiceMonitor", "PrometheusRule"];

/// The oldest API that the chart names, and a late one.
const VERSIONS: &[&str] = &["1.25", "1.33"];

/// All objects of a YAML text of several documents.
pub(crate) fn parse(text: &str) -> Vec<Value> {
    yaml_serde::Deserializer::from_str(text)
        .map(|document| Value::deserialize(document).unwrap_or_else(|e| panic!("{e}:\n{text}")))
        .filter(|object| !object.is_null())
        .collect()
}

pub(crate) fn kind(object: &Value) -> &str {
    object["kind"].as_str().unwrap_or_default()
}

pub(crate) fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

pub(crate) fn namespace(object: &Value) -> &str {
    object["metadata"]["namespace"].as_str().unwrap_or_default()
}

/// The objects of a kind.
pub(crate) fn of<'o>(objects: &'o [Value], wanted: &str) -> Vec<&'o Value> {
    objects.iter().filter(|o| kind(o) == wanted).collect()
}

/// The only object of a kind.
#[track_caller]
pub(crate) fn one<'o>(objects: &'o [Value], wanted: &str) -> &'o Value {
    let found = of(objects, wanted);
    assert_eq!(found.len(), 1, "one {wanted}");
    found[0]
}

/// The elements of a list; none if there is no list.
pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The only element of a list that has this name.
#[track_caller]
pub(crate) fn named<'o>(value: &'o Value, name: &str) -> &'o Value {
    let mut found = list(value).iter().filter(|element| element["name"] == name);
    let first = found
        .next()
        .unwrap_or_else(|| panic!("no {name} in {value:#}"));
    assert!(found.next().is_none(), "{name} twice in {value:#}");
    first
}

/// The percentage of requested processor time that an autoscaler aims at.
pub(crate) fn utilization(scaler: &Value) -> u64 {
    let target = &list(&scaler["spec"]["metrics"])[0]["resource"]["target"];
    target["averageUtilization"].as_u64().expect("a number")
}

/// Runs a tool; what it says on stderr is in the output.
pub(crate) fn run(tool: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(tool);
    command.args(arguments).stdin(Stdio::null());
    command.env_remove("KUBECONFIG");
    command.output().expect("the tool runs")
}

/// What a tool prints; it must not fail.
#[track_caller]
pub(crate) fn printed(tool: &Path, arguments: &[&str]) -> String {
    let output = run(tool, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

pub(crate) fn helm() -> Option<PathBuf> {
    find_binary("KVROUTE_TEST_HELM", "helm")
}

pub(crate) fn kubectl() -> Option<PathBuf> {
    find_binary("KVROUTE_TEST_KUBECTL", "kubectl")
}

/// Every object is one that the API server would take: each field by the schema, an unknown one refused. And kubectl knows
/// its kind.
pub(crate) fn validate(objects: &[Value]) {
    let own = |object: &&Value| !FOREIGN.contains(&kind(object));
    let own: Vec<_> = objects.iter().filter(own).collect();
    assert!(!own.is_empty());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("objects.yaml");
    let list = own.iter().map(|object| format!("---\n{object}\n"));
    fs::write(&file, list.collect::<String>()).expect("the folder is ours");
    let file = file.to_str().expect("UTF-8");
    if let Some(tool) = find_binary("KVROUTE_TEST_KUBERNETES_VALIDATE", "kubernetes-validate") {
        for version in VERSIONS {
            let told = printed(&tool, &["--strict", "-k", version, file]);
            let passed = told.matches(" passed for ").count();
            assert_eq!(passed, own.len(), "{version}: {told}");
        }
    }
    if let Some(kubectl) = kubectl() {
        let arguments = ["label", "--local", "-f", file, "seen=true", "-o", "name"];
        let told = printed(&kubectl, &arguments);
        assert_eq!(told.lines().count(), own.len(), "{told}");
    }
}
