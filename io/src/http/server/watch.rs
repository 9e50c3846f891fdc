//! What each connection of a thread does, how long it may, and who tells it to end.
//!
//! A connection has no timer. It notes what it does, and since when by the thread's coarse clock, in cells of its
//! record; every [`WATCH_INTERVAL`] the thread goes over all records and wakes the connections that are overdue.
//! For a request that costs a few stores, where a timer would be registered and taken out again.
use crate::limits::{HANDSHAKE_TIME_MAX, HEAD_BYTES_USUAL, HEADS_BYTES_MAX, WATCH_INTERVAL};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;
use tokio::sync::Notify;

/// What a connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activity {
    /// The TLS handshake.
    Handshake,
    /// Nothing has come since the last answer, which may be on its way.
    Idle,
    /// A head is arriving.
    Head,
    /// A request is being read and answered, within bounds of its own.
    Busy,
}

/// What a connection is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Go,
    /// To end after the request at hand.
    Finish,
    /// To end.
    End,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Record {
    activity: Cell<Activity>,
    /// By the thread's clock.
    since: Cell<u32>,
    /// Of the head that is arriving.
    head_bytes: Cell<usize>,
    order: Cell<Order>,
    waker: RefCell<Option<Waker>>,
}

/// A thread's connections. A place that is free keeps `None`, and its number is in `free`.
#[derive(Debug)]
pub(super) struct Watch {
    records: RefCell<Vec<Option<Rc<Record>>>>,
    free: RefCell<Vec<usize>>,
    clock: Cell<u32>,
    heads_bytes: Cell<usize>,
    stopping: Cell<bool>,
    /// Tells who waits for the last connection that one has gone.
    gone: Notify,
    idle_ticks: u32,
    head_ticks: u32,
}

/// A connection's place among those of its thread, given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) record: Rc<Record>,
    pub(super) watch: Rc<Watch>,
    at: usize,
}

impl Watch {
    pub(super) fn new(idle_time: Duration, head_time: Duration) -> Self {
        Self {
            records: RefCell::default(),
            free: RefCell::default(),
            clock: Cell::new(0),
            heads_bytes: Cell::new(0),
            stopping: Cell::new(false),
            gone: Notify::new(),
            idle_ticks: ticks(idle_time),
            head_ticks: ticks(head_time),
        }
    }

    /// A new connection.
    pub(super) fn enter(self: &Rc<Self>, activity: Activity) -> Place {
        let record = Rc::new(Record {
            activity: Cell::new(activity),
            since: Cell::new(self.clock.get()),
            head_bytes: Cell::new(0),
            order: Cell::new(if self.stopping.get() {
                Order::Finish
            } else {
                Order::Go
            }),
            waker: RefCell::new(None),
        });
        let mut records = self.records.borrow_mut();
        let at = self.free.borrow_mut().pop().unwrap_or(records.len());
        if at == records.len() {
            records.push(None);
        }
        records[at] = Some(Rc::clone(&record));
        Place {
            record,
            watch: Rc::clone(self),
            at,
        }
    }

    /// How many connections there are.
    pub(super) fn len(&self) -> usize {
        self.records.borrow().len() - self.free.borrow().len()
    }

    /// Tells all connections, and those that come, to end after the request at hand.
    pub(super) fn finish(&self) {
        self.stopping.set(true);
        for record in self.records.borrow().iter().flatten() {
            record.tell(Order::Finish);
        }
    }

    /// Waits until there is no connection.
    pub(super) async fn empty(&self) {
        while self.len() > 0 {
            self.gone.notified().await;
        }
    }

    /// Goes over all connections for ever.
    pub(super) async fn keep(&self) {
        /// Looked at in one go: some 10 us.
        const PORTION: usize = 512;
        let mut ticks = tokio::time::interval(WATCH_INTERVAL);
        // A clock that jumps would make connections overdue that had no time.
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.clock.set(self.clock.get().wrapping_add(1));
            let mut from = 0;
            while self.look(from, PORTION) {
                from += PORTION;
                tokio::task::yield_now().await;
            }
        }
    }

    /// Looks at some of the connections; `false` if there are none beyond.
    fn look(&self, from: usize, count: usize) -> bool {
        let records = self.records.borrow();
        for record in records.iter().skip(from).take(count).flatten() {
            let age = self.clock.get().wrapping_sub(record.since.get());
            let most = match record.activity.get() {
                Activity::Handshake => ticks(HANDSHAKE_TIME_MAX),
                Activity::Idle => self.idle_ticks,
                Activity::Head => self.head_ticks,
                Activity::Busy => continue,
            };
            if age > most {
                record.tell(Order::End);
            }
        }
        from + count < records.len()
    }
}

/// Ticks of the clock that surely take so long: the first one may come at once.
fn ticks(time: Duration) -> u32 {
    let ticks = time.as_nanos().div_ceil(WATCH_INTERVAL.as_nanos());
    u32::try_from(ticks).unwrap_or(u32::MAX / 2)
}

/// What of a head's bytes is beyond the usual.
fn unusual(bytes: usize) -> usize {
    bytes.saturating_sub(HEAD_BYTES_USUAL)
}

impl Record {
    fn tell(&self, order: Order) {
        self.order.set(order);
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// What the connection is told, once. It is woken when that changes.
    pub(super) fn take_order(&self, waker: &Waker) -> Order {
        let mut known = self.waker.borrow_mut();
        if known.as_ref().is_none_or(|known| !known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
        self.order.replace(Order::Go)
    }

    pub(super) fn activity(&self) -> Activity {
        self.activity.get()
    }
}

impl Place {
    /// Does something else from now on.
    pub(super) fn turn_to(&self, activity: Activity) {
        self.record.activity.set(activity);
        self.record.since.set(self.watch.clock.get());
        if activity != Activity::Head {
            let heads = self.watch.heads_bytes.get();
            let bytes = unusual(self.record.head_bytes.take());
            self.watch.heads_bytes.set(heads - bytes);
        }
    }

    /// Bytes have come. `false` if they make a head larger than usual, and such heads take too much memory: whoever
    /// sends what everybody sends is never turned away because of others.
    pub(super) fn received(&self, bytes: usize) -> bool {
        match self.record.activity.get() {
            Activity::Busy | Activity::Handshake => return true,
            Activity::Idle if bytes > 0 => self.turn_to(Activity::Head),
            Activity::Idle | Activity::Head => {}
        }
        let before = self.record.head_bytes.get();
        self.record.head_bytes.set(before + bytes);
        let more = unusual(before + bytes) - unusual(before);
        let all = self.watch.heads_bytes.get() + more;
        self.watch.heads_bytes.set(all);
        more == 0 || all <= HEADS_BYTES_MAX
    }

    /// The client has taken bytes of an answer.
    pub(super) fn sent(&self) {
        if self.record.activity.get() == Activity::Idle {
            self.record.since.set(self.watch.clock.get());
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.turn_to(Activity::Idle);
        self.watch.records.borrow_mut()[self.at] = None;
        self.watch.free.borrow_mut().push(self.at);
        if self.watch.stopping.get() {
            self.watch.gone.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch() -> Rc<Watch> {
        Rc::new(Watch::new(2 * WATCH_INTERVAL, WATCH_INTERVAL))
    }

    /// Lets the clock go on, and looks at all.
    fn tick(watch: &Watch) {
        watch.clock.set(watch.clock.get().wrapping_add(1));
        watch.look(0, usize::MAX / 2);
    }

    fn order(place: &Place) -> Order {
        place.record.take_order(Waker::noop())
    }

    #[test]
    fn who_is_overdue_is_told_once() {
        let watch = watch();
        watch.clock.set(u32::MAX);
        let (idle, slow, busy) = (
            watch.enter(Activity::Idle),
            watch.enter(Activity::Idle),
            watch.enter(Activity::Idle),
        );
        assert!(slow.received(1) && busy.received(1));
        busy.turn_to(Activity::Busy);
        let told = || [order(&idle), order(&slow), order(&busy)];
        tick(&watch);
        assert_eq!(told(), [Order::Go; 3]);
        tick(&watch);
        assert_eq!(told(), [Order::Go, Order::End, Order::Go]);
        tick(&watch);
        assert_eq!(told(), [Order::End, Order::End, Order::Go]);
        // More of the head does not make it younger, an answer that is taken does.
        assert!(slow.received(1));
        idle.sent();
        tick(&watch);
        assert_eq!(told(), [Order::Go, Order::End, Order::Go]);
    }

    #[test]
    fn heads_are_counted_while_they_arrive() {
        let watch = watch();
        let (one, other) = (watch.enter(Activity::Idle), watch.enter(Activity::Idle));
        assert!(one.received(HEAD_BYTES_USUAL + HEADS_BYTES_MAX));
        // The usual has room in any case.
        assert!(other.received(HEAD_BYTES_USUAL));
        assert!(!other.received(1));
        one.turn_to(Activity::Busy);
        // A body has bounds of its own.
        assert!(one.received(2 * HEADS_BYTES_MAX));
        assert!(other.received(HEADS_BYTES_MAX - 1));
        assert!(!other.received(1));
        drop((one, other));
        assert_eq!((watch.heads_bytes.get(), watch.len()), (0, 0));
    }

    #[test]
    fn places_are_used_again_and_newcomers_are_told_to_finish() {
        let watch = watch();
        let first = watch.enter(Activity::Idle);
        let second = watch.enter(Activity::Idle);
        drop(first);
        let third = watch.enter(Activity::Idle);
        assert_eq!((watch.len(), watch.records.borrow().len()), (2, 2));
        watch.finish();
        let fourth = watch.enter(Activity::Idle);
        let told: Vec<_> = [&second, &third, &fourth].map(order).into();
        assert_eq!(told, [Order::Finish; 3]);
    }
}
