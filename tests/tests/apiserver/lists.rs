//! Lists, single pods, discovery, errors, tokens.
use crate::client::{Ask, ask, get, json, plain_server};
use kvroute_tests::apiserver::{ApiServer, Permissions, PodTemplate, Verb};
use serde_json::{Value, json as value};

/// The names of a list's pods, in order.
fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().expect("a list");
    let names = items.iter().map(|pod| pod["metadata"]["name"].as_str());
    names.collect::<Option<_>>().expect("pods have names")
}

fn three_pods() -> ApiServer {
    let server = plain_server();
    for (namespace, name, model) in [("a", "one", "m"), ("a", "two", "k"), ("b", "three", "m")] {
        let pod = server.create(PodTemplate::new(namespace, name).label("model", model));
        if name != "two" {
            pod.start("10.0.0.1");
        }
    }
    server
}

#[test]
fn lists_by_namespace_label_and_field() {
    let server = three_pods();
    for (path, expected) in [
        ("/api/v1/pods", &["one", "two", "three"][..]),
        ("/api/v1/namespaces/a/pods", &["one", "two"]),
        ("/api/v1/namespaces/c/pods", &[]),
        ("/api/v1/pods?labelSelector=model%3Dm", &["one", "three"]),
        ("/api/v1/pods?labelSelector=model+in+%28k%2Cx%29", &["two"]),
        (
            "/api/v1/pods?fieldSelector=status.phase%3DRunning",
            &["one", "three"],
        ),
        (
            "/api/v1/namespaces/a/pods?fieldSelector=metadata.name%3Dtwo",
            &["two"],
        ),
    ] {
        let (status, list) = json(&server, path);
        assert_eq!((status, &names(&list)[..]), (200, expected), "{path}");
        assert_eq!(list["kind"], "PodList");
        let version = server.version().to_string();
        assert_eq!(list["metadata"]["resourceVersion"], version);
        // What a list's items are, the list says.
        assert!(
            list["items"]
                .as_array()
                .unwrap()
                .iter()
                .all(|pod| { pod["kind"] == Value::Null && pod["metadata"]["uid"].is_string() })
        );
    }
}

#[test]
fn pages_are_of_one_moment() {
    let server = three_pods();
    let (_, first) = json(&server, "/api/v1/pods?limit=1");
    assert_eq!(names(&first), ["one"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 2);
    // Meanwhile one is gone and one is new: the next page does not know.
    server.create(PodTemplate::new("a", "two-more"));
    let gone = PodTemplate::new("z", "z");
    server.create(gone).gone();
    let token = first["metadata"]["continue"]
        .as_str()
        .expect("there is more");
    let token = token.replace('/', "%2F").replace('=', "%3D");
    let path = format!("/api/v1/pods?limit=5&continue={token}");
    let (_, second) = json(&server, &path);
    assert_eq!(names(&second), ["two", "three"]);
    assert_eq!(second["metadata"]["continue"], Value::Null);
    let version = |list: &Value| list["metadata"]["resourceVersion"].clone();
    assert_eq!(version(&first), version(&second));
    // Of a selection nobody knows how much is left.
    let (_, page) = json(&server, "/api/v1/pods?limit=1&labelSelector=model%3Dm");
    assert!(page["metadata"]["continue"].is_string());
    assert_eq!(page["metadata"]["remainingItemCount"], Value::Null);
    // Out of the cache there are no pages.
    let (_, all) = json(&server, "/api/v1/pods?limit=1&resourceVersion=0");
    assert_eq!(names(&all).len(), 4);
    server.compact();
    let (status, refusal) = json(&server, &path);
    assert_eq!((status, &refusal["reason"]), (410, &value!("Expired")));
}

#[test]
fn lists_at_a_version() {
    let server = three_pods();
    let then = server.version();
    server.create(PodTemplate::new("c", "four"));
    let at = |how: &str| {
        json(
            &server,
            &format!("/api/v1/pods?resourceVersion={then}{how}"),
        )
    };
    let (_, exact) = at("&resourceVersionMatch=Exact");
    assert_eq!(names(&exact), ["one", "two", "three"]);
    assert_eq!(exact["metadata"]["resourceVersion"], then.to_string());
    for how in ["", "&resourceVersionMatch=NotOlderThan"] {
        let (_, latest) = at(how);
        assert_eq!(names(&latest).len(), 4, "{how}");
    }
    let (status, refusal) = json(&server, "/api/v1/pods?resourceVersion=999999");
    assert_eq!(status, 504);
    let cause = &refusal["details"]["causes"][0]["reason"];
    assert_eq!(cause, "ResourceVersionTooLarge");
    server.compact();
    assert_eq!(at("&resourceVersionMatch=Exact").0, 410);
    assert_eq!(at("").0, 200);
}

#[test]
fn one_pod_and_what_there_is() {
    let server = three_pods();
    let (status, pod) = json(&server, "/api/v1/namespaces/b/pods/three");
    assert_eq!((status, &pod["kind"]), (200, &value!("Pod")));
    assert_eq!(pod["status"]["podIP"], "10.0.0.1");
    let (status, missing) = json(&server, "/api/v1/namespaces/b/pods/one");
    assert_eq!((status, &missing["reason"]), (404, &value!("NotFound")));
    assert_eq!(missing["kind"], "Status");
    let (_, resources) = json(&server, "/api/v1");
    assert_eq!(resources["resources"][0]["name"], "pods");
    assert_eq!(json(&server, "/version").1["major"], "1");
    assert_eq!(json(&server, "/api").1["versions"], value!(["v1"]));
    assert_eq!(json(&server, "/apis").0, 200);
    let secrets = "/api/v1/secrets";
    assert_eq!(json(&server, secrets).0, 403);
    for (path, code) in [
        ("/api/v1/pods?labelSelector=a+b", 400),
        ("/api/v1/pods?fieldSelector=spec.what%3D1", 400),
        ("/api/v1/pods?resourceVersion=x", 400),
        ("/api/v1/pods?limit=x", 400),
        ("/api/v1/pods?continue=x", 400),
        ("/api/v1/pods?resourceVersionMatch=Exact", 422),
    ] {
        let (status, refusal) = json(&server, path);
        assert_eq!((status, &refusal["code"]), (code, &value!(code)), "{path}");
    }
}

#[test]
fn tokens_and_what_they_may() {
    let server = three_pods();
    let status = |path: &str, token: Option<&str>| {
        let method = "GET";
        let answer = ask(&server, path, &Ask { method, token }).expect("it answers");
        (answer.status, answer.json()["message"].clone())
    };
    let (all, of_a) = ("/api/v1/pods", "/api/v1/namespaces/a/pods");
    assert_eq!(status(all, None), (401, value!("Unauthorized")));
    assert_eq!(status(all, Some("wrong")).0, 401);
    assert_eq!(status("/version", Some("wrong")).0, 401);
    server.set_token("of-a", Permissions::namespaces(&["a"]));
    assert_eq!(status(of_a, Some("of-a")).0, 200);
    let (code, message) = status(all, Some("of-a"));
    assert_eq!(code, 403);
    let expected = "pods is forbidden: User \"system:serviceaccount:test:kvroute\" cannot list resource \"pods\" \
                    in API group \"\" at the cluster scope";
    assert_eq!(message, expected);
    server.set_token("lister", Permissions::cluster().only(&[Verb::List]));
    assert_eq!(status(all, Some("lister")).0, 200);
    assert_eq!(status("/api/v1/pods?watch=true", Some("lister")).0, 403);
    server.set_token("nobody", Permissions::none());
    assert_eq!(status(of_a, Some("nobody")).0, 403);
    server.revoke_token("lister");
    assert_eq!(status(all, Some("lister")).0, 401);
}

#[test]
fn requests_are_remembered() {
    let server = three_pods();
    get(
        &server,
        "/api/v1/namespaces/a/pods?labelSelector=x%3Dy&limit=7",
    );
    drop(get(&server, "/api/v1/pods?watch=1&resourceVersion=0"));
    let method = "DELETE";
    let token = Some("reader");
    let path = "/api/v1/namespaces/a/pods/one";
    let refused = ask(&server, path, &Ask { method, token }).expect("it answers");
    assert_eq!(refused.status, 403);
    let requests = server.requests();
    let verbs: Vec<_> = requests.iter().map(|r| r.verb).collect();
    assert_eq!(verbs, [Verb::List, Verb::Watch, Verb::Other]);
    assert_eq!(requests[0].namespace.as_deref(), Some("a"));
    assert_eq!(requests[0].query.get("labelSelector"), Some("x=y"));
    assert_eq!(requests[0].query.get("limit"), Some("7"));
    assert_eq!((server.count(Verb::Watch), server.count(Verb::Get)), (1, 0));
}
