//! The node.
pub mod fleet;
pub mod http;
pub mod limits;
pub mod status;
pub mod stream;
pub mod trace;
pub mod wire;
