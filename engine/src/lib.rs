//! The concurrent index of which worker holds which prefix: pure, no sockets, threads, clocks,
//! environment, logging or async.
pub mod contexts;
pub mod hash;
pub mod index;
pub mod limits;
pub mod oracle;
mod sync;
mod tree;
pub mod types;
pub mod writer;

pub use index::{ContextView, Index, IndexConfig, Participant, Pinned, TooManyWorkers};
pub use tree::read::{Hit, Keys, Matches, TokenKeys};
pub use writer::{RemoveReport, Store, StoreError, StoreReport, Writer};
