//! What is wrong now, in words: rules over what the node knows of itself, each with the runbook that goes on from it.
//!
//! The rules are those of the alerts (`deploy/prometheus/alert-rules.yaml`) as far as one node can judge them by itself, under the
//! same names. An alert waits until something has lasted; here it is told at once, as [`Severity::Info`] until then where
//! the node knows since when it is so.
mod facts;
mod node;
mod recent;
mod workers;

pub use facts::{Facts, Lately, WorkerFact};

use serde::Serialize;
use std::time::Duration;

/// Pods that a problem names at most.
const NAMED: usize = 8;

/// How bad it is: what an alert of that name would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Somebody should look now: requests fail, or the whole fleet is routed blindly.
    Page,
    /// Somebody should look by tomorrow.
    Ticket,
    /// It may pass by itself.
    Info,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Problem {
    /// The alert's and the runbook's name.
    pub name: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in a sentence.
    pub text: String,
    /// The first pods by name that it is about.
    pub pods: Vec<String>,
    /// How many pods it is about.
    pub count: usize,
    /// Since when, in milliseconds since 1970, where that is known.
    pub since_ms: Option<u64>,
    /// Where the runbook is served.
    pub runbook: String,
}

impl Problem {
    fn new(name: &'static str, severity: Severity, text: impl Into<String>) -> Self {
        Self {
            name,
            severity,
            text: text.into(),
            pods: Vec::new(),
            count: 0,
            since_ms: None,
            runbook: format!("/runbooks/{name}"),
        }
    }

    /// About these pods, in order and each once.
    fn about<'p>(mut self, pods: impl Iterator<Item = &'p str>) -> Self {
        let mut pods: Vec<_> = pods.collect();
        pods.sort_unstable();
        pods.dedup();
        self.count = pods.len();
        self.pods = pods.into_iter().take(NAMED).map(str::to_owned).collect();
        self
    }

    /// It has been so since then; only worth a look until it has lasted so long.
    fn since(mut self, since_ms: Option<u64>, now_ms: u64, patience: Duration) -> Self {
        self.since_ms = since_ms;
        let lasted = since_ms.map(|since| Duration::from_millis(now_ms.saturating_sub(since)));
        if lasted.is_some_and(|lasted| lasted < patience) {
            self.severity = Severity::Info;
        }
        self
    }
}

/// All that is wrong, the worst first. O(workers).
#[must_use]
pub fn find(facts: &Facts) -> Vec<Problem> {
    let mut found = Vec::new();
    node::find(facts, &mut found);
    workers::find(facts, &mut found);
    recent::find(facts, &mut found);
    found.sort_by_key(|problem| problem.severity);
    found
}

/// "1 worker", "3 workers".
fn several(count: usize, one: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        count => format!("{count} {one}s"),
    }
}

#[cfg(test)]
mod tests;
