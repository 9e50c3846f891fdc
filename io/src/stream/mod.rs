//! From engines' sockets to the index: one writer for each worker, on the thread that owns its sockets.
//!
//! `sequence` judges batches by their numbers and `replay` reads frames: both pure. `apply` takes a batch apart into
//! the writer, by what `groups` knows of the engine's cache groups; `trust` says how far answers about it can be
//! trusted; `follow` ties these together for one worker, and still knows no socket. `socket` and `context` are the
//! only files that know ZeroMQ, `worker` feeds a follower from sockets, `governor` bounds the replays of all workers, `resolve` finds addresses,
//! `pinned` is the loop of an IO thread.
mod apply;
mod context;
mod distrust;
mod endpoints;
pub mod follow;
mod governor;
mod groups;
mod keep;
mod pinned;
pub mod replay;
mod resolve;
pub mod saved;
pub mod sequence;
pub mod socket;
mod timing;
mod trust;
mod worker;

use crate::fatal::ExitOnPanic;
use crate::limits::{COMMANDS_MAX, REPLAYS_DEFAULT, THREADS_MAX};
use crate::status::{IoStatus, WorkerStatus};
use crossbeam_channel::{Sender, bounded};
use crossbeam_queue::SegQueue;
use follow::Timing;
use governor::{Governor, Permit};
use kvroute_engine::types::WorkerId;
use kvroute_engine::{Index, Writer};
use mio::{Poll, Waker};
use resolve::{Answered, Resolver};
use saved::{Kept, SaveTo};
use socket::Sockets;
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// A worker to be subscribed to.
#[derive(Debug)]
pub struct NewWorker {
    /// Its place in the index; moves to the IO thread.
    pub writer: Writer,
    /// `tcp://host:port` (or ipc) of its PUB socket.
    pub events: String,
    /// The same of its replay ROUTER socket.
    pub replay: Option<String>,
    /// Where its IO thread reports.
    pub status: Arc<WorkerStatus>,
    /// `pod#rank`, for logs.
    pub name: String,
    /// What it was saved as.
    pub kept: Option<Kept>,
}

/// The queue of commands of an IO thread is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the queue of an IO thread is full")]
pub struct QueueFull;

/// How the IO threads run.
#[derive(Clone, Debug)]
pub struct StreamsConfig {
    /// Number of IO threads, taken as 1 to [`THREADS_MAX`].
    pub threads: usize,
    /// Whether to pin each to a core.
    pub pin: bool,
    /// How patient workers are, and how often they ask for replays.
    pub timing: Timing,
    /// Replays that run at once, at least one.
    pub replays: usize,
}

impl Default for StreamsConfig {
    /// One thread, not pinned.
    fn default() -> Self {
        Self {
            threads: 1,
            pin: false,
            timing: Timing::default(),
            replays: REPLAYS_DEFAULT,
        }
    }
}

/// The IO threads. Dropping it stops and joins them.
#[derive(Debug)]
pub struct Streams {
    threads: Vec<Thread>,
    placed: Mutex<Placed>,
    governor: Arc<Governor>,
}

/// Which thread has which worker, and how many each has.
#[derive(Debug, Default)]
struct Placed {
    threads: BTreeMap<WorkerId, usize>,
    loads: Vec<usize>,
}

/// The handle of one IO thread.
#[derive(Debug)]
struct Thread {
    inbox: Arc<Inbox>,
    commands: Sender<NewWorker>,
    measured: Arc<IoStatus>,
    join: Option<JoinHandle<()>>,
}

/// What others tell an IO thread beside new workers.
#[derive(Debug)]
struct Inbox {
    waker: Waker,
    /// Workers to be removed. No bound of its own: a worker that was added is removed once.
    removed: SegQueue<WorkerId>,
    /// At most one for each worker in each interval of the probes and for each window of feedback, one for each snapshot that is made and for each name
    /// that it asked for, and taken out whenever the thread wakes.
    notes: SegQueue<(WorkerId, Note)>,
    /// No more than the governor has permits.
    granted: SegQueue<(WorkerId, Permit)>,
    stop: AtomicBool,
}

/// What a worker is told.
#[derive(Debug)]
enum Note {
    /// Its engine may be another one than it was.
    Verify,
    /// Its engine was started anew.
    Restarted,
    /// It serves, but nothing is heard from it.
    Unheard,
    /// Its engine does not deliver what it is said to hold.
    Distrust,
    /// It is to be saved.
    Save(SaveTo),
    /// The names that it asked for have addresses, or not.
    Resolved(Answered),
}

impl Inbox {
    fn new(waker: Waker) -> Self {
        Self {
            waker,
            removed: SegQueue::new(),
            notes: SegQueue::new(),
            granted: SegQueue::new(),
            stop: AtomicBool::new(false),
        }
    }

    fn tell(&self, worker: WorkerId, note: Note) {
        self.notes.push((worker, note));
        self.wake();
    }

    fn grant(&self, worker: WorkerId, permit: Permit) {
        self.granted.push((worker, permit));
        self.wake();
    }

    fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            tracing::error!(%error, "cannot wake an IO thread");
        }
    }

    #[cfg(test)]
    fn for_tests() -> Self {
        let poll = Poll::new().expect("a descriptor");
        Self::new(Waker::new(poll.registry(), pinned::WAKE).expect("a descriptor"))
    }
}

impl Streams {
    /// Starts the threads.
    ///
    /// # Errors
    /// The system gives no thread or no descriptor.
    pub fn start(index: &Arc<Index>, config: &StreamsConfig) -> io::Result<Self> {
        let cores = match config.pin {
            true => core_affinity::get_core_ids().unwrap_or_default(),
            false => Vec::new(),
        };
        let threads = config.threads.clamp(1, THREADS_MAX);
        // One of libzmq's threads moves the bytes of four of ours.
        let sockets = Sockets::new(threads.div_ceil(4)).map_err(io::Error::other)?;
        let resolver = Resolver::default();
        let mut streams = Self {
            threads: Vec::new(),
            placed: Mutex::default(),
            governor: Governor::new(config.replays),
        };
        for n in 0..threads {
            let poll = Poll::new()?;
            let waker = Waker::new(poll.registry(), pinned::WAKE)?;
            let (sender, receiver) = bounded(COMMANDS_MAX);
            let inbox = Arc::new(Inbox::new(waker));
            let measured = Arc::<IoStatus>::default();
            let core = cores.get(n % cores.len().max(1)).copied();
            let setup = pinned::Setup {
                index: Arc::clone(index),
                sockets: sockets.clone(),
                governor: Arc::clone(&streams.governor),
                resolver: resolver.clone(),
                timing: config.timing,
                commands: receiver,
                inbox: Arc::clone(&inbox),
                measured: Arc::clone(&measured),
            };
            let join = thread::Builder::new()
                .name(format!("kvroute-io-{n}"))
                .spawn(move || {
                    let _watch = ExitOnPanic;
                    if core.is_some_and(|core| !core_affinity::set_for_current(core)) {
                        tracing::warn!(thread = n, "cannot pin an IO thread to its core");
                    }
                    pinned::run(poll, setup);
                })?;
            streams.threads.push(Thread {
                inbox,
                commands: sender,
                measured,
                join: Some(join),
            });
        }
        Ok(streams)
    }

    /// Subscribes to a worker, on the thread that has the fewest.
    ///
    /// # Errors
    /// The thread's queue is full; the worker is dropped.
    pub fn add(&self, worker: NewWorker) -> Result<(), QueueFull> {
        let mut placed = self.placed.lock().unwrap_or_else(PoisonError::into_inner);
        placed.loads.resize(self.threads.len(), 0);
        let loads = placed.loads.iter().enumerate();
        let least = loads.min_by_key(|&(_, load)| *load).map_or(0, |(at, _)| at);
        let id = worker.writer.id();
        let thread = &self.threads[least];
        thread.commands.try_send(worker).map_err(|_| QueueFull)?;
        placed.loads[least] += 1;
        placed.threads.insert(id, least);
        drop(placed);
        thread.inbox.wake();
        Ok(())
    }

    /// What each thread measures of its batches.
    pub fn measured(&self) -> impl Iterator<Item = &IoStatus> {
        self.threads.iter().map(|thread| &*thread.measured)
    }

    /// Unsubscribes; all that the worker held is removed from the index. Never blocks, never fails.
    pub fn remove(&self, worker: WorkerId) {
        let mut placed = self.placed.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(thread) = placed.threads.remove(&worker) else {
            return;
        };
        placed.loads[thread] -= 1;
        drop(placed);
        let thread = &self.threads[thread];
        thread.inbox.removed.push(worker);
        thread.inbox.wake();
    }

    /// The worker's engine may be another one than it was: it is to prove its life.
    pub fn verify(&self, worker: WorkerId) {
        self.note(worker, Note::Verify);
    }

    /// The worker's engine was started anew.
    pub fn restarted(&self, worker: WorkerId) {
        self.note(worker, Note::Restarted);
    }

    /// The worker's engine serves, but nothing is heard from it: stale until something is.
    pub fn unheard(&self, worker: WorkerId) {
        self.note(worker, Note::Unheard);
    }

    /// The worker's engine does not deliver what the worker is said to hold: it is distrusted, and had anew.
    pub fn distrust(&self, worker: WorkerId) {
        self.note(worker, Note::Distrust);
    }

    /// Saves a worker: `to` is called by its IO thread, soon; or is dropped if the worker goes before that.
    pub fn save(&self, worker: WorkerId, to: SaveTo) {
        self.note(worker, Note::Save(to));
    }

    fn note(&self, worker: WorkerId, note: Note) {
        let placed = self.placed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&thread) = placed.threads.get(&worker) {
            drop(placed);
            self.threads[thread].inbox.tell(worker, note);
        }
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.governor.close();
        for thread in &self.threads {
            // Release: pairs with the Acquire in the loop.
            thread.inbox.stop.store(true, Ordering::Release);
            thread.inbox.wake();
        }
        for thread in &mut self.threads {
            if thread.join.take().is_some_and(|join| join.join().is_err()) {
                tracing::error!("an IO thread has panicked");
            }
        }
    }
}
