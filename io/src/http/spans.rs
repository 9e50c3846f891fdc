//! What a request's trace is told while it is answered: from its headers, its lookups and its choice. Nothing of it is done for
//! requests without a trace.
use super::lookup::{Prompt, Query, Scores};
use crate::otel::{Parent, Part, Passed, Trace, Tracer, Value, trace_state};
use crate::tokenize::Outcome;
use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};

/// A request's trace, if it has one.
pub(super) type Traced = Option<Box<Trace>>;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// A request begins. `name` is its span's: of the route, not of the request; without one, or where nobody traces, its headers are not
/// looked at.
pub(super) fn begin(
    tracer: Option<&Tracer>,
    name: Option<&'static str>,
    headers: &HeaderMap,
) -> Traced {
    let (tracer, name) = (tracer?, name?);
    let mut parents = headers.get_all(TRACEPARENT).into_iter();
    let parent = match (parents.next(), parents.next()) {
        (Some(parent), None) => Parent::parse(parent.as_bytes()),
        // Of two it is not clear which one counts.
        _ => None,
    };
    let state = parent.and_then(|_| {
        let states = headers.get_all(TRACESTATE).into_iter();
        trace_state(states.map(HeaderValue::as_bytes))
    });
    tracer.begin(name, parent, state)
}

/// Begins a part of the request, if that is recorded.
pub(super) fn part(traced: &Traced, name: &'static str) -> Option<Part> {
    traced.as_ref()?.begin(name)
}

/// A lookup is over. That there are scores says that the model is the fleet's, so there are not more names than models.
pub(super) fn looked_up(
    traced: &mut Traced,
    part: Option<Part>,
    query: &Query<'_>,
    scores: &Scores<'_>,
) {
    let (Some(trace), Some(mut part)) = (traced.as_mut(), part) else {
        return;
    };
    let (mut workers, mut matched) = (0, 0);
    for found in scores.credited() {
        workers += 1;
        matched = found.matched().max(matched);
    }
    let prompt = match query.prompt {
        Prompt::Tokens(tokens) => ("kvroute.tokens", tokens.len()),
        Prompt::Keys(keys) => ("kvroute.blocks", keys.len()),
    };
    let prompt = (prompt.0, Value::Number(prompt.1 as u64));
    let matched = ("kvroute.matched_tokens", Value::Number(matched));
    for (key, value) in [prompt, matched, ("kvroute.workers", Value::Number(workers))] {
        part.set(key, value);
    }
    trace.end(part);
    for (key, value) in [
        ("gen_ai.request.model", Value::Text(query.model)),
        prompt,
        matched,
    ] {
        trace.set(key, value);
    }
}

/// A prompt is tokenized, or not.
pub(super) fn tokenized(traced: &mut Traced, part: Option<Part>, outcome: &Outcome) {
    let (Some(trace), Some(mut part)) = (traced.as_mut(), part) else {
        return;
    };
    match outcome {
        Ok(tokens) => part.set("kvroute.tokens", Value::Number(tokens.len() as u64)),
        Err(failure) => part.fail(failure.as_str()),
    }
    trace.end(part);
}

/// What whoever serves the request is told, as headers.
pub(super) fn headers(passed: &Passed) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    let parent = HeaderValue::try_from(passed.traceparent()).ok();
    let state = passed.tracestate();
    let state = state.and_then(|state| HeaderValue::from_str(state).ok());
    let parent = parent.map(|parent| (TRACEPARENT, parent));
    parent
        .into_iter()
        .chain(state.map(|state| (TRACESTATE, state)))
}
