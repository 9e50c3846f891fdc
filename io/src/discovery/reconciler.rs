//! The thread that brings the fleet to what its sources describe, portion by portion.
use crate::fatal::ExitOnPanic;
use crate::fleet::{Fleet, Reconciled};
use crate::limits::{ENTER_AGAIN, ENTER_PAUSE, LOOK_PAUSE};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, after, bounded, never, select};
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

/// The thread. Dropping it ends it.
#[derive(Debug)]
pub struct Reconciler {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Reconciler {
    /// Starts it.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(fleet: &Arc<Fleet>) -> io::Result<Self> {
        let (stop, stopped) = bounded(0);
        let fleet = Arc::clone(fleet);
        let thread = thread::Builder::new()
            .name("kvroute-fleet".to_owned())
            .spawn(move || {
                let _watch = ExitOnPanic;
                run(&fleet, &stopped);
            })?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Reconciler {
    fn drop(&mut self) {
        self.stop = None;
        if self.thread.take().is_some_and(|t| t.join().is_err()) {
            tracing::error!("the thread that follows the sources of pods has panicked");
        }
    }
}

fn run(fleet: &Fleet, stopped: &Receiver<()>) {
    loop {
        let Reconciled { more, no_room, .. } = fleet.reconcile();
        let pause = match more {
            true => ENTER_PAUSE + ENTER_PAUSE.mul_f64(fastrand::f64()),
            false => LOOK_PAUSE,
        };
        if stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
            return;
        }
        if more {
            continue;
        }
        let again = if no_room { after(ENTER_AGAIN) } else { never() };
        select! {
            recv(stopped) -> _ => return,
            recv(fleet.looks()) -> _ => {}
            recv(again) -> _ => {}
        }
    }
}
