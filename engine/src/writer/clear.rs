//! Removing all that a worker holds, in slices.
//!
//! A worker with a million blocks may hold them in a hundred thousand runs, and leaving one costs a
//! cache miss or two. So a large clear only marks the worker: lookups drop what they find of it. Its
//! entries are then taken out slice by slice, while new events are applied beside them. The mark is taken away
//! when all lookups have ended that began before the last entry was taken out; until then the
//! worker is missed, never over-credited.
use super::Writer;
use super::contexts::Used;
use super::holdings::Holdings;
use super::table::Table;
use crate::index::Participant;
use crate::tree::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Runs that are left beside each operation. Measured at 1 to 3 us each in a worker of a million blocks, nearly
/// all of it cache misses: below 0.2 ms.
pub(super) const SLICE: usize = 64;

/// What can be cleared at once, in names and in runs.
const AT_ONCE: (usize, usize) = (16_384, 1_024);

/// What was held before a clear.
#[derive(Debug)]
struct Part {
    names: Table,
    holdings: Holdings,
    contexts: Used,
}

/// What former clears left to be taken out.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    parts: Vec<Part>,
    /// All is taken out; true when no lookup is left that may have seen some of it.
    unseen: Option<Arc<AtomicBool>>,
}

impl Leaving {
    pub(super) fn is_done(&self) -> bool {
        self.parts.is_empty() && self.unseen.is_none()
    }

    pub(super) fn bytes(&self) -> usize {
        let bytes = |part: &Part| part.names.bytes() + part.holdings.bytes();
        self.parts.iter().map(bytes).sum()
    }
}

impl Writer {
    /// Removes all that the worker holds, in all tiers and contexts. What is large is taken out in
    /// slices: by [`Writer::settle`], and a bit by every further operation. Until that is done, lookups do not see
    /// the worker. O(1) for a large worker.
    ///
    /// # Panics
    /// If `at` belongs to another index.
    pub fn clear(&mut self, at: &Participant) {
        let pin = self.begin(at);
        if self.names.len() <= AT_ONCE.0 && self.holdings.len() <= AT_ONCE.1 {
            self.clear_at_once(&pin);
        } else {
            self.index.marks().leaving.set(self.id, true);
            let holdings = std::mem::replace(&mut self.holdings, Holdings::new(self.id));
            self.leaving.unseen = None;
            self.leaving.parts.push(Part {
                names: self.names.take_all(),
                holdings,
                contexts: self.contexts.take(),
            });
            self.forget();
        }
        self.end(&pin);
    }

    /// Whether nothing is left of former clears: lookups see the worker as it is.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.leaving.is_done()
    }

    /// Takes out what large clears left, at most `runs` runs of it; whether nothing is left. To be called
    /// now and then until then. O(runs).
    ///
    /// # Panics
    /// If `at` belongs to another index.
    pub fn settle(&mut self, at: &Participant, runs: usize) -> bool {
        if self.leaving.is_done() {
            return true;
        }
        let pin = self.begin_tending(at);
        self.settle_some(runs, &pin);
        self.end(&pin);
        self.leaving.is_done()
    }

    pub(super) fn settle_some(&mut self, runs: usize, pin: &Pin) {
        if let Some(part) = self.leaving.parts.last_mut() {
            if !part.holdings.leave_some(runs, pin) || !part.names.free_some(runs) {
                return;
            }
            part.contexts.end_all(&self.index, &pin.guard);
            self.leaving.parts.pop();
            if !self.leaving.parts.is_empty() {
                return;
            }
            let unseen = Arc::new(AtomicBool::new(false));
            self.leaving.unseen = Some(Arc::clone(&unseen));
            // Relaxed: run after all pins of lookups that began before have ended.
            pin.guard
                .defer(move || unseen.store(true, Ordering::Relaxed));
        }
        pin.guard.flush();
        let unseen = self.leaving.unseen.as_ref();
        // Relaxed: see above.
        if unseen.is_some_and(|unseen| unseen.load(Ordering::Relaxed)) {
            self.leaving.unseen = None;
            self.index.marks().leaving.set(self.id, false);
        }
    }

    /// Takes everything out in one go, when the writer ends.
    pub(super) fn leave_all(&mut self, pin: &Pin) {
        self.clear_at_once(pin);
        for mut part in std::mem::take(&mut self.leaving.parts) {
            part.holdings.leave_some(usize::MAX, pin);
            part.contexts.end_all(&self.index, &pin.guard);
        }
    }

    fn clear_at_once(&mut self, pin: &Pin) {
        self.holdings.leave_some(usize::MAX, pin);
        self.holdings = Holdings::new(self.id);
        self.names.take_all();
        self.contexts.end_all(&self.index, &pin.guard);
        self.forget();
    }

    /// Forgets what is not shared with lookups.
    fn forget(&mut self) {
        self.crowded.clear();
        self.waiting.clear();
        if let Some(windows) = &mut self.windows {
            windows.clear();
        }
        self.incomplete = false;
    }
}
