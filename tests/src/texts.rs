//! Recorded requests whose prompt is text, and recorded answers of `/tokenize`.
use flate2::read::GzDecoder;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// One request of a recording, as it was sent.
#[derive(Debug, Deserialize, Serialize)]
pub struct Text {
    /// The entry's number in the recording.
    pub i: u64,
    /// The body.
    pub request: Value,
}

/// One exchange with a real engine's `/tokenize`.
#[derive(Debug, Deserialize, Serialize)]
pub struct Exchange {
    /// What the recorder called it.
    pub name: String,
    /// The body that was sent.
    pub request: Value,
    /// The answer's status.
    pub status: u16,
    /// The answer.
    pub answer: String,
}

/// The texts of a recording, as JSON lines: packed ones, or those among whole requests. Images are replaced by short
/// stand-ins, each content by one of its own.
///
/// # Errors
/// Files that cannot be read, or are not as they should be.
pub fn of(stem: &Path) -> io::Result<String> {
    let packed = with_ending(stem, "texts.jsonl.gz");
    if packed.exists() {
        return unpacked(&packed);
    }
    let plain = with_ending(stem, "requests.jsonl");
    if !plain.exists() {
        return Ok(String::new());
    }
    let mut lines = String::new();
    let mut images = BTreeMap::new();
    for line in fs::read_to_string(plain)?.lines() {
        let mut entry: Value = serde_json::from_str(line)?;
        let mut request = entry["request"].take();
        let is_text = request["messages"].is_array() || request["prompt"].is_string();
        if entry["kind"] == "request" && entry["status"] == 200 && is_text {
            stand_in(&mut request, &mut images);
            lines += &json!({"i": entry["i"], "request": request}).to_string();
            lines += "\n";
        }
    }
    Ok(lines)
}

/// The same, parsed.
///
/// # Errors
/// As there.
pub fn read(stem: &Path) -> io::Result<Vec<Text>> {
    let lines = of(stem)?;
    let texts = lines.lines().map(serde_json::from_str);
    Ok(texts.collect::<Result<_, _>>()?)
}

fn stand_in(value: &mut Value, images: &mut BTreeMap<String, usize>) {
    match value {
        Value::Object(fields) => fields.values_mut().for_each(|v| stand_in(v, images)),
        Value::Array(items) => items.iter_mut().for_each(|v| stand_in(v, images)),
        Value::String(text) if text.starts_with("data:image/") => {
            let count = images.len();
            let number = *images.entry(text.clone()).or_insert(count);
            *text = format!("data:image/png;base64,AAA{number}");
        }
        _ => {}
    }
}

/// Recorded answers of `/tokenize` below `<folder>/<version>/tokenize_*.txt`: JSON lines by version.
///
/// # Errors
/// Files that cannot be read, or are not as they should be.
pub fn tokenizers(folder: &Path) -> io::Result<BTreeMap<String, String>> {
    let mut versions = BTreeMap::new();
    if !folder.is_dir() {
        return Ok(versions);
    }
    for version in sorted(folder)? {
        let mut lines = String::new();
        for file in sorted(&version)? {
            let name = file_name(&file);
            if let Some(name) = name.strip_prefix("tokenize_") {
                let exchange = exchange(name.trim_end_matches(".txt"), &fs::read_to_string(&file)?);
                let exchange = exchange.ok_or_else(|| io::Error::other(name.to_owned()))?;
                lines += &serde_json::to_string(&exchange)?;
                lines += "\n";
            }
        }
        versions.insert(file_name(&version), lines);
    }
    Ok(versions)
}

/// Packed exchanges.
///
/// # Errors
/// A file that cannot be read, or is not as it should be.
pub fn exchanges(packed: &Path) -> io::Result<Vec<Exchange>> {
    let lines = unpacked(packed)?;
    let exchanges = lines.lines().map(serde_json::from_str);
    Ok(exchanges.collect::<Result<_, _>>()?)
}

/// A request line, the body, `--- answer:`, the answer, and `(HTTP 200, …)`.
fn exchange(name: &str, text: &str) -> Option<Exchange> {
    let (request, answer) = text.split_once("\n--- answer:\n")?;
    let (_, body) = request.split_once('\n')?;
    let (answer, status) = answer.trim_end().rsplit_once("\n(HTTP ")?;
    Some(Exchange {
        name: name.to_owned(),
        request: serde_json::from_str(body).ok()?,
        status: status.split(',').next()?.parse().ok()?,
        answer: answer.to_owned(),
    })
}

fn sorted(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)?.map(|entry| Ok(entry?.path()));
    let mut paths = entries.collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn unpacked(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    GzDecoder::new(File::open(path)?).read_to_string(&mut text)?;
    Ok(text)
}

fn with_ending(stem: &Path, ending: &str) -> PathBuf {
    let mut path = stem.as_os_str().to_owned();
    path.push(format!(".{ending}"));
    PathBuf::from(path)
}
