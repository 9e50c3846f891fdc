//! The rules by hand: on both sides of each threshold.
use super::*;
use crate::fleet::{Refused, SourceReport};
use crate::status::Trust;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const NOW: u64 = 100_000_000;
const MINUTE: u64 = 60_000;

fn worker(pod: &str, state: Trust, minutes: u64) -> WorkerFact {
    WorkerFact {
        pod: pod.to_owned(),
        state,
        since_ms: Some(NOW - minutes * MINUTE),
        problem: None,
        restarts: 0,
        contradictions: 0,
        lost_ms: None,
    }
}

/// So many workers that are exact.
fn exact(count: usize) -> Vec<WorkerFact> {
    (0..count)
        .map(|n| worker(&format!("good-{n}"), Trust::Exact, 1))
        .collect()
}

fn facts(workers: Vec<WorkerFact>) -> Facts {
    Facts {
        now_ms: NOW,
        started_ms: NOW - 5 * MINUTE,
        workers,
        ..Facts::default()
    }
}

/// Names and severities of what is found.
fn found(facts: &Facts) -> Vec<(&'static str, Severity)> {
    find(facts)
        .iter()
        .map(|problem| (problem.name, problem.severity))
        .collect()
}

fn only(facts: &Facts) -> Problem {
    let mut found = find(facts);
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

#[test]
fn nothing_is_wrong_with_a_fleet_that_is_known() {
    assert_eq!(found(&facts(exact(3))), []);
    let approximate = vec![worker("a", Trust::Approximate, 999)];
    assert_eq!(found(&facts(approximate)), []);
}

#[test]
fn a_node_without_pods_or_not_ready_is_told_first() {
    let problem = only(&facts(Vec::new()));
    assert_eq!(
        (problem.name, problem.severity),
        ("KvrouteNoWorkers", Severity::Page)
    );
    let waiting = Facts {
        waiting: Some("1 of 2 workers is not synchronised: ns/a".to_owned()),
        ..facts(Vec::new())
    };
    let problem = only(&waiting);
    assert_eq!(
        (problem.name, problem.severity),
        ("KvrouteNotReady", Severity::Page)
    );
    assert_eq!(
        problem.text,
        "The node is not ready: 1 of 2 workers is not synchronised: ns/a."
    );
    assert_eq!(problem.runbook, "/runbooks/KvrouteNotReady");
    // It has begun just now, or is about to end.
    for (started_ms, stopping) in [(NOW - 5 * MINUTE + 1, false), (0, true)] {
        let young = Facts {
            started_ms,
            stopping,
            ..waiting.clone()
        };
        assert_eq!(only(&young).severity, Severity::Info);
    }
}

#[test]
fn a_state_is_told_at_once_and_is_an_alert_after_a_quarter_of_an_hour() {
    let cases = [
        (Trust::Stale, "KvrouteWorkersStale"),
        (Trust::Distrusted, "KvrouteWorkersDistrusted"),
        (Trust::Replaying, "KvrouteWorkersReplaying"),
    ];
    for (state, name) in cases {
        for (minutes, severity) in [(14, Severity::Info), (15, Severity::Ticket)] {
            let mut workers = exact(3);
            workers.extend([worker("ns/b", state, minutes), worker("ns/a", state, 1)]);
            let problem = only(&facts(workers));
            assert_eq!(
                (problem.name, problem.severity),
                (name, severity),
                "{minutes}"
            );
            assert_eq!(problem.pods, ["ns/a", "ns/b"]);
            assert_eq!(
                (problem.count, problem.since_ms),
                (2, Some(NOW - minutes * MINUTE))
            );
            assert!(
                problem.text.starts_with("2 of 5 workers are "),
                "{}",
                problem.text
            );
        }
    }
    let mut workers = exact(1);
    workers.push(worker("ns/b", Trust::Stale, 1));
    let text = only(&facts(workers)).text;
    assert_eq!(
        text,
        "1 of 2 workers is not heard of: what is said of it may be out of date."
    );
}

#[test]
fn a_fleet_of_which_less_than_half_is_known_is_worst() {
    let fleet = |known: usize, minutes| {
        let mut workers = exact(known);
        workers.push(worker("a", Trust::Stale, 60));
        workers.push(worker("b", Trust::Distrusted, minutes));
        facts(workers)
    };
    let name = "KvrouteWorkersNotSynchronised";
    assert!(!found(&fleet(2, 60)).iter().any(|(found, _)| *found == name));
    assert_eq!(found(&fleet(1, 60))[0], (name, Severity::Page));
    // Not for ten minutes yet.
    assert!(found(&fleet(1, 9)).contains(&(name, Severity::Info)));
    // One of many that comes and goes does not make it new.
    let mut workers = exact(1);
    workers.extend((0..8).map(|n| worker(&format!("p{n}"), Trust::Stale, 60)));
    workers.push(worker("flaps", Trust::Replaying, 1));
    assert_eq!(found(&facts(workers))[0], (name, Severity::Page));
    let text = find(&fleet(1, 60)).remove(0).text;
    assert_eq!(
        text,
        "Only 1 of 3 workers can be trusted: requests are routed nearly blindly."
    );
}

#[test]
fn partial_workers_are_an_alert_if_they_are_many_for_long() {
    let partial = |count: usize, hours: u64| {
        let mut workers = exact(6);
        workers.extend((0..count).map(|n| worker(&format!("p{n}"), Trust::Partial, hours * 60)));
        only(&facts(workers))
    };
    for (count, hours, severity) in [
        (2, 7, Severity::Info),
        (3, 5, Severity::Info),
        (3, 6, Severity::Ticket),
    ] {
        let problem = partial(count, hours);
        assert_eq!(
            (problem.name, problem.severity),
            ("KvrouteWorkersPartial", severity)
        );
        assert_eq!(problem.count, count);
    }
}

#[test]
fn a_worker_that_publishes_elsewhere_is_named_with_the_reason() {
    let mut workers = exact(1);
    let mut elsewhere = worker("ns/a", Trust::Replaying, 1);
    elsewhere.problem = Some("it publishes on 5600".to_owned());
    workers.push(elsewhere.clone());
    let found = find(&facts(workers));
    let told = found
        .iter()
        .find(|problem| problem.text.contains("5600"))
        .unwrap();
    assert_eq!(told.pods, ["ns/a"]);
    assert_eq!(
        told.text,
        "No events can be expected of 1 of 2 workers. ns/a: it publishes on 5600"
    );
    // Its events come all the same.
    elsewhere.state = Trust::Exact;
    assert_eq!(find(&facts(vec![elsewhere.clone()])), []);
    // Of a stale one that is told already.
    elsewhere.state = Trust::Stale;
    let mut workers = exact(1);
    workers.push(elsewhere);
    assert_eq!(only(&facts(workers)).name, "KvrouteWorkersStale");
}

#[test]
fn what_happened_to_workers_lately_counts_from_a_number_on() {
    let with = |change: &dyn Fn(&mut WorkerFact)| {
        let mut workers = exact(2);
        change(&mut workers[1]);
        facts(workers)
    };
    assert_eq!(found(&with(&|worker| worker.restarts = 3)), []);
    let problem = only(&with(&|worker| worker.restarts = 4));
    assert_eq!(
        (problem.name, problem.severity),
        ("KvrouteEnginesRestartOften", Severity::Ticket)
    );
    assert_eq!(
        problem.text,
        "1 of 2 workers restarted more than 3 times within an hour."
    );
    assert_eq!(problem.pods, ["good-1"]);
    assert_eq!(found(&with(&|worker| worker.contradictions = 2)), []);
    let problem = only(&with(&|worker| worker.contradictions = 3));
    assert_eq!(problem.name, "KvrouteWorkersContradicted");
    assert!(
        problem.text.starts_with("1 of 2 workers was contradicted"),
        "{}",
        problem.text
    );
    for (minutes, severity) in [(9, Severity::Info), (10, Severity::Ticket)] {
        let lost = only(&with(&|worker| {
            worker.lost_ms = Some(NOW - minutes * MINUTE)
        }));
        assert_eq!(
            (lost.name, lost.severity),
            ("KvrouteGapsNotRepaired", severity)
        );
    }
}

#[test]
fn sources_that_fail_and_pods_that_are_refused_are_named() {
    let source = |state, refused: usize| SourceReport {
        source: "kubernetes",
        state,
        error: Some("403 Forbidden".to_owned()),
        heard_ms: Some(NOW - 10 * MINUTE),
        pods: 9,
        refused,
        refused_by: BTreeMap::new(),
        refused_pods: (refused > 0)
            .then(|| Refused::invalid("ns/x", "port: \"y\" is not a number"))
            .into_iter()
            .collect(),
        updates: 0,
        failures: 0,
    };
    let with = |state, refused| Facts {
        sources: vec![source(state, refused)],
        ..facts(exact(1))
    };
    assert_eq!(found(&with("following", 0)), []);
    assert_eq!(found(&with("starting", 0)), []);
    let problem = only(&with("failing", 0));
    assert_eq!(
        (problem.name, problem.since_ms),
        ("KvrouteSourceNotHeard", Some(NOW - 10 * MINUTE))
    );
    assert!(
        problem
            .text
            .contains("\"kubernetes\" is not heard: 403 Forbidden."),
        "{}",
        problem.text
    );
    let problem = only(&with("following", 12));
    assert_eq!((problem.name, problem.count), ("KvroutePodsRefused", 12));
    assert_eq!(problem.pods, ["ns/x"]);
    assert!(
        problem.text.ends_with("ns/x: port: \"y\" is not a number."),
        "{}",
        problem.text
    );
}

#[test]
fn bounds_are_told_when_they_are_nearly_met() {
    let with = |bytes, most, descriptors| Facts {
        index_bytes: bytes,
        index_bytes_max: most,
        descriptors,
        ..facts(exact(1))
    };
    assert_eq!(found(&with(90, Some(100), Some((80, 100)))), []);
    assert_eq!(found(&with(u64::MAX, None, None)), []);
    assert_eq!(
        found(&with(91, Some(100), None)),
        [("KvrouteIndexNearBudget", Severity::Ticket)]
    );
    let descriptors = only(&with(0, Some(100), Some((81, 100))));
    assert_eq!(descriptors.name, "KvrouteFileDescriptorsNearLimit");
    assert_eq!(descriptors.text, "81 of 100 file descriptors are open.");
}

#[test]
fn settings_that_cannot_be_had_and_tokenizers_that_are_off_are_told() {
    let wrong = Facts {
        invalid_mode: Some("texts are routed by load"),
        tokenizers_off: vec!["m".to_owned()],
        ..facts(exact(1))
    };
    let names: Vec<_> = found(&wrong).into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        ["KvrouteConfigurationInvalid", "KvrouteLocalTokenizerOff"]
    );
}

/// What is found of ten minutes with a thousand requests and lookups in which nothing is wrong but this.
fn lately(change: impl FnOnce(&mut Lately)) -> Vec<(&'static str, Severity)> {
    let mut lately = Lately {
        seconds: 600.0,
        requests: 1_000,
        lookups: 1_000,
        ..Lately::default()
    };
    change(&mut lately);
    found(&Facts {
        lately: Some(lately),
        ..facts(exact(1))
    })
}

#[test]
fn requests_are_judged_by_the_alerts_thresholds() {
    use Severity::{Page, Ticket};
    assert_eq!(lately(|_| ()), []);
    assert_eq!(lately(|l| l.failed = 50), []);
    let failed = [("KvrouteRequestsFail", Page)];
    assert_eq!(lately(|l| l.failed = 51), failed);
    // Of a node that nobody asks, one error is not a share.
    assert_eq!(lately(|l| (l.requests, l.failed) = (60, 60)), []);
    assert_eq!(lately(|l| l.lookup_p99 = Some(0.001)), []);
    let lookups = [("KvrouteLookupLatency", Ticket)];
    assert_eq!(lately(|l| l.lookup_p99 = Some(0.0011)), lookups);
    let seldom = |l: &mut Lately| (l.lookup_p99, l.lookups) = (Some(1.0), 600);
    assert_eq!(lately(seldom), []);
    assert_eq!(lately(|l| l.request_p99 = Some(2.7)), []);
    let requests = [("KvrouteRequestLatency", Page)];
    assert_eq!(lately(|l| l.request_p99 = Some(2.8)), requests);
    assert_eq!(lately(|l| l.lag_p99 = Some(1.0)), []);
    let lag = [("KvrouteIngestLag", Ticket)];
    assert_eq!(lately(|l| l.lag_p99 = Some(1.1)), lag);
}

#[test]
fn what_is_skipped_or_turned_away_is_judged_by_the_alerts_thresholds() {
    use Severity::Ticket;
    assert_eq!(lately(|l| l.dropped = vec![("contexts", 0)]), []);
    let dropped = [("KvrouteEventsDropped", Ticket)];
    assert_eq!(lately(|l| l.dropped = vec![("contexts", 1)]), dropped);
    let unknown = |field| lately(|l| l.unknown = vec![("field", field), ("shape", 1)]);
    assert_eq!(unknown(1), []);
    assert_eq!(unknown(2), [("KvrouteEventsUnknown", Ticket)]);
    let reload = [("KvrouteReloadFailed", Ticket)];
    assert_eq!(lately(|l| l.reload_failures = vec![("tls", 1)]), reload);
    // More than one in ten seconds, and in the first seconds more than six; of one reason.
    let refused = |seconds, count| {
        lately(|l| (l.seconds, l.refused) = (seconds, vec![("token", count), ("head", 5)]))
    };
    let told = [("KvrouteRequestsRefused", Ticket)];
    assert_eq!(refused(600.0, 60), []);
    assert_eq!(refused(600.0, 61), told);
    assert_eq!(refused(2.0, 6), []);
    assert_eq!(refused(2.0, 7), told);
}

#[test]
fn reasons_are_listed_by_how_often_they_were() {
    let unknown = Lately {
        seconds: 600.0,
        unknown: vec![("shape", 2), ("field", 7), ("group", 0)],
        ..Lately::default()
    };
    let problem = only(&Facts {
        lately: Some(unknown),
        ..facts(exact(1))
    });
    let text = "9 events within 10 min were not understood: field (7), shape (2).";
    assert_eq!(problem.text, text);
}

/// Every name that a rule can give, with the worst severity, as this folder's sources have it.
fn names() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/problems");
    let mut names = BTreeSet::new();
    for file in ["node.rs", "workers.rs", "recent.rs"] {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        let quoted = text.split('"').filter(|word| word.starts_with("Kvroute"));
        names.extend(quoted.map(str::to_owned));
    }
    names
}

#[test]
fn every_problem_has_the_name_of_an_alert_and_a_runbook() {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let rules = std::fs::read_to_string(deploy.join("prometheus/alert-rules.yaml")).unwrap();
    let alerts = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    let alerts: BTreeSet<_> = alerts.map(str::to_owned).collect();
    let names = names();
    assert!(names.len() >= 20, "{names:?}");
    for name in &names {
        assert!(alerts.contains(name), "{name}");
        assert!(
            deploy.join(format!("runbooks/{name}.md")).is_file(),
            "{name}"
        );
    }
}
