//! Names are somebody else's: whatever is in them is shown as it is, and does nothing.
use crate::console::{Console, VIEWS};
use crate::world::{World, quiet};
use kvroute_tests::browser::Browser;
use kvroute_tests::gateways::prompt;
use serde_json::json;

const POD: &str = r#"ns/<img src=x onerror=alert(1)>'"&amp;"#;
const MODEL: &str = r#""><script>alert(2)</script><b id='bad'>it's"#;
const ADAPTER: &str = "<svg onload=alert(3)>${7*7}{{7*7}}";

#[test]
fn names_are_texts() {
    let Some(browser) = Browser::start(&[]) else {
        return;
    };
    let mut world = World::start(quiet(), &[("ns/pod-0", "plain")]);
    let hostile = world.add(POD, MODEL);
    world.register(&json!({"pod": "javascript:alert(4)", "model": MODEL, "lora": [ADAPTER], "kv_events": false, "endpoint": "10.0.0.1:8000"}));
    world.store(0, 0);
    world.store(hostile, 1);
    world.settle();
    let _ = world.post(
        "/v1/match",
        &json!({"model": MODEL, "token_ids": prompt(1, 64)}),
    );
    let console = Console::open(&browser, &world);
    console.go("fleet");
    let worker = format!("{POD}#0");
    assert!(console.names().contains(&worker), "{:?}", console.names());
    assert_eq!(console.cell(&worker, "model"), MODEL);
    assert_eq!(console.cell(&worker, "blocks"), "4");
    let _ = console.picture("hostile-fleet");
    console.run(&format!(
        "read.row({}).focus()",
        kvroute_tests::browser::quoted(&worker)
    ));
    console.press("Enter");
    let name = kvroute_tests::browser::quoted(POD);
    console.wait_until(&format!(
        "document.getElementById('detail').innerText.includes({name})"
    ));
    console.wait_until("!!document.querySelector('#detail .history')");
    console.press("Escape");
    // The filter takes what is typed as letters.
    console.click("#filter");
    console.type_text("<img");
    console.wait_until("read.rows().length === 1");
    world.kill(hostile);
    for view in VIEWS {
        console.go(view);
    }
    console.go("health");
    console.wait_until(&format!("read.words('health').includes({name})"));
    console.go("try");
    let model = kvroute_tests::browser::quoted(MODEL);
    console.wait_until(&format!(
        "[...document.getElementById('try-model').options].some(one => one.text === {model})"
    ));
    console.run("document.getElementById('try-model').focus()");
    console.type_text("\">");
    console.wait_until(&format!(
        "document.getElementById('try-model').value === {model}"
    ));
    crate::tries::ask_tokens(&console, &prompt(1, 64));
    console.wait_until("!!document.querySelector('#try-result [data-target]')");
    let shown = crate::tries::command(&console);
    let target = crate::tries::in_shell(&shown, None)["target"]["pod"].clone();
    assert!(target == POD || target == "javascript:alert(4)", "{target}");
    // Not one element came of them, and no script ran.
    assert!(
        console.is("!document.querySelector('img[src=x], #bad, main script, [onerror], [onload]')")
    );
    console.assert_well();
    console.assert_at_home();
}
