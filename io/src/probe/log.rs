//! What the probe says in the log: changes only, and so many lines a minute.
use crate::limits::PROBE_LINES_PER_MINUTE_MAX;
use std::time::{Duration, Instant};

const MINUTE: Duration = Duration::from_secs(60);

/// The lines of the minute at hand.
#[derive(Debug, Default)]
pub(super) struct Log {
    begun: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl Log {
    /// Whether there is room for one more line.
    fn takes_one(&mut self, now: Instant) -> bool {
        if self.begun.is_none_or(|begun| now >= begun + MINUTE) {
            if self.left_out != 0 {
                tracing::warn!(lines = self.left_out, "the probe had more to say");
            }
            *self = Self {
                begun: Some(now),
                ..Self::default()
            };
        }
        let room = self.lines < PROBE_LINES_PER_MINUTE_MAX;
        match room {
            true => self.lines += 1,
            false => self.left_out += 1,
        }
        room
    }

    /// Something that somebody should look at.
    pub(super) fn warn(&mut self, of: &str, what: std::fmt::Arguments<'_>) {
        if self.takes_one(Instant::now()) {
            tracing::warn!(of, "{what}");
        }
    }

    /// Something worth to be known afterwards.
    pub(super) fn info(&mut self, of: &str, what: std::fmt::Arguments<'_>) {
        if self.takes_one(Instant::now()) {
            tracing::info!(of, "{what}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_has_so_many_lines_and_the_next_one_as_many_again() {
        let mut log = Log::default();
        let start = Instant::now();
        for minute in 0..2 {
            let now = start + MINUTE * minute;
            let taken = (0..100).filter(|_| log.takes_one(now)).count();
            assert_eq!(taken, PROBE_LINES_PER_MINUTE_MAX as usize);
        }
        assert_eq!(log.left_out, 100 - u64::from(PROBE_LINES_PER_MINUTE_MAX));
    }
}
