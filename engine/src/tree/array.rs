//! Atomic words in segments that never move: a first one kept by the owner, further ones in a chain.
use super::Pin;
use super::tail;
use crate::sync::{AtomicPtr, AtomicU64, Ordering, Watch, prefetch_lines};
use std::ptr::{self, NonNull};

/// A further segment: zeroed words, and where the next one hangs.
#[derive(Debug)]
pub(crate) struct Segment {
    words: NonNull<AtomicU64>,
    len: u32,
    pub(crate) next: Chain,
    watch: Watch,
}

impl Segment {
    pub(crate) fn words(&self) -> &[AtomicU64] {
        self.watch.read();
        // SAFETY: made with `len` words behind it, which live as long as it does.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr(), self.len as usize) }
    }
}

/// The further segments of an owner: set once each, freed with the owner.
#[derive(Debug)]
pub(crate) struct Chain(AtomicPtr<Segment>);

impl Chain {
    pub(crate) fn empty() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    pub(crate) fn next(&self) -> Option<&Segment> {
        // Acquire: pairs with the Release in `next_or_grow`, so the words are seen zeroed or later.
        let at = self.0.load(Ordering::Acquire);
        // SAFETY: null, or a segment that lives until this chain is dropped. Its fields are not
        // changed but through atomics.
        unsafe { at.as_ref() }
    }

    /// The next segment, made with `len` words if there is none; the loser of a race frees its own.
    pub(crate) fn next_or_grow(&self, len: u32, pin: &Pin) -> &Segment {
        if let Some(there) = self.next() {
            return there;
        }
        let new = tail::allocate(len, |words| Segment {
            words,
            len,
            next: Self::empty(),
            watch: Watch::new(),
        });
        // Release: pairs with the Acquire in `next`. Acquire on failure: the winner's contents.
        let published = self.0.compare_exchange(
            ptr::null_mut(),
            new.as_ptr(),
            Ordering::Release,
            Ordering::Acquire,
        );
        match published {
            Ok(_) => {
                pin.took(tail::bytes::<Segment>(len));
                // SAFETY: owned by the chain from now on, see `next`.
                unsafe { new.as_ref() }
            }
            Err(there) => {
                // SAFETY: not published, so this is its only owner.
                unsafe { tail::free(new, len) };
                // SAFETY: not null, since the exchange failed; owned by the chain, see `next`.
                unsafe { &*there }
            }
        }
    }

    /// Asks for the next segment and the first `lines` cache lines of its words.
    #[inline]
    pub(crate) fn prefetch(&self, lines: usize) {
        // Relaxed: nothing is read there.
        let at = self.0.load(Ordering::Relaxed);
        if !at.is_null() {
            prefetch_lines(at.cast(), lines + 1);
        }
    }

    /// All segments, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Segment> {
        std::iter::successors(self.next(), |segment| segment.next.next())
    }

    /// Bytes of all segments. O(segments).
    pub(crate) fn bytes(&self) -> usize {
        self.iter()
            .map(|segment| tail::bytes::<Segment>(segment.len))
            .sum()
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        let mut next = std::mem::replace(&mut self.0, AtomicPtr::new(ptr::null_mut()));
        loop {
            // Relaxed: `&mut self` was handed over with synchronisation of its own.
            let Some(at) = NonNull::new(next.load(Ordering::Relaxed)) else {
                return;
            };
            // SAFETY: linked segments are owned by their chain, and nobody else can reach it any more.
            let segment = unsafe { &mut *at.as_ptr() };
            next = std::mem::replace(&mut segment.next.0, AtomicPtr::new(ptr::null_mut()));
            let len = segment.len;
            // SAFETY: as above; made by `next_or_grow` with this length.
            unsafe { tail::free(at, len) };
        }
    }
}
