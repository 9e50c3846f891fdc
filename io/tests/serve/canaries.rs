//! Prompts, token ids and secrets of a distinctive kind, wherever a request, an event or an engine's answer may carry them: none
//! is in the log at any level, nor in a span.
use crate::collector::Collector;
use crate::engine::{Engine, Reply};
use crate::running::{PATIENCE, rest, serve};
use kvroute::fake::{FakeEngine, Options};
use rmpv::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// A text, and the token ids of a block of four and what follows it.
const TEXT: &str = "kanarienvogel";
const IDS: [u32; 6] = [
    7_654_321, 7_654_322, 7_654_323, 7_654_324, 7_654_325, 7_654_326,
];
const SECRET: &str = "geheimnis";

/// A node that logs everything.
struct Node {
    child: Child,
    address: String,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Node {
    fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // It may be refused before all of it is sent.
        let _ = stream.write_all(bytes);
        rest(&mut stream)
    }

    fn send(&self, path: &str, kind: &str, body: &[u8]) -> String {
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {SECRET}\r\n\
             content-type: {kind}\r\ncontent-length: {length}\r\n\r\n"
        );
        self.raw(&[head.as_bytes(), body].concat())
    }

    fn post(&self, path: &str, body: &str) -> String {
        self.send(path, "application/json", body.as_bytes())
    }
}

fn numbers(ids: &[u32]) -> String {
    let ids: Vec<_> = ids.iter().map(u32::to_string).collect();
    ids.join(",")
}

/// A batch with one stored event.
fn batch(fields: &[(&str, Value)]) -> Vec<u8> {
    let mut map = vec![(Value::from("type"), Value::from("BlockStored"))];
    map.extend(
        fields
            .iter()
            .map(|(name, value)| (Value::from(*name), value.clone())),
    );
    let events = Value::Array(vec![Value::Map(map)]);
    let batch = Value::Array(vec![Value::F64(1.0), events, Value::from(0)]);
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, &batch).unwrap();
    bytes
}

fn stored(hash: u64, tokens: Vec<Value>, extra: Value) -> Vec<u8> {
    batch(&[
        ("block_hashes", Value::Array(vec![Value::from(hash)])),
        ("parent_block_hash", Value::Nil),
        ("token_ids", Value::Array(tokens)),
        ("block_size", Value::from(4)),
        ("extra_keys", extra),
    ])
}

/// Good and bad events.
fn publish(engine: &FakeEngine) {
    engine.wait_for_subscriber(PATIENCE).unwrap();
    let ids = |count: usize| {
        IDS[..count]
            .iter()
            .map(|&id| Value::from(id))
            .collect::<Vec<_>>()
    };
    let mut odd = ids(3);
    odd.push(Value::from(TEXT));
    let extra = Value::Array(vec![Value::Array(vec![Value::from(TEXT)])]);
    let mut cut = stored(4, ids(4), Value::Nil);
    cut.truncate(cut.len() - 3);
    let whole = stored(1, ids(4), Value::Nil);
    for (number, payload) in [
        whole,
        stored(2, odd, Value::Nil),
        stored(3, ids(3), extra.clone()),
        stored(4, ids(4), extra),
        cut,
        batch(&[
            ("token_ids", Value::from(TEXT)),
            (TEXT, Value::from(IDS[0])),
        ]),
        TEXT.as_bytes().to_vec(),
        // Stored again after whatever the others did to it.
        stored(1, ids(4), Value::Nil),
    ]
    .iter()
    .enumerate()
    {
        engine.publish(number as u64, payload).unwrap();
    }
    let _ = engine.publish_frames(&[TEXT.as_bytes(), TEXT.as_bytes(), TEXT.as_bytes()]);
}

/// Everything that takes a prompt.
fn ask(node: &Node) {
    let ids = numbers(&IDS);
    let words = IDS.map(|id| id.to_string()).join(" ");
    let chat =
        format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{TEXT} {words}"}}]}}"#);
    let prompt = format!(r#"{{"model":"m","prompt":"{words} {TEXT}"}}"#);
    let tokens = format!(r#"{{"model":"m","token_ids":[{ids}]}}"#);
    let list = format!(r#"{{"model":"m","prompt":[{ids}]}}"#);
    let rfc = format!(r#"{{"model_name":"m","token_ids":[{ids}]}}"#);
    let routed = node.post("/v1/route", &tokens);
    assert!(routed.starts_with("HTTP/1.1 200 "), "{routed}");
    let id = routed.split("x-kvroute-request-id: ").nth(1).unwrap();
    let id = id.split("\r\n").next().unwrap();
    for (path, body) in [
        ("/v1/match", &tokens),
        ("/v1/match", &chat),
        ("/v1/match", &prompt),
        ("/v1/route", &chat),
        ("/v1/route", &list),
        ("/v1/route/v1/chat/completions", &chat),
        ("/v1/route/v1/completions", &prompt),
        ("/v1/ext_authz/v1/chat/completions", &chat),
        ("/v1/ext_authz/v1/completions", &prompt),
        ("/v1/ext_authz/v1/completions", &list),
        ("/v1/ext_authz/inference/v1/generate", &tokens),
        ("/query", &rfc),
        (
            "/v1/match:batch",
            &format!(r#"{{"requests":[{tokens},{chat},{{"model":"m","token_ids":["{TEXT}"]}}]}}"#),
        ),
        // The engine repeats these in its errors.
        ("/v1/match", &chat.replace("user", "refused")),
        ("/v1/route", &chat.replace("user", "broken")),
        (
            "/v1/feedback",
            &format!(r#"{{"request_id":"{id}","cached_tokens":4,"actual":"{TEXT}"}}"#),
        ),
        (
            "/v1/feedback",
            &format!(r#"{{"request_id":"{id}","cached_tokens":"{TEXT}"}}"#),
        ),
    ] {
        node.post(path, body);
    }
}

/// Much that is wrong.
fn ask_badly(node: &Node) {
    let ids = numbers(&IDS);
    for bad in [
        format!(r#"{{"model":"m","token_ids":[{ids},"{TEXT}"]}}"#),
        format!(r#"{{"model":"m","token_ids":"{TEXT} {ids}"}}"#),
        format!(r#"{{"model":"m","token_ids":[{ids},-{}]}}"#, IDS[0]),
        format!(r#"{{"model":"m","token_ids":[{ids},{0}{0}]}}"#, IDS[0]),
        format!(r#"{{"model":"m","token_ids":[{ids}],"limit":"{TEXT}"}}"#),
        format!(
            r#"{{"model":"m","token_ids":[{ids}],"cache_salt":{},"x":"{TEXT}"}}"#,
            IDS[1]
        ),
        format!(r#"{{"model":"m","extra_keys":["{TEXT}"],"token_ids":[{ids}]}}"#),
        format!(r#"{{"model":"m","{TEXT}":{ids}"#),
        format!(
            r#"{{"model":"m","messages":"{TEXT}","prompt":{{"{TEXT}":{}}}}}"#,
            IDS[2]
        ),
        format!("[{ids}]"),
        TEXT.to_owned(),
    ] {
        for path in [
            "/v1/match",
            "/v1/route",
            "/v1/ext_authz/v1/completions",
            "/query",
            "/v1/match:batch",
            "/v1/feedback",
            "/query_by_hash",
            "/v1/workers",
        ] {
            node.post(path, &bad);
        }
    }
}

/// Bytes in place of JSON, prompts that are answered on another thread, what is no HTTP, and what breaks off.
fn ask_otherwise(node: &Node) {
    let ids = numbers(&IDS);
    let tokens = format!(r#"{{"model":"m","token_ids":[{ids}]}}"#);
    let octets: Vec<u8> = IDS.iter().flat_map(|id| id.to_le_bytes()).collect();
    for bytes in [&octets[..], &octets[..7]] {
        node.send("/v1/match?model=m", "application/octet-stream", bytes);
        node.send("/v1/route?model=m", "application/octet-stream", bytes);
    }
    // Large ones are answered on another thread.
    let many = vec![numbers(&IDS); 8_192].join(",");
    node.post(
        "/v1/match",
        &format!(r#"{{"model":"m","token_ids":[{many}]}}"#),
    );
    node.post(
        "/v1/match",
        &format!(r#"{{"model":"m","token_ids":[{many},"{TEXT}"]}}"#),
    );
    // What is no HTTP, and what breaks off.
    node.raw(format!("{TEXT} {ids}\r\n\r\n").as_bytes());
    node.raw(format!("POST /v1/match HTTP/1.1\r\ncontent-length: {TEXT}\r\n\r\n{ids}").as_bytes());
    node.raw(format!("POST /v1/match HTTP/1.1\r\n{TEXT} {ids}: \u{1}\r\n\r\n").as_bytes());
    node.raw(
        format!(
            "POST /v1/match HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n{TEXT}\r\n"
        )
        .as_bytes(),
    );
    let mut stream = TcpStream::connect(&node.address).unwrap();
    let head = "POST /v1/match HTTP/1.1\r\nhost: x\r\ncontent-length: 999\r\n\r\n";
    stream
        .write_all(format!("{head}{tokens}").as_bytes())
        .unwrap();
}

/// An engine that tokenizes, and repeats what it refuses.
fn tokenizer() -> Engine {
    Engine::scripted(|_, body| {
        let said = body.to_string();
        if said.contains("refused") {
            return Reply::Status(
                400,
                "",
                r#"{"message":"kanarienvogel 7654321 is too long"}"#,
            );
        }
        match said.contains("broken") {
            true => Reply::Body(format!(r#"{{"tokens":"{TEXT} {}"}}"#, IDS[0])),
            false => Reply::Tokens,
        }
    })
}

/// A node, its log up to where it answers, and the rest of it once it has ended.
fn start(args: &[&str]) -> (Node, String, Receiver<Vec<u8>>) {
    let mut child = serve(args).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut first = String::new();
    while !first.contains("answering") {
        assert!(stderr.read_line(&mut first).unwrap() > 0, "{first}");
    }
    let answering = first.lines().find(|line| line.contains("answering"));
    let (_, port) = answering.unwrap().split_once("127.0.0.1:").unwrap();
    let port: String = port.chars().take_while(char::is_ascii_digit).collect();
    let (sender, log) = channel();
    thread::spawn(move || {
        let mut text = Vec::new();
        let _ = stderr.read_to_end(&mut text);
        let _ = sender.send(text);
    });
    let node = Node {
        child,
        address: format!("127.0.0.1:{port}"),
    };
    (node, first, log)
}

fn logged(format: &str) {
    let (collector, tokenizer) = (Collector::new(), tokenizer());
    let engine = FakeEngine::bind(Options::default()).unwrap();
    let endpoint = collector.endpoint();
    let args = [
        "--listen",
        "127.0.0.1:0",
        "--log",
        "trace",
        "--log-rate",
        "0",
        "--log-format",
        format,
        "--otlp-endpoint",
        &endpoint,
        "--otlp-sample",
        "1",
        "--drain",
        "1",
    ];
    let (node, first, log) = start(&args);
    let pod = format!(
        r#"{{"pod":"a","model":"m","events":"{}","replay":"{}","endpoint":"{}"}}"#,
        engine.events_endpoint(),
        engine.replay_endpoint().unwrap(),
        tokenizer.endpoint()
    );
    let added = node.post("/v1/workers", &pod);
    assert!(added.starts_with("HTTP/1.1 201 "), "{added}");
    publish(&engine);
    let tokens = format!(r#"{{"model":"m","token_ids":[{}]}}"#, numbers(&IDS));
    let give_up = Instant::now() + PATIENCE;
    loop {
        let answer = node.post("/v1/match", &tokens);
        if answer.contains(r#""matched_tokens":4"#) {
            break;
        }
        assert!(Instant::now() < give_up, "the events are applied: {answer}");
        thread::sleep(Duration::from_millis(10));
    }
    ask(&node);
    ask_badly(&node);
    ask_otherwise(&node);
    assert!(
        tokenizer.asked().iter().any(|body| body.contains(TEXT)),
        "it was asked"
    );
    let pid = node.child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .unwrap()
            .success()
    );
    let text = log.recv_timeout(PATIENCE).unwrap();
    let text = first + &String::from_utf8(text).unwrap();
    assert_clean(&text, &collector.bodies().concat());
}

/// All levels are there, and what is wrong with events and connections; but no canary.
fn assert_clean(text: &str, spans: &[u8]) {
    for told in ["DEBUG", "INFO", "malformed batch", "ended badly", "stopped"] {
        assert!(text.contains(told), "{told}: {text}");
    }
    let contains = |what: &str| spans.windows(what.len()).any(|it| it == what.as_bytes());
    assert!(contains("POST /v1/match") && contains("tokenize") && contains("ext_authz"));
    let ids = IDS.map(|id| id.to_string());
    let canaries = ids.iter().map(String::as_str).chain([TEXT, SECRET]);
    for canary in canaries {
        let line = text.lines().find(|line| line.contains(canary));
        assert_eq!(line, None, "{canary} is logged");
        assert!(!contains(canary), "{canary} is in a span");
    }
}

#[test]
fn no_line_of_text_repeats_a_prompt() {
    logged("text");
}

#[test]
fn no_object_repeats_a_prompt() {
    logged("json");
}
