//! A worker's seat in a run: a reference on it, its entry there, and the key slots it last wrote.
//!
//! The entry and the slots are kept as pointers, because a writer goes from block to block and
//! would otherwise walk the run's segments for each.
use super::Pin;
use super::entry::Entry;
use super::run::{Claim, Hold, Run};
use super::window::Word;
use crate::sync::{AtomicU64, Ordering, prefetch_lines};
use crate::types::BlockKey;
use std::ptr::NonNull;

/// Window words by which blocks of the run they are about.
type Windows = Vec<(u16, NonNull<AtomicU64>)>;

/// Used by the worker's own writer only. Must be given up with [`Seat::leave`].
#[derive(Debug)]
pub(crate) struct Seat {
    run: Hold,
    entry: NonNull<AtomicU64>,
    /// The segment of key slots last used, where it begins and how long it is.
    slots: NonNull<AtomicU64>,
    start: u32,
    len: u32,
    /// The worker's window words, by which blocks of the run they are about.
    windows: Option<Box<Windows>>,
}

// SAFETY: the pointers lead to atomics of the run that `run` keeps alive.
unsafe impl Send for Seat {}
// SAFETY: as above.
unsafe impl Sync for Seat {}

impl Seat {
    /// Enters a worker into a run.
    pub(crate) fn take(run: Hold, entry: Entry, pin: &Pin) -> Self {
        let entry = NonNull::from(run.claim_entry(entry, pin));
        let (slots, len) = pointer(run.first_keys());
        Self {
            run,
            entry,
            slots,
            start: 0,
            len,
            windows: None,
        }
    }

    pub(crate) fn run(&self) -> &Hold {
        &self.run
    }

    /// Asks for the slot at `offset`, if its segment is the one last used, and for the entry.
    #[inline]
    pub(crate) fn prefetch(&self, offset: u32) {
        prefetch_lines(self.entry.as_ptr().cast_const().cast(), 1);
        let at = offset.wrapping_sub(self.start);
        if at < self.len {
            let slot = self.slots.as_ptr().wrapping_add(at as usize);
            prefetch_lines(slot.cast_const().cast(), 3);
        }
    }

    /// Overwrites the worker's entry.
    #[inline]
    pub(crate) fn set(&self, entry: Entry) {
        // Release: pairs with the Acquire in `Matches::open_segment`: who sees an entry sees the count of
        // the one that it replaces, and the marks that were set before.
        self.entry().store(entry.word(), Ordering::Release);
    }

    /// The key of the block at `offset`, which this worker holds or has held.
    #[inline]
    pub(crate) fn key(&mut self, offset: u32, pin: &Pin) -> Option<BlockKey> {
        // Relaxed: written once, and nothing is reached through it.
        let key = self.slot(offset, 1, pin).load(Ordering::Relaxed);
        (key != 0).then(|| BlockKey::new(key))
    }

    /// Claims the slot at `offset`, whose predecessor is claimed already, for `key`, with room for
    /// `following` blocks from there on if a segment must be made. Lock-free.
    #[inline]
    pub(crate) fn claim(&mut self, offset: u32, key: BlockKey, following: u32, pin: &Pin) -> Claim {
        let slot = self.slot(offset, following, pin);
        // Relaxed, all: the word itself is all that is communicated.
        let mut there = slot.load(Ordering::Relaxed);
        if there == 0 {
            match slot.compare_exchange(0, key.get(), Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Claim::Ours,
                Err(other) => there = other,
            }
        }
        if there == key.get() {
            Claim::Ours
        } else {
            Claim::Other
        }
    }

    /// Overwrites the worker's window word of that group, or takes it out where it has no bits. O(words).
    pub(crate) fn set_window(&mut self, word: Word, pin: &Pin) {
        let windows = self.windows.get_or_insert_default();
        let there = windows.iter().position(|(group, _)| *group == word.group);
        match (there, word.ends) {
            (None, 0) => {}
            (None, _) => {
                let claimed = NonNull::from(word.claim(&self.run, pin));
                windows.push((word.group, claimed));
            }
            (Some(at), 0) => {
                let (_, gone) = windows.swap_remove(at);
                // SAFETY: part of the run, which `run` keeps alive.
                // Relaxed: a window word says all that it says itself.
                unsafe { gone.as_ref() }.store(0, Ordering::Relaxed);
            }
            (Some(at), _) => {
                // SAFETY: part of the run, which `run` keeps alive.
                let there = unsafe { windows[at].1.as_ref() };
                // Relaxed: as above.
                there.store(word.word(), Ordering::Relaxed);
            }
        }
    }

    /// Takes the worker out of the run.
    pub(crate) fn leave(self, pin: &Pin) {
        for (_, window) in self.windows.iter().flat_map(|all| all.iter()) {
            // SAFETY: part of the run, which `run` keeps alive.
            // Relaxed: a window word says all that it says itself.
            unsafe { window.as_ref() }.store(0, Ordering::Relaxed);
        }
        self.run.clear_entry(self.entry());
        self.run.release(pin);
    }

    fn entry(&self) -> &AtomicU64 {
        // SAFETY: part of the run, which `run` keeps alive.
        unsafe { self.entry.as_ref() }
    }

    #[inline]
    fn slot(&mut self, offset: u32, following: u32, pin: &Pin) -> &AtomicU64 {
        if offset.wrapping_sub(self.start) >= self.len {
            let (words, start) = self.run.segment(offset, following, pin);
            (self.slots, self.len) = pointer(words);
            self.start = start;
        }
        let at = offset.wrapping_sub(self.start);
        debug_assert!(at < self.len);
        // SAFETY: within the segment, by the test above or by `segment`'s promise.
        let slot = unsafe { self.slots.add(at as usize) };
        // SAFETY: segments live as long as the run, which `run` keeps alive.
        unsafe { slot.as_ref() }
    }
}

/// A segment of the run as pointer and length, to be kept beside what keeps the run alive.
fn pointer(words: &[AtomicU64]) -> (NonNull<AtomicU64>, u32) {
    (NonNull::from(words).cast(), words.len() as u32)
}

impl std::ops::Deref for Seat {
    type Target = Run;

    fn deref(&self) -> &Run {
        &self.run
    }
}
