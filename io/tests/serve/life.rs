//! The node's start and end as a process: it answers while it starts, can be stopped at any moment, and ends in time.
use crate::running::{PATIENCE, Running, in_flight, rest, serve};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

const ANY_PORT: [&str; 2] = ["--listen", "127.0.0.1:0"];

/// The way to a Kubernetes that is not there.
const NOBODY: &str = "apiVersion: v1
kind: Config
current-context: c
clusters: [{name: k, cluster: {server: 'http://127.0.0.1:1'}}]
contexts: [{name: c, context: {cluster: k, user: u}}]
users: [{name: u, user: {}}]
";

/// A peer that is ready and sends a snapshot without end; who told that it is being fetched.
fn slow_peer() -> (String, Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (sender, asked) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let sender = sender.clone();
            thread::spawn(move || answer_slowly(&mut stream.unwrap(), || sender.send(()).unwrap()));
        }
    });
    (address, asked)
}

fn answer_slowly(stream: &mut TcpStream, asked: impl FnOnce()) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    if head.starts_with(b"GET /readyz ") {
        let ready = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        return stream.write_all(ready).unwrap();
    }
    assert!(head.starts_with(b"GET /v1/snapshot "));
    let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head).unwrap();
    asked();
    while stream.write_all(b"1\r\nx\r\n").is_ok() {
        thread::sleep(Duration::from_millis(50));
    }
}

fn register(node: &Running) -> String {
    let body = r#"{"pod": "a", "model": "m", "events": "tcp://127.0.0.1:1"}"#;
    let mut stream = node.connect();
    write!(
        stream,
        "POST /v1/workers HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    rest(&mut stream)
}

fn path(folder: &TempDir) -> &str {
    folder.path().to_str().unwrap()
}

fn write(folder: &TempDir, name: &str, text: &str) -> String {
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_node_answers_while_it_looks_for_a_snapshot_and_can_be_stopped_meanwhile() {
    let folder = TempDir::new().unwrap();
    let (peer, asked) = slow_peer();
    let wanted = ["--peers", &peer, "--snapshot-dir", path(&folder)];
    let node = Running::start(&[&ANY_PORT[..], &wanted].concat());
    asked.recv_timeout(PATIENCE).unwrap();
    assert!(node.get("/healthz").starts_with("HTTP/1.1 200 "));
    let said = node.get("/readyz");
    assert!(said.starts_with("HTTP/1.1 503 "), "{said}");
    assert!(said.contains("\"code\":\"not_ready\""), "{said}");
    assert!(said.contains("peers are asked (1)"), "{said}");
    assert_eq!(node.metric("kvroute_ready "), 0);
    // A pod that came now would begin with nothing, and whoever asks for a snapshot would get an empty one.
    let refused = register(&node);
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert!(refused.contains("\"code\":\"starting\""), "{refused}");
    assert!(refused.contains("\r\nretry-after: 1\r\n"), "{refused}");
    let refused = node.get("/v1/snapshot");
    assert!(refused.contains("\"code\":\"starting\""), "{refused}");
    node.signal("-TERM");
    assert_eq!(node.end().code(), Some(0));
}

#[test]
fn dead_peers_do_not_keep_a_node_from_starting() {
    // Of the second one connections are taken, and nobody answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap().to_string();
    let peers = format!("127.0.0.1:1,{silent},no-such-host.invalid:80");
    let node = Running::start(&[&ANY_PORT[..], &["--peers", &peers]].concat());
    node.wait_ready(200);
    let taken = register(&node);
    assert!(taken.starts_with("HTTP/1.1 201 "), "{taken}");
    node.signal("-TERM");
    assert_eq!(node.end().code(), Some(0));
}

/// A fleet file with one pod, which publishes nothing.
fn fleet(folder: &TempDir, pod: &str) -> String {
    let pods = format!("pods:\n- {{pod: {pod}, model: m, kv_events: false, endpoint: 'x:1'}}\n");
    write(folder, pod, &pods)
}

/// Its snapshot would have fewer pods than the one that is there.
#[test]
fn a_node_that_is_stopped_before_it_was_ready_leaves_the_snapshot_that_it_found() {
    let (folder, kept) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let common = [&ANY_PORT[..], &["--snapshot-dir", path(&kept)]].concat();
    let node = Running::start(&common);
    node.wait_ready(200);
    node.signal("-TERM");
    node.logged("snapshot written");
    assert_eq!(node.end().code(), Some(0));
    let file = kept.path().join("kvroute.snapshot");
    let before = (
        fs::read(&file).unwrap(),
        fs::metadata(&file).unwrap().modified().unwrap(),
    );
    let fleet = fleet(&folder, "a");
    // Nobody is there.
    let kubeconfig = write(&folder, "kubeconfig", NOBODY);
    let never = [
        "--fleet",
        &fleet,
        "--kubernetes",
        "--kubeconfig",
        &kubeconfig,
    ];
    let node = Running::start(&[&common[..], &never].concat());
    let said = node.wait_ready(503);
    // The pod of the file is there, and the other source was never heard.
    assert!(said.contains("not_ready"), "{said}");
    node.wait_said("kubernetes was not heard yet");
    node.signal("-TERM");
    node.logged("no snapshot written");
    assert_eq!(node.end().code(), Some(0));
    let after = (
        fs::read(&file).unwrap(),
        fs::metadata(&file).unwrap().modified().unwrap(),
    );
    assert_eq!(before, after);
}

/// The file that the last snapshot is written to is a pipe that nobody reads.
#[test]
fn what_cannot_be_done_in_the_grace_period_is_left_undone() {
    let folder = TempDir::new().unwrap();
    let pipe = folder.path().join("kvroute.snapshot.new");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let times = ["--grace", "1", "--drain", "0.5"];
    let args = [&ANY_PORT[..], &["--snapshot-dir", path(&folder)], &times].concat();
    let node = Running::start(&args);
    node.wait_ready(200);
    node.signal("-TERM");
    let line = node.logged("the time to end is over");
    assert!(line.contains("last snapshot, threads"), "{line}");
    assert_eq!(node.end().code(), Some(0));
    assert!(!folder.path().join("kvroute.snapshot").exists());
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let times = ["--grace", "7200", "--drain", "3600"];
    let node = Running::start(&[&ANY_PORT[..], &times].concat());
    let mut busy = in_flight(&node);
    node.signal("-TERM");
    node.logged("stopping");
    node.signal("-TERM");
    let line = node.logged("told to stop again");
    assert!(
        line.contains("requests in flight, last snapshot, threads"),
        "{line}"
    );
    assert_eq!(rest(&mut busy), "");
    assert_eq!(node.end().code(), Some(0));
}

#[test]
fn files_are_checked_before_an_address_is_taken() {
    let folder = TempDir::new().unwrap();
    let empty = write(&folder, "empty", "# no token\n");
    let bad = write(&folder, "bad", "pods: [{pod: a}]\n");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let code = |args: &[&str]| {
        let args = [&["--listen", &listen][..], args].concat();
        let Output { status, stderr, .. } = serve(&args).output().unwrap();
        (status.code(), String::from_utf8(stderr).unwrap())
    };
    for args in [
        ["--token-file", empty.as_str()],
        ["--fleet", bad.as_str()],
        ["--snapshot-dir", empty.as_str()],
        ["--kubeconfig", "/no/such"],
    ] {
        let kubernetes: &[&str] = if args[0] == "--kubeconfig" {
            &["--kubernetes"]
        } else {
            &[]
        };
        let (code, said) = code(&[&args[..], kubernetes].concat());
        assert_eq!(code, Some(64), "{args:?}: {said}");
    }
    let (code, said) = code(&[]);
    assert_eq!(code, Some(69), "{said}");
}
