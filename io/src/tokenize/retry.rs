//! When a call that failed is made again, and when not; pure.
use crate::limits::{RETRY_PAUSE_MAX, RETRY_PAUSE_MIN};
use std::time::{Duration, SystemTime};

/// The retries of one ask.
#[derive(Debug)]
pub(super) struct Retries {
    left: u32,
    made: u32,
}

impl Retries {
    /// At most so many.
    pub(super) fn new(most: u32) -> Self {
        Self {
            left: most,
            made: 0,
        }
    }

    /// The pause before the next call; none if there is to be none. `after` is what the endpoint that would be asked
    /// wants waited, `left` the time until the ask's deadline, `jitter` a random number from 0 to 1.
    ///
    /// Pauses double, and half of each is chance, so that those who failed together do not come back together.
    pub(super) fn next(
        &mut self,
        after: Option<Duration>,
        left: Duration,
        jitter: f64,
    ) -> Option<Duration> {
        self.left = self.left.checked_sub(1)?;
        let whole = RETRY_PAUSE_MIN.saturating_mul(1 << self.made.min(16));
        let whole = whole.min(RETRY_PAUSE_MAX);
        self.made += 1;
        let pause = whole.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0);
        let pause = pause.max(after.unwrap_or_default());
        (pause < left).then_some(pause)
    }
}

/// What a `Retry-After` header says: seconds, or a date.
pub(super) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = httpdate::parse_http_date(value).ok()?;
    Some(at.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn pauses_by_hand() {
        assert_eq!((RETRY_PAUSE_MIN, RETRY_PAUSE_MAX), (ms(20), ms(1_000)));
        let all = |after, left, jitter| {
            let mut retries = Retries::new(8);
            std::iter::from_fn(|| retries.next(after, left, jitter))
                .map(|pause| pause.as_millis())
                .collect::<Vec<_>>()
        };
        let long = ms(60_000);
        assert_eq!(
            all(None, long, 1.0),
            [20, 40, 80, 160, 320, 640, 1_000, 1_000]
        );
        assert_eq!(all(None, long, 0.0), [10, 20, 40, 80, 160, 320, 500, 500]);
        assert_eq!(
            all(Some(ms(100)), long, 0.0),
            [100, 100, 100, 100, 160, 320, 500, 500]
        );
        // Never beyond the deadline.
        assert_eq!(all(None, ms(41), 1.0), [20, 40]);
        assert_eq!(all(Some(ms(2_000)), ms(2_000), 0.0), [0; 0]);
        assert_eq!(all(None, Duration::ZERO, 0.0), [0; 0]);
        assert_eq!(Retries::new(0).next(None, long, 0.5), None);
    }

    #[test]
    fn retry_after_comes_in_two_forms() {
        // Sun, 06 Nov 1994 08:49:37 GMT, as RFC 9110 has it.
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (value, seconds) in [
            ("0", Some(0)),
            ("120", Some(120)),
            (" 7 ", Some(7)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10)),
            ("Sunday, 06-Nov-94 08:49:38 GMT", Some(1)),
            ("Sun, 06 Nov 1994 08:49:30 GMT", Some(0)),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            let expected = seconds.map(Duration::from_secs);
            assert_eq!(retry_after(value, now), expected, "{value:?}");
        }
    }
}
