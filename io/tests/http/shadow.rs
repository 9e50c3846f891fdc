//! Shadow mode: the node decides, nobody obeys, and both are compared.
use crate::client::{Client, Response};
use crate::fixture::{Blocks, Fixture, events_of, prompt};
use kvroute::config::RoutingConfig;
use kvroute::http::ServerConfig;
use serde_json::{Value, json};

/// Pod a holds 40 tokens of the prompt, b 16, c none.
fn three() -> Fixture {
    let fixture = Fixture::serving(&ServerConfig {
        routing: RoutingConfig {
            shadow: true,
            ..RoutingConfig::default()
        },
        ..ServerConfig::default()
    });
    for (pod, endpoint) in [("a", "h:1"), ("b", "h:2"), ("c", "h:3")] {
        fixture
            .add(json!({"pod": pod, "model": "m", "events": events_of(pod), "endpoint": endpoint}));
    }
    fixture.store("a#0", &Blocks::of(&prompt(40)));
    fixture.store("b#0", &Blocks::of(&prompt(16)));
    fixture
}

fn asked() -> Value {
    json!({"model": "m", "token_ids": prompt(41)})
}

fn no_target(response: &Response) {
    for name in [
        "target-pod",
        "x-gateway-destination-endpoint",
        "x-data-parallel-rank",
    ] {
        assert_eq!(response.header(name), None, "{response:?}");
    }
}

fn explained(client: &mut Client, id: &str) -> Value {
    client.get(&format!("/v1/explain/{id}")).json()["shadow"].clone()
}

fn series(client: &mut Client, name: &str) -> f64 {
    let text = String::from_utf8(client.get("/metrics").body).unwrap();
    let mut lines = text.lines();
    let found = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    found
        .unwrap_or_else(|| panic!("{name} in {text}"))
        .parse()
        .unwrap()
}

#[test]
fn nobody_is_told_where_to_go_but_asked_where_it_went() {
    let fixture = three();
    let mut client = fixture.client();
    let decide = |client: &mut Client| {
        let response = client.post("/v1/route", &asked());
        no_target(&response);
        let answer = response.json();
        assert_eq!(
            (&answer["shadow"], &answer["target"]["pod"]),
            (&json!(true), &json!("a"))
        );
        let id = answer["request_id"].as_str().unwrap().to_owned();
        assert_eq!(response.header("x-kvroute-request-id"), Some(id.as_str()));
        id
    };
    let id = decide(&mut client);
    let nothing = json!({"actual": null, "agreed": null, "matched_tokens": null});
    assert_eq!(explained(&mut client, &id), nothing);
    for (target, agreed, matched) in [
        ("a", true, json!(40)),
        ("h:1", true, json!(40)),
        ("b#0", false, json!(16)),
        ("h:3", false, json!(0)),
        ("ns/elsewhere", false, json!(null)),
    ] {
        let id = decide(&mut client);
        for (target, _) in [(target, 1), ("c", 2)] {
            // The first word counts.
            let feedback = json!({"request_id": id, "target": target});
            assert_eq!(client.post("/v1/feedback", &feedback).status, 204);
        }
        let expected = json!({"actual": target, "agreed": agreed, "matched_tokens": matched});
        assert_eq!(explained(&mut client, &id), expected);
    }
    for (name, expected) in [
        ("kvroute_shadow_decisions_total{agreed=\"true\"}", 2.0),
        ("kvroute_shadow_decisions_total{agreed=\"false\"}", 3.0),
        ("kvroute_shadow_unknown_targets_total", 1.0),
        // 40 tokens four times, and 40 + 40 + 16 + 0.
        ("kvroute_shadow_tokens_total{by=\"node\"}", 160.0),
        ("kvroute_shadow_tokens_total{by=\"caller\"}", 96.0),
        ("kvroute_shadow_agreement{model=\"m\"}", 0.4),
    ] {
        assert_eq!(series(&mut client, name), expected, "{name}");
    }
}

#[test]
fn a_gateway_that_has_chosen_already_says_so_in_the_request() {
    let fixture = three();
    let mut client = fixture.client();
    let body = json!({"model": "m", "prompt": prompt(41)}).to_string();
    for (header, agreed) in [("target-pod: h:1", true), ("x-kvroute-actual: b", false)] {
        client.send(
            format!(
                "POST /v1/ext_authz/v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                 {header}\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
            .as_bytes(),
        );
        let response = client.receive();
        assert_eq!(response.status, 200);
        no_target(&response);
        let id = response.header("x-kvroute-request-id").unwrap().to_owned();
        assert_eq!(explained(&mut client, &id)["agreed"], agreed);
    }
    assert_eq!(
        series(&mut client, "kvroute_shadow_agreement{model=\"m\"}"),
        0.5
    );
}

/// Who served the request is what the caller said, so that is whose prediction counts.
#[test]
fn what_was_delivered_is_compared_with_where_it_went() {
    let fixture = three();
    let mut client = fixture.client();
    for pod in ["a", "b", "c"] {
        fixture.status(&format!("{pod}#0")).set_block_size(4);
    }
    let mut decide = |feedback: Value| {
        let answer = client.post("/v1/route", &asked()).json();
        let mut feedback = feedback;
        feedback["request_id"] = answer["request_id"].clone();
        assert_eq!(client.post("/v1/feedback", &feedback).status, 204);
    };
    decide(json!({"target": "b", "cached_tokens": 16}));
    decide(json!({"cached_tokens": 16}));
    let labels = "{pod=\"b\",rank=\"0\",model=\"m\"}";
    let name = format!("kvroute_feedback_predicted_tokens_total{labels}");
    assert_eq!(series(&mut client, &name), 16.0);
    assert_eq!(
        series(&mut client, "kvroute_feedback_total{use=\"compared\"}"),
        1.0
    );
    assert_eq!(
        series(&mut client, "kvroute_feedback_total{use=\"unpredicted\"}"),
        1.0
    );
}

#[test]
fn trials_are_nobodys_decisions() {
    let fixture = three();
    let mut client = fixture.client();
    let mut trial = asked();
    trial["dry_run"] = json!(true);
    let answer = client.post("/v1/route", &trial).json();
    let id = answer["request_id"].as_str().unwrap();
    let feedback = json!({"request_id": id, "target": "a"});
    assert_eq!(client.post("/v1/feedback", &feedback).status, 204);
    assert_eq!(explained(&mut client, id), Value::Null);
    assert_eq!(
        series(
            &mut client,
            "kvroute_shadow_decisions_total{agreed=\"true\"}"
        ),
        0.0
    );
}

#[test]
fn a_target_of_any_length_is_not_kept() {
    let fixture = three();
    let mut client = fixture.client();
    let answer = client.post("/v1/route", &asked()).json();
    let feedback = json!({"request_id": answer["request_id"], "target": "x".repeat(1_025)});
    let (status, _, field) = client.post("/v1/feedback", &feedback).refusal();
    assert_eq!((status, field.as_deref()), (400, Some("target")));
}
