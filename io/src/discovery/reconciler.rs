//! The thread that brings the fleet to what its sources describe, portion by portion; it looks at the fleet file, too, and does
//! what is to be done each second.
use super::file::Watch;
use crate::fatal::ExitOnPanic;
use crate::fleet::{Fleet, Reconciled};
use crate::limits::{ENTER_AGAIN, ENTER_PAUSE, FLEET_FILE_INTERVAL, LOOK_PAUSE, SAMPLE_INTERVAL};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, after, bounded, never, select, tick};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

/// The thread. Dropping it ends it.
#[derive(Debug)]
pub struct Reconciler {
    stop: Option<Sender<()>>,
    /// One place: who asks again while it is asked asks for the same.
    ask: Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Reconciler {
    /// Starts it, with the fleet file if there is one. It calls `each_second` about every [`SAMPLE_INTERVAL`], late while a
    /// portion of the fleet is entered.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(
        fleet: &Arc<Fleet>,
        file: Option<&Path>,
        each_second: impl FnMut() + Send + 'static,
    ) -> io::Result<Self> {
        let (stop, stopped) = bounded(0);
        let (ask, asked) = bounded(1);
        let file = file.map(|path| Watch::new(path, fleet));
        let fleet = Arc::clone(fleet);
        let thread = thread::Builder::new()
            .name("kvroute-fleet".to_owned())
            .spawn(move || {
                let _watch = ExitOnPanic;
                run(&fleet, file, &stopped, &asked, each_second);
            })?;
        Ok(Self {
            stop: Some(stop),
            ask,
            thread: Some(thread),
        })
    }

    /// Reads the fleet file again soon, changed or not.
    pub fn reload(&self) {
        let _ = self.ask.try_send(());
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

fn run(
    fleet: &Fleet,
    mut file: Option<Watch>,
    stopped: &Receiver<()>,
    asked: &Receiver<()>,
    mut each_second: impl FnMut(),
) {
    let seconds = tick(SAMPLE_INTERVAL);
    let ticks = match file {
        Some(_) => tick(FLEET_FILE_INTERVAL),
        None => never(),
    };
    loop {
        let Reconciled { more, no_room, .. } = fleet.reconcile();
        let pause = match more {
            true => ENTER_PAUSE + ENTER_PAUSE.mul_f64(fastrand::f64()),
            false => LOOK_PAUSE,
        };
        if stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
            return;
        }
        if seconds.try_recv().is_ok() {
            each_second();
        }
        if more {
            continue;
        }
        let again = if no_room { after(ENTER_AGAIN) } else { never() };
        // What only the file has to say comes back as a look.
        loop {
            select! {
                recv(stopped) -> _ => return,
                recv(fleet.looks()) -> _ => break,
                recv(again) -> _ => break,
                recv(asked) -> _ => file.iter_mut().for_each(|file| file.read(true)),
                recv(seconds) -> _ => each_second(),
                recv(ticks) -> _ => file.iter_mut().for_each(Watch::look),
            }
        }
    }
}
