//! What of settings may be shown: not seeds, not passwords in addresses, not what was pasted in place of a path.
use kvroute_engine::hash::SEED_DEFAULT;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

/// The seed of block keys. Another than the default is private to a deployment, so it is not shown.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seed(pub u64);

impl Default for Seed {
    fn default() -> Self {
        Self(SEED_DEFAULT)
    }
}

impl FromStr for Seed {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        text.parse().map(Self)
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            SEED_DEFAULT => write!(f, "{SEED_DEFAULT}"),
            _ => f.write_str(HIDDEN),
        }
    }
}

/// In place of what is not shown.
const HIDDEN: &str = "set, not shown";
/// In place of the name and password in an address.
const SOMEBODY: &str = "***@";
/// Characters of a value that are shown: more than any path has.
const SHOWN_MAX: usize = 4_096;

/// The setting whose value is never shown.
pub(super) const SEED_KEY: &str = "hash_seed";

/// Settings with addresses in them, which could have a name and a password.
const ADDRESSES: [&str; 6] = [
    "otlp_endpoint",
    "listen",
    "admin_listen",
    "tokenizer_endpoint",
    "peers",
    "dns",
];

/// A setting's value, as far as it may be shown.
pub(super) fn shown(key: &str, value: Value) -> Value {
    match value {
        Value::Number(seed) if key == SEED_KEY && seed.as_u64() != Some(SEED_DEFAULT) => {
            HIDDEN.into()
        }
        Value::String(text) if ADDRESSES.contains(&key) => nameless(&text).into(),
        Value::String(text) => bounded(&text).into(),
        Value::Array(items) => items.into_iter().map(|item| shown(key, item)).collect(),
        other => other,
    }
}

/// A value that is refused, as far as it may be repeated, in quotes.
#[must_use]
pub fn quoted(key: &str, text: &str) -> String {
    match key {
        SEED_KEY => format!("({HIDDEN})"),
        _ => format!("{:?}", nameless(&bounded(text))),
    }
}

/// An address without a name and a password.
fn nameless(text: &str) -> String {
    let Some((before, host)) = text.rsplit_once('@') else {
        return text.to_owned();
    };
    let scheme = before.find("://").map_or(0, |at| at + 3);
    format!("{}{SOMEBODY}{host}", &before[..scheme])
}

/// No more than a value has. What has several lines is no value, but perhaps a key that was pasted in place of its file.
fn bounded(text: &str) -> String {
    if text.contains(['\n', '\r']) {
        return "(several lines, not shown)".to_owned();
    }
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_default_seed_is_shown() {
        assert_eq!(format!("{:?}", Seed(1337)), "1337");
        assert_eq!(format!("{:?}", Seed(7_654_321)), "set, not shown");
        assert_eq!(shown(SEED_KEY, 1337.into()), Value::from(1337));
        assert_eq!(shown(SEED_KEY, 7_654_321.into()), "set, not shown");
        assert_eq!(shown("replays", 7_654_321.into()), Value::from(7_654_321));
        assert_eq!(quoted(SEED_KEY, "12x"), "(set, not shown)");
    }

    #[test]
    fn addresses_are_shown_without_names_and_passwords() {
        for (text, expected) in [
            ("http://me:word@host:80", "http://***@host:80"),
            ("token@host", "***@host"),
            ("a@b@host", "***@host"),
            ("host:80", "host:80"),
        ] {
            assert_eq!(
                shown("peers", vec![text].into()),
                Value::from(vec![expected])
            );
            assert_eq!(quoted("listen", text), format!("{expected:?}"));
        }
        assert_eq!(shown("fleet", "/a@b".into()), "/a@b");
    }

    #[test]
    fn what_was_pasted_is_not_repeated() {
        let pasted = "-----BEGIN PRIVATE KEY-----\nabc";
        assert!(!quoted("tls_key", pasted).contains("abc"));
        assert!(!shown("tls_key", pasted.into()).to_string().contains("abc"));
        let long = "x".repeat(5_000);
        assert_eq!(quoted("fleet", &long).chars().count(), 4_096 + 3);
    }
}
