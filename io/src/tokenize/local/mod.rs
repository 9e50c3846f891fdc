//! A model's tokenizer in this process: `tokenizer.json` and the chat template, as the engine has them.
//!
//! It is exact or it is not used. A body, a template or a value that may mean something else to the engine is
//! not understood ([`NotUnderstood`]), and the engine is asked. What is understood counts only once the engine has given the same
//! tokens for a list of probes, and is compared with the engine now and then afterwards (`standing`, `crew`).
mod body;
mod crew;
mod environment;
mod files;
mod format;
mod json;
mod model;
mod probes;
mod python;
mod shape;
mod standing;
mod template;
mod tree;
mod understood;

pub(in crate::tokenize) use crew::{Crew, Locals};
pub use model::{Model, Models};
pub use standing::State;
pub use understood::Strange;

use crate::limits::{LOCAL_TEXT_BYTES_MAX, TOKENIZED_TOKENS_MAX};
use body::Asked;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use template::Template;
use tokenizers::Tokenizer;

/// A model's tokenizer and chat templates.
#[derive(Debug)]
pub struct Local {
    tokenizer: Tokenizer,
    /// The texts of special tokens.
    special: Vec<String>,
    chat: Result<Template, Strange>,
    /// For conversations with tools, if the model has one for them.
    tools: Option<Result<Template, Strange>>,
}

/// Why the engine has to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum NotUnderstood {
    /// The body is no JSON object, or has numbers that may be read otherwise.
    #[error("the body")]
    Body,
    /// A field that may change the prompt, or has an odd form.
    #[error("a field")]
    Field,
    /// A message with more than a role and text.
    #[error("a message")]
    Message,
    /// A tool, or a call of one, in an odd form.
    #[error("a tool")]
    Tool,
    /// There is no template, or it is not understood, or it refuses this conversation.
    #[error("the template")]
    Template,
    /// The text is too long.
    #[error("its size")]
    Size,
    /// The tokenizer fails.
    #[error("the tokenizer")]
    Tokenizer,
}

impl NotUnderstood {
    /// All of them, in order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::Body,
        Self::Field,
        Self::Message,
        Self::Tool,
        Self::Template,
        Self::Size,
        Self::Tokenizer,
    ];

    /// The word used in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Body => "body",
            Self::Field => "field",
            Self::Message => "message",
            Self::Tool => "tool",
            Self::Template => "template",
            Self::Size => "size",
            Self::Tokenizer => "tokenizer",
        }
    }
}

/// A folder that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {}{message}", path.display(), field.as_deref().map(|field| format!("{field}: ")).unwrap_or_default())]
pub struct OpenError {
    /// The file.
    pub path: PathBuf,
    /// The field in it, if it is one.
    pub field: Option<String>,
    /// What is wrong.
    pub message: String,
}

impl Local {
    /// Reads a model's folder. A template that is not understood is no error: prompts without one remain. O(bytes).
    pub fn open(folder: &Path) -> Result<Self, OpenError> {
        let files = files::read(folder)?;
        let template = |source: Option<(String, PathBuf)>| {
            source.map(|(source, _)| Template::new(&source, files.special.clone()))
        };
        let none = || Err(Strange::None);
        let special = files.tokenizer.get_added_tokens_decoder();
        let mut special: Vec<_> = special.into_iter().collect();
        special.sort_unstable_by_key(|(id, _)| *id);
        Ok(Self {
            special: special
                .into_iter()
                .map(|(_, token)| token.content)
                .collect(),
            chat: template(files.template).unwrap_or_else(none),
            tools: template(files.tool_template),
            tokenizer: files.tokenizer,
        })
    }

    /// Why chats are not understood, if none is.
    #[must_use]
    pub fn chat(&self) -> Option<&Strange> {
        self.chat.as_ref().err()
    }

    /// The texts of its special tokens, and of others that are never split, by their ids.
    fn special(&self) -> &[String] {
        &self.special
    }

    /// The tokens that an engine's `/tokenize` would answer to this body. O(bytes) and a little more; milliseconds
    /// for a long one.
    pub fn tokens(&self, body: &[u8]) -> Result<Vec<u32>, NotUnderstood> {
        self.answer(body).map(|(tokens, _)| tokens)
    }

    /// The same, and the body's shape.
    fn answer(&self, body: &[u8]) -> Result<(Vec<u32>, u64), NotUnderstood> {
        let (asked, shape) = body::read(body)?;
        let tokens = match asked {
            Asked::Prompt { text, special } => self.encode(&text, special)?,
            Asked::Chat(chat) => {
                let text = self.template(chat.has_tools())?.render(&chat)?;
                self.encode(&text, chat.special)?
            }
        };
        Ok((tokens, shape))
    }

    /// The text that an engine would make of a chat.
    pub fn render(&self, body: &[u8]) -> Result<String, NotUnderstood> {
        match body::read(body)?.0 {
            Asked::Prompt { text, .. } => Ok(text),
            Asked::Chat(chat) => self.template(chat.has_tools())?.render(&chat),
        }
    }

    fn template(&self, has_tools: bool) -> Result<&Template, NotUnderstood> {
        let tools = self.tools.as_ref().filter(|_| has_tools);
        let template = tools.unwrap_or(&self.chat).as_ref();
        template.map_err(|_| NotUnderstood::Template)
    }

    fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, NotUnderstood> {
        if text.len() > LOCAL_TEXT_BYTES_MAX {
            return Err(NotUnderstood::Size);
        }
        // Whatever the library thinks impossible in a vocabulary that somebody made.
        let encode = AssertUnwindSafe(|| self.tokenizer.encode_fast(text, special));
        let encoded = catch_unwind(encode).map_err(|_| NotUnderstood::Tokenizer)?;
        let encoded = encoded.map_err(|_| NotUnderstood::Tokenizer)?;
        let ids = encoded.get_ids();
        if ids.len() > TOKENIZED_TOKENS_MAX {
            return Err(NotUnderstood::Size);
        }
        Ok(ids.to_vec())
    }
}
