//! What a worker is saved as, to go on from there in another process: its blocks, and how far it had come.
use super::groups::Groups;
use kvroute_engine::hash::checksum;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// How far a worker had come when it was saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Number of the first batch of what was applied without a break.
    pub first: u64,
    /// Number of the last one. A replay from here proves that the engine is still in the same life.
    pub last: u64,
    /// Checksum of the last one's bytes.
    pub checksum: u64,
    /// Whether nothing before the first one matters.
    pub whole: bool,
    /// Whether stored events were skipped or dropped.
    pub partial: bool,
    /// What the engine's cache groups mean.
    pub(super) groups: Groups,
    /// Tokens per block, as the last stored event said.
    pub block_size: Option<u32>,
    /// Adapters that events named.
    pub adapters: Vec<Box<str>>,
}

impl Standing {
    /// Whether there are no more cache groups than an engine can have.
    pub(super) fn are_groups_bounded(&self) -> bool {
        self.groups.are_bounded()
    }
}

/// One worker, saved.
#[derive(Debug)]
pub struct Section {
    /// How far it had come.
    pub standing: Standing,
    /// Its blocks: a dump of its writer.
    pub dump: Vec<u8>,
    /// Of the dump.
    pub checksum: u64,
}

/// Takes a worker that was saved; nothing if there is nothing to be saved of it.
pub struct SaveTo(Taker);

enum Taker {
    Section(Box<dyn FnOnce(Option<Section>) + Send>),
    Blocks(Box<dyn FnOnce(Option<Vec<u8>>) + Send>),
}

impl std::fmt::Debug for SaveTo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SaveTo").finish_non_exhaustive()
    }
}

impl SaveTo {
    /// `take` is called on the worker's IO thread, and must not block. Nothing is saved of a worker from which nobody
    /// could go on.
    pub fn new(take: impl FnOnce(Option<Section>) + Send + 'static) -> Self {
        Self(Taker::Section(Box::new(take)))
    }

    /// The same for whoever wants the dump only, of whatever the worker holds.
    pub fn blocks(take: impl FnOnce(Option<Vec<u8>>) + Send + 'static) -> Self {
        Self(Taker::Blocks(Box::new(take)))
    }

    /// Whether it takes a worker of which nobody knows how far it had come.
    #[must_use]
    pub fn takes_blocks(&self) -> bool {
        matches!(self.0, Taker::Blocks(_))
    }

    /// Gives the dump to a taker that wants no more, and nothing to others.
    pub fn give_blocks(self, dump: Option<Vec<u8>>) {
        match self.0 {
            Taker::Section(take) => take(None),
            Taker::Blocks(take) => take(dump),
        }
    }

    pub(super) fn give(self, section: Section) {
        match self.0 {
            Taker::Section(take) => take(Some(section)),
            Taker::Blocks(take) => take(Some(section.dump)),
        }
    }
}

/// A checksum of bytes that come in pieces of any length.
#[derive(Debug, Default)]
pub struct Checksum {
    sum: u64,
    rest: Vec<u8>,
}

/// Bytes that are summed at once.
const PIECE: usize = 64 << 10;

impl Checksum {
    /// Adds bytes. O(bytes).
    pub fn add(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(PIECE - self.rest.len()));
            self.rest.extend_from_slice(now);
            bytes = later;
            if self.rest.len() == PIECE {
                self.sum_up();
            }
        }
    }

    /// The checksum of all bytes.
    #[must_use]
    pub fn finish(mut self) -> u64 {
        self.sum_up();
        self.sum
    }

    fn sum_up(&mut self) {
        self.rest.extend_from_slice(&self.sum.to_le_bytes());
        self.sum = checksum(&self.rest);
        self.rest.clear();
    }
}

/// A saved worker in a file, still to be read.
#[derive(Clone, Debug)]
pub struct Kept {
    /// How far it had come.
    pub standing: Standing,
    /// The file; others may read it too.
    pub file: Arc<File>,
    /// Where its dump begins.
    pub at: u64,
    /// Bytes of the dump.
    pub bytes: u64,
}

impl Kept {
    /// Reads at most so many of the next bytes; none at the end.
    pub(super) fn read(&mut self, into: &mut Vec<u8>, most: usize) -> io::Result<()> {
        let now = most.min(usize::try_from(self.bytes).unwrap_or(usize::MAX));
        let from = into.len();
        into.resize(from + now, 0);
        self.file.read_exact_at(&mut into[from..], self.at)?;
        self.at += now as u64;
        self.bytes -= now as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_does_not_depend_on_the_pieces() {
        let bytes: Vec<u8> = (0..3 * PIECE + 5).map(|n| (n * n / 7) as u8).collect();
        let whole = |pieces: usize| {
            let mut sum = Checksum::default();
            bytes.chunks(pieces).for_each(|piece| sum.add(piece));
            sum.finish()
        };
        assert_eq!(whole(1_000), whole(usize::MAX));
        assert_eq!(whole(PIECE), whole(PIECE + 1));
        let mut other = Checksum::default();
        other.add(&bytes[1..]);
        assert_ne!(other.finish(), whole(1_000));
        assert_ne!(Checksum::default().finish(), 0, "no bytes are not no sum");
    }
}
