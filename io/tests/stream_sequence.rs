//! The sequence machine: hand-worked cases, and random streams against a literal model of an engine.
#[path = "stream_sequence/bench.rs"]
mod bench;
#[path = "stream_sequence/cases.rs"]
mod cases;
#[path = "stream_sequence/found.rs"]
mod found;
#[path = "stream_sequence/model.rs"]
mod model;
