//! A file of settings: what it says, in which lines, and what is wrong with it.
use super::secret::quoted;
use super::settings::{Key, keys};
use super::{ConfigError, Settings, wrong};
use crate::fleet::{FileError, read_text};
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use yaml_serde::Value;

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SettingsFile {
    path: PathBuf,
    /// Its settings.
    pub settings: Settings,
    /// By key, from 1.
    lines: BTreeMap<&'static str, usize>,
}

impl SettingsFile {
    /// Reads a YAML file. A key without a value is as if it were not there.
    ///
    /// # Errors
    /// The file, or the first key that is unknown, of another type, or there twice, with its line.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = read_text(path)?;
        let content = |source| FileError::Content {
            path: path.to_owned(),
            source,
        };
        let entries: Entries = yaml_serde::from_slice(&text).map_err(content)?;
        let mut file = Self {
            path: path.to_owned(),
            ..Self::default()
        };
        for (at, (name, value)) in entries.0.into_iter().enumerate() {
            let line = line(&text, at);
            file.enter(&name, value, line)
                .map_err(|error| error.said(|_| file.place(line)))?;
        }
        Ok(file)
    }

    fn enter(&mut self, name: &str, value: Value, line: usize) -> Result<(), ConfigError> {
        let key = keys().iter().find(|key| key.name == name);
        let key = key.ok_or_else(|| unknown(name))?;
        if let Some(first) = self.lines.insert(&key.name, line) {
            return Err(wrong(name, format!("given twice, first in line {first}")));
        }
        if value.is_null() {
            return Ok(());
        }
        let shown = shown(key, &value);
        let alone = [(Value::from(name), value)].into_iter().collect();
        let settings: Result<Settings, _> = yaml_serde::from_value(Value::Mapping(alone));
        let form = &key.form;
        let refused = |_| wrong(name, format!("{shown}; {form} is expected"));
        self.settings = settings.map_err(refused)?.or(self.settings.clone());
        Ok(())
    }

    /// Where a key is.
    pub(super) fn source(&self, key: &str) -> String {
        let line = self.lines.get(key).copied();
        line.map_or_else(|| self.path.display().to_string(), |line| self.place(line))
    }

    fn place(&self, line: usize) -> String {
        format!("{}:{line}", self.path.display())
    }
}

/// A value of another type, as it may be repeated.
fn shown(key: &Key, value: &Value) -> String {
    match value {
        Value::String(text) => quoted(&key.name, text),
        Value::Bool(_) | Value::Number(_) => {
            let text = yaml_serde::to_string(value).unwrap_or_default();
            quoted(&key.name, text.trim_end()).replace('"', "")
        }
        Value::Sequence(_) => "a list".to_owned(),
        Value::Mapping(_) | Value::Tagged(_) | Value::Null => "a map".to_owned(),
    }
}

/// A key that no setting has.
fn unknown(name: &str) -> ConfigError {
    let known: Vec<_> = keys().iter().map(|key| key.name.as_str()).collect();
    let meant = nearest(&name.replace('-', "_"), &known);
    let meant = meant.map_or_else(String::new, |meant| format!("; is {meant} meant?"));
    let name: String = name.chars().take(64).collect();
    wrong(&name, format!("there is no such key{meant}"))
}

/// The name that a misspelt one may stand for.
pub(super) fn nearest<'n>(name: &str, known: &[&'n str]) -> Option<&'n str> {
    const STEPS_MAX: usize = 4;
    let most = STEPS_MAX.min(name.chars().count() / 2);
    let steps = |&other: &&'n str| (strsim::osa_distance(name, other), other);
    let near = known.iter().map(steps).min();
    near.filter(|(steps, _)| *steps <= most)
        .map(|(_, other)| other)
}

/// Keys and values, in order.
struct Entries(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Root)
    }
}

struct Root;

/// The whole is no map. What it is instead may be a secret, if another file was named by mistake.
fn no_map<T, E: Error>() -> Result<T, E> {
    Err(E::custom("expected settings, KEY: VALUE in each line"))
}

impl<'de> Visitor<'de> for Root {
    type Value = Entries;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("settings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
        let mut entries = Vec::new();
        // There are not as many keys as would take much memory before the first that is wrong is told.
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Entries(entries))
    }

    /// A file of comments.
    fn visit_unit<E: Error>(self) -> Result<Entries, E> {
        Ok(Entries(Vec::new()))
    }

    fn visit_none<E: Error>(self) -> Result<Entries, E> {
        self.visit_unit()
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Entries, E> {
        no_map()
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Entries, E> {
        no_map()
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Entries, E> {
        no_map()
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Entries, E> {
        no_map()
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<Entries, E> {
        no_map()
    }

    fn visit_i128<E: Error>(self, _: i128) -> Result<Entries, E> {
        no_map()
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Entries, E> {
        no_map()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Entries, A::Error> {
        no_map()
    }
}

/// The line of the key after so many others, from 1. The parser tells where it was only with an error, so there is one.
fn line(text: &[u8], before: usize) -> usize {
    let stopped: Result<(), _> = {
        let reader = yaml_serde::Deserializer::from_slice(text);
        reader.deserialize_map(Stop(before))
    };
    let place = stopped.err().and_then(|error| error.location());
    place.map_or(1, |place| place.line())
}

struct Stop(usize);

impl<'de> Visitor<'de> for Stop {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("settings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        for _ in 0..self.0 {
            map.next_entry::<IgnoredAny, IgnoredAny>()?;
        }
        map.next_key::<Here>().map(drop)
    }
}

struct Here;

impl<'de> Deserialize<'de> for Here {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(Self)
    }
}

impl Visitor<'_> for Here {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self, E> {
        Err(E::custom("here"))
    }
}
