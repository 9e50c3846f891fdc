//! The console: static files and documents that are part of the program, under headers that let them load nothing else.
//!
//! None of these files holds anything of the node, so they are given without a token: a browser has none to show
//! before the page that asks for it is there. What they show they ask for like any other client.
mod assets;
mod pages;

use super::error::{ApiError, Body, Reply, TEXT};
use super::state::{Call, ThreadState};
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::{
    self, CACHE_CONTROL, CONTENT_SECURITY_POLICY, ETAG, HeaderName, HeaderValue, IF_NONE_MATCH,
    REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};

/// Nothing but the node's own files, and of them only what the pages need; a page cannot make script or markup out of
/// strings, nor be framed. (CSP level 3, Trusted Types.)
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

/// Whether who asks prefers a page to a text: browsers say so, `curl` does not.
pub(super) fn wants_page(headers: &hyper::HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).into_iter();
    let mut accepted = accepted.filter_map(|value| value.to_str().ok());
    accepted.any(|value| value.to_ascii_lowercase().contains("text/html"))
}

/// `GET /`: the console for browsers, the routes as a text for others.
pub(super) fn front(_: &mut ThreadState, call: &Call<'_>) -> Result<Reply, ApiError> {
    let mut reply = if wants_page(call.headers) {
        let index = assets::find("index.html").ok_or_else(|| nothing("/"))?;
        file(call, HTML, Bytes::from_static(index.bytes))
    } else {
        let text = Bytes::from_static(include_str!("routes.txt").as_bytes());
        whole(TEXT, text)
    };
    reply
        .headers
        .push((VARY, HeaderValue::from_static("accept")));
    Ok(reply)
}

/// `GET /console/{name}`.
pub(super) fn asset(_: &mut ThreadState, call: &Call<'_>) -> Result<Reply, ApiError> {
    let asset = assets::find(call.rest).ok_or_else(|| nothing(call.uri.path()))?;
    let content_type = HeaderValue::from_static(asset.content_type);
    Ok(file(call, content_type, Bytes::from_static(asset.bytes)))
}

/// `GET /runbooks/{name}`, `GET /docs/{name}`: what an operator reads, where the repository is not at hand.
pub(super) fn document(_: &mut ThreadState, call: &Call<'_>) -> Result<Reply, ApiError> {
    let path = call.uri.path();
    let page = pages::find(path).ok_or_else(|| nothing(path))?;
    Ok(file(call, HTML, page.bytes()))
}

/// A file, or that it is still the one that the browser has.
fn file(call: &Call<'_>, content_type: HeaderValue, bytes: Bytes) -> Reply {
    let tag = tag(&bytes);
    let known = call.headers.get_all(IF_NONE_MATCH).into_iter();
    let mut known = known.filter_map(|value| value.to_str().ok());
    let known = known.any(|tags| tags.split(',').any(|known| known.trim() == tag));
    let mut reply = whole(content_type, if known { Bytes::new() } else { bytes });
    if known {
        reply.status = StatusCode::NOT_MODIFIED;
    }
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        reply.headers.push((ETAG, tag));
    }
    reply.headers.extend(guards());
    reply
}

fn whole(content_type: HeaderValue, bytes: Bytes) -> Reply {
    Reply {
        status: StatusCode::OK,
        content_type,
        headers: Vec::new(),
        name: None,
        body: Body::Whole(bytes),
    }
}

/// What names a file's content: the same for every node of one version.
fn tag(bytes: &[u8]) -> String {
    let mut sum = flate2::Crc::new();
    sum.update(bytes);
    format!("\"{:x}-{:08x}\"", bytes.len(), sum.sum())
}

/// What a browser may not do with the console's files.
fn guards() -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    let guards = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-cache"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ];
    guards
        .into_iter()
        .map(|(name, value)| (name, HeaderValue::from_static(value)))
}

fn nothing(path: &str) -> ApiError {
    let message = format!("no such path: {path}");
    ApiError::new(StatusCode::NOT_FOUND, "not_found", message)
}
