//! Bounds of what is measured.
use std::time::Duration;

/// Of so many lookups, choices and batches of a thread the time is measured of one: reading the clock twice takes as long as
/// a fifth of a short lookup. A prime, so that no row of requests or events has always the same place measured.
pub const TIMES_MEASURED_ONE_OF: u64 = 17;

/// Longest lag of a batch that is told: an engine whose clock says another year would make any sum of it useless.
pub const LAG_MAX: Duration = Duration::from_hours(24);
