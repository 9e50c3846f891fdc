//! `kvroute dump`.
use crate::rig::{Node, batch, engine, run};
use kvroute::fake::{FakeEngine, Framing};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use tempfile::TempDir;

fn stored(
    hashes: &[u64],
    parent: Option<u64>,
    tokens: std::ops::Range<u32>,
    adapter: Option<&str>,
) -> Value {
    let tokens: Vec<u32> = tokens.collect();
    json!({
        "type": "BlockStored", "block_hashes": hashes, "parent_block_hash": parent, "token_ids": tokens,
        "block_size": 4, "lora_id": null, "medium": "GPU", "lora_name": adapter,
    })
}

/// Two pods. `a` holds a chain of three blocks with a branch after its second, and two blocks of an adapter; `b` the first.
pub(crate) fn node() -> (Node, [FakeEngine; 2]) {
    let engines = [engine(Framing::Four, ""), engine(Framing::Four, "")];
    let a = [
        stored(&[11, 12, 13], None, 0..12, None),
        stored(&[14], Some(12), 100..104, None),
        stored(&[21, 22], None, 0..8, Some("fr")),
    ];
    engines[0].lose(0, &batch(&a));
    engines[1].lose(0, &batch(&[stored(&[31], None, 0..4, None)]));
    let node = Node::start();
    for (pod, engine) in ["ns/a", "b"].iter().zip(&engines) {
        node.follow(pod, engine.events_endpoint(), engine.replay_endpoint());
    }
    crate::rig::until("both pods are known", || {
        let workers = node.ask("GET", "/v1/workers", &Value::Null);
        let mut workers = workers.as_array().unwrap().iter();
        workers.all(|worker| worker["last_sequence"] == 0 && worker["state"] == "exact")
    });
    (node, engines)
}

fn dump(node: &Node, more: &[&str]) -> String {
    let url = format!("http://{}", node.address);
    let (code, out, err) = run(&[&["dump", &url], more].concat());
    assert_eq!(code, 0, "{err}");
    out
}

fn lines(node: &Node, more: &[&str]) -> Vec<Value> {
    let out = dump(node, &[more, &["--json"]].concat());
    let lines = out.lines().map(|line| serde_json::from_str(line).unwrap());
    lines
        .filter(|line: &Value| line["left_out"].is_null())
        .collect()
}

/// The names that are told, sorted.
fn names(lines: &[Value]) -> Vec<u64> {
    let blocks = lines
        .iter()
        .flat_map(|line| line["blocks"].as_array().unwrap());
    let mut names: Vec<u64> = blocks
        .map(|block| block["hash"].as_u64().unwrap())
        .collect();
    names.sort_unstable();
    names
}

#[test]
fn a_node_is_asked_for_what_its_pods_hold() {
    let (node, _engines) = node();
    assert_eq!(names(&lines(&node, &[])), [11, 12, 13, 14, 21, 22, 31]);
    assert_eq!(
        names(&lines(&node, &["--pod", "ns/a"])),
        [11, 12, 13, 14, 21, 22]
    );
    assert_eq!(names(&lines(&node, &["--pod", "ns/a#1"])), [0; 0]);
    assert_eq!(names(&lines(&node, &["--model", "fr"])), [21, 22]);
    assert_eq!(names(&lines(&node, &["--model", "other"])), [0; 0]);
    assert_eq!(names(&lines(&node, &["--prefix", "12"])), [12, 13, 14]);
    let dir = TempDir::new().unwrap();
    let prompt = dir.path().join("prompt");
    std::fs::write(&prompt, "[0,1,2,3,4,5,6,7,100,101,102,103,9]").unwrap();
    let prefix = ["--prefix", prompt.to_str().unwrap()];
    // The third block of the prompt is the branch, not the chain's.
    assert_eq!(names(&lines(&node, &prefix)), [11, 12, 14, 21, 22, 31]);
    let branch = lines(&node, &["--prefix", "0xe"]);
    assert_eq!(branch.len(), 1);
    for (name, value) in [
        ("pod", json!("ns/a")),
        ("rank", json!(0)),
        ("model", json!("m")),
        ("parent", json!(12)),
        ("position", json!(2)),
    ] {
        assert_eq!(branch[0][name], value, "{name}");
    }
    // Token ids of a plain text, and the table.
    std::fs::write(&prompt, "0 1 2 3 4 5 6 7\n8 9 10 11").unwrap();
    let table = dump(&node, &prefix);
    let row = |of: &str| {
        let line = table.lines().find(|line| line.starts_with(of));
        let cells = line
            .unwrap_or_else(|| panic!("{of}: {table}"))
            .split_whitespace();
        cells.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        row("POD"),
        "POD RANK MODEL ADAPTER BLOCK STATE GPU CPU DISK LONGEST PREFIX"
    );
    assert_eq!(row("b "), "b 0 m - 4 exact 1 0 0 1 1");
    assert!(table.contains("ns/a") && table.contains("fr"), "{table}");
    let all = dump(&node, &["--model", "m", "--pod", "ns/a"]);
    assert!(
        all.lines().any(|line| line
            .split_whitespace()
            .eq("ns/a 0 m - 4 exact 4 0 0 3".split(' '))),
        "{all}"
    );
    node.stop();
}

#[test]
fn what_cannot_be_asked_is_told_by_words_and_codes() {
    let dir = TempDir::new().unwrap();
    let missing = dir.path().join("none");
    let missing = missing.to_str().unwrap();
    let empty = dir.path().join("empty");
    std::fs::write(&empty, "# no token\n").unwrap();
    for (args, code, word) in [
        (&["dump"][..], 64, "URL"),
        (&["dump", "ftp://a"], 64, "ftp://a"),
        (
            &["dump", "http://127.0.0.1:9", "--prefix", missing],
            64,
            missing,
        ),
        (&["dump", "http://127.0.0.1:9", "--pod", "a#x"], 64, "--pod"),
        (
            &["dump", "http://127.0.0.1:9", "--token-file", missing],
            64,
            "--token-file",
        ),
        (
            &[
                "dump",
                "http://127.0.0.1:9",
                "--token-file",
                empty.to_str().unwrap(),
            ],
            64,
            "no token",
        ),
        (
            &["dump", "https://127.0.0.1:9", "--ca-file", missing],
            64,
            "--ca-file",
        ),
        (&["dump", "http://127.0.0.1:9"], 69, "127.0.0.1:9"),
        (&["dump", "unix:/no/such/socket"], 69, "/v1/workers"),
    ] {
        let (found, _, err) = run(args);
        assert_eq!(found, code, "{args:?}: {err}");
        assert!(err.contains(word), "{args:?}: {err}");
    }
    let (code, help, _) = run(&["dump", "--help"]);
    assert!(
        code == 0 && help.contains("kvroute dump http://127.0.0.1:8080 --pod"),
        "{help}"
    );
}

/// A server that answers every request with these bytes; what it was asked.
fn server(answer: &'static [u8]) -> (String, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = vec![0; 4_096];
        let read = stream.read(&mut asked).unwrap();
        stream.write_all(answer).unwrap();
        String::from_utf8_lossy(&asked[..read]).into_owned()
    });
    (url, asked)
}

#[test]
fn a_server_that_is_no_node_does_no_harm() {
    let dir = TempDir::new().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "# a comment\nsecret\n").unwrap();
    for (answer, word) in [
        (
            &b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 9\r\n\r\nno\x1b[2Jway"[..],
            r"401 no\u{1b}[2Jway",
        ),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n<ht>",
            "no dump",
        ),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\n{\"a",
            "breaks off",
        ),
        (b"SSH-2.0\r\n\r\n", "no HTTP status"),
        (b"", "ended within the headers"),
    ] {
        let (url, asked) = server(answer);
        let (code, out, err) = run(&[
            "dump",
            &url,
            "--json",
            "--token-file",
            token.to_str().unwrap(),
        ]);
        assert_eq!((code, out.as_str()), (69, ""), "{err}");
        assert!(err.contains(word), "{word}: {err}");
        let asked = asked.join().unwrap();
        assert!(
            asked.starts_with("GET /dump ") && asked.contains("authorization: Bearer secret\r\n"),
            "{asked}"
        );
    }
}
