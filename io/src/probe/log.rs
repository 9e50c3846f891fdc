//! What the probe says in the log: changes only, and so many lines a minute in all.
use crate::limits::PROBE_LINES_PER_MINUTE_MAX;
use crate::quiet::Throttle;
use std::fmt::Arguments;
use std::time::Duration;

static LINES: Throttle = Throttle::with(PROBE_LINES_PER_MINUTE_MAX, Duration::from_secs(60));

/// Something that somebody should look at.
pub(super) fn warn(of: &str, what: Arguments<'_>) {
    if let Some(more) = LINES.pass() {
        tracing::warn!(of, more, "{what}");
    }
}

/// Something worth to be known afterwards.
pub(super) fn info(of: &str, what: Arguments<'_>) {
    if let Some(more) = LINES.pass() {
        tracing::info!(of, more, "{what}");
    }
}
