//! AIBrix's modes from its variables to answers: a whole node, an engine that publishes, and one that turns texts into
//! tokens.
use crate::accuracy::{ten_blocks, until};
use crate::client::Client;
use kvroute::address::Address;
use kvroute::config::{Aibrix, Config};
use kvroute::fake::{FakeEngine, Options};
use kvroute::node::Node;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

const TOKENIZER: &str = "AIBRIX_USE_REMOTE_TOKENIZER";
const SYNC: &str = "AIBRIX_KV_EVENT_SYNC_ENABLED";

/// An engine's HTTP endpoint to which every text is the tokens 1 to 41.
fn tokenizer() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(stream));
        }
    });
    address
}

fn answer(stream: TcpStream) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut writer = stream;
    loop {
        let (mut line, mut length, mut first) = (String::new(), 0, String::new());
        while reader.read_line(&mut line).ok()? > 2 {
            let (name, value) = line.split_once(':').unwrap_or_default();
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().ok()?;
            }
            if first.is_empty() {
                first.clone_from(&line);
            }
            line.clear();
        }
        if first.is_empty() {
            return None;
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let (status, body) = if first.starts_with("POST /tokenize ") {
            let tokens: Vec<_> = (1..=41).collect();
            (
                "200 OK",
                json!({"count": 41, "max_model_len": 8192, "tokens": tokens}),
            )
        } else {
            ("404 Not Found", json!({}))
        };
        let body = body.to_string();
        let length = body.len();
        write!(
            writer,
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .ok()?;
    }
}

/// A node that was started with these variables, one pod, and what both need.
struct Running {
    node: Node,
    _engine: FakeEngine,
}

impl Running {
    fn start(variables: &[(&str, &str)]) -> Self {
        let aibrix = Aibrix::read(|name| {
            let found = variables.iter().find(|(given, _)| *given == name);
            found.map(|(_, value)| (*value).to_owned())
        });
        let config = aibrix.unwrap().settings.resolve().unwrap();
        let node = Node::start(&Config {
            listen: vec![Address::parse("127.0.0.1:0").unwrap()],
            probe_interval: None,
            io_threads: 1,
            http_threads: 1,
            ..config
        })
        .unwrap();
        let engine = FakeEngine::bind(Options::default()).unwrap();
        engine.publish(0, &ten_blocks()).unwrap();
        let pod = json!({
            "pod": "a", "model": "m", "endpoint": tokenizer().to_string(), "block_size": 4,
            "events": engine.events_endpoint(), "replay": engine.replay_endpoint(),
        });
        let running = Self {
            node,
            _engine: engine,
        };
        assert_eq!(running.client().post("/v1/workers", &pod).status, 201);
        running
    }

    fn client(&self) -> Client {
        Client::new(self.node.http_addr())
    }

    fn kv_sync(&self) -> Value {
        self.client().get("/readyz").json()["kv_sync"].clone()
    }

    fn state(&self) -> String {
        let workers = self.client().get("/v1/workers").json();
        workers[0]["state"].as_str().unwrap().to_owned()
    }
}

fn text() -> Value {
    json!({"model": "m", "prompt": "whatever"})
}

fn ids() -> Value {
    json!({"model": "m", "token_ids": (1..=41).collect::<Vec<_>>()})
}

/// The reason of a choice, and the tokens that the target was credited with or expected to hold.
fn route(client: &mut Client, asked: &Value) -> (String, u64) {
    let answer = client.post("/v1/route", asked).json();
    let tokens = |field: &str| answer[field].as_u64().unwrap_or(0);
    let reason = answer["reason"].as_str().unwrap().to_owned();
    (
        reason,
        tokens("matched_tokens") + tokens("speculative_tokens"),
    )
}

#[test]
fn with_both_switches_on_texts_and_ids_are_looked_up_in_events() {
    let running = Running::start(&[(TOKENIZER, "true"), (SYNC, "true")]);
    until("exact", || running.state() == "exact");
    let mut client = running.client();
    let mut trial = text();
    trial["dry_run"] = json!(true);
    until("the text is found", || route(&mut client, &trial).1 == 40);
    assert_eq!(route(&mut client, &ids()).1, 40);
    assert_eq!(running.kv_sync()["mode"], "events");
}

#[test]
fn with_the_tokenizer_alone_texts_are_looked_up_in_own_decisions() {
    let running = Running::start(&[(TOKENIZER, "true")]);
    let mut client = running.client();
    assert_eq!(running.state(), "approximate");
    assert_eq!(route(&mut client, &ids()).1, 0, "events are not used");
    until("the decision is learnt", || {
        route(&mut client, &text()).1 == 40
    });
    assert_eq!(running.kv_sync()["mode"], "decisions_with_tokenizer");
}

#[test]
fn with_neither_ids_are_looked_up_in_own_decisions() {
    let running = Running::start(&[(TOKENIZER, "false"), (SYNC, "false")]);
    let mut client = running.client();
    assert_eq!(running.state(), "approximate");
    assert_eq!(route(&mut client, &ids()).1, 0);
    until("the decision is learnt", || {
        route(&mut client, &ids()).1 == 40
    });
    assert_eq!(route(&mut client, &text()), ("no_tokens".to_owned(), 0));
    assert_eq!(running.kv_sync()["mode"], "decisions");
}

#[test]
fn with_events_alone_ids_are_served_exactly_and_texts_by_load() {
    let running = Running::start(&[(SYNC, "true")]);
    until("exact", || running.state() == "exact");
    let mut client = running.client();
    assert_eq!(route(&mut client, &ids()).1, 40);
    assert_eq!(route(&mut client, &text()), ("no_tokens".to_owned(), 0));
    let said = running.kv_sync();
    assert_eq!(
        (&said["mode"], &said["valid"]),
        (&json!("events_without_tokenizer"), &json!(false))
    );
    let metrics = String::from_utf8(client.get("/metrics").body).unwrap();
    assert!(metrics.contains("\naibrix_kv_sync_configuration_valid 0\n"));
}
