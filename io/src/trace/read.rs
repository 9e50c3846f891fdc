//! Bytes to recordings.
use super::{Entry, Recording, images, line};
use crate::limits::RECORDING_BYTES_MAX;
use flate2::read::GzDecoder;
use std::io::Read;
use std::path::PathBuf;

/// Why a recording could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file cannot be decompressed.
    #[error("{file}: not a usable gzip file: {source}")]
    Gzip {
        /// The recording and which of its files.
        file: String,
        /// What the decompressor said.
        source: std::io::Error,
    },
    /// The file is too large.
    #[error("{file}: more than {RECORDING_BYTES_MAX} bytes")]
    TooLarge {
        /// The recording and which of its files.
        file: String,
    },
    /// A line is not as it should be.
    #[error("{file}:{line}: {message}")]
    Line {
        /// The recording and which of its files.
        file: String,
        /// The line's number, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// What an engine calls the images of a request, or where they are, cannot be told.
    #[error("{file}: request {id}: {message}")]
    Images {
        /// The recording and which of its files.
        file: String,
        /// The request's own number in the recording.
        id: u64,
        /// What is missing.
        message: String,
    },
}

impl Recording {
    /// Reads a recording from the bytes of its two files, each plain or gzip-compressed. `name` is
    /// `variant/workload`.
    ///
    /// # Errors
    /// The first line that is not as it should be.
    pub fn parse(name: &str, events: &[u8], requests: &[u8]) -> Result<Self, ReadError> {
        let messages = lines(&format!("{name}.events"), events, line::message)?;
        let mut parsed = lines(&format!("{name}.requests"), requests, line::entry)?;
        parsed.sort_by(|(a, _), (b, _)| a.sent.total_cmp(&b.sent));
        let (mut entries, bodies): (Vec<Entry>, Vec<line::Pictures>) = parsed.into_iter().unzip();
        images::resolve(&mut entries, &bodies, &messages).map_err(|(id, message)| {
            ReadError::Images {
                file: format!("{name}.requests"),
                id,
                message,
            }
        })?;
        let variant = name.split('/').next().unwrap_or_default();
        Ok(Self {
            name: name.to_owned(),
            engine: version(variant),
            block_size: variant
                .split('-')
                .find_map(|word| word.strip_prefix("bs")?.parse().ok()),
            messages,
            entries,
        })
    }

    /// The requests file again, with only the fields that a comparison needs.
    #[must_use]
    pub fn pack(&self) -> String {
        self.entries.iter().map(line::packed).collect()
    }
}

/// `v0.32.0-…` to its three numbers.
fn version(variant: &str) -> Option<[u32; 3]> {
    let mut numbers = variant.split('-').next()?.strip_prefix('v')?.splitn(3, '.');
    let mut next = || numbers.next()?.parse().ok();
    Some([next()?, next()?, next()?])
}

fn lines<T>(
    file: &str,
    bytes: &[u8],
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, ReadError> {
    let bytes = inflate(file, bytes)?;
    let mut out = Vec::new();
    for (at, text) in bytes.split(|&byte| byte == b'\n').enumerate() {
        let wrong = |message| ReadError::Line {
            file: file.to_owned(),
            line: at + 1,
            message,
        };
        let text = std::str::from_utf8(text).map_err(|e| wrong(e.to_string()))?;
        if !text.trim().is_empty() {
            out.push(parse(text).map_err(wrong)?);
        }
    }
    Ok(out)
}

fn inflate(file: &str, bytes: &[u8]) -> Result<Vec<u8>, ReadError> {
    let mut out = Vec::new();
    if bytes.starts_with(&[0x1f, 0x8b]) {
        GzDecoder::new(bytes)
            .take(RECORDING_BYTES_MAX + 1)
            .read_to_end(&mut out)
            .map_err(|source| ReadError::Gzip {
                file: file.to_owned(),
                source,
            })?;
    } else {
        out.extend_from_slice(bytes);
    }
    if out.len() as u64 > RECORDING_BYTES_MAX {
        return Err(ReadError::TooLarge {
            file: file.to_owned(),
        });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{Image, Step, What};

    const EVENT: &str =
        r#"{"t":1.5,"pod":"a","frames":3,"topic":"6b","seq":"0000000000000102","payload":"93c0"}"#;

    fn request(extra: &str) -> String {
        format!(
            r#"{{"i":1,"kind":"request","pod":"a","label":"x","t_send":1.0,"t_done":1.2,"path":"/p",{extra}}}"#
        )
    }

    fn parse(events: &str, requests: &str) -> Result<Recording, ReadError> {
        Recording::parse(
            "v0.12.0-sha256-bs16/core",
            events.as_bytes(),
            requests.as_bytes(),
        )
    }

    #[test]
    fn both_layouts_give_the_same_request() {
        let recorded = request(
            r#""status":200,"request":{"model":"m","cache_salt":"s","prompt_logprobs":1},"prompt_token_ids":[1,2],"prompt_tokens":2,"cached_tokens":null"#,
        );
        let packed = request(
            r#""model":"m","cache_salt":"s","prompt_logprobs":1,"prompt_token_ids":[1,2],"prompt_tokens":2,"cached_tokens":0"#,
        );
        let (a, b) = (
            parse(EVENT, &recorded).unwrap(),
            parse(EVENT, &packed).unwrap(),
        );
        assert_eq!(a.entries, b.entries);
        let What::Request(request) = &a.entries[0].what else {
            panic!("not a request")
        };
        assert_eq!(request.cache_salt.as_deref(), Some("s"));
        assert_eq!(
            (request.tokens.as_slice(), request.cached_tokens),
            (&[1, 2][..], 0)
        );
        assert!(request.prompt_logprobs);
        assert_eq!((a.engine, a.block_size), (Some([0, 12, 0]), Some(16)));
        assert_eq!(parse(EVENT, &a.pack()).unwrap().entries, a.entries);
        assert_eq!(a.messages[0].number(), Some(0x102));
    }

    #[test]
    fn a_bad_line_is_named() {
        let good = request(r#""model":"m","prompt_token_ids":[1],"prompt_tokens":1"#);
        let cases = [
            (
                format!("{EVENT}\n{{"),
                good.clone(),
                "v0.12.0-sha256-bs16/core.events:2: ",
            ),
            (
                EVENT.replace("93c0", "93c"),
                good.clone(),
                "events:1: payload",
            ),
            (EVENT.into(), good.replace("[1]", "[-1]"), "requests:1: "),
            (
                EVENT.into(),
                good.replace(r#""model":"m","#, ""),
                "requests:1: model",
            ),
            (
                EVENT.into(),
                good.replace(r#""t_send":1.0,"#, ""),
                "requests:1: t_send",
            ),
            (
                EVENT.into(),
                good.replace(r#""prompt_tokens":1"#, r#""prompt_tokens":2"#),
                "1 tokens",
            ),
        ];
        for (events, requests, expected) in cases {
            let error = parse(&events, &requests).unwrap_err().to_string();
            assert!(
                error.contains(expected),
                "{error} should contain {expected}"
            );
        }
        let error = Recording::parse("x/y", b"\x1f\x8b\x08nonsense", b"")
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("x/y.events: not a usable gzip file"),
            "{error}"
        );
    }

    #[test]
    fn an_entry_follows_what_arrived_before_it() {
        let asked = |t: f64| {
            request(r#""model":"m","prompt_token_ids":[],"prompt_tokens":0"#)
                .replace("1.0", &t.to_string())
        };
        let events = [1.0, 2.0, 3.0]
            .map(|t| EVENT.replace("1.5", &t.to_string()))
            .join("\n");
        // Written in order of completion; 2.0 was sent at the very moment the second message came.
        let recording = parse(&events, &format!("{}\n{}", asked(2.5), asked(2.0))).unwrap();
        let order: Vec<f64> = recording
            .steps()
            .map(|step| match step {
                Step::Published(message) => message.at,
                Step::Happened(_, entry) => -entry.sent,
            })
            .collect();
        assert_eq!(order, [1.0, -2.0, 2.0, -2.5, 3.0]);
    }

    #[test]
    fn images_are_named_by_the_events_that_follow_their_first_use() {
        let (first, second) = ("a".repeat(64), "b".repeat(64));
        let hex = |id: &str| id.bytes().map(|b| format!("{b:02x}")).collect::<String>();
        let event = |t: f64, id: &str| {
            let payload = format!("93d940{}c0", hex(id));
            EVENT
                .replace("1.5", &t.to_string())
                .replace("93c0", &payload)
        };
        let body = |t: f64, urls: &[&str], tokens: &str, count: usize| {
            let parts: Vec<String> = urls
                .iter()
                .map(|u| format!(r#"{{"type":"image_url","image_url":{{"url":"{u}"}}}}"#))
                .collect();
            request(&format!(
                r#""request":{{"model":"m","messages":[{{"role":"user","content":[{}]}}]}},"prompt_token_ids":[{tokens}],"prompt_tokens":{count}"#,
                parts.join(",")
            ))
            .replace("1.0", &t.to_string())
        };
        let events = [event(1.5, &first), event(2.5, &second)].join("\n");
        let requests = [
            body(1.0, &["data:one"], "5,9,9,9,6", 5),
            body(2.0, &["data:two", "data:one"], "5,9,9,9,6,6,9,9,9,7", 10),
        ];
        let recording = parse(&events, &requests.join("\n")).unwrap();
        let image = |id: &str, start| Image {
            id: id.to_owned(),
            start,
            length: 3,
        };
        let found: Vec<_> = recording
            .requests()
            .map(|(_, r)| r.images.clone())
            .collect();
        assert_eq!(found[0], [image(&first, 1)]);
        assert_eq!(found[1], [image(&second, 1), image(&first, 6)]);
        assert_eq!(
            parse(&events, &recording.pack()).unwrap().entries,
            recording.entries
        );
        let error = parse(EVENT, &requests[0]).unwrap_err().to_string();
        assert!(error.contains("request 1: image 0"), "{error}");
    }
}
