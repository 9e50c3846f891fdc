//! Counts of words from outside: bounded in number and in bytes.
use crate::limits::{WORD_BYTES_MAX, WORDS_KEPT_MAX};
use crate::printable::word;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// How often each word came. The words beyond [`WORDS_KEPT_MAX`] are counted together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Words(BTreeMap<String, u64>);

/// What stands for all words that are not kept.
pub const OTHERS: &str = "(others)";

impl Words {
    /// Counts a word. O(log of the words kept).
    pub fn add(&mut self, word: &str) {
        if let Some(count) = self.0.get_mut(word) {
            *count += 1;
            return;
        }
        let kept = match self.0.len() < WORDS_KEPT_MAX {
            true => word,
            false => OTHERS,
        };
        *self.0.entry(kept.to_owned()).or_default() += 1;
    }

    /// The same of a text that may be anything.
    pub fn add_bytes(&mut self, bytes: &[u8]) {
        self.add(&word(bytes, WORD_BYTES_MAX));
    }

    /// The words and how often they came, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(word, &count)| (word.as_str(), count))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (word, count)) in self.iter().enumerate() {
            let comma = if n > 0 { ", " } else { "" };
            write!(f, "{comma}{word} x{count}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_without_end_are_counted_together() {
        let mut words = Words::default();
        for n in 0..WORDS_KEPT_MAX + 10 {
            words.add(&format!("{n:03}"));
            words.add("000");
        }
        let found: BTreeMap<_, _> = words.iter().collect();
        assert_eq!(found.len(), WORDS_KEPT_MAX + 1);
        assert_eq!(found[OTHERS], 10);
        assert_eq!(found["000"], WORDS_KEPT_MAX as u64 + 11);
        let mut words = Words::default();
        words.add_bytes(b"a\x1b");
        assert_eq!(words.to_string(), r"a\u{1b} x1");
    }
}
