//! The log of a running node: its form, what of it is wanted, how much of it there may be, and who is not waited for.
use crate::running::{PATIENCE, Running, serve};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const ANY_PORT: [&str; 2] = ["--listen", "127.0.0.1:0"];

fn body(answer: &str) -> Value {
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer}"))
}

/// What holds, and what the settings say.
fn wanted(node: &Running) -> (String, String) {
    let shown = body(&node.get("/v1/log"));
    let said = |name: &str| shown[name].as_str().unwrap().to_owned();
    (said("log"), said("configured"))
}

fn put(node: &Running, filter: &str) -> Value {
    body(&node.ask("PUT", "/v1/log", &format!("{{\"log\":{filter}}}")))
}

fn pair(now: &str, configured: &str) -> (String, String) {
    (now.to_owned(), configured.to_owned())
}

#[test]
fn lines_are_objects_if_that_is_asked_for() {
    let node = Running::start(&[&ANY_PORT[..], &["--log-format", "json"]].concat());
    let fields: Value = serde_json::from_str(&node.answering).unwrap();
    assert_eq!(
        (&fields["level"], &fields["message"], &fields["target"]),
        (
            &"INFO".into(),
            &"answering".into(),
            &"kvroute::cli::serve".into()
        )
    );
    assert_eq!(fields["listen"], node.said("listen"));
    node.signal("-TERM");
    for line in node.logged_until("\"stopped\"") {
        let line: Value = serde_json::from_str(&line).unwrap();
        // 2026-11-23T15:43:17.123Z
        let time = line["timestamp"].as_str().unwrap();
        assert_eq!((time.len(), &time[10..11], &time[19..20]), (24, "T", "."));
        assert!(
            line["message"].is_string() && line["level"].is_string(),
            "{line}"
        );
    }
    assert_eq!(node.end().code(), Some(0));
}

#[test]
fn what_is_logged_can_be_changed_over_http_and_by_the_settings() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("kvroute.yaml");
    let set = |text: &str| std::fs::write(&file, text).unwrap();
    set("listen: 127.0.0.1:0\nlog: info\n");
    let node = Running::start(&["--config", file.to_str().unwrap()]);
    assert_eq!(wanted(&node), pair("info", "info"));
    // Looking changes nothing.
    let answer = node.ask("GET", "/v1/log?log=trace", "{\"log\":\"trace\"}");
    assert_eq!(body(&answer)["log"], "info");
    let finer = "info,kvroute::http=debug";
    assert_eq!(put(&node, &format!("{finer:?}"))["log"], finer);
    assert!(
        node.logged("over HTTP")
            .contains(&format!("was=\"info\" is=\"{finer}\""))
    );
    // Now bad connections are told of.
    node.connect().write_all(b"what?\r\n\r\n").unwrap();
    assert!(node.logged("ended badly").contains("DEBUG kvroute::http"));
    assert_eq!(wanted(&node), pair(finer, "info"));
    // Settings that say what they said leave it so.
    node.signal("-HUP");
    node.logged("configuration read again");
    assert_eq!(wanted(&node), pair(finer, "info"));
    set("listen: 127.0.0.1:0\nlog: kvroute=info\n");
    node.signal("-HUP");
    node.logged("configuration read again");
    assert_eq!(wanted(&node), pair("kvroute=info", "kvroute=info"));
    put(&node, "\"warn\"");
    assert_eq!(wanted(&node), pair("warn", "kvroute=info"));
    assert_eq!(put(&node, "null")["log"], "kvroute=info");
    for (bad, named) in [
        ("\"info,kvroute::http=loud\"", "\\\"kvroute::http=loud\\\""),
        ("\"verbose\"", "verbose"),
        ("7", "log"),
        ("\"info\",\"rate\":7", "rate"),
    ] {
        let answer = node.ask("PUT", "/v1/log", &format!("{{\"log\":{bad}}}"));
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(answer.contains(named), "{named}: {answer}");
    }
    assert!(
        node.ask("PUT", "/v1/log", "{}")
            .starts_with("HTTP/1.1 400 ")
    );
    assert_eq!(wanted(&node), pair("kvroute=info", "kvroute=info"));
}

#[test]
fn it_is_the_admin_listeners_business() {
    let args = [&ANY_PORT[..], &["--admin-listen", "127.0.0.1:0"]].concat();
    let node = Running::start(&args);
    for (method, body) in [("GET", ""), ("PUT", "{\"log\":\"off\"}")] {
        let answer = node.ask(method, "/v1/log", body);
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    }
    let mut stream = TcpStream::connect(node.said("admin")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
        .write_all(b"GET /v1/log HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(body(&answer)["log"], "info");
}

/// Each change is a line of one place in the code.
#[test]
fn a_place_logs_so_many_lines_and_the_rest_is_counted_and_told() {
    const LINES: u64 = 30;
    let node = Running::start(&[&ANY_PORT[..], &["--log-rate", "1"]].concat());
    for _ in 0..LINES {
        put(&node, "\"info\"");
    }
    let left_out = body(&node.get("/v1/log"))["suppressed"].as_u64().unwrap();
    // At one a second, with five at once.
    assert!(
        left_out > 0,
        "{LINES} changes took longer than as many seconds"
    );
    assert_eq!(node.metric("kvroute_log_suppressed_total"), left_out);
    let lines = node.logged_until("like this left out");
    let told = lines.last().unwrap();
    let expected = format!("{left_out} lines like this left out left_out={left_out} at=");
    assert!(
        told.contains(&expected) && told.contains("http/log.rs:"),
        "{told}"
    );
    let passed = lines.iter().filter(|line| line.contains("over HTTP"));
    assert_eq!(passed.count() as u64, LINES - left_out);
}

/// A node whose log nobody reads, and where it answers.
struct Unread {
    child: Child,
    address: String,
}

impl Unread {
    fn start(args: &[&str]) -> Self {
        let mut child = serve(args).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = child.stderr.as_mut().unwrap();
        let mut log = Vec::new();
        let mut byte = [0];
        while !log.ends_with(b"\n") || !log.windows(9).any(|it| it == b"answering") {
            stderr.read_exact(&mut byte).unwrap();
            log.push(byte[0]);
        }
        let log = String::from_utf8(log).unwrap();
        let address = log.split("listen=").nth(1).unwrap();
        let address = address.split_whitespace().next().unwrap().to_owned();
        Self { child, address }
    }

    fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_log_that_nobody_reads_holds_nothing_up() {
    let mut node = Unread::start(
        &[
            &ANY_PORT[..],
            &["--log-rate", "0", "--grace", "5", "--drain", "1"],
        ]
        .concat(),
    );
    let filter = format!("{{\"log\":\"info{}\"}}", ",kvroute=info".repeat(300));
    let put = format!(
        "PUT /v1/log HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{filter}",
        filter.len()
    );
    // Each line has the filter twice: the pipe is full after a few, the queue after some hundred.
    let give_up = Instant::now() + PATIENCE;
    loop {
        let answer = node.ask(&put);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        if body(&answer)["lost"].as_u64().unwrap() > 0 {
            break;
        }
        assert!(Instant::now() < give_up, "nothing is lost");
    }
    let pid = node.child.id().to_string();
    let sent = std::process::Command::new("kill")
        .args(["-TERM", &pid])
        .status();
    assert!(sent.unwrap().success());
    let status = loop {
        if let Some(status) = node.child.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < give_up, "it does not end");
        thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(status.code(), Some(0));
}
