//! What a tokenizer is asked, made from a request's body; pure.
//!
//! A chat body is passed on whole: what is in it is the template's business. Three things are changed: an adapter that the
//! request names beside the model becomes the model, as engines take it; and `documents` and `reasoning_effort`, which engines hand
//! to the template in a chat but do not read in `/tokenize`, go where both read them, among the template's arguments. Of
//! a completion only the prompt and whether it gets special tokens are sent.
use super::items::has_items;
use super::key::{self, Key, KeyOf};
use crate::otel::Passed;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// Which kind of prompt a body is looked through for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The text of a completion.
    Prompt,
    /// The messages of a chat.
    Chat,
    /// Whichever there is; messages, if both are, as engines do.
    Either,
}

/// A prompt as text, with all that its tokens depend on.
#[derive(Clone, Debug)]
pub struct Ask {
    model: Box<str>,
    lora: Option<Box<str>>,
    body: Arc<[u8]>,
    key: Key,
    afresh: bool,
    wants_items: bool,
    /// What whoever is asked is told of the trace.
    passed: Option<Box<Passed>>,
}

/// Text whose tokens engines would not tell as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// The field that is in the way.
    pub field: &'static str,
    /// Why.
    pub why: &'static str,
}

/// Who asks, beside the body.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// The model's name, or an adapter's.
    pub model: &'a str,
    /// The adapter's name, if it stands beside the model's.
    pub lora: Option<&'a str>,
    /// Whether what the prompt's images and the like are is known otherwise: by `extra_keys`.
    pub items_known: bool,
}

impl Ask {
    /// Reads a body, a JSON object; nothing if there is no text in it. O(bytes).
    pub fn read(body: &[u8], wanted: Wanted, asker: &Asker<'_>) -> Result<Option<Self>, Unfit> {
        let Ok(fields) = serde_json::from_slice::<Fields<'_>>(body) else {
            return Ok(None);
        };
        let messages = fields.get("messages").filter(|_| wanted != Wanted::Prompt);
        let prompt = fields.get("prompt").filter(|_| wanted != Wanted::Chat);
        match (messages, prompt) {
            (Some(messages), _) => fields.fit().map(|()| {
                let body = fields.chat(body, asker);
                let wants_items = !asker.items_known && has_items(messages);
                let key = fields.key(asker, true, wants_items);
                Some(Self::new(asker, body, key, wants_items))
            }),
            (None, Some(prompt)) if prompt.get().starts_with('"') => fields.fit().map(|()| {
                let body = fields.completion(prompt, asker);
                Some(Self::new(
                    asker,
                    body,
                    fields.key(asker, false, false),
                    false,
                ))
            }),
            (None, Some(prompt)) if prompt.get().starts_with('[') => Err(Unfit {
                field: "prompt",
                why: "several prompts at once are not tokenized: send them one by one",
            }),
            _ => Ok(None),
        }
    }

    fn new(asker: &Asker<'_>, body: Vec<u8>, key: Key, wants_items: bool) -> Self {
        Self {
            model: asker.model.into(),
            lora: asker.lora.map(Into::into),
            body: body.into(),
            key,
            afresh: false,
            wants_items,
            passed: None,
        }
    }

    /// The same, of a request with a trace.
    #[must_use]
    pub fn traced(self, passed: Passed) -> Self {
        let passed = Some(Box::new(passed));
        Self { passed, ..self }
    }

    /// What whoever is asked is told of the trace.
    pub(super) fn passed(&self) -> Option<&Passed> {
        self.passed.as_deref()
    }

    /// The same, answered by an engine in any case: not from what is remembered, nor together with others.
    #[must_use]
    pub fn afresh(self) -> Self {
        let afresh = true;
        // Nor is it part of the request any more.
        let passed = None;
        Self {
            afresh,
            passed,
            ..self
        }
    }

    /// The model as it was asked for: a model's name, or an adapter's.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    /// The adapter, if it was named beside the model.
    #[must_use]
    pub fn lora(&self) -> Option<&str> {
        self.lora.as_deref()
    }

    /// What is sent to `/tokenize`.
    #[must_use]
    pub fn body(&self) -> &Arc<[u8]> {
        &self.body
    }

    /// Whether another one has the same tokens, if the same engine is asked.
    #[must_use]
    pub fn is_equal(&self, other: &Self) -> bool {
        self.key == other.key
    }

    /// Stands for all that the tokens depend on, but for who makes them.
    pub(super) fn key(&self) -> Key {
        self.key
    }

    /// Whether it must be answered by an engine.
    #[must_use]
    pub fn is_afresh(&self) -> bool {
        self.afresh
    }

    /// Whether there are images and the like in it, of which only the placeholders will be known.
    #[must_use]
    pub fn wants_items(&self) -> bool {
        self.wants_items
    }
}

/// The fields of an object as they stand there.
#[derive(Debug)]
struct Fields<'b>(Vec<(Cow<'b, str>, &'b RawValue)>);

/// Fields by which an engine's prompt is another one than `/tokenize` says.
const UNFIT: [Unfit; 2] = [
    Unfit {
        field: "truncate_prompt_tokens",
        why: "engines do not say the tokens of a prompt that they cut",
    },
    Unfit {
        field: "prompt_embeds",
        why: "embeddings have no tokens",
    },
];

/// Fields that engines hand to the chat's template, but do not read in `/tokenize`.
const TEMPLATES: [&str; 2] = ["documents", "reasoning_effort"];

impl Fields<'_> {
    /// A field's value; of a repeated one the last counts, null counts as none.
    fn get(&self, name: &str) -> Option<&RawValue> {
        let mut named = self.0.iter().rev().filter(|(key, _)| key == name);
        let value = named.next()?.1;
        (value.get() != "null").then_some(value)
    }

    fn fit(&self) -> Result<(), Unfit> {
        let found = UNFIT.iter().find(|unfit| self.get(unfit.field).is_some());
        found.map_or(Ok(()), |unfit| Err(*unfit))
    }

    fn key(&self, asker: &Asker<'_>, chat: bool, wants_items: bool) -> Key {
        let kind = match (chat, wants_items) {
            (false, _) => "prompt",
            (true, false) => "chat",
            (true, true) => "chat with items",
        };
        let mut key = KeyOf::new(kind);
        key.add(asker.model);
        key.add(asker.lora.unwrap_or_default());
        for (name, value) in &self.0 {
            let matters = match chat {
                true => !key::is_irrelevant(name),
                false => matches!(&**name, "prompt" | "add_special_tokens" | "cache_salt"),
            };
            if matters {
                key.add(name);
                key.add(value.get());
            }
        }
        key.finish()
    }

    fn completion(&self, prompt: &RawValue, asker: &Asker<'_>) -> Vec<u8> {
        let model = serde_json::Value::from(asker.lora.unwrap_or(asker.model));
        let mut body = format!("{{\"model\":{model},\"prompt\":{}", prompt.get());
        if let Some(special) = self.get("add_special_tokens") {
            body += ",\"add_special_tokens\":";
            body += special.get();
        }
        body += "}";
        body.into_bytes()
    }

    fn chat(&self, whole: &[u8], asker: &Asker<'_>) -> Vec<u8> {
        let moved = TEMPLATES.map(|name| Some((name, self.get(name)?)));
        if asker.lora.is_none() && moved.iter().all(Option::is_none) {
            return whole.to_vec();
        }
        let mut object = String::with_capacity(whole.len() + 128);
        let mut add = |name: &str, value: &str| {
            object += if object.is_empty() { "{" } else { "," };
            object += &serde_json::Value::from(name).to_string();
            object += ":";
            object += value;
        };
        if let Some(lora) = asker.lora {
            add("model", &serde_json::Value::from(lora).to_string());
        }
        let moved: Vec<_> = moved.into_iter().flatten().collect();
        if !moved.is_empty() {
            add("chat_template_kwargs", &self.arguments(&moved));
        }
        for (name, value) in &self.0 {
            let replaced = match &**name {
                "model" => asker.lora.is_some(),
                "chat_template_kwargs" => !moved.is_empty(),
                _ => false,
            };
            if !replaced {
                add(name, value.get());
            }
        }
        object += "}";
        object.into_bytes()
    }

    /// The arguments of the template, and these in place of what they say of the same names, as engines merge them.
    fn arguments(&self, moved: &[(&str, &RawValue)]) -> String {
        let given = self.get("chat_template_kwargs");
        let given = given.and_then(|given| serde_json::from_str::<Fields<'_>>(given.get()).ok());
        let given = given.iter().flat_map(|given| &given.0);
        let kept = given
            .filter(|(name, _)| moved.iter().all(|(other, _)| name != other))
            .map(|(name, value)| (&**name, *value));
        let all = kept.chain(moved.iter().copied());
        let pairs =
            all.map(|(name, value)| format!("{}:{}", serde_json::Value::from(name), value.get()));
        format!("{{{}}}", pairs.collect::<Vec<_>>().join(","))
    }
}

impl<'de: 'b, 'b> Deserialize<'de> for Fields<'b> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;
        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some(Name(key)) = map.next_key()? {
                    fields.push((key, map.next_value()?));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(FieldsVisitor)
    }
}

/// A text that is borrowed where it can be.
#[derive(Debug, Deserialize)]
pub(super) struct Name<'b>(#[serde(borrow)] pub(super) Cow<'b, str>);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const ASKER: Asker<'static> = Asker {
        model: "m",
        lora: None,
        items_known: false,
    };

    fn read(body: &str, wanted: Wanted) -> Result<Option<Ask>, Unfit> {
        Ask::read(body.as_bytes(), wanted, &ASKER)
    }

    #[test]
    fn bodies_by_hand() {
        use Wanted::{Chat, Either, Prompt};
        let chat = r#"{"messages":[],"prompt":"x"}"#;
        for (body, wanted, sent) in [
            (chat, Either, Some(chat)),
            (chat, Chat, Some(chat)),
            (chat, Prompt, Some(r#"{"model":"m","prompt":"x"}"#)),
            (r#"{"prompt":"x"}"#, Chat, None),
            (r#"{"messages":[]}"#, Prompt, None),
            (
                r#"{"messages":null,"prompt":"x"}"#,
                Either,
                Some(r#"{"model":"m","prompt":"x"}"#),
            ),
            (
                r#"{"prompt":"x","prompt":"y"}"#,
                Either,
                Some(r#"{"model":"m","prompt":"y"}"#),
            ),
            (r#"{"prompt":7}"#, Either, None),
            (r#"{"prompt":null}"#, Either, None),
            ("{}", Either, None),
            ("[]", Either, None),
            ("", Either, None),
            (r#"{"prompt":"x""#, Either, None),
        ] {
            let ask = read(body, wanted).unwrap();
            let sent = sent.map(str::as_bytes);
            assert_eq!(ask.as_ref().map(|ask| &**ask.body()), sent, "{body}");
        }
        for (body, field) in [
            (r#"{"prompt":["x"]}"#, "prompt"),
            (
                r#"{"prompt":"x","truncate_prompt_tokens":0}"#,
                "truncate_prompt_tokens",
            ),
            (
                r#"{"messages":[],"truncate_prompt_tokens":-1}"#,
                "truncate_prompt_tokens",
            ),
            (r#"{"prompt":"x","prompt_embeds":["AA"]}"#, "prompt_embeds"),
        ] {
            assert_eq!(read(body, Either).unwrap_err().field, field, "{body}");
        }
        assert!(
            read(r#"{"prompt":"x","truncate_prompt_tokens":null}"#, Either)
                .unwrap()
                .is_some()
        );
    }

    #[test]
    fn an_adapter_beside_the_model_becomes_the_model() {
        let asker = Asker {
            lora: Some("a\"b"),
            ..ASKER
        };
        for (body, expected) in [
            (
                json!({"model": "m", "prompt": "x"}),
                json!({"model": "a\"b", "prompt": "x"}),
            ),
            (
                json!({"model": "m", "messages": [], "n": 1}),
                json!({"model": "a\"b", "messages": [], "n": 1}),
            ),
            (
                json!({"messages": []}),
                json!({"model": "a\"b", "messages": []}),
            ),
        ] {
            let ask = Ask::read(body.to_string().as_bytes(), Wanted::Either, &asker);
            let ask = ask.unwrap().unwrap();
            let sent: Value = serde_json::from_slice(ask.body()).unwrap();
            assert_eq!(sent, expected);
            assert_eq!((ask.model(), ask.lora()), ("m", Some("a\"b")));
        }
    }

    #[test]
    fn what_is_not_text_is_an_item() {
        for (content, items) in [
            (json!("x"), false),
            (Value::Null, false),
            (json!([]), false),
            (json!([{"type": "text", "text": "x"}]), false),
            (json!([{"text": "x"}, "y"]), false),
            (
                json!([{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {}}]),
                true,
            ),
            (json!([{"type": "input_audio"}]), true),
            (json!([{"type": "new"}]), true),
            (json!([{"image_url": "http://x"}]), true),
            (json!([{"text": "x", "image_url": "http://x"}]), true),
            (json!([{"type": 7}]), true),
            (json!([7]), true),
            (json!({}), true),
            (json!(7), true),
        ] {
            let messages =
                json!({"messages": [{"role": "user"}, {"role": "user", "content": content}]});
            let body = messages.to_string();
            let ask = read(&body, Wanted::Either).unwrap().unwrap();
            assert_eq!(ask.wants_items(), items, "{body}");
            let known = Asker {
                items_known: true,
                ..ASKER
            };
            let known = Ask::read(body.as_bytes(), Wanted::Either, &known)
                .unwrap()
                .unwrap();
            assert!(!known.wants_items());
            // What an engine that cannot tell images apart has told to one is not told to the other.
            assert_eq!(known.is_equal(&ask), !items, "{body}");
        }
    }

    #[test]
    fn neighbours_in_a_key_do_not_run_together() {
        let equal = |a: &str, b: &str| {
            let (a, b) = (read(a, Wanted::Either), read(b, Wanted::Either));
            a.unwrap().unwrap().is_equal(&b.unwrap().unwrap())
        };
        assert!(equal(r#"{"prompt":"x","n":1}"#, r#"{"n":2,"prompt":"x"}"#));
        assert!(!equal(
            r#"{"messages":[],"ab":1,"c":2}"#,
            r#"{"messages":[],"a":1,"bc":2}"#
        ));
        assert!(!equal(
            r#"{"prompt":"x"}"#,
            r#"{"messages":[],"prompt":"x"}"#
        ));
    }
}
