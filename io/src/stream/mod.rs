//! From engines' sockets to the index: one writer for each worker, on the thread that owns its sockets.
//!
//! `sequence` judges batches by their numbers and `replay` reads frames: both pure. `socket` is the only
//! file that knows ZeroMQ; `apply` takes a batch apart into the writer, by what `groups` knows of the engine's cache groups; `worker` ties these together for
//! one worker; `pinned` is the loop of an IO thread.
mod apply;
mod groups;
mod pinned;
pub mod replay;
pub mod sequence;
pub mod socket;
mod worker;

use crate::limits::{COMMANDS_MAX, REPLAY_TIME_MAX, THREADS_MAX};
use crate::status::WorkerStatus;
use crossbeam_channel::{Sender, bounded};
use crossbeam_queue::SegQueue;
use kvroute_engine::types::WorkerId;
use kvroute_engine::{Index, Writer};
use mio::{Poll, Waker};
use socket::Sockets;
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

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
    /// Time without progress after which a replay has failed.
    pub replay_time: Duration,
}

impl Default for StreamsConfig {
    /// One thread, not pinned.
    fn default() -> Self {
        Self {
            threads: 1,
            pin: false,
            replay_time: REPLAY_TIME_MAX,
        }
    }
}

/// The IO threads. Dropping it stops and joins them.
#[derive(Debug)]
pub struct Streams {
    threads: Vec<Thread>,
    /// Which thread has which worker.
    placed: Mutex<BTreeMap<WorkerId, usize>>,
}

/// The handle of one IO thread.
#[derive(Debug)]
struct Thread {
    inbox: Arc<Inbox>,
    commands: Sender<NewWorker>,
    waker: Waker,
    join: Option<JoinHandle<()>>,
}

/// What others tell an IO thread beside new workers.
#[derive(Debug, Default)]
struct Inbox {
    /// Workers to be removed. No bound of its own: a worker that was added is removed once.
    removed: SegQueue<WorkerId>,
    /// Workers whose engine's life is to be verified. The probe tells of each once an interval at most.
    verified: SegQueue<WorkerId>,
    /// Workers whose engine computes and is not heard. As above, and rarer.
    unheard: SegQueue<WorkerId>,
    stop: AtomicBool,
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
        let sockets = Sockets::default();
        let mut streams = Self {
            threads: Vec::new(),
            placed: Mutex::default(),
        };
        for n in 0..config.threads.clamp(1, THREADS_MAX) {
            let poll = Poll::new()?;
            let waker = Waker::new(poll.registry(), pinned::WAKE)?;
            let (sender, receiver) = bounded(COMMANDS_MAX);
            let inbox = Arc::<Inbox>::default();
            let core = cores.get(n % cores.len().max(1)).copied();
            let setup = pinned::Setup {
                index: Arc::clone(index),
                sockets: sockets.clone(),
                replay_time: config.replay_time,
                commands: receiver,
                inbox: Arc::clone(&inbox),
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
                waker,
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
        let mut loads = vec![0_usize; self.threads.len()];
        placed.values().for_each(|&thread| loads[thread] += 1);
        let least = (0..loads.len())
            .min_by_key(|&thread| loads[thread])
            .unwrap_or(0);
        let id = worker.writer.id();
        let thread = &self.threads[least];
        thread.commands.try_send(worker).map_err(|_| QueueFull)?;
        placed.insert(id, least);
        drop(placed);
        thread.wake();
        Ok(())
    }

    /// Unsubscribes; all that the worker held is removed from the index. Never blocks, never fails.
    pub fn remove(&self, worker: WorkerId) {
        let mut placed = self.placed.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(thread) = placed.remove(&worker) else {
            return;
        };
        drop(placed);
        let thread = &self.threads[thread];
        thread.inbox.removed.push(worker);
        thread.wake();
    }
}

impl Streams {
    /// Has the worker's thread find out whether its engine still lives the life that its batches are
    /// of. Never blocks; an unknown worker is ignored.
    pub fn verify(&self, worker: WorkerId) {
        self.tell(worker, |inbox| &inbox.verified);
    }

    /// Tells the worker's thread that its engine computed what it did not publish. Never blocks; an
    /// unknown worker is ignored.
    pub fn unheard(&self, worker: WorkerId) {
        self.tell(worker, |inbox| &inbox.unheard);
    }

    fn tell(&self, worker: WorkerId, queue: impl FnOnce(&Inbox) -> &SegQueue<WorkerId>) {
        let placed = self.placed.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(&thread) = placed.get(&worker) else {
            return;
        };
        drop(placed);
        let thread = &self.threads[thread];
        queue(&thread.inbox).push(worker);
        thread.wake();
    }
}

/// An IO thread that panics takes the node with it: its workers would stay credited with what they
/// held at that moment, for ever.
struct ExitOnPanic;

/// The exit code of an internal error.
const INTERNAL_ERROR: i32 = 70;

impl Drop for ExitOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            tracing::error!("an IO thread has panicked; the node ends");
            std::process::exit(INTERNAL_ERROR);
        }
    }
}

impl Thread {
    fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            tracing::error!(%error, "cannot wake an IO thread");
        }
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        for thread in &self.threads {
            // Release: pairs with the Acquire in the loop.
            thread.inbox.stop.store(true, Ordering::Release);
            thread.wake();
        }
        for thread in &mut self.threads {
            if thread.join.take().is_some_and(|join| join.join().is_err()) {
                tracing::error!("an IO thread has panicked");
            }
        }
    }
}
