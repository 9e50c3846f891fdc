//! How much was added in each of the latest periods, to be taken back or to expire, each part exactly once.
//!
//! A slot is one word: the period (upper half) and what is left of what was added in it. Whoever adds in a later period
//! that has the same slot takes what is left there out as expired, with the same compare-and-swap; so does
//! [`Wheel::expire`]. Taking back succeeds only while the slot still has the period that it was added in. No
//! amount can therefore leave twice, or stay: each leaves by a swap of the word that it is in.
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Periods that are kept.
pub const SLOTS: usize = 16;

const AMOUNT_BITS: u32 = 32;

/// Amounts by period.
#[derive(Debug, Default)]
pub struct Wheel {
    slots: [AtomicU64; SLOTS],
}

/// A slot's word taken apart.
#[derive(Clone, Copy, Debug)]
struct Slot {
    tick: u32,
    amount: u32,
}

impl Slot {
    #[expect(clippy::cast_possible_truncation, reason = "two halves of a word")]
    const fn of(word: u64) -> Self {
        Self {
            tick: (word >> AMOUNT_BITS) as u32,
            amount: word as u32,
        }
    }

    const fn word(self) -> u64 {
        (self.tick as u64) << AMOUNT_BITS | self.amount as u64
    }
}

impl Wheel {
    fn slot(&self, tick: u32) -> &AtomicU64 {
        &self.slots[tick as usize % SLOTS]
    }

    /// Adds in this period, and gives what expired by it: what was left of an older one in its slot, what does not fit, or all of
    /// it if a later period has the slot. O(1), lock-free.
    pub fn put(&self, tick: u32, amount: u32) -> u64 {
        let slot = self.slot(tick);
        let mut word = slot.load(Relaxed);
        loop {
            let found = Slot::of(word);
            if found.tick > tick {
                return amount.into();
            }
            let (kept, expired) = if found.tick == tick {
                let kept = found.amount.saturating_add(amount);
                (kept, amount - (kept - found.amount))
            } else {
                (amount, found.amount)
            };
            let next = Slot { tick, amount: kept };
            match slot.compare_exchange_weak(word, next.word(), Relaxed, Relaxed) {
                Ok(_) => return expired.into(),
                Err(now) => word = now,
            }
        }
    }

    /// Takes back what was added in a period; gives how much of it was still there. O(1), lock-free.
    pub fn take(&self, tick: u32, amount: u32) -> u64 {
        let slot = self.slot(tick);
        let mut word = slot.load(Relaxed);
        loop {
            let found = Slot::of(word);
            if found.tick != tick {
                return 0;
            }
            let taken = found.amount.min(amount);
            let next = Slot {
                tick,
                amount: found.amount - taken,
            };
            match slot.compare_exchange_weak(word, next.word(), Relaxed, Relaxed) {
                Ok(_) => return taken.into(),
                Err(now) => word = now,
            }
        }
    }

    /// Takes out what is left of periods that are [`SLOTS`] ago or longer, and gives how much it is. O(slots), lock-free.
    pub fn expire(&self, now: u32) -> u64 {
        let mut expired = 0;
        for slot in &self.slots {
            let mut word = slot.load(Relaxed);
            loop {
                let found = Slot::of(word);
                let old = now.saturating_sub(found.tick) as usize >= SLOTS;
                if found.amount == 0 || !old {
                    break;
                }
                let next = Slot { amount: 0, ..found };
                match slot.compare_exchange_weak(word, next.word(), Relaxed, Relaxed) {
                    Ok(_) => {
                        expired += u64::from(found.amount);
                        break;
                    }
                    Err(now) => word = now,
                }
            }
        }
        expired
    }
}
