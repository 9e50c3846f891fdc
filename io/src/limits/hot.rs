//! The bounds of what is remembered of the prefixes that lookups found held.
use std::time::Duration;

/// Block keys of one node: a system prompt of 1,024 tokens takes four nodes, and a prefix that ends within a node splits it.
pub const HOT_PAGE_KEYS: usize = 16;

/// Nodes, of 176 bytes each: 2.9 MB, which become resident as they are used. 1,024 different prefixes of 4,096 tokens in blocks of 16.
pub const HOT_NODES_MAX: usize = 16_384;

/// Blocks of a prefix that are followed: beyond 16,384 tokens in blocks of 16 few prefixes are shared, and a sample stays within some
/// microseconds. A whole prefix is 64 nodes then, or one a block in the worst case.
pub const HOT_BLOCKS_MAX: usize = 1_024;

/// Time in which a count decays by half: what was hot ten minutes ago counts a quarter.
pub const HOT_HALF_LIFE: Duration = Duration::from_secs(300);

/// Half-lives after which all counts are brought down by powers of two: well before a weight that grows with time is more than an f64 has. It
/// takes 20 us, once in 42 hours.
pub const HOT_HALF_LIVES_MAX: f64 = 512.0;

/// Half-lives after which what was left out or estimated counts no more: by then it is a millionth.
pub const HOT_ROUGH_HALF_LIVES: f64 = 20.0;

/// A count below which a prefix is forgotten: one lookup after half an hour.
pub const HOT_COUNT_MIN: f64 = 1.0 / 64.0;

/// A count up to which prefixes may be forgotten for want of room: more lookups than there are in any five minutes.
pub const HOT_COUNT_FORGOTTEN_MAX: f64 = 1e12;

/// Nodes that a sample looks at, to forget those of negligible counts; all are looked at in 2,000 samples.
pub const HOT_VISITS: usize = 8;

/// The same while less than a quarter of the nodes is free, in some 3 us: a whole round in 16 samples, each of which takes 64 nodes or few
/// more.
pub const HOT_VISITS_SCARCE: usize = 1_024;

/// Nodes that a sample forgets at most: each takes some 50 ns, and a sample needs no more than these.
pub const HOT_FORGOTTEN_AT_ONCE: usize = 256;

/// Samples that a thread takes in a second, over time. One takes some microseconds, so this is a thousandth of the thread.
pub const HOT_SAMPLES_PER_SECOND: f64 = 100.0;

/// Samples that it may take sooner than that, after a pause: where few lookups are made, all of them are samples.
pub const HOT_SAMPLES_BURST: f64 = 1_000.0;

/// Lookups of which one is a sample, at most. Above 100,000 lookups a second and thread more samples are taken than a hundred a second, up to a
/// thousandth of the lookups; larger groups would be in the way when a burst is over: none would be full for hours.
pub const HOT_SAMPLED_ONE_OF_MAX: u32 = 1 << 10;

/// Nodes of an answer, unless it is asked for another number: more than a screen shows.
pub const PREFIXES_DEFAULT: usize = 200;

/// Nodes of an answer that can be asked for, at some 150 bytes each.
pub const PREFIXES_MAX: usize = 1_000;

const _: () = assert!(
    HOT_NODES_MAX < u32::MAX as usize,
    "nodes have numbers of 32 bits"
);
const _: () = assert!(HOT_BLOCKS_MAX < HOT_NODES_MAX, "one prefix has room");
