//! A value with atomic words behind it, in one allocation: one cache miss instead of two.
//!
//! The value must keep the pointer to its words that it was made with: one derived from a reference
//! to the value alone may not reach past it.
use crate::sync::AtomicU64;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;

/// Where the words begin, and how large the whole is. Both are far below the address space, as
/// `words` is bounded by the callers to some ten thousand.
fn layout<H>(words: u32) -> (Layout, usize) {
    let tail = Layout::array::<AtomicU64>(words as usize);
    match tail.and_then(|tail| Layout::new::<H>().extend(tail)) {
        Ok(both) => both,
        Err(_) => unreachable!("a u32 of words fits the address space"),
    }
}

/// Bytes that [`allocate`] takes.
pub(crate) fn bytes<H>(words: u32) -> usize {
    layout::<H>(words).0.size()
}

/// Makes a value with `words` zeroed words behind it; `header` is told where they are.
pub(crate) fn allocate<H>(words: u32, header: impl FnOnce(NonNull<AtomicU64>) -> H) -> NonNull<H> {
    let (layout, offset) = layout::<H>(words);
    // SAFETY: every header here has fields, so the size is not zero.
    let whole = unsafe { alloc(layout) };
    let Some(whole) = NonNull::new(whole) else {
        handle_alloc_error(layout)
    };
    // SAFETY: the words begin within the allocation.
    let tail = unsafe { whole.add(offset) }.cast::<AtomicU64>();
    for at in 0..words as usize {
        // SAFETY: the layout has room for `words` of them from `tail` on.
        let word = unsafe { tail.add(at) };
        // SAFETY: as above, and aligned by the layout.
        unsafe { word.write(AtomicU64::new(0)) };
    }
    let at = whole.cast::<H>();
    // SAFETY: the allocation begins with room for the header, aligned by the layout.
    unsafe { at.write(header(tail)) };
    at
}

/// Drops the value and frees it and its words.
///
/// # Safety
/// `at` comes from `allocate::<H>(words, …)` with the same `words`, and nobody uses it any more.
pub(crate) unsafe fn free<H>(at: NonNull<H>, words: u32) {
    // SAFETY: the caller's promise. (Atomic words have nothing to drop.)
    unsafe { at.drop_in_place() };
    // SAFETY: the caller's promise: allocated with this layout.
    unsafe { dealloc(at.cast().as_ptr(), layout::<H>(words).0) };
}
