//! Recorded traffic of real engines: what was published, what was asked, and what was really reused.
//!
//! A recording is two files of JSON lines, plain or gzip-compressed, in `<engine>-<variant>-bs<block size>/`:
//! `<workload>.events.jsonl` has one message of the engine's publisher per line, in order of arrival;
//! `<workload>.requests.jsonl` has every request with the number of tokens the engine took from its cache.
//! Both files share one clock, so a recording can be played back: publish what arrived before a request
//! was sent, ask for the request's tokens, compare. [`judge`] says which comparisons mean something.
//!
//! Two layouts of the requests file are read. As recorded, a line carries the whole request body in
//! `request`; packed, it carries only the fields a comparison needs ([`Recording::pack`]).
mod find;
mod images;
pub mod judge;
mod line;
mod read;

pub use find::{find, open};
pub use images::Image;
pub use read::ReadError;

/// One workload's traffic.
#[derive(Clone, Debug)]
pub struct Recording {
    /// `variant/workload`, for reports.
    pub name: String,
    /// The engine's version, from the variant's name (`v0.32.0-…`).
    pub engine: Option<[u32; 3]>,
    /// Tokens per block, from the variant's name (`…-bs32`).
    pub block_size: Option<u32>,
    /// What was published, in order of arrival.
    pub messages: Vec<Message>,
    /// What was asked or done, in order of the moment it began.
    pub entries: Vec<Entry>,
}

/// One message of an engine's publisher, as it came from the socket.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// When it arrived, in seconds.
    pub at: f64,
    /// The recorded name of the publisher: one per rank.
    pub pod: String,
    /// First frame.
    pub topic: Vec<u8>,
    /// Second frame: the batch's number, eight bytes, big endian.
    pub sequence: Vec<u8>,
    /// Third frame: the batch.
    pub payload: Vec<u8>,
}

impl Message {
    /// The batch's number; `None` if the frame has not eight bytes.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        let bytes: &[u8; 8] = self.sequence.as_slice().try_into().ok()?;
        Some(
            bytes
                .iter()
                .fold(0, |number, &byte| number << 8 | u64::from(byte)),
        )
    }

    /// Gives the batch another number.
    pub fn set_number(&mut self, number: u64) {
        // Not `to_be_bytes`: the byte order of the wire is spelt out wherever it matters.
        self.sequence = (0..8)
            .rev()
            .map(|byte| (number >> (8 * byte)) as u8)
            .collect();
    }

    /// The data-parallel rank that the batch names: its third and last value, a small number. 0 if it
    /// names none.
    #[must_use]
    pub fn rank(&self) -> u32 {
        const ARRAY_OF_THREE: u8 = 0x93;
        match (self.payload.first(), self.payload.last()) {
            (Some(&ARRAY_OF_THREE), Some(&rank)) if rank < 0x80 => u32::from(rank),
            _ => 0,
        }
    }
}

/// One line of the requests file.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The line's own number in the recording.
    pub id: u64,
    /// The pod it was sent to; none for a note.
    pub pod: Option<String>,
    /// What the recorder called it.
    pub label: String,
    /// When it was sent, in seconds.
    pub sent: f64,
    /// When the answer was complete, in seconds.
    pub done: f64,
    /// What it was.
    pub what: What,
}

/// What a line of the requests file was.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// A request that the engine answered.
    Request(Request),
    /// The pod's prefix cache was reset.
    Reset,
    /// Anything else: a note, or a request without a known outcome (a stream that was cut off).
    Other(String),
}

/// A request and what the engine reused for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The URL's path.
    pub path: String,
    /// The model as asked for: the base model or an adapter.
    pub model: String,
    /// The salt that keeps this request's blocks apart.
    pub cache_salt: Option<String>,
    /// Whether log-probabilities of the prompt were asked for: the engine then does not read its cache.
    pub prompt_logprobs: bool,
    /// The prompt as the engine tokenized it.
    pub tokens: Vec<u32>,
    /// Tokens of the prompt that the engine took from its cache.
    pub cached_tokens: u32,
    /// The images in the prompt.
    pub images: Vec<Image>,
}

/// One step of playing a recording back.
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    /// The engine published this.
    Published(&'a Message),
    /// This was asked or done: the entry and its place in [`Recording::entries`].
    Happened(usize, &'a Entry),
}

impl Recording {
    /// Messages and entries in the order in which they happened. An entry follows exactly the messages
    /// that arrived before it was sent.
    pub fn steps(&self) -> impl Iterator<Item = Step<'_>> {
        let mut messages = self.messages.iter().peekable();
        let mut entries = self.entries.iter().enumerate().peekable();
        std::iter::from_fn(move || {
            let due = |message: &&Message| entries.peek().is_none_or(|(_, e)| message.at < e.sent);
            if let Some(message) = messages.next_if(due) {
                return Some(Step::Published(message));
            }
            entries.next().map(|(at, entry)| Step::Happened(at, entry))
        })
    }

    /// The base model's name: what the topic says (`kv@pod@model`), else the first request's model.
    #[must_use]
    pub fn base_model(&self) -> &str {
        let topic = self.messages.iter().find_map(|message| {
            let topic = std::str::from_utf8(&message.topic).ok()?;
            topic
                .strip_prefix("kv@")?
                .split_once('@')
                .map(|(_, model)| model)
        });
        topic
            .or_else(|| self.requests().next().map(|(_, r)| r.model.as_str()))
            .unwrap_or_default()
    }

    /// The requests with their entries.
    pub fn requests(&self) -> impl Iterator<Item = (&Entry, &Request)> {
        self.entries.iter().filter_map(|entry| match &entry.what {
            What::Request(request) => Some((entry, request)),
            _ => None,
        })
    }

    /// The publishers' names, in order of their first message, each once.
    #[must_use]
    pub fn publishers(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for message in &self.messages {
            if !names.contains(&message.pod.as_str()) {
                names.push(&message.pod);
            }
        }
        names
    }
}
