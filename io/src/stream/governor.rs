//! How many replays the node runs at once: engines answer them in the thread that publishes.
//!
//! A mutex, because it is taken twice a replay and never on the way of an event. Who is refused waits in
//! line and is told on its own IO thread when its turn has come.
use super::Inbox;
use kvroute_engine::types::WorkerId;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Hands out permits, at most so many at once.
#[derive(Debug)]
pub(super) struct Governor {
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    running: usize,
    /// In line; each worker is here once at most.
    waiting: VecDeque<(WorkerId, Arc<Inbox>)>,
}

/// One replay may run as long as this exists.
#[derive(Debug)]
pub(super) struct Permit(Arc<Governor>);

impl Governor {
    /// At most `most` replays at once, one at least.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most: most.max(1),
            state: Mutex::default(),
        })
    }

    /// A permit; or the worker is in line, and gets it through the inbox of its thread. A worker must not ask again
    /// before that. O(1).
    pub(super) fn ask(self: &Arc<Self>, worker: WorkerId, inbox: &Arc<Inbox>) -> Option<Permit> {
        let mut state = self.lock();
        if state.running < self.most {
            state.running += 1;
            return Some(Permit(Arc::clone(self)));
        }
        state.waiting.push_back((worker, Arc::clone(inbox)));
        None
    }

    /// Nobody is in line any more.
    pub(super) fn close(&self) {
        let waiting = std::mem::take(&mut self.lock().waiting);
        drop(waiting);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    /// Passes the permit on to the first in line.
    fn drop(&mut self) {
        let mut state = self.0.lock();
        let Some((worker, inbox)) = state.waiting.pop_front() else {
            state.running -= 1;
            return;
        };
        drop(state);
        inbox.grant(worker, Self(Arc::clone(&self.0)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvroute_engine::{Index, IndexConfig};

    fn workers() -> [WorkerId; 5] {
        let index = Index::new(IndexConfig::default());
        [(); 5].map(|()| index.writer("m").expect("room").id())
    }

    #[test]
    fn permits_are_bounded_and_passed_on_in_order() {
        let workers = workers();
        let governor = Governor::new(2);
        let inbox = Arc::new(Inbox::for_tests());
        let first = governor.ask(workers[0], &inbox).expect("room");
        let second = governor.ask(workers[1], &inbox).expect("room");
        assert!(governor.ask(workers[2], &inbox).is_none());
        assert!(governor.ask(workers[3], &inbox).is_none());
        drop(second);
        let (worker, third) = inbox.granted.pop().expect("passed on");
        assert_eq!(worker, workers[2]);
        assert!(inbox.granted.is_empty(), "one for one");
        drop(first);
        let (worker, fourth) = inbox.granted.pop().expect("passed on");
        assert_eq!(worker, workers[3]);
        drop((third, fourth));
        assert_eq!(governor.lock().running, 0);
        assert!(governor.ask(workers[4], &inbox).is_some());
    }

    /// A grant that its worker does not take is passed on, also from the thread that grants.
    #[test]
    fn a_permit_that_nobody_wants_is_not_lost() {
        let workers = workers();
        let governor = Governor::new(1);
        let inbox = Arc::new(Inbox::for_tests());
        let first = governor.ask(workers[0], &inbox);
        assert!(governor.ask(workers[1], &inbox).is_none());
        assert!(governor.ask(workers[2], &inbox).is_none());
        drop(first);
        drop(inbox.granted.pop().expect("worker 2"));
        let (worker, permit) = inbox.granted.pop().expect("worker 3");
        assert_eq!(worker, workers[2]);
        drop(permit);
        assert_eq!(governor.lock().running, 0);
    }
}
