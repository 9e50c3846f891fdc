//! Warm starts: what a node begins with, and what it leaves behind.
//!
//! A node that starts takes the snapshot of the first peer that has one, else its own last one. What it leaves behind is
//! written at intervals, and when it stops. A worker that was loaded is only believed once a replay has shown
//! that its engine is still in the life that was saved.
use crate::fleet::{Fleet, Readiness, WorkerInfo};
use crate::http::{FetchError, fetch_snapshot, find_peers};
use crate::limits::{PEERS_TIME_MAX, SAVE_TIME_MAX};
use crate::snapshot::{self, About, FILE_NAME, ReadError, Snapshot, WriteError, Written};
use crate::status::now_ms;
use crate::stream::saved::{SaveTo, Section};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Workers that are being saved at once, so that a thread saves one while another is written.
const AHEAD: usize = 2;

/// The snapshot of the first peer that has one. Tells in the log what was taken, and what was refused and why. Soon over once
/// `stop` is set.
#[must_use]
pub fn from_peers(peers: &[String], hash_seed: u64, stop: &AtomicBool) -> Option<Snapshot> {
    let begun = Instant::now();
    let found = find_peers(peers, stop).unwrap_or_else(|error| {
        tracing::warn!(%error, "peers cannot be asked");
        Vec::new()
    });
    // Relaxed: a wish, nothing is read because of it.
    let goes_on = || begun.elapsed() < PEERS_TIME_MAX && !stop.load(Relaxed);
    let mut asked = found.into_iter().take_while(|_| goes_on());
    asked.find_map(|peer| from_peer(peer, hash_seed, stop))
}

fn from_peer(peer: SocketAddr, hash_seed: u64, stop: &AtomicBool) -> Option<Snapshot> {
    let begun = Instant::now();
    let fetched = tempfile::tempfile()
        .map_err(ReadError::from)
        .map(|mut file| {
            let bytes = fetch_snapshot(peer, &mut file, stop)?;
            Ok::<_, FetchError>((bytes, Snapshot::open_unless(file, hash_seed, stop)))
        });
    match fetched {
        Ok(Ok((bytes, Ok(snapshot)))) if !snapshot.is_empty() => {
            let (workers, ms) = (snapshot.len(), begun.elapsed().as_millis());
            tracing::info!(%peer, workers, bytes, ms, "starting from a peer's snapshot");
            return Some(snapshot);
        }
        Ok(Ok((_, Ok(_)))) => tracing::info!(%peer, "the peer's snapshot is empty"),
        Ok(Ok((_, Err(error)))) | Err(error) => {
            tracing::warn!(%peer, %error, "the peer's snapshot is refused");
        }
        // It may be this very node, under the name that all replicas share.
        Ok(Err(error)) => tracing::info!(%peer, %error, "no snapshot from a peer"),
    }
    None
}

/// The snapshot that was left in `folder`, likewise.
#[must_use]
pub fn from_folder(folder: &Path, hash_seed: u64, stop: &AtomicBool) -> Option<Snapshot> {
    let path = folder.join(FILE_NAME);
    let begun = Instant::now();
    let opened = File::open(&path).map_err(ReadError::from);
    match opened.and_then(|file| Snapshot::open_unless(file, hash_seed, stop)) {
        Ok(snapshot) => {
            let age_s = now_ms().saturating_sub(snapshot.made_ms()) / 1_000;
            let (workers, ms) = (snapshot.len(), begun.elapsed().as_millis());
            tracing::info!(path = %path.display(), workers, age_s, ms, "starting from the snapshot");
            Some(snapshot)
        }
        Err(ReadError::Io(error)) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the snapshot is refused; starting cold");
            None
        }
    }
}

/// Saves all workers of a fleet into `folder`. The memory that takes is that of three workers.
pub fn save(fleet: &Fleet, folder: &Path) -> Result<Written, WriteError> {
    save_by(fleet, folder, &OnceLock::new())
}

/// The same, given up when it is `deadline`, which may be set meanwhile.
fn save_by(
    fleet: &Fleet,
    folder: &Path,
    deadline: &OnceLock<Instant>,
) -> Result<Written, WriteError> {
    let workers = fleet.view().workers().cloned().collect();
    let sections = Sections {
        fleet,
        workers,
        asked: VecDeque::new(),
        deadline,
    };
    snapshot::write(folder, fleet.index().hash_seed(), now_ms(), sections)
}

/// Workers as they are saved, some of them asked for ahead.
struct Sections<'f> {
    fleet: &'f Fleet,
    workers: VecDeque<Arc<WorkerInfo>>,
    asked: VecDeque<(Arc<WorkerInfo>, Receiver<Option<Section>>)>,
    deadline: &'f OnceLock<Instant>,
}

impl Sections<'_> {
    /// Time for the next of them.
    fn patience(&self) -> Duration {
        let left = |at: &Instant| at.saturating_duration_since(Instant::now());
        self.deadline
            .get()
            .map_or(SAVE_TIME_MAX, left)
            .min(SAVE_TIME_MAX)
    }
}

impl Iterator for Sections<'_> {
    type Item = io::Result<(About, Section)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            while self.asked.len() < AHEAD
                && let Some(info) = self.workers.pop_front()
            {
                let (to, from) = bounded(1);
                let save = SaveTo::new(move |section| {
                    // Nobody waits for it any more: it took too long.
                    let _ = to.try_send(section);
                });
                self.fleet.save(info.id(), save);
                self.asked.push_back((info, from));
            }
            let (info, from) = self.asked.pop_front()?;
            if let Ok(Some(section)) = from.recv_timeout(self.patience()) {
                return Some(Ok((info.about(&section), section)));
            }
            if self.patience().is_zero() {
                return Some(Err(ErrorKind::TimedOut.into()));
            }
        }
    }
}

/// The thread that writes snapshots. Dropping it writes the last one. Before the node was ready none takes the place of
/// the one that is there: it would have fewer workers.
#[derive(Debug)]
pub struct Keeper {
    stop: Option<Sender<()>>,
    deadline: Arc<OnceLock<Instant>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Makes the folder, if it is not there.
    ///
    /// # Errors
    /// It cannot be made or written to.
    pub fn check(folder: &Path) -> io::Result<()> {
        std::fs::create_dir_all(folder)?;
        tempfile::tempfile_in(folder).map(drop)
    }

    /// Starts it. Without an interval it only writes when it ends.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(
        fleet: &Arc<Fleet>,
        folder: PathBuf,
        interval: Option<Duration>,
    ) -> io::Result<Self> {
        let (stop, stopped) = bounded(1);
        let deadline = Arc::new(OnceLock::new());
        let (fleet, until) = (Arc::clone(fleet), Arc::clone(&deadline));
        let thread = thread::Builder::new().name("kvroute-snapshot".to_owned());
        let thread = thread.spawn(move || run(&fleet, &folder, interval, &stopped, &until))?;
        Ok(Self {
            stop: Some(stop),
            deadline,
            thread: Some(thread),
        })
    }

    /// Writes the last one, or gives it up when it is `deadline`.
    pub fn stop_by(self, deadline: Option<Instant>) {
        if let Some(deadline) = deadline {
            self.deadline.get_or_init(|| deadline);
        }
        drop(self);
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop = None;
        if self
            .thread
            .take()
            .is_some_and(|thread| thread.join().is_err())
        {
            tracing::error!("the thread that writes snapshots has panicked");
        }
    }
}

fn run(
    fleet: &Fleet,
    folder: &Path,
    interval: Option<Duration>,
    stopped: &Receiver<()>,
    deadline: &OnceLock<Instant>,
) {
    loop {
        let waited = match interval {
            Some(interval) => stopped.recv_timeout(interval),
            None => stopped.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        keep(fleet, folder, deadline);
        if waited != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

fn keep(fleet: &Fleet, folder: &Path, deadline: &OnceLock<Instant>) {
    // Also once it does not wait any longer for pods that it was not told of.
    let missing = fleet.sources().missing();
    let why = match fleet.readiness() {
        Readiness::Waiting(why) => Some(why),
        Readiness::Ready { .. } => missing,
    };
    if let Some(why) = why
        && folder.join(FILE_NAME).exists()
    {
        tracing::info!(%why, "no snapshot written: the one before has more");
        return;
    }
    let begun = Instant::now();
    match save_by(fleet, folder, deadline) {
        Ok(Written { workers, bytes }) => {
            let ms = begun.elapsed().as_millis();
            tracing::info!(workers, bytes, ms, "snapshot written");
        }
        Err(error) => tracing::error!(%error, "no snapshot written; the one before stays"),
    }
}
