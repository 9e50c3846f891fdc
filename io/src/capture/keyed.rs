//! Keyed replacements: equal values become equal values, different ones different ones, and nobody without the key can tell
//! which it was.
//!
//! Integers and byte strings are permuted among those of their length: a Feistel network whose rounds are HMAC-SHA-256
//! never gives two of them the same replacement. Texts become hexadecimal digits of an HMAC. What remains is what
//! equality tells: how often a value comes, and beside which others.
use crate::limits::{KEY_BYTES_MIN, KEY_FILE_BYTES_MAX, TOKENS_KEPT_MAX};
use ahash::AHashMap;
use ring::hmac::{HMAC_SHA256, Key, sign};
use ring::rand::{SecureRandom, SystemRandom};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// As many as standards for small blocks have (NIST SP 800-38G, FF1).
const ROUNDS: u8 = 10;
/// Bytes of an HMAC.
const DIGEST: usize = 32;

/// What a value is: the same bytes are replaced differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A token id.
    Token = 1,
    /// The name of a block.
    Hash = 2,
    /// Any other integer.
    Integer = 3,
    /// Any other bytes.
    Bytes = 4,
    /// A text.
    Text = 5,
}

/// A key, and the tokens that it has replaced.
pub struct Keyed {
    key: Key,
    tokens: AHashMap<u32, u32>,
}

impl fmt::Debug for Keyed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyed").finish_non_exhaustive()
    }
}

impl Keyed {
    /// With these bytes as the key.
    #[must_use]
    pub fn new(key: &[u8]) -> Self {
        Self {
            key: Key::new(HMAC_SHA256, key),
            tokens: AHashMap::new(),
        }
    }

    /// With a key that nobody knows.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn random() -> io::Result<Self> {
        let mut key = [0; DIGEST];
        let filled = SystemRandom::new().fill(&mut key);
        filled.map_err(|_| io::Error::other("the system gives no random bytes"))?;
        Ok(Self::new(&key))
    }

    /// With the bytes of a file as the key, without blanks around them.
    ///
    /// # Errors
    /// The file cannot be read, or is too short or too long.
    pub fn from_file(path: &Path) -> io::Result<Self> {
        let mut key = Vec::new();
        let mut file = File::open(path)?.take(KEY_FILE_BYTES_MAX + 1);
        file.read_to_end(&mut key)?;
        let key = key.trim_ascii();
        if key.len() < KEY_BYTES_MIN || key.len() as u64 > KEY_FILE_BYTES_MAX {
            let what = format!(
                "a key has {KEY_BYTES_MIN} to {KEY_FILE_BYTES_MAX} bytes, this one {}",
                key.len()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        Ok(Self::new(key))
    }

    /// The replacement of a token id.
    #[must_use]
    pub fn token(&mut self, token: u32) -> u32 {
        if let Some(&known) = self.tokens.get(&token) {
            return known;
        }
        let mut bytes = token.to_le_bytes();
        self.permute(Kind::Token, &mut bytes);
        let replaced = u32::from_le_bytes(bytes);
        if self.tokens.len() < TOKENS_KEPT_MAX {
            self.tokens.insert(token, replaced);
        }
        replaced
    }

    /// The replacement of an integer of 64 bits.
    #[must_use]
    pub fn integer(&self, kind: Kind, value: u64) -> u64 {
        let mut bytes = value.to_le_bytes();
        self.permute(kind, &mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// Replaces bytes by others, as many. O(bytes).
    pub fn permute(&self, kind: Kind, bytes: &mut [u8]) {
        let length = bytes.len() as u64;
        let (left, right) = bytes.split_at_mut(bytes.len() / 2);
        for round in 0..ROUNDS {
            match round % 2 {
                0 => self.mix(kind, round, length, left, right),
                _ => self.mix(kind, round, length, right, left),
            }
        }
    }

    /// The replacement of a text: none for none, 64 hexadecimal digits for such, which are names of images, and 32 for
    /// all others.
    #[must_use]
    pub fn text(&self, text: &[u8]) -> String {
        if text.is_empty() {
            return String::new();
        }
        let is_digest = text.len() == 2 * DIGEST && text.iter().all(u8::is_ascii_hexdigit);
        let digest = sign(&self.key, &[&[Kind::Text as u8], text].concat());
        let bytes = if is_digest { DIGEST } else { DIGEST / 2 };
        let digits = digest.as_ref().iter().take(bytes);
        digits.map(|byte| format!("{byte:02x}")).collect()
    }

    /// Adds what one half comes to, to the other.
    fn mix(&self, kind: Kind, round: u8, length: u64, from: &[u8], to: &mut [u8]) {
        for (block, to) in to.chunks_mut(DIGEST).enumerate() {
            let mut message = vec![kind as u8, round];
            message.extend_from_slice(&length.to_le_bytes());
            message.extend_from_slice(&(block as u64).to_le_bytes());
            message.extend_from_slice(from);
            let digest = sign(&self.key, &message);
            let pairs = to.iter_mut().zip(digest.as_ref());
            pairs.for_each(|(byte, digest)| *byte ^= digest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_values_have_one_replacement() {
        let mut keyed = Keyed::new(b"0123456789abcdef");
        let tokens: BTreeSet<u32> = (0..5_000).map(|token| keyed.token(token)).collect();
        assert_eq!(tokens.len(), 5_000);
        for length in [1, 2] {
            let all = (0..1_u32 << (8 * length)).step_by(if length == 2 { 7 } else { 1 });
            let (mut before, mut after) = (0, BTreeSet::new());
            for value in all {
                let mut bytes = value.to_le_bytes()[..length].to_vec();
                keyed.permute(Kind::Bytes, &mut bytes);
                assert_eq!(bytes.len(), length);
                after.insert(bytes);
                before += 1;
            }
            assert_eq!(after.len(), before, "{length} bytes");
        }
    }

    #[test]
    fn replacements_depend_on_key_kind_and_value_only() {
        let replaced = |key: &[u8]| {
            let mut keyed = Keyed::new(key);
            let mut bytes = *b"12345678901234567890123456789012345678901234567890";
            keyed.permute(Kind::Hash, &mut bytes);
            let integers = [Kind::Hash, Kind::Integer].map(|kind| keyed.integer(kind, 7));
            (
                keyed.token(7),
                keyed.token(7),
                integers,
                bytes,
                keyed.text(b"salt"),
            )
        };
        let one = replaced(b"0123456789abcdef");
        assert_eq!(one, replaced(b"0123456789abcdef"));
        assert_eq!(one.0, one.1);
        assert_ne!(one.2[0], one.2[1]);
        let other = replaced(b"0123456789abcdeF");
        assert!(one.0 != other.0 && one.2 != other.2 && one.3 != other.3 && one.4 != other.4);
        assert_ne!(
            one.3,
            *b"12345678901234567890123456789012345678901234567890"
        );
    }

    #[test]
    fn texts_keep_their_form_only() {
        let keyed = Keyed::new(b"0123456789abcdef");
        assert_eq!(keyed.text(b""), "");
        assert_eq!(keyed.text(b"a").len(), 32);
        assert_eq!(keyed.text(&[b'a'; 64]).len(), 64);
        assert_eq!(keyed.text(&[b'g'; 64]).len(), 32);
    }
}
