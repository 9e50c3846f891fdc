//! The node as a process of its own: what signals do to it, and what crowds of clients do.
mod crowds;
mod reload;
mod running;
mod signals;
