//! Sizes: bodies declared and not declared, heads, paths.
use crate::client::Client;
use crate::fixture::{Blocks, Fixture, prompt};
use kvroute::http::ServerConfig;
use kvroute::limits::{BODY_BYTES_DEFAULT, HEAD_BYTES_MAX, URL_BYTES_MAX};
use serde_json::json;

fn fixture() -> (Fixture, Client) {
    let fixture = Fixture::new();
    fixture.add_pod("a");
    fixture.store("a#0", &Blocks::of(&prompt(8)));
    let client = fixture.client();
    (fixture, client)
}

const TOO_LARGE: (u16, &str) = (413, "body_too_large");

/// A good request of exactly so many bytes.
fn padded(bytes: usize) -> Vec<u8> {
    let mut body = json!({"model": "m", "token_ids": prompt(8)}).to_string();
    body.extend(std::iter::repeat_n(' ', bytes - body.len()));
    body.into_bytes()
}

/// In chunks of so many bytes.
fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut out =
        b"POST /v1/match HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for chunk in body.chunks(size) {
        out.extend(format!("{:x}\r\n", chunk.len()).bytes());
        out.extend(chunk);
        out.extend(b"\r\n");
    }
    out.extend(b"0\r\n\r\n");
    out
}

#[test]
fn a_declared_body_is_bounded_and_the_connection_goes_on() {
    let (_fixture, mut client) = fixture();
    let most = client.request("POST", "/v1/match", "", &padded(BODY_BYTES_DEFAULT));
    assert_eq!(most.status, 200);
    assert_eq!(most.json()["candidates"][0]["matched_tokens"], 8);
    let more = client.request("POST", "/v1/match", "", &padded(BODY_BYTES_DEFAULT + 1));
    let (status, code, field) = more.refusal();
    assert_eq!(((status, code.as_str()), field), (TOO_LARGE, None));
    assert_eq!(client.get("/healthz").status, 200, "the same connection");
}

#[test]
fn a_chunked_body_is_bounded_and_the_connection_goes_on() {
    let (_fixture, mut client) = fixture();
    client.send(&chunked(&padded(300), 7));
    let answer = client.receive();
    assert_eq!(answer.json()["candidates"][0]["matched_tokens"], 8);
    client.send(&chunked(&padded(BODY_BYTES_DEFAULT), 1 << 20));
    assert_eq!(client.receive().status, 200);
    client.send(&chunked(&padded(BODY_BYTES_DEFAULT + 1), 1 << 20));
    let (status, code, field) = client.receive().refusal();
    assert_eq!(((status, code.as_str()), field), (TOO_LARGE, None));
    assert_eq!(client.get("/healthz").status, 200, "the same connection");
}

#[test]
fn the_bound_of_a_body_can_be_set() {
    let fixture = Fixture::serving(&ServerConfig {
        body_max: 300,
        ..ServerConfig::default()
    });
    fixture.add_pod("a");
    let mut client = fixture.client();
    assert_eq!(
        client.request("POST", "/v1/match", "", &padded(300)).status,
        200
    );
    let more = client.request("POST", "/v1/match", "", &padded(301));
    let (status, code, _) = more.refusal();
    assert_eq!((status, code.as_str()), TOO_LARGE);
}

/// Such a body is not read, so the connection has to end.
#[test]
fn an_absurd_length_is_refused_at_once() {
    let (_fixture, mut client) = fixture();
    client.send(b"POST /v1/match HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999\r\n\r\n");
    let answer = client.receive();
    assert_eq!(
        (answer.status, answer.header("connection")),
        (413, Some("close"))
    );
    assert!(client.ended());
}

#[test]
fn who_asks_before_sending_is_told_before_sending() {
    let (_fixture, mut client) = fixture();
    let head = |bytes: usize| {
        format!(
            "POST /v1/match HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: {bytes}\r\n\r\n"
        )
    };
    let body = padded(200);
    client.send(head(body.len()).as_bytes());
    assert_eq!(client.receive().status, 100);
    client.send(&body);
    assert_eq!(client.receive().status, 200);
    client.send(head(BODY_BYTES_DEFAULT + 1).as_bytes());
    assert_eq!(client.receive().status, 413, "and no 100 before");
    assert!(client.ended());
}

#[test]
fn a_long_path_is_refused_and_the_connection_goes_on() {
    let (_fixture, mut client) = fixture();
    let start = "/v1/match?model=m&x=";
    let most = format!("{start}{}", "y".repeat(URL_BYTES_MAX - start.len()));
    assert_eq!(client.post_tokens(&most, "", &prompt(8)).status, 200);
    let (status, code, _) = client
        .post_tokens(&format!("{most}y"), "", &prompt(8))
        .refusal();
    assert_eq!((status, code.as_str()), (414, "url_too_long"));
    assert_eq!(client.get("/healthz").status, 200, "the same connection");
}

#[test]
fn an_endless_head_is_refused() {
    let (_fixture, mut client) = fixture();
    let start = "GET /healthz HTTP/1.1\r\nx: ";
    client.send(format!("{start}{}", "y".repeat(HEAD_BYTES_MAX - start.len())).as_bytes());
    let (status, code, _) = client.receive().refusal();
    assert_eq!((status, code.as_str()), (431, "head_too_large"));
    assert!(client.ended());
}

/// A broken-off body, then silence: the server must not wait for it, nor be hurt.
#[test]
fn a_body_that_breaks_off_hurts_nobody() {
    let (fixture, mut client) = fixture();
    client.send(b"POST /v1/match HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{\"model\"");
    drop(client);
    assert_eq!(fixture.client().get("/healthz").status, 200);
    let mut client = fixture.client();
    client.send(b"POST /v1/match HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n");
    assert_eq!(client.receive().refusal().1, "invalid_body");
    assert!(client.ended());
}

/// As many token ids as a body has room for, in every form: those are answered aside, and the same way.
#[test]
fn a_million_token_ids_are_answered() {
    let fixture = Fixture::new();
    fixture.add_pod("a");
    let prompt: Vec<u32> = (0..1_000_000).map(|n| n * 7 % 128_000).collect();
    let stored = &prompt[..400_000];
    fixture.store("a#0", &Blocks::of(stored));
    let mut client = fixture.client();
    let list = json!(prompt).to_string();
    let usual = format!(r#"{{"model":"m","token_ids":{list}}}"#);
    // Written so that only a general parser reads it.
    let unusual = usual.replacen(',', ",\n", 9);
    for body in [&usual, &unusual] {
        let answer = client.post_text("/v1/match", body).json();
        assert_eq!(answer["tokens"], 1_000_000);
        assert_eq!(answer["candidates"][0]["matched_tokens"], 400_000);
    }
    client.send(&chunked(usual.as_bytes(), 100_000));
    let answer = client.receive().json();
    assert_eq!(answer["candidates"][0]["matched_tokens"], 400_000);
    let answer = client.post_tokens("/v1/match?model=m", "", &prompt).json();
    assert_eq!(answer["tokens"], 1_000_000);
    assert_eq!(answer["candidates"][0]["matched_tokens"], 400_000);
    // What one request leaves behind, the next one does not see.
    let few = client.post(
        "/v1/match",
        &json!({"model": "m", "token_ids": prompt[..8]}),
    );
    assert_eq!(few.json()["tokens"], 8);
    let wrong = usual.replacen("]}", ",-1]}", 1);
    let refused = client.post_text("/v1/match", &wrong).refusal();
    let field = Some("token_ids".to_owned());
    assert_eq!(
        (refused.0, refused.1.as_str(), refused.2),
        (400, "invalid_request", field)
    );
    let elsewhere = client.post_text("/v1/nowhere", &usual).refusal();
    assert_eq!((elsewhere.0, elsewhere.1.as_str()), (404, "not_found"));
}
