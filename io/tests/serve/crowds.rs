//! Crowds of clients: others are answered meanwhile, and the node's memory stays bounded.
use crate::running::{PATIENCE, Running, answer, rest};
use kvroute::limits::{BODIES_BYTES_MAX, BODY_BYTES_DEFAULT, HEADS_BYTES_MAX};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

const ONE_THREAD: [&str; 4] = ["--listen", "127.0.0.1:0", "--http-threads", "1"];

const MEGABYTE: u64 = 1 << 20;

#[track_caller]
fn assert_answers(node: &Running) {
    assert!(node.get("/healthz").starts_with("HTTP/1.1 200 "));
}

/// As many files as the system lets us open, but for some that others need.
fn files() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).unwrap();
    let most = limit.maximum.unwrap_or(u64::MAX);
    usize::try_from(most)
        .unwrap_or(usize::MAX)
        .saturating_sub(1_000)
}

fn settle(node: &Running, connections: u64) {
    let give_up = Instant::now() + PATIENCE;
    // The one that asks is one of them.
    while node.metric("kvroute_http_connections") > connections + 1 {
        assert!(Instant::now() < give_up, "connections remain");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn ten_thousand_connections() {
    const REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    let count = files().min(10_000);
    if count < 10_000 {
        eprintln!("the limit of open files allows for {count} connections only");
    }
    let node = Running::start(&ONE_THREAD);
    let before = node.memory();
    let mut crowd = Vec::new();
    for number in 0..count {
        let mut stream = node.connect();
        // A third has asked, a third begins to, a third says nothing.
        match number % 3 {
            0 => {
                stream.write_all(REQUEST).unwrap();
                assert!(answer(&mut stream).starts_with("HTTP/1.1 200 "));
            }
            1 => stream.write_all(&REQUEST[..20]).unwrap(),
            _ => {}
        }
        crowd.push(stream);
        if number % 1_000 == 0 {
            assert_answers(&node);
        }
    }
    let open = node.metric("kvroute_http_connections ");
    let slow = node.metric("kvroute_http_refused_total{reason=\"slow_head\"}");
    // On a slow machine the first ones that began may be too slow by now.
    assert!(open + slow >= count as u64, "{open} and {slow}");
    assert_eq!(
        node.metric("kvroute_http_refused_total{reason=\"connections\"}"),
        0
    );
    let each = node.memory().saturating_sub(before) / count as u64;
    assert!(each < 32 << 10, "{each} bytes for each connection");
    // All of them are still served.
    for stream in crowd.iter_mut().step_by(3 * 97) {
        stream.write_all(REQUEST).unwrap();
        assert!(answer(stream).starts_with("HTTP/1.1 200 "));
    }
    drop(crowd);
    settle(&node, 0);
    node.signal("-TERM");
    assert_eq!(node.end().code(), Some(0));
}

#[test]
fn more_connections_than_may_be() {
    let node = Running::start(&[&ONE_THREAD[..], &["--connections-max", "100"]].concat());
    let mut first: Vec<_> = (0..99).map(|_| node.connect()).collect();
    assert_answers(&node);
    first.push(node.connect());
    let mut refused = 0;
    for _ in 0..500 {
        let mut stream = node.connect();
        let told = rest(&mut stream);
        assert!(
            told.starts_with("HTTP/1.1 503 ") && told.contains("overloaded"),
            "{told}"
        );
        refused += 1;
    }
    // Those that are in are served as before.
    let stream = &mut first[0];
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")
        .unwrap();
    let metrics = answer(stream);
    let counted = format!("kvroute_http_refused_total{{reason=\"connections\"}} {refused}\n");
    assert!(metrics.contains(&counted), "{metrics}");
}

/// Each sends as much of a head as one may, and never the end of it.
#[test]
fn heads_without_end_take_bounded_memory() {
    let node = Running::start(&ONE_THREAD);
    let before = node.memory();
    let head = format!(
        "GET /healthz HTTP/1.1\r\nhost: x\r\nx: {}",
        "y".repeat(100_000)
    );
    let count = 2 * HEADS_BYTES_MAX / head.len();
    let mut crowd = Vec::new();
    for number in 0..count {
        let mut stream = node.connect();
        // It may be ended while it sends.
        let _ = stream.write_all(head.as_bytes());
        crowd.push(stream);
        if number % 100 == 0 {
            // There is always room for usual heads.
            assert_answers(&node);
            assert!(node.memory() - before < 6 * HEADS_BYTES_MAX as u64);
        }
    }
    let give_up = Instant::now() + PATIENCE;
    // Those that were in are too slow in the end.
    loop {
        let refused = |reason: &str| {
            let name = format!("kvroute_http_refused_total{{reason=\"{reason}\"}}");
            usize::try_from(node.metric(&name)).unwrap()
        };
        let (heads, slow) = (refused("heads"), refused("slow_head"));
        if heads > 0 && heads + slow >= crowd.len() {
            break;
        }
        assert!(Instant::now() < give_up, "{heads} and {slow}");
        thread::sleep(Duration::from_millis(100));
    }
    assert!(node.memory() - before < 6 * HEADS_BYTES_MAX as u64);
    assert_answers(&node);
}

/// Each sends nearly all of the largest body, and then waits.
#[test]
fn bodies_without_end_take_bounded_memory() {
    let node = Running::start(&ONE_THREAD);
    let before = node.memory();
    let head = format!(
        "POST /v1/match HTTP/1.1\r\nhost: x\r\ncontent-length: {BODY_BYTES_DEFAULT}\r\n\r\n"
    );
    let body = vec![b' '; BODY_BYTES_DEFAULT - 1];
    let count = BODIES_BYTES_MAX / BODY_BYTES_DEFAULT * 3 / 2;
    let mut crowd: Vec<TcpStream> = Vec::new();
    for _ in 0..count {
        let mut stream = node.connect();
        stream.write_all(head.as_bytes()).unwrap();
        let _ = stream.write_all(&body);
        crowd.push(stream);
        assert_answers(&node);
        assert!(node.memory() - before < 2 * BODIES_BYTES_MAX as u64 + 64 * MEGABYTE);
    }
    // Whoever came too late is told so, after the last byte.
    let mut told = 0;
    for mut stream in crowd {
        stream.write_all(b" ").unwrap();
        let answer = answer(&mut stream);
        if answer.starts_with("HTTP/1.1 503 ") || answer.starts_with("HTTP/1.1 429 ") {
            told += 1;
        } else {
            assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        }
    }
    assert!(told > 0, "all of them had room");
    assert_answers(&node);
}
