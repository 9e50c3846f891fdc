//! How many bytes the index may take, in all and for each model.
use crate::sync::Rcu;
use ahash::AHashMap;
use crossbeam_epoch::Guard;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// Bounds in bytes; `None` is no bound. What writers keep for themselves counts like what is shared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// For the whole index.
    pub bytes: Option<u64>,
    /// For each model that is not named in `models`.
    pub model_bytes: Option<u64>,
    /// For single models.
    pub models: BTreeMap<String, u64>,
}

/// What is taken of one bound.
#[derive(Debug)]
struct Ledger {
    limit: u64,
    used: AtomicU64,
}

impl Ledger {
    fn new(limit: Option<u64>) -> Self {
        Self {
            limit: limit.unwrap_or(u64::MAX),
            used: AtomicU64::new(0),
        }
    }

    fn used(&self) -> u64 {
        // Relaxed: a sum; nothing is reached through it. One thread may give back what another one
        // has not yet entered as taken, so for a moment it may be below zero.
        not_negative(self.used.load(Ordering::Relaxed))
    }
}

/// From how many bytes on all writers forget, and not only those that store: room for those that have nothing to forget.
const fn crowded_from(limit: u64) -> u64 {
    limit - limit / 16
}

/// A sum that is below zero for a moment.
const fn not_negative(sum: u64) -> u64 {
    if sum > u64::MAX / 2 { 0 } else { sum }
}

/// What is counted beside bytes, for the whole index. Each is only a number, so Relaxed.
#[derive(Debug, Default)]
struct Counts {
    runs: AtomicU64,
    /// Names forgotten to stay within a bound.
    evicted: AtomicU64,
}

/// All bounds of an index.
#[derive(Debug)]
pub(crate) struct Ledgers {
    budget: Budget,
    whole: Arc<Ledger>,
    counts: Arc<Counts>,
    models: Rcu<AHashMap<String, Weak<Ledger>>>,
}

impl Ledgers {
    pub(crate) fn new(budget: Budget) -> Self {
        Self {
            whole: Arc::new(Ledger::new(budget.bytes)),
            counts: Arc::default(),
            models: Rcu::new(AHashMap::default()),
            budget,
        }
    }

    /// The bound of the whole index in bytes, if it has one.
    pub(crate) fn bytes_max(&self) -> Option<u64> {
        self.budget.bytes
    }

    /// Whether the bound of the whole index is nearly reached.
    pub(crate) fn is_crowded(&self) -> bool {
        self.budget
            .bytes
            .is_some_and(|limit| self.used() > crowded_from(limit))
    }

    /// Runs that there are.
    pub(crate) fn runs(&self) -> u64 {
        not_negative(self.counts.runs.load(Ordering::Relaxed))
    }

    /// Names forgotten to stay within a bound, since the start.
    pub(crate) fn evicted(&self) -> u64 {
        self.counts.evicted.load(Ordering::Relaxed)
    }

    /// Bytes taken in all.
    pub(crate) fn used(&self) -> u64 {
        self.whole.used()
    }

    /// Bytes taken for one model.
    pub(crate) fn used_by(&self, model: &str, guard: &Guard) -> u64 {
        let ledger = self.models.load(guard).get(model).and_then(Weak::upgrade);
        ledger.map_or(0, |ledger| ledger.used())
    }

    /// An account for one writer. O(models).
    pub(crate) fn account(&self, model: &str, guard: &Guard) -> Account {
        let limit = self.budget.models.get(model).copied();
        let fresh = Arc::new(Ledger::new(limit.or(self.budget.model_bytes)));
        let mut of_model = Arc::clone(&fresh);
        self.models.update(guard, |models| {
            if let Some(there) = models.get(model).and_then(Weak::upgrade) {
                of_model = there;
                return None;
            }
            of_model = Arc::clone(&fresh);
            let mut models = models.clone();
            models.retain(|_, ledger| ledger.strong_count() > 0);
            models.insert(model.to_owned(), Arc::downgrade(&fresh));
            Some(models)
        });
        Account {
            ledgers: [Arc::clone(&self.whole), of_model],
            counts: Arc::clone(&self.counts),
            own: 0,
        }
    }
}

/// What one writer has taken.
#[derive(Debug)]
pub(crate) struct Account {
    ledgers: [Arc<Ledger>; 2],
    counts: Arc<Counts>,
    own: u64,
}

impl Account {
    /// Enters what the writer keeps for itself now, and what it took of shared memory since the last time, in bytes
    /// and in runs.
    #[inline]
    pub(crate) fn settle(&mut self, own: usize, shared: isize, runs: isize) {
        let own = own as u64;
        let change = own.wrapping_sub(self.own).wrapping_add(shared as u64);
        self.own = own;
        if change != 0 {
            for ledger in &self.ledgers {
                // Relaxed: see `used`.
                ledger.used.fetch_add(change, Ordering::Relaxed);
            }
        }
        if runs != 0 {
            self.counts.runs.fetch_add(runs as u64, Ordering::Relaxed);
        }
    }

    /// Names were forgotten to stay within a bound.
    pub(crate) fn evicted(&self, names: usize) {
        let names = names as u64;
        self.counts.evicted.fetch_add(names, Ordering::Relaxed);
    }

    /// Whether a bound is exceeded.
    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        self.ledgers
            .iter()
            .any(|ledger| ledger.used() > ledger.limit)
    }

    /// Whether a bound is nearly reached.
    pub(crate) fn is_crowded(&self) -> bool {
        self.ledgers
            .iter()
            .any(|ledger| ledger.used() > crowded_from(ledger.limit))
    }

    /// Bytes that are left until a bound is reached.
    pub(crate) fn room(&self) -> u64 {
        let left = |ledger: &Arc<Ledger>| ledger.limit.saturating_sub(ledger.used());
        self.ledgers.iter().map(left).min().unwrap_or(0)
    }

    /// The writer keeps nothing any more.
    pub(crate) fn close(&mut self, shared: isize, runs: isize) {
        self.settle(0, shared, runs);
    }
}
