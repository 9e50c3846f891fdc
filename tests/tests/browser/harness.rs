//! The browser is believed because it sees what is wrong with pages made to be wrong.
use kvroute_tests::browser::{Browser, Kind, PATIENCE, Page, screenshots};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

/// What the console's pages are sent with, in short.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; require-trusted-types-for 'script'; trusted-types 'none'";

/// A page by its path: its type, its headers, its text.
type Sent = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
    String,
);

/// Serves these pages until the process ends; 404 for others.
fn serve(pages: Vec<Sent>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = BufReader::new(stream);
            let mut lines = stream.by_ref().lines().map_while(Result::ok);
            let first = lines.next().unwrap_or_default();
            lines.take_while(|line| !line.is_empty()).for_each(drop);
            let path = first.split(' ').nth(1).unwrap_or_default();
            let found = pages.iter().find(|(at, ..)| *at == path);
            let answer = found.map_or_else(
                || "HTTP/1.1 404 Not Found\r\nconnection: close\r\n\r\n".to_owned(),
                |(_, kind, headers, body)| {
                    let mut head =
                        format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\n");
                    for (name, value) in *headers {
                        let _ = write!(head, "{name}: {value}\r\n");
                    }
                    format!("{head}\r\n{body}")
                },
            );
            // Whoever has gone has it not.
            let _ = stream.get_mut().write_all(answer.as_bytes());
        }
    });
    address
}

fn html(path: &'static str, body: &str) -> Sent {
    let body = format!(
        "<!doctype html><title>t</title><link rel=icon href=data:,><body style='margin:0'>{body}"
    );
    (path, "text/html", &[], body)
}

fn script(path: &'static str, text: &str) -> Sent {
    (path, "text/javascript", &[], text.to_owned())
}

fn kinds(page: &Page<'_>) -> Vec<Kind> {
    let complaints = page.complaints();
    complaints.iter().map(|complaint| complaint.kind).collect()
}

#[test]
fn what_is_wrong_with_a_page_is_seen() {
    let Some(browser) = Browser::start(&[]) else {
        return;
    };
    let address = serve(vec![
        html("/well", "<p>well"),
        html(
            "/console",
            "<script>console.info('a'); console.warn('b', 2); console.error('c')</script>",
        ),
        html(
            "/thrown",
            "<script>setTimeout(() => { throw new Error('thrown') })</script>",
        ),
        html(
            "/promise",
            "<script>Promise.reject(new Error('rejected'))</script>",
        ),
        html("/missing", "<script>fetch('/gone')</script>"),
        html(
            "/refused",
            "<script>fetch('http://127.0.0.1:1/').catch(() => 0)</script>",
        ),
        html(
            "/stopped",
            "<script>const c = new AbortController; fetch('/well', {signal: c.signal}).catch(() => 0); c.abort()</script>",
        ),
        html("/alert", "<script>alert('hello')</script>"),
    ]);
    let page = browser.page();
    for (path, expected, word) in [
        ("/well", &[][..], ""),
        ("/console", &[Kind::Console, Kind::Console], "warning: b 2"),
        ("/thrown", &[Kind::Exception], "thrown"),
        ("/promise", &[Kind::Exception], "rejected"),
        ("/missing", &[Kind::Request], "404"),
        ("/refused", &[Kind::Request], "127.0.0.1:1/"),
        ("/stopped", &[], ""),
        ("/alert", &[Kind::Dialog], "hello"),
    ] {
        let before = page.complaints().len();
        page.open(&format!("http://{address}{path}"));
        let give_up = Instant::now() + PATIENCE;
        while page.complaints().len() < before + expected.len() && Instant::now() < give_up {
            thread::sleep(Duration::from_millis(10));
        }
        let complaints = page.complaints().split_off(before);
        let found: Vec<_> = complaints.iter().map(|complaint| complaint.kind).collect();
        assert_eq!(found, expected, "{path}: {complaints:?}");
        let told = complaints.iter().any(|c| c.text.contains(word));
        assert!(told || word.is_empty(), "{path}: {complaints:?}");
    }
    assert!(page.console().contains(&"info: a".to_owned()));
}

#[test]
fn what_a_policy_forbids_is_seen() {
    let Some(browser) = Browser::start(&[]) else {
        return;
    };
    let page = browser.page();
    for (path, text) in [
        (
            "/style",
            "document.body.setAttribute('style', 'color: red')",
        ),
        (
            "/markup",
            "try { document.body.innerHTML = '<b>x</b>' } catch {}",
        ),
        ("/other", "fetch('https://example.invalid/').catch(() => 0)"),
        ("/eval", "try { eval('1') } catch {}"),
        (
            "/picture",
            "document.body.append(Object.assign(new Image, {src: '/p.png'}))",
        ),
    ] {
        let document = "<!doctype html><title>t</title><body>x<script src=/script.js></script>";
        let address = serve(vec![
            (
                path,
                "text/html",
                &[("content-security-policy", POLICY)],
                document.to_owned(),
            ),
            script("/script.js", text),
        ]);
        page.open(&format!("http://{address}{path}"));
        let found = kinds(&page);
        assert!(
            found.contains(&Kind::Policy),
            "{path}: {:?}",
            page.complaints()
        );
        let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| page.assert_well()));
        assert!(failed.is_err(), "{path}");
        page.forget_complaints();
    }
    // By the object model it is allowed.
    let address = serve(vec![
        (
            "/",
            "text/html",
            &[("content-security-policy", POLICY)],
            "<!doctype html><title>t</title><body><script src=/a.js></script>".to_owned(),
        ),
        script(
            "/a.js",
            "document.body.style.color = 'red'; document.body.append('x')",
        ),
    ]);
    page.open(&format!("http://{address}/"));
    assert!(page.is("getComputedStyle(document.body).color === 'rgb(255, 0, 0)'"));
    page.assert_well_but(&["favicon.ico"]);
}

#[test]
fn a_screenshot_has_the_pixels_of_the_page() {
    let Some(browser) = Browser::start(&[]) else {
        return;
    };
    let address = serve(vec![html(
        "/",
        "<style>div { position: absolute; width: 100px; height: 50px; background: rgb(12, 34, 56) }
         @media (prefers-color-scheme: dark) { body { background: rgb(1, 2, 3) } }</style>
         <div style='left: 200px; top: 100px'></div>",
    )]);
    let page = browser.page();
    page.open(&format!("http://{address}/"));
    page.set_size(400, 300);
    let image = page.screenshot("harness");
    assert_eq!((image.width, image.height), (400, 300));
    assert_eq!(image.colours(), 2);
    assert_eq!(image.at(0, 0), [255; 3]);
    for (x, y, inside) in [
        (200, 100, true),
        (299, 149, true),
        (199, 100, false),
        (300, 120, false),
        (250, 99, false),
        (250, 150, false),
    ] {
        let expected = if inside { [12, 34, 56] } else { [255; 3] };
        assert_eq!(image.at(x, y), expected, "{x}, {y}");
    }
    page.set_media(&[("prefers-color-scheme", "dark")]);
    assert_eq!(page.screenshot("harness").at(0, 0), [1, 2, 3]);
    page.set_size(320, 480);
    assert_eq!(page.number("innerWidth"), 320.0);
    assert!(screenshots().join("harness.png").is_file());
}

#[test]
fn the_mouse_and_the_keyboard_are_a_users() {
    let Some(browser) = Browser::start(&[]) else {
        return;
    };
    let address = serve(vec![html(
        "/",
        "<script>const said = []; addEventListener('keydown', e => said.push(e.key + (e.shiftKey ? '+' : '')));
         addEventListener('click', e => said.push(e.isTrusted + ' ' + e.target.id), true)</script>
         <form onsubmit='said.push(\"sent \" + one.value); return false'><input id=one><input id=two><button id=send hidden>send</button></form>
         <div style='height: 3000px'></div><button id=low>low</button><div style='height: 100px'></div>
         <button id=under>under</button><div id=over style='position: relative; top: -30px; height: 40px; background: red'></div>",
    )]);
    let page = browser.page();
    page.open(&format!("http://{address}/"));
    page.press("Tab");
    page.type_text("a'Zß 1");
    assert_eq!(page.text("one.value"), "a'Zß 1");
    page.press("Enter");
    page.press("Tab");
    assert_eq!(page.text("document.activeElement.id"), "two");
    page.paste("x\ty");
    assert_eq!(page.text("two.value"), "x\ty");
    page.press("Control+a");
    page.press("Backspace");
    page.press("Shift+Tab");
    assert_eq!(page.text("document.activeElement.id"), "one");
    assert_eq!(page.text("two.value"), "");
    page.click("#low");
    let said = page.text("said.join()");
    assert_eq!(
        said,
        "Tab,a,',Z,ß, ,1,Enter,true send,sent a'Zß 1,Tab,a,Backspace,Tab+,true low"
    );
    assert!(page.number("scrollY") > 1_000.0);
    let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| page.click("#under")));
    let why = failed.expect_err("it is covered");
    let why = why.downcast_ref::<String>().expect("a text");
    assert!(why.contains("covered by") && why.contains("over"), "{why}");
    page.assert_well();
}

#[test]
fn without_the_network_nothing_is_had() {
    let Some(browser) = Browser::start(&[]) else {
        return;
    };
    let address = serve(vec![html("/", "<p>x")]);
    let page = browser.page();
    page.open(&format!("http://{address}/"));
    let ask = "fetch('/').then(answer => answer.status, () => 0)";
    assert_eq!(page.number(ask), 200.0);
    page.set_offline(true);
    assert_eq!(page.number(ask), 0.0);
    page.set_offline(false);
    assert_eq!(page.number(ask), 200.0);
    page.assert_well_but(&["ERR_INTERNET_DISCONNECTED"]);
    let requests = page.requests();
    assert!(
        requests
            .iter()
            .all(|r| r.url == format!("http://{address}/") || r.url == "data:,"),
        "{requests:?}"
    );
}
