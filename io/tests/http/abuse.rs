//! Clients that mean harm, one kind after the other: each is turned away as it deserves, and others are answered
//! meanwhile.
use crate::client::Client;
use crate::fixture::{Blocks, Fixture, prompt};
use kvroute::http::ServerConfig;
use kvroute::limits::HEAD_BYTES_MAX;
use kvroute::status::Refused;
use serde_json::json;
use std::time::{Duration, Instant};

/// A server that is quick to lose its patience.
fn impatient() -> Fixture {
    let fixture = Fixture::serving(&ServerConfig {
        idle_time: Duration::from_secs(2),
        head_time: Duration::from_millis(500),
        ..ServerConfig::default()
    });
    fixture.add_pod("a");
    fixture.store("a#0", &Blocks::of(&prompt(8)));
    fixture
}

/// Somebody else is answered as ever.
#[track_caller]
fn assert_answers(client: &mut Client) {
    let answer = client.post("/v1/match", &json!({"model": "m", "token_ids": prompt(8)}));
    assert_eq!(answer.json()["candidates"][0]["matched_tokens"], 8);
}

fn refused(fixture: &Fixture, why: Refused) -> u64 {
    let mut all = fixture.server.status().refused();
    all.find(|(reason, _)| *reason == why).unwrap().1
}

/// Waits until so many connections are open.
fn settle(fixture: &Fixture, connections: u64) {
    let given_up = Instant::now() + Duration::from_secs(60);
    while fixture.server.status().connections() != connections {
        let now = fixture.server.status().connections();
        assert!(Instant::now() < given_up, "{now} connections remain");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_head_that_trickles_is_ended_with_408() {
    let fixture = impatient();
    let mut slow: Vec<_> = (0..50).map(|_| fixture.client()).collect();
    for client in &mut slow {
        client.send(b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-");
    }
    // They send on, a byte at a time: it does not win them time.
    let given_up = Instant::now() + Duration::from_secs(60);
    while refused(&fixture, Refused::SlowHead) < 50 {
        assert!(Instant::now() < given_up, "they are let be");
        for client in &mut slow {
            client.try_send(b"a");
        }
        assert_answers(&mut fixture.client());
        std::thread::sleep(Duration::from_millis(20));
    }
    settle(&fixture, 0);
    // One that is only slow gets to read why.
    let mut one = fixture.client();
    one.send(b"GET /healthz HTTP/1.1\r\n");
    let answer = one.receive();
    let (status, code, _) = answer.refusal();
    assert_eq!((status, code.as_str()), (408, "request_timeout"));
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(one.ended());
}

#[test]
fn a_head_that_trickles_behind_an_answer_is_ended_too() {
    let fixture = impatient();
    let mut client = fixture.client();
    client.send(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\nGET /hea");
    assert_eq!(client.receive().status, 200);
    // It came with the first request, so it counts as idle until more of it comes.
    client.send(b"l");
    assert_eq!(client.receive().refusal().0, 408);
    assert!(client.ended());
}

#[test]
fn idle_connections_are_closed_without_a_word() {
    let fixture = impatient();
    let mut fresh = fixture.client();
    let mut used = fixture.client();
    assert_answers(&mut used);
    assert!(fresh.ended() && used.ended());
    settle(&fixture, 0);
    assert_eq!(refused(&fixture, Refused::SlowHead), 0);
}

#[test]
fn floods_of_headers_are_refused_with_431() {
    let fixture = impatient();
    let mut good = fixture.client();
    let many: String = (0..5_000).map(|n| format!("x-{n}: y\r\n")).collect();
    let long = format!("x: {}\r\n", "y".repeat(2 * HEAD_BYTES_MAX));
    let name = format!("{}: y\r\n", "x".repeat(70_000));
    for headers in [many, long, name] {
        let mut client = fixture.client();
        client.try_send(format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{headers}").as_bytes());
        client.try_send(b"\r\n");
        let (status, code, _) = client.receive().refusal();
        assert_eq!((status, code.as_str()), (431, "head_too_large"));
        assert!(client.ended());
        assert_answers(&mut good);
    }
    assert_eq!(refused(&fixture, Refused::Head), 3);
}

#[test]
fn half_closed_connections_are_answered_and_ended() {
    let fixture = impatient();
    let body = json!({"model": "m", "token_ids": prompt(8)}).to_string();
    let length = body.len();
    let whole =
        format!("POST /v1/match HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}");
    let connect = |text: &str| {
        let mut stream = std::net::TcpStream::connect(fixture.server.local_addr()).unwrap();
        std::io::Write::write_all(&mut stream, text.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        Client::over(stream)
    };
    let mut client = connect(&whole);
    let answer = client.receive().json();
    assert_eq!(answer["candidates"][0]["matched_tokens"], 8);
    assert!(client.ended());
    // Those that stop in the middle have nothing to wait for.
    for part in ["", "GET /hea", &whole[..whole.len() - 5]] {
        let _client = connect(part);
        settle(&fixture, 0);
    }
    assert_answers(&mut fixture.client());
}

#[test]
fn numbers_out_of_range_and_other_nonsense_are_refused() {
    let fixture = impatient();
    let mut client = fixture.client();
    let one = r#""token_ids":[1]"#;
    for (fields, code) in [
        (r#""token_ids":[NaN]"#, "invalid_json"),
        (r#""token_ids":[Infinity]"#, "invalid_json"),
        (r#""token_ids":[-Infinity]"#, "invalid_json"),
        (r#""token_ids":[0x10]"#, "invalid_json"),
        (r#""token_ids":[+1]"#, "invalid_json"),
        (r#""token_ids":[01]"#, "invalid_json"),
        (r#""token_ids":[1e400]"#, "invalid_json"),
        (r#""token_ids":[1,2]]"#, "invalid_json"),
        (r#""token_ids":[1e2]"#, "invalid_request"),
        (r#""token_ids":[1.5]"#, "invalid_request"),
        (r#""token_ids":[-1]"#, "invalid_request"),
        (r#""token_ids":[4294967296]"#, "invalid_request"),
        (r#""token_ids":[18446744073709551616]"#, "invalid_request"),
        (r#""token_ids":[1],"token_ids":[2]"#, "invalid_request"),
        (r#""token_ids":[1],"model":"m""#, "invalid_request"),
        (
            &format!(r#"{one},"limit":18446744073709551616"#),
            "invalid_request",
        ),
        (&format!(r#"{one},"limit":1e9"#), "invalid_request"),
        (&format!(r#"{one},"block_size":-0.0"#), "invalid_request"),
        (
            &format!(r#"{one},"block_size":4294967296"#),
            "invalid_request",
        ),
    ] {
        let body = format!("{{\"model\":\"m\",{fields}}}");
        let (status, found, _) = client.post_text("/v1/match", &body).refusal();
        assert_eq!((status, found.as_str()), (400, code), "{body}");
    }
    assert_answers(&mut client);
}

#[test]
fn nesting_without_end_is_refused() {
    let fixture = impatient();
    let mut client = fixture.client();
    for open in ["[", "{\"a\":", "[{\"x\":["] {
        for prefix in [
            "",
            "{\"model\":\"m\",\"token_ids\":",
            "{\"model\":\"m\",\"extra_keys\":",
        ] {
            let body = format!("{prefix}{}", open.repeat(1_000_000 / open.len()));
            for path in ["/v1/match", "/query", "/v1/workers", "/register"] {
                let status = client.post_text(path, &body).status;
                assert_eq!(status, 400, "{prefix}{open} to {path}");
            }
        }
    }
    assert_answers(&mut client);
}

#[test]
fn whoever_is_too_many_is_told_so() {
    let fixture = Fixture::serving(&ServerConfig {
        connections_max: 3,
        ..ServerConfig::default()
    });
    let mut few: Vec<_> = (0..3).map(|_| fixture.client()).collect();
    for client in &mut few {
        assert_eq!(client.get("/healthz").status, 200);
    }
    let mut more = fixture.client();
    let (status, code, _) = more.receive().refusal();
    assert_eq!((status, code.as_str()), (503, "overloaded"));
    assert!(more.ended());
    assert_eq!(refused(&fixture, Refused::Connections), 1);
    // A place that is given back is taken again.
    drop(few.pop());
    settle(&fixture, 2);
    assert_eq!(fixture.client().get("/healthz").status, 200);
}

#[test]
fn too_many_requests_under_way_are_put_off() {
    let fixture = Fixture::serving(&ServerConfig {
        requests_max: 2,
        ..ServerConfig::default()
    });
    let body = json!({"model": "m", "token_ids": [1]}).to_string();
    let head = format!(
        "POST /v1/match HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut busy: Vec<_> = (0..2).map(|_| fixture.client()).collect();
    for client in &mut busy {
        client.send(head.as_bytes());
        // The go-ahead shows that the request is under way.
        assert_eq!(client.receive().status, 100);
    }
    let mut other = fixture.client();
    let later = other.get("/v1/workers");
    let (status, code, _) = later.refusal();
    assert_eq!((status, code.as_str()), (429, "too_many_requests"));
    assert_eq!(later.header("retry-after"), Some("1"));
    assert_eq!(other.get("/healthz").status, 200, "the same connection");
    for client in &mut busy {
        client.send(body.as_bytes());
        assert_eq!(client.receive().status, 404);
    }
    assert_eq!(other.get("/v1/workers").status, 200);
    assert_eq!(refused(&fixture, Refused::Requests), 1);
}

/// Bodies that trickle take nothing from others, however many there are.
#[test]
fn bodies_that_trickle_hold_nobody_up() {
    let fixture = impatient();
    let mut slow: Vec<_> = (0..500).map(|_| fixture.client()).collect();
    for client in &mut slow {
        client.send(b"POST /v1/match HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{");
    }
    for _ in 0..5 {
        for client in &mut slow {
            client.send(b" ");
        }
        assert_answers(&mut fixture.client());
    }
    drop(slow);
    settle(&fixture, 0);
    assert_answers(&mut fixture.client());
}

/// Answers that nobody takes do not keep a connection.
#[test]
fn who_does_not_read_is_let_go() {
    let fixture = impatient();
    let client = std::net::TcpStream::connect(fixture.server.local_addr()).unwrap();
    let mut sender = client.try_clone().unwrap();
    // More answers than the buffers of both ends hold, so that sending stops, too.
    let sending = std::thread::spawn(move || {
        let requests = b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n".repeat(1_000);
        for _ in 0..100 {
            if std::io::Write::write_all(&mut sender, &requests).is_err() {
                break;
            }
        }
    });
    // It ends, though the client is still there.
    let given_up = Instant::now() + Duration::from_secs(60);
    while !sending.is_finished() {
        assert!(Instant::now() < given_up, "it is let be");
        assert_answers(&mut fixture.client());
    }
    settle(&fixture, 0);
    drop(client);
}
