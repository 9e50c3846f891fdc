//! Images in prompts: where they are, and what the engine calls them.
//!
//! Two images give the same token ids: one placeholder, repeated. Only the blocks' extra keys tell them
//! apart, by an identifier that the engine computes from the content. A recording made elsewhere holds
//! the content, not the identifier; so the identifiers are learnt from the events that follow an image's
//! first use, and carried over to later uses of the same content.
use super::line::Pictures;
use super::{Entry, Message, Request, What};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::HashMap;

/// Digits of an identifier: 32 bytes in hexadecimal.
const ID_DIGITS: usize = 64;
/// MessagePack's header of a text of that length.
const ID_HEADER: [u8; 2] = [0xd9, 64];

/// One image in a prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The engine's identifier of its content: 64 hexadecimal digits.
    pub id: String,
    /// Its first placeholder token.
    pub start: usize,
    /// How many placeholder tokens it takes.
    pub length: usize,
}

impl Request {
    /// The extra keys that an engine gives to each whole block of this prompt for its images and its
    /// salt (vLLM 0.19 and later): for each image that overlaps the block, its identifier and its
    /// start relative to the block's; then, in the first block, the salt. `None` without images:
    /// a salt alone is said by its own field.
    #[must_use]
    pub fn extra_keys(&self, block_size: usize) -> Option<Vec<Value>> {
        if self.images.is_empty() || block_size == 0 {
            return None;
        }
        let of_block = |block: usize| {
            let (from, to) = (block * block_size, (block + 1) * block_size);
            let here = self
                .images
                .iter()
                .filter(|i| i.start < to && from < i.start + i.length);
            let mut keys: Vec<Value> = here
                .map(|i| json!([i.id, i.start as i64 - from as i64]))
                .collect();
            if let (0, Some(salt)) = (block, &self.cache_salt) {
                keys.push(json!(salt));
            }
            if keys.is_empty() {
                Value::Null
            } else {
                Value::Array(keys)
            }
        };
        Some((0..self.tokens.len() / block_size).map(of_block).collect())
    }
}

/// Fills in the images of requests whose body was recorded. An error comes with the request's number.
pub(super) fn resolve(
    entries: &mut [Entry],
    pictures: &[Pictures],
    messages: &[Message],
) -> Result<(), (u64, String)> {
    let mut known: HashMap<&str, String> = HashMap::new();
    for (at, urls) in pictures
        .iter()
        .enumerate()
        .filter(|(_, urls)| !urls.is_empty())
    {
        let (id, sent) = (entries[at].id, entries[at].sent);
        let next = entries
            .get(at + 1)
            .map_or(f64::INFINITY, |entry| entry.sent);
        let mut new: Vec<String> = Vec::new();
        for message in messages.iter().filter(|m| (sent..next).contains(&m.at)) {
            for name in identifiers(&message.payload) {
                if !new.contains(&name) && !known.values().any(|known| *known == name) {
                    new.push(name);
                }
            }
        }
        let mut new = new.into_iter();
        for (place, url) in urls.iter().enumerate() {
            if !known.contains_key(url.as_str()) {
                let name = new.next().ok_or_else(|| {
                    (
                        id,
                        format!("image {place}: no event after its first use names it"),
                    )
                })?;
                known.insert(url, name);
            }
        }
        if let What::Request(request) = &mut entries[at].what {
            let runs = placeholders(&request.tokens, urls.len())
                .ok_or_else(|| (id, format!("no {} runs of a placeholder", urls.len())))?;
            let image = |(url, (start, length)): (&String, (usize, usize))| Image {
                id: known[url.as_str()].clone(),
                start,
                length,
            };
            request.images = urls.iter().zip(runs).map(image).collect();
        }
    }
    Ok(())
}

/// The identifiers in a batch, in order, as often as they occur.
fn identifiers(payload: &[u8]) -> impl Iterator<Item = String> {
    payload
        .windows(ID_HEADER.len() + ID_DIGITS)
        .filter_map(|window| {
            let digits = window.strip_prefix(&ID_HEADER)?;
            let lower_hex = |b: &u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
            digits
                .iter()
                .all(lower_hex)
                .then(|| String::from_utf8_lossy(digits).into_owned())
        })
}

/// Where the placeholders are: the token that makes up exactly `count` runs of at least two, and the
/// most tokens in them.
fn placeholders(tokens: &[u32], count: usize) -> Option<Vec<(usize, usize)>> {
    let mut runs: HashMap<u32, Vec<(usize, usize)>> = HashMap::new();
    let mut start = 0;
    for run in tokens.chunk_by(|a, b| a == b) {
        if run.len() > 1 {
            runs.entry(run[0]).or_default().push((start, run.len()));
        }
        start += run.len();
    }
    let tokens_in = |runs: &Vec<(usize, usize)>| runs.iter().map(|run| run.1).sum::<usize>();
    runs.into_values()
        .filter(|runs| runs.len() == count)
        .max_by_key(tokens_in)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_names_each_image_it_overlaps_and_the_first_one_the_salt() {
        let id = |c: &str| c.repeat(64);
        let mut request = Request {
            path: String::new(),
            model: "m".into(),
            cache_salt: None,
            prompt_logprobs: false,
            tokens: vec![0; 135],
            cached_tokens: 0,
            images: vec![
                Image {
                    id: id("a"),
                    start: 10,
                    length: 64,
                },
                Image {
                    id: id("b"),
                    start: 80,
                    length: 16,
                },
            ],
        };
        let keys = |r: &Request| Value::Array(r.extra_keys(32).unwrap());
        let (a, b) = (id("a"), id("b"));
        assert_eq!(
            keys(&request),
            json!([[[a, 10]], [[a, -22]], [[a, -54], [b, 16]], null])
        );
        request.cache_salt = Some("s".into());
        assert_eq!(keys(&request)[0], json!([[a, 10], "s"]));
        request.images.clear();
        assert_eq!(request.extra_keys(32), None);
    }
}
