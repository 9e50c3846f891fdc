//! Real gateways in front of a real node and small backends that say who they are.
//!
//! The gateways run the configurations of `deploy/samples` as they are, with the documented addresses replaced.
mod backend;
mod http;
mod pods;
mod process;
mod tokenizer;

pub use backend::Backend;
pub use http::{Client, Framing, Response};
pub use pods::{BLOCK_SIZE, HELD, Pods, chain, prompt};
pub use process::{Gateway, Substitution, find_binary, find_one_of};
pub use tokenizer::Tokenizer;
