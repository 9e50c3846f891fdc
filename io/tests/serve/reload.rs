//! The configuration read again by a running node: what it takes, what it does not, and what it says.
use crate::running::{PATIENCE, Running};
use serde_json::Value;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const READ: &str = "configuration read again";
const FAILURES: &str = "kvroute_reload_failures_total{file=\"configuration\"}";

/// A folder with a file of settings and a fleet of one pod, which nobody answers for.
struct Site {
    folder: TempDir,
}

impl Site {
    fn new() -> Self {
        let site = Self {
            folder: TempDir::new().unwrap(),
        };
        let pod = "pods:\n- {pod: a, model: m, endpoint: '127.0.0.1:9'}\n";
        std::fs::write(site.path("pods.yaml"), pod).unwrap();
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes the settings, beside those that all have.
    fn set(&self, text: &str) {
        self.write("kvroute.yaml", text);
    }

    fn write(&self, name: &str, text: &str) {
        let fleet = self.path("pods.yaml");
        let common = format!(
            "listen: 127.0.0.1:0\nprobe_interval: 0\nload_interval: 0\nfleet: {}\n",
            fleet.display()
        );
        std::fs::write(self.path(name), common + text).unwrap();
    }

    fn start(&self, args: &[&str]) -> Running {
        let path = self.path("kvroute.yaml");
        let node = Running::start(&[&["--config", path.to_str().unwrap()], args].concat());
        // It answers before its pods are entered.
        let given_up = Instant::now() + PATIENCE;
        while !node.get("/v1/workers").contains("\"pod\":\"a\"") {
            assert!(Instant::now() < given_up, "waited in vain");
            sleep(Duration::from_millis(5));
        }
        node
    }
}

fn body(answer: &str) -> Value {
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer}"))
}

/// How a choice is made now, by a pod with nothing to do.
fn explained(node: &Running) -> Value {
    let asked = r#"{"model":"m","token_ids":[1,2,3,4],"dry_run":true}"#;
    let chosen = body(&node.ask("POST", "/v1/route", asked));
    let id = chosen["request_id"]
        .as_str()
        .unwrap_or_else(|| panic!("{chosen}"));
    body(&node.get(&format!("/v1/explain/{id}")))
}

fn again(node: &Running) -> Vec<String> {
    node.signal("-HUP");
    node.logged_until(READ)
}

fn has(lines: &[String], words: &[&str]) -> bool {
    lines
        .iter()
        .any(|line| words.iter().all(|word| line.contains(word)))
}

#[test]
fn what_can_change_is_taken_at_once_and_flags_still_win() {
    let site = Site::new();
    site.set("policy: random\nminimum_match: 3\ncost_prefill: 2\n");
    let node = site.start(&["--minimum-match", "7", "--http-threads", "2"]);
    let before = explained(&node);
    assert_eq!(
        (&before["policy"], &before["minimum_match"]),
        (&"random".into(), &7.into())
    );
    site.set("policy: cost\nminimum_match: 4\ncost_prefill: 3.5\nready_share: 0.5\n");
    let lines = again(&node);
    let place = "kvroute.yaml:5";
    assert!(
        has(&lines, &["policy", "\"random\"", "\"cost\"", place]),
        "{lines:#?}"
    );
    assert!(
        has(&lines, &["cost_prefill", "was=2.0", "is=3.5"]),
        "{lines:#?}"
    );
    assert!(has(
        &lines,
        &["ready_share", "was=1.0", "is=0.5", "kvroute.yaml:8"]
    ));
    assert!(
        !has(&lines, &["minimum_match"]) && !has(&lines, &["restart"]),
        "{lines:#?}"
    );
    // Whichever thread answers.
    for _ in 0..20 {
        let after = explained(&node);
        assert_eq!(
            (&after["policy"], &after["minimum_match"]),
            (&"cost".into(), &7.into())
        );
        // Four tokens to be computed, each for 3.5, in thousandths.
        assert_eq!(after["candidates"][0]["cost"], 14_000, "{after}");
    }
    // What is taken out of the file is the default again.
    site.set("");
    let lines = again(&node);
    assert!(
        has(
            &lines,
            &["policy", "\"cost\"", "\"prefix-cache\"", "default"]
        ),
        "{lines:#?}"
    );
    assert_eq!(explained(&node)["policy"], "prefix-cache");
    assert_eq!(node.metric(FAILURES), 0);
    node.signal("-TERM");
    assert_eq!(node.end().code(), Some(0));
}

#[test]
fn a_bad_edit_changes_nothing_and_is_told_and_counted() {
    let site = Site::new();
    site.set("policy: random\n");
    let node = site.start(&[]);
    for (at, (text, words)) in [
        (
            "policy: best\n",
            &["policy", "best", "prefix-cache", "kvroute.yaml:5"][..],
        ),
        (
            "policy: cost\ndrain: 29\ndrain_notice: 2\n",
            &["grace", "29", "kvroute.yaml:7"],
        ),
        (
            "policy: cost\npolcy: cost\n",
            &["polcy", "is policy meant", "kvroute.yaml:6"],
        ),
        ("policy: [\n", &["kvroute.yaml"]),
    ]
    .into_iter()
    .enumerate()
    {
        site.set(text);
        node.signal("-HUP");
        let line = node.logged("cannot be used");
        assert!(
            line.contains("WARN") && words.iter().all(|word| line.contains(word)),
            "{line}"
        );
        assert_eq!(explained(&node)["policy"], "random");
        assert_eq!(node.metric(FAILURES), at as u64 + 1);
    }
    std::fs::remove_file(site.path("kvroute.yaml")).unwrap();
    node.signal("-HUP");
    assert!(node.logged("cannot be used").contains("kvroute.yaml"));
    assert_eq!(explained(&node)["policy"], "random");
    site.set("policy: cost\n");
    again(&node);
    assert_eq!(explained(&node)["policy"], "cost");
    assert_eq!(node.metric(FAILURES), 5);
}

#[test]
fn what_needs_a_restart_is_named_once_each_time_and_stays() {
    let site = Site::new();
    site.set("replays: 3\nio_threads: 1\n");
    let node = site.start(&[]);
    site.set("replays: 4\nio_threads: 2\npolicy: random\nhash_seed: 1337\n");
    for _ in 0..2 {
        let lines = again(&node);
        let told: Vec<_> = lines
            .iter()
            .filter(|line| line.contains("restart"))
            .collect();
        assert_eq!(told.len(), 1, "{lines:#?}");
        assert!(
            told[0].contains("io_threads from 1 to 2, replays from 3 to 4"),
            "{told:?}"
        );
        assert!(
            told[0].contains("WARN") && !told[0].contains("hash_seed"),
            "{told:?}"
        );
        // The rest is taken.
        assert_eq!(explained(&node)["policy"], "random");
    }
    site.set("replays: 3\nio_threads: 1\npolicy: random\n");
    assert!(!has(&again(&node), &["restart"]));
    assert_eq!(node.metric(FAILURES), 0);
}

#[test]
fn what_is_logged_can_change() {
    let site = Site::new();
    site.set("log: info\n");
    let node = site.start(&[]);
    site.set("log: warn\n");
    node.signal("-HUP");
    assert!(node.logged("setting changed").contains("log"));
    // Of this, nothing is told but what is wrong, which also says that it has been read.
    site.set("log: warn\npolicy: random\nreplays: 3\n");
    node.signal("-HUP");
    let lines = node.logged_until("restart");
    assert!(!has(&lines, &["setting changed"]), "{lines:#?}");
    assert_eq!(explained(&node)["policy"], "random");
    site.set("log: kvroute=info\npolicy: cost\n");
    assert!(!has(&again(&node), &["setting changed"]));
    site.set("log: kvroute=info\npolicy: random\n");
    assert!(has(&again(&node), &["setting changed", "policy"]));
}

/// As Kubernetes replaces a ConfigMap: the file is a link into a folder that is a link.
#[test]
fn a_link_that_turns_elsewhere_is_followed() {
    let site = Site::new();
    for (version, policy) in [("1", "random"), ("2", "cost")] {
        std::fs::create_dir(site.path(version)).unwrap();
        site.write(
            &format!("{version}/kvroute.yaml"),
            &format!("policy: {policy}\n"),
        );
    }
    let data = site.path("..data");
    symlink(Path::new("1"), &data).unwrap();
    symlink(Path::new("..data/kvroute.yaml"), site.path("kvroute.yaml")).unwrap();
    let node = site.start(&[]);
    assert_eq!(explained(&node)["policy"], "random");
    let turned = site.path("..data_tmp");
    symlink(Path::new("2"), &turned).unwrap();
    std::fs::rename(turned, data).unwrap();
    again(&node);
    assert_eq!(explained(&node)["policy"], "cost");
}
