//! What all sources give: put together, and told apart again.
use super::contradictions;
use super::file::nearest;
use super::live::is_live;
use super::secret::shown;
use super::{Aibrix, Config, ConfigError, Settings, SettingsFile, TokenizerMode};
use crate::address::Address;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::time::Duration;

/// What all sources give.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// Flags, and the variables named after them; they win.
    pub own: Settings,
    /// By key, which flag or variable it was given by.
    pub names: BTreeMap<String, String>,
    /// The file.
    pub file: SettingsFile,
    /// AIBrix's variables.
    pub aibrix: Aibrix,
}

/// One setting, for the eye.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its key in the file.
    pub key: String,
    /// What holds; null if it is not set and has no default.
    pub value: Value,
    /// Where it was said.
    pub from: String,
    /// Whether a running node takes another value.
    pub live: bool,
}

impl Given {
    /// What holds. An error names the sources of what is wrong.
    pub fn resolve(&self) -> Result<Config, ConfigError> {
        let config = self.together().resolve();
        let config = config.and_then(|config| {
            contradictions::check(self, &config)?;
            Ok(config)
        });
        config.map_err(|error| error.said(|key| self.source(key)))
    }

    /// The settings of all sources.
    pub(super) fn together(&self) -> Settings {
        self.in_own_words().or(self.aibrix.settings.clone())
    }

    /// The settings that are given in kvroute's own words.
    pub(super) fn in_own_words(&self) -> Settings {
        self.own.clone().or(self.file.settings.clone())
    }

    /// What is asked for and not had.
    #[must_use]
    pub fn warnings(&self, config: &Config) -> Vec<String> {
        let mut warnings = self.aibrix.warnings.clone();
        warnings.extend(contradictions::warnings(self, config));
        warnings
    }

    /// All settings as they hold, in alphabetical order, as far as they may be shown.
    #[must_use]
    pub fn rows(&self, config: &Config) -> Vec<Row> {
        let row = |(key, value): (String, Value)| Row {
            from: self.source(&key),
            live: is_live(&key),
            value: shown(&key, value),
            key,
        };
        fields(&config.settings()).into_iter().map(row).collect()
    }

    /// Where a key was said.
    pub(super) fn source(&self, key: &str) -> String {
        let says = |settings: &Settings| {
            let fields = fields(settings);
            fields.get(key).is_some_and(|value| !value.is_null())
        };
        if says(&self.own) {
            let name = self.names.get(key);
            name.map_or_else(|| "flag".to_owned(), Clone::clone)
        } else if says(&self.file.settings) {
            self.file.source(key)
        } else if let Some(variable) = self.aibrix.source(key) {
            variable.to_owned()
        } else {
            "default".to_owned()
        }
    }
}

/// By key; null for what is not given. Not yet to be shown.
pub(super) fn fields(settings: &Settings) -> Map<String, Value> {
    match serde_json::to_value(settings) {
        Ok(Value::Object(fields)) => fields,
        // All of them have a form in JSON.
        _ => Map::new(),
    }
}

impl Config {
    /// What a person should know who checks settings.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        contradictions::notes(self)
    }

    /// The settings that come to this, all of them given.
    #[must_use]
    pub fn settings(&self) -> Settings {
        let (tokenizer, routing) = (&self.tokenizer, &self.routing);
        let discovery = &self.discovery;
        let kubernetes = discovery.kubernetes.as_ref();
        let (cert, key) = self.tls.clone().unzip();
        Settings {
            listen: Some(self.listen.iter().map(Address::to_string).collect()),
            admin_listen: self.admin_listen.as_ref().map(Address::to_string),
            tls_cert: cert,
            tls_key: key,
            token_file: self.token_file.clone(),
            admin_token_file: self.admin_token_file.clone(),
            connections_max: Some(self.connections_max),
            body_max: Some(self.body_max),
            requests_max: Some(self.requests_max),
            idle_timeout: seconds(self.idle_timeout),
            drain: seconds(self.drain),
            drain_notice: seconds(self.drain_notice),
            fleet: self.fleet.clone(),
            kubernetes: Some(kubernetes.is_some()),
            kubernetes_namespaces: kubernetes.and_then(|it| it.namespaces.setting()),
            kubernetes_preset: kubernetes.map(|it| it.preset.as_str().to_owned()),
            kubernetes_selector: kubernetes.and_then(|it| it.selector.clone()),
            kubernetes_not_ready: kubernetes.map(|it| it.not_ready),
            kubeconfig: kubernetes.and_then(|it| it.kubeconfig.clone()),
            dns: Some(discovery.dns.iter().map(ToString::to_string).collect()),
            dns_interval: seconds(discovery.dns_interval),
            io_threads: Some(self.io_threads),
            http_threads: Some(self.http_threads),
            pin: Some(self.pin),
            hash_seed: Some(self.hash_seed),
            ready_share: Some(self.ready_share),
            ready_timeout: seconds(self.ready_timeout),
            grace: seconds(self.grace),
            probe_interval: or_never(self.probe_interval),
            replays: Some(self.replays),
            replay_timeout: seconds(self.replay_timeout),
            contexts_max: Some(self.contexts_max),
            index_max: self.index_max,
            snapshot_dir: self.snapshot_dir.clone(),
            snapshot_interval: or_never(self.snapshot_interval),
            peers: Some(self.peers.clone()),
            tokenizer: Some(tokenizer.mode.as_str().to_owned()),
            tokenizer_endpoint: tokenizer.endpoint.clone(),
            tokenizer_timeout: seconds(tokenizer.timeout),
            tokenizer_deadline: seconds(tokenizer.deadline),
            tokenizer_retries: Some(tokenizer.retries),
            tokenizer_concurrency: Some(tokenizer.concurrency),
            tokenizer_hedge: or_never(tokenizer.hedge),
            tokenizer_cache: Some(tokenizer.cache),
            tokenizer_cache_time: seconds(tokenizer.cache_time),
            local_tokenizers: Some(tokenizer.local.clone()),
            policy: Some(routing.policy.as_str().to_owned()),
            minimum_match: Some(routing.minimum_match),
            imbalance: Some(routing.rules.imbalance),
            deviations: Some(routing.rules.deviations),
            cost_prefill: Some(f64::from(routing.rules.weights.prefill) / 1_000.0),
            cost_decode: Some(f64::from(routing.rules.weights.decode) / 1_000.0),
            session_header: routing.session_header.clone(),
            load_interval: or_never(routing.load_interval),
            request_time: seconds(routing.request_time),
            event_sync: Some(routing.event_sync),
            speculative_time: or_never(routing.speculative_time),
            approximate_time: seconds(routing.approximate_time),
            approximate_blocks: Some(routing.approximate_blocks),
            shadow: Some(routing.shadow),
            decisions: Some(routing.decisions),
            ..self.told()
        }
    }

    /// Those of what the node tells of itself.
    fn told(&self) -> Settings {
        Settings {
            log: Some(self.log.filter.clone()),
            log_format: Some(self.log.format.as_str().to_owned()),
            log_rate: Some(self.log.rate),
            otlp_endpoint: self.otlp.endpoint.clone(),
            otlp_sample: Some(self.otlp.sample),
            otlp_service: Some(self.otlp.service.clone()),
            ..Settings::default()
        }
    }
}

impl TokenizerMode {
    /// As the setting says it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Remote => "remote",
        }
    }
}

#[expect(clippy::unnecessary_wraps, reason = "a setting that is given")]
fn seconds(time: Duration) -> Option<f64> {
    Some(time.as_secs_f64())
}

fn or_never(pause: Option<Duration>) -> Option<f64> {
    seconds(pause.unwrap_or_default())
}

/// Variables that look like settings and are read by nobody, each with the one that may be meant.
pub fn unknown_variables<'n>(
    set: impl IntoIterator<Item = &'n str>,
    known: &[&'n str],
) -> Vec<(&'n str, Option<&'n str>)> {
    let ours = |name: &&str| name.starts_with("KVROUTE_") || name.starts_with("AIBRIX_");
    let unknown = set.into_iter().filter(ours);
    let unknown = unknown.filter(|name| !known.contains(name) && !is_of_a_service(name));
    unknown.map(|name| (name, nearest(name, known))).collect()
}

/// Whether Kubernetes makes a variable of this form for every service it has.
fn is_of_a_service(name: &str) -> bool {
    const ENDS: [&str; 5] = ["_PORT", "_PROTO", "_ADDR", "_SERVICE_HOST", "_SERVICE_PORT"];
    let of_port = |end: &str| name.ends_with(end) && name.contains("_PORT_");
    ENDS.iter().any(|end| name.ends_with(end))
        || name.contains("_SERVICE_PORT_")
        || of_port("_TCP")
        || of_port("_UDP")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(keys: &[&str]) -> BTreeMap<String, String> {
        let name = |key: &&str| ((*key).to_owned(), format!("--{key}"));
        keys.iter().map(name).collect()
    }

    fn in_file(text: &str) -> SettingsFile {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("settings.yaml");
        std::fs::write(&path, text).unwrap();
        SettingsFile::read(&path).unwrap()
    }

    #[test]
    fn every_setting_is_shown_with_its_source() {
        let aibrix = [
            ("AIBRIX_SYNC_MAX_CONTEXTS", "10"),
            ("AIBRIX_USE_REMOTE_TOKENIZER", "true"),
        ];
        let aibrix = |name: &str| {
            let found = aibrix.iter().find(|(given, _)| *given == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let given = Given {
            own: Settings {
                replays: Some(3),
                ..Settings::default()
            },
            names: named(&["replays"]),
            file: in_file("replays: 4\n# of a kind\npin: true\n"),
            aibrix: Aibrix::read(aibrix).unwrap(),
        };
        let config = given.resolve().unwrap();
        let rows = given.rows(&config);
        assert_eq!(rows.len(), fields(&Settings::default()).len());
        let row = |key: &str| {
            let row = rows.iter().find(|row| row.key == key).unwrap();
            (row.value.clone(), row.from.as_str())
        };
        assert_eq!(row("replays"), (3.into(), "--replays"));
        let (pin, from) = row("pin");
        assert!(pin == true && from.ends_with("settings.yaml:3"), "{from}");
        assert_eq!(row("contexts_max"), (10.into(), "AIBRIX_SYNC_MAX_CONTEXTS"));
        assert_eq!(
            row("event_sync"),
            (false.into(), "AIBRIX_USE_REMOTE_TOKENIZER")
        );
        assert_eq!(row("drain"), (10.0.into(), "default"));
        assert_eq!(row("fleet"), (Value::Null, "default"));
    }

    /// Nothing is shown that would not come to the same.
    #[test]
    fn the_settings_shown_are_those_that_hold() {
        let settings = Settings {
            tls_cert: Some("c".into()),
            tls_key: Some("k".into()),
            local_tokenizers: Some(vec![("m".to_owned(), "/m".into())]),
            probe_interval: Some(0.0),
            cost_prefill: Some(2.5),
            policy: Some("cost".to_owned()),
            session_header: Some("x-s".to_owned()),
            ..Settings::default()
        };
        for settings in [Settings::default(), settings] {
            let config = settings.resolve().unwrap();
            assert_eq!(config.settings().resolve().unwrap(), config);
        }
    }

    #[test]
    fn sync_without_a_tokenizer_is_warned_of_by_name() {
        let warnings = |given: &Given| given.warnings(&given.resolve().unwrap());
        let aibrix = |name: &str| (name == "AIBRIX_KV_EVENT_SYNC_ENABLED").then(|| "1".to_owned());
        let given = Given {
            aibrix: Aibrix::read(aibrix).unwrap(),
            ..Given::default()
        };
        let [warning] = &warnings(&given)[..] else {
            panic!("one warning");
        };
        for name in [
            "AIBRIX_KV_EVENT_SYNC_ENABLED",
            "AIBRIX_USE_REMOTE_TOKENIZER",
        ] {
            assert!(warning.contains(name), "{warning}");
        }
        let own = Settings {
            event_sync: Some(true),
            tokenizer: Some("off".to_owned()),
            ..Settings::default()
        };
        let given = Given {
            own,
            names: named(&["event_sync", "tokenizer"]),
            ..Given::default()
        };
        let [warning] = &warnings(&given)[..] else {
            panic!("one warning");
        };
        assert!(warning.contains("--event_sync") && warning.contains("--tokenizer"));
        assert_eq!(warnings(&Given::default()), [""; 0]);
    }

    #[test]
    fn what_is_read_by_nobody_is_found_with_what_may_be_meant() {
        let known = ["KVROUTE_LISTEN", "AIBRIX_KV_EVENT_SYNC_ENABLED"];
        let set = [
            "KVROUTE_LISTEN",
            "KVROUTE_LISTN",
            "KVROUTE_SOMETHING_ELSE",
            "AIBRIX_KV_EVENTS_SYNC_ENABLED",
            "KVROUTE_PORT",
            "KVROUTE_SERVICE_HOST",
            "KVROUTE_SERVICE_PORT_HTTP",
            "KVROUTE_PORT_8080_TCP",
            "KVROUTE_PORT_8080_TCP_ADDR",
            "HOME",
        ];
        let expected = [
            ("KVROUTE_LISTN", Some("KVROUTE_LISTEN")),
            ("KVROUTE_SOMETHING_ELSE", None),
            (
                "AIBRIX_KV_EVENTS_SYNC_ENABLED",
                Some("AIBRIX_KV_EVENT_SYNC_ENABLED"),
            ),
        ];
        assert_eq!(unknown_variables(set, &known), expected);
    }
}
