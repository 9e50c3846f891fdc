//! Settings from files, and what is wrong with them.
use super::*;
use crate::logging::LogFormat;
use crate::otel::OtelConfig;
use kvroute_engine::choose::{Policy, Rules, Weights};
use std::io::Write;

fn read(text: &str) -> Result<Settings, ConfigError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    SettingsFile::read(file.path()).map(|file| file.settings)
}

fn tokenizer() -> TokenizerConfig {
    TokenizerConfig {
        mode: TokenizerMode::Remote,
        endpoint: Some("t:80".to_owned()),
        timeout: Duration::from_millis(500),
        deadline: Duration::from_secs(3),
        retries: 4,
        concurrency: 5,
        hedge: None,
        cache: 6,
        cache_time: Duration::from_secs(7),
        local: vec![("m".to_owned(), "/models/m".into())],
    }
}

fn routing() -> RoutingConfig {
    RoutingConfig {
        policy: Policy::Cost,
        minimum_match: 8,
        rules: Rules {
            imbalance: 9,
            deviations: 1.5,
            weights: Weights {
                prefill: 2_000,
                decode: 250,
                ..Weights::default()
            },
        },
        session_header: Some("x-session".to_owned()),
        load_interval: Some(Duration::from_millis(500)),
        request_time: Duration::from_secs(30),
        event_sync: false,
        speculative_time: None,
        approximate_time: Duration::from_mins(1),
        approximate_blocks: 10,
        shadow: true,
        decisions: 11,
    }
}

fn discovery() -> DiscoveryConfig {
    DiscoveryConfig {
        kubernetes: Some(KubernetesConfig {
            namespaces: Namespaces::Named(vec!["a".to_owned(), "b".to_owned()]),
            preset: Preset::LlmD,
            selector: Some("team=x".to_owned()),
            not_ready: true,
            kubeconfig: Some("kc".into()),
        }),
        dns: vec![DnsName {
            model: "m".to_owned(),
            host: "h".to_owned(),
            port: 80,
        }],
        dns_interval: Duration::from_secs(20),
    }
}

#[test]
fn every_key_of_the_file_is_read() {
    let settings = read(
            "log: debug\nlog_format: json\nlog_rate: 7\notlp_endpoint: http://c:4318/otlp\notlp_sample: 0.5\notlp_service: kv\nlisten: 0.0.0.0:9000\nadmin_listen: unix:/run/admin\ntls_cert: c.pem\ntls_key: k.pem\n\
             token_file: t\nadmin_token_file: at\nconnections_max: 10\nbody_max: 99\nrequests_max: 9\nidle_timeout: 60\ndrain: 0\n\
             drain_notice: 2.5\nfleet: pods.yaml\nio_threads: 2\nhttp_threads: 3\npin: true\n\
             hash_seed: 7\nready_share: 0.5\nprobe_interval: 2.5\nreplays: 3\nreplay_timeout: 2.5\ncontexts_max: 12\nindex_max: 20000000\n\
             snapshot_dir: /var/kv\nsnapshot_interval: 30\npeers: [\"a:1\", \"b:2\"]\n\
             tokenizer: remote\ntokenizer_endpoint: t:80\ntokenizer_timeout: 0.5\ntokenizer_deadline: 3\n\
             tokenizer_retries: 4\ntokenizer_concurrency: 5\ntokenizer_hedge: 0\ntokenizer_cache: 6\n\
             tokenizer_cache_time: 7\nlocal_tokenizers: {m: /models/m}\npolicy: cost\nminimum_match: 8\n\
             imbalance: 9\ndeviations: 1.5\ncost_prefill: 2\ncost_decode: 0.25\nsession_header: X-Session\n\
             load_interval: 0.5\nrequest_time: 30\nevent_sync: false\nspeculative_time: 0\n\
             approximate_time: 60\napproximate_blocks: 10\nshadow: true\ndecisions: 11\nkubernetes: true\n\
             kubernetes_namespaces: [a, b]\nkubernetes_preset: llm-d\nkubernetes_selector: team=x\n\
             kubernetes_not_ready: true\nkubeconfig: kc\ndns: [\"m=h:80\"]\ndns_interval: 20\n\
             ready_timeout: 60\ngrace: 20\n",
        )
        .unwrap();
    let config = Config {
        log: LogConfig {
            filter: "debug".to_owned(),
            format: LogFormat::Json,
            rate: 7,
        },
        otlp: OtelConfig {
            endpoint: Some("http://c:4318/otlp".to_owned()),
            sample: 0.5,
            service: "kv".to_owned(),
        },
        listen: vec![Address::parse("0.0.0.0:9000").unwrap()],
        admin_listen: Some(Address::Unix("/run/admin".into())),
        tls: Some(("c.pem".into(), "k.pem".into())),
        token_file: Some("t".into()),
        admin_token_file: Some("at".into()),
        connections_max: 10,
        body_max: 99,
        requests_max: 9,
        idle_timeout: Duration::from_secs(60),
        drain: Duration::ZERO,
        drain_notice: Duration::from_millis(2_500),
        fleet: Some("pods.yaml".into()),
        discovery: discovery(),
        io_threads: 2,
        http_threads: 3,
        pin: true,
        hash_seed: Seed(7),
        ready_share: 0.5,
        ready_timeout: Duration::from_mins(1),
        grace: Duration::from_secs(20),
        probe_interval: Some(Duration::from_millis(2_500)),
        replays: 3,
        replay_timeout: Duration::from_millis(2_500),
        contexts_max: 12,
        index_max: Some(20_000_000),
        snapshot_dir: Some("/var/kv".into()),
        snapshot_interval: Some(Duration::from_secs(30)),
        peers: vec!["a:1".to_owned(), "b:2".to_owned()],
        tokenizer: tokenizer(),
        routing: routing(),
        sync_mode: SyncMode::DecisionsWithTokenizer,
    };
    assert_eq!(settings.resolve().unwrap(), config);
}

#[test]
fn no_settings_at_all_are_enough() {
    let config = read("# nothing\n").unwrap().resolve().unwrap();
    assert_eq!(config.listen, [Address::parse("127.0.0.1:8080").unwrap()]);
    assert_eq!((config.fleet, config.pin), (None, false));
    assert!(config.io_threads >= 1 && config.http_threads >= 1);
    assert_eq!((config.hash_seed, config.ready_share), (Seed(1337), 1.0));
    assert_eq!(config.probe_interval, Some(Duration::from_secs(5)));
    assert_eq!(config.tokenizer, TokenizerConfig::default());
    assert_eq!(config.routing, RoutingConfig::default());
    assert_eq!(config.sync_mode, SyncMode::Events);
    assert_eq!(config.replay_timeout, Duration::from_secs(5));
    assert_eq!((config.contexts_max, config.index_max), (1_000, None));
}

/// AIBrix's three modes and the two between them, in kvroute's own words.
#[test]
fn the_mode_follows_from_the_tokenizer_and_event_sync() {
    for (text, mode) in [
        ("tokenizer: remote\nevent_sync: true\n", SyncMode::Events),
        ("tokenizer: 'off'\n", SyncMode::EventsOfTokens),
        (
            "tokenizer: 'off'\nevent_sync: true\n",
            SyncMode::EventsWithoutTokenizer,
        ),
        ("tokenizer: 'off'\nevent_sync: false\n", SyncMode::Decisions),
        ("event_sync: false\n", SyncMode::DecisionsWithTokenizer),
    ] {
        let config = read(text).unwrap().resolve().unwrap();
        assert_eq!(config.sync_mode, mode, "{text}");
    }
}

#[test]
fn a_tokenizer_can_be_off() {
    let config = read("tokenizer: 'off'\n").unwrap().resolve().unwrap();
    assert_eq!(config.tokenizer.mode, TokenizerMode::Off);
}

#[test]
fn several_addresses_are_a_list() {
    let config = read("listen: ['127.0.0.1:1', 'unix:/run/k']\n").unwrap();
    let expected = ["127.0.0.1:1", "unix:/run/k"].map(|text| Address::parse(text).unwrap());
    assert_eq!(config.resolve().unwrap().listen, expected);
}

#[test]
fn no_interval_is_no_probe() {
    let config = read("probe_interval: 0\n").unwrap().resolve().unwrap();
    assert_eq!(config.probe_interval, None);
}

#[test]
fn the_upper_source_wins_key_by_key() {
    let upper = Settings {
        io_threads: Some(1),
        pin: Some(false),
        ..Settings::default()
    };
    let lower = Settings {
        io_threads: Some(2),
        pin: Some(true),
        http_threads: Some(3),
        ..Settings::default()
    };
    let both = upper.or(lower);
    assert_eq!(
        (both.io_threads, both.pin, both.http_threads),
        (Some(1), Some(false), Some(3))
    );
}

#[test]
fn an_error_names_the_key() {
    for (text, key) in [
        ("listne: x\n", "listne"),
        ("io_threads: two\n", "io_threads"),
        ("io_threads: 0\n", "io_threads"),
        ("http_threads: 1025\n", "http_threads"),
        ("ready_share: 1.5\n", "ready_share"),
        ("ready_share: .nan\n", "ready_share"),
        ("probe_interval: -1\n", "probe_interval"),
        ("probe_interval: 0.01\n", "probe_interval"),
        ("probe_interval: 3601\n", "probe_interval"),
        ("probe_interval: .nan\n", "probe_interval"),
        ("listen: nowhere\n", "listen"),
        ("listen: []\n", "listen"),
        ("listen: 8080\n", "listen"),
        ("listen: ['127.0.0.1:1', 'unix:']\n", "listen"),
        ("admin_listen: nowhere\n", "admin_listen"),
        ("tls_cert: c\n", "tls_key"),
        ("tls_key: k\n", "tls_cert"),
        ("connections_max: 0\n", "connections_max"),
        ("body_max: 0\n", "body_max"),
        ("body_max: 268435457\n", "body_max"),
        ("requests_max: 0\n", "requests_max"),
        ("idle_timeout: 4\n", "idle_timeout"),
        ("drain: -1\n", "drain"),
        ("drain_notice: .inf\n", "drain_notice"),
        ("pin: 3\n", "pin"),
        ("replays: 0\n", "replays"),
        ("replay_timeout: 0.01\n", "replay_timeout"),
        ("replay_timeout: 61\n", "replay_timeout"),
        ("contexts_max: 0\n", "contexts_max"),
        ("contexts_max: 1001\n", "contexts_max"),
        ("index_max: 0\n", "index_max"),
        ("snapshot_interval: 0.1\n", "snapshot_interval"),
        ("tokenizer: local\n", "tokenizer"),
        ("tokenizer_timeout: 61\n", "tokenizer_timeout"),
        ("tokenizer_deadline: 0\n", "tokenizer_deadline"),
        ("tokenizer_retries: 11\n", "tokenizer_retries"),
        ("tokenizer_concurrency: 0\n", "tokenizer_concurrency"),
        ("tokenizer_hedge: -1\n", "tokenizer_hedge"),
        ("tokenizer_cache: -1\n", "tokenizer_cache"),
        ("tokenizer_cache_time: 90000\n", "tokenizer_cache_time"),
        ("local_tokenizers: [m]\n", "local_tokenizers"),
        (
            "tokenizer: 'off'\nlocal_tokenizers: {m: d}\n",
            "local_tokenizers",
        ),
        ("policy: best\n", "policy"),
        ("minimum_match: -1\n", "minimum_match"),
        ("deviations: .nan\n", "deviations"),
        ("cost_prefill: -1\n", "cost_prefill"),
        ("cost_decode: 1001\n", "cost_decode"),
        ("session_header: 'a b'\n", "session_header"),
        ("load_interval: 0.01\n", "load_interval"),
        ("request_time: 0\n", "request_time"),
        ("speculative_time: 0.001\n", "speculative_time"),
        ("approximate_time: 0\n", "approximate_time"),
        ("approximate_blocks: 0\n", "approximate_blocks"),
        ("decisions: 0\n", "decisions"),
    ] {
        let config = read(text).and_then(Settings::resolve);
        let error = config.unwrap_err().to_string();
        assert!(error.contains(key), "{key} in {error}");
    }
}

#[test]
fn an_error_names_the_key_of_what_the_node_tells() {
    for (text, key) in [
        ("log: kvroute=loud\n", "log"),
        ("log_format: xml\n", "log_format"),
        ("log_rate: 1000001\n", "log_rate"),
        ("otlp_endpoint: c:4318\n", "otlp_endpoint"),
        ("otlp_endpoint: https://c:4318\n", "otlp_endpoint"),
        ("otlp_endpoint: http://c\n", "otlp_endpoint"),
        ("otlp_endpoint: http://c:1/a b\n", "otlp_endpoint"),
        ("otlp_sample: 1.5\n", "otlp_sample"),
        ("otlp_sample: .nan\n", "otlp_sample"),
        ("otlp_service: ''\n", "otlp_service"),
    ] {
        let config = read(text).and_then(Settings::resolve);
        let error = config.unwrap_err().to_string();
        assert!(error.contains(key), "{key} in {error}");
    }
}

/// A text in place of a list is split as flags and variables are.
#[test]
fn a_text_in_place_of_a_list_is_split_at_commas() {
    let config = |text: &str| read(text).and_then(Settings::resolve);
    let found = config("listen: unix:/run/kv.sock,10.0.0.5:8080\ndns: a=h1:80,b=h2:81\n").unwrap();
    let listen = ["unix:/run/kv.sock", "10.0.0.5:8080"].map(|text| Address::parse(text).unwrap());
    assert_eq!(found.listen, listen);
    let names = found.discovery.dns.iter().map(ToString::to_string);
    assert_eq!(names.collect::<Vec<_>>(), ["a=h1:80", "b=h2:81"]);
    // Nor is what stands in a list taken for one name with a strange model.
    let error = config("dns: ['a=h1:80,b=h2:81']\n")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("dns") && error.contains("a=h1:80,b=h2:81"),
        "{error}"
    );
}
