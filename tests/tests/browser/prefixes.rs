//! The hottest prefixes: how often they were asked for, how deep they are, and which are on one pod only.
use crate::console::Console;
use crate::world::{MODEL, World, quiet};
use kvroute_tests::browser::Browser;
use kvroute_tests::gateways::prompt;
use serde_json::{Value, json};

/// Asked for: how often, and of which prompt how many tokens.
const ASKED: [(u32, u32); 13] = [
    (0, 64),
    (0, 32),
    (1, 64),
    (0, 64),
    (0, 32),
    (0, 64),
    (1, 64),
    (0, 32),
    (0, 64),
    (0, 64),
    (1, 64),
    (0, 32),
    (0, 64),
];

/// Prompt 0 is held on two pods, prompt 1 on one of them.
fn world() -> World {
    let pods = [
        ("ns/pod-0", MODEL),
        ("ns/pod-1", MODEL),
        ("ns/pod-2", "qwen"),
    ];
    let mut world = World::start(quiet(), &pods);
    world.store(0, 0);
    world.store(1, 0);
    world.store(1, 1);
    world.store(2, 2);
    world.settle();
    for (number, tokens) in ASKED {
        ask(&world, MODEL, &prompt(number, tokens));
    }
    ask(&world, "qwen", &prompt(2, 64));
    world
}

fn ask(world: &World, model: &str, tokens: &[u32]) {
    let _ = world.post("/v1/match", &json!({"model": model, "token_ids": tokens}));
}

/// The boxes: what they say, and their places.
fn boxes(console: &Console<'_>) -> Vec<(String, [f64; 4])> {
    let found = console.value("[...document.querySelectorAll('.icicle [data-key]')].map(one => { const box = one.getBoundingClientRect(); return [one.ariaLabel, box.x, box.y, box.width, box.height] })");
    let found = found.as_array().expect("a list").iter();
    let number = |value: &Value| value.as_f64().expect("a number");
    let found = found.map(|one| {
        let label = one[0].as_str().expect("a label").to_owned();
        (label, [1, 2, 3, 4].map(|at| number(&one[at])))
    });
    found.collect()
}

#[test]
fn an_icicle_shows_what_is_asked_for() {
    let Some(browser) = Browser::start(&[]) else {
        return;
    };
    let world = world();
    let console = Console::open(&browser, &world);
    console.set_media(&[("prefers-reduced-motion", "reduce")]);
    console.go("prefixes");
    console.wait_until("document.querySelectorAll('.icicle [data-key]').length > 0");
    console.run("const select = document.getElementById('prefix-context'); select.focus()");
    console.type_text("lla");
    console.wait_until("document.querySelectorAll('.icicle [data-key]').length === 3");
    // 32 tokens were asked for ten times, four times no more; 64 tokens of the other prompt three times.
    let boxes = boxes(&console);
    let find = |words: &str| {
        let found = boxes.iter().find(|(label, _)| label.contains(words));
        found.unwrap_or_else(|| panic!("no {words} in {boxes:?}")).1
    };
    let [x, y, width, height] = find("tokens 0 to 32, on 2 pods");
    let [below_x, below_y, below_width, below_height] = find("tokens 32 to 64, on 2 pods");
    let [other_x, other_y, other_width, other_height] = find("tokens 0 to 64, on 1 pod");
    let near = |one: f64, other: f64| (one - other).abs() < 6.0;
    assert!(
        near(x, below_x)
            && near(y + height, below_y)
            && near(y, other_y)
            && near(x + width, other_x),
        "{boxes:?}"
    );
    assert!(
        near(height, below_height) && near(height + below_height, other_height),
        "{boxes:?}"
    );
    let whole = width + other_width;
    assert!(
        near(width, whole * 10.0 / 13.0) && near(below_width, whole * 6.0 / 13.0),
        "{boxes:?}"
    );
    let _ = console.picture("prefixes");

    let rows = console.value("[...document.querySelectorAll('#hottest tbody tr')].map(row => [row.cells[1].innerText, row.cells[2].innerText])");
    assert_eq!(rows, json!([["32", "2"], ["64", "2"], ["64", "1"]]));
    let lonely = console.value("[...document.querySelectorAll('#lonely li')].map(one => one.innerText.replace(/\\s+/g, ' '))");
    let lonely = lonely.as_array().expect("a list");
    assert_eq!(lonely.len(), 1, "{lonely:?}");
    assert!(
        lonely[0].as_str().expect("a text").contains("64 tokens"),
        "{lonely:?}"
    );

    // Once more, and it is seen without loading the page again: 13 of 16 through the first.
    for _ in 0..3 {
        ask(&world, MODEL, &prompt(0, 32));
    }
    console.wait_until("(() => { const share = parseFloat(document.querySelector('#hottest tbody tr').cells[4].innerText); return share > 80 && share < 82.5 })()");
    // Nothing of the prompts: only keys.
    let told = world.client().get("/v1/prefixes", "").text();
    for token in prompt(0, 64) {
        assert!(!told.contains(&token.to_string()), "{token}");
    }
    console.assert_well();
    console.assert_at_home();
}

#[test]
fn boxes_are_zoomed_by_mouse_and_by_keys() {
    let Some(browser) = Browser::start(&[]) else {
        return;
    };
    let world = world();
    let console = Console::open(&browser, &world);
    console.set_media(&[("prefers-reduced-motion", "reduce")]);
    console.go("prefixes");
    console.run("document.getElementById('prefix-context').focus()");
    console.type_text("lla");
    console.wait_until("document.querySelectorAll('.icicle [data-key]').length === 3");
    let deep = "document.querySelector('.icicle [data-key][aria-label*=\"32 to 64\"]')";
    let before = console.number(&format!("{deep}.getBoundingClientRect().width"));
    console.click(".icicle [data-key][aria-label*='32 to 64']");
    console.wait_until(&format!(
        "{deep}.getBoundingClientRect().width > {before} * 1.5"
    ));
    let _ = console.picture("prefixes-zoomed");
    console.press("Escape");
    console.press("Escape");
    console.wait_until(&format!(
        "Math.abs({deep}.getBoundingClientRect().width - {before}) < 3"
    ));
    // By keys: from a box to the one below, and into it.
    console.run("document.querySelector('.icicle [data-key][aria-label*=\"0 to 32\"]').focus()");
    console.wait_until("/tokens 0–32/.test(read.words('prefixes'))");
    console.press("ArrowDown");
    console.wait_until(&format!("{deep} === read.focus()"));
    console.wait_until("/tokens 32–64/.test(read.words('prefixes'))");
    console.press("Enter");
    console.wait_until(&format!(
        "{deep}.getBoundingClientRect().width > {before} * 1.5"
    ));
    console.press("Backspace");
    console.press("Backspace");
    console.wait_until(&format!(
        "Math.abs({deep}.getBoundingClientRect().width - {before}) < 3"
    ));
    console.assert_well();
}
