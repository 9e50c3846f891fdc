//! The node's description of itself: every answer that the tests get is checked against it.
use crate::client::Response;
use crate::fixture::Fixture;
use jsonschema::Validator;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

static DESCRIPTION: LazyLock<Value> = LazyLock::new(|| {
    let text = include_str!("../../src/http/openapi.json");
    serde_json::from_str(text).unwrap()
});

/// Paths that are described, and not served yet.
pub(crate) const PENDING: &[&str] = &["/v1/route", "/v1/ext_authz", "/v1/feedback", "/v1/explain"];

/// What a reference of the description points at.
fn resolve(value: &'static Value) -> &'static Value {
    let Some(reference) = value["$ref"].as_str() else {
        return value;
    };
    let pointer = reference.strip_prefix('#').unwrap();
    let found = DESCRIPTION.pointer(pointer);
    found.unwrap_or_else(|| panic!("{reference}"))
}

/// The operations of a path.
fn item(path: &str) -> Option<&'static Value> {
    let paths = DESCRIPTION["paths"].as_object().unwrap();
    let path = path.split('?').next().unwrap_or_default();
    if PENDING.iter().any(|pending| path.starts_with(pending)) {
        return None;
    }
    paths.get(path).or_else(|| {
        let mut items = paths.iter();
        let found = items.find(|(described, _)| {
            let Some((prefix, _)) = described.split_once('{') else {
                return false;
            };
            path.strip_prefix(prefix)
                .is_some_and(|rest| !rest.is_empty())
        });
        found.map(|(_, item)| item)
    })
}

/// How many operations are described and served.
pub(crate) fn operations() -> usize {
    let paths = DESCRIPTION["paths"].as_object().unwrap();
    let served = paths.iter().filter(|(path, _)| item(path).is_some());
    served
        .map(|(_, item)| item.as_object().unwrap().len())
        .sum()
}

/// Why a value is not as a schema of the description says.
fn faults(schema: &Value, value: &Value) -> Vec<String> {
    static COMPILED: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> =
        LazyLock::new(Mutex::default);
    let mut compiled = COMPILED.lock().unwrap();
    let compiled = compiled.entry(schema.to_string()).or_insert_with(|| {
        let mut root = schema.clone();
        root["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
        root["components"] = DESCRIPTION["components"].clone();
        Arc::new(jsonschema::validator_for(&root).unwrap())
    });
    let faults = compiled.iter_errors(value);
    faults
        .map(|fault| format!("{}: {fault}", fault.instance_path))
        .collect()
}

/// An answer is one that its operation describes; where there is none, it is an error in the common shape.
#[track_caller]
pub(crate) fn check(method: &str, path: &str, response: &Response) {
    let status = response.status;
    let item = item(path);
    let operation = item.and_then(|item| item.get(method.to_ascii_lowercase()));
    let Some(operation) = operation else {
        let error = json!({"$ref": "#/components/schemas/Error"});
        assert_eq!(faults(&error, &response.json()), [""; 0], "{method} {path}");
        let expected: &[_] = if item.is_some() {
            &[405]
        } else {
            &[404, 414, 415]
        };
        assert!(expected.contains(&status), "{method} {path}: {status}");
        return;
    };
    let described = &operation["responses"][status.to_string()];
    assert!(
        described.is_object(),
        "{method} {path}: {status} is not described"
    );
    let described = resolve(described);
    let length = response.header("content-length");
    let Some(content) = described["content"].as_object() else {
        assert!(
            length.is_none_or(|n| n == "0") || method == "HEAD",
            "{method} {path}: {response:?}"
        );
        return;
    };
    let media = response.header("content-type").unwrap_or_default();
    let media = media.split(';').next().unwrap_or_default();
    let form = content.get(media);
    let form = form.unwrap_or_else(|| panic!("{method} {path}: {status} with {media:?}"));
    if media == "application/json" {
        let found = faults(&form["schema"], &response.json());
        assert_eq!(found, [""; 0], "{method} {path}: {}", response.json());
    }
}

#[test]
fn the_description_is_served() {
    let fixture = Fixture::new();
    let response = fixture.client().get("/openapi.json");
    assert_eq!(
        (response.status, response.json()),
        (200, DESCRIPTION.clone())
    );
}

/// What the check is worth: it notices what is missing, wrong or too much.
#[test]
fn answers_that_are_not_described_are_noticed() {
    let schema = json!({"$ref": "#/components/schemas/Match"});
    let candidate = json!({
        "pod": "a", "endpoint": null, "rank": 0, "block_size": 4, "matched_blocks": 1,
        "matched_tokens": 4, "tiers": {"gpu": 4, "cpu": 4, "disk": 4}, "state": "exact",
        "age_ms": null,
    });
    let right = json!({"model": "m", "tokens": 4, "candidates": [candidate]});
    assert_eq!(faults(&schema, &right), [""; 0]);
    for (pointer, field, value) in [
        ("", "tokens", json!(-1)),
        ("", "more", json!(1)),
        ("/candidates/0", "state", json!("good")),
        ("/candidates/0", "rank", Value::Null),
        ("/candidates/0/tiers", "gpu", json!("4")),
    ] {
        let mut wrong = right.clone();
        wrong.pointer_mut(pointer).unwrap()[field] = value;
        assert_ne!(faults(&schema, &wrong), [""; 0], "{wrong}");
    }
    let mut less = right;
    less["candidates"][0]
        .as_object_mut()
        .unwrap()
        .remove("age_ms");
    assert_ne!(faults(&schema, &less), [""; 0]);
}

/// All that the description says of requests holds for those it gives as examples.
#[test]
fn examples_are_as_their_schemas_say_and_are_taken() {
    let fixture = Fixture::new();
    fixture.add_pod("base");
    let mut client = fixture.client();
    let mut taken = 0;
    for (path, operations) in DESCRIPTION["paths"].as_object().unwrap() {
        let content = &operations["post"]["requestBody"]["content"]["application/json"];
        let Some(example) = content.get("example") else {
            continue;
        };
        assert_eq!(faults(&content["schema"], example), [""; 0], "{path}");
        if item(path).is_none() {
            continue;
        }
        let response = client.post(path, example);
        // Nobody is registered as the example of `/unregister` says, unless that of `/register` came before.
        let expected = [200, 201, 404];
        assert!(expected.contains(&response.status), "{path}: {response:?}");
        taken += 1;
    }
    assert!(taken >= 7, "{taken}");
}
