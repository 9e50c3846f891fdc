//! The fleet over HTTP, and readiness.
use crate::fixture::{Blocks, Fixture, events_of, prompt};
use kvroute::http::ServerConfig;
use kvroute::load::Scrape;
use kvroute::status::{Cause, Dropped, ReplayOutcome, SkipReason, Trust, now_ms};
use serde_json::{Value, json};

#[test]
fn a_pod_is_added_listed_and_removed() {
    let fixture = Fixture::new();
    let mut client = fixture.client();
    assert_eq!(client.get("/v1/workers").json(), json!([]));
    let pod = json!({
        "pod": "default/vllm-0", "uid": "5f1", "model": "llama-8b", "endpoint": "10.0.0.7:8000",
        "events": "tcp://10.0.0.7:5557", "replay": "tcp://10.0.0.7:5657", "ranks": 2, "lora": ["fr"],
        "block_size": 16,
    });
    let added = client.post("/v1/workers", &pod);
    assert_eq!((added.status, added.json()), (201, pod));
    let entry = |rank: u64| {
        json!({
            "pod": "default/vllm-0", "uid": "5f1", "rank": rank, "model": "llama-8b", "lora": ["fr"],
            "endpoint": "10.0.0.7:8000", "events": format!("tcp://10.0.0.7:{}", 5557 + rank),
            "replay": format!("tcp://10.0.0.7:{}", 5657 + rank), "block_size": 16,
            "state": "replaying", "last_sequence": null, "last_event_ms": null, "blocks": 0,
            "gaps": 0, "replays": 0, "restarts": 0, "events_skipped": {}, "problem": null,
            "source": "registered", "serving": true, "load": null,
            "state_since_ms": fixture.status(&format!("default/vllm-0#{rank}")).state_since_ms(),
        })
    };
    assert_eq!(
        client.get("/v1/workers").json(),
        json!([entry(0), entry(1)])
    );
    assert_eq!(client.delete("/v1/workers/default%2Fvllm-0").status, 204);
    assert_eq!(client.get("/v1/workers").json(), json!([]));
    let (status, code, field) = client.delete("/v1/workers/default/vllm-0").refusal();
    assert_eq!(
        (status, code.as_str(), field.as_deref()),
        (404, "worker_not_found", Some("pod"))
    );
}

#[test]
fn the_list_shows_what_the_io_thread_says() {
    let fixture = Fixture::new();
    fixture.add_pod("a");
    let status = fixture.status("a#0");
    status.set_trust(Trust::Partial);
    status.set_last_sequence(Some(0));
    status.set_block_size(32);
    status.set_blocks(7);
    status.add_gaps(1, 0, None);
    status.add_replay(0);
    status.add_replay(5);
    status.add_restarts(3);
    status.add_skipped(SkipReason::UnknownTag, 4);
    status.add_skipped(SkipReason::Medium, 5);
    status.learn_adapter("fr");
    status.touch();
    let problem = "the engine publishes no events";
    fixture.fleet.view().pod("a")[0].set_problem(Some(problem));
    let listed = fixture.client().get("/v1/workers").json();
    let expected = json!([{
        "pod": "a", "uid": null, "rank": 0, "model": "m", "lora": ["fr"], "endpoint": null,
        "events": events_of("a"), "replay": null, "block_size": 32, "state": "partial",
        "last_sequence": 0, "last_event_ms": status.last_event_ms(), "blocks": 7, "gaps": 1,
        "replays": 2, "restarts": 3, "events_skipped": {"unknown_tag": 4, "medium": 5},
        "problem": problem, "source": "registered", "serving": true, "load": null,
        "state_since_ms": status.state_since_ms(),
    }]);
    assert_eq!(listed, expected);
}

#[test]
fn a_pod_is_shown_with_what_happened_to_it() {
    let fixture = Fixture::new();
    fixture.add(json!({"pod": "ns/a", "model": "m", "events": "tcp://h:1", "ranks": 2}));
    fixture.add_pod("ns/b");
    let before = now_ms();
    let status = fixture.status("ns/a#1");
    status.connected();
    status.add_gaps(1, 3, Some(812));
    status.set_state((Trust::Replaying, Cause::ReplayOfGap));
    status.set_state((Trust::Replaying, Cause::Replay));
    status.add_replay(808);
    status.add_outcome(ReplayOutcome::Complete);
    status.set_state((Trust::Exact, Cause::Whole));
    for _ in 0..3 {
        status.dropped(Dropped::Cleared);
        status.set_block_size(16);
        status.add_skipped(SkipReason::Medium, 5);
    }
    let mut client = fixture.client();
    let shown = client.get("/v1/workers/ns%2Fa").json();
    assert_eq!(client.get("/v1/workers/ns/a").json(), shown);
    let mut ranks = shown.as_array().unwrap().clone();
    assert_eq!(ranks.len(), 2);
    // As they come, exact: whoever set that did not say why.
    let first = &ranks[0]["history"];
    assert_eq!(first[0]["text"], "replaying → exact");
    assert_eq!(first.as_array().unwrap().len(), 1);
    let fields = ranks[1].as_object_mut().unwrap();
    let history = fields.remove("history").unwrap();
    assert_eq!(fields.remove("history_lost"), Some(json!(0)));
    let listed = client.get("/v1/workers").json();
    assert_eq!(listed[1], ranks[1], "all else as in the list");
    let told: Vec<_> = history.as_array().unwrap().iter().collect();
    let texts = told.iter().map(|e| {
        let at_ms = e["at_ms"].as_u64().unwrap();
        assert!((before..=now_ms()).contains(&at_ms) || e["text"] == "replaying → exact");
        let what = e["what"].as_str().unwrap();
        (what, e["text"].as_str().unwrap(), e["count"].as_u64())
    });
    let expected = [
        ("state", "replaying → exact", None),
        ("connected", "the event socket is connected", None),
        ("gap", "3 batches are missing before 812", None),
        (
            "state",
            "exact → replaying: batches are missing, and asked for",
            None,
        ),
        ("replay", "a replay from 808 on was asked for", None),
        ("replay", "the replay ended: complete", None),
        ("state", "replaying → exact: nothing is missing", None),
        ("block_size", "blocks have 16 tokens", None),
        (
            "skipped",
            "something was skipped for the first time: medium",
            None,
        ),
        (
            "dropped",
            "all that it held was dropped: its engine cleared its cache",
            Some(3),
        ),
    ];
    assert_eq!(texts.collect::<Vec<_>>(), expected);
    let since = ranks[1]["state_since_ms"].as_u64().unwrap();
    assert!(since >= before && since == told[6]["at_ms"].as_u64().unwrap());
}

#[test]
fn what_the_engine_said_of_its_load_is_listed() {
    let fixture = Fixture::new();
    fixture.add_pod("ns/a");
    let view = fixture.fleet.view();
    let load = view.pod("ns/a")[0].load();
    let mut client = fixture.client();
    for (usage, told) in [(Some(0.5), json!(0.5)), (None, Value::Null)] {
        let scrape = Scrape {
            running: 3,
            waiting: 1,
            active_tokens: 9,
            usage,
        };
        load.take(&scrape, &load.marks(fixture.fleet.clock().now()));
        let expected = json!({"running": 3, "waiting": 1, "kv_usage": told});
        assert_eq!(client.get("/v1/workers").json()[0]["load"], expected);
        assert_eq!(client.get("/v1/workers/ns/a").json()[0]["load"], expected);
    }
    client.send(b"HEAD /v1/workers/ns/a HTTP/1.1\r\nhost: x\r\n\r\n");
    assert_eq!(client.receive_head().status, 200);
    let (status, code, field) = client.get("/v1/workers/ns").refusal();
    assert_eq!(
        (status, code.as_str(), field.as_deref()),
        (404, "worker_not_found", Some("pod"))
    );
}

#[test]
fn a_history_is_bounded_and_tells_what_it_lost() {
    let fixture = Fixture::new();
    fixture.add_pod("a");
    let status = fixture.status("a#0");
    // Each reason happens once, so that none is merged.
    for &reason in SkipReason::ALL {
        status.add_skipped(reason, 1);
    }
    for &cause in Cause::ALL {
        status.set_state((Trust::Stale, cause));
        status.set_state((Trust::Exact, cause));
    }
    let shown = fixture.client().get("/v1/workers/a").json();
    let happened = 1 + SkipReason::ALL.len() + 2 * Cause::ALL.len();
    assert_eq!(shown[0]["history"].as_array().unwrap().len(), 32);
    assert_eq!(shown[0]["history_lost"], happened - 32);
    let last = Cause::ALL.last().unwrap().as_str();
    let text = format!("stale → exact: {last}");
    assert_eq!(shown[0]["history"][31]["text"], text);
}

/// A good pod, but for what is changed.
fn pod(change: Value) -> Value {
    let mut pod = json!({"pod": "a", "model": "m", "events": "tcp://h:5557"});
    for (name, value) in change.as_object().unwrap() {
        pod[name] = value.clone();
    }
    pod
}

#[test]
fn a_description_that_is_not_usable_is_refused_with_the_field() {
    let fixture = Fixture::new();
    let mut client = fixture.client();
    for (change, field) in [
        (json!({"pod": ""}), "pod"),
        (json!({"pod": null}), "pod"),
        (json!({"model": ""}), "model"),
        (json!({"events": "h:5557"}), "events"),
        (json!({"events": "tcp://h:0"}), "events"),
        (json!({"events": 5557}), "events"),
        (json!({"replay": "http://h:1"}), "replay"),
        (json!({"replay": "tcp://h:5558", "ranks": 2}), "replay"),
        (json!({"ranks": 0}), "ranks"),
        (json!({"ranks": "one"}), "ranks"),
        (json!({"block_size": 0}), "block_size"),
        (json!({"endpoint": "nowhere"}), "endpoint"),
        (json!({"lora": "fr"}), "lora"),
        (json!({"port": 1}), "port"),
    ] {
        let (status, code, named) = client.post("/v1/workers", &pod(change.clone())).refusal();
        let expected = (400, "invalid_request", Some(field));
        assert_eq!(
            (status, code.as_str(), named.as_deref()),
            expected,
            "{change}"
        );
    }
    let (status, _, field) = client
        .post("/v1/workers", &json!({"pod": "a", "model": "m"}))
        .refusal();
    assert_eq!((status, field.as_deref()), (400, Some("events")));
    assert_eq!(client.get("/v1/workers").json(), json!([]));
}

#[test]
fn a_pod_that_the_fleet_cannot_have_is_refused_with_the_reason() {
    let fixture = Fixture::new();
    let mut client = fixture.client();
    assert_eq!(client.post("/v1/workers", &pod(json!({}))).status, 201);
    let (status, code, field) = client.post("/v1/workers", &pod(json!({}))).refusal();
    assert_eq!(
        (status, code.as_str(), field.as_deref()),
        (409, "conflict", Some("pod"))
    );
    let other = pod(json!({"model": "n", "first_rank": 1}));
    let (status, code, field) = client.post("/v1/workers", &other).refusal();
    assert_eq!(
        (status, code.as_str(), field.as_deref()),
        (409, "conflict", Some("model"))
    );
    let same = pod(json!({"pod": "b", "events": "tcp://h:5556", "ranks": 2}));
    let response = client.post("/v1/workers", &same);
    let (status, code, field) = response.refusal();
    assert_eq!(
        (status, code.as_str(), field.as_deref()),
        (409, "conflict", Some("events"))
    );
    let message = response.json()["error"]["message"].to_string();
    assert!(
        message.contains("b#1") && message.contains("a#0"),
        "{message}"
    );
    // The fixture's engines have room for four hundred workers.
    let many = pod(json!({"pod": "b", "events": "tcp://g:1", "ranks": 400}));
    let (status, code, field) = client.post("/v1/workers", &many).refusal();
    assert_eq!((status, code.as_str(), field), (503, "no_room", None));
    assert_eq!(
        client.get("/v1/workers").json().as_array().unwrap().len(),
        1
    );
}

#[test]
fn a_pod_that_comes_again_with_another_uid_replaces_itself() {
    let fixture = Fixture::new();
    let mut client = fixture.client();
    let pod = |uid: &str, ranks: u32| json!({"pod": "a", "uid": uid, "model": "m", "events": "tcp://h:1", "ranks": ranks});
    assert_eq!(client.post("/v1/workers", &pod("u1", 2)).status, 201);
    fixture.store("a#0", &Blocks::of(&prompt(4)));
    assert_eq!(client.post("/v1/workers", &pod("u1", 2)).status, 409);
    assert_eq!(client.post("/v1/workers", &pod("u2", 1)).status, 201);
    let listed = client.get("/v1/workers").json();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!(listed[0]["uid"], "u2");
    let asked = json!({"model": "m", "token_ids": prompt(4)});
    let answer = client.post("/v1/match", &asked).json();
    assert_eq!(answer["candidates"], json!([]), "it has none of the blocks");
}

#[test]
fn a_pod_may_leave_its_events_to_the_engine() {
    let fixture = Fixture::new();
    let mut client = fixture.client();
    let pod = json!({"pod": "a", "model": "m", "endpoint": "10.0.0.7:8000"});
    assert_eq!(client.post("/v1/workers", &pod).status, 201);
    let listed = client.get("/v1/workers").json();
    assert_eq!(listed[0]["events"], "tcp://10.0.0.7:5557");
    assert_eq!(listed[0]["replay"], "tcp://10.0.0.7:5558");
}

#[test]
fn a_pod_serves_from_the_moment_it_is_added() {
    let fixture = Fixture::new();
    let mut client = fixture.client();
    let pod = json!({"pod": "a", "model": "m", "events": "tcp://h:5557"});
    assert_eq!(client.post("/v1/workers", &pod).status, 201);
    fixture.store("a#0", &Blocks::of(&prompt(4)));
    let asked = json!({"model": "m", "token_ids": prompt(4)});
    let candidate = &client.post("/v1/match", &asked).json()["candidates"][0];
    assert_eq!(
        (&candidate["pod"], &candidate["state"]),
        (&json!("a"), &json!("replaying"))
    );
}

#[test]
fn ready_once_the_share_of_workers_has_left_replaying() {
    let fixture = Fixture::with(1, 0.5);
    let mut client = fixture.client();
    let states = |exact: u64, replaying: u64, stale: u64| {
        json!({
            "exact": exact, "replaying": replaying, "partial": 0, "approximate": 0, "stale": stale,
            "distrusted": 0,
        })
    };
    let kv_sync = json!({
        "mode": "events", "valid": true, "meaning": kvroute::status::SyncMode::Events.meaning(),
    });
    let empty = json!({
        "status": "ready", "workers": 0, "synchronised": 0, "late": false,
        "states": states(0, 0, 0), "kv_sync": kv_sync,
    });
    assert_eq!(client.get("/readyz").json(), empty);
    for pod in ["a", "b", "c"] {
        fixture.add_pod(pod);
        fixture
            .status(&format!("{pod}#0"))
            .set_trust(Trust::Replaying);
    }
    fixture.status("a#0").set_trust(Trust::Exact);
    let response = client.get("/readyz");
    let (status, code, field) = response.refusal();
    assert_eq!((status, code.as_str(), field), (503, "not_ready", None));
    assert_eq!(response.json()["states"], states(1, 2, 0));
    assert_eq!(response.json()["kv_sync"], kv_sync);
    let message = response.json()["error"]["message"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        message.contains("2 of 3") && message.contains("b#0, c#0"),
        "{message}"
    );
    // Any other state will do: a dead pod must not keep the node from serving.
    fixture.status("b#0").set_trust(Trust::Stale);
    let response = client.get("/readyz");
    let ready = json!({
        "status": "ready", "workers": 3, "synchronised": 2, "late": false,
        "states": states(1, 1, 1), "kv_sync": kv_sync,
    });
    assert_eq!((response.status, response.json()), (200, ready));
    // One that starts or replays again takes nobody out of service.
    fixture.status("a#0").set_trust(Trust::Replaying);
    let response = client.get("/readyz");
    let ready = json!({
        "status": "ready", "workers": 3, "synchronised": 1, "late": false,
        "states": states(0, 2, 1), "kv_sync": kv_sync,
    });
    assert_eq!((response.status, response.json()), (200, ready));
}

#[test]
fn a_node_that_was_asked_to_synchronise_without_a_tokenizer_says_so() {
    use kvroute::status::SyncMode;
    for (sync_mode, valid) in [
        (SyncMode::Events, true),
        (SyncMode::Decisions, true),
        (SyncMode::DecisionsWithTokenizer, true),
        (SyncMode::EventsOfTokens, true),
        (SyncMode::EventsWithoutTokenizer, false),
    ] {
        let fixture = Fixture::serving(&ServerConfig {
            sync_mode,
            ..ServerConfig::default()
        });
        let mut client = fixture.client();
        let ready = client.get("/readyz");
        assert_eq!(ready.status, 200);
        let said = &ready.json()["kv_sync"];
        assert_eq!(
            (&said["mode"], &said["valid"]),
            (&json!(sync_mode.as_str()), &json!(valid))
        );
        let metrics = String::from_utf8(client.get("/metrics").body).unwrap();
        let line = format!("\naibrix_kv_sync_configuration_valid {}\n", u8::from(valid));
        assert!(metrics.contains(&line), "{metrics}");
    }
}
