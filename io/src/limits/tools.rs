//! The bounds of the tools that look at engines, captures and running nodes.
use super::FRAME_BYTES_CUT;
use std::time::Duration;

/// Time for an engine to be connected to, and to say something, unless it is set: one without requests is silent.
pub const TAP_WAIT_DEFAULT: Duration = Duration::from_secs(10);

/// Longest time of any kind that a tool may be given: a day.
pub const TOOL_TIME_MAX: Duration = Duration::from_secs(86_400);

/// Longest wait for a message before other things are looked at, such as Ctrl-C.
pub const TAP_GLANCE: Duration = Duration::from_millis(50);

/// Time without an answer after which a ring is not waited for any longer: as the node does, and then some.
pub const RING_TIME_MAX: Duration = Duration::from_secs(10);

/// Different words (tags, fields, media, adapters, topics) of one kind that are told apart; the rest is counted together.
pub const WORDS_KEPT_MAX: usize = 64;

/// Bytes of such a word that are kept.
pub const WORD_BYTES_MAX: usize = 128;

/// Ranks and groups that are told apart, likewise.
pub const NUMBERS_KEPT_MAX: usize = 64;

/// Bytes of one line of a capture: a frame as libzmq lets it pass, in hexadecimal, and the rest.
pub const CAPTURE_LINE_BYTES_MAX: u64 = 2 * FRAME_BYTES_CUT as u64 + (1 << 20);

/// Between two moments at which a capture is so written that it can be read up to there. Each costs some bytes.
pub const CAPTURE_FLUSH_INTERVAL: Duration = Duration::from_secs(1);

/// Bytes of a capture's file unless it is set: hours of a busy engine.
pub const CAPTURE_BYTES_DEFAULT: u64 = 1 << 30;

/// Token ids whose replacement is remembered: more than any vocabulary has, at some 16 bytes each.
pub const TOKENS_KEPT_MAX: usize = 1 << 20;

/// Bytes of the file of a key.
pub const KEY_FILE_BYTES_MAX: u64 = 4 << 10;

/// Shortest key, in bytes.
pub const KEY_BYTES_MIN: usize = 16;

/// Longest pause between two batches that are played again, as recorded: whoever wants to wait longer plays slower.
pub const PLAY_PAUSE_MAX: Duration = Duration::from_secs(3_600);

/// Batches that are played at once when pacing is off, and …
pub const PLAY_BURST: u64 = 1_000;

/// … the pause after them: libzmq queues [`SUBSCRIPTION_QUEUE_MAX`](super::SUBSCRIPTION_QUEUE_MAX) and drops the rest.
pub const PLAY_BURST_PAUSE: Duration = Duration::from_millis(20);

/// Time that a player stays after its last batch, so that what libzmq has queued leaves the process.
pub const PLAY_LINGER: Duration = Duration::from_millis(500);

/// Batches in the ring of a played capture unless it is set: as engines have them.
pub const PLAY_RING_DEFAULT: usize = 10_000;

/// Most batches in the ring of a played capture: it is in memory.
pub const PLAY_RING_MAX: u64 = 1_000_000;

/// Bytes of all batches in the ring of a fake engine, or of a played capture: a file of a stranger may say anything.
pub const RING_BYTES_MAX: usize = 1 << 30;

/// Bytes of a node's dump that one event in it may take: one run of blocks, at some hundred bytes each.
pub const DUMP_EVENT_BYTES_MAX: u64 = 64 << 20;

/// Blocks of one worker whose place in their chains is remembered while a dump is read, at some 40 bytes each.
pub const DUMP_PLACES_MAX: usize = 16 << 20;

/// Workers of one entry of a dump that are told apart.
pub const DUMP_ROWS_MAX: usize = 1 << 20;

/// Bytes of a file with the tokens of a prompt.
pub const PROMPT_FILE_BYTES_MAX: u64 = 64 << 20;

/// Shortest pause between two looks at a node: each costs it a list of all workers.
pub const TOP_INTERVAL_MIN: Duration = Duration::from_millis(200);

/// Series of a node's metrics that are read: some dozens for each of 65,000 workers.
pub const TOP_SERIES_MAX: usize = 8 << 20;

/// Time that a tool waits for each piece of a node's answer: a dump pauses while a large worker is saved.
pub const TOOL_ANSWER_TIME_MAX: Duration = Duration::from_secs(15);

/// Bytes that are shown of why a node is not ready.
pub const READY_REASON_BYTES_MAX: usize = 4 << 10;
