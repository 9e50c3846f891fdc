//! Reading what a worker holds from the bytes of a dump, bit by bit. The format is told in `bytes.rs`.
//!
//! The bytes come from outside. Each record is checked before it is applied, blocks go through the same places
//! and counts as those of events, and nothing is allocated but in proportion to the bytes that are there.
//! What makes no sense ends the restore, and the writer is then cleared.
mod apply;
mod read;
mod record;

use super::Writer;
use super::bytes::{self, Reader};
use super::names::Place;
use super::windows::{WindowError, WindowGroup};
use crate::contexts::TooManyContexts;
use crate::index::Participant;
use crate::limits::{CONTEXTS_MAX, WAITING_MAX};
use crate::tree::Pin;
use crate::types::EngineHash;
pub use read::{Dumped, DumpedName, DumpedParent, DumpedRun};
use record::{Failed, Record, within};

/// Why a dump cannot be restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// The writer holds something, or knows of window groups.
    #[error("the worker is not empty")]
    NotEmpty,
    /// Something else was done with the writer since the restore began, it is another writer, or the
    /// restore has failed already.
    #[error("the worker was changed while it was restored, or the restore has failed")]
    Changed,
    /// It is no dump, or of a version that is not known.
    #[error("no dump of a version that is known: it begins with {0:?}")]
    Version([u8; 4]),
    /// The keys were made with another seed.
    #[error("the dump has hash seed {dump}, the index {index}")]
    Seed {
        /// The dump's.
        dump: u64,
        /// The index's.
        index: u64,
    },
    /// No record begins with such a byte.
    #[error("no record begins with byte {0}")]
    Record(u8),
    /// A record stands after one that must come after it.
    #[error("a record of kind {0} comes too late")]
    Order(u8),
    /// A number is out of its bounds.
    #[error("{field} cannot be {value}")]
    Value {
        /// What the number is.
        field: &'static str,
        /// The number.
        value: u64,
    },
    /// An adapter's name is not UTF-8.
    #[error("an adapter's name is not UTF-8")]
    Adapter,
    /// A name comes twice.
    #[error("the name {:#x} comes twice", .0.0)]
    NamedTwice(EngineHash),
    /// A block comes twice.
    #[error("the block named {:#x} was held already", .0.0)]
    HeldTwice(EngineHash),
    /// An orphan's parent is there.
    #[error("the block named {:#x} waits for a parent that is there", .0.0)]
    NoOrphan(EngineHash),
    /// The dump says another number of names than it has.
    #[error("{said} names were said, {found} came")]
    Names {
        /// At its beginning.
        said: u64,
        /// How many it has.
        found: u64,
    },
    /// The bytes end before the dump does.
    #[error("the dump ends too early")]
    Truncated,
    /// A window group that cannot be taken in.
    #[error(transparent)]
    Window(#[from] WindowError),
    /// No room for a context.
    #[error(transparent)]
    TooManyContexts(#[from] TooManyContexts),
}

/// What a restore did, in names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RestoreReport {
    /// Names with a place.
    pub stored: u64,
    /// Names that wait for their parent or their content.
    pub waiting: u64,
    /// Names dropped because the index or the model is over its byte budget.
    pub dropped: u64,
}

/// For so many bytes given, room for a name is made beforehand: at most five times the bytes.
const BYTES_RESERVED: usize = 4;

/// Names for which room is made beforehand at most, since that is done in one go: about 1 ms.
const RESERVED_MAX: usize = 1 << 17;

/// Blocks and names after which the account is settled, so that the budget is noticed.
const SETTLED: u64 = 1_024;

/// Where a dump's run stands: its pieces.
#[derive(Clone, Copy, Debug)]
struct Restored {
    first: u32,
    /// None: it was dropped.
    pieces: u16,
    blocks: u16,
}

/// Blocks of a dump's run that stand in one run of the index, one after the other.
#[derive(Clone, Copy, Debug)]
struct Piece {
    /// The first one, in the dump's run.
    from: u16,
    /// Where that is.
    place: Place,
}

/// A worker's contents on their way out of bytes: made by [`Writer::restore`].
#[derive(Debug)]
pub struct Restore {
    /// The writer as this restore has left it; `None` when the restore has failed.
    of: Option<(usize, usize, u64)>,
    /// The kind of the last record; `None` before the header.
    stage: Option<u8>,
    /// Whether the dump says that the worker may have held more.
    incomplete: bool,
    /// Names that the dump says it has, and that came.
    said: u64,
    found: u64,
    dropped: u64,
    /// Names that wait, conflicts aside.
    waiting: usize,
    /// Adapter and block size.
    contexts: Vec<(Box<str>, u32)>,
    groups: usize,
    runs: Vec<Restored>,
    pieces: Vec<Piece>,
    /// Blocks and names so far, and when the account was settled.
    done: u64,
    settled: u64,
    /// Pieces that were looked at once all had come.
    tidied: usize,
}

impl Writer {
    /// Begins to restore a dump. The worker must hold nothing and know of no window groups: see
    /// [`Writer::clear`] and [`Writer::forget_windows`]. Until it is finished, nothing else may be stored,
    /// removed or cleared; the worker says [`Writer::incomplete`], and lookups see what is restored so far.
    pub fn restore(&mut self) -> Result<Restore, RestoreError> {
        let empty = self.names.len() == 0 && self.holdings.len() == 0 && self.waiting.len() == 0;
        if !empty || self.windows.is_some() {
            return Err(RestoreError::NotEmpty);
        }
        self.changes += 1;
        self.incomplete = true;
        Ok(Restore {
            of: Some(self.version()),
            stage: None,
            incomplete: true,
            said: 0,
            found: 0,
            dropped: 0,
            waiting: 0,
            contexts: Vec::new(),
            groups: 0,
            runs: Vec::new(),
            pieces: Vec::new(),
            done: 0,
            settled: 0,
            tidied: 0,
        })
    }
}

impl Restore {
    /// Applies records that are whole, of about `blocks` blocks in all and at least one; how many bytes they take.
    /// The rest is to be given again with what follows; zero means that more bytes are needed, and no record is
    /// longer than [`super::DUMP_RECORD_MAX`]. After the end of the dump nothing is taken any more. The more
    /// bytes there are in the first call, the more room is made beforehand: from 256 KiB on, that speeds up
    /// all of it. O(blocks).
    ///
    /// That the bytes are the ones that were written is the caller's to check, before: they may say anything that a
    /// worker may hold. After an error the worker holds nothing, unless that is [`RestoreError::Changed`].
    ///
    /// # Panics
    /// If `at` belongs to another index.
    pub fn feed(
        &mut self,
        writer: &mut Writer,
        at: &Participant,
        bytes: &[u8],
        blocks: usize,
    ) -> Result<usize, RestoreError> {
        self.check(writer)?;
        let pin = writer.begin(at);
        let result = self.feed_some(writer, bytes, blocks, &pin);
        writer.end(&pin);
        drop(pin);
        self.conclude(writer, at, result)
    }

    /// Whether the end of the dump has come.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.stage == Some(bytes::END)
    }

    /// To be called when all bytes were given, until it says what was restored: then the worker is as the dumped one
    /// was. Each call looks at `runs` runs at most. O(runs), and O(names) in the last call if there are
    /// members of window groups without a place. Errors are as in [`Restore::feed`].
    ///
    /// # Panics
    /// If `at` belongs to another index.
    pub fn finish(
        &mut self,
        writer: &mut Writer,
        at: &Participant,
        runs: usize,
    ) -> Result<Option<RestoreReport>, RestoreError> {
        self.check(writer)?;
        let pin = writer.begin(at);
        let result = self.tidy(writer, runs, &pin);
        writer.end(&pin);
        drop(pin);
        self.conclude(writer, at, result)
    }

    fn check(&self, writer: &Writer) -> Result<(), RestoreError> {
        if self.of == Some(writer.version()) {
            return Ok(());
        }
        Err(RestoreError::Changed)
    }

    /// Clears the writer if something failed.
    fn conclude<T>(
        &mut self,
        writer: &mut Writer,
        at: &Participant,
        result: Result<T, RestoreError>,
    ) -> Result<T, RestoreError> {
        self.of = result.is_ok().then(|| writer.version());
        if result.is_err() {
            writer.clear(at);
            writer.forget_windows();
        }
        result
    }

    fn feed_some(
        &mut self,
        writer: &mut Writer,
        bytes: &[u8],
        blocks: usize,
        pin: &Pin,
    ) -> Result<usize, RestoreError> {
        let mut reader = Reader { bytes };
        let begun = self.done;
        while !self.has_ended() && (self.done - begun < blocks.max(1) as u64) {
            let before = reader;
            let step = match self.stage {
                None => self.header(&mut reader, writer),
                Some(_) => self.record(&mut reader, writer, pin),
            };
            match step {
                Ok(()) => {}
                Err(Failed::Short) => {
                    reader = before;
                    break;
                }
                Err(Failed::Wrong(wrong)) => return Err(wrong),
            }
            if self.done - self.settled >= SETTLED {
                self.settled = self.done;
                writer.end(pin);
            }
        }
        Ok(bytes.len() - reader.bytes.len())
    }

    fn header(&mut self, reader: &mut Reader<'_>, writer: &mut Writer) -> Result<(), Failed> {
        let given = reader.bytes.len();
        let header = record::header(reader)?;
        let index = writer.index.hash_seed();
        if header.seed != index {
            let dump = header.seed;
            return Err(RestoreError::Seed { dump, index }.into());
        }
        self.stage = Some(0);
        self.done += 1;
        self.incomplete = header.incomplete;
        self.said = header.names;
        let names = usize::try_from(header.names).unwrap_or(usize::MAX);
        let room = usize::try_from(writer.account.room()).unwrap_or(usize::MAX);
        let most = given.min(room) / BYTES_RESERVED;
        writer.names.reserve(names.min(most).min(RESERVED_MAX));
        Ok(())
    }

    fn record(
        &mut self,
        reader: &mut Reader<'_>,
        writer: &mut Writer,
        pin: &Pin,
    ) -> Result<(), Failed> {
        let (kind, record) = record::next(reader)?;
        // Names and waiting names are mixed.
        let stage = if kind == bytes::WAITING {
            bytes::NAME
        } else {
            kind
        };
        if self.stage > Some(stage) {
            return Err(RestoreError::Order(kind).into());
        }
        self.stage = Some(stage);
        self.done += 1;
        match record {
            Record::Context {
                block_size,
                adapter,
            } => {
                within(
                    "contexts",
                    self.contexts.len() as u64,
                    0..=CONTEXTS_MAX as u64 - 1,
                )?;
                self.contexts.push((adapter.into(), block_size));
            }
            Record::Group { number, blocks } => {
                let group = WindowGroup { number, blocks };
                let at = writer
                    .window_group(group, pin)
                    .map_err(RestoreError::from)?;
                within("window group", at as u64, self.groups as u64..=u64::MAX)?;
                self.groups += 1;
            }
            Record::Members {
                group,
                copies,
                names,
            } => self.members(group, copies, names, writer)?,
            Record::Run(run) => self.run(&run, writer, pin)?,
            Record::Name {
                run,
                offset,
                hash,
                copies,
            } => {
                let place = self.place(run, offset)?;
                self.name(hash, copies, place, writer, pin)?;
            }
            Record::Waiting { hash, copies, why } => {
                self.waiting(hash, copies, why, writer, pin)?;
            }
            Record::End => {}
        }
        Ok(())
    }

    /// Leaves the runs that were only passed through.
    fn tidy(
        &mut self,
        writer: &mut Writer,
        runs: usize,
        pin: &Pin,
    ) -> Result<Option<RestoreReport>, RestoreError> {
        if !self.has_ended() {
            return Err(RestoreError::Truncated);
        }
        if self.said != self.found {
            let (said, found) = (self.said, self.found);
            return Err(RestoreError::Names { said, found });
        }
        let to = self
            .tidied
            .saturating_add(runs.max(1))
            .min(self.pieces.len());
        for piece in &self.pieces[self.tidied..to] {
            writer.leave_if_empty(piece.place.holding, pin);
        }
        self.tidied = to;
        if to < self.pieces.len() {
            return Ok(None);
        }
        let most = writer.names.placed() + WAITING_MAX;
        if let Some(windows) = &mut writer.windows
            && windows.groups.iter().any(|group| group.names.len() > most)
        {
            windows.forget_unplaced(&writer.names);
            self.incomplete = true;
        }
        writer.incomplete = self.incomplete || self.dropped > 0;
        Ok(Some(RestoreReport {
            stored: writer.blocks(),
            waiting: writer.waiting() as u64,
            dropped: self.dropped,
        }))
    }
}
