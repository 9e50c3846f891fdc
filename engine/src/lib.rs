//! The concurrent index of which worker holds which prefix.
pub mod contexts;
pub mod hash;
pub mod limits;
pub mod types;
