//! What the node did lately, as JSON and as server-sent events. The tests say when a sample is taken.
use crate::client::{Client, Response};
use crate::fixture::{Blocks, Fixture, prompt};
use kvroute::http::ServerConfig;
use serde_json::{Value, json};
use std::thread;
use std::time::{Duration, Instant};

/// Nothing that is waited for takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

const ASK: &[u8] =
    b"GET /v1/flow HTTP/1.1\r\nhost: x\r\naccept: text/html, text/event-stream;q=0.9\r\n\r\n";

/// A stream, and what of it is not read as events yet.
#[derive(Debug)]
struct Stream {
    client: Client,
    text: String,
}

impl Stream {
    /// Asks for one that may be refused.
    fn ask(fixture: &Fixture) -> Result<Self, Response> {
        let mut client = fixture.client();
        client.send(ASK);
        let mut head = client.receive_head();
        if head.status != 200 {
            head.body = client.receive_body(&head);
            return Err(head);
        }
        assert_eq!(head.header("content-type"), Some("text/event-stream"));
        assert_eq!(head.header("cache-control"), Some("no-store"));
        Ok(Self {
            client,
            text: String::new(),
        })
    }

    /// One that has begun, and its history.
    fn begin(fixture: &Fixture) -> (Self, Value) {
        let mut stream = Self::ask(fixture).unwrap();
        assert_eq!(stream.part().as_deref(), Some("retry: 2000"));
        let (name, history) = stream.event().unwrap();
        assert_eq!(name, "history");
        (stream, history)
    }

    /// What comes before the next empty line; `None` at the end.
    fn part(&mut self) -> Option<String> {
        loop {
            if let Some((part, rest)) = self.text.split_once("\n\n") {
                let (part, rest) = (part.to_owned(), rest.to_owned());
                self.text = rest;
                return Some(part);
            }
            let chunk = self.client.receive_chunk()?;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    fn event(&mut self) -> Option<(String, Value)> {
        let part = self.part()?;
        let lines: Vec<_> = part.lines().collect();
        let [name, data] = lines[..] else {
            panic!("{part:?}");
        };
        let name = name.strip_prefix("event: ").unwrap().to_owned();
        let data = data.strip_prefix("data: ").unwrap();
        Some((name, serde_json::from_str(data).unwrap()))
    }

    fn sample(&mut self) -> Option<Value> {
        let (name, sample) = self.event()?;
        assert_eq!(name, "sample");
        Some(sample)
    }
}

#[test]
fn history_and_then_samples_arrive_and_count_what_was_asked() {
    let fixture = Fixture::with(2, 1.0);
    fixture.add_pod("a");
    fixture.add_pod("b");
    fixture.store("a#0", &Blocks::of(&prompt(8)));
    let mut client = fixture.client();
    let begun = client.get("/v1/flow").json();
    assert_eq!(
        (&begun["interval_ms"], &begun["samples"]),
        (&json!(1000), &json!([]))
    );
    let (mut first, history) = Stream::begin(&fixture);
    assert_eq!(history["samples"], json!([]));
    for tokens in [8, 16] {
        let body = json!({"model": "m", "token_ids": prompt(tokens)});
        assert_eq!(client.post("/v1/match", &body).status, 200);
    }
    assert_eq!(client.get("/v1/nothing").status, 404);
    let status = fixture.status("a#0");
    status.add_batches(5);
    status.set_blocks(2);
    fixture.server.sample();
    let sample = first.sample().unwrap();
    let counted = |sample: &Value, names: &[&str]| -> Vec<u64> {
        let counts = names.iter().map(|&name| sample[name].as_u64().unwrap());
        counts.collect()
    };
    let names = ["lookups", "asked_tokens", "matched_tokens", "batches"];
    assert_eq!(counted(&sample, &names), [2, 24, 16, 5]);
    // The history, the stream, two prompts and a path that there is not.
    let names = ["requests", "refused", "failed", "workers", "blocks"];
    assert_eq!(counted(&sample, &names), [5, 1, 0, 2, 2]);
    let states = json!({
        "exact": 2, "replaying": 0, "partial": 0, "approximate": 0, "stale": 0, "distrusted": 0,
    });
    assert_eq!(sample["states"], states);
    assert!(sample["request_us"]["p99"].as_f64().unwrap() > 0.0);
    assert!(sample["index_bytes"].as_u64().unwrap() > 0);
    // Nobody follows events here.
    assert_eq!(sample["lag_ms"], Value::Null);
    fixture.server.sample();
    let second = first.sample().unwrap();
    let names = ["lookups", "requests", "batches", "blocks"];
    assert_eq!(counted(&second, &names), [0, 0, 0, 2]);
    // Whoever comes now begins with both, and so does who wants no stream.
    let (mut late, history) = Stream::begin(&fixture);
    assert_eq!(history["samples"], json!([sample, second]));
    let whole = client.get("/v1/flow").json();
    assert_eq!(whole["samples"], json!([sample, second]));
    fixture.server.sample();
    let third = first.sample().unwrap();
    assert_eq!(late.sample().unwrap(), third);
    assert_eq!(counted(&third, &["requests"]), [2]);
}

#[test]
fn a_quarter_of_an_hour_is_kept() {
    let fixture = Fixture::new();
    let status_after = |count: u64| {
        for _ in 0..count {
            fixture.server.sample();
        }
        fixture.client().get("/v1/flow").json()["samples"].clone()
    };
    let samples = status_after(899);
    assert_eq!(samples.as_array().unwrap().len(), 899);
    let later = status_after(3);
    assert_eq!(later.as_array().unwrap().len(), 900);
    assert_eq!(later[0], samples[2], "the oldest two are gone");
    let (_, history) = Stream::begin(&fixture);
    assert_eq!(history["samples"], later);
}

#[test]
fn there_are_so_many_streams_and_no_more() {
    let fixture = Fixture::with(2, 1.0);
    let mut streams: Vec<_> = (0..32).map(|_| Stream::begin(&fixture).0).collect();
    let refused = Stream::ask(&fixture).unwrap_err();
    assert_eq!(refused.header("retry-after"), Some("2"));
    let (status, code, field) = refused.refusal();
    assert_eq!(
        (status, code.as_str(), field),
        (503, "too_many_streams", None)
    );
    // Without a stream it is answered all the same, and the streams go on.
    assert_eq!(fixture.client().get("/v1/flow").status, 200);
    fixture.server.sample();
    for stream in &mut streams {
        assert!(stream.sample().is_some());
    }
    // One that goes is noticed when it does not take its sample.
    drop(streams.pop());
    let give_up = Instant::now() + PATIENCE;
    while Stream::ask(&fixture).is_err() {
        assert!(Instant::now() < give_up, "the place is not given back");
        fixture.server.sample();
    }
}

#[test]
fn a_head_is_answered_and_takes_no_place() {
    let fixture = Fixture::new();
    let mut client = fixture.client();
    let give_up = Instant::now() + PATIENCE;
    let mut answered = 0;
    while answered < 100 {
        for accept in ["text/event-stream", "application/json"] {
            let head = format!("HEAD /v1/flow HTTP/1.1\r\nhost: x\r\naccept: {accept}\r\n\r\n");
            client.send(head.as_bytes());
            let head = client.receive_head();
            if head.status == 200 {
                assert_eq!(head.header("content-type"), Some(accept));
                answered += 1;
            } else {
                // The places of those before are given back soon.
                assert_eq!(head.status, 503);
            }
        }
        assert!(Instant::now() < give_up, "{answered} answered");
    }
    let give_up = Instant::now() + PATIENCE;
    while Stream::ask(&fixture).is_err() {
        assert!(Instant::now() < give_up, "no place is given back");
    }
}

#[test]
fn streams_end_when_the_node_stops() {
    // Whoever waited for them would wait longer than any test.
    let config = ServerConfig {
        drain_time: Duration::from_secs(3_600),
        threads: 2,
        ..ServerConfig::default()
    };
    let fixture = Fixture::serving(&config);
    let mut streams: Vec<_> = (0..4).map(|_| Stream::begin(&fixture).0).collect();
    fixture.server.sample();
    let server = fixture.server;
    let stopping = thread::spawn(move || server.stop());
    for stream in &mut streams {
        // Perhaps with the sample that was on its way, and properly.
        while stream.sample().is_some() {}
        assert!(stream.client.ended());
    }
    stopping.join().unwrap();
}

#[test]
fn a_stream_that_comes_while_the_node_stops_has_its_history_and_ends() {
    let config = ServerConfig {
        drain_notice: Duration::from_secs(3_600),
        ..ServerConfig::default()
    };
    let fixture = Fixture::serving(&config);
    let (mut early, _) = Stream::begin(&fixture);
    let address = fixture.server.local_addr();
    let server = fixture.server;
    // Goes on to the end of the process.
    drop(thread::spawn(move || server.stop()));
    assert_eq!(early.sample(), None);
    let mut client = Client::new(address);
    client.send(ASK);
    assert_eq!(client.receive_head().status, 200);
    let mut stream = Stream {
        client,
        text: String::new(),
    };
    assert_eq!(stream.part().as_deref(), Some("retry: 2000"));
    assert_eq!(stream.event().unwrap().0, "history");
    assert_eq!(stream.event(), None);
}

#[test]
fn who_reads_slowly_misses_samples_but_not_the_latest() {
    let fixture = Fixture::new();
    fixture.add_pod("a");
    let (mut stream, _) = Stream::begin(&fixture);
    // More than a socket takes that nobody reads.
    let taken = 20_000;
    for _ in 0..taken {
        fixture.server.sample();
    }
    fixture.status("a#0").set_blocks(777);
    fixture.server.sample();
    let mut received = 0;
    while stream.sample().unwrap()["blocks"] != 777 {
        received += 1;
    }
    assert!(received < taken, "{received}");
}

#[test]
fn who_does_not_read_is_let_go() {
    let config = ServerConfig {
        idle_time: Duration::from_secs(1),
        ..ServerConfig::default()
    };
    let fixture = Fixture::serving(&config);
    let silent = Stream::ask(&fixture).unwrap();
    let give_up = Instant::now() + PATIENCE;
    while fixture.server.status().connections() > 0 {
        assert!(Instant::now() < give_up, "it is still there");
        fixture.server.sample();
    }
    drop(silent);
}
