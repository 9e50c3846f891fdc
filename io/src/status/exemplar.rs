//! The latest request of each bucket of a histogram, by its name: one thread writes it, anybody reads it, nobody waits.
use std::fmt;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
    fence,
};

/// How long the trace of a request is not replaced by requests without one, in milliseconds.
const TRACE_PREFERRED_MS: u64 = 60_000;

/// What a request is called, to be found again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestName {
    /// The id of a decision, as answers and `/v1/explain` have it: 96 bits.
    Request(u128),
    /// The id of a trace: 128 bits.
    Trace(u128),
}

impl RequestName {
    /// The label of an exemplar that has it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Request(_) => "request_id",
            Self::Trace(_) => "trace_id",
        }
    }

    const fn parts(self) -> [u64; 3] {
        let (kind, id) = match self {
            Self::Request(id) => (0, id),
            Self::Trace(id) => (1, id),
        };
        [kind, (id >> 64) as u64, id as u64]
    }

    const fn of([kind, high, low]: [u64; 3]) -> Self {
        let id = (high as u128) << 64 | low as u128;
        match kind {
            0 => Self::Request(id),
            _ => Self::Trace(id),
        }
    }
}

impl fmt::Display for RequestName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(id) => write!(f, "{id:024x}"),
            Self::Trace(id) => write!(f, "{id:032x}"),
        }
    }
}

/// A request and its value. Its number is odd while it is written, and another one after each time: who reads finds
/// the same even number before and after, or what was read is worth nothing.
#[derive(Debug, Default)]
pub struct Exemplar {
    number: AtomicU64,
    value: AtomicU64,
    /// When it was noted, in milliseconds since a moment that all threads share.
    at_ms: AtomicU64,
    name: [AtomicU64; 3],
}

impl Exemplar {
    /// Takes note of a request, on the only thread that does.
    #[inline]
    pub fn note(&self, name: RequestName, value: u64, at_ms: u64) {
        let number = self.number.load(Relaxed);
        // A trace tells more than the id of a decision, and few requests have one.
        let traced = number != 0 && self.name[0].load(Relaxed) != 0;
        let recent = at_ms.saturating_sub(self.at_ms.load(Relaxed)) < TRACE_PREFERRED_MS;
        if traced && recent && matches!(name, RequestName::Request(_)) {
            return;
        }
        self.number.store(number + 1, Relaxed);
        // Release: pairs with the Acquire fence in `read`: who sees what follows sees the odd number.
        fence(Release);
        self.value.store(value, Relaxed);
        self.at_ms.store(at_ms, Relaxed);
        for (place, part) in self.name.iter().zip(name.parts()) {
            place.store(part, Relaxed);
        }
        // Release: pairs with the first Acquire in `read`.
        self.number.store(number + 2, Release);
    }

    /// The latest request, its value and when it was noted; `None` before the first, or if it is being replaced.
    #[must_use]
    pub fn read(&self) -> Option<(RequestName, u64, u64)> {
        // Acquire: pairs with the last Release in `note`.
        let number = self.number.load(Acquire);
        let (value, at_ms) = (self.value.load(Relaxed), self.at_ms.load(Relaxed));
        let name = self.name.each_ref().map(|part| part.load(Relaxed));
        // Acquire: pairs with the Release fence in `note`.
        fence(Acquire);
        let whole = number != 0 && number.is_multiple_of(2) && self.number.load(Relaxed) == number;
        whole.then(|| (RequestName::of(name), value, at_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn names_are_what_answers_say() {
        let id = 0x0123_4567_89ab_cdef_0011_2233_u128;
        let name = RequestName::Request(id);
        assert_eq!(name.to_string(), "0123456789abcdef00112233");
        let trace = RequestName::Trace(id);
        assert_eq!(trace.to_string(), "000000000123456789abcdef00112233");
        let exemplar = Exemplar::default();
        assert_eq!(exemplar.read(), None);
        exemplar.note(name, 7, 1);
        assert_eq!(exemplar.read(), Some((name, 7, 1)));
        exemplar.note(trace, 8, 2);
        assert_eq!(exemplar.read(), Some((trace, 8, 2)));
        // A trace stays for a minute, unless there is a newer one.
        exemplar.note(name, 9, 60_001);
        assert_eq!(exemplar.read(), Some((trace, 8, 2)));
        exemplar.note(name, 9, 60_002);
        assert_eq!(exemplar.read(), Some((name, 9, 60_002)));
    }

    #[test]
    fn who_reads_while_it_is_written_finds_a_whole_one_or_none() {
        let (exemplar, ended) = (Exemplar::default(), AtomicBool::new(false));
        let of = |n: u64| {
            (
                RequestName::Trace(u128::from(n) << 64 | u128::from(n)),
                n,
                n,
            )
        };
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut seen = 0_u64;
                while !ended.load(Relaxed) {
                    if let Some(read) = exemplar.read() {
                        assert_eq!(read, of(read.1));
                        seen += 1;
                    }
                }
                seen
            });
            for n in 1..=200_000 {
                let (name, value, at_ms) = of(n);
                exemplar.note(name, value, at_ms);
            }
            ended.store(true, Relaxed);
            let _: u64 = reader.join().expect("it finds whole ones");
        });
        assert_eq!(exemplar.read(), Some(of(200_000)));
    }
}
