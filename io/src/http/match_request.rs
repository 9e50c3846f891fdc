//! The request of `POST /v1/match`, as JSON or as binary token ids with query parameters.
use super::error::ApiError;
use super::extra::Entry;
use super::params;
use crate::limits::{CANDIDATES_DEFAULT, CANDIDATES_MAX};
use crate::tokenize::Failure;
use hyper::StatusCode;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// All fields but the token ids. Unknown ones are ignored, as engines do.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Request<'b> {
    model: Option<String>,
    prompt: Option<IgnoredAny>,
    messages: Option<IgnoredAny>,
    lora: Option<String>,
    cache_salt: Option<String>,
    #[serde(borrow)]
    extra_keys: Option<Vec<Entry<'b>>>,
    block_size: Option<u32>,
    candidates: Option<Vec<String>>,
    limit: Option<u64>,
}

impl Request<'_> {
    /// The model's name, which must be there.
    pub(super) fn model(&self) -> Result<&str, ApiError> {
        required("model", self.model.as_deref())
    }

    /// The adapter's name.
    pub(super) fn lora(&self) -> Option<&str> {
        given(self.lora.as_deref())
    }

    /// The cache salt; engines take an empty one for none.
    pub(super) fn cache_salt(&self) -> Option<&str> {
        given(self.cache_salt.as_deref())
    }

    /// The blocks' extra keys.
    pub(super) fn extra_keys(&self) -> &[Entry<'_>] {
        self.extra_keys.as_deref().unwrap_or_default()
    }

    /// The block size asked for.
    pub(super) fn block_size(&self) -> Result<Option<u32>, ApiError> {
        not_zero(self.block_size)
    }

    /// The pods asked for.
    pub(super) fn candidates(&self) -> Result<Option<&[String]>, ApiError> {
        names_in_bounds(self.candidates.as_deref())
    }

    /// How many candidates the answer may list. Where pods are named and no limit is, all of them.
    pub(super) fn limit(&self) -> Result<usize, ApiError> {
        limit_in_bounds(self.limit, self.candidates.is_some())
    }

    /// The field with the text, if there is one. Of both, the messages count, as for engines.
    pub(super) fn text(&self) -> Option<&'static str> {
        let text = [("messages", &self.messages), ("prompt", &self.prompt)];
        let mut text = text.iter().filter(|(_, given)| given.is_some());
        text.next().map(|(field, _)| *field)
    }

    /// Whether the blocks' extra keys are given.
    pub(super) fn says_extra_keys(&self) -> bool {
        self.extra_keys.is_some()
    }

    /// Why there are no token ids in a JSON body; `tokenizer` says whether text could have been tokenized.
    pub(super) fn no_tokens(&self, tokenizer: bool) -> ApiError {
        match self.text() {
            Some(field) if tokenizer => ApiError::field(field, "is not text that engines tokenize"),
            Some(field) => {
                let message =
                    format!("{field} needs a tokenizer, which this node has not: send token_ids");
                let code = "tokenizer_unavailable";
                ApiError::new(StatusCode::BAD_REQUEST, code, message).at(field)
            }
            None => ApiError::field("token_ids", "missing"),
        }
    }

    /// Why text has no tokens.
    pub(super) fn untokenized(&self, failure: &Failure) -> ApiError {
        let field = self.text().unwrap_or("prompt");
        match failure {
            Failure::Refused(message) => ApiError::field(field, &**message),
            Failure::Unsupported(why) => ApiError::field(field, *why),
            _ => {
                let message = format!("{field} cannot be tokenized now: {failure}");
                let status = StatusCode::SERVICE_UNAVAILABLE;
                ApiError::new(status, "tokenizer_unavailable", message).at(field)
            }
        }
    }
}

/// Names of pods, if they are not too many.
pub(super) fn names_in_bounds(names: Option<&[String]>) -> Result<Option<&[String]>, ApiError> {
    if names.is_some_and(|names| names.len() > CANDIDATES_MAX) {
        let message = format!("more than {CANDIDATES_MAX} names");
        return Err(ApiError::field("candidates", message));
    }
    Ok(names)
}

/// How many candidates an answer may list, by what was asked and whether pods are named.
pub(super) fn limit_in_bounds(limit: Option<u64>, named: bool) -> Result<usize, ApiError> {
    match limit.map(usize::try_from) {
        None if named => Ok(CANDIDATES_MAX),
        None => Ok(CANDIDATES_DEFAULT),
        Some(Ok(limit @ 1..=CANDIDATES_MAX)) => Ok(limit),
        Some(_) => {
            let limit = limit.unwrap_or_default();
            let message = format!("{limit}; 1 to {CANDIDATES_MAX} are possible");
            Err(ApiError::field("limit", message))
        }
    }
}

/// A field that must be there and not be empty.
pub(super) fn required<'f>(name: &str, value: Option<&'f str>) -> Result<&'f str, ApiError> {
    match value {
        None => Err(ApiError::field(name, "missing")),
        Some("") => Err(ApiError::field(name, "must not be empty")),
        Some(value) => Ok(value),
    }
}

/// An optional name or salt: an empty one is none.
pub(super) fn given(value: Option<&str>) -> Option<&str> {
    value.filter(|value| !value.is_empty())
}

/// A block size that, if given, is one.
pub(super) fn not_zero(block_size: Option<u32>) -> Result<Option<u32>, ApiError> {
    match block_size {
        Some(0) => Err(ApiError::field("block_size", "must not be 0")),
        given => Ok(given),
    }
}

/// The query parameters of a binary request, decoded.
#[derive(Debug, Default)]
pub(super) struct Params {
    fields: Request<'static>,
    /// JSON text.
    extra_keys: Option<String>,
}

impl Params {
    /// Decodes a query string; unknown parameters are ignored, of repeated ones the last counts.
    pub(super) fn read(query: &str) -> Result<Self, ApiError> {
        let mut params = Self::default();
        let fields = &mut params.fields;
        for (name, value) in params::pairs(query) {
            match name {
                "model" => fields.model = Some(params::decode_value(name, value)?),
                "lora" => fields.lora = Some(params::decode_value(name, value)?),
                "cache_salt" => fields.cache_salt = Some(params::decode_value(name, value)?),
                "extra_keys" => params.extra_keys = Some(params::decode_value(name, value)?),
                "block_size" => fields.block_size = Some(params::number(name, value)?),
                "limit" => fields.limit = Some(params::number(name, value)?),
                "candidates" => {
                    let names = fields.candidates.get_or_insert_default();
                    for item in value.split(',').filter(|item| !item.is_empty()) {
                        names.push(params::decode_value(name, item)?);
                    }
                }
                _ => {}
            }
        }
        Ok(params)
    }

    /// The same fields as a JSON body has.
    pub(super) fn request(&self) -> Result<Request<'_>, ApiError> {
        let fields = &self.fields;
        let extra_keys = match &self.extra_keys {
            Some(text) => serde_json::from_str(text)
                .map_err(|error| ApiError::field("extra_keys", error.to_string()))?,
            None => None,
        };
        Ok(Request {
            model: fields.model.clone(),
            lora: fields.lora.clone(),
            cache_salt: fields.cache_salt.clone(),
            extra_keys,
            block_size: fields.block_size,
            candidates: fields.candidates.clone(),
            limit: fields.limit,
            ..Request::default()
        })
    }
}
