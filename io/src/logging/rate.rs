//! How many lines one place in the code may log: a bucket for each, without locks; what is left out is counted and told of.
use crate::limits::{LOG_BURST_SECONDS, LOG_PLACES_MAX, LOG_TOLD_AFTER};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use tracing::Metadata;

/// What is known of one place.
#[derive(Debug, Default)]
struct Place {
    of: OnceLock<&'static Metadata<'static>>,
    /// When its bucket is full again, in nanoseconds of the caller's clock.
    full: AtomicU64,
    /// Lines left out that nobody has been told of, and when the first of them was.
    left_out: AtomicU64,
    since: AtomicU64,
}

/// The buckets of all places. Time is the caller's, in nanoseconds. All orderings are relaxed: numbers that bound themselves, nothing is
/// read because of them; threads that log at one moment may let a line more or less pass.
#[derive(Debug)]
pub(super) struct Rate {
    /// Lines a second; 0 for any number.
    most: AtomicU32,
    places: Box<[Place]>,
}

/// Lines of one place that were left out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LeftOut {
    pub(super) of: &'static Metadata<'static>,
    pub(super) lines: u64,
}

const SECOND: u64 = 1_000_000_000;

impl Rate {
    pub(super) fn new(most: u32) -> Self {
        Self {
            most: AtomicU32::new(most),
            places: (0..LOG_PLACES_MAX).map(|_| Place::default()).collect(),
        }
    }

    /// From now on it is this.
    pub(super) fn set(&self, most: u32) {
        self.most.store(most, Relaxed);
    }

    /// Lines a second.
    pub(super) fn most(&self) -> u32 {
        self.most.load(Relaxed)
    }

    /// Whether a line of this place may be logged now. One that may not is counted.
    pub(super) fn pass(&self, of: &'static Metadata<'static>, now: u64) -> bool {
        let most = u64::from(self.most());
        if most == 0 {
            return true;
        }
        let place = self.place(of);
        let each = SECOND / most;
        // A bucket of so many lines has room for one as long as it is not full again for longer than the others take.
        let others = each * (most * LOG_BURST_SECONDS - 1);
        let taken = place.full.try_update(Relaxed, Relaxed, |full| {
            (full <= now + others).then(|| full.max(now) + each)
        });
        if taken.is_err() && place.left_out.fetch_add(1, Relaxed) == 0 {
            place.since.store(now, Relaxed);
        }
        taken.is_ok()
    }

    /// What was left out of bursts that are over, or that have lasted long; `all`, whatever was.
    pub(super) fn left_out(&self, now: u64, all: bool) -> impl Iterator<Item = LeftOut> {
        let long = u64::try_from(LOG_TOLD_AFTER.as_nanos()).unwrap_or(u64::MAX);
        self.places.iter().filter_map(move |place| {
            let over = place.full.load(Relaxed) <= now;
            let lasted = now.saturating_sub(place.since.load(Relaxed)) >= long;
            if place.left_out.load(Relaxed) == 0 || !(all || over || lasted) {
                return None;
            }
            Some(LeftOut {
                of: place.of.get()?,
                lines: place.left_out.swap(0, Relaxed),
            })
        })
    }

    /// The place's own, found from its address on; with all taken, the last one is everybody's.
    fn place(&self, of: &'static Metadata<'static>) -> &Place {
        let address = std::ptr::from_ref(of).addr();
        // Neighbours in memory are some hundred bytes apart.
        let from = address / size_of::<Metadata<'static>>();
        let last = self.places.len() - 1;
        let mut tried = (0..last).map(|step| &self.places[(from + step) % last]);
        let own = tried.find(|place| std::ptr::eq(*place.of.get_or_init(|| of), of));
        own.unwrap_or_else(|| {
            let shared = &self.places[last];
            shared.of.get_or_init(|| of);
            shared
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::callsite::Callsite;

    /// The places of lines in the code.
    fn places() -> [&'static Metadata<'static>; 2] {
        fn one() -> &'static Metadata<'static> {
            tracing::callsite! { name: "one", kind: tracing::metadata::Kind::EVENT, fields: message }.metadata()
        }
        fn other() -> &'static Metadata<'static> {
            tracing::callsite! { name: "other", kind: tracing::metadata::Kind::EVENT, fields: message }.metadata()
        }
        [one(), other()]
    }

    fn told(rate: &Rate, now: u64, all: bool) -> Vec<(&'static str, u64)> {
        let told = rate.left_out(now, all);
        told.map(|it| (it.of.name(), it.lines)).collect()
    }

    #[test]
    fn a_burst_passes_then_so_many_a_second_and_the_rest_is_told_when_it_is_over() {
        let [one, other] = places();
        let rate = Rate::new(10);
        let now = 77 * SECOND;
        let passed = |at: u64| (0..1_000).filter(|_| rate.pass(one, at)).count();
        assert_eq!(passed(now), 50, "five seconds' worth");
        assert!(rate.pass(other, now), "another place is not held for it");
        assert_eq!(told(&rate, now + SECOND, false), []);
        assert_eq!(passed(now + SECOND), 10);
        assert_eq!(told(&rate, now + 2 * SECOND, false), [], "it goes on");
        // 950 and 990; five seconds after the last line that passed, the bucket is full again.
        assert_eq!(told(&rate, now + 6 * SECOND, false), [("one", 1_940)]);
        assert_eq!(told(&rate, now + 6 * SECOND, false), []);
        assert_eq!(passed(now + 6 * SECOND), 50);
        assert_eq!(told(&rate, now + 6 * SECOND, true), [("one", 950)]);
    }

    #[test]
    fn a_flood_without_end_is_told_of_once_a_minute() {
        let [one, _] = places();
        let rate = Rate::new(1);
        let mut told_at = Vec::new();
        for second in 1..=130 {
            let _ = (0..10).filter(|_| rate.pass(one, second * SECOND)).count();
            told_at.extend(
                told(&rate, second * SECOND, false)
                    .pop()
                    .map(|it| (second, it.1)),
            );
        }
        // Five of the first ten pass, then one in each second.
        assert_eq!(told_at, [(61, 5 + 60 * 9), (122, 61 * 9)]);
    }

    #[test]
    fn without_a_rate_all_pass() {
        let [one, _] = places();
        let rate = Rate::new(0);
        assert!((0..100_000).all(|_| rate.pass(one, SECOND)));
        rate.set(1);
        assert_eq!((0..100).filter(|_| rate.pass(one, SECOND)).count(), 5);
    }
}
