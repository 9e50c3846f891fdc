//! JSON whose keys keep their order, and how Python writes it; pure.
//!
//! What Python would read or write otherwise is refused: numbers that are no 64-bit integer, or whose decimals are not
//! surely the same on both sides, and keys that are there twice.
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Json>),
    Map(Vec<(String, Json)>),
}

impl Json {
    /// The value of a key, if this is a map that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        let Self::Map(pairs) = self else { return None };
        pairs
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value)
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// Digits of a decimal number that binary floating point keeps, whoever reads it.
const EXACT_DIGITS: usize = 15;

/// Whether every reader takes the same number from its text, and every writer makes the same text of it.
pub(super) fn is_plain(float: f64) -> bool {
    let size = float.abs();
    let digits = || {
        let text = format!("{size:?}");
        let digits = text.bytes().filter(u8::is_ascii_digit);
        digits.skip_while(|digit| *digit == b'0').count()
    };
    (1e-4..1e15).contains(&size) && digits() <= EXACT_DIGITS || float.to_bits() == 0
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Int(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Json, E> {
        i64::try_from(value).map(Json::Int).map_err(E::custom)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Json, E> {
        match is_plain(value) {
            true => Ok(Json::Float(value)),
            false => Err(E::custom("a number that others may read otherwise")),
        }
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.into()))
    }

    fn visit_string<E>(self, text: String) -> Result<Json, E> {
        Ok(Json::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = seq.next_element()? {
            list.push(value);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut pairs: Vec<(String, Json)> = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        let mut names: Vec<&str> = pairs.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        if names.windows(2).any(|two| two[0] == two[1]) {
            return Err(A::Error::custom("a key is there twice"));
        }
        Ok(Json::Map(pairs))
    }
}

/// How `json.dumps` is asked to write.
#[derive(Clone, Debug)]
pub(super) struct Style {
    /// What a line is indented with, once for each level; `None` for one line.
    pub(super) indent: Option<String>,
    pub(super) item: String,
    pub(super) key: String,
    /// Whether other characters than ASCII are escaped.
    pub(super) ascii: bool,
    pub(super) sorted: bool,
}

/// Writes as Python's `json.dumps` does. O(bytes).
pub(super) fn dump(value: &Json, style: &Style) -> String {
    let mut out = String::new();
    Writer {
        style,
        out: &mut out,
    }
    .value(value, 0);
    out
}

struct Writer<'a> {
    style: &'a Style,
    out: &'a mut String,
}

impl Writer<'_> {
    fn value(&mut self, value: &Json, depth: usize) {
        match value {
            Json::Null => *self.out += "null",
            Json::Bool(value) => *self.out += if *value { "true" } else { "false" },
            Json::Int(value) => *self.out += itoa::Buffer::new().format(*value),
            Json::Float(value) => *self.out += &format!("{value:?}"),
            Json::Text(text) => self.text(text),
            Json::List(list) => {
                let write = |this: &mut Self, value: &Json| this.value(value, depth + 1);
                self.within(('[', ']'), list, depth, write);
            }
            Json::Map(pairs) => {
                let mut pairs: Vec<_> = pairs.iter().collect();
                if self.style.sorted {
                    pairs.sort_by(|a, b| a.0.cmp(&b.0));
                }
                self.within(('{', '}'), &pairs, depth, |this, (name, value)| {
                    this.text(name);
                    *this.out += &this.style.key;
                    this.value(value, depth + 1);
                });
            }
        }
    }

    fn within<T>(
        &mut self,
        (open, close): (char, char),
        items: &[T],
        depth: usize,
        write: impl Fn(&mut Self, &T),
    ) {
        self.out.push(open);
        for (n, item) in items.iter().enumerate() {
            if n > 0 {
                *self.out += &self.style.item;
            }
            self.line(depth + 1);
            write(self, item);
        }
        if !items.is_empty() {
            self.line(depth);
        }
        self.out.push(close);
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = &self.style.indent {
            self.out.push('\n');
            for _ in 0..depth {
                *self.out += indent;
            }
        }
    }

    fn text(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => *self.out += "\\\"",
                '\\' => *self.out += "\\\\",
                '\n' => *self.out += "\\n",
                '\r' => *self.out += "\\r",
                '\t' => *self.out += "\\t",
                '\u{8}' => *self.out += "\\b",
                '\u{c}' => *self.out += "\\f",
                '\0'..='\u{1f}' => self.escape(c),
                c if self.style.ascii && c >= '\u{7f}' => self.escape(c),
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }

    fn escape(&mut self, c: char) {
        for unit in c.encode_utf16(&mut [0; 2]) {
            *self.out += &format!("\\u{unit:04x}");
        }
    }
}
