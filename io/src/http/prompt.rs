//! The token ids of a request's body, and its other fields.
//!
//! The ids of a JSON body are read into a buffer of the thread's; those of a binary body stay where they are.
use super::error::ApiError;
use super::json;
use crate::ids::{self, Hashes, Ids, List};
use crate::limits::SCRATCH_BYTES_MAX;
use kvroute_engine::types::{BlockKey, TokenBytes};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

/// What a thread reads bodies into, again and again.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    ids: Ids,
    hashes: Hashes,
    /// The body without the list.
    rest: Vec<u8>,
}

/// A JSON body with a list.
#[derive(Debug)]
pub(super) struct Parsed<'s, T, L = TokenBytes> {
    /// All but the list, of which it must have no field.
    pub(super) fields: T,
    /// None if it is not given, or null; there may be nothing in it, too.
    pub(super) tokens: Option<&'s [L]>,
}

impl Scratch {
    /// Reads a body that must be a JSON object, whose field `name` is a list of token ids, null or left out.
    pub(super) fn json<'s, T: Deserialize<'s>>(
        &'s mut self,
        body: &'s [u8],
        name: &'static str,
    ) -> Result<Parsed<'s, T>, ApiError> {
        let Self { ids, rest, .. } = self;
        let (fields, given) = fields(body, name, ids, rest, Ids::replace)?;
        let tokens = given.then(|| bytemuck::cast_slice(ids.as_slice()));
        Ok(Parsed { fields, tokens })
    }

    /// The same with a list of block hashes.
    pub(super) fn json_with_hashes<'s, T: Deserialize<'s>>(
        &'s mut self,
        body: &'s [u8],
        name: &'static str,
    ) -> Result<Parsed<'s, T, BlockKey>, ApiError> {
        let Self { hashes, rest, .. } = self;
        let replace = |hashes: &mut Hashes, read: Vec<Hash>| {
            hashes.replace(read.into_iter().map(|Hash(key)| key).collect());
        };
        let (fields, given) = fields(body, name, hashes, rest, replace)?;
        let tokens = given.then(|| hashes.as_slice());
        Ok(Parsed { fields, tokens })
    }

    /// Gives memory back that only the largest bodies need.
    pub(super) fn shrink(&mut self) {
        self.ids.shrink(SCRATCH_BYTES_MAX / size_of::<u32>());
        self.hashes
            .shrink(SCRATCH_BYTES_MAX / size_of::<BlockKey>());
        if self.rest.capacity() > SCRATCH_BYTES_MAX {
            self.rest = Vec::new();
        }
    }
}

/// Reads the list into `list`, and says what else there is and whether the list is there.
///
/// It is taken out first, and serde_json reads the rest. Where that does not go, serde_json reads all of it, and
/// says what is wrong.
fn fields<'s, T: Deserialize<'s>, L: List, E: Deserialize<'s>>(
    body: &'s [u8],
    name: &'static str,
    list: &mut L,
    rest: &'s mut Vec<u8>,
    replace: impl FnOnce(&mut L, Vec<E>),
) -> Result<(T, bool), ApiError> {
    if let Some(at) = ids::split(body, name, list) {
        rest.clear();
        rest.extend_from_slice(&body[..at.start]);
        rest.extend_from_slice(b"null");
        rest.extend_from_slice(&body[at.end..]);
        // The error must be about the body as it came.
        let fields = json::object(rest).or_else(|_| json::object(body))?;
        return Ok((fields, true));
    }
    let read = json::seeded(body, || ListOf(name, PhantomData))?;
    let given = read.is_some();
    replace(list, read.unwrap_or_default());
    Ok((json::object(body)?, given))
}

/// One block's hash, signed or not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hash(pub(super) BlockKey);

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HashVisitor;
        impl Visitor<'_> for HashVisitor {
            type Value = Hash;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number of 64 bits")
            }

            fn visit_u64<E>(self, hash: u64) -> Result<Hash, E> {
                Ok(Hash(BlockKey::new(hash)))
            }

            fn visit_i64<E>(self, hash: i64) -> Result<Hash, E> {
                Ok(Hash(BlockKey::new(hash.cast_unsigned())))
            }
        }
        deserializer.deserialize_u64(HashVisitor)
    }
}

/// The token ids of a binary body: little-endian `u32`.
pub(super) fn octets(body: &[u8]) -> Result<&[TokenBytes], ApiError> {
    let (ids, rest) = body.as_chunks();
    if !rest.is_empty() {
        let message = format!("{} bytes are not a whole number of u32", body.len());
        return Err(ApiError::field("token_ids", message));
    }
    not_empty(ids)
}

/// Token ids that there are.
pub(super) fn not_empty(tokens: &[TokenBytes]) -> Result<&[TokenBytes], ApiError> {
    if tokens.is_empty() {
        return Err(ApiError::field("token_ids", "must not be empty"));
    }
    Ok(tokens)
}

/// One list of an object, the other fields being read over.
#[derive(Clone, Copy, Debug)]
struct ListOf<E>(&'static str, PhantomData<E>);

impl<'de, E: Deserialize<'de>> DeserializeSeed<'de> for ListOf<E> {
    type Value = Option<Vec<E>>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de, E: Deserialize<'de>> Visitor<'de> for ListOf<E> {
    type Value = Option<Vec<E>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        use serde::de::Error;
        let mut found = None;
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            if key != self.0 {
                map.next_value::<IgnoredAny>()?;
            } else if found.is_none() {
                found = Some(map.next_value()?);
            } else {
                return Err(Error::duplicate_field(self.0));
            }
        }
        Ok(found.flatten())
    }
}
