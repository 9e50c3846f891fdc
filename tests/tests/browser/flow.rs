//! The flow's charts: live by one stream, read by mouse and by keys.
use crate::console::Console;
use crate::world::{MODEL, World, quiet};
use kvroute_tests::browser::Browser;
use kvroute_tests::gateways::prompt;
use serde_json::json;

const CHARTS: [&str; 8] = [
    "events", "blocks", "lookups", "hits", "latency", "lag", "states", "held",
];

/// What a chart says to who does not see it.
fn told(chart: &str) -> String {
    format!("read.told('{chart}')")
}

#[test]
fn charts_follow_what_happens() {
    let Some(browser) = Browser::start(&[]) else {
        return;
    };
    let mut world = World::start(quiet(), &[("ns/pod-0", MODEL), ("ns/pod-1", MODEL)]);
    world.store(0, 0);
    world.store(1, 1);
    world.settle();
    let console = Console::open(&browser, &world);
    console.go("flow");
    console.run("globalThis.neverLoadedAgain = true");
    assert_eq!(
        console.value(
            "[...document.querySelectorAll('figure[data-chart]')].map(one => one.dataset.chart)"
        ),
        json!(CHARTS)
    );
    console.wait_until(&format!("/blocks: 8,/.test({})", told("held")));
    console.wait_until(&format!("/exact: 2,/.test({})", told("states")));
    // Four blocks more; then four of five blocks of what is asked for are held.
    world.store(0, 2);
    world.settle();
    console.wait_until(&format!(
        "/blocks: 12, between [0-9]+ and 12/.test({})",
        told("held")
    ));
    console.wait_until(&format!(
        "/stored: [^;]*and [1-9]/.test({})",
        told("blocks")
    ));
    console.wait_until(&format!(
        "/events: [^;]*and [1-9]/.test({})",
        told("events")
    ));
    let mut tokens = prompt(2, 64);
    tokens.extend(9_000_000..9_000_016);
    for _ in 0..20 {
        let answer = world.post("/v1/match", &json!({"model": MODEL, "token_ids": tokens}));
        assert_eq!(answer["candidates"][0]["matched_tokens"], 64);
    }
    console.wait_until(&format!(
        "/80.0 %, between 80.0 % and 80.0 %/.test({})",
        told("hits")
    ));
    console.wait_until(&format!("/p50: [0-9.]+ (µs|ms)/.test({})", told("latency")));
    console.wait_until(&format!("/p99: [0-9.]+ (µs|ms)/.test({})", told("lag")));
    world.kill(1);
    console.wait_until(&format!(
        "/exact: 1,/.test({0}) && /stale: 1,/.test({0})",
        told("states")
    ));
    assert!(console.is("neverLoadedAgain"));
    let _ = console.picture("flow");
    let requests = console.requests();
    let streams = requests
        .iter()
        .filter(|request| request.url.ends_with("/v1/flow"));
    assert_eq!(streams.count(), 1, "all of it came by one stream");
    console.assert_well();
    console.assert_at_home();
}

#[test]
fn a_crosshair_reads_all_charts_at_once() {
    let Some(browser) = Browser::start(&[]) else {
        return;
    };
    let mut world = World::start(quiet(), &[("ns/pod-0", MODEL)]);
    world.store(0, 0);
    world.settle();
    let console = Console::open(&browser, &world);
    console.go("flow");
    console.click("[data-minutes='1']");
    // A few samples, so that there is something to go along.
    console.wait_until(
        "fetch('/v1/flow').then(answer => answer.json()).then(flow => flow.samples.length >= 4)",
    );
    console.wait_until(&format!("/blocks: 4,/.test({})", told("held")));
    let crosses = "[...document.querySelectorAll('figure[data-chart] .cross')].filter(one => getComputedStyle(one).display !== 'none').length";
    assert_eq!(console.number(crosses), 0.0);
    // The latest sample is at the right edge.
    let edge = console.value("(() => { const box = read.chart('events').querySelector('.plot').getBoundingClientRect(); return [box.right - 20, box.y + box.height / 2] })()");
    console.hover(
        edge[0].as_f64().expect("a number"),
        edge[1].as_f64().expect("a number"),
    );
    console.wait_until(&format!("{crosses} === 8"));
    let _ = console.picture("flow-crosshair");
    console.hover(2.0, 2.0);
    console.wait_until(&format!("{crosses} === 0"));
    console.run("read.chart('blocks').querySelector('.plot').focus()");
    let time = "read.chart('held').querySelector('.cross text').textContent";
    console.press("End");
    console.wait_until(&format!("{crosses} === 8"));
    let last = console.text(time);
    console.press("ArrowLeft");
    console.wait_until(&format!("{time} !== '{last}'"));
    console.wait_until("document.getElementById('say').innerText.length > 5");
    console.press("ArrowRight");
    console.press("Escape");
    console.wait_until(&format!("{crosses} === 0"));
    console.assert_well();
}
