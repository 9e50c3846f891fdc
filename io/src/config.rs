//! The node's settings: a file, the environment and flags, the later one winning.
//!
//! [`Settings`] is one list for all three: its fields are the keys of the file, the flags with `-`
//! for `_`, and the variables in capitals after `KVROUTE_`.
use crate::address::Address;
use crate::fleet::{FileError, read_yaml};
use crate::limits::{
    BODY_BYTES_DEFAULT, BODY_BYTES_MAX, CONNECTIONS_DEFAULT, CONNECTIONS_MAX, DRAIN_TIME_DEFAULT,
    DRAIN_TIME_MAX, IDLE_TIME_DEFAULT, IDLE_TIME_MAX, IDLE_TIME_MIN, LISTENERS_MAX,
    PROBE_INTERVAL_DEFAULT, PROBE_INTERVAL_MAX, PROBE_INTERVAL_MIN, REPLAYS_DEFAULT, REPLAYS_MAX,
    REQUESTS_DEFAULT, SNAPSHOT_INTERVAL_DEFAULT, SNAPSHOT_INTERVAL_MAX, SNAPSHOT_INTERVAL_MIN,
    THREADS_MAX,
};
use clap::Args;
use clap::builder::BoolishValueParser;
use kvroute_engine::hash::SEED_DEFAULT;
use serde::{Deserialize, Deserializer};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;
use std::time::Duration;

/// Settings as one source gives them; what it does not give is left to the others.
#[derive(Args, Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where to listen for HTTP, once or several times: HOST:PORT or unix:/path (mode 0660) [default: 127.0.0.1:8080]
    #[arg(
        long,
        env = "KVROUTE_LISTEN",
        value_name = "ADDRESS,...",
        value_delimiter = ','
    )]
    #[serde(default, deserialize_with = "one_or_more")]
    pub listen: Option<Vec<String>>,
    /// Where alone to answer what changes the node or shows all that it holds; without it, everywhere
    #[arg(long, env = "KVROUTE_ADMIN_LISTEN", value_name = "ADDRESS")]
    pub admin_listen: Option<String>,
    /// The certificate for TLS on all TCP listeners, PEM, with the chain; read again when it changes and on SIGHUP
    #[arg(long, env = "KVROUTE_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, env = "KVROUTE_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Bearer tokens, one a line, that are needed for all but /healthz and /readyz; read again like the certificate
    #[arg(long, env = "KVROUTE_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Bearer tokens that are needed for what an admin listener would answer [default: those of --token-file]
    #[arg(long, env = "KVROUTE_ADMIN_TOKEN_FILE", value_name = "FILE")]
    pub admin_token_file: Option<PathBuf>,
    /// Connections at once, over all threads; more are answered 503 [default: 16384]
    #[arg(long, env = "KVROUTE_CONNECTIONS_MAX", value_name = "N")]
    pub connections_max: Option<usize>,
    /// Bytes of a request's body; larger ones are answered 413 [default: 8388608]
    #[arg(long, env = "KVROUTE_BODY_MAX", value_name = "BYTES")]
    pub body_max: Option<usize>,
    /// Requests that each HTTP thread reads or answers at once; more are answered 429 [default: 16384]
    #[arg(long, env = "KVROUTE_REQUESTS_MAX", value_name = "N")]
    pub requests_max: Option<usize>,
    /// Seconds without a request, 5 at least, after which a connection is closed [default: 75]
    #[arg(long, env = "KVROUTE_IDLE_TIMEOUT", value_name = "SECONDS")]
    pub idle_timeout: Option<f64>,
    /// Seconds for requests in flight to finish when the node is told to stop [default: 10]
    #[arg(long, env = "KVROUTE_DRAIN", value_name = "SECONDS")]
    pub drain: Option<f64>,
    /// Seconds before that in which /readyz says 503 and connections are still accepted [default: 0]
    #[arg(long, env = "KVROUTE_DRAIN_NOTICE", value_name = "SECONDS")]
    pub drain_notice: Option<f64>,
    /// The fleet file: a YAML list of pods
    #[arg(long, env = "KVROUTE_FLEET", value_name = "FILE")]
    pub fleet: Option<PathBuf>,
    /// Threads that receive events [default: half of the cores]
    #[arg(long, env = "KVROUTE_IO_THREADS", value_name = "N")]
    pub io_threads: Option<usize>,
    /// Threads that answer HTTP requests [default: the other half]
    #[arg(long, env = "KVROUTE_HTTP_THREADS", value_name = "N")]
    pub http_threads: Option<usize>,
    /// Pin each thread that receives events to a core
    #[arg(long, env = "KVROUTE_PIN", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub pin: Option<bool>,
    /// The seed of block keys; another than 1337 makes them private to the deployment
    #[arg(long, env = "KVROUTE_HASH_SEED", value_name = "SEED")]
    pub hash_seed: Option<u64>,
    /// The share of workers, 0 to 1, that must be synchronised for /readyz [default: 1]
    #[arg(long, env = "KVROUTE_READY_SHARE", value_name = "SHARE")]
    pub ready_share: Option<f64>,
    /// Seconds between two looks at an engine's HTTP endpoint, 0 for none [default: 5]
    #[arg(long, env = "KVROUTE_PROBE_INTERVAL", value_name = "SECONDS")]
    pub probe_interval: Option<f64>,
    /// Replays that run at once, in the whole node [default: 8]
    #[arg(long, env = "KVROUTE_REPLAYS", value_name = "N")]
    pub replays: Option<usize>,
    /// The folder of the snapshot to start from and to leave behind; none without it
    #[arg(long, env = "KVROUTE_SNAPSHOT_DIR", value_name = "DIR")]
    pub snapshot_dir: Option<PathBuf>,
    /// Seconds between two snapshots, 0 for one at the end only [default: 60]
    #[arg(long, env = "KVROUTE_SNAPSHOT_INTERVAL", value_name = "SECONDS")]
    pub snapshot_interval: Option<f64>,
    /// Peers to fetch a snapshot from at the start: addresses, or names that stand for several
    #[arg(
        long,
        env = "KVROUTE_PEERS",
        value_name = "HOST:PORT,...",
        value_delimiter = ','
    )]
    pub peers: Option<Vec<String>>,
}

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
    /// Between two probes of an engine over HTTP, up to [`PROBE_INTERVAL_MAX`]; `None` for no probes.
    pub probe_interval: Option<Duration>,
    /// Replays that run at once, 1 to [`REPLAYS_MAX`].
    pub replays: usize,
    /// Where the snapshot is kept, if it is.
    pub snapshot_dir: Option<PathBuf>,
    /// Between two snapshots; `None` for one at the end only.
    pub snapshot_interval: Option<Duration>,
    /// Peers to start from, as `host:port`.
    pub peers: Vec<String>,
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

const LISTEN_DEFAULT: &str = "127.0.0.1:8080";

impl Settings {
    /// The settings of a YAML file.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        // A file of comments is null.
        Ok(read_yaml::<Option<Self>>(path)?.unwrap_or_default())
    }

    /// These settings; where they say nothing, those.
    #[must_use]
    pub fn or(self, those: Self) -> Self {
        Self {
            listen: self.listen.or(those.listen),
            admin_listen: self.admin_listen.or(those.admin_listen),
            tls_cert: self.tls_cert.or(those.tls_cert),
            tls_key: self.tls_key.or(those.tls_key),
            token_file: self.token_file.or(those.token_file),
            admin_token_file: self.admin_token_file.or(those.admin_token_file),
            connections_max: self.connections_max.or(those.connections_max),
            body_max: self.body_max.or(those.body_max),
            requests_max: self.requests_max.or(those.requests_max),
            idle_timeout: self.idle_timeout.or(those.idle_timeout),
            drain: self.drain.or(those.drain),
            drain_notice: self.drain_notice.or(those.drain_notice),
            fleet: self.fleet.or(those.fleet),
            io_threads: self.io_threads.or(those.io_threads),
            http_threads: self.http_threads.or(those.http_threads),
            pin: self.pin.or(those.pin),
            hash_seed: self.hash_seed.or(those.hash_seed),
            ready_share: self.ready_share.or(those.ready_share),
            probe_interval: self.probe_interval.or(those.probe_interval),
            replays: self.replays.or(those.replays),
            snapshot_dir: self.snapshot_dir.or(those.snapshot_dir),
            snapshot_interval: self.snapshot_interval.or(those.snapshot_interval),
            peers: self.peers.or(those.peers),
        }
    }

    /// Fills in the defaults and checks the whole.
    pub fn resolve(self) -> Result<Config, ConfigError> {
        let cores = available_parallelism().map_or(1, usize::from);
        let io_default = (cores / 2).max(1);
        let io_threads = threads("io_threads", self.io_threads, io_default)?;
        let http_default = cores.saturating_sub(io_threads).max(1);
        let ready_share = self.ready_share.unwrap_or(1.0);
        if !(0.0..=1.0).contains(&ready_share) {
            return Err(wrong(
                "ready_share",
                format!("{ready_share}; 0 to 1 is possible"),
            ));
        }
        Ok(Config {
            listen: listen(self.listen)?,
            admin_listen: self
                .admin_listen
                .map(|text| address("admin_listen", &text))
                .transpose()?,
            tls: tls(self.tls_cert, self.tls_key)?,
            token_file: self.token_file,
            admin_token_file: self.admin_token_file,
            connections_max: crowd("connections_max", self.connections_max, CONNECTIONS_DEFAULT)?,
            body_max: match self.body_max.unwrap_or(BODY_BYTES_DEFAULT) {
                n @ 1..=BODY_BYTES_MAX => n,
                n => {
                    let message = format!("{n}; 1 to {BODY_BYTES_MAX} bytes are possible");
                    return Err(wrong("body_max", message));
                }
            },
            requests_max: crowd("requests_max", self.requests_max, REQUESTS_DEFAULT)?,
            idle_timeout: IDLE.time("idle_timeout", self.idle_timeout)?,
            drain: DRAIN.time("drain", self.drain)?,
            drain_notice: NOTICE.time("drain_notice", self.drain_notice)?,
            fleet: self.fleet,
            io_threads,
            http_threads: threads("http_threads", self.http_threads, http_default)?,
            pin: self.pin.unwrap_or(false),
            hash_seed: self.hash_seed.unwrap_or(SEED_DEFAULT),
            ready_share,
            probe_interval: PROBES.interval("probe_interval", self.probe_interval)?,
            replays: match self.replays.unwrap_or(REPLAYS_DEFAULT) {
                n @ 1..=REPLAYS_MAX => n,
                n => {
                    let message = format!("{n}; 1 to {REPLAYS_MAX} are possible");
                    return Err(wrong("replays", message));
                }
            },
            snapshot_dir: self.snapshot_dir,
            snapshot_interval: SNAPSHOTS.interval("snapshot_interval", self.snapshot_interval)?,
            peers: self.peers.unwrap_or_default(),
        })
    }
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
            io_threads: 1,
            http_threads: 1,
            pin: false,
            hash_seed: SEED_DEFAULT,
            ready_share: 1.0,
            probe_interval: Some(PROBE_INTERVAL_DEFAULT),
            replays: REPLAYS_DEFAULT,
            snapshot_dir: None,
            snapshot_interval: Some(SNAPSHOT_INTERVAL_DEFAULT),
            peers: Vec::new(),
        }
    }
}

fn wrong(key: &'static str, message: String) -> ConfigError {
    ConfigError::Value { key, message }
}

fn threads(key: &'static str, given: Option<usize>, default: usize) -> Result<usize, ConfigError> {
    match given {
        None => Ok(default.min(THREADS_MAX)),
        Some(n @ 1..=THREADS_MAX) => Ok(n),
        Some(n) => Err(wrong(key, format!("{n}; 1 to {THREADS_MAX} are possible"))),
    }
}

fn crowd(key: &'static str, given: Option<usize>, default: usize) -> Result<usize, ConfigError> {
    match given.unwrap_or(default) {
        n @ 1..=CONNECTIONS_MAX => Ok(n),
        n => Err(wrong(
            key,
            format!("{n}; 1 to {CONNECTIONS_MAX} are possible"),
        )),
    }
}

/// What a pause may be.
struct Pauses {
    default: Duration,
    least: Duration,
    most: Duration,
}

const PROBES: Pauses = Pauses {
    default: PROBE_INTERVAL_DEFAULT,
    least: PROBE_INTERVAL_MIN,
    most: PROBE_INTERVAL_MAX,
};

const SNAPSHOTS: Pauses = Pauses {
    default: SNAPSHOT_INTERVAL_DEFAULT,
    least: SNAPSHOT_INTERVAL_MIN,
    most: SNAPSHOT_INTERVAL_MAX,
};

const IDLE: Pauses = Pauses {
    default: IDLE_TIME_DEFAULT,
    least: IDLE_TIME_MIN,
    most: IDLE_TIME_MAX,
};

const DRAIN: Pauses = Pauses {
    default: DRAIN_TIME_DEFAULT,
    least: Duration::ZERO,
    most: DRAIN_TIME_MAX,
};

const NOTICE: Pauses = Pauses {
    default: Duration::ZERO,
    least: Duration::ZERO,
    most: DRAIN_TIME_MAX,
};

impl Pauses {
    /// A time in seconds.
    fn time(&self, key: &'static str, given: Option<f64>) -> Result<Duration, ConfigError> {
        let Some(seconds) = given else {
            return Ok(self.default);
        };
        let (least, most) = (self.least.as_secs_f64(), self.most.as_secs_f64());
        if !(least..=most).contains(&seconds) {
            let message = format!("{seconds}; {least} to {most} seconds are possible");
            return Err(wrong(key, message));
        }
        Ok(Duration::from_secs_f64(seconds))
    }

    /// A pause in seconds; zero for never.
    fn interval(
        &self,
        key: &'static str,
        given: Option<f64>,
    ) -> Result<Option<Duration>, ConfigError> {
        let Some(seconds) = given else {
            return Ok(Some(self.default));
        };
        let (least, most) = (self.least.as_secs_f64(), self.most.as_secs_f64());
        match seconds {
            0.0 => Ok(None),
            _ if (least..=most).contains(&seconds) => Ok(Some(Duration::from_secs_f64(seconds))),
            _ => Err(wrong(
                key,
                format!("{seconds}; 0 or {least} to {most} seconds are possible"),
            )),
        }
    }
}

fn address(key: &'static str, text: &str) -> Result<Address, ConfigError> {
    Address::parse(text).map_err(|message| wrong(key, message))
}

fn listen(given: Option<Vec<String>>) -> Result<Vec<Address>, ConfigError> {
    let given = given.unwrap_or_else(|| vec![LISTEN_DEFAULT.to_owned()]);
    if given.is_empty() || given.len() > LISTENERS_MAX {
        let message = format!(
            "{} addresses; 1 to {LISTENERS_MAX} are possible",
            given.len()
        );
        return Err(wrong("listen", message));
    }
    given.iter().map(|text| address("listen", text)).collect()
}

fn tls(
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
) -> Result<Option<(PathBuf, PathBuf)>, ConfigError> {
    match (cert, key) {
        (None, None) => Ok(None),
        (Some(cert), Some(key)) => Ok(Some((cert, key))),
        (Some(_), None) => Err(wrong("tls_key", "needed with tls_cert".to_owned())),
        (None, Some(_)) => Err(wrong("tls_cert", "needed with tls_key".to_owned())),
    }
}

/// A list, or one value in place of a list of one.
fn one_or_more<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(
        untagged,
        expecting = "listen: expected an address or a list of addresses"
    )]
    enum Given {
        None,
        One(String),
        More(Vec<String>),
    }
    Ok(match Given::deserialize(from)? {
        Given::None => None,
        Given::One(one) => Some(vec![one]),
        Given::More(more) => Some(more),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn read(text: &str) -> Result<Settings, FileError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        Settings::read(file.path())
    }

    #[test]
    fn every_key_of_the_file_is_read() {
        let settings = read(
            "listen: 0.0.0.0:9000\nadmin_listen: unix:/run/admin\ntls_cert: c.pem\ntls_key: k.pem\n\
             token_file: t\nadmin_token_file: at\nconnections_max: 10\nbody_max: 99\nrequests_max: 9\nidle_timeout: 60\ndrain: 0\n\
             drain_notice: 2.5\nfleet: pods.yaml\nio_threads: 2\nhttp_threads: 3\npin: true\n\
             hash_seed: 7\nready_share: 0.5\nprobe_interval: 2.5\nreplays: 3\n\
             snapshot_dir: /var/kv\nsnapshot_interval: 30\npeers: [\"a:1\", \"b:2\"]\n",
        )
        .unwrap();
        let config = Config {
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
            io_threads: 2,
            http_threads: 3,
            pin: true,
            hash_seed: 7,
            ready_share: 0.5,
            probe_interval: Some(Duration::from_millis(2_500)),
            replays: 3,
            snapshot_dir: Some("/var/kv".into()),
            snapshot_interval: Some(Duration::from_secs(30)),
            peers: vec!["a:1".to_owned(), "b:2".to_owned()],
        };
        assert_eq!(settings.resolve().unwrap(), config);
    }

    #[test]
    fn no_settings_at_all_are_enough() {
        let config = read("# nothing\n").unwrap().resolve().unwrap();
        assert_eq!(config.listen, [Address::parse("127.0.0.1:8080").unwrap()]);
        assert_eq!((config.fleet, config.pin), (None, false));
        assert!(config.io_threads >= 1 && config.http_threads >= 1);
        assert_eq!((config.hash_seed, config.ready_share), (1337, 1.0));
        assert_eq!(config.probe_interval, Some(Duration::from_secs(5)));
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
            ("snapshot_interval: 0.1\n", "snapshot_interval"),
        ] {
            let config = read(text)
                .map_err(ConfigError::from)
                .and_then(Settings::resolve);
            let error = config.unwrap_err().to_string();
            assert!(error.contains(key), "{key} in {error}");
        }
    }
}
