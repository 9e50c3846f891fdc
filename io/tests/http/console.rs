//! The console's files: what a browser gets, where, under which headers, and what pages of other sites may not do.
use crate::client::{Client, Response};
use crate::fixture::Fixture;
use kvroute::address::Address;
use kvroute::http::ServerConfig;
use serde_json::json;
use std::net::SocketAddr;
use tempfile::TempDir;

const BROWSER: &str = "accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n";

fn page(client: &mut Client, path: &str) -> Response {
    client.request("GET", path, BROWSER, b"")
}

/// With tokens for clients and admins.
fn guarded(folder: &TempDir) -> ServerConfig {
    let file = |name: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, name).unwrap();
        Some(path)
    };
    ServerConfig {
        token_file: file("client-token"),
        admin_token_file: file("admin-token"),
        ..ServerConfig::default()
    }
}

#[test]
fn browsers_get_the_console_and_others_the_routes() {
    let fixture = Fixture::new();
    let mut client = fixture.client();
    let console = page(&mut client, "/");
    assert_eq!(console.status, 200);
    assert_eq!(
        console.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert_eq!(console.header("vary"), Some("accept"));
    let html = String::from_utf8(console.body).unwrap();
    // Every file that it names is there.
    let named = html
        .split(['"', '\''])
        .filter(|word| word.starts_with("/console/"));
    let named: Vec<_> = named.collect();
    assert!(named.len() >= 3, "{html}");
    for path in named {
        assert_eq!(client.get(path).status, 200, "{path}");
    }
    for accept in ["", "accept: */*\r\n", "accept: application/json\r\n"] {
        let text = client.request("GET", "/", accept, b"");
        assert_eq!(
            text.header("content-type"),
            Some("text/plain; charset=utf-8")
        );
        assert!(String::from_utf8(text.body).unwrap().contains("/v1/match"));
    }
    for path in [
        "/console/",
        "/console/none.js",
        "/console/../Cargo.toml",
        "/console/%69ndex.html",
    ] {
        assert_eq!(page(&mut client, path).status, 404, "{path}");
    }
}

#[test]
fn its_files_let_a_browser_load_nothing_else() {
    let fixture = Fixture::new();
    let mut client = fixture.client();
    let paths = [
        "/",
        "/console/index.html",
        "/runbooks/KvrouteDown",
        "/docs/security",
    ];
    for path in paths {
        let answer = page(&mut client, path);
        assert_eq!(answer.status, 200, "{path}");
        let policy = answer.header("content-security-policy").unwrap();
        for rule in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
        ] {
            assert!(
                policy.split("; ").any(|said| said == rule),
                "{path}: {policy}"
            );
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cache-control", "no-cache"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{path}");
        }
        let tag = answer.header("etag").unwrap();
        let known = format!("{BROWSER}if-none-match: \"other\", {tag}\r\n");
        let again = client.request("GET", path, &known, b"");
        assert_eq!((again.status, again.body.len()), (304, 0), "{path}");
        assert_eq!(again.header("etag"), Some(tag), "{path}");
        let other = format!("{BROWSER}if-none-match: \"other\"\r\n");
        let other = client.request("GET", path, &other, b"");
        assert_eq!((other.status, other.body), (200, answer.body), "{path}");
    }
}

#[test]
fn a_runbook_is_a_page() {
    let fixture = Fixture::new();
    let mut client = fixture.client();
    let runbook = page(&mut client, "/runbooks/KvrouteWorkersStale");
    assert_eq!(
        runbook.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let html = String::from_utf8(runbook.body).unwrap();
    assert!(html.contains("<h1>KvrouteWorkersStale</h1>"), "{html}");
    assert!(
        html.contains("<h2 id=\"first-look\">First look</h2>"),
        "{html}"
    );
    for path in [
        "/runbooks/None",
        "/runbooks/",
        "/docs/KvrouteDown",
        "/docs/security.md",
    ] {
        assert_eq!(page(&mut client, path).status, 404, "{path}");
    }
}

#[test]
fn the_files_need_no_token_and_what_they_show_does() {
    let folder = TempDir::new().unwrap();
    let fixture = Fixture::serving(&guarded(&folder));
    let mut client = fixture.client();
    for path in [
        "/",
        "/console/index.html",
        "/runbooks/KvrouteDown",
        "/docs/security",
    ] {
        assert_eq!(page(&mut client, path).status, 200, "{path}");
    }
    // Not a page: as before.
    assert_eq!(client.get("/").status, 401);
    for path in ["/v1/workers", "/v1/log", "/metrics"] {
        assert_eq!(page(&mut client, path).status, 401, "{path}");
    }
}

#[test]
fn it_is_on_the_admin_listener_only_where_there_is_one() {
    let config = ServerConfig {
        admin_listen: Some(SocketAddr::from(([127, 0, 0, 1], 0)).into()),
        ..ServerConfig::default()
    };
    let fixture = Fixture::serving(&config);
    let address = |address: &Address| match address {
        Address::Tcp(address) => *address,
        other => panic!("{other:?}"),
    };
    let mut public = Client::new(address(&fixture.server.addresses()[0]));
    let mut admin = Client::new(address(fixture.server.admin_address().unwrap()));
    for path in [
        "/",
        "/console/index.html",
        "/runbooks/KvrouteDown",
        "/docs/security",
    ] {
        assert_eq!(page(&mut admin, path).status, 200, "{path}");
        let refused = page(&mut public, path).refusal();
        assert_eq!(
            (refused.0, refused.1.as_str()),
            (403, "admin_only"),
            "{path}"
        );
    }
    assert_eq!(public.get("/").status, 200);
}

/// (method, path, body, status for who may)
const CHANGES: &[(&str, &str, &str, u16)] = &[
    ("POST", "/v1/workers", "{}", 400),
    ("DELETE", "/v1/workers/none", "", 404),
    ("POST", "/register", "{}", 400),
    ("POST", "/unregister", "{}", 400),
    ("PUT", "/v1/log", "{}", 400),
];

#[test]
fn a_page_of_another_site_changes_nothing() {
    let fixture = Fixture::new();
    let mut client = fixture.client();
    let pod = json!({"pod": "p", "model": "m"}).to_string();
    let plain = "content-type: text/plain\r\n";
    let cross = format!("{plain}origin: http://evil.example\r\nsec-fetch-site: cross-site\r\n");
    let refused = client.request("POST", "/v1/workers", &cross, pod.as_bytes());
    assert_eq!(
        (refused.status, refused.refusal().1.as_str()),
        (403, "cross_site")
    );
    assert_eq!(client.get("/v1/workers").json(), json!([]));
    for (method, path, body, status) in CHANGES {
        for (headers, expected) in [
            ("", *status),
            ("sec-fetch-site: same-origin\r\n", *status),
            ("sec-fetch-site: cross-site\r\n", 403),
            ("sec-fetch-site: same-site\r\n", 403),
            ("origin: http://evil.example\r\n", 403),
            ("origin: null\r\n", 403),
        ] {
            let answer = client.request(method, path, headers, body.as_bytes());
            assert_eq!(answer.status, expected, "{method} {path} {headers}");
        }
    }
    // It may come from a gateway that passes a user's headers on.
    let body = json!({"model": "none", "token_ids": [1]}).to_string();
    for path in ["/v1/match", "/v1/route", "/v1/route/v1/chat/completions"] {
        let answer = client.request("POST", path, &cross, body.as_bytes());
        assert_ne!(answer.status, 403, "{path}");
    }
    let metrics = String::from_utf8(client.get("/metrics").body).unwrap();
    let counted = "kvroute_http_refused_total{reason=\"cross_site\"} 21\n";
    assert!(metrics.contains(counted), "{metrics}");
}
