//! A request's way through the node.
use super::access::Door;
use super::aside::{Aside, Ended, Large};
use super::body::{self, Body, Held};
use super::error::{Answer, ApiError, Reply};
use super::spans::{self, Traced};
use super::state::{Call, Step, ThreadState, Told};
use super::table::{ANY, Found, Handler, Runs, find, look_up};
use crate::limits::{LARGE_BODY_BYTES, URL_BYTES_MAX};
use crate::otel::Value;
use crate::status::{Endpoint, RequestName, RequestStatus};
use crate::tokenize::Ask;
use hyper::body::Incoming;
use hyper::header::{CONTENT_ENCODING, EXPECT};
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode};
use std::cell::RefCell;
use tokio::task::JoinSet;

/// Answers one request, and counts it.
pub(super) async fn respond(
    state: &RefCell<ThreadState>,
    held: &Held,
    aside: &Aside,
    door: &Door,
    counts: &RequestStatus,
    request: Request<Incoming>,
) -> Answer {
    let under_way = counts.begin();
    let route = look_up(request.uri().path()).map(|(route, _)| route);
    let forwarded = route.is_some_and(|route| route.allow == ANY);
    let endpoint = route.map_or(Endpoint::Other, |route| route.endpoint);
    let traced_as = route.and_then(|route| route.traced);
    let mut traced = None;
    let begun = (traced_as, &mut traced);
    let (mut answer, name) = answer(state, held, aside, door, request, begun).await;
    if forwarded && is_limit(answer.status()) {
        // Gateways take it for a node that is down. Anything below 500 would be the client's answer.
        *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    if let Some(traced) = &mut traced {
        let status = answer.status().as_u16().into();
        traced.set("http.response.status_code", Value::Number(status));
    }
    let trace = traced.as_ref().and_then(|traced| traced.id());
    let name = trace.map(|id| RequestName::Trace(id.number())).or(name);
    under_way.answered(endpoint, answer.status().as_u16(), name);
    answer
}

/// Has a request answered that may be traced.
fn call(
    state: &RefCell<ThreadState>,
    handler: Handler,
    call: &Call<'_>,
    traced: &mut Traced,
) -> Result<Step, ApiError> {
    let mut state = state.borrow_mut();
    state.traced = traced.take();
    let step = handler.call(&mut state, call);
    *traced = state.traced.take();
    step
}

/// Whether a status says that a bound of the node was met.
fn is_limit(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::REQUEST_TIMEOUT
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::URI_TOO_LONG
            | StatusCode::TOO_MANY_REQUESTS
    )
}

async fn answer(
    state: &RefCell<ThreadState>,
    held: &Held,
    aside: &Aside,
    door: &Door,
    request: Request<Incoming>,
    (traced_as, traced): (Option<&'static str>, &mut Traced),
) -> (Answer, Option<RequestName>) {
    let (head, incoming) = request.into_parts();
    let waits = head.headers.contains_key(EXPECT);
    let found = match check(&head, door) {
        Ok(found) => found,
        Err(error) => {
            let close = !body::discard(incoming, waits).await;
            return (error.closing(close).into(), None);
        }
    };
    // Only of who may ask: a trace that is begun is recorded if its parent was.
    *traced = spans::begin(state.borrow().tracer.as_ref(), traced_as, &head.headers);
    let _under_way = door.enter();
    let (body, cut, close) = match body::read(incoming, waits, held).await {
        Ok(body) => (body, false, false),
        Err(error) if found.forwarded && error.is_about_room() => {
            (Body::none(held), true, error.closes())
        }
        Err(error) => return (error.into(), None),
    };
    // Handlers of other methods may need this thread's runtime.
    let large =
        body.data.len() > LARGE_BODY_BYTES && (head.method == Method::POST || found.forwarded);
    let replied = if large || found.runs == Runs::Aside {
        let kept = found.forwarded.then(|| head.clone());
        let rest = head.uri.path().len() - found.rest.len();
        let handler = found.handler;
        let request = Large {
            head,
            rest,
            body: body.data,
            cut,
            told: Vec::new(),
            traced: traced.take(),
        };
        answer_large(state, aside, handler, request, kept, traced).await
    } else {
        let whole = body.data.whole();
        let call = Call {
            uri: &head.uri,
            headers: &head.headers,
            body: &whole,
            cut,
            rest: found.rest,
            told: &[],
        };
        answer_here(state, found.handler, &call, traced).await
    };
    ended(replied, close, traced)
}

/// An answer, and what its request is called.
fn ended(
    replied: Result<Reply, ApiError>,
    close: bool,
    traced: &mut Traced,
) -> (Answer, Option<RequestName>) {
    match replied {
        Ok(reply) => {
            let name = reply.name;
            (reply.closing(close), name)
        }
        Err(error) => {
            if let Some(traced) = traced {
                traced.fail(error.code());
            }
            (error.closing(close).into(), None)
        }
    }
}

/// Answers a request on this thread, which others have while its prompt is tokenized.
async fn answer_here(
    state: &RefCell<ThreadState>,
    handler: Handler,
    call: &Call<'_>,
    traced: &mut Traced,
) -> Result<Reply, ApiError> {
    let step = self::call(state, handler, call, traced)?;
    let asks = match step {
        Step::Done(reply) => return Ok(reply),
        Step::Tokenize(asks) => asks,
    };
    let told = tokenize(state, asks, traced).await;
    let call = Call {
        told: &told,
        ..*call
    };
    self::call(state, handler, &call, traced).and_then(done)
}

/// Answers on a thread aside a request whose head is kept if it was forwarded: whoever forwards gets an answer even if there is no
/// room for the body.
async fn answer_large(
    state: &RefCell<ThreadState>,
    aside: &Aside,
    handler: Handler,
    request: Large,
    kept: Option<Parts>,
    traced: &mut Traced,
) -> Result<Reply, ApiError> {
    let rest = request.rest;
    match (
        answer_aside(state, aside, handler, request, traced).await,
        kept,
    ) {
        (Err(error), Some(head)) if error.is_about_room() => {
            let call = Call {
                uri: &head.uri,
                headers: &head.headers,
                body: &[],
                cut: true,
                rest: head.uri.path().get(rest..).unwrap_or_default(),
                told: &[],
            };
            self::call(state, handler, &call, traced).and_then(done)
        }
        (replied, _) => replied,
    }
}

/// The same on a thread aside.
async fn answer_aside(
    state: &RefCell<ThreadState>,
    aside: &Aside,
    handler: Handler,
    request: Large,
    traced: &mut Traced,
) -> Result<Reply, ApiError> {
    let (asks, mut request) = match aside.answer(handler, request, traced).await? {
        Ended::Done(reply) => return Ok(reply),
        Ended::Tokenize(asks, request) => (asks, request),
    };
    request.told = tokenize(state, asks, traced).await;
    request.traced = traced.take();
    match aside.answer(handler, *request, traced).await? {
        Ended::Done(reply) => Ok(reply),
        Ended::Tokenize(..) => Err(again()),
    }
}

/// Has prompts tokenized, all at once.
async fn tokenize(state: &RefCell<ThreadState>, asks: Vec<Ask>, traced: &mut Traced) -> Vec<Told> {
    let tokenizer = state.borrow().tokenizer.clone();
    let Some(tokenizer) = tokenizer else {
        return Vec::new();
    };
    let mut under_way = JoinSet::new();
    for ask in asks {
        let tokenizer = tokenizer.clone();
        let part = traced
            .as_ref()
            .and_then(|traced| traced.begin_call("tokenize"));
        let ask = match (traced.as_ref(), &part) {
            (Some(traced), Some(part)) => ask.traced(part.passed(traced)),
            (Some(traced), None) => ask.traced(traced.passed().clone()),
            (None, _) => ask,
        };
        under_way.spawn_local(async move {
            let outcome = tokenizer.tokens(&ask).await;
            (Told { ask, outcome }, part)
        });
    }
    let mut told = Vec::with_capacity(under_way.len());
    while let Some(ended) = under_way.join_next().await {
        let Ok((ended, part)) = ended else {
            continue;
        };
        spans::tokenized(traced, part, &ended.outcome);
        told.push(ended);
    }
    told
}

/// The answer of a handler that has been told what it wanted to know.
fn done(step: Step) -> Result<Reply, ApiError> {
    match step {
        Step::Done(reply) => Ok(reply),
        Step::Tokenize(_) => Err(again()),
    }
}

fn again() -> ApiError {
    ApiError::internal(&"a prompt was to be tokenized twice")
}

/// What answers a request, by its head.
fn check<'h>(head: &'h Parts, door: &Door) -> Result<Found<'h>, ApiError> {
    let length = head
        .uri
        .path_and_query()
        .map_or(0, |both| both.as_str().len());
    if length > URL_BYTES_MAX {
        let message = format!("path and query are longer than {URL_BYTES_MAX} bytes");
        let status = StatusCode::URI_TOO_LONG;
        return Err(ApiError::new(status, "url_too_long", message));
    }
    let admit = |access| door.admit(access, &head.method, &head.headers);
    let found = find(&head.method, head.uri.path(), admit)?;
    let coded = head.headers.get(CONTENT_ENCODING);
    if !found.forwarded && coded.is_some_and(|coding| coding != "identity") {
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        let message = "bodies are read as they are, without content coding";
        return Err(ApiError::new(status, "unsupported_encoding", message));
    }
    Ok(found)
}
