//! The settings of how pods are chosen.
use super::resolve::{Pauses, within};
use super::{ConfigError, Settings, quoted, wrong};
use crate::limits::{
    APPROXIMATE_BLOCKS_DEFAULT, APPROXIMATE_TIME_DEFAULT, APPROXIMATE_TIME_MAX, DECISIONS_DEFAULT,
    DECISIONS_MAX, LOAD_INTERVAL_DEFAULT, LOAD_INTERVAL_MAX, LOAD_INTERVAL_MIN,
    REQUEST_TIME_DEFAULT, REQUEST_TIME_MAX, REQUEST_TIME_MIN, SPECULATIVE_TIME_DEFAULT,
    SPECULATIVE_TIME_MAX, SPECULATIVE_TIME_MIN, WEIGHT_MAX,
};
use kvroute_engine::choose::{Policy, Rules, Weights};
use kvroute_engine::limits::PREDICTED_BLOCKS_MAX;
use std::time::Duration;

/// How pods are chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct RoutingConfig {
    /// Unless a request says it.
    pub policy: Policy,
    /// Tokens below which a match does not count, unless a request says it.
    pub minimum_match: u64,
    /// The numbers of the policies.
    pub rules: Rules,
    /// The header that names a request's session, in lower case.
    pub session_header: Option<String>,
    /// Between two looks at an engine's load; `None` for none.
    pub load_interval: Option<Duration>,
    /// After which a routed request is taken for finished.
    pub request_time: Duration,
    /// Whether pods' events are used.
    pub event_sync: bool,
    /// For how long a request just routed counts as cached; `None` for not at all.
    pub speculative_time: Option<Duration>,
    /// The same for pods that send no events.
    pub approximate_time: Duration,
    /// Blocks that are remembered so for one worker.
    pub approximate_blocks: usize,
    /// Whether decisions are only compared with where requests went.
    pub shadow: bool,
    /// Latest decisions that each HTTP thread remembers.
    pub decisions: usize,
}

impl Default for RoutingConfig {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            minimum_match: 0,
            rules: Rules::default(),
            session_header: None,
            load_interval: Some(LOAD_INTERVAL_DEFAULT),
            request_time: REQUEST_TIME_DEFAULT,
            event_sync: true,
            speculative_time: Some(SPECULATIVE_TIME_DEFAULT),
            approximate_time: APPROXIMATE_TIME_DEFAULT,
            approximate_blocks: APPROXIMATE_BLOCKS_DEFAULT,
            shadow: false,
            decisions: DECISIONS_DEFAULT,
        }
    }
}

const LOADS: Pauses = Pauses {
    default: LOAD_INTERVAL_DEFAULT,
    least: LOAD_INTERVAL_MIN,
    most: LOAD_INTERVAL_MAX,
};

const REQUESTS: Pauses = Pauses {
    default: REQUEST_TIME_DEFAULT,
    least: REQUEST_TIME_MIN,
    most: REQUEST_TIME_MAX,
};

const SPECULATIVE: Pauses = Pauses {
    default: SPECULATIVE_TIME_DEFAULT,
    least: SPECULATIVE_TIME_MIN,
    most: SPECULATIVE_TIME_MAX,
};

const APPROXIMATE: Pauses = Pauses {
    default: APPROXIMATE_TIME_DEFAULT,
    least: SPECULATIVE_TIME_MIN,
    most: APPROXIMATE_TIME_MAX,
};

impl RoutingConfig {
    /// From what the sources give.
    pub(super) fn of(settings: &Settings) -> Result<Self, ConfigError> {
        let default = Self::default();
        let deviations = within(
            "deviations",
            settings.deviations,
            default.rules.deviations,
            (0.0, 1_000.0),
        )?;
        let weights = Weights::default();
        let rules = Rules {
            imbalance: settings.imbalance.unwrap_or(default.rules.imbalance),
            deviations,
            weights: Weights {
                prefill: weight("cost_prefill", settings.cost_prefill, weights.prefill)?,
                decode: weight("cost_decode", settings.cost_decode, weights.decode)?,
                ..weights
            },
        };
        let approximate_blocks = within(
            "approximate_blocks",
            settings.approximate_blocks,
            default.approximate_blocks,
            (1, PREDICTED_BLOCKS_MAX),
        )?;
        Ok(Self {
            policy: policy(settings.policy.as_deref())?,
            minimum_match: settings.minimum_match.unwrap_or(0),
            rules,
            session_header: header(settings.session_header.as_deref())?,
            load_interval: LOADS.interval("load_interval", settings.load_interval)?,
            request_time: REQUESTS.time("request_time", settings.request_time)?,
            event_sync: settings.event_sync.unwrap_or(true),
            speculative_time: SPECULATIVE
                .interval("speculative_time", settings.speculative_time)?,
            approximate_time: APPROXIMATE.time("approximate_time", settings.approximate_time)?,
            approximate_blocks,
            shadow: settings.shadow.unwrap_or(false),
            decisions: within(
                "decisions",
                settings.decisions,
                DECISIONS_DEFAULT,
                (1, DECISIONS_MAX),
            )?,
        })
    }
}

fn policy(given: Option<&str>) -> Result<Policy, ConfigError> {
    let Some(name) = given else {
        return Ok(Policy::default());
    };
    Policy::named(name).ok_or_else(|| {
        let known = Policy::ALL.map(Policy::as_str).join(", ");
        wrong(
            "policy",
            format!("{}; there are {known}", quoted("policy", name)),
        )
    })
}

/// A weight, in thousandths.
fn weight(key: &'static str, given: Option<f64>, default: u32) -> Result<u32, ConfigError> {
    let given = within(key, given, f64::from(default) / 1_000.0, (0.0, WEIGHT_MAX))?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "within bounds that fit"
    )]
    let thousandths = (given * 1_000.0).round() as u32;
    Ok(thousandths)
}

/// Headers that are of one connection, or say something else already, so that they cannot name a session: those of RFC 9110
/// (7.6.1 and the message's own), and those that this node answers with.
const TAKEN: &[&str] = &[
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "target-pod",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-data-parallel-rank",
    "x-gateway-destination-endpoint",
    "x-kvroute-request-id",
];

/// The name of a header, in lower case.
fn header(given: Option<&str>) -> Result<Option<String>, ConfigError> {
    const KEY: &str = "session_header";
    let Some(name) = given else {
        return Ok(None);
    };
    let possible = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let refused = |why: &str| wrong(KEY, format!("{}; {why}", quoted(KEY, name)));
    if name.is_empty() || name.len() > 64 || !name.chars().all(possible) {
        return Err(refused(
            "a header's name has up to 64 letters, digits, - and _",
        ));
    }
    let name = name.to_ascii_lowercase();
    if TAKEN.contains(&&*name) {
        return Err(refused(
            "this header has another meaning; a header of clients' own is expected",
        ));
    }
    Ok(Some(name))
}
