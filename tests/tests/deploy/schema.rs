//! The schema of the chart's values knows every setting, and no other.
//!
//! `KVROUTE_BLESS=1` writes what it should be.
use crate::objects::list;
use kvroute::config::keys;
use kvroute_tests::tidy::root;
use serde_json::{Map, Value, json};
use std::fs;

/// The settings that the chart derives from other values.
const DERIVED: &[&str] = &[
    "listen",
    "admin_listen",
    "tls_cert",
    "tls_key",
    "token_file",
    "admin_token_file",
    "kubernetes",
    "kubernetes_namespaces",
    "kubernetes_preset",
    "kubernetes_selector",
    "kubeconfig",
    "grace",
    "drain_notice",
    "snapshot_dir",
    "peers",
    "hash_seed",
];

/// What a setting's values may be.
fn property(form: &str) -> Value {
    if form.starts_with("a number") {
        json!({"type": "number"})
    } else if form.starts_with("a whole number") {
        json!({"type": "integer"})
    } else if form.starts_with("true or false") {
        json!({"type": "boolean"})
    } else {
        // A text, a list or a map: the node says more than a schema could.
        json!({})
    }
}

#[test]
fn the_schema_knows_the_settings() {
    let path = root().join("deploy/helm/kvroute/values.schema.json");
    let text = fs::read_to_string(&path).expect("the schema is there");
    let mut schema: Value = serde_json::from_str(&text).expect("JSON");
    let free = keys()
        .iter()
        .filter(|key| !DERIVED.contains(&key.name.as_str()));
    let mut expected: Vec<_> = free
        .map(|key| (key.name.clone(), property(&key.form)))
        .collect();
    expected.sort_by(|(one, _), (other, _)| one.cmp(other));
    let expected = Value::Object(expected.into_iter().collect::<Map<_, _>>());
    let config = &mut schema["properties"]["config"];
    assert_eq!(config["additionalProperties"], false);
    if std::env::var_os("KVROUTE_BLESS").is_some() {
        config["properties"] = expected;
        fs::write(path, format!("{schema:#}\n")).expect("it can be written");
        return;
    }
    let hint = "KVROUTE_BLESS=1 cargo test -p kvroute-tests --test deploy schema writes it anew";
    assert_eq!(config["properties"], expected, "{hint}");
}

#[test]
fn what_the_chart_derives_are_settings() {
    let names: Vec<_> = keys().iter().map(|key| key.name.as_str()).collect();
    for derived in DERIVED {
        assert!(names.contains(derived), "{derived}");
    }
}

/// Every object of the schema is closed, but for those that are Kubernetes' own, which its own schemas judge.
#[test]
fn the_schema_is_strict() {
    const OPEN: &[&str] = &[
        "affinity",
        "global",
        "podSecurityContext",
        "securityContext",
        "podSelector",
        "tlsConfig",
    ];
    fn walk(name: &str, schema: &Value, open: &mut Vec<String>) {
        if let Some(properties) = schema["properties"].as_object() {
            assert_eq!(schema["additionalProperties"], false, "{name}");
            for (name, schema) in properties {
                walk(name, schema, open);
            }
        } else if schema["type"] == "object" && schema["additionalProperties"].is_null() {
            open.push(name.to_owned());
        }
    }
    let path = root().join("deploy/helm/kvroute/values.schema.json");
    let text = fs::read_to_string(path).expect("the schema is there");
    let schema: Value = serde_json::from_str(&text).expect("JSON");
    let mut open = Vec::new();
    walk("", &schema, &mut open);
    open.sort();
    let mut expected = OPEN.to_vec();
    expected.sort_unstable();
    assert_eq!(open, expected);
}

/// Every value has a row in the schema and the other way round, down to where Kubernetes' own words begin.
#[test]
fn values_and_schema_name_the_same() {
    fn walk(path: &str, schema: &Value, values: &Value, wrong: &mut Vec<String>) {
        let Some(properties) = schema["properties"].as_object() else {
            return;
        };
        for (name, schema) in properties {
            let path = format!("{path}.{name}");
            match values.get(name) {
                Some(value) => walk(&path, schema, value, wrong),
                // `global` is Helm's, settings are commented where they are described.
                None if path == ".global" || path.starts_with(".config.") => {}
                None if list(&json!(["name", "key"])).contains(&json!(name)) => {}
                None => wrong.push(path),
            }
        }
    }
    let read = |name: &str| {
        let path = root().join("deploy/helm/kvroute").join(name);
        fs::read_to_string(path).expect("it is there")
    };
    let schema: Value = serde_json::from_str(&read("values.schema.json")).expect("JSON");
    let values: Value = yaml_serde::from_str(&read("values.yaml")).expect("YAML");
    let mut wrong = Vec::new();
    walk("", &schema, &values, &mut wrong);
    assert!(wrong.is_empty(), "{wrong:?} have no default");
}
