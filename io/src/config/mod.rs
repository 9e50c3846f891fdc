//! The node's settings: a file, the environment and flags, the later one winning.
//!
//! [`Settings`] is one list for all three: its fields are the keys of the file, the flags with `-`
//! for `_`, and the variables in capitals after `KVROUTE_`.
//!
//! AIBrix's variables (`aibrix`) come last: whatever says a setting in kvroute's own words wins over them.
mod aibrix;
mod discovery;
mod given;
mod go;
mod resolve;
mod routing;
mod settings;
#[cfg(test)]
mod tests;
mod tokenizer;

pub use aibrix::{Aibrix, Effect, Variable};
pub use discovery::{DiscoveryConfig, DnsName, KubernetesConfig, Namespaces, Preset};
pub use given::{Given, Row, unknown_variables};
pub use routing::RoutingConfig;
pub use settings::Settings;
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
    BODY_BYTES_MAX, CONNECTIONS_MAX, DRAIN_TIME_MAX, GRACE_MAX, IDLE_TIME_MAX, PROBE_INTERVAL_MAX,
    READY_TIMEOUT_MAX, REPLAY_WHOLE_TIME_MAX, REPLAYS_MAX, THREADS_MAX,
};
use crate::status::SyncMode;
use kvroute_engine::hash::SEED_DEFAULT;
use kvroute_engine::limits::CONTEXTS_MAX;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Settings that hold together.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
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
    pub hash_seed: u64,
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
    #[error(transparent)]
    File(#[from] FileError),
    /// A value is not possible.
    #[error("{key}: {message}")]
    Value {
        /// The setting's key.
        key: &'static str,
        /// What is wrong, with the value.
        message: String,
    },
}

impl Default for Config {
    /// The defaults, on a port of the system's choice.
    fn default() -> Self {
        Self {
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
            hash_seed: SEED_DEFAULT,
            ready_share: 1.0,
            ready_timeout: READY_TIMEOUT_DEFAULT,
            grace: GRACE_DEFAULT,
            probe_interval: Some(PROBE_INTERVAL_DEFAULT),
            replays: REPLAYS_DEFAULT,
            replay_timeout: REPLAY_TIME_MAX,
            contexts_max: CONTEXTS_MAX,
            snapshot_dir: None,
            snapshot_interval: Some(SNAPSHOT_INTERVAL_DEFAULT),
            peers: Vec::new(),
            tokenizer: TokenizerConfig::default(),
            routing: RoutingConfig::default(),
            sync_mode: SyncMode::default(),
        }
    }
}

fn wrong(key: &'static str, message: String) -> ConfigError {
    ConfigError::Value { key, message }
}
