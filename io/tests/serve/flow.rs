//! What a node does, watched while it runs.
use crate::running::{PATIENCE, Running};
use std::io::{BufRead, BufReader, Write};
use std::thread;
use std::time::{Duration, Instant};

/// A number of the JSON in a text.
fn number(text: &str, name: &str) -> u64 {
    let rest = text.split(&format!("\"{name}\":")).nth(1).unwrap();
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap();
    digits.parse().unwrap()
}

#[test]
fn a_node_takes_samples_by_itself_and_does_not_wait_for_those_who_watch() {
    let node = Running::start(&[
        "--listen",
        "127.0.0.1:0",
        "--drain",
        "300",
        "--grace",
        "400",
    ]);
    node.wait_ready(200);
    let give_up = Instant::now() + PATIENCE;
    while node.get("/v1/flow").matches("\"at_ms\"").count() < 2 {
        assert!(Instant::now() < give_up, "no samples are taken");
        thread::sleep(Duration::from_millis(20));
    }
    let mut stream = node.connect();
    let ask = b"GET /v1/flow HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\r\n";
    stream.write_all(ask).unwrap();
    let mut lines = BufReader::new(stream).lines();
    let mut data = |event: &str| {
        let event = format!("event: {event}");
        lines
            .find(|line| line.as_ref().unwrap() == &event)
            .unwrap()
            .unwrap();
        lines.next().unwrap().unwrap()
    };
    assert!(data("history").contains("\"interval_ms\":1000"));
    let samples = [data("sample"), data("sample")];
    let [first, second] = samples.each_ref().map(|sample| number(sample, "at_ms"));
    assert!(first < second);
    assert!(number(&samples[1], "dt_ms") > 0);
    node.signal("-TERM");
    // It ends properly, long before those would have to whose requests take long.
    assert!(node.end().success());
    assert_eq!(lines.map_while(Result::ok).last().as_deref(), Some(""));
}
