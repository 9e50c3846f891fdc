//! Live batches that wait to be judged, bounded by bytes while a replay runs.
use super::{Batch, Payload};
use std::collections::VecDeque;

/// A queue of batches that knows its bytes.
#[derive(Clone, Debug)]
pub(super) struct Held<P> {
    queue: VecDeque<Batch<P>>,
    bytes: usize,
}

impl<P> Default for Held<P> {
    fn default() -> Self {
        Self {
            queue: VecDeque::new(),
            bytes: 0,
        }
    }
}

impl<P: Payload> Held<P> {
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn front(&self) -> Option<&Batch<P>> {
        self.queue.front()
    }

    pub(super) fn push(&mut self, batch: Batch<P>) {
        self.bytes += batch.payload.bytes();
        self.queue.push_back(batch);
    }

    pub(super) fn pop(&mut self) -> Option<Batch<P>> {
        let batch = self.queue.pop_front()?;
        self.bytes -= batch.payload.bytes();
        Some(batch)
    }
}
