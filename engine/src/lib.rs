//! The concurrent index of which worker holds which prefix: pure, no sockets, threads, clocks,
//! environment, logging or async.
//!
//! # What it answers
//!
//! Engines cache the key-value state of prompts in blocks of `block_size` tokens and reuse the blocks of a
//! prompt's longest cached prefix. An [`Index`] holds, for every worker, which blocks it has, and
//! answers for a request how many leading blocks each worker holds.
//!
//! # Contract
//!
//! 1. With no write in progress, a worker's score is the number of leading blocks of the request
//!    that the worker holds: after any sequence of stores, removals and clears, holes, healed holes
//!    and copies included. Of a worker with sliding-window groups it is the longest prefix that all groups
//!    allow to reuse. It equals the literal model in [`oracle`].
//! 2. A lookup that races with writes may miss what is being written. Every block that it credits to a
//!    worker, that worker held at some moment during the lookup (not all at the same moment). No worker is
//!    reported twice.
//! 3. Nobody waits: no mutex, no rwlock, no unbounded spin on store, remove, clear or lookup. A lookup does
//!    not allocate (its reusable [`Matches`] grows with the fleet only) and writes no shared memory but
//!    its own epoch pin. Now and then a pin frees what writers have retired (crossbeam-epoch).
//! 4. Memory that nobody holds any more is given back; [`Budget`] bounds what is held, and a writer that had
//!    to forget something because of it says so ([`Writer::incomplete`]).
//! 5. Identity is content: equal content that two engines name differently is one block here; one
//!    worker may name a block twice, and both names are counted.
//! 6. What a worker holds can be dumped as bytes and restored, elsewhere too, bit by bit ([`Writer::dump`],
//!    [`Writer::restore`]). Bytes that make no sense are refused; none credit a worker with what they do not say.
//!
//! # How
//!
//! Each worker has one [`Writer`], used by one thread at a time. It turns token ids into block keys
//! ([`hash`]), finds their places in the tree of the event's context (model, adapter, block size), and
//! publishes how far the worker's coverage of each run goes as a single atomic word. Lookups compare
//! the request's keys with the runs' and read those words. [`Predictions`] are one more writer, whose blocks
//! leave when their time is up.
//!
//! Why a racing lookup cannot over-credit: a place (run, offset) stands for one content as long as the
//! run lives, because key slots are written once and runs never split; and a word read from a
//! run says what its worker covered of that run at that moment. A worker that is cleared slice by slice is
//! marked, and dropped from answers, until no lookup is left that may have read an old word. Memory that
//! a lookup can still reach is not freed while it is pinned (crossbeam-epoch, one collector for each index).
//!
//! # Who may touch what
//!
//! | memory | writer | reader |
//! |---|---|---|
//! | key slots of a run | any writer, zero to key, once | any |
//! | a holder word, a window word | the worker's own writer | any |
//! | child slots | any writer, by compare-and-swap | any, pinned |
//! | the state of a run or of a node of children | any writer, see `tree/run.rs` | nobody |
//! | the map of contexts | any writer, replaced whole | any, pinned |
//! | a worker's marks (windows, being cleared) | its own writer | any |
//! | names, holdings, waiting blocks, window groups | the worker's own writer | nobody |
//! | bytes taken | any writer, added up | any |
pub mod budget;
pub mod choose;
pub mod contexts;
pub mod hash;
pub mod index;
pub mod limits;
pub mod oracle;
pub mod predict;
mod sync;
mod tree;
pub mod types;
mod worker_set;
pub mod writer;
mod xxh3;

pub use budget::Budget;
pub use index::{ContextView, Index, IndexConfig, Participant, Pinned, TooManyWorkers};
pub use predict::{Blocks, ExpireReport, PredictConfig, Predictions, Prompt, RecordReport};
pub use tree::hit::Hit;
pub use tree::keys::{Keys, Slots, TokenKeys};
pub use tree::read::Matches;
pub use writer::{DUMP_RECORD_MAX, Dump, DumpError, Restore, RestoreError, RestoreReport};
pub use writer::{Dumped, DumpedName, DumpedParent, DumpedRun};
pub use writer::{
    RemoveReport, Store, StoreError, StoreKeys, StoreReport, WindowError, WindowGroup, Writer,
};
