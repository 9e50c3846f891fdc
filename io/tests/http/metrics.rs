//! `/metrics` over real HTTP: the fleet's series, in both formats.
use crate::exposition::{Series, scrape_both as scrape, series};
use crate::fixture::{Blocks, Fixture, prompt};
use kvroute::fleet::{Described, PodSpec, ProbeFailure, Refused, Source};
use kvroute::status::{SkipReason, Trust};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Write};
use std::process::{Command, Stdio};

const STATES: [&str; 6] = [
    "exact",
    "replaying",
    "partial",
    "approximate",
    "stale",
    "distrusted",
];

#[test]
fn an_empty_fleet_has_the_nodes_own_series() {
    let fixture = Fixture::new();
    let (_, samples) = scrape(&fixture);
    for state in STATES {
        let count = samples[&series("kvroute_workers", &[("state", state)])];
        assert!(count.abs() < 0.5, "{state}");
    }
    for why in ProbeFailure::ALL {
        let labels = [("reason", why.as_str())];
        assert!(samples.contains_key(&series("kvroute_probe_failures_total", &labels)));
    }
    assert!(samples.contains_key(&series("kvroute_index_bytes", &[])));
    let of_workers = samples
        .keys()
        .filter(|(_, labels)| labels.contains_key("pod"));
    assert_eq!(of_workers.count(), 0);
}

#[test]
fn every_worker_has_its_counts_and_they_go_with_it() {
    let fixture = Fixture::new();
    fixture.add(json!({"pod": "ns/a", "model": "m", "events": "tcp://h:1", "ranks": 2}));
    fixture.add_pod("b");
    fixture.store("b#0", &Blocks::of(&prompt(8)));
    let status = fixture.status("ns/a#1");
    status.set_trust(Trust::Partial);
    status.set_blocks(7);
    status.add_batches(5);
    status.add_gaps(1, 0, None);
    status.add_replay(0);
    status.add_replay(5);
    status.add_restarts(3);
    status.add_skipped(SkipReason::UnknownTag, 4);
    status.add_skipped(SkipReason::Medium, 6);
    status.touch();
    fixture.fleet.probes().add_failure(ProbeFailure::Timeout);
    let (_, samples) = scrape(&fixture);
    let value = |name: &str, labels: &[(&str, &str)]| samples.get(&series(name, labels)).copied();
    let one = [("pod", "ns/a"), ("rank", "1")];
    for (name, expected) in [
        ("kvroute_worker_blocks", 7.0),
        ("kvroute_batches_total", 5.0),
        ("kvroute_gaps_total", 1.0),
        ("kvroute_replays_total", 2.0),
        ("kvroute_restarts_total", 3.0),
    ] {
        assert_eq!(value(name, &one), Some(expected), "{name}");
        let zero = value(name, &[("pod", "b"), ("rank", "0")]);
        assert_eq!(zero, Some(0.0), "{name}");
    }
    let with = |name, value| [one[0], one[1], (name, value)];
    let skipped = |why| {
        let labels = [one[0], one[1], ("reason", why), ("shape", "array")];
        value("kvroute_events_skipped_total", &labels)
    };
    assert_eq!(skipped("unknown_tag"), Some(4.0));
    assert_eq!(skipped("medium"), Some(6.0));
    assert_eq!(skipped("group"), None);
    let in_state = |state| value("kvroute_worker_state", &with("state", state));
    let states: Vec<_> = STATES.map(in_state).to_vec();
    assert_eq!(states, [None, None, Some(1.0), None, None, None]);
    let counts = STATES.map(|state| value("kvroute_workers", &[("state", state)]).unwrap());
    assert_eq!(counts, [2.0, 0.0, 1.0, 0.0, 0.0, 0.0]);
    let age = value("kvroute_last_event_age_seconds", &one).unwrap();
    assert!((0.0..60.0).contains(&age), "{age}");
    let never = [("pod", "b"), ("rank", "0")];
    assert_eq!(value("kvroute_last_event_age_seconds", &never), None);
    let timeouts = [("reason", "timeout")];
    assert_eq!(value("kvroute_probe_failures_total", &timeouts), Some(1.0));
    assert!(
        value("kvroute_index_bytes", &[]).unwrap() >= 16.0,
        "it holds two keys"
    );

    fixture.fleet.remove("ns/a", Some(1));
    let (_, samples) = scrape(&fixture);
    let left: BTreeSet<_> = samples
        .keys()
        .filter_map(|(_, labels)| Some((labels.get("pod")?.as_str(), labels["rank"].as_str())))
        .collect();
    assert_eq!(left, BTreeSet::from([("b", "0"), ("ns/a", "0")]));
}

#[test]
fn every_source_has_its_counts() {
    let fixture = Fixture::new();
    let (_, samples) = scrape(&fixture);
    let sources = |samples: &BTreeMap<Series, f64>| {
        let of = samples
            .keys()
            .filter(|(name, _)| name.starts_with("kvroute_source_"));
        of.map(|(_, labels)| labels["source"].clone())
            .collect::<BTreeSet<_>>()
    };
    assert!(sources(&samples).is_empty());

    let fleet = &fixture.fleet;
    fleet.sources().expect(Source::Dns);
    fleet.sources().failed(Source::Dns, &"silence");
    let pod = |name: &str| {
        let spec = json!({"pod": name, "model": "m", "events": "tcp://h:1"});
        Described::from(serde_json::from_value::<PodSpec>(spec).unwrap())
    };
    let malformed = vec![Refused::invalid("x", "no pod")];
    fleet.follow(Source::File, vec![pod("a"), pod("b"), pod("c")], malformed);
    while fleet.reconcile().more || fleet.looks().try_recv().is_ok() {}
    let (_, samples) = scrape(&fixture);
    assert_eq!(
        sources(&samples),
        BTreeSet::from(["dns".to_owned(), "file".to_owned()])
    );
    let value = |name: &str, labels: &[(&str, &str)]| samples.get(&series(name, labels)).copied();
    for (name, dns, file) in [
        ("kvroute_source_pods", 0.0, 4.0),
        ("kvroute_source_following", 0.0, 1.0),
        ("kvroute_source_updates_total", 0.0, 1.0),
        ("kvroute_source_failures_total", 1.0, 0.0),
    ] {
        assert_eq!(value(name, &[("source", "dns")]), Some(dns), "{name}");
        assert_eq!(value(name, &[("source", "file")]), Some(file), "{name}");
    }
    let refused = |reason| {
        let labels = [("source", "file"), ("reason", reason)];
        value("kvroute_source_refused", &labels)
    };
    let reasons = ["invalid", "same_events", "removed"].map(refused);
    assert_eq!(reasons, [Some(1.0), Some(2.0), None]);
    let age = |source| value("kvroute_source_heard_age_seconds", &[("source", source)]);
    assert_eq!(age("dns"), None);
    assert!((0.0..60.0).contains(&age("file").unwrap()));
}

/// A pod's name is anybody's choice.
#[test]
fn names_cannot_break_the_format() {
    let fixture = Fixture::new();
    let names = [
        "a\"} 1\nkvroute_gaps_total{pod=\"x",
        "back\\slash\\",
        "é 日本\r\t",
        "\"",
        "\n",
    ];
    for (n, name) in names.iter().enumerate() {
        fixture.add(json!({"pod": name, "model": "m", "events": format!("tcp://h:{}", n + 1)}));
    }
    let (_, samples) = scrape(&fixture);
    for name in names {
        let labels = [("pod", name), ("rank", "0"), ("state", "exact")];
        let state = samples.get(&series("kvroute_worker_state", &labels));
        assert_eq!(state, Some(&1.0), "{name:?}");
    }
    assert_eq!(
        samples
            .keys()
            .filter(|(n, _)| n == "kvroute_gaps_total")
            .count(),
        5
    );
}

/// Prometheus' own reader, where it is installed. Its complaints about style (3) are not looked at.
#[test]
fn promtool_reads_it() {
    let fixture = Fixture::new();
    fixture.add_pod("a");
    fixture.status("a#0").add_skipped(SkipReason::Medium, 1);
    let (text, _) = scrape(&fixture);
    let child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let message = "promtool is not installed (Debian: prometheus)";
            assert!(std::env::var("CI").as_deref() != Ok("true"), "{message}");
            eprintln!("skipped: {message}");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(text.as_bytes()).unwrap();
    drop(stdin);
    let ended = child.wait().unwrap();
    assert!(matches!(ended.code(), Some(0 | 3)), "{ended}");
}
