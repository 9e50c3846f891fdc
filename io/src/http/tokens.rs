//! Bearer tokens from a file: one a line, `#` begins a comment.
//!
//! Only digests are kept. All of them are compared, each in constant time, so that the time of an answer tells
//! neither how much of a token is right nor how long a right one is.
use crate::limits::{TOKEN_FILE_BYTES_MAX, TOKENS_MAX};
use arc_swap::ArcSwap;
use ring::digest::{SHA256, digest};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use subtle::{Choice, ConstantTimeEq};

type Digest = [u8; 32];

/// The tokens of one file, as it was when it was last read.
pub(super) struct Tokens {
    path: PathBuf,
    digests: ArcSwap<Vec<Digest>>,
}

/// Why a file of tokens cannot be used. It repeats nothing of the file.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// It cannot be read.
    #[error("{0}")]
    Read(#[from] io::Error),
    /// It has none, so that nobody could ask for anything.
    #[error("there is no token in it")]
    Empty,
    /// A line cannot be a token.
    #[error("line {0}: a token is made of visible ASCII characters, without blanks")]
    Line(usize),
    /// There is too much in it.
    #[error("it has more than {TOKENS_MAX} tokens, or more than {TOKEN_FILE_BYTES_MAX} bytes")]
    TooLarge,
}

impl Tokens {
    /// Reads a file.
    pub(super) fn load(path: &Path) -> Result<Self, TokensError> {
        Ok(Self {
            path: path.to_owned(),
            digests: ArcSwap::from_pointee(read(path)?),
        })
    }

    /// Reads the file again; what cannot be used changes nothing.
    pub(super) fn reload(&self) -> Result<(), TokensError> {
        self.digests.store(Arc::new(read(&self.path)?));
        Ok(())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is one of them. O(tokens).
    pub(super) fn has(&self, token: &[u8]) -> bool {
        let asked = digest_of(token);
        let found = |found: Choice, known: &Digest| found | known.ct_eq(&asked);
        let digests = self.digests.load();
        digests.iter().fold(Choice::from(0), found).into()
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tokens").field(&self.path).finish()
    }
}

fn digest_of(token: &[u8]) -> Digest {
    let mut bytes = Digest::default();
    bytes.copy_from_slice(digest(&SHA256, token).as_ref());
    bytes
}

fn read(path: &Path) -> Result<Vec<Digest>, TokensError> {
    let mut text = Vec::new();
    let file = File::open(path)?.take(TOKEN_FILE_BYTES_MAX + 1);
    let bytes = { file }.read_to_end(&mut text)?;
    if bytes as u64 > TOKEN_FILE_BYTES_MAX {
        return Err(TokensError::TooLarge);
    }
    parse(&text)
}

fn parse(text: &[u8]) -> Result<Vec<Digest>, TokensError> {
    let mut digests = Vec::new();
    for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let token = line.trim_ascii();
        if token.is_empty() || token.starts_with(b"#") {
            continue;
        }
        if !token.iter().all(u8::is_ascii_graphic) {
            return Err(TokensError::Line(at + 1));
        }
        digests.push(digest_of(token));
    }
    match digests.len() {
        0 => Err(TokensError::Empty),
        1..=TOKENS_MAX => Ok(digests),
        _ => Err(TokensError::TooLarge),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_lines_without_blanks_and_comments() {
        let text =
            b"# the gateway's\n  first-token-0123  \r\n\nsecond-token-012\n#third-token-0123\n";
        let digests = parse(text).unwrap();
        let expected = [b"first-token-0123", b"second-token-012"].map(|token| digest_of(token));
        assert_eq!(digests, expected);
    }

    #[test]
    fn what_is_no_token_is_told_without_repeating_it() {
        for (text, told) in [
            (&b""[..], "no token"),
            (b"# nothing\n", "no token"),
            (b"\n\x01\x02\n", "line 2"),
            (b"two words of a token\n", "line 1"),
            ("ein-schl\u{fc}ssel-wort\n".as_bytes(), "line 1"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(told) && !error.contains("word"), "{error}");
        }
        let many = "0123456789abcdef\n".repeat(TOKENS_MAX + 1);
        assert!(matches!(parse(many.as_bytes()), Err(TokensError::TooLarge)));
    }
}
