//! The file, look by look, against a fleet that subscribes to nobody.
use super::*;
use crate::fleet::{Nobody, SourceReport};
use kvroute_engine::{Index, IndexConfig};
use std::fs;
use tempfile::TempDir;

struct Rig {
    folder: TempDir,
    watch: Watch,
    fleet: Arc<Fleet>,
}

const A: &str = "  - pod: a\n    model: m\n    events: tcp://h:1\n";
const B: &str = "  - pod: b\n    model: m\n    events: tcp://h:2\n";

/// A fleet file of these entries.
fn file(entries: &[&str]) -> String {
    format!("pods:\n{}", entries.concat())
}

impl Rig {
    /// After a first file with one pod was read.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let fleet = Arc::new(Fleet::new(Index::new(IndexConfig::default()), Nobody));
        fs::write(folder.path().join("fleet.yaml"), file(&[A])).unwrap();
        let watch = Watch::new(&folder.path().join("fleet.yaml"), &fleet);
        let mut rig = Self {
            folder,
            watch,
            fleet,
        };
        rig.watch.look();
        assert_eq!(rig.pods(), ["a"]);
        rig
    }

    fn write(&self, text: &str) {
        fs::write(&self.watch.path, text).unwrap();
    }

    fn pods(&self) -> Vec<String> {
        while self.fleet.reconcile().more {}
        let view = self.fleet.view();
        view.workers().map(|info| info.pod().pod.clone()).collect()
    }

    fn report(&self) -> SourceReport {
        self.fleet.sources().reports().remove(0)
    }
}

#[test]
fn another_file_is_read_once_it_is_the_same_for_two_looks() {
    let mut rig = Rig::new();
    let a = rig.fleet.view().pod("a")[0].serial();
    rig.write(&file(&[A, B]));
    rig.watch.look();
    assert_eq!(rig.pods(), ["a"], "it may still be written");
    rig.watch.look();
    assert_eq!(rig.pods(), ["a", "b"]);
    assert_eq!(
        rig.fleet.view().pod("a")[0].serial(),
        a,
        "what is the same stays"
    );
    // As editors and Kubernetes do it.
    let new = rig.folder.path().join("new");
    fs::write(&new, file(&[B])).unwrap();
    fs::rename(&new, &rig.watch.path).unwrap();
    rig.watch.look();
    rig.watch.look();
    assert_eq!(rig.pods(), ["b"]);
    assert_eq!((rig.report().updates, rig.report().failures), (3, 0));
    // Other words for the same.
    rig.write(&format!("# a comment\n{}", file(&[B])));
    rig.watch.look();
    rig.watch.look();
    assert_eq!((rig.report().updates, rig.report().failures), (3, 0));
}

#[test]
fn whoever_asks_need_not_wait_for_two_looks() {
    let mut rig = Rig::new();
    rig.write(&file(&[B]));
    rig.watch.read(true);
    assert_eq!(rig.pods(), ["b"]);
}

#[test]
fn a_bad_edit_keeps_the_last_good_file_and_names_what_is_wrong() {
    let mut rig = Rig::new();
    let path = rig.watch.path.display().to_string();
    let edits = [
        ("pods: [".to_owned(), "line"),
        (String::new(), "pods"),
        (file(&[A, B, "    evnts: x\n"]), "evnts"),
        (file(&[A, "  - pod: b\n"]), "model"),
        (
            file(&[A, "  - pod: b\n    model: m\n    events: h:1\n"]),
            "pods[1]: events: \"h:1\"",
        ),
        (
            file(&[A, "  - pod: b\n    model: m\n    events: tcp://h:1\n"]),
            "pods[1]: b#0: tcp://h:1",
        ),
        (file(&[A, B, A]), "pods[2]: pod: \"a\" is described twice"),
        (file(&[A, B, "    ranks: 0\n"]), "pods[1]: ranks: 0"),
    ];
    for (n, (text, named)) in edits.iter().enumerate() {
        rig.write(text);
        for _ in 0..4 {
            rig.watch.look();
        }
        assert_eq!(rig.pods(), ["a"], "{text}");
        let told = rig.report();
        let error = told.error.unwrap();
        assert!(
            error.starts_with(&path) && error.contains(named),
            "{named}: {error}"
        );
        assert_eq!(
            (told.state, told.failures),
            ("failing", n as u64 + 1),
            "once for each"
        );
    }
    // Whoever asks is told again.
    rig.watch.read(true);
    assert_eq!(rig.report().failures, 9);
    rig.write(&file(&[A, B]));
    rig.watch.look();
    rig.watch.look();
    assert_eq!(rig.pods(), ["a", "b"]);
    let told = rig.report();
    assert_eq!(
        (told.state, told.error, told.updates),
        ("following", None, 2)
    );
}

#[test]
fn a_file_that_vanishes_for_a_moment_is_not_missed() {
    let mut rig = Rig::new();
    let aside = rig.folder.path().join("aside");
    fs::rename(&rig.watch.path, &aside).unwrap();
    rig.watch.look();
    fs::rename(&aside, &rig.watch.path).unwrap();
    rig.watch.look();
    rig.watch.look();
    assert_eq!(
        (rig.pods(), rig.report().failures),
        (vec!["a".to_owned()], 0)
    );
    // For longer it is told, once.
    fs::rename(&rig.watch.path, &aside).unwrap();
    for _ in 0..4 {
        rig.watch.look();
    }
    let told = rig.report();
    assert_eq!((told.state, told.failures), ("failing", 1));
    assert!(
        told.error
            .unwrap()
            .starts_with(&rig.watch.path.display().to_string())
    );
    assert_eq!(rig.pods(), ["a"]);
    fs::rename(&aside, &rig.watch.path).unwrap();
    rig.watch.look();
    rig.watch.look();
    let told = rig.report();
    assert_eq!(
        (told.state, told.failures, told.updates),
        ("following", 1, 1)
    );
}

#[test]
fn an_emptied_list_is_an_empty_fleet() {
    let mut rig = Rig::new();
    rig.write("pods: []\n");
    rig.watch.look();
    rig.watch.look();
    assert!(rig.pods().is_empty());
}
