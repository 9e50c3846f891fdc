//! What is in a chat beside text; pure.
use super::ask::Name;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// Whether anything but text is in a chat's messages. What is not understood may be.
pub(super) fn has_items(messages: &RawValue) -> bool {
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
