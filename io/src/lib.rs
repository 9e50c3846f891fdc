//! A routing node for LLM serving: it follows the KV-cache events of a fleet of engines and answers
//! who holds how much of a prompt.
//!
//! Threads: each IO thread ([`stream`]) owns the sockets of its share of the workers and writes
//! what they hold into the index of `kvroute-engine`; each HTTP thread ([`http`]) answers lookups from
//! the index, inline. They meet in the index, in the workers' [`status`], and in the [`fleet`]'s view;
//! no lookup waits for an event, and no event for a lookup. [`node`] puts it all together.
pub mod accuracy;
pub mod address;
pub mod capture;
pub mod client;
pub mod config;
pub mod demo;
pub mod discovery;
pub mod dump;
pub mod fake;
mod fatal;
mod files;
pub mod fleet;
pub mod history;
pub mod hot;
pub mod http;
pub mod ids;
pub mod inspect;
pub mod limits;
pub mod load;
pub mod logging;
pub mod metrics;
pub mod node;
pub mod otel;
pub mod predict;
pub mod printable;
pub mod probe;
pub mod problems;
mod quiet;
pub mod simulate;
pub mod snapshot;
pub mod start;
pub mod status;
pub mod stream;
pub mod tap;
pub mod tokenize;
pub mod top;
pub mod trace;
pub mod warm;
pub mod wire;
