//! Every bound of the index, with its reason.

/// Workers in one index: holder entries carry a worker in 16 bits; 65,000 is what one node must serve.
pub const WORKERS_MAX: u32 = if cfg!(crossbeam_loom) { 64 } else { 65_000 };

/// Contexts (model, adapter, block size) in one index.
pub const CONTEXTS_MAX: usize = 1_000;

/// Blocks in one run: offsets and lengths fit 16 bits. A longer chain goes on in a child run.
pub const RUN_BLOCKS_MAX: u32 = if cfg!(crossbeam_loom) { 4 } else { 0xffff };

/// Blocks that a new run has room for at first, at most, however long its event is: an event that jumps
/// back and forth opens many runs, and none of them may be sized by all that follows.
pub const FIRST_SEGMENT_MAX: u32 = 64;

/// Names of one worker that wait for a parent or for their content. One scheduler step of an engine
/// stores a few hundred blocks; this is room for the steps that a rotated replay ring may have lost.
pub const WAITING_MAX: usize = 65_536;

/// Sliding-window groups of one engine. Models known so far have one or two kinds of layers, some four.
pub const WINDOW_GROUPS_MAX: usize = 16;

/// Tokens in one block. Engines use 16 to 256, hybrid models with aligned groups up to some thousand.
pub const BLOCK_SIZE_MAX: u32 = 8_192;

/// Predicted blocks of one worker, unless told otherwise: a million tokens in blocks of 16, about what the
/// cache of one large accelerator holds. Predicting more than a worker can hold only predicts wrongly.
pub const PREDICTED_BLOCKS_DEFAULT: usize = 65_536;

/// Predicted blocks of one worker at most: caches with host memory and disks behind them. Each takes 40 to 75
/// bytes beside what the index itself needs, so this is a gigabyte.
pub const PREDICTED_BLOCKS_MAX: usize = 1 << 24;

/// Blocks of a prompt that are predicted in one step: their names stand on the stack, and so many more
/// than the bound may be held for a moment. As many as the first segment of a run has room for.
pub const PREDICTED_STEP: usize = FIRST_SEGMENT_MAX as usize;

/// Blocks in one record of a dump; a longer run goes on in a further one. Small enough that any record is read
/// within 20 KiB, and long enough that what stands before the blocks weighs nothing.
pub const DUMP_BLOCKS_MAX: u32 = 1_024;

/// Bytes of an adapter's name in a dump. Names are file paths at the longest, of 4 KiB at most on Linux.
pub const DUMP_ADAPTER_MAX: usize = 8_192;

const _: () = assert!(FIRST_SEGMENT_MAX <= 0xffff);
const _: () = assert!(DUMP_BLOCKS_MAX <= 0xffff && DUMP_ADAPTER_MAX <= 0xffff);
const _: () = assert!(PREDICTED_BLOCKS_DEFAULT <= PREDICTED_BLOCKS_MAX);
