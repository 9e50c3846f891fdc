//! The HTTP face over real sockets, with an index that the tests write themselves.
//!
//! Every expected value is worked out by hand from the prompts: blocks of four tokens, so that the
//! prompt 1, 2, 3, … has the blocks (1 2 3 4), (5 6 7 8), …
mod authz;
mod bounds;
mod client;
mod connections;
mod decisions;
mod fixture;
mod lookups;
mod metrics;
mod refusals;
mod rfc1403;
mod route;
mod salts;
mod workers;
