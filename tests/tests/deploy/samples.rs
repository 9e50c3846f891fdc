//! The samples of engines and of gateways in Kubernetes.
use crate::objects::{kind, list, named, of, one, parse, printed, validate};
use kvroute_tests::gateways::find_binary;
use kvroute_tests::tidy::root;
use serde_json::{Value, json};
use std::fs;

fn sample(name: &str) -> Vec<Value> {
    let path = root().join("deploy/samples").join(name);
    parse(&fs::read_to_string(path).expect("the sample is there"))
}

/// The port of an endpoint that the engine binds.
fn port(config: &Value, key: &str) -> u64 {
    let endpoint = config[key].as_str().expect("an endpoint");
    let port = endpoint.strip_prefix("tcp://*:").expect("it binds");
    port.parse().expect("a port")
}

/// The engine publishes and replays where kvroute looks, with the words that its flag has.
fn publishes(name: &str, keys: &[&str]) {
    let objects = sample(name);
    validate(&objects);
    let deployment = one(&objects, "Deployment");
    let template = &deployment["spec"]["template"];
    let metadata = &template["metadata"];
    assert_eq!(metadata["labels"]["model.aibrix.ai/name"], "llama-8b");
    assert_eq!(
        metadata["labels"]["model.aibrix.ai/kv-events-enabled"],
        "true"
    );
    let engine = &list(&template["spec"]["containers"])[0];
    let arguments = list(&engine["args"]);
    let at = arguments.iter().position(|a| a == "--kv-events-config");
    let text = arguments[at.expect("the flag") + 1]
        .as_str()
        .expect("a text");
    let config: Value = serde_json::from_str(text).expect("JSON");
    let object = config.as_object().expect("an object");
    let mut found: Vec<_> = object.keys().map(String::as_str).collect();
    found.sort_unstable();
    assert_eq!(found, keys);
    assert_eq!(config["publisher"], "zmq");
    assert!(
        config["buffer_steps"].as_u64() > Some(10_000),
        "more than by default"
    );
    let said = |annotation: &str, usual: &str| {
        let said = metadata["annotations"][annotation]
            .as_str()
            .unwrap_or(usual);
        said.parse::<u64>().expect("a port")
    };
    let ports = [("kv-events", "endpoint"), ("kv-replay", "replay_endpoint")];
    for ((name, key), known) in ports.into_iter().zip([
        said("kvroute.io/events-port", "5557"),
        said("kvroute.io/replay-port", "5558"),
    ]) {
        assert_eq!(port(&config, key), known);
        assert_eq!(named(&engine["ports"], name)["containerPort"], known);
    }
    // Requests go to 8000 unless a label says otherwise.
    assert!(arguments.iter().any(|a| a == "--port=8000"));
    assert_eq!(named(&engine["ports"], "http")["containerPort"], 8000);
    let service = one(&objects, "Service");
    assert_eq!(
        service["spec"]["selector"],
        deployment["spec"]["selector"]["matchLabels"]
    );
}

#[test]
fn vllm_publishes() {
    publishes(
        "vllm.yaml",
        &[
            "buffer_steps",
            "enable_kv_cache_events",
            "endpoint",
            "publisher",
            "replay_endpoint",
        ],
    );
}

#[test]
fn sglang_publishes() {
    publishes(
        "sglang.yaml",
        &["buffer_steps", "endpoint", "publisher", "replay_endpoint"],
    );
    let objects = sample("sglang.yaml");
    let spec = &one(&objects, "Deployment")["spec"]["template"]["spec"];
    let arguments = list(&list(&spec["containers"])[0]["args"]);
    // Not a block for each token.
    assert!(arguments.iter().any(|a| a == "--page-size=16"));
}

/// kvroute is asked as envoy.yaml asks it, and the headers of its answers are those that clients cannot set.
#[test]
fn envoy_gateway_asks_as_envoy_does() {
    let envoy = &sample("envoy.yaml")[0];
    let filters = &envoy["static_resources"]["listeners"][0]["filter_chains"][0]["filters"];
    let manager = &filters[0]["typed_config"];
    let authz = &manager["http_filters"][0]["typed_config"];
    let service = &authz["http_service"];
    let exact = |patterns: &Value| -> Value {
        let exact = list(&patterns["patterns"]).iter();
        exact.map(|pattern| pattern["exact"].clone()).collect()
    };
    let answered = exact(&service["authorization_response"]["allowed_upstream_headers"]);
    for name in ["envoy-gateway.yaml", "aibrix.yaml"] {
        let objects = sample(name);
        let check = &one(&objects, "SecurityPolicy")["spec"]["extAuth"];
        assert_eq!(check["http"]["path"], service["path_prefix"]);
        assert_eq!(check["http"]["headersToBackend"], answered);
        assert_eq!(check["headersToExtAuth"], exact(&authz["allowed_headers"]));
        assert_eq!(check["failOpen"], authz["failure_mode_allow"]);
        assert_eq!(check["recomputeRoute"], authz["clear_route_cache"]);
        assert_eq!(check["timeout"], "500ms");
        // Each policy names a route or a gateway that is there, or AIBrix's.
        let route = one(&objects, "HTTPRoute");
        let target = &one(&objects, "SecurityPolicy")["spec"]["targetRefs"][0];
        assert_eq!(target["name"], route["metadata"]["name"]);
        let patch = one(&objects, "EnvoyPatchPolicy");
        let gateway = &patch["spec"]["targetRef"]["name"];
        assert_eq!(&route["spec"]["parentRefs"][0]["name"], gateway);
        let namespace = patch["metadata"]["namespace"].as_str().expect("a text");
        let listener = format!("{namespace}/{}/http", gateway.as_str().expect("a text"));
        assert_eq!(patch["spec"]["jsonPatches"][0]["name"], listener);
    }
    let objects = sample("envoy-gateway.yaml");
    let early = &one(&objects, "ClientTrafficPolicy")["spec"]["headers"]["earlyRequestHeaders"];
    assert_eq!(early["remove"], answered);
    let limit = &one(&objects, "SecurityPolicy")["spec"]["extAuth"]["bodyToExtAuth"];
    assert_eq!(
        limit["maxRequestBytes"],
        authz["with_request_body"]["max_request_bytes"]
    );
}

/// Envoy takes the routes and clusters that the samples patch into a gateway.
#[test]
fn envoy_takes_the_patches() {
    let Some(binary) = find_binary("KVROUTE_TEST_ENVOY", "envoy") else {
        return;
    };
    for name in ["envoy-gateway.yaml", "aibrix.yaml"] {
        let objects = sample(name);
        let patches = list(&one(&objects, "EnvoyPatchPolicy")["spec"]["jsonPatches"]);
        let values = |kind: &str| -> Vec<Value> {
            let of_kind = patches
                .iter()
                .filter(|p| p["type"].as_str().unwrap().ends_with(kind));
            of_kind
                .map(|patch| patch["operation"]["value"].clone())
                .collect()
        };
        let routes = values(".RouteConfiguration");
        let mut clusters = values(".Cluster");
        assert_eq!(routes.len(), 1);
        if clusters.is_empty() {
            // AIBrix's own, in its words.
            clusters.push(json!({"name": "original_destination_cluster", "type": "ORIGINAL_DST",
                "lb_policy": "CLUSTER_PROVIDED", "connect_timeout": "6s",
                "original_dst_lb_config": {"use_http_header": true, "http_header_name": "target-pod"}}));
        }
        let types = "type.googleapis.com/envoy.extensions.filters";
        let manager = json!({
            "@type": format!("{types}.network.http_connection_manager.v3.HttpConnectionManager"),
            "stat_prefix": "x",
            "route_config": {"virtual_hosts": [{"name": "x", "domains": ["*"], "routes": routes}]},
            "http_filters": [{"name": "envoy.filters.http.router",
                "typed_config": {"@type": format!("{types}.http.router.v3.Router")}}],
        });
        let filter = json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": manager});
        let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": 0}});
        let listener =
            json!({"name": "x", "address": address, "filter_chains": [{"filters": [filter]}]});
        let config = json!({"static_resources": {"listeners": [listener], "clusters": clusters}});
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("envoy.json");
        fs::write(&path, config.to_string()).expect("the folder is ours");
        printed(
            &binary,
            &["--mode", "validate", "-c", path.to_str().expect("UTF-8")],
        );
    }
}

/// No kind of the gateways' samples stands there twice under one name.
#[test]
fn objects_of_samples_are_told_apart() {
    for name in [
        "envoy-gateway.yaml",
        "aibrix.yaml",
        "vllm.yaml",
        "sglang.yaml",
    ] {
        let objects = sample(name);
        for object in &objects {
            let same = of(&objects, kind(object));
            let same = same.iter().filter(|o| o["metadata"] == object["metadata"]);
            assert_eq!(same.count(), 1);
        }
    }
}
