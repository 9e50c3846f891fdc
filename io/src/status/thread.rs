//! All that one thread that answers requests counts.
use super::{LookupStatus, RequestStatus, RouteStatus, ThreadModels};
use std::ops::Deref;
use std::sync::Arc;

/// Counters of one thread, which alone writes them; read by anybody. Aligned so that threads do not write into one
/// cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ThreadStatus {
    /// What was chosen.
    pub routes: RouteStatus,
    /// The same by model.
    pub models: ThreadModels,
    /// What became of lookups.
    pub lookups: LookupStatus,
    /// What became of requests.
    pub requests: RequestStatus,
}

/// The calling thread's own among those of all threads.
#[derive(Clone, Debug)]
pub struct OwnStatus {
    all: Arc<[ThreadStatus]>,
    own: usize,
}

impl OwnStatus {
    /// The thread of this number; there must be one.
    #[must_use]
    pub fn of(all: Arc<[ThreadStatus]>, own: usize) -> Self {
        debug_assert!(own < all.len(), "a thread of that number");
        Self { all, own }
    }

    /// Those of all threads.
    #[must_use]
    pub const fn all(&self) -> &Arc<[ThreadStatus]> {
        &self.all
    }
}

impl Deref for OwnStatus {
    type Target = ThreadStatus;

    fn deref(&self) -> &ThreadStatus {
        &self.all[self.own]
    }
}
