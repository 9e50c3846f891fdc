//! Reading a request's body: bounded in bytes, in time, and over all of a thread's connections.
use super::error::ApiError;
use crate::limits::{
    BODIES_BYTES_MAX, BODY_TIME_MAX, BODY_TURN_BYTES, REFUSED_BODY_BYTES_MAX, SMALL_BODY_BYTES,
};
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::{Body as _, Bytes, Incoming};
use std::cell::Cell;
use std::ops::Deref;
use std::rc::Rc;
use tokio::time::timeout;

/// A body that has arrived whole.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) data: Data,
    /// Its part of what the thread may hold, until it is answered.
    _share: Share,
}

impl Body {
    /// None, or none that there was room for.
    pub(super) fn none(held: &Held) -> Self {
        Self {
            data: Data::default(),
            _share: Share::new(held),
        }
    }
}

/// The bytes of a body as they came.
#[derive(Debug)]
pub(super) enum Data {
    /// In one piece, as they lie in the connection's buffer.
    One(Bytes),
    /// Put together to chunks of at least [`BODY_TURN_BYTES`], the last one excepted. A single buffer would have to move when
    /// it grows: some milliseconds for the largest bodies, all on the HTTP thread.
    Many {
        /// None is empty.
        chunks: Vec<Vec<u8>>,
        /// Of all chunks.
        bytes: usize,
    },
}

/// A body in one piece.
#[derive(Debug)]
pub(super) enum Whole {
    Shared(Bytes),
    Owned(Vec<u8>),
}

impl Default for Data {
    fn default() -> Self {
        Self::One(Bytes::new())
    }
}

impl Deref for Whole {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Shared(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }
}

impl From<Whole> for Data {
    fn from(whole: Whole) -> Self {
        Self::One(match whole {
            Whole::Shared(bytes) => bytes,
            Whole::Owned(bytes) => bytes.into(),
        })
    }
}

impl Data {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::One(piece) => piece.len(),
            Self::Many { bytes, .. } => *bytes,
        }
    }

    /// In one piece. O(bytes) beyond one chunk.
    pub(super) fn whole(self) -> Whole {
        match self {
            Self::One(piece) => Whole::Shared(piece),
            Self::Many { mut chunks, .. } if chunks.len() == 1 => {
                Whole::Owned(chunks.pop().unwrap_or_default())
            }
            Self::Many { chunks, .. } => Whole::Owned(chunks.concat()),
        }
    }

    /// Adds a piece; `announced` is how many bytes the sender has promised in all.
    fn push(&mut self, piece: Bytes, announced: usize) {
        match self {
            Self::One(first) if first.is_empty() => *first = piece,
            Self::One(first) => {
                let bytes = first.len() + piece.len();
                let mut chunk = Vec::with_capacity(announced.min(BODY_TURN_BYTES).max(bytes));
                chunk.extend_from_slice(first);
                chunk.extend_from_slice(&piece);
                let chunks = vec![chunk];
                *self = Self::Many { chunks, bytes };
            }
            Self::Many { chunks, bytes } => {
                *bytes += piece.len();
                match chunks.last_mut() {
                    Some(last) if last.len() < BODY_TURN_BYTES => last.extend_from_slice(&piece),
                    _ => {
                        let mut chunk = Vec::with_capacity(BODY_TURN_BYTES);
                        chunk.extend_from_slice(&piece);
                        chunks.push(chunk);
                    }
                }
            }
        }
    }
}

/// Bytes of bodies that a thread's connections hold, from their arrival to their answer.
#[derive(Clone, Debug)]
pub(super) struct Held {
    bytes: Rc<Cell<usize>>,
    /// Bytes of one body.
    body_max: usize,
}

impl Held {
    /// Nothing; of bodies of up to so many bytes.
    pub(super) fn new(body_max: usize) -> Self {
        let bytes = Rc::default();
        Self { bytes, body_max }
    }
}

/// One body's part of [`Held`], given back when dropped.
#[derive(Debug)]
struct Share {
    held: Held,
    bytes: usize,
}

impl Share {
    fn new(held: &Held) -> Self {
        let held = held.clone();
        Self { held, bytes: 0 }
    }

    /// Takes more, if there is room; `whole` is how much of the body there is with it. What is small has room in any
    /// case: senders of large bodies that stall must not keep small lookups out.
    fn take(&mut self, bytes: usize, whole: usize) -> bool {
        let bytes = bytes.min(whole.saturating_sub(SMALL_BODY_BYTES));
        let held = self.held.bytes.get() + bytes;
        if held > BODIES_BYTES_MAX {
            return false;
        }
        self.held.bytes.set(held);
        self.bytes += bytes;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let held = &self.held.bytes;
        held.set(held.get() - self.bytes);
    }
}

/// Reads a body. A refused one is read to its end and thrown away where that is feasible, so that
/// the connection can go on and the sender gets to read the answer. `waits` says that the sender waits
/// for a go-ahead (`Expect: 100-continue`), which reading would give.
pub(super) async fn read(mut body: Incoming, waits: bool, held: &Held) -> Result<Body, ApiError> {
    match timeout(BODY_TIME_MAX, collect(&mut body, held)).await {
        Ok(Ok(whole)) => Ok(whole),
        Ok(Err(error)) => {
            let close = !discard(body, waits).await;
            Err(error.closing(close))
        }
        Err(_) => {
            let message = format!("the body took longer than {} s", BODY_TIME_MAX.as_secs());
            let error = ApiError::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", message);
            Err(error.closing(true))
        }
    }
}

async fn collect(body: &mut Incoming, held: &Held) -> Result<Body, ApiError> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > held.body_max {
        return Err(too_large(held.body_max));
    }
    let mut share = Share::new(held);
    let mut data = Data::default();
    let mut turn = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| broken(&error))?;
        let Ok(piece) = frame.into_data() else {
            continue;
        };
        if data.len() + piece.len() > held.body_max {
            return Err(too_large(held.body_max));
        }
        if !share.take(piece.len(), data.len() + piece.len()) {
            let message = "too many request bodies are under way";
            return Err(ApiError::overloaded(message));
        }
        turn += piece.len();
        data.push(piece, announced);
        if turn >= BODY_TURN_BYTES {
            turn = 0;
            // Other connections have their turn, however fast this one sends.
            tokio::task::yield_now().await;
        }
    }
    Ok(Body {
        data,
        _share: share,
    })
}

/// Reads a body and throws it away; `false` if it was not read to its end.
pub(super) async fn discard(mut body: Incoming, waits: bool) -> bool {
    if body.is_end_stream() {
        return true;
    }
    if waits || body.size_hint().lower() > REFUSED_BODY_BYTES_MAX {
        return false;
    }
    let read = async {
        let mut left = REFUSED_BODY_BYTES_MAX;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else {
                return false;
            };
            let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
            match left.checked_sub(bytes) {
                Some(rest) => left = rest,
                None => return false,
            }
        }
        true
    };
    timeout(BODY_TIME_MAX, read).await.unwrap_or(false)
}

fn too_large(most: usize) -> ApiError {
    let message = format!("the body is larger than {most} bytes");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
}

fn broken(error: &hyper::Error) -> ApiError {
    let message = format!("the body broke off: {error}");
    ApiError::new(StatusCode::BAD_REQUEST, "invalid_body", message).closing(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_any_size_come_out_as_they_came() {
        for (size, count) in [(1, 5), (7, 90_000), (BODY_TURN_BYTES - 1, 4), (1 << 20, 3)] {
            let mut data = Data::default();
            let mut expected = Vec::new();
            for n in 0..count {
                let piece = vec![n as u8; size];
                expected.extend_from_slice(&piece);
                data.push(piece.into(), size * count);
                assert_eq!(data.len(), expected.len());
            }
            assert_eq!(*data.whole(), *expected, "{count} pieces of {size} bytes");
        }
        assert!(Data::default().whole().is_empty());
    }
}
