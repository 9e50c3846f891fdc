//! A worker into bytes and out of a file, slice by slice on its IO thread.
use super::follow::Follower;
use super::saved::{Checksum, Kept, SaveTo, Section, Standing};
use super::sequence::Payload;
use crate::limits::{
    BLOCKS_PER_LOAD, BLOCKS_PER_SLICE, DUMP_TIME_SHORT, LOAD_BYTES, RUNS_PER_SLICE,
};
use crate::quiet::Throttle;
use kvroute_engine::{DUMP_RECORD_MAX, Dump, Participant, Restore, RestoreError, Writer};
use std::io;
use std::time::Instant;

static NOT_SAVED: Throttle = Throttle::new();

/// A worker that is being saved.
#[derive(Debug)]
pub(super) struct Dumping {
    dump: Dump,
    /// None: only its blocks are wanted.
    standing: Option<Standing>,
    bytes: Vec<u8>,
    checksum: Checksum,
    to: SaveTo,
    begun: Instant,
}

impl Dumping {
    pub(super) fn new(writer: &Writer, standing: Option<Standing>, to: SaveTo) -> Self {
        Self {
            dump: writer.dump(),
            standing,
            bytes: Vec::new(),
            checksum: Checksum::default(),
            to,
            begun: Instant::now(),
        }
    }

    /// Whether events have waited for it so long that answers should say so.
    pub(super) fn is_long(&self) -> bool {
        self.begun.elapsed() > DUMP_TIME_SHORT
    }

    /// Dumps a slice; `None` when it is saved, or cannot be.
    pub(super) fn dump_some(mut self, writer: &Writer) -> Option<Self> {
        let from = self.bytes.len();
        match self
            .dump
            .write_some(writer, &mut self.bytes, BLOCKS_PER_SLICE)
        {
            Ok(done) => {
                self.checksum.add(&self.bytes[from..]);
                if !done {
                    return Some(self);
                }
                match self.standing {
                    Some(standing) => self.to.give(Section {
                        standing,
                        dump: self.bytes,
                        checksum: self.checksum.finish(),
                    }),
                    None => self.to.give_blocks(Some(self.bytes)),
                }
            }
            Err(error) => {
                if let Some(more) = NOT_SAVED.pass() {
                    tracing::warn!(%error, more, "a worker cannot be saved");
                }
                self.to.give_blocks(None);
            }
        }
        None
    }
}

/// Why a saved worker is not loaded.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error("reading it: {0}")]
    Read(#[from] io::Error),
    #[error(transparent)]
    Restore(#[from] RestoreError),
    #[error("bytes after its end")]
    Rest,
    #[error("more cache groups than an engine can have")]
    Groups,
}

/// A worker that is being loaded.
#[derive(Debug)]
pub(super) struct Loading {
    kept: Kept,
    restore: Option<Restore>,
    /// Read, and how much of it is taken.
    bytes: Vec<u8>,
    taken: usize,
}

impl Loading {
    pub(super) fn new(kept: Kept) -> Self {
        Self {
            kept,
            restore: None,
            bytes: Vec::new(),
            taken: 0,
        }
    }

    /// Loads a slice; whether that was all. After an error the worker holds nothing.
    pub(super) fn load_some<P: Payload + AsRef<[u8]>>(
        &mut self,
        at: &Participant,
        follower: &mut Follower<P>,
    ) -> Result<bool, LoadError> {
        let result = self.try_some(at, follower);
        if result.is_err() {
            follower.writer_mut().clear(at);
            follower.writer_mut().forget_windows();
        }
        result
    }

    fn try_some<P: Payload + AsRef<[u8]>>(
        &mut self,
        at: &Participant,
        follower: &mut Follower<P>,
    ) -> Result<bool, LoadError> {
        let writer = follower.writer_mut();
        let restore = match &mut self.restore {
            Some(restore) => restore,
            None if !self.kept.standing.are_groups_bounded() => return Err(LoadError::Groups),
            None => self.restore.insert(writer.restore()?),
        };
        if !restore.has_ended() {
            if self.bytes.len() - self.taken < DUMP_RECORD_MAX {
                self.bytes.drain(..self.taken);
                self.taken = 0;
                self.kept.read(&mut self.bytes, LOAD_BYTES)?;
            }
            let given = &self.bytes[self.taken..];
            let taken = restore.feed(writer, at, given, BLOCKS_PER_LOAD)?;
            self.taken += taken;
            if taken > 0 {
                return Ok(false);
            }
        }
        if self.kept.bytes > 0 || self.bytes.len() > self.taken {
            return Err(LoadError::Rest);
        }
        // That the end is missing is told here too.
        if restore.finish(writer, at, RUNS_PER_SLICE)?.is_none() {
            return Ok(false);
        }
        follower.resume(self.kept.standing.clone());
        Ok(true)
    }
}
