//! What a worker's history says of what happened over real sockets.
use super::rig::*;
use kvroute::status::Trust;

/// The words of it, oldest first.
fn told(worker: &Followed) -> Vec<String> {
    let (entries, lost) = worker.status.history().read();
    assert_eq!(lost, 0);
    entries.iter().map(|entry| entry.text()).collect()
}

/// These words are among all, in this order, those that repeat at their last place.
#[track_caller]
fn has(told: &[String], expected: &[&str]) {
    let mut rest = told.iter();
    for words in expected {
        assert!(rest.any(|text| text == words), "{words:?} in {told:#?}");
    }
}

#[test]
fn a_gap_that_a_replay_fills_is_told_from_its_beginning_to_its_end() {
    let (rig, engine) = (Rig::new(), engine());
    let worker = following(&rig, &engine, 4);
    has(&told(&worker), &["the event socket is connected"]);
    lose(&engine, 1, 4..7);
    publish(&engine, 1, 7..9);
    worker.wait_for(8);
    worker.wait_until(Trust::Exact);
    let told = told(&worker);
    let expected = [
        "the event socket is connected",
        "3 batches are missing before 7",
        "a replay from 3 on was asked for",
        "exact → replaying: batches are missing, and asked for",
        "the replay ended: complete",
        "replaying → exact: nothing is missing",
    ];
    has(&told, &expected);
    assert!(
        !told.iter().any(|text| text.contains("dropped")),
        "{told:#?}"
    );
}

#[test]
fn a_gap_that_nothing_fills_is_told_with_what_it_cost() {
    let (rig, engine) = (Rig::new(), engine_without_replay());
    let worker = following(&rig, &engine, 4);
    lose(&engine, 1, 4..6);
    publish(&engine, 1, 6..8);
    worker.wait_for(7);
    worker.wait_until(Trust::Partial);
    let expected = [
        "the event socket is connected",
        "2 batches are missing before 6",
        "all that it held was dropped: batches are missing for good",
        "exact → partial: the beginning of its history is missing",
    ];
    has(&told(&worker), &expected);
}
