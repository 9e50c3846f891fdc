//! What happens to pods, and what the node makes of it.
use crate::world::{Engine, MODEL, NAMESPACE, World, until};
use serde_json::json;

const EVENTS: &str = "model.aibrix.ai/kv-events-enabled";

#[test]
fn a_pod_that_becomes_unready_is_kept_and_not_chosen() {
    let world = World::start();
    let (engine, pod) = world.usual("a", 0);
    let (_b, _) = world.usual("b", 1);
    let before = world.entry("serving/a");
    world.wait_for_route(MODEL, 0, "serving/a");
    pod.unready();
    world.wait_for_route(MODEL, 0, "serving/b");
    // What it holds is still known, and what it stores meanwhile is followed.
    world.wait_for_pods(&["serving/a", "serving/b"]);
    world.wait_for_holders(MODEL, 0, &["serving/a"]);
    engine.store(1, 7);
    world.wait_for_holders(MODEL, 7, &["serving/a"]);
    pod.ready();
    world.wait_for_route(MODEL, 0, "serving/a");
    world.wait_for_route(MODEL, 7, "serving/a");
    assert_eq!(world.entry("serving/a"), before, "it was let go");
}

#[test]
fn a_pod_with_another_address_is_followed_there() {
    let world = World::start();
    let first = Engine::start_at("127.0.0.1", 0, 0);
    first.store(0, 0);
    let (events, replay) = (first.events_port(), first.replay_port());
    let pod = world.add(&first, first.template(NAMESPACE, "a", MODEL));
    world.wait_for_holders(MODEL, 0, &["serving/a"]);
    // The same ports at another address: another engine, which holds something else.
    let second = Engine::start_at("127.0.0.2", events, replay);
    second.store(0, 1);
    pod.change_ip("127.0.0.2");
    world.wait_for_holders(MODEL, 1, &["serving/a"]);
    world.wait_for_holders(MODEL, 0, &[]);
    world.wait_for_field("serving/a", "endpoint", &json!("127.0.0.2:8123"));
    world.wait_for_pods(&["serving/a"]);
}

#[test]
fn a_pod_of_another_model_is_entered_anew() {
    let world = World::start();
    let (_engine, pod) = world.usual("a", 0);
    pod.relabel("model.aibrix.ai/name", Some("other"));
    world.wait_for_holders("other", 0, &["serving/a"]);
    world.wait_for_holders(MODEL, 0, &[]);
    // Without a model it is none.
    pod.relabel("model.aibrix.ai/name", None);
    world.wait_for_pods(&[]);
    pod.relabel("model.aibrix.ai/name", Some(MODEL));
    world.wait_for_holders(MODEL, 0, &["serving/a"]);
}

#[test]
fn events_and_adapters_follow_their_labels() {
    let world = World::start();
    let (_engine, pod) = world.usual("a", 0);
    pod.relabel(EVENTS, Some("false"));
    world.wait_for_field("serving/a", "state", &json!("approximate"));
    world.wait_for_holders(MODEL, 0, &[]);
    pod.relabel(EVENTS, Some("true"));
    world.wait_for_holders(MODEL, 0, &["serving/a"]);
    pod.relabel("model.aibrix.ai/lora-id", Some("sql"));
    world.wait_for_field("serving/a", "lora", &json!(["sql"]));
    pod.relabel("model.aibrix.ai/lora-id", None);
    world.wait_for_field("serving/a", "lora", &json!([]));
    pod.relabel("model.aibrix.ai/port", Some("8124"));
    world.wait_for_field("serving/a", "endpoint", &json!("127.0.0.1:8124"));
    world.wait_for_holders(MODEL, 0, &["serving/a"]);
}

#[test]
fn a_label_that_does_not_matter_changes_nothing() {
    let world = World::start();
    let (engine, pod) = world.usual("a", 0);
    let before = world.entry("serving/a");
    pod.relabel("pod-template-hash", Some("77"))
        .annotate("note", Some("x"));
    engine.store(1, 1);
    world.wait_for_holders(MODEL, 1, &["serving/a"]);
    world.wait_for_holders(MODEL, 0, &["serving/a"]);
    assert_eq!(world.entry("serving/a"), before, "it was let go");
}

#[test]
fn a_container_that_is_started_anew_holds_nothing() {
    let world = World::start();
    let (engine, pod) = world.usual("a", 0);
    let (_other, _) = world.usual("b", 1);
    // The engine's ring is empty and its numbers begin again; it has nothing to say yet.
    engine.fake.restart();
    pod.restart_container("engine");
    world.wait_for_holders(MODEL, 0, &[]);
    world.wait_for_pods(&["serving/a", "serving/b"]);
    world.wait_for_holders(MODEL, 1, &["serving/b"]);
    engine.store(0, 2);
    world.wait_for_holders(MODEL, 2, &["serving/a"]);
    world.wait_for_holders(MODEL, 0, &[]);
}

#[test]
fn an_evicted_pod_is_gone() {
    let world = World::start();
    let (_a, pod) = world.usual("a", 0);
    let (_b, _) = world.usual("b", 1);
    pod.evict();
    world.wait_for_pods(&["serving/b"]);
    world.wait_for_holders(MODEL, 0, &[]);
    pod.gone();
    let (_c, _) = world.usual("c", 2);
    world.wait_for_pods(&["serving/b", "serving/c"]);
}

#[test]
fn a_terminating_pod_is_gone_before_it_ends() {
    let world = World::start();
    let (_a, pod) = world.usual("a", 0);
    let (_b, _) = world.usual("b", 1);
    pod.delete();
    world.wait_for_pods(&["serving/b"]);
    assert_eq!(world.route(MODEL, 0).as_deref(), Ok("serving/b"));
    // It may still say that it is ready.
    pod.ready();
    let (_c, _) = world.usual("c", 2);
    world.wait_for_pods(&["serving/b", "serving/c"]);
    pod.gone();
    let (_d, _) = world.usual("d", 3);
    world.wait_for_pods(&["serving/b", "serving/c", "serving/d"]);
}

#[test]
fn a_pod_that_is_deleted_at_once_is_gone() {
    let world = World::start();
    let (_a, pod) = world.usual("a", 0);
    pod.gone();
    world.wait_for_pods(&[]);
    assert!(world.route(MODEL, 0).is_err());
}

#[test]
fn a_new_pod_under_the_same_name_holds_what_its_own_engine_does() {
    let world = World::start();
    let first = Engine::start();
    first.store(0, 0);
    let (events, replay) = (first.events_port(), first.replay_port());
    let pod = world.add(&first, first.template(NAMESPACE, "a", MODEL));
    world.wait_for_holders(MODEL, 0, &["serving/a"]);
    let old = pod.uid();
    world.wait_for_field("serving/a", "uid", &json!(old));
    // A StatefulSet's pod: name, address and ports are the same.
    drop(first);
    pod.gone();
    let second = Engine::start_at("127.0.0.1", events, replay);
    second.store(0, 1);
    pod.recreate().start("127.0.0.1");
    assert_ne!(pod.uid(), old);
    world.wait_for_field("serving/a", "uid", &json!(pod.uid()));
    world.wait_for_holders(MODEL, 1, &["serving/a"]);
    world.wait_for_holders(MODEL, 0, &[]);
}

#[test]
fn a_pod_that_was_replaced_while_nobody_watched_is_noticed() {
    let world = World::start();
    let first = Engine::start();
    first.store(0, 0);
    let (events, replay) = (first.events_port(), first.replay_port());
    let pod = world.add(&first, first.template(NAMESPACE, "a", MODEL));
    let (_gone, other) = world.usual("b", 2);
    world.wait_for_holders(MODEL, 0, &["serving/a"]);
    world.api.stop();
    drop(first);
    other.gone();
    pod.gone();
    let second = Engine::start_at("127.0.0.1", events, replay);
    second.store(0, 1);
    pod.recreate().start("127.0.0.1");
    world.api.compact();
    world.api.resume();
    world.wait_for_field("serving/a", "uid", &json!(pod.uid()));
    world.wait_for_holders(MODEL, 1, &["serving/a"]);
    world.wait_for_holders(MODEL, 0, &[]);
    world.wait_for_pods(&["serving/a"]);
}

#[test]
fn a_fleet_is_rolled_over_pod_by_pod() {
    const PODS: u32 = 8;
    let world = World::start();
    let old: Vec<_> = (0..PODS)
        .map(|n| world.usual(&format!("old-{n}"), n))
        .collect();
    let mut new = Vec::new();
    for (n, (engine, pod)) in (PODS..).zip(old) {
        new.push(world.usual(&format!("new-{n}"), n));
        pod.delete();
        drop(engine);
        pod.gone();
    }
    until("only new pods are left", || {
        let workers = world.workers();
        let all_new = workers.keys().all(|pod| pod.starts_with("serving/new-"));
        let whole = workers.len() == PODS as usize && all_new;
        if whole {
            Ok(())
        } else {
            Err(format!("{workers:?}"))
        }
    });
    for n in PODS..2 * PODS {
        world.wait_for_holders(MODEL, n, &[&format!("serving/new-{n}")]);
    }
}
