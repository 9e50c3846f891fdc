//! Several sources of pods at once, over a whole node: a fleet file that is edited, names, and what is done by hand.
use crate::accuracy::{asked, metrics, series, ten_blocks, until};
use crate::client::Client;
use kvroute::address::Address;
use kvroute::config::{Config, DiscoveryConfig, DnsName};
use kvroute::fake::{FakeEngine, Options};
use kvroute::node::Node;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// A node with a fleet file.
struct Rig {
    folder: TempDir,
    node: Node,
    client: Client,
}

impl Rig {
    fn new(pods: &[&Value]) -> Self {
        Self::with(pods, DiscoveryConfig::default())
    }

    fn with(pods: &[&Value], discovery: DiscoveryConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let fleet = folder.path().join("fleet.yaml");
        fs::write(&fleet, text(pods)).unwrap();
        let node = Node::start(&Config {
            listen: vec![Address::parse("127.0.0.1:0").unwrap()],
            fleet: Some(fleet),
            probe_interval: None,
            discovery,
            ..Config::default()
        });
        let node = node.unwrap();
        let client = Client::new(node.http_addr());
        Self {
            folder,
            node,
            client,
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("fleet.yaml")
    }

    /// Edits the file as an editor does, and tells the node.
    fn edit(&self, text: &str) {
        let new = self.folder.path().join("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.file()).unwrap();
        self.node.reload();
    }

    fn workers(&mut self) -> Vec<Value> {
        let listed = self.client.get("/v1/workers").json();
        listed.as_array().unwrap().clone()
    }

    /// `source pod events` of all workers.
    fn fleet(&mut self) -> Vec<String> {
        let word = |worker: &Value, field: &str| worker[field].as_str().unwrap().to_owned();
        let all = self.workers();
        let all = all.iter().map(|worker| {
            let [source, pod, events] = ["source", "pod", "events"].map(|f| word(worker, f));
            format!("{source} {pod} {events}")
        });
        all.collect()
    }

    fn until_fleet(&mut self, expected: &[String]) {
        until(&format!("{expected:?}"), || self.fleet() == expected);
    }

    /// Until a pod holds all that its engine has published.
    fn until_held(&mut self, pod: &str) {
        until("all is held", || {
            let workers = self.workers();
            let found = workers.iter().find(|worker| worker["pod"] == pod);
            found.is_some_and(|worker| worker["blocks"] == 10 && worker["state"] == "exact")
        });
    }

    fn source(&mut self, name: &str) -> Value {
        let all = self.client.get("/v1/sources").json();
        let mut all = all.as_array().unwrap().iter();
        all.find(|source| source["source"] == name).unwrap().clone()
    }

    fn serial(&self, pod: &str) -> u64 {
        self.node.fleet().view().pod(pod)[0].serial()
    }

    fn metric(&mut self, name: &str) -> Option<f64> {
        series(&metrics(&mut self.client), name)
    }
}

/// JSON is YAML.
fn text(pods: &[&Value]) -> String {
    json!({ "pods": pods }).to_string()
}

/// An engine that holds ten blocks, and its pod.
fn engine(pod: &str) -> (FakeEngine, Value) {
    let engine = FakeEngine::bind(Options::default()).unwrap();
    engine.publish(0, &ten_blocks()).unwrap();
    let (events, replay) = (engine.events_endpoint(), engine.replay_endpoint());
    let pod = json!({"pod": pod, "model": "m", "events": events, "replay": replay});
    (engine, pod)
}

/// `source pod events` as expected.
fn line(source: &str, pod: &Value) -> String {
    let word = |field: &str| pod[field].as_str().unwrap();
    format!("{source} {} {}", word("pod"), word("events"))
}

#[test]
fn workers_follow_the_file_while_lookups_are_answered() {
    let ((_a, a), (_b, b)) = (engine("a"), engine("b"));
    let mut rig = Rig::new(&[&a]);
    rig.until_held("a");
    let serial = rig.serial("a");
    let over = AtomicBool::new(false);
    let address = rig.node.http_addr();
    thread::scope(|scope| {
        let lookups = scope.spawn(|| {
            let mut client = Client::new(address);
            let mut lookups = 0;
            while !over.load(SeqCst) {
                let answer = client.post("/v1/match", &asked());
                assert_eq!(answer.status, 200);
                let answer = answer.json();
                let found = answer["candidates"].as_array().unwrap();
                let a = found.iter().find(|found| found["pod"] == "a").unwrap();
                assert_eq!(a["matched_tokens"], 40);
                lookups += 1;
            }
            lookups
        });
        // Nobody tells the node: it looks by itself, and takes no file for whole that is being written.
        fs::write(rig.file(), text(&[&a, &b])).unwrap();
        rig.until_fleet(&[line("file", &a), line("file", &b)]);
        rig.until_held("b");
        rig.edit(&text(&[&a]));
        rig.until_fleet(&[line("file", &a)]);
        let mut other = a.clone();
        other["endpoint"] = json!("10.0.0.7:8001");
        rig.edit(&text(&[&other]));
        until("the endpoint is another one", || {
            rig.workers()[0]["endpoint"] == "10.0.0.7:8001"
        });
        over.store(true, SeqCst);
        assert!(lookups.join().unwrap() > 0);
    });
    assert_eq!(
        rig.serial("a"),
        serial,
        "its worker is the same all the time"
    );
    assert_eq!(rig.workers()[0]["replays"], 1);
    assert_eq!(rig.source("file")["updates"], 4);
    rig.node.stop();
}

#[test]
fn a_bad_edit_is_told_and_changes_nothing() {
    let (_a, a) = engine("a");
    let mut rig = Rig::new(&[&a]);
    rig.until_held("a");
    let serial = rig.serial("a");
    let mut bad = a.clone();
    bad["pod"] = json!("b");
    rig.edit(&text(&[&a, &bad]));
    until("it is told", || rig.source("file")["state"] == "failing");
    let told = rig.source("file");
    let error = told["error"].as_str().unwrap();
    let file = rig.file().display().to_string();
    let named = error.starts_with(&format!("{file}: pods[1]: b#0: "));
    assert!(
        named && error.contains(a["events"].as_str().unwrap()),
        "{error}"
    );
    assert_eq!((&told["pods"], &told["updates"]), (&json!(1), &json!(1)));
    assert_eq!(
        rig.metric("kvroute_source_following{source=\"file\"}"),
        Some(0.0)
    );
    let failures = "kvroute_source_failures_total{source=\"file\"}";
    assert!(rig.metric(failures).unwrap() >= 1.0);
    assert_eq!(
        (rig.fleet(), rig.serial("a")),
        (vec![line("file", &a)], serial)
    );

    rig.edit(&text(&[]));
    rig.until_fleet(&[]);
    let told = rig.source("file");
    assert_eq!(
        (&told["state"], &told["error"]),
        (&json!("following"), &Value::Null)
    );
    assert_eq!(
        rig.metric("kvroute_source_following{source=\"file\"}"),
        Some(1.0)
    );
    rig.node.stop();
}

#[test]
fn what_is_done_by_hand_goes_before_the_file() {
    let ((_a, a), (_r, r)) = (engine("a"), engine("r"));
    let mut rig = Rig::new(&[&a]);
    rig.until_held("a");
    let serial = rig.serial("a");
    // The same engine, registered: it is the same worker.
    assert_eq!(rig.client.post("/v1/workers", &a).status, 201);
    assert_eq!(rig.fleet(), [line("registered", &a)]);
    assert_eq!(rig.serial("a"), serial);
    let refused = |rig: &mut Rig| rig.source("file")["refused_by"].clone();
    until("it is told", || {
        refused(&mut rig) == json!({"overridden": 1})
    });
    assert_eq!(
        rig.client.post("/v1/workers", &a).status,
        409,
        "that is nobody's but its own"
    );

    // Beside it, one more.
    let rank = json!({
        "instance_id": "r", "model_name": "m", "endpoint": r["events"], "replay_endpoint": r["replay"],
    });
    assert_eq!(rig.client.post("/register", &rank).status, 201);
    rig.until_held("r");
    rig.edit(&text(&[&a]));
    assert_eq!(
        rig.fleet(),
        [line("registered", &a), line("registered", &r)]
    );

    // Unregistered, it is the file's; taken out, nobody's until it is described in another way.
    let instance = json!({"instance_id": "a"});
    assert_eq!(rig.client.post("/unregister", &instance).status, 200);
    rig.until_fleet(&[line("file", &a), line("registered", &r)]);
    rig.until_held("a");
    assert_eq!(rig.client.delete("/v1/workers/a").status, 204);
    assert_eq!(rig.client.delete("/v1/workers/a").status, 404);
    rig.edit(&format!("# as before\n{}", text(&[&a])));
    until("it is told", || refused(&mut rig) == json!({"removed": 1}));
    assert_eq!(rig.fleet(), [line("registered", &r)]);
    let series = "kvroute_source_refused{source=\"file\",reason=\"removed\"}";
    assert_eq!(rig.metric(series), Some(1.0));
    let mut other = a.clone();
    other["lora"] = json!(["fr"]);
    rig.edit(&text(&[&other]));
    rig.until_fleet(&[line("file", &a), line("registered", &r)]);
    rig.until_held("a");

    // Where a registered pod publishes, none of the file does.
    let mut thief = a.clone();
    thief["pod"] = json!("z");
    assert_eq!(rig.client.post("/v1/workers", &thief).status, 201);
    rig.until_fleet(&[line("registered", &r), line("registered", &thief)]);
    until("it is told", || {
        refused(&mut rig) == json!({"same_events": 1})
    });
    rig.node.stop();
}

#[test]
fn a_name_and_a_file_are_followed_together_and_the_file_is_believed() {
    let local = json!({"pod": "a", "model": "m", "events": "tcp://127.0.0.1:5557"});
    let other = json!({"pod": "b", "model": "m", "events": "tcp://127.0.0.1:9"});
    let discovery = DiscoveryConfig {
        dns: vec![DnsName {
            model: "m".into(),
            host: "localhost".into(),
            port: 8000,
        }],
        dns_interval: Duration::from_hours(1),
        ..DiscoveryConfig::default()
    };
    let mut rig = Rig::with(&[&local, &other], discovery);
    until("the name is resolved", || rig.source("dns")["refused"] == 1);
    let refused = rig.source("dns")["refused_pods"][0].clone();
    assert_eq!(refused["pod"], "localhost/127.0.0.1");
    assert_eq!(refused["reason"], "same_events");
    assert_eq!(rig.fleet(), [line("file", &local), line("file", &other)]);
    rig.edit(&text(&[&other]));
    let found = "dns localhost/127.0.0.1 tcp://127.0.0.1:5557".to_owned();
    rig.until_fleet(&[line("file", &other), found.clone()]);
    assert_eq!(rig.workers()[1]["endpoint"], "127.0.0.1:8000");
    until("both are complete", || {
        ["file", "dns"]
            .iter()
            .all(|name| rig.source(name)["state"] == "following")
    });
    let order: Vec<_> = rig
        .client
        .get("/v1/sources")
        .json()
        .as_array()
        .unwrap()
        .clone();
    assert_eq!([&order[0]["source"], &order[1]["source"]], ["file", "dns"]);
    rig.edit(&text(&[&local, &other]));
    rig.until_fleet(&[line("file", &local), line("file", &other)]);
    rig.node.stop();
}
