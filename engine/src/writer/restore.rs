//! Reading what a worker holds from the bytes of a dump, bit by bit. The format is told in `bytes.rs`.
//!
//! The bytes come from outside. Each record is checked before it is applied, blocks go through the same places
//! and counts as those of events, and nothing is allocated but in proportion to the bytes that are there.
//! What makes no sense ends the restore, and the writer is then cleared.
mod record;

use super::bytes::{self, Reader};
use super::names::{Copies, Place};
use super::place::Cursor;
use super::waiting::{Orphan, Unplaced};
use super::windows::{WindowError, WindowGroup};
use super::{Block, Writer};
use crate::contexts::TooManyContexts;
use crate::index::Participant;
use crate::limits::{CONTEXTS_MAX, WAITING_MAX};
use crate::tree::Pin;
use crate::types::{Context, EngineHash, Tier};
use record::{Failed, Record, Run, Why, key_of, stretch_of, within};

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

/// So many names before one is entered, its place in the table is asked for: a cache miss costs as much as the
/// work on ten.
const AHEAD: usize = 16;

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

    /// Counts names that come; whether there is room for them.
    fn take_in(&mut self, names: usize, writer: &Writer) -> bool {
        self.found += names as u64;
        self.done += names as u64;
        if writer.account.is_over() {
            self.dropped += names as u64;
            return false;
        }
        true
    }

    fn members(
        &mut self,
        group: u8,
        copies: u32,
        names: &[[u8; 8]],
        writer: &mut Writer,
    ) -> Result<(), RestoreError> {
        within("window group", group, 0..=self.groups as u64)?;
        self.done += names.len() as u64;
        let over = writer.account.is_over();
        let groups = writer.windows.as_mut().map(|windows| &mut windows.groups);
        let there = groups.and_then(|groups| groups.get_mut(usize::from(group)));
        let Some(there) = there else {
            let (field, value) = ("window group", group.into());
            return Err(RestoreError::Value { field, value });
        };
        if over {
            self.incomplete = true;
            return Ok(());
        }
        for &name in names {
            let hash = EngineHash(u64::from_le_bytes(name));
            if there.names.contains(hash) {
                return Err(RestoreError::NamedTwice(hash));
            }
            there.names.insert(hash, copies);
        }
        Ok(())
    }

    /// The place of a block of the dump; none if it was dropped.
    fn place(&self, run: u32, offset: impl Into<u32>) -> Result<Option<Place>, RestoreError> {
        let offset = offset.into();
        let Some(restored) = self.runs.get(run as usize) else {
            let (field, value) = ("run", run.into());
            return Err(RestoreError::Value { field, value });
        };
        within("offset", offset, 0..=u64::from(restored.blocks) - 1)?;
        let first = restored.first as usize;
        let pieces = &self.pieces[first..first + usize::from(restored.pieces)];
        let further = pieces.partition_point(|piece| u32::from(piece.from) <= offset);
        let piece = further.checked_sub(1).map(|at| pieces[at]);
        Ok(piece.map(|piece| Place {
            // Within one run.
            offset: piece.place.offset + (offset - u32::from(piece.from)) as u16,
            ..piece.place
        }))
    }

    /// Where a run goes on, and in which of the writer's contexts; nowhere if what comes before was dropped.
    fn before(
        &self,
        run: &Run<'_>,
        writer: &mut Writer,
        pin: &Pin,
    ) -> Result<Option<(Cursor, u32)>, RestoreError> {
        let at = run.head.at;
        if let Some(parent) = run.head.parent.checked_sub(1) {
            let place = self.place(parent, at)?;
            return Ok(place.and_then(|place| {
                let context = writer.context_of(place)?;
                Some((Cursor::After(place), context))
            }));
        }
        let number = self.context(at, writer, pin)?;
        Ok(Some((Cursor::Root, number)))
    }

    /// The writer's number of a context of the dump, in use from now on.
    fn context(&self, at: u32, writer: &mut Writer, pin: &Pin) -> Result<u32, RestoreError> {
        let Some((adapter, block_size)) = self.contexts.get(at as usize) else {
            let (field, value) = ("context", at.into());
            return Err(RestoreError::Value { field, value });
        };
        let context = Context {
            model: &writer.model,
            adapter: Some(adapter),
            block_size: *block_size,
        };
        let number = writer.contexts.number(&writer.index, context, &pin.guard)?;
        Ok(number)
    }

    fn run(&mut self, run: &Run<'_>, writer: &mut Writer, pin: &Pin) -> Result<(), RestoreError> {
        let before = self.before(run, writer, pin)?;
        within("pieces", self.pieces.len() as u64, 0..=u32::MAX.into())?;
        let first = self.pieces.len() as u32;
        self.done += run.keys.len() as u64;
        let room = self.take_in(run.names.len(), writer);
        if room && let Some((cursor, context)) = before {
            self.blocks(run, cursor, context, writer, pin)?;
        } else if room {
            self.dropped += run.names.len() as u64;
        }
        self.runs.push(Restored {
            first,
            pieces: (self.pieces.len() - first as usize) as u16,
            blocks: run.head.blocks,
        });
        Ok(())
    }

    fn blocks(
        &mut self,
        run: &Run<'_>,
        cursor: Cursor,
        context: u32,
        writer: &mut Writer,
        pin: &Pin,
    ) -> Result<(), RestoreError> {
        let touched = writer.clock.wrapping_sub(run.head.age);
        let mut walk = Walk {
            cursor,
            context,
            touched,
            blocks: run.keys.len() as u32,
            next: 0,
        };
        let hash = |name: &[u8; 8]| EngineHash(u64::from_le_bytes(*name));
        run.names
            .iter()
            .take(AHEAD)
            .for_each(|name| writer.names.prefetch(hash(name)));
        let mut ahead = run.names.iter().skip(AHEAD);
        let (mut keys, mut names) = (run.keys.iter(), run.names.iter());
        for &stretch in run.stretches {
            let (skipped, held) = stretch_of(stretch);
            for key in keys.by_ref().take(skipped.into()) {
                walk.go_on(*key, writer, &mut self.pieces, pin)?;
            }
            for (name, key) in names.by_ref().take(held.into()).zip(keys.by_ref()) {
                if let Some(ahead) = ahead.next() {
                    writer.names.prefetch(hash(ahead));
                }
                let place = walk.go_on(*key, writer, &mut self.pieces, pin)?;
                writer.restore_ordinary(hash(name), place, pin)?;
            }
        }
        for key in keys {
            walk.go_on(*key, writer, &mut self.pieces, pin)?;
        }
        Ok(())
    }

    /// A name that is not the ordinary one of its block.
    fn name(
        &mut self,
        hash: EngineHash,
        copies: Copies,
        place: Option<Place>,
        writer: &mut Writer,
        pin: &Pin,
    ) -> Result<(), RestoreError> {
        if !self.take_in(1, writer) {
            return Ok(());
        }
        let Some(place) = place else {
            self.dropped += 1;
            return Ok(());
        };
        if writer.names.find(hash).is_some() {
            return Err(RestoreError::NamedTwice(hash));
        }
        let touched = writer
            .holdings
            .get(place.holding)
            .map(|there| there.touched);
        for tier in Tier::ALL
            .into_iter()
            .filter(|tier| copies[tier.index()] > 0)
        {
            writer.enter_tier(place, tier);
        }
        if let (Some(there), Some(touched)) = (writer.holdings.get_mut(place.holding), touched) {
            there.touched = touched;
        }
        writer.names.insert_copies(hash, copies, Some(place));
        if let Some(windows) = &mut writer.windows {
            windows.placed(hash, place, &mut writer.holdings, pin);
        }
        Ok(())
    }

    fn waiting(
        &mut self,
        hash: EngineHash,
        copies: Copies,
        why: Why,
        writer: &mut Writer,
        pin: &Pin,
    ) -> Result<(), RestoreError> {
        let unplaced = match why {
            Why::NoContent => Unplaced::NoContent,
            Why::Conflict => Unplaced::Conflict,
            Why::Orphan(orphan) => {
                let context = self.context(orphan.context, writer, pin)?;
                Unplaced::Orphan(Orphan { context, ..orphan })
            }
        };
        if !self.take_in(1, writer) {
            return Ok(());
        }
        if writer.names.find(hash).is_some() {
            return Err(RestoreError::NamedTwice(hash));
        }
        if let Unplaced::Orphan(Orphan {
            parent, context, ..
        }) = unplaced
            && matches!(writer.cursor_after(parent, context), Cursor::After(_))
        {
            return Err(RestoreError::NoOrphan(hash));
        }
        if unplaced != Unplaced::Conflict {
            // As events do: names that turn out to have two contents wait beyond the bound.
            self.waiting += 1;
            within("waiting names", self.waiting as u64, 0..=WAITING_MAX as u64)?;
        }
        writer.names.insert_copies(hash, copies, None);
        writer.waiting.insert(hash, unplaced);
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

/// The way along a run of a dump.
#[derive(Debug)]
struct Walk {
    cursor: Cursor,
    context: u32,
    /// When the worker last stored something there.
    touched: u32,
    /// Of the run.
    blocks: u32,
    /// The next one.
    next: u32,
}

impl Walk {
    /// Goes on to the block with this key; where it stands.
    #[inline]
    fn go_on(
        &mut self,
        key: [u8; 8],
        writer: &mut Writer,
        pieces: &mut Vec<Piece>,
        pin: &Pin,
    ) -> Result<Place, RestoreError> {
        let key = key_of(u64::from_le_bytes(key))?;
        let block = Block {
            hash: EngineHash(0),
            key,
            context: self.context,
            says_extra: true,
            tier: Tier::Gpu,
            following: self.blocks - self.next,
        };
        let place = writer.descend(self.cursor, &block, key, pin);
        let same = matches!(self.cursor, Cursor::After(before) if before.holding == place.holding);
        if self.next == 0 || !same {
            let from = self.next as u16;
            pieces.push(Piece { from, place });
            writer.restore_touched(place.holding, self.touched);
        }
        self.cursor = Cursor::After(place);
        self.next += 1;
        Ok(place)
    }
}

impl Writer {
    /// The worker last stored something in a run then, or later.
    fn restore_touched(&mut self, at: u32, touched: u32) {
        let clock = self.clock;
        if let Some(holding) = self.holdings.get_mut(at) {
            let age = clock.wrapping_sub(touched);
            // One that holds nothing yet has no time of its own.
            if holding.is_empty() || age < clock.wrapping_sub(holding.touched) {
                holding.touched = touched;
            }
        }
    }

    /// A block with one name of one copy on the GPU.
    #[inline]
    fn restore_ordinary(
        &mut self,
        hash: EngineHash,
        place: Place,
        pin: &Pin,
    ) -> Result<(), RestoreError> {
        if self.names.find(hash).is_some() {
            return Err(RestoreError::NamedTwice(hash));
        }
        let offset = u32::from(place.offset);
        let holding = self.holdings.change(place.holding);
        let Some(holding) = holding.filter(|there| !there.contains(offset)) else {
            return Err(RestoreError::HeldTwice(hash));
        };
        holding.add(offset);
        self.names.insert(hash, Tier::Gpu, Some(place));
        if let Some(windows) = &mut self.windows {
            windows.placed(hash, place, &mut self.holdings, pin);
        }
        Ok(())
    }
}
