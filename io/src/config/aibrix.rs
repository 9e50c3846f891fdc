//! AIBrix's variables: what each means here.
//!
//! They are read as AIBrix reads them: booleans and durations in Go's form, an empty one as if it were not set. But
//! what cannot be is refused by name, where AIBrix goes on with its default. What kvroute's own flags, variables
//! and file say wins over them.
use super::go::{parse_bool, parse_duration};
use super::{ConfigError, Settings, wrong};
use std::time::Duration;

/// What a variable does here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It is the setting of this key, unless that is given in kvroute's own words.
    Sets(&'static str),
    /// It has no meaning here, for this reason.
    Nothing(&'static str),
}

impl Effect {
    /// Whether it is the setting of this key.
    #[must_use]
    pub fn sets(self, key: &str) -> bool {
        matches!(self, Self::Sets(set) if set == key)
    }
}

/// A variable that is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// Its value, as it stands.
    pub value: String,
    /// What it does.
    pub effect: Effect,
}

/// What AIBrix's variables say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Aibrix {
    /// As kvroute's settings.
    pub settings: Settings,
    /// Those that are set, in the order of the table.
    pub variables: Vec<Variable>,
    /// What they ask for and do not get.
    pub warnings: Vec<String>,
}

type Read = fn(&str) -> Result<Settings, String>;

/// One meaning: the names it has, how it is read, what it does.
#[derive(Debug)]
struct Meaning(&'static [&'static str], Read, Effect);

const TOKENIZER: [&str; 2] = [
    "AIBRIX_USE_REMOTE_TOKENIZER",
    "AIBRIX_PREFIX_CACHE_USE_REMOTE_TOKENIZER",
];
const SYNC: [&str; 2] = [
    "AIBRIX_KV_EVENT_SYNC_ENABLED",
    "AIBRIX_PREFIX_CACHE_KV_EVENT_SYNC_ENABLED",
];
const FALLBACK: &str = "AIBRIX_PREFIX_CACHE_FALLBACK_ENABLED";
const ENGINE: &str = "AIBRIX_REMOTE_TOKENIZER_ENGINE";

const TABLE: &[Meaning] = &[
    Meaning(&TOKENIZER, tokenizer, Effect::Sets("tokenizer")),
    Meaning(&SYNC, sync, Effect::Sets("event_sync")),
    Meaning(
        &["AIBRIX_REMOTE_TOKENIZER_ENDPOINT"],
        endpoint,
        Effect::Sets("tokenizer_endpoint"),
    ),
    Meaning(
        &[ENGINE],
        engine,
        Effect::Nothing("all engines are asked in one form, vLLM's"),
    ),
    Meaning(
        &["AIBRIX_REMOTE_TOKENIZER_TIMEOUT"],
        timeout,
        Effect::Sets("tokenizer_timeout"),
    ),
    Meaning(
        &["AIBRIX_REMOTE_TOKENIZER_MAX_RETRIES"],
        retries,
        Effect::Sets("tokenizer_retries"),
    ),
    Meaning(
        &["AIBRIX_PREFIX_CACHE_TOKENIZER_TYPE"],
        kind,
        Effect::Nothing(
            "characters and tiktoken's tokens match no engine's blocks: without the engine's tokens texts are routed by load",
        ),
    ),
    Meaning(
        &["AIBRIX_SYNC_MAX_CONTEXTS"],
        contexts,
        Effect::Sets("contexts_max"),
    ),
    Meaning(
        &["AIBRIX_SYNC_MAX_PREFIXES_PER_CONTEXT"],
        positive,
        Effect::Nothing("the index holds what the engines hold, within its byte budget"),
    ),
    Meaning(
        &["AIBRIX_SYNC_EVICTION_INTERVAL_SECONDS"],
        positive,
        Effect::Nothing("what is out of date is forgotten when it is, not in rounds"),
    ),
    Meaning(
        &["AIBRIX_SYNC_EVICTION_DURATION_MINUTES"],
        duration,
        Effect::Sets("approximate_time"),
    ),
    Meaning(
        &["AIBRIX_KV_EVENT_POLL_TIMEOUT_MS"],
        positive,
        Effect::Nothing("nothing polls: a message wakes its thread"),
    ),
    Meaning(
        &["AIBRIX_KV_EVENT_REPLAY_TIMEOUT_S"],
        replay,
        Effect::Sets("replay_timeout"),
    ),
    Meaning(
        &[FALLBACK],
        fallback,
        Effect::Nothing(
            "a request that can be served is never refused: without tokens it is routed by load",
        ),
    ),
    Meaning(
        &["AIBRIX_PREFIX_CACHE_POD_RUNNING_REQUEST_IMBALANCE_ABS_COUNT"],
        imbalance,
        Effect::Sets("imbalance"),
    ),
    Meaning(
        &["AIBRIX_PREFIX_CACHE_STANDARD_DEVIATION_FACTOR"],
        deviations,
        Effect::Sets("deviations"),
    ),
];

impl Aibrix {
    /// Reads the variables that `lookup` has. An error names the variable.
    pub fn read(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let mut all = Self::default();
        for Meaning(names, read, effect) in TABLE {
            let mut first: Option<(&'static str, Settings)> = None;
            for &name in *names {
                let Some(value) = lookup(name).filter(|value| !value.is_empty()) else {
                    continue;
                };
                // A password is not repeated.
                let shown = if value.contains('@') {
                    "(with @)"
                } else {
                    &*value
                };
                let refused = |why: String| wrong(name, format!("{shown:?}: {why}"));
                let settings = read(&value).map_err(refused)?;
                match settings.clone().resolve() {
                    Err(ConfigError::Value { message, .. }) => return Err(wrong(name, message)),
                    Err(other) => return Err(other),
                    Ok(_) => {}
                }
                if let Some((other, said)) = &first
                    && *said != settings
                {
                    return Err(refused(format!("{other} says otherwise")));
                }
                all.warn(name, &value);
                all.variables.push(Variable {
                    name,
                    value,
                    effect: *effect,
                });
                first = Some((name, settings));
            }
            if let Some((_, settings)) = first {
                all.settings = all.settings.or(settings);
            }
        }
        all.fill_in();
        Ok(all)
    }

    /// Of the two switches, the one that is not set is off, as it is for AIBrix; if neither is, nothing is said.
    fn fill_in(&mut self) {
        let Settings {
            tokenizer,
            event_sync,
            ..
        } = &mut self.settings;
        if tokenizer.is_some() || event_sync.is_some() {
            tokenizer.get_or_insert_with(|| "off".to_owned());
            event_sync.get_or_insert(false);
        }
    }

    fn warn(&mut self, name: &str, value: &str) {
        if name == FALLBACK && parse_bool(value) == Ok(false) {
            self.warnings.push(format!(
                "{name}={value} is not obeyed: a request that can be served is never refused"
            ));
        }
        if name == ENGINE && value != "vllm" {
            self.warnings.push(format!(
                "{name}={value}: the engine is asked in vLLM's form; see whether it understands that"
            ));
        }
    }

    /// The variable that a key's value comes from, if it comes from one of these.
    #[must_use]
    pub fn source(&self, key: &str) -> Option<&'static str> {
        let variables = self.variables.iter();
        let found = |key: &str| {
            let mut setting = variables.clone().filter(|it| it.effect.sets(key));
            setting.next().map(|variable| variable.name)
        };
        // Of the two switches one may be off because only the other is set.
        found(key).or_else(|| match key {
            "tokenizer" => found("event_sync"),
            "event_sync" => found("tokenizer"),
            _ => None,
        })
    }

    /// The names of all variables that are read.
    pub fn names() -> impl Iterator<Item = &'static str> {
        TABLE.iter().flat_map(|Meaning(names, ..)| *names).copied()
    }
}

fn tokenizer(value: &str) -> Result<Settings, String> {
    let mode = if parse_bool(value)? { "remote" } else { "off" };
    Ok(Settings {
        tokenizer: Some(mode.to_owned()),
        ..Settings::default()
    })
}

fn sync(value: &str) -> Result<Settings, String> {
    Ok(Settings {
        event_sync: Some(parse_bool(value)?),
        ..Settings::default()
    })
}

/// A URL, of which only the server counts: `http://host:port`, or `host:port` alone.
fn endpoint(value: &str) -> Result<Settings, String> {
    if value.starts_with("https://") {
        return Err("engines are asked over http only".to_owned());
    }
    let server = value.strip_prefix("http://").unwrap_or(value);
    let server = server.strip_suffix('/').unwrap_or(server);
    if server.is_empty() || server.contains(['/', '?', '#', '@']) {
        return Err("expected http://HOST:PORT".to_owned());
    }
    let has_port = server
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let server = match has_port {
        true => server.to_owned(),
        false if server.contains(':') && !server.ends_with(']') => {
            return Err("expected http://HOST:PORT".to_owned());
        }
        false => format!("{server}:80"),
    };
    Ok(Settings {
        tokenizer_endpoint: Some(server),
        ..Settings::default()
    })
}

fn engine(value: &str) -> Result<Settings, String> {
    one_of(value, &["vllm", "sglang"])
}

fn kind(value: &str) -> Result<Settings, String> {
    one_of(value, &["character", "tiktoken", "remote", "vllm"])
}

fn timeout(value: &str) -> Result<Settings, String> {
    Ok(Settings {
        tokenizer_timeout: Some(parse_duration(value)?.as_secs_f64()),
        ..Settings::default()
    })
}

fn retries(value: &str) -> Result<Settings, String> {
    let retries = number(value, 0)?;
    Ok(Settings {
        tokenizer_retries: Some(u32::try_from(retries).unwrap_or(u32::MAX)),
        ..Settings::default()
    })
}

fn contexts(value: &str) -> Result<Settings, String> {
    let contexts = number(value, 1)?;
    Ok(Settings {
        contexts_max: Some(usize::try_from(contexts).unwrap_or(usize::MAX)),
        ..Settings::default()
    })
}

fn duration(value: &str) -> Result<Settings, String> {
    let minutes = number(value, 1)?;
    Ok(Settings {
        approximate_time: Some(Duration::from_secs(minutes.saturating_mul(60)).as_secs_f64()),
        ..Settings::default()
    })
}

fn replay(value: &str) -> Result<Settings, String> {
    let seconds = number(value, 1)?;
    Ok(Settings {
        replay_timeout: Some(Duration::from_secs(seconds).as_secs_f64()),
        ..Settings::default()
    })
}

fn imbalance(value: &str) -> Result<Settings, String> {
    Ok(Settings {
        imbalance: Some(number(value, 1)?),
        ..Settings::default()
    })
}

fn deviations(value: &str) -> Result<Settings, String> {
    let factor = value.parse::<f64>().ok().filter(|factor| *factor > 0.0);
    let factor = factor.ok_or("expected a number above 0")?;
    Ok(Settings {
        deviations: Some(factor),
        ..Settings::default()
    })
}

fn positive(value: &str) -> Result<Settings, String> {
    number(value, 1).map(|_| Settings::default())
}

fn fallback(value: &str) -> Result<Settings, String> {
    parse_bool(value).map(|_| Settings::default())
}

fn one_of(value: &str, known: &[&str]) -> Result<Settings, String> {
    if known.contains(&value) {
        return Ok(Settings::default());
    }
    Err(format!("there are {}", known.join(", ")))
}

fn number(value: &str, least: u64) -> Result<u64, String> {
    let number = value.parse().ok().filter(|number| *number >= least);
    number.ok_or_else(|| format!("expected a whole number from {least}"))
}

#[cfg(test)]
mod tests;
