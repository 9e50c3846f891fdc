//! Snapshots: what all workers hold and how far they had come, to start warm from, as one stream of bytes.
//!
//! `format` has the bytes, pure; `write` makes a file of them, whole or not at all; `read` checks a file
//! completely before anything of it is believed, and then hands out one worker after the other. The memory that any of
//! this takes is that of some workers, and what is said about each beside its blocks.
mod format;
mod read;
mod write;

pub use format::{About, Assembly, FormatError};
pub use read::{ReadError, Snapshot};
pub use write::{FILE_NAME, WriteError, Written, write};
