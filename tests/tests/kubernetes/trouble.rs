//! Watches that end, break, hang, lie, or come too late. Through all of it nothing is lost, and what was known holds.
use crate::world::{Engine, MODEL, NAMESPACE, World};
use kvroute_tests::apiserver::{Fault, StreamFault, Verb};
use std::time::Duration;

/// What was before the trouble.
struct Before {
    /// How often pods were listed.
    lists: u64,
    /// The first pod's entry in the fleet.
    entry: u64,
}

/// A node with one pod, whose watch is open.
fn watching() -> (World, Engine, Before) {
    let world = World::start();
    let (engine, _) = world.usual("a", 0);
    world.api.wait_for_watches(1);
    let before = Before {
        lists: world.api.count(Verb::List),
        entry: world.entry("serving/a"),
    };
    (world, engine, before)
}

/// Whatever happened, the first pod was never let go: its events go on where they were.
fn assert_undisturbed(world: &World, engine: &Engine, before: &Before) {
    engine.store(1, 90);
    world.wait_for_holders(MODEL, 90, &["serving/a"]);
    world.wait_for_holders(MODEL, 0, &["serving/a"]);
    assert_eq!(world.entry("serving/a"), before.entry, "it was let go");
    let worker = &world.workers()["serving/a"];
    let counts = (&worker["gaps"], &worker["restarts"]);
    assert_eq!(counts, (&0.into(), &0.into()), "{worker}");
}

#[test]
fn a_watch_that_ends_goes_on_where_it_was() {
    let (world, engine, before) = watching();
    for number in 1..4 {
        let watches = world.api.count(Verb::Watch);
        world.api.disturb(StreamFault::Close);
        let (_engine, pod) = world.usual("b", number);
        pod.gone();
        world.wait_for_pods(&["serving/a"]);
        assert!(world.api.count(Verb::Watch) > watches);
    }
    assert_eq!(
        world.api.count(Verb::List),
        before.lists,
        "nothing was missed"
    );
    assert_undisturbed(&world, &engine, &before);
    world.assert_only_pods_were_asked_for();
    for request in world.api.requests() {
        if request.verb == Verb::Watch {
            assert_eq!(request.query.get("allowWatchBookmarks"), Some("true"));
            assert!(request.query.get("timeoutSeconds").is_some());
        }
    }
}

#[test]
fn a_bookmark_saves_a_list() {
    let (world, engine, before) = watching();
    // The cluster goes on without pods, and forgets: only whoever heard of it can resume.
    world.api.advance(1_000);
    world.api.compact();
    world.api.disturb(StreamFault::Bookmark);
    world.api.disturb(StreamFault::Close);
    let (_b, _) = world.usual("b", 1);
    let requests = world.api.requests();
    let last = requests.iter().rfind(|r| r.verb == Verb::Watch);
    let from = last.and_then(|r| r.query.get("resourceVersion")?.parse::<u64>().ok());
    // The pod's three steps came after.
    assert!(
        from.is_some_and(|from| from + 1 + 4 * 3 > world.api.version()),
        "{from:?}"
    );
    assert_eq!(
        world.api.count(Verb::List),
        before.lists,
        "nothing was missed"
    );
    assert_undisturbed(&world, &engine, &before);
}

#[test]
fn a_version_that_is_gone_when_a_watch_starts_is_listed_anew() {
    for http in [true, false] {
        let (world, engine, before) = watching();
        let (_b, pod) = world.usual("b", 1);
        world.api.stop();
        pod.gone();
        let late = Engine::holding(2);
        world.add(&late, late.template(NAMESPACE, "c", MODEL));
        world.api.compact();
        if http {
            world.api.fail_next(Verb::Watch, 1, Fault::Gone);
        }
        world.api.resume();
        world.wait_for_holders(MODEL, 2, &["serving/c"]);
        world.wait_for_pods(&["serving/a", "serving/c"]);
        assert!(world.api.count(Verb::List) > before.lists);
        assert_undisturbed(&world, &engine, &before);
        world.wait_for_state("following");
    }
}

#[test]
fn a_version_that_is_gone_in_the_stream_is_listed_anew() {
    let (world, engine, before) = watching();
    world.api.disturb(StreamFault::Expire);
    world.api.wait_for_requests(Verb::List, before.lists + 1);
    let (_b, _) = world.usual("b", 1);
    world.wait_for_pods(&["serving/a", "serving/b"]);
    assert_undisturbed(&world, &engine, &before);
    world.wait_for_state("following");
}

#[test]
fn a_watch_that_breaks_in_the_middle_of_a_line_loses_nothing() {
    let (world, engine, before) = watching();
    world.api.disturb(StreamFault::Break);
    let (_b, pod) = world.usual("b", 1);
    // The very change is cut in two.
    world.api.wait_for_watches(1);
    world.api.disturb(StreamFault::BreakAtNext(400));
    pod.gone();
    world.wait_for_pods(&["serving/a"]);
    world.api.wait_for_watches(1);
    world.api.break_connections();
    let (_c, _) = world.usual("c", 2);
    world.wait_for_pods(&["serving/a", "serving/c"]);
    assert_undisturbed(&world, &engine, &before);
}

#[test]
fn garbage_in_a_watch_is_survived() {
    let (world, engine, before) = watching();
    world.api.disturb(StreamFault::Garbage);
    let (_b, pod) = world.usual("b", 1);
    world.api.fail_next(Verb::Watch, 1, Fault::Garbage);
    world.api.disturb(StreamFault::Close);
    pod.gone();
    world.wait_for_pods(&["serving/a"]);
    assert_undisturbed(&world, &engine, &before);
    world.wait_for_state("following");
}

#[test]
fn slow_bytes_are_put_together() {
    let (world, engine, before) = watching();
    world.api.cut_lines(&[1], Duration::ZERO);
    let (_b, _) = world.usual("b", 1);
    world.api.cut_lines(&[7, 1, 64], Duration::from_millis(1));
    let (_c, pod) = world.usual("c", 2);
    pod.gone();
    world.wait_for_pods(&["serving/a", "serving/b"]);
    assert_eq!(world.api.count(Verb::List), before.lists);
    assert_undisturbed(&world, &engine, &before);
}

#[test]
fn a_server_that_is_gone_is_told_and_waited_for() {
    let (world, engine, before) = watching();
    world.api.stop();
    let report = world.wait_for_state("failing");
    assert!(report.error.is_some_and(|error| !error.is_empty()));
    // What was found last holds.
    world.wait_for_pods(&["serving/a"]);
    world.wait_for_route(MODEL, 0, "serving/a");
    let late = Engine::holding(1);
    world.add(&late, late.template(NAMESPACE, "b", MODEL));
    world.api.resume();
    world.wait_for_holders(MODEL, 1, &["serving/b"]);
    let report = world.wait_for_state("following");
    assert_eq!(report.error, None);
    assert!(report.failures > 0);
    assert_undisturbed(&world, &engine, &before);
}

#[test]
fn a_restarted_server_is_found_again() {
    let (world, engine, before) = watching();
    world.api.restart();
    let (_b, _) = world.usual("b", 1);
    world.wait_for_pods(&["serving/a", "serving/b"]);
    assert_undisturbed(&world, &engine, &before);
}

#[test]
fn a_server_that_has_too_much_to_do_is_asked_again() {
    let (world, engine, before) = watching();
    world
        .api
        .fail_next(Verb::Watch, 1, Fault::Refuse(429, Some(1)));
    world.api.disturb(StreamFault::Close);
    let (_b, _) = world.usual("b", 1);
    world
        .api
        .fail_next(Verb::Watch, 1, Fault::Refuse(503, None));
    world.api.fail_next(Verb::List, 1, Fault::Refuse(500, None));
    world.api.disturb(StreamFault::Expire);
    let (_c, _) = world.usual("c", 2);
    world.wait_for_pods(&["serving/a", "serving/b", "serving/c"]);
    assert_undisturbed(&world, &engine, &before);
    world.wait_for_state("following");
}

#[test]
fn lists_that_break_or_are_garbage_lose_no_pod() {
    let (world, engine, before) = watching();
    for fault in [Fault::Cut(200), Fault::Garbage, Fault::Reset] {
        let lists = world.api.count(Verb::List);
        world.api.fail_next(Verb::List, 1, fault);
        world.api.disturb(StreamFault::Expire);
        world.api.wait_for_requests(Verb::List, lists + 2);
        world.api.wait_for_watches(1);
        world.wait_for_pods(&["serving/a"]);
    }
    let (_b, _) = world.usual("b", 1);
    assert_undisturbed(&world, &engine, &before);
}

/// The slowest of these tests: the node's own patience has to end.
#[test]
fn a_server_that_takes_connections_and_says_nothing_is_told() {
    let (world, engine, before) = watching();
    world.api.set_silent_connections(true);
    world.api.break_connections();
    let said = world.wait_for_state("failing");
    assert!(said.error.is_some_and(|error| !error.is_empty()));
    world.wait_for_pods(&["serving/a"]);
    world.api.set_silent_connections(false);
    world.api.break_connections();
    let (_b, _) = world.usual("b", 1);
    world.wait_for_state("following");
    assert_undisturbed(&world, &engine, &before);
}
