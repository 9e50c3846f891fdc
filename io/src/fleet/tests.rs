//! The fleet against a subscriber that only takes note.
mod any_order;
mod sources;

use super::*;
use crate::predict::LearnConfig;
use kvroute_engine::IndexConfig;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// Keeps the workers it is given, and has room for so many.
#[derive(Debug, Default)]
struct Notes {
    kept: Mutex<Vec<(WorkerId, String)>>,
    room: AtomicUsize,
    refused: AtomicUsize,
    verified: Mutex<Vec<WorkerId>>,
    unheard: Mutex<Vec<WorkerId>>,
}

impl Subscribe for Arc<Notes> {
    fn add(&self, worker: NewWorker) -> Result<(), QueueFull> {
        let mut kept = self.kept.lock().unwrap();
        if kept.len() >= self.room.load(SeqCst) {
            self.refused.fetch_add(1, SeqCst);
            return Err(QueueFull);
        }
        let name = format!("{} {} {:?}", worker.name, worker.events, worker.replay);
        kept.push((worker.writer.id(), name));
        Ok(())
    }

    fn remove(&self, worker: WorkerId) {
        self.kept.lock().unwrap().retain(|(id, _)| *id != worker);
    }

    fn verify(&self, worker: WorkerId) {
        self.verified.lock().unwrap().push(worker);
    }

    fn unheard(&self, worker: WorkerId) {
        self.unheard.lock().unwrap().push(worker);
    }

    fn distrust(&self, _: WorkerId) {}

    fn save(&self, _: WorkerId, to: SaveTo) {
        drop(to);
    }
}

impl Notes {
    fn names(&self) -> Vec<String> {
        let kept = self.kept.lock().unwrap();
        kept.iter().map(|(_, name)| name.clone()).collect()
    }
}

fn fleet(room: usize) -> (Fleet, Arc<Notes>) {
    let notes = Arc::new(Notes::default());
    notes.room.store(room, SeqCst);
    let fleet = Fleet::new(Index::new(IndexConfig::default()), Arc::clone(&notes));
    (fleet, notes)
}

fn pod(yaml: &str) -> PodSpec {
    yaml_serde::from_str(yaml).unwrap()
}

fn labels(fleet: &Fleet) -> Vec<String> {
    fleet.view().workers().map(|info| info.label()).collect()
}

#[test]
fn a_pod_is_subscribed_rank_by_rank_and_leaves_whole() {
    let (fleet, notes) = fleet(10);
    fleet
        .add(pod(
            "{pod: b, model: m, events: 'tcp://b:100', replay: 'tcp://b:200', ranks: 2}",
        ))
        .unwrap();
    fleet
        .add(pod("{pod: a, model: n, events: 'tcp://a:100'}"))
        .unwrap();
    assert_eq!(labels(&fleet), ["a#0", "b#0", "b#1"]);
    assert_eq!(
        notes.names(),
        [
            "b#0 tcp://b:100 Some(\"tcp://b:200\")",
            "b#1 tcp://b:101 Some(\"tcp://b:201\")",
            "a#0 tcp://a:100 None",
        ]
    );
    let view = fleet.view();
    assert_eq!(view.len(), 3);
    for info in view.workers() {
        assert_eq!(view.worker(info.id()).unwrap().label(), info.label());
    }
    assert!(view.has_model("m") && view.has_model("n") && !view.has_model("b"));
    drop(view);

    assert!(fleet.remove("b", None));
    assert!(!fleet.remove("b", None), "gone already");
    assert_eq!(labels(&fleet), ["a#0"]);
    assert_eq!(notes.names().len(), 1);
    assert!(!fleet.view().has_model("m"));
    assert!(fleet.remove("a", Some(0)));
    assert!(fleet.view().is_empty());
}

#[test]
fn ranks_may_come_one_by_one_with_the_same_model() {
    let (fleet, _) = fleet(10);
    let rank = |rank: u32, model: &str| {
        pod(&format!(
            "{{pod: a, model: {model}, events: 'tcp://a:{}', first_rank: {rank}}}",
            100 + rank
        ))
    };
    fleet.add(rank(1, "m")).unwrap();
    fleet.add(rank(0, "m")).unwrap();
    assert_eq!(labels(&fleet), ["a#0", "a#1"]);
    assert!(matches!(fleet.add(rank(1, "m")), Err(AddError::Duplicate(label)) if label == "a#1"));
    assert!(
        matches!(fleet.add(rank(2, "n")), Err(AddError::OtherModel { model, .. }) if model == "m")
    );
    assert!(
        !fleet.remove_served("a", Some(1), Some("n")),
        "it serves another model"
    );
    assert!(fleet.remove_served("a", Some(1), Some("m")));
    assert_eq!(labels(&fleet), ["a#0"]);
    fleet.add(rank(1, "m")).unwrap();
    assert_eq!(labels(&fleet), ["a#0", "a#1"]);
}

#[test]
fn a_pod_that_finds_no_room_leaves_nothing_behind() {
    let (fleet, notes) = fleet(3);
    fleet
        .add(pod("{pod: a, model: m, events: 'tcp://a:1'}"))
        .unwrap();
    let error = fleet
        .add(pod("{pod: b, model: m, events: 'tcp://b:1', ranks: 3}"))
        .unwrap_err();
    assert!(
        matches!(&error, AddError::NoRoom { pod, .. } if pod == "b"),
        "{error}"
    );
    assert_eq!(labels(&fleet), ["a#0"]);
    assert_eq!(notes.names(), ["a#0 tcp://a:1 None"]);
    fleet
        .add(pod("{pod: b, model: m, events: 'tcp://b:1', ranks: 2}"))
        .unwrap();
}

#[test]
fn a_list_is_added_whole_or_not_at_all() {
    let (fleet, notes) = fleet(10);
    let good = pod("{pod: a, model: m, events: 'tcp://a:1'}");
    let (at, error) = fleet
        .add_all(vec![good.clone(), good.clone()], Duration::ZERO)
        .unwrap_err();
    assert_eq!(at, 1);
    assert!(matches!(error, AddError::Duplicate(_)), "{error}");
    assert_eq!((labels(&fleet).len(), notes.names().len()), (0, 0));
    fleet.add_all(vec![good], Duration::ZERO).unwrap();
    assert_eq!(labels(&fleet), ["a#0"]);
}

#[test]
fn a_list_waits_for_room() {
    let (fleet, notes) = fleet(0);
    std::thread::scope(|scope| {
        let added = scope.spawn(|| {
            let pods = vec![pod("{pod: a, model: m, events: 'tcp://a:1'}")];
            fleet.add_all(pods, Duration::from_secs(60))
        });
        while notes.refused.load(SeqCst) == 0 {
            std::thread::yield_now();
        }
        notes.room.store(1, SeqCst);
        added.join().unwrap().unwrap();
    });
    assert_eq!(labels(&fleet), ["a#0"]);
}

#[test]
fn declared_adapters_are_known_as_long_as_a_pod_has_them() {
    let (fleet, _) = fleet(10);
    let adapters = |adapter: &str| {
        let view = fleet.view();
        let models: Vec<_> = view
            .models_with_adapter(adapter)
            .map(str::to_owned)
            .collect();
        models
    };
    fleet
        .add(pod(
            "{pod: a, model: m, events: 'tcp://a:1', ranks: 2, lora: [fr, de]}",
        ))
        .unwrap();
    fleet
        .add(pod("{pod: b, model: n, events: 'tcp://b:1', lora: [fr]}"))
        .unwrap();
    assert_eq!(adapters("fr"), ["m", "n"]);
    assert_eq!(adapters("de"), ["m"]);
    assert!(adapters("it").is_empty());
    fleet.remove("a", Some(0));
    assert_eq!(adapters("de"), ["m"], "rank 1 still has it");
    fleet.remove("a", None);
    assert!(adapters("de").is_empty());
    assert_eq!(adapters("fr"), ["n"]);
}

#[test]
fn another_uid_is_another_incarnation() {
    let (fleet, notes) = fleet(10);
    let with = |uid: &str, model: &str, port: u16, ranks: u32| {
        pod(&format!(
            "{{pod: a, uid: {uid}, model: {model}, events: 'tcp://a:{port}', ranks: {ranks}}}"
        ))
    };
    fleet.add(with("u1", "m", 100, 2)).unwrap();
    let first: Vec<_> = fleet.view().workers().map(|info| info.id()).collect();
    let again = fleet.add(with("u1", "m", 100, 2)).unwrap_err();
    assert!(matches!(again, AddError::Duplicate(label) if label == "a#0"));
    let nameless = fleet.add(with("null", "m", 100, 2)).unwrap_err();
    assert!(matches!(nameless, AddError::Duplicate(_)), "{nameless}");

    // The same ports, fewer ranks, another model: all that counts is that it is another one.
    fleet.add(with("u2", "n", 100, 1)).unwrap();
    assert_eq!(labels(&fleet), ["a#0"]);
    assert_eq!(notes.names(), ["a#0 tcp://a:100 None"]);
    let view = fleet.view();
    assert!(view.has_model("n") && !view.has_model("m"));
    let info = view.workers().next().unwrap();
    assert_eq!(info.pod().uid.as_deref(), Some("u2"));
    assert!(first.iter().all(|&id| id != info.id()));
    drop(view);

    let list = vec![with("u3", "n", 200, 1), with("u4", "n", 300, 1)];
    let (at, error) = fleet.add_all(list, Duration::ZERO).unwrap_err();
    assert!(
        at == 1 && matches!(error, AddError::Duplicate(_)),
        "{error}"
    );
    assert_eq!(notes.names(), ["a#0 tcp://a:100 None"], "all is undone");
    assert_eq!(fleet.view().pod("a")[0].pod().uid.as_deref(), Some("u2"));
}

/// What a failed replacement removed is there as before, its endpoint not free.
#[test]
fn an_incarnation_that_finds_no_room_leaves_the_old_one() {
    let (fleet, notes) = fleet(2);
    let with = |uid: &str, ranks: u32| {
        pod(&format!(
            "{{pod: a, uid: {uid}, model: m, events: 'tcp://a:100', ranks: {ranks}}}"
        ))
    };
    fleet.add(with("u1", 1)).unwrap();
    let error = fleet.add(with("u2", 2)).unwrap_err();
    assert!(matches!(error, AddError::NoRoom { .. }), "{error}");
    assert_eq!(notes.names(), ["a#0 tcp://a:100 None"]);
    assert_eq!(fleet.view().pod("a")[0].pod().uid.as_deref(), Some("u1"));
    let other = pod("{pod: b, model: m, events: 'tcp://a:100'}");
    let error = fleet.add(other).unwrap_err();
    assert!(matches!(error, AddError::SameEvents { .. }), "{error}");
    assert!(fleet.remove("a", None));
    fleet.add(with("u2", 2)).unwrap();
}

#[test]
fn two_workers_at_one_endpoint_are_refused() {
    let (fleet, notes) = fleet(10);
    fleet
        .add(pod("{pod: a, model: m, events: 'tcp://h:100', ranks: 2}"))
        .unwrap();
    let error = fleet
        .add(pod("{pod: b, model: m, events: 'tcp://h:99', ranks: 3}"))
        .unwrap_err();
    let text = error.to_string();
    assert!(
        matches!(&error, AddError::SameEvents { worker, events, other }
            if worker == "b#1" && events == "tcp://h:100" && other == "a#0"),
        "{text}"
    );
    assert!(text.contains("b#1") && text.contains("a#0"), "{text}");
    assert_eq!(notes.names().len(), 2, "b#0 is let go again");
    // What was let go or removed is free.
    fleet
        .add(pod("{pod: c, model: m, events: 'tcp://h:99'}"))
        .unwrap();
    assert!(fleet.remove("a", Some(1)));
    fleet
        .add(pod("{pod: d, model: m, events: 'tcp://h:101'}"))
        .unwrap();
    assert_eq!(labels(&fleet), ["a#0", "c#0", "d#0"]);
}

fn rank(rank: u32, events: &str) -> RankEndpoints {
    RankEndpoints::named(rank, "a", events, None).unwrap()
}

#[test]
fn ranks_are_replaced_and_those_that_stay_keep_their_worker() {
    let (fleet, notes) = fleet(10);
    fleet
        .add(pod("{pod: a, model: m, endpoint: 'a:80'}"))
        .unwrap();
    assert_eq!(
        notes.names(),
        ["a#0 tcp://a:5557 Some(\"tcp://a:5558\")"],
        "the defaults until the engine says otherwise"
    );
    let described = Arc::clone(fleet.view().pod("a")[0].pod());
    let named = vec![rank(0, "tcp://*:7000"), rank(1, "tcp://*:9000")];
    assert!(fleet.replace_ranks(&described, named.clone()).unwrap());
    assert_eq!(
        notes.names(),
        ["a#0 tcp://a:7000 None", "a#1 tcp://a:9000 None"]
    );
    let zero = Arc::clone(&fleet.view().pod("a")[0]);
    assert!(!fleet.replace_ranks(&described, named).unwrap(), "the same");
    assert!(!fleet.replace_ranks(&described, Vec::new()).unwrap());

    // Rank 1 moves to where rank 0 was not, rank 2 comes, rank 0 stays.
    let moved = vec![
        rank(2, "tcp://*:9000"),
        rank(1, "tcp://*:9001"),
        rank(0, "tcp://*:7000"),
    ];
    assert!(fleet.replace_ranks(&described, moved).unwrap());
    assert_eq!(labels(&fleet), ["a#0", "a#1", "a#2"]);
    assert!(Arc::ptr_eq(&zero, &fleet.view().pod("a")[0]));
    assert_eq!(fleet.view().pod("a")[2].events(), "tcp://a:9000");
    assert_eq!(notes.names().len(), 3);
}

#[test]
fn ranks_that_the_fleet_cannot_have_change_nothing() {
    let (fleet, notes) = fleet(3);
    fleet
        .add(pod("{pod: a, model: m, endpoint: 'a:80'}"))
        .unwrap();
    fleet
        .add(pod("{pod: b, model: m, events: 'tcp://a:7001'}"))
        .unwrap();
    let described = Arc::clone(fleet.view().pod("a")[0].pod());
    let before = notes.names();
    for (ranks, expected) in [
        (
            vec![rank(0, "tcp://*:7000"), rank(1, "tcp://*:7001")],
            "b#0",
        ),
        (
            vec![rank(0, "tcp://*:7000"), rank(1, "tcp://*:7000")],
            "a#0",
        ),
        (
            vec![rank(0, "tcp://*:7000"), rank(0, "tcp://*:7002")],
            "a#0",
        ),
        (
            (0..3)
                .map(|n| rank(n, &format!("tcp://*:800{n}")))
                .collect(),
            "no room",
        ),
    ] {
        let error = fleet.replace_ranks(&described, ranks).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(notes.names(), before);
        assert_eq!(labels(&fleet), ["a#0", "b#0"]);
    }
    // A description that is gone says nothing about the pod that has its name now.
    assert!(fleet.remove("a", None));
    fleet
        .add(pod("{pod: a, model: m, endpoint: 'a:80'}"))
        .unwrap();
    let named = vec![rank(0, "tcp://*:7000")];
    assert!(!fleet.replace_ranks(&described, named).unwrap());
}

#[test]
fn what_the_probe_finds_reaches_the_streams() {
    let (fleet, notes) = fleet(2);
    fleet
        .add(pod("{pod: a, model: m, events: 'tcp://a:1', ranks: 2}"))
        .unwrap();
    let ids: Vec<_> = fleet.view().workers().map(|info| info.id()).collect();
    fleet.verify(ids[1]);
    fleet.unheard(ids[0]);
    assert_eq!(*notes.verified.lock().unwrap(), [ids[1]]);
    assert_eq!(*notes.unheard.lock().unwrap(), [ids[0]]);
}

#[test]
fn a_pod_without_events_has_ranks_and_nothing_else_of_them() {
    let silent = |more: &str| pod(&format!("{{pod: a, model: m, kv_events: false{more}}}")).ranks();
    let rank = |rank| RankEndpoints {
        rank,
        events: String::new(),
        replay: None,
    };
    assert_eq!(silent("").unwrap(), [rank(0)]);
    let some = silent(", endpoint: 'h:8000', ranks: 2, first_rank: 3");
    assert_eq!(some.unwrap(), [rank(3), rank(4)]);
    for contradiction in [", events: 'tcp://h:1'", ", replay: 'tcp://h:1'"] {
        assert_eq!(silent(contradiction).unwrap_err().field, "kv_events");
    }
    assert_eq!(silent(", ranks: 0").unwrap_err().field, "ranks");
}

#[test]
fn pods_without_events_are_learnt_of_and_not_subscribed_to() {
    let learning = LearnConfig {
        speculative: None,
        approximate: Duration::from_mins(1),
        max_blocks: 10,
        shadow: false,
    };
    let (fleet, notes) = fleet(10);
    let learner = Learner::start(fleet.index(), learning).unwrap();
    let fleet = fleet.learning(learner, true);
    let silent = |name: &str| pod(&format!("{{pod: {name}, model: m, kv_events: false}}"));
    fleet
        .add_all(vec![silent("a"), silent("b")], Duration::ZERO)
        .unwrap();
    fleet
        .add(pod("{pod: c, model: m, events: 'tcp://c:1'}"))
        .unwrap();
    assert_eq!(labels(&fleet), ["a#0", "b#0", "c#0"]);
    assert_eq!(notes.names().len(), 1);
    // Those that come with one that cannot be added go again, and their endpoints are nobody's.
    let bad = pod("{pod: d, model: m, kv_events: false, ranks: 0}");
    assert!(
        fleet
            .add_all(vec![silent("e"), bad], Duration::ZERO)
            .is_err()
    );
    assert_eq!(labels(&fleet), ["a#0", "b#0", "c#0"]);
    let id = fleet.view().pod("a")[0].id();
    fleet.verify(id);
    assert_eq!(fleet.view().pod("a")[0].status().restarts(), 1);
    assert!(notes.verified.lock().unwrap().is_empty());
    assert!(fleet.remove("a", None));
    fleet.add(silent("a")).unwrap();
}
