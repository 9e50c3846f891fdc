//! Everything that can go wrong on purpose, does.
use crate::client::{Answer, Ask, Next, ask, get, json, plain_server};
use kvroute_tests::apiserver::{
    ApiServer, Fault, PodScript, PodTemplate, StreamFault, TOKEN, Verb,
};
use serde_json::json as value;
use std::io::{self, Read};
use std::net::TcpStream;
use std::time::Duration;

const PODS: &str = "/api/v1/pods";

fn watch(server: &ApiServer) -> Answer {
    let path = format!("{PODS}?watch=true&resourceVersion={}", server.version());
    let answer = get(server, &path);
    server.wait_for_watches(1);
    answer
}

fn one_pod() -> (ApiServer, PodScript) {
    let server = plain_server();
    let pod = server.create(PodTemplate::new("a", "one"));
    (server, pod)
}

fn try_get(server: &ApiServer, path: &str) -> io::Result<Answer> {
    let (method, token) = ("GET", Some(TOKEN));
    ask(server, path, &Ask { method, token })
}

#[test]
fn watches_end_properly() {
    let (server, pod) = one_pod();
    let mut watch = watch(&server);
    pod.schedule("node");
    server.disturb(StreamFault::Close);
    assert_eq!(watch.event().0, "MODIFIED");
    assert_eq!(watch.next(), Next::End);
}

#[test]
fn watches_break_in_the_middle_of_a_line() {
    let (server, pod) = one_pod();
    let mut first = watch(&server);
    server.disturb(StreamFault::Break);
    assert!(matches!(first.next(), Next::Broken(1..)));
    server.wait_for_watches(0);
    let mut second = watch(&server);
    server.disturb(StreamFault::BreakAtNext(33));
    pod.schedule("node");
    assert_eq!(second.next(), Next::Broken(33));
    server.wait_for_watches(0);
    let mut third = watch(&server);
    pod.run("10.0.0.1");
    assert_eq!(third.event().0, "MODIFIED");
}

#[test]
fn watches_say_gone_garbage_or_nothing() {
    let (server, pod) = one_pod();
    let mut first = watch(&server);
    server.disturb(StreamFault::Garbage);
    pod.schedule("node");
    assert!(matches!(first.next(), Next::Garbage(_)));
    assert_eq!(first.event().0, "MODIFIED");
    server.disturb(StreamFault::Expire);
    let (kind, _, status) = first.event();
    assert_eq!((kind.as_str(), &status["code"]), ("ERROR", &value!(410)));
    assert_eq!(first.next(), Next::End);
    server.wait_for_watches(0);
    let silent = watch(&server);
    server.disturb(StreamFault::Silence);
    pod.run("10.0.0.1");
    assert_eq!(server.watches(), 1);
    drop(silent);
    server.wait_for_watches(0);
}

#[test]
fn lines_are_cut_at_every_byte() {
    let (server, pod) = one_pod();
    let mut watch = watch(&server);
    server.cut_lines(&[1], Duration::ZERO);
    pod.schedule("node");
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        let chunk = watch.chunk().unwrap().expect("there is more");
        assert_eq!(chunk.len(), 1);
        line.extend(chunk);
    }
    let event: serde_json::Value = serde_json::from_slice(&line).expect("a line of JSON");
    assert_eq!(event["type"], "MODIFIED");
    server.cut_lines(&[3, 5], Duration::from_millis(1));
    pod.run("10.0.0.1");
    for size in [3, 5, 3, 5] {
        assert_eq!(watch.chunk().unwrap().unwrap().len(), size);
    }
    server.heal();
}

#[test]
fn requests_are_refused() {
    let (server, _) = one_pod();
    server.fail_next(Verb::List, 2, Fault::Refuse(429, Some(7)));
    for _ in 0..2 {
        let answer = get(&server, PODS);
        assert_eq!(answer.status, 429);
        assert_eq!(answer.header("retry-after"), Some("7"));
        assert_eq!(answer.json()["reason"], "TooManyRequests");
    }
    assert_eq!(json(&server, PODS).0, 200);
    server.fail(Verb::List, Fault::Refuse(503, None));
    assert_eq!(json(&server, PODS).0, 503);
    assert_eq!(get(&server, PODS).header("retry-after"), None);
    server.fail(Verb::List, Fault::Gone);
    assert_eq!(json(&server, PODS).0, 410);
    server.heal();
    assert_eq!(json(&server, PODS).0, 200);
    let path = format!("{PODS}?watch=true&resourceVersion={}", server.version());
    server.fail_next(Verb::Watch, 1, Fault::Gone);
    assert_eq!(json(&server, &path).0, 410);
    server.fail_next(Verb::Watch, 1, Fault::GoneInStream);
    let mut answer = get(&server, &path);
    assert_eq!(answer.status, 200);
    let (kind, _, status) = answer.event();
    assert_eq!((kind.as_str(), &status["code"]), ("ERROR", &value!(410)));
    assert_eq!(answer.next(), Next::End);
}

#[test]
fn answers_break_come_late_or_never() {
    let (server, _) = one_pod();
    server.fail_next(Verb::List, 1, Fault::Cut(100));
    assert!(get(&server, PODS).body().is_err());
    server.fail_next(Verb::List, 1, Fault::Reset);
    assert!(try_get(&server, PODS).is_err());
    server.fail_next(Verb::List, 1, Fault::Garbage);
    let body = get(&server, PODS).body().expect("it is complete");
    assert!(body.starts_with(b"<html>"));
    server.fail_next(Verb::List, 1, Fault::Delay(Duration::from_millis(20)));
    assert_eq!(json(&server, PODS).0, 200);
    server.fail_next(Verb::List, 1, Fault::Hang);
    std::thread::scope(|scope| {
        let hangs = scope.spawn(|| try_get(&server, PODS));
        server.wait_for_requests(Verb::List, 5);
        assert_eq!(json(&server, PODS).0, 200);
        server.break_connections();
        assert!(hangs.join().unwrap().is_err());
    });
}

#[test]
fn connections_are_refused_or_silent() {
    let (server, _) = one_pod();
    let mut open = watch(&server);
    server.stop();
    assert_eq!(open.next(), Next::Broken(0));
    let refused = TcpStream::connect(server.address());
    assert_eq!(
        refused.unwrap_err().kind(),
        io::ErrorKind::ConnectionRefused
    );
    server.resume();
    assert_eq!(json(&server, PODS).0, 200);
    server.set_silent_connections(true);
    let mut silent = TcpStream::connect(server.address()).expect("it accepts");
    let timeout = Some(Duration::from_millis(50));
    silent.set_read_timeout(timeout).expect("a timeout");
    let kind = silent.read(&mut [0]).unwrap_err().kind();
    assert_eq!(kind, io::ErrorKind::WouldBlock);
    server.set_silent_connections(false);
    assert_eq!(json(&server, PODS).0, 200);
}

#[test]
fn a_restart_keeps_pods_and_loses_history() {
    let (server, pod) = one_pod();
    let before = server.version();
    pod.start("10.0.0.1");
    let address = server.address();
    server.restart();
    assert_eq!(server.address(), address);
    let path = format!("{PODS}?watch=true&resourceVersion={before}");
    assert_eq!(get(&server, &path).event().0, "ERROR");
    assert_eq!(
        json(&server, PODS).1["items"][0]["status"]["phase"],
        "Running"
    );
}
