//! The node's settings: a file, the environment and flags, the later one winning.
//!
//! [`Settings`] is one list for all three: its fields are the keys of the file, the flags with `-`
//! for `_`, and the variables in capitals after `KVROUTE_`.
//!
//! AIBrix's variables (`aibrix`) come last: whatever says a setting in kvroute's own words wins over them.
mod aibrix;
mod contradictions;
mod discovery;
mod file;
mod given;
mod go;
mod live;
mod resolve;
mod routing;
mod secret;
mod selector;
mod settings;
#[cfg(test)]
mod tests;
mod tokenizer;

pub use aibrix::{Aibrix, Effect, Variable};
pub use discovery::{DiscoveryConfig, DnsName, KubernetesConfig, Namespaces, Preset};
pub use file::SettingsFile;
pub use given::{Given, Row, unknown_variables};
pub use live::{Change, Changes, Standing, is_live};
pub use routing::RoutingConfig;
pub use secret::{Seed, quoted};
pub use settings::{Key, Settings, keys};
pub use tokenizer::{TokenizerConfig, TokenizerMode};

use crate::address::Address;
use crate::fleet::FileError;
use crate::limits::{
    BODY_BYTES_DEFAULT, CONNECTIONS_DEFAULT, DRAIN_TIME_DEFAULT, GRACE_DEFAULT, IDLE_TIME_DEFAULT,
    PROBE_INTERVAL_DEFAULT, READY_TIMEOUT_DEFAULT, REPLAY_TIME_MAX, REPLAYS_DEFAULT,
    REQUESTS_DEFAULT, SNAPSHOT_INTERVAL_DEFAULT,
};
#[cfg(doc)]
use crate::limits::{
    BODY_BYTES_MAX, CONNECTIONS_MAX, DRAIN_TIME_MAX, GRACE_MAX, IDLE_TIME_MAX, INDEX_BYTES_MAX,
    INDEX_BYTES_MIN, PROBE_INTERVAL_MAX, READY_TIMEOUT_MAX, REPLAY_WHOLE_TIME_MAX, REPLAYS_MAX,
    THREADS_MAX,
};
use crate::logging::LogConfig;
use crate::otel::OtelConfig;
use crate::status::SyncMode;
use kvroute_engine::limits::CONTEXTS_MAX;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Settings that hold together.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// What is logged, and how.
    pub log: LogConfig,
    /// Which requests are traced, and who is told.
    pub otlp: OtelConfig,
    /// Where to listen for HTTP.
    pub listen: Vec<Address>,
    /// Where alone to answer what changes the node, if not everywhere.
    pub admin_listen: Option<Address>,
    /// The files of the certificate and its key, for TLS.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// The file of clients' bearer tokens.
    pub token_file: Option<PathBuf>,
    /// The file of bearer tokens for what changes the node.
    pub admin_token_file: Option<PathBuf>,
    /// Connections at once, 1 to [`CONNECTIONS_MAX`].
    pub connections_max: usize,
    /// Bytes of a request's body, up to [`BODY_BYTES_MAX`].
    pub body_max: usize,
    /// Requests that each HTTP thread reads or answers at once, 1 to [`CONNECTIONS_MAX`].
    pub requests_max: usize,
    /// Time without a request after which a connection is closed, up to [`IDLE_TIME_MAX`].
    pub idle_timeout: Duration,
    /// Time for requests in flight at the end, up to [`DRAIN_TIME_MAX`].
    pub drain: Duration,
    /// Time before that in which the node is not ready, up to [`DRAIN_TIME_MAX`].
    pub drain_notice: Duration,
    /// The fleet file.
    pub fleet: Option<PathBuf>,
    /// What finds pods, too.
    pub discovery: DiscoveryConfig,
    /// Threads that receive events, 1 to [`THREADS_MAX`].
    pub io_threads: usize,
    /// Threads that answer HTTP requests, 1 to [`THREADS_MAX`].
    pub http_threads: usize,
    /// Whether each thread that receives events is pinned to a core.
    pub pin: bool,
    /// The seed of block keys.
    pub hash_seed: Seed,
    /// The share of workers that must be synchronised for readiness, 0 to 1.
    pub ready_share: f64,
    /// Time after which readiness no longer waits for workers, up to [`READY_TIMEOUT_MAX`].
    pub ready_timeout: Duration,
    /// Time from being told to stop to the end of the process, up to [`GRACE_MAX`].
    pub grace: Duration,
    /// Between two probes of an engine over HTTP, up to [`PROBE_INTERVAL_MAX`]; `None` for no probes.
    pub probe_interval: Option<Duration>,
    /// Replays that run at once, 1 to [`REPLAYS_MAX`].
    pub replays: usize,
    /// Time without progress after which a replay has failed, up to [`REPLAY_WHOLE_TIME_MAX`].
    pub replay_timeout: Duration,
    /// Contexts that the index has room for, 1 to [`CONTEXTS_MAX`].
    pub contexts_max: usize,
    /// Bytes that the index may take, [`INDEX_BYTES_MIN`] to [`INDEX_BYTES_MAX`]; `None` for no bound.
    pub index_max: Option<u64>,
    /// Where the snapshot is kept, if it is.
    pub snapshot_dir: Option<PathBuf>,
    /// Between two snapshots; `None` for one at the end only.
    pub snapshot_interval: Option<Duration>,
    /// Peers to start from, as `host:port`.
    pub peers: Vec<String>,
    /// How texts become tokens.
    pub tokenizer: TokenizerConfig,
    /// How pods are chosen.
    pub routing: RoutingConfig,
    /// Where knowledge of pods' caches comes from: what `tokenizer` and `routing` come to.
    pub sync_mode: SyncMode,
}

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read or understood.
    #[error("config: {0}")]
    File(#[from] FileError),
    /// A value is not possible, or not with others.
    #[error("{key}: {message}{from}", key = keys[0])]
    Value {
        /// The setting's key, and those of the settings that it does not go with.
        keys: Vec<String>,
        /// What is wrong, with the value, and what is possible.
        message: String,
        /// Where it was said, in parentheses; empty until that is known.
        from: String,
    },
}

impl ConfigError {
    /// The same with where each key was said.
    #[must_use]
    pub fn said(self, source: impl Fn(&str) -> String) -> Self {
        match self {
            Self::Value {
                keys,
                message,
                from,
            } if from.is_empty() => {
                let from = match &keys[..] {
                    [key] => format!(" (from {})", source(key)),
                    keys => {
                        let each = keys.iter().map(|key| match &*source(key) {
                            "default" => format!("{key} by default"),
                            source => format!("{key} from {source}"),
                        });
                        format!(" ({})", each.collect::<Vec<_>>().join(", "))
                    }
                };
                Self::Value {
                    keys,
                    message,
                    from,
                }
            }
            other => other,
        }
    }
}

impl Default for Config {
    /// The defaults, on a port of the system's choice.
    fn default() -> Self {
        Self {
            log: LogConfig::default(),
            otlp: OtelConfig::default(),
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 0)).into()],
            admin_listen: None,
            tls: None,
            token_file: None,
            admin_token_file: None,
            connections_max: CONNECTIONS_DEFAULT,
            body_max: BODY_BYTES_DEFAULT,
            requests_max: REQUESTS_DEFAULT,
            idle_timeout: IDLE_TIME_DEFAULT,
            drain: DRAIN_TIME_DEFAULT,
            drain_notice: Duration::ZERO,
            fleet: None,
            discovery: DiscoveryConfig::default(),
            io_threads: 1,
            http_threads: 1,
            pin: false,
            hash_seed: Seed::default(),
            ready_share: 1.0,
            ready_timeout: READY_TIMEOUT_DEFAULT,
            grace: GRACE_DEFAULT,
            probe_interval: Some(PROBE_INTERVAL_DEFAULT),
            replays: REPLAYS_DEFAULT,
            replay_timeout: REPLAY_TIME_MAX,
            contexts_max: CONTEXTS_MAX,
            index_max: None,
            snapshot_dir: None,
            snapshot_interval: Some(SNAPSHOT_INTERVAL_DEFAULT),
            peers: Vec::new(),
            tokenizer: TokenizerConfig::default(),
            routing: RoutingConfig::default(),
            sync_mode: SyncMode::default(),
        }
    }
}

fn wrong(key: &str, message: String) -> ConfigError {
    at_odds(&[key], message)
}

/// Settings that do not go together; the first is named as the one at fault.
fn at_odds(keys: &[&str], message: String) -> ConfigError {
    ConfigError::Value {
        keys: keys.iter().map(|&key| key.to_owned()).collect(),
        message,
        from: String::new(),
    }
}
