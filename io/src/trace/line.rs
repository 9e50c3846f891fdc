//! One line of a recording and its meaning.
use super::{Entry, Image, Message, Request, What};
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Deserialize)]
struct EventLine {
    t: f64,
    pod: String,
    topic: String,
    seq: String,
    payload: String,
}

/// Both layouts of a line at once: every field that one of them leaves out is optional.
#[derive(Deserialize, Serialize, Default)]
#[serde(default)]
struct EntryLine {
    i: u64,
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    t: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    t_send: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    t_done: Option<f64>,
    #[serde(skip_serializing)]
    status: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing)]
    request: Option<Body>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_salt: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_logprobs: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cached_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    images: Vec<Image>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_token_ids: Option<Vec<u32>>,
}

/// The parts of a request body that matter for its cache.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Body {
    model: Option<String>,
    cache_salt: Option<String>,
    prompt_logprobs: Option<i64>,
    messages: Option<Value>,
}

/// The addresses of the images of a request body, in order: their content, when they are data URLs.
pub(super) type Pictures = Vec<String>;

pub(super) fn message(text: &str) -> Result<Message, String> {
    let line: EventLine = serde_json::from_str(text).map_err(|e| e.to_string())?;
    Ok(Message {
        at: line.t,
        pod: line.pod,
        topic: hex("topic", &line.topic)?,
        sequence: hex("seq", &line.seq)?,
        payload: hex("payload", &line.payload)?,
    })
}

pub(super) fn entry(text: &str) -> Result<(Entry, Pictures), String> {
    let line: EntryLine = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let sent = line.t_send.or(line.t).ok_or("t_send is missing")?;
    let done = line.t_done.unwrap_or(sent);
    let (id, pod) = (line.i, line.pod.clone());
    let label = line
        .label
        .clone()
        .or_else(|| line.text.clone())
        .unwrap_or_default();
    let mut pictures = Pictures::new();
    let what = match line.kind.as_str() {
        "request" if line.status.is_none_or(|status| status == 200) => {
            if let Some(messages) = line
                .request
                .as_ref()
                .and_then(|body| body.messages.as_ref())
            {
                collect_pictures(messages, &mut pictures);
            }
            What::Request(request(line)?)
        }
        "request" => What::Other("failed_request".to_owned()),
        "reset_prefix_cache" => What::Reset,
        "" => return Err("kind is missing".to_owned()),
        other => What::Other(other.to_owned()),
    };
    if !matches!(what, What::Other(_)) && pod.is_none() {
        return Err("pod is missing".to_owned());
    }
    Ok((
        Entry {
            id,
            pod,
            label,
            sent,
            done,
            what,
        },
        pictures,
    ))
}

fn request(line: EntryLine) -> Result<Request, String> {
    let body = line.request.unwrap_or_default();
    let tokens = line.prompt_token_ids.ok_or("prompt_token_ids is missing")?;
    if let Some(count) = line.prompt_tokens
        && count != tokens.len() as u64
    {
        return Err(format!(
            "prompt_tokens says {count}, prompt_token_ids has {} tokens",
            tokens.len()
        ));
    }
    Ok(Request {
        path: line.path.unwrap_or_default(),
        model: line.model.or(body.model).ok_or("model is missing")?,
        cache_salt: line.cache_salt.or(body.cache_salt),
        prompt_logprobs: line.prompt_logprobs.or(body.prompt_logprobs).is_some(),
        tokens,
        cached_tokens: line.cached_tokens.unwrap_or(0),
        images: line.images,
    })
}

/// Every image of a chat body's messages, in order.
fn collect_pictures(messages: &Value, out: &mut Pictures) {
    let contents = messages
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|m| m["content"].as_array());
    for part in contents.flatten() {
        if part["type"] == "image_url"
            && let Some(url) = part["image_url"]["url"].as_str()
        {
            out.push(url.to_owned());
        }
    }
}

/// The packed form of an entry, with the line's end.
pub(super) fn packed(entry: &Entry) -> String {
    let mut line = EntryLine {
        i: entry.id,
        pod: entry.pod.clone(),
        ..EntryLine::default()
    };
    (line.t_send, line.t_done) = (Some(entry.sent), Some(entry.done));
    line.label = Some(entry.label.clone());
    match &entry.what {
        What::Reset => line.kind = "reset_prefix_cache".to_owned(),
        What::Other(kind) => line.kind.clone_from(kind),
        What::Request(request) => {
            line.kind = "request".to_owned();
            line.path = Some(request.path.clone());
            line.model = Some(request.model.clone());
            line.cache_salt.clone_from(&request.cache_salt);
            line.prompt_logprobs = request.prompt_logprobs.then_some(1);
            line.prompt_tokens = Some(request.tokens.len() as u64);
            line.cached_tokens = Some(request.cached_tokens);
            line.images.clone_from(&request.images);
            line.prompt_token_ids = Some(request.tokens.clone());
        }
    }
    // Only maps with other than text keys, or a failing writer, could make this fail.
    serde_json::to_string(&line).unwrap_or_default() + "\n"
}

fn hex(field: &str, text: &str) -> Result<Vec<u8>, String> {
    let digit = |byte: u8| {
        (byte as char)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let pair = |pair: &[u8]| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?);
    let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(pair).collect();
    bytes.ok_or_else(|| format!("{field}: not an even number of hexadecimal digits"))
}
