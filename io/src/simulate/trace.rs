//! A trace of requests: when each came, how long its prompt and its answer are, and which blocks of 512 tokens it shares.
//!
//! One JSON object a line, as Mooncake publishes them: `timestamp` (milliseconds), `input_length`, `output_length`
//! (tokens) and `hash_ids`, one for each started block of 512 tokens. Equal ids are equal blocks.
//!
//! The tokens themselves are not published. They are made up: an id always gives the same 512, of which
//! a prompt's last block takes as many as it has left. What an engine generates is made up of the request's number, so it equals
//! nothing else: where later prompts hold earlier answers, the trace has ids for them, and does not say whose answers
//! they are.
use crate::fake::chance::mix;
use crate::limits::{
    TRACE_ID_MAX, TRACE_LINE_BYTES_MAX, TRACE_REQUESTS_MAX, TRACE_TIME_MAX_MS, TRACE_TOKENS_MAX,
};
use serde::Deserialize;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Tokens for which a trace has one id.
pub const TRACE_BLOCK: u32 = 512;

/// Token ids are below: about the vocabulary of Llama 3.
const VOCABULARY: u64 = 128_000;

/// What tells generated tokens from prompts.
const GENERATED: u64 = 0x6765_6e65_7261_7465;

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// When it comes, in microseconds since the trace begins.
    pub at: u64,
    /// Tokens of its prompt, at least one.
    pub input: u32,
    /// Tokens that are generated, at least one.
    pub output: u32,
    ids: Range<usize>,
}

impl Request {
    /// Tokens of prompt and answer.
    #[must_use]
    pub const fn total(&self) -> u32 {
        self.input + self.output
    }
}

/// Requests in the order in which they come.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    requests: Vec<Request>,
    ids: Vec<u64>,
}

/// Why a trace cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line is not as it should be.
    #[error("{}:{line}: {message}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line's number, from 1.
        line: usize,
        /// The field, and what is wrong with it.
        message: String,
    },
    /// There is no request in it.
    #[error("{}: no requests", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

impl TraceError {
    /// Whether the file is not there or cannot be read, as against one with wrong contents.
    #[must_use]
    pub const fn is_missing(&self) -> bool {
        matches!(self, Self::Read { .. })
    }
}

#[derive(Deserialize)]
struct Line {
    timestamp: u64,
    input_length: u64,
    output_length: u64,
    hash_ids: Vec<u64>,
}

impl Trace {
    /// Reads the first `limit` requests of a file.
    ///
    /// # Errors
    /// The file cannot be read, or the first line that is not as it should be.
    pub fn read(path: &Path, limit: usize) -> Result<Self, TraceError> {
        let failed = |source| TraceError::Read {
            path: path.to_owned(),
            source,
        };
        let mut file = BufReader::new(File::open(path).map_err(failed)?);
        let mut trace = Self::default();
        let mut text = Vec::new();
        let mut number = 0;
        while trace.requests.len() < limit.min(TRACE_REQUESTS_MAX) {
            text.clear();
            let most = TRACE_LINE_BYTES_MAX as u64 + 1;
            let read = file.by_ref().take(most).read_until(b'\n', &mut text);
            if read.map_err(failed)? == 0 {
                break;
            }
            number += 1;
            let wrong = |message| TraceError::Line {
                path: path.to_owned(),
                line: number,
                message,
            };
            if text.len() > TRACE_LINE_BYTES_MAX {
                return Err(wrong(format!("more than {TRACE_LINE_BYTES_MAX} bytes")));
            }
            if !text.trim_ascii().is_empty() {
                trace.push_line(&text).map_err(wrong)?;
            }
        }
        if trace.requests.is_empty() {
            let path = path.to_owned();
            return Err(TraceError::Empty { path });
        }
        Ok(trace)
    }

    fn push_line(&mut self, text: &[u8]) -> Result<(), String> {
        let line: Line = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if line.timestamp > TRACE_TIME_MAX_MS {
            let at = line.timestamp;
            return Err(format!("timestamp: {at} is above {TRACE_TIME_MAX_MS} ms"));
        }
        let (input, output) = (line.input_length, line.output_length);
        self.push(line.timestamp * 1_000, input, output, &line.hash_ids)
    }

    /// Adds a request, which comes no earlier than the last: `at` in microseconds, `input` and `output` in tokens, an id for each
    /// started block of [`TRACE_BLOCK`] tokens of the prompt.
    ///
    /// # Errors
    /// The field that cannot be, and why.
    pub fn push(&mut self, at: u64, input: u64, output: u64, ids: &[u64]) -> Result<(), String> {
        if let Some(last) = self.requests.last()
            && at < last.at
        {
            return Err("timestamp: earlier than that of the request before".to_owned());
        }
        let input = tokens("input_length", input)?;
        let output = tokens("output_length", output)?;
        let blocks = input.div_ceil(TRACE_BLOCK) as usize;
        if ids.len() != blocks {
            let given = ids.len();
            return Err(format!(
                "hash_ids: {given} ids, but {input} tokens are {blocks} blocks of {TRACE_BLOCK}"
            ));
        }
        if let Some(id) = ids.iter().find(|&&id| id > TRACE_ID_MAX) {
            return Err(format!("hash_ids: {id} is above {TRACE_ID_MAX}"));
        }
        let first = self.ids.len();
        self.ids.extend_from_slice(ids);
        self.requests.push(Request {
            at,
            input,
            output,
            ids: first..self.ids.len(),
        });
        Ok(())
    }

    /// The requests.
    #[must_use]
    pub fn requests(&self) -> &[Request] {
        &self.requests
    }

    /// Requests that came at one moment, by the trace's coarse clock, are spread evenly until the next moment.
    pub fn spread(&mut self) {
        let mut first = 0;
        while let Some(begin) = self.requests.get(first).map(|request| request.at) {
            let group = self.requests[first..].partition_point(|request| request.at == begin);
            let next = self.requests.get(first + group);
            let step = next.map_or(0, |next| (next.at - begin) / group as u64);
            for (place, request) in self.requests[first..first + group].iter_mut().enumerate() {
                request.at += step * place as u64;
            }
            first += group;
        }
    }

    /// Time passes so many times as fast; `speed` is above 0.
    pub fn speed_up(&mut self, speed: f64) {
        for request in &mut self.requests {
            request.at = scaled(request.at, speed);
        }
    }

    /// Puts the tokens of a request from place `range.start` to before `range.end` into `out`, prompt and answer as one row.
    pub fn tokens(&self, request: usize, range: Range<u32>, out: &mut Vec<u32>) {
        out.clear();
        let Some(of) = self.requests.get(request) else {
            return;
        };
        let ids = self.ids.get(of.ids.clone()).unwrap_or_default();
        let mut at = range.start;
        while at < range.end {
            let (seed, place, until) = if at < of.input {
                let block = at / TRACE_BLOCK;
                let id = ids.get(block as usize).copied().unwrap_or_default();
                let end = of.input.min((block + 1) * TRACE_BLOCK);
                (mix(id), at % TRACE_BLOCK, end)
            } else {
                let seed = mix(GENERATED ^ mix(request as u64));
                (seed, at - of.input, of.total().max(range.end))
            };
            let until = until.min(range.end);
            out.extend((place..place + (until - at)).map(|place| token(seed, place)));
            at = until;
        }
    }
}

/// The token at a place of what a seed stands for.
const fn token(seed: u64, place: u32) -> u32 {
    let bits = mix(seed.wrapping_add(place as u64)) >> 32;
    ((bits * VOCABULARY) >> 32) as u32
}

fn tokens(field: &str, count: u64) -> Result<u32, String> {
    match u32::try_from(count) {
        Ok(tokens) if (1..=TRACE_TOKENS_MAX).contains(&count) => Ok(tokens),
        _ => Err(format!(
            "{field}: {count} is not between 1 and {TRACE_TOKENS_MAX} tokens"
        )),
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "times are far below 2^53 microseconds"
)]
fn scaled(at: u64, speed: f64) -> u64 {
    (at as f64 / speed).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace() -> Trace {
        let mut trace = Trace::default();
        trace.push(0, 600, 3, &[7, 8]).unwrap();
        trace.push(0, 1_024, 3, &[7, 9]).unwrap();
        trace.push(3_000, 512, 3, &[9]).unwrap();
        trace
    }

    fn all(trace: &Trace, request: usize) -> Vec<u32> {
        let mut out = Vec::new();
        trace.tokens(request, 0..trace.requests()[request].total(), &mut out);
        out
    }

    #[test]
    fn equal_ids_are_equal_tokens_and_nothing_else_is() {
        let trace = trace();
        let [a, b, c] = [0, 1, 2].map(|request| all(&trace, request));
        assert_eq!((a.len(), b.len(), c.len()), (603, 1_027, 515));
        assert_eq!(a[..512], b[..512]);
        assert_eq!(b[512..1_024], c[..512]);
        let same = |a: &[u32], b: &[u32]| a.iter().zip(b).filter(|(a, b)| a == b).count();
        assert!(same(&a[512..600], &b[512..600]) < 3);
        assert!(same(&a[600..], &c[512..]) < 3, "answers are their own");
        assert!(a.iter().all(|&token| u64::from(token) < VOCABULARY));
    }

    #[test]
    fn a_range_of_tokens_is_the_same_as_in_the_whole() {
        let trace = trace();
        let whole = all(&trace, 1);
        let mut part = Vec::new();
        for range in [0..1, 500..600, 511..513, 1_000..1_026, 1_024..1_027, 5..5] {
            trace.tokens(1, range.clone(), &mut part);
            assert_eq!(part, whole[range.start as usize..range.end as usize]);
        }
    }

    #[test]
    fn a_coarse_clock_is_spread_and_time_runs_faster() {
        let mut trace = trace();
        trace.spread();
        let times = |trace: &Trace| trace.requests().iter().map(|r| r.at).collect::<Vec<_>>();
        assert_eq!(times(&trace), [0, 1_500, 3_000]);
        trace.speed_up(2.0);
        assert_eq!(times(&trace), [0, 750, 1_500]);
    }

    #[test]
    fn what_cannot_be_is_named() {
        let cases: [(&str, &str); 7] = [
            (r#"{"timestamp":1}"#, "input_length"),
            (
                r#"{"timestamp":-1,"input_length":1,"output_length":1,"hash_ids":[1]}"#,
                "-1",
            ),
            (
                r#"{"timestamp":1,"input_length":0,"output_length":1,"hash_ids":[]}"#,
                "input_length: 0",
            ),
            (
                r#"{"timestamp":1,"input_length":1,"output_length":0,"hash_ids":[1]}"#,
                "output_length: 0",
            ),
            (
                r#"{"timestamp":1,"input_length":513,"output_length":1,"hash_ids":[1]}"#,
                "hash_ids: 1 ids",
            ),
            (
                r#"{"timestamp":1,"input_length":99999999,"output_length":1,"hash_ids":[1]}"#,
                "input_length: 99999999",
            ),
            (
                r#"{"timestamp":99999999999999,"input_length":1,"output_length":1,"hash_ids":[1]}"#,
                "timestamp",
            ),
        ];
        for (line, expected) in cases {
            let error = Trace::default().push_line(line.as_bytes()).unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        }
        let mut trace = trace();
        let earlier = trace.push(2_999, 1, 1, &[1]).unwrap_err();
        assert!(earlier.starts_with("timestamp"), "{earlier}");
    }
}
