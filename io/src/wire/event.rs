//! One event: its tag, and the one table of fields that reads both shapes.
//!
//! An array event has its fields by position, in the order of [`STORED`] and [`REMOVED`]; a map
//! event has the same fields by name, in any order. Both drive [`Draft::field`], one field at a
//! time. What a version does not know is absent: a shorter array, a map without the key.
use super::value::{Cursor, Head, fold_hash};
use super::{FIELD_LEVELS, Scratch, extra};
use crate::status::SkipReason;
use kvroute_engine::hash::ExtraDigest;
use kvroute_engine::types::EngineHash;

/// What an engine says happened to its cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'s> {
    /// Blocks were stored.
    Stored(Stored<'s>),
    /// Copies of blocks were evicted.
    Removed(Removed<'s>),
    /// All blocks of the sender are gone, in every medium and group.
    Cleared,
}

/// Blocks that were stored, a chain in order. What the wire says and no more: whether tokens, hashes
/// and extra keys fit each other in number is not checked, because it depends on the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored<'s> {
    /// The engine's names of the blocks, in order of the chain.
    pub hashes: &'s [EngineHash],
    /// The block before the first; `None` at the start of a sequence.
    pub parent: Option<EngineHash>,
    /// The token ids of the whole span. Empty: content unknown (offload placeholders).
    pub tokens: &'s [u32],
    /// Tokens per block; 0 only where `tokens` is empty.
    pub block_size: u32,
    /// The adapter's number: the only word about an adapter before vLLM 0.14.
    pub lora_id: Option<i64>,
    /// The adapter's name (vLLM >= 0.14).
    pub lora_name: Option<&'s str>,
    /// Where the blocks lie: "GPU", "CPU", "STORAGE", … (vLLM >= 0.10.2).
    pub medium: Option<&'s str>,
    /// One digest per entry of `extra_keys`, without the adapter's name; empty if all are none.
    pub extra: &'s [ExtraDigest],
    /// Whether the event's shape can state extra keys (vLLM >= 0.17). If not, blocks of salted and
    /// multimodal prompts look like plain ones.
    pub says_extra: bool,
    /// The cache group's index (vLLM >= 0.20).
    pub group: Option<u32>,
    /// The cache group's kind: "full_attention", "sliding_window", … (vLLM >= 0.22).
    pub kind: Option<&'s str>,
    /// The sliding window in tokens (vLLM >= 0.22).
    pub window: Option<u32>,
}

/// One copy each of blocks that was evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removed<'s> {
    /// The engine's names of the blocks. There may be any number.
    pub hashes: &'s [EngineHash],
    /// The medium that lost the copies (vLLM >= 0.10.2).
    pub medium: Option<&'s str>,
    /// The cache group's index (vLLM >= 0.20).
    pub group: Option<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Tag {
    Stored,
    Removed,
    Cleared,
}

impl Tag {
    fn of(text: &[u8]) -> Result<Self, SkipReason> {
        match text {
            b"BlockStored" => Ok(Self::Stored),
            b"BlockRemoved" => Ok(Self::Removed),
            b"AllBlocksCleared" => Ok(Self::Cleared),
            _ => Err(SkipReason::UnknownTag),
        }
    }

    /// The fields of the event, in the order in which an array has them.
    const fn fields(self) -> &'static [Field] {
        match self {
            Self::Stored => &STORED,
            Self::Removed => &REMOVED,
            Self::Cleared => &[],
        }
    }

    /// Reads a map's key: the field that it names, if it is one of ours.
    ///
    /// `expected` is the index after the field found last. It is tried first, because engines send
    /// the fields in the order of the table and leave some out.
    #[inline]
    fn read_key(
        self,
        cursor: &mut Cursor<'_>,
        expected: &mut usize,
    ) -> Result<Option<Field>, SkipReason> {
        let fields = self.fields();
        let index = match fields.get(*expected) {
            Some(field) if cursor.eat_text(field.name()) => Some(*expected),
            _ => key(cursor)?.and_then(|name| {
                let mut names = fields.iter().map(|field| field.name().as_bytes());
                names.position(|known| known == name)
            }),
        };
        *expected = index.map_or(*expected, |index| index + 1);
        Ok(index.and_then(|index| fields.get(index).copied()))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    BlockHashes,
    ParentBlockHash,
    TokenIds,
    BlockSize,
    LoraId,
    Medium,
    LoraName,
    ExtraKeys,
    GroupIdx,
    SpecKind,
    SlidingWindow,
}

const STORED: [Field; 11] = [
    Field::BlockHashes,
    Field::ParentBlockHash,
    Field::TokenIds,
    Field::BlockSize,
    Field::LoraId,
    Field::Medium,
    Field::LoraName,
    Field::ExtraKeys,
    Field::GroupIdx,
    Field::SpecKind,
    Field::SlidingWindow,
];

const REMOVED: [Field; 3] = [Field::BlockHashes, Field::Medium, Field::GroupIdx];

/// Elements of an array event that has extra keys: the tag and the fields up to `ExtraKeys`.
const SAYS_EXTRA: u32 = 9;
const _: () = assert!(matches!(STORED[SAYS_EXTRA as usize - 2], Field::ExtraKeys));

impl Field {
    const fn bit(self) -> u32 {
        1 << self as u32
    }

    const fn name(self) -> &'static str {
        match self {
            Self::BlockHashes => "block_hashes",
            Self::ParentBlockHash => "parent_block_hash",
            Self::TokenIds => "token_ids",
            Self::BlockSize => "block_size",
            Self::LoraId => "lora_id",
            Self::Medium => "medium",
            Self::LoraName => "lora_name",
            Self::ExtraKeys => "extra_keys",
            Self::GroupIdx => "group_idx",
            Self::SpecKind => "kv_cache_spec_kind",
            Self::SlidingWindow => "kv_cache_spec_sliding_window",
        }
    }
}

/// Reads the event at `cursor`. If it gives a reason not to, the place is unspecified, and whether the
/// bytes are sound is for the walk over the event to tell.
pub(super) fn read<'s, 'a: 's>(
    cursor: &mut Cursor<'a>,
    scratch: &'s mut Scratch,
) -> Result<Event<'s>, SkipReason> {
    scratch.clear();
    let mut draft = Draft::default();
    let tag = match head(cursor)? {
        Head::Array(len) => draft.read_array(len, cursor, scratch)?,
        Head::Map(len) => draft.read_map(len, cursor, scratch)?,
        _ => return Err(SkipReason::Shape),
    };
    Ok(match tag {
        Tag::Stored => Event::Stored(draft.stored(scratch)?),
        Tag::Removed => Event::Removed(draft.removed(scratch)?),
        Tag::Cleared => Event::Cleared,
    })
}

/// The tag of the event at `cursor`, if it can be read.
fn tag_of(mut cursor: Cursor<'_>) -> Option<Tag> {
    match head(&mut cursor).ok()? {
        Head::Array(1..) => read_tag(&mut cursor).ok(),
        Head::Map(pairs) => find_known_tag(cursor, pairs).ok(),
        _ => None,
    }
}

/// The names of the fields of an event with this tag, in the order in which an array has them.
pub(super) fn known_fields(tag: &[u8]) -> &'static [&'static str] {
    const STORED_NAMES: [&str; STORED.len()] = names(STORED);
    const REMOVED_NAMES: [&str; REMOVED.len()] = names(REMOVED);
    match Tag::of(tag) {
        Ok(Tag::Stored) => &STORED_NAMES,
        Ok(Tag::Removed) => &REMOVED_NAMES,
        Ok(Tag::Cleared) | Err(_) => &[],
    }
}

const fn names<const N: usize>(fields: [Field; N]) -> [&'static str; N] {
    let mut names = [""; N];
    let mut at = 0;
    while at < N {
        names[at] = fields[at].name();
        at += 1;
    }
    names
}

/// The text under `type` in the map of `pairs` at `cursor`, whether it is known or not.
pub(super) fn find_tag(mut cursor: Cursor<'_>, pairs: u32) -> Option<&[u8]> {
    for _ in 0..pairs {
        if key(&mut cursor).ok()? == Some(b"type") {
            return match cursor.head()? {
                Head::Str(text) => Some(text),
                _ => None,
            };
        }
        skip(&mut cursor).ok()?;
    }
    None
}

/// Whether the event at `cursor` is a clear.
pub(super) fn is_clear(cursor: Cursor<'_>) -> bool {
    tag_of(cursor) == Some(Tag::Cleared)
}

/// Whether the event at `cursor` is a store, whatever its fields are.
pub(super) fn is_store(cursor: Cursor<'_>) -> bool {
    tag_of(cursor) == Some(Tag::Stored)
}

/// The fields of an event as they come in; its lists go to the [`Scratch`].
#[derive(Default)]
struct Draft<'a> {
    /// The [`Field::bit`]s of those that came.
    seen: u32,
    parent: Option<EngineHash>,
    block_size: u32,
    lora_id: Option<i64>,
    medium: Option<&'a str>,
    lora_name: Option<&'a str>,
    /// Where the extra keys are: a map may name the adapter after them, so they are hashed last.
    extra_keys: Option<Cursor<'a>>,
    says_extra: bool,
    group: Option<u32>,
    kind: Option<&'a str>,
    window: Option<u32>,
}

impl<'a> Draft<'a> {
    fn read_array(
        &mut self,
        len: u32,
        cursor: &mut Cursor<'a>,
        scratch: &mut Scratch,
    ) -> Result<Tag, SkipReason> {
        let fields = len.checked_sub(1).ok_or(SkipReason::Shape)?;
        let tag = read_tag(cursor)?;
        for index in 0..fields as usize {
            let field = tag.fields().get(index).copied();
            self.read_field(field, cursor, scratch)?;
        }
        self.says_extra = len >= SAYS_EXTRA;
        Ok(tag)
    }

    fn read_map(
        &mut self,
        pairs: u32,
        cursor: &mut Cursor<'a>,
        scratch: &mut Scratch,
    ) -> Result<Tag, SkipReason> {
        let mut left = pairs.checked_sub(1).ok_or(SkipReason::Shape)?;
        let tag = if cursor.eat_text("type") {
            read_tag(cursor)?
        } else {
            left = pairs;
            find_known_tag(*cursor, pairs)?
        };
        let mut expected = 0;
        for _ in 0..left {
            let field = tag.read_key(cursor, &mut expected)?;
            self.read_field(field, cursor, scratch)?;
        }
        self.says_extra = true;
        Ok(tag)
    }

    /// Reads one field's value, or walks over that of a field that is not known.
    fn read_field(
        &mut self,
        field: Option<Field>,
        cursor: &mut Cursor<'a>,
        scratch: &mut Scratch,
    ) -> Result<(), SkipReason> {
        let Some(field) = field else {
            return skip(cursor);
        };
        self.seen |= field.bit();
        match field {
            Field::BlockHashes => read_hashes(cursor, &mut scratch.hashes)?,
            Field::ParentBlockHash => self.parent = optional(cursor, hash)?,
            Field::TokenIds => read_tokens(cursor, &mut scratch.tokens)?,
            Field::BlockSize => {
                self.block_size = head(cursor)?.integer().ok_or(SkipReason::Field)?;
            }
            Field::LoraId => self.lora_id = optional(cursor, Head::integer)?,
            Field::Medium => self.medium = optional(cursor, Head::text)?,
            Field::LoraName => self.lora_name = optional(cursor, Head::text)?,
            Field::ExtraKeys => {
                let start = *cursor;
                self.extra_keys = None;
                if !extra::eat_none(cursor) {
                    *cursor = start;
                    skip(cursor)?;
                    self.extra_keys = Some(start);
                }
            }
            Field::GroupIdx => self.group = optional(cursor, Head::integer)?,
            Field::SpecKind => self.kind = optional(cursor, Head::text)?,
            Field::SlidingWindow => self.window = optional(cursor, Head::integer)?,
        }
        Ok(())
    }

    fn require(&self, fields: &[Field]) -> Result<(), SkipReason> {
        match fields.iter().all(|field| self.seen & field.bit() != 0) {
            true => Ok(()),
            false => Err(SkipReason::MissingField),
        }
    }

    fn stored<'s>(self, scratch: &'s mut Scratch) -> Result<Stored<'s>, SkipReason>
    where
        'a: 's,
    {
        // The parent too: to take an absent one for nil would put the blocks at the root, where
        // prompts that the worker does not hold could match them.
        self.require(&STORED[..4])?;
        if let Some(extra_keys) = self.extra_keys {
            extra::digests(extra_keys, self.lora_name, &mut scratch.extra)?;
        }
        if self.block_size == 0 && !scratch.tokens.is_empty() {
            return Err(SkipReason::Counts);
        }
        Ok(Stored {
            hashes: &scratch.hashes,
            parent: self.parent,
            tokens: &scratch.tokens,
            block_size: self.block_size,
            lora_id: self.lora_id,
            lora_name: self.lora_name,
            medium: self.medium,
            extra: &scratch.extra,
            says_extra: self.says_extra,
            group: self.group,
            kind: self.kind,
            window: self.window,
        })
    }

    fn removed<'s>(self, scratch: &'s mut Scratch) -> Result<Removed<'s>, SkipReason>
    where
        'a: 's,
    {
        self.require(&REMOVED[..1])?;
        Ok(Removed {
            hashes: &scratch.hashes,
            medium: self.medium,
            group: self.group,
        })
    }
}

fn read_tag(cursor: &mut Cursor<'_>) -> Result<Tag, SkipReason> {
    match head(cursor)? {
        Head::Str(text) => Tag::of(text),
        _ => Err(SkipReason::Shape),
    }
}

/// The tag of a map event. Engines send it first; if it comes later it is found by walking ahead,
/// because what the other keys mean depends on it.
fn find_known_tag(mut cursor: Cursor<'_>, pairs: u32) -> Result<Tag, SkipReason> {
    for _ in 0..pairs {
        if key(&mut cursor)? == Some(b"type") {
            return read_tag(&mut cursor);
        }
        skip(&mut cursor)?;
    }
    Err(SkipReason::Shape)
}

/// The reason for bytes that are broken. It is never seen: an event that is not read is walked over,
/// and the walk finds the break and makes it an error of the batch.
const BROKEN: SkipReason = SkipReason::Shape;

#[inline]
pub(super) fn head<'a>(cursor: &mut Cursor<'a>) -> Result<Head<'a>, SkipReason> {
    cursor.head().ok_or(BROKEN)
}

fn key<'a>(cursor: &mut Cursor<'a>) -> Result<Option<&'a [u8]>, SkipReason> {
    cursor.key(FIELD_LEVELS).map_err(|_| BROKEN)
}

fn skip(cursor: &mut Cursor<'_>) -> Result<(), SkipReason> {
    cursor.skip(FIELD_LEVELS).map_err(|_| BROKEN)
}

/// Reads a value that may be nil.
#[inline]
fn optional<'a, T>(
    cursor: &mut Cursor<'a>,
    read: impl FnOnce(Head<'a>) -> Option<T>,
) -> Result<Option<T>, SkipReason> {
    if cursor.eat_nils(1) {
        return Ok(None);
    }
    read(head(cursor)?).map(Some).ok_or(SkipReason::Field)
}

/// The length of a list, which for nil is zero.
fn read_len(cursor: &mut Cursor<'_>) -> Result<usize, SkipReason> {
    match head(cursor)? {
        Head::Nil => Ok(0),
        Head::Array(len) => Ok(len as usize),
        _ => Err(SkipReason::Field),
    }
}

/// A block hash: an integer, of which a negative one (vLLM <= 0.10.1 with `builtin`) keeps its 64
/// bits, or a byte string, folded as engines fold it.
fn hash(head: Head<'_>) -> Option<EngineHash> {
    match head {
        Head::Unsigned(value) => Some(EngineHash(value)),
        Head::Signed(value) => Some(EngineHash(value.cast_unsigned())),
        Head::Bin(bytes) => fold_hash(bytes),
        _ => None,
    }
}

fn read_hashes(cursor: &mut Cursor<'_>, hashes: &mut Vec<EngineHash>) -> Result<(), SkipReason> {
    hashes.clear();
    hashes.resize(read_len(cursor)?, EngineHash(0));
    fill(cursor, hashes, Cursor::wide_integers, |cursor| {
        hash(head(cursor)?).ok_or(SkipReason::Field)
    })
}

fn read_tokens(cursor: &mut Cursor<'_>, tokens: &mut Vec<u32>) -> Result<(), SkipReason> {
    tokens.clear();
    tokens.resize(read_len(cursor)?, 0);
    fill(cursor, tokens, Cursor::narrow_integers, read_token)
}

/// Fills a list by a fast reader of the usual encoding, which says how many it could read, and for
/// each value that stops it by a reader of one value in any encoding.
#[inline]
fn fill<'a, T>(
    cursor: &mut Cursor<'a>,
    mut places: &mut [T],
    usual: impl Fn(&mut Cursor<'a>, &mut [T]) -> usize,
    any: impl Fn(&mut Cursor<'a>) -> Result<T, SkipReason>,
) -> Result<(), SkipReason> {
    loop {
        let filled = usual(cursor, places);
        let Some((place, rest)) = places[filled..].split_first_mut() else {
            return Ok(());
        };
        *place = any(cursor)?;
        places = rest;
    }
}

/// A token id in a width that encoders do not choose, at the end of the payload, or wrong.
#[cold]
fn read_token(cursor: &mut Cursor<'_>) -> Result<u32, SkipReason> {
    match head(cursor)? {
        Head::Array(2) => {
            let pair = [head(cursor)?, head(cursor)?];
            match pair.map(Head::integer::<u32>) {
                [Some(_), Some(_)] => Err(SkipReason::TokenPairs),
                _ => Err(SkipReason::Field),
            }
        }
        head => head.integer().ok_or(SkipReason::Field),
    }
}
