//! One engine's questions and what came back.
use super::sources::{self, Sources};
use super::text::{self, EngineMetrics};
use crate::fleet::{PodSpec, ProbeFailure};
use crate::http::{GetError, GetLimits, get};
use crate::status::now_ms;
use std::sync::Arc;

/// What an engine is to be asked.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) pod: Arc<PodSpec>,
    /// Also where its ranks publish.
    pub(super) sources: bool,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) pod: Arc<PodSpec>,
    /// Before the engine was asked, in milliseconds since 1970.
    pub(super) at_ms: u64,
    pub(super) metrics: Result<EngineMetrics, Failed>,
    /// `None` if it was not asked, or has no such path.
    pub(super) sources: Option<Result<Sources, Failed>>,
}

/// Why an answer could not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failed {
    pub(super) why: ProbeFailure,
    pub(super) text: String,
}

impl From<GetError> for Failed {
    fn from(error: GetError) -> Self {
        let why = match error {
            GetError::Resolve(_) => ProbeFailure::Resolve,
            GetError::Connect(_) => ProbeFailure::Connect,
            GetError::Timeout => ProbeFailure::Timeout,
            GetError::Http(_) => ProbeFailure::Http,
            GetError::Status(_) => ProbeFailure::Status,
            // What is kept in memory is only bounded.
            GetError::TooLarge(_) | GetError::Keep(_) => ProbeFailure::TooLarge,
        };
        let text = error.to_string();
        Self { why, text }
    }
}

fn content(text: String) -> Failed {
    let why = ProbeFailure::Content;
    Failed { why, text }
}

/// Asks. An engine that cannot be reached is asked once.
pub(super) async fn ask(question: Question, limits: GetLimits) -> Answer {
    let Question { pod, sources } = question;
    let endpoint = pod.endpoint.as_deref().unwrap_or_default();
    let at_ms = now_ms();
    let metrics = metrics(endpoint, &limits).await;
    let reached = match &metrics {
        Ok(_) => true,
        Err(failed) => matches!(
            failed.why,
            ProbeFailure::Status | ProbeFailure::Content | ProbeFailure::TooLarge
        ),
    };
    let sources = match sources && reached {
        true => named_sources(&pod, endpoint, &limits).await,
        false => None,
    };
    Answer {
        pod,
        at_ms,
        metrics,
        sources,
    }
}

async fn metrics(endpoint: &str, limits: &GetLimits) -> Result<EngineMetrics, Failed> {
    let body = get(endpoint, "/metrics", limits).await?;
    let metrics = text::parse(&body);
    match metrics.samples {
        0 => Err(content("/metrics is no text of metrics".to_owned())),
        _ => Ok(metrics),
    }
}

async fn named_sources(
    pod: &PodSpec,
    endpoint: &str,
    limits: &GetLimits,
) -> Option<Result<Sources, Failed>> {
    /// What servers say that do not have the path.
    const NOT_THERE: [u16; 3] = [404, 405, 501];
    let host = pod.host().unwrap_or_default();
    match get(endpoint, "/kv_event_sources", limits).await {
        Err(GetError::Status(status)) if NOT_THERE.contains(&status) => None,
        Err(error) => Some(Err(error.into())),
        Ok(body) => {
            let parsed = sources::parse(&body, &host);
            Some(parsed.map_err(|error| content(format!("/kv_event_sources: {error}"))))
        }
    }
}
