//! Prompts as text: answered as if their token ids had been sent.
use crate::client::Client;
use crate::engine::{Engine, Reply};
use crate::fixture::{Blocks, Fixture, events_of, prompt};
use kvroute::config::TokenizerConfig;
use serde_json::{Value, json};

/// Pods `a`, whose engine it is, and `b`, which holds eight tokens.
fn two(engine: &Engine) -> (Fixture, Client) {
    let fixture = Fixture::tokenizing(&TokenizerConfig::default());
    let pod = |pod: &str, endpoint: String| json!({"pod": pod, "model": "m", "events": events_of(pod), "endpoint": endpoint});
    fixture.add(pod("a", engine.endpoint()));
    // Another engine would not say what it was asked.
    fixture.add(pod("b", engine.endpoint()));
    fixture.store("b#0", &Blocks::of(&prompt(8)));
    let client = fixture.client();
    (fixture, client)
}

const TEXT: &str = "1 2 3 4 5 6 7 8 9";

fn chat() -> Value {
    json!({"model": "m", "messages": [{"role": "user", "content": TEXT}], "stream": true})
}

fn completion() -> Value {
    json!({"model": "m", "prompt": TEXT, "max_tokens": 7})
}

/// Why a request was sent where it was.
fn reason(client: &mut Client, id: &str) -> (String, Value) {
    let explained = client.get(&format!("/v1/explain/{id}")).json();
    (
        explained["reason"].as_str().unwrap().to_owned(),
        explained["tokens"].clone(),
    )
}

#[test]
fn text_is_matched_as_its_tokens_are() {
    let engine = Engine::new();
    let (_fixture, mut client) = two(&engine);
    let mut expected = client
        .post("/v1/match", &json!({"model": "m", "token_ids": prompt(9)}))
        .json();
    expected["candidates"][0]["age_ms"] = Value::Null;
    assert_eq!(expected["candidates"][0]["matched_tokens"], 8);
    let mut both = chat();
    both["prompt"] = json!("7 7 7 7");
    let mut nulls = completion();
    (nulls["messages"], nulls["token_ids"]) = (Value::Null, Value::Null);
    for body in [chat(), completion(), both, nulls] {
        let response = client.post("/v1/match", &body);
        assert_eq!(response.status, 200, "{response:?}");
        let mut answer = response.json();
        answer["candidates"][0]["age_ms"] = Value::Null;
        assert_eq!(answer, expected, "{body}");
    }
    // What else is in the request counts as ever.
    let mut salted = completion();
    salted["cache_salt"] = json!("s");
    let answer = client.post("/v1/match", &salted).json();
    assert_eq!(
        (&answer["tokens"], &answer["candidates"]),
        (&json!(9), &json!([]))
    );
}

#[test]
fn text_is_routed_as_its_tokens_are() {
    let engine = Engine::new();
    let (_fixture, mut client) = two(&engine);
    for (path, body) in [
        ("/v1/route", chat()),
        ("/v1/route", completion()),
        ("/v1/route/v1/chat/completions", chat()),
        ("/v1/route/v1/completions", completion()),
    ] {
        let answer = client.post(path, &body).json();
        assert_eq!(answer["target"]["pod"], "b", "{path} {body}");
        assert_eq!(answer["reason"], "prefix_match", "{path} {body}");
        assert_eq!(answer["matched_tokens"], 8, "{path} {body}");
        let id = answer["request_id"].as_str().unwrap();
        assert_eq!(
            reason(&mut client, id),
            ("prefix_match".to_owned(), json!(9))
        );
    }
}

#[test]
fn a_paths_own_field_is_the_prompt() {
    let engine = Engine::new();
    let (_fixture, mut client) = two(&engine);
    // What engines would do: a completion has no messages, a chat no prompt.
    let mut both = chat();
    both["prompt"] = json!("7 7 7 7 7");
    for (path, tokens) in [
        ("/v1/route", 9),
        ("/v1/route/v1/chat/completions", 9),
        ("/v1/route/v1/completions", 5),
        ("/v1/ext_authz/", 9),
        ("/v1/ext_authz/v1/chat/completions", 9),
        ("/v1/ext_authz/v1/completions", 5),
    ] {
        let response = client.post(path, &both);
        let id = response.header("x-kvroute-request-id").unwrap().to_owned();
        assert_eq!(reason(&mut client, &id).1, json!(tokens), "{path}");
    }
    for (path, body) in [
        ("/v1/route/v1/chat/completions", completion()),
        ("/v1/route/v1/completions", chat()),
        // Other services' bodies may look alike.
        ("/v1/ext_authz/v1/messages", chat()),
        ("/v1/ext_authz/v1/embeddings", completion()),
    ] {
        let asked = engine.calls();
        let response = client.post(path, &body);
        let id = response.header("x-kvroute-request-id").unwrap().to_owned();
        assert_eq!(
            reason(&mut client, &id),
            ("no_tokens".to_owned(), Value::Null),
            "{path}"
        );
        assert_eq!(engine.calls(), asked, "{path}");
    }
}

#[test]
fn a_gateways_check_goes_where_the_prompt_is() {
    let engine = Engine::new();
    let (_fixture, mut client) = two(&engine);
    for (path, body) in [
        ("/v1/ext_authz/v1/chat/completions", chat()),
        ("/v1/ext_authz/openai/v1/completions?x=1", completion()),
        ("/v1/ext_authz", chat()),
        ("/v1/ext_authz", completion()),
    ] {
        let response = client.post(path, &body);
        assert_eq!(
            (response.status, &response.body[..]),
            (200, &b""[..]),
            "{path}"
        );
        let id = response.header("x-kvroute-request-id").unwrap().to_owned();
        assert_eq!(
            reason(&mut client, &id),
            ("prefix_match".to_owned(), json!(9)),
            "{path}"
        );
    }
}

#[test]
fn large_bodies_are_answered_aside_in_two_goes() {
    let engine = Engine::new();
    let (_fixture, mut client) = two(&engine);
    let mut body = chat();
    for (n, path) in [
        "/v1/match",
        "/v1/route",
        "/v1/ext_authz/v1/chat/completions",
    ]
    .into_iter()
    .enumerate()
    {
        // Larger than what is answered on the thread, and as it comes in several pieces.
        body["padding"] = json!(n.to_string().repeat(300_000));
        let response = client.post(path, &body);
        assert_eq!(response.status, 200, "{path}");
        assert_eq!(engine.calls(), n + 1, "{path}");
        if let Some(id) = response.header("x-kvroute-request-id") {
            let id = id.to_owned();
            assert_eq!(reason(&mut client, &id).0, "prefix_match", "{path}");
        } else {
            let answer = response.json();
            assert_eq!(answer["candidates"][0]["matched_tokens"], 8, "{path}");
        }
    }
    let sent: Value = serde_json::from_str(&engine.asked()[1]).unwrap();
    assert_eq!(sent["padding"].as_str().map(str::len), Some(300_000));
}

#[test]
fn each_text_of_a_batch_is_answered_as_alone() {
    let engine = Engine::scripted(|_, body| match body["prompt"].as_str() {
        Some("refused") => Reply::Status(400, "", r#"{"error":{"message":"too hot"}}"#),
        _ => Reply::Tokens,
    });
    let (_fixture, mut client) = two(&engine);
    let requests = [
        completion(),
        json!({"model": "m", "token_ids": prompt(5)}),
        chat(),
        json!({"model": "nobody", "prompt": "1"}),
        json!({"model": "m", "prompt": "refused"}),
        json!({"model": "m", "prompt": ["1", "2"]}),
        json!({"model": "m", "prompt": "1 2 3 4 9"}),
        completion(),
        json!({"model": "m", "prompt": 7}),
        json!({"model": "m"}),
    ];
    // One of them is known already.
    client.post("/v1/match", &requests[6]);
    let response = client.post("/v1/match:batch", &json!({"requests": requests}));
    assert_eq!(response.status, 200);
    let answer = response.json();
    let responses = answer["responses"].as_array().unwrap();
    for (request, answered) in requests.iter().zip(responses) {
        let alone = client.post("/v1/match", request).json();
        assert_eq!(answered, &alone, "{request}");
    }
    let brief: Vec<_> = responses
        .iter()
        .map(|answered| match &answered["error"] {
            Value::Null => answered["candidates"][0]["matched_tokens"].clone(),
            error => json!([error["code"], error["field"]]),
        })
        .collect();
    let expected = [
        json!(8),
        json!(4),
        json!(8),
        json!(["model_not_found", "model"]),
        json!(["invalid_request", "prompt"]),
        json!(["invalid_request", "prompt"]),
        json!(4),
        json!(8),
        json!(["invalid_request", "prompt"]),
        json!(["invalid_request", "token_ids"]),
    ];
    assert_eq!(brief, expected);
}

#[test]
fn what_the_engine_refuses_is_the_clients_to_know() {
    let engine = Engine::scripted(|_, _| {
        let said =
            r#"{"error":{"message":"messages: too hot","type":"BadRequestError","code":400}}"#;
        Reply::Status(400, "", said)
    });
    let (_fixture, mut client) = two(&engine);
    let response = client.post("/v1/match", &chat());
    let expected = (
        400,
        "invalid_request".to_owned(),
        Some("messages".to_owned()),
    );
    assert_eq!(response.refusal(), expected);
    assert_eq!(response.json()["error"]["message"], "messages: too hot");
    // A request is routed all the same: the engine will refuse it.
    let answer = client.post("/v1/route", &chat()).json();
    assert_eq!(answer["reason"], "no_tokens");
    let response = client.post("/v1/ext_authz/v1/chat/completions", &chat());
    assert_eq!(response.status, 200);
}

#[test]
fn nobody_to_ask_is_no_error_of_routing() {
    let fixture = Fixture::tokenizing(&TokenizerConfig::default());
    fixture.add_pod("a");
    let mut client = fixture.client();
    let response = client.post("/v1/match", &chat());
    let expected = (
        503,
        "tokenizer_unavailable".to_owned(),
        Some("messages".to_owned()),
    );
    assert_eq!(response.refusal(), expected);
    let engine = Engine::new();
    // Nobody listens there any more.
    let gone = engine.endpoint();
    drop(engine);
    fixture.add(json!({"pod": "b", "model": "n", "events": events_of("b"), "endpoint": gone}));
    let mut other = chat();
    other["model"] = json!("n");
    let response = client.post("/v1/match", &other);
    assert_eq!(response.refusal(), expected);
    let answer = client.post("/v1/route", &other).json();
    assert_eq!(answer["reason"], "no_tokens");
    // Whom nobody serves is not asked for.
    other["model"] = json!("nobody");
    for path in ["/v1/match", "/v1/route"] {
        let refusal = client.post(path, &other).refusal();
        assert_eq!(refusal.1, "model_not_found", "{path}");
    }
}

#[test]
fn what_engines_would_not_tell_is_not_asked() {
    let engine = Engine::new();
    let (_fixture, mut client) = two(&engine);
    for (field, value) in [
        ("prompt", json!(["1 2 3 4"])),
        ("prompt", json!([[1, 2, 3, 4]])),
        ("truncate_prompt_tokens", json!(4)),
        ("prompt_embeds", json!("AAAA")),
    ] {
        let mut body = completion();
        body[field] = value;
        let refusal = client.post("/v1/match", &body).refusal();
        let expected = (400, "invalid_request".to_owned(), Some(field.to_owned()));
        assert_eq!(refusal, expected, "{body}");
        let answer = client.post("/v1/route/v1/completions", &body).json();
        assert_eq!(answer["reason"], "no_tokens", "{body}");
    }
    assert_eq!(engine.calls(), 0);
}

#[test]
fn a_chat_is_passed_on_whole_and_a_completions_prompt_alone() {
    let engine = Engine::new();
    let (_fixture, mut client) = two(&engine);
    let whole = r#"{ "model":"m","messages":[{"role":"user","content":"1 2\u0020x"}],
        "tools":[{"type":"function"}], "chat_template":"{{ x }}", "unknown":{"a":[1.50]}, "temperature":1e0}"#;
    client.post_text("/v1/route/v1/chat/completions", whole);
    assert_eq!(engine.asked()[0], whole);
    let text = r#"{"model":"m","prompt":"1 \u00e9","add_special_tokens":false,"seed":1}"#;
    client.post_text("/v1/route/v1/completions", text);
    let expected = r#"{"model":"m","prompt":"1 \u00e9","add_special_tokens":false}"#;
    assert_eq!(engine.asked()[1], expected);
    // An adapter beside the model is the model that engines know.
    let mut adapted = chat();
    adapted["lora"] = json!("fr");
    client.post("/v1/route", &adapted);
    let mut expected = adapted.clone();
    expected["model"] = json!("fr");
    let sent: Value = serde_json::from_str(&engine.asked()[2]).unwrap();
    assert_eq!(sent, expected);
    // What only chats hand to the template goes where `/tokenize` reads it.
    let mut documented = chat();
    documented["documents"] = json!([{"title": "t", "text": "x"}]);
    documented["reasoning_effort"] = json!("low");
    documented["chat_template_kwargs"] = json!({"documents": 7, "thinking": false});
    client.post("/v1/route", &documented);
    let sent: Value = serde_json::from_str(&engine.asked()[3]).unwrap();
    let kwargs =
        json!({"thinking": false, "documents": documented["documents"], "reasoning_effort": "low"});
    assert_eq!(sent["chat_template_kwargs"], kwargs);
    assert_eq!(sent["messages"], documented["messages"]);
}

#[test]
fn images_need_an_engine_that_says_them() {
    let items = json!([
        {"type": "text", "text": TEXT},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
    ]);
    for (version, known) in [
        (Some("0.32.0"), true),
        (Some("0.17.0"), true),
        (Some("0.16.9"), false),
        (Some("dev"), false),
        (None, false),
    ] {
        let engine = Engine::new();
        engine.set_version(version);
        let (_fixture, mut client) = two(&engine);
        let mut body = chat();
        body["messages"][0]["content"] = items.clone();
        for _ in 0..2 {
            let response = client.post("/v1/match", &body);
            if known {
                assert_eq!(response.json()["tokens"], 9, "{version:?}");
            } else {
                let expected = (
                    400,
                    "invalid_request".to_owned(),
                    Some("messages".to_owned()),
                );
                assert_eq!(response.refusal(), expected, "{version:?}");
            }
        }
        let answer = client.post("/v1/route", &body).json();
        let expected = if known { "prefix_match" } else { "no_tokens" };
        assert_eq!(answer["reason"], expected, "{version:?}");
        // Whoever says what is in the blocks knows it.
        body["extra_keys"] = json!([]);
        assert_eq!(client.post("/v1/match", &body).json()["tokens"], 9);
        // Parts that are text are text.
        body["messages"][0]["content"] = json!([{"type": "text", "text": TEXT}]);
        body["extra_keys"] = Value::Null;
        assert_eq!(client.post("/v1/match", &body).json()["tokens"], 9);
    }
}
