//! The part of a node's start that goes on while it answers: something to start from is had, then it watches until the node is
//! ready.
use crate::config::Config;
use crate::fatal::ExitOnPanic;
use crate::fleet::Fleet;
use crate::limits::START_GLANCE;
use crate::warm;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Instant;

/// The start of a node. Dropping it gives up what is left of it.
#[derive(Debug)]
pub struct Starting {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Starting {
    /// From now on the fleet knows whether it has to wait for something to start from.
    pub fn announce(config: &Config, fleet: &Fleet) {
        let place = match (&config.peers[..], &config.snapshot_dir) {
            ([], None) => return,
            ([], Some(folder)) => format!("the snapshot in {}", folder.display()),
            (peers, _) => format!("peers are asked ({})", peers.len()),
        };
        fleet.start().seeks(&place);
    }

    /// Goes on with the start.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn begin(config: &Config, fleet: &Arc<Fleet>) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (config, fleet, stopped) = (config.clone(), Arc::clone(fleet), Arc::clone(&stop));
        let thread = thread::Builder::new().name("kvroute-start".to_owned());
        let thread = thread.spawn(move || {
            let _watch = ExitOnPanic;
            run(&config, &fleet, &stopped);
        })?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }

    /// Gives up what is left of it, soon.
    pub fn stop(&self) {
        // Relaxed: a wish, nothing is read because of it.
        self.stop.store(true, Relaxed);
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        self.stop();
        if self.thread.take().is_some_and(|t| t.join().is_err()) {
            tracing::error!("the thread of the start has panicked");
        }
    }
}

fn run(config: &Config, fleet: &Fleet, stop: &AtomicBool) {
    if fleet.start().is_seeking() {
        seek(config, fleet, stop);
    }
    // Requests judge it, too; that the moment is not missed, and told in the log, is up to this thread.
    while !stop.load(Relaxed) {
        let _ = fleet.readiness();
        if fleet.start().is_settled() {
            return;
        }
        thread::sleep(START_GLANCE);
    }
}

/// Decides what to start from, unless it is told to stop.
fn seek(config: &Config, fleet: &Fleet, stop: &AtomicBool) {
    let mut found = None;
    if !config.peers.is_empty() {
        found = warm::from_peers(&config.peers, config.hash_seed.0, stop);
    }
    if let (None, Some(folder)) = (&found, &config.snapshot_dir) {
        let place = format!("the snapshot in {}", folder.display());
        fleet.start().seeks(&place);
        found = warm::from_folder(folder, config.hash_seed.0, stop);
    }
    if stop.load(Relaxed) {
        // Nothing is decided: pods that came now would begin with nothing.
        return;
    }
    if let Some(snapshot) = found {
        fleet.start_from(snapshot);
    }
    fleet.start().decided(Instant::now());
}
