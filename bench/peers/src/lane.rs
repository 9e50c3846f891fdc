//! The thread that applies Dynamo's events, and clocks inside it.
//!
//! The index applies an event only in its worker loop ([`SyncIndexer::worker`]), which takes tasks from
//! a channel; `ThreadPoolIndexer` runs that loop on its threads. This lane runs the same loop on one
//! thread, so that it can put marks between the events: a flush task's answer wakes its receiver on
//! the lane's own thread, and a waker of our own runs a closure there. With the first mark as a
//! gate and the last one as the finishing line, the time between the two is that of the events alone:
//! they wait in the channel before the gate opens, nobody else works meanwhile, and no other
//! thread has to be woken.
use crate::contender::Written;
use dynamo_kv_router::indexer::WorkerTask;
use dynamo_kv_router::protocols::RouterEvent;
use dynamo_kv_router::{ConcurrentRadixTreeCompressed, SyncIndexer};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::task::{Context, Wake, Waker};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// The thread and the way to it.
#[derive(Debug)]
pub(crate) struct Lane {
    tasks: flume::Sender<WorkerTask>,
    thread: Option<JoinHandle<()>>,
}

impl Lane {
    /// Starts it for an index.
    pub(crate) fn new(tree: Arc<ConcurrentRadixTreeCompressed>) -> Self {
        let (tasks, waiting) = flume::unbounded();
        let run = move || {
            if let Err(error) = tree.worker(waiting, None) {
                panic!("Dynamo's worker loop failed: {error}");
            }
        };
        Self {
            tasks,
            thread: Some(thread::spawn(run)),
        }
    }

    fn send(&self, task: WorkerTask) {
        send(&self.tasks, task);
    }

    /// Applies the events and says how long it took, from the gate to the finishing line.
    pub(crate) fn apply(&self, events: Vec<RouterEvent>) -> Duration {
        let begun = Arc::new(OnceLock::new());
        let (open, gate) = mpsc::channel();
        let (finish, line) = mpsc::channel();
        let started = Arc::clone(&begun);
        let first = Mark::new(move || {
            // An error says that the measuring thread has gone: there is nothing to wait for.
            let _ = gate.recv();
            let _ = started.set(Instant::now());
        });
        let last = Mark::new(move || {
            let _ = finish.send(Instant::now());
        });
        self.send(first.task);
        for event in events {
            self.send(WorkerTask::Event(event));
        }
        self.send(last.task);
        let _ = open.send(());
        let finished: Result<Instant, _> = line.recv();
        match (finished, begun.get()) {
            (Ok(finished), Some(&begun)) => finished - begun,
            _ => panic!("Dynamo's worker loop ended early"),
        }
    }

    /// Applies the batches again and again until told to stop. Copying a batch into the channel is not
    /// counted: the clock runs from its first event to its last.
    pub(crate) fn churn(&self, batches: Vec<Batch>, stop: &Arc<AtomicBool>) -> Written {
        let (finish, line) = mpsc::channel();
        let churn = Arc::new(Churn {
            tasks: self.tasks.clone(),
            batches,
            stop: Arc::clone(stop),
            finish,
            so_far: Mutex::default(),
        });
        churn.next(0);
        let written = line.recv();
        written.unwrap_or_else(|_| panic!("Dynamo's worker loop ended early"))
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        // If it cannot be sent, the loop has ended.
        let _ = self.tasks.send(WorkerTask::Terminate);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn send(tasks: &flume::Sender<WorkerTask>, task: WorkerTask) {
    let sent = tasks.send(task);
    assert!(sent.is_ok(), "Dynamo's worker loop has ended");
}

/// A task that runs a closure on the lane's thread. `kept` must live until it has run.
struct Mark {
    task: WorkerTask,
    kept: oneshot::Receiver<()>,
}

impl Mark {
    fn new(run: impl FnOnce() + Send + 'static) -> Self {
        let (answer, mut kept) = oneshot::channel();
        let hook = Hook(Mutex::new(Some(Box::new(run))));
        let waker = Waker::from(Arc::new(hook));
        let polled = Pin::new(&mut kept).poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending(), "nobody can have answered yet");
        let task = WorkerTask::Flush(answer);
        Self { task, kept }
    }
}

/// Runs its closure when woken.
struct Hook(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl Wake for Hook {
    fn wake(self: Arc<Self>) {
        let run = lock(&self.0).take();
        if let Some(run) = run {
            run();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Events that are applied together, and how many blocks they name.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    /// The events.
    pub(crate) events: Vec<RouterEvent>,
    /// Blocks in them.
    pub(crate) blocks: u64,
}

/// Batches that follow each other without another thread's help.
struct Churn {
    tasks: flume::Sender<WorkerTask>,
    batches: Vec<Batch>,
    stop: Arc<AtomicBool>,
    finish: mpsc::Sender<Written>,
    so_far: Mutex<(Written, Vec<oneshot::Receiver<()>>)>,
}

impl Churn {
    /// Puts a batch into the channel with marks around it; the second one comes back here, on the
    /// lane's own thread, so that the lane does not run ahead while the channel is filled.
    fn next(self: &Arc<Self>, at: usize) {
        let batch = &self.batches[at % self.batches.len()];
        let begun = Arc::new(OnceLock::new());
        let started = Arc::clone(&begun);
        let first = Mark::new(move || {
            let _ = started.set(Instant::now());
        });
        let churn = Arc::clone(self);
        let last = Mark::new(move || {
            let now = Instant::now();
            churn.written(at, begun.get().map_or(Duration::ZERO, |&begun| now - begun));
        });
        // Before sending: the last mark may run as soon as it is sent.
        lock(&self.so_far).1.extend([first.kept, last.kept]);
        send(&self.tasks, first.task);
        for event in batch.events.clone() {
            send(&self.tasks, WorkerTask::Event(event));
        }
        send(&self.tasks, last.task);
    }

    fn written(self: &Arc<Self>, at: usize, busy: Duration) {
        let so_far = {
            let (written, _) = &mut *lock(&self.so_far);
            // The first batch was sent by another thread while the lane ran: not counted.
            if at > 0 {
                written.blocks += self.batches[at % self.batches.len()].blocks;
                written.busy += busy;
            }
            *written
        };
        if self.stop.load(Ordering::Relaxed) && at > 0 {
            let _ = self.finish.send(so_far);
        } else {
            self.next(at + 1);
        }
    }
}
