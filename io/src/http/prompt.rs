//! The token ids of a request's body, and its other fields.
//!
//! The ids of a JSON body are read into a buffer of the thread's; those of a binary body stay where they are.
use super::error::ApiError;
use super::json;
use crate::ids::{self, Ids};
use crate::limits::SCRATCH_BYTES_MAX;
use kvroute_engine::types::TokenBytes;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use std::fmt;

/// What a thread reads bodies into, again and again.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    ids: Ids,
    /// The body without the list.
    rest: Vec<u8>,
}

/// A JSON body.
#[derive(Debug)]
pub(super) struct Parsed<'s, T> {
    /// All but the token ids, of which it must have no field.
    pub(super) fields: T,
    /// None if they are not given, or null; there may be none in the list, too.
    pub(super) tokens: Option<&'s [TokenBytes]>,
}

impl Scratch {
    /// Reads a body that must be a JSON object, whose field `name` is a list of token ids, null or left out.
    ///
    /// The list is taken out first, and serde_json reads the rest. Where that does not go, serde_json reads all of
    /// it, and says what is wrong.
    pub(super) fn json<'s, T: Deserialize<'s>>(
        &'s mut self,
        body: &'s [u8],
        name: &'static str,
    ) -> Result<Parsed<'s, T>, ApiError> {
        let split = self.split(body, name).is_some();
        let mut given = split;
        if !split {
            let tokens = json::seeded(body, || TokensOf(name))?;
            given = tokens.is_some();
            self.ids.replace(tokens.unwrap_or_default());
        }
        let fields = if split {
            // The error must be about the body as it came.
            json::object(&self.rest).or_else(|_| json::object(body))
        } else {
            json::object(body)
        };
        let tokens = given.then(|| bytemuck::cast_slice(self.ids.as_slice()));
        fields.map(|fields| Parsed { fields, tokens })
    }

    /// Takes the list out, if it is as usual.
    fn split(&mut self, body: &[u8], name: &str) -> Option<()> {
        let list = ids::split(body, name, &mut self.ids)?;
        self.rest.clear();
        self.rest.extend_from_slice(body.get(..list.start)?);
        self.rest.extend_from_slice(b"null");
        self.rest.extend_from_slice(body.get(list.end..)?);
        Some(())
    }

    /// Gives memory back that only the largest bodies need.
    pub(super) fn shrink(&mut self) {
        self.ids.shrink(SCRATCH_BYTES_MAX / size_of::<u32>());
        if self.rest.capacity() > SCRATCH_BYTES_MAX {
            self.rest = Vec::new();
        }
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

/// One field of an object, the others being read over.
#[derive(Clone, Copy, Debug)]
struct TokensOf(&'static str);

impl<'de> DeserializeSeed<'de> for TokensOf {
    type Value = Option<Vec<u32>>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for TokensOf {
    type Value = Option<Vec<u32>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        use serde::de::Error;
        let mut found = None;
        while let Some(key) = map.next_key::<std::borrow::Cow<'_, str>>()? {
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
