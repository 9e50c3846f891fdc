//! A model's chat template: read once, rendered for each conversation.
use super::NotUnderstood;
use super::body::{Chat, MARK};
use super::environment::{environment, value};
use super::format::{Format, format};
use super::tree::tree;
use super::understood::{Strange, check, normal};
use crate::limits::LOCAL_TEXT_BYTES_MAX;
use minijinja::{Environment, Value};
use std::io::{self, Write};

const NAME: &str = "chat";

/// A chat template that is understood.
#[derive(Debug)]
pub(super) struct Template {
    env: Environment<'static>,
    format: Format,
    reads_content: bool,
    /// Texts of special tokens, by the names that templates have for them.
    special: Vec<(String, String)>,
}

impl Template {
    /// Reads a template. `special` are the special tokens' texts by name (`bos_token`). O(bytes).
    pub(super) fn new(source: &str, special: Vec<(String, String)>) -> Result<Self, Strange> {
        let source = normal(source);
        check(&source)?;
        let syntax = |error: minijinja::Error| Strange::Syntax(error.to_string());
        let format = format(&tree(&source).map_err(syntax)?);
        let reads_content = source.contains("content");
        let mut env = environment();
        env.add_template_owned(NAME, source).map_err(syntax)?;
        Ok(Self {
            env,
            format,
            reads_content,
            special,
        })
    }

    /// The prompt of a conversation. Bounded in steps and bytes.
    pub(super) fn render(&self, chat: &Chat) -> Result<String, NotUnderstood> {
        let mut context: Vec<(&str, Value)> = Vec::with_capacity(16);
        context.push(("messages", chat.messages(self.format)?));
        context.push(("tools", chat.tools()?.unwrap_or_else(|| Value::from(()))));
        context.push(("add_generation_prompt", Value::from(chat.generation)));
        let arguments = chat.arguments.iter();
        context.extend(arguments.map(|(name, json)| (name.as_str(), value(json))));
        if !chat.arguments.iter().any(|(name, _)| name == "documents") {
            context.push(("documents", Value::from(())));
        }
        let special = self.special.iter();
        context.extend(special.map(|(name, text)| (name.as_str(), Value::from(text.as_str()))));
        let context = Value::from_pairs(context);

        let template = self.env.get_template(NAME);
        let template = template.map_err(|_| NotUnderstood::Template)?;
        let mut out = Bounded(Vec::new());
        template
            .render_captured_to(context, &mut out)
            .map_err(|_| NotUnderstood::Template)?;
        let text = String::from_utf8(out.0).map_err(|_| NotUnderstood::Template)?;
        match &chat.going_on {
            None => Ok(text),
            Some(last) => self.cut(&text, last).ok_or(NotUnderstood::Template),
        }
    }

    /// What is rendered up to the end of the text that is to be gone on with.
    fn cut(&self, text: &str, last: &str) -> Option<String> {
        // Older engines look for the text itself, newer ones mark it: the same if it is where the mark is.
        let before = &text[..text.rfind(MARK.trim_end())?];
        (self.reads_content && before.ends_with(last)).then(|| before.to_owned())
    }
}

/// Takes so many bytes, and no more.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > LOCAL_TEXT_BYTES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
