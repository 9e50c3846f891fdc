//! Every bound of the node, with its reason.
use std::time::Duration;

/// Bytes of one event frame. A step that stores 100,000 tokens is about 500 kB; a batch above this is
/// skipped and counted.
pub const FRAME_BYTES_MAX: usize = 64 << 20;

/// Nesting of a MessagePack value that is walked over. Real events nest five deep
/// (batch, events, event, extra keys of a block, one item).
pub const NESTING_MAX: u32 = 16;

/// Messages that libzmq queues per subscription before it drops the newest. Its default of 1,000 is
/// lost within one stall of a second; engines' own high-water mark is 100,000.
pub const SUBSCRIPTION_QUEUE_MAX: i32 = 100_000;

/// Batches of one worker that are applied before its thread looks at the next worker.
pub const BATCHES_PER_TURN_MAX: u32 = 64;

/// Live batches held back while a replay runs, in bytes per worker. More becomes a gap.
pub const HELD_BACK_BYTES_MAX: usize = 32 << 20;

/// Commands (add, remove a worker) that wait for one IO thread.
pub const COMMANDS_MAX: usize = 4_096;

/// Bytes of one request body: a million token ids as JSON.
pub const BODY_BYTES_MAX: usize = 8 << 20;

/// Time from the first request of a replay to its end marker.
pub const REPLAY_TIME_MAX: Duration = Duration::from_secs(5);

/// Data-parallel ranks of one pod.
pub const RANKS_MAX: u32 = 1_024;

/// Bytes of one file of a recording, decompressed: hours of traffic, and no bomb.
pub const RECORDING_BYTES_MAX: u64 = 1 << 30;

/// Time that the demo's own client waits for the node.
pub const CLIENT_TIME_MAX: Duration = Duration::from_secs(5);

/// Bytes of the headers that the demo's client reads.
pub const CLIENT_HEADERS_MAX: u64 = 64 << 10;

/// Bytes of an answer that the demo's client reads: thousands of workers.
pub const CLIENT_ANSWER_BYTES_MAX: u64 = 64 << 20;
