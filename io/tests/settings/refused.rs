//! Every setting with a value of another type and with one out of bounds, in the file, in its variable and by its flag: the error
//! names the key, the value, where it was said, and what is possible.
use crate::{kvroute, run};
use kvroute::config::{Given, Key, SettingsFile, keys};
use std::path::Path;
use tempfile::TempDir;

/// A value of the right type that is not possible, and what is said to be.
type Beyond = Option<(&'static str, &'static str)>;

/// Key; YAML of another type; the same as text, if text can be of another type; beyond what is possible.
type Case = (&'static str, &'static str, Option<&'static str>, Beyond);

const LIST: &str = "[x]";
const MAP: &str = "{a: b}";

const fn path(key: &'static str) -> Case {
    (key, LIST, None, Some(("", "a path")))
}

const fn number(key: &'static str, beyond: &'static str, possible: &'static str) -> Case {
    (key, "many", Some("many"), Some((beyond, possible)))
}

const fn any_number(key: &'static str) -> Case {
    (key, "-1", Some("many"), None)
}

const fn switch(key: &'static str) -> Case {
    (key, "maybe", Some("maybe"), None)
}

const fn word(key: &'static str, beyond: &'static str, possible: &'static str) -> Case {
    (key, LIST, None, Some((beyond, possible)))
}

const fn list(key: &'static str, beyond: &'static str, possible: &'static str) -> Case {
    (key, MAP, None, Some((beyond, possible)))
}

const CASES: &[Case] = &[
    word("log", "kvroute=loud", "error, warn, info"),
    word("log_format", "xml", "text or json"),
    number("log_rate", "1000001", "0 to 1000000"),
    word("otlp_endpoint", "https://c:1", "http://HOST:PORT"),
    number("otlp_sample", "1.5", "0 to 1"),
    word("otlp_service", "", "1 to 128"),
    list("listen", "127.0.0.1:65536", "host:port or unix:/path"),
    word("admin_listen", "nowhere", "host:port or unix:/path"),
    path("tls_cert"),
    path("tls_key"),
    path("token_file"),
    path("admin_token_file"),
    number("connections_max", "0", "1 to "),
    number("body_max", "268435457", "1 to 268435456"),
    number("requests_max", "0", "1 to "),
    number("idle_timeout", "4", "5 to "),
    number("drain", "-1", "0 to "),
    number("drain_notice", "-1", "0 to "),
    path("fleet"),
    switch("kubernetes"),
    list("kubernetes_namespaces", "Upper", "small letters"),
    word("kubernetes_preset", "best", "aibrix, llm-d"),
    word("kubernetes_selector", "a=b||c", "up to 63 letters"),
    switch("kubernetes_not_ready"),
    path("kubeconfig"),
    list(
        "dns",
        "m=h:0",
        "MODEL=HOST:PORT is expected, with a port from 1 to 65535",
    ),
    number("dns_interval", "0.5", "1 to "),
    number("io_threads", "0", "1 to 1024"),
    number("http_threads", "1025", "1 to 1024"),
    switch("pin"),
    any_number("hash_seed"),
    number("ready_share", "1.5", "0 to 1"),
    number("ready_timeout", "3601", "0 to 3600"),
    number("grace", "0.5", "1 to 7200"),
    number("probe_interval", "0.01", "0 or "),
    number("replays", "0", "1 to "),
    number("replay_timeout", "61", " to 60"),
    number("contexts_max", "1001", "1 to 1000"),
    number("index_max", "16777215", "16777216 to "),
    path("snapshot_dir"),
    number("snapshot_interval", "0.1", "0 or "),
    list(
        "peers",
        "h:0",
        "HOST:PORT is expected, with a port from 1 to 65535",
    ),
    word("tokenizer", "local", "remote and off"),
    word("tokenizer_endpoint", "https://h:1", "HOST:PORT"),
    number("tokenizer_timeout", "61", " to 60"),
    number("tokenizer_deadline", "0", " to 60"),
    number("tokenizer_retries", "11", "0 to 10"),
    number("tokenizer_concurrency", "0", "1 to "),
    number("tokenizer_hedge", "-1", "0 or "),
    number("tokenizer_cache", "1000000000000000", "0 to "),
    number("tokenizer_cache_time", "90000", " to "),
    ("local_tokenizers", LIST, Some("m"), None),
    word("policy", "best", "prefix-cache"),
    any_number("minimum_match"),
    any_number("imbalance"),
    number("deviations", "1001", "0 to 1000"),
    number("cost_prefill", "1001", "0 to 1000"),
    number("cost_decode", "-1", "0 to 1000"),
    word("session_header", "Transfer-Encoding", "another meaning"),
    number("load_interval", "0.01", "0 or "),
    number("request_time", "0", " to "),
    switch("event_sync"),
    number("speculative_time", "0.001", "0 or "),
    number("approximate_time", "0", " to "),
    number("approximate_blocks", "0", "1 to "),
    switch("shadow"),
    number("decisions", "0", "1 to "),
];

/// A setting without a case cannot be added.
fn cases() -> Vec<(&'static Key, &'static Case)> {
    let case = |key: &'static Key| {
        let case = CASES.iter().find(|case| case.0 == key.name);
        (
            key,
            case.unwrap_or_else(|| panic!("{} has no case", key.name)),
        )
    };
    assert_eq!(CASES.len(), keys().len());
    keys().iter().map(case).collect()
}

/// How a value stands in an error.
fn told(key: &Key, value: &str) -> String {
    match value {
        _ if key.name == "hash_seed" => "not shown".to_owned(),
        LIST => "a list".to_owned(),
        MAP => "a map".to_owned(),
        _ => value.to_owned(),
    }
}

fn assert_says(error: &str, words: &[&str]) {
    for word in words {
        assert!(error.contains(word), "{word:?} is not in: {error}");
    }
}

fn from_file(path: &Path, key: &Key, value: &str) -> String {
    std::fs::write(path, format!("# a comment\n\n{}: {value}\n", key.name)).unwrap();
    let read = SettingsFile::read(path).and_then(|file| {
        let given = Given {
            file,
            ..Given::default()
        };
        given.resolve()
    });
    read.unwrap_err().to_string()
}

#[test]
fn in_the_file() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("kvroute.yaml");
    let place = format!("{}:3", path.display());
    for (key, (name, mistyped, _, beyond)) in cases() {
        let error = from_file(&path, key, mistyped);
        assert_says(&error, &[name, &told(key, mistyped), &key.form, &place]);
        if let Some((value, possible)) = beyond {
            let quoted = format!("'{value}'");
            let number = value.parse::<f64>().is_ok();
            let value = if number { value } else { &*quoted };
            let error = from_file(&path, key, value);
            assert_says(&error, &[name, value.trim_matches('\''), possible, &place]);
        }
    }
}

#[test]
fn in_the_variable() {
    for (key, (name, _, mistyped, beyond)) in cases() {
        let check = |value: &str| run(kvroute(&["check-config"]).env(&key.variable, value));
        if let Some(value) = mistyped {
            let (code, error) = check(value);
            assert_says(&error, &[name, &told(key, value), &key.form, &key.variable]);
            assert_eq!(code, 64, "{error}");
        }
        if let Some((value, possible)) = beyond {
            let (code, error) = check(value);
            assert_says(&error, &[name, value, possible, &key.variable]);
            assert_eq!(code, 64, "{error}");
        }
    }
}

#[test]
fn by_the_flag() {
    for (key, (name, _, mistyped, beyond)) in cases() {
        for (value, possible) in [mistyped.map(|text| (text, &*key.form)), *beyond]
            .into_iter()
            .flatten()
        {
            // The variable is not at fault.
            let flag = format!("{}={value}", key.flag);
            let mut command = kvroute(&["check-config", &flag]);
            let (code, error) = run(command.env(&key.variable, "true"));
            let told = told(key, value);
            assert_says(
                &error,
                &[name, &told, possible, &format!("(from {}", key.flag)],
            );
            assert_eq!(code, 64, "{error}");
        }
    }
}

#[test]
fn what_is_misspelt_is_named_with_what_may_be_meant() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("kvroute.yaml");
    for (text, words) in [
        ("pin: true\nlistne: x\n", &["listne", "listen", ":2"][..]),
        ("io-threads: 2\n", &["io-threads", "io_threads", ":1"]),
        ("pin: true\nKVROUTE: x\n", &["KVROUTE", "no such key", ":2"]),
        (
            "pin: true\n\npin: false\n",
            &["pin", "twice", "line 1", ":3"],
        ),
        ("{pin: true,\nreplays: 0}\n", &["replays", "0", ":2"]),
        ("pin: [\n", &["kvroute.yaml", "line"]),
        ("- pin\n", &["kvroute.yaml", "KEY: VALUE"]),
    ] {
        std::fs::write(&path, text).unwrap();
        let (code, error) = run(&mut kvroute(&["serve", "--config", path.to_str().unwrap()]));
        assert_says(&error, words);
        assert_eq!(code, 64, "{error}");
    }
    let (code, error) = run(kvroute(&["check-config"]).env("KVROUTE_LISTN", "x"));
    assert_says(&error, &["warning", "KVROUTE_LISTN", "KVROUTE_LISTEN"]);
    assert_eq!(code, 0);
    let (code, error) = run(&mut kvroute(&["check-config", "--listn", "x"]));
    assert_says(&error, &["--listn", "--listen"]);
    assert_eq!(code, 64);
}

/// Bytes that are no text, where text is expected.
#[test]
fn what_is_not_utf8_is_named() {
    use std::os::unix::ffi::OsStrExt;
    let bytes = std::ffi::OsStr::from_bytes(b"\xff");
    let (code, error) = run(kvroute(&["check-config"]).env("KVROUTE_POLICY", bytes));
    assert_says(&error, &["policy", "UTF-8", "KVROUTE_POLICY"]);
    assert_eq!(code, 64);
    let (code, error) = run(kvroute(&["check-config", "--policy"]).arg(bytes));
    assert_says(&error, &["policy", "UTF-8", "--policy"]);
    assert_eq!(code, 64);
    // A path may have any bytes, and is shown as well as can be.
    let folder = TempDir::new().unwrap();
    let path = folder
        .path()
        .join(std::ffi::OsStr::from_bytes(b"pods-\xff.yaml"));
    std::fs::write(&path, "pods: []\n").unwrap();
    let (code, shown) = run(kvroute(&["check-config", "--replays", "3", "--fleet"]).arg(&path));
    assert_eq!(code, 0, "{shown}");
    let row = |key: &str| shown.lines().find(|line| line.starts_with(key)).unwrap();
    assert_says(row("fleet"), &["pods-\u{fffd}.yaml", "--fleet"]);
    assert_says(row("replays"), &["3", "--replays"]);
}
