//! The thread that asks engines: it begins with the first prompt, since callers that send token ids need none.
use super::{Job, Shared, side};
use crate::limits::TOKENIZER_RESOLVERS;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, oneshot};

/// What the thread is begun with.
type Start = (mpsc::Receiver<Job>, oneshot::Receiver<()>);

/// The thread, or what it will be begun with. If there is neither, jobs find their channel closed.
#[derive(Debug)]
pub(super) struct Asking {
    begun: OnceLock<()>,
    start: Mutex<Option<Start>>,
    join: Mutex<Option<JoinHandle<()>>>,
}

impl Asking {
    pub(super) fn new(incoming: mpsc::Receiver<Job>, stopped: oneshot::Receiver<()>) -> Self {
        Self {
            begun: OnceLock::new(),
            start: Mutex::new(Some((incoming, stopped))),
            join: Mutex::default(),
        }
    }

    /// Begins the thread, if nobody has. Whoever comes meanwhile waits for that.
    pub(super) fn begin(&self, shared: &Arc<Shared>) {
        self.begun.get_or_init(|| {
            let Some(start) = lock(&self.start).take() else {
                return;
            };
            match spawn(Arc::clone(shared), start) {
                Ok(join) => *lock(&self.join) = Some(join),
                // Whoever asks is told that it has stopped.
                Err(error) => tracing::error!(%error, "the tokenizer has no thread"),
            }
        });
    }

    /// Waits for the end of the thread, which was told before; none begins from now on.
    pub(super) fn end(&self) {
        self.begun.get_or_init(|| drop(lock(&self.start).take()));
        let join = lock(&self.join).take();
        if join.is_some_and(|join| join.join().is_err()) {
            tracing::error!("the tokenizer's thread has panicked");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn spawn(shared: Arc<Shared>, (incoming, stopped): Start) -> io::Result<JoinHandle<()>> {
    let thread = thread::Builder::new().name("kvroute-tokenize".to_owned());
    thread.spawn(move || {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(TOKENIZER_RESOLVERS)
            .build_local(LocalOptions::default());
        match runtime {
            Ok(runtime) => {
                runtime.block_on(side::run(shared, incoming, stopped));
                // A resolver that hangs is not waited for.
                runtime.shutdown_background();
            }
            // Whoever asks is told that it has stopped.
            Err(error) => tracing::error!(%error, "the tokenizer cannot run"),
        }
    })
}
