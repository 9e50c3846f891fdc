//! One worker's load: its books, and what its engine last said.
use super::account::{Account, Counts};
use super::clock::Moment;
use super::combine::{Known, Said, combine};
use kvroute_engine::choose::Load;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed};

/// What an engine says of one rank's load.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Scrape {
    /// Requests that run.
    pub running: u32,
    /// Requests that wait.
    pub waiting: u32,
    /// Tokens that they keep in the cache; 0 if that is not known.
    pub active_tokens: u64,
    /// The share of the cache that is in use, if the engine says it.
    pub usage: Option<f64>,
}

/// What was booked when an engine was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// By the clock of the loads.
    pub asked_ms: u64,
    /// Requests.
    pub requests: Counts,
    /// Uncached tokens ever booked.
    pub uncached: u64,
    /// Prompt tokens ever booked.
    pub prompts: u64,
}

/// A worker's load as a choice sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// What it has to do.
    pub load: Load,
    /// What [`WorkerLoad::book`] compares.
    pub booked: u64,
}

/// One booked request, to be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Booking {
    tick: u32,
    uncached: u32,
    prompt: u32,
}

/// One worker's load. Written by the threads that choose and by the probe, read by anybody; the module tells how it is
/// put together.
#[derive(Debug, Default)]
pub struct WorkerLoad {
    requests: Account,
    uncached: Account,
    prompts: Account,
    /// The latest period that was looked through for what expires.
    swept: AtomicU32,
    /// When the engine was asked, plus one; zero if it never answered.
    asked_ms: AtomicU64,
    /// Requests that it said, less those booked by then, plus those finished.
    base: AtomicI64,
    /// Running and waiting requests that it said, in one word.
    said: AtomicU64,
    active_tokens: AtomicU64,
    /// The share of the cache in use as the bits of a float; NaN if it is not known.
    usage: AtomicU64,
    /// Uncached tokens that were booked when it was asked.
    uncached_mark: AtomicU64,
    /// Prompt tokens that were booked when it was asked.
    prompts_mark: AtomicU64,
}

impl WorkerLoad {
    /// The load now. O(1), and once in each period O(slots) for what has expired.
    #[must_use]
    pub fn read(&self, now: Moment) -> Reading {
        self.expire(now);
        let known = Known {
            requests: self.requests.counts(),
            uncached: self.uncached.counts(),
            prompts: self.prompts.counts(),
            said: self.said(now),
        };
        Reading {
            load: combine(&known),
            booked: known.requests.booked,
        }
    }

    /// Own requests now, and how those before them ended.
    #[must_use]
    pub fn own(&self, now: Moment) -> Counts {
        self.expire(now);
        self.requests.counts()
    }

    /// What the engine last said, and how many milliseconds ago it was asked; however old that is.
    #[must_use]
    pub fn scraped(&self, now: Moment) -> Option<(Scrape, u64)> {
        let asked_ms = self.asked_ms.load(Relaxed).checked_sub(1)?;
        let (running, waiting) = halves(self.said.load(Relaxed));
        let usage = f64::from_bits(self.usage.load(Relaxed));
        let scrape = Scrape {
            running,
            waiting,
            active_tokens: self.active_tokens.load(Relaxed),
            usage: Some(usage).filter(|usage| !usage.is_nan()),
        };
        Some((scrape, now.ms.saturating_sub(asked_ms)))
    }

    /// Books a request, if nobody has booked one since `booked` was read. `uncached` of its `prompt` tokens have to be
    /// computed.
    pub fn book(&self, booked: u64, now: Moment, uncached: u64, prompt: u64) -> Option<Booking> {
        let claimed = self.requests.claim_one(booked);
        claimed.then(|| self.enter(now, uncached, prompt))
    }

    /// Books a request, whoever else does.
    pub fn book_blindly(&self, now: Moment, uncached: u64, prompt: u64) -> Booking {
        self.requests.claim(1);
        self.enter(now, uncached, prompt)
    }

    fn enter(&self, now: Moment, uncached: u64, prompt: u64) -> Booking {
        let narrow = |tokens| u32::try_from(tokens).unwrap_or(u32::MAX);
        let booking = Booking {
            tick: now.tick,
            uncached: narrow(uncached),
            prompt: narrow(prompt),
        };
        self.uncached.claim(booking.uncached);
        self.prompts.claim(booking.prompt);
        self.requests.put(now.tick, 1);
        self.uncached.put(now.tick, booking.uncached);
        self.prompts.put(now.tick, booking.prompt);
        booking
    }

    /// Takes a booking back, unless it has expired. To be called once for each booking.
    pub fn finish(&self, booking: &Booking) {
        self.requests.finish(booking.tick, 1);
        self.uncached.finish(booking.tick, booking.uncached);
        self.prompts.finish(booking.tick, booking.prompt);
    }

    /// To be taken just before the engine is asked.
    #[must_use]
    pub fn marks(&self, now: Moment) -> Marks {
        Marks {
            asked_ms: now.ms,
            requests: self.requests.counts(),
            uncached: self.uncached.counts().booked,
            prompts: self.prompts.counts().booked,
        }
    }

    /// Takes what the engine said, and the marks from before it was asked. One thread only.
    pub fn take(&self, scrape: &Scrape, marks: &Marks) {
        let requests = i64::from(scrape.running) + i64::from(scrape.waiting);
        let moved = marks.requests.booked.wrapping_sub(marks.requests.finished);
        let usage = scrape.usage.unwrap_or(f64::NAN);
        let said = u64::from(scrape.running) << 32 | u64::from(scrape.waiting);
        self.said.store(said, Relaxed);
        self.base
            .store(requests.saturating_sub(moved.cast_signed()), Relaxed);
        self.active_tokens.store(scrape.active_tokens, Relaxed);
        self.usage.store(usage.to_bits(), Relaxed);
        self.uncached_mark.store(marks.uncached, Relaxed);
        self.prompts_mark.store(marks.prompts, Relaxed);
        self.asked_ms
            .store(marks.asked_ms.saturating_add(1), Relaxed);
    }

    fn said(&self, now: Moment) -> Option<Said> {
        let asked_ms = self.asked_ms.load(Relaxed).checked_sub(1)?;
        if asked_ms < now.fresh_from_ms {
            return None;
        }
        let (running, waiting) = halves(self.said.load(Relaxed));
        Some(Said {
            base: self.base.load(Relaxed),
            running,
            waiting,
            active_tokens: self.active_tokens.load(Relaxed),
            uncached_booked: self.uncached_mark.load(Relaxed),
            prompts_booked: self.prompts_mark.load(Relaxed),
        })
    }

    /// Lets expire what is too old, once in each period.
    fn expire(&self, now: Moment) {
        let swept = |tick| tick >= now.tick;
        if swept(self.swept.load(Relaxed)) || swept(self.swept.fetch_max(now.tick, Relaxed)) {
            return;
        }
        self.requests.expire(now.tick);
        self.uncached.expire(now.tick);
        self.prompts.expire(now.tick);
    }
}

#[expect(clippy::cast_possible_truncation, reason = "two halves of a word")]
const fn halves(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}
