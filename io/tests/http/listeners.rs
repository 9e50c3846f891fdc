//! Listening at several places, on Unix sockets, and apart for those who may change the node.
use crate::client::{Client, Response};
use crate::fixture::{Blocks, Fixture, prompt};
use kvroute::address::Address;
use kvroute::http::{Server, ServerConfig, ServerError};
use serde_json::json;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use tempfile::TempDir;

fn any_port() -> Address {
    SocketAddr::from(([127, 0, 0, 1], 0)).into()
}

fn socket(folder: &TempDir, name: &str) -> (PathBuf, Address) {
    let path = folder.path().join(name);
    (path.clone(), Address::Unix(path))
}

fn tcp(address: &Address) -> Client {
    match address {
        Address::Tcp(address) => Client::new(*address),
        Address::Unix(path) => Client::unix(path),
    }
}

#[test]
fn all_listeners_answer_alike() {
    let folder = TempDir::new().unwrap();
    let (path, unix) = socket(&folder, "k.sock");
    let config = ServerConfig {
        listen: vec![unix.clone(), any_port(), any_port()],
        threads: 2,
        ..ServerConfig::default()
    };
    let fixture = Fixture::serving(&config);
    fixture.add_pod("a");
    fixture.store("a#0", &Blocks::of(&prompt(8)));
    let addresses = fixture.server.addresses().to_vec();
    assert_eq!(addresses[0], unix);
    assert_eq!(Address::Tcp(fixture.server.local_addr()), addresses[1]);
    assert_ne!(addresses[1], addresses[2]);
    for address in &addresses {
        // Enough that both threads get some.
        let mut clients: Vec<_> = (0..16).map(|_| tcp(address)).collect();
        for client in &mut clients {
            let answer = client.post("/v1/match", &json!({"model": "m", "token_ids": prompt(8)}));
            assert_eq!(answer.json()["candidates"][0]["matched_tokens"], 8);
        }
    }
    let mode = path.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let mut idle = Client::unix(&path);
    assert_eq!(idle.get("/healthz").status, 200);
    fixture.server.stop();
    assert!(idle.ended());
    assert!(!path.exists(), "removed at the end");
}

#[test]
fn a_socket_is_taken_over_from_the_dead_only() {
    let folder = TempDir::new().unwrap();
    let (path, address) = socket(&folder, "k.sock");
    let config = ServerConfig {
        listen: vec![address],
        ..ServerConfig::default()
    };
    // What a killed node leaves behind.
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let fixture = Fixture::serving(&config);
    assert_eq!(Client::unix(&path).get("/healthz").status, 200);
    let refused = |config: &ServerConfig| match Fixture::try_serving(config).map(|_| ()) {
        Err(ServerError::Listen { source, .. }) => source.kind(),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&config), ErrorKind::AddrInUse);
    assert_eq!(Client::unix(&path).get("/healthz").status, 200);
    // The second one has not removed the file of the first.
    drop(fixture);
    assert!(!path.exists());
    std::fs::write(&path, "precious").unwrap();
    assert_eq!(refused(&config), ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

#[test]
fn a_socket_that_somebody_else_put_there_stays() {
    let folder = TempDir::new().unwrap();
    let (path, address) = socket(&folder, "k.sock");
    let config = ServerConfig {
        listen: vec![address],
        ..ServerConfig::default()
    };
    let first = Fixture::serving(&config);
    std::fs::remove_file(&path).unwrap();
    let second = Fixture::serving(&config);
    drop(first);
    assert_eq!(Client::unix(&path).get("/healthz").status, 200);
    drop(second);
    assert!(!path.exists());
}

/// (method, path, body, status where it is answered)
const ADMIN: &[(&str, &str, &str, u16)] = &[
    ("POST", "/v1/workers", "{}", 400),
    ("DELETE", "/v1/workers/none", "", 404),
    ("POST", "/register", "{}", 400),
    ("POST", "/unregister", "{}", 400),
    ("GET", "/v1/snapshot", "", 200),
];

const CLIENTS: &[(&str, &str, u16)] = &[
    ("GET", "/healthz", 200),
    ("GET", "/health", 200),
    ("GET", "/readyz", 200),
    ("GET", "/metrics", 200),
    ("GET", "/v1/workers", 200),
    ("HEAD", "/v1/workers", 200),
    ("GET", "/workers", 200),
    ("POST", "/v1/match", 400),
    ("POST", "/query", 400),
    ("GET", "/", 200),
    ("GET", "/nothing", 404),
    // Told by the path, wherever it is asked.
    ("PUT", "/v1/match", 405),
];

/// Over a connection of its own, since a snapshot has no declared length.
fn ask(address: &Address, method: &str, path: &str, body: &str) -> Response {
    let mut client = tcp(address);
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n");
    client.send(&[head.as_bytes(), body.as_bytes()].concat());
    if method == "HEAD" || path == "/v1/snapshot" {
        return client.receive_head();
    }
    client.receive()
}

#[test]
fn what_changes_the_node_is_answered_on_the_admin_listener_only() {
    let folder = TempDir::new().unwrap();
    for admin in [any_port(), socket(&folder, "admin").1] {
        let config = ServerConfig {
            admin_listen: Some(admin),
            ..ServerConfig::default()
        };
        let fixture = Fixture::serving(&config);
        let public = &fixture.server.addresses()[0];
        let admin = fixture.server.admin_address().unwrap();
        for (method, path, body, status) in ADMIN {
            assert_eq!(ask(admin, method, path, body).status, *status, "{path}");
            let mut client = tcp(public);
            let refused = client.request(method, path, "", body.as_bytes());
            let (status, code, _) = refused.refusal();
            assert_eq!((status, code.as_str()), (403, "admin_only"), "{path}");
            // The connection goes on.
            assert_eq!(client.get("/healthz").status, 200);
        }
        for (method, path, status) in CLIENTS {
            for address in [public, admin] {
                let answer = ask(address, method, path, "");
                assert_eq!(answer.status, *status, "{method} {path} at {address}");
            }
        }
        let metrics = String::from_utf8(tcp(public).get("/metrics").body).unwrap();
        let counted = format!(
            "kvroute_http_refused_total{{reason=\"listener\"}} {}\n",
            ADMIN.len()
        );
        assert!(metrics.contains(&counted), "{metrics}");
    }
}

#[test]
fn without_an_admin_listener_all_is_on_one() {
    let fixture = Fixture::new();
    let address = &fixture.server.addresses()[0];
    for (method, path, body, status) in ADMIN {
        assert_eq!(ask(address, method, path, body).status, *status, "{path}");
    }
}

#[test]
fn a_server_that_cannot_have_all_addresses_starts_none() {
    let taken = Fixture::new();
    let folder = TempDir::new().unwrap();
    let (path, unix) = socket(&folder, "k.sock");
    let config = ServerConfig {
        listen: vec![unix],
        admin_listen: Some(taken.server.local_addr().into()),
        ..ServerConfig::default()
    };
    let error = Server::start(&config, &taken.fleet).unwrap_err();
    assert!(
        error.to_string().starts_with("admin_listen: 127.0.0.1:"),
        "{error}"
    );
    assert!(!path.exists(), "nothing is left behind");
}
