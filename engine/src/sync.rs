//! Atomics, std's or loom's, and the two shared cells that everything concurrent here is built from.
//!
//! [`OnceBox`] is a pointer that is set once and freed with its owner: for memory that only ever
//! grows. [`Rcu`] is a value that is replaced whole: readers keep the version that they loaded
//! until their pin ends.
use crossbeam_epoch::{Atomic, Guard, Owned};
use std::marker::PhantomData;
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

/// A box that is put in at most once and lives as long as its owner.
#[derive(Debug)]
pub(crate) struct OnceBox<T> {
    at: AtomicPtr<T>,
    owned: PhantomData<Box<T>>,
}

impl<T: Send + Sync> OnceBox<T> {
    pub(crate) fn empty() -> Self {
        Self {
            at: AtomicPtr::new(ptr::null_mut()),
            owned: PhantomData,
        }
    }

    pub(crate) fn get(&self) -> Option<&T> {
        // Acquire: pairs with the Release in `get_or_set`, so the contents are seen whole.
        let at = self.at.load(Ordering::Acquire);
        // SAFETY: null, or a box that was leaked into this cell and is freed only by `drop`, which
        // needs `&mut self`. Shared access from several threads is sound for `T: Sync`.
        unsafe { at.as_ref() }
    }

    /// What is there, or the new value; the loser of a race drops its own.
    pub(crate) fn get_or_set(&self, new: impl FnOnce() -> T) -> &T {
        if let Some(there) = self.get() {
            return there;
        }
        let new = Box::into_raw(Box::new(new()));
        let old = ptr::null_mut();
        // Release: pairs with the Acquire in `get`. Acquire on failure: the winner's contents.
        match self
            .at
            .compare_exchange(old, new, Ordering::Release, Ordering::Acquire)
        {
            // SAFETY: now owned by the cell, see `get`.
            Ok(_) => unsafe { &*new },
            Err(there) => {
                // SAFETY: `new` was not published, so this is its only owner.
                drop(unsafe { Box::from_raw(new) });
                // SAFETY: not null (the exchange failed), and owned by the cell, see `get`.
                unsafe { &*there }
            }
        }
    }
}

impl<T> Drop for OnceBox<T> {
    fn drop(&mut self) {
        // Relaxed: `&mut self` was handed over with synchronisation of its own.
        let at = self.at.load(Ordering::Relaxed);
        if !at.is_null() {
            // SAFETY: set once by `get_or_set` from a box, and nobody else can reach it any more.
            drop(unsafe { Box::from_raw(at) });
        }
    }
}

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
