//! Choices by what the node knows of loads itself: bookings, feedback, expiry; credits, sessions, the node's own settings.
use crate::client::Client;
use crate::fixture::{Blocks, Fixture, events_of, prompt};
use kvroute::config::RoutingConfig;
use kvroute::http::ServerConfig;
use kvroute::status::Trust;
use kvroute_engine::choose::{Policy, Rules};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

fn pods(threads: usize, pods: &[&str], routing: RoutingConfig) -> Fixture {
    let fixture = Fixture::serving(&ServerConfig {
        threads,
        routing,
        ..ServerConfig::default()
    });
    for pod in pods {
        let endpoint = format!("{pod}:1");
        fixture
            .add(json!({"pod": pod, "model": "m", "events": events_of(pod), "endpoint": endpoint}));
    }
    fixture
}

/// (booked, in flight) of a pod.
fn own(fixture: &Fixture, pod: &str) -> (u64, u64) {
    let now = fixture.fleet.clock().now();
    let view = fixture.fleet.view();
    let counts = view.pod(pod)[0].load().own(now);
    (counts.booked, counts.in_flight())
}

fn metric(fixture: &Fixture, name: &str) -> u64 {
    let text = String::from_utf8(fixture.client().get("/metrics").body).unwrap();
    let lines = text.lines().filter_map(|line| line.strip_prefix(name));
    let values = lines.filter_map(|rest| rest.rsplit(' ').next()?.parse::<u64>().ok());
    values.sum()
}

const EIGHT: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

/// Fifty connections to four threads ask twenty times each for the same prompt, which one of eight pods holds.
///
/// A pod is booked for its match only if it is not more than the imbalance ahead of what the choice saw of the idlest, and
/// for being idle only if it was the idlest; what was seen of others was not above the truth, and of the target it was
/// the truth. So nobody is ever further ahead than the imbalance and the booking itself, but for bookings made unseen.
#[test]
fn a_thousand_equal_requests_at_once_are_spread() {
    let fixture = pods(4, &EIGHT, RoutingConfig::default());
    fixture.store("c#0", &Blocks::of(&prompt(64)));
    let asked = json!({"model": "m", "token_ids": prompt(65)}).to_string();
    let chosen = Mutex::new(Vec::new());
    let address = fixture.server.local_addr();
    thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| {
                let mut client = Client::new(address);
                for _ in 0..20 {
                    let answer = client.post_text("/v1/route", &asked).json();
                    let text = |value: &Value| value.as_str().unwrap().to_owned();
                    let pod = text(&answer["target"]["pod"]);
                    chosen
                        .lock()
                        .unwrap()
                        .push((pod, text(&answer["request_id"])));
                }
            });
        }
    });
    let chosen = chosen.into_inner().unwrap();
    assert_eq!(chosen.len(), 1_000);
    let mut shares: BTreeMap<&str, u64> = EIGHT.iter().map(|&pod| (pod, 0)).collect();
    for (pod, _) in &chosen {
        *shares.get_mut(pod.as_str()).unwrap() += 1;
    }
    for pod in EIGHT {
        assert_eq!(own(&fixture, pod), (shares[pod], shares[pod]), "{pod}");
    }
    let blind = metric(&fixture, "kvroute_bookings_blind_total");
    let ahead = Rules::default().imbalance + 1 + blind;
    let (least, most) = (
        shares.values().min().unwrap(),
        shares.values().max().unwrap(),
    );
    assert!(most - least <= ahead, "{shares:?}, {blind} unseen");
    assert!(shares["c"] >= *least, "{shares:?}");
    assert_eq!(metric(&fixture, "kvroute_decisions_total"), 1_000);
    assert_eq!(metric(&fixture, "kvroute_worker_bookings"), 1_000);

    // What is finished is taken back once, however often that is said.
    let mut client = fixture.client();
    for (_, id) in chosen.iter().chain(&chosen[..100]) {
        let told = client.post("/v1/feedback", &json!({"request_id": id, "finished": true}));
        assert_eq!(told.status, 204);
    }
    for pod in EIGHT {
        assert_eq!(own(&fixture, pod), (shares[pod], 0), "{pod}");
    }
}

/// One after the other, the rules in numbers: the holder of the prefix is taken while its requests do not exceed mean + one sample
/// standard deviation, or are the fewest.
#[test]
fn choices_follow_the_rules_with_the_nodes_own_counts() {
    let fixture = pods(1, &EIGHT, RoutingConfig::default());
    fixture.store("c#0", &Blocks::of(&prompt(8)));
    let mut client = fixture.client();
    let mut counts = [0_u32; 8];
    let (mut by_match, mut skipped) = (0, 0);
    for _ in 0..200 {
        let held = f64::from(counts[2]);
        let mean = counts.iter().map(|&n| f64::from(n)).sum::<f64>() / 8.0;
        let squares: f64 = counts.iter().map(|&n| (f64::from(n) - mean).powi(2)).sum();
        let least = *counts.iter().min().unwrap();
        let admitted = counts[2] == least || held <= mean + (squares / 7.0).sqrt();
        let answer = client.post("/v1/route", &json!({"model": "m", "token_ids": prompt(9)}));
        let answer = answer.json();
        let pod = answer["target"]["pod"].as_str().unwrap();
        let at = EIGHT.iter().position(|&name| name == pod).unwrap();
        if admitted {
            assert_eq!((pod, &answer["reason"]), ("c", &json!("prefix_match")));
            by_match += 1;
        } else {
            assert_eq!(answer["reason"], "prefix_match_skipped");
            assert_eq!(counts[at], least, "{counts:?}");
            skipped += 1;
        }
        counts[at] += 1;
    }
    assert!(by_match > 20 && skipped > 20, "{by_match} {skipped}");
}

#[test]
fn a_trial_books_nothing_and_loads_that_are_given_are_taken_as_they_are() {
    let fixture = pods(1, &["a", "b"], RoutingConfig::default());
    let mut client = fixture.client();
    let mut route = |more: Value| {
        let mut asked = json!({"model": "m", "token_ids": prompt(9), "policy": "least-request"});
        let more = more.as_object().unwrap().clone();
        asked.as_object_mut().unwrap().extend(more);
        let answer = client.post("/v1/route", &asked).json();
        answer["target"]["pod"].as_str().unwrap().to_owned()
    };
    let first = route(json!({"dry_run": true}));
    assert_eq!(route(json!({"dry_run": true})), first);
    assert_eq!((own(&fixture, "a").0, own(&fixture, "b").0), (0, 0));
    // The caller knows of one request of b's, and of none of a's, however many there are.
    for _ in 0..5 {
        assert_eq!(route(json!({"loads": {"b": {"running": 1}}})), "a");
    }
    // They are booked all the same, for those who ask without.
    assert_eq!(own(&fixture, "a"), (5, 5));
    assert_eq!(route(json!({})), "b");
}

#[test]
fn what_nobody_tells_of_expires() {
    let routing = RoutingConfig {
        request_time: Duration::from_millis(150),
        ..RoutingConfig::default()
    };
    let fixture = pods(1, &["a"], routing);
    let asked = json!({"model": "m", "token_ids": prompt(9)});
    let answer = fixture.client().post("/v1/route", &asked).json();
    assert_eq!(own(&fixture, "a").0, 1);
    let give_up = Instant::now() + Duration::from_secs(60);
    while own(&fixture, "a").1 != 0 {
        assert!(Instant::now() < give_up, "it does not expire");
        thread::sleep(Duration::from_millis(2));
    }
    // Feedback that comes later finds nothing to take back.
    let told = json!({"request_id": answer["request_id"], "finished": true});
    assert_eq!(fixture.client().post("/v1/feedback", &told).status, 204);
    assert_eq!(own(&fixture, "a"), (1, 0));
    assert_eq!(metric(&fixture, "kvroute_bookings_expired_total"), 1);
}

#[test]
fn what_is_known_counts_as_far_as_it_is_trusted() {
    let fixture = pods(1, &["a", "b"], RoutingConfig::default());
    fixture.store("a#0", &Blocks::of(&prompt(40)));
    fixture.store("b#0", &Blocks::of(&prompt(28)));
    let asked = json!({"model": "m", "token_ids": prompt(41), "dry_run": true});
    // a holds 40 tokens, b 28 and is exact.
    for (trust, credit, score, pod) in [
        (Trust::Exact, 1.0, 40, "a"),
        (Trust::Partial, 1.0, 40, "a"),
        (Trust::Replaying, 0.9, 36, "a"),
        (Trust::Approximate, 0.8, 32, "a"),
        (Trust::Stale, 0.5, 20, "b"),
        (Trust::Distrusted, 0.0, 0, "b"),
    ] {
        fixture.status("a#0").set_trust(trust);
        let mut client = fixture.client();
        let answer = client.post("/v1/route", &asked).json();
        assert_eq!(answer["target"]["pod"], pod, "{trust:?}");
        let id = answer["request_id"].as_str().unwrap();
        let explained = client.get(&format!("/v1/explain/{id}")).json();
        let candidates = explained["candidates"].as_array().unwrap();
        let a = candidates.iter().find(|c| c["pod"] == "a").unwrap();
        assert_eq!((&a["credit"], &a["score"]), (&json!(credit), &json!(score)));
    }
}

#[test]
fn what_an_engine_computes_anyway_is_no_match() {
    let fixture = pods(1, &["a", "b"], RoutingConfig::default());
    fixture.store("a#0", &Blocks::of(&prompt(12)));
    let mut client = fixture.client();
    // Blocks of four: the last token is always computed, and so the block that it is in.
    for (tokens, matched) in [(14, 12), (13, 12), (12, 8), (11, 8), (4, 0), (1, 0)] {
        let asked = json!({"model": "m", "token_ids": prompt(tokens), "dry_run": true});
        let answer = client.post("/v1/route", &asked).json();
        assert_eq!(answer["matched_tokens"], matched, "{tokens}");
        // What is held is another question.
        let held = answer["candidates"].as_array().unwrap().first();
        let held = held.map_or(0, |c| c["matched_tokens"].as_u64().unwrap());
        assert_eq!(held, u64::from(tokens / 4 * 4).min(12), "{tokens}");
    }
}

#[test]
fn cost_is_added_up_and_explained() {
    let fixture = pods(1, &["a", "b", "c"], RoutingConfig::default());
    fixture.store("a#0", &Blocks::of(&prompt(12)));
    fixture.store("b#0", &Blocks::of(&prompt(8)));
    let loads = json!({"a": {"queued_tokens": 6}, "b": {"active_tokens": 10}, "c": {"running": 9}});
    let asked = json!({"model": "m", "token_ids": prompt(13), "policy": "cost", "loads": loads});
    let mut client = fixture.client();
    let answer = client.post("/v1/route", &asked).json();
    // a: 6 queued and 1 to compute; b: 5 to compute and 10 in use, which count a tenth; c: all 13.
    assert_eq!(
        (&answer["target"]["pod"], &answer["reason"]),
        (&json!("b"), &json!("cost"))
    );
    let id = answer["request_id"].as_str().unwrap();
    let explained = client.get(&format!("/v1/explain/{id}")).json();
    assert_eq!(explained["policy"], "cost");
    let costs = explained["candidates"].as_array().unwrap().iter();
    let costs = costs.map(|c| {
        let number = |field: &str| c[field].as_i64().unwrap();
        let tokens = (number("queued_tokens"), number("active_tokens"));
        let pod = c["pod"].as_str().unwrap();
        (pod, tokens, number("cost"), number("score"))
    });
    let mut costs: Vec<_> = costs.collect();
    costs.sort_unstable();
    assert_eq!(
        costs,
        [
            ("a", (6, 0), 7_000, -7_000),
            ("b", (0, 10), 6_000, -6_000),
            ("c", (0, 0), 13_000, -13_000),
        ]
    );
}

/// The uncached tokens of what was just sent somewhere are queued there.
#[test]
fn cost_minds_what_was_booked() {
    let fixture = pods(1, &["a", "b"], RoutingConfig::default());
    fixture.store("a#0", &Blocks::of(&prompt(8)));
    let mut client = fixture.client();
    let mut pod = |tokens: u32| {
        let asked = json!({"model": "m", "token_ids": prompt(tokens), "policy": "cost"});
        let answer = client.post("/v1/route", &asked).json();
        answer["target"]["pod"].as_str().unwrap().to_owned()
    };
    // a: 12 to compute, b: 20.
    assert_eq!(pod(20), "a");
    // a: 12 queued, 1 to compute, a tenth of 20 in use: 15. b: 9.
    assert_eq!(pod(9), "b");
    // a: 12 + 2 + 2. b: 9 queued, 10 to compute, a tenth of 9 in use: 19.9.
    assert_eq!(pod(10), "a");
    // a: 14 + 3 + 3. b: 9 + 11 + 0.9.
    assert_eq!(pod(11), "a");
    // a: 17 + 4 + 4.1. b: 9 + 12 + 0.9.
    assert_eq!(pod(12), "b");
}

#[test]
fn the_nodes_own_policy_and_minimum_hold_unless_a_request_says_others() {
    let routing = RoutingConfig {
        policy: Policy::Cost,
        minimum_match: 12,
        ..RoutingConfig::default()
    };
    let fixture = pods(1, &["a", "b"], routing);
    fixture.store("a#0", &Blocks::of(&prompt(8)));
    let mut client = fixture.client();
    let mut reason = |more: Value| {
        let mut asked = json!({"model": "m", "token_ids": prompt(9), "dry_run": true});
        let more = more.as_object().unwrap().clone();
        asked.as_object_mut().unwrap().extend(more);
        let answer = client.post("/v1/route", &asked).json();
        answer["reason"].as_str().unwrap().to_owned()
    };
    assert_eq!(reason(json!({})), "cost");
    let prefix = |minimum: Value| json!({"policy": "prefix-cache", "minimum_match": minimum});
    assert_eq!(reason(prefix(Value::Null)), "least_request_fallback");
    assert_eq!(reason(prefix(json!(8))), "prefix_match");
    let checked = fixture.client().post(
        "/v1/ext_authz/v1/completions",
        &json!({"model": "m", "prompt": prompt(9)}),
    );
    let id = checked.header("x-kvroute-request-id").unwrap();
    let explained = fixture.client().get(&format!("/v1/explain/{id}")).json();
    assert_eq!(
        (&explained["policy"], &explained["minimum_match"]),
        (&json!("cost"), &json!(12))
    );
}

#[test]
fn sessions_stay_where_they_are_while_the_load_allows() {
    let routing = RoutingConfig {
        session_header: Some("x-session".to_owned()),
        ..RoutingConfig::default()
    };
    let fixture = pods(2, &["a", "b", "c"], routing);
    let one = |pod: &str, running: u32| json!({pod: {"running": running}});
    let mut client = fixture.client();
    let mut route = |session: &str, loads: Value| {
        let asked = json!({"model": "m", "token_ids": prompt(9), "loads": loads}).to_string();
        let headers = format!("content-type: application/json\r\nx-session: {session}\r\n");
        let answer = client.request("POST", "/v1/route", &headers, asked.as_bytes());
        let answer = answer.json();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (text(&answer["target"]["pod"]), text(&answer["reason"]))
    };
    let mut seen = BTreeMap::<String, u32>::new();
    for n in 0..60 {
        let session = format!("user-{n}");
        let (pod, reason) = route(&session, json!({}));
        assert_eq!(reason, "session");
        for _ in 0..3 {
            assert_eq!(route(&session, json!({})).0, pod);
        }
        // 20 requests ahead of the others: not admitted.
        let (other, reason) = route(&session, one(&pod, 20));
        assert_ne!(other, pod);
        assert_eq!(reason, "least_request_fallback");
        *seen.entry(pod).or_default() += 1;
    }
    assert_eq!(seen.len(), 3, "{seen:?}");
    assert_eq!(
        route("", json!({})).1,
        "least_request_fallback",
        "no session"
    );

    // A gateway's check minds it, too, by the node's own counts.
    let headers = "x-session: user-1\r\n";
    let path = "/v1/ext_authz/v1/completions?model=m";
    let checked = fixture.client().request("GET", path, headers, b"");
    let id = checked.header("x-kvroute-request-id").unwrap();
    let explained = fixture.client().get(&format!("/v1/explain/{id}")).json();
    assert_eq!(explained["session"], true);
}

#[test]
fn so_many_decisions_are_remembered_as_are_asked_for() {
    let routing = RoutingConfig {
        decisions: 3,
        ..RoutingConfig::default()
    };
    let fixture = pods(1, &["a"], routing);
    let mut client = fixture.client();
    let asked = json!({"model": "m", "token_ids": prompt(9)});
    let ids: Vec<_> = (0..4)
        .map(|_| client.post("/v1/route", &asked).json()["request_id"].clone())
        .collect();
    let status = |id: &Value| {
        let told = json!({"request_id": id, "finished": true});
        fixture.client().post("/v1/feedback", &told).status
    };
    let found: Vec<_> = ids.iter().map(status).collect();
    assert_eq!(found, [404, 204, 204, 204]);
    // What is forgotten is still booked, until it expires.
    assert_eq!(own(&fixture, "a"), (4, 1));
}
