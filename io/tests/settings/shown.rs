//! `kvroute check-config`: what holds, where it was said, and what is wrong with the files that settings name.
use crate::{kvroute, run};
use tempfile::TempDir;

fn write(dir: &TempDir, name: &str, text: &str) -> String {
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn settings_are_shown_with_where_they_were_said() {
    let dir = TempDir::new().unwrap();
    let pods = "pods:\n- {pod: a, model: m, events: 'tcp://127.0.0.1:9'}\n";
    let fleet = write(&dir, "pods.yaml", pods);
    let config = write(&dir, "config.yaml", "pin: true\nreplays: 2\n");
    let tokens = write(&dir, "tokens", "a-word-that-is-secret\n");
    let check = |args: &[&str]| {
        let mut command = kvroute(&["check-config", "--replays", "3", "--token-file", &tokens]);
        command
            .args(args)
            .env("KVROUTE_CONFIG", &config)
            .env("KVROUTE_FLEET", &fleet)
            .env("KVROUTE_LISTN", "127.0.0.1:1")
            .env("AIBRIX_SYNC_MAX_CONTEXTS", "7")
            .env("AIBRIX_KV_EVENT_SYNC_ENABLED", "true")
            .env("AIBRIX_KV_EVENT_POLL_TIMEOUT_MS", "100");
        let (code, out) = run(&mut command);
        assert_eq!(code, 0, "{out}");
        assert!(!out.contains("secret"), "{out}");
        out
    };
    let shown: serde_json::Value = serde_json::from_str(&check(&["--json"])).unwrap();
    let row = |key: &str| {
        let rows = shown["settings"].as_array().unwrap();
        let row = rows.iter().find(|row| row["key"] == key).unwrap();
        (row["value"].clone(), row["from"].as_str().unwrap())
    };
    assert_eq!(row("replays"), (3.into(), "--replays"));
    let at_pin = format!("{config}:1");
    assert_eq!(row("pin"), (true.into(), at_pin.as_str()));
    assert_eq!(row("fleet"), (fleet.as_str().into(), "KVROUTE_FLEET"));
    assert_eq!(row("contexts_max"), (7.into(), "AIBRIX_SYNC_MAX_CONTEXTS"));
    assert_eq!(row("drain"), (10.0.into(), "default"));
    assert_eq!(
        (&shown["mode"], &shown["valid"]),
        (&"events_without_tokenizer".into(), &false.into())
    );
    assert_eq!(
        (&shown["pods"], shown["aibrix"].as_array().unwrap().len()),
        (&1.into(), 3)
    );
    let live = |key: &str| {
        let mut rows = shown["settings"].as_array().unwrap().iter();
        rows.find(|row| row["key"] == key).unwrap()["live"].clone()
    };
    assert_eq!(
        (live("policy"), live("replays")),
        (true.into(), false.into())
    );
    let table = check(&[]);
    for words in [
        &["replays", " 3 ", "restart", "--replays"][..],
        &["policy", "prefix-cache", "live", "default"],
        &["AIBRIX_KV_EVENT_POLL_TIMEOUT_MS", "100", "without effect"],
        &["AIBRIX_SYNC_MAX_CONTEXTS", "7", "contexts_max"],
        &[
            "warning",
            "AIBRIX_KV_EVENT_SYNC_ENABLED",
            "AIBRIX_USE_REMOTE_TOKENIZER",
        ],
        &["warning", "KVROUTE_LISTN", "KVROUTE_LISTEN"],
        &["mode", "events_without_tokenizer"],
    ] {
        let has = |line: &str| words.iter().all(|word| line.contains(word));
        assert!(table.lines().any(has), "{words:?} in {table}");
    }
}

/// Without starting anything.
#[test]
fn files_that_settings_name_are_checked() {
    let dir = TempDir::new().unwrap();
    let pods = "pods:\n- {pod: a, model: m, events: 'tcp://127.0.0.1:9'}\n- {pod: b, model: m, events: 'tcp://127.0.0.1:9'}\n";
    let twice = write(&dir, "pods.yaml", pods);
    let empty = write(&dir, "empty", "");
    let model = format!("m={}", dir.path().display());
    for (args, named) in [
        (vec!["--fleet", &twice], vec!["pods[1]", "b#0", "a#0"]),
        (
            vec!["--token-file", "/no/tokens"],
            vec!["token_file", "/no/tokens"],
        ),
        (
            vec!["--tls-cert", &empty, "--tls-key", &empty],
            vec!["tls_cert", "empty"],
        ),
        (
            vec!["--local-tokenizer", &model],
            vec!["local_tokenizers", "tokenizer.json"],
        ),
        (vec!["--replays", "0"], vec!["replays"]),
        (vec!["--log", "kvroute=loud"], vec!["log", "loud"]),
        (vec!["--config", "/no/such.yaml"], vec!["/no/such.yaml"]),
    ] {
        let (code, err) = run(kvroute(&["check-config"]).args(&args));
        assert_eq!(code, 64, "{args:?}: {err}");
        for word in named {
            assert!(err.contains(word), "{word} in {args:?}: {err}");
        }
    }
}
