//! The node as a process of its own: what signals do to it, its start and its end, and what crowds of clients do.
mod canaries;
#[allow(dead_code, reason = "others use the rest of it")]
#[path = "../http/collector.rs"]
mod collector;
mod crowds;
#[allow(dead_code, reason = "others use the rest of it")]
#[path = "../http/engine.rs"]
mod engine;
mod flow;
mod life;
mod log;
mod reload;
mod replicas;
mod running;
mod signals;
mod traces;
