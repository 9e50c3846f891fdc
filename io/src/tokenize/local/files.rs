//! A model's folder: which files there are, and what of them matters here.
use super::OpenError;
use crate::limits::{LOCAL_CONFIG_BYTES_MAX, LOCAL_TOKENIZER_BYTES_MAX};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use tokenizers::{AddedToken, Tokenizer};

/// What a folder holds.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) tokenizer: Tokenizer,
    /// The template, and the name of its file.
    pub(super) template: Option<(String, PathBuf)>,
    /// The template for conversations with tools, if that is another one.
    pub(super) tool_template: Option<(String, PathBuf)>,
    /// Texts of special tokens, by their names in templates.
    pub(super) special: Vec<(String, String)>,
}

/// Special tokens that templates are told.
const SPECIAL: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];

/// Reads a folder. O(bytes).
pub(super) fn read(folder: &Path) -> Result<Files, OpenError> {
    let path = folder.join("tokenizer.json");
    let bytes = bytes(&path, LOCAL_TOKENIZER_BYTES_MAX)?.ok_or_else(|| missing(&path))?;
    let mut tokenizer =
        Tokenizer::from_bytes(&bytes).map_err(|error| wrong(&path, None, &error))?;
    let path = folder.join("tokenizer_config.json");
    let config = json(&path)?.ok_or_else(|| missing(&path))?;
    add_missing(&mut tokenizer, &config, &path)?;
    // Engines cut and fill nothing here, whatever the file says.
    tokenizer.with_padding(None);
    let uncut = tokenizer.with_truncation(None).map(|_| ());
    uncut.map_err(|error| wrong(&path, None, &error))?;
    let more = folder.join("special_tokens_map.json");
    let mut special = special_tokens(&config, &path)?;
    if let Some(map) = json(&more)? {
        for (name, text) in special_tokens(&map, &more)? {
            if special.iter().all(|(other, _)| *other != name) {
                special.push((name, text));
            }
        }
    }
    let (template, tool_template) = templates(folder, &config, &path)?;
    Ok(Files {
        tokenizer,
        template,
        tool_template,
        special,
    })
}

/// At most so many bytes of a file; nothing if there is no such file.
fn bytes(path: &Path, most: u64) -> Result<Option<Vec<u8>>, OpenError> {
    let failed = |error: io::Error| wrong(path, None, &error);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    file.take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > most {
        return Err(wrong(path, None, &format!("larger than {most} bytes")));
    }
    Ok(Some(bytes))
}

fn json(path: &Path) -> Result<Option<serde_json::Value>, OpenError> {
    let bytes = bytes(path, LOCAL_CONFIG_BYTES_MAX)?;
    let read = |bytes: Vec<u8>| serde_json::from_slice(&bytes);
    bytes
        .map(read)
        .transpose()
        .map_err(|error| wrong(path, None, &error))
}

fn missing(path: &Path) -> OpenError {
    wrong(path, None, &"no such file")
}

fn wrong(path: &Path, field: Option<&str>, message: &dyn ToString) -> OpenError {
    OpenError {
        path: path.to_owned(),
        field: field.map(Into::into),
        message: message.to_string(),
    }
}

/// A token's text, given as such or as an object.
fn token_text(token: &serde_json::Value) -> Option<&str> {
    token.as_str().or_else(|| token.get("content")?.as_str())
}

fn special_tokens(
    config: &serde_json::Value,
    path: &Path,
) -> Result<Vec<(String, String)>, OpenError> {
    let given = SPECIAL.iter().filter_map(|name| {
        let token = config.get(name).filter(|token| !token.is_null())?;
        let odd = || {
            wrong(
                path,
                Some(name),
                &"neither a text nor an object with its content",
            )
        };
        let text = token_text(token).ok_or_else(odd);
        Some(text.map(|text| ((*name).to_owned(), text.to_owned())))
    });
    given.collect()
}

/// Tokens that only the configuration names get the ids that it says, as transformers adds them.
fn add_missing(
    tokenizer: &mut Tokenizer,
    config: &serde_json::Value,
    path: &Path,
) -> Result<(), OpenError> {
    const FIELD: &str = "added_tokens_decoder";
    let Some(added) = config.get(FIELD).and_then(|added| added.as_object()) else {
        return Ok(());
    };
    let odd = |message: &dyn ToString| wrong(path, Some(FIELD), message);
    let mut tokens = Vec::new();
    for (id, token) in added {
        let id: u32 = id
            .parse()
            .map_err(|_| odd(&format!("{id:?} is no token id")))?;
        let text = token_text(token).ok_or_else(|| odd(&format!("{id} has no content")))?;
        tokens.push((id, text, token));
    }
    tokens.sort_unstable_by_key(|(id, ..)| *id);
    for (id, text, token) in tokens {
        if tokenizer.token_to_id(text).is_none() {
            let flag = |name: &str| token.get(name).and_then(serde_json::Value::as_bool);
            let special = flag("special").unwrap_or(false);
            let added = AddedToken::from(text, special)
                .single_word(flag("single_word").unwrap_or(false))
                .lstrip(flag("lstrip").unwrap_or(false))
                .rstrip(flag("rstrip").unwrap_or(false))
                .normalized(flag("normalized").unwrap_or(!special));
            let failed = |error: tokenizers::Error| odd(&error);
            tokenizer.add_tokens([added]).map_err(failed)?;
        }
        let found = tokenizer.token_to_id(text);
        if found != Some(id) {
            return Err(odd(&format!("{id} is {found:?} in tokenizer.json")));
        }
    }
    Ok(())
}

type Source = Option<(String, PathBuf)>;

/// The template, and that for tools: a file of its own before what the configuration says.
fn templates(
    folder: &Path,
    config: &serde_json::Value,
    path: &Path,
) -> Result<(Source, Source), OpenError> {
    const FIELD: &str = "chat_template";
    let file = folder.join("chat_template.jinja");
    if let Some(bytes) = bytes(&file, LOCAL_CONFIG_BYTES_MAX)? {
        let text = String::from_utf8(bytes).map_err(|error| wrong(&file, None, &error))?;
        return Ok((Some((text, file)), None));
    }
    let odd = || {
        wrong(
            path,
            Some(FIELD),
            &"neither a text nor a list of named templates",
        )
    };
    match config.get(FIELD) {
        None | Some(serde_json::Value::Null) => Ok((None, None)),
        Some(serde_json::Value::String(text)) => Ok((Some((text.clone(), path.to_owned())), None)),
        Some(serde_json::Value::Array(named)) => {
            let find = |wanted: &str| -> Result<Source, OpenError> {
                let is = |entry: &&serde_json::Value| {
                    entry.get("name").and_then(|n| n.as_str()) == Some(wanted)
                };
                let Some(entry) = named.iter().find(is) else {
                    return Ok(None);
                };
                let text = entry.get("template").and_then(|text| text.as_str());
                Ok(Some((text.ok_or_else(odd)?.to_owned(), path.to_owned())))
            };
            Ok((find("default")?, find("tool_use")?))
        }
        Some(_) => Err(odd()),
    }
}
