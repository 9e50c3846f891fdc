//! How engines are asked for tokens: again, beside others, not at all, or once for many.
use crate::client::Client;
use crate::engine::{Engine, Reply};
use crate::fixture::{Fixture, events_of};
use kvroute::config::TokenizerConfig;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

/// Calls take as long as they take; there is no second one beside a slow one.
fn patient() -> TokenizerConfig {
    TokenizerConfig {
        timeout: Duration::from_secs(60),
        deadline: Duration::from_secs(60),
        hedge: None,
        ..TokenizerConfig::default()
    }
}

/// One pod for each of the engines, `a`, `b` and so on.
fn serving(config: &TokenizerConfig, engines: &[&Engine]) -> (Fixture, Client) {
    let fixture = Fixture::tokenizing(config);
    for (pod, engine) in ["a", "b", "c"].into_iter().zip(engines) {
        add(&fixture, pod, engine, "1");
    }
    let client = fixture.client();
    (fixture, client)
}

fn add(fixture: &Fixture, pod: &str, engine: &Engine, uid: &str) {
    fixture.add(json!({"pod": pod, "uid": uid, "model": "m", "lora": ["fr"],
        "events": events_of(pod), "endpoint": engine.endpoint()}));
}

/// Asks for the tokens of a text; how many there are, or why there are none.
fn ask(client: &mut Client, prompt: &str) -> Result<u64, String> {
    told(client, &json!({"model": "m", "prompt": prompt}))
}

fn told(client: &mut Client, body: &Value) -> Result<u64, String> {
    let response = client.post("/v1/match", body);
    if response.status == 200 {
        return Ok(response.json()["tokens"].as_u64().unwrap());
    }
    assert!([400, 503].contains(&response.status), "{response:?}");
    Err(response.json()["error"]["message"]
        .as_str()
        .unwrap()
        .to_owned())
}

/// A counter of the tokenizer, from `/metrics`.
fn metric(client: &mut Client, name: &str) -> u64 {
    let text = String::from_utf8(client.get("/metrics").body).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let value = line.unwrap_or_else(|| panic!("{name}: {text}"));
    value.trim().parse().unwrap()
}

fn failures(client: &mut Client, reason: &str) -> u64 {
    let name = format!("kvroute_tokenizer_failures_total{{reason=\"{reason}\"}}");
    metric(client, &name)
}

fn wait_until(mut there: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !there() {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "it does not come"
        );
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn what_may_pass_is_asked_again() {
    for (first, calls) in [
        (Reply::Status(408, "", ""), 2),
        (Reply::Status(429, "", ""), 2),
        (Reply::Status(500, "", ""), 2),
        (Reply::Status(503, "retry-after: 0\r\n", ""), 2),
        (
            Reply::Bytes("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{"),
            2,
        ),
        (Reply::Bytes(""), 2),
        (Reply::Status(400, "", ""), 1),
        (Reply::Status(401, "", ""), 1),
        (Reply::Status(404, "", ""), 1),
        (Reply::Status(302, "location: /x\r\n", ""), 1),
        (Reply::Body("{}".to_owned()), 1),
    ] {
        let reply = first.clone();
        let engine = Engine::scripted(move |n, _| match n {
            0 => reply.clone(),
            _ => Reply::Tokens,
        });
        let (_fixture, mut client) = serving(&patient(), &[&engine]);
        let told = ask(&mut client, "1 2 3");
        assert_eq!(told.is_ok(), calls == 2, "{first:?} {told:?}");
        assert_eq!(engine.calls(), calls, "{first:?}");
        assert_eq!(
            metric(&mut client, "kvroute_tokenizer_retries_total"),
            calls as u64 - 1
        );
    }
}

#[test]
fn there_are_so_many_retries_as_are_set() {
    for retries in [0, 3] {
        let engine = Engine::scripted(|_, _| Reply::Status(500, "", ""));
        let config = TokenizerConfig {
            retries,
            ..patient()
        };
        let (_fixture, mut client) = serving(&config, &[&engine]);
        assert!(ask(&mut client, "1").unwrap_err().contains("500"));
        assert_eq!(engine.calls(), retries as usize + 1);
        assert_eq!(failures(&mut client, "status"), 1);
    }
}

#[test]
fn who_wants_to_be_left_alone_is() {
    let busy = Engine::scripted(|_, _| Reply::Status(429, "retry-after: 3000\r\n", ""));
    // Alone, it is beyond the deadline.
    let (_fixture, mut client) = serving(&patient(), &[&busy]);
    assert!(ask(&mut client, "1").unwrap_err().contains("429"));
    assert_eq!(busy.calls(), 1);
    // Nor is it asked for another prompt.
    assert!(ask(&mut client, "2").is_err());
    assert_eq!(
        (busy.calls(), failures(&mut client, "breaker_open")),
        (1, 1)
    );
    // With another one, that one is asked.
    let (busy, other) = (
        Engine::scripted(|_, _| {
            Reply::Status(503, "retry-after: Fri, 31 Dec 2100 23:59:59 GMT\r\n", "")
        }),
        Engine::new(),
    );
    let (_fixture, mut client) = serving(&patient(), &[&busy, &other]);
    for n in 0..6 {
        assert_eq!(ask(&mut client, &n.to_string()), Ok(1));
    }
    assert_eq!((busy.calls(), other.calls()), (1, 6));
}

#[test]
fn a_pod_that_fails_again_and_again_gets_a_pause() {
    let ill = Arc::new(AtomicUsize::new(1));
    let health = Arc::clone(&ill);
    let engine = Engine::scripted(move |_, _| match health.load(SeqCst) {
        0 => Reply::Tokens,
        _ => Reply::Status(500, "", ""),
    });
    let config = TokenizerConfig {
        retries: 0,
        ..patient()
    };
    let (_fixture, mut client) = serving(&config, &[&engine]);
    for n in 0..5 {
        assert!(
            ask(&mut client, &n.to_string())
                .unwrap_err()
                .contains("500")
        );
    }
    assert_eq!(engine.calls(), 5);
    assert!(ask(&mut client, "6").unwrap_err().contains("too often"));
    assert_eq!(
        (engine.calls(), failures(&mut client, "breaker_open")),
        (5, 1)
    );
    // After the pause one call finds out whether it is well again; it is not.
    wait_until(|| ask(&mut client, "7").unwrap_err().contains("500"));
    assert_eq!(engine.calls(), 6);
    assert!(ask(&mut client, "8").unwrap_err().contains("too often"));
    // Then it is, and all are let through.
    ill.store(0, SeqCst);
    wait_until(|| ask(&mut client, "9") == Ok(1));
    assert_eq!(engine.calls(), 7);
    for n in 10..20 {
        assert_eq!(ask(&mut client, &n.to_string()), Ok(1));
    }
}

#[test]
fn a_refused_prompt_is_not_the_pods_fault() {
    let model = r#"{"error":{"message":"no such model","type":"NotFoundError","param":"model","code":404}}"#;
    let engine = Engine::scripted(move |n, _| match n {
        0..20 => Reply::Status(400, "", ""),
        20..40 => Reply::Status(404, "", model),
        _ => Reply::Tokens,
    });
    let (_fixture, mut client) = serving(&patient(), &[&engine]);
    for n in 0..40 {
        assert!(ask(&mut client, &n.to_string()).is_err());
    }
    assert_eq!(ask(&mut client, "40"), Ok(1));
    assert_eq!(
        (
            failures(&mut client, "refused"),
            failures(&mut client, "no_pod")
        ),
        (20, 20)
    );
}

#[test]
fn a_slow_pod_gets_another_one_beside_it() {
    // Whoever is asked first says nothing.
    let asked = Arc::new(AtomicUsize::new(0));
    let engine = |asked: &Arc<AtomicUsize>| {
        let asked = Arc::clone(asked);
        Engine::scripted(move |_, _| match asked.fetch_add(1, SeqCst) {
            0 => Reply::Silence,
            _ => Reply::Tokens,
        })
    };
    let (a, b) = (engine(&asked), engine(&asked));
    let config = TokenizerConfig {
        hedge: Some(Duration::from_millis(1)),
        ..patient()
    };
    let (_fixture, mut client) = serving(&config, &[&a, &b]);
    assert_eq!(ask(&mut client, "1 2"), Ok(2));
    assert_eq!((a.calls(), b.calls()), (1, 1));
    assert_eq!(metric(&mut client, "kvroute_tokenizer_hedges_total"), 1);
    assert_eq!(metric(&mut client, "kvroute_tokenizer_calls_now"), 0);
    // Alone, it is waited for.
    let alone = Engine::scripted(|_, _| Reply::Held);
    let (_fixture, mut client) = serving(&config, &[&alone]);
    let asking = thread::spawn(move || ask(&mut client, "1"));
    wait_until(|| alone.calls() == 1);
    thread::sleep(Duration::from_millis(20));
    alone.go_on();
    assert_eq!((asking.join().unwrap(), alone.calls()), (Ok(1), 1));
}

#[test]
fn a_failure_beside_a_slow_one_is_waited_out() {
    let asked = Arc::new(AtomicUsize::new(0));
    let engine = |asked: &Arc<AtomicUsize>| {
        let asked = Arc::clone(asked);
        Engine::scripted(move |_, _| match asked.fetch_add(1, SeqCst) {
            0 => Reply::Held,
            _ => Reply::Status(500, "", ""),
        })
    };
    let (a, b) = (engine(&asked), engine(&asked));
    let config = TokenizerConfig {
        hedge: Some(Duration::from_millis(1)),
        retries: 0,
        ..patient()
    };
    let (_fixture, mut client) = serving(&config, &[&a, &b]);
    let asking = thread::spawn(move || ask(&mut client, "1"));
    wait_until(|| asked.load(SeqCst) == 2);
    a.go_on();
    b.go_on();
    assert_eq!(asking.join().unwrap(), Ok(1));
}

#[test]
fn the_deadline_holds_whatever_engines_do() {
    let engine = Engine::scripted(|_, _| Reply::Silence);
    let config = TokenizerConfig {
        deadline: Duration::from_millis(50),
        ..patient()
    };
    let (fixture, mut client) = serving(&config, &[&engine]);
    // A second pod, so that there is a choice.
    fixture.add(
        json!({"pod": "y", "model": "m", "events": events_of("y"), "endpoint": engine.endpoint()}),
    );
    let body = json!({"model": "m", "prompt": "1"});
    let answer = client.post("/v1/route/v1/completions", &body);
    assert_eq!(
        (answer.status, answer.json()["reason"].clone()),
        (200, json!("no_tokens"))
    );
    assert_eq!((engine.calls(), failures(&mut client, "timeout")), (1, 1));
    let response = client.post("/v1/ext_authz/v1/completions", &body);
    assert_eq!(response.status, 200);
    assert!(response.header("target-pod").is_some());
    assert!(ask(&mut client, "1").unwrap_err().contains("in time"));
}

#[test]
fn a_call_that_takes_too_long_is_made_again() {
    let engine = Engine::scripted(|n, _| match n {
        0 => Reply::Silence,
        _ => Reply::Tokens,
    });
    let config = TokenizerConfig {
        timeout: Duration::from_millis(50),
        retries: 10,
        ..patient()
    };
    let (_fixture, mut client) = serving(&config, &[&engine]);
    assert_eq!(ask(&mut client, "1 2 3"), Ok(3));
    assert!(engine.calls() >= 2);
}

#[test]
fn what_are_no_tokens_is_noticed() {
    for (reply, reason) in [
        (Reply::Body("<html>".to_owned()), "content"),
        (
            Reply::Body(r#"{"count":2,"tokens":[1]}"#.to_owned()),
            "content",
        ),
        (
            Reply::Body(r#"{"count":1,"tokens":[-1]}"#.to_owned()),
            "content",
        ),
        (Reply::Endless, "too_large"),
        (Reply::Status(418, "", ""), "status"),
        (Reply::Bytes("no http\r\n\r\n"), "connect"),
    ] {
        let said = reply.clone();
        let engine = Engine::scripted(move |_, _| said.clone());
        let config = TokenizerConfig {
            retries: 0,
            ..patient()
        };
        let (_fixture, mut client) = serving(&config, &[&engine]);
        assert!(ask(&mut client, "1").is_err(), "{reply:?}");
        assert_eq!(failures(&mut client, reason), 1, "{reply:?}");
        let answer = client.post("/v1/route", &json!({"model": "m", "prompt": "1"}));
        assert_eq!(answer.status, 200, "{reply:?}");
    }
}

#[test]
fn no_more_calls_at_once_than_are_set() {
    let engine = Engine::scripted(|_, _| Reply::Held);
    let config = TokenizerConfig {
        concurrency: 2,
        ..patient()
    };
    let (fixture, mut client) = serving(&config, &[&engine]);
    let asking: Vec<_> = (0..6)
        .map(|n| {
            let mut client = fixture.client();
            thread::spawn(move || ask(&mut client, &n.to_string()))
        })
        .collect();
    wait_until(|| metric(&mut client, "kvroute_tokenizer_calls_now") == 2 && engine.calls() == 2);
    engine.go_on();
    for asking in asking {
        assert_eq!(asking.join().unwrap(), Ok(1));
    }
    assert_eq!((engine.calls(), engine.most_at_once()), (6, 2));
}

#[test]
fn equal_prompts_share_a_call() {
    let engine = Engine::scripted(|_, _| Reply::Held);
    let (fixture, mut client) = serving(&patient(), &[&engine]);
    let asking: Vec<_> = (0..8)
        .map(|n| {
            let mut client = fixture.client();
            // How they are to be answered is not what their tokens depend on.
            let body = json!({"model": "m", "seed": n, "messages": [{"role": "user", "content": "1 2 3"}]});
            thread::spawn(move || told(&mut client, &body))
        })
        .collect();
    wait_until(|| metric(&mut client, "kvroute_tokenizer_shared_total") == 7);
    engine.go_on();
    for asking in asking {
        assert_eq!(asking.join().unwrap(), Ok(3));
    }
    assert_eq!(engine.calls(), 1);
}

#[test]
fn connections_are_kept() {
    let engine = Engine::new();
    let (_fixture, mut client) = serving(&patient(), &[&engine]);
    assert_eq!(ask(&mut client, "0"), Ok(1));
    wait_until(|| engine.versions_asked() == 1);
    let before = engine.connections();
    assert!(before <= 2);
    for n in 1..20 {
        assert_eq!(ask(&mut client, &n.to_string()), Ok(1));
    }
    assert_eq!((engine.connections(), engine.calls()), (before, 20));
}

/// Asks until the answer comes from what is remembered, which it does as soon as the engine's version is known.
fn remember(client: &mut Client, engine: &Engine, body: &Value) {
    wait_until(|| {
        let before = engine.calls();
        told(client, body).unwrap();
        engine.calls() == before
    });
}

#[test]
fn only_equal_prompts_are_the_same() {
    let engine = Engine::new();
    let (_fixture, mut client) = serving(&patient(), &[&engine]);
    let chat = json!({"model": "m", "messages": [{"role": "user", "content": "1 2 3"}]});
    remember(&mut client, &engine, &chat);
    let calls = engine.calls();
    // How it is answered does not matter, nor what this node reads.
    for (field, value) in [
        ("stream", json!(true)),
        ("temperature", json!(0.5)),
        ("max_tokens", json!(5)),
        ("seed", json!(7)),
        ("user", json!("u")),
        ("limit", json!(3)),
    ] {
        let mut body = chat.clone();
        body[field] = value;
        assert_eq!(told(&mut client, &body), Ok(3), "{body}");
        assert_eq!(engine.calls(), calls, "{body}");
    }
    // All else does.
    let mut expected = calls;
    for (field, value) in [
        ("messages", json!([{"role": "system", "content": "1 2 3"}])),
        (
            "messages",
            json!([{"role": "user", "content": "1 2 3"}, {"role": "user", "content": ""}]),
        ),
        ("model", json!("fr")),
        ("lora", json!("fr")),
        ("tools", json!([{"type": "function"}])),
        ("chat_template", json!("x")),
        ("chat_template_kwargs", json!({"thinking": true})),
        ("chat_template_kwargs", json!({"thinking": false})),
        ("add_generation_prompt", json!(false)),
        ("continue_final_message", json!(true)),
        ("add_special_tokens", json!(true)),
        ("mm_processor_kwargs", json!({})),
        ("documents", json!([])),
        ("reasoning_effort", json!("low")),
        ("cache_salt", json!("s")),
        ("new_in_the_next_version", json!(1)),
    ] {
        let mut body = chat.clone();
        body[field] = value;
        expected += 1;
        assert_eq!(told(&mut client, &body), Ok(3), "{body}");
        assert_eq!(engine.calls(), expected, "{body}");
        // And is remembered apart.
        assert_eq!(told(&mut client, &body), Ok(3), "{body}");
        assert_eq!(engine.calls(), expected, "{body}");
    }
    // A completion is no chat.
    for body in [
        json!({"model": "m", "prompt": "1 2 3"}),
        json!({"model": "m", "prompt": "1 2 3", "add_special_tokens": false}),
        json!({"model": "m", "prompt": "1 2 3 "}),
        json!({"model": "fr", "prompt": "1 2 3"}),
    ] {
        expected += 1;
        assert_eq!(told(&mut client, &body), Ok(3), "{body}");
        assert_eq!(engine.calls(), expected, "{body}");
    }
    assert_eq!(
        told(
            &mut client,
            &json!({"model": "m", "prompt": "1 2 3", "n": 2})
        ),
        Ok(3)
    );
    assert_eq!(engine.calls(), expected);
}

#[test]
fn what_another_engine_has_told_is_forgotten() {
    let engine = Engine::new();
    let (fixture, mut client) = serving(&patient(), &[&engine]);
    let body = json!({"model": "m", "prompt": "1 2"});
    let again = |what: &str, client: &mut Client| {
        let before = engine.calls();
        assert_eq!(told(client, &body), Ok(2), "{what}");
        assert_eq!(engine.calls(), before + 1, "{what}");
        remember(client, &engine, &body);
    };
    remember(&mut client, &engine, &body);
    add(&fixture, "a", &engine, "2");
    again("the pod has another uid", &mut client);
    fixture.status("a#0").add_restarts(1);
    again("its engine has restarted", &mut client);
    add(&fixture, "b", &engine, "1");
    fixture.fleet.remove("a", None);
    again("the pod is gone", &mut client);
}

#[test]
fn tokens_are_remembered_for_a_while() {
    let engine = Engine::new();
    let config = TokenizerConfig {
        cache_time: Duration::from_millis(100),
        ..patient()
    };
    let (_fixture, mut client) = serving(&config, &[&engine]);
    let body = json!({"model": "m", "prompt": "1 2"});
    remember(&mut client, &engine, &body);
    let calls = engine.calls();
    wait_until(|| told(&mut client, &body) == Ok(2) && engine.calls() > calls);
    // Or not at all.
    let engine = Engine::new();
    let config = TokenizerConfig {
        cache: 0,
        ..patient()
    };
    let (_fixture, mut client) = serving(&config, &[&engine]);
    for n in 1..=5 {
        assert_eq!(told(&mut client, &body), Ok(2));
        assert_eq!(engine.calls(), n);
    }
}

#[test]
fn another_server_may_stand_for_the_engines() {
    let (engine, server) = (Engine::new(), Engine::new());
    let config = TokenizerConfig {
        endpoint: Some(format!("http://{}/", server.endpoint())),
        ..patient()
    };
    let (_fixture, mut client) = serving(&config, &[&engine]);
    assert_eq!(ask(&mut client, "1 2"), Ok(2));
    assert_eq!((engine.calls(), server.calls()), (0, 1));
}

#[test]
fn whoever_waits_when_it_stops_goes_on_without() {
    let engine = Engine::scripted(|_, _| Reply::Silence);
    let (mut fixture, mut client) = serving(&patient(), &[&engine]);
    let asking = thread::spawn(move || ask(&mut client, "1"));
    wait_until(|| engine.calls() == 1);
    drop(fixture.tokenizer.take());
    assert!(asking.join().unwrap().unwrap_err().contains("stopping"));
    let mut client = fixture.client();
    let answer = client.post("/v1/route", &json!({"model": "m", "prompt": "2"}));
    assert_eq!(answer.status, 200);
}
