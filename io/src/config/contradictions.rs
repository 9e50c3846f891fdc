//! Settings that do not go together: what is refused, and what is only warned of.
//!
//! Refused is what cannot be meant, or cannot be had whole. Warned of is what is without effect: it may be left in a file while
//! what it belongs to is switched off.
use super::aibrix::Variable;
use super::given::{Given, fields};
use super::secret::quoted;
use super::{Config, ConfigError, TokenizerMode, at_odds, wrong};
use crate::address::Address;
use crate::status::Ending;
use crate::status::SyncMode;
use std::time::Duration;

/// Settings of the first kind that mean nothing without the second.
const NEEDS: &[(&str, &[&str])] = &[
    (
        "kubernetes",
        &[
            "kubernetes_namespaces",
            "kubernetes_preset",
            "kubernetes_selector",
            "kubernetes_not_ready",
            "kubeconfig",
        ],
    ),
    ("dns", &["dns_interval"]),
    ("otlp_endpoint", &["otlp_sample", "otlp_service"]),
    ("snapshot_dir", &["snapshot_interval"]),
    (
        "tokenizer",
        &[
            "tokenizer_endpoint",
            "tokenizer_timeout",
            "tokenizer_deadline",
            "tokenizer_retries",
            "tokenizer_concurrency",
            "tokenizer_hedge",
            "tokenizer_cache",
            "tokenizer_cache_time",
        ],
    ),
];

/// Refuses what cannot be meant.
pub(super) fn check(given: &Given, config: &Config) -> Result<(), ConfigError> {
    listeners(config)?;
    repetitions(config)?;
    end(config)?;
    let timeout = given.in_own_words().tokenizer_timeout;
    let deadline = config.tokenizer.deadline.as_secs_f64();
    match timeout {
        Some(timeout) if timeout > deadline => Err(at_odds(
            &["tokenizer_timeout", "tokenizer_deadline"],
            format!("{timeout}; a call cannot take longer than tokenizer_deadline, {deadline}"),
        )),
        _ => Ok(()),
    }
}

/// No address is listened on twice.
fn listeners(config: &Config) -> Result<(), ConfigError> {
    let listen = &config.listen;
    // Each port 0 is another one.
    let same = |one: &Address, other: &Address| {
        one == other && !matches!(one, Address::Tcp(address) if address.port() == 0)
    };
    for (at, address) in listen.iter().enumerate() {
        if listen[..at].iter().any(|other| same(other, address)) {
            return Err(wrong("listen", format!("{address} is given twice")));
        }
    }
    let Some(admin) = &config.admin_listen else {
        return Ok(());
    };
    if listen.iter().any(|other| same(other, admin)) {
        let message = format!("{admin} is one of listen, too; another address is needed");
        return Err(at_odds(&["admin_listen", "listen"], message));
    }
    Ok(())
}

/// No name is given twice.
fn repetitions(config: &Config) -> Result<(), ConfigError> {
    let discovery = &config.discovery;
    let dns = discovery.dns.iter();
    let dns = dns.map(|name| format!("{}:{}", name.host.to_ascii_lowercase(), name.port));
    once("dns", dns)?;
    let kubernetes = discovery.kubernetes.as_ref();
    let namespaces = kubernetes.and_then(|it| it.namespaces.setting());
    once("kubernetes_namespaces", namespaces.into_iter().flatten())?;
    once("peers", config.peers.iter().cloned())?;
    let models = config.tokenizer.local.iter().map(|(model, _)| model);
    once("local_tokenizers", models.cloned())
}

fn once(key: &str, names: impl Iterator<Item = String>) -> Result<(), ConfigError> {
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    let twice = names.windows(2).find(|pair| pair[0] == pair[1]);
    match twice {
        Some(pair) => {
            let message = format!("{} is given twice", quoted(key, &pair[0]));
            Err(wrong(key, message))
        }
        None => Ok(()),
    }
}

/// The process ends when what it has promised is over.
fn end(config: &Config) -> Result<(), ConfigError> {
    let (notice, drain, grace) = (config.drain_notice, config.drain, config.grace);
    let room = Ending::before_snapshot(grace);
    if notice + drain <= room {
        return Ok(());
    }
    let seconds = |time: Duration| time.as_secs_f64();
    Err(at_odds(
        &["grace", "drain_notice", "drain"],
        format!(
            "{}, which leaves {} beside the snapshot; drain_notice {} and drain {} are {} seconds",
            seconds(grace),
            seconds(room),
            seconds(notice),
            seconds(drain),
            seconds(notice + drain),
        ),
    ))
}

/// What is asked for and not had.
pub(super) fn warnings(given: &Given, config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    let said = fields(&given.together());
    let is_given = |key: &str| said.get(key).is_some_and(|value| !value.is_null());
    for (main, others) in NEEDS {
        let without = match *main {
            "kubernetes" if config.discovery.kubernetes.is_none() => "without kubernetes",
            "dns" if config.discovery.dns.is_empty() => "without dns",
            "snapshot_dir" if config.snapshot_dir.is_none() => "without snapshot_dir",
            "tokenizer" if config.tokenizer.mode == TokenizerMode::Off => "with tokenizer off",
            _ => continue,
        };
        for key in others.iter().filter(|key| is_given(key)) {
            let from = given.source(key);
            warnings.push(format!("{key} (from {from}) has no effect {without}"));
        }
    }
    warnings.extend(cut_timeout(given, config));
    let tcp = |address: &Address| matches!(address, Address::Tcp(_));
    let listeners = config.listen.iter().chain(&config.admin_listen);
    if config.tls.is_some() && !listeners.into_iter().any(tcp) {
        let from = given.source("tls_cert");
        warnings.push(format!(
            "tls_cert (from {from}) has no effect: only Unix sockets are listened on"
        ));
    }
    warnings.extend(sync_without_tokens(given, config));
    warnings
}

fn cut_timeout(given: &Given, config: &Config) -> Option<String> {
    let asked = given.together().tokenizer_timeout?;
    let holds = config.tokenizer.timeout.as_secs_f64();
    (asked > holds).then(|| {
        format!(
            "tokenizer_timeout {asked} (from {}) is cut to {holds}, four fifths of tokenizer_deadline, {}: else nobody \
             would notice that an engine hangs",
            given.source("tokenizer_timeout"),
            config.tokenizer.deadline.as_secs_f64()
        )
    })
}

fn sync_without_tokens(given: &Given, config: &Config) -> Option<String> {
    if config.sync_mode != SyncMode::EventsWithoutTokenizer {
        return None;
    }
    let name = |key: &'static str, main: &str| {
        let from = given.source(key);
        let mut variables = given.aibrix.variables.iter();
        let says = |it: &Variable| it.name == from && it.effect.sets(key);
        // A switch that is off because only the other one is set goes by its own name.
        let implied = from.starts_with("AIBRIX_") && !variables.any(says);
        if implied { main.to_owned() } else { from }
    };
    let sync = name("event_sync", "AIBRIX_KV_EVENT_SYNC_ENABLED");
    let tokenizer = name("tokenizer", "AIBRIX_USE_REMOTE_TOKENIZER");
    Some(format!(
        "event_sync (from {sync}) asks for event synchronisation, but tokenizer (from {tokenizer}) is off: texts are \
         routed by load; only token ids are looked up in what the engines' events say"
    ))
}

/// What a person should know who checks settings.
#[must_use]
pub(super) fn notes(config: &Config) -> Vec<String> {
    let of_choice = |address: &&Address| matches!(address, Address::Tcp(it) if it.port() == 0);
    let listeners = config.listen.iter().chain(&config.admin_listen);
    let note = |address: &Address| {
        format!("{address}: the system chooses the port, another one at each start")
    };
    listeners.filter(of_choice).map(note).collect()
}

#[cfg(test)]
mod tests {
    use crate::config::{Aibrix, Given, Settings};

    /// What settings in a file of their own come to: an error, or warnings.
    fn of(text: &str) -> Result<Vec<String>, String> {
        let own: Settings = yaml_serde::from_str(text).unwrap();
        let given = Given {
            own,
            ..Given::default()
        };
        let config = given.resolve().map_err(|error| error.to_string())?;
        Ok(given.warnings(&config))
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (text, words) in [
            (
                "listen: ['127.0.0.1:1', '127.0.0.1:1']",
                &["listen", "127.0.0.1:1", "twice"][..],
            ),
            ("listen: ['unix:/a', 'unix:/a']", &["listen", "unix:/a"]),
            (
                "{listen: '127.0.0.1:1', admin_listen: '127.0.0.1:1'}",
                &["admin_listen", "127.0.0.1:1", "listen"],
            ),
            (
                "{drain: 25, drain_notice: 6}",
                &["grace", "30", "drain_notice 6", "drain 25", "31", "default"],
            ),
            (
                "{drain: 20, drain_notice: 5}",
                &["grace", "leaves 24", "25 seconds"],
            ),
            (
                "{tokenizer_timeout: 3, tokenizer_deadline: 2.5}",
                &["tokenizer_timeout", "3", "tokenizer_deadline", "2.5"],
            ),
            (
                "tokenizer_timeout: 2.5",
                &["tokenizer_deadline, 2", "default"],
            ),
            ("dns: ['a=h:1', 'b=H:1']", &["dns", "h:1", "twice"]),
            (
                "{kubernetes: true, kubernetes_namespaces: [a, b, a]}",
                &["kubernetes_namespaces", "\"a\"", "twice"],
            ),
            ("peers: ['h:1', 'h:1']", &["peers", "h:1", "twice"]),
        ] {
            let error = of(text).unwrap_err();
            for word in words {
                assert!(error.contains(word), "{word} in {error}");
            }
        }
        for text in [
            "listen: ['127.0.0.1:0', '127.0.0.1:0']",
            "{drain: 19, drain_notice: 5}",
            "{drain: 64, grace: 70}",
            "dns: ['a=h:1', 'a=h:2']",
        ] {
            assert_eq!(of(text), Ok(Vec::new()), "{text}");
        }
    }

    #[test]
    fn what_has_no_effect_is_warned_of() {
        for (text, key, without) in [
            ("kubeconfig: /k", "kubeconfig", "without kubernetes"),
            (
                "{kubernetes: false, kubernetes_selector: a=b}",
                "kubernetes_selector",
                "without kubernetes",
            ),
            ("dns_interval: 5", "dns_interval", "without dns"),
            (
                "snapshot_interval: 5",
                "snapshot_interval",
                "without snapshot_dir",
            ),
            (
                "{tokenizer: 'off', tokenizer_endpoint: 'h:1'}",
                "tokenizer_endpoint",
                "tokenizer off",
            ),
            ("{tokenizer_timeout: 1.9}", "tokenizer_timeout", "1.6"),
            (
                "{listen: 'unix:/s', tls_cert: c, tls_key: k}",
                "tls_cert",
                "Unix",
            ),
        ] {
            let warnings = of(text).unwrap();
            let [warning] = &warnings[..] else {
                panic!("{text}: {warnings:?}");
            };
            assert!(
                warning.starts_with(key) && warning.contains(without),
                "{warning}"
            );
        }
        for text in [
            "{kubernetes: true, kubeconfig: /k}",
            "{dns: ['m=h:1'], dns_interval: 5}",
            "{snapshot_dir: d, snapshot_interval: 5}",
            "tokenizer_deadline: 0.5",
        ] {
            assert_eq!(of(text), Ok(Vec::new()), "{text}");
        }
    }

    /// Its default is longer than ours for all retries together.
    #[test]
    fn aibrix_timeout_is_cut_and_warned_of() {
        let name = "AIBRIX_REMOTE_TOKENIZER_TIMEOUT";
        let aibrix = Aibrix::read(|asked| match asked {
            "AIBRIX_REMOTE_TOKENIZER_TIMEOUT" => Some("30s".to_owned()),
            "AIBRIX_USE_REMOTE_TOKENIZER" => Some("true".to_owned()),
            _ => None,
        });
        let given = Given {
            aibrix: aibrix.unwrap(),
            ..Given::default()
        };
        let warnings = given.warnings(&given.resolve().unwrap());
        let cut = |warning: &String| warning.contains(name) && warning.contains("cut to 1.6");
        assert!(warnings.iter().any(cut), "{warnings:?}");
    }
}
