//! SIGTERM drains, SIGHUP reads files again; sockets and addresses as the command line has them.
use crate::running::{PATIENCE, Running, answer, in_flight, rest, serve};
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::{Output, Stdio};
use std::time::Instant;
use tempfile::TempDir;

const ANY_PORT: [&str; 2] = ["--listen", "127.0.0.1:0"];

const READY: &[u8] = b"GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n";

#[test]
fn a_node_that_is_told_to_stop_drains() {
    let node = Running::start(
        &[
            &ANY_PORT[..],
            &["--drain-notice", "3", "--http-threads", "2"],
        ]
        .concat(),
    );
    node.wait_ready(200);
    let mut kept = node.connect();
    kept.write_all(READY).unwrap();
    let before = answer(&mut kept);
    assert!(
        before.starts_with("HTTP/1.1 200 ") && !before.contains("connection:"),
        "{before}"
    );
    let mut busy = in_flight(&node);
    let mut idle = node.connect();
    node.signal("-TERM");
    node.logged("stopping");
    // First it says so, to whoever has a connection and to whoever comes, and lets them go.
    for mut stream in [kept, node.connect()] {
        let began = Instant::now();
        let leaving = loop {
            stream.write_all(READY).unwrap();
            let leaving = answer(&mut stream);
            // The log may be ahead of it.
            if !leaving.starts_with("HTTP/1.1 200 ") {
                break leaving;
            }
            assert!(began.elapsed() < PATIENCE);
        };
        assert!(leaving.starts_with("HTTP/1.1 503 "), "{leaving}");
        assert!(leaving.contains("\"code\":\"stopping\""), "{leaving}");
        assert!(leaving.contains("connection: close\r\n"), "{leaving}");
        assert_eq!(rest(&mut stream), "");
    }
    // Then idle connections end, and nobody gets in any more.
    assert_eq!(rest(&mut idle), "");
    let began = Instant::now();
    while TcpStream::connect(node.said("listen")).is_ok() {
        assert!(began.elapsed() < PATIENCE, "it still listens");
    }
    // What is in flight is finished.
    busy.write_all(b"{}").unwrap();
    let last = answer(&mut busy);
    assert!(
        last.starts_with("HTTP/1.1 400 ") && last.contains("connection: close\r\n"),
        "{last}"
    );
    assert_eq!(rest(&mut busy), "");
    assert_eq!(node.end().code(), Some(0));
}

#[test]
fn a_drain_has_an_end() {
    let node = Running::start(&[&ANY_PORT[..], &["--drain", "0.5"]].concat());
    let mut busy = in_flight(&node);
    node.signal("-INT");
    node.logged("not finished in time");
    assert_eq!(rest(&mut busy), "");
    assert_eq!(node.end().code(), Some(0));
}

#[test]
fn a_hangup_reads_the_files_again() {
    let folder = TempDir::new().unwrap();
    let tokens = folder.path().join("tokens");
    std::fs::write(&tokens, "a-secret-token\n").unwrap();
    let tokens = tokens.to_str().unwrap();
    let node =
        Running::start(&[&ANY_PORT[..], &["--token-file", tokens, "--log", "trace"]].concat());
    assert!(node.get("/metrics").starts_with("HTTP/1.1 401 "));
    let with_token = || {
        let mut stream = node.connect();
        let head = "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer";
        write!(stream, "{head} a-secret-token\r\n\r\n").unwrap();
        rest(&mut stream)
    };
    assert!(with_token().starts_with("HTTP/1.1 200 "));
    // Nothing has changed, so only the signal makes it look.
    node.signal("-HUP");
    // The configuration is read again, too.
    let line = node.logged(&format!("file={tokens}"));
    let again = line.contains("read again");
    assert!(again && !line.contains("secret"), "{line}");
    assert!(with_token().starts_with("HTTP/1.1 200 "));
    node.signal("-TERM");
    // Whatever is logged, tokens are not.
    assert!(!node.logged("stopping").contains("secret"));
    assert_eq!(node.end().code(), Some(0));
}

#[test]
fn tokens_are_never_logged() {
    let folder = TempDir::new().unwrap();
    let tokens = folder.path().join("tokens");
    std::fs::write(&tokens, "a-secret-token\n").unwrap();
    let tokens = tokens.to_str().unwrap();
    let args = [&ANY_PORT[..], &["--token-file", tokens, "--log", "trace"]].concat();
    let mut child = serve(&args).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = child.stderr.take().unwrap();
    let mut line = Vec::new();
    while !line.ends_with(b"answering") {
        let mut byte = [0];
        std::io::Read::read_exact(&mut log, &mut byte).unwrap();
        line.push(byte[0]);
    }
    while !line.ends_with(b"\n") {
        let mut byte = [0];
        std::io::Read::read_exact(&mut log, &mut byte).unwrap();
        line.push(byte[0]);
    }
    let line = String::from_utf8(line).unwrap();
    let address = line.split("listen=").nth(1).unwrap();
    let mut stream = TcpStream::connect(address.split_whitespace().next().unwrap()).unwrap();
    for token in ["a-secret-token", "a-wrong-secret-token"] {
        let head = "GET /v1/workers HTTP/1.1\r\nhost: x\r\nauthorization: Bearer";
        write!(stream, "{head} {token}\r\n\r\n").unwrap();
        answer(&mut stream);
    }
    child.kill().unwrap();
    let _ = child.wait();
    let log = rest(&mut log);
    assert!(!log.contains("secret-token"), "{log}");
}

#[test]
fn all_listeners_are_named_and_a_dead_nodes_socket_is_taken_over() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (socket, admin) = (path("k.sock"), path("admin.sock"));
    let listen = format!("127.0.0.1:0,unix:{socket}");
    let unix_admin = format!("unix:{admin}");
    let args = [
        "--listen",
        &listen,
        "--listen",
        "127.0.0.1:0",
        "--admin-listen",
        &unix_admin,
    ];
    let node = Running::start(&args);
    let named: Vec<_> = node.said("listen").split(',').collect();
    assert_eq!(named.len(), 3, "{named:?}");
    assert_eq!(named[1], format!("unix:{socket}"));
    assert_eq!(node.said("admin"), unix_admin);
    let removal = b"DELETE /v1/workers/x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    for (path, status) in [(&socket, "403"), (&admin, "404")] {
        let mut stream = UnixStream::connect(path).unwrap();
        stream.write_all(removal).unwrap();
        let answer = rest(&mut stream);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
    }
    // Somebody else cannot have the socket while it lives.
    let Output { status, stderr, .. } = serve(&["--listen", &unix_admin]).output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(69), "{stderr}");
    assert!(stderr.contains(&unix_admin), "{stderr}");
    node.signal("-KILL");
    node.end();
    assert!(std::fs::exists(&socket).unwrap());
    let node = Running::start(&args);
    node.signal("-TERM");
    assert_eq!(node.end().code(), Some(0));
    assert!(!std::fs::exists(&socket).unwrap() && !std::fs::exists(&admin).unwrap());
}

#[test]
fn bad_settings_are_64_and_name_the_culprit() {
    let folder = TempDir::new().unwrap();
    let empty = folder.path().join("empty");
    std::fs::write(&empty, "# no token yet\n").unwrap();
    let empty = empty.to_str().unwrap();
    for (args, named) in [
        (vec!["--listen", "unix:"], "listen"),
        (vec!["--listen", "127.0.0.1:0,nowhere"], "nowhere"),
        (vec!["--admin-listen", "nowhere"], "admin_listen"),
        (vec!["--token-file", empty], "token_file"),
        (vec!["--admin-token-file", "/no/such"], "admin_token_file"),
        (vec!["--tls-cert", empty], "tls_key"),
        (vec!["--tls-cert", empty, "--tls-key", empty], "tls_cert"),
        (vec!["--connections-max", "0"], "connections_max"),
        (vec!["--drain=-1"], "drain"),
        (vec!["--idle-timeout", "0"], "idle_timeout"),
    ] {
        let args = [&ANY_PORT[..usize::from(args[0] != "--listen") * 2], &args].concat();
        let Output { status, stderr, .. } = serve(&args).output().unwrap();
        let stderr = String::from_utf8(stderr).unwrap();
        assert_eq!(status.code(), Some(64), "{args:?}: {stderr}");
        assert!(stderr.contains(named), "{named} in {args:?}: {stderr}");
    }
}
