//! Calls of engines over kept connections: the only file here that knows hyper.
use super::Failure;
use super::retry::retry_after;
use crate::limits::{
    PROBE_HEAD_BYTES_MAX, TOKENIZER_ANSWER_BYTES_MAX, TOKENIZER_CONNECT_TIME_MAX,
    TOKENIZER_IDLE_MAX, TOKENIZER_IDLE_TIME_MAX, TOKENIZER_WORDS_BYTES_MAX,
};
use crate::otel::Passed;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use hyper::{Method, Request, StatusCode};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Connections to all endpoints, kept while they are used.
#[derive(Clone, Debug)]
pub(super) struct Client(legacy::Client<HttpConnector, Full<Bytes>>);

/// An answer that has come whole.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    /// When to try again.
    pub(super) after: Option<Duration>,
    /// Of another status than 200 only the beginning.
    pub(super) body: Vec<u8>,
}

impl Client {
    /// None are open yet. Must be used within one tokio runtime with its network and clock.
    pub(super) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(TOKENIZER_CONNECT_TIME_MAX));
        connector.set_nodelay(true);
        let client = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(TOKENIZER_IDLE_TIME_MAX)
            .pool_max_idle_per_host(TOKENIZER_IDLE_MAX)
            .http1_max_buf_size(PROBE_HEAD_BYTES_MAX)
            .build(connector);
        Self(client)
    }

    /// Posts JSON to `http://{endpoint}{path}`. Redirections are not followed.
    pub(super) async fn post(
        &self,
        endpoint: &str,
        path: &str,
        body: &Arc<[u8]>,
        passed: Option<&Passed>,
    ) -> Result<Reply, Failure> {
        let body = Full::new(Bytes::from_owner(Arc::clone(body)));
        self.call(Method::POST, endpoint, path, body, passed).await
    }

    /// Gets `http://{endpoint}{path}`.
    pub(super) async fn get(&self, endpoint: &str, path: &str) -> Result<Reply, Failure> {
        self.call(Method::GET, endpoint, path, Full::default(), None)
            .await
    }

    async fn call(
        &self,
        method: Method,
        endpoint: &str,
        path: &str,
        body: Full<Bytes>,
        passed: Option<&Passed>,
    ) -> Result<Reply, Failure> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{endpoint}{path}"))
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("kvroute/", env!("CARGO_PKG_VERSION")));
        if let Some(passed) = passed {
            request = request.header("traceparent", passed.traceparent());
            if let Some(state) = passed.tracestate() {
                request = request.header("tracestate", state);
            }
        }
        let request = request.body(body);
        // An endpoint with bytes that no address has leads nowhere.
        let request = request.map_err(|_| Failure::Connect)?;
        let response = self.0.request(request).await;
        let (head, incoming) = response.map_err(|_| Failure::Connect)?.into_parts();
        let after = head.headers.get(RETRY_AFTER);
        let after = after.and_then(|value| retry_after(value.to_str().ok()?, SystemTime::now()));
        let body = match head.status {
            StatusCode::OK => collect(incoming, TOKENIZER_ANSWER_BYTES_MAX).await?,
            // What it says of the reason is not needed to know that it failed.
            _ => collect(incoming, TOKENIZER_WORDS_BYTES_MAX)
                .await
                .unwrap_or_default(),
        };
        Ok(Reply {
            status: head.status.as_u16(),
            after,
            body,
        })
    }
}

async fn collect(mut body: Incoming, most: usize) -> Result<Vec<u8>, Failure> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > most {
        return Err(Failure::TooLarge);
    }
    let mut whole = Vec::with_capacity(announced);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Failure::Connect)?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        if whole.len() + data.len() > most {
            return Err(Failure::TooLarge);
        }
        whole.extend_from_slice(data);
    }
    Ok(whole)
}
