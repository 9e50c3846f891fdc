//! From the bytes of one message to events that borrow them. Pure: no socket, no clock, no log.
//!
//! # What is read
//!
//! A payload is one MessagePack value, a *batch*: a time, a list of events, the data-parallel rank.
//! A fleet under upgrade sends several dialects at once, and the bytes themselves say which:
//!
//! - A batch is an array `[ts, events, data_parallel_rank]`, of which vLLM 0.9.0 has only the first
//!   two elements, or a map with these names as keys in any order. Further elements and keys are walked over.
//! - An event is an array, tag first, its fields by position (vLLM up to 0.23), or a map, tag under
//!   `type`, its fields by name in any order (vLLM from 0.24). Fields that a version does not
//!   have yet are absent, fields that it has beyond ours are walked over.
//! - A block hash is an integer of any width and sign, or a byte string of any length but zero.
//! - Nil stands for an empty list and for an absent optional value.
//! - Of two equal keys in one map the last counts, except that of two `type`s the first does.
//!
//! # What can be wrong
//!
//! There are two kinds of wrong, and they never mix:
//!
//! - A *value* is wrong: an unknown tag, a text where a number should be, a missing field. Where the
//!   next event begins is still known, so this event alone is skipped, with its [`SkipReason`], and
//!   the rest of the batch is read. The event is then walked over from its beginning by the
//!   generic walk, so what is sound is decided in one place, whatever the typed reader had seen.
//! - The *bytes* are wrong: they end inside a value, a length is more than the bytes left could hold,
//!   a marker is reserved, values nest too deep. What follows cannot be found: a [`BatchError`],
//!   with the offset. Events before it were handed out already, for to read a batch
//!   twice to know beforehand would cost every good batch as much as decoding does; a caller
//!   has to treat such a batch as one that was lost in part.
//!
//! # Bounds
//!
//! Decoding reads each byte at most four times: in the search for a late `type`, by the typed
//! reader, once more for extra keys, and by the generic walk if the event is skipped (a map-shaped
//! batch: once more to find its parts). It never recurses, and it allocates only to grow the caller's [`Scratch`].
//! A length is checked against the bytes left before it is believed (an element has at least one byte),
//! so the scratch holds at most 8 bytes per byte of the largest payload in each of its lists.
//! The depth of nesting is counted from the payload's own value, up to [`NESTING_MAX`].
//!
//! # Parts
//!
//! `value` reads heads of values from a cursor and walks over what nobody wants; `event` has
//! the table of fields; `extra` hashes extra keys in place; this file has the batch around them. [`parts`] shows how a
//! payload is written, to tools.
mod event;
mod extra;
pub mod parts;
mod value;

pub use event::{Event, Removed, Stored};
pub use value::{BatchError, BatchErrorKind};

use crate::limits::NESTING_MAX;
use crate::status::{Shape, SkipReason};
use kvroute_engine::hash::ExtraDigest;
use kvroute_engine::types::EngineHash;
use value::{Cursor, Head};

/// Containers that may lie inside each other in a value inside the batch, …
const BATCH_LEVELS: u32 = NESTING_MAX - 1;
/// … in an event, counting the event itself, …
const EVENT_LEVELS: u32 = NESTING_MAX - 2;
/// … and in a value inside an event.
const FIELD_LEVELS: u32 = NESTING_MAX - 3;

/// The lists of the event that was read last. Keep one per thread and pass it to every
/// [`Batch::next`]: once it has grown to the largest event, decoding does not allocate.
#[derive(Debug, Default)]
pub struct Scratch {
    hashes: Vec<EngineHash>,
    tokens: Vec<u32>,
    extra: Vec<ExtraDigest>,
}

impl Scratch {
    /// Bytes that it holds on the heap.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.hashes.capacity() * size_of::<EngineHash>()
            + self.tokens.capacity() * size_of::<u32>()
            + self.extra.capacity() * size_of::<ExtraDigest>()
    }

    fn clear(&mut self) {
        self.hashes.clear();
        self.tokens.clear();
        self.extra.clear();
    }
}

/// One step through a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'s> {
    /// The next event.
    Event(Event<'s>),
    /// The next event was not understood and has been walked over.
    Skipped(SkipReason),
}

/// A batch that is being read.
#[derive(Clone, Debug)]
pub struct Batch<'a> {
    timestamp: f64,
    /// At the next event; at the tail when none is left.
    cursor: Cursor<'a>,
    events: u32,
    tail: Tail,
    rank: Option<i64>,
    skipped_store: bool,
    shape: Shape,
}

/// Whether a payload's first event clears everything: nothing before it matters then. `false` if it
/// cannot be read. O(bytes before the first event).
#[must_use]
pub fn starts_with_clear(payload: &[u8]) -> bool {
    Batch::open(payload).is_ok_and(|batch| batch.events > 0 && event::is_clear(batch.cursor))
}

/// What comes after the events.
#[derive(Clone, Copy, Debug)]
enum Tail {
    /// So many elements of the batch's array, then the end of the payload.
    Elements(u32),
    /// Nothing that has not been read.
    Read,
}

impl<'a> Batch<'a> {
    /// Reads what comes before the events. O(1) for an array, O(bytes) for a map, whose
    /// keys may come in any order.
    ///
    /// # Errors
    /// The payload is no batch, or its bytes are broken as far as they were read.
    pub fn open(payload: &'a [u8]) -> Result<Self, BatchError> {
        let start = Cursor::new(payload);
        let mut cursor = start;
        match cursor.try_head()? {
            Head::Array(len) => Self::open_array(len, cursor),
            Head::Map(len) => Self::open_map(len, cursor),
            _ => Err(start.error(BatchErrorKind::Shape)),
        }
    }

    fn open_array(len: u32, mut cursor: Cursor<'a>) -> Result<Self, BatchError> {
        let missing = |name| cursor.error(BatchErrorKind::Missing(name));
        let Some(after_time) = len.checked_sub(1) else {
            return Err(missing("ts"));
        };
        let Some(after_events) = after_time.checked_sub(1) else {
            return Err(missing("events"));
        };
        let timestamp = read_timestamp(&mut cursor)?;
        let events = read_events(&mut cursor)?;
        Ok(Self {
            timestamp,
            cursor,
            events,
            tail: Tail::Elements(after_events),
            rank: None,
            skipped_store: false,
            shape: Shape::Array,
        })
    }

    fn open_map(pairs: u32, mut cursor: Cursor<'a>) -> Result<Self, BatchError> {
        let start = cursor;
        let (mut timestamp, mut list, mut rank) = (None, None, None);
        for _ in 0..pairs {
            match cursor.key(BATCH_LEVELS)? {
                Some(b"ts") => timestamp = Some(read_timestamp(&mut cursor)?),
                Some(b"events") => {
                    list = Some(cursor);
                    cursor.skip(BATCH_LEVELS)?;
                }
                Some(b"data_parallel_rank") => rank = read_rank(&mut cursor)?,
                _ => cursor.skip(BATCH_LEVELS)?,
            }
        }
        check_end(cursor)?;
        let missing = |name| start.error(BatchErrorKind::Missing(name));
        let mut list = list.ok_or_else(|| missing("events"))?;
        Ok(Self {
            timestamp: timestamp.ok_or_else(|| missing("ts"))?,
            events: read_events(&mut list)?,
            cursor: list,
            tail: Tail::Read,
            rank,
            skipped_store: false,
            shape: Shape::Array,
        })
    }

    /// When the engine published the batch: seconds since 1970 by its clock, as it says; any number.
    #[must_use]
    pub const fn timestamp(&self) -> f64 {
        self.timestamp
    }

    /// The data-parallel rank that the batch names. Known after [`Batch::next`] has returned `None`;
    /// a batch need not name one.
    #[must_use]
    pub const fn rank(&self) -> Option<i64> {
        self.rank
    }

    /// Whether the event that was skipped last is a store: then no removal was lost with it.
    #[must_use]
    pub const fn skipped_a_store(&self) -> bool {
        self.skipped_store
    }

    /// How the event that was read last is written.
    #[must_use]
    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// Reads the next event, whose lists lie in `scratch`. `None` after the last one, when all the
    /// rest of the payload has been read too. O(bytes of the event).
    ///
    /// # Errors
    /// The bytes are broken. The batch stays where it is: every further call gives the same error.
    pub fn next<'s>(&mut self, scratch: &'s mut Scratch) -> Result<Option<Step<'s>>, BatchError>
    where
        'a: 's,
    {
        let Some(events) = self.events.checked_sub(1) else {
            self.finish()?;
            return Ok(None);
        };
        let mut cursor = self.cursor;
        self.shape = cursor.shape();
        let step = match event::read(&mut cursor, scratch) {
            Ok(event) => Step::Event(event),
            Err(reason) => {
                cursor = self.cursor;
                cursor.skip(EVENT_LEVELS)?;
                self.skipped_store = event::is_store(self.cursor);
                Step::Skipped(reason)
            }
        };
        self.cursor = cursor;
        self.events = events;
        Ok(Some(step))
    }

    fn finish(&mut self) -> Result<(), BatchError> {
        let Tail::Elements(elements) = self.tail else {
            return Ok(());
        };
        let mut cursor = self.cursor;
        let mut rank = None;
        for index in 0..elements {
            match index {
                0 => rank = read_rank(&mut cursor)?,
                _ => cursor.skip(BATCH_LEVELS)?,
            }
        }
        check_end(cursor)?;
        self.rank = rank;
        self.tail = Tail::Read;
        Ok(())
    }
}

fn read_timestamp(cursor: &mut Cursor<'_>) -> Result<f64, BatchError> {
    let start = *cursor;
    match cursor.try_head()? {
        Head::Float(time) => Ok(time),
        Head::Unsigned(time) => Ok(time as f64),
        Head::Signed(time) => Ok(time as f64),
        _ => Err(start.error(BatchErrorKind::Field("ts"))),
    }
}

fn read_events(cursor: &mut Cursor<'_>) -> Result<u32, BatchError> {
    let start = *cursor;
    match cursor.try_head()? {
        Head::Array(len) => Ok(len),
        Head::Nil => Ok(0),
        _ => Err(start.error(BatchErrorKind::Field("events"))),
    }
}

fn read_rank(cursor: &mut Cursor<'_>) -> Result<Option<i64>, BatchError> {
    let start = *cursor;
    let wrong = start.error(BatchErrorKind::Field("data_parallel_rank"));
    match cursor.try_head()? {
        Head::Nil => Ok(None),
        head => Ok(Some(head.integer().ok_or(wrong)?)),
    }
}

fn check_end(cursor: Cursor<'_>) -> Result<(), BatchError> {
    match cursor.is_at_end() {
        true => Ok(()),
        false => Err(cursor.error(BatchErrorKind::Trailing)),
    }
}
