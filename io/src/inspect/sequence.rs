//! The numbers of one engine's batches: what is missing, late, repeated, and when they began anew. Pure.
use serde::Serialize;
use std::collections::BTreeSet;

/// Missing numbers that may still come: those of the latest gaps.
const MISSING_KEPT_MAX: usize = 1_024;

/// The numbers so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Numbers {
    /// The first that came.
    pub first: Option<u64>,
    /// The latest, in this life of the engine.
    pub last: Option<u64>,
    /// How often numbers were left out.
    pub gaps: u64,
    /// How many are missing.
    pub missing: u64,
    /// How many came after a later one.
    pub late: u64,
    /// How many came twice in a row.
    pub repeated: u64,
    /// How often they went back to one that was not missing: the engine restarted.
    pub restarts: u64,
    #[serde(skip)]
    waited_for: BTreeSet<u64>,
}

impl Numbers {
    /// Takes the next number. O(log) and at most `MISSING_KEPT_MAX` steps for a gap.
    pub fn take(&mut self, number: u64) {
        self.first.get_or_insert(number);
        let Some(last) = self.last else {
            self.last = Some(number);
            return;
        };
        if number > last {
            let missing = number - last - 1;
            self.gaps += u64::from(missing > 0);
            self.missing = self.missing.saturating_add(missing);
            let kept = missing.min(MISSING_KEPT_MAX as u64);
            self.waited_for.extend(number - kept..number);
            while self.waited_for.len() > MISSING_KEPT_MAX {
                self.waited_for.pop_first();
            }
        } else if number == last {
            self.repeated += 1;
        } else if self.waited_for.remove(&number) {
            self.late += 1;
            self.missing -= 1;
            return;
        } else {
            self.restarts += 1;
            self.waited_for.clear();
        }
        self.last = Some(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(numbers: &[u64]) -> [u64; 5] {
        let mut all = Numbers::default();
        numbers.iter().for_each(|&number| all.take(number));
        [all.gaps, all.missing, all.late, all.repeated, all.restarts]
    }

    #[test]
    fn each_kind_of_number_is_told_apart() {
        assert_eq!(of(&[3, 4, 5]), [0; 5]);
        assert_eq!(of(&[3, 6, 7]), [1, 2, 0, 0, 0]);
        // 4 comes late; 5 does not come.
        assert_eq!(of(&[3, 6, 4, 7]), [1, 1, 1, 0, 0]);
        assert_eq!(of(&[3, 3, 4]), [0, 0, 0, 1, 0]);
        // 0 was not missing: a new life, whose gap at 1 is no lateness of the old one's.
        assert_eq!(of(&[3, 5, 0, 2]), [2, 2, 0, 0, 1]);
        assert_eq!(of(&[3, 5, 0, 1, 4, 3]), [2, 2, 1, 0, 1]);
        assert_eq!(of(&[0, u64::MAX])[1], u64::MAX - 1);
        assert_eq!(of(&[0, u64::MAX, 0, u64::MAX])[1], u64::MAX);
    }
}
