//! `GET /v1/prefixes` over lookups of which every expected number is worked out by hand, in blocks of four tokens.
use crate::client::Client;
use crate::fixture::{Blocks, Fixture, events_of, prompt};
use kvroute::http::ServerConfig;
use kvroute::status::{Trust, now_ms};
use kvroute_engine::hash::{ExtraDigest, ExtraHasher};
use serde_json::{Value, json};
use std::net::SocketAddr;

fn lookup(client: &mut Client, asked: &Value) {
    let response = client.post("/v1/match", asked);
    assert_eq!(response.status, 200, "{response:?}");
}

fn ask(client: &mut Client, times: usize, tokens: &[u32]) {
    for _ in 0..times {
        lookup(client, &json!({"model": "m", "token_ids": tokens}));
    }
}

/// The answer's only context.
fn only(answer: &Value) -> &Value {
    let contexts = answer["contexts"].as_array().unwrap();
    assert_eq!(contexts.len(), 1, "{answer}");
    &contexts[0]
}

/// How often something was asked for, but for what a test's seconds take off.
fn times(asked: &Value) -> u64 {
    let asked = asked.as_f64().unwrap();
    assert!(asked > 0.0 && asked.ceil() - asked < 0.5, "{asked}");
    asked.ceil() as u64
}

/// (id, parent, from, to, asked, pods, workers) of a context's nodes.
fn tree(context: &Value) -> Vec<(u64, Option<u64>, [u64; 5])> {
    let nodes = context["nodes"].as_array().unwrap();
    let number = |node: &Value, name: &str| node[name].as_u64().unwrap();
    let of = |node: &Value| {
        let asked = times(&node["asked"]);
        let [from, to] = ["from_tokens", "to_tokens"].map(|name| number(node, name));
        let [pods, workers] = ["pods", "workers"].map(|name| number(node, name));
        let numbers = [from, to, asked, pods, workers];
        (number(node, "id"), node["parent"].as_u64(), numbers)
    };
    nodes.iter().map(of).collect()
}

/// The tokens from this one on.
fn from(first: u32, tokens: u32) -> Vec<u32> {
    (first..first + tokens).collect()
}

/// Tokens that no number of the answer has by chance.
const FAR: u32 = 3_900_000_001;

#[test]
fn what_was_asked_for_is_shown_as_a_tree() {
    let fixture = Fixture::new();
    fixture.add(json!({"pod": "a", "model": "m", "events": events_of("a"), "ranks": 2}));
    for pod in ["b", "wrong"] {
        fixture.add_pod(pod);
    }
    fixture.store("a#0", &Blocks::of(&from(FAR, 12)));
    fixture.store("a#1", &Blocks::of(&from(FAR, 8)));
    fixture.store("b#0", &Blocks::of(&from(FAR, 8)));
    // Nobody is told of what it says it holds.
    fixture.store("wrong#0", &Blocks::of(&from(FAR, 16)));
    fixture.status("wrong#0").set_trust(Trust::Distrusted);
    let before = now_ms();
    let mut client = fixture.client();
    ask(&mut client, 3, &from(FAR, 18));
    ask(&mut client, 2, &[&from(FAR, 4)[..], &[7, 7, 7, 7]].concat());
    // Neither finds anything.
    ask(&mut client, 4, &from(1, 8));
    ask(&mut client, 4, &from(FAR, 3));
    let response = client.get("/v1/prefixes");
    let answer = response.json();
    let expected = [
        (1, None, [0, 4, 5, 2, 3]),
        (2, Some(1), [4, 8, 3, 2, 3]),
        (3, Some(2), [8, 12, 3, 1, 1]),
    ];
    let context = only(&answer);
    assert_eq!(tree(context), expected);
    assert_eq!(
        (times(&context["asked"]), times(&answer["lookups"])),
        (5, 5)
    );
    let names = (&context["model"], &context["lora"], &context["block_size"]);
    assert_eq!(names, (&json!("m"), &Value::Null, &json!(4)));
    let fixed = json!({"busy": 0, "full": 0, "forgotten": 0});
    assert_eq!(
        (&answer["left_out"], &answer["exact"]),
        (&fixed, &json!(true))
    );
    let ms = |value: &Value| value.as_u64().unwrap();
    let last = ms(&context["nodes"][2]["last_ms"]);
    // The two clocks may differ by a moment.
    assert!((before - 100..=ms(&answer["now_ms"]) + 100).contains(&last));
    let text = String::from_utf8(response.body).unwrap();
    assert!(!text.contains("3900000"), "tokens are shown: {text}");
}

#[test]
fn contexts_salts_and_given_keys_are_prefixes_of_their_own() {
    let fixture = Fixture::new();
    fixture.add(json!({"pod": "a", "model": "m", "events": events_of("a"), "lora": ["fr"]}));
    let mut salt = ExtraHasher::new();
    salt.text("tenant-A");
    let salted = [salt.finish(), ExtraDigest::NONE];
    let tokens = prompt(8);
    fixture.store("a#0", &Blocks::of(&tokens));
    let blocks = Blocks {
        extra: &salted,
        chain: 1,
        ..Blocks::of(&tokens)
    };
    fixture.store("a#0", &blocks);
    let blocks = Blocks {
        adapter: Some("fr"),
        block_size: 2,
        chain: 2,
        ..Blocks::of(&tokens)
    };
    fixture.store("a#0", &blocks);
    let mut client = fixture.client();
    ask(&mut client, 3, &prompt(8));
    for _ in 0..4 {
        let tokens = prompt(8);
        lookup(
            &mut client,
            &json!({"model": "m", "token_ids": tokens, "cache_salt": "tenant-A"}),
        );
    }
    for asked in [
        json!({"model": "fr", "token_ids": prompt(8)}),
        json!({"model": "m", "lora": "fr", "token_ids": prompt(6)}),
    ] {
        lookup(&mut client, &asked);
    }
    let answer = client.get("/v1/prefixes").json();
    let [plain, french] = &answer["contexts"].as_array().unwrap()[..] else {
        panic!("{answer}");
    };
    let roots = [(1, None, [0, 8, 4, 1, 1]), (2, None, [0, 8, 3, 1, 1])];
    assert_eq!((tree(plain), times(&plain["asked"])), (roots.into(), 7));
    let adapted = [(3, None, [0, 6, 2, 1, 1]), (4, Some(3), [6, 8, 1, 1, 1])];
    assert_eq!(tree(french), adapted);
    assert_eq!(
        (&french["lora"], &french["block_size"]),
        (&json!("fr"), &json!(2))
    );
    assert_ne!(plain["nodes"][0]["key"], plain["nodes"][1]["key"]);
    // The same blocks by their keys count for the same prefix.
    let keys = prompt(8);
    let keys = keys
        .chunks(4)
        .map(|tokens| kvroute_engine::hash::block_key(1337, tokens, ExtraDigest::NONE).get());
    let keys: Vec<_> = keys.collect();
    let asked = json!({"model_name": "m", "block_hashes": keys});
    for _ in 0..2 {
        assert_eq!(client.post("/query_by_hash", &asked).status, 200);
    }
    let again = client.get("/v1/prefixes?limit=1").json();
    assert_eq!(tree(&again["contexts"][0]), [(1, None, [0, 8, 5, 1, 1])]);
    assert_eq!(
        again["contexts"][0]["nodes"][0]["key"],
        plain["nodes"][1]["key"]
    );
}

#[test]
fn what_nobody_holds_any_more_is_not_shown() {
    let fixture = Fixture::new();
    fixture.add_pod("a");
    fixture.add(json!({"pod": "b", "model": "other", "events": events_of("b")}));
    for worker in ["a#0", "b#0"] {
        fixture.store(worker, &Blocks::of(&prompt(8)));
    }
    let mut client = fixture.client();
    for model in ["m", "other"] {
        lookup(
            &mut client,
            &json!({"model": model, "token_ids": prompt(8)}),
        );
    }
    let answer = client
        .get("/v1/prefixes?model=other&limit=1000&what=1")
        .json();
    assert_eq!(only(&answer)["model"], "other");
    let answer = client.get("/v1/prefixes?model=nobody").json();
    assert_eq!(answer["contexts"], json!([]));
    assert_eq!(client.delete("/v1/workers/a").status, 204);
    assert_eq!(only(&client.get("/v1/prefixes").json())["model"], "other");
}

#[test]
fn parameters_are_checked() {
    let fixture = Fixture::new();
    let mut client = fixture.client();
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=-1", "limit"),
        ("limit=", "limit"),
        ("model=", "model"),
        ("model=%ff", "model"),
    ] {
        let (status, _, at) = client.get(&format!("/v1/prefixes?{query}")).refusal();
        assert_eq!((status, at.as_deref()), (400, Some(field)), "{query}");
    }
    assert_eq!(client.get("/v1/prefixes?limit=5&limit=7").status, 200);
    assert_eq!(client.post("/v1/prefixes", &json!({})).status, 405);
}

/// What everybody asks for is not everybody's business.
#[test]
fn clients_are_not_told_where_there_is_an_admin_listener() {
    let fixture = Fixture::serving(&ServerConfig {
        admin_listen: Some(SocketAddr::from(([127, 0, 0, 1], 0)).into()),
        ..ServerConfig::default()
    });
    assert_eq!(fixture.client().get("/v1/prefixes").status, 403);
}
