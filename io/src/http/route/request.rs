//! `POST /v1/route`: the fields of a match and those of the choice, or an OpenAI body as it is.
use super::choice::{Loads, Wish};
use super::render;
use super::shadow;
use crate::http::error::{ApiError, Reply};
use crate::http::extra::Entry;
use crate::http::lookup::{Prompt, Query};
use crate::http::match_request::{
    Params, given, limit_in_bounds, names_in_bounds, not_zero, required,
};
use crate::http::params;
use crate::http::prompt::{self, Hash, Parsed, Scratch};
use crate::http::state::{Call, Step, ThreadState};
use crate::http::text::{self, Text};
use crate::tokenize::{Asker, Wanted};
use kvroute_engine::choose::Policy;
use kvroute_engine::hash::SEED_DEFAULT;
use kvroute_engine::types::{BlockKey, TokenBytes};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

/// Where the token ids are in `/v1/route`'s own words.
pub(super) const TOKEN_IDS: &str = "token_ids";
/// Where they are in a completion's.
pub(super) const PROMPT: &str = "prompt";

/// Whether a path is that of completions, behind whatever prefix.
pub(super) fn is_completion(path: &str) -> bool {
    path.ends_with("/v1/completions")
}

/// All fields but the token ids. Unknown ones are ignored, as engines do.
#[derive(Debug, Default, Deserialize)]
struct Fields<'b> {
    model: Option<String>,
    lora: Option<String>,
    cache_salt: Option<String>,
    #[serde(borrow)]
    extra_keys: Option<Vec<Entry<'b>>>,
    block_size: Option<u32>,
    candidates: Option<Vec<String>>,
    limit: Option<u64>,
    #[serde(borrow)]
    prompt: Option<&'b RawValue>,
    messages: Option<IgnoredAny>,
    block_hashes: Option<Vec<Hash>>,
    policy: Option<String>,
    loads: Option<Loads>,
    minimum_match: Option<u64>,
    dry_run: Option<bool>,
}

/// How the choice is made, of a binary request.
#[derive(Clone, Copy, Debug, Default)]
struct How {
    policy: Option<Policy>,
    minimum_match: Option<u64>,
    dry_run: bool,
}

/// Answers `POST /v1/route`, and the same with OpenAI's paths behind it.
pub(in crate::http) fn answer(state: &mut ThreadState, call: &Call<'_>) -> Result<Step, ApiError> {
    if call.sends_octets() {
        return octets(state, call).map(Step::Done);
    }
    state.reading(|state, scratch| of_json(state, call, scratch))
}

/// Reads the token ids where they probably are, by the path, so that a body is gone through once; else where
/// they may be, too.
fn of_json(
    state: &mut ThreadState,
    call: &Call<'_>,
    scratch: &mut Scratch,
) -> Result<Step, ApiError> {
    if is_completion(call.uri.path()) {
        let wrong = match scratch.json::<Fields<'_>>(call.body, PROMPT) {
            Ok(parsed) if parsed.tokens.is_some() => {
                return with(state, call, &parsed.fields, parsed.tokens, PROMPT);
            }
            Ok(_) => None,
            Err(error) => Some(error),
        };
        let parsed: Parsed<'_, Fields<'_>> = scratch.json(call.body, TOKEN_IDS)?;
        return match wrong {
            // A list that is not one of token ids, and not text either.
            Some(error) if parsed.fields.prompt.is_some_and(is_ids) => Err(error),
            _ => with(state, call, &parsed.fields, parsed.tokens, TOKEN_IDS),
        };
    }
    let parsed: Parsed<'_, Fields<'_>> = scratch.json(call.body, TOKEN_IDS)?;
    if parsed.tokens.is_some() || !parsed.fields.prompt.is_some_and(is_ids) {
        return with(state, call, &parsed.fields, parsed.tokens, TOKEN_IDS);
    }
    let parsed: Parsed<'_, Fields<'_>> = scratch.json(call.body, PROMPT)?;
    with(state, call, &parsed.fields, parsed.tokens, PROMPT)
}

/// `name` is the field that has the tokens, if there are any.
fn with(
    state: &mut ThreadState,
    call: &Call<'_>,
    fields: &Fields<'_>,
    tokens: Option<&[TokenBytes]>,
    name: &str,
) -> Result<Step, ApiError> {
    let seed = state.fleet.index().hash_seed();
    let keys: Vec<BlockKey>;
    let model = required("model", fields.model.as_deref())?;
    let text = match (tokens, &fields.block_hashes) {
        (None, None) => text_of(state, call, fields, model),
        _ => Text::None,
    };
    let (prompt, tokens_known) = match (tokens, &fields.block_hashes) {
        (Some(_), Some(_)) => {
            let message = format!("give either {name} or block_hashes");
            return Err(ApiError::field("block_hashes", message));
        }
        (Some([]), None) => {
            return Err(ApiError::field(name, "must not be empty"));
        }
        (Some(tokens), None) => (Prompt::Tokens(tokens), true),
        (None, Some(hashes)) => {
            keys = block_keys(fields, hashes, seed)?;
            (Prompt::Keys(&keys), true)
        }
        (None, None) => match &text {
            Text::Known { tokens, .. } => (Prompt::Tokens(text::bytes(tokens)), true),
            _ => (Prompt::Tokens(&[]), false),
        },
    };
    let query = Query {
        model,
        lora: given(fields.lora.as_deref()),
        cache_salt: given(fields.cache_salt.as_deref()),
        extra_keys: fields.extra_keys.as_deref().unwrap_or_default(),
        block_size: not_zero(fields.block_size)?,
        prompt,
    };
    let named = names_in_bounds(fields.candidates.as_deref())?;
    let limit = limit_in_bounds(fields.limit, named.is_some())?;
    let wish = Wish {
        query,
        tokens_known,
        items: matches!(text, Text::Known { items: true, .. }),
        habit: state.live.routing.habit,
        policy: policy(fields.policy.as_deref())?,
        minimum_match: fields.minimum_match,
        session: state.live.routing.session(call.headers),
        loads: fields.loads.as_ref(),
        named,
        dry_run: fields.dry_run.unwrap_or(false),
        body: call.body,
        actual: shadow::said(call.headers),
    };
    if let Text::Wanted(ask) = &text
        && state.lookup.knows(&state.fleet, model)
    {
        return Ok(Step::Tokenize(vec![ask.clone()]));
    }
    respond(state, call, &wish, limit).map(Step::Done)
}

/// The text of a request without token ids. Whatever it lacks, it is routed.
fn text_of(state: &ThreadState, call: &Call<'_>, fields: &Fields<'_>, model: &str) -> Text {
    if fields.prompt.is_none() && fields.messages.is_none() {
        return Text::None;
    }
    let wanted = text::wanted_by(call.uri.path()).unwrap_or(Wanted::Either);
    let asker = Asker {
        model,
        lora: given(fields.lora.as_deref()),
        items_known: fields.extra_keys.is_some(),
    };
    let tokenizer = state.tokenizer.as_ref();
    Text::find(tokenizer, call.told, call.body, wanted, &asker)
}

fn respond(
    state: &mut ThreadState,
    call: &Call<'_>,
    wish: &Wish<'_>,
    limit: usize,
) -> Result<Reply, ApiError> {
    let ThreadState {
        fleet,
        lookup,
        traced,
        router,
        ..
    } = state;
    router.decide(fleet, lookup, traced, wish, |decided, scores| {
        render::full(decided, scores, wish.named, limit, call.wants_msgpack())
    })?
}

/// Token ids as bytes, the other fields as query parameters.
fn octets(state: &mut ThreadState, call: &Call<'_>) -> Result<Reply, ApiError> {
    let params = Params::read(call.query())?;
    let request = params.request()?;
    let tokens: &[TokenBytes] = prompt::octets(call.body)?;
    let how = How::read(call.query())?;
    let named = request.candidates()?;
    let wish = Wish {
        query: Query {
            model: request.model()?,
            lora: request.lora(),
            cache_salt: request.cache_salt(),
            extra_keys: request.extra_keys(),
            block_size: request.block_size()?,
            prompt: Prompt::Tokens(tokens),
        },
        tokens_known: true,
        items: false,
        habit: state.live.routing.habit,
        policy: how.policy,
        minimum_match: how.minimum_match,
        session: state.live.routing.session(call.headers),
        loads: None,
        named,
        dry_run: how.dry_run,
        body: call.body,
        actual: shadow::said(call.headers),
    };
    respond(state, call, &wish, request.limit()?)
}

impl How {
    /// From a query string; of repeated parameters the last counts.
    fn read(query: &str) -> Result<Self, ApiError> {
        let mut how = Self::default();
        for (name, value) in params::pairs(query) {
            match name {
                "policy" => how.policy = policy(Some(&params::decode_value(name, value)?))?,
                "minimum_match" => how.minimum_match = Some(params::number(name, value)?),
                "dry_run" => how.dry_run = params::number(name, value)?,
                _ => {}
            }
        }
        Ok(how)
    }
}

fn policy(name: Option<&str>) -> Result<Option<Policy>, ApiError> {
    let named = |name| {
        Policy::named(name).ok_or_else(|| {
            let known = Policy::ALL.map(Policy::as_str).join(", ");
            ApiError::field("policy", format!("{name:?}; there are {known}"))
        })
    };
    name.map(named).transpose()
}

/// Hashes of blocks as this node's keys. Only the default seed is known to clients, and what else is in a block's key
/// is in the hash already.
fn block_keys(fields: &Fields<'_>, hashes: &[Hash], seed: u64) -> Result<Vec<BlockKey>, ApiError> {
    let refused = |message: &str| Err(ApiError::field("block_hashes", message));
    if seed != SEED_DEFAULT {
        return refused("this node's hash seed is private: send token_ids");
    }
    if hashes.is_empty() {
        return refused("must not be empty");
    }
    if fields.extra_keys.is_some() || given(fields.cache_salt.as_deref()).is_some() {
        return refused("cannot be combined with extra_keys or cache_salt: send token_ids");
    }
    Ok(hashes.iter().map(|hash| hash.0).collect())
}

/// Whether a completion's prompt is a list of token ids, and not text or several prompts.
pub(super) fn is_ids(prompt: &RawValue) -> bool {
    let inside = prompt.get().strip_prefix('[').map(str::trim_start);
    inside.is_some_and(|inside| inside.starts_with(|c: char| c.is_ascii_digit() || c == '-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_ids_are_told_from_text() {
        for (json, expected) in [
            ("[1, 2]", true),
            ("[ \n7]", true),
            ("[-1]", true),
            ("[]", false),
            ("[[1, 2]]", false),
            ("[\"a\"]", false),
            ("\"[1]\"", false),
            ("7", false),
        ] {
            let raw: &RawValue = serde_json::from_str(json).unwrap();
            assert_eq!(is_ids(raw), expected, "{json}");
        }
    }
}
