//! The node ends while the console is open, and comes back.
use crate::console::Console;
use crate::world::{MODEL, World, quiet};
use kvroute_tests::browser::{Browser, PATIENCE};
use std::thread;
use std::time::{Duration, Instant};

/// What a browser says of requests to a node that is not there, or goes.
const GONE: [&str; 4] = [
    "ERR_CONNECTION_REFUSED",
    "ERR_CONNECTION_RESET",
    "ERR_INCOMPLETE_CHUNKED_ENCODING",
    "ERR_EMPTY_RESPONSE",
];

#[test]
fn a_lost_node_is_told_and_found_again() {
    let Some(browser) = Browser::start(&[]) else {
        return;
    };
    let mut world = World::start(quiet(), &[("ns/pod-0", MODEL), ("ns/pod-1", MODEL)]);
    world.store(0, 0);
    world.store(1, 1);
    world.settle();
    let console = Console::open(&browser, &world);
    console.go("fleet");
    console.wait_until("document.getElementById('link').innerText.includes('live')");
    console.assert_well();
    world.stop_node();
    console.wait_until("document.getElementById('link').innerText.includes('reconnecting')");
    // What was known stays, and says how old it is.
    assert_eq!(console.names(), ["ns/pod-0#0", "ns/pod-1#0"]);
    assert_eq!(console.cell("ns/pod-1#0", "blocks"), "4");
    console.wait_until("/as of \\d\\d:\\d\\d:\\d\\d/i.test(document.body.innerText)");
    let _ = console.picture("lost");
    console.go("health");
    console.wait_until("/as of \\d\\d:\\d\\d:\\d\\d/i.test(document.body.innerText)");
    let _ = console.picture("lost-health");
    console.go("fleet");
    world.store(1, 2);
    world.start_node();
    world.settle();
    console.wait_until("document.getElementById('link').innerText.includes('live')");
    console.wait_until("!/as of \\d\\d:\\d\\d/i.test(document.body.innerText)");
    console.wait_cell("ns/pod-1#0", "blocks", "8");
    let _ = console.picture("found-again");
    console.assert_well_but(&GONE);
}

#[test]
fn without_the_network_it_waits() {
    let Some(browser) = Browser::start(&[]) else {
        return;
    };
    let mut world = World::start(quiet(), &[("ns/pod-0", MODEL)]);
    world.store(0, 0);
    world.settle();
    let console = Console::open(&browser, &world);
    console.go("fleet");
    console.set_offline(true);
    // What is under way goes on: the connection of the stream is not cut by this. The fleet is asked for anew.
    console.wait_until("/as of \\d\\d:\\d\\d:\\d\\d/i.test(document.body.innerText)");
    world.store(0, 1);
    world.settle();
    console.set_offline(false);
    console.wait_cell("ns/pod-0#0", "blocks", "8");
    console.wait_until("document.getElementById('link').innerText.includes('live')");
    console.assert_well_but(&["ERR_INTERNET_DISCONNECTED"]);
}

#[test]
fn a_tab_that_nobody_sees_asks_for_nothing() {
    let Some(browser) = Browser::start(&[]) else {
        return;
    };
    let mut world = World::start(quiet(), &[("ns/pod-0", MODEL)]);
    world.store(0, 0);
    world.settle();
    let console = Console::open(&browser, &world);
    console.go("fleet");
    // Another tab in front, which looks at the same: its requests are the clock.
    let front = Console::open(&browser, &world);
    front.go("fleet");
    front.tell("Page.bringToFront", &serde_json::json!({}));
    console.wait_until("document.visibilityState === 'hidden'");
    let asked = |console: &Console<'_>| {
        let requests = console.requests().into_iter();
        requests
            .filter(|request| request.url.contains("/v1/"))
            .count()
    };
    let (before, begun) = (asked(&console), asked(&front));
    let give_up = Instant::now() + PATIENCE;
    while asked(&front) < begun + 4 {
        assert!(Instant::now() < give_up, "the tab in front does not ask");
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(asked(&console), before);
    world.store(0, 1);
    world.settle();
    console.tell("Page.bringToFront", &serde_json::json!({}));
    console.wait_cell("ns/pod-0#0", "blocks", "8");
    console.wait_until("document.getElementById('link').innerText.includes('live')");
    console.assert_well();
}
