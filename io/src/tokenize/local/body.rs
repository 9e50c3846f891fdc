//! What an engine is asked to tokenize, as its template will see it; pure.
//!
//! Reads a body of `/tokenize` the way vLLM does, for the fields that clients usually send. What else is in it, or has
//! another form, makes it not understood.
use super::NotUnderstood;
use super::environment::{Unordered, value};
use super::format::Format;
use super::json::Json;
use super::shape::shape;
use minijinja::Value;
use std::sync::Arc;

/// What is to be tokenized.
#[derive(Debug)]
pub(super) enum Asked {
    /// A completion's text.
    Prompt {
        text: String,
        special: bool,
    },
    Chat(Chat),
}

/// A conversation, not yet in the form that the template wants.
#[derive(Debug)]
pub(super) struct Chat {
    messages: Vec<Json>,
    tools: Option<Vec<Json>>,
    /// What the client hands to the template.
    pub(super) arguments: Vec<(String, Json)>,
    pub(super) generation: bool,
    /// The last message is to be gone on with.
    pub(super) going_on: Option<String>,
    pub(super) special: bool,
}

/// Fields that say nothing about a prompt: how the answer is made, or what routers read.
const BESIDE: &[&str] = &[
    "allowed_token_ids",
    "bad_words",
    "best_of",
    "block_size",
    "cache_salt",
    "candidates",
    "detokenize",
    "dry_run",
    "extra_keys",
    "frequency_penalty",
    "ignore_eos",
    "include_stop_str_in_output",
    "kv_transfer_params",
    "length_penalty",
    "limit",
    "loads",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "max_tokens",
    "metadata",
    "min_p",
    "min_tokens",
    "minimum_match",
    "model",
    "n",
    "parallel_tool_calls",
    "policy",
    "presence_penalty",
    "priority",
    "prompt_logprobs",
    "repetition_penalty",
    "request_id",
    "return_token_ids",
    "return_token_strs",
    "return_tokens_as_token_ids",
    "seed",
    "service_tier",
    "skip_special_tokens",
    "spaces_between_special_tokens",
    "stop",
    "stop_token_ids",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "top_k",
    "top_logprobs",
    "top_p",
    "use_beam_search",
    "user",
];

/// Arguments of a template that engines set themselves, or that mean something to what renders it.
const ENGINES: &[&str] = &[
    "add_generation_prompt",
    "additional_special_tokens",
    "bos_token",
    "chat_template",
    "cls_token",
    "continue_final_message",
    "conversation",
    "conversations",
    "eos_token",
    "mask_token",
    "max_length",
    "messages",
    "pad_token",
    "padding",
    "processor_kwargs",
    "return_assistant_tokens_mask",
    "return_dict",
    "return_tensors",
    "sep_token",
    "tokenize",
    "tokenizer_kwargs",
    "tools",
    "truncation",
    "unk_token",
];

/// Reads a body; what it asks, and its [`shape`]. O(bytes).
pub(super) fn read(body: &[u8]) -> Result<(Asked, u64), NotUnderstood> {
    let body: Json = serde_json::from_slice(body).map_err(|_| NotUnderstood::Body)?;
    let Json::Map(fields) = body else {
        return Err(NotUnderstood::Body);
    };
    let matters =
        |(name, value): &(String, Json)| *value != Json::Null && !BESIDE.contains(&name.as_str());
    let fields: Vec<_> = fields.into_iter().filter(matters).collect();
    let shape = shape(&fields);
    let mut given = Given::default();
    for (name, value) in fields {
        given.take(&name, value)?;
    }
    Ok((given.asked()?, shape))
}

/// The fields that matter, as they are given.
#[derive(Default)]
struct Given {
    prompt: Option<String>,
    messages: Option<Vec<Json>>,
    tools: Option<Vec<Json>>,
    arguments: Vec<(String, Json)>,
    generation: Option<bool>,
    going_on: Option<bool>,
    special: Option<bool>,
    no_tools: bool,
}

impl Given {
    fn take(&mut self, name: &str, value: Json) -> Result<(), NotUnderstood> {
        match (name, value) {
            ("prompt", Json::Text(text)) => self.prompt = Some(text),
            ("messages", Json::List(messages)) => self.messages = Some(messages),
            ("tools", Json::List(tools)) => self.tools = Some(tools),
            ("chat_template_kwargs", Json::Map(arguments)) => self.arguments = arguments,
            ("add_generation_prompt", Json::Bool(value)) => self.generation = Some(value),
            ("continue_final_message", Json::Bool(value)) => self.going_on = Some(value),
            ("add_special_tokens", Json::Bool(value)) => self.special = Some(value),
            ("tool_choice", choice) => self.no_tools = choice.text() == Some("none"),
            // A schema for the answer, which decoding sees to.
            ("response_format" | "structured_outputs", _) => {}
            _ => return Err(NotUnderstood::Field),
        }
        Ok(())
    }

    fn asked(self) -> Result<Asked, NotUnderstood> {
        let Some(messages) = self.messages else {
            let text = self.prompt.ok_or(NotUnderstood::Body)?;
            let special = self.special.unwrap_or(true);
            return Ok(Asked::Prompt { text, special });
        };
        let reserved = |(name, _): &(String, Json)| ENGINES.contains(&name.as_str());
        let odd = self.no_tools && self.tools.is_some() || self.arguments.iter().any(reserved);
        if self.prompt.is_some() || odd || messages.is_empty() {
            return Err(NotUnderstood::Field);
        }
        let generation = self.generation.unwrap_or(true);
        let going_on = match self.going_on {
            Some(true) if generation => return Err(NotUnderstood::Field),
            Some(true) => Some(last(&messages)?),
            _ => None,
        };
        Ok(Asked::Chat(Chat {
            messages,
            tools: self.tools,
            arguments: self.arguments,
            generation,
            going_on,
            special: self.special.unwrap_or(false),
        }))
    }
}

/// The text of the last message, if it is one that engines of all versions go on with in the same way.
fn last(messages: &[Json]) -> Result<String, NotUnderstood> {
    let last = messages.last().and_then(|last| last.get("content")?.text());
    let plain = |text: &&str| !text.is_empty() && text.trim() == *text;
    last.filter(plain)
        .map(Into::into)
        .ok_or(NotUnderstood::Message)
}

impl Chat {
    /// Whether the client names tools.
    pub(super) fn has_tools(&self) -> bool {
        self.tools.is_some()
    }

    /// The conversation for a template that wants contents like this.
    pub(super) fn messages(&self, format: Format) -> Result<Value, NotUnderstood> {
        let last = self.messages.len() - 1;
        let messages = self.messages.iter().enumerate().map(|(n, message)| {
            let mark = self.going_on.is_some() && n == last;
            self::message(message, format, if mark { MARK } else { "" })
        });
        Ok(Value::from(messages.collect::<Result<Vec<_>, _>>()?))
    }

    /// The tools as the engine's data model writes them: what is not given is none, and comes where it belongs.
    pub(super) fn tools(&self) -> Result<Option<Value>, NotUnderstood> {
        let Some(tools) = &self.tools else {
            return Ok(None);
        };
        let tools = tools
            .iter()
            .map(|tool| tool_of(tool).ok_or(NotUnderstood::Tool));
        Ok(Some(Value::from(tools.collect::<Result<Vec<_>, _>>()?)))
    }
}

/// Stands behind the text that is to be gone on with, while it is rendered.
pub(super) const MARK: &str = "CONTINUE_FINAL_MESSAGE_TAG ";

fn message(message: &Json, format: Format, mark: &str) -> Result<Value, NotUnderstood> {
    let Json::Map(fields) = message else {
        return Err(NotUnderstood::Message);
    };
    let (mut role, mut content, mut calls, mut call_id, mut name) = (None, None, None, None, None);
    for (field, value) in fields {
        match (field.as_str(), value) {
            ("role", Json::Text(text)) => role = Some(text.as_str()),
            ("content", value) => content = Some(value),
            ("tool_calls", Json::List(list)) if !list.is_empty() => calls = Some(list),
            ("tool_call_id", Json::Text(text)) => call_id = Some(text.as_str()),
            ("name", Json::Text(text)) => name = Some(text.as_str()),
            // What answers carry beside, and clients send back.
            (
                "tool_calls" | "refusal" | "annotations" | "audio" | "function_call" | "reasoning"
                | "reasoning_content",
                Json::Null,
            ) => {}
            _ => return Err(NotUnderstood::Message),
        }
    }
    let role = role.ok_or(NotUnderstood::Message)?;
    let fits = match role {
        "system" | "user" => calls.is_none() && call_id.is_none(),
        "assistant" => call_id.is_none(),
        // Engines of different ages give a template that loops over parts different things here.
        "tool" => calls.is_none() && format == Format::Text,
        _ => false,
    };
    if !fits {
        return Err(NotUnderstood::Message);
    }
    let content = self::content(content.unwrap_or(&Json::Null), role, format, mark)?;
    let mut seen = vec![("role", Value::from(role)), ("content", content)];
    if let Some(calls) = calls {
        let calls: Option<Vec<Value>> = calls.iter().map(call).collect();
        seen.push(("tool_calls", Value::from(calls.ok_or(NotUnderstood::Tool)?)));
    }
    seen.extend(call_id.map(|id| ("tool_call_id", Value::from(id))));
    seen.extend(name.map(|name| ("name", Value::from(name))));
    Ok(Value::from_dyn_object(Arc::new(Unordered(seen))))
}

/// What newer engines cut out of system messages.
const CUT_OUT: &str = "x-anthropic-billing-header";

fn content(content: &Json, role: &str, format: Format, mark: &str) -> Result<Value, NotUnderstood> {
    let texts: Vec<&str> = match content {
        Json::Null => Vec::new(),
        Json::Text(text) => vec![text],
        Json::List(parts) => {
            let parts: Option<_> = parts.iter().map(part).collect();
            parts.ok_or(NotUnderstood::Message)?
        }
        _ => return Err(NotUnderstood::Message),
    };
    if role == "system" && texts.iter().any(|text| text.contains(CUT_OUT)) {
        return Err(NotUnderstood::Message);
    }
    Ok(match format {
        Format::Text => {
            let texts: Vec<&str> = texts.into_iter().filter(|text| !text.is_empty()).collect();
            Value::from(texts.join("\n") + mark)
        }
        Format::Parts => {
            let part = |text: &str| -> Value {
                Value::from_pairs([
                    ("type", Value::from("text")),
                    ("text", Value::from(format!("{text}{mark}"))),
                ])
            };
            Value::from(texts.into_iter().map(part).collect::<Vec<_>>())
        }
    })
}

/// A part's text, if that is all it is.
fn part(part: &Json) -> Option<&str> {
    let Json::Map(fields) = part else { return None };
    let text = part.get("text")?.text()?;
    let is_text = part.get("type")?.text()? == "text";
    (is_text && fields.len() == 2).then_some(text)
}

/// A call of a tool, its arguments read.
fn call(call: &Json) -> Option<Value> {
    let Json::Map(fields) = call else { return None };
    let id = call.get("id")?.text()?;
    let kind = call.get("type")?.text()?;
    let function = call.get("function")?;
    let Json::Map(of_function) = function else {
        return None;
    };
    let name = function.get("name")?.text()?;
    let arguments = match function.get("arguments")?.text()? {
        "" => Json::Map(Vec::new()),
        text => serde_json::from_str(text).ok()?,
    };
    let fits = kind == "function" && fields.len() == 3 && of_function.len() == 2;
    if !fits || !matches!(arguments, Json::Map(_)) {
        return None;
    }
    let function = Unordered(vec![
        ("name", Value::from(name)),
        ("arguments", value(&arguments)),
    ]);
    let function = Value::from_dyn_object(Arc::new(function));
    let call = vec![
        ("id", Value::from(id)),
        ("type", Value::from(kind)),
        ("function", function),
    ];
    Some(Value::from_dyn_object(Arc::new(Unordered(call))))
}

/// A tool: its type, then its function with name, description, parameters, then what else the client says.
fn tool_of(tool: &Json) -> Option<Value> {
    let Json::Map(fields) = tool else { return None };
    let function = tool.get("function")?;
    let Json::Map(of_function) = function else {
        return None;
    };
    let kind = tool.get("type")?.text()?;
    // How strictly is said in a field of its own by some versions, and comes in another place then.
    let known = |(name, _): &&(String, Json)| {
        matches!(name.as_str(), "name" | "description" | "parameters")
    };
    if kind != "function" || fields.len() != 2 || of_function.iter().any(|field| !known(&field)) {
        return None;
    }
    let name = function.get("name")?.text()?;
    let description = function.get("description").unwrap_or(&Json::Null);
    let parameters = function.get("parameters").unwrap_or(&Json::Null);
    let fits = matches!(description, Json::Null | Json::Text(_))
        && matches!(parameters, Json::Null | Json::Map(_));
    let function = Value::from_pairs([
        ("name", Value::from(name)),
        ("description", value(description)),
        ("parameters", value(parameters)),
    ]);
    fits.then(|| Value::from_pairs([("type", Value::from(kind)), ("function", function)]))
}
