//! Text into tokens, by the engines themselves: `POST /tokenize` of a pod that serves the model.
//!
//! HTTP threads have a [`Tokenizer`], look into the cache without waiting ([`Tokenizer::cached`]), and await what it does not
//! have ([`Tokenizer::tokens`]). One side thread does all the asking (`side`): equal prompts share a call; a call that
//! fails is made again, one that takes long gets another pod beside it (`remote`); a pod that fails again and again is
//! left alone for a while (`breaker`, `endpoints`). Everything is bounded, in time by the deadline of each prompt. Whoever gets
//! no tokens is told why ([`Failure`]), and goes on without.
//!
//! A model that has a tokenizer in this process (`local`) is asked for there first, once that agrees with the engines.
//!
//! `ask`, `items`, `key`, `answer`, `retry` and `breaker` are pure.
mod answer;
mod ask;
mod breaker;
mod cache;
mod client;
mod endpoints;
mod failure;
mod items;
mod key;
#[cfg(feature = "local-tokenizer")]
pub mod local;
#[cfg(not(feature = "local-tokenizer"))]
#[path = "no_local.rs"]
pub mod local;
mod remote;
mod retry;
mod side;
mod thread;
mod times;

pub use ask::{Ask, Asker, Unfit, Wanted};
pub use cache::Tokens;
pub use failure::{Counts, Failure};
pub use times::{Origin, Times};

use crate::config::TokenizerConfig;
use crate::fleet::Fleet;
use crate::limits::{TOKENIZER_BYTES_MAX, TOKENIZER_QUEUE_MAX};
use cache::Cache;
use local::{Crew, Locals, Models, OpenError};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};
use thread::Asking;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout_at;

/// Why the tokenizer cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A thread cannot be.
    #[error("cannot start the tokenizer: {0}")]
    Thread(#[from] io::Error),
    /// The folder of a local tokenizer cannot be used.
    #[error("local_tokenizers: {model}: {source}")]
    Local {
        /// Whose.
        model: String,
        /// What is wrong.
        source: OpenError,
    },
}

/// Whether the folders of local tokenizers can be used, without starting anything.
pub fn check(config: &TokenizerConfig) -> Result<(), StartError> {
    open(config).map(drop)
}

fn open(config: &TokenizerConfig) -> Result<Locals, StartError> {
    let locals = Locals::open(&config.local);
    locals.map_err(|(model, source)| StartError::Local { model, source })
}

/// A prompt's tokens, or why there are none.
pub type Outcome = Result<Tokens, Failure>;

/// Longest pause that an endpoint is given when it asks for one: a wish for years is not one.
const AFTER_MAX: Duration = Duration::from_hours(1);

/// The way to the tokenizer's thread, and its cache. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    shared: Arc<Shared>,
    jobs: mpsc::Sender<Job>,
    asking: Arc<Asking>,
}

/// What the tokenizer's thread and all who ask share.
#[derive(Debug)]
struct Shared {
    config: TokenizerConfig,
    /// Who is asked in place of the pods.
    endpoint: Option<Arc<str>>,
    fleet: Arc<Fleet>,
    cache: Cache,
    counts: Counts,
    locals: Locals,
    /// Bytes of prompts that are under way.
    held: AtomicUsize,
}

/// A prompt on its way to the thread.
#[derive(Debug)]
struct Job {
    ask: Ask,
    deadline: Instant,
    answer: oneshot::Sender<Outcome>,
    room: Room,
}

/// A prompt's part of [`Shared::held`], given back when dropped.
#[derive(Debug)]
struct Room {
    shared: Arc<Shared>,
    bytes: usize,
}

impl Room {
    /// None if there is not so much.
    fn take(shared: &Arc<Shared>, bytes: usize) -> Option<Self> {
        // Relaxed: a number that bounds itself, nothing is read because of it.
        let before = shared.held.fetch_add(bytes, Relaxed);
        let room = Self {
            shared: Arc::clone(shared),
            bytes,
        };
        (before + bytes <= TOKENIZER_BYTES_MAX).then_some(room)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.shared.held.fetch_sub(self.bytes, Relaxed);
    }
}

/// The running thread. Dropping it stops it; whoever waits gets [`Failure::Stopped`].
#[derive(Debug)]
pub struct Running {
    tokenizer: Tokenizer,
    crew: Option<Crew>,
    stop: Option<oneshot::Sender<()>>,
}

impl Tokenizer {
    /// Has it ready: its thread begins with the first prompt. Fails if the system gives none of the other threads, or if the folder of a local tokenizer
    /// cannot be used.
    pub fn start(config: &TokenizerConfig, fleet: &Arc<Fleet>) -> Result<Running, StartError> {
        let locals = open(config)?;
        let shared = Arc::new(Shared {
            endpoint: config.endpoint.as_deref().map(|endpoint| {
                let endpoint = endpoint.strip_prefix("http://").unwrap_or(endpoint);
                endpoint.trim_end_matches('/').into()
            }),
            fleet: Arc::clone(fleet),
            cache: Cache::new(config.cache, config.cache_time),
            counts: Counts::default(),
            locals,
            held: AtomicUsize::new(0),
            config: config.clone(),
        });
        let (jobs, incoming) = mpsc::channel(TOKENIZER_QUEUE_MAX);
        let (stop, stopped) = oneshot::channel();
        let tokenizer = Self {
            shared,
            jobs,
            asking: Arc::new(Asking::new(incoming, stopped)),
        };
        Ok(Running {
            crew: Some(Crew::start(&tokenizer)?),
            tokenizer,
            stop: Some(stop),
        })
    }

    /// The tokens of a prompt, if they are known. Never waits.
    #[must_use]
    pub fn cached(&self, ask: &Ask) -> Option<Tokens> {
        if ask.is_afresh() {
            return None;
        }
        let shared = &self.shared;
        let view = shared.fleet.view();
        let began = Instant::now();
        let tokens = shared.cache.get(&ask.key(), &view, began)?;
        shared.counts.add_cached();
        shared.counts.times().add(Origin::Cache, began.elapsed());
        Some(tokens)
    }

    /// The tokens of a prompt, within the deadline that is set. Needs a tokio runtime with its clock.
    pub async fn tokens(&self, ask: &Ask) -> Outcome {
        if let Some(tokens) = self.cached(ask) {
            return Ok(tokens);
        }
        let began = Instant::now();
        let deadline = began + self.shared.config.deadline;
        let times = self.shared.counts.times();
        if let Some(tokens) = self.shared.locals.tokens(&self.shared, ask, deadline).await {
            times.add(Origin::Local, began.elapsed());
            return Ok(tokens);
        }
        let outcome = self.ask(ask.clone(), deadline).await;
        self.shared.counts.add(&outcome);
        let took = began.elapsed();
        if outcome.is_ok() {
            times.add(Origin::Engine, took);
        }
        times.add_asked(&self.shared.fleet.view(), ask.model(), took);
        outcome
    }

    async fn ask(&self, ask: Ask, deadline: Instant) -> Outcome {
        let answered = self.send(ask, deadline)?;
        match timeout_at(deadline.into(), answered).await {
            Ok(answer) => answer.unwrap_or(Err(Failure::Stopped)),
            Err(_) => Err(Failure::Timeout),
        }
    }

    /// Gives a prompt to the thread.
    fn send(&self, ask: Ask, deadline: Instant) -> Result<oneshot::Receiver<Outcome>, Failure> {
        let room = Room::take(&self.shared, ask.body().len()).ok_or(Failure::Busy)?;
        let (answer, answered) = oneshot::channel();
        let job = Job {
            ask,
            deadline,
            answer,
            room,
        };
        self.asking.begin(&self.shared);
        self.jobs.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Failure::Busy,
            mpsc::error::TrySendError::Closed(_) => Failure::Stopped,
        })?;
        Ok(answered)
    }

    /// The models with a tokenizer in this process.
    #[must_use]
    pub fn locals(&self) -> &Models {
        self.shared.locals.models()
    }

    /// What it counts.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.shared.counts
    }

    /// Prompts whose tokens are kept, and the bytes they take.
    #[must_use]
    pub fn cache_size(&self) -> (u64, u64) {
        self.shared.cache.size()
    }
}

impl Running {
    /// The way to it.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The thread is told by the sender's end, too. Whoever compares gets an answer then.
        drop(self.stop.take());
        self.crew = None;
        self.tokenizer.asking.end();
    }
}
