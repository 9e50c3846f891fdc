//! TLS, tokens, permissions: what is missing is said, and what is put right is used.
use crate::world::{Engine, MODEL, NAMESPACE, World, settings, until};
use kvroute::config::{KubernetesConfig, Namespaces};
use kvroute_tests::apiserver::{ApiServer, Options, Permissions, TOKEN, Verb};

/// A node with this token and one pod to be found.
fn with_token(token: &str, permissions: Option<Permissions>) -> (World, Engine) {
    let api = ApiServer::start();
    if let Some(permissions) = permissions {
        api.set_token(token, permissions);
    }
    let settings = settings(&api, token);
    let world = World::start_with(api, settings);
    let engine = Engine::holding(0);
    world.add(&engine, engine.template(NAMESPACE, "a", MODEL));
    (world, engine)
}

/// The node is not ready, and says why.
fn assert_not_ready(world: &World) {
    let missing = world.node.fleet().sources().missing();
    let missing = missing.expect("something is missing");
    assert!(missing.contains("kubernetes"), "{missing}");
    let answer = world.client().get("/readyz", "");
    assert_eq!(answer.status, 503);
    let message = answer.json()["error"]["message"].to_string();
    assert!(message.contains("kubernetes"), "{message}");
    assert!(world.workers().is_empty());
}

fn assert_found(world: &World) {
    world.wait_for_holders(MODEL, 0, &["serving/a"]);
    let report = world.wait_for_state("following");
    assert_eq!(report.error, None);
    assert_eq!(world.node.fleet().sources().missing(), None);
    until("the node is ready", || {
        let answer = world.client().get("/readyz", "");
        if answer.status == 200 {
            Ok(())
        } else {
            Err(format!("{answer:?}"))
        }
    });
    world.assert_only_pods_were_asked_for();
}

#[test]
fn a_token_that_is_not_known_is_told() {
    let (world, _engine) = with_token("late", None);
    world.wait_for_error("401");
    assert_not_ready(&world);
    world.api.set_token("late", Permissions::cluster());
    assert_found(&world);
}

#[test]
fn a_token_without_permission_is_told() {
    let (world, _engine) = with_token("weak", Some(Permissions::none()));
    let report = world.wait_for_error("403");
    let error = report.error.expect("something is wrong");
    // What to do about it: which verbs, on what, where.
    for word in ["list", "watch", "pods", NAMESPACE] {
        assert!(error.contains(word), "{error}");
    }
    assert_not_ready(&world);
    let namespaces = Permissions::namespaces(&[NAMESPACE]);
    world.api.set_token("weak", namespaces);
    assert_found(&world);
}

#[test]
fn a_token_that_may_only_list_is_told() {
    let permissions = Permissions::cluster().only(&[Verb::List]);
    let (world, _engine) = with_token("lister", Some(permissions));
    world.wait_for_error("403");
    world.api.set_token("lister", Permissions::cluster());
    assert_found(&world);
}

#[test]
fn a_token_that_is_revoked_leaves_what_was_found() {
    let (world, engine) = with_token("short", Some(Permissions::cluster()));
    assert_found(&world);
    world.api.revoke_token("short");
    world.api.break_connections();
    world.wait_for_error("401");
    assert_eq!(world.report().state, "failing");
    engine.store(1, 1);
    world.wait_for_holders(MODEL, 1, &["serving/a"]);
    world.api.set_token("short", Permissions::cluster());
    assert_found(&world);
}

#[test]
fn permission_in_a_namespace_is_enough_for_it() {
    let (world, _engine) = with_token("of-one", Some(Permissions::namespaces(&[NAMESPACE])));
    assert_found(&world);
}

#[test]
fn permission_in_a_namespace_is_not_enough_for_all() {
    let api = ApiServer::start();
    api.set_token("of-one", Permissions::namespaces(&[NAMESPACE]));
    let settings = KubernetesConfig {
        namespaces: Namespaces::All,
        ..settings(&api, "of-one")
    };
    let world = World::start_with(api, settings);
    world.wait_for_error("403");
    assert_not_ready(&world);
}

#[test]
fn one_namespace_that_is_forbidden_is_told_and_not_taken_for_empty() {
    let api = ApiServer::start();
    api.set_token("of-one", Permissions::namespaces(&[NAMESPACE]));
    let settings = KubernetesConfig {
        namespaces: Namespaces::Named(vec![NAMESPACE.to_owned(), "closed".to_owned()]),
        ..settings(&api, "of-one")
    };
    let world = World::start_with(api, settings);
    let report = world.wait_for_error("403");
    assert!(report.error.is_some_and(|error| error.contains("closed")));
    let missing = world.node.fleet().sources().missing();
    assert!(missing.is_some(), "half of the fleet is not known");
}

#[test]
fn a_server_of_another_authority_is_not_believed() {
    let (api, other) = (ApiServer::start(), ApiServer::start());
    let file = api.kubeconfig(TOKEN);
    let text = std::fs::read_to_string(&file).expect("it was just written");
    let text = text.replace(&api.url(), &other.url());
    std::fs::write(&file, text).expect("the folder is the server's");
    let settings = KubernetesConfig {
        kubeconfig: Some(file),
        ..settings(&other, TOKEN)
    };
    let world = World::start_with(other, settings);
    world.wait_for_error("certificate");
    assert_not_ready(&world);
    assert!(world.api.requests().is_empty());
}

#[test]
fn a_server_without_tls_is_reached_by_its_kubeconfig() {
    let api = ApiServer::start_with(Options {
        tls: false,
        ..Options::default()
    });
    let settings = settings(&api, TOKEN);
    let world = World::start_with(api, settings);
    let engine = Engine::holding(0);
    world.add(&engine, engine.template(NAMESPACE, "a", MODEL));
    assert_found(&world);
}

#[test]
fn the_namespace_of_the_kubeconfig_is_the_nodes_own() {
    let api = ApiServer::start();
    let settings = KubernetesConfig {
        namespaces: Namespaces::Own,
        ..settings(&api, TOKEN)
    };
    let world = World::start_with(api, settings);
    let (here, there) = (Engine::start(), Engine::start());
    world.add(&there, there.template(NAMESPACE, "a", MODEL));
    world.add(&here, here.template("default", "b", MODEL));
    world.wait_for_pods(&["default/b"]);
}
