//! What is counted of events: by worker, by shape, and the times of an IO thread's batches.
use super::SkipReason;
use super::histogram::{Counted, Histogram, bump};
use crate::limits::{LAG_MAX, TIMES_MEASURED_ONE_OF};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

words! {
    /// What an event says.
    EventKind {
        /// Blocks were stored.
        Stored = "stored",
        /// Blocks were removed.
        Removed = "removed",
        /// All blocks are gone.
        Cleared = "cleared",
    }
}

words! {
    /// How an event is written.
    Shape {
        /// As an array: vLLM up to 0.23.
        Array = "array",
        /// As a map: vLLM from 0.24.
        Map = "map",
        /// As neither.
        Other = "other",
    }
}

words! {
    /// How a replay ended.
    ReplayOutcome {
        /// All that was asked for has come.
        Complete = "complete",
        /// It ended, and some of what was asked for is missing: the ring had rotated, or has a hole.
        Partial = "partial",
        /// It showed that the engine is in another life; another replay was asked for.
        OtherLife = "other_life",
        /// It was not answered in time.
        Silent = "silent",
        /// Its socket failed, or what it answered was no replay.
        Failed = "failed",
        /// It was given up: the connection was lost, or something else was asked for.
        Stopped = "stopped",
    }
}

/// Where a skipped thing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Event,
    Batch,
    Frame,
}

impl SkipReason {
    const fn level(self) -> Level {
        match self {
            Self::MalformedBatch | Self::Duplicate | Self::OtherLife | Self::HeldBackFull => {
                Level::Batch
            }
            Self::Framing | Self::FrameTooLarge => Level::Frame,
            _ => Level::Event,
        }
    }
}

/// What one batch's events came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventTally {
    /// Applied, by kind, as arrays and as maps.
    pub applied: [[u32; 2]; EventKind::ALL.len()],
    /// Understood and not applied, by kind.
    pub unapplied: [u32; EventKind::ALL.len()],
    /// Blocks of stored and of removed events that were applied.
    pub blocks: [u64; 2],
}

/// What became of one worker's events, its replays and its connection. Written by its IO thread alone, so without atomic additions.
#[derive(Debug, Default)]
pub struct WorkerCounts {
    applied: [[AtomicU64; 2]; EventKind::ALL.len()],
    unapplied: [AtomicU64; EventKind::ALL.len()],
    blocks: [AtomicU64; 2],
    /// As an array, or of a reason that has but one shape.
    skipped: [AtomicU64; SkipReason::ALL.len()],
    skipped_maps: [AtomicU64; SkipReason::ALL.len()],
    skipped_others: AtomicU64,
    outcomes: [AtomicU64; ReplayOutcome::ALL.len()],
    missed: AtomicU64,
    held_back: AtomicU64,
    connections: AtomicU64,
    disconnections: AtomicU64,
    socket_failures: AtomicU64,
    /// Nanoseconds plus one; zero before the first.
    lag: AtomicU64,
}

impl WorkerCounts {
    /// Counts the events of a batch.
    pub fn add_events(&self, tally: &EventTally) {
        for (counts, more) in self.applied.iter().zip(&tally.applied) {
            add(counts, more);
        }
        add(&self.unapplied, &tally.unapplied);
        for (count, &more) in self.blocks.iter().zip(&tally.blocks) {
            bump(count, more);
        }
    }

    /// Counts what was skipped for a reason, in an event of this shape; whether it is the first.
    pub(super) fn add_skipped(&self, reason: SkipReason, shape: Shape, count: u64) -> bool {
        let counts = match (reason.level(), shape) {
            (Level::Event, Shape::Map) => &self.skipped_maps[reason as usize],
            (Level::Event, Shape::Other) if reason == SkipReason::Shape => &self.skipped_others,
            _ => &self.skipped[reason as usize],
        };
        let first = count > 0 && counts.load(Relaxed) == 0;
        bump(counts, count);
        first
    }

    /// What was skipped, by reason and shape; those that occurred.
    pub fn skipped(&self) -> impl Iterator<Item = (SkipReason, &'static str, u64)> {
        let of = |counts: &[AtomicU64], reason: SkipReason| counts[reason as usize].load(Relaxed);
        let all = SkipReason::ALL.iter().flat_map(move |&reason| {
            let alone = match reason.level() {
                Level::Event => Shape::Array.as_str(),
                Level::Batch => "batch",
                Level::Frame => "frame",
            };
            let others = match reason {
                SkipReason::Shape => self.skipped_others.load(Relaxed),
                _ => 0,
            };
            [
                (reason, alone, of(&self.skipped, reason)),
                (reason, Shape::Map.as_str(), of(&self.skipped_maps, reason)),
                (reason, Shape::Other.as_str(), others),
            ]
        });
        all.filter(|&(_, _, count)| count != 0)
    }

    /// All that was skipped.
    #[must_use]
    pub fn all_skipped(&self) -> u64 {
        let all = self.skipped.iter().chain(&self.skipped_maps);
        let all = all.chain([&self.skipped_others]);
        all.map(|count| count.load(Relaxed)).sum()
    }

    /// Events applied, by kind and shape; shapes that occurred.
    pub fn applied(&self) -> impl Iterator<Item = (EventKind, Shape, u64)> {
        let shapes = [Shape::Array, Shape::Map];
        let all = EventKind::ALL.iter().flat_map(move |&kind| {
            let of = &self.applied[kind as usize];
            shapes.map(|shape| (kind, shape, of[shape as usize].load(Relaxed)))
        });
        let seen = shapes.map(|shape| {
            let mut of = self.applied.iter().map(|of| &of[shape as usize]);
            of.any(|count| count.load(Relaxed) != 0)
        });
        all.filter(move |&(_, shape, _)| seen[shape as usize])
    }

    /// Events of a kind that were applied, and those that were understood.
    #[must_use]
    pub fn of_kind(&self, kind: EventKind) -> (u64, u64) {
        let applied = self.applied[kind as usize].iter();
        let applied: u64 = applied.map(|count| count.load(Relaxed)).sum();
        let unapplied = self.unapplied[kind as usize].load(Relaxed);
        (applied, applied + unapplied)
    }

    /// Blocks of stored and of removed events that were applied.
    #[must_use]
    pub fn blocks(&self) -> [u64; 2] {
        self.blocks.each_ref().map(|count| count.load(Relaxed))
    }

    /// Counts how a replay ended.
    pub(super) fn add_outcome(&self, outcome: ReplayOutcome) {
        bump(&self.outcomes[outcome as usize], 1);
    }

    /// Replays that ended so.
    #[must_use]
    pub fn outcome(&self, outcome: ReplayOutcome) -> u64 {
        self.outcomes[outcome as usize].load(Relaxed)
    }

    /// Counts batches that are missing in a gap.
    pub(super) fn add_missed(&self, batches: u64) {
        bump(&self.missed, batches);
    }

    /// Batches that were missing in gaps when these were noticed.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed.load(Relaxed)
    }

    /// Sets the number of live batches that are held back.
    pub fn set_held_back(&self, batches: u64) {
        self.held_back.store(batches, Relaxed);
    }

    /// Live batches that are held back now.
    #[must_use]
    pub fn held_back(&self) -> u64 {
        self.held_back.load(Relaxed)
    }

    /// The event socket is connected.
    pub(super) fn connected(&self) {
        bump(&self.connections, 1);
    }

    /// It has lost its connection.
    pub(super) fn disconnected(&self) {
        bump(&self.disconnections, 1);
    }

    /// How often the event socket was connected, and how often it lost its connection.
    #[must_use]
    pub fn connections(&self) -> [u64; 2] {
        // The second one first: who sees a loss sees its connection, or so it nearly always is.
        let lost = self.disconnections.load(Relaxed);
        [self.connections.load(Relaxed), lost]
    }

    /// Whether the event socket is connected.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        let [made, lost] = self.connections();
        made > lost
    }

    /// A socket failed and is opened again.
    pub fn socket_failed(&self) {
        bump(&self.socket_failures, 1);
    }

    /// How often one did.
    #[must_use]
    pub fn socket_failures(&self) -> u64 {
        self.socket_failures.load(Relaxed)
    }

    /// From the own time stamp of the live batch that was measured last to its being applied.
    #[must_use]
    pub fn lag(&self) -> Option<Duration> {
        let lag = self.lag.load(Relaxed).checked_sub(1);
        lag.map(Duration::from_nanos)
    }

    pub(super) fn set_lag(&self, nanoseconds: u64) {
        self.lag.store(nanoseconds.saturating_add(1), Relaxed);
    }
}

/// Upper bounds of the lag in nanoseconds: 100 us to 100 s.
const LAG_BOUNDS: &[u64; 19] = &[
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
    2_000_000_000,
    5_000_000_000,
    10_000_000_000,
    20_000_000_000,
    50_000_000_000,
    100_000_000_000,
];

/// Upper bounds of applying a batch in nanoseconds: three below those of [`super::LATENCY_BOUNDS`], and these.
const APPLY_BOUNDS: &[u64; 18] = &[
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    40_000,
    80_000,
    160_000,
    320_000,
    640_000,
    1_280_000,
    2_560_000,
    5_120_000,
    10_240_000,
    20_480_000,
    40_960_000,
    81_920_000,
    163_840_000,
];

/// What one IO thread measures of its batches. Aligned so that threads do not write into one cache line.
#[derive(Debug)]
#[repr(align(128))]
pub struct IoStatus {
    lag: Histogram<19>,
    apply: Histogram<18>,
    batches: AtomicU64,
}

impl Default for IoStatus {
    fn default() -> Self {
        Self {
            lag: Histogram::new(LAG_BOUNDS),
            apply: Histogram::new(APPLY_BOUNDS),
            batches: AtomicU64::new(0),
        }
    }
}

impl IoStatus {
    /// A batch is about to be applied. The time is read for some of them only.
    #[inline]
    #[must_use]
    pub fn begin(&self) -> Option<Instant> {
        let before = self.batches.load(Relaxed);
        self.batches.store(before.wrapping_add(1), Relaxed);
        before
            .is_multiple_of(TIMES_MEASURED_ONE_OF)
            .then(Instant::now)
    }

    /// It is applied.
    #[inline]
    pub fn end(&self, began: Option<Instant>) {
        if let Some(began) = began {
            self.apply.observe_time(began.elapsed());
        }
    }

    /// A live batch whose time stamp is this, in seconds since 1970, is applied now. A time to come is a matter of clocks, and counts
    /// as none; a time stamp that is not a number does not count.
    #[inline]
    pub fn applied(&self, worker: &WorkerCounts, timestamp: f64) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_secs_f64();
        if let Some(lag) = lag(now, timestamp) {
            self.lag.observe(lag);
            worker.set_lag(lag);
        }
    }

    /// Times of batches that were measured.
    #[must_use]
    pub fn apply_times(&self) -> Counted<18> {
        self.apply.read()
    }

    /// From batches' own time stamps to their being applied.
    #[must_use]
    pub fn lags(&self) -> Counted<19> {
        self.lag.read()
    }
}

/// Nanoseconds from a time stamp until `now`, both in seconds since 1970. What they are off by as such numbers is less than a
/// microsecond.
fn lag(now: f64, timestamp: f64) -> Option<u64> {
    let lag = (now - timestamp).clamp(0.0, LAG_MAX.as_secs_f64());
    // Not a number for a time stamp that is none.
    (!lag.is_nan()).then_some((lag * 1e9) as u64)
}

/// Adds those that are not zero: most are.
#[inline]
fn add(counts: &[AtomicU64], more: &[u32]) {
    for (count, &more) in counts.iter().zip(more) {
        if more != 0 {
            bump(count, more.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_bounded_on_both_sides() {
        let now = 1_700_000_000.0;
        assert_eq!(lag(now, now), Some(0));
        assert_eq!(lag(now, now - 0.5), Some(500_000_000));
        assert_eq!(lag(now, now + 1.0), Some(0), "a clock that is ahead");
        assert_eq!(lag(now, f64::INFINITY), Some(0));
        let longest = 86_400_000_000_000;
        assert_eq!(lag(now, 0.0), Some(longest));
        assert_eq!(lag(now, f64::NEG_INFINITY), Some(longest));
        assert_eq!(lag(now, f64::NAN), None);
    }

    #[test]
    fn the_bounds_of_apply_times_have_aibrixs_among_them() {
        assert_eq!(APPLY_BOUNDS[3..], super::super::LATENCY_BOUNDS[..]);
    }

    #[test]
    fn skipped_things_have_a_shape() {
        let counts = WorkerCounts::default();
        counts.add_skipped(SkipReason::Field, Shape::Array, 1);
        counts.add_skipped(SkipReason::Field, Shape::Map, 2);
        counts.add_skipped(SkipReason::Shape, Shape::Other, 3);
        counts.add_skipped(SkipReason::Framing, Shape::Array, 4);
        counts.add_skipped(SkipReason::Duplicate, Shape::Map, 5);
        let found: Vec<_> = counts.skipped().collect();
        let expected = [
            (SkipReason::Shape, "other", 3),
            (SkipReason::Field, "array", 1),
            (SkipReason::Field, "map", 2),
            (SkipReason::Framing, "frame", 4),
            (SkipReason::Duplicate, "batch", 5),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn events_are_counted_by_kind_and_shape() {
        let counts = WorkerCounts::default();
        assert_eq!(counts.applied().count(), 0);
        let mut tally = EventTally::default();
        tally.applied[0][1] = 3;
        tally.applied[1][1] = 1;
        tally.unapplied[0] = 2;
        tally.blocks = [7, 4];
        counts.add_events(&tally);
        counts.add_events(&tally);
        let applied: Vec<_> = counts.applied().collect();
        let expected = [
            (EventKind::Stored, Shape::Map, 6),
            (EventKind::Removed, Shape::Map, 2),
            (EventKind::Cleared, Shape::Map, 0),
        ];
        assert_eq!(applied, expected);
        assert_eq!(counts.of_kind(EventKind::Stored), (6, 10));
        assert_eq!(counts.blocks(), [14, 8]);
    }

    #[test]
    fn a_worker_takes_little_room() {
        assert!(size_of::<WorkerCounts>() <= 512, "65,000 of them are 33 MB");
    }
}
