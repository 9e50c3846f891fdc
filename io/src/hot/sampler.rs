//! Which lookups are samples: one of each group of `n`, anywhere in the group, so that no pattern of requests is always missed.
//!
//! A sample stands for all of its group, so the weights of all samples together are the lookups. `n` is one while samples come seldom; it doubles
//! when more of them were taken than a second allows, and halves when that is made up for.
use crate::limits::{HOT_SAMPLED_ONE_OF_MAX, HOT_SAMPLES_BURST, HOT_SAMPLES_PER_SECOND};
use fastrand::Rng;
use std::time::Duration;

/// One thread's choice of samples.
#[derive(Clone, Debug)]
pub struct Sampler {
    /// Lookups up to the next sample, which is one of them.
    left: u32,
    /// Lookups of its group after it.
    after: u32,
    /// Lookups of its group.
    group: u32,
    /// Samples that may be taken at once.
    credit: f64,
    last: Duration,
    random: Rng,
}

impl Default for Sampler {
    fn default() -> Self {
        Self::with(Rng::new())
    }
}

impl Sampler {
    /// By these random numbers.
    #[must_use]
    pub fn with(random: Rng) -> Self {
        Self {
            left: 1,
            after: 0,
            group: 1,
            credit: HOT_SAMPLES_BURST,
            last: Duration::ZERO,
            random,
        }
    }

    /// Whether this lookup is a sample: then [`Self::taken`] has to follow.
    #[inline]
    #[must_use]
    pub fn due(&mut self) -> bool {
        self.left -= 1;
        self.left == 0
    }

    /// For how many lookups the sample at this moment stands.
    pub fn taken(&mut self, now: Duration) -> u32 {
        let weight = self.group;
        let passed = now.saturating_sub(self.last).as_secs_f64();
        self.last = now;
        self.credit += passed * HOT_SAMPLES_PER_SECOND;
        if self.credit >= HOT_SAMPLES_BURST {
            self.credit = HOT_SAMPLES_BURST;
            // What a pause has made up for is as much as it was long.
            let halvings = (passed as u32).clamp(1, u32::BITS - 1);
            self.group = (self.group >> halvings).max(1);
        }
        self.credit -= 1.0;
        if self.credit < 0.0 {
            self.credit = 0.0;
            self.group = (self.group * 2).min(HOT_SAMPLED_ONE_OF_MAX);
        }
        let place = self.random.u32(1..=self.group);
        self.left = self.after + place;
        self.after = self.group - place;
        weight
    }
}
