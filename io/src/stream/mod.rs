//! Stub of the streams' public face.
pub mod replay;
pub mod sequence;
pub mod socket;

use crate::status::WorkerStatus;
use kvroute_engine::{
    contexts::{Index, Writer},
    types::WorkerId,
};
use std::sync::Arc;

/// A worker to be subscribed to.
#[allow(missing_debug_implementations, reason = "stub")]
pub struct NewWorker {
    /// Its place in the index; moves to the IO thread.
    pub writer: Writer,
    /// `tcp://host:port` (or ipc) of its PUB socket.
    pub events: String,
    /// The same of its replay ROUTER socket.
    pub replay: Option<String>,
    /// Where its IO thread reports.
    pub status: Arc<WorkerStatus>,
    /// `pod#rank`, for logs.
    pub name: String,
}

/// The queue of commands of an IO thread is full.
#[derive(Debug, thiserror::Error)]
#[error("the queue of an IO thread is full")]
pub struct QueueFull;

/// How the IO threads run.
#[derive(Clone, Debug)]
pub struct StreamsConfig {
    /// Number of IO threads, at least 1.
    pub threads: usize,
    /// Whether to pin each to a core.
    pub pin: bool,
}

/// The IO threads. Dropping it stops and joins them.
#[derive(Debug)]
pub struct Streams;

impl Streams {
    /// Starts the threads.
    pub fn start(_index: &Arc<Index>, _config: &StreamsConfig) -> std::io::Result<Self> {
        Ok(Self)
    }
    /// Subscribes to a worker (on the thread with the fewest).
    pub fn add(&self, _worker: NewWorker) -> Result<(), QueueFull> {
        Ok(())
    }
    /// Unsubscribes; all that the worker held is removed from the index. Never blocks, never fails.
    pub fn remove(&self, _worker: WorkerId) {}
}
