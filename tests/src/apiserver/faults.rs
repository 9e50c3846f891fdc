//! What goes wrong on purpose: answers that fail, and what is done to watches that are open.
use super::requests::Verb;
use std::collections::BTreeMap;
use std::time::Duration;

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An error with this code (429, 500, 503), and `Retry-After` with so many seconds.
    Refuse(u16, Option<u32>),
    /// Nothing is said until the client goes.
    Hang,
    /// It is answered after so long.
    Delay(Duration),
    /// The connection is closed in place of an answer.
    Reset,
    /// The answer's body breaks off after so many bytes.
    Cut(usize),
    /// A body that is not what it says to be.
    Garbage,
    /// 410 as an HTTP answer.
    Gone,
    /// 410 as the only event of a watch that seems to begin well; for others as [`Fault::Gone`].
    GoneInStream,
}

/// What is done to all watches that are open, after all changes so far were sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamFault {
    /// They end properly, as after `timeoutSeconds`.
    Close,
    /// The connection breaks in the middle of a line.
    Break,
    /// The connection breaks so many bytes into the line of the next change.
    BreakAtNext(usize),
    /// An event of type `ERROR` with a status of code 410, then the end.
    Expire,
    /// A line that is no JSON; then they go on.
    Garbage,
    /// A bookmark for those that allow it; then they go on.
    Bookmark,
    /// They stay open, and nothing is sent any more.
    Silence,
}

/// How the bytes of watches are cut into chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pieces {
    /// Bytes of a chunk; the sizes take turns.
    pub(super) sizes: Vec<usize>,
    /// Before each of them but the first of a line.
    pub(super) pause: Duration,
}

impl Pieces {
    /// A line in chunks; together they are the line.
    pub(super) fn cut<'l>(&self, line: &'l [u8]) -> Vec<&'l [u8]> {
        let mut sizes = self.sizes.iter().cycle();
        let (mut pieces, mut rest) = (Vec::new(), line);
        while !rest.is_empty() {
            let size = sizes.next().map_or(rest.len(), |&size| size.max(1));
            let (piece, left) = rest.split_at(size.min(rest.len()));
            pieces.push(piece);
            rest = left;
        }
        pieces
    }
}

/// The faults that are on.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// For each verb a fault, and for how many requests yet; `None` for all.
    answers: BTreeMap<Verb, (Fault, Option<u32>)>,
    /// New connections are taken, and then nothing happens.
    pub(super) silent_connections: bool,
    pub(super) pieces: Option<Pieces>,
}

impl Faults {
    pub(super) fn set(&mut self, verb: Verb, fault: Fault, times: Option<u32>) {
        self.answers.insert(verb, (fault, times));
    }

    /// What becomes of the next request of this kind.
    pub(super) fn take(&mut self, verb: Verb) -> Option<Fault> {
        let (fault, times) = self.answers.get_mut(&verb)?;
        let fault = fault.clone();
        if let Some(left) = times {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.answers.remove(&verb);
            }
        }
        Some(fault)
    }
}
