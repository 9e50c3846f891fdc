//! `kvroute top`: a running node as a screen, looked at again and again.
pub mod frame;
pub mod series;
pub mod view;

use crate::client::{Client, ClientError};
use crate::limits::READY_REASON_BYTES_MAX;
use series::Series;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use view::Look;

/// Looks at one node.
#[derive(Debug)]
pub struct Looker {
    client: Client,
    start: Instant,
}

impl Looker {
    /// Of the node that `client` asks.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self {
            client,
            start: Instant::now(),
        }
    }

    /// Asks for workers, metrics and readiness.
    ///
    /// # Errors
    /// The node does not answer, or refuses its list of workers.
    pub fn look(&mut self) -> Result<Look, ClientError> {
        let workers = self.client.get("/v1/workers")?;
        // Metrics may be for others' eyes, or too many; then there are no rates.
        let metrics = self.client.fetch("/metrics").ok();
        let metrics = metrics.filter(|(status, _)| *status == 200);
        let series = metrics.map(|(_, text)| Series::parse(&String::from_utf8_lossy(&text)));
        let (status, reason) = self.client.fetch("/readyz")?;
        let reason = &reason[..reason.len().min(READY_REASON_BYTES_MAX)];
        Ok(Look {
            at: self.start.elapsed().as_secs_f64(),
            clock_ms: clock_ms(),
            workers,
            series,
            ready: (status == 200, said(reason)),
        })
    }
}

/// Now, in milliseconds since 1970.
fn clock_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// What an answer says, in one line: an error's message, or the text as it is.
fn said(body: &[u8]) -> String {
    let json: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let message = json.and_then(|json| json["error"]["message"].as_str().map(str::to_owned));
    message.unwrap_or_else(|| String::from_utf8_lossy(body).trim().to_owned())
}
