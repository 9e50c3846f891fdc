//! The bounds of the log.
use std::time::Duration;

/// Lines a second that one place in the code may log, unless it is set: a person reads no more.
pub const LOG_RATE_DEFAULT: u32 = 10;
/// Highest such rate that can be set; 0 stands for none.
pub const LOG_RATE_MAX: u32 = 1_000_000;
/// Seconds of that rate that a place may log at once: what belongs to one event is whole.
pub const LOG_BURST_SECONDS: u64 = 5;
/// Places that are told apart by the rate; those beyond share one. The node and its libraries have a few hundred.
pub const LOG_PLACES_MAX: usize = 1_024;
/// Between two looks at whether a burst is over, and lines that were left out can be told of.
pub const LOG_LOOK_PAUSE: Duration = Duration::from_secs(1);
/// Time after which lines that were left out are told of even if there are still more.
pub const LOG_TOLD_AFTER: Duration = Duration::from_secs(60);
/// Bytes of one value in a line; what is longer is cut.
pub const LOG_VALUE_BYTES_MAX: usize = 4 << 10;
/// Bytes of all values of a line, before they are escaped.
pub const LOG_LINE_BYTES_MAX: usize = 16 << 10;
/// Lines that wait to be written; with more, whoever reads them is too slow, and they are dropped.
pub const LOG_QUEUE_MAX: usize = 8_192;
/// Bytes of those.
pub const LOG_QUEUE_BYTES_MAX: usize = 4 << 20;
/// Time for the lines that wait when the process ends: nobody may be reading them.
pub const LOG_FLUSH_TIME_MAX: Duration = Duration::from_millis(200);
/// Bytes of a filter: some hundred modules.
pub const LOG_FILTER_BYTES_MAX: usize = 4 << 10;
