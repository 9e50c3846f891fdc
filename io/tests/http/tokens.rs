//! Bearer tokens: who is asked for one, who is turned away, and files that change.
use crate::client::{Client, Response};
use crate::fixture::Fixture;
use kvroute::http::{ServerConfig, ServerError};
use serde_json::json;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const CLIENT: &str = "authorization: Bearer client-token\r\n";
const ADMIN: &str = "authorization: Bearer admin-token\r\n";

struct Files {
    folder: TempDir,
}

impl Files {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let files = Self { folder };
        files.write("clients", "# of the gateway\nclient-token\nother-token\n");
        files.write("admins", "admin-token");
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        // In one step, as secrets are replaced.
        let new = self.path("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.path(name)).unwrap();
    }

    fn config(&self, clients: bool, admins: bool) -> ServerConfig {
        ServerConfig {
            token_file: clients.then(|| self.path("clients")),
            admin_token_file: admins.then(|| self.path("admins")),
            ..ServerConfig::default()
        }
    }
}

#[track_caller]
fn assert_refused(response: &Response, status: u16, code: &str) {
    let (found, found_code, field) = response.refusal();
    assert_eq!((found, found_code.as_str(), field), (status, code, None));
    let challenge = (status == 401).then_some("Bearer");
    assert_eq!(response.header("www-authenticate"), challenge);
}

fn look(client: &mut Client, headers: &str) -> Response {
    client.request("GET", "/v1/workers", headers, b"")
}

fn change(client: &mut Client, headers: &str) -> Response {
    client.request("DELETE", "/v1/workers/none", headers, b"")
}

#[test]
fn clients_need_a_token_for_all_but_the_probes() {
    let files = Files::new();
    let fixture = Fixture::serving(&files.config(true, false));
    let mut client = fixture.client();
    for path in ["/healthz", "/health", "/readyz"] {
        assert_eq!(client.get(path).status, 200, "{path}");
    }
    // What is not there is not told apart from what is.
    for path in [
        "/metrics",
        "/v1/workers",
        "/workers",
        "/",
        "/nothing",
        "/v1/snapshot",
    ] {
        assert_refused(&client.get(path), 401, "unauthorized");
    }
    let body = json!({"model": "m", "token_ids": [1]});
    for path in [
        "/v1/match",
        "/query",
        "/register",
        "/unregister",
        "/v1/workers",
    ] {
        assert_refused(&client.post(path, &body), 401, "unauthorized");
    }
    for headers in [
        "",
        "authorization: client-token\r\n",
        "authorization: Basic client-token\r\n",
        "authorization: Bearer\r\n",
        "authorization: Bearer \r\n",
        "authorization: Bearer client-toke\r\n",
        "authorization: Bearer client-tokenx\r\n",
        "authorization: Bearer CLIENT-TOKEN\r\n",
        "authorization: Bearer # of the gateway\r\n",
        "authorization: Bearer client-token\r\nauthorization: Bearer client-token\r\n",
    ] {
        assert_refused(&look(&mut client, headers), 401, "unauthorized");
    }
    for headers in [
        CLIENT,
        "authorization: Bearer other-token\r\n",
        "Authorization: bearer  other-token \r\n",
    ] {
        assert_eq!(look(&mut client, headers).status, 200, "{headers}");
        // Without tokens of their own, admins are whoever has one.
        assert_eq!(change(&mut client, headers).status, 404, "{headers}");
    }
}

#[test]
fn a_client_may_not_change_the_node() {
    let files = Files::new();
    let fixture = Fixture::serving(&files.config(true, true));
    let mut client = fixture.client();
    assert_refused(&look(&mut client, ""), 401, "unauthorized");
    assert_refused(&change(&mut client, ""), 401, "unauthorized");
    assert_eq!(look(&mut client, CLIENT).status, 200);
    assert_refused(&change(&mut client, CLIENT), 403, "forbidden");
    assert_eq!(look(&mut client, ADMIN).status, 200);
    assert_eq!(change(&mut client, ADMIN).status, 404);
}

#[test]
fn with_tokens_for_admins_only_everybody_may_look() {
    let files = Files::new();
    let fixture = Fixture::serving(&files.config(false, true));
    let mut client = fixture.client();
    assert_eq!(look(&mut client, "").status, 200);
    assert_refused(&change(&mut client, ""), 401, "unauthorized");
    assert_refused(&change(&mut client, CLIENT), 401, "unauthorized");
    assert_eq!(change(&mut client, ADMIN).status, 404);
}

#[test]
fn a_token_does_not_open_the_admin_paths_elsewhere() {
    let files = Files::new();
    let config = ServerConfig {
        admin_listen: Some(
            "127.0.0.1:0"
                .parse::<std::net::SocketAddr>()
                .unwrap()
                .into(),
        ),
        ..files.config(true, true)
    };
    let fixture = Fixture::serving(&config);
    let mut client = fixture.client();
    assert_refused(&change(&mut client, ""), 401, "unauthorized");
    assert_refused(&change(&mut client, ADMIN), 403, "admin_only");
}

/// Until the answer has another status than before.
fn until(mut ask: impl FnMut() -> u16, status: u16) {
    let given_up = Instant::now() + Duration::from_secs(60);
    while ask() != status {
        assert!(Instant::now() < given_up, "{status} never came");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn tokens_are_read_again_and_bad_files_change_nothing() {
    let files = Files::new();
    let fixture = Fixture::serving(&files.config(true, true));
    let mut client = fixture.client();
    let changed = "authorization: Bearer changed-token\r\n";
    // The file is looked at now and then.
    files.write("clients", "changed-token\n");
    until(|| look(&mut client, changed).status, 200);
    assert_refused(&look(&mut client, CLIENT), 401, "unauthorized");
    // And at once when the node is told to.
    files.write("admins", "two words\n");
    fixture.server.reload();
    let failures = || {
        let failures = fixture.server.status().reload_failures();
        failures.map(|(_, count)| count).sum::<u64>()
    };
    until(|| u16::from(failures() > 0), 1);
    assert_eq!(change(&mut client, ADMIN).status, 404, "the last good one");
    std::fs::remove_file(files.path("clients")).unwrap();
    let before = failures();
    fixture.server.reload();
    until(|| u16::from(failures() > before), 1);
    assert_eq!(look(&mut client, changed).status, 200);
}

#[test]
fn a_server_does_not_start_without_its_tokens() {
    let files = Files::new();
    files.write("clients", "# none\n\n");
    for (config, key) in [
        (files.config(true, true), "token_file"),
        (
            ServerConfig {
                admin_token_file: Some(files.path("missing")),
                ..ServerConfig::default()
            },
            "admin_token_file",
        ),
    ] {
        let error = Fixture::try_serving(&config).map(|_| ()).unwrap_err();
        assert!(matches!(error, ServerError::Tokens { .. }), "{error}");
        assert!(error.to_string().starts_with(key), "{error}");
    }
}
