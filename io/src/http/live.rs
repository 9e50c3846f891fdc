//! What an HTTP thread goes by that may change while it runs.
//!
//! The settings are replaced whole. Each thread keeps the latest that it has seen, and before each request compares its address
//! with that of those that hold: one relaxed load of a word that is written on SIGHUP only, so it stays in every core's
//! cache. Nothing is locked, counted or allocated unless they have changed.
use crate::config::RoutingConfig;
use arc_swap::{ArcSwap, Cache};
use hyper::HeaderMap;
use hyper::header::HeaderName;
use kvroute_engine::choose::{Policy, Rules};
use kvroute_engine::hash::checksum;
use std::sync::Arc;
use std::time::Duration;

/// Settings that can change.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Live {
    /// Time between being not ready and accepting no more connections.
    pub(super) drain_notice: Duration,
    /// Time for requests in flight after that.
    pub(super) drain_time: Duration,
    pub(super) routing: Routing,
}

/// How pods are chosen.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Routing {
    pub(super) habit: Habit,
    /// The header that names a request's session.
    session_header: Option<HeaderName>,
}

/// How a choice is made as far as the request does not say it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Habit {
    pub(super) policy: Policy,
    /// In tokens.
    pub(super) minimum_match: u64,
    /// The numbers of the policies.
    pub(super) rules: Rules,
}

impl Routing {
    /// What of these settings can change.
    pub(super) fn of(config: &RoutingConfig) -> Self {
        let header = config.session_header.as_deref();
        Self {
            habit: Habit {
                policy: config.policy,
                minimum_match: config.minimum_match,
                rules: config.rules,
            },
            session_header: header.and_then(|name| name.parse().ok()),
        }
    }

    /// The session that a request names, if sessions are minded. Of its name, which may be as long as heads are, only a hash is
    /// kept.
    pub(super) fn session(&self, headers: &HeaderMap) -> Option<u64> {
        let name = headers.get(self.session_header.as_ref()?)?.as_bytes();
        (!name.is_empty()).then(|| checksum(name))
    }
}

/// Those that hold, for all threads.
pub(super) type Shared = Arc<ArcSwap<Live>>;

/// Those that hold, as one thread has seen them.
#[derive(Debug)]
pub(super) struct Seen {
    latest: Cache<Shared, Arc<Live>>,
    now: Arc<Live>,
}

impl Seen {
    pub(super) fn new(shared: &Shared) -> Self {
        Self {
            latest: Cache::new(Arc::clone(shared)),
            now: shared.load_full(),
        }
    }

    /// Looks whether others hold by now.
    #[inline]
    pub(super) fn look(&mut self) {
        let latest = self.latest.load();
        if !Arc::ptr_eq(latest, &self.now) {
            self.now = Arc::clone(latest);
        }
    }
}

impl std::ops::Deref for Seen {
    type Target = Live;

    fn deref(&self) -> &Live {
        &self.now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn live(drain_notice: Duration) -> Live {
        Live {
            drain_notice,
            drain_time: Duration::ZERO,
            routing: Routing::of(&RoutingConfig::default()),
        }
    }

    #[test]
    fn what_changes_is_seen_at_the_next_look_and_costs_nothing_before() {
        let shared = Arc::new(ArcSwap::from_pointee(live(Duration::ZERO)));
        let mut seen = Seen::new(&shared);
        let first = Arc::downgrade(&shared.load_full());
        // Of the shared one, the cache and what is seen.
        assert_eq!(first.strong_count(), 3);
        let looked = allocation_counter::measure(|| (0..1_000).for_each(|_| seen.look()));
        assert_eq!((looked.count_total, first.strong_count()), (0, 3));
        shared.store(Arc::new(live(SECOND)));
        assert_eq!(seen.drain_notice, Duration::ZERO);
        seen.look();
        assert_eq!((seen.drain_notice, first.strong_count()), (SECOND, 0));
    }
}
