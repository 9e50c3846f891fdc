//! Everything by the keyboard alone, from the address bar on.
use crate::console::{Console, VIEWS};
use crate::world::{MODEL, World, quiet};
use kvroute_tests::browser::Browser;

/// Steps of the Tab key after which whatever is looked for ought to have come.
const TABS_MAX: usize = 60;

/// Presses Tab until the focus is where an expression about `at` says.
fn tab_to(console: &Console<'_>, wanted: &str) {
    let mut passed = Vec::new();
    for _ in 0..TABS_MAX {
        console.press("Tab");
        if console.is(&format!("(at => {wanted})(read.focus())")) {
            return;
        }
        passed.push(console.text("read.focus().outerHTML.slice(0, 80)"));
    }
    panic!("Tab does not come to {wanted}: {passed:#?}");
}

#[test]
fn the_fleet_is_walked_by_keys() {
    let Some(browser) = Browser::start(&[]) else {
        return;
    };
    let pods: Vec<_> = (0..12).map(|number| format!("ns/pod-{number}")).collect();
    let pods: Vec<_> = pods.iter().map(|pod| (pod.as_str(), MODEL)).collect();
    let mut world = World::start(quiet(), &pods);
    (0..12).for_each(|engine| world.store(engine as usize, engine));
    world.settle();
    let console = Console::open(&browser, &world);
    tab_to(&console, "at.matches('nav a[data-view=fleet]')");
    console.press("Enter");
    console.wait_ready("fleet");
    console.wait_until("read.rows().length === 12");
    tab_to(&console, "at.id === 'filter'");
    tab_to(&console, "at.matches('#workers [data-sort=pod]')");
    tab_to(&console, "at.matches('#workers tr[data-worker]')");
    let focused = "read.focus().dataset.worker";
    assert_eq!(console.text(focused), "ns/pod-0#0");
    let _ = console.picture("keyboard-row");
    for (key, name) in [
        ("ArrowDown", "ns/pod-1#0"),
        ("ArrowDown", "ns/pod-2#0"),
        ("ArrowUp", "ns/pod-1#0"),
        ("End", "ns/pod-11#0"),
        ("ArrowDown", "ns/pod-11#0"),
        ("Home", "ns/pod-0#0"),
        ("ArrowUp", "ns/pod-0#0"),
        ("PageDown", "ns/pod-11#0"),
        ("PageUp", "ns/pod-0#0"),
        ("ArrowDown", "ns/pod-1#0"),
    ] {
        console.press(key);
        console.wait_until(&format!("{focused} === '{name}'"));
    }
    console.press("Enter");
    console.wait_until("!document.getElementById('detail').hidden");
    console.wait_until("document.getElementById('detail').innerText.includes('ns/pod-1')");
    console.wait_until("document.getElementById('detail').contains(read.focus()) || read.focus().dataset.worker === 'ns/pod-1#0'");
    console.press("Escape");
    console.wait_until("document.getElementById('detail').hidden");
    console.wait_until(&format!("{focused} === 'ns/pod-1#0'"));
    // Once around: Tab leaves the table, and Shift+Tab comes back to the same row.
    console.press("Tab");
    console.wait_until(&format!("{focused} === undefined"));
    console.press("Shift+Tab");
    console.wait_until(&format!("{focused} === 'ns/pod-1#0'"));
    console.assert_well();
}

#[test]
fn every_view_is_reached_and_shows_where_the_focus_is() {
    let Some(browser) = Browser::start(&[]) else {
        return;
    };
    let mut world = World::start(quiet(), &[("ns/pod-0", MODEL)]);
    world.store(0, 0);
    world.settle();
    let console = Console::open(&browser, &world);
    let outlined = "(at => { const style = getComputedStyle(at); return at.matches(':focus-visible') && (style.outlineStyle !== 'none' || style.boxShadow !== 'none') })(read.focus())";
    for view in VIEWS {
        tab_to(&console, &format!("at.matches('nav a[data-view={view}]')"));
        assert!(console.is(outlined), "{view}: the focus is not seen");
        console.press("Enter");
        console.wait_ready(view);
        // Whatever can be used has a name.
        let unnamed = "[...document.querySelectorAll('button, a[href], input, select, textarea, [role=button]')].filter(one => one.checkVisibility() && !(one.innerText.trim() || one.ariaLabel || one.title || one.labels?.length || one.querySelector('img[alt]:not([alt=\"\"])'))).map(one => one.outerHTML.slice(0, 120))";
        let unnamed = console.value(unnamed);
        assert_eq!(unnamed, serde_json::json!([]), "{view}");
    }
    console.assert_well();
}
