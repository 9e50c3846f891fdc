//! What token ids alone do not tell: adapters, cache salts, multimodal content.
use crate::client::Client;
use crate::fixture::{Blocks, Fixture, prompt};
use kvroute_engine::hash::{ExtraDigest, ExtraHasher};
use serde_json::{Value, json};

fn digest(walk: impl FnOnce(&mut ExtraHasher)) -> ExtraDigest {
    let mut hasher = ExtraHasher::new();
    walk(&mut hasher);
    hasher.finish()
}

/// Matched tokens by pod; the model is `m` unless the fields say otherwise.
fn ask(client: &mut Client, fields: &Value) -> Vec<(String, u64)> {
    let mut asked = json!({"model": "m", "token_ids": prompt(8)});
    for (name, value) in fields.as_object().unwrap() {
        asked[name] = value.clone();
    }
    let response = client.post("/v1/match", &asked);
    assert_eq!(response.status, 200, "{asked}");
    listed(&response.json())
}

fn listed(answer: &Value) -> Vec<(String, u64)> {
    let candidates = answer["candidates"].as_array().unwrap();
    candidates
        .iter()
        .map(|c| {
            (
                c["pod"].as_str().unwrap().to_owned(),
                c["matched_tokens"].as_u64().unwrap(),
            )
        })
        .collect()
}

fn only(pod: &str, tokens: u64) -> Vec<(String, u64)> {
    vec![(pod.to_owned(), tokens)]
}

#[test]
fn a_salt_is_its_own_prompt() {
    let fixture = Fixture::new();
    for pod in ["plain", "salted", "other"] {
        fixture.add_pod(pod);
    }
    let salt = |salt: &str| [digest(|h| h.text(salt)), ExtraDigest::NONE];
    fixture.store("plain#0", &Blocks::of(&prompt(8)));
    fixture.store(
        "salted#0",
        &Blocks {
            extra: &salt("tenant-A"),
            ..Blocks::of(&prompt(8))
        },
    );
    fixture.store(
        "other#0",
        &Blocks {
            extra: &salt("tenant-B"),
            ..Blocks::of(&prompt(8))
        },
    );
    let mut client = fixture.client();
    assert_eq!(ask(&mut client, &json!({})), only("plain", 8));
    assert_eq!(
        ask(&mut client, &json!({"cache_salt": ""})),
        only("plain", 8)
    );
    assert_eq!(
        ask(&mut client, &json!({"cache_salt": "tenant-A"})),
        only("salted", 8)
    );
    assert_eq!(ask(&mut client, &json!({"cache_salt": "tenant-C"})), []);
    // The engine's own words for it, with and without the salt said apart.
    let keys = json!([["tenant-B"], null]);
    assert_eq!(
        ask(&mut client, &json!({"extra_keys": keys})),
        only("other", 8)
    );
    let both = json!({"extra_keys": keys, "cache_salt": "tenant-B"});
    assert_eq!(ask(&mut client, &both), only("other", 8));
    let binary = client.post_tokens("/v1/match?model=m&cache_salt=tenant-A", "", &prompt(8));
    assert_eq!(listed(&binary.json()), only("salted", 8));
    let path = "/v1/match?model=m&extra_keys=%5B%5B%22tenant-B%22%5D%5D";
    assert_eq!(
        listed(&client.post_tokens(path, "", &prompt(8)).json()),
        only("other", 8)
    );
}

/// Two images with the same placeholder tokens, in the second block only; the second one salted.
#[test]
fn images_are_told_apart_by_their_extra_keys() {
    let fixture = Fixture::new();
    fixture.add_pod("cat");
    fixture.add_pod("dog");
    let pair = |h: &mut ExtraHasher, image: &str, offset: i128| {
        h.list(2);
        h.text(image);
        h.integer(offset);
    };
    let cat = [ExtraDigest::NONE, digest(|h| pair(h, "cat-hash", -1))];
    let dog = [digest(|h| h.text("t")), digest(|h| pair(h, "dog-hash", 1))];
    fixture.store(
        "cat#0",
        &Blocks {
            extra: &cat,
            ..Blocks::of(&prompt(8))
        },
    );
    fixture.store(
        "dog#0",
        &Blocks {
            extra: &dog,
            ..Blocks::of(&prompt(8))
        },
    );
    let mut client = fixture.client();
    let cat = json!([null, [["cat-hash", -1]]]);
    let dog = json!([null, [["dog-hash", 1]]]);
    assert_eq!(
        ask(&mut client, &json!({"extra_keys": cat})),
        only("cat", 8)
    );
    assert_eq!(
        ask(&mut client, &json!({"extra_keys": dog})),
        only("cat", 4),
        "text before the image"
    );
    assert_eq!(
        ask(&mut client, &json!({"extra_keys": dog, "cache_salt": "t"})),
        only("dog", 8)
    );
    assert_eq!(
        ask(&mut client, &json!({"extra_keys": cat, "cache_salt": "t"})),
        only("dog", 4)
    );
}

#[test]
fn adapters_are_contexts_of_their_own() {
    let fixture = Fixture::new();
    fixture.add_pod("base");
    fixture.add(json!({"pod": "fr", "model": "m", "events": "tcp://h:1", "lora": ["fr", "it"]}));
    fixture.store("base#0", &Blocks::of(&prompt(8)));
    // Engines put the adapter's name first into every block's keys; the wire decoder leaves it out.
    fixture.store(
        "fr#0",
        &Blocks {
            adapter: Some("fr"),
            ..Blocks::of(&prompt(4))
        },
    );
    let mut client = fixture.client();
    assert_eq!(ask(&mut client, &json!({})), only("base", 8));
    assert_eq!(ask(&mut client, &json!({"lora": ""})), only("base", 8));
    assert_eq!(ask(&mut client, &json!({"lora": "fr"})), only("fr", 4));
    assert_eq!(ask(&mut client, &json!({"lora": "de"})), []);
    let keys = json!([["fr"], ["fr"]]);
    assert_eq!(
        ask(&mut client, &json!({"lora": "fr", "extra_keys": keys})),
        only("fr", 4)
    );
    // As engines do, the adapter's name may stand for the model's.
    assert_eq!(ask(&mut client, &json!({"model": "fr"})), only("fr", 4));
    assert_eq!(
        ask(&mut client, &json!({"model": "fr", "extra_keys": keys})),
        only("fr", 4)
    );
    assert_eq!(
        ask(&mut client, &json!({"model": "it"})),
        [],
        "declared, and nothing is held"
    );
}

#[test]
fn adapters_are_learnt_from_events() {
    let fixture = Fixture::new();
    fixture.add_pod("a");
    fixture.add(json!({"pod": "b", "model": "n", "events": "tcp://h:1"}));
    let mut client = fixture.client();
    let asked = json!({"model": "fr", "token_ids": prompt(8)});
    assert_eq!(client.post("/v1/match", &asked).refusal().0, 404);
    // From what is held now.
    fixture.store(
        "a#0",
        &Blocks {
            adapter: Some("fr"),
            ..Blocks::of(&prompt(4))
        },
    );
    assert_eq!(ask(&mut client, &json!({"model": "fr"})), only("a", 4));
    // Two models may have adapters of one name.
    fixture.store(
        "b#0",
        &Blocks {
            adapter: Some("fr"),
            ..Blocks::of(&prompt(8))
        },
    );
    let both = [("b".to_owned(), 8), ("a".to_owned(), 4)];
    assert_eq!(ask(&mut client, &json!({"model": "fr"})), both);
    assert_eq!(
        ask(&mut client, &json!({"model": "n", "lora": "fr"})),
        only("b", 8)
    );
    // From what was ever said.
    assert!(fixture.status("a#0").learn_adapter("de"));
    assert_eq!(ask(&mut client, &json!({"model": "de"})), []);
    let workers = client.get("/v1/workers").json();
    assert_eq!(workers[0]["lora"], json!(["de"]));
}
