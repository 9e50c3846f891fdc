//! What the node did in the last quarter of an hour: a sample of its counters each second, for whoever looks at it.
//!
//! A [`Sampler`] reads counters that are there anyway, and makes of them what happened since it last did; nothing is counted
//! for it alone. A [`History`] keeps the latest samples as the JSON that is sent, made once for all who look.
//!
//! # What is exact
//!
//! Counts are of the `dt_ms` milliseconds before `at_ms`, as the clock of the machine measured them: a sample that is late says so, and
//! none is made up for one that was missed. Counters are read one after the other while others write them, so what happens
//! while they are read is in one of two samples. A worker's counts are followed until the first sample after it has left the fleet, which
//! has the rest of them; what its thread still counts after that, and workers that come and go between two samples, are in
//! none. Sums of many samples are therefore those of the counters at `/metrics`, but for these.
//!
//! # What it costs
//!
//! O(workers) for a sample, on a thread that answers nobody: 0.2 ms for 1,000 workers on a core of a busy AMD EPYC, see
//! `a_sample_of_a_thousand_workers_is_measured`. A worker that is followed takes 90 bytes, a sample 700.
mod minutes;
mod quantiles;
mod sample;
mod sampler;

pub use minutes::{Counts, Minutes, Skipped};
pub use sample::{LagQuantiles, Quantiles, Sample, States};
pub use sampler::Sampler;

use crate::limits::SAMPLES_MAX;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A sample as JSON, without line ends.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// How many there were before it.
    pub number: u64,
    /// The object.
    pub json: Arc<str>,
}

#[derive(Debug, Default)]
struct Ring {
    samples: VecDeque<Arc<str>>,
    /// How many there were.
    count: u64,
}

/// The latest samples, [`SAMPLES_MAX`] at most.
#[derive(Debug, Default)]
pub struct History(Mutex<Ring>);

impl History {
    /// Takes one more.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn add(&self, sample: &Sample) -> serde_json::Result<Rendered> {
        let json: Arc<str> = serde_json::to_string(sample)?.into();
        let mut ring = self.ring();
        if ring.samples.len() >= SAMPLES_MAX {
            ring.samples.pop_front();
        }
        ring.samples.push_back(Arc::clone(&json));
        let number = ring.count;
        ring.count += 1;
        Ok(Rendered { number, json })
    }

    /// Those that are kept, oldest first, and how many there were. O([`SAMPLES_MAX`]), without copying any.
    #[must_use]
    pub fn all(&self) -> (Vec<Arc<str>>, u64) {
        let ring = self.ring();
        (ring.samples.iter().cloned().collect(), ring.count)
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_samples_are_kept() {
        let history = History::default();
        assert_eq!(history.all().1, 0);
        for at_ms in 0..903 {
            let sample = Sample {
                at_ms,
                ..Sample::default()
            };
            let rendered = history.add(&sample).unwrap();
            assert_eq!(rendered.number, at_ms);
        }
        let (samples, count) = history.all();
        assert_eq!((samples.len(), count), (900, 903));
        assert!(samples[0].starts_with(r#"{"at_ms":3,"#), "{}", samples[0]);
        assert!(samples[899].starts_with(r#"{"at_ms":902,"#));
        assert!(!samples.iter().any(|json| json.contains('\n')));
    }
}
