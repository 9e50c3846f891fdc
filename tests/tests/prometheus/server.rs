//! A Prometheus of its own, with the sample's configuration and all rules, that looks every second.
use crate::texts::deploy;
use kvroute_tests::gateways::Client;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Time for it to start, on a machine that is busy with builds.
const START_TIME_MAX: Duration = Duration::from_secs(60);

/// Attempts to find a port that nobody takes in between.
const ATTEMPTS: usize = 3;

/// What a text of the sample becomes.
const SAMPLE: [(&str, &str); 2] = [
    ("scrape_interval: 15s", "scrape_interval: 1s"),
    ("evaluation_interval: 15s", "evaluation_interval: 1s"),
];

/// The running server. It ends with the test.
#[derive(Debug)]
pub(crate) struct Prometheus {
    child: Child,
    client: Client,
    folder: TempDir,
}

impl Prometheus {
    /// One that scrapes this node, as a target that has labels as Kubernetes gives them.
    pub(crate) fn start(binary: &Path, node: SocketAddr) -> Self {
        let mut why = String::new();
        for _ in 0..ATTEMPTS {
            match Self::launch(binary, node) {
                Ok(server) => return server,
                Err(said) => why = said,
            }
        }
        panic!("prometheus does not start: {why}");
    }

    fn launch(binary: &Path, node: SocketAddr) -> Result<Self, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let sample = fs::read_to_string(deploy("prometheus").join("prometheus.yaml"));
        let mut config = sample.expect("the sample is there");
        let target = "- targets: [127.0.0.1:8080]";
        let ours =
            format!("- targets: [\"{node}\"]\n        labels: {{namespace: llm, pod: kvroute-0}}");
        for (text, instead) in SAMPLE.into_iter().chain([(target, &*ours)]) {
            assert!(config.contains(text), "the sample has no {text:?} any more");
            config = config.replace(text, instead);
        }
        let file = folder.path().join("prometheus.yaml");
        fs::write(&file, config).expect("the folder is ours");
        for rules in ["recording-rules.yaml", "alert-rules.yaml"] {
            let from = deploy("prometheus").join(rules);
            fs::copy(from, folder.path().join(rules)).expect("the rules are there");
        }
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let address = port.local_addr().expect("it is bound");
        drop(port);
        let log = File::create(folder.path().join("log")).expect("the folder is ours");
        let mut command = Command::new(binary);
        command.arg("--config.file").arg(&file);
        command
            .arg("--storage.tsdb.path")
            .arg(folder.path().join("data"));
        command.arg(format!("--web.listen-address={address}"));
        command.arg("--enable-feature=exemplar-storage");
        command.stdin(Stdio::null()).stderr(log);
        let child = command.spawn().expect("prometheus can be run");
        let mut server = Self {
            child,
            client: Client { address },
            folder,
        };
        let give_up = Instant::now() + START_TIME_MAX;
        while !server.is_ready() {
            let ended = server.child.try_wait().ok().flatten().is_some();
            if ended || Instant::now() >= give_up {
                return Err(server.log());
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(server)
    }

    fn is_ready(&self) -> bool {
        let open = TcpStream::connect(self.client.address).is_ok();
        open && self.client.get("/-/ready", "").status == 200
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Asks for a path of its API.
    pub(crate) fn get(&self, path: &str) -> Value {
        self.client.get(path, "").json()
    }

    /// The series that an expression comes to now.
    pub(crate) fn query(&self, expr: &str) -> Vec<Value> {
        let quoted = utf8_percent_encode(expr, NON_ALPHANUMERIC);
        let answer = self.get(&format!("/api/v1/query?query={quoted}"));
        assert_eq!(answer["status"], "success", "{expr}: {answer}");
        assert!(answer["warnings"].is_null(), "{expr}: {answer}");
        let result = answer["data"]["result"].as_array();
        result.expect("a vector").clone()
    }

    /// The values of a label of the series that a selector chooses.
    pub(crate) fn values(&self, label: &str, selector: &str) -> Vec<Value> {
        let quoted = utf8_percent_encode(selector, NON_ALPHANUMERIC);
        let answer = self.get(&format!("/api/v1/label/{label}/values?match[]={quoted}"));
        assert_eq!(answer["status"], "success", "{selector}: {answer}");
        answer["data"].as_array().expect("a list").clone()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = self.log();
            let tail: Vec<_> = log.lines().rev().take(20).collect();
            eprintln!("prometheus' log, latest first:\n{}", tail.join("\n"));
        }
    }
}
