//! What the HTTP server tells everybody else: how many connections there are, and what was turned away.
use super::{SyncMode, now_ms};
use std::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

words! {
    /// Why a connection was ended, or a request turned away, before it was answered.
    Refused {
        /// There are as many connections as may be.
        Connections = "connections",
        /// The TLS handshake failed or took too long.
        Handshake = "handshake",
        /// The head of a request was not HTTP, or too large.
        Head = "head",
        /// The head of a request took too long.
        SlowHead = "slow_head",
        /// The heads that were arriving took too much memory.
        Heads = "heads",
        /// There were as many requests under way as may be.
        Requests = "requests",
        /// No bearer token, or not one that may do it.
        Token = "token",
        /// It is answered on the admin listener only.
        Listener = "listener",
        /// A browser sent it for a page of another site.
        CrossSite = "cross_site",
    }
}

words! {
    /// Files that are read again.
    Reloaded {
        /// The certificate and its key.
        Tls = "tls",
        /// A file of bearer tokens.
        Tokens = "tokens",
        /// The configuration.
        Configuration = "configuration",
    }
}

/// The HTTP server's counters. Each is only a number, so Relaxed, but for the two that threads act upon.
#[derive(Debug, Default)]
pub struct HttpStatus {
    connections: AtomicUsize,
    leaving: AtomicBool,
    refused: [AtomicU64; Refused::ALL.len()],
    reload_failures: [AtomicU64; Reloaded::ALL.len()],
    sync_mode: SyncMode,
    /// In milliseconds since 1970.
    started_ms: u64,
}

impl HttpStatus {
    /// Of a server that routes in this mode.
    #[must_use]
    pub fn of(sync_mode: SyncMode) -> Self {
        Self {
            sync_mode,
            started_ms: now_ms(),
            ..Self::default()
        }
    }

    /// Where knowledge of pods' caches comes from.
    #[must_use]
    pub const fn sync_mode(&self) -> SyncMode {
        self.sync_mode
    }

    /// When the server was started, in milliseconds since 1970.
    #[must_use]
    pub const fn started_ms(&self) -> u64 {
        self.started_ms
    }

    /// Takes a place among `most` connections; `false` if there is none.
    pub fn enter(&self, most: usize) -> bool {
        // Relaxed: a number that bounds itself, nothing is read because of it.
        let entered = self.connections.fetch_add(1, Relaxed) < most;
        if !entered {
            self.exit();
        }
        entered
    }

    /// Gives the place back.
    pub fn exit(&self) {
        self.connections.fetch_sub(1, Relaxed);
    }

    /// Connections that are open.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connections.load(Relaxed) as u64
    }

    /// The node is about to stop: it is not ready any more.
    pub fn leave(&self) {
        // Release: pairs with the Acquire in `is_leaving`.
        self.leaving.store(true, Release);
    }

    /// Whether the node is about to stop.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        // Acquire: pairs with the Release in `leave`.
        self.leaving.load(Acquire)
    }

    /// Counts one.
    pub fn add_refused(&self, why: Refused) {
        self.refused[why as usize].fetch_add(1, Relaxed);
    }

    /// What was turned away, by reason.
    pub fn refused(&self) -> impl Iterator<Item = (Refused, u64)> {
        let count = |why: &Refused| (*why, self.refused[*why as usize].load(Relaxed));
        Refused::ALL.iter().map(count)
    }

    /// Counts a file that was read again in vain.
    pub fn add_reload_failure(&self, what: Reloaded) {
        self.reload_failures[what as usize].fetch_add(1, Relaxed);
    }

    /// Files that were read again in vain.
    pub fn reload_failures(&self) -> impl Iterator<Item = (Reloaded, u64)> {
        let count = |what: &Reloaded| (*what, self.reload_failures[*what as usize].load(Relaxed));
        Reloaded::ALL.iter().map(count)
    }
}
