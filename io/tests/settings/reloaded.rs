//! Every setting with another value, read again: what is live is taken, whole and at once; what is not stays and is told of.
use kvroute::config::{Given, SettingsFile, Standing, is_live, keys};
use tempfile::TempDir;

/// What holds at first where others need it.
const FIRST: &[(&str, &str)] = &[
    ("kubernetes", "true"),
    ("tls_cert", "a"),
    ("tls_key", "b"),
    ("http_threads", "2"),
    ("io_threads", "2"),
];

/// Each key with a value that is neither the first nor the default.
const OTHERS: &[(&str, &str)] = &[
    ("log", "kvroute=debug"),
    ("log_format", "json"),
    ("log_rate", "20"),
    ("otlp_endpoint", "http://c:1"),
    ("otlp_sample", "0.5"),
    ("otlp_service", "kv"),
    ("listen", "127.0.0.1:9"),
    ("admin_listen", "127.0.0.1:9"),
    ("tls_cert", "c"),
    ("tls_key", "d"),
    ("token_file", "t"),
    ("admin_token_file", "t"),
    ("connections_max", "10"),
    ("body_max", "10"),
    ("requests_max", "10"),
    ("idle_timeout", "10"),
    ("drain", "11"),
    ("drain_notice", "10"),
    ("fleet", "f"),
    ("kubernetes", "false"),
    ("kubernetes_namespaces", "a"),
    ("kubernetes_preset", "llm-d"),
    ("kubernetes_selector", "a=b"),
    ("kubernetes_not_ready", "true"),
    ("kubeconfig", "k"),
    ("dns", "m=h:1"),
    ("dns_interval", "11"),
    ("io_threads", "3"),
    ("http_threads", "3"),
    ("pin", "true"),
    ("hash_seed", "1"),
    ("ready_share", "0.5"),
    ("ready_timeout", "10"),
    ("grace", "31"),
    ("probe_interval", "10"),
    ("replays", "10"),
    ("replay_timeout", "10"),
    ("contexts_max", "10"),
    ("index_max", "16777216"),
    ("snapshot_dir", "s"),
    ("snapshot_interval", "10"),
    ("peers", "h:1"),
    ("tokenizer", "'off'"),
    ("tokenizer_endpoint", "h:1"),
    ("tokenizer_timeout", "0.5"),
    ("tokenizer_deadline", "10"),
    ("tokenizer_retries", "1"),
    ("tokenizer_concurrency", "10"),
    ("tokenizer_hedge", "1"),
    ("tokenizer_cache", "10"),
    ("tokenizer_cache_time", "10"),
    ("local_tokenizers", "{m: d}"),
    ("policy", "cost"),
    ("minimum_match", "10"),
    ("imbalance", "10"),
    ("deviations", "2"),
    ("cost_prefill", "2"),
    ("cost_decode", "2"),
    ("session_header", "X-Session"),
    ("load_interval", "10"),
    ("request_time", "10"),
    ("event_sync", "false"),
    ("speculative_time", "10"),
    ("approximate_time", "10"),
    ("approximate_blocks", "10"),
    ("shadow", "true"),
    ("decisions", "10"),
];

fn read(folder: &TempDir, other: Option<(&str, &str)>) -> Given {
    let first = FIRST.iter().copied();
    let first = first.filter(|(key, _)| other.is_none_or(|(other, _)| other != *key));
    let lines = first
        .chain(other)
        .map(|(key, value)| format!("{key}: {value}\n"));
    let path = folder.path().join("kvroute.yaml");
    std::fs::write(&path, lines.collect::<String>()).unwrap();
    Given {
        file: SettingsFile::read(&path).unwrap(),
        ..Given::default()
    }
}

#[test]
fn each_is_taken_or_told_of() {
    let folder = TempDir::new().unwrap();
    let first = read(&folder, None);
    let before = first.resolve().unwrap();
    // A setting without another value cannot be added.
    assert_eq!(OTHERS.len(), keys().len());
    for key in keys() {
        let other = OTHERS.iter().find(|(other, _)| *other == key.name);
        let other = *other.unwrap_or_else(|| panic!("{} has no other value", key.name));
        let again = read(&folder, Some(other));
        let after = again.resolve().unwrap();
        assert_ne!(after, before, "{other:?} is another value");
        let mut standing = Standing::new(first.clone(), before.clone());
        let changes = standing.take(&again).unwrap();
        let (taken, told) = match is_live(&key.name) {
            true => (&changes.live, &changes.restart),
            false => (&changes.restart, &changes.live),
        };
        let names: Vec<_> = taken.iter().map(|change| &*change.key).collect();
        assert_eq!((names, told.len()), (vec![&*key.name], 0), "{changes:?}");
        assert!(taken[0].source.contains("kvroute.yaml:"), "{taken:?}");
        let holds = if is_live(&key.name) { &after } else { &before };
        assert_eq!(standing.config(), holds, "{}", key.name);
        // Read again it is nothing new, but what is still not had is told of again.
        let changes = standing.take(&again).unwrap();
        assert_eq!(changes.live, []);
        assert_eq!(changes.restart.len(), usize::from(!is_live(&key.name)));
        // And back.
        standing.take(&first).unwrap();
        assert_eq!(*standing.config(), before);
    }
}

#[test]
fn what_does_not_hold_together_changes_nothing() {
    let folder = TempDir::new().unwrap();
    let first = read(&folder, None);
    let before = first.resolve().unwrap();
    let mut standing = Standing::new(first, before.clone());
    let error = standing.take(&read(&folder, Some(("drain", "31"))));
    assert!(error.unwrap_err().to_string().contains("drain 31"));
    assert_eq!(*standing.config(), before);
}
