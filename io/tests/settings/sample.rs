//! The documented file: it has every key once, says of it what the command line says, and has the defaults.
use crate::{kvroute, run};
use kvroute::config::{Given, Key, Settings, SettingsFile, is_live, keys};
use std::collections::BTreeMap;
use tempfile::TempDir;

fn path() -> String {
    format!(
        "{}/../deploy/samples/kvroute.yaml",
        env!("CARGO_MANIFEST_DIR")
    )
}

fn text() -> String {
    std::fs::read_to_string(path()).unwrap()
}

/// `#key: value`, without a space before the key: what can be uncommented.
fn commented_out(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.strip_prefix('#')?.split_once(':')?;
    let is_key = |c: char| c.is_ascii_lowercase() || c == '_';
    (!key.is_empty() && key.chars().all(is_key)).then_some((key, value))
}

/// What is said of a key, if its default is written beside it or not.
fn expected(key: &Key, value: &str) -> String {
    let help = match key.help.split_once(" [default: ") {
        Some((help, _)) if !matches!(value, "null") => help,
        _ => &key.help,
    };
    let live = if is_live(&key.name) { " (live)" } else { "" };
    format!("# {help}{live}")
}

#[test]
fn every_key_is_there_once_with_what_it_is() {
    let text = text();
    let lines: Vec<_> = text.lines().collect();
    let mut found = BTreeMap::new();
    for pair in lines.windows(2) {
        if let Some((key, value)) = commented_out(pair[1]) {
            assert!(found.insert(key, (pair[0], value)).is_none(), "{key} twice");
        }
    }
    assert_eq!(found.len(), keys().len());
    for key in keys() {
        let (comment, value) = found
            .remove(&*key.name)
            .unwrap_or_else(|| panic!("{}", key.name));
        let value = value.split("  #").next().unwrap().trim();
        assert_eq!(comment, expected(key, value), "{}", key.name);
    }
}

#[test]
fn as_it_is_it_changes_nothing() {
    let (code, shown) = run(&mut kvroute(&["check-config", "--config", &path()]));
    assert_eq!(code, 0, "{shown}");
    assert!(!shown.contains("warning"), "{shown}");
    let rows = shown.lines().filter(|line| line.ends_with("  default"));
    assert_eq!(rows.count(), keys().len(), "{shown}");
}

#[test]
fn uncommented_it_says_the_defaults() {
    let whole = text();
    let uncommented = whole.lines().map(|line| match commented_out(line) {
        Some(_) => &line[1..],
        None => line,
    });
    let text: String = uncommented.flat_map(|line| [line, "\n"]).collect();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("kvroute.yaml");
    std::fs::write(&file, text).unwrap();
    let given = Given {
        file: SettingsFile::read(&file).unwrap(),
        ..Given::default()
    };
    let defaults = Settings::default().resolve().unwrap();
    assert_eq!(given.resolve().unwrap(), defaults);
    // What has a default of its own says it: only where nothing is set, or the machine decides, there is null.
    let rows = given.rows(&defaults);
    let silent = rows.iter().filter(|row| row.from == "default");
    let silent: Vec<_> = silent.map(|row| row.key.as_str()).collect();
    let expected = [
        "admin_listen",
        "admin_token_file",
        "fleet",
        "http_threads",
        "io_threads",
        "kubeconfig",
        "kubernetes_namespaces",
        "kubernetes_selector",
        "otlp_endpoint",
        "session_header",
        "snapshot_dir",
        "tls_cert",
        "tls_key",
        "token_file",
        "tokenizer_endpoint",
    ];
    assert_eq!(silent, expected);
}

/// What stands behind a null is an example that is possible.
#[test]
fn the_examples_can_be_used() {
    let whole = text();
    let lines = whole.lines().filter_map(|line| {
        let (key, value) = commented_out(line)?;
        let example = value.strip_prefix(" null  # ")?;
        Some(format!("{key}: {example}\n"))
    });
    let text: String = lines.collect();
    assert_eq!(text.lines().count(), 15, "{text}");
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("kvroute.yaml");
    std::fs::write(&file, text).unwrap();
    let given = Given {
        file: SettingsFile::read(&file).unwrap(),
        ..Given::default()
    };
    given.resolve().unwrap();
}
