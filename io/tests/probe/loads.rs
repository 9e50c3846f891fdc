//! How busy engines are, from what they say.
use crate::engine::{HttpEngine, Reply};
use crate::rig::{Rig, until};
use kvroute::config::{Config, RoutingConfig};
use kvroute::fleet::Fleet;
use kvroute::node::Node;
use kvroute::probe::ProbeConfig;
use serde_json::json;
use std::time::Duration;

/// (running, waiting, tokens in use) of a rank, as a choice sees it.
fn load(fleet: &Fleet, pod: &str, rank: usize) -> (u32, u32, u64) {
    let now = fleet.clock().now();
    let view = fleet.view();
    let load = view.pod(pod)[rank].load().read(now).load;
    (load.running, load.waiting, load.active_tokens)
}

/// What a real server of vLLM 0.32 said of itself, but with requests in it.
fn recorded(running: u32, waiting: u32, usage: f64) -> String {
    let text = include_str!("vllm_0.32_metrics.txt");
    let idle = |name: &str| format!("vllm:{name}{{engine=\"0\",model_name=\"tiny\"}} 0.0\n");
    let busy = |name: &str, value: f64| idle(name).replace("0.0\n", &format!("{value:?}\n"));
    let mut changed = text.to_owned();
    for (name, value) in [
        ("num_requests_running", f64::from(running)),
        ("num_requests_waiting", f64::from(waiting)),
        ("kv_cache_usage_perc", usage),
    ] {
        assert!(changed.contains(&idle(name)), "{name}");
        changed = changed.replace(&idle(name), &busy(name, value));
    }
    changed
}

#[test]
fn a_recorded_engine_tells_its_load() {
    let (rig, engine) = (Rig::new(), HttpEngine::new());
    engine.set_body("/metrics", recorded(3, 2, 0.25));
    rig.add(
        json!({"pod": "a", "model": "m", "endpoint": engine.endpoint(), "events": "tcp://h:10"}),
    );
    // A quarter of 120 blocks of 32.
    until("its load", || load(&rig.fleet, "a", 0) == (3, 2, 960));
    // What is booked comes on top, until the engine says what it has.
    engine.set("/metrics", Reply::Status(503));
    let asked = engine.asked("/metrics");
    until("no answer any more", || {
        engine.asked("/metrics") > asked + 1
    });
    let now = rig.fleet.clock().now();
    rig.fleet.view().pod("a")[0]
        .load()
        .book_blindly(now, 10, 100);
    assert_eq!(load(&rig.fleet, "a", 0), (4, 2, 1_060));
    engine.set_body("/metrics", recorded(4, 0, 0.5));
    until("its new load", || load(&rig.fleet, "a", 0) == (4, 0, 1_920));
}

#[test]
fn ranks_have_loads_of_their_own() {
    let (rig, engine, summed) = (Rig::new(), HttpEngine::new(), HttpEngine::new());
    let of = |rank: u32, running: u32| {
        format!(
            "vllm:num_requests_running{{engine=\"{rank}\"}} {running}\n\
             vllm:num_requests_waiting{{engine=\"{rank}\"}} 1\n"
        )
    };
    engine.set_body("/metrics", of(0, 5) + &of(1, 7));
    summed.set_body("/metrics", of(0, 9));
    rig.add(json!({"pod": "a", "model": "m", "endpoint": engine.endpoint(), "events": "tcp://h:10", "ranks": 2}));
    rig.add(json!({"pod": "b", "model": "m", "endpoint": summed.endpoint(), "events": "tcp://h:20", "ranks": 2}));
    until("both ranks", || {
        load(&rig.fleet, "a", 0) == (5, 1, 0) && load(&rig.fleet, "a", 1) == (7, 1, 0)
    });
    let asked = summed.asked("/metrics");
    until("the other pod", || summed.asked("/metrics") > asked + 1);
    // One number for two ranks is nobody's.
    assert_eq!(load(&rig.fleet, "b", 0), (0, 0, 0));
}

#[test]
fn loads_and_lives_are_asked_for_apart() {
    for (probe, loads) in [(false, true), (true, false), (true, true)] {
        let engine = HttpEngine::new();
        engine.set_body("/metrics", recorded(3, 2, 0.25));
        let every = |on: bool| on.then_some(Duration::from_millis(100));
        let config = Config {
            probe_interval: every(probe),
            routing: RoutingConfig {
                load_interval: every(loads),
                ..RoutingConfig::default()
            },
            ..Config::default()
        };
        let node = Node::start(&config).unwrap();
        let pod = json!({"pod": "a", "model": "m", "endpoint": engine.endpoint(), "events": "tcp://127.0.0.1:9"});
        node.fleet()
            .add(serde_json::from_value(pod).unwrap())
            .unwrap();
        until("three questions", || engine.asked("/metrics") >= 3);
        let expected = if loads { (3, 2, 960) } else { (0, 0, 0) };
        assert_eq!(load(node.fleet(), "a", 0), expected, "{probe} {loads}");
        let sources = engine.asked("/kv_event_sources");
        assert_eq!(sources, usize::from(probe), "{probe} {loads}");
        node.stop();
    }
}

#[test]
fn one_question_serves_both() {
    let of = |lives: u64, loads: u64| {
        let every = |ms: u64| (ms != 0).then(|| Duration::from_millis(ms));
        let config = ProbeConfig::of(every(lives), every(loads))?;
        let silence = config.silence_time.map(|time| time.as_secs());
        let times = config.interval.as_millis();
        Some((times, silence, config.loads, config.probes_per_sources))
    };
    assert_eq!(of(0, 0), None);
    assert_eq!(of(5_000, 0), Some((5_000, Some(10), false, 12)));
    assert_eq!(of(0, 1_000), Some((1_000, None, true, 12)));
    // The sources once a minute, as without loads.
    assert_eq!(of(5_000, 1_000), Some((1_000, Some(10), true, 60)));
    assert_eq!(of(5_000, 30_000), Some((5_000, Some(10), true, 12)));
    assert_eq!(of(20_000, 1_000), Some((1_000, Some(40), true, 240)));
}
