//! A choice as it goes out: as headers, and as the body of `/v1/route`.
use super::choice::Decided;
use crate::http::error::{ApiError, Body, JSON, Reply};
use crate::http::lookup::Scores;
use crate::http::matching::{self, Candidate};
use crate::http::spans;
use crate::otel::Passed;
use crate::status::now_ms;
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use serde::Serialize;

/// Where the request should go, as AIBrix's gateway reads it.
const TARGET_POD: HeaderName = HeaderName::from_static("target-pod");
/// The same, as the gateway API's inference extension reads it.
const DESTINATION: HeaderName = HeaderName::from_static("x-gateway-destination-endpoint");
/// The rank that should serve it, as vLLM reads it.
const RANK: HeaderName = HeaderName::from_static("x-data-parallel-rank");
/// The decision's name, for feedback.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-kvroute-request-id");

#[derive(Debug, Serialize)]
struct Answer<'a> {
    request_id: &'a str,
    target: Target<'a>,
    reason: &'static str,
    matched_tokens: u64,
    /// Further tokens that the target is expected to hold.
    speculative_tokens: u64,
    /// Nobody is to obey; said only then.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    shadow: bool,
    headers: Headers<'a>,
    candidates: Vec<Candidate<'a>>,
}

/// A worker that requests can be sent to.
#[derive(Debug, Serialize)]
pub(super) struct Target<'a> {
    pub(super) pod: &'a str,
    pub(super) endpoint: Option<&'a str>,
    pub(super) rank: u32,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Headers<'a> {
    target_pod: &'a str,
    x_gateway_destination_endpoint: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    x_data_parallel_rank: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracestate: Option<&'a str>,
}

impl<'v> Decided<'v> {
    /// Where the request goes. Workers without an endpoint are not eligible.
    fn endpoint(&self) -> &'v str {
        self.target.info.pod().endpoint.as_deref().unwrap_or("")
    }

    fn rank(&self) -> Option<String> {
        self.ranked.then(|| self.target.info.rank().to_string())
    }

    /// The headers that tell a gateway where the request goes; in the shadow, only what the decision is called.
    fn headers(&self) -> Result<Vec<(HeaderName, HeaderValue)>, ApiError> {
        let value = |text: &str| HeaderValue::from_str(text).map_err(|e| ApiError::internal(&e));
        let id = (REQUEST_ID, value(&self.id.to_string())?);
        if self.shadow {
            return Ok(vec![id]);
        }
        let endpoint = value(self.endpoint())?;
        let mut headers = Vec::with_capacity(4);
        headers.push((TARGET_POD, endpoint.clone()));
        headers.push((DESTINATION, endpoint));
        if let Some(rank) = self.rank() {
            headers.push((RANK, value(&rank)?));
        }
        headers.push(id);
        headers.extend(self.passed.iter().flat_map(spans::headers));
        Ok(headers)
    }
}

/// The answer of `/v1/route`, with the same candidates that `/v1/match` would list.
pub(super) fn full(
    decided: &Decided<'_>,
    scores: &Scores<'_>,
    named: Option<&[String]>,
    limit: usize,
    msgpack: bool,
) -> Result<Reply, ApiError> {
    let (now, target) = (now_ms(), decided.target.info);
    let found = matching::best(matching::list(scores, named), limit);
    let candidates = found.iter().map(|found| Candidate::new(found, now));
    let answer = Answer {
        request_id: &decided.id.to_string(),
        target: Target {
            pod: &target.pod().pod,
            endpoint: target.pod().endpoint.as_deref(),
            rank: target.rank(),
        },
        reason: decided.reason.as_str(),
        matched_tokens: decided.matched,
        speculative_tokens: decided.speculative,
        shadow: decided.shadow,
        headers: Headers {
            target_pod: decided.endpoint(),
            x_gateway_destination_endpoint: decided.endpoint(),
            x_data_parallel_rank: decided.rank(),
            traceparent: decided.passed.as_ref().map(Passed::traceparent),
            tracestate: decided.passed.as_ref().and_then(Passed::tracestate),
        },
        candidates: candidates.collect(),
    };
    let mut reply = if msgpack {
        Reply::msgpack(&answer)?
    } else {
        Reply::json(StatusCode::OK, &answer)?
    };
    reply.headers = decided.headers()?;
    reply.name = Some(decided.id.name());
    Ok(reply)
}

/// The answer to a gateway's check: the headers alone.
pub(super) fn headers_only(decided: &Decided<'_>) -> Result<Reply, ApiError> {
    Ok(Reply {
        headers: decided.headers()?,
        name: Some(decided.id.name()),
        ..nothing()
    })
}

/// 200 without a word: the gateway's own routing holds.
pub(super) fn nothing() -> Reply {
    Reply {
        status: StatusCode::OK,
        content_type: JSON,
        headers: Vec::new(),
        name: None,
        body: Body::Whole(Bytes::new()),
    }
}
