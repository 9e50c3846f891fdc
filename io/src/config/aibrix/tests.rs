//! Each variable, and what they come to together.
use super::*;
use crate::config::TokenizerMode;
use crate::status::SyncMode;

fn read(given: &[(&str, &str)]) -> Result<Aibrix, ConfigError> {
    Aibrix::read(|name| {
        let found = given.iter().find(|(given, _)| *given == name);
        found.map(|(_, value)| (*value).to_owned())
    })
}

fn settings(set: fn(&mut Settings)) -> Settings {
    let mut settings = Settings::default();
    set(&mut settings);
    settings
}

fn switches(tokenizer: &str, sync: bool) -> Settings {
    Settings {
        tokenizer: Some(tokenizer.to_owned()),
        event_sync: Some(sync),
        ..Settings::default()
    }
}

/// A variable, a value, and what it comes to.
type Row = (&'static str, &'static str, Settings);

/// Whether events and the tokenizer are used, and how.
fn of_tokens() -> Vec<Row> {
    let nothing = Settings::default();
    vec![
        (
            "AIBRIX_USE_REMOTE_TOKENIZER",
            "1",
            switches("remote", false),
        ),
        (
            "AIBRIX_PREFIX_CACHE_USE_REMOTE_TOKENIZER",
            "False",
            switches("off", false),
        ),
        ("AIBRIX_KV_EVENT_SYNC_ENABLED", "t", switches("off", true)),
        (
            "AIBRIX_PREFIX_CACHE_KV_EVENT_SYNC_ENABLED",
            "F",
            switches("off", false),
        ),
        (
            "AIBRIX_REMOTE_TOKENIZER_ENDPOINT",
            "http://vllm-service:8000/",
            settings(|s| s.tokenizer_endpoint = Some("vllm-service:8000".to_owned())),
        ),
        ("AIBRIX_REMOTE_TOKENIZER_ENGINE", "vllm", nothing.clone()),
        (
            "AIBRIX_REMOTE_TOKENIZER_TIMEOUT",
            "30s",
            settings(|s| s.tokenizer_timeout = Some(30.0)),
        ),
        (
            "AIBRIX_REMOTE_TOKENIZER_MAX_RETRIES",
            "3",
            settings(|s| s.tokenizer_retries = Some(3)),
        ),
        (
            "AIBRIX_PREFIX_CACHE_TOKENIZER_TYPE",
            "character",
            nothing.clone(),
        ),
    ]
}

/// The rest, in the order of the table.
fn of_sync() -> Vec<Row> {
    let nothing = Settings::default();
    vec![
        (
            "AIBRIX_SYNC_MAX_CONTEXTS",
            "1000",
            settings(|s| s.contexts_max = Some(1_000)),
        ),
        (
            "AIBRIX_SYNC_MAX_PREFIXES_PER_CONTEXT",
            "10000",
            nothing.clone(),
        ),
        (
            "AIBRIX_SYNC_EVICTION_INTERVAL_SECONDS",
            "60",
            nothing.clone(),
        ),
        (
            "AIBRIX_SYNC_EVICTION_DURATION_MINUTES",
            "30",
            settings(|s| s.approximate_time = Some(1_800.0)),
        ),
        ("AIBRIX_KV_EVENT_POLL_TIMEOUT_MS", "100", nothing.clone()),
        (
            "AIBRIX_KV_EVENT_REPLAY_TIMEOUT_S",
            "7",
            settings(|s| s.replay_timeout = Some(7.0)),
        ),
        ("AIBRIX_PREFIX_CACHE_FALLBACK_ENABLED", "true", nothing),
        (
            "AIBRIX_PREFIX_CACHE_POD_RUNNING_REQUEST_IMBALANCE_ABS_COUNT",
            "12",
            settings(|s| s.imbalance = Some(12)),
        ),
        (
            "AIBRIX_PREFIX_CACHE_STANDARD_DEVIATION_FACTOR",
            "2",
            settings(|s| s.deviations = Some(2.0)),
        ),
    ]
}

#[test]
fn every_variable_is_read_and_said_to_have_its_effect() {
    let table = [of_tokens(), of_sync()].concat();
    let names: Vec<_> = table.iter().map(|(name, ..)| *name).collect();
    assert_eq!(Aibrix::names().collect::<Vec<_>>(), names);
    for (name, value, expected) in table {
        let said = read(&[(name, value)]).unwrap();
        assert_eq!(said.settings, expected, "{name}");
        assert_eq!(said.warnings, [""; 0], "{name}");
        let [variable] = &said.variables[..] else {
            panic!("{name}: {said:?}");
        };
        assert_eq!((variable.name, variable.value.as_str()), (name, value));
        let shown = serde_json::to_value(&expected).unwrap();
        match variable.effect {
            Effect::Sets(key) => assert!(!shown[key].is_null(), "{name}: {key}"),
            Effect::Nothing(why) => {
                assert!(!why.is_empty() && expected == Settings::default(), "{name}");
            }
        }
    }
}

/// AIBrix's modes, by what both switches say.
#[test]
fn the_modes_follow_from_the_two_switches() {
    use SyncMode::{Decisions, DecisionsWithTokenizer, Events, EventsWithoutTokenizer};
    let (on, off, unset) = ("true", "false", "");
    let table = [
        (unset, unset, Events),
        (off, off, Decisions),
        (unset, off, Decisions),
        (off, unset, Decisions),
        (on, off, DecisionsWithTokenizer),
        (on, unset, DecisionsWithTokenizer),
        (on, on, Events),
        (off, on, EventsWithoutTokenizer),
        (unset, on, EventsWithoutTokenizer),
    ];
    for at in 0..2 {
        for (tokenizer, sync, mode) in table {
            let said = read(&[(TOKENIZER[at], tokenizer), (SYNC[at], sync)]).unwrap();
            let config = said.settings.resolve().unwrap();
            assert_eq!(config.sync_mode, mode, "{tokenizer:?} {sync:?}");
            let events = matches!(mode, Events | EventsWithoutTokenizer);
            assert_eq!(config.routing.event_sync, events);
            let remote = matches!(mode, Events | DecisionsWithTokenizer);
            assert_eq!(config.tokenizer.mode == TokenizerMode::Remote, remote);
        }
    }
}

/// What is said in kvroute's own words holds.
#[test]
fn own_settings_win() {
    let said = read(&[(SYNC[0], "true"), ("AIBRIX_SYNC_MAX_CONTEXTS", "10")]).unwrap();
    let own = Settings {
        tokenizer: Some("remote".to_owned()),
        contexts_max: Some(20),
        ..Settings::default()
    };
    let config = own.or(said.settings).resolve().unwrap();
    assert_eq!(config.sync_mode, SyncMode::Events);
    assert_eq!(config.contexts_max, 20);
}

#[test]
fn an_error_names_the_variable() {
    for (name, value) in [
        ("AIBRIX_USE_REMOTE_TOKENIZER", "yes"),
        ("AIBRIX_PREFIX_CACHE_USE_REMOTE_TOKENIZER", "tRUE"),
        ("AIBRIX_KV_EVENT_SYNC_ENABLED", "2"),
        ("AIBRIX_PREFIX_CACHE_KV_EVENT_SYNC_ENABLED", "on"),
        ("AIBRIX_REMOTE_TOKENIZER_ENDPOINT", "https://t:1"),
        ("AIBRIX_REMOTE_TOKENIZER_ENDPOINT", "http://t:1/tokenize"),
        ("AIBRIX_REMOTE_TOKENIZER_ENDPOINT", "http://"),
        ("AIBRIX_REMOTE_TOKENIZER_ENDPOINT", "t:port"),
        ("AIBRIX_REMOTE_TOKENIZER_ENGINE", "other"),
        ("AIBRIX_REMOTE_TOKENIZER_TIMEOUT", "30"),
        ("AIBRIX_REMOTE_TOKENIZER_TIMEOUT", "2m"),
        ("AIBRIX_REMOTE_TOKENIZER_TIMEOUT", "0"),
        ("AIBRIX_REMOTE_TOKENIZER_MAX_RETRIES", "-1"),
        ("AIBRIX_REMOTE_TOKENIZER_MAX_RETRIES", "11"),
        ("AIBRIX_PREFIX_CACHE_TOKENIZER_TYPE", "words"),
        ("AIBRIX_SYNC_MAX_CONTEXTS", "0"),
        ("AIBRIX_SYNC_MAX_CONTEXTS", "1001"),
        ("AIBRIX_SYNC_MAX_PREFIXES_PER_CONTEXT", "many"),
        ("AIBRIX_SYNC_EVICTION_INTERVAL_SECONDS", "1m"),
        ("AIBRIX_SYNC_EVICTION_DURATION_MINUTES", "10081"),
        ("AIBRIX_KV_EVENT_POLL_TIMEOUT_MS", "0"),
        ("AIBRIX_KV_EVENT_REPLAY_TIMEOUT_S", "61"),
        ("AIBRIX_PREFIX_CACHE_FALLBACK_ENABLED", "maybe"),
        (
            "AIBRIX_PREFIX_CACHE_POD_RUNNING_REQUEST_IMBALANCE_ABS_COUNT",
            "1.5",
        ),
        ("AIBRIX_PREFIX_CACHE_STANDARD_DEVIATION_FACTOR", "0"),
        ("AIBRIX_PREFIX_CACHE_STANDARD_DEVIATION_FACTOR", "NaN"),
    ] {
        let Err(error) = read(&[(name, value)]) else {
            panic!("{name}={value} was taken");
        };
        assert!(
            error.to_string().starts_with(&format!("{name}: ")),
            "{error}"
        );
    }
    let both = [(SYNC[0], "true"), (SYNC[1], "false")];
    let error = read(&both).unwrap_err().to_string();
    assert!(
        error.contains(SYNC[0]) && error.contains(SYNC[1]),
        "{error}"
    );
}

#[test]
fn what_is_not_obeyed_is_warned_of() {
    let said = read(&[(FALLBACK, "0"), (ENGINE, "sglang")]).unwrap();
    let [engine, fallback] = &said.warnings[..] else {
        panic!("{said:?}");
    };
    assert!(engine.contains(ENGINE) && fallback.contains(FALLBACK));
}
