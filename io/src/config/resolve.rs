//! From what the sources give to settings that hold together.
use super::{
    Config, ConfigError, DiscoveryConfig, RoutingConfig, Settings, TokenizerConfig, TokenizerMode,
    at_odds, quoted, wrong,
};
use crate::address::Address;
use crate::limits::{
    BODY_BYTES_DEFAULT, BODY_BYTES_MAX, CONNECTIONS_DEFAULT, CONNECTIONS_MAX, DRAIN_TIME_DEFAULT,
    DRAIN_TIME_MAX, GRACE_DEFAULT, GRACE_MAX, GRACE_MIN, IDLE_TIME_DEFAULT, IDLE_TIME_MAX,
    IDLE_TIME_MIN, INDEX_BYTES_MAX, INDEX_BYTES_MIN, LISTENERS_MAX, LOG_RATE_MAX,
    PROBE_INTERVAL_DEFAULT, PROBE_INTERVAL_MAX, PROBE_INTERVAL_MIN, READY_TIMEOUT_DEFAULT,
    READY_TIMEOUT_MAX, REPLAY_TIME_MAX, REPLAY_TIME_MIN, REPLAY_WHOLE_TIME_MAX, REPLAYS_DEFAULT,
    REPLAYS_MAX, REQUESTS_DEFAULT, SNAPSHOT_INTERVAL_DEFAULT, SNAPSHOT_INTERVAL_MAX,
    SNAPSHOT_INTERVAL_MIN, THREADS_MAX,
};
use crate::logging::{self, BadFilter, LogConfig, LogFormat, POSSIBLE};
use crate::otel::OtelConfig;
use crate::status::SyncMode;
use kvroute_engine::limits::CONTEXTS_MAX;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;
use std::time::Duration;

const LISTEN_DEFAULT: &str = "127.0.0.1:8080";

impl Settings {
    /// Fills in the defaults and checks the whole.
    pub fn resolve(self) -> Result<Config, ConfigError> {
        let tokenizer = TokenizerConfig::of(&self)?;
        let routing = RoutingConfig::of(&self)?;
        let discovery = DiscoveryConfig::of(&self)?;
        let sync_mode = SyncMode::of(
            routing.event_sync,
            self.event_sync.is_some(),
            tokenizer.mode != TokenizerMode::Off,
        );
        let cores = available_parallelism().map_or(1, usize::from);
        let io_default = (cores / 2).max(1);
        let io_threads = threads("io_threads", self.io_threads, io_default)?;
        let http_default = cores.saturating_sub(io_threads).max(1);
        Ok(Config {
            log: log(self.log, self.log_format, self.log_rate)?,
            otlp: otlp(self.otlp_endpoint, self.otlp_sample, self.otlp_service)?,
            listen: listen(self.listen)?,
            admin_listen: self
                .admin_listen
                .map(|text| address("admin_listen", &text))
                .transpose()?,
            tls: tls(self.tls_cert, self.tls_key)?,
            token_file: file("token_file", self.token_file)?,
            admin_token_file: file("admin_token_file", self.admin_token_file)?,
            connections_max: crowd("connections_max", self.connections_max, CONNECTIONS_DEFAULT)?,
            body_max: body_max(self.body_max)?,
            requests_max: crowd("requests_max", self.requests_max, REQUESTS_DEFAULT)?,
            idle_timeout: IDLE.time("idle_timeout", self.idle_timeout)?,
            drain: DRAIN.time("drain", self.drain)?,
            drain_notice: NOTICE.time("drain_notice", self.drain_notice)?,
            fleet: file("fleet", self.fleet)?,
            discovery,
            io_threads,
            http_threads: threads("http_threads", self.http_threads, http_default)?,
            pin: self.pin.unwrap_or(false),
            hash_seed: self.hash_seed.unwrap_or_default(),
            ready_share: ready_share(self.ready_share)?,
            ready_timeout: READY.time("ready_timeout", self.ready_timeout)?,
            grace: GRACE.time("grace", self.grace)?,
            probe_interval: PROBES.interval("probe_interval", self.probe_interval)?,
            replays: within("replays", self.replays, REPLAYS_DEFAULT, (1, REPLAYS_MAX))?,
            replay_timeout: REPLAY.time("replay_timeout", self.replay_timeout)?,
            contexts_max: within(
                "contexts_max",
                self.contexts_max,
                CONTEXTS_MAX,
                (1, CONTEXTS_MAX),
            )?,
            index_max: self
                .index_max
                .map(|bytes| {
                    within(
                        "index_max",
                        Some(bytes),
                        0,
                        (INDEX_BYTES_MIN, INDEX_BYTES_MAX),
                    )
                })
                .transpose()?,
            snapshot_dir: file("snapshot_dir", self.snapshot_dir)?,
            snapshot_interval: SNAPSHOTS.interval("snapshot_interval", self.snapshot_interval)?,
            peers: peers(self.peers)?,
            tokenizer,
            routing,
            sync_mode,
        })
    }
}

fn ready_share(given: Option<f64>) -> Result<f64, ConfigError> {
    let share = given.unwrap_or(1.0);
    let possible = (0.0..=1.0).contains(&share);
    let message = || format!("{share}; 0 to 1 is possible");
    possible
        .then_some(share)
        .ok_or_else(|| wrong("ready_share", message()))
}

fn body_max(given: Option<usize>) -> Result<usize, ConfigError> {
    match given.unwrap_or(BODY_BYTES_DEFAULT) {
        n @ 1..=BODY_BYTES_MAX => Ok(n),
        n => {
            let message = format!("{n}; 1 to {BODY_BYTES_MAX} bytes are possible");
            Err(wrong("body_max", message))
        }
    }
}

fn threads(key: &'static str, given: Option<usize>, default: usize) -> Result<usize, ConfigError> {
    within(key, given, default.min(THREADS_MAX), (1, THREADS_MAX))
}

fn crowd(key: &'static str, given: Option<usize>, default: usize) -> Result<usize, ConfigError> {
    within(key, given, default, (1, CONNECTIONS_MAX))
}

/// What a pause may be.
#[derive(Debug)]
pub(super) struct Pauses {
    pub(super) default: Duration,
    pub(super) least: Duration,
    pub(super) most: Duration,
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

const REPLAY: Pauses = Pauses {
    default: REPLAY_TIME_MAX,
    least: REPLAY_TIME_MIN,
    most: REPLAY_WHOLE_TIME_MAX,
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

const READY: Pauses = Pauses {
    default: READY_TIMEOUT_DEFAULT,
    least: Duration::ZERO,
    most: READY_TIMEOUT_MAX,
};

const GRACE: Pauses = Pauses {
    default: GRACE_DEFAULT,
    least: GRACE_MIN,
    most: GRACE_MAX,
};

const NOTICE: Pauses = Pauses {
    default: Duration::ZERO,
    least: Duration::ZERO,
    most: DRAIN_TIME_MAX,
};

impl Pauses {
    /// A time in seconds.
    pub(super) fn time(
        &self,
        key: &'static str,
        given: Option<f64>,
    ) -> Result<Duration, ConfigError> {
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
    pub(super) fn interval(
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
    // A password would be repeated by what reads addresses.
    if text.contains('@') && !text.starts_with("unix:") {
        let message = format!("{}; expected host:port or unix:/path", quoted(key, text));
        return Err(wrong(key, message));
    }
    Address::parse(text).map_err(|message| wrong(key, message))
}

/// `HOST:PORT` of somebody else.
pub(super) fn host_port(key: &'static str, text: &str) -> Result<(), ConfigError> {
    let clean = |c: char| c.is_ascii_graphic() && !matches!(c, '@' | '/' | '?' | '#');
    let split = text.rsplit_once(':').filter(|(host, port)| {
        let bracketed = host.starts_with('[') && host.ends_with(']');
        let port = port.parse::<u16>().is_ok_and(|port| port != 0);
        port && !host.is_empty() && host.chars().all(clean) && (bracketed || !host.contains(':'))
    });
    let message = || {
        let text = quoted(key, text);
        format!("{text}; HOST:PORT is expected, with a port from 1 to 65535")
    };
    split.map(drop).ok_or_else(|| wrong(key, message()))
}

fn peers(given: Option<Vec<String>>) -> Result<Vec<String>, ConfigError> {
    let peers = given.unwrap_or_default();
    peers.iter().try_for_each(|peer| host_port("peers", peer))?;
    Ok(peers)
}

/// A path that somebody can have meant.
pub(super) fn file(
    key: &'static str,
    path: Option<PathBuf>,
) -> Result<Option<PathBuf>, ConfigError> {
    let wrong = |what: &str| Err(wrong(key, format!("{what}; a path is expected")));
    match path.as_deref().map(Path::to_string_lossy) {
        Some(text) if text.is_empty() => wrong("\"\""),
        Some(text) if text.contains(['\n', '\r']) => wrong("(several lines, not shown)"),
        _ => Ok(path),
    }
}

/// What is logged, and how.
fn log(
    filter: Option<String>,
    format: Option<String>,
    rate: Option<u32>,
) -> Result<LogConfig, ConfigError> {
    let defaults = LogConfig::default();
    let filter = filter.unwrap_or(defaults.filter);
    if let Err(bad) = logging::parse(&filter) {
        let message = match bad {
            BadFilter::Part(part) => format!("{}; {POSSIBLE}", quoted("log", &part)),
            BadFilter::Long => bad.to_string(),
        };
        return Err(wrong("log", message));
    }
    let format = match format.as_deref() {
        None | Some("text") => LogFormat::Text,
        Some("json") => LogFormat::Json,
        Some(other) => {
            let shown = quoted("log_format", other);
            return Err(wrong(
                "log_format",
                format!("{shown}; text or json are possible"),
            ));
        }
    };
    Ok(LogConfig {
        filter,
        format,
        rate: within("log_rate", rate, defaults.rate, (0, LOG_RATE_MAX))?,
    })
}

/// Which requests are traced, and who is told.
fn otlp(
    endpoint: Option<String>,
    sample: Option<f64>,
    service: Option<String>,
) -> Result<OtelConfig, ConfigError> {
    let defaults = OtelConfig::default();
    let endpoint = endpoint.filter(|text| !text.is_empty());
    let wrong_url = |text: &str| {
        let shown = quoted("otlp_endpoint", text);
        wrong(
            "otlp_endpoint",
            format!("{shown}; http://HOST:PORT is expected"),
        )
    };
    if let Some(text) = &endpoint {
        let rest = text
            .strip_prefix("http://")
            .ok_or_else(|| wrong_url(text))?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let clean = |c: char| c.is_ascii_graphic() && !matches!(c, '@' | '?' | '#');
        let good = host_port("otlp_endpoint", host).is_ok() && path.chars().all(clean);
        good.then_some(()).ok_or_else(|| wrong_url(text))?;
    }
    let service = service.unwrap_or(defaults.service);
    if service.is_empty() || service.len() > 128 || service.chars().any(char::is_control) {
        let message = "1 to 128 bytes without control characters are possible";
        return Err(wrong("otlp_service", message.to_owned()));
    }
    Ok(OtelConfig {
        endpoint,
        sample: within("otlp_sample", sample, defaults.sample, (0.0, 1.0))?,
        service,
    })
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
    match (file("tls_cert", cert)?, file("tls_key", key)?) {
        (None, None) => Ok(None),
        (Some(cert), Some(key)) => Ok(Some((cert, key))),
        (Some(_), None) => Err(at_odds(
            &["tls_key", "tls_cert"],
            "not given; it is needed with tls_cert".to_owned(),
        )),
        (None, Some(_)) => Err(at_odds(
            &["tls_cert", "tls_key"],
            "not given; it is needed with tls_key".to_owned(),
        )),
    }
}

/// A number within bounds.
pub(super) fn within<N: PartialOrd + std::fmt::Display + Copy>(
    key: &'static str,
    given: Option<N>,
    default: N,
    (least, most): (N, N),
) -> Result<N, ConfigError> {
    let given = given.unwrap_or(default);
    if given >= least && given <= most {
        return Ok(given);
    }
    Err(wrong(
        key,
        format!("{given}; {least} to {most} are possible"),
    ))
}
