//! TLS: by rustls and by curl, certificates that change, and clients that do not shake hands.
use crate::client::Client;
use crate::fixture::{Blocks, Fixture, prompt};
use kvroute::address::Address;
use kvroute::http::{ServerConfig, ServerError, TlsFiles};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::json;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

struct Files {
    folder: TempDir,
}

impl Files {
    fn new() -> (Self, CertificateDer<'static>) {
        let folder = TempDir::new().unwrap();
        let files = Self { folder };
        let cert = files.renew();
        (files, cert)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let new = self.path("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.path(name)).unwrap();
    }

    /// Another certificate with another key. The key comes first: until both are there they do not belong together.
    fn renew(&self) -> CertificateDer<'static> {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(vec!["kvroute.test".to_owned()]).unwrap();
        self.write("key", &signing_key.serialize_pem());
        self.write("cert", &cert.pem());
        cert.der().clone()
    }

    fn config(&self) -> ServerConfig {
        ServerConfig {
            tls: Some(TlsFiles {
                cert: self.path("cert"),
                key: self.path("key"),
            }),
            ..ServerConfig::default()
        }
    }
}

/// A client that believes this certificate only, if the handshake succeeds; and the protocol that was agreed upon.
fn connect(fixture: &Fixture, cert: &CertificateDer<'static>) -> Option<(Client, Option<Vec<u8>>)> {
    let mut roots = RootCertStore::empty();
    roots.add(cert.clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let name = "kvroute.test".try_into().unwrap();
    let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = TcpStream::connect(fixture.server.local_addr()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    while connection.is_handshaking() {
        connection.complete_io(&mut stream).ok()?;
    }
    let protocol = connection.alpn_protocol().map(<[u8]>::to_vec);
    let client = Client::over(StreamOwned::new(connection, stream));
    Some((client, protocol))
}

#[test]
fn lookups_over_tls_are_as_without() {
    let (files, cert) = Files::new();
    let fixture = Fixture::serving(&files.config());
    fixture.add_pod("a");
    fixture.store("a#0", &Blocks::of(&prompt(40_000)));
    let (mut client, protocol) = connect(&fixture, &cert).unwrap();
    assert_eq!(protocol.as_deref(), Some(&b"http/1.1"[..]));
    for tokens in [4, 40_000, 400] {
        let body = json!({"model": "m", "token_ids": prompt(tokens)});
        let answer = client.post("/v1/match", &body).json();
        assert_eq!(answer["candidates"][0]["matched_tokens"], tokens);
    }
    client.send(b"GET / HTTP/9\r\n\r\n");
    assert_eq!(client.receive().refusal().1, "malformed_request");
}

#[test]
fn curl_agrees() {
    if Command::new("curl").arg("--version").output().is_err() {
        return;
    }
    let (files, _) = Files::new();
    let fixture = Fixture::serving(&files.config());
    let port = fixture.server.local_addr().port();
    let curl = |args: &[&str]| {
        let mut command = Command::new("curl");
        command.args([
            "--silent",
            "--show-error",
            "--max-time",
            "60",
            "--noproxy",
            "*",
        ]);
        command.args(["--resolve", &format!("kvroute.test:{port}:127.0.0.1")]);
        let output = command.args(args).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let url = format!("https://kvroute.test:{port}/healthz");
    let cert = files.path("cert");
    let cert = cert.to_str().unwrap();
    assert_eq!(curl(&["--cacert", cert, &url]), r#"{"status":"ok"}"#);
    for version in ["1.2", "1.3"] {
        let (least, most) = (format!("--tlsv{version}"), ["--tls-max", version]);
        let answer = curl(&["--cacert", cert, &least, most[0], most[1], &url]);
        assert_eq!(answer, r#"{"status":"ok"}"#, "{version}");
    }
    assert_eq!(curl(&[&url]), "", "it is not believed without a reason");
}

#[test]
fn a_new_certificate_is_used_and_a_bad_one_is_not() {
    let (files, first) = Files::new();
    let fixture = Fixture::serving(&files.config());
    let (mut old, _) = connect(&fixture, &first).unwrap();
    let second = files.renew();
    let given_up = Instant::now() + Duration::from_secs(60);
    let (mut new, _) = loop {
        if let Some(found) = connect(&fixture, &second) {
            break found;
        }
        assert!(Instant::now() < given_up, "it is not read again");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(new.get("/healthz").status, 200);
    assert_eq!(old.get("/healthz").status, 200, "with what it began with");
    assert!(connect(&fixture, &first).is_none());
    // Between the two renames the pair may have been seen half.
    let failures = || {
        let failures = fixture.server.status().reload_failures();
        failures.map(|(_, count)| count).sum::<u64>()
    };
    for bad in ["", "nonsense", "-----BEGIN CERTIFICATE-----\n!\n"] {
        let before = failures();
        files.write("cert", bad);
        fixture.server.reload();
        while failures() == before {
            assert!(Instant::now() < given_up, "{bad:?} is not noticed");
            std::thread::sleep(Duration::from_millis(20));
        }
        let (mut client, _) = connect(&fixture, &second).unwrap();
        assert_eq!(client.get("/healthz").status, 200);
    }
}

#[test]
fn who_speaks_no_tls_is_let_go_and_a_silent_one_hurts_nobody() {
    let (files, cert) = Files::new();
    let fixture = Fixture::serving(&files.config());
    let _silent: Vec<_> = (0..100).map(|_| fixture.client()).collect();
    let mut plain = fixture.client();
    plain.send(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n");
    assert!(!plain.ended(), "a TLS alert comes before the end");
    let (mut good, _) = connect(&fixture, &cert).unwrap();
    assert_eq!(good.get("/healthz").status, 200);
    // Stopping does not wait for handshakes.
    let began = Instant::now();
    fixture.server.stop();
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn unix_sockets_are_plain_beside_tls() {
    let (files, cert) = Files::new();
    let path = files.path("k.sock");
    let config = ServerConfig {
        listen: vec![
            Address::Unix(path.clone()),
            Address::parse("127.0.0.1:0").unwrap(),
        ],
        ..files.config()
    };
    let fixture = Fixture::serving(&config);
    assert_eq!(Client::unix(&path).get("/healthz").status, 200);
    let (mut client, _) = connect(&fixture, &cert).unwrap();
    assert_eq!(client.get("/healthz").status, 200);
}

#[test]
fn a_server_does_not_start_with_a_bad_pair() {
    let (files, _) = Files::new();
    let cert = std::fs::read_to_string(files.path("cert")).unwrap();
    let key = std::fs::read_to_string(files.path("key")).unwrap();
    let other = Files::new().0;
    let other = std::fs::read_to_string(other.path("key")).unwrap();
    for (bad_cert, bad_key, named) in [
        ("", key.as_str(), "cert"),
        (key.as_str(), key.as_str(), "cert"),
        (cert.as_str(), "", "key"),
        (cert.as_str(), cert.as_str(), "key"),
        (cert.as_str(), other.as_str(), "cert"),
    ] {
        files.write("cert", bad_cert);
        files.write("key", bad_key);
        let error = Fixture::try_serving(&files.config())
            .map(|_| ())
            .unwrap_err();
        assert!(matches!(error, ServerError::Tls(_)), "{error}");
        let message = error.to_string();
        let path = files.path(named);
        assert!(message.contains(path.to_str().unwrap()), "{message}");
        let secret = key.lines().nth(1).unwrap();
        assert!(!message.contains(secret), "{message}");
    }
}
