//! The surface of RFC #1403.
use crate::fixture::{Blocks, Fixture, prompt};
use kvroute_engine::hash::{ExtraDigest, ExtraHasher};
use kvroute_engine::types::Tier;
use serde_json::{Value, json};

fn registration(instance: &str, rank: u32) -> Value {
    json!({
        "instance_id": instance, "endpoint": format!("tcp://{instance}:{}", 5557 + rank), "model_name": "m",
        "block_size": 4, "dp_rank": rank, "tenant_id": "default",
    })
}

#[test]
fn instances_come_rank_by_rank_and_go() {
    let fixture = Fixture::new();
    let mut client = fixture.client();
    assert_eq!(client.get("/workers").json(), json!([]));
    for rank in [0, 2] {
        assert_eq!(
            client.post("/register", &registration("w", rank)).status,
            201
        );
    }
    let number = json!({"instance_id": 7, "endpoint": "tcp://g:1", "modelname": "m", "replay_endpoint": "tcp://g:2"});
    assert_eq!(client.post("/register", &number).status, 201);
    let listed = |id: &str, rank: u32, size: Value, endpoint: &str, replay: Value| {
        json!({
            "instance_id": id, "model_name": "m", "block_size": size, "dp_rank": rank,
            "endpoint": endpoint, "replay_endpoint": replay,
        })
    };
    let expected = json!([
        listed("7", 0, Value::Null, "tcp://g:1", json!("tcp://g:2")),
        listed("w", 0, json!(4), "tcp://w:5557", Value::Null),
        listed("w", 2, json!(4), "tcp://w:5559", Value::Null),
    ]);
    assert_eq!(client.get("/workers").json(), expected);

    assert_eq!(
        client.post("/register", &registration("w", 2)).refusal().0,
        409
    );
    let mut other = registration("w", 3);
    other["model_name"] = json!("n");
    let (status, _, field) = client.post("/register", &other).refusal();
    assert_eq!((status, field.as_deref()), (409, Some("model_name")));

    let one = json!({"instance_id": "w", "model_name": "m", "dp_rank": 2});
    let mut elsewhere = one.clone();
    elsewhere["model_name"] = json!("n");
    assert_eq!(client.post("/unregister", &elsewhere).refusal().0, 404);
    assert_eq!(client.post("/unregister", &one).status, 200);
    assert_eq!(client.post("/unregister", &one).refusal().0, 404);
    assert_eq!(client.get("/workers").json().as_array().unwrap().len(), 2);
    let all = json!({"instance_id": "w", "model_name": "m"});
    assert_eq!(client.post("/register", &registration("w", 1)).status, 201);
    assert_eq!(client.post("/unregister", &all).status, 200);
    assert_eq!(client.get("/workers").json().as_array().unwrap().len(), 1);
    assert_eq!(
        client.post("/register", &registration("w", 2)).status,
        201,
        "and come again"
    );
}

#[test]
fn a_wrong_registration_names_its_field() {
    let fixture = Fixture::new();
    let mut client = fixture.client();
    for (field, value) in [
        ("instance_id", Value::Null),
        ("instance_id", json!("")),
        ("instance_id", json!([1])),
        ("endpoint", Value::Null),
        ("endpoint", json!("h:5557")),
        ("endpoint", json!("tcp://h:99999")),
        ("model_name", Value::Null),
        ("block_size", json!(0)),
        ("block_size", json!("4")),
        ("dp_rank", json!(-1)),
        ("dp_rank", json!(4096)),
        ("replay_endpoint", json!("nowhere")),
        ("replay_endpoint", json!("tcp://w:5557")),
    ] {
        let mut body = registration("w", 0);
        body[field] = value;
        let (status, code, named) = client.post("/register", &body).refusal();
        let expected = (400, "invalid_request", Some(field));
        assert_eq!(
            (status, code.as_str(), named.as_deref()),
            expected,
            "{body}"
        );
    }
    assert_eq!(
        client
            .post("/unregister", &json!({"model_name": "m"}))
            .refusal()
            .0,
        400
    );
    assert_eq!(client.get("/workers").json(), json!([]));
}

/// Rank 0 holds two blocks on the GPU and two more on the CPU; rank 1 one on the GPU, four on disk.
#[test]
fn a_query_counts_tokens_by_tier_and_rank() {
    let fixture = Fixture::new();
    let mut client = fixture.client();
    for (instance, rank) in [("w", 0), ("w", 1), ("x", 0), ("empty", 0)] {
        assert_eq!(
            client
                .post("/register", &registration(instance, rank))
                .status,
            201
        );
    }
    let prompt = prompt(24);
    for (worker, tier, after, end) in [
        ("w#0", Tier::Gpu, 0, 8),
        ("w#0", Tier::Cpu, 2, 16),
        ("w#1", Tier::Gpu, 0, 4),
        ("w#1", Tier::Disk, 1, 20),
        ("x#0", Tier::Gpu, 0, 4),
    ] {
        fixture.store(
            worker,
            &Blocks {
                tier,
                after,
                ..Blocks::of(&prompt[..end])
            },
        );
    }
    let response = client.post("/query", &json!({"token_ids": prompt, "model_name": "m"}));
    let expected = json!({
        "scores": {"w": {"0": 8, "1": 4}, "x": {"0": 4}},
        "frequencies": [],
        "instances": {
            "w": {"longest_matched": 20, "gpu": 8, "dp": {"0": 8, "1": 4}, "cpu": 16, "disk": 20},
            "x": {"longest_matched": 4, "gpu": 4, "dp": {"0": 4}, "cpu": 4, "disk": 4},
        },
    });
    assert_eq!((response.status, response.json()), (200, expected));
    let missed = client.post(
        "/query",
        &json!({"token_ids": [9, 9, 9, 9], "model_name": "m"}),
    );
    let nothing = json!({"scores": {}, "frequencies": [], "instances": {}});
    assert_eq!((missed.status, missed.json()), (200, nothing));
}

#[test]
fn a_query_knows_adapters_and_salts() {
    let fixture = Fixture::new();
    for pod in ["base", "fr", "salted"] {
        fixture.add_pod(pod);
    }
    let mut salt = ExtraHasher::new();
    salt.text("t");
    let salt = [salt.finish(), ExtraDigest::NONE];
    fixture.store("base#0", &Blocks::of(&prompt(8)));
    fixture.store(
        "fr#0",
        &Blocks {
            adapter: Some("fr"),
            ..Blocks::of(&prompt(8))
        },
    );
    fixture.store(
        "salted#0",
        &Blocks {
            extra: &salt,
            ..Blocks::of(&prompt(8))
        },
    );
    let mut client = fixture.client();
    let mut ask = |fields: Value| {
        let mut body = json!({"token_ids": prompt(8), "model_name": "m"});
        for (name, value) in fields.as_object().unwrap() {
            body[name] = value.clone();
        }
        client.post("/query", &body).json()["scores"].clone()
    };
    assert_eq!(ask(json!({})), json!({"base": {"0": 8}}));
    assert_eq!(
        ask(json!({"lora_name": "", "cache_salt": ""})),
        json!({"base": {"0": 8}})
    );
    assert_eq!(ask(json!({"lora_name": "fr"})), json!({"fr": {"0": 8}}));
    assert_eq!(ask(json!({"cache_salt": "t"})), json!({"salted": {"0": 8}}));
}

#[test]
fn a_wrong_query_names_its_field() {
    let fixture = Fixture::new();
    fixture.add_pod("a");
    let mut client = fixture.client();
    for (body, status, field) in [
        (json!({"model_name": "m"}), 400, "token_ids"),
        (
            json!({"model_name": "m", "token_ids": []}),
            400,
            "token_ids",
        ),
        (
            json!({"model_name": "m", "token_ids": [1, "2"]}),
            400,
            "token_ids",
        ),
        (json!({"token_ids": [1]}), 400, "model_name"),
        (
            json!({"model_name": 1, "token_ids": [1]}),
            400,
            "model_name",
        ),
        (
            json!({"model_name": "unknown", "token_ids": [1]}),
            404,
            "model_name",
        ),
    ] {
        let (got, _, named) = client.post("/query", &body).refusal();
        assert_eq!((got, named.as_deref()), (status, Some(field)), "{body}");
    }
}
