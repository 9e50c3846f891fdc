//! Five hundred pods: only the rows in view are there, and sorting, filtering and scrolling reach all of them.
use crate::console::{Console, strings};
use crate::world::{MODEL, World, quiet};
use kvroute_tests::browser::Browser;
use serde_json::{Value, json};

const PODS: usize = 500;

/// Rows that there may be: those of a window of 800 pixels, and some more at both ends.
const ROWS_MAX: f64 = 80.0;

/// Three engines that are real, three that are not there, others without events; names and models of several kinds.
fn world() -> World {
    let real = [
        ("ns/pod-7", MODEL),
        ("ns/pod-77", MODEL),
        ("ns/pod-477", "qwen"),
    ];
    let mut world = World::start(quiet(), &real);
    for number in 0..PODS {
        let pod = format!("ns/pod-{number}");
        if real.iter().any(|(name, _)| *name == pod) {
            continue;
        }
        let model = ["llama-8b", "qwen", "mistral"][number % 3];
        let mut spec = json!({"pod": pod, "model": model, "endpoint": format!("10.0.{}.{}:8000", number / 200, number % 200 + 1), "kv_events": false});
        if number % 200 == 0 {
            // Nobody listens at these ports.
            spec["kv_events"] = true.into();
            spec["events"] = format!("tcp://127.0.0.1:{}", 1 + number / 200).into();
        }
        world.register(&spec);
    }
    for (engine, prompts) in [(0, 0..1), (1, 1..9), (2, 9..12)] {
        prompts.for_each(|number| world.store(engine, number));
    }
    world.settle();
    world
}

/// What `/v1/workers` says, as names of rows.
fn name(worker: &Value) -> String {
    let pod = worker["pod"].as_str().expect("a name");
    format!("{pod}#{}", worker["rank"])
}

/// The names of all rows from top to bottom, by scrolling through them with the keyboard.
fn walk(console: &Console<'_>) -> Vec<String> {
    let mut seen: Vec<String> = Vec::new();
    console.run("read.rows()[0].focus()");
    console.press("Home");
    console.wait_until("read.focus().getAttribute('aria-rowindex') === '2'");
    loop {
        // Rows that are not in view are gone: those that are there say where they stand.
        let rows = console.value("read.rows().map(row => [Number(row.getAttribute('aria-rowindex')), row.dataset.worker])");
        for row in rows.as_array().expect("a list") {
            // The heading is the first.
            let at = row[0].as_u64().expect("a number") as usize - 2;
            let name = row[1].as_str().expect("a name");
            assert!(
                at <= seen.len(),
                "rows {} to {at} were never there",
                seen.len()
            );
            if at == seen.len() {
                seen.push(name.to_owned());
            }
            assert_eq!(seen[at], name);
        }
        assert!(console.number("read.rows().length") <= ROWS_MAX);
        if seen.len() == PODS {
            return seen;
        }
        let before = console.number("Number(read.focus().getAttribute('aria-rowindex'))");
        console.press("PageDown");
        console.wait_until(&format!(
            "Number(read.focus().getAttribute('aria-rowindex')) > {before}"
        ));
    }
}

/// The order of names in which numbers count as such.
fn natural(name: &str) -> (String, u64) {
    let digits = name.trim_end_matches("#0");
    let at = digits.rfind('-').expect("a dash") + 1;
    (
        digits[..at].to_owned(),
        digits[at..].parse().expect("a number"),
    )
}

#[test]
fn five_hundred_pods_are_scrolled_sorted_and_filtered() {
    let Some(browser) = Browser::start(&[]) else {
        return;
    };
    let world = world();
    let console = Console::open(&browser, &world);
    console.go("fleet");
    let workers = world.get("/v1/workers");
    let workers = workers.as_array().expect("a list");
    assert_eq!(workers.len(), PODS);
    console
        .wait_until("document.getElementById('workers').getAttribute('aria-rowcount') === '501'");

    let mut expected: Vec<_> = workers.iter().map(name).collect();
    expected.sort_by_key(|name| natural(name));
    assert_eq!(walk(&console), expected);
    let _ = console.picture("fleet-500");

    // By blocks, most first: the three that hold any are 32, 12 and 4.
    console.click("#workers [data-sort=blocks]");
    console.wait_until("document.querySelector('#workers [data-sort=blocks]').closest('th').ariaSort === 'descending'");
    let sorted = walk(&console);
    assert_eq!(sorted[..3], ["ns/pod-77#0", "ns/pod-477#0", "ns/pod-7#0"]);
    let blocks = |name: &String| {
        let worker = workers.iter().find(|worker| self::name(worker) == *name);
        worker.expect("it is in the fleet")["blocks"]
            .as_u64()
            .expect("a number")
    };
    assert!(
        sorted
            .iter()
            .map(blocks)
            .is_sorted_by(|one, next| one >= next)
    );
    console.click("#workers [data-sort=blocks]");
    console.wait_until("document.querySelector('#workers [data-sort=blocks]').closest('th').ariaSort === 'ascending'");
    let sorted = walk(&console);
    assert_eq!(
        sorted[PODS - 3..],
        ["ns/pod-7#0", "ns/pod-477#0", "ns/pod-77#0"]
    );

    // By model, then what is typed.
    console.click("#workers [data-sort=model]");
    console.wait_until("document.querySelector('#workers [data-sort=model]').closest('th').ariaSort === 'ascending'");
    let sorted = walk(&console);
    let model = |name: &String| {
        let worker = workers.iter().find(|worker| self::name(worker) == *name);
        worker.expect("it is in the fleet")["model"].to_string()
    };
    assert!(sorted.iter().map(model).is_sorted());
    console.click("#filter");
    console.type_text("mistral pod-49");
    // Of 49 and 490 to 499 those that are two more than a multiple of three.
    let expected = ["ns/pod-491#0", "ns/pod-494#0", "ns/pod-497#0"];
    console.wait_until(&format!("read.rows().length === {}", expected.len()));
    let mut left = strings(&console.value("read.names()"));
    left.sort();
    assert_eq!(left, expected);
    console.assert_well();
}

#[test]
fn a_place_is_kept_while_the_fleet_changes() {
    let Some(browser) = Browser::start(&[]) else {
        return;
    };
    let mut world = world();
    let console = Console::open(&browser, &world);
    console.go("fleet");
    console.run("read.rows()[0].focus()");
    console.press("End");
    console.wait_until("read.focus().dataset.worker === 'ns/pod-499#0'");
    for _ in 0..20 {
        console.press("ArrowUp");
    }
    console.wait_until("read.focus().dataset.worker === 'ns/pod-479#0'");
    let scroller = "(() => { let at = document.getElementById('workers'); while (at.scrollHeight <= at.clientHeight || !at.scrollTop) at = at.parentElement; return at.scrollTop })()";
    let before = console.number(scroller);
    assert!(before > 1_000.0);
    world.store(2, 20);
    console.wait_cell("ns/pod-477#0", "blocks", "16");
    assert_eq!(console.text("read.focus().dataset.worker"), "ns/pod-479#0");
    assert_eq!(console.number(scroller), before);
    // A row out of view is not there, and comes with the wheel.
    assert!(console.is("read.row('ns/pod-0#0') === undefined"));
    let (x, y) = console.middle("#workers tr[data-worker='ns/pod-479#0']");
    console.wheel(x, y, -100_000.0);
    console.wait_until("!!read.row('ns/pod-0#0')");
    assert!(console.number("read.rows().length") <= ROWS_MAX);
    console.assert_well();
}
