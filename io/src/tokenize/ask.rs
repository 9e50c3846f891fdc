//! What a tokenizer is asked, made from a request's body; pure.
//!
//! A chat body is passed on whole: what is in it is the template's business. Three things are changed: an adapter that the
//! request names beside the model becomes the model, as engines take it; and `documents` and `reasoning_effort`, which engines hand
//! to the template in a chat but do not read in `/tokenize`, go where both read them, among the template's arguments. Of
//! a completion only the prompt and whether it gets special tokens are sent.
use super::key::{self, Key, KeyOf};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
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
        }
    }

    /// The same, answered by an engine in any case: not from what is remembered, nor together with others.
    #[must_use]
    pub fn afresh(self) -> Self {
        let afresh = true;
        Self { afresh, ..self }
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
struct Name<'b>(#[serde(borrow)] Cow<'b, str>);

/// Whether anything but text is in a chat's messages. What is not understood may be.
fn has_items(messages: &RawValue) -> bool {
    let messages = serde_json::from_str::<Vec<Message<'_>>>(messages.get());
    messages.map_or(true, |messages| {
        messages.iter().any(|message| match &message.content {
            Content::Text => false,
            Content::Parts(parts) => parts.iter().any(|part| match &part.kind {
                Some(Name(kind)) => !matches!(
                    &**kind,
                    "text" | "input_text" | "output_text" | "refusal" | "thinking"
                ),
                None => !part.text,
            }),
            Content::Other => true,
        })
    })
}

#[derive(Debug, Deserialize)]
struct Message<'b> {
    #[serde(borrow, default)]
    content: Content<'b>,
}

#[derive(Debug, Default)]
enum Content<'b> {
    #[default]
    Text,
    Parts(Vec<Part<'b>>),
    Other,
}

#[derive(Debug, Default)]
struct Part<'b> {
    kind: Option<Name<'b>>,
    /// There is text in it, and nothing else.
    text: bool,
}

impl<'de: 'b, 'b> Deserialize<'de> for Content<'b> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ContentVisitor;
        impl<'de> Visitor<'de> for ContentVisitor {
            type Value = Content<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text or a list of parts")
            }

            fn visit_unit<E>(self) -> Result<Content<'de>, E> {
                Ok(Content::Text)
            }

            fn visit_str<E>(self, _: &str) -> Result<Content<'de>, E> {
                Ok(Content::Text)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Content<'de>, A::Error> {
                let mut parts = Vec::new();
                while let Some(part) = seq.next_element()? {
                    parts.push(part);
                }
                Ok(Content::Parts(parts))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Content<'de>, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Content::Other)
            }
        }
        deserializer.deserialize_any(ContentVisitor)
    }
}

impl<'de: 'b, 'b> Deserialize<'de> for Part<'b> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PartVisitor;
        impl<'de> Visitor<'de> for PartVisitor {
            type Value = Part<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a part of a message")
            }

            fn visit_str<E>(self, _: &str) -> Result<Part<'de>, E> {
                let text = true;
                Ok(Part { kind: None, text })
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Part<'de>, A::Error> {
                let (mut kind, mut names, mut text) = (None, 0, false);
                while let Some(Name(key)) = map.next_key()? {
                    names += 1;
                    match &*key {
                        "type" => kind = Some(map.next_value()?),
                        other => {
                            text |= other == "text";
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                let text = text && names == 1;
                Ok(Part { kind, text })
            }
        }
        deserializer.deserialize_any(PartVisitor)
    }
}
