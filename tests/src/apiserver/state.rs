//! What the server's tasks and the test share.
use super::access::Access;
use super::faults::{Faults, StreamFault};
use super::requests::Requests;
use super::store::Store;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::{broadcast, watch};

/// Orders to watches that wait to be carried out; a watch that is that late is ended.
const ORDERS_MAX: usize = 64;

/// Everything behind one lock: none of it is held across a wait.
#[derive(Debug)]
pub(super) struct State {
    pub(super) store: Store,
    pub(super) access: Access,
    pub(super) requests: Requests,
    pub(super) faults: Faults,
    /// Whether `sendInitialEvents` is known here.
    pub(super) streaming_lists: bool,
}

/// An order to the watches that are open.
#[derive(Clone, Debug)]
pub(super) struct Order {
    /// The changes up to here are sent before.
    pub(super) version: u64,
    pub(super) fault: StreamFault,
}

/// What the server's tasks and the test share.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Says that there is something new in the store.
    pub(super) changed: watch::Sender<()>,
    pub(super) orders: broadcast::Sender<Order>,
    /// Says that all connections end.
    pub(super) broken: watch::Sender<()>,
    watches: AtomicUsize,
    connections: AtomicUsize,
}

/// Counts one thing as long as it exists.
#[derive(Debug)]
pub(super) struct Counted<'c>(&'c AtomicUsize);

impl<'c> Counted<'c> {
    fn new(count: &'c AtomicUsize) -> Self {
        // Relaxed, here and below: a count that stands for itself.
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    pub(super) fn new(history_max: usize) -> Self {
        Self {
            state: Mutex::new(State {
                store: Store::new(history_max),
                access: Access::default(),
                requests: Requests::default(),
                faults: Faults::default(),
                streaming_lists: true,
            }),
            changed: watch::Sender::new(()),
            orders: broadcast::Sender::new(ORDERS_MAX),
            broken: watch::Sender::new(()),
            watches: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the store, and tells the watches.
    pub(super) fn change<R>(&self, change: impl FnOnce(&mut Store) -> R) -> R {
        let result = change(&mut self.lock().store);
        self.changed.send_replace(());
        result
    }

    pub(super) fn count_watch(&self) -> Counted<'_> {
        Counted::new(&self.watches)
    }

    pub(super) fn count_connection(&self) -> Counted<'_> {
        Counted::new(&self.connections)
    }

    pub(super) fn watches(&self) -> usize {
        self.watches.load(Ordering::Relaxed)
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}
