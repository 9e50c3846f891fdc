//! What several sources describe, and what comes of it.
use super::*;
use crate::limits::{ENTERED_AT_ONCE, PODS_PER_SOURCE_MAX};
use Source::{Dns, File, Kubernetes, Registered};

fn described(yaml: &str) -> Described {
    pod(yaml).into()
}

/// Tells the fleet what a source describes, and has it done.
fn follow(fleet: &Fleet, source: Source, pods: &[&str]) {
    let pods = pods.iter().map(|yaml| described(yaml));
    fleet.follow(source, pods.collect(), Vec::new());
    settle(fleet);
}

/// Reconciles until nothing is left to be done, which is soon.
pub(super) fn settle(fleet: &Fleet) {
    for _ in 0..100 {
        let more = fleet.reconcile().more;
        if fleet.looks().try_recv().is_err() && !more {
            return;
        }
    }
    panic!("the fleet does not come to rest");
}

/// `source label events`, of all workers.
fn workers(fleet: &Fleet) -> Vec<String> {
    let view = fleet.view();
    let all = view.workers().map(|info| {
        format!(
            "{} {} {}",
            info.source().as_str(),
            info.label(),
            info.events()
        )
    });
    all.collect()
}

/// Number and serial of each worker of pod `a`.
fn lives(fleet: &Fleet) -> Vec<(WorkerId, u64)> {
    let view = fleet.view();
    let all = view.pod("a").iter().map(|info| (info.id(), info.serial()));
    all.collect()
}

fn report(fleet: &Fleet, source: Source) -> SourceReport {
    let reports = fleet.sources().reports();
    let mut of = reports.into_iter().filter(|r| r.source == source.as_str());
    of.next().unwrap()
}

/// `pod reason` of what a source describes in vain.
fn refused(fleet: &Fleet, source: Source) -> Vec<String> {
    let refused = report(fleet, source).refused_pods;
    let all = refused.iter().map(|r| format!("{} {}", r.pod, r.reason));
    all.collect()
}

#[test]
fn one_pod_is_what_the_most_believed_source_says() {
    let (fleet, notes) = fleet(10);
    follow(&fleet, Dns, &["{pod: a, model: m, events: 'tcp://h:4'}"]);
    assert_eq!(workers(&fleet), ["dns a#0 tcp://h:4"]);
    follow(&fleet, File, &["{pod: a, model: m, events: 'tcp://h:2'}"]);
    assert_eq!(workers(&fleet), ["file a#0 tcp://h:2"]);
    follow(
        &fleet,
        Kubernetes,
        &["{pod: a, model: m, events: 'tcp://h:3'}"],
    );
    assert_eq!(workers(&fleet), ["file a#0 tcp://h:2"]);
    fleet
        .add(pod("{pod: a, model: n, events: 'tcp://h:1'}"))
        .unwrap();
    settle(&fleet);
    assert_eq!(workers(&fleet), ["registered a#0 tcp://h:1"]);
    for source in [File, Kubernetes, Dns] {
        assert_eq!(refused(&fleet, source), ["a overridden"]);
    }
    assert_eq!(notes.names(), ["a#0 tcp://h:1 None"]);

    // And all the way back.
    assert!(fleet.remove("a", None));
    settle(&fleet);
    assert_eq!(workers(&fleet), ["file a#0 tcp://h:2"]);
    follow(&fleet, File, &[]);
    assert_eq!(workers(&fleet), ["kubernetes a#0 tcp://h:3"]);
    follow(&fleet, Kubernetes, &[]);
    assert_eq!(workers(&fleet), ["dns a#0 tcp://h:4"]);
    follow(&fleet, Dns, &[]);
    assert!(fleet.view().is_empty() && notes.names().is_empty());
}

#[test]
fn one_place_is_that_of_the_most_believed_pod() {
    let (fleet, notes) = fleet(10);
    let at = |name: &str| format!("{{pod: {name}, model: m, events: 'tcp://h:1'}}");
    follow(&fleet, Kubernetes, &[&at("y"), &at("z")]);
    assert_eq!(workers(&fleet), ["kubernetes y#0 tcp://h:1"]);
    assert_eq!(refused(&fleet, Kubernetes), ["z same_events"]);
    // In one source, the first by name: so every replica comes to the same, whoever was there first.
    follow(&fleet, Kubernetes, &[&at("x"), &at("y"), &at("z")]);
    assert_eq!(workers(&fleet), ["kubernetes x#0 tcp://h:1"]);
    follow(&fleet, Dns, &[&at("a")]);
    assert_eq!(workers(&fleet), ["kubernetes x#0 tcp://h:1"]);
    follow(&fleet, File, &[&at("zz")]);
    assert_eq!(workers(&fleet), ["file zz#0 tcp://h:1"]);
    fleet.add(pod(&at("zzz"))).unwrap();
    settle(&fleet);
    assert_eq!(workers(&fleet), ["registered zzz#0 tcp://h:1"]);
    // Among those who are registered, the first one stays.
    let error = fleet.add(pod(&at("a"))).unwrap_err();
    assert!(matches!(error, AddError::SameEvents { .. }), "{error}");
    assert_eq!(refused(&fleet, File), ["zz same_events"]);
    assert_eq!(notes.names(), ["zzz#0 tcp://h:1 None"]);
    assert!(fleet.remove("zzz", None));
    settle(&fleet);
    assert_eq!(workers(&fleet), ["file zz#0 tcp://h:1"]);
}

/// Who was in the way of a pod may make way for a third one.
#[test]
fn a_pod_comes_once_the_one_in_its_way_has_made_way() {
    let (fleet, notes) = fleet(20);
    let pods = |name: &str, port: u16| {
        format!("{{pod: {name}, model: m, events: 'tcp://h:{port}', ranks: 3}}")
    };
    let (b, c) = (pods("b", 3), pods("c", 5));
    follow(&fleet, Kubernetes, &[&b, &c]);
    assert_eq!(labels(&fleet), ["b#0", "b#1", "b#2"]);
    follow(&fleet, Kubernetes, &[&pods("a", 1), &b, &c]);
    assert_eq!(labels(&fleet), ["a#0", "a#1", "a#2", "c#0", "c#1", "c#2"]);
    assert_eq!(notes.names().len(), 6);
    assert_eq!(refused(&fleet, Kubernetes), ["b same_events"]);
}

#[test]
fn a_pod_that_is_described_as_before_is_not_touched() {
    let (fleet, _) = fleet(10);
    let a = "{pod: a, model: m, events: 'tcp://h:1', ranks: 2}";
    follow(&fleet, File, &[a]);
    let before = fleet.view().pod("a").to_vec();
    let view = Arc::as_ptr(&fleet.view());
    follow(&fleet, File, &[a]);
    assert_eq!(Arc::as_ptr(&fleet.view()), view, "not even the view is new");
    follow(
        &fleet,
        File,
        &["{pod: b, model: m, events: 'tcp://h:9'}", a],
    );
    let after = fleet.view().pod("a").to_vec();
    assert_eq!(after.len(), 2);
    assert!(before.iter().zip(&after).all(|(b, a)| Arc::ptr_eq(b, a)));
    assert_eq!(
        report(&fleet, File).updates,
        2,
        "what is the same is no news"
    );
}

#[test]
fn a_worker_stays_as_long_as_its_engine_and_place_are_the_same() {
    const STAYS: [&str; 7] = [
        "{pod: a, model: m, endpoint: 'h:80', events: 'tcp://h:1'}",
        "{pod: a, model: m, endpoint: 'h:81', events: 'tcp://h:1'}",
        "{pod: a, model: m, endpoint: 'h:81', events: 'tcp://h:1', lora: [fr]}",
        "{pod: a, model: m, endpoint: 'h:81', events: 'tcp://h:1', block_size: 32}",
        "{pod: a, uid: u1, model: m, endpoint: 'h:81', events: 'tcp://h:1'}",
        // What is said of the uid is less, not something else.
        "{pod: a, model: m, endpoint: 'h:81', events: 'tcp://h:1'}",
        "{pod: a, uid: u1, model: m, events: 'tcp://h:1'}",
    ];
    let (fleet, notes) = fleet(10);
    follow(&fleet, File, &STAYS[..1]);
    let first = lives(&fleet);
    for (n, description) in STAYS.iter().enumerate() {
        let source = if n % 2 == 0 { File } else { Kubernetes };
        // Described by one before it is described by the other no more.
        follow(&fleet, source, &[description]);
        follow(&fleet, if n % 2 == 0 { Kubernetes } else { File }, &[]);
        assert_eq!(lives(&fleet), first, "{description}");
        let view = fleet.view();
        let info = &view.pod("a")[0];
        assert_eq!((info.source(), &**info.pod()), (source, &pod(description)));
        assert_eq!(info.block_size(), pod(description).block_size);
    }
    let mut latest = first;
    for description in [
        "{pod: a, uid: u2, model: m, events: 'tcp://h:1'}",
        "{pod: a, uid: u2, model: n, events: 'tcp://h:1'}",
        "{pod: a, uid: u2, model: n, events: 'tcp://g:1'}",
        "{pod: a, uid: u2, model: n, events: 'tcp://g:1', replay: 'tcp://g:2'}",
    ] {
        follow(&fleet, File, &[description]);
        let now = lives(&fleet);
        assert_eq!(now.len(), 1);
        assert_ne!(now[0].1, latest[0].1, "{description}");
        assert_eq!(notes.names().len(), 1, "the old one is let go");
        latest = now;
    }
}

#[test]
fn a_rank_more_or_less_leaves_the_others() {
    let (fleet, notes) = fleet(10);
    let ranks = |n: u32| format!("{{pod: a, model: m, events: 'tcp://h:1', ranks: {n}}}");
    follow(&fleet, Kubernetes, &[&ranks(2)]);
    let two = lives(&fleet);
    follow(&fleet, Kubernetes, &[&ranks(3)]);
    let three = lives(&fleet);
    assert_eq!(three[..2], two);
    follow(&fleet, Kubernetes, &[&ranks(1)]);
    assert_eq!(lives(&fleet), two[..1]);
    assert_eq!(notes.names(), ["a#0 tcp://h:1 None"]);
}

/// What the engine has said of its ranks is newer than the defaults, as long as it is the same engine.
#[test]
fn ranks_that_the_engine_named_outlast_other_words_of_its_description() {
    let (fleet, _) = fleet(10);
    follow(
        &fleet,
        Kubernetes,
        &["{pod: a, model: m, endpoint: 'a:80'}"],
    );
    let first = Arc::clone(fleet.view().pod("a")[0].pod());
    let named = vec![rank(0, "tcp://*:7000"), rank(1, "tcp://*:9000")];
    assert!(fleet.replace_ranks(&first, named).unwrap());
    settle(&fleet);
    let named = lives(&fleet);
    follow(
        &fleet,
        Kubernetes,
        &["{pod: a, model: m, endpoint: 'a:80', lora: [fr]}"],
    );
    assert_eq!(lives(&fleet), named);
    // Another address is another engine.
    follow(
        &fleet,
        Kubernetes,
        &["{pod: a, model: m, endpoint: 'b:80', lora: [fr]}"],
    );
    assert_eq!(workers(&fleet), ["kubernetes a#0 tcp://b:5557"]);
}

#[test]
fn a_pod_taken_out_by_hand_stays_out_until_it_is_described_in_another_way() {
    let (fleet, notes) = fleet(10);
    let a = "{pod: a, model: m, events: 'tcp://h:1'}";
    follow(&fleet, File, &[a]);
    assert!(fleet.remove("a", None));
    settle(&fleet);
    follow(&fleet, File, &[a]);
    // Nobody who is believed less brings it back, either.
    follow(&fleet, Kubernetes, &[a]);
    assert!(fleet.view().is_empty() && notes.names().is_empty());
    assert_eq!(refused(&fleet, File), ["a removed"]);
    assert_eq!(refused(&fleet, Kubernetes), ["a overridden"]);
    assert!(!fleet.remove("a", None), "it is out already");
    follow(&fleet, File, &["{pod: a, model: m, events: 'tcp://h:2'}"]);
    assert_eq!(workers(&fleet), ["file a#0 tcp://h:2"]);
    assert!(fleet.remove("a", None));
    // By hand it can be had at any time.
    fleet.add(pod(a)).unwrap();
    settle(&fleet);
    assert_eq!(workers(&fleet), ["registered a#0 tcp://h:1"]);
}

#[test]
fn one_rank_taken_out_leaves_the_pod_as_it_is_described() {
    let (fleet, _) = fleet(10);
    let a = "{pod: a, model: m, events: 'tcp://h:1', ranks: 2}";
    follow(&fleet, File, &[a]);
    assert!(fleet.remove("a", Some(0)));
    settle(&fleet);
    assert_eq!(labels(&fleet), ["a#1"]);
    assert!(fleet.remove("a", Some(1)));
    settle(&fleet);
    assert_eq!(
        (labels(&fleet), refused(&fleet, File)),
        (vec![], vec!["a removed".to_owned()])
    );
}

#[test]
fn registering_over_a_described_pod_keeps_its_worker_and_unregistering_brings_the_description_back()
{
    let (fleet, _) = fleet(10);
    let a = "{pod: a, model: m, events: 'tcp://h:1', ranks: 2}";
    follow(&fleet, File, &[a]);
    let two = lives(&fleet);
    // Rank by rank, as `/register` does: the others of the description are no longer meant.
    let rank = |n: u32| {
        let port = 1 + n;
        pod(&format!(
            "{{pod: a, model: m, events: 'tcp://h:{port}', first_rank: {n}}}"
        ))
    };
    fleet.add(rank(1)).unwrap();
    assert_eq!(lives(&fleet), two[1..]);
    fleet.add(rank(0)).unwrap();
    settle(&fleet);
    let sources: Vec<_> = fleet.view().workers().map(|info| info.source()).collect();
    assert_eq!(sources, [Registered, Registered]);
    assert!(matches!(fleet.add(rank(0)), Err(AddError::Duplicate(_))));
    assert!(fleet.remove("a", Some(0)));
    settle(&fleet);
    assert_eq!(
        labels(&fleet),
        ["a#1"],
        "the other rank is registered still"
    );
    assert!(fleet.remove("a", Some(1)));
    settle(&fleet);
    assert_eq!(
        workers(&fleet),
        ["file a#0 tcp://h:1", "file a#1 tcp://h:2"]
    );
}

#[test]
fn a_pod_with_one_rank_in_anothers_place_is_refused_whole_and_wakes_nobody() {
    let (fleet, notes) = fleet(10);
    follow(&fleet, File, &["{pod: z, model: m, events: 'tcp://h:3'}"]);
    let a = "{pod: a, model: m, events: 'tcp://h:1', ranks: 3}";
    follow(
        &fleet,
        Kubernetes,
        &["{pod: a, model: m, events: 'tcp://h:1', ranks: 2}"],
    );
    assert_eq!(labels(&fleet), ["a#0", "a#1", "z#0"]);
    fleet.follow(Kubernetes, vec![described(a)], Vec::new());
    assert!(fleet.looks().try_recv().is_ok());
    for _ in 0..3 {
        let done = fleet.reconcile();
        assert_eq!((done.entered, done.more, done.no_room), (0, false, false));
        assert!(fleet.looks().is_empty(), "nothing to be looked at again");
        assert_eq!(
            labels(&fleet),
            ["z#0"],
            "not as it was described before, either"
        );
        assert_eq!(notes.names(), ["z#0 tcp://h:3 None"]);
        assert_eq!(refused(&fleet, Kubernetes), ["a same_events"]);
    }
    let message = &report(&fleet, Kubernetes).refused_pods[0].message;
    assert!(
        message.contains("a#2") && message.contains("z#0"),
        "{message}"
    );
    follow(&fleet, File, &[]);
    assert_eq!(labels(&fleet), ["a#0", "a#1", "a#2"]);
}

#[test]
fn pods_are_entered_in_portions_and_the_fleet_is_complete_after_the_last() {
    let (fleet, _) = fleet(1_000);
    fleet.sources().expect(File);
    assert_eq!(fleet.sources().missing().unwrap(), "file was not heard yet");
    fleet.reconcile();
    assert_eq!(
        report(&fleet, File).state,
        "starting",
        "there is nothing to be entered yet"
    );
    let pods = (0..2 * ENTERED_AT_ONCE + 20)
        .map(|n| described(&format!("{{pod: p{n}, model: m, events: 'tcp://h{n}:1'}}")));
    fleet.follow(File, pods.collect(), Vec::new());
    for (entered, more) in [
        (ENTERED_AT_ONCE, true),
        (ENTERED_AT_ONCE, true),
        (20, false),
    ] {
        let missing = fleet.sources().missing().unwrap();
        assert_eq!(missing, "not all pods of file are entered yet");
        let done = fleet.reconcile();
        assert_eq!((done.entered, done.more), (entered, more));
    }
    assert_eq!(fleet.sources().missing(), None);
    assert_eq!(report(&fleet, File).state, "following");
    assert_eq!(fleet.view().len(), 2 * ENTERED_AT_ONCE + 20);
    // All that go, go at once.
    fleet.follow(File, Vec::new(), Vec::new());
    assert!(!fleet.reconcile().more);
    assert!(fleet.view().is_empty());
}

#[test]
fn a_pod_without_room_is_tried_again_and_nobody_makes_way_for_it() {
    let (fleet, notes) = fleet(2);
    follow(
        &fleet,
        Kubernetes,
        &["{pod: b, model: m, events: 'tcp://h:1'}"],
    );
    let b = fleet.view().pod("b")[0].serial();
    let a = described("{pod: a, model: m, events: 'tcp://h:1', ranks: 2}");
    fleet.follow(File, vec![a], Vec::new());
    assert!(fleet.reconcile().no_room);
    assert!(fleet.reconcile().no_room);
    assert_eq!(fleet.view().pod("b")[0].serial(), b);
    assert_eq!((labels(&fleet).len(), notes.names().len()), (1, 1));
    assert_eq!(refused(&fleet, File), ["a no_room"]);
    notes.room.store(3, SeqCst);
    assert!(!fleet.reconcile().no_room);
    settle(&fleet);
    assert_eq!(
        workers(&fleet),
        ["file a#0 tcp://h:1", "file a#1 tcp://h:2"]
    );
    assert_eq!(refused(&fleet, Kubernetes), ["b same_events"]);
}

#[test]
fn whether_a_pod_serves_is_said_without_touching_its_worker() {
    let (fleet, _) = fleet(10);
    let tell = |yaml: &str, serving: bool| {
        let spec = pod(yaml);
        fleet.follow(Kubernetes, vec![Described { spec, serving }], Vec::new());
        settle(&fleet);
    };
    let serving = || {
        let view = fleet.view();
        let all = view.workers().map(|info| info.is_serving());
        all.collect::<Vec<_>>()
    };
    let a = "{pod: a, model: m, endpoint: 'a:80'}";
    tell(a, false);
    let first = lives(&fleet);
    assert_eq!(serving(), [false]);
    tell(a, true);
    assert_eq!((serving(), lives(&fleet)), (vec![true], first.clone()));
    tell(a, false);
    // In other words, and by other ranks, it serves no more than before.
    tell("{pod: a, model: m, endpoint: 'a:80', lora: [fr]}", false);
    assert_eq!((serving(), lives(&fleet)), (vec![false], first));
    let known = Arc::clone(fleet.view().pod("a")[0].pod());
    let named = vec![rank(0, "tcp://*:7000"), rank(1, "tcp://*:7001")];
    assert!(fleet.replace_ranks(&known, named).unwrap());
    assert_eq!(serving(), [false, false]);
    // Whoever registers it says that it serves.
    let registered = "{pod: a, model: m, endpoint: 'a:80', events: 'tcp://a:7000'}";
    fleet.add(pod(registered)).unwrap();
    assert_eq!(serving(), [true]);
}

#[test]
fn what_is_wrong_with_a_source_is_told_and_counted() {
    let (fleet, _) = fleet(10);
    let sources = fleet.sources();
    assert!(sources.reports().is_empty() && sources.missing().is_none());
    sources.expect(Dns);
    sources.failed(Dns, &"silence");
    assert_eq!(sources.missing().unwrap(), "dns was not heard yet: silence");
    let a = "{pod: a, model: m, events: 'tcp://h:1'}";
    fleet.follow_in_part(Dns, vec![described(a)], "b: silence");
    settle(&fleet);
    assert_eq!(labels(&fleet), ["a#0"], "what is known is entered");
    assert_eq!(
        sources.missing().unwrap(),
        "dns was heard in part: b: silence"
    );
    assert_eq!(report(&fleet, Dns).state, "starting");
    follow(&fleet, Dns, &[a]);
    assert_eq!(sources.missing(), None);
    sources.failed(Dns, &"silence again");
    let failing = report(&fleet, Dns);
    assert_eq!(
        (failing.state, failing.failures, failing.pods),
        ("failing", 2, 1)
    );
    assert_eq!(failing.error.as_deref(), Some("silence again"));
    assert_eq!(sources.missing(), None, "what it said last holds");
    sources.recovered(Dns);
    let again = report(&fleet, Dns);
    assert_eq!(
        (again.state, again.error, again.updates),
        ("following", None, 1)
    );
    assert!(again.heard_ms.is_some());
}

/// One name that cannot be resolved must not keep a node from serving the pods of all others.
#[test]
fn a_source_that_stays_silent_is_not_waited_for_for_ever() {
    let (fleet, _) = fleet(10);
    let patience = Duration::from_secs(100);
    fleet.start().set_terms(Terms {
        share: 0.0,
        patience,
    });
    let begin = Instant::now();
    let at = |seconds: u64| fleet.readiness_at(begin + Duration::from_secs(seconds));
    let waits = |readiness: &Readiness, what: &str| matches!(readiness, Readiness::Waiting(why) if why == what);
    fleet.sources().expect(Dns);
    assert!(waits(&at(0), "dns was not heard yet"));
    assert!(
        waits(&at(1_000), "dns was not heard yet"),
        "there is nobody to send a request to"
    );
    let a = described("{pod: a, model: m, events: 'tcp://h:1'}");
    fleet.follow_in_part(Dns, vec![a], "b: silence");
    settle(&fleet);
    for seconds in [1_001, 1_100] {
        let found = at(seconds);
        assert!(
            waits(&found, "dns was heard in part: b: silence"),
            "{found:?}"
        );
    }
    assert!(at(1_101).is_ready());
    assert_eq!(
        report(&fleet, Dns).state,
        "starting",
        "what is missing is told"
    );
}

/// A source and a worker that both stay silent are waited for together, not one after the other.
#[test]
fn patience_is_had_once() {
    let (fleet, _) = fleet(10);
    fleet.start().set_terms(Terms {
        share: 1.0,
        patience: Duration::from_secs(100),
    });
    let begin = Instant::now();
    let at = |seconds: u64| fleet.readiness_at(begin + Duration::from_secs(seconds));
    fleet.sources().expect(Dns);
    fleet
        .add(pod("{pod: a, model: m, events: 'tcp://h:1'}"))
        .unwrap();
    assert!(!at(0).is_ready());
    assert!(!at(99).is_ready());
    assert_eq!(at(100), Readiness::Ready { late: true });
}

#[test]
fn what_cannot_be_a_pod_is_named_beside_what_is_refused() {
    let (fleet, _) = fleet(10);
    let bad = "{pod: c, model: m, events: 'tcp://h:0'}";
    let silent = "{pod: d, model: m, kv_events: false}";
    let a = "{pod: a, model: m, events: 'tcp://h:1'}";
    let pods = [bad, a, a, silent].map(described).to_vec();
    let malformed = vec![Refused::invalid("b", "port: \"x\" is not a number")];
    fleet.follow(Kubernetes, pods, malformed);
    settle(&fleet);
    assert_eq!(labels(&fleet), ["a#0"]);
    let told = report(&fleet, Kubernetes);
    assert_eq!((told.pods, told.refused), (5, 4));
    let by: Vec<_> = told.refused_by.iter().map(|(why, n)| (*why, *n)).collect();
    assert_eq!(by, [("described_twice", 1), ("invalid", 3)]);
    let names: Vec<_> = told.refused_pods.iter().map(|r| r.pod.as_str()).collect();
    assert_eq!(names, ["a", "b", "c", "d"]);
    assert!(told.refused_pods[2].message.contains("events"), "{told:?}");
}

#[test]
fn a_source_describes_so_many_pods_and_no_more() {
    let (fleet, _) = fleet(10);
    let pods = (0..=PODS_PER_SOURCE_MAX)
        .map(|n| described(&format!("{{pod: p{n}, model: m, events: 'tcp://h:1'}}")));
    fleet.follow(Dns, pods.collect(), Vec::new());
    let told = report(&fleet, Dns);
    assert_eq!(told.pods, PODS_PER_SOURCE_MAX + 1);
    settle(&fleet);
    let told = report(&fleet, Dns);
    assert_eq!(told.refused, PODS_PER_SOURCE_MAX);
    assert_eq!(told.refused_by["no_room"], 1);
    assert_eq!(labels(&fleet), ["p0#0"]);
}
