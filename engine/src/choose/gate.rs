//! Which candidates the loads of all of them allow.
use super::{Candidate, Load, Weights};

/// The numbers of the policies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// Requests that the busiest may have more than the idlest before prefixes matter only among the
    /// idlest.
    pub imbalance: u64,
    /// Sample standard deviations above the mean up to which a candidate is not too busy.
    pub deviations: f64,
    /// What `cost` adds up, and by how much.
    pub weights: Weights,
}

impl Default for Rules {
    /// AIBrix's numbers for the gate.
    fn default() -> Self {
        Self {
            imbalance: 8,
            deviations: 1.0,
            weights: Weights::default(),
        }
    }
}

/// What the loads of all candidates say about each of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gate {
    /// Requests of the idlest candidate.
    pub least: u64,
    /// Requests of the busiest candidate.
    pub most: u64,
    /// Mean number of requests.
    pub mean: f64,
    /// Sample standard deviation of it; 0 for a single candidate.
    pub deviation: f64,
    /// Requests up to which a candidate is admitted.
    pub limit: f64,
    /// Whether the busiest is so far ahead that only the idlest are admitted, whatever the limit.
    pub imbalanced: bool,
}

impl Gate {
    /// Of these candidates; `None` if there are none. O(candidates).
    #[must_use]
    pub fn of(candidates: &[Candidate], rules: &Rules) -> Option<Self> {
        let requests = || candidates.iter().map(|c| c.load.requests());
        let (least, most) = (requests().min()?, requests().max()?);
        let mean = number(requests().sum()) / number(candidates.len() as u64);
        let squares: f64 = requests().map(|n| (number(n) - mean).powi(2)).sum();
        let others = candidates.len() as u64 - 1;
        let deviation = if others == 0 {
            0.0
        } else {
            (squares / number(others)).sqrt()
        };
        Some(Self {
            least,
            most,
            mean,
            deviation,
            limit: mean + rules.deviations * deviation,
            imbalanced: most - least > rules.imbalance,
        })
    }

    /// Whether a candidate with this load may be chosen for its match. The idlest always may.
    #[must_use]
    pub fn admits(&self, load: Load) -> bool {
        let requests = load.requests();
        requests == self.least || (!self.imbalanced && number(requests) <= self.limit)
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of requests are far below 2^53"
)]
const fn number(count: u64) -> f64 {
    count as f64
}
