//! The spans of one request while it is answered. They say how it went, never what was in it.
use super::context::{Parent, Passed, SpanId, TraceId};
use super::{Dropped, Tracer};
use crate::limits::{SPAN_TEXT_BYTES_MAX, SPANS_PER_REQUEST_MAX};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use std::cell::Cell;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

thread_local! {
    /// The trace of the request that this thread answers now.
    static CURRENT: Cell<Option<TraceId>> = const { Cell::new(None) };
}

/// The trace that the calling thread works for, if it is recorded: for lines of the log and exemplars of metrics.
#[must_use]
pub fn current() -> Option<TraceId> {
    CURRENT.get()
}

/// As long as it exists, its thread works for a trace.
#[derive(Debug)]
pub struct Entered(Option<TraceId>);

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

/// What a span says of something.
#[derive(Clone, Copy, Debug)]
pub enum Value<'v> {
    /// A text; a long one is cut.
    Text(&'v str),
    /// A number; those beyond `i64` are the largest of those.
    Number(u64),
    /// Whether it is so.
    Flag(bool),
}

impl Value<'_> {
    fn of(self, key: &'static str) -> KeyValue {
        let value = match self {
            Self::Text(text) => {
                let end = text.floor_char_boundary(SPAN_TEXT_BYTES_MAX);
                any_value::Value::StringValue(text[..end].to_owned())
            }
            Self::Number(number) => {
                any_value::Value::IntValue(i64::try_from(number).unwrap_or(i64::MAX))
            }
            Self::Flag(flag) => any_value::Value::BoolValue(flag),
        };
        KeyValue {
            key: key.to_owned(),
            value: Some(AnyValue { value: Some(value) }),
            ..KeyValue::default()
        }
    }
}

/// A request that came with a trace or is traced. Dropped, its spans are on their way.
#[derive(Debug)]
pub struct Trace {
    passed: Passed,
    recording: Option<Recording>,
}

/// What is recorded of a request.
#[derive(Debug)]
struct Recording {
    tracer: Tracer,
    begun: Instant,
    span: Span,
    parts: Vec<Span>,
}

/// A part of a request that is under way.
#[derive(Debug)]
pub struct Part(Span);

impl Trace {
    /// One that is recorded elsewhere, or not at all: it is passed on as it came.
    pub(super) fn passing(parent: Parent, state: Option<Box<str>>) -> Self {
        Self {
            passed: Passed { parent, state },
            recording: None,
        }
    }

    /// One that is recorded.
    pub(super) fn recorded(
        tracer: Tracer,
        name: &'static str,
        parent: Option<Parent>,
        state: Option<Box<str>>,
    ) -> Self {
        let (trace, id) = (
            parent.map_or_else(TraceId::random, |parent| parent.trace),
            SpanId::random(),
        );
        let mut span = span(name, SpanKind::Server, trace, id, state.as_deref());
        span.parent_span_id = parent.map_or_else(Vec::new, |parent| parent.span.0.to_vec());
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let since = since.unwrap_or_default().as_nanos();
        span.start_time_unix_nano = u64::try_from(since).unwrap_or(u64::MAX);
        let parent = Parent {
            trace,
            span: id,
            sampled: true,
        };
        Self {
            passed: Passed { parent, state },
            recording: Some(Recording {
                tracer,
                begun: Instant::now(),
                span,
                parts: Vec::new(),
            }),
        }
    }

    /// The trace's name, if it is recorded.
    #[must_use]
    pub fn id(&self) -> Option<TraceId> {
        self.recording.as_ref().map(|_| self.passed.parent.trace)
    }

    /// What whoever serves the request is told: of this span if it is recorded, else as it came.
    #[must_use]
    pub fn passed(&self) -> &Passed {
        &self.passed
    }

    /// From now on the calling thread works for it.
    #[must_use]
    pub fn enter(&self) -> Entered {
        Entered(CURRENT.replace(self.id()))
    }

    /// Says something of the request.
    pub fn set(&mut self, key: &'static str, value: Value<'_>) {
        if let Some(recording) = &mut self.recording {
            let attributes = &mut recording.span.attributes;
            attributes.retain(|known| known.key != key);
            attributes.push(value.of(key));
        }
    }

    /// The request has failed: why, as a word that is fixed in the code.
    pub fn fail(&mut self, why: &'static str) {
        self.set("error.type", Value::Text(why));
        if let Some(recording) = &mut self.recording {
            recording.span.status = Some(failed());
        }
    }

    /// Begins a part of the request, if it is recorded.
    #[must_use]
    pub fn begin(&self, name: &'static str) -> Option<Part> {
        self.part(name, SpanKind::Internal)
    }

    /// Begins a call of somebody else's.
    #[must_use]
    pub fn begin_call(&self, name: &'static str) -> Option<Part> {
        self.part(name, SpanKind::Client)
    }

    fn part(&self, name: &'static str, kind: SpanKind) -> Option<Part> {
        let recording = self.recording.as_ref()?;
        let (trace, state) = (self.passed.parent.trace, self.passed.tracestate());
        let mut part = span(name, kind, trace, SpanId::random(), state);
        part.parent_span_id = self.passed.parent.span.0.to_vec();
        part.start_time_unix_nano = recording.now();
        Some(Part(part))
    }

    /// A part is over.
    pub fn end(&mut self, mut part: Part) {
        if let Some(recording) = &mut self.recording {
            part.0.end_time_unix_nano = recording.now();
            if recording.parts.len() < SPANS_PER_REQUEST_MAX {
                recording.parts.push(part.0);
            } else {
                Dropped::Many.add(1);
            }
        }
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        if let Some(mut recording) = self.recording.take() {
            recording.span.end_time_unix_nano = recording.now();
            let mut spans = recording.parts;
            spans.push(recording.span);
            recording.tracer.send(spans);
        }
    }
}

impl Recording {
    /// Nanoseconds since 1970, by a clock that does not go back.
    fn now(&self) -> u64 {
        let elapsed = u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.span.start_time_unix_nano.saturating_add(elapsed)
    }
}

impl Part {
    /// Says something of it.
    pub fn set(&mut self, key: &'static str, value: Value<'_>) {
        self.0.attributes.push(value.of(key));
    }

    /// It has failed.
    pub fn fail(&mut self, why: &'static str) {
        self.set("error.type", Value::Text(why));
        self.0.status = Some(failed());
    }

    /// What whoever is called is told.
    #[must_use]
    pub fn passed(&self, of: &Trace) -> Passed {
        let mut id = [0; 8];
        for (to, from) in id.iter_mut().zip(&self.0.span_id) {
            *to = *from;
        }
        let mut passed = of.passed.clone();
        passed.parent.span = SpanId(id);
        passed
    }
}

fn span(
    name: &'static str,
    kind: SpanKind,
    trace: TraceId,
    id: SpanId,
    state: Option<&str>,
) -> Span {
    Span {
        trace_id: trace.0.to_vec(),
        span_id: id.0.to_vec(),
        trace_state: state.unwrap_or_default().to_owned(),
        name: name.to_owned(),
        kind: kind.into(),
        flags: 1,
        ..Span::default()
    }
}

fn failed() -> Status {
    Status {
        message: String::new(),
        code: StatusCode::Error.into(),
    }
}
