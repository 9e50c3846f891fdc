//! The demo's fleet, as whoever meets kvroute first sees it.
use crate::console::{Console, VIEWS, strings};
use kvroute::config::Config;
use kvroute::demo;
use kvroute_tests::browser::{Browser, PATIENCE};
use kvroute_tests::gateways::Client;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const STILL: (&str, &str) = ("prefers-reduced-motion", "reduce");

/// Boxes of the icicle of which one covers more than an edge of the other: none may.
const OVERLAPS: &str = r"(() => {
    const boxes = [...document.querySelectorAll('.icicle [data-key]')].map(one => [one.ariaLabel, one.getBoundingClientRect()]);
    const apart = (a, b) => a.right < b.left + 2 || b.right < a.left + 2 || a.bottom < b.top + 2 || b.bottom < a.top + 2;
    return boxes.flatMap(([name, box], at) => boxes.slice(at + 1).filter(([, other]) => !apart(box, other)).map(([other]) => `${name} and ${other}`));
})()";

/// What the demo prints.
#[derive(Clone, Debug, Default)]
struct Printed(Arc<Mutex<Vec<u8>>>);

impl Printed {
    fn text(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Write for Printed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The demo, running; it ends with the test.
#[derive(Debug)]
struct Demo {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Demo {
    fn start() -> Self {
        let (stop, printed) = (Arc::new(AtomicBool::new(false)), Printed::default());
        let thread = {
            let (stop, mut printed) = (Arc::clone(&stop), printed.clone());
            thread::spawn(move || {
                let ran = demo::run(&Config::default(), &stop, &mut printed, false);
                ran.expect("the demo runs");
            })
        };
        let give_up = Instant::now() + PATIENCE;
        let address = loop {
            let text = printed.text();
            let after = text.split("answers on http://").nth(1);
            if let Some((address, _)) = after.and_then(|after| after.split_once(';')) {
                break address.parse().expect("an address");
            }
            assert!(Instant::now() < give_up && !thread.is_finished(), "{text}");
            thread::sleep(Duration::from_millis(20));
        };
        Self {
            address,
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // Relaxed: only a flag.
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[test]
fn every_view_of_the_demo() {
    let Some(browser) = Browser::start(&[]) else {
        return;
    };
    let demo = Demo::start();
    let console = Console::at(&browser, &format!("http://{}", demo.address));
    console.wait_ready("health");
    // Boxes are where they belong at once.
    console.set_media(&[STILL]);
    console.go("fleet");
    let client = Client {
        address: demo.address,
    };
    let workers = client.get("/v1/workers", "").json();
    let workers = workers.as_array().expect("a list");
    let mut names: Vec<_> = workers
        .iter()
        .map(|worker| {
            format!(
                "{}#{}",
                worker["pod"].as_str().expect("a name"),
                worker["rank"]
            )
        })
        .collect();
    names.sort();
    let mut shown = strings(&console.value("read.names()"));
    shown.sort();
    assert_eq!(shown, names);
    assert!(names.len() >= 3, "{names:?}");
    // Recorded requests are looked up all the time: something is found, and known as hot.
    console.go("flow");
    console.wait_until("/held by the best worker: [1-9]/.test(read.told('hits'))");
    console.go("prefixes");
    console.wait_until("document.querySelectorAll('.icicle [data-key]').length >= 3");
    assert_eq!(console.value(OVERLAPS), serde_json::json!([]));
    for scheme in ["light", "dark"] {
        console.set_media(&[("prefers-color-scheme", scheme), STILL]);
        for view in VIEWS {
            console.go(view);
            let _ = console.picture(&format!("demo-{view}-{scheme}"));
        }
    }
    console.assert_well();
    console.assert_at_home();
}
