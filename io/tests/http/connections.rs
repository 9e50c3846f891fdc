//! Connections: kept, pipelined, misused, drained.
use crate::client::Client;
use crate::fixture::{Blocks, Fixture, prompt};
use kvroute::http::{Server, ServerConfig, ServerError};
use serde_json::json;
use std::io::ErrorKind;
use std::thread;

#[test]
fn requests_in_a_row_are_answered_in_order() {
    let fixture = Fixture::new();
    fixture.add_pod("a");
    fixture.store("a#0", &Blocks::of(&prompt(400)));
    let mut client = fixture.client();
    let mut requests = Vec::new();
    for blocks in 1..=100 {
        let body = json!({"model": "m", "token_ids": prompt(4 * blocks)}).to_string();
        let head = format!(
            "POST /v1/match HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        requests.extend(head.bytes().chain(body.bytes()));
        if blocks % 10 == 0 {
            requests.extend(b"POST /v1/match HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n?");
        }
    }
    client.send(&requests);
    for blocks in 1..=100 {
        let answer = client.receive().json();
        assert_eq!(answer["candidates"][0]["matched_blocks"], blocks);
        if blocks % 10 == 0 {
            assert_eq!(client.receive().refusal().1, "invalid_json");
        }
    }
}

#[test]
fn garbage_costs_only_its_own_connection() {
    let fixture = Fixture::new();
    let mut good = fixture.client();
    assert_eq!(good.get("/healthz").status, 200);
    let noise: Vec<u8> = (0..=255_u8)
        .cycle()
        .map(|byte| byte.wrapping_mul(167))
        .take(4096)
        .collect();
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/match HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/match HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        &noise,
    ] {
        let mut client = fixture.client();
        client.try_send(garbage);
        client.try_send(b"\r\n\r\n");
        let answer = client.receive();
        let (status, code, _) = answer.refusal();
        assert_eq!(
            (status, code.as_str()),
            (400, "malformed_request"),
            "{garbage:?}"
        );
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(client.ended());
    }
    // Whoever speaks HTTP/2 would not understand an answer in HTTP/1.
    let mut client = fixture.client();
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert!(client.ended());
    assert_eq!(good.get("/healthz").status, 200);
}

#[test]
fn alive_and_front_page_and_head() {
    let fixture = Fixture::new();
    let mut client = fixture.client();
    for path in ["/health", "/healthz"] {
        let response = client.get(path);
        assert_eq!(
            (response.status, response.json()),
            (200, json!({"status": "ok"}))
        );
    }
    let front = client.get("/");
    assert_eq!(
        front.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert!(String::from_utf8(front.body).unwrap().contains("/v1/match"));
    client.send(b"HEAD /healthz HTTP/1.1\r\nhost: x\r\n\r\n");
    let head = client.receive_head();
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, Some("15"))
    );
    assert_eq!(
        client.get("/healthz").status,
        200,
        "no body came after HEAD"
    );
}

#[test]
fn old_clients_are_answered_and_let_go() {
    let fixture = Fixture::new();
    let mut client = fixture.client();
    client.send(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    assert_eq!(client.receive().status, 200);
    assert!(client.ended());
}

#[test]
fn all_threads_answer_on_one_port() {
    let fixture = Fixture::with(3, 1.0);
    fixture.add_pod("a");
    fixture.store("a#0", &Blocks::of(&prompt(4)));
    // Enough that the kernel gives every listener some.
    let mut clients: Vec<_> = (0..64).map(|_| fixture.client()).collect();
    for client in &mut clients {
        let answer = client.post("/v1/match", &json!({"model": "m", "token_ids": prompt(4)}));
        assert_eq!(answer.json()["candidates"][0]["matched_tokens"], 4);
    }
}

#[test]
fn a_second_server_does_not_share_the_port() {
    let fixture = Fixture::new();
    let config = ServerConfig {
        listen: vec![fixture.server.local_addr().into()],
        ..ServerConfig::default()
    };
    let error = Server::start(&config, &fixture.fleet).unwrap_err();
    let ServerError::Listen { source, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(source.kind(), ErrorKind::AddrInUse);
    // And the port is free again at once when the first one has stopped.
    let address = fixture.server.local_addr();
    let mut client = Client::new(address);
    assert_eq!(client.get("/healthz").status, 200);
    fixture.server.stop();
    let second = Server::start(&config, &fixture.fleet).unwrap();
    assert_eq!(second.local_addr(), address);
    assert_eq!(Client::new(address).get("/healthz").status, 200);
}

#[test]
fn stopping_ends_idle_connections_and_lets_requests_finish() {
    let fixture = Fixture::with(2, 1.0);
    fixture.add_pod("a");
    fixture.store("a#0", &Blocks::of(&prompt(4)));
    let mut fresh = fixture.client();
    let mut idle = fixture.client();
    assert_eq!(idle.get("/healthz").status, 200);
    let mut busy = fixture.client();
    let body = json!({"model": "m", "token_ids": prompt(4)}).to_string();
    // The go-ahead shows that the request is in flight.
    let head = format!(
        "POST /v1/match HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    busy.send(head.as_bytes());
    assert_eq!(busy.receive().status, 100);
    let address = fixture.server.local_addr();
    let server = fixture.server;
    let stopping = thread::spawn(move || server.stop());
    assert!(idle.ended() && fresh.ended());
    busy.send(body.as_bytes());
    let answer = busy.receive();
    assert_eq!(answer.json()["candidates"][0]["matched_tokens"], 4);
    assert!(busy.ended());
    stopping.join().unwrap();
    assert!(std::net::TcpStream::connect(address).is_err());
}
