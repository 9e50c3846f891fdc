//! What a running node takes of settings that are read again, and what needs a restart.
use super::given::fields;
use super::secret::shown;
use super::{Config, ConfigError, Given, RoutingConfig};
use crate::logging::LogConfig;
use serde_json::Value;
use std::fmt;

/// The keys that a running node takes, in alphabetical order.
const LIVE: [&str; 14] = [
    "cost_decode",
    "cost_prefill",
    "deviations",
    "drain",
    "drain_notice",
    "grace",
    "imbalance",
    "log",
    "log_rate",
    "minimum_match",
    "policy",
    "ready_share",
    "ready_timeout",
    "session_header",
];

/// Whether a running node takes another value of this key.
#[must_use]
pub fn is_live(key: &str) -> bool {
    LIVE.contains(&key)
}

/// One setting whose value is another one, as far as it may be shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The setting.
    pub key: String,
    /// What the node goes by.
    pub from: Value,
    /// What was read.
    pub to: Value,
    /// Where it was said.
    pub source: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, from, to, .. } = self;
        write!(f, "{key} from {from} to {to}")
    }
}

/// What is different in settings that were read again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// What was taken.
    pub live: Vec<Change>,
    /// What needs a restart.
    pub restart: Vec<Change>,
}

/// The settings that a running node goes by.
#[derive(Clone, Debug)]
pub struct Standing {
    given: Given,
    config: Config,
}

impl Standing {
    /// Those that it was started with.
    #[must_use]
    pub fn new(given: Given, config: Config) -> Self {
        Self { given, config }
    }

    /// What holds.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Takes what can change from settings that were read again; the rest stays as it was at the start.
    ///
    /// # Errors
    /// They do not hold together; then nothing is taken.
    pub fn take(&mut self, read: &Given) -> Result<Changes, ConfigError> {
        let config = read.resolve()?;
        let mut changes = Changes::default();
        let (old, new) = (fields(&self.config.settings()), fields(&config.settings()));
        let said = (fields(&self.given.together()), fields(&read.together()));
        for (key, to) in new {
            let from = old.get(&key).cloned().unwrap_or_default();
            // What is said alike may come to another value, as a host's address or the number of cores may change: nobody has
            // asked for that.
            let as_before = !is_live(&key) && said.0.get(&key) == said.1.get(&key);
            if from == to || as_before {
                continue;
            }
            let list = match is_live(&key) {
                true => &mut changes.live,
                false => &mut changes.restart,
            };
            list.push(Change {
                from: shown(&key, from),
                to: shown(&key, to),
                source: read.source(&key),
                key,
            });
        }
        self.config.take(config);
        Ok(changes)
    }
}

impl Config {
    /// Takes what is live.
    fn take(&mut self, read: Self) {
        self.log = LogConfig {
            format: self.log.format,
            ..read.log
        };
        self.ready_share = read.ready_share;
        self.ready_timeout = read.ready_timeout;
        self.drain = read.drain;
        self.drain_notice = read.drain_notice;
        self.grace = read.grace;
        self.routing = RoutingConfig {
            policy: read.routing.policy,
            minimum_match: read.routing.minimum_match,
            rules: read.routing.rules,
            session_header: read.routing.session_header,
            ..self.routing.clone()
        };
    }
}
