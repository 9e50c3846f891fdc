//! The node as a process of its own: what signals do to it, its start and its end, and what crowds of clients do.
mod crowds;
mod life;
mod log;
mod reload;
mod replicas;
mod running;
mod signals;
