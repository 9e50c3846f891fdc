//! `kvroute dump`: what a running node says that its pods hold, read piece by piece as it is sent.
//!
//! An answer may be far larger than this machine's memory, so one event of it is held at a time; and of one worker, where each of its
//! blocks stands in its chain, to tell how long chains are and which blocks follow a prefix.
mod places;
mod read;
pub mod rows;

pub use places::Prefix;
pub use read::{DumpError, read};

use serde::Serialize;

/// What is wanted of a dump.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// A model or an adapter.
    pub model: Option<String>,
    /// A pod, …
    pub pod: Option<String>,
    /// … and one of its ranks.
    pub rank: Option<u32>,
    /// Blocks of this prefix, and those that follow it.
    pub prefix: Option<Prefix>,
}

/// One block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Block {
    /// The engine's name of it.
    #[serde(alias = "block_hash")]
    pub hash: u64,
    /// What is in it.
    #[serde(alias = "tokens_hash")]
    pub key: u64,
}

/// What a context is.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Context {
    /// The model.
    pub model: String,
    /// The adapter.
    pub adapter: Option<String>,
    /// Tokens per block.
    pub block_size: u32,
}

/// Consecutive blocks that one worker holds in one tier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Held<'e> {
    /// Where.
    #[serde(flatten)]
    pub context: &'e Context,
    /// Which pod.
    pub pod: &'e str,
    /// Which of its ranks.
    pub rank: u32,
    /// In which tier: `device`, `host_pinned`, `disk`.
    pub tier: &'e str,
    /// The block before the first; `None` at the start.
    pub parent: Option<u64>,
    /// How many blocks are before the first; `None` if that cannot be told.
    pub position: Option<u32>,
    /// How many of them are of the prefix that was asked for; the others follow it.
    pub of_prefix: usize,
    /// The blocks.
    pub blocks: &'e [Block],
}

/// Takes what is held.
pub trait Take {
    /// Blocks of one worker.
    ///
    /// # Errors
    /// They cannot be taken.
    fn held(&mut self, held: &Held<'_>) -> std::io::Result<()>;

    /// What the node could not say of a context, as it says it.
    ///
    /// # Errors
    /// It cannot be taken.
    fn left_out(&mut self, context: &Context, what: &serde_json::Value) -> std::io::Result<()>;
}
