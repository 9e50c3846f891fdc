//! A running node whose collector is down, slow, or takes less than it is sent.
use crate::collector::Collector;
use crate::running::{PATIENCE, Running};
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

fn start(collector: &str) -> Running {
    let args = [
        "--listen",
        "127.0.0.1:0",
        "--otlp-endpoint",
        collector,
        "--otlp-sample",
        "1",
        "--http-threads",
        "1",
    ];
    let node = Running::start(&args);
    let pod = r#"{"pod":"a","model":"m","kv_events":false,"endpoint":"127.0.0.1:9"}"#;
    let added = node.ask("POST", "/v1/workers", pod);
    assert!(added.starts_with("HTTP/1.1 201 "), "{added}");
    node
}

/// Has a prompt looked up, which makes two spans.
fn look_up(node: &Running) {
    let asked = r#"{"model":"m","token_ids":[1,2,3,4]}"#;
    let answer = node.ask("POST", "/v1/match", asked);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

fn dropped(node: &Running, why: &str) -> u64 {
    node.metric(&format!("kvroute_spans_dropped_total{{reason=\"{why}\"}}"))
}

fn wait_dropped(node: &Running, why: &str, count: u64) {
    let give_up = Instant::now() + PATIENCE;
    while dropped(node, why) != count {
        assert!(Instant::now() < give_up, "{why}: {}", node.get("/metrics"));
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_collector_that_is_down_harms_nothing() {
    let node = start("http://127.0.0.1:1");
    (0..5).for_each(|_| look_up(&node));
    wait_dropped(&node, "unreachable", 10);
    let line = node.logged("spans cannot be exported");
    assert!(
        line.contains("WARN") && line.contains("127.0.0.1:1/v1/traces"),
        "{line}"
    );
    assert_eq!(node.metric("kvroute_spans_exported_total"), 0);
    node.signal("-TERM");
    assert_eq!(node.end().code(), Some(0));
}

/// Connections are taken, and nobody answers: what waits is bounded, and so is the end.
#[test]
fn a_collector_that_is_silent_harms_nothing() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let node = start(&format!("http://{}", silent.local_addr().unwrap()));
    (0..50).for_each(|_| look_up(&node));
    wait_dropped(&node, "timeout", 100);
    look_up(&node);
    node.signal("-TERM");
    assert_eq!(node.end().code(), Some(0));
}

#[test]
fn what_a_collector_does_not_take_is_counted_by_reason() {
    let refusing = Collector::answering("HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n");
    let node = start(&refusing.endpoint());
    look_up(&node);
    wait_dropped(&node, "refused", 2);
    assert!(
        node.logged("spans cannot be exported")
            .contains("status=503")
    );
    // Partial success: one span is rejected. Field 1 of the answer is a message of two bytes, whose field 1 is the number.
    let picky =
        Collector::answering("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n\x0a\x02\x08\x01");
    let node = start(&picky.endpoint());
    look_up(&node);
    wait_dropped(&node, "rejected", 1);
    let give_up = Instant::now() + PATIENCE;
    while node.metric("kvroute_spans_exported_total") != 1 {
        assert!(Instant::now() < give_up, "{}", node.get("/metrics"));
    }
}

/// At the end, what still waits is sent.
#[test]
fn a_node_that_ends_sends_what_waits() {
    let collector = Collector::new();
    let node = start(&collector.endpoint());
    look_up(&node);
    node.signal("-TERM");
    assert_eq!(node.end().code(), Some(0));
    let mut names: Vec<_> = collector.all().into_iter().map(|span| span.name).collect();
    names.sort_unstable();
    assert_eq!(names, ["POST /v1/match", "lookup"]);
    assert_eq!(collector.services(), ["kvroute"]);
}
