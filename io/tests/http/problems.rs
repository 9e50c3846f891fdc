//! `GET /v1/problems`: what is wrong, as a caller reads it.
use crate::client::Client;
use crate::fixture::Fixture;
use kvroute::status::{Dropped, SkipReason, Trust};
use serde_json::{Value, json};

/// Names and pods of what is wrong.
fn wrong(client: &mut Client) -> Vec<(String, Value)> {
    let answer = client.get("/v1/problems").json();
    let problems = answer["problems"].as_array().unwrap().iter();
    let told = problems.map(|problem| {
        let name = problem["name"].as_str().unwrap().to_owned();
        (name, problem["pods"].clone())
    });
    told.collect()
}

fn named(name: &str, pods: &[&str]) -> (String, Value) {
    (name.to_owned(), json!(pods))
}

#[test]
fn a_fleet_is_judged_as_it_is_now() {
    let fixture = Fixture::new();
    let mut client = fixture.client();
    let empty = client.get("/v1/problems").json();
    assert_eq!(empty["node"]["version"], env!("CARGO_PKG_VERSION"));
    let (started, now) = (&empty["node"]["started_ms"], &empty["now_ms"]);
    assert!(started.as_u64().unwrap() <= now.as_u64().unwrap());
    assert!(started.as_u64().unwrap() > 1_700_000_000_000);
    let names: Vec<_> = wrong(&mut client)
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names, ["KvrouteNoWorkers"]);
    for pod in ["a", "b", "c"] {
        fixture.add_pod(pod);
        fixture.status(&format!("{pod}#0")).set_trust(Trust::Exact);
    }
    assert_eq!(wrong(&mut client), []);
    let status = fixture.status("b#0");
    status.set_trust(Trust::Stale);
    assert_eq!(wrong(&mut client), [named("KvrouteWorkersStale", &["b"])]);
    status.set_trust(Trust::Partial);
    status.dropped(Dropped::Gap);
    let both = [
        named("KvrouteWorkersPartial", &["b"]),
        named("KvrouteGapsNotRepaired", &["b"]),
    ];
    assert_eq!(wrong(&mut client), both);
    status.set_trust(Trust::Exact);
    status.add_restarts(1);
    assert_eq!(wrong(&mut client), []);
    for _ in 0..3 {
        status.add_restarts(1);
    }
    let often = [named("KvrouteEnginesRestartOften", &["b"])];
    assert_eq!(wrong(&mut client), often);
    // What is not understood counts from three times on.
    status.add_skipped(SkipReason::UnknownTag, 2);
    assert_eq!(wrong(&mut client), often);
    status.add_skipped(SkipReason::Field, 1);
    let unknown = ("KvrouteEventsUnknown".to_owned(), json!([]));
    assert_eq!(wrong(&mut client), [often[0].clone(), unknown]);
    // The link of each leads to a page.
    let answer = client.get("/v1/problems").json();
    let runbook = answer["problems"][0]["runbook"].as_str().unwrap();
    assert_eq!(client.get(runbook).status, 200);
}
