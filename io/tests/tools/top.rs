//! `kvroute top`.
use crate::dump::node;
use crate::rig::{PATIENCE, Running, run};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Instant;

#[test]
fn one_frame_tells_of_the_node_and_its_workers() {
    let (node, engines) = node();
    // A gap that cannot be repaired: numbers 1 to 4 were never published.
    engines[1].publish(5, &crate::rig::batch(&[])).unwrap();
    crate::rig::until("the gap is seen", || {
        let workers = node.ask("GET", "/v1/workers", &Value::Null);
        let mut workers = workers.as_array().unwrap().iter();
        let b = workers.find(|worker| worker["pod"] == "b").unwrap();
        b["last_sequence"] == 5 && b["state"] == "partial"
    });
    let query = json!({"model": "m", "token_ids": [0, 1, 2, 3, 4, 5, 6, 7]});
    node.ask("POST", "/v1/match", &query);
    let url = format!("http://{}", node.address);
    let (code, out, err) = run(&["top", &url, "--once", "--json"]);
    assert_eq!(code, 0, "{err}");
    let view: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(view["states"], json!({"exact": 1, "partial": 1}));
    assert_eq!(view["events_per_second"], Value::Null);
    assert!(view["index_bytes"].as_f64().unwrap() > 0.0, "{view}");
    let row = &view["workers"][0];
    for (name, value) in [
        ("pod", json!("b")),
        ("state", json!("partial")),
        ("last_sequence", json!(5)),
        ("gaps", json!(1)),
    ] {
        assert_eq!(row[name], value, "{name}: {row}");
    }
    // A few seconds ago, not since 1970.
    assert!(row["age_ms"].as_u64().unwrap() < 3_600_000, "{row}");
    let (code, out, err) = run(&["top", &url, "--once"]);
    assert_eq!(code, 0, "{err}");
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].contains("2 workers  1 exact  1 partial"), "{out}");
    assert!(lines[4].starts_with("POD"), "{out}");
    assert!(
        lines[5].starts_with("b ") && lines[6].starts_with("ns/a "),
        "{out}"
    );
    assert!(!out.contains('\u{1b}'), "{out:?}");
    // Further frames have rates.
    let running = Running::start(&["top", &url, "--json", "--interval", "0.2"]);
    running.said("\"batches_per_second\":0.0");
    running.interrupt();
    assert_eq!(running.end().0, 0);
    node.stop();
}

#[test]
fn what_cannot_be_asked_is_told_by_words_and_codes() {
    let (code, _, err) = run(&["top", "http://127.0.0.1:9", "--once"]);
    assert!(code == 69 && err.contains("127.0.0.1:9"), "{err}");
    let (code, _, err) = run(&["top", "nonsense://x"]);
    assert!(code == 64 && err.contains("nonsense"), "{err}");
    let (code, help, _) = run(&["top", "--help"]);
    assert!(code == 0 && help.contains("--once --json | jq"), "{help}");
}

/// All that a terminal shows of a shell's command, while keys are pressed when words appear.
fn on_a_terminal(command: &str, steps: &[(&str, &str)]) -> String {
    let mut script = Command::new("script");
    script
        .args(["-qfec", command, "/dev/null"])
        .env("TERM", "xterm");
    let mut child = script
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut keys = child.stdin.take().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let (sender, pieces) = channel();
    thread::spawn(move || {
        let mut piece = [0; 4_096];
        while let Ok(read @ 1..) = stdout.read(&mut piece) {
            let _ = sender.send(piece[..read].to_vec());
        }
    });
    let give_up = Instant::now() + PATIENCE;
    let mut shown = Vec::new();
    let mut seen = 0;
    for (word, press) in steps {
        loop {
            let text = String::from_utf8_lossy(&shown[seen..]).into_owned();
            if text.contains(word) {
                break;
            }
            let piece = pieces.recv_timeout(give_up - Instant::now());
            shown.extend(piece.unwrap_or_else(|_| panic!("{word:?} is not shown: {text}")));
        }
        seen = shown.len();
        keys.write_all(press.as_bytes()).unwrap();
    }
    shown.extend(pieces.iter().flatten());
    assert!(child.wait().unwrap().success());
    String::from_utf8_lossy(&shown).into_owned()
}

#[test]
fn a_terminal_is_given_back_as_it_was() {
    let there = Command::new("script")
        .arg("--version")
        .output()
        .is_ok_and(|out| out.status.success());
    if !there {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "script (util-linux) is missing"
        );
        eprintln!("skipped: script (util-linux) is missing");
        return;
    }
    let (node, _engines) = node();
    let tool = env!("CARGO_BIN_EXE_kvroute");
    let command = format!(
        "stty rows 20 cols 120; stty -g; {tool} top http://{} --interval 0.2; stty -g",
        node.address
    );
    for last in ["q", "\u{3}"] {
        let steps = [
            ("sorted by problem", "s"),
            ("sorted by pod", "/"),
            ("/_", "ns/\r"),
            ("only \"ns/\"", last),
        ];
        let shown = on_a_terminal(&command, &steps);
        let (before, rest) = shown.split_once("\u{1b}[?1049h").expect("another screen");
        let (drawn, after) = rest
            .rsplit_once("\u{1b}[?1049l")
            .expect("the screen as it was");
        assert!(
            drawn.contains("2 exact") && after.contains("\u{1b}[?25h"),
            "{shown:?}"
        );
        let mode = |text: &str| {
            let lines = text
                .lines()
                .map(|line| line.trim_start_matches("\u{1b}[?25h").trim());
            lines
                .filter(|line| line.contains(':'))
                .last()
                .map(str::to_owned)
        };
        assert!(mode(before).is_some(), "{before:?}");
        assert_eq!(mode(before), mode(after));
    }
    node.stop();
}
