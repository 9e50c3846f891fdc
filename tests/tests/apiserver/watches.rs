//! Watches: what is told of pods' lives, and to whom.
use crate::client::{Next, get, json, plain_server};
use kvroute_tests::apiserver::{ApiServer, Options, PodTemplate, StreamFault, Verb};
use serde_json::{Value, json as value};

fn watch_from(server: &ApiServer, version: u64, more: &str) -> crate::client::Answer {
    let path = format!("/api/v1/pods?watch=true&resourceVersion={version}{more}");
    let answer = get(server, &path);
    assert_eq!(answer.status, 200);
    answer
}

fn engine(name: &str) -> PodTemplate {
    PodTemplate::new("a", name).label("model", "m")
}

#[test]
fn a_pods_life_is_told_step_by_step() {
    let server = plain_server();
    let mut watch = watch_from(&server, server.version(), "");
    let pod = server.create(engine("one"));
    pod.schedule("node-7").run("10.0.0.1").ready().unready();
    pod.restart_container("engine").change_ip("10.0.0.2");
    pod.annotate("note", Some("x")).annotate("note", None);
    let first_uid = pod.uid();
    pod.evict().delete().gone();
    pod.recreate();
    let second_uid = pod.uid();
    let mut told = |path: &str| {
        let (kind, _, object) = watch.event();
        let found = object.pointer(path).cloned();
        (kind, found.unwrap_or_default(), object)
    };
    let status = "/status/containerStatuses/0";
    let phase = "/status/phase";
    for (path, kind, expected) in [
        (phase, "ADDED", value!("Pending")),
        ("/spec/nodeName", "MODIFIED", value!("node-7")),
        (phase, "MODIFIED", value!("Running")),
        (&format!("{status}/ready"), "MODIFIED", value!(true)),
        (&format!("{status}/ready"), "MODIFIED", value!(false)),
        (&format!("{status}/restartCount"), "MODIFIED", value!(1)),
        ("/status/podIP", "MODIFIED", value!("10.0.0.2")),
        ("/metadata/annotations/note", "MODIFIED", value!("x")),
        ("/metadata/annotations/note", "MODIFIED", Value::Null),
        (phase, "MODIFIED", value!("Failed")),
        (
            "/metadata/deletionGracePeriodSeconds",
            "MODIFIED",
            value!(30),
        ),
        ("/metadata/uid", "DELETED", value!(first_uid)),
        ("/metadata/uid", "ADDED", value!(second_uid)),
    ] {
        let (told, found, object) = told(path);
        assert_eq!((told.as_str(), found), (kind, expected), "{object}");
    }
    assert_ne!(first_uid, second_uid);
}

#[test]
fn versions_grow_and_a_watch_resumes_where_it_says() {
    let server = plain_server();
    let pod = server.create(engine("one"));
    let mut last = server.version();
    pod.start("10.0.0.1");
    for _ in 0..2 {
        let mut watch = watch_from(&server, last, "");
        for _ in 0..2 {
            let (_, _, object) = watch.event();
            let version = object["metadata"]["resourceVersion"].as_str().unwrap();
            let version: u64 = version.parse().unwrap();
            assert!(version > last);
            last = version;
        }
        pod.unready();
    }
    assert_eq!(last, server.version() - 3, "four changes were told once");
}

#[test]
fn what_a_restart_of_a_container_leaves() {
    let server = plain_server();
    let pod = server.create(engine("one").container("sidecar", Some(9_000)));
    pod.start("10.0.0.1");
    let status = |at: usize| pod.object().unwrap()["status"]["containerStatuses"][at].clone();
    let (before, beside) = (status(0), status(1));
    pod.crash_container("engine");
    let ready = |pod: &Value| {
        let conditions = pod["status"]["conditions"].as_array().unwrap().clone();
        let ready = conditions.into_iter().find(|c| c["type"] == "Ready");
        ready.unwrap()["status"].clone()
    };
    assert_eq!(ready(&pod.object().unwrap()), "False");
    pod.restart_container("engine").ready();
    assert_eq!(ready(&pod.object().unwrap()), "True");
    let after = status(0);
    assert_eq!(after["restartCount"], 1);
    assert_ne!(after["containerID"], before["containerID"]);
    let started = "/state/running/startedAt";
    assert!(after.pointer(started).unwrap().as_str() > before.pointer(started).unwrap().as_str());
    let ended = &after["lastState"]["terminated"];
    assert_eq!(ended["containerID"], before["containerID"]);
    assert_eq!(status(1), beside);
}

#[test]
fn pods_that_begin_or_stop_to_be_selected_come_and_go() {
    let server = plain_server();
    let more = "&labelSelector=model%3Dm&fieldSelector=status.phase%3DRunning";
    let mut watch = watch_from(&server, server.version(), more);
    let pod = server.create(engine("one"));
    server
        .create(PodTemplate::new("a", "other"))
        .start("10.0.0.9");
    pod.start("10.0.0.1");
    pod.relabel("model", Some("k"));
    let left_at = server.version().to_string();
    pod.change_ip("10.0.0.2");
    pod.relabel("model", Some("m")).evict();
    // Pending is not selected, nor is the other pod.
    let (kind, name, object) = watch.event();
    assert_eq!((kind.as_str(), name.as_str()), ("ADDED", "one"));
    assert_eq!(object["status"]["podIP"], "10.0.0.1");
    assert_eq!(watch.event().0, "MODIFIED");
    // What was seen last, with the number of the change that took it away.
    let (kind, _, object) = watch.event();
    assert_eq!(kind, "DELETED");
    assert_eq!(object["metadata"]["labels"]["model"], "m");
    assert_eq!(object["metadata"]["resourceVersion"], left_at);
    let (kind, _, object) = watch.event();
    assert_eq!(kind, "ADDED");
    assert_eq!(object["status"]["podIP"], "10.0.0.2");
    let (kind, _, object) = watch.event();
    assert_eq!(kind, "DELETED");
    assert_eq!(object["status"]["phase"], "Running");
}

#[test]
fn a_watch_of_a_namespace_sees_no_other() {
    let server = plain_server();
    let path = "/api/v1/namespaces/b/pods?watch=true&resourceVersion=";
    let mut watch = get(&server, &format!("{path}{}", server.version()));
    server.create(engine("one"));
    server.create(PodTemplate::new("b", "two"));
    assert_eq!(watch.event().1, "two");
}

#[test]
fn a_watch_without_a_version_begins_with_all_there_is() {
    let server = plain_server();
    server.create(engine("one")).start("10.0.0.1");
    for path in [
        "/api/v1/pods?watch=true",
        "/api/v1/pods?watch=true&resourceVersion=0",
    ] {
        let mut watch = get(&server, path);
        let (kind, name, object) = watch.event();
        assert_eq!((kind.as_str(), name.as_str()), ("ADDED", "one"));
        assert_eq!(object["status"]["phase"], "Running");
    }
}

#[test]
fn a_forgotten_version_is_gone() {
    let server = plain_server();
    let pod = server.create(engine("one"));
    let old = server.version();
    pod.start("10.0.0.1");
    server.compact();
    let mut watch = watch_from(&server, old, "");
    let (kind, _, status) = watch.event();
    assert_eq!(kind, "ERROR");
    assert_eq!(
        (&status["kind"], &status["code"]),
        (&value!("Status"), &value!(410))
    );
    assert_eq!(status["reason"], "Expired");
    let expected = format!("too old resource version: {old} ({})", server.version());
    assert_eq!(status["message"], expected);
    assert_eq!(watch.next(), Next::End);
    // From the present one it goes on.
    let mut watch = watch_from(&server, server.version(), "");
    pod.unready();
    assert_eq!(watch.event().0, "MODIFIED");
}

#[test]
fn the_history_has_an_end() {
    let server = ApiServer::start_with(Options {
        tls: false,
        history_max: 2,
    });
    let before = server.version();
    let pod = server.create(engine("one"));
    let first = server.version();
    pod.start("10.0.0.1");
    // Scheduled is forgotten, running and ready are not.
    for gone in [before, first] {
        assert_eq!(watch_from(&server, gone, "").event().0, "ERROR");
    }
    let mut watch = watch_from(&server, first + 3, "");
    assert_eq!(watch.event().2["status"]["phase"], "Running");
}

#[test]
fn bookmarks_come_to_whom_allows_them() {
    let server = plain_server();
    let pod = server.create(engine("one"));
    let begin = server.version();
    let mut allows = watch_from(&server, begin, "&allowWatchBookmarks=true");
    let mut others = watch_from(&server, begin, "");
    server.wait_for_watches(2);
    server.advance(500);
    server.disturb(StreamFault::Bookmark);
    let (kind, _, object) = allows.event();
    assert_eq!(
        (kind.as_str(), &object["kind"]),
        ("BOOKMARK", &value!("Pod"))
    );
    let version = (begin + 500).to_string();
    assert_eq!(object["metadata"]["resourceVersion"], version);
    pod.schedule("node");
    for watch in [&mut allows, &mut others] {
        assert_eq!(watch.event().0, "MODIFIED");
    }
    // Whoever has the bookmark can go on from there, others cannot.
    server.compact();
    pod.run("10.0.0.1");
    let version = server.version() - 3;
    assert_eq!(watch_from(&server, version, "").event().0, "MODIFIED");
    assert_eq!(watch_from(&server, begin, "").event().0, "ERROR");
}

#[test]
fn a_list_can_be_streamed() {
    let server = plain_server();
    server.create(engine("one"));
    server.create(engine("two"));
    let path = "/api/v1/pods?watch=true&sendInitialEvents=true&allowWatchBookmarks=true";
    assert_eq!(json(&server, path).0, 422);
    let path = format!("{path}&resourceVersionMatch=NotOlderThan");
    let mut watch = get(&server, &path);
    assert_eq!(watch.event().1, "one");
    assert_eq!(watch.event().1, "two");
    let (kind, _, object) = watch.event();
    assert_eq!(kind, "BOOKMARK");
    let annotations = &object["metadata"]["annotations"];
    assert_eq!(annotations["k8s.io/initial-events-end"], "true");
    let version = server.version().to_string();
    assert_eq!(object["metadata"]["resourceVersion"], version);
    server.create(engine("three"));
    assert_eq!(watch.event().1, "three");
    server.set_streaming_lists(false);
    assert_eq!(json(&server, &path).0, 422);
}

#[test]
fn a_watch_ends_after_its_time() {
    let server = plain_server();
    let mut watch = watch_from(&server, server.version(), "&timeoutSeconds=1");
    assert_eq!(watch.next(), Next::End);
    server.wait_for_watches(0);
}

/// Five hundred pods that never rest, and watches of which one is not read: all changes come, memory has a bound.
#[test]
fn many_pods_and_many_changes() {
    const PODS: usize = 500;
    const ROUNDS: usize = 10;
    let server = plain_server();
    let slow = watch_from(&server, server.version(), "");
    let mut watch = watch_from(&server, server.version(), "");
    let name = |number: usize| format!("pod-{number:03}");
    let pods: Vec<_> = (0..PODS).map(|n| server.create(engine(&name(n)))).collect();
    let last = pods.clone();
    let script = std::thread::spawn(move || {
        for round in 0..ROUNDS {
            for pod in &last {
                pod.change_ip(&format!("10.0.0.{round}"));
            }
        }
    });
    for kind in std::iter::once("ADDED").chain([("MODIFIED"); ROUNDS]) {
        for number in 0..PODS {
            let (told, pod, _) = watch.event();
            assert_eq!((told.as_str(), pod), (kind, name(number)));
        }
    }
    script.join().expect("the script ends");
    drop(slow);
    server.wait_for_watches(1);
    assert_eq!(server.count(Verb::Watch), 2);
}
