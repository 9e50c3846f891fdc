//! Every way to be refused: the status, the code, the field; and the connection goes on.
use crate::client::{Client, Response};
use crate::fixture::{Fixture, prompt};
use serde_json::{Value, json};

#[track_caller]
fn assert_refused(response: &Response, status: u16, code: &str, field: Option<&str>) {
    let expected = (status, code.to_owned(), field.map(str::to_owned));
    assert_eq!(response.refusal(), expected, "{}", response.json());
}

/// Changes one field of a good request; null leaves it out.
fn with(field: &str, value: Value) -> Value {
    let mut body = json!({"model": "m", "token_ids": prompt(4)});
    if value.is_null() {
        body.as_object_mut().unwrap().remove(field);
    } else {
        body[field] = value;
    }
    body
}

fn fixture() -> (Fixture, Client) {
    let fixture = Fixture::new();
    fixture.add_pod("a");
    let client = fixture.client();
    (fixture, client)
}

/// In a process that has no log of the settings' kind.
#[test]
fn a_log_that_is_not_there_is_not_shown_or_changed() {
    let (_fixture, mut client) = fixture();
    assert_refused(&client.get("/v1/log"), 409, "no_log", None);
    let refused = client.request("PUT", "/v1/log", "", b"{\"log\":\"info\"}");
    assert_refused(&refused, 409, "no_log", None);
}

#[test]
fn every_field_of_a_match_is_checked_and_named() {
    let (_fixture, mut client) = fixture();
    let names = vec!["x"; 4097];
    for (field, value) in [
        ("model", Value::Null),
        ("model", json!("")),
        ("model", json!(7)),
        ("token_ids", Value::Null),
        ("token_ids", json!([])),
        ("token_ids", json!("1,2")),
        ("token_ids", json!([1, -1])),
        ("token_ids", json!([1, 4_294_967_296_u64])),
        ("token_ids", json!([1, 2.0])),
        ("token_ids", json!([1, null])),
        ("token_ids", json!([[1, 2]])),
        ("lora", json!(7)),
        ("cache_salt", json!(["a"])),
        ("extra_keys", json!({"0": null})),
        ("extra_keys", json!(["salt"])),
        ("extra_keys", json!([null, 7])),
        ("block_size", json!(0)),
        ("block_size", json!(-16)),
        ("block_size", json!("16")),
        ("candidates", json!("a")),
        ("candidates", json!([1])),
        ("candidates", json!(names)),
        ("limit", json!(0)),
        ("limit", json!(-1)),
        ("limit", json!(4097)),
        ("limit", json!("all")),
    ] {
        let body = with(field, value);
        let response = client.post("/v1/match", &body);
        assert_refused(&response, 400, "invalid_request", Some(field));
    }
    assert_eq!(
        client.post("/v1/match", &with("limit", json!(4096))).status,
        200
    );
}

#[test]
fn the_wrong_token_is_pointed_at() {
    let (_fixture, mut client) = fixture();
    let body = with("token_ids", json!([1, 2, -3]));
    let message = client.post("/v1/match", &body).json()["error"]["message"].to_string();
    assert!(message.contains("token_ids[2]"), "{message}");
    let body = r#"{"model":"m","model":"n","token_ids":[1]}"#;
    assert_refused(
        &client.post_text("/v1/match", body),
        400,
        "invalid_request",
        Some("model"),
    );
}

#[test]
fn text_needs_a_tokenizer() {
    let (_fixture, mut client) = fixture();
    for (field, value) in [
        ("prompt", json!("hello")),
        ("messages", json!([{"role": "user"}])),
    ] {
        let mut body = with("token_ids", Value::Null);
        body[field] = value.clone();
        let response = client.post("/v1/match", &body);
        assert_refused(&response, 400, "tokenizer_unavailable", Some(field));
        let message = response.json()["error"]["message"].to_string();
        assert!(message.contains("token_ids"), "{message}");
        // Beside token ids it does not matter.
        body["token_ids"] = json!(prompt(4));
        assert_eq!(client.post("/v1/match", &body).status, 200);
    }
}

#[test]
fn what_is_not_json_is_refused_as_such() {
    let (_fixture, mut client) = fixture();
    for body in [
        "",
        "nonsense",
        "[]",
        "null",
        "\"x\"",
        "{",
        "{\"model\":\"m\",}",
        "{\"model\" \"m\"}",
        "{\"model\":\"m\",\"token_ids\":[1,2}",
        "{\"model\":\"m\",\"token_ids\":[1]} {}",
        "[\"m\",[1,2,3]]",
    ] {
        for path in ["/v1/match", "/query", "/register", "/unregister"] {
            assert_refused(&client.post_text(path, body), 400, "invalid_json", None);
        }
    }
    let bytes = client.request(
        "POST",
        "/v1/match",
        "",
        b"{\"model\":\"\xff\xfe\",\"token_ids\":[1]}",
    );
    assert_refused(&bytes, 400, "invalid_json", None);
}

#[test]
fn deep_nesting_does_no_harm() {
    let (_fixture, mut client) = fixture();
    let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    let ignored = format!(r#"{{"model":"m","token_ids":[1],"x":{deep}}}"#);
    assert_eq!(client.post_text("/v1/match", &ignored).status, 200);
    for field in ["token_ids", "extra_keys"] {
        let others = r#""model":"m","token_ids":[1],"#.replace(&format!("\"{field}\":[1],"), "");
        let body = format!(r#"{{{others}"{field}":{deep}}}"#);
        let response = client.post_text("/v1/match", &body);
        assert_refused(&response, 400, "invalid_request", Some(field));
    }
}

#[test]
fn binary_requests_are_checked_like_json() {
    let (_fixture, mut client) = fixture();
    for (query, field) in [
        ("", "model"),
        ("model=", "model"),
        ("model=%ff", "model"),
        ("model=m&limit=x", "limit"),
        ("model=m&limit=0", "limit"),
        ("model=m&block_size=0", "block_size"),
        ("model=m&block_size=4294967296", "block_size"),
        ("model=m&extra_keys=%5B", "extra_keys"),
        ("model=m&extra_keys=%5B7%5D", "extra_keys"),
    ] {
        let response = client.post_tokens(&format!("/v1/match?{query}"), "", &[1, 2, 3, 4]);
        assert_refused(&response, 400, "invalid_request", Some(field));
    }
    let headers = "content-type: application/octet-stream; charset=binary\r\n";
    for body in [&b""[..], b"\x01\x00\x00", b"\x01\x00\x00\x00\x02"] {
        let response = client.request("POST", "/v1/match?model=m", headers, body);
        assert_refused(&response, 400, "invalid_request", Some("token_ids"));
    }
    let response = client.post_tokens("/v1/match?model=x", "", &[1]);
    assert_refused(&response, 404, "model_not_found", Some("model"));
}

#[test]
fn unknown_paths_and_methods_are_told_what_there_is() {
    let (_fixture, mut client) = fixture();
    for path in [
        "/v1/nothing",
        "/v1/match/",
        "/V1/match",
        "/v1/workers/",
        "//",
        "/healthz/x",
    ] {
        assert_refused(&client.get(path), 404, "not_found", None);
        assert_refused(
            &client.post(path, &json!({"some": "body"})),
            404,
            "not_found",
            None,
        );
    }
    for (method, path, allow) in [
        ("GET", "/v1/match", "POST"),
        ("PUT", "/v1/match", "POST"),
        ("PUT", "/v1/workers", "GET, HEAD, POST"),
        ("POST", "/v1/workers/a", "GET, HEAD, DELETE"),
        ("POST", "/healthz", "GET, HEAD"),
        ("GET", "/query", "POST"),
        ("DELETE", "/register", "POST"),
        ("BREW", "/", "GET, HEAD"),
    ] {
        let response = client.request(method, path, "", b"{\"a\":1}");
        assert_refused(&response, 405, "method_not_allowed", None);
        assert_eq!(response.header("allow"), Some(allow), "{method} {path}");
    }
    assert_eq!(
        client.get("/healthz").status,
        200,
        "the connection is still good"
    );
}

#[test]
fn coded_bodies_are_refused() {
    let (_fixture, mut client) = fixture();
    let response = client.request(
        "POST",
        "/v1/match",
        "content-encoding: gzip\r\n",
        b"\x1f\x8b",
    );
    assert_refused(&response, 415, "unsupported_encoding", None);
}
