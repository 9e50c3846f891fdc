//! The settings of how texts become tokens.
use super::resolve::{Pauses, host_port, within};
use super::{ConfigError, Settings, at_odds, quoted, wrong};
use crate::limits::{
    TOKENIZER_CACHE_BYTES_DEFAULT, TOKENIZER_CACHE_BYTES_MAX, TOKENIZER_CACHE_TIME_DEFAULT,
    TOKENIZER_CACHE_TIME_MAX, TOKENIZER_CALLS_DEFAULT, TOKENIZER_CALLS_MAX,
    TOKENIZER_DEADLINE_DEFAULT, TOKENIZER_HEDGE_DEFAULT, TOKENIZER_RETRIES_DEFAULT,
    TOKENIZER_RETRIES_MAX, TOKENIZER_TIME_DEFAULT, TOKENIZER_TIME_MAX, TOKENIZER_TIME_MIN,
};
use std::path::PathBuf;
use std::time::Duration;

/// Who turns texts into tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenizerMode {
    /// Nobody: requests with texts are routed by load.
    Off,
    /// The engines themselves.
    Remote,
}

/// How texts become tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenizerConfig {
    /// Who does it.
    pub mode: TokenizerMode,
    /// `host:port` of a server that is asked in place of the engines.
    pub endpoint: Option<String>,
    /// For one call; less than the deadline, or nobody would notice that an engine hangs.
    pub timeout: Duration,
    /// For a text, with all retries.
    pub deadline: Duration,
    /// Further calls after one that failed.
    pub retries: u32,
    /// Calls at once.
    pub concurrency: usize,
    /// Until a second pod is asked, too.
    pub hedge: Option<Duration>,
    /// Bytes of tokens that are remembered; 0 for none.
    pub cache: usize,
    /// For how long.
    pub cache_time: Duration,
    /// Folders with tokenizers, by model.
    pub local: Vec<(String, PathBuf)>,
}

impl Default for TokenizerConfig {
    fn default() -> Self {
        Self {
            mode: TokenizerMode::Remote,
            endpoint: None,
            timeout: TOKENIZER_TIME_DEFAULT,
            deadline: TOKENIZER_DEADLINE_DEFAULT,
            retries: TOKENIZER_RETRIES_DEFAULT,
            concurrency: TOKENIZER_CALLS_DEFAULT,
            hedge: Some(TOKENIZER_HEDGE_DEFAULT),
            cache: TOKENIZER_CACHE_BYTES_DEFAULT,
            cache_time: TOKENIZER_CACHE_TIME_DEFAULT,
            local: Vec::new(),
        }
    }
}

const fn up_to(default: Duration, most: Duration) -> Pauses {
    Pauses {
        default,
        least: TOKENIZER_TIME_MIN,
        most,
    }
}

const TIME: Pauses = up_to(TOKENIZER_TIME_DEFAULT, TOKENIZER_TIME_MAX);
const DEADLINE: Pauses = up_to(TOKENIZER_DEADLINE_DEFAULT, TOKENIZER_TIME_MAX);
const HEDGE: Pauses = up_to(TOKENIZER_HEDGE_DEFAULT, TOKENIZER_TIME_MAX);
const CACHE: Pauses = up_to(TOKENIZER_CACHE_TIME_DEFAULT, TOKENIZER_CACHE_TIME_MAX);

impl TokenizerConfig {
    /// From what the sources give.
    pub(super) fn of(settings: &Settings) -> Result<Self, ConfigError> {
        let mode = match settings.tokenizer.as_deref() {
            None | Some("remote") => TokenizerMode::Remote,
            Some("off") => TokenizerMode::Off,
            Some(other) => {
                let message = format!(
                    "{}; remote and off are possible",
                    quoted("tokenizer", other)
                );
                return Err(wrong("tokenizer", message));
            }
        };
        let local = settings.local_tokenizers.clone().unwrap_or_default();
        if mode == TokenizerMode::Off && !local.is_empty() {
            let message = "they need tokenizer: remote, as they are compared with the engines";
            let keys = ["local_tokenizers", "tokenizer"];
            return Err(at_odds(&keys, message.to_owned()));
        }
        let timeout = TIME.time("tokenizer_timeout", settings.tokenizer_timeout)?;
        let deadline = DEADLINE.time("tokenizer_deadline", settings.tokenizer_deadline)?;
        Ok(Self {
            mode,
            endpoint: endpoint(settings.tokenizer_endpoint.as_deref())?,
            timeout: timeout.min(deadline * 4 / 5),
            deadline,
            retries: within(
                "tokenizer_retries",
                settings.tokenizer_retries,
                TOKENIZER_RETRIES_DEFAULT,
                (0, TOKENIZER_RETRIES_MAX),
            )?,
            concurrency: within(
                "tokenizer_concurrency",
                settings.tokenizer_concurrency,
                TOKENIZER_CALLS_DEFAULT,
                (1, TOKENIZER_CALLS_MAX),
            )?,
            hedge: HEDGE.interval("tokenizer_hedge", settings.tokenizer_hedge)?,
            cache: within(
                "tokenizer_cache",
                settings.tokenizer_cache,
                TOKENIZER_CACHE_BYTES_DEFAULT,
                (0, TOKENIZER_CACHE_BYTES_MAX),
            )?,
            cache_time: CACHE.time("tokenizer_cache_time", settings.tokenizer_cache_time)?,
            local,
        })
    }
}

/// A server, with or without `http://` before it.
fn endpoint(given: Option<&str>) -> Result<Option<String>, ConfigError> {
    let Some(text) = given else {
        return Ok(None);
    };
    let server = text.strip_prefix("http://").unwrap_or(text);
    host_port("tokenizer_endpoint", server.trim_end_matches('/'))?;
    Ok(Some(text.to_owned()))
}
