//! Health at a glance: all well, or what is wrong in words, with the way to the pods and to what to do.
use crate::console::{Console, VIEWS};
use crate::world::{MODEL, World, quiet};
use kvroute_tests::browser::Browser;

#[test]
fn a_node_without_pods_has_all_its_views() {
    let Some(browser) = Browser::start(&[]) else {
        return;
    };
    let world = World::start(quiet(), &[]);
    let console = Console::open(&browser, &world);
    for view in VIEWS {
        console.go(view);
        let _ = console.picture(&format!("{view}-empty"));
        assert!(console.number(&format!("read.words('{view}').length")) > 20.0);
    }
    console.assert_well();
    console.assert_at_home();
}

#[test]
fn all_is_well_until_an_engine_dies() {
    let Some(browser) = Browser::start(&[]) else {
        return;
    };
    let pods = [
        ("ns/pod-0", MODEL),
        ("ns/pod-1", MODEL),
        ("ns/pod-10", MODEL),
    ];
    let mut world = World::start(quiet(), &pods);
    (0..3).for_each(|engine| world.store(engine as usize, engine));
    world.settle();
    let console = Console::open(&browser, &world);
    console.wait_until("read.words('health').includes('All well')");
    assert_eq!(
        console.text("document.getElementById('version').innerText"),
        env!("CARGO_PKG_VERSION")
    );
    console.wait_until("document.getElementById('ready').innerText === 'ready'");
    console
        .wait_until("document.querySelector('#states [data-hue=exact]').innerText.trim() === '3'");
    // Four blocks each.
    console.wait_until("[...document.querySelectorAll('.tiles li')].some(tile => /Blocks held\\s+12\\b/.test(tile.innerText))");
    let _ = console.picture("health");

    world.kill(1);
    let problem = "[data-problem=KvrouteWorkersStale]";
    console.wait_until(&format!("!!document.querySelector('{problem}')"));
    console.wait_until(
        "read.words('health').includes('1 problem') && !read.words('health').includes('All well')",
    );
    // For the first minutes it is only good to know.
    assert_eq!(world.get("/v1/problems")["problems"][0]["severity"], "info");
    let words = console.text(&format!("document.querySelector('{problem}').innerText"));
    assert!(
        words.contains("ns/pod-1") && !words.contains("ns/pod-10"),
        "{words}"
    );
    console
        .wait_until("document.querySelector('#states [data-hue=stale]').innerText.trim() === '1'");
    let _ = console.picture("health-problem");

    follow_links(&console, problem);
    console.assert_well();
    console.assert_at_home();
}

/// From a problem to its pod, back, and to what to do about it.
fn follow_links(console: &Console<'_>, problem: &str) {
    // To the pod, and to nothing else.
    let pod = format!(
        "[...document.querySelectorAll('{problem} a')].find(one => one.innerText === 'ns/pod-1')"
    );
    console.run(&format!("{pod}.dataset.chosen = 'here'"));
    console.click("[data-chosen=here]");
    console.wait_ready("fleet");
    console.wait_until("JSON.stringify(read.names()) === '[\"ns/pod-1#0\"]'");
    console.go("health");

    // To what to do about it.
    console.click(&format!("{problem} a[href^='/runbooks/']"));
    console.wait_until("location.pathname === '/runbooks/KvrouteWorkersStale' && document.readyState === 'complete'");
    let heading = console.text("document.querySelector('h1').innerText");
    assert!(heading.contains("KvrouteWorkersStale"), "{heading}");
    let sections = console.value("[...document.querySelectorAll('h2')].map(one => one.innerText)");
    let sections: Vec<_> = sections.as_array().expect("a list").iter().collect();
    assert!(sections.len() >= 5, "{sections:?}");
    assert!(
        console
            .is("document.styleSheets.length === 1 && document.styleSheets[0].cssRules.length > 3")
    );
    let _ = console.picture("runbook");
    for width in [320, 1280] {
        console.set_size(width, 800);
        assert!(
            console.is("document.scrollingElement.scrollWidth <= innerWidth"),
            "{width}"
        );
    }
    console.click("nav a[href='/']");
    console.wait_ready("health");
}
