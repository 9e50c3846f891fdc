//! MessagePack, read one head at a time from a borrowed slice, with every length checked first.
//!
//! The *head* of a value is all of a scalar, or the kind and length of a container whose elements
//! follow. Everything else is built from reading heads: the typed readers, and [`Cursor::skip`],
//! the walk over a value that nobody wants, which is also the judge of what is sound.
#![expect(clippy::big_endian_bytes, reason = "MessagePack is big-endian")]

use crate::limits::NESTING_MAX;
use crate::status::Shape;
use kvroute_engine::types::EngineHash;
use rmp::Marker;

/// A batch whose bytes are broken: what followed could not be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {offset}: {kind}")]
pub struct BatchError {
    /// Where the value that is wrong begins, in bytes from the start of the payload.
    pub offset: usize,
    /// What is wrong with it.
    pub kind: BatchErrorKind,
}

/// What is wrong with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchErrorKind {
    /// The payload ends inside a value, or before it.
    #[error("the payload ends inside a value")]
    Truncated,
    /// An array or a map that says it has more elements than the bytes left could hold.
    #[error("a length of {0} is more than the bytes left can hold")]
    Length(u32),
    /// The marker 0xc1, which MessagePack never uses.
    #[error("0xc1 begins no value")]
    Reserved,
    /// Containers inside each other beyond [`NESTING_MAX`].
    #[error("values nest deeper than {NESTING_MAX}")]
    Nesting,
    /// The payload is neither an array nor a map.
    #[error("a batch is an array or a map")]
    Shape,
    /// A part of the batch that must be there is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A part of the batch has a type that it cannot have.
    #[error("{0} has the wrong type")]
    Field(&'static str),
    /// Bytes after the end of the batch.
    #[error("bytes follow the batch")]
    Trailing,
}

/// The head of one value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Head<'a> {
    Nil,
    Bool(bool),
    Unsigned(u64),
    /// An integer that was sent in a signed form, of either sign.
    Signed(i64),
    Float(f64),
    /// Not checked to be UTF-8.
    Str(&'a [u8]),
    Bin(&'a [u8]),
    Ext,
    /// So many values follow.
    Array(u32),
    /// So many pairs follow.
    Map(u32),
}

impl<'a> Head<'a> {
    /// The text, if it is one and is UTF-8.
    #[inline]
    pub(super) fn text(self) -> Option<&'a str> {
        match self {
            Self::Str(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// The integer, if it is one and fits.
    #[inline]
    pub(super) fn integer<T: TryFrom<u64> + TryFrom<i64>>(self) -> Option<T> {
        match self {
            Self::Unsigned(value) => T::try_from(value).ok(),
            Self::Signed(value) => T::try_from(value).ok(),
            _ => None,
        }
    }
}

/// Bytes of an unsigned integer of at most 32 bits with its marker, by marker; zero for all else.
const NARROW: [u8; 256] = {
    let mut lengths = [0; 256];
    let mut marker = 0;
    while marker < 256 {
        lengths[marker] = match Marker::from_u8(marker as u8) {
            Marker::FixPos(_) => 1,
            Marker::U8 => 2,
            Marker::U16 => 3,
            Marker::U32 => 5,
            _ => 0,
        };
        marker += 1;
    }
    lengths
};

const NIL: u8 = Marker::Null.to_u8();
const U16: u8 = Marker::U16.to_u8();
const U64: u8 = Marker::U64.to_u8();

/// A place in a payload. Copy it to look ahead.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
    /// Bytes of the whole payload.
    total: usize,
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(payload: &'a [u8]) -> Self {
        Self {
            rest: payload,
            total: payload.len(),
        }
    }

    pub(super) const fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// Bytes from the payload's beginning.
    pub(super) const fn offset(&self) -> usize {
        self.total - self.rest.len()
    }

    /// The error `kind`, here.
    pub(super) const fn error(&self, kind: BatchErrorKind) -> BatchError {
        BatchError {
            offset: self.offset(),
            kind,
        }
    }

    /// Reads one head. `None` if the bytes are broken here, and the place is then unspecified;
    /// the walk from any earlier place says how.
    #[inline]
    pub(super) fn head(&mut self) -> Option<Head<'a>> {
        let (&marker, rest) = self.rest.split_first()?;
        self.rest = rest;
        match Marker::from_u8(marker) {
            Marker::Null => Some(Head::Nil),
            Marker::FixPos(value) => Some(Head::Unsigned(value.into())),
            Marker::FixStr(len) => self.slice(len.into()).map(Head::Str),
            marker => self.head_after(marker).filter(|head| self.can_hold(*head)),
        }
    }

    /// How the value here is written, by its first byte.
    #[inline]
    pub(super) fn shape(&self) -> Shape {
        match self.rest.first().map(|&marker| Marker::from_u8(marker)) {
            Some(Marker::FixArray(_) | Marker::Array16 | Marker::Array32) => Shape::Array,
            Some(Marker::FixMap(_) | Marker::Map16 | Marker::Map32) => Shape::Map,
            _ => Shape::Other,
        }
    }

    /// Reads one head, or says what is wrong with it and where it begins.
    pub(super) fn try_head(&mut self) -> Result<Head<'a>, BatchError> {
        let start = *self;
        self.head().ok_or_else(|| start.error(start.fault()))
    }

    /// Why [`Cursor::head`] gives `None` here.
    #[cold]
    fn fault(mut self) -> BatchErrorKind {
        let Some([marker]) = self.take() else {
            return BatchErrorKind::Truncated;
        };
        match (
            Marker::from_u8(marker),
            self.head_after(Marker::from_u8(marker)),
        ) {
            (Marker::Reserved, _) => BatchErrorKind::Reserved,
            (_, Some(Head::Array(len) | Head::Map(len))) => BatchErrorKind::Length(len),
            _ => BatchErrorKind::Truncated,
        }
    }

    /// Whether the bytes left could hold a container's elements, each of at least one byte.
    const fn can_hold(&self, head: Head<'_>) -> bool {
        let least = match head {
            Head::Array(len) => len as u64,
            Head::Map(len) => 2 * len as u64,
            _ => 0,
        };
        least <= self.rest.len() as u64
    }

    /// What follows a marker; `None` if it does not fit into the payload, or is never used.
    fn head_after(&mut self, marker: Marker) -> Option<Head<'a>> {
        Some(match marker {
            Marker::Reserved => return None,
            Marker::Null => Head::Nil,
            Marker::False => Head::Bool(false),
            Marker::True => Head::Bool(true),
            Marker::FixPos(value) => Head::Unsigned(value.into()),
            Marker::FixNeg(value) => Head::Signed(value.into()),
            Marker::U8 => Head::Unsigned(u8::from_be_bytes(self.take()?).into()),
            Marker::U16 => Head::Unsigned(u16::from_be_bytes(self.take()?).into()),
            Marker::U32 => Head::Unsigned(u32::from_be_bytes(self.take()?).into()),
            Marker::U64 => Head::Unsigned(u64::from_be_bytes(self.take()?)),
            Marker::I8 => Head::Signed(i8::from_be_bytes(self.take()?).into()),
            Marker::I16 => Head::Signed(i16::from_be_bytes(self.take()?).into()),
            Marker::I32 => Head::Signed(i32::from_be_bytes(self.take()?).into()),
            Marker::I64 => Head::Signed(i64::from_be_bytes(self.take()?)),
            Marker::F32 => Head::Float(f32::from_be_bytes(self.take()?).into()),
            Marker::F64 => Head::Float(f64::from_be_bytes(self.take()?)),
            Marker::FixStr(len) => Head::Str(self.slice(len.into())?),
            Marker::Str8 => Head::Str(self.slice_after::<1>(0)?),
            Marker::Str16 => Head::Str(self.slice_after::<2>(0)?),
            Marker::Str32 => Head::Str(self.slice_after::<4>(0)?),
            Marker::Bin8 => Head::Bin(self.slice_after::<1>(0)?),
            Marker::Bin16 => Head::Bin(self.slice_after::<2>(0)?),
            Marker::Bin32 => Head::Bin(self.slice_after::<4>(0)?),
            Marker::FixExt1 => self.slice(2).map(|_| Head::Ext)?,
            Marker::FixExt2 => self.slice(3).map(|_| Head::Ext)?,
            Marker::FixExt4 => self.slice(5).map(|_| Head::Ext)?,
            Marker::FixExt8 => self.slice(9).map(|_| Head::Ext)?,
            Marker::FixExt16 => self.slice(17).map(|_| Head::Ext)?,
            Marker::Ext8 => self.slice_after::<1>(1).map(|_| Head::Ext)?,
            Marker::Ext16 => self.slice_after::<2>(1).map(|_| Head::Ext)?,
            Marker::Ext32 => self.slice_after::<4>(1).map(|_| Head::Ext)?,
            Marker::FixArray(len) => Head::Array(len.into()),
            Marker::Array16 => Head::Array(self.length::<2>()?),
            Marker::Array32 => Head::Array(self.length::<4>()?),
            Marker::FixMap(len) => Head::Map(len.into()),
            Marker::Map16 => Head::Map(self.length::<2>()?),
            Marker::Map32 => Head::Map(self.length::<4>()?),
        })
    }

    /// Walks over one value in which at most `levels` containers lie inside each other. It alone
    /// decides what is sound.
    ///
    /// O(bytes of the value), no recursion: the elements left in each open container are on a
    /// stack of [`NESTING_MAX`] places.
    pub(super) fn skip(&mut self, levels: u32) -> Result<(), BatchError> {
        let mut outer = [0_u64; NESTING_MAX as usize];
        let mut depth = 0;
        let mut left = 1_u64;
        loop {
            while left == 0 {
                if depth == 0 {
                    return Ok(());
                }
                depth -= 1;
                left = outer[depth];
            }
            left -= 1;
            let start = *self;
            let inner = match self.try_head()? {
                Head::Array(len) => u64::from(len),
                Head::Map(len) => 2 * u64::from(len),
                _ => continue,
            };
            match outer.get_mut(depth) {
                Some(place) if depth < levels as usize => *place = left,
                _ => return Err(start.error(BatchErrorKind::Nesting)),
            }
            depth += 1;
            left = inner;
        }
    }

    /// Reads a map's key: a text, not checked to be UTF-8. `None` for a key of any other type,
    /// which is walked over.
    #[inline]
    pub(super) fn key(&mut self, levels: u32) -> Result<Option<&'a [u8]>, BatchError> {
        let mut ahead = *self;
        if let Some(Head::Str(key)) = ahead.head() {
            *self = ahead;
            return Ok(Some(key));
        }
        self.skip(levels)?;
        Ok(None)
    }

    /// Whether the next value is this text of less than 32 bytes, in its shortest form; if so, it is
    /// read. A false `false` costs only time: [`Cursor::key`] reads any form.
    #[inline]
    pub(super) fn eat_text(&mut self, text: &str) -> bool {
        let Some((&marker, rest)) = self.rest.split_first() else {
            return false;
        };
        let Some(rest) = rest.strip_prefix(text.as_bytes()) else {
            return false;
        };
        if Marker::from_u8(marker) != Marker::FixStr(text.len() as u8) {
            return false;
        }
        self.rest = rest;
        true
    }

    /// Whether the next `count` values are all nil; if so, they are read.
    #[inline]
    pub(super) fn eat_nils(&mut self, count: u32) -> bool {
        match self.rest.split_at_checked(count as usize) {
            Some((values, rest)) if values.iter().all(|&marker| marker == NIL) => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// Reads token ids as long as they are unsigned integers of at most 32 bits in the widths that
    /// encoders choose, and the payload does not end soon. Returns how many of `out` were filled.
    ///
    /// The hot loop. Ids of a large vocabulary change their width all the time, and a branch on
    /// the width would be mispredicted as often (5 to 6 ns each, measured), so the width is looked
    /// up and the value shifted into place without one (3.5 ns, which is the time of one look-up
    /// after the other). Runs of 16-bit ids, most of what there is, go four at a time (1 ns).
    #[inline]
    pub(super) fn narrow_integers(&mut self, out: &mut [u32]) -> usize {
        let mut filled = 0;
        for places in out.chunks_mut(4) {
            let four = <&mut [u32; 4]>::try_from(&mut *places);
            if let (Ok(places), Some((ids, rest))) = (four, four_u16(self.rest)) {
                *places = ids;
                self.rest = rest;
                filled += 4;
                continue;
            }
            for place in places {
                let Some((id, rest)) = narrow(self.rest) else {
                    return filled;
                };
                *place = id;
                self.rest = rest;
                filled += 1;
            }
        }
        filled
    }

    /// Reads integers of 64 bits, the form of nearly all integer hashes, as long as there are.
    /// Returns how many of `out` were filled.
    #[inline]
    pub(super) fn wide_integers(&mut self, out: &mut [EngineHash]) -> usize {
        let mut filled = 0;
        for place in out {
            match self.rest.split_first_chunk::<9>() {
                Some((&[U64, value @ ..], rest)) => {
                    *place = EngineHash(u64::from_be_bytes(value));
                    self.rest = rest;
                }
                _ => break,
            }
            filled += 1;
        }
        filled
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (&taken, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(taken)
    }

    fn slice(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    /// A length of `N` bytes, at most four.
    fn length<const N: usize>(&mut self) -> Option<u32> {
        let bytes = self.take::<N>()?;
        Some(
            bytes
                .iter()
                .fold(0, |len, &byte| len << 8 | u32::from(byte)),
        )
    }

    /// A length of `N` bytes, then so many bytes and `more`.
    fn slice_after<const N: usize>(&mut self, more: usize) -> Option<&'a [u8]> {
        let len = usize::try_from(self.length::<N>()?).ok()?;
        self.slice(len.checked_add(more)?)
    }
}

/// The next four values, if all are 16-bit integers, which is told by one comparison.
#[inline(always)]
fn four_u16(rest: &[u8]) -> Option<([u32; 4], &[u8])> {
    // Ones at the places of the markers.
    const HIGH: u64 = 0x0100_0001_0000_0100;
    const LOW: u32 = 0x0001_0000;
    let (&[k, a, b, l, c, d, m, e, f, n, g, h], next) = rest.split_first_chunk()?;
    let high = u64::from_be_bytes([k, a, b, l, c, d, m, e]);
    let low = u32::from_be_bytes([f, n, g, h]);
    let high_markers = (high & (HIGH * 0xff)) ^ (HIGH * u64::from(U16));
    let low_markers = (low & (LOW * 0xff)) ^ (LOW * u32::from(U16));
    let values = [
        (high >> 40) as u32 & 0xffff,
        (high >> 16) as u32 & 0xffff,
        (high as u32 & 0xff) << 8 | low >> 24,
        low & 0xffff,
    ];
    (high_markers | u64::from(low_markers) == 0).then_some((values, next))
}

/// The next value, if it is an integer of [`NARROW`] and five bytes are left.
#[inline(always)]
fn narrow(rest: &[u8]) -> Option<(u32, &[u8])> {
    let &[marker, a, b, c, d] = rest.first_chunk()?;
    let len = NARROW[usize::from(marker)];
    let next = rest.get(usize::from(len)..)?;
    // Four bytes as if the value had them all, shifted until only its own are left: none for a
    // value that is its marker.
    let value = u64::from(u32::from_be_bytes([a, b, c, d])) >> (40 - 8 * u32::from(len));
    let own = marker & (marker >> 7).wrapping_sub(1);
    (len != 0).then_some((value as u32 | u32::from(own), next))
}

/// The 64 bits of a byte hash: its last eight bytes, big-endian, as engines fold their digests when
/// they send integers. A shorter one is a big-endian number. `None` for no bytes.
pub(super) fn fold_hash(bytes: &[u8]) -> Option<EngineHash> {
    match bytes.last_chunk() {
        Some(&last) => Some(EngineHash(u64::from_be_bytes(last))),
        None if bytes.is_empty() => None,
        None => Some(EngineHash(
            bytes
                .iter()
                .fold(0, |hash, &byte| hash << 8 | u64::from(byte)),
        )),
    }
}
