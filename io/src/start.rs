//! The part of a node's start that goes on while it answers: something to start from is had, then pods are entered, then it
//! watches until the node is ready.
use crate::config::Config;
use crate::discovery::Discovery;
use crate::fatal::ExitOnPanic;
use crate::fleet::{Described, Fleet, PodSpec, Source};
use crate::limits::{START_AGAIN, START_GLANCE};
use crate::warm;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The start of a node, and what finds its pods from then on. Dropping it gives up what is left of the start, and ends what
/// finds pods; those that were found stay.
#[derive(Debug)]
pub struct Starting {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    discovery: Mutex<Option<Discovery>>,
}

impl Starting {
    /// From now on the fleet knows what it has to wait for; before the node answers.
    pub fn announce(config: &Config, fleet: &Fleet) {
        if let Some(place) = place(config) {
            fleet.start().seeks(&place);
        } else {
            fleet
                .start()
                .delayed(&"the sources of pods are being started");
        }
    }

    /// Goes on with the start, with the pods of the fleet file if there is one.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn begin(
        config: &Config,
        pods: Option<Vec<PodSpec>>,
        fleet: &Arc<Fleet>,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let start = Start {
            config: config.clone(),
            pods,
            fleet: Arc::clone(fleet),
            shared: Arc::clone(&shared),
        };
        let thread = thread::Builder::new().name("kvroute-start".to_owned());
        let thread = thread.spawn(move || {
            let _watch = ExitOnPanic;
            start.run();
        })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Gives up what is left of the start, soon. What finds pods goes on.
    pub fn stop(&self) {
        self.shared.stop.store(true, Relaxed);
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

/// Where something to start from may be.
fn place(config: &Config) -> Option<String> {
    match (&config.peers[..], &config.snapshot_dir) {
        ([], None) => None,
        ([], Some(folder)) => Some(format!("the snapshot in {}", folder.display())),
        (peers, _) => Some(format!("peers are asked ({})", peers.len())),
    }
}

/// What the thread of the start begins with.
struct Start {
    config: Config,
    pods: Option<Vec<PodSpec>>,
    fleet: Arc<Fleet>,
    shared: Arc<Shared>,
}

impl Start {
    fn run(mut self) {
        self.seek();
        if self.is_stopped() {
            return;
        }
        if let Some(pods) = self.pods.take() {
            let pods = pods.into_iter().map(Described::from);
            self.fleet.follow(Source::File, pods.collect(), Vec::new());
        }
        while !self.discover() {
            if self.pause(START_AGAIN) {
                return;
            }
        }
        // Requests judge it, too; that the moment is not missed, and told in the log, is up to this thread.
        loop {
            let _ = self.fleet.readiness();
            if self.fleet.start().is_settled() || self.pause(START_GLANCE) {
                return;
            }
        }
    }

    /// Decides what to start from.
    fn seek(&self) {
        let Config {
            peers,
            snapshot_dir,
            hash_seed,
            ..
        } = &self.config;
        let (start, stop) = (self.fleet.start(), &self.shared.stop);
        if !start.is_seeking() {
            return;
        }
        let mut found = None;
        if !peers.is_empty() {
            found = warm::from_peers(peers, *hash_seed, stop);
        }
        if let (None, Some(folder)) = (&found, snapshot_dir) {
            start.seeks(&format!("the snapshot in {}", folder.display()));
            found = warm::from_folder(folder, *hash_seed, stop);
        }
        if self.is_stopped() {
            // Nothing was decided: pods that come now would begin with nothing.
            return;
        }
        if let Some(snapshot) = found {
            self.fleet.start_from(snapshot);
        }
        start.decided(Instant::now());
    }

    /// Starts what finds pods; `false` if it has to be tried again.
    fn discover(&self) -> bool {
        match Discovery::start(&self.config, &self.fleet) {
            Ok(discovery) => {
                let kept = self.shared.discovery.lock();
                *kept.unwrap_or_else(PoisonError::into_inner) = Some(discovery);
                self.fleet.start().following();
                true
            }
            Err(error) => {
                tracing::error!(%error, "cannot start what finds pods; it is tried again");
                let why = format!("what finds pods cannot be started: {error}");
                self.fleet.start().delayed(&why);
                false
            }
        }
    }

    /// Waits; `true` if the node is to stop.
    fn pause(&self, time: Duration) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < time && !self.is_stopped() {
            thread::sleep(START_GLANCE);
        }
        self.is_stopped()
    }

    fn is_stopped(&self) -> bool {
        // Relaxed: a wish, nothing is read because of it.
        self.shared.stop.load(Relaxed)
    }
}
