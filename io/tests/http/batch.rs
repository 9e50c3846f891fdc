//! `POST /v1/match:batch`: each request is answered as `/v1/match` would, whatever becomes of the others.
use crate::client::{Client, Response};
use crate::fixture::{Blocks, Fixture, prompt};
use kvroute::limits::{BATCH_CANDIDATES_MAX, BATCH_REQUESTS_MAX};
use serde_json::{Value, json};

const PATH: &str = "/v1/match:batch";

fn fixture() -> (Fixture, Client) {
    let fixture = Fixture::new();
    for pod in ["a", "b"] {
        fixture.add_pod(pod);
    }
    fixture.store("a#0", &Blocks::of(&prompt(12)));
    fixture.store("b#0", &Blocks::of(&prompt(4)));
    let client = fixture.client();
    (fixture, client)
}

fn batch(requests: &[Value]) -> Value {
    json!({"requests": requests})
}

#[test]
fn each_response_is_what_match_answers() {
    let (_fixture, mut client) = fixture();
    let requests = [
        json!({"model": "m", "token_ids": prompt(12)}),
        json!({"model": "nobody", "token_ids": [1]}),
        json!({"model": "m", "token_ids": [9, 9, 9, 9]}),
        json!({"model": "m", "token_ids": prompt(12), "limit": 0}),
        json!({"model": "m", "token_ids": [1, "2"]}),
        json!(7),
        json!({"model": "m", "prompt": "text"}),
        json!({"model": "m", "token_ids": prompt(9), "candidates": ["b", "c"], "else": {}}),
    ];
    let response = client.post(PATH, &batch(&requests));
    assert_eq!(response.status, 200);
    let answer = response.json();
    let responses = answer["responses"].as_array().unwrap();
    assert_eq!(answer.as_object().unwrap().len(), 1);
    assert_eq!(responses.len(), requests.len());
    for (request, answered) in requests.iter().zip(responses) {
        let alone = client.post("/v1/match", request).json();
        assert_eq!(answered, &alone, "{request}");
    }
    let brief: Vec<_> = responses
        .iter()
        .map(|answered| match &answered["error"]["code"] {
            Value::Null => answered["candidates"][0]["matched_tokens"].clone(),
            code => code.clone(),
        })
        .collect();
    let expected = [
        json!(12),
        json!("model_not_found"),
        Value::Null,
        json!("invalid_request"),
        json!("invalid_request"),
        json!("invalid_json"),
        json!("tokenizer_unavailable"),
        json!(4),
    ];
    assert_eq!(brief, expected);
    assert_eq!(
        client.post(PATH, &batch(&[])).json(),
        json!({"responses": []})
    );
}

#[test]
fn what_is_no_batch_is_refused() {
    let (_fixture, mut client) = fixture();
    let many = vec![json!(0); BATCH_REQUESTS_MAX + 1];
    let requests = Some("requests");
    for (body, code, field) in [
        (json!([]), "invalid_json", None),
        (json!({}), "invalid_request", requests),
        (json!({"requests": null}), "invalid_request", requests),
        (json!({"requests": {}}), "invalid_request", requests),
        (json!({"requests": 7}), "invalid_request", requests),
        (batch(&many), "invalid_request", requests),
    ] {
        let (status, got, named) = client.post(PATH, &body).refusal();
        let got = (status, got.as_str(), named.as_deref());
        assert_eq!(got, (400, code, field), "{body}");
    }
    let most = client.post(PATH, &batch(&many[1..])).json();
    let refused = most["responses"].as_array().unwrap();
    assert_eq!(refused.len(), BATCH_REQUESTS_MAX);
    let broken = r#"{"requests":[{"model":"m","token_ids":[1}]}"#;
    let (status, code, _) = client.post_text(PATH, broken).refusal();
    assert_eq!((status, code.as_str()), (400, "invalid_json"));
}

/// Ranks of a pod that is asked for by name are listed without a match, too.
#[test]
fn what_a_batch_lists_is_bounded() {
    let fixture = Fixture::new();
    let ranks = BATCH_CANDIDATES_MAX / BATCH_REQUESTS_MAX + 1;
    fixture.add(json!({"pod": "a", "model": "m", "events": "tcp://a:5557", "ranks": ranks}));
    let named = json!({"model": "m", "token_ids": [1], "candidates": ["a"]});
    let mut requests = vec![named; BATCH_REQUESTS_MAX];
    requests.push(json!({"model": "m", "token_ids": [1]}));
    requests.swap_remove(0);
    let answer = fixture.client().post(PATH, &batch(&requests)).json();
    let responses = answer["responses"].as_array().unwrap();
    let brief: Vec<_> = responses
        .iter()
        .map(|response| match &response["error"]["code"] {
            Value::Null => json!(response["candidates"].as_array().unwrap().len()),
            code => code.clone(),
        })
        .collect();
    // The first one lists nothing, so that the others would fit but for one.
    let mut expected = vec![json!(ranks); BATCH_REQUESTS_MAX];
    expected[0] = json!(0);
    let fit = BATCH_CANDIDATES_MAX / ranks;
    for late in &mut expected[1 + fit..] {
        *late = json!("batch_too_large");
    }
    assert!(fit < BATCH_REQUESTS_MAX);
    assert_eq!(brief, expected);
}

#[test]
fn a_batch_comes_as_message_pack_too() {
    let (_fixture, mut client) = fixture();
    let requests = [
        json!({"model": "m", "token_ids": prompt(12)}),
        json!({"model": "nobody", "token_ids": [1]}),
        json!({"model": "m", "token_ids": [9]}),
    ];
    let body = batch(&requests);
    let plain = client.post(PATH, &body).json();
    assert_eq!(unpacked(&packed(&mut client, PATH, &body)), plain);
    let plain = client.post("/v1/match", &requests[0]).json();
    let alone = packed(&mut client, "/v1/match", &requests[0]);
    assert_eq!(unpacked(&alone), plain);
    let few = client.post(PATH, &batch(&[])).json();
    assert_eq!(unpacked(&packed(&mut client, PATH, &batch(&[]))), few);
}

/// Posts JSON and asks for MessagePack.
pub(crate) fn packed(client: &mut Client, path: &str, body: &Value) -> Response {
    let headers = "content-type: application/json\r\naccept: application/msgpack\r\n";
    let response = client.request("POST", path, headers, body.to_string().as_bytes());
    assert_eq!(response.status, 200, "{response:?}");
    response
}

/// A MessagePack answer, read by a decoder that is not the one of the encoder.
pub(crate) fn unpacked(response: &Response) -> Value {
    assert_eq!(
        response.header("content-type"),
        Some("application/msgpack"),
        "{response:?}"
    );
    let mut rest = &response.body[..];
    let value = rmpv::decode::read_value(&mut rest).unwrap();
    assert_eq!(rest, b"", "nothing behind it");
    to_json(&value)
}

fn to_json(value: &rmpv::Value) -> Value {
    match value {
        rmpv::Value::Nil => Value::Null,
        rmpv::Value::Boolean(value) => json!(value),
        rmpv::Value::Integer(number) => match number.as_u64() {
            Some(number) => json!(number),
            None => json!(number.as_i64()),
        },
        rmpv::Value::String(text) => json!(text.as_str()),
        rmpv::Value::Array(items) => items.iter().map(to_json).collect(),
        rmpv::Value::Map(pairs) => {
            let name = |name: &rmpv::Value| name.as_str().expect("a text").to_owned();
            let pairs = pairs.iter().map(|(n, value)| (name(n), to_json(value)));
            Value::Object(pairs.collect())
        }
        other => panic!("no JSON value: {other:?}"),
    }
}
