//! Frames of the event and replay sockets: bytes in, numbers and slices out. Pure.
//!
//! A live message is `[topic, number, payload]`. A replay is asked for with `["", start]`, because the
//! engine answers only messages that arrive as exactly three frames (one is the router's identity).
//! It answers one message per batch: `["", number, payload]` (vLLM 0.9 to 0.25) or
//! `["", topic, number, payload]` (from 0.26), so the payload is the last frame and the number the one
//! before it. The end has the number -1, that is eight bytes `ff`, and an empty payload.
//! Numbers are eight bytes, big endian.
use crate::status::SkipReason;

/// The frame before the start number in a request.
pub const DELIMITER: &[u8] = b"";

/// The number of the end marker.
const END: [u8; 8] = [0xff; 8];

/// A batch as it came, still encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawBatch<'a> {
    /// Its number.
    pub sequence: u64,
    /// Its MessagePack bytes.
    pub payload: &'a [u8],
}

/// One message of a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// A batch from the ring.
    Batch(RawBatch<'a>),
    /// There are no more.
    End,
}

/// The bytes of a number, as requests and messages carry it.
#[expect(clippy::big_endian_bytes, reason = "the wire is big endian")]
#[must_use]
pub const fn sequence_frame(sequence: u64) -> [u8; 8] {
    sequence.to_be_bytes()
}

/// Reads a message of the event socket. An error says why it is skipped.
pub fn read_live<'a>(frames: &[&'a [u8]]) -> Result<RawBatch<'a>, SkipReason> {
    match *frames {
        [_topic, sequence, payload] => batch(sequence, payload),
        _ => Err(SkipReason::Framing),
    }
}

/// Reads a message of the replay socket, in both framings. An error says why it is skipped.
pub fn read_answer<'a>(frames: &[&'a [u8]]) -> Result<Answer<'a>, SkipReason> {
    match *frames {
        [_, sequence, payload] | [_, _, sequence, payload] => {
            if sequence == END && payload.is_empty() {
                return Ok(Answer::End);
            }
            batch(sequence, payload).map(Answer::Batch)
        }
        _ => Err(SkipReason::Framing),
    }
}

#[expect(clippy::big_endian_bytes, reason = "the wire is big endian")]
fn batch<'a>(sequence: &[u8], payload: &'a [u8]) -> Result<RawBatch<'a>, SkipReason> {
    let sequence = sequence.try_into().map_err(|_| SkipReason::Framing)?;
    Ok(RawBatch {
        sequence: u64::from_be_bytes(sequence),
        payload,
    })
}
