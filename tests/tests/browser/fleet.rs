//! The fleet's view: what the table says is what the engines did, now and later.
use crate::console::Console;
use crate::world::{MODEL, World, config};
use kvroute_tests::browser::Browser;

const NAMES: [&str; 3] = ["ns/pod-0#0", "ns/pod-1#0", "ns/pod-2#0"];

/// Three engines, which hold 4, 8 and 11 blocks.
fn world() -> World {
    let pods = [
        ("ns/pod-0", MODEL),
        ("ns/pod-1", MODEL),
        ("ns/pod-2", "qwen"),
    ];
    let mut world = World::start(config(), &pods);
    world.store(0, 0);
    world.store(1, 1);
    world.store(1, 2);
    for number in 3..6 {
        world.store(2, number);
    }
    world.evict(2, 4);
    world.settle();
    world
}

/// The row of each engine says what the test knows of it.
fn assert_rows(console: &Console<'_>, world: &World) {
    for (number, (engine, name)) in world.engines.iter().zip(NAMES).enumerate() {
        let said = |column: &str| console.cell(name, column);
        assert!(
            said("pod").replace('\n', "").contains(&engine.pod),
            "{}",
            said("pod")
        );
        assert_eq!(said("model"), engine.model);
        assert_eq!(said("blocks"), world.held(number).to_string());
        assert_eq!(said("sequence"), (engine.next - 1).to_string());
        assert!(said("state").contains("exact"), "{}", said("state"));
        assert_eq!(said("source"), "registered");
        for column in ["restarts", "skipped"] {
            let entry = &world.get("/v1/workers")[number];
            assert_eq!(said(column), "0", "{name} {column}: {entry}");
        }
    }
}

#[test]
fn rows_say_what_engines_did() {
    let Some(browser) = Browser::start(&[]) else {
        return;
    };
    let mut world = world();
    let console = Console::open(&browser, &world);
    console.go("fleet");
    assert_eq!(console.names(), NAMES);
    assert_rows(&console, &world);
    // The load as the engines told it.
    for name in NAMES {
        console.wait_cell(name, "load", "2 + 1");
        console.wait_cell(name, "kv", "25 %");
        assert_eq!(console.cell(name, "gaps"), "0");
    }
    let _ = console.picture("fleet");
    // A batch more, while the page is open: the row changes where it stands.
    console.run(
        "globalThis.before = read.row('ns/pod-1#0'); getSelection().selectAllChildren(before)",
    );
    world.store(1, 7);
    console.wait_cell(NAMES[1], "blocks", "12");
    console.wait_cell(NAMES[1], "sequence", "2");
    assert!(
        console
            .is("before === read.row('ns/pod-1#0') && getSelection().toString().includes('pod-1')")
    );
    world.settle();
    assert_rows(&console, &world);
    console.assert_well();
    console.assert_at_home();
}

#[test]
fn a_gap_and_a_restart_are_counted_and_told() {
    let Some(browser) = Browser::start(&[]) else {
        return;
    };
    let mut world = world();
    let console = Console::open(&browser, &world);
    console.go("fleet");
    // One batch is lost; the next one shows it, and the replay brings it.
    world.lose(0, 8);
    world.store(0, 9);
    world.settle();
    console.wait_cell(NAMES[0], "gaps", "1");
    console.wait_cell(NAMES[0], "blocks", "12");
    console.wait_until("read.cell('ns/pod-0#0', 'state').includes('exact')");
    let replays = world.get("/v1/workers")[0]["replays"].to_string();
    console.wait_cell(NAMES[0], "replays", &replays);
    console.click("#workers tr[data-worker='ns/pod-0#0']");
    console.wait_until("!detail.hidden && detail.innerText.includes('ns/pod-0')");
    // Its history has the gap, and both addresses are there.
    console.wait_until(
        "!!detail.querySelector('[data-what=gap]') && !!detail.querySelector('[data-what=replay]')",
    );
    let shown = console.text("detail.innerText");
    let entry = &world.get("/v1/workers")[0];
    for field in ["endpoint", "events", "replay"] {
        let address = entry[field].as_str().expect("an address");
        assert!(shown.contains(address), "{field}: {shown}");
    }
    let told = &world.get("/v1/workers/ns%2Fpod-0")[0]["history"];
    let told = told.as_array().expect("a list");
    let gap = told
        .iter()
        .find(|entry| entry["what"] == "gap")
        .expect("a gap");
    // Batch 1 is missing: 0 was before, 2 came after.
    let text = gap["text"].as_str().expect("a text");
    assert!(shown.contains(text), "{text}: {shown}");
    let _ = console.picture("fleet-detail");
    console.assert_well();
}

#[test]
fn chips_and_words_filter() {
    let Some(browser) = Browser::start(&[]) else {
        return;
    };
    let mut world = world();
    let console = Console::open(&browser, &world);
    console.go("fleet");
    console.click("#filter");
    for (typed, left) in [
        ("qwen", &NAMES[2..]),
        ("pod-1", &NAMES[1..2]),
        ("state:exact", &NAMES[..]),
        ("state:stale", &[]),
        ("registered llama", &NAMES[..2]),
        ("nobody", &[]),
        ("", &NAMES[..]),
    ] {
        console.press("Control+a");
        console.press("Backspace");
        console.type_text(typed);
        let left = serde_json::json!(left);
        console.wait_until(&format!(
            "JSON.stringify(read.names()) === JSON.stringify({left})"
        ));
    }
    // One engine dies: its state is told by a word, and a chip chooses it.
    world.kill(1);
    console.wait_until("read.cell('ns/pod-1#0', 'state').includes('stale')");
    let chip = "[...read.view('fleet').querySelectorAll('button, label')].find(one => one.innerText.includes('stale') && !one.closest('table'))";
    console.wait_until(&format!("/\\b1\\b/.test({chip}.innerText)"));
    console.run(&format!("{chip}.dataset.chosen = 'here'"));
    console.click("[data-chosen=here]");
    console.wait_until("JSON.stringify(read.names()) === '[\"ns/pod-1#0\"]'");
    let _ = console.picture("fleet-stale");
    console.assert_well();
}
