//! What is learnt from the node's own decisions, on a thread of its own.
//!
//! A request that was just routed will be cached where it went, before its events tell so (speculative); and of a pod
//! without events, where requests went is all that is known (approximate). Those who answer put a `record` of each
//! decision into a bounded queue; the thread enters it into the `book`, whose predictions stand in the
//! index like any other worker's blocks. What a worker with events is expected to hold is under a number that only
//! its `subject` names, so nothing that asks for what workers hold can take it for that.
mod book;
mod record;
mod status;
mod subject;
#[cfg(test)]
mod tests;

pub use book::Book;
pub use record::Record;
pub use status::{LearnStatus, Unlearnt};
pub use subject::Subject;

use crate::fatal::ExitOnPanic;
use crate::limits::{
    PREDICT_BATCH, PREDICT_LINGER, PREDICT_PAUSE, PREDICT_QUEUE_MAX, PREDICT_QUEUED_BYTES_MAX,
    PREDICT_SWEEP,
};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};
use kvroute_engine::{Index, Writer};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long and how much is learnt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LearnConfig {
    /// For how long a prompt counts as cached at a worker with events; `None` for not at all.
    pub speculative: Option<Duration>,
    /// The same for workers without events.
    pub approximate: Duration,
    /// Blocks of one worker.
    pub max_blocks: usize,
    /// Whether decisions are not followed, only compared: nothing is learnt from them then.
    pub shadow: bool,
}

/// The queue to the thread is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the queue of decisions is full")]
pub struct Busy;

/// The thread that learns. Dropping it stops it, and forgets all.
#[derive(Debug)]
pub struct Learner {
    messages: Option<Sender<Message>>,
    shared: Arc<Shared>,
    config: LearnConfig,
    join: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Message {
    Record(Record),
    /// A worker without events.
    Add(Arc<Subject>, Box<Writer>),
    /// Something has changed: see [`Shared::look`].
    Look,
}

#[derive(Debug, Default)]
struct Shared {
    status: Arc<LearnStatus>,
    /// Bytes of prompts in the queue. A number that bounds itself, so Relaxed.
    queued: AtomicUsize,
    /// Workers have left, or engines restarted. What is told by it is in the subjects, which are looked at anew each
    /// second in any case, so Relaxed.
    look: AtomicBool,
}

impl Learner {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(index: &Arc<Index>, config: LearnConfig) -> io::Result<Self> {
        let (messages, received) = bounded(PREDICT_QUEUE_MAX);
        let shared = Arc::new(Shared::default());
        let (index, ours) = (Arc::clone(index), Arc::clone(&shared));
        let join = thread::Builder::new()
            .name("kvroute-predict".to_owned())
            .spawn(move || {
                let _watch = ExitOnPanic;
                run(&index, config, &received, &ours);
            })?;
        Ok(Self {
            messages: Some(messages),
            shared,
            config,
            join: Some(join),
        })
    }

    /// Without its thread: what is sent waits.
    #[cfg(test)]
    fn stalled(config: LearnConfig) -> (Self, Receiver<Message>) {
        let (messages, received) = bounded(PREDICT_QUEUE_MAX);
        let learner = Self {
            messages: Some(messages),
            shared: Arc::default(),
            config,
            join: None,
        };
        (learner, received)
    }

    /// Whether it is of use to record that a decision goes to this worker.
    #[must_use]
    pub fn learns_of(&self, subject: &Subject) -> bool {
        !self.config.shadow && (subject.is_approximate() || self.config.speculative.is_some())
    }

    /// Takes over a worker without events, with its own writer. Never blocks.
    ///
    /// # Errors
    /// The queue is full.
    pub fn add(&self, subject: &Arc<Subject>, writer: Writer) -> Result<(), Busy> {
        self.send(Message::Add(Arc::clone(subject), Box::new(writer)))
    }

    /// Lets a worker go: soon nothing is left of what was learnt of it. Never blocks.
    pub fn remove(&self, subject: &Subject) {
        subject.leave();
        self.look();
    }

    /// Tells that restarts of engines were counted. Never blocks.
    pub fn look(&self) {
        self.shared.look.store(true, Relaxed);
        // If there is no room, the thread is awake.
        let _ = self.send(Message::Look);
    }

    /// Learns from a decision soon. Never blocks: without room it is not learnt from, which is counted.
    pub fn record(&self, record: Record) {
        let bytes = record.bytes();
        let queued = &self.shared.queued;
        let fits = queued.fetch_add(bytes, Relaxed) + bytes <= PREDICT_QUEUED_BYTES_MAX;
        if !fits || self.send(Message::Record(record)).is_err() {
            queued.fetch_sub(bytes, Relaxed);
            self.status().add_unlearnt(Unlearnt::QueueFull);
        }
    }

    /// What was learnt, and what was not.
    #[must_use]
    pub fn status(&self) -> &LearnStatus {
        &self.shared.status
    }

    fn send(&self, message: Message) -> Result<(), Busy> {
        let messages = self.messages.as_ref().ok_or(Busy)?;
        messages.try_send(message).map_err(|_| Busy)
    }
}

impl Drop for Learner {
    fn drop(&mut self) {
        self.messages = None;
        if self.join.take().is_some_and(|join| join.join().is_err()) {
            tracing::error!("the thread that learns from decisions has panicked");
        }
    }
}

fn run(index: &Arc<Index>, config: LearnConfig, messages: &Receiver<Message>, shared: &Shared) {
    let begun = Instant::now();
    let now = || u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let mut book = Book::new(index, config, Arc::clone(&shared.status));
    let (mut linger, mut sweep) = (begun, begun + PREDICT_SWEEP);
    loop {
        let mut handled = 0;
        while handled < PREDICT_BATCH {
            match messages.try_recv() {
                Ok(message) => take(&mut book, message, shared, now()),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return,
            }
            handled += 1;
        }
        let more = book.expire(now());
        if shared.look.swap(false, Relaxed) || Instant::now() >= sweep {
            book.sweep(now());
            sweep = Instant::now() + PREDICT_SWEEP;
        }
        if handled > 0 {
            linger = Instant::now() + PREDICT_LINGER;
        }
        if more || handled == PREDICT_BATCH {
            continue;
        }
        if Instant::now() < linger {
            thread::sleep(PREDICT_PAUSE);
            continue;
        }
        let received = match wait(&book, now()) {
            Some(time) => messages.recv_timeout(time),
            None => messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match received {
            Ok(message) => {
                take(&mut book, message, shared, now());
                linger = Instant::now() + PREDICT_LINGER;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn take(book: &mut Book, message: Message, shared: &Shared, now: u64) {
    match message {
        Message::Record(record) => {
            book.learn(&record, now);
            shared.queued.fetch_sub(record.bytes(), Relaxed);
        }
        Message::Add(subject, writer) => book.add(subject, *writer, now),
        Message::Look => {}
    }
}

/// How long there is nothing to do; `None` until there is a message.
fn wait(book: &Book, now: u64) -> Option<Duration> {
    if book.is_empty() {
        return None;
    }
    let due = book.next_deadline();
    let due = due.map(|deadline| Duration::from_millis(deadline.saturating_sub(now)));
    Some(due.unwrap_or(PREDICT_SWEEP).min(PREDICT_SWEEP))
}
