//! What an HTTP thread owns and its handlers use.
use super::error::Reply;
use super::flow::Flow;
use super::live::{self, Seen};
use super::lookup::Lookup;
use super::prompt::Scratch;
use super::route::Router;
use super::spans::Traced;
use crate::fleet::Fleet;
use crate::otel::Tracer;
use crate::status::HttpStatus;
use crate::tokenize::{Ask, Outcome, Tokenizer};
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderName};
use hyper::{HeaderMap, Uri};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

/// One thread's state. A handler has it while it computes, never while a request waits for bytes.
#[derive(Debug)]
pub(super) struct ThreadState {
    pub(super) fleet: Arc<Fleet>,
    pub(super) lookup: Lookup,
    pub(super) router: Router,
    /// The token ids of the request at hand.
    pub(super) scratch: Scratch,
    /// What may change while it runs.
    pub(super) live: Seen,
    /// What the server counts.
    pub(super) http: Arc<HttpStatus>,
    /// Decides which requests are traced, if any are.
    pub(super) tracer: Option<Tracer>,
    /// The trace of the request at hand.
    pub(super) traced: Traced,
    /// What makes tokens of text, if anything does.
    pub(super) tokenizer: Option<Tokenizer>,
    /// Whether this thread sends a snapshot or a dump now.
    pub(super) sending: Rc<Cell<bool>>,
    /// What the node did lately.
    pub(super) flow: Arc<Flow>,
}

impl ThreadState {
    /// For the calling thread.
    pub(super) fn new(
        fleet: Arc<Fleet>,
        http: Arc<HttpStatus>,
        (live, flow): (&live::Shared, Arc<Flow>),
        router: Router,
        tokenizer: Option<Tokenizer>,
        tracer: Option<Tracer>,
    ) -> Self {
        Self {
            lookup: Lookup::new(&fleet, router.status().clone(), Arc::clone(router.hot())),
            router,
            fleet,
            scratch: Scratch::default(),
            live: Seen::new(live),
            http,
            tracer,
            traced: None,
            tokenizer,
            sending: Rc::default(),
            flow,
        }
    }
}

impl ThreadState {
    /// Lends what bodies are read into, beside the rest of the state.
    pub(super) fn reading<R>(&mut self, read: impl FnOnce(&mut Self, &mut Scratch) -> R) -> R {
        let mut scratch = std::mem::take(&mut self.scratch);
        let result = read(self, &mut scratch);
        self.scratch = scratch;
        result
    }
}

/// What a handler of prompts has come to.
#[derive(Debug)]
pub(super) enum Step {
    /// The answer.
    Done(Reply),
    /// Tokens are needed, after which it is to be called again.
    Tokenize(Vec<Ask>),
}

/// A prompt, and what the tokenizer made of it.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) ask: Ask,
    pub(super) outcome: Outcome,
}

/// A request that has arrived whole.
#[derive(Debug)]
pub(super) struct Call<'r> {
    pub(super) uri: &'r Uri,
    pub(super) headers: &'r HeaderMap,
    pub(super) body: &'r [u8],
    /// Whether there was a body, or more of it, which there was no room for.
    pub(super) cut: bool,
    /// What the path has after the route's prefix, still encoded.
    pub(super) rest: &'r str,
    /// What came of the prompts that the handler wanted tokenized; empty when it is called first.
    pub(super) told: &'r [Told],
}

impl Call<'_> {
    /// The query string, encoded.
    pub(super) fn query(&self) -> &str {
        self.uri.query().unwrap_or_default()
    }

    /// Whether the body is binary.
    pub(super) fn sends_octets(&self) -> bool {
        self.names(&CONTENT_TYPE, &["application/octet-stream"])
    }

    /// Whether the answer is to be MessagePack.
    pub(super) fn wants_msgpack(&self) -> bool {
        const NAMES: &[&str] = &[
            "application/msgpack",
            "application/x-msgpack",
            "application/vnd.msgpack",
        ];
        self.names(&ACCEPT, NAMES)
    }

    /// Whether the answer is to be server-sent events.
    pub(super) fn wants_event_stream(&self) -> bool {
        self.names(&ACCEPT, &["text/event-stream"])
    }

    /// Whether a header of media types names one of these.
    fn names(&self, header: &HeaderName, types: &[&str]) -> bool {
        let values = self.headers.get_all(header).into_iter();
        values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|item| item.split(';').next())
            .any(|item| types.iter().any(|t| item.trim().eq_ignore_ascii_case(t)))
    }
}
