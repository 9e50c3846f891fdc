//! What one thread counts of its choices by model, in AIBrix's words.
//!
//! Models are those of the fleet, so there are no more than it has. A thread finds the one of its last choice by
//! comparing names; another one by its hash; the lock is taken for a model that is new to the thread, and at a scrape.
use super::histogram::{Counted, Histogram, bump};
use super::requests::doubled;
use ahash::AHashMap;
use kvroute_engine::choose::Reason;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Shares of a prompt, as AIBrix has them.
pub const MATCH_BUCKETS: [&str; 6] = ["0", "1-25", "26-50", "51-75", "76-99", "100"];
/// The same as a histogram: upper bounds in percent.
const PERCENT_BOUNDS: &[u64; 11] = &[0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100];
/// Upper bounds of AIBrix's latencies in nanoseconds: 10 us, and twice as long each, up to 164 ms.
pub const LATENCY_BOUNDS: &[u64; 15] = &doubled(10_000);

/// The model of requests for models that nobody serves.
pub const UNKNOWN_MODEL: &str = "unknown";

words! {
    /// Why nothing was chosen.
    RouteError {
        /// Nobody serves the model.
        UnknownModel = "model_not_found",
        /// Nobody who does may be the target.
        NoTarget = "no_target_pod",
        /// The request cannot be looked up.
        Request = "invalid_request",
    }
}

/// Choices for requests of one model.
#[derive(Debug)]
pub struct ModelStatus {
    name: Box<str>,
    shares: [AtomicU64; MATCH_BUCKETS.len()],
    percents: Histogram<11>,
    took: Histogram<15>,
    selections: [AtomicU64; Reason::ALL.len()],
    errors: [AtomicU64; RouteError::ALL.len()],
    imbalanced: AtomicU64,
}

/// A choice that was made.
#[derive(Clone, Copy, Debug)]
pub struct Chosen {
    /// Share of the prompt's whole blocks that the target holds.
    pub percent: u64,
    /// Why the target was chosen, if it was by prefixes.
    pub selection: Option<Reason>,
    /// Whether loads were so far apart that only the idlest were admitted.
    pub imbalanced: bool,
    /// The time that it took, if that was measured.
    pub took: Option<Duration>,
}

impl ModelStatus {
    fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            shares: Default::default(),
            percents: Histogram::new(PERCENT_BOUNDS),
            took: Histogram::new(LATENCY_BOUNDS),
            selections: Default::default(),
            errors: Default::default(),
            imbalanced: AtomicU64::new(0),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Counts a choice.
    pub fn chosen(&self, chosen: &Chosen) {
        let share = match chosen.percent {
            0 => 0,
            1..=25 => 1,
            26..=50 => 2,
            51..=75 => 3,
            76..100 => 4,
            _ => 5,
        };
        bump(&self.shares[share], 1);
        self.percents.observe(chosen.percent);
        if let Some(reason) = chosen.selection {
            bump(&self.selections[reason as usize], 1);
        }
        if chosen.imbalanced {
            bump(&self.imbalanced, 1);
        }
        if let Some(took) = chosen.took {
            self.took.observe_time(took);
        }
    }

    /// Counts a request for which nothing was chosen.
    pub fn failed(&self, why: RouteError) {
        bump(&self.errors[why as usize], 1);
    }

    /// Adds what was counted here to `sums`.
    pub fn add_to(&self, sums: &mut ModelSums) {
        let add = |sums: &mut [u64], counts: &[AtomicU64]| {
            for (sum, count) in sums.iter_mut().zip(counts) {
                *sum += count.load(Relaxed);
            }
        };
        add(&mut sums.shares, &self.shares);
        add(&mut sums.selections, &self.selections);
        add(&mut sums.errors, &self.errors);
        sums.imbalanced += self.imbalanced.load(Relaxed);
        sums.percents.add(&self.percents.read());
        sums.took.add(&self.took.read());
    }
}

/// What all threads have counted of one model.
#[derive(Clone, Debug)]
pub struct ModelSums {
    /// As [`MATCH_BUCKETS`].
    pub shares: [u64; MATCH_BUCKETS.len()],
    /// Shares in percent.
    pub percents: Counted<11>,
    /// Times in nanoseconds, of those that were measured.
    pub took: Counted<15>,
    /// By reason.
    pub selections: [u64; Reason::ALL.len()],
    /// By [`RouteError`].
    pub errors: [u64; RouteError::ALL.len()],
    /// Choices among the idlest only.
    pub imbalanced: u64,
}

impl Default for ModelSums {
    fn default() -> Self {
        Self {
            shares: Default::default(),
            percents: Counted::none(PERCENT_BOUNDS),
            took: Counted::none(LATENCY_BOUNDS),
            selections: Default::default(),
            errors: Default::default(),
            imbalanced: 0,
        }
    }
}

/// The models of one thread, as others see them.
#[derive(Debug, Default)]
pub struct ThreadModels(Mutex<Vec<Arc<ModelStatus>>>);

impl ThreadModels {
    /// All of them, in no particular order.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<ModelStatus>> {
        let models = self.0.lock();
        models.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn show(&self, models: Vec<Arc<ModelStatus>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = models;
    }
}

/// The same, as the thread itself has them.
#[derive(Debug, Default)]
pub struct OwnModels {
    last: Option<Arc<ModelStatus>>,
    by_name: AHashMap<Box<str>, Arc<ModelStatus>>,
}

impl OwnModels {
    /// The counters of a model. When one is made, those that `is_served` denies are dropped. O(1); O(models) when one is
    /// made.
    pub fn of(
        &mut self,
        shown: &ThreadModels,
        name: &str,
        is_served: impl Fn(&str) -> bool,
    ) -> &ModelStatus {
        if self.last.as_ref().is_none_or(|last| *last.name != *name) {
            if !self.by_name.contains_key(name) {
                self.by_name
                    .retain(|known, _| &**known == UNKNOWN_MODEL || is_served(known));
                let made = Arc::new(ModelStatus::new(name));
                self.by_name.insert(name.into(), made);
                shown.show(self.by_name.values().cloned().collect());
            }
            self.last = self.by_name.get(name).cloned();
        }
        self.last
            .get_or_insert_with(|| Arc::new(ModelStatus::new(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_that_nobody_serves_any_more_go_when_another_one_comes() {
        let (shown, mut own) = (ThreadModels::default(), OwnModels::default());
        let names = |shown: &ThreadModels| {
            let mut names: Vec<_> = shown.all().iter().map(|m| m.name().to_owned()).collect();
            names.sort_unstable();
            names
        };
        let all = |_: &str| true;
        own.of(&shown, "a", all).failed(RouteError::NoTarget);
        own.of(&shown, UNKNOWN_MODEL, all)
            .failed(RouteError::UnknownModel);
        own.of(&shown, "a", all).failed(RouteError::NoTarget);
        assert_eq!(names(&shown), ["a", "unknown"]);
        let mut sums = ModelSums::default();
        for model in shown.all() {
            model.add_to(&mut sums);
        }
        assert_eq!(sums.errors, [1, 2, 0]);
        own.of(&shown, "b", |name| name == "b")
            .failed(RouteError::NoTarget);
        assert_eq!(names(&shown), ["b", "unknown"]);
    }

    #[test]
    fn shares_are_aibrixs() {
        let model = ModelStatus::new("m");
        for percent in [0, 1, 25, 26, 50, 51, 75, 76, 99, 100] {
            model.chosen(&Chosen {
                percent,
                selection: (percent > 0).then_some(Reason::PrefixMatch),
                imbalanced: percent == 100,
                took: None,
            });
        }
        let mut sums = ModelSums::default();
        model.add_to(&mut sums);
        assert_eq!(sums.shares, [1, 2, 2, 2, 2, 1]);
        assert_eq!((sums.percents.count(), sums.percents.sum), (10, 503));
        assert_eq!(sums.percents.buckets, [1, 1, 0, 2, 0, 1, 1, 0, 2, 0, 2]);
        assert_eq!((sums.selections[0], sums.imbalanced), (9, 1));
    }
}
