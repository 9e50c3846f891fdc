//! The extra keys of an event's blocks, hashed in place.
//!
//! `extra_keys` has one entry per block: nil, or a list of texts (a cache salt, a bare multimodal
//! identifier), pairs (identifier, offset), byte strings (digests of prompt embeddings), or
//! whatever an engine invents. An entry's digest is the
//! [`ExtraHasher`]'s over the entry's *elements*, in order; the entry's own list is no atom, so that
//! a salt alone hashes as that text. The adapter's name, which comes first in every entry of an
//! adapter's blocks, is left out: it selects the context and is not part of the content. An entry
//! of which nothing is left is [`ExtraDigest::NONE`].
use super::event::head;
use super::value::{Cursor, Head};
use crate::status::SkipReason;
use kvroute_engine::hash::{ExtraDigest, ExtraHasher};

/// Reads `extra_keys` that hold nothing: nil, or a list of nils, which is most there are. If it is
/// anything else the place is unspecified.
pub(super) fn eat_none(cursor: &mut Cursor<'_>) -> bool {
    match cursor.head() {
        Some(Head::Nil) => true,
        Some(Head::Array(len)) => cursor.eat_nils(len),
        _ => false,
    }
}

/// Fills `out` with one digest per entry, or leaves it empty if no entry has any.
///
/// `cursor` must be at a value that [`Cursor::skip`] has accepted, which bounds its nesting.
pub(super) fn digests(
    mut cursor: Cursor<'_>,
    adapter: Option<&str>,
    out: &mut Vec<ExtraDigest>,
) -> Result<(), SkipReason> {
    out.clear();
    let entries = match head(&mut cursor)? {
        Head::Nil => 0,
        Head::Array(len) => len,
        _ => return Err(SkipReason::Field),
    };
    out.reserve(entries as usize);
    let mut any = false;
    for _ in 0..entries {
        let digest = entry(&mut cursor, adapter)?;
        any |= !digest.is_none();
        out.push(digest);
    }
    if !any {
        out.clear();
    }
    Ok(())
}

fn entry(cursor: &mut Cursor<'_>, adapter: Option<&str>) -> Result<ExtraDigest, SkipReason> {
    let mut elements = match head(cursor)? {
        Head::Nil => 0,
        Head::Array(len) => len,
        _ => return Err(SkipReason::Field),
    };
    if let (Some(adapter), 1..) = (adapter, elements) {
        let mut ahead = *cursor;
        if matches!(head(&mut ahead)?, Head::Str(first) if first == adapter.as_bytes()) {
            *cursor = ahead;
            elements -= 1;
        }
    }
    let mut hasher = ExtraHasher::new();
    values(cursor, elements, &mut hasher)?;
    Ok(hasher.finish())
}

/// Hashes `count` values and all inside them. The hasher takes containers as their length with the
/// elements following, so counting the values still to come is enough; no stack is needed.
fn values(cursor: &mut Cursor<'_>, count: u32, hasher: &mut ExtraHasher) -> Result<(), SkipReason> {
    let mut left = u64::from(count);
    while left > 0 {
        left -= 1;
        match head(cursor)? {
            Head::Nil => hasher.nil(),
            Head::Bool(value) => hasher.boolean(value),
            Head::Unsigned(value) => hasher.integer(value.into()),
            Head::Signed(value) => hasher.integer(value.into()),
            Head::Float(value) => hasher.float(value),
            Head::Bin(value) => hasher.bytes(value),
            text @ Head::Str(_) => hasher.text(text.text().ok_or(SkipReason::Field)?),
            Head::Array(len) => {
                hasher.list(len);
                left += u64::from(len);
            }
            Head::Map(len) => {
                hasher.map(len);
                left += 2 * u64::from(len);
            }
            // The hasher has no canonical form for it, and no engine sends one.
            Head::Ext => return Err(SkipReason::Field),
        }
    }
    Ok(())
}
