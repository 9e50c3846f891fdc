//! What those who answer and the thread that learns share of one worker.
use crate::status::WorkerStatus;
use kvroute_engine::types::WorkerId;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

/// One worker whose prompts are learnt from decisions.
///
/// A worker without events has only what was learnt, under its own number. What a worker with events is
/// expected to hold stands under a second number, which only those ask for who want to know.
#[derive(Debug)]
pub struct Subject {
    serial: u64,
    model: Box<str>,
    status: Arc<WorkerStatus>,
    approximate: bool,
    /// The second number plus one in the lower half, zero if there is none; in the upper half, for which of the
    /// engine's lives, by the count of its restarts.
    expected: AtomicU64,
    gone: AtomicBool,
}

impl Subject {
    /// A worker with or without events.
    #[must_use]
    pub fn new(model: &str, status: Arc<WorkerStatus>, approximate: bool) -> Self {
        /// Only told apart by it, so Relaxed.
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        Self {
            serial: SERIAL.fetch_add(1, Relaxed),
            model: model.into(),
            status,
            approximate,
            expected: AtomicU64::new(0),
            gone: AtomicBool::new(false),
        }
    }

    /// Whether decisions are all that is known of it.
    #[must_use]
    pub fn is_approximate(&self) -> bool {
        self.approximate
    }

    /// The number, as an index, under which lookups report what it is expected to hold, if its engine still lives
    /// the life in which that was sent there. A number that was read after a lookup, and before its pin ends,
    /// is not another worker's: it leaves here before it is given back, and is given to another only after
    /// every pin has ended that began before.
    #[must_use]
    pub fn expected(&self) -> Option<usize> {
        // Acquire: pairs with the Release in `set_expected`.
        let word = self.expected.load(Acquire);
        let number = (word & NUMBER).checked_sub(1)?;
        let same_life = word & !NUMBER == life(self.restarts());
        usize::try_from(number).ok().filter(|_| same_life)
    }

    /// Sets that number, for the life after so many restarts; `None` before it is given back.
    pub(super) fn set_expected(&self, of: Option<(WorkerId, u64)>) {
        let word = of.map_or(0, |(id, restarts)| (id.index() as u64 + 1) | life(restarts));
        // Release: pairs with the Acquire in `expected`.
        self.expected.store(word, Release);
    }

    /// The worker is not in the fleet any more.
    pub(super) fn leave(&self) {
        // Relaxed: a notice that is acted upon soon; lookups go by the fleet.
        self.gone.store(true, Relaxed);
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Relaxed)
    }

    /// A number that no other subject ever has.
    pub(super) fn serial(&self) -> u64 {
        self.serial
    }

    pub(super) fn model(&self) -> &str {
        &self.model
    }

    pub(super) fn status(&self) -> &WorkerStatus {
        &self.status
    }

    /// How often what it held was lost, be it that its engine restarted, cleared its cache, or cannot be proven to live on.
    pub(super) fn restarts(&self) -> u64 {
        self.status.restarts() + self.status.drops()
    }
}

const NUMBER: u64 = u32::MAX as u64;

/// The upper half of the word.
const fn life(restarts: u64) -> u64 {
    restarts << 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvroute_engine::{Index, IndexConfig};

    #[test]
    fn what_was_sent_to_another_life_is_not_expected() {
        let index = Index::new(IndexConfig::default());
        let writers: Vec<_> = (0..3).map(|_| index.writer("m").unwrap()).collect();
        let status = Arc::new(WorkerStatus::default());
        let subject = Subject::new("m", Arc::clone(&status), false);
        assert_eq!(subject.expected(), None);
        for (restarts, writer) in writers.iter().enumerate() {
            subject.set_expected(Some((writer.id(), restarts as u64)));
            assert_eq!(subject.expected(), Some(writer.id().index()));
            status.add_restarts(1);
            assert_eq!(subject.expected(), None);
        }
        subject.set_expected(Some((writers[0].id(), 3)));
        assert_eq!(subject.expected(), Some(0));
        subject.set_expected(None);
        assert_eq!(subject.expected(), None);
    }
}
