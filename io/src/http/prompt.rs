//! The token ids of a request's body, and its other fields.
//!
//! The ids of a JSON body are read into a buffer of the thread's; those of a binary body stay where they are.
use super::error::ApiError;
use super::json;
use kvroute_engine::types::TokenBytes;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use std::fmt;

/// What a thread reads bodies into, again and again.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    tokens: Vec<u32>,
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
    pub(super) fn json<'s, T: Deserialize<'s>>(
        &'s mut self,
        body: &'s [u8],
        name: &'static str,
    ) -> Result<Parsed<'s, T>, ApiError> {
        let tokens = json::seeded(body, || TokensOf(name))?;
        let fields = json::object(body)?;
        self.tokens.clear();
        let given = tokens.is_some();
        self.tokens.extend(tokens.unwrap_or_default());
        let tokens = given.then(|| bytemuck::cast_slice(&self.tokens));
        Ok(Parsed { fields, tokens })
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
