//! Who may see it: tokens, TLS, a listener for admins.
use crate::console::{Console, VIEWS};
use crate::tries::{ask_tokens, command, in_shell, wait_target};
use crate::world::{MODEL, World, quiet};
use kvroute::config::Config;
use kvroute_tests::browser::{Browser, Kind};
use kvroute_tests::gateways::prompt;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use std::fs;
use std::net::SocketAddr;
use tempfile::TempDir;

const TOKEN: &str = "a-secret-of-the-test";

fn world(config: Config) -> World {
    let mut world = World::start(config, &[("ns/pod-0", MODEL), ("ns/pod-1", MODEL)]);
    (0..2).for_each(|engine| world.store(engine as usize, engine));
    world.settle();
    world
}

#[test]
fn a_token_is_asked_for_and_kept_to_itself() {
    let Some(browser) = Browser::start(&[]) else {
        return;
    };
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("tokens");
    fs::write(&file, format!("{TOKEN}\n")).expect("it is ours");
    let world = world(Config {
        token_file: Some(file),
        ..quiet()
    });
    let console = Console::at(&browser, &format!("http://{}", world.address()));
    let open = "document.getElementById('sign-in').open";
    console.wait_until(open);
    let _ = console.picture("sign-in");
    let typed = |token: &str| {
        console.wait_until("read.focus().id === 'token'");
        console.press("Control+a");
        console.type_text(token);
        console.press("Enter");
    };
    typed("another");
    console.wait_until("document.getElementById('sign-in-wrong').checkVisibility() && document.getElementById('sign-in-wrong').innerText.length > 5");
    assert!(console.is(open));
    let _ = console.picture("sign-in-wrong");
    typed(TOKEN);
    console.wait_until(&format!("!{open}"));
    console.wait_ready("health");
    console.go("fleet");
    console.wait_cell("ns/pod-1#0", "blocks", "4");
    console.wait_until("document.getElementById('link').innerText.includes('live')");
    // The browser's own log of 401 is the only complaint.
    let complaints = console.complaints();
    assert!(
        complaints
            .iter()
            .all(|c| c.kind == Kind::Request && c.text.starts_with("401")),
        "{complaints:?}"
    );
    console.forget_complaints();
    // After loading the page again it is still there; in another tab it is not.
    console.reload();
    console.wait_ready("fleet");
    assert!(!console.is(open));
    console.go("try");
    ask_tokens(&console, &prompt(1, 64));
    wait_target(&console, "ns/pod-1#0");
    let command = command(&console);
    assert!(command.contains("$KVROUTE_TOKEN"), "{command}");
    assert_eq!(in_shell(&command, Some(TOKEN))["target"]["pod"], "ns/pod-1");
    assert!(!console.is(&format!("(document.documentElement.outerHTML + location.href + JSON.stringify(localStorage) + document.cookie).includes('{TOKEN}')")));
    for request in console.requests() {
        assert!(!request.url.contains(TOKEN), "{request:?}");
        assert!(!request.body.unwrap_or_default().contains(TOKEN));
    }
    console.assert_well();
    let other = Console::at(&browser, &console.origin);
    other.wait_until(open);
    drop(other);
    console.tell("Page.bringToFront", &serde_json::json!({}));
    console.click("#sign-out");
    console.wait_until(open);
    assert!(console.is("sessionStorage.length === 0"));
}

#[test]
fn it_is_had_by_tls() {
    let Some(browser) = Browser::start(&["--ignore-certificate-errors"]) else {
        return;
    };
    let folder = TempDir::new().expect("a folder");
    let (cert, key) = (folder.path().join("cert"), folder.path().join("key"));
    let made = generate_simple_self_signed(vec!["127.0.0.1".to_owned()]);
    let CertifiedKey {
        cert: made,
        signing_key,
    } = made.expect("a certificate");
    fs::write(&cert, made.pem()).expect("it is ours");
    fs::write(&key, signing_key.serialize_pem()).expect("it is ours");
    let world = world(Config {
        tls: Some((cert, key)),
        ..quiet()
    });
    let console = Console::at(&browser, &format!("https://{}", world.address()));
    console.wait_ready("health");
    for view in VIEWS {
        console.go(view);
    }
    console.go("fleet");
    console.wait_cell("ns/pod-0#0", "blocks", "4");
    console.go("try");
    console.wait_until(
        "document.getElementById('try-curl').textContent.includes('https://127.0.0.1:')",
    );
    console.assert_well();
    console.assert_at_home();
}

#[test]
fn it_is_on_the_listener_for_admins_only() {
    let Some(browser) = Browser::start(&[]) else {
        return;
    };
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    let world = world(Config {
        admin_listen: Some(any.into()),
        ..quiet()
    });
    let admin = Console::at(&browser, &format!("http://{}", world.admin_address()));
    admin.wait_ready("health");
    for view in VIEWS {
        admin.go(view);
    }
    admin.go("fleet");
    admin.wait_cell("ns/pod-0#0", "blocks", "4");
    admin.assert_well();
    admin.assert_at_home();
    drop(admin);
    let page = "accept: text/html\r\n";
    for path in [
        "/",
        "/console/app.js",
        "/console/icon.svg",
        "/runbooks/KvrouteDown",
        "/docs/operation",
    ] {
        let answer = world.client().get(path, page);
        assert_eq!(answer.status, 403, "{path}: {}", answer.text());
        let answer = Console::at(&browser, &format!("http://{}", world.address()));
        assert!(answer.is("document.querySelector('nav, main, script') === null"));
    }
}
