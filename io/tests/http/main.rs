//! The HTTP face over real sockets, with an index that the tests write themselves.
//!
//! Every expected value is worked out by hand from the prompts: blocks of four tokens, so that the
//! prompt 1, 2, 3, … has the blocks (1 2 3 4), (5 6 7 8), …
mod abuse;
mod accuracy;
mod authz;
mod batch;
mod bounds;
mod by_hash;
mod client;
#[allow(dead_code, reason = "others use the rest of it")]
mod collector;
mod connections;
mod console;
mod decisions;
mod dump;
mod engine;
mod exposition;
mod fixture;
mod flow;
mod held_apart;
mod learning;
mod listeners;
mod loads;
#[cfg(feature = "local-tokenizer")]
mod locals;
mod lookups;
mod metrics;
mod metrics_live;
mod modes;
mod openapi;
mod prefixes;
mod problems;
mod refusals;
mod rfc1403;
mod route;
mod salts;
mod schemathesis;
mod shadow;
mod sources;
mod tls;
mod tokenize;
mod tokenizer;
mod tokens;
mod traces;
mod workers;
