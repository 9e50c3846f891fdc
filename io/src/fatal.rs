//! What a thread that writes into the index does when it panics: it takes the node with it.
use crate::logging;
use std::process::exit;
use std::thread;

/// Kept by a thread that owns writers. Whatever its workers held at that moment they would be credited with for ever; or their
/// numbers would go to others, while lookups still take them for theirs.
#[derive(Debug)]
pub(crate) struct ExitOnPanic;

/// The exit code of an internal error.
pub(crate) const INTERNAL_ERROR: i32 = 70;

impl Drop for ExitOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            let thread = thread::current();
            let name = thread.name().unwrap_or_default();
            tracing::error!(
                name,
                "a thread that writes the index has panicked; the node ends"
            );
            logging::flush();
            exit(INTERNAL_ERROR);
        }
    }
}
