//! The fleet against a subscriber that only takes note.
use super::*;
use kvroute_engine::IndexConfig;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// Keeps the workers it is given, and has room for so many.
#[derive(Debug, Default)]
struct Notes {
    kept: Mutex<Vec<(WorkerId, String)>>,
    room: AtomicUsize,
    refused: AtomicUsize,
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
