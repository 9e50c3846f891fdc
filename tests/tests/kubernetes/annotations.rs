//! What annotations say of a pod, and what is made of those that make no sense.
use crate::world::{Engine, MODEL, NAMESPACE, World, until};
use kvroute_tests::apiserver::PodTemplate;
use serde_json::{Value, json};

#[test]
fn annotations_say_where_events_are() {
    let world = World::start();
    // Nobody answers at the pod's own address.
    let engine = Engine::holding(0);
    let template = engine.template(NAMESPACE, "a", MODEL);
    let template = template.annotation("kvroute.io/endpoint-host", "localhost");
    world.api.create(template).start("192.0.2.7");
    world.wait_for_holders(MODEL, 0, &["serving/a"]);
    let worker = world.workers()["serving/a"].clone();
    assert_eq!(worker["endpoint"], "localhost:8123");
    let (events, replay) = (engine.events_port(), engine.replay_port());
    assert_eq!(worker["events"], format!("tcp://localhost:{events}"));
    assert_eq!(worker["replay"], format!("tcp://localhost:{replay}"));
}

#[test]
fn annotations_follow_their_changes() {
    let world = World::start();
    let (_first, pod) = world.usual("a", 0);
    let second = Engine::holding(1);
    // One change: half of it would be a pod with another one's replays.
    pod.modify(|pod, _| {
        let annotations = &mut pod["metadata"]["annotations"];
        annotations["kvroute.io/events-port"] = json!(second.events_port().to_string());
        annotations["kvroute.io/replay-port"] = json!(second.replay_port().to_string());
    });
    world.wait_for_holders(MODEL, 1, &["serving/a"]);
    world.wait_for_holders(MODEL, 0, &[]);
}

#[test]
fn ranks_are_workers_of_their_own() {
    let world = World::start();
    let template = PodTemplate::new(NAMESPACE, "a").label("model.aibrix.ai/name", MODEL);
    let template = template.label("model.aibrix.ai/kv-events-enabled", "true");
    let template = template.annotation("kvroute.io/events-port", 20_100);
    let template = template.annotation("kvroute.io/replay-port", 20_200);
    let template = template.annotation("kvroute.io/ranks", 3);
    // Nobody publishes there; where it would be is all that is asked here.
    let pod = world.api.create(template);
    pod.start("127.0.0.9");
    let ranks = until("three ranks", || {
        let answer = world.client().get("/v1/workers", "").json();
        let workers = answer.as_array().expect("a list").clone();
        if workers.len() == 3 {
            Ok(workers)
        } else {
            Err(format!("{workers:?}"))
        }
    });
    for (rank, worker) in (0..).zip(&ranks) {
        assert_eq!(worker["pod"], "serving/a");
        assert_eq!(worker["rank"], rank);
        let (events, replay) = (20_100 + rank, 20_200 + rank);
        assert_eq!(worker["events"], format!("tcp://127.0.0.9:{events}"));
        assert_eq!(worker["replay"], format!("tcp://127.0.0.9:{replay}"));
    }
    pod.annotate("kvroute.io/ranks", Some("1"));
    until("one rank", || {
        let answer = world.client().get("/v1/workers", "").json();
        if answer.as_array().map(Vec::len) == Some(1) {
            Ok(())
        } else {
            Err(answer.to_string())
        }
    });
}

#[test]
fn a_bad_annotation_refuses_its_pod_alone_and_is_shown() {
    let world = World::start();
    let (_good, _) = world.usual("good", 0);
    let bad = [
        ("events-port", "70000"),
        ("replay-port", "-1"),
        ("ranks", "many"),
        ("endpoint-host", "a host"),
    ];
    let engine = Engine::holding(1);
    let mut pods = Vec::new();
    for (key, value) in bad {
        let template = engine.template(NAMESPACE, &format!("bad-{key}"), MODEL);
        let template = template.annotation(&format!("kvroute.io/{key}"), value);
        let pod = world.api.create(template);
        pod.start("127.0.0.1");
        pods.push(pod);
    }
    let report = until("four pods are refused", || {
        let report = world.report();
        if report.refused == bad.len() {
            Ok(report)
        } else {
            Err(format!("{report:?}"))
        }
    });
    assert_eq!(report.pods, bad.len() + 1);
    assert_eq!((report.state, report.error), ("following", None));
    for (key, value) in bad {
        let name = format!("serving/bad-{key}");
        let refused = report.refused_pods.iter().find(|r| r.pod == name);
        let refused = refused.expect("it is named");
        assert_eq!(refused.reason, "invalid");
        let (message, key) = (&refused.message, format!("kvroute.io/{key}"));
        assert!(
            message.contains(&key) && message.contains(value),
            "{message}"
        );
    }
    world.wait_for_pods(&["serving/good"]);
    world.wait_for_holders(MODEL, 0, &["serving/good"]);
    // One that is put right is found.
    pods[2].annotate("kvroute.io/ranks", None);
    world.wait_for_holders(MODEL, 1, &["serving/bad-ranks"]);
    // And one that goes wrong is not believed any more.
    pods[2].annotate("kvroute.io/ranks", Some("0"));
    world.wait_for_pods(&["serving/good"]);
    assert_eq!(world.workers()["serving/good"]["problem"], Value::Null);
}
