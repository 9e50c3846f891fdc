//! How often the node allocates for a request: a whole node, a real connection, all threads of this process
//! counted. The client and the test's own thread allocate nothing meanwhile.
//!
//! The lookup itself allocates nothing (`engine/tests/alloc.rs`); what is counted here is HTTP, parsing and the answer.
use kvroute::config::{Config, RoutingConfig};
use kvroute::fake::{FakeEngine, Options};
use kvroute::node::Node;
use kvroute_bench::frames::{payload, stored};
use kvroute_bench::{BLOCK_SIZE, Random, keys, names};
use serde_json::json;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const WORKERS: usize = 4;
const SHORT: usize = 16;
const BLOCKS: usize = 256;
const WARM_UP: usize = 50;
const REQUESTS: usize = 500;
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn what_a_request_allocates_does_not_grow_with_its_prompt() {
    let tokens: Vec<u32> = Random(7).tokens(BLOCKS).collect();
    let (node, _engines) = node(&tokens);
    let mut client = Client::new(&node);
    let short = &tokens[..SHORT * BLOCK_SIZE as usize];
    let mut both = |request: fn(&[u32]) -> Vec<u8>| {
        (
            client.allocations(&request(short)),
            client.allocations(&request(&tokens)),
        )
    };
    let (binary, json) = (both(binary), both(json));
    let query = both(query);
    // A trace that nobody records is not looked at: as any other headers.
    let (trace, other) = (both(with_trace).0, both(with_others).0);
    let health = both(|_| b"GET /health HTTP/1.1\r\nhost: node\r\n\r\n".to_vec());
    // What was counted above had samples among it: the trie of prefixes that are asked for has them.
    let prefixes = b"GET /v1/prefixes?limit=1 HTTP/1.1\r\nhost: node\r\n\r\n";
    let length = client.exchange(prefixes);
    let shown = String::from_utf8_lossy(&client.answer[..length]).into_owned();
    assert!(shown.contains("\"to_tokens\":256,\"asked\":"), "{shown}");
    println!(
        "allocations and reallocations a request, {WORKERS} workers found, {SHORT} and {BLOCKS} blocks"
    );
    for (name, (short, long)) in [
        ("binary", binary),
        ("JSON", json),
        ("/query", query),
        ("/health", health),
    ] {
        println!("{name:<8} {short:>6.2} {long:>6.2}");
    }
    assert!((trace - other).abs() < 0.05, "{trace} {other}");
    assert!(health.0 >= 1.0, "the counter does not count: {health:?}");
    // A longer body may come in more pieces, and a vector of token ids grows by doubling.
    assert!(binary.1 <= binary.0 + 3.5 && binary.1 < 20.0, "{binary:?}");
    assert!(json.1 <= json.0 + 8.5 && json.1 < 30.0, "{json:?}");
    assert!(query.1 <= query.0 + 8.5 && query.1 < 40.0, "{query:?}");
}

fn post(path: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("host: node\r\ncontent-type: {content_type}");
    let length = body.len();
    let head = format!("POST {path} HTTP/1.1\r\n{head}\r\ncontent-length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// The same request with two more headers.
fn with_headers(tokens: &[u32], names: [&str; 2]) -> Vec<u8> {
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let more = format!("{}: {parent}\r\n{}: a=1\r\n", names[0], names[1]);
    let (request, host) = (binary(tokens), "host: node\r\n");
    let at = request
        .windows(host.len())
        .position(|it| it == host.as_bytes());
    let (line, rest) = request.split_at(at.expect("a head"));
    [line, more.as_bytes(), rest].concat()
}

fn with_trace(tokens: &[u32]) -> Vec<u8> {
    with_headers(tokens, ["traceparent", "tracestate"])
}

fn with_others(tokens: &[u32]) -> Vec<u8> {
    with_headers(tokens, ["other-names", "than-those"])
}

fn binary(tokens: &[u32]) -> Vec<u8> {
    let body: Vec<u8> = tokens
        .iter()
        .flat_map(|token| token.to_le_bytes())
        .collect();
    post("/v1/match?model=m", "application/octet-stream", &body)
}

fn json(tokens: &[u32]) -> Vec<u8> {
    let body = json!({"model": "m", "token_ids": tokens}).to_string();
    post("/v1/match", "application/json", body.as_bytes())
}

fn query(tokens: &[u32]) -> Vec<u8> {
    let body = json!({"model_name": "m", "token_ids": tokens}).to_string();
    post("/query", "application/json", body.as_bytes())
}

/// One connection, which allocates nothing once it is there.
struct Client {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Client {
    fn new(node: &Node) -> Self {
        let stream = TcpStream::connect(node.http_addr()).expect("a connection");
        stream.set_nodelay(true).expect("set");
        let answer = vec![0; 64 << 10];
        Self { stream, answer }
    }

    /// How often anything was allocated, or made larger, for each of many equal requests.
    fn allocations(&mut self, request: &[u8]) -> f64 {
        for _ in 0..WARM_UP {
            self.exchange(request);
        }
        let region = Region::new(ALLOCATOR);
        for _ in 0..REQUESTS {
            self.exchange(request);
        }
        let counted = region.change();
        (counted.allocations + counted.reallocations) as f64 / REQUESTS as f64
    }

    /// Asks, and reads the whole answer: a good one. Its length.
    fn exchange(&mut self, request: &[u8]) -> usize {
        self.stream.write_all(request).expect("written");
        let mut filled = 0;
        while !is_whole(&self.answer[..filled]) {
            let read = self.stream.read(&mut self.answer[filled..]);
            let read = read.expect("an answer");
            assert!(read > 0, "the connection was closed");
            filled += read;
        }
        assert!(self.answer.starts_with(b"HTTP/1.1 200 "));
        filled
    }
}

/// Whether an answer has all of its body.
fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
        return false;
    };
    let head = std::str::from_utf8(&answer[..end]).expect("text");
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let value = name
            .eq_ignore_ascii_case("content-length")
            .then_some(value)?;
        value.trim().parse::<usize>().ok()
    });
    answer.len() >= end + 4 + length.expect("a length")
}

/// A node that follows engines, each of which has told of the whole prompt.
fn node(tokens: &[u32]) -> (Node, Vec<FakeEngine>) {
    let config = Config {
        probe_interval: None,
        routing: RoutingConfig {
            load_interval: None,
            ..RoutingConfig::default()
        },
        ..Config::default()
    };
    let node = Node::start(&config).expect("a node");
    // Without a replay socket, whose thread would allocate while it is counted.
    let options = Options {
        replay: None,
        ..Options::default()
    };
    let names = names(0, &keys(tokens, 0));
    let batch = payload(vec![stored(None, &names, tokens)]);
    let mut engines = Vec::new();
    for n in 0..WORKERS {
        let engine = FakeEngine::bind(options.clone()).expect("an engine");
        let pod = json!({"pod": n.to_string(), "model": "m", "events": engine.events_endpoint()});
        let pod = serde_json::from_value(pod).expect("a pod");
        node.fleet().add(pod).expect("room");
        engine.wait_for_subscriber(PATIENCE).expect("subscribed");
        engine.publish(0, &batch).expect("published");
        engines.push(engine);
    }
    wait_until(|| {
        let view = node.fleet().view();
        view.workers()
            .all(|info| info.status().last_sequence() == Some(0))
    });
    (node, engines)
}

fn wait_until(there: impl Fn() -> bool) {
    let begun = Instant::now();
    while !there() {
        assert!(begun.elapsed() < PATIENCE, "it does not come");
        thread::sleep(Duration::from_millis(1));
    }
}
