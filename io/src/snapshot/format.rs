//! The bytes of a snapshot. Pure.
//!
//! All numbers are little-endian:
//!
//! ```text
//! magic and version   8   "KVROUTE\x01"
//! hash seed           8   of the block keys
//! made at             8   milliseconds since 1970
//! checksum            8   of the 24 bytes before
//! sections: for each worker
//!   1                 1
//!   bytes of about    4
//!   bytes of the dump 8
//!   checksum of it    8
//!   about                 JSON: whose it is, and how far it had come
//!   checksum          8   of all before in this section
//!   the dump              see `kvroute_engine::Dump`
//! 0                   1
//! sections            4
//! checksum            8   of the sections' checksums, one after the other, and their number
//! ```
//!
//! Checksums of bytes are XXH3-64; that of a dump goes over pieces of 64 KiB, each followed by the sum so far, so that
//! it is made while the dump is.
use crate::limits::ABOUT_BYTES_MAX;
use crate::stream::saved::{Section, Standing};
use kvroute_engine::hash::checksum;
use serde::{Deserialize, Serialize};

const MAGIC: [u8; 7] = *b"KVROUTE";

/// Raised whenever an older node could not read what a newer one writes.
const VERSION: u8 = 1;

/// Bytes before the first section.
pub(super) const HEAD_BYTES: usize = 32;

/// Bytes of a section before what it is about.
pub(super) const SECTION_HEAD_BYTES: usize = 21;

/// Bytes of the end.
pub(super) const END_BYTES: usize = 13;

/// Whose section it is, and how far that worker had come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// The pod's name.
    pub pod: String,
    /// The pod's identity, if it was known.
    pub uid: Option<String>,
    /// The rank.
    pub rank: u32,
    /// The model it serves.
    pub model: String,
    /// How far it had come.
    pub standing: Standing,
}

/// Why bytes are not a snapshot that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// It begins otherwise.
    #[error("not a snapshot of kvroute")]
    Foreign,
    /// Another version of the format.
    #[error("format version {0}; this node reads {VERSION}")]
    Version(u8),
    /// Its block keys are computed with another seed. Seeds may be private, so none is named.
    #[error("made with another hash seed than this node's")]
    HashSeed,
    /// A checksum is wrong.
    #[error("the checksum of {0} is wrong")]
    Checksum(String),
    /// It says something that no snapshot says.
    #[error("{0}")]
    Malformed(String),
}

/// A snapshot that is being made. It has the bytes around the dumps, and what the end has to say of them.
#[derive(Debug, Default)]
pub struct Assembly {
    sums: Vec<u64>,
}

impl Assembly {
    /// With the bytes before the first section.
    #[must_use]
    pub fn begin(hash_seed: u64, made_ms: u64) -> (Self, Vec<u8>) {
        let mut bytes = Vec::with_capacity(HEAD_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.push(VERSION);
        bytes.extend_from_slice(&hash_seed.to_le_bytes());
        bytes.extend_from_slice(&made_ms.to_le_bytes());
        bytes.extend_from_slice(&checksum(&bytes).to_le_bytes());
        (Self::default(), bytes)
    }

    /// The bytes of a section before its dump. `None`, and no section, if too much is to be said about it: names are
    /// bounded where they come in, so no worker of a node is.
    #[must_use]
    pub fn section(&mut self, about: &About, section: &Section) -> Option<Vec<u8>> {
        let about = serde_json::to_vec(about).ok()?;
        let length = u32::try_from(about.len()).ok()?;
        if about.len() > ABOUT_BYTES_MAX {
            return None;
        }
        let mut bytes = vec![1];
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&(section.dump.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&section.checksum.to_le_bytes());
        bytes.extend_from_slice(&about);
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        self.sums.push(sum);
        Some(bytes)
    }

    /// Sections so far.
    #[must_use]
    pub fn sections(&self) -> u32 {
        u32::try_from(self.sums.len()).unwrap_or(u32::MAX)
    }

    /// The bytes after the last section.
    #[must_use]
    pub fn end(self) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend_from_slice(&self.sections().to_le_bytes());
        bytes.extend_from_slice(&sum_of_sums(&self.sums).to_le_bytes());
        bytes
    }
}

fn sum_of_sums(sums: &[u64]) -> u64 {
    let mut bytes: Vec<u8> = sums.iter().flat_map(|sum| sum.to_le_bytes()).collect();
    bytes.extend_from_slice(&(sums.len() as u64).to_le_bytes());
    checksum(&bytes)
}

/// Checks the bytes before the first section; when it was made, in milliseconds since 1970.
pub(super) fn read_head(bytes: &[u8; HEAD_BYTES], own_seed: u64) -> Result<u64, FormatError> {
    if bytes[..7] != MAGIC {
        return Err(FormatError::Foreign);
    }
    if bytes[7] != VERSION {
        return Err(FormatError::Version(bytes[7]));
    }
    if number(&bytes[24..]) != checksum(&bytes[..24]) {
        return Err(FormatError::Checksum("the head".to_owned()));
    }
    let found = number(&bytes[8..]);
    if found != own_seed {
        return Err(FormatError::HashSeed);
    }
    Ok(number(&bytes[16..]))
}

/// The lengths that a section begins with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lengths {
    pub(super) about: usize,
    pub(super) dump: u64,
    pub(super) dump_checksum: u64,
}

/// Reads how a section begins, its first byte aside.
pub(super) fn read_lengths(
    bytes: &[u8; SECTION_HEAD_BYTES],
    at: u32,
) -> Result<Lengths, FormatError> {
    let about = number(&bytes[1..]) as u32 as usize;
    if about > ABOUT_BYTES_MAX {
        let what = format!("section {at} says {about} bytes about its worker");
        return Err(FormatError::Malformed(what));
    }
    Ok(Lengths {
        about,
        dump: number(&bytes[5..]),
        dump_checksum: number(&bytes[13..]),
    })
}

/// Reads what a section is about: `bytes` is all of it before the dump. And what the end says of it.
pub(super) fn read_about(bytes: &[u8], at: u32) -> Result<(About, u64), FormatError> {
    let wrong = || FormatError::Checksum(format!("section {at}"));
    let about = bytes.len().checked_sub(8).ok_or_else(wrong)?;
    let sum = number(&bytes[about..]);
    if sum != checksum(&bytes[..about]) {
        return Err(wrong());
    }
    let json = bytes.get(SECTION_HEAD_BYTES..about).ok_or_else(wrong)?;
    let about = serde_json::from_slice(json)
        .map_err(|error| FormatError::Malformed(format!("section {at}: {error}")))?;
    Ok((about, sum))
}

/// Checks the end.
pub(super) fn read_end(bytes: &[u8; END_BYTES], sums: &[u64]) -> Result<(), FormatError> {
    if number(&bytes[1..]) as u32 as usize != sums.len() {
        let what = format!(
            "it says {} sections, and has {}",
            number(&bytes[1..]) as u32,
            sums.len()
        );
        return Err(FormatError::Malformed(what));
    }
    if number(&bytes[5..]) != sum_of_sums(sums) {
        return Err(FormatError::Checksum("all sections".to_owned()));
    }
    Ok(())
}

/// The number that these bytes begin with; missing bytes count as zero.
fn number(bytes: &[u8]) -> u64 {
    let mut eight = [0; 8];
    let given = bytes.len().min(8);
    eight[..given].copy_from_slice(&bytes[..given]);
    u64::from_le_bytes(eight)
}
