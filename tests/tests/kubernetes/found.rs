//! Which pods are found: by labels, namespace, model, readiness.
use crate::world::{Engine, MODEL, NAMESPACE, World, settings, until};
use kvroute::config::{KubernetesConfig, Namespaces, Preset};
use kvroute_tests::apiserver::{ApiServer, PodTemplate, TOKEN, Verb};
use serde_json::json;

#[test]
fn pods_are_found_by_their_labels_in_one_namespace() {
    let world = World::start();
    let (_engine, _pod) = world.usual("a", 0);
    // Not the node's: no label, another namespace, not scheduled yet.
    world
        .api
        .create(PodTemplate::new(NAMESPACE, "db"))
        .start("127.0.0.1");
    let elsewhere = Engine::holding(1);
    world.add(&elsewhere, elsewhere.template("other", "b", MODEL));
    let pending = Engine::holding(2);
    world
        .api
        .create(pending.template(NAMESPACE, "c", MODEL))
        .schedule("node-1");
    let (_last, _pod) = world.usual("d", 3);
    world.wait_for_pods(&["serving/a", "serving/d"]);
    let worker = world.workers()["serving/a"].clone();
    assert_eq!(worker["model"], MODEL);
    assert_eq!(worker["endpoint"], "127.0.0.1:8123");
    assert_eq!(worker["rank"], 0);
    assert_eq!(world.route(MODEL, 0).as_deref(), Ok("serving/a"));
    assert_eq!(world.route(MODEL, 3).as_deref(), Ok("serving/d"));
    world.assert_only_pods_were_asked_for();
    for request in world.api.requests() {
        assert_eq!(request.namespace.as_deref(), Some(NAMESPACE));
        let selector = request.query.get("labelSelector").unwrap_or_default();
        assert!(selector.contains("model.aibrix.ai/name"), "{request:?}");
    }
}

#[test]
fn pods_of_all_namespaces_and_several_models() {
    let api = ApiServer::start();
    let settings = KubernetesConfig {
        namespaces: Namespaces::All,
        ..settings(&api, TOKEN)
    };
    let world = World::start_with(api, settings);
    let engines = [Engine::holding(0), Engine::holding(0), Engine::holding(0)];
    let places = [("x", "a", "m"), ("y", "a", "m"), ("y", "b", "k")];
    for (engine, (namespace, name, model)) in engines.iter().zip(places) {
        world.add(engine, engine.template(namespace, name, model));
    }
    world.wait_for_pods(&["x/a", "y/a", "y/b"]);
    // The same tokens of another model are other blocks.
    world.wait_for_holders("m", 0, &["x/a", "y/a"]);
    world.wait_for_holders("k", 0, &["y/b"]);
    assert!(world.api.requests().iter().all(|r| r.namespace.is_none()));
    world.assert_only_pods_were_asked_for();
}

#[test]
fn several_namespaces_and_a_selector() {
    let api = ApiServer::start();
    let settings = KubernetesConfig {
        namespaces: Namespaces::Named(vec!["x".to_owned(), "y".to_owned()]),
        selector: Some("team in (search, chat),!canary".to_owned()),
        ..settings(&api, TOKEN)
    };
    let world = World::start_with(api, settings);
    let places = [
        ("x", "a", "search", false),
        ("y", "a", "chat", false),
        ("z", "a", "chat", false),
        ("x", "b", "other", false),
        ("y", "b", "chat", true),
    ];
    let mut engines = Vec::new();
    for (namespace, name, team, canary) in places {
        let engine = Engine::start();
        let template = engine.template(namespace, name, MODEL).label("team", team);
        let template = if canary {
            template.label("canary", "")
        } else {
            template
        };
        world.add(&engine, template);
        engines.push(engine);
    }
    world.wait_for_pods(&["x/a", "y/a"]);
}

#[test]
fn pods_that_are_not_ready_wait_until_they_are() {
    let world = World::start();
    let (_engine, _pod) = world.usual("a", 0);
    let engine = Engine::holding(1);
    let template = engine.template(NAMESPACE, "b", MODEL);
    let pod = world.api.create(template.container("sidecar", None));
    pod.schedule("node-1").run("127.0.0.1");
    pod.container_ready("engine", true);
    // What comes after it is there, so it was seen, too.
    let (_last, _pod) = world.usual("c", 2);
    world.wait_for_pods(&["serving/a", "serving/c"]);
    pod.container_ready("sidecar", true);
    world.wait_for_pods(&["serving/a", "serving/b", "serving/c"]);
    world.wait_for_holders(MODEL, 1, &["serving/b"]);
    world.wait_for_route(MODEL, 1, "serving/b");
}

#[test]
fn pods_that_are_not_ready_are_used_if_told_so() {
    let api = ApiServer::start();
    let settings = KubernetesConfig {
        not_ready: true,
        ..settings(&api, TOKEN)
    };
    let world = World::start_with(api, settings);
    let engine = Engine::holding(0);
    let pod = world.api.create(engine.template(NAMESPACE, "a", MODEL));
    pod.schedule("node-1").run("127.0.0.1");
    world.wait_for_holders(MODEL, 0, &["serving/a"]);
    world.wait_for_route(MODEL, 0, "serving/a");
}

#[test]
fn pods_without_events_are_known_as_approximate() {
    let world = World::start();
    for (name, label) in [("a", None), ("b", Some("false"))] {
        let template = PodTemplate::new(NAMESPACE, name);
        let template = template.label("model.aibrix.ai/name", MODEL);
        let template = match label {
            Some(value) => template.label("model.aibrix.ai/kv-events-enabled", value),
            None => template,
        };
        world.api.create(template).start("127.0.0.1");
    }
    world.wait_for_pods(&["serving/a", "serving/b"]);
    for (pod, worker) in world.workers() {
        assert_eq!(worker["state"], "approximate", "{pod}");
        assert_eq!(worker["events"], json!(null), "{pod}");
    }
    // They take part in routing.
    let target = world.route(MODEL, 0).expect("somebody serves the model");
    assert!(target.starts_with("serving/"), "{target}");
}

#[test]
fn pods_by_the_labels_of_llm_d() {
    let api = ApiServer::start();
    let settings = KubernetesConfig {
        preset: Preset::LlmD,
        ..settings(&api, TOKEN)
    };
    let world = World::start_with(api, settings);
    let engine = Engine::holding(0);
    let llm_d = |name: &str| {
        let template = PodTemplate::new(NAMESPACE, name);
        let template = template.label("llm-d.ai/inference-serving", "true");
        engine.annotate(template.label("llm-d.ai/model", MODEL))
    };
    world.add(&engine, llm_d("a"));
    world.wait_for_holders(MODEL, 0, &["serving/a"]);
    // AIBrix's labels are nothing here.
    let other = Engine::start();
    world.add(&other, other.template(NAMESPACE, "b", MODEL));
    let third = Engine::start();
    world.add(&third, third.annotate(llm_d("c")));
    world.wait_for_pods(&["serving/a", "serving/c"]);
    world.assert_only_pods_were_asked_for();
}

#[test]
fn more_pods_than_a_page_has() {
    const PODS: usize = 1_100;
    let api = ApiServer::start();
    for number in 0..PODS {
        let template = PodTemplate::new(NAMESPACE, &format!("pod-{number:04}"));
        let template = template.label("model.aibrix.ai/name", MODEL);
        api.create(template).start("127.0.0.1");
    }
    let settings = settings(&api, TOKEN);
    let world = World::start_with(api, settings);
    until("all pods are known", || match world.workers().len() {
        PODS => Ok(()),
        other => Err(format!("{other} pods, {:?}", world.report())),
    });
    let requests = world.api.requests();
    let pages = requests.iter().filter(|r| r.verb == Verb::List);
    let follow_on = pages.filter(|r| r.query.get("continue").is_some());
    assert!(follow_on.count() > 0, "one page has them all: {requests:?}");
}
