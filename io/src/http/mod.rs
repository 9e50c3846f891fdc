//! The HTTP face: per-core threads that answer lookups inline. The only module that names hyper.
//!
//! A request's way: `server` accepts and reads the head, `routes` finds the handler, `body`
//! reads the body within bounds, the handler parses (`json`, `params`), looks up (`lookup`) and
//! renders. Handlers are plain functions over their thread's `state::ThreadState`: nothing of it is held
//! while a request waits for bytes.
mod access;
mod aside;
mod batch;
mod body;
mod by_hash;
mod client;
mod console;
mod cross_site;
mod dump;
mod dump_events;
mod error;
mod extra;
mod fetch;
mod flow;
mod health;
mod json;
mod live;
mod log;
mod lookup;
mod match_request;
mod matching;
mod openapi;
mod params;
mod prefixes;
mod problems;
mod prompt;
mod render;
mod rfc1403;
mod route;
mod routes;
mod samples;
mod server;
mod snapshot;
mod sources;
mod spans;
mod state;
mod table;
mod text;
mod tokens;
mod workers;

pub use client::{GetError, GetLimits, get};
pub use fetch::{FetchError, fetch_snapshot, find_peers};
pub use server::{Server, ServerConfig, ServerError, TlsError, TlsFiles, check_files};
pub use tokens::TokensError;
