//! Whether an engine computed blocks that it should have told of, and nothing was heard; pure.
//!
//! Every computed block is published, so an engine whose prompts cost more tokens than fit into unfinished
//! blocks has something to say. What it computed is what it looked up less what it found. Each request leaves
//! less than a block unpublished; those that ended, run or wait count, and one more that a counter may be
//! late with.
//!
//! One silent window may be an event that arrived just before the window and was counted just after. With a
//! second one and nothing heard in between that is impossible: the event of the second would have been heard
//! in or after the first. Windows in which nothing was computed prove nothing and are passed over.

/// Silent windows after which an engine counts as not heard.
const WINDOWS: u32 = 2;

/// What one rank had counted at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// When, in milliseconds since 1970; not later than the engine counted.
    pub at_ms: u64,
    /// Prompt tokens looked up.
    pub queries: f64,
    /// Prompt tokens found.
    pub hits: f64,
    /// Requests that have ended.
    pub ended: f64,
    /// Requests that run or wait.
    pub open: f64,
}

impl Sample {
    /// Whether a counter went back: another life of the engine, or another engine.
    fn is_before(&self, other: &Self) -> bool {
        self.at_ms < other.at_ms
            || self.queries < other.queries
            || self.hits < other.hits
            || self.ended < other.ended
    }

    /// Whether more was computed since `start` than unfinished blocks explain.
    fn tells_of_blocks(&self, start: &Self, block_size: u32) -> bool {
        let computed = (self.queries - start.queries) - (self.hits - start.hits);
        let requests = (self.ended - start.ended) + self.open + 1.0;
        computed > f64::from(block_size) * requests
    }
}

/// What is remembered of one rank.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Silence {
    /// Where the window at hand begins.
    start: Option<Sample>,
    silent_windows: u32,
}

impl Silence {
    /// Takes a sample, and when a message was last heard of the rank; `true` if the rank is not heard though it
    /// should be. It is said once, and again after as much silence.
    pub fn observe(
        &mut self,
        now: Sample,
        last_heard_ms: Option<u64>,
        block_size: u32,
        window_ms: u64,
    ) -> bool {
        let Some(start) = self.start else {
            self.start = Some(now);
            return false;
        };
        let heard = last_heard_ms.is_some_and(|at| at >= start.at_ms);
        if heard || now.is_before(&start) {
            *self = Self {
                start: Some(now),
                silent_windows: 0,
            };
            return false;
        }
        if now.at_ms - start.at_ms < window_ms {
            return false;
        }
        self.start = Some(now);
        self.silent_windows += u32::from(now.tells_of_blocks(&start, block_size));
        let unheard = self.silent_windows >= WINDOWS;
        if unheard {
            self.silent_windows = 0;
        }
        unheard
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (seconds, queries, hits, ended, open, last heard in seconds), and what is said of it.
    type Row = (u64, f64, f64, f64, f64, Option<u64>, bool);

    /// Blocks of 16 tokens, windows of 10 seconds.
    fn check(name: &str, rows: &[Row]) {
        let mut silence = Silence::default();
        for (at, row) in rows.iter().enumerate() {
            let &(seconds, queries, hits, ended, open, heard, expected) = row;
            let sample = Sample {
                at_ms: 1_000_000 + seconds * 1_000,
                queries,
                hits,
                ended,
                open,
            };
            let heard = heard.map(|s| 1_000_000 + s * 1_000);
            let said = silence.observe(sample, heard, 16, 10_000);
            assert_eq!(said, expected, "{name}, row {at}: {row:?}");
        }
    }

    #[test]
    fn two_silent_windows_are_told_once() {
        // 49 tokens are more than 16 x (1 ended + 0 open + 1) = 32.
        check(
            "silent",
            &[
                (0, 0.0, 0.0, 0.0, 0.0, None, false),
                (10, 49.0, 0.0, 1.0, 0.0, None, false),
                (20, 98.0, 0.0, 2.0, 0.0, None, true),
                (30, 147.0, 0.0, 3.0, 0.0, None, false),
                (40, 196.0, 0.0, 4.0, 0.0, None, true),
            ],
        );
    }

    #[test]
    fn a_window_is_no_shorter_than_it_is_said() {
        check(
            "samples every four seconds",
            &[
                (0, 0.0, 0.0, 0.0, 0.0, None, false),
                (4, 500.0, 0.0, 1.0, 0.0, None, false),
                (8, 500.0, 0.0, 1.0, 0.0, None, false),
                (12, 500.0, 0.0, 1.0, 0.0, None, false),
                (16, 900.0, 0.0, 2.0, 0.0, None, false),
                (20, 900.0, 0.0, 2.0, 0.0, None, false),
                (24, 900.0, 0.0, 2.0, 0.0, None, true),
            ],
        );
    }

    #[test]
    fn what_unfinished_blocks_explain_is_no_silence() {
        // Exactly 16 tokens for each request that ended or is open, and one more.
        check(
            "the last token that is explained",
            &[
                (0, 0.0, 0.0, 0.0, 0.0, None, false),
                (10, 64.0, 0.0, 1.0, 2.0, None, false),
                (20, 112.0, 0.0, 1.0, 2.0, None, false),
                (30, 160.0, 0.0, 1.0, 2.0, None, false),
            ],
        );
        check(
            "one token more, twice",
            &[
                (0, 0.0, 0.0, 0.0, 0.0, None, false),
                (10, 65.0, 0.0, 1.0, 2.0, None, false),
                (20, 114.0, 0.0, 1.0, 2.0, None, true),
            ],
        );
    }

    #[test]
    fn what_was_found_was_not_computed() {
        check(
            "hits",
            &[
                (0, 1000.0, 500.0, 0.0, 0.0, None, false),
                (10, 2000.0, 1490.0, 1.0, 0.0, None, false),
                (20, 3000.0, 2480.0, 2.0, 0.0, None, false),
                (30, 4000.0, 3470.0, 3.0, 0.0, None, false),
            ],
        );
    }

    #[test]
    fn a_message_ends_the_silence() {
        check(
            "heard in the second window",
            &[
                (0, 0.0, 0.0, 0.0, 0.0, None, false),
                (10, 500.0, 0.0, 1.0, 0.0, None, false),
                (20, 900.0, 0.0, 2.0, 0.0, Some(15), false),
                (30, 1300.0, 0.0, 3.0, 0.0, Some(15), false),
                (40, 1700.0, 0.0, 4.0, 0.0, Some(15), true),
            ],
        );
        check(
            "heard before the first window only",
            &[
                (50, 0.0, 0.0, 0.0, 0.0, Some(49), false),
                (60, 500.0, 0.0, 1.0, 0.0, Some(49), false),
                (70, 900.0, 0.0, 2.0, 0.0, Some(49), true),
            ],
        );
    }

    #[test]
    fn an_idle_window_proves_nothing_either_way() {
        check(
            "now and then a request",
            &[
                (0, 0.0, 0.0, 0.0, 0.0, None, false),
                (10, 500.0, 0.0, 1.0, 0.0, None, false),
                (20, 500.0, 0.0, 1.0, 0.0, None, false),
                (30, 500.0, 0.0, 1.0, 0.0, None, false),
                (40, 900.0, 0.0, 2.0, 0.0, None, true),
            ],
        );
        check(
            "idle for ever",
            &[
                (0, 500.0, 0.0, 1.0, 0.0, None, false),
                (10, 500.0, 0.0, 1.0, 0.0, None, false),
                (20, 500.0, 0.0, 1.0, 0.0, None, false),
            ],
        );
    }

    #[test]
    fn a_counter_that_goes_back_begins_anew() {
        check(
            "a restart between two silent windows",
            &[
                (0, 1000.0, 0.0, 9.0, 0.0, None, false),
                (10, 1500.0, 0.0, 10.0, 0.0, None, false),
                (20, 900.0, 0.0, 11.0, 0.0, None, false),
                (30, 1400.0, 0.0, 12.0, 0.0, None, false),
                (40, 1900.0, 0.0, 13.0, 0.0, None, true),
            ],
        );
        check(
            "the clock goes back",
            &[
                (100, 0.0, 0.0, 0.0, 0.0, None, false),
                (110, 500.0, 0.0, 0.0, 0.0, None, false),
                (20, 900.0, 0.0, 0.0, 0.0, None, false),
                (30, 1400.0, 0.0, 0.0, 0.0, None, false),
            ],
        );
    }
}
