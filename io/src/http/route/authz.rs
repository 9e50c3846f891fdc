//! `/v1/ext_authz/…`: a gateway's check of a request, which the target is added to.
//!
//! Envoy's HTTP `ext_authz` sends method, path and body of the original request, nginx's `auth_request` only its
//! head. The check never refuses a request because of what is in it: what cannot be read is routed by
//! load, and what names no model is left to the gateway's own routing.
use super::choice::Wish;
use super::render;
use super::request::{PROMPT, TOKEN_IDS, is_completion, is_ids};
use super::shadow;
use crate::http::error::ApiError;
use crate::http::json;
use crate::http::lookup::{Prompt, Query};
use crate::http::match_request::given;
use crate::http::params;
use crate::http::prompt::Scratch;
use crate::http::state::{Call, Step, ThreadState};
use crate::http::text::{self, Text};
use crate::status::RouteError;
use crate::tokenize::{Asker, Tokenizer};
use hyper::StatusCode;
use hyper::header::{CONTENT_ENCODING, HeaderName};
use kvroute_engine::types::TokenBytes;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// The model, where the body does not say it.
const MODEL: HeaderName = HeaderName::from_static("x-kvroute-model");
/// Envoy has cut the body.
const PARTIAL: HeaderName = HeaderName::from_static("x-envoy-auth-partial-body");

/// What of the original body matters, in the words of engines. Not the fields of `/v1/route`: it is the
/// gateway's clients who write it, and they do not choose their pod.
#[derive(Debug, Default, Deserialize)]
struct Original<'b> {
    model: Option<String>,
    cache_salt: Option<String>,
    /// Of completions: text or token ids.
    #[serde(borrow)]
    prompt: Option<&'b RawValue>,
    /// Of `/inference/v1/generate`, which takes nothing else.
    #[serde(borrow)]
    token_ids: Option<&'b RawValue>,
}

/// A request as far as it could be read.
#[derive(Debug, Default)]
struct Seen<'s> {
    model: Option<String>,
    cache_salt: Option<String>,
    tokens: Option<&'s [TokenBytes]>,
    /// There was a body of which not all could be read.
    unread: bool,
}

/// Answers a check.
pub(in crate::http) fn check(state: &mut ThreadState, call: &Call<'_>) -> Result<Step, ApiError> {
    state.reading(|state, scratch| read(state, call, scratch))
}

/// Reads a body as far as it goes: at once if the path says where its token ids are and they are there.
fn read(state: &mut ThreadState, call: &Call<'_>, scratch: &mut Scratch) -> Result<Step, ApiError> {
    let (body, path) = (call.body, call.uri.path());
    if call.cut || says(call, &PARTIAL, "true") || is_coded(call) {
        return respond(state, call, &Seen::in_part(call));
    }
    let probably = match path {
        _ if is_completion(path) => Some(PROMPT),
        _ if path.ends_with("/generate") => Some(TOKEN_IDS),
        _ => None,
    };
    if let Some(name) = probably
        && let Ok(parsed) = scratch.json::<Original<'_>>(body, name)
        && let Some(tokens @ [_, ..]) = parsed.tokens
    {
        return respond(state, call, &Seen::whole(parsed.fields, Some(tokens)));
    }
    let Ok(original) = json::object::<Original<'_>>(body) else {
        return respond(state, call, &Seen::in_part(call));
    };
    // Where engines look for it: on a path that is said, nowhere else.
    let list = original.list();
    let list = list.filter(|name| call.rest.is_empty() || probably == Some(*name));
    let parsed = list.and_then(|name| scratch.json::<Unread>(body, name).ok());
    let tokens = parsed.and_then(|parsed| parsed.tokens);
    respond(state, call, &Seen::whole(original, tokens))
}

impl Original<'_> {
    /// The field that has token ids.
    fn list(&self) -> Option<&'static str> {
        let lists = [(TOKEN_IDS, self.token_ids), (PROMPT, self.prompt)];
        let mut lists = lists.into_iter();
        let list = lists.find(|(_, list)| list.is_some_and(is_ids));
        list.map(|(name, _)| name)
    }
}

impl<'s> Seen<'s> {
    fn whole(original: Original<'_>, tokens: Option<&'s [TokenBytes]>) -> Self {
        Self {
            model: original.model.filter(|model| !model.is_empty()),
            cache_salt: original.cache_salt,
            tokens,
            unread: false,
        }
    }

    fn in_part(call: &Call<'_>) -> Self {
        Self {
            model: first_model(call.body),
            unread: call.cut || !call.body.is_empty(),
            ..Self::default()
        }
    }
}

fn respond(state: &mut ThreadState, call: &Call<'_>, seen: &Seen<'_>) -> Result<Step, ApiError> {
    let ThreadState {
        fleet,
        lookup,
        traced,
        live,
        router,
        tokenizer,
        ..
    } = state;
    let only = || {
        let view = fleet.view();
        let mut models = view.models();
        let only = models.next().map(str::to_owned);
        only.filter(|_| models.next().is_none())
    };
    let named = seen.model.clone().or_else(|| model_of_head(call));
    let Some(model) = named.or_else(|| seen.unread.then(only).flatten()) else {
        return Ok(Step::Done(render::nothing()));
    };
    if !lookup.knows(fleet, &model) {
        let message = format!("no worker serves a model or an adapter {model:?}");
        let status = StatusCode::SERVICE_UNAVAILABLE;
        router.failed(&fleet.view(), None, RouteError::UnknownModel);
        return Err(ApiError::new(status, "no_eligible_worker", message).at("model"));
    }
    let text = match seen.tokens {
        Some(_) => Text::None,
        None => text_of(tokenizer.as_ref(), call, seen, &model),
    };
    let tokens = match (&text, seen.tokens) {
        (Text::Wanted(ask), _) => return Ok(Step::Tokenize(vec![ask.clone()])),
        (Text::Known { tokens, .. }, _) => Some(text::bytes(tokens)),
        (_, tokens) => tokens,
    };
    let wish = Wish {
        query: Query {
            model: &model,
            lora: None,
            cache_salt: given(seen.cache_salt.as_deref()),
            extra_keys: &[],
            block_size: None,
            prompt: Prompt::Tokens(tokens.unwrap_or_default()),
        },
        tokens_known: tokens.is_some(),
        items: matches!(text, Text::Known { items: true, .. }),
        habit: live.routing.habit,
        policy: None,
        minimum_match: None,
        session: live.routing.session(call.headers),
        loads: None,
        named: None,
        dry_run: false,
        body: call.body,
        actual: shadow::said(call.headers),
    };
    router
        .decide(fleet, lookup, traced, &wish, |decided, _| {
            render::headers_only(decided)
        })?
        .map(Step::Done)
}

/// The text of a body that was read whole, if its path says that it is one of engines' prompts.
fn text_of(tokenizer: Option<&Tokenizer>, call: &Call<'_>, seen: &Seen<'_>, model: &str) -> Text {
    let wanted = text::wanted_of_check(call).filter(|_| !seen.unread);
    let Some(wanted) = wanted else {
        return Text::None;
    };
    let asker = Asker {
        model,
        lora: None,
        items_known: false,
    };
    Text::find(tokenizer, call.told, call.body, wanted, &asker)
}

/// Fields that are not looked at.
#[derive(Debug, Deserialize)]
struct Unread {}

fn says(call: &Call<'_>, header: &HeaderName, value: &str) -> bool {
    let given = call.headers.get(header);
    given.is_some_and(|given| given.as_bytes().eq_ignore_ascii_case(value.as_bytes()))
}

fn is_coded(call: &Call<'_>) -> bool {
    call.headers.contains_key(CONTENT_ENCODING) && !says(call, &CONTENT_ENCODING, "identity")
}

/// The model by header, or else by query parameter.
fn model_of_head(call: &Call<'_>) -> Option<String> {
    let header = call
        .headers
        .get(MODEL)
        .and_then(|value| value.to_str().ok());
    let header = given(header).map(str::to_owned);
    header.or_else(|| {
        let mut pairs = params::pairs(call.query());
        let (name, value) = pairs.find(|(name, _)| *name == "model")?;
        let model = params::decode_value(name, value).ok()?;
        Some(model).filter(|model| !model.is_empty())
    })
}

/// The model in a JSON object that may break off behind it.
fn first_model(body: &[u8]) -> Option<String> {
    let mut found = None;
    let mut json = serde_json::Deserializer::from_slice(body);
    // It fails where the body breaks off; what was found before counts.
    let _ = ModelIn(&mut found).deserialize(&mut json);
    found
}

struct ModelIn<'m>(&'m mut Option<String>);

impl<'de> DeserializeSeed<'de> for ModelIn<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ModelIn<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            if key == "model" {
                let model: String = map.next_value()?;
                *self.0 = Some(model).filter(|model| !model.is_empty());
                return Ok(());
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_body_says_its_model_if_it_came_first() {
        for (body, model) in [
            (r#"{"model":"m","messages":[{"role":"us"#, Some("m")),
            (r#"{"stream":true,"model":"m","#, Some("m")),
            (r#"{"model":"m"}"#, Some("m")),
            (r#"{"model":"long-na"#, None),
            (r#"{"messages":[{"model":"inner"}],"mod"#, None),
            (r#"{"model":7,"#, None),
            (r#"{"model":"","#, None),
            (r#"["model","m"]"#, None),
            ("", None),
        ] {
            assert_eq!(first_model(body.as_bytes()).as_deref(), model, "{body}");
        }
    }
}
