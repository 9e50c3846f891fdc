//! The extra keys of a request's blocks, in the form that engines put into their events.
//!
//! The same walk as for events (WIRE: `extra_keys`), so that a request meets the blocks that its
//! prompt would store: the adapter's name, which comes first, is left out, since it selects the
//! context; what remains of an entry is hashed element by element, its own list not being an atom.
//! A cache salt is the last text of the first block's entry, and of no other.
use super::error::ApiError;
use crate::limits::EXTRA_ENTRY_BYTES_MAX;
use kvroute_engine::hash::{ExtraDigest, ExtraHasher};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// One block's entry as it stands in the request; `None` for null.
pub(super) type Entry<'r> = Option<&'r RawValue>;

/// Fills `out` with one digest per entry, or leaves it empty if no block has extra keys.
pub(super) fn digests(
    entries: &[Entry<'_>],
    adapter: Option<&str>,
    salt: Option<&str>,
    out: &mut Vec<ExtraDigest>,
) -> Result<(), ApiError> {
    out.clear();
    let first = entries.first().copied().flatten();
    out.push(digest(0, first, adapter, salt)?);
    for (block, entry) in entries.iter().enumerate().skip(1) {
        out.push(digest(block, *entry, adapter, None)?);
    }
    if out.iter().all(|digest| digest.is_none()) {
        out.clear();
    }
    Ok(())
}

fn digest(
    block: usize,
    entry: Entry<'_>,
    adapter: Option<&str>,
    salt: Option<&str>,
) -> Result<ExtraDigest, ApiError> {
    let elements = entry.map_or(Ok(Vec::new()), |raw| parse(block, raw))?;
    let is = |element: &Element, name: Option<&str>| match (element, name) {
        (Element::Text(text), Some(name)) => text == name,
        _ => false,
    };
    let named = elements.first().is_some_and(|first| is(first, adapter));
    let elements = elements.get(usize::from(named)..).unwrap_or_default();
    let mut hasher = ExtraHasher::new();
    elements
        .iter()
        .for_each(|element| element.hash(&mut hasher));
    if let Some(salt) = salt
        && !elements.iter().any(|element| is(element, Some(salt)))
    {
        hasher.text(salt);
    }
    Ok(hasher.finish())
}

fn parse(block: usize, raw: &RawValue) -> Result<Vec<Element>, ApiError> {
    let wrong = |why: &dyn fmt::Display| {
        ApiError::field("extra_keys", format!("extra_keys[{block}]: {why}"))
    };
    let text = raw.get();
    if text.len() > EXTRA_ENTRY_BYTES_MAX {
        return Err(wrong(&format_args!(
            "longer than {EXTRA_ENTRY_BYTES_MAX} bytes"
        )));
    }
    if !text.starts_with('[') {
        return Err(wrong(&"expected null or a list"));
    }
    serde_json::from_str(text).map_err(|error| wrong(&error))
}

/// A value inside an entry. Maps keep the sender's order, which the hash depends on.
#[derive(Debug, PartialEq)]
enum Element {
    Nil,
    Boolean(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Self>),
    Map(Vec<(Self, Self)>),
}

impl Element {
    /// Depth is bounded by serde_json's own limit of 128 levels.
    fn hash(&self, hasher: &mut ExtraHasher) {
        let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
        match self {
            Self::Nil => hasher.nil(),
            Self::Boolean(value) => hasher.boolean(*value),
            Self::Integer(value) => hasher.integer(*value),
            Self::Float(value) => hasher.float(*value),
            Self::Text(text) => hasher.text(text),
            Self::List(elements) => {
                hasher.list(count(elements.len()));
                elements.iter().for_each(|element| element.hash(hasher));
            }
            Self::Map(pairs) => {
                hasher.map(count(pairs.len()));
                for (key, value) in pairs {
                    key.hash(hasher);
                    value.hash(hasher);
                }
            }
        }
    }
}

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ElementVisitor)
    }
}

struct ElementVisitor;

impl<'de> Visitor<'de> for ElementVisitor {
    type Value = Element;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Element, E> {
        Ok(Element::Nil)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Element, E> {
        Ok(Element::Boolean(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Element, E> {
        Ok(Element::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Element, E> {
        Ok(Element::Integer(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Element, E> {
        Ok(Element::Float(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Element, E> {
        Ok(Element::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Element, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = seq.next_element()? {
            elements.push(element);
        }
        Ok(Element::List(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Element, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(Element::Map(pairs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(entries: &str, adapter: Option<&str>, salt: Option<&str>) -> Vec<ExtraDigest> {
        let entries: Vec<Entry<'_>> = serde_json::from_str(entries).unwrap();
        let mut out = Vec::new();
        digests(&entries, adapter, salt, &mut out).unwrap();
        out
    }

    /// What the hasher makes of a walk written out by hand.
    fn walk(steps: impl FnOnce(&mut ExtraHasher)) -> ExtraDigest {
        let mut hasher = ExtraHasher::new();
        steps(&mut hasher);
        hasher.finish()
    }

    #[test]
    fn an_entry_is_hashed_element_by_element() {
        let image = walk(|h| {
            h.list(2);
            h.text("image");
            h.integer(-10);
        });
        let odd = walk(|h| {
            h.nil();
            h.boolean(true);
            h.float(0.5);
            h.map(2);
            h.text("z");
            h.integer(i128::from(u64::MAX));
            h.text("a");
            h.list(0);
        });
        assert_eq!(
            of(
                r#"[[["image",-10]],null,[],[null,true,0.5,{"z":18446744073709551615,"a":[]}]]"#,
                None,
                None
            ),
            [image, ExtraDigest::NONE, ExtraDigest::NONE, odd]
        );
    }

    #[test]
    fn nothing_in_any_entry_is_no_extra_keys() {
        assert_eq!(of("[]", None, None), []);
        assert_eq!(of("[null,[],null]", None, None), []);
        assert_eq!(of(r#"[["fr"],["fr"]]"#, Some("fr"), None), []);
    }

    #[test]
    fn the_adapters_name_is_left_out_only_where_it_comes_first() {
        let salted = walk(|h| h.text("tenant"));
        assert_eq!(
            of(r#"[["fr","tenant"],["fr"]]"#, Some("fr"), None),
            [salted, ExtraDigest::NONE]
        );
        let named = walk(|h| h.text("fr"));
        assert_eq!(of(r#"[["fr"]]"#, None, None), [named]);
        let second = walk(|h| {
            h.text("tenant");
            h.text("fr");
        });
        assert_eq!(of(r#"[["tenant","fr"]]"#, Some("fr"), None), [second]);
    }

    #[test]
    fn a_salt_is_the_last_text_of_the_first_block() {
        let salted = walk(|h| h.text("tenant"));
        assert_eq!(of("[]", None, Some("tenant")), [salted]);
        assert_eq!(
            of("[null,null]", None, Some("tenant")),
            [salted, ExtraDigest::NONE]
        );
        let both = walk(|h| {
            h.list(2);
            h.text("image");
            h.integer(10);
            h.text("tenant");
        });
        assert_eq!(of(r#"[[["image",10]]]"#, None, Some("tenant")), [both]);
        assert_eq!(
            of(r#"[[["image",10],"tenant"]]"#, None, Some("tenant")),
            [both],
            "said twice"
        );
    }

    #[test]
    fn a_wrong_entry_is_named() {
        let mut out = Vec::new();
        let long = format!("[null,[\"{}\"]]", "x".repeat(EXTRA_ENTRY_BYTES_MAX));
        for bad in [r#"[null,"salt"]"#, "[null,7]", "[null,{}]", &long] {
            let entries: Vec<Entry<'_>> = serde_json::from_str(bad).unwrap();
            let error = digests(&entries, None, None, &mut out).unwrap_err();
            assert!(format!("{error:?}").contains("extra_keys[1]"), "{error:?}");
        }
    }
}
