//! Spans to the collector, in batches: the only file here that knows hyper.
use super::{Dropped, EXPORTED};
use crate::limits::{
    OTLP_ANSWER_BYTES_MAX, OTLP_HEAD_BYTES_MAX, OTLP_LAST_TIME_MAX, OTLP_RESOLVERS, OTLP_TIME_MAX,
    SPANS_GATHER_TIME, SPANS_PER_CALL_MAX,
};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, USER_AGENT};
use hyper::{Method, Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

type Queue = mpsc::Receiver<Vec<Span>>;

/// Where spans go, and how it went last.
#[derive(Debug)]
pub(super) struct Exporter {
    url: String,
    resource: Resource,
    waiting: Arc<AtomicUsize>,
    failing: bool,
}

/// Runs until it is stopped; then sends what still waits.
pub(super) fn run(mut exporter: Exporter, mut queue: Queue, stop: oneshot::Receiver<()>) {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(OTLP_RESOLVERS)
        .build_local(LocalOptions::default());
    match runtime {
        Ok(runtime) => {
            runtime.block_on(exporter.run(&mut queue, stop));
            // A resolver that hangs is not waited for.
            runtime.shutdown_background();
        }
        // The queue is closed, and what comes is dropped and counted.
        Err(error) => tracing::error!(%error, "spans cannot be exported"),
    }
}

impl Exporter {
    pub(super) fn new(endpoint: &str, service: &str, waiting: Arc<AtomicUsize>) -> Self {
        let text = |key: &str, value: &str| KeyValue {
            key: key.to_owned(),
            value: Some(AnyValue {
                value: Some(any_value::Value::StringValue(value.to_owned())),
            }),
            ..KeyValue::default()
        };
        let attributes = vec![
            text("service.name", service),
            text("service.version", env!("CARGO_PKG_VERSION")),
        ];
        Self {
            url: format!("{}/v1/traces", endpoint.trim_end_matches('/')),
            resource: Resource {
                attributes,
                ..Resource::default()
            },
            waiting,
            failing: false,
        }
    }

    async fn run(&mut self, queue: &mut Queue, told: oneshot::Receiver<()>) {
        let client = client();
        let mut stop = Stop { told, until: None };
        while stop.until.is_none() {
            let mut batch = Vec::new();
            tokio::select! {
                biased;
                _ = stop.told() => break,
                spans = queue.recv() => batch.extend(spans.into_iter().flatten()),
            }
            let gathered = Instant::now() + SPANS_GATHER_TIME;
            while batch.len() < SPANS_PER_CALL_MAX {
                tokio::select! {
                    biased;
                    _ = stop.told() => break,
                    more = timeout_at(gathered, queue.recv()) => match more {
                        Ok(Some(more)) => batch.extend(more),
                        _ => break,
                    },
                }
            }
            self.send(&client, batch, &mut stop).await;
        }
        self.finish(&client, queue, &mut stop).await;
    }

    /// Sends what still waits.
    async fn finish(&mut self, client: &HttpClient, queue: &mut Queue, stop: &mut Stop) {
        queue.close();
        let mut batch = Vec::new();
        loop {
            let more = queue.try_recv().ok();
            let last = more.is_none();
            batch.extend(more.into_iter().flatten());
            if batch.len() >= SPANS_PER_CALL_MAX || last {
                self.send(client, std::mem::take(&mut batch), stop).await;
            }
            if last {
                return;
            }
        }
    }

    /// One call; whatever comes of it, its spans wait no longer.
    async fn send(&mut self, client: &HttpClient, spans: Vec<Span>, stop: &mut Stop) {
        let count = spans.len();
        if count == 0 {
            return;
        }
        let body = self.request(spans).encode_to_vec();
        let mut exchange = pin!(timeout(OTLP_TIME_MAX, call(client, &self.url, body)));
        let outcome = tokio::select! {
            biased;
            outcome = exchange.as_mut() => outcome,
            until = stop.told() => timeout_at(until, exchange.as_mut()).await.unwrap_or_else(Err),
        };
        // Relaxed: see `Shared::waiting`.
        self.waiting.fetch_sub(count, Relaxed);
        match outcome.unwrap_or(Err((Dropped::Timeout, None))) {
            Ok(rejected) => {
                let rejected = rejected.min(count);
                EXPORTED.fetch_add((count - rejected) as u64, Relaxed);
                Dropped::Rejected.add(rejected);
                if std::mem::take(&mut self.failing) {
                    tracing::info!("spans are exported again");
                }
            }
            Err((why, status)) => {
                why.add(count);
                if !std::mem::replace(&mut self.failing, true) {
                    let (url, why) = (&self.url, why.as_str());
                    tracing::warn!(url, why, status, "spans cannot be exported and are dropped");
                }
            }
        }
    }

    fn request(&self, spans: Vec<Span>) -> ExportTraceServiceRequest {
        let scope = InstrumentationScope {
            name: "kvroute".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(self.resource.clone()),
                scope_spans: vec![ScopeSpans {
                    scope: Some(scope),
                    spans,
                    ..ScopeSpans::default()
                }],
                ..ResourceSpans::default()
            }],
        }
    }
}

/// Whether it is to end, and until when.
struct Stop {
    told: oneshot::Receiver<()>,
    until: Option<Instant>,
}

impl Stop {
    /// Waits until it is told to; until when it may go on.
    async fn told(&mut self) -> Instant {
        if let Some(until) = self.until {
            return until;
        }
        // Whoever would tell may be gone, which tells it, too.
        let _ = (&mut self.told).await;
        let until = Instant::now() + OTLP_LAST_TIME_MAX;
        self.until = Some(until);
        until
    }
}

type HttpClient = Client<HttpConnector, Full<Bytes>>;

fn client() -> HttpClient {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(OTLP_TIME_MAX));
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_max_idle_per_host(1)
        .http1_max_buf_size(OTLP_HEAD_BYTES_MAX)
        .build(connector)
}

/// Posts spans; how many of them were not taken, or why none was.
async fn call(
    client: &HttpClient,
    url: &str,
    body: Vec<u8>,
) -> Result<usize, (Dropped, Option<u16>)> {
    let unreachable = (Dropped::Unreachable, None);
    let request = Request::builder()
        .method(Method::POST)
        .uri(url)
        .header(CONTENT_TYPE, "application/x-protobuf")
        .header(USER_AGENT, concat!("kvroute/", env!("CARGO_PKG_VERSION")))
        .body(Full::new(Bytes::from(body)))
        .map_err(|_| unreachable)?;
    let response = client.request(request).await.map_err(|_| unreachable)?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, OTLP_ANSWER_BYTES_MAX).collect().await;
    if head.status != StatusCode::OK {
        return Err((Dropped::Refused, Some(head.status.as_u16())));
    }
    // An answer that is not understood is not one that something was rejected.
    let said = body.ok().map(|body| body.to_bytes());
    let said = said.and_then(|said| ExportTraceServiceResponse::decode(said).ok());
    let partly = said.and_then(|said| said.partial_success);
    Ok(partly.map_or(0, |it| usize::try_from(it.rejected_spans).unwrap_or(0)))
}
