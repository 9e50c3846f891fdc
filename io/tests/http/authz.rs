//! `/v1/ext_authz/…`: the check of a gateway, which is never refused for what is in the request.
use crate::client::{Client, Response};
use crate::fixture::{Blocks, Fixture, events_of, prompt};
use serde_json::json;

/// Pods `a` and `b` of model `m`, of which `b` holds eight tokens.
fn two() -> Fixture {
    let fixture = Fixture::new();
    for (pod, endpoint) in [("a", "h:1"), ("b", "h:2")] {
        fixture
            .add(json!({"pod": pod, "model": "m", "events": events_of(pod), "endpoint": endpoint}));
    }
    fixture.store("b#0", &Blocks::of(&prompt(8)));
    fixture
}

fn check(client: &mut Client, path: &str, headers: &str, body: &str) -> Response {
    let path = format!("/v1/ext_authz{path}");
    client.request("POST", &path, headers, body.as_bytes())
}

/// Asserts 200 and an empty body; returns the target.
fn target(response: &Response) -> Option<&str> {
    assert_eq!(response.status, 200, "{response:?}");
    assert_eq!(response.body, b"", "{response:?}");
    let target = response.header("target-pod");
    assert_eq!(response.header("x-gateway-destination-endpoint"), target);
    assert_eq!(
        response.header("x-kvroute-request-id").is_some(),
        target.is_some()
    );
    target
}

/// Why a request was sent where it was.
fn reason(fixture: &Fixture, response: &Response) -> String {
    let id = response.header("x-kvroute-request-id").unwrap();
    let explained = fixture.client().get(&format!("/v1/explain/{id}")).json();
    explained["reason"].as_str().unwrap().to_owned()
}

#[test]
fn the_target_is_told_in_headers() {
    let fixture = two();
    let mut client = fixture.client();
    let body = json!({"model": "m", "prompt": prompt(9), "max_tokens": 4}).to_string();
    for method in ["POST", "PUT", "PATCH", "OPTIONS"] {
        let path = "/v1/ext_authz/v1/completions?trace=1";
        let response = client.request(method, path, "", body.as_bytes());
        assert_eq!(target(&response), Some("h:2"), "{method}");
        assert_eq!(reason(&fixture, &response), "prefix_match");
    }
    let generate = json!({"model": "m", "token_ids": prompt(9)}).to_string();
    let response = check(&mut client, "/inference/v1/generate", "", &generate);
    assert_eq!(target(&response), Some("h:2"));
    assert_eq!(reason(&fixture, &response), "prefix_match");
    // As salted, nobody has it.
    let salted = json!({"model": "m", "prompt": prompt(9), "cache_salt": "s"}).to_string();
    let response = check(&mut client, "/v1/completions", "", &salted);
    assert_eq!(reason(&fixture, &response), "least_request_fallback");
}

#[test]
fn clients_of_the_gateway_do_not_choose_their_pod() {
    let fixture = two();
    let mut client = fixture.client();
    let body = json!({"model": "m", "prompt": prompt(9), "candidates": ["a"], "policy": 7,
        "loads": {"b": {"running": 100}}, "minimum_match": 100});
    let response = check(&mut client, "/v1/completions", "", &body.to_string());
    assert_eq!(target(&response), Some("h:2"));
}

#[test]
fn what_names_no_model_is_left_to_the_gateway() {
    let fixture = two();
    let mut client = fixture.client();
    for path in ["", "/", "/v1/models", "/v1/models?x=1"] {
        let response = client.get(&format!("/v1/ext_authz{path}"));
        assert_eq!(target(&response), None, "{path}");
    }
    let response = client.delete("/v1/ext_authz/v1/files/7");
    assert_eq!(target(&response), None);
    let response = check(&mut client, "/v1/x", "", r#"{"prompt":[1,2,3,4]}"#);
    assert_eq!(target(&response), None);
}

#[test]
fn the_model_may_come_by_header_or_query() {
    let fixture = two();
    fixture.add(json!({"pod": "c", "model": "n", "events": events_of("c"), "endpoint": "h:3"}));
    let mut client = fixture.client();
    let header = "x-kvroute-model: n\r\n";
    let response = client.request("GET", "/v1/ext_authz/v1/x", header, b"");
    assert_eq!(target(&response), Some("h:3"));
    let response = client.get("/v1/ext_authz/v1/x?a=b&model=n");
    assert_eq!(target(&response), Some("h:3"));
    // The body is what the engine gets.
    let body = json!({"model": "m", "prompt": prompt(9)}).to_string();
    let response = check(&mut client, "/v1/completions?model=n", header, &body);
    assert_eq!(target(&response), Some("h:2"));
    // A request without a body is spread.
    let mut seen: Vec<_> = (0..60)
        .map(|_| target(&client.get("/v1/ext_authz/?model=m")).map(str::to_owned))
        .collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, [Some("h:1".to_owned()), Some("h:2".to_owned())]);
}

#[test]
fn what_cannot_be_read_goes_by_load() {
    let fixture = two();
    let mut client = fixture.client();
    let whole = json!({"model": "m", "prompt": prompt(9)}).to_string();
    for (headers, body, why) in [
        ("x-envoy-auth-partial-body: true\r\n", &whole[..], "cut"),
        ("content-encoding: gzip\r\n", "\u{1f}\u{8b}", "packed"),
        ("", &whole[..whole.len() - 4], "broken off"),
        ("", r#"{"prompt":[1,2,3"#, "broken off before the model"),
        ("", "--x\r\nfile", "no JSON"),
        ("", r#"{"model":"m","prompt":[1,"a"]}"#, "not all numbers"),
        ("", r#"{"model":"m","prompt":"hi"}"#, "text"),
        ("", r#"{"model":"m","prompt":["hi"]}"#, "texts"),
        ("", r#"{"model":"m","prompt":[[1,2,3,4]]}"#, "several"),
        ("", r#"{"model":"m","messages":[]}"#, "a chat"),
        (
            "",
            r#"{"model":"m","prompt":[1],"cache_salt":7}"#,
            "no salt",
        ),
    ] {
        let response = check(&mut client, "/v1/completions", headers, body);
        assert!(target(&response).is_some(), "{why}");
        assert_eq!(reason(&fixture, &response), "no_tokens", "{why}");
    }
    // Which model it is about is not guessed if there are several.
    fixture.add(json!({"pod": "c", "model": "n", "events": events_of("c"), "endpoint": "h:3"}));
    let response = check(&mut client, "/v1/completions", "", r#"{"prompt":[1,2,3"#);
    assert_eq!(target(&response), None);
}

#[test]
fn no_body_is_refused() {
    let fixture = two();
    let mut client = fixture.client();
    let whole =
        r#"{"model":"m","prompt":[1,2,3,4,5,6,7,8],"cache_salt":null,"n":{"a":[1.5e3,"\u00e9"]}}"#;
    for at in 0..whole.len() {
        let response = check(&mut client, "/v1/completions", "", &whole[..at]);
        // Without a body nobody is asked for.
        assert_eq!(target(&response).is_some(), at > 0, "cut at {at}");
        for byte in ["\0", "\"", "[", "}", "9", "\u{7f}"] {
            let body = format!("{}{byte}{}", &whole[..at], &whole[at + 1..]);
            let response = check(&mut client, "/v1/completions", "", &body);
            let status = response.status;
            // Another model's name is a request for nobody; anything else is let through.
            let renamed = (9..=11).contains(&at) && status == 503;
            assert!(renamed || status == 200, "{body}");
        }
    }
}

#[test]
fn a_body_above_the_limit_goes_by_load_too() {
    let fixture = two();
    let mut client = fixture.client();
    let text = "x".repeat(8 << 20);
    let body = format!(r#"{{"model":"m","prompt":"{text}"}}"#);
    let response = check(&mut client, "/v1/completions", "", &body);
    assert!(target(&response).is_some());
    assert_eq!(reason(&fixture, &response), "no_tokens");
    // The same connection goes on, and the model may be in the head.
    fixture.add(json!({"pod": "c", "model": "n", "events": events_of("c"), "endpoint": "h:3"}));
    let header = "x-kvroute-model: n\r\n";
    let response = check(&mut client, "/v1/completions", header, &body);
    assert_eq!(target(&response), Some("h:3"));
    let response = check(&mut client, "/v1/completions", "", &body);
    assert_eq!(target(&response), None);
}

#[test]
fn a_body_too_large_to_be_read_over_ends_the_connection() {
    let fixture = two();
    let mut client = fixture.client();
    client.send(b"POST /v1/ext_authz/x HTTP/1.1\r\nhost: x\r\ncontent-length: 99000000\r\n\r\n");
    let response = client.receive();
    assert!(target(&response).is_some());
    assert_eq!(response.header("connection"), Some("close"));
    assert!(client.ended());
}

#[test]
fn bounds_of_the_node_are_not_the_clients_fault() {
    let fixture = two();
    let path = format!("/v1/ext_authz/{}", "x".repeat(40_000));
    let response = fixture.client().get(&path);
    assert_eq!(response.refusal(), (503, "url_too_long".to_owned(), None));
}

#[test]
fn nobody_is_503() {
    let fixture = two();
    fixture.add(json!({"pod": "c", "model": "n", "events": events_of("c")}));
    let mut client = fixture.client();
    for (model, field) in [("unknown", Some("model".to_owned())), ("n", None)] {
        let body = json!({"model": model, "prompt": prompt(9)}).to_string();
        let response = check(&mut client, "/v1/completions", "", &body);
        let expected = (503, "no_eligible_worker".to_owned(), field);
        assert_eq!(response.refusal(), expected, "{model}");
    }
}
