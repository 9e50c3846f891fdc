//! A payload taken apart as it is written, for tools that show or rewrite it: nothing is judged but whether the bytes
//! are sound.
//!
//! The typed reader says what an event means; this walk says how it was written: which shape, which fields in which
//! order, and where in the payload each value without parts stands.
use super::event::{find_tag, known_fields};
use super::value::{BatchError, BatchErrorKind, Cursor, Head};
use crate::limits::NESTING_MAX;
use std::ops::Range;

/// How a batch or an event is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shape {
    /// By position.
    Array,
    /// By name.
    Map,
    /// As something that is neither.
    Other,
}

impl Shape {
    /// In a word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Array => "array",
            Self::Map => "map",
            Self::Other => "other",
        }
    }
}

/// Which part of a batch or an event a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part<'a> {
    /// By a name of the field's: the key, or what the position means.
    Known(&'static str),
    /// By a key that is not known.
    Named(&'a [u8]),
    /// By a position that means nothing yet; or the pair of a map whose key is no text.
    At(u32),
}

/// A value without parts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scalar<'a> {
    /// Nothing.
    Nil,
    /// Yes or no.
    Bool,
    /// An integer in an unsigned form.
    Unsigned(u64),
    /// An integer in a signed form, of either sign.
    Signed(i64),
    /// A number.
    Float(f64),
    /// A text, not checked to be UTF-8.
    Text(&'a [u8]),
    /// Bytes.
    Bytes(&'a [u8]),
    /// An extension.
    Extension,
}

/// Where a value without parts stands.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Whether it is inside an event; else it is beside them.
    pub in_event: bool,
    /// Which part of the event, or of the batch.
    pub part: Part<'a>,
    /// How many containers of that part are around it.
    pub depth: u32,
    /// How many values of the innermost container are before it; keys and values of a map count.
    pub index: u32,
    /// Whether it is the key of a pair.
    pub is_key: bool,
}

/// An event, before its fields.
#[derive(Clone, Copy, Debug)]
pub struct EventHead<'a> {
    /// How it is written.
    pub shape: Shape,
    /// Its tag, if it has one: not checked to be UTF-8.
    pub tag: Option<&'a [u8]>,
    /// Bytes from the payload's beginning.
    pub offset: usize,
}

/// Is shown a payload from its beginning to its end.
pub trait Visitor<'a> {
    /// How the batch is written.
    fn batch(&mut self, _shape: Shape) {}
    /// An event begins.
    fn event(&mut self, _event: &EventHead<'a>) {}
    /// A field of the event, which is not its tag, begins.
    fn field(&mut self, _part: Part<'a>) {}
    /// A value without parts, and the bytes of the payload that it is written in. The tag of an event is one, too,
    /// and so are the keys of its map.
    fn scalar(&mut self, _place: &Place<'a>, _value: Scalar<'a>, _bytes: Range<usize>) {}
}

/// The name of the tag, as a part of an event.
pub const TAG: Part<'static> = Part::Known("type");

/// The parts of a batch, in order.
const BATCH: [&str; 3] = ["ts", "events", "data_parallel_rank"];

/// Shows all of a payload to `visitor`. O(bytes), and as many calls inside each other as containers, at most
/// [`NESTING_MAX`].
///
/// # Errors
/// Broken bytes, or a payload that is neither an array nor a map; nothing was shown then.
pub fn walk<'a>(payload: &'a [u8], visitor: &mut impl Visitor<'a>) -> Result<(), BatchError> {
    let start = Cursor::new(payload);
    let mut end = start;
    end.skip(NESTING_MAX)?;
    if !end.is_at_end() {
        return Err(end.error(BatchErrorKind::Trailing));
    }
    let mut walk = Walk {
        payload,
        cursor: start,
        visitor,
    };
    walk.batch()
}

struct Walk<'a, 'v, V> {
    payload: &'a [u8],
    cursor: Cursor<'a>,
    visitor: &'v mut V,
}

impl<'a, V: Visitor<'a>> Walk<'a, '_, V> {
    fn batch(&mut self) -> Result<(), BatchError> {
        let start = self.cursor;
        match self.cursor.try_head()? {
            Head::Array(len) => {
                self.visitor.batch(Shape::Array);
                for at in 0..len {
                    let name = BATCH.get(at as usize).copied();
                    self.batch_part(name.map_or(Part::At(at), Part::Known))?;
                }
            }
            Head::Map(pairs) => {
                self.visitor.batch(Shape::Map);
                for pair in 0..pairs {
                    let part = self.key(pair, &BATCH, false)?;
                    self.batch_part(part)?;
                }
            }
            _ => return Err(start.error(BatchErrorKind::Shape)),
        }
        Ok(())
    }

    fn batch_part(&mut self, part: Part<'a>) -> Result<(), BatchError> {
        let mut ahead = self.cursor;
        if let (Part::Known("events"), Head::Array(events)) = (part, ahead.try_head()?) {
            self.cursor = ahead;
            for _ in 0..events {
                self.event()?;
            }
            return Ok(());
        }
        self.value(&Place::of(false, part))
    }

    fn event(&mut self) -> Result<(), BatchError> {
        let start = self.cursor;
        let head = self.cursor.try_head()?;
        let (shape, tag) = match head {
            Head::Array(1..) => (Shape::Array, text(self.cursor)),
            Head::Array(0) => (Shape::Array, None),
            Head::Map(pairs) => (Shape::Map, find_tag(self.cursor, pairs)),
            _ => (Shape::Other, None),
        };
        let offset = start.offset();
        self.visitor.event(&EventHead { shape, tag, offset });
        let fields = tag.map(known_fields).unwrap_or_default();
        match head {
            Head::Array(len) => {
                for at in 0..len {
                    let part = match (at.checked_sub(1), tag) {
                        (None, Some(_)) => TAG,
                        (Some(before), Some(_)) => match fields.get(before as usize) {
                            Some(&name) => Part::Known(name),
                            None => Part::At(at),
                        },
                        (_, None) => Part::At(at),
                    };
                    self.event_part(part)?;
                }
            }
            Head::Map(pairs) => {
                for pair in 0..pairs {
                    let part = self.key(pair, fields, true)?;
                    self.event_part(part)?;
                }
            }
            _ => {
                self.cursor = start;
                self.value(&Place::of(true, Part::At(0)))?;
            }
        }
        Ok(())
    }

    fn event_part(&mut self, part: Part<'a>) -> Result<(), BatchError> {
        if part != TAG {
            self.visitor.field(part);
        }
        self.value(&Place::of(true, part))
    }

    /// Reads the key of a map's pair.
    fn key(
        &mut self,
        pair: u32,
        known: &[&'static str],
        in_event: bool,
    ) -> Result<Part<'a>, BatchError> {
        let part = match text(self.cursor) {
            Some(b"type") if in_event => TAG,
            Some(key) => match known.iter().find(|name| name.as_bytes() == key) {
                Some(&name) => Part::Known(name),
                None => Part::Named(key),
            },
            None => Part::At(pair),
        };
        self.value(&Place {
            is_key: true,
            ..Place::of(in_event, part)
        })?;
        Ok(part)
    }

    /// Shows a value and all inside it.
    fn value(&mut self, place: &Place<'a>) -> Result<(), BatchError> {
        let start = self.cursor.offset();
        let scalar = match self.cursor.try_head()? {
            Head::Nil => Scalar::Nil,
            Head::Bool(_) => Scalar::Bool,
            Head::Unsigned(value) => Scalar::Unsigned(value),
            Head::Signed(value) => Scalar::Signed(value),
            Head::Float(value) => Scalar::Float(value),
            Head::Str(bytes) => Scalar::Text(bytes),
            Head::Bin(bytes) => Scalar::Bytes(bytes),
            Head::Ext => Scalar::Extension,
            Head::Array(len) => {
                let values = (0..len).map(|index| (index, false));
                return values
                    .into_iter()
                    .try_for_each(|(index, is_key)| self.inner(place, index, is_key));
            }
            Head::Map(pairs) => {
                let values = (0..2 * u64::from(pairs)).map(|index| (index as u32, index % 2 == 0));
                return values
                    .into_iter()
                    .try_for_each(|(index, is_key)| self.inner(place, index, is_key));
            }
        };
        let end = self.cursor.offset();
        debug_assert!(end <= self.payload.len());
        self.visitor.scalar(place, scalar, start..end);
        Ok(())
    }

    /// A value inside the container at `place`. The walk over the whole has bounded how deep this goes.
    fn inner(&mut self, place: &Place<'a>, index: u32, is_key: bool) -> Result<(), BatchError> {
        self.value(&Place {
            depth: place.depth + 1,
            index,
            is_key,
            ..*place
        })
    }
}

impl<'a> Place<'a> {
    const fn of(in_event: bool, part: Part<'a>) -> Self {
        Self {
            in_event,
            part,
            depth: 0,
            index: 0,
            is_key: false,
        }
    }
}

/// The text at a place, if it is one.
fn text(mut cursor: Cursor<'_>) -> Option<&[u8]> {
    match cursor.head() {
        Some(Head::Str(text)) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that is shown, one line each.
    #[derive(Default)]
    struct Lines(Vec<String>);

    fn name(part: Part<'_>) -> String {
        match part {
            Part::Known(name) => name.to_owned(),
            Part::Named(name) => format!("?{}", String::from_utf8_lossy(name)),
            Part::At(at) => format!("#{at}"),
        }
    }

    impl<'a> Visitor<'a> for Lines {
        fn batch(&mut self, shape: Shape) {
            self.0.push(format!("batch {}", shape.as_str()));
        }

        fn event(&mut self, event: &EventHead<'a>) {
            let tag = event.tag.map(String::from_utf8_lossy);
            let shape = event.shape.as_str();
            self.0
                .push(format!("event {shape} {tag:?} at {}", event.offset));
        }

        fn field(&mut self, part: Part<'a>) {
            self.0.push(format!("field {}", name(part)));
        }

        fn scalar(&mut self, place: &Place<'a>, value: Scalar<'a>, bytes: Range<usize>) {
            let key = if place.is_key { " key" } else { "" };
            let (part, depth, index) = (name(place.part), place.depth, place.index);
            let line = format!("{part}{key} {depth}.{index} {value:?} {bytes:?}");
            self.0.push(line);
        }
    }

    fn shown(payload: &[u8]) -> Vec<String> {
        let mut lines = Lines::default();
        walk(payload, &mut lines).unwrap();
        lines.0
    }

    #[test]
    fn an_array_of_arrays_is_shown_by_position() {
        // [1, [["BlockRemoved", [7], nil, 0, true]], nil, 5]
        let mut payload = vec![0x94, 0x01, 0x91, 0x95, 0xac];
        payload.extend_from_slice(b"BlockRemoved");
        payload.extend_from_slice(&[0x91, 0x07, 0xc0, 0x00, 0xc3, 0xc0, 0x05]);
        let expected = [
            "batch array",
            "ts 0.0 Unsigned(1) 1..2",
            "event array Some(\"BlockRemoved\") at 3",
            "type 0.0 Text([66, 108, 111, 99, 107, 82, 101, 109, 111, 118, 101, 100]) 4..17",
            "field block_hashes",
            "block_hashes 1.0 Unsigned(7) 18..19",
            "field medium",
            "medium 0.0 Nil 19..20",
            "field group_idx",
            "group_idx 0.0 Unsigned(0) 20..21",
            "field #4",
            "#4 0.0 Bool 21..22",
            "data_parallel_rank 0.0 Nil 22..23",
            "#3 0.0 Unsigned(5) 23..24",
        ];
        assert_eq!(shown(&payload), expected);
    }

    #[test]
    fn a_map_is_shown_by_key_wherever_its_type_is() {
        // {"ts": 1, "events": [{"x": {"a": [2]}, "type": "AllBlocksCleared"}, 3]}
        let mut payload = vec![0x82, 0xa2, b't', b's', 0x01, 0xa6];
        payload.extend_from_slice(b"events");
        payload.extend_from_slice(&[0x92, 0x82, 0xa1, b'x', 0x81, 0xa1, b'a', 0x91, 0x02, 0xa4]);
        payload.extend_from_slice(b"type");
        payload.push(0xb0);
        payload.extend_from_slice(b"AllBlocksCleared");
        payload.push(0x03);
        let shown = shown(&payload);
        let expected = [
            "batch map",
            "ts key 0.0 Text([116, 115]) 1..4",
            "ts 0.0 Unsigned(1) 4..5",
            "events key 0.0 Text([101, 118, 101, 110, 116, 115]) 5..12",
            "event map Some(\"AllBlocksCleared\") at 13",
            "?x key 0.0 Text([120]) 14..16",
            "field ?x",
            "?x key 1.0 Text([97]) 17..19",
            "?x 2.0 Unsigned(2) 20..21",
            "type key 0.0 Text([116, 121, 112, 101]) 21..26",
        ];
        assert_eq!(shown[..expected.len()], expected);
        assert_eq!(shown[expected.len() + 1], "event other None at 43");
        assert_eq!(shown.last().unwrap(), "#0 0.0 Unsigned(3) 43..44");
    }

    #[test]
    fn broken_bytes_show_nothing() {
        for payload in [&b""[..], &[0x93, 0x01], &[0xc1], &[0x05], &[0x90, 0x90]] {
            let mut lines = Lines::default();
            assert!(walk(payload, &mut lines).is_err(), "{payload:?}");
            assert_eq!(lines.0, [""; 0]);
        }
        let mut deep = vec![0x91; 100];
        deep.push(0x90);
        let error = walk(&deep, &mut Lines::default()).unwrap_err();
        assert_eq!(error.kind, BatchErrorKind::Nesting);
    }
}
