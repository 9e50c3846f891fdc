//! Atomics, std's or loom's, and what is built from them without regard to trees.
//!
//! [`Rcu`] is a value that is replaced whole: readers keep the version that they loaded until their
//! pin ends.
use crossbeam_epoch::{Atomic, Guard, Owned};
use std::ptr;

#[cfg(crossbeam_loom)]
pub(crate) use loom::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
#[cfg(not(crossbeam_loom))]
pub(crate) use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// Part of a shared node, so that a loom model sees a read of a node that is not published or already freed.
/// Nothing at all without loom.
#[derive(Debug)]
pub(crate) struct Watch {
    #[cfg(crossbeam_loom)]
    cell: loom::cell::UnsafeCell<u64>,
}

#[cfg_attr(
    not(crossbeam_loom),
    expect(clippy::unused_self, reason = "there is something to read under loom")
)]
impl Watch {
    pub(crate) fn new() -> Self {
        Self {
            #[cfg(crossbeam_loom)]
            cell: loom::cell::UnsafeCell::new(1),
        }
    }

    /// To be called by whoever reaches the node through a shared pointer.
    pub(crate) fn read(&self) {
        #[cfg(crossbeam_loom)]
        // SAFETY: written by `new` and `drop` only; loom reports it if one of them races with this.
        self.cell.with(|at| assert_eq!(unsafe { *at }, 1));
    }
}

#[cfg(crossbeam_loom)]
impl Drop for Watch {
    fn drop(&mut self) {
        // SAFETY: `&mut self` excludes every sound access; loom reports the others.
        self.cell.with_mut(|at| unsafe { *at = 0 });
    }
}

// SAFETY: read only while shared, see `read`.
#[cfg(crossbeam_loom)]
unsafe impl Sync for Watch {}

/// A value that is read without waiting and replaced whole.
///
/// The guards passed in must come from one collector for the life of the cell; `Index` sees to it.
#[derive(Debug)]
pub(crate) struct Rcu<T>(Atomic<T>);

impl<T: Send + Sync + 'static> Rcu<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Atomic::new(value))
    }

    pub(crate) fn load<'g>(&self, guard: &'g Guard) -> &'g T {
        // Acquire: pairs with the Release in `update`.
        let at = self.0.load(Ordering::Acquire, guard);
        // SAFETY: never null, and freed only after `guard` is dropped.
        unsafe { at.deref() }
    }

    /// Replaces the value by what `next` makes of it; `None` leaves it. Lock-free: a retry means
    /// that another update went through.
    pub(crate) fn update(&self, guard: &Guard, mut next: impl FnMut(&T) -> Option<T>) {
        loop {
            // Acquire: pairs with the Release below.
            let old = self.0.load(Ordering::Acquire, guard);
            // SAFETY: as in `load`.
            let Some(new) = next(unsafe { old.deref() }) else {
                return;
            };
            let new = Owned::new(new);
            // Release: pairs with the Acquire in `load`. Relaxed on failure: it is loaded again.
            let swapped =
                self.0
                    .compare_exchange(old, new, Ordering::Release, Ordering::Relaxed, guard);
            if swapped.is_ok() {
                // SAFETY: the exchange unlinked `old`; who still reads it is pinned since before.
                unsafe { guard.defer_destroy(old) };
                return;
            }
        }
    }
}

impl<T> Drop for Rcu<T> {
    fn drop(&mut self) {
        let last = std::mem::replace(&mut self.0, Atomic::null());
        // SAFETY: `&mut self` means that no reader is left, and the cell is never null before.
        drop(unsafe { last.into_owned() });
    }
}

/// Asks for the cache line of a value that is about to be read. Nothing but speed depends on it.
#[inline]
pub(crate) fn prefetch<T>(at: &T) {
    prefetch_lines(ptr::from_ref(at).cast(), 1);
}

/// Asks for `lines` cache lines from an address on, which may be anything.
#[inline]
pub(crate) fn prefetch_lines(at: *const u8, lines: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        for line in 0..lines {
            let at = at.wrapping_add(line * 64);
            // SAFETY: a hint, which reads nothing and cannot fault.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (at, lines);
}
