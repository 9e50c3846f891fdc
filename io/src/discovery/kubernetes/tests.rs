use super::book::{Book, Noted};
use super::labels::selector;
use super::object::Pod;
use super::pods::{Found, No, Reading, read};
use crate::config::Preset;
use crate::fleet::PodSpec;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A pod that runs and is ready, as a server serves it, with much that is not read.
fn pod(labels: &Value, annotations: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "llama-0",
            "namespace": "prod",
            "uid": "uid-1",
            "resourceVersion": "7",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": labels,
            "annotations": annotations,
            "managedFields": [{"manager": "kubelet", "fieldsV1": {"f:status": {}}}],
        },
        "spec": {"containers": [{"name": "engine", "image": "vllm", "resources": {"limits": {"gpu": "1"}}}]},
        "status": {
            "phase": "Running",
            "podIP": "10.1.2.3",
            "podIPs": [{"ip": "10.1.2.3"}],
            "conditions": [
                {"type": "Ready", "status": "True", "lastProbeTime": null},
                {"type": "ContainersReady", "status": "True"},
            ],
            "containerStatuses": [container(0, "a", Some("2026-01-01T00:00:09Z"))],
        },
    })
}

fn container(restarts: u32, id: &str, started: Option<&str>) -> Value {
    let state = match started {
        Some(at) => json!({"running": {"startedAt": at}}),
        None => json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}}),
    };
    json!({
        "name": "engine",
        "ready": started.is_some(),
        "restartCount": restarts,
        "containerID": format!("containerd://{id}"),
        "state": state,
        "started": true,
    })
}

fn reading(pod: &Value, preset: Preset) -> Reading {
    let pod: Pod = serde_json::from_value(pod.clone()).unwrap();
    read(&pod, preset)
}

fn found(pod: &Value, preset: Preset) -> Found {
    match reading(pod, preset) {
        Reading::Found(found) => found,
        other => panic!("{other:?}"),
    }
}

fn refusal(pod: &Value, preset: Preset) -> String {
    match reading(pod, preset) {
        Reading::Refused(refused) => {
            assert_eq!(refused.pod, "prod/llama-0");
            assert_eq!(refused.reason, "invalid");
            refused.message
        }
        other => panic!("{other:?}"),
    }
}

/// What the pod of [`pod`] is, reached at its address.
fn spec(model: &str) -> PodSpec {
    PodSpec {
        pod: "prod/llama-0".into(),
        uid: Some("uid-1".into()),
        model: model.into(),
        endpoint: Some("10.1.2.3:8000".into()),
        events: None,
        replay: None,
        kv_events: true,
        ranks: 1,
        first_rank: 0,
        lora: Vec::new(),
        block_size: None,
    }
}

fn aibrix() -> Value {
    json!({"model.aibrix.ai/name": "llama", "model.aibrix.ai/kv-events-enabled": "true"})
}

#[test]
fn labels_of_aibrix_describe_a_pod() {
    let read = found(&pod(&aibrix(), &Value::Null), Preset::Aibrix);
    assert_eq!(read.spec, spec("llama"));
    assert!(read.ready);
    let all = json!({
        "model.aibrix.ai/name": "llama",
        "model.aibrix.ai/kv-events-enabled": "true",
        "model.aibrix.ai/lora-id": "sql",
        "model.aibrix.ai/port": "9000",
        "model.aibrix.ai/engine": "an engine of tomorrow",
    });
    let expected = PodSpec {
        endpoint: Some("10.1.2.3:9000".into()),
        lora: vec!["sql".into()],
        ..spec("llama")
    };
    assert_eq!(found(&pod(&all, &json!({})), Preset::Aibrix).spec, expected);
    for (events, expected) in [
        (None, false),
        (Some("false"), false),
        (Some("yes"), false),
        (Some("true"), true),
    ] {
        let labels =
            json!({"model.aibrix.ai/name": "llama", "model.aibrix.ai/kv-events-enabled": events});
        let labels: BTreeMap<String, Option<String>> = serde_json::from_value(labels).unwrap();
        let labels: BTreeMap<_, _> = labels
            .into_iter()
            .filter_map(|(k, v)| Some((k, v?)))
            .collect();
        let read = found(&pod(&json!(labels), &Value::Null), Preset::Aibrix);
        assert_eq!(
            read.spec,
            PodSpec {
                kv_events: expected,
                ..spec("llama")
            },
            "{events:?}"
        );
        assert!(read.spec.ranks().is_ok());
    }
}

#[test]
fn labels_of_llm_d_describe_a_pod() {
    let labels = json!({"llm-d.ai/inference-serving": "true", "llm-d.ai/model": "qwen"});
    let read = |annotations: Value| found(&pod(&labels, &annotations), Preset::LlmD).spec;
    assert_eq!(read(Value::Null), spec("qwen"));
    assert_eq!(
        read(
            json!({"kvroute.io/model": "Qwen/Qwen3-8B", "kvroute.io/port": "8200", "kvroute.io/kv-events": "false"})
        ),
        PodSpec {
            endpoint: Some("10.1.2.3:8200".into()),
            kv_events: false,
            ..spec("Qwen/Qwen3-8B")
        }
    );
    let nameless = json!({"llm-d.ai/inference-serving": "true"});
    let message = refusal(&pod(&nameless, &Value::Null), Preset::LlmD);
    assert!(
        message.contains("llm-d.ai/model") && message.contains("kvroute.io/model"),
        "{message}"
    );
    let named = pod(&nameless, &json!({"kvroute.io/model": "Qwen/Qwen3-8B"}));
    assert_eq!(found(&named, Preset::LlmD).spec, spec("Qwen/Qwen3-8B"));
}

#[test]
fn selectors_are_joined() {
    for (preset, and, expected) in [
        (Preset::Aibrix, None, "model.aibrix.ai/name"),
        (Preset::Aibrix, Some(" "), "model.aibrix.ai/name"),
        (
            Preset::Aibrix,
            Some("tier in (a,b)"),
            "model.aibrix.ai/name,tier in (a,b)",
        ),
        (
            Preset::LlmD,
            Some("x=y"),
            "llm-d.ai/inference-serving=true,x=y",
        ),
    ] {
        assert_eq!(selector(preset, and), expected);
    }
}

#[test]
fn annotations_say_where_events_are() {
    let read = |annotations: Value| {
        let spec = found(&pod(&aibrix(), &annotations), Preset::Aibrix).spec;
        (spec.events, spec.replay, spec.ranks, spec.endpoint)
    };
    let at = |host: &str, port: u16| Some(format!("tcp://{host}:{port}"));
    let endpoint = |host: &str| Some(format!("{host}:8000"));
    let own = "10.1.2.3";
    assert_eq!(read(json!({})), (None, None, 1, endpoint(own)));
    assert_eq!(
        read(json!({"kvroute.io/events-port": "7000"})),
        (at(own, 7000), at(own, 5558), 1, endpoint(own))
    );
    assert_eq!(
        read(json!({"kvroute.io/replay-port": "7100"})),
        (at(own, 5557), at(own, 7100), 1, endpoint(own))
    );
    assert_eq!(
        read(json!({"kvroute.io/replay-port": "none"})),
        (at(own, 5557), None, 1, endpoint(own))
    );
    assert_eq!(
        read(json!({"kvroute.io/ranks": "4", "kvroute.io/replay-port": "5600"})),
        (at(own, 5557), at(own, 5600), 4, endpoint(own))
    );
    for (host, shown) in [
        ("gpu-7.example", "gpu-7.example"),
        ("192.0.2.1", "192.0.2.1"),
        ("fd00::7", "[fd00::7]"),
        ("[fd00::7]", "[fd00::7]"),
    ] {
        let named = json!({"kvroute.io/endpoint-host": host});
        assert_eq!(read(named), (None, None, 1, endpoint(shown)));
        let both = json!({"kvroute.io/endpoint-host": host, "kvroute.io/events-port": "7000"});
        assert_eq!(
            read(both),
            (at(shown, 7000), at(shown, 5558), 1, endpoint(shown))
        );
    }
}

#[test]
fn an_address_of_six_bytes_pairs_is_bracketed() {
    let mut six = pod(&aibrix(), &json!({"kvroute.io/ranks": "1"}));
    six["status"]["podIP"] = json!("fd00:1::2");
    let spec = found(&six, Preset::Aibrix).spec;
    assert_eq!(spec.endpoint.as_deref(), Some("[fd00:1::2]:8000"));
    let ranks = spec.ranks().unwrap();
    assert_eq!(ranks[0].events, "tcp://[fd00:1::2]:5557");
    assert_eq!(ranks[0].replay.as_deref(), Some("tcp://[fd00:1::2]:5558"));
}

/// Rank 1 would publish where rank 0 replays.
#[test]
fn ports_that_collide_are_refused_by_the_fleet() {
    let annotations = json!({"kvroute.io/ranks": "2"});
    let spec = found(&pod(&aibrix(), &annotations), Preset::Aibrix).spec;
    let message = spec.ranks().unwrap_err().to_string();
    assert!(
        message.contains("5557") && message.contains("5558"),
        "{message}"
    );
}

/// Without events there are no ports that could be wrong.
#[test]
fn ports_of_a_pod_without_events_do_not_matter() {
    let labels = json!({"model.aibrix.ai/name": "llama"});
    let annotations = json!({"kvroute.io/ranks": "2", "kvroute.io/events-port": "7000"});
    let spec = found(&pod(&labels, &annotations), Preset::Aibrix).spec;
    assert_eq!((spec.kv_events, spec.events.as_deref()), (false, None));
    assert_eq!(spec.ranks().unwrap().len(), 2);
}

#[test]
fn bad_annotations_are_named_with_their_value() {
    for (key, value, allowed) in [
        ("kvroute.io/events-port", "", "1 to 65535"),
        ("kvroute.io/events-port", "0", "1 to 65535"),
        ("kvroute.io/events-port", "65536", "1 to 65535"),
        ("kvroute.io/events-port", "+80", "1 to 65535"),
        ("kvroute.io/events-port", "none", "1 to 65535"),
        (
            "kvroute.io/replay-port",
            "None",
            "none or a port, 1 to 65535",
        ),
        ("kvroute.io/ranks", "0", "1 to 1024"),
        ("kvroute.io/ranks", "1025", "1 to 1024"),
        ("kvroute.io/ranks", "two", "1 to 1024"),
        ("kvroute.io/port", "http", "1 to 65535"),
        ("kvroute.io/kv-events", "on", "true or false"),
        ("kvroute.io/endpoint-host", "", "host name or an address"),
        (
            "kvroute.io/endpoint-host",
            "http://h",
            "host name or an address",
        ),
        (
            "kvroute.io/endpoint-host",
            "h:80",
            "host name or an address",
        ),
    ] {
        let message = refusal(&pod(&aibrix(), &json!({key: value})), Preset::Aibrix);
        let quoted = format!("annotation {key}: {value:?}: ");
        assert!(
            message.starts_with(&quoted) && message.contains(allowed),
            "{message}"
        );
    }
    let labels = json!({"model.aibrix.ai/name": "llama", "model.aibrix.ai/port": "x"});
    let message = refusal(&pod(&labels, &Value::Null), Preset::Aibrix);
    assert!(
        message.starts_with("label model.aibrix.ai/port: \"x\": "),
        "{message}"
    );
    let long = json!({"kvroute.io/ranks": "9".repeat(100_000)});
    let message = refusal(&pod(&aibrix(), &long), Preset::Aibrix);
    assert!(message.len() < 300, "{message}");
}

#[test]
fn pods_that_cannot_serve_are_none() {
    let changed = |change: fn(&mut Value)| {
        let mut pod = pod(&aibrix(), &Value::Null);
        change(&mut pod);
        reading(&pod, Preset::Aibrix)
    };
    let phase = |phase: &str| Reading::No(No::Phase(phase.to_owned()));
    assert_eq!(
        changed(|it| it["status"]["phase"] = json!("Pending")),
        phase("Pending")
    );
    assert_eq!(
        changed(|it| it["status"]["phase"] = json!("Succeeded")),
        phase("Succeeded")
    );
    assert_eq!(
        changed(|it| it["status"] =
            json!({"phase": "Failed", "reason": "Evicted", "podIP": "10.1.2.3"})),
        phase("Failed")
    );
    assert_eq!(changed(|it| it["status"] = Value::Null), phase(""));
    assert_eq!(
        changed(|it| it["status"]["podIP"] = Value::Null),
        Reading::No(No::Address)
    );
    assert_eq!(
        changed(|it| it["status"]["podIP"] = json!("")),
        Reading::No(No::Address)
    );
    let terminating =
        |it: &mut Value| it["metadata"]["deletionTimestamp"] = json!("2026-01-01T01:00:00Z");
    assert_eq!(changed(terminating), Reading::No(No::Terminating));
    // Somebody else's address does for a pod that has none.
    let mut elsewhere = pod(&aibrix(), &json!({"kvroute.io/endpoint-host": "gpu-7"}));
    elsewhere["status"]["podIP"] = Value::Null;
    assert_eq!(
        found(&elsewhere, Preset::Aibrix).spec.endpoint.as_deref(),
        Some("gpu-7:8000")
    );
}

#[test]
fn containers_make_a_pod_ready() {
    let ready = |conditions: Value, containers: &[bool]| {
        let mut pod = pod(&aibrix(), &Value::Null);
        pod["status"]["conditions"] = conditions;
        let containers = containers
            .iter()
            .map(|ready| json!({"name": "c", "ready": ready, "restartCount": 0}));
        pod["status"]["containerStatuses"] = containers.collect();
        found(&pod, Preset::Aibrix).ready
    };
    let condition = |status: &str| json!([{"type": "ContainersReady", "status": status}]);
    assert!(ready(condition("True"), &[false]));
    assert!(!ready(condition("False"), &[true]));
    assert!(!ready(condition("Unknown"), &[true]));
    // The machine is silent, or a gate of the pod's own is shut.
    assert!(!ready(
        json!([{"type": "ContainersReady", "status": "True"}, {"type": "Ready", "status": "False"}]),
        &[true, true]
    ));
    assert!(ready(
        json!([{"type": "Initialized", "status": "False"}]),
        &[true, true]
    ));
    assert!(!ready(Value::Null, &[true, false]));
    assert!(!ready(Value::Null, &[]));
}

/// One watch over a pod's life.
struct Life {
    book: Book,
    pod: Value,
}

impl Life {
    fn new(not_ready: bool) -> Self {
        let mut book = Book::new(1, not_ready);
        let noted = book.list(0, BTreeMap::new()).unwrap();
        assert!(noted.changed, "an empty list is news, too");
        let pod = pod(&aibrix(), &Value::Null);
        Self { book, pod }
    }

    fn set(&mut self) -> Noted {
        let reading = reading(&self.pod, Preset::Aibrix);
        self.book.set(0, "prod/llama-0".into(), reading).unwrap()
    }

    fn ready(&mut self, ready: bool) -> Noted {
        let status = if ready { "True" } else { "False" };
        self.pod["status"]["conditions"] = json!([{"type": "ContainersReady", "status": status}]);
        self.set()
    }

    /// Whether it serves; `None` if the fleet has not got it.
    fn serving(&self) -> Option<bool> {
        let (pods, refused) = self.book.told();
        assert!(refused.is_empty() && pods.len() <= 1);
        pods.first().map(|pod| pod.serving)
    }
}

const CHANGED: Noted = Noted {
    changed: true,
    restarted: Vec::new(),
};

#[test]
fn a_pod_enters_when_it_is_ready_and_stays() {
    let mut life = Life::new(false);
    life.ready(false);
    assert_eq!(life.serving(), None, "never ready");
    assert_eq!(life.ready(true), CHANGED);
    assert_eq!(life.serving(), Some(true));
    assert_eq!(life.ready(true), Noted::default(), "nothing new");
    assert_eq!(life.ready(false), CHANGED);
    assert_eq!(life.serving(), Some(false), "its cache is still there");
    life.pod["metadata"]["uid"] = json!("uid-2");
    assert_eq!(life.ready(false), CHANGED);
    assert_eq!(life.serving(), None, "another pod, which was never ready");
    life.ready(true);
    life.pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T01:00:00Z");
    assert_eq!(life.set(), CHANGED);
    assert_eq!(life.serving(), None);
    assert_eq!(life.set(), Noted::default());
}

#[test]
fn a_pod_that_is_not_ready_serves_if_that_is_wanted() {
    let mut life = Life::new(true);
    life.ready(false);
    assert_eq!(life.serving(), Some(true));
    life.ready(true);
    assert_eq!(life.serving(), Some(true));
}

#[test]
fn a_container_that_is_started_anew_is_noticed_once() {
    let restarted = Noted {
        changed: false,
        restarted: vec![("prod/llama-0".into(), Some("uid-1".into()))],
    };
    let mut life = Life::new(false);
    assert_eq!(life.set(), CHANGED, "it was not known before");
    // That one has ended is no news: the next one is.
    life.pod["status"]["containerStatuses"] = json!([container(0, "a", None)]);
    assert_eq!(life.set(), Noted::default());
    for next in [
        container(1, "b", Some("2026-01-01T00:05:00Z")),
        container(2, "b", Some("2026-01-01T00:05:00Z")),
        container(2, "c", Some("2026-01-01T00:05:00Z")),
        container(2, "c", Some("2026-01-01T00:06:00Z")),
    ] {
        life.pod["status"]["containerStatuses"] = json!([next]);
        assert_eq!(life.set(), restarted, "{next}");
        assert_eq!(life.set(), Noted::default());
    }
    // Nor is it missed while the watch was away.
    life.pod["status"]["containerStatuses"] =
        json!([container(3, "d", Some("2026-01-01T00:07:00Z"))]);
    let listed = |life: &Life| {
        let reading = reading(&life.pod, Preset::Aibrix);
        BTreeMap::from([("prod/llama-0".to_owned(), reading)])
    };
    let again = listed(&life);
    assert_eq!(life.book.list(0, again).unwrap(), restarted);
    // Another pod's containers are others anyway.
    life.pod["metadata"]["uid"] = json!("uid-2");
    life.pod["status"]["containerStatuses"] =
        json!([container(0, "e", Some("2026-01-01T00:08:00Z"))]);
    assert_eq!(life.set(), CHANGED);
}

#[test]
fn a_list_replaces_what_was_known_and_another_watch_is_left_alone() {
    let read = |name: &str| {
        let mut pod = pod(&aibrix(), &Value::Null);
        pod["metadata"]["name"] = json!(name);
        (format!("prod/{name}"), reading(&pod, Preset::Aibrix))
    };
    let names = |book: &Book| {
        let (pods, _) = book.told();
        pods.into_iter().map(|pod| pod.spec.pod).collect::<Vec<_>>()
    };
    let mut book = Book::new(2, false);
    book.list(0, BTreeMap::from([read("a"), read("b")]))
        .unwrap();
    assert_eq!(book.unlisted().collect::<Vec<_>>(), [1]);
    book.list(1, BTreeMap::from([read("z")])).unwrap();
    assert_eq!(book.unlisted().count(), 0);
    assert_eq!(names(&book), ["prod/a", "prod/b", "prod/z"]);
    book.list(0, BTreeMap::from([read("b"), read("c")]))
        .unwrap();
    assert_eq!(names(&book), ["prod/b", "prod/c", "prod/z"]);
    assert_eq!(
        book.list(0, BTreeMap::from([read("b"), read("c")]))
            .unwrap(),
        Noted::default()
    );
    assert_eq!(book.forget(0, "prod/c"), CHANGED);
    assert_eq!(book.forget(0, "prod/c"), Noted::default());
    assert_eq!(names(&book), ["prod/b", "prod/z"]);
}

#[test]
fn a_refused_pod_is_told_of_until_it_is_mended() {
    let mut life = Life::new(false);
    life.set();
    life.pod["metadata"]["annotations"] = json!({"kvroute.io/ranks": "0"});
    assert_eq!(life.set(), CHANGED);
    let (pods, refused) = life.book.told();
    assert!(pods.is_empty());
    assert_eq!(refused.len(), 1);
    life.pod["metadata"]["annotations"] = Value::Null;
    assert_eq!(life.set(), CHANGED);
    assert_eq!(life.serving(), Some(true));
}
