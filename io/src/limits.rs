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

/// Time without progress, from the request of a replay to its end marker, after which it has failed.
/// Engines answer within 100 ms when idle; one that stores a huge step may take a second.
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

/// Checksums kept per worker, to tell a duplicate from a restart. 2 kB; only the overlap of a replay
/// needs the last one, the others catch a restart that is hidden behind a proxy.
pub const RECENT_BATCHES_MAX: usize = 256;

/// Bytes of a frame at which libzmq cuts the connection. Above [`FRAME_BYTES_MAX`], so that a frame a
/// little too large is counted and skipped without losing the connection.
pub const FRAME_BYTES_CUT: usize = 2 * FRAME_BYTES_MAX;

/// Frames of one message that are kept; the longest that means anything has four.
pub const FRAMES_MAX: usize = 8;

/// First pause before a lost connection is tried again, and before a failed replay is asked again.
pub const BACKOFF_MIN: Duration = Duration::from_millis(100);

/// Longest such pause.
pub const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Sockets of one libzmq context, whose own limit is 1,023. A context costs two threads.
pub const SOCKETS_PER_CONTEXT_MAX: usize = 1_000;

/// Commands that an IO thread obeys before it looks at its sockets again.
pub const COMMANDS_PER_TURN_MAX: usize = 64;

/// Readiness events taken from the kernel at once.
pub const READINESS_EVENTS_MAX: usize = 1_024;
