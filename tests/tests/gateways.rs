//! Real gateways with the configurations of `deploy/samples`: requests land where the index says, and are
//! served all the same when the node is down, a body is too long or comes in chunks.
//!
//! Envoy is found by `KVROUTE_TEST_ENVOY`, nginx by `KVROUTE_TEST_NGINX`, both also by their names.
use kvroute_tests::gateways::{
    BLOCK_SIZE, Client, Framing, Gateway, Pods, Response, Substitution, find_binary, prompt,
};
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

const MODEL: &str = "llama-8b";

/// The backend that served a request.
fn served(response: &Response) -> String {
    assert_eq!(response.status, 200, "{response:?}");
    let answer = response.json();
    answer["backend"].as_str().expect("a name").to_owned()
}

/// A completion of which `pod` holds the first `blocks` blocks, and 40 tokens that nobody has seen.
fn completion(pod: u32, blocks: u32, salt: u32) -> Value {
    let mut tokens = prompt(pod, blocks * BLOCK_SIZE);
    tokens.extend((0..40).map(|at| 7_000_000 + 100 * salt + at));
    json!({"model": MODEL, "prompt": tokens, "max_tokens": 1})
}

fn in_envoy(address: SocketAddr) -> String {
    format!("address: {}, port_value: {}", address.ip(), address.port())
}

/// Envoy in front of the node; what is not sent to a pod goes to the other backend.
fn envoy(pods: &Pods, more: &[Substitution<'_>]) -> Option<Gateway> {
    envoy_with(pods, pods.node(), more)
}

/// The same with another address in the node's place.
fn envoy_with(pods: &Pods, node: SocketAddr, more: &[Substitution<'_>]) -> Option<Gateway> {
    let binary = find_binary("KVROUTE_TEST_ENVOY", "envoy")?;
    let mut rest = vec![("address: 127.0.0.1, port_value: 8080", in_envoy(node))];
    for pod in [
        "address: 10.0.0.7, port_value: 8000",
        "address: 10.0.0.8, port_value: 8000",
        "address: 10.0.0.9, port_value: 8000",
    ] {
        rest.push((pod, in_envoy(pods.other())));
    }
    rest.extend_from_slice(more);
    Some(Gateway::envoy(&binary, &rest))
}

#[test]
fn envoy_sends_requests_where_the_index_says() {
    let pods = Pods::start(&[MODEL; 3]);
    let Some(gateway) = envoy(&pods, &[]) else {
        return;
    };
    let client = gateway.client();
    for (pod, blocks) in [(0, 4), (1, 4), (2, 4), (1, 1), (0, 2), (2, 3), (0, 1)] {
        let body = completion(pod, blocks, pod);
        let response = client.post("/v1/completions", "", &body);
        assert_eq!(served(&response), pods.name(pod), "{blocks} blocks");
        let answer = response.json();
        assert_eq!(answer["request"], "POST /v1/completions HTTP/1.1");
        assert_eq!(answer["body_bytes"], body.to_string().len());
        // The decision is found by the name that the client was told.
        let id = response.header("x-kvroute-request-id").expect("a name");
        let node = Client {
            address: pods.node(),
        };
        let explained = node.get(&format!("/v1/explain/{id}"), "").json();
        assert_eq!(explained["reason"], "prefix_match");
        assert_eq!(explained["matched_tokens"], blocks * BLOCK_SIZE);
    }
    // A chat has no token ids yet, so it goes to any of the pods.
    let chat = json!({"model": MODEL, "messages": [{"role": "user", "content": "hi"}]});
    let response = client.post("/v1/chat/completions", "", &chat);
    assert!(served(&response).starts_with("ns/pod-"));
}

#[test]
fn envoy_names_the_rank() {
    let mut pods = Pods::start(&[MODEL; 3]);
    pods.add_rank(1, 3);
    let Some(gateway) = envoy(&pods, &[]) else {
        return;
    };
    let client = gateway.client();
    for (number, pod, rank) in [(3, 1, json!("1")), (1, 1, json!("0")), (2, 2, Value::Null)] {
        let body = completion(number, 4, number);
        let response = client.post("/v1/completions", "", &body);
        assert_eq!(served(&response), pods.name(pod));
        assert_eq!(response.json()["rank"], rank);
    }
}

#[test]
fn envoy_leaves_other_requests_to_its_own_routes() {
    let pods = Pods::start(&[MODEL; 3]);
    let Some(gateway) = envoy(&pods, &[]) else {
        return;
    };
    let client = gateway.client();
    assert_eq!(served(&client.get("/v1/models", "")), "other");
    // A client cannot name a pod, nor any other address.
    let node = pods.node();
    let forged = format!("target-pod: {node}\r\nx-data-parallel-rank: 3\r\n");
    let response = client.get("/v1/models", &forged);
    assert_eq!(served(&response), "other");
    assert_eq!(response.json()["target_pod"], Value::Null);
    assert_eq!(response.json()["rank"], Value::Null);
    let response = client.post("/v1/completions", &forged, &completion(1, 4, 0));
    assert_eq!(served(&response), pods.name(1));
    // Nobody serves that model: 503 from the node, which Envoy takes for a failed check.
    let unknown = json!({"model": "unknown", "prompt": [1]});
    let response = client.post("/v1/completions", "", &unknown);
    assert_eq!(served(&response), "other");
}

#[test]
fn envoy_serves_without_the_node() {
    let mut pods = Pods::start(&[MODEL; 3]);
    let Some(gateway) = envoy(&pods, &[]) else {
        return;
    };
    let client = gateway.client();
    let ask = || served(&client.post("/v1/completions", "", &completion(2, 4, 0)));
    assert_eq!(ask(), pods.name(2));
    pods.stop_node();
    for _ in 0..5 {
        assert_eq!(ask(), "other");
    }
}

/// In the node's place: takes connections, and never answers.
fn silence() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free")
}

#[test]
fn gateways_do_not_wait_for_a_node_that_is_silent() {
    let (pods, silent) = (Pods::start(&[MODEL]), silence());
    let node = silent.local_addr().expect("it is bound");
    for gateway in [envoy_with(&pods, node, &[]), nginx_with(&pods, node)] {
        let Some(gateway) = gateway else {
            continue;
        };
        let response = gateway
            .client()
            .post("/v1/completions", "", &completion(0, 4, 0));
        assert_eq!(served(&response), "other");
    }
}

#[test]
fn envoy_sends_chunked_requests_where_the_index_says() {
    let pods = Pods::start(&[MODEL; 3]);
    let Some(gateway) = envoy(&pods, &[]) else {
        return;
    };
    for (pod, size) in [(0, 1), (1, 7), (2, 100)] {
        let body = completion(pod, 4, pod).to_string();
        let sent = gateway.client().send(
            "POST",
            "/v1/completions",
            "content-type: application/json\r\n",
            body.as_bytes(),
            Framing::Chunks(size),
        );
        let response = sent.expect("an answer");
        assert_eq!(served(&response), pods.name(pod), "chunks of {size}");
        assert_eq!(response.json()["body_bytes"], body.len());
    }
}

/// A body of nine MiB, which begins with its model.
fn long_body() -> Vec<u8> {
    let text = "x".repeat(9 << 20);
    format!(r#"{{"model":"{MODEL}","prompt":"{text}"}}"#).into_bytes()
}

fn assert_long_bodies_are_served(pods: &Pods, gateway: &Gateway) {
    let body = long_body();
    for framing in [Framing::Length, Framing::Chunks(100_000)] {
        let sent = gateway
            .client()
            .send("POST", "/v1/completions", "", &body, framing);
        let response = sent.expect("an answer");
        assert!(served(&response).starts_with("ns/pod-"), "{framing:?}");
        assert_eq!(response.json()["body_bytes"], body.len());
        let id = response.header("x-kvroute-request-id").expect("a name");
        let node = Client {
            address: pods.node(),
        };
        let explained = node.get(&format!("/v1/explain/{id}"), "").json();
        assert_eq!(explained["reason"], "no_tokens");
    }
}

#[test]
fn envoy_cuts_bodies_above_its_limit() {
    let pods = Pods::start(&[MODEL; 3]);
    let Some(gateway) = envoy(&pods, &[]) else {
        return;
    };
    assert_long_bodies_are_served(&pods, &gateway);
}

#[test]
fn bodies_above_the_nodes_limit_are_served() {
    let pods = Pods::start(&[MODEL; 3]);
    let limit = "max_request_bytes: 8388608";
    let Some(gateway) = envoy(&pods, &[(limit, "max_request_bytes: 16777216".to_owned())]) else {
        return;
    };
    assert_long_bodies_are_served(&pods, &gateway);
}

/// nginx in front of the node, likewise.
fn nginx(pods: &Pods) -> Option<Gateway> {
    nginx_with(pods, pods.node())
}

fn nginx_with(pods: &Pods, node: SocketAddr) -> Option<Gateway> {
    let binary = find_binary("KVROUTE_TEST_NGINX", "nginx")?;
    let server = |address: SocketAddr| format!("server {address};");
    let rest = [
        ("server 127.0.0.1:8080;", server(node)),
        ("server 10.0.0.7:8000;", server(pods.other())),
        ("server 10.0.0.8:8000;", String::new()),
        ("server 10.0.0.9:8000;", String::new()),
    ];
    Some(Gateway::nginx(&binary, &rest))
}

#[test]
fn nginx_sends_requests_to_a_pod_of_their_model() {
    let mut pods = Pods::start(&[MODEL, MODEL, "other-model"]);
    pods.add_rank(2, 3);
    let Some(gateway) = nginx(&pods) else {
        return;
    };
    let client = gateway.client();
    // The rank is the node's word, not the client's.
    let header = "x-kvroute-model: other-model\r\nx-data-parallel-rank: 7\r\n";
    let (mut seen, mut ranks) = (Vec::new(), Vec::new());
    for n in 0..40 {
        let body = completion(0, 4, n);
        let response = client.post("/v1/completions?a=b", header, &body);
        assert_eq!(served(&response), pods.name(2));
        let answer = response.json();
        assert_eq!(answer["request"], "POST /v1/completions?a=b HTTP/1.1");
        assert_eq!(answer["body_bytes"], body.to_string().len());
        ranks.push(answer["rank"].to_string());
        seen.push(served(&client.post("/v1/completions", "", &body)));
    }
    let body = completion(0, 4, 0).to_string();
    let chunked = client.send("POST", "/", header, body.as_bytes(), Framing::Chunks(9));
    let response = chunked.expect("an answer");
    assert_eq!(served(&response), pods.name(2));
    assert_eq!(response.json()["body_bytes"], body.len());
    // By load, which is equal.
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, [pods.name(0), pods.name(1)]);
    ranks.sort_unstable();
    ranks.dedup();
    assert_eq!(ranks, [r#""0""#, r#""1""#]);
}

#[test]
fn nginx_serves_without_the_node_and_without_the_pod() {
    let mut pods = Pods::start(&[MODEL, MODEL, "other-model"]);
    let Some(gateway) = nginx(&pods) else {
        return;
    };
    let client = gateway.client();
    let header = "x-kvroute-model: other-model\r\n";
    let ask = |header: &str| served(&client.post("/v1/completions", header, &completion(0, 4, 0)));
    assert_eq!(ask(header), pods.name(2));
    assert_eq!(ask("x-kvroute-model: unknown\r\n"), "other");
    pods.stop_backend(2);
    assert_eq!(ask(header), "other");
    pods.stop_node();
    for _ in 0..5 {
        assert_eq!(ask(""), "other");
    }
}
