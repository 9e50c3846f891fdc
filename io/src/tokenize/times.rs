//! How long prompts took to become tokens, by where these came from; and what engines were asked for, by model.
use crate::fleet::FleetView;
use crate::status::{Counted, Histogram, REQUEST_BOUNDS, UNKNOWN_MODEL};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Where tokens come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// They were told before.
    Cache = 0,
    /// An engine has told them.
    Engine = 1,
    /// They were made in this process.
    Local = 2,
}

impl Origin {
    /// All of them, in order of their numbers.
    pub const ALL: [Self; 3] = [Self::Cache, Self::Engine, Self::Local];

    /// The word used in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cache => "cache",
            Self::Engine => "engine",
            Self::Local => "local",
        }
    }
}

/// Upper bounds in nanoseconds as Go's client has them by default: 5 ms to 10 s.
const POOL_BOUNDS: &[u64; 11] = &[
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// What was measured, by all threads.
#[derive(Debug)]
pub struct Times {
    took: [Histogram<21>; Origin::ALL.len()],
    /// Prompts that engines were asked for, by model: those of the fleet.
    asked: Mutex<BTreeMap<Box<str>, Counted<11>>>,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            took: [const { Histogram::new(REQUEST_BOUNDS) }; Origin::ALL.len()],
            asked: Mutex::default(),
        }
    }
}

impl Times {
    /// Counts a prompt that has got its tokens.
    pub(super) fn add(&self, origin: Origin, time: Duration) {
        self.took[origin as usize].observe_shared(time);
    }

    /// Counts a prompt that engines were asked for, whatever came of it. Models that nobody serves any more are forgotten.
    pub(super) fn add_asked(&self, view: &FleetView, model: &str, time: Duration) {
        let served = |name: &str| view.has_model(name);
        let model = match served(model) {
            true => model,
            false => {
                let mut adapted = view.models_with_adapter(model);
                adapted.next().unwrap_or(UNKNOWN_MODEL)
            }
        };
        let mut asked = self.asked_models();
        if !asked.contains_key(model) {
            asked.retain(|known, _| &**known == UNKNOWN_MODEL || served(known));
        }
        let counted = asked.entry(model.into());
        let one = Histogram::new(POOL_BOUNDS);
        one.observe_shared(time);
        counted
            .or_insert(Counted::none(POOL_BOUNDS))
            .add(&one.read());
    }

    /// Times of prompts with tokens from there.
    #[must_use]
    pub fn of(&self, origin: Origin) -> Counted<21> {
        self.took[origin as usize].read()
    }

    /// Times of prompts that engines were asked for, by model: those that are served now.
    #[must_use]
    pub fn asked(&self, view: &FleetView) -> BTreeMap<Box<str>, Counted<11>> {
        let mut asked = self.asked_models().clone();
        asked.retain(|model, _| &**model == UNKNOWN_MODEL || view.has_model(model));
        asked
    }

    /// Held for a moment only.
    fn asked_models(&self) -> MutexGuard<'_, BTreeMap<Box<str>, Counted<11>>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
