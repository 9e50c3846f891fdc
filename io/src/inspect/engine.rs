//! Which engine writes events like these: a guess from their shape, as versions differ. Pure.
use crate::wire::parts::Shape;
use std::collections::BTreeSet;

/// What of batches and stored events tells versions apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    batch_maps: bool,
    batch_arrays: bool,
    /// Fields of stored events that are arrays, without the tag.
    lengths: BTreeSet<usize>,
    maps: bool,
    /// Fields that came with later versions.
    locality: bool,
    ownership: bool,
    session: bool,
    /// Frames of a ring's answers.
    frames: Option<usize>,
}

/// Lengths that are told apart.
const LENGTHS_MAX: usize = 16;

impl Seen {
    /// A batch of this shape came.
    pub fn batch(&mut self, shape: Shape) {
        self.batch_maps |= shape == Shape::Map;
        self.batch_arrays |= shape == Shape::Array;
    }

    /// A stored event with these fields came.
    pub fn stored<'n>(&mut self, shape: Shape, fields: impl Iterator<Item = &'n str>) {
        match shape {
            Shape::Array => {
                if self.lengths.len() < LENGTHS_MAX {
                    self.lengths.insert(fields.count());
                }
            }
            Shape::Map => {
                self.maps = true;
                for field in fields {
                    self.locality |= field == "locality";
                    self.ownership |= field == "ownership";
                    self.session |= field == "session_id";
                }
            }
            Shape::Other => {}
        }
    }

    /// A ring's answers have so many frames.
    pub fn ring(&mut self, frames: usize) {
        self.frames = Some(frames);
    }

    /// The guess, in words. SGLang and TensorRT-LLM write the same two shapes.
    #[must_use]
    pub fn guess(&self) -> String {
        let arrays = self.lengths.iter().map(|fields| match fields {
            5 => "vLLM 0.9 to 0.10.1".to_owned(),
            6 => "vLLM 0.10.2 to 0.13".to_owned(),
            7 => "vLLM 0.14 to 0.16".to_owned(),
            8 => "vLLM 0.17 to 0.19".to_owned(),
            9 => "vLLM 0.20 or 0.21".to_owned(),
            11 => "vLLM 0.22 or 0.23".to_owned(),
            other => format!("stored events as arrays of {other} fields: no version known"),
        });
        let maps = self.maps.then(|| {
            let since = match (self.session, self.ownership, self.locality, self.frames) {
                (true, ..) => "0.30 or later",
                (_, true, ..) => "0.29 or later",
                (_, _, true, _) | (_, _, _, Some(4)) => "0.26 or later",
                (_, _, _, Some(3)) => "0.24 or 0.25",
                _ => "0.24 or later",
            };
            match self.batch_maps && !self.batch_arrays {
                true => "no vLLM: batches as maps, as Mooncake's".to_owned(),
                false => format!("vLLM {since}"),
            }
        });
        let all: Vec<_> = arrays.chain(maps).collect();
        match all.len() {
            0 => "unknown: no stored event yet".to_owned(),
            1 => all.concat(),
            _ => format!("several at one address: {}", all.join("; ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guess(shape: Shape, fields: &[&str], frames: Option<usize>) -> String {
        let mut seen = Seen::default();
        seen.batch(Shape::Array);
        seen.stored(shape, fields.iter().copied());
        frames.into_iter().for_each(|frames| seen.ring(frames));
        seen.guess()
    }

    /// The table of versions in the description of what engines send.
    #[test]
    fn versions_are_told_by_their_fields() {
        for (fields, expected) in [
            (5, "vLLM 0.9 to 0.10.1"),
            (6, "vLLM 0.10.2 to 0.13"),
            (7, "vLLM 0.14 to 0.16"),
            (8, "vLLM 0.17 to 0.19"),
            (9, "vLLM 0.20 or 0.21"),
            (11, "vLLM 0.22 or 0.23"),
        ] {
            assert_eq!(guess(Shape::Array, &["x"; 16][..fields], None), expected);
        }
        for (field, frames, expected) in [
            ("token_ids", None, "vLLM 0.24 or later"),
            ("token_ids", Some(3), "vLLM 0.24 or 0.25"),
            ("token_ids", Some(4), "vLLM 0.26 or later"),
            ("locality", None, "vLLM 0.26 or later"),
            ("ownership", None, "vLLM 0.29 or later"),
            ("session_id", None, "vLLM 0.30 or later"),
        ] {
            assert_eq!(guess(Shape::Map, &[field], frames), expected, "{field}");
        }
        assert!(Seen::default().guess().starts_with("unknown"));
        let mut both = Seen::default();
        both.stored(Shape::Array, ["x"; 6].into_iter());
        both.stored(Shape::Map, ["x"].into_iter());
        assert!(
            both.guess()
                .starts_with("several at one address: vLLM 0.10.2")
        );
    }
}
