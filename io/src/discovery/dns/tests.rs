//! Names against a fleet that subscribes to nobody: the follower step by step, and the threads around it.
use super::*;
use crate::fleet::{Nobody, SourceReport};
use kvroute_engine::{Index, IndexConfig};
use std::sync::mpsc;
use std::time::Instant;

fn fleet() -> Arc<Fleet> {
    let fleet = Fleet::new(Index::new(IndexConfig::default()), Nobody);
    fleet.sources().expect(Source::Dns);
    Arc::new(fleet)
}

fn name(host: &str, port: u16) -> DnsName {
    DnsName {
        model: "m".into(),
        host: host.into(),
        port,
    }
}

/// A follower, and the questions that it asks.
fn follower(fleet: &Arc<Fleet>, hosts: &[&str]) -> (Follower, Receiver<(usize, String)>) {
    let (questions, asked) = bounded(DNS_NAMES_MAX);
    let names = hosts.iter().map(|host| Name::new(name(host, 8000)));
    let follower = Follower {
        names: names.collect(),
        questions,
        fleet: Arc::clone(fleet),
    };
    (follower, asked)
}

/// Each pod with its endpoint and events; those without requests in brackets.
fn pods(fleet: &Fleet) -> Vec<String> {
    while fleet.reconcile().more {}
    let view = fleet.view();
    let pods = view.workers().map(|info| {
        let endpoint = info.pod().endpoint.as_deref().unwrap();
        let text = format!("{} {endpoint} {}", info.pod().pod, info.events());
        if info.is_serving() {
            text
        } else {
            format!("({text})")
        }
    });
    pods.collect()
}

fn report(fleet: &Fleet) -> SourceReport {
    fleet.sources().reports().remove(0)
}

fn ips(text: &str) -> Answer {
    Ok(text
        .split_whitespace()
        .map(|ip| ip.parse().unwrap())
        .collect())
}

const A1: &str = "a/10.0.0.1 10.0.0.1:8000 tcp://10.0.0.1:5557";
const A2: &str = "a/10.0.0.2 10.0.0.2:8000 tcp://10.0.0.2:5557";

#[test]
fn addresses_are_pods_whose_engines_are_asked_for_their_events() {
    let fleet = fleet();
    let (mut follower, asked) = follower(&fleet, &["a", "b"]);
    follower.ask();
    let questions: Vec<_> = asked.try_iter().collect();
    assert_eq!(questions, [(0, "a".to_owned()), (1, "b".to_owned())]);
    follower.take(0, &ips("10.0.0.1"));
    follower.take(1, &ips("fd00::7"));
    follower.describe();
    let b = "b/fd00::7 [fd00::7]:8000 tcp://[fd00::7]:5557";
    assert_eq!(pods(&fleet), [A1, b]);
    let view = fleet.view();
    let pod = view.pod("a/10.0.0.1")[0].pod();
    assert_eq!((pod.model.as_str(), &pod.events), ("m", &None));
    assert_eq!(report(&fleet).state, "following");
}

#[test]
fn an_address_that_one_answer_leaves_out_keeps_its_worker() {
    let fleet = fleet();
    let (mut follower, _asked) = follower(&fleet, &["a"]);
    let mut round = |answer: &Answer| {
        follower.ask();
        follower.take(0, answer);
        follower.describe();
        pods(&fleet)
    };
    assert_eq!(round(&ips("10.0.0.1 10.0.0.2")), [A1, A2]);
    let serial = fleet.view().pod("a/10.0.0.2")[0].serial();
    assert_eq!(round(&ips("10.0.0.1")), [A1.to_owned(), format!("({A2})")]);
    assert_eq!(round(&ips("10.0.0.1 10.0.0.2")), [A1, A2]);
    assert_eq!(fleet.view().pod("a/10.0.0.2")[0].serial(), serial);
    for _ in 0..2 {
        assert_eq!(round(&ips("10.0.0.1")).len(), 2);
    }
    assert_eq!(round(&ips("10.0.0.1")), [A1]);
}

#[test]
fn a_name_that_cannot_be_resolved_keeps_its_addresses_and_it_is_said() {
    let fleet = fleet();
    let (mut follower, _asked) = follower(&fleet, &["a", "b"]);
    follower.ask();
    follower.take(0, &ips("10.0.0.1"));
    follower.describe();
    assert_eq!(pods(&fleet), [A1], "nobody waits for the others");
    let missing = || fleet.sources().missing();
    assert_eq!(
        missing().unwrap(),
        "dns was heard in part: b: asked for its addresses"
    );
    follower.take(1, &Err("timed out".into()));
    follower.describe();
    pods(&fleet);
    assert_eq!(missing().unwrap(), "dns was heard in part: b: timed out");
    assert_eq!((report(&fleet).failures, report(&fleet).updates), (1, 1));
    // That there is nothing is an answer.
    follower.ask();
    follower.take(0, &Err("SERVFAIL".into()));
    follower.take(1, &ips(""));
    follower.describe();
    assert_eq!(pods(&fleet), [A1]);
    assert_eq!(missing().unwrap(), "dns was heard in part: a: SERVFAIL");
    follower.ask();
    follower.take(0, &ips("10.0.0.1"));
    follower.take(1, &ips(""));
    follower.describe();
    assert_eq!(pods(&fleet), [A1]);
    assert_eq!(missing(), None);
    for _ in 0..5 {
        follower.ask();
        follower.take(0, &Err("SERVFAIL".into()));
        follower.take(1, &Err("SERVFAIL".into()));
        follower.describe();
    }
    assert_eq!(pods(&fleet), [A1], "however long it lasts");
    let told = report(&fleet);
    assert_eq!(
        (told.state, told.failures, told.updates),
        ("failing", 12, 1)
    );
    assert_eq!(told.error.as_deref(), Some("a: SERVFAIL; and 1 more names"));
}

#[test]
fn a_silent_resolver_is_asked_once_and_told_of() {
    let fleet = fleet();
    let (mut follower, asked) = follower(&fleet, &["a", "b"]);
    follower.ask();
    assert_eq!(asked.try_iter().count(), 2);
    follower.take(1, &ips("10.0.0.1"));
    follower.ask();
    let questions: Vec<_> = asked.try_iter().collect();
    assert_eq!(
        questions,
        [(1, "b".to_owned())],
        "the other one is under way"
    );
    let error = report(&fleet).error.unwrap();
    assert_eq!(error, "a: the resolver has not answered yet");
    assert_eq!(pods(&fleet).len(), 1);
}

/// Waits for something that is about to be true.
fn wait(what: &str, mut is_true: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is_true() {
        assert!(Instant::now() < end, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_resolver_that_hangs_keeps_neither_other_names_nor_the_end_waiting() {
    let fleet = fleet();
    let (release, held) = mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let resolve = move |host: &str| {
        if host == "hangs" {
            let _ = held.lock().unwrap().recv();
        }
        ips("10.0.0.1")
    };
    let both = [name("hangs", 1), name("a", 8000)];
    let hour = Duration::from_secs(3_600);
    let names = Names::with(&both, hour, &fleet, Arc::new(resolve)).unwrap();
    wait("the other name is resolved", || pods(&fleet) == [A1]);
    names.reload();
    wait("it is told", || {
        report(&fleet)
            .error
            .is_some_and(|error| error.contains("hangs: "))
    });
    drop(names);
    drop(release);
}

/// The system's own resolver, as far as every machine has one.
#[test]
fn names_of_this_machine_are_resolved() {
    let fleet = fleet();
    let interval = Duration::from_secs(3_600);
    let names = Names::start(&[name("localhost", 8000)], interval, &fleet).unwrap();
    let local = "localhost/127.0.0.1 127.0.0.1:8000 tcp://127.0.0.1:5557";
    wait("it is resolved", || pods(&fleet) == [local]);
    drop(names);
    assert_eq!(resolve("127.0.0.1"), ips("127.0.0.1"));
    // Too long for a name, which the resolver knows without asking anybody.
    let long = format!("{}.invalid", "a".repeat(70));
    assert!(resolve(&long).is_ok_and(|found| found.is_empty()) || resolve(&long).is_err());
}
