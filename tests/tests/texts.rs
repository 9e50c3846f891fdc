//! Prompts as text, against what real engines made of them and really reused.
//!
//! Every recording that has requests with text is played into a node of its own. An engine's `/tokenize` answers with the
//! tokens that the real one had for exactly that body; the node gets the body as it was sent. What it says must
//! be what it says for the token ids, so what the engine reused. Images are told apart by what stands beside the tokens in events,
//! which text does not say: there the node may say less, never more, and all of it if it is told.
use kvroute::config::Config;
use kvroute::demo::{Client, ClientError, Outcome, PlayError, Player};
use kvroute::node::Node;
use kvroute::trace::judge::Verdict;
use kvroute::trace::{self, Entry, Recording, Request, Step, What};
use kvroute_tests::gateways::Tokenizer;
use kvroute_tests::texts::{self, Exchange, Text};
use kvroute_tests::tidy::root;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// What the requests of one kind came to.
#[derive(Debug, Default)]
struct Row {
    requests: usize,
    /// The same as for token ids.
    equal: usize,
    /// Less, for want of images.
    less: usize,
    /// The adapter's name is not known yet: nobody holds anything.
    unknown: usize,
    /// Judged against what the engine reused: equal to it.
    reused: usize,
}

type Rows = BTreeMap<&'static str, Row>;

/// Requests with text in the repository's own recordings.
const OWN_TEXTS: usize = 219;

#[test]
fn text_is_looked_up_as_the_engine_tokenized_it() {
    let mut stems = trace::find(&root().join("tests/traces")).expect("the recordings are there");
    let own = stems.len();
    if let Some(folder) = std::env::var_os("KVROUTE_TRACES") {
        stems.extend(trace::find(Path::new(&folder)).expect("a folder of recordings"));
    }
    let (mut rows, mut wrong) = (Rows::new(), Vec::new());
    let mut read = 0;
    for (at, stem) in stems.iter().enumerate() {
        let texts = texts::read(stem).expect("texts");
        if at < own {
            read += texts.len();
        }
        if !texts.is_empty() {
            play(stem, &texts, &mut rows, &mut wrong);
        }
    }
    assert_eq!(read, OWN_TEXTS, "texts in tests/traces");
    println!("{:8} requests  equal   less  unknown  as reused", "");
    for (kind, row) in &rows {
        println!(
            "{kind:8} {:8} {:6} {:6} {:8} {:10}",
            row.requests, row.equal, row.less, row.unknown, row.reused
        );
        // A kind that nobody could answer proves nothing.
        assert!(row.reused * 2 > row.requests, "{kind}: {row:?}");
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert_eq!(rows.len(), 4, "{rows:?}");
}

fn play(stem: &Path, texts: &[Text], rows: &mut Rows, wrong: &mut Vec<String>) {
    let recording = trace::open(stem).unwrap_or_else(|error| panic!("{error}"));
    if let Err(error) = judge(&recording, texts, rows, wrong) {
        wrong.push(format!("{}: {error}", recording.name));
    }
}

fn judge(
    recording: &Recording,
    texts: &[Text],
    rows: &mut Rows,
    wrong: &mut Vec<String>,
) -> Result<(), Box<dyn std::error::Error>> {
    let version = recording.name.trim_start_matches('v').split('-').next();
    let tokenizer = Tokenizer::start(version.unwrap_or_default())?;
    let texts: BTreeMap<_, _> = texts.iter().map(|text| (text.i, &text.request)).collect();
    for (entry, request) in recording.requests() {
        if let Some(body) = texts.get(&entry.id) {
            tokenizer.add_tokens(body, &request.tokens);
        }
    }
    let node = Node::start(&Config {
        probe_interval: None,
        ..Config::default()
    })?;
    let endpoint = tokenizer.endpoint();
    let mut player = Player::start_at(recording, node.http_addr(), "", Some(&endpoint))?;
    let mut client = Client::new(node.http_addr());
    for step in recording.steps() {
        let (at, entry) = match step {
            Step::Published(message) => {
                player.publish(message, None)?;
                continue;
            }
            Step::Happened(at, entry) => (at, entry),
        };
        let What::Request(request) = &entry.what else {
            continue;
        };
        let Some(&body) = texts.get(&entry.id) else {
            continue;
        };
        let row = rows.entry(kind(recording, request, body)).or_default();
        row.requests += 1;
        let ids = player.ask(at, entry, request)?;
        let how = format!("{} request {} ({})", recording.name, entry.id, entry.label);
        match routed(&mut client, request, body)? {
            Some(tokens) if tokens == request.tokens.len() => {}
            None if ids.predictions.iter().all(|&predicted| predicted == 0) => {
                row.unknown += 1;
                continue;
            }
            other => wrong.push(format!("{how}: routed with {other:?} tokens")),
        }
        let text = player.ask_with(at, entry, request, body.clone())?;
        compare(&ids, &text, request, row, wrong, &how);
        told(
            &mut player,
            at,
            entry,
            request,
            body,
            recording,
            &ids,
            wrong,
        )?;
    }
    let (_, strange) = tokenizer.asked();
    wrong.extend(
        strange
            .into_iter()
            .map(|body| format!("{}: sent {body}", recording.name)),
    );
    drop(player);
    node.stop();
    Ok(())
}

fn kind(recording: &Recording, request: &Request, body: &Value) -> &'static str {
    match body["messages"].is_array() {
        _ if !request.images.is_empty() => "images",
        _ if request.model != recording.base_model() => "adapter",
        true => "chat",
        false => "prompt",
    }
}

/// Routes a body as it was sent, and says how many tokens the choice was made by; nothing if the model is not known.
fn routed(
    client: &mut Client,
    request: &Request,
    body: &Value,
) -> Result<Option<usize>, ClientError> {
    let routed: Result<Value, _> = client.post(&format!("/v1/route{}", request.path), body);
    let routed = match routed {
        Err(ClientError::Status { status: 404, .. }) => return Ok(None),
        routed => routed?,
    };
    let id = routed["request_id"].as_str().unwrap_or_default();
    let explained: Value = client.get(&format!("/v1/explain/{id}"))?;
    let tokens = explained["tokens"].as_u64().unwrap_or(u64::MAX);
    Ok(Some(usize::try_from(tokens).unwrap_or(usize::MAX)))
}

fn compare(
    ids: &Outcome,
    text: &Outcome,
    request: &Request,
    row: &mut Row,
    wrong: &mut Vec<String>,
    how: &str,
) {
    let less = text
        .predictions
        .iter()
        .zip(&ids.predictions)
        .all(|(t, i)| t <= i);
    if text.predictions == ids.predictions {
        row.equal += 1;
    } else if less && !request.images.is_empty() {
        row.less += 1;
    } else {
        let (text, ids) = (&text.predictions, &ids.predictions);
        wrong.push(format!("{how}: {text:?} by text, {ids:?} by token ids"));
    }
    match text.verdict {
        Verdict::Exact => row.reused += 1,
        Verdict::Over => wrong.push(format!("{how}: more than the engine reused")),
        Verdict::Under if request.images.is_empty() => {
            wrong.push(format!("{how}: less than the engine reused"));
        }
        _ => {}
    }
}

/// With what stands beside the tokens, text says all.
#[expect(clippy::too_many_arguments, reason = "all of it is of the one request")]
fn told(
    player: &mut Player<'_>,
    at: usize,
    entry: &Entry,
    request: &Request,
    body: &Value,
    recording: &Recording,
    ids: &Outcome,
    wrong: &mut Vec<String>,
) -> Result<(), PlayError> {
    let block_size = recording.block_size.unwrap_or(0) as usize;
    if let Some(keys) = request.extra_keys(block_size) {
        let mut body = body.clone();
        body["extra_keys"] = Value::Array(keys);
        let told = player.ask_with(at, entry, request, body)?;
        if told.predictions != ids.predictions {
            wrong.push(format!("{}: {} with its images", recording.name, entry.id));
        }
    }
    Ok(())
}

/// What engines answer to `/tokenize`, to the byte, and what the node makes of it.
#[test]
fn answers_of_every_version_are_understood() {
    for version in ["v0.12.0", "v0.23.0", "v0.32.0"] {
        let packed = root().join(format!("tests/traces/http/{version}.tokenize.jsonl.gz"));
        let exchanges = texts::exchanges(&packed).expect("the answers are there");
        assert_eq!(exchanges.len(), 12, "{version}");
        let tokenizer = Tokenizer::start(version.trim_start_matches('v')).expect("a socket");
        let node = Node::start(&Config {
            probe_interval: None,
            ..Config::default()
        });
        let node = node.expect("a node");
        let mut client = Client::new(node.http_addr());
        let pod = json!({"pod": "a", "model": "tiny", "events": "tcp://127.0.0.1:9", "endpoint": tokenizer.endpoint()});
        let _: Value = client.post("/v1/workers", &pod).expect("room");
        for exchange in &exchanges {
            tokenizer.add(&exchange.request, exchange.status, exchange.answer.clone());
            understood(&mut client, version, exchange);
        }
        assert_eq!(tokenizer.asked().1, [""; 0], "{version}");
    }
}

fn understood(client: &mut Client, version: &str, exchange: &Exchange) {
    let what = format!("{version} {}", exchange.name);
    let matched: Result<Value, ClientError> = client.post("/v1/match", &exchange.request);
    let expected: Value = serde_json::from_str(&exchange.answer).expect("JSON");
    match (exchange.status, matched) {
        (200, Ok(answer)) => assert_eq!(answer["tokens"], expected["count"], "{what}"),
        (
            200,
            Err(ClientError::Status {
                status: 400, body, ..
            }),
        ) => {
            // Which model it is for, the node has to be told.
            assert!(
                exchange.request["model"].is_null() && body.contains("model"),
                "{what}: {body}"
            );
        }
        (400 | 404, Err(ClientError::Status { status, .. })) => {
            assert_eq!(status, exchange.status, "{what}");
        }
        (_, matched) => panic!("{what}: {matched:?}"),
    }
}
