//! A local tokenizer beside engines: it answers once they agree, and never again after they have not.
use crate::client::Client;
use crate::engine::{Engine, Reply};
use crate::fixture::{Fixture, events_of};
use kvroute::config::TokenizerConfig;
use kvroute::tokenize::local::Local;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const TEMPLATE: &str = "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}{{ '<answer>' if add_generation_prompt }}";

fn folder() -> TempDir {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/tokenizers/bytelevel");
    let folder = TempDir::new().unwrap();
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(golden.join(file), folder.path().join(file)).unwrap();
    }
    fs::write(folder.path().join("chat_template.jinja"), TEMPLATE).unwrap();
    folder
}

/// An engine with the same tokenizer, as long as `odd` does not say otherwise.
fn engine(folder: &TempDir, odd: &Arc<AtomicBool>) -> Engine {
    let own = Local::open(folder.path()).unwrap();
    let odd = Arc::clone(odd);
    Engine::scripted(move |_, body| {
        let Ok(mut tokens) = own.tokens(body.to_string().as_bytes()) else {
            return Reply::Status(400, "", r#"{"error":{"message":"no"}}"#);
        };
        if odd.load(SeqCst) {
            tokens.push(0);
        }
        let body = json!({"count": tokens.len(), "max_model_len": 9, "tokens": tokens});
        Reply::Body(body.to_string())
    })
}

fn add(fixture: &Fixture, engine: &Engine, uid: &str) {
    fixture.add(json!({"pod": "a", "uid": uid, "model": "m",
        "events": events_of("a"), "endpoint": engine.endpoint()}));
}

fn serving(folder: &TempDir, engine: &Engine) -> (Fixture, Client) {
    let config = TokenizerConfig {
        local: vec![("m".to_owned(), folder.path().to_owned())],
        hedge: None,
        timeout: Duration::from_secs(60),
        deadline: Duration::from_secs(60),
        ..TokenizerConfig::default()
    };
    let fixture = Fixture::tokenizing(&config);
    add(&fixture, engine, "1");
    let client = fixture.client();
    (fixture, client)
}

fn metric(client: &mut Client, name: &str) -> u64 {
    let text = String::from_utf8(client.get("/metrics").body).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let value = line.unwrap_or_else(|| panic!("{name}: {text}"));
    value.trim().parse().unwrap()
}

fn wait_for(client: &mut Client, state: &str) {
    let name = format!("kvroute_local_tokenizer_state{{model=\"m\",state=\"{state}\"}}");
    let begun = Instant::now();
    while metric(client, &name) == 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "never {state}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn compared(client: &mut Client, outcome: &str) -> u64 {
    let name =
        format!("kvroute_local_tokenizer_comparisons_total{{model=\"m\",outcome=\"{outcome}\"}}");
    metric(client, &name)
}

fn answered(client: &mut Client) -> u64 {
    let name = "kvroute_local_tokenizer_prompts_total{model=\"m\",outcome=\"answered\"}";
    metric(client, name)
}

/// How many tokens the node has for a body.
fn ask(client: &mut Client, body: &Value) -> u64 {
    let response = client.post("/v1/match", body);
    assert_eq!(response.status, 200, "{response:?}");
    response.json()["tokens"].as_u64().unwrap()
}

fn asked(engine: &Engine, text: &str) -> usize {
    engine
        .asked()
        .iter()
        .filter(|body| body.contains(text))
        .count()
}

#[test]
fn it_answers_while_it_is_equal_and_a_difference_turns_it_off() {
    let folder = folder();
    let odd = Arc::new(AtomicBool::new(false));
    let engine = engine(&folder, &odd);
    let (fixture, mut client) = serving(&folder, &engine);
    wait_for(&mut client, "on");
    assert_eq!(compared(&mut client, "equal"), 1);

    // The first of a shape is compared, the second is not.
    let prompt = |text: &str| json!({"model": "m", "prompt": text, "add_special_tokens": false});
    let own = Local::open(folder.path()).unwrap();
    for text in ["first of all", "second to none"] {
        let body = prompt(text);
        let expected = own.tokens(body.to_string().as_bytes()).unwrap().len() as u64;
        assert_eq!(ask(&mut client, &body), expected);
    }
    while compared(&mut client, "equal") < 2 {
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(
        (
            asked(&engine, "first of all"),
            asked(&engine, "second to none")
        ),
        (1, 0)
    );
    assert_eq!(answered(&mut client), 2);

    // What is not understood is the engine's; it takes nothing of the kind either.
    let image =
        json!({"model": "m", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]});
    assert_ne!(client.post("/v1/match", &image).status, 200);
    assert_eq!(asked(&engine, "image_url"), 1);

    // The engine changes, and says nothing of it; the next new shape brings it to light.
    odd.store(true, SeqCst);
    let chat = json!({"model": "m", "messages": [{"role": "user", "content": "third time lucky"}]});
    let local = ask(&mut client, &chat);
    wait_for(&mut client, "off");
    assert_eq!(compared(&mut client, "different"), 1);
    let before = answered(&mut client);
    assert_eq!(ask(&mut client, &chat), local + 1, "the engine's answer");
    assert_eq!(asked(&engine, "third time lucky"), 2);
    assert_eq!(answered(&mut client), before);

    // The pod comes again with another engine in it.
    odd.store(false, SeqCst);
    add(&fixture, &engine, "2");
    wait_for(&mut client, "on");
    assert_eq!(
        ask(&mut client, &prompt("fourth estate")) + 1,
        ask(
            &mut client,
            &json!({"model": "m", "prompt": "fourth estate"})
        )
    );
}

#[test]
fn it_never_answers_if_it_differs_from_the_start() {
    let folder = folder();
    let odd = Arc::new(AtomicBool::new(true));
    let engine = engine(&folder, &odd);
    let (_fixture, mut client) = serving(&folder, &engine);
    wait_for(&mut client, "off");
    let calls = engine.calls();
    ask(&mut client, &json!({"model": "m", "prompt": "hello"}));
    assert_eq!((answered(&mut client), engine.calls()), (0, calls + 1));
}

#[test]
fn nothing_is_said_of_an_engine_that_does_not_answer() {
    let folder = folder();
    let engine = Engine::scripted(|_, _| Reply::Status(404, "", r#"{"detail":"Not Found"}"#));
    let (_fixture, mut client) = serving(&folder, &engine);
    while compared(&mut client, "unknown") == 0 {
        thread::sleep(Duration::from_millis(5));
    }
    wait_for(&mut client, "unverified");
}
