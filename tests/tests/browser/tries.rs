//! Try it: who would get a prompt, why, and the same as a command that a shell takes.
use crate::console::Console;
use crate::world::{MODEL, World, quiet};
use kvroute_tests::browser::Browser;
use kvroute_tests::gateways::prompt;
use serde_json::Value;
use std::process::Command;

/// Runs a command as somebody would who pasted it.
pub(crate) fn in_shell(command: &str, token: Option<&str>) -> Value {
    let mut shell = Command::new("sh");
    shell.args(["-c", command]);
    if let Some(token) = token {
        shell.env("KVROUTE_TOKEN", token);
    }
    let done = shell.output().expect("there is a shell");
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{command}: {errors}");
    serde_json::from_slice(&done.stdout).unwrap_or_else(|error| panic!("{command}: {error}"))
}

/// The command on the page.
pub(crate) fn command(console: &Console<'_>) -> String {
    console.text("document.getElementById('try-curl').textContent")
}

/// Chooses token ids and asks for them.
pub(crate) fn ask_tokens(console: &Console<'_>, tokens: &[u32]) {
    console.click("label:has([name='try-kind'][value='tokens'])");
    console.click("#try-prompt");
    console.press("Control+a");
    console.paste(&serde_json::json!(tokens).to_string());
    console.press("Control+Enter");
}

/// Waits until a worker gets it.
pub(crate) fn wait_target(console: &Console<'_>, worker: &str) {
    console.wait_until(&format!(
        "document.querySelector('#try-result [data-target]').dataset.target === '{worker}'"
    ));
}

fn world() -> World {
    let pods = [
        ("ns/pod-0", MODEL),
        ("ns/pod-1", MODEL),
        ("ns/pod-2", MODEL),
        ("ns/pod-3", "qwen"),
    ];
    let mut world = World::start(quiet(), &pods);
    (0..4).for_each(|engine| world.store(engine as usize, engine));
    world.settle();
    world
}

#[test]
fn token_ids_find_the_pod_that_holds_them() {
    let Some(browser) = Browser::start(&[]) else {
        return;
    };
    let world = world();
    let console = Console::open(&browser, &world);
    console.go("try");
    assert_eq!(
        console.text("document.getElementById('try-model').value"),
        MODEL
    );
    for pod in [1, 2, 0] {
        let mut tokens = prompt(pod, 64);
        tokens.extend(9_000_000..9_000_040);
        ask_tokens(&console, &tokens);
        wait_target(&console, &format!("ns/pod-{pod}#0"));
        let said = console.text("document.getElementById('try-result').innerText");
        // 64 tokens of 104.
        assert!(said.contains("64") && said.contains("104"), "{said}");
        let chosen =
            console.text("document.querySelector('#try-result tr[aria-current=true]').innerText");
        assert!(
            chosen.contains(&format!("ns/pod-{pod}")) && chosen.contains("64"),
            "{chosen}"
        );
        let answer = in_shell(&command(&console), None);
        assert_eq!(answer["target"]["pod"], format!("ns/pod-{pod}"));
        assert_eq!(answer["matched_tokens"], 64);
    }
    let _ = console.picture("try");
    // What is no token is told, and nobody is asked.
    let before = console.requests().len();
    console.click("#try-prompt");
    console.press("Control+a");
    console.paste("[1, 2, three]");
    console.press("Control+Enter");
    console.wait_until("document.getElementById('try-hint').innerText.includes('three')");
    let asked = console.requests().split_off(before);
    assert!(
        asked.iter().all(|request| request.method == "GET"),
        "{asked:?}"
    );
    // Nothing else was ever sent that is more than a question.
    for request in console.requests() {
        let dry = request
            .body
            .as_deref()
            .is_some_and(|body| body.contains("\"dry_run\":true"));
        let route = request.method == "POST" && request.url.ends_with("/v1/route") && dry;
        assert!(request.method == "GET" || route, "{request:?}");
    }
    console.assert_well();
    console.assert_at_home();
}

#[test]
fn a_text_is_asked_for_as_it_is() {
    let Some(browser) = Browser::start(&[]) else {
        return;
    };
    let world = world();
    // Only this very text has the tokens that the second pod holds.
    let text = "it's a \"test\" of $HOME, `id`, $(id) \\ and\n'more' — ünï ☃!";
    for engine in 0..3 {
        world.teach(engine, text, &prompt(1, 80));
    }
    let console = Console::open(&browser, &world);
    console.go("try");
    console.click("#try-prompt");
    console.paste(text);
    console.click("#try-form button[type=submit]");
    wait_target(&console, "ns/pod-1#0");
    let answer = in_shell(&command(&console), None);
    assert_eq!(answer["target"]["pod"], "ns/pod-1");
    assert_eq!(answer["matched_tokens"], 64);
    // Another model, chosen by its first letter: its only pod.
    console.run("document.getElementById('try-model').focus()");
    console.type_text("q");
    ask_tokens(&console, &prompt(3, 64));
    wait_target(&console, "ns/pod-3#0");
    assert_eq!(
        in_shell(&command(&console), None)["target"]["pod"],
        "ns/pod-3"
    );
    console.assert_well();
}
