//! Warm starts: what a node begins with, and what it leaves behind.
//!
//! A node that starts takes the snapshot of the first peer that has one, else its own last one. What it leaves behind is
//! written at intervals, and when it stops. A worker that was loaded is only believed once a replay has shown
//! that its engine is still in the life that was saved.
use crate::fleet::{Fleet, WorkerInfo};
use crate::http::fetch_snapshot;
use crate::limits::{PEERS_MAX, PEERS_TIME_MAX, SAVE_TIME_MAX};
use crate::snapshot::{self, About, FILE_NAME, ReadError, Snapshot, WriteError, Written};
use crate::status::now_ms;
use crate::stream::saved::{SaveTo, Section};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Workers that are being saved at once, so that a thread saves one while another is written.
const AHEAD: usize = 2;

/// What there is to start from, if anything. Tells in the log what was taken, and what was refused and why.
#[must_use]
pub fn find(peers: &[String], folder: Option<&Path>, hash_seed: u64) -> Option<Snapshot> {
    let begun = Instant::now();
    let fetched = addresses(peers)
        .into_iter()
        .take_while(|_| begun.elapsed() < PEERS_TIME_MAX)
        .find_map(|peer| from_peer(peer, hash_seed));
    fetched.or_else(|| from_folder(folder?, hash_seed))
}

/// All addresses of all peers: a name may stand for many, as that of a headless service does.
fn addresses(peers: &[String]) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for peer in peers {
        match peer.to_socket_addrs() {
            Ok(addresses) => found.extend(addresses),
            Err(error) => tracing::warn!(peer, %error, "a peer has no address"),
        }
    }
    found.truncate(PEERS_MAX);
    found
}

fn from_peer(peer: SocketAddr, hash_seed: u64) -> Option<Snapshot> {
    let begun = Instant::now();
    let fetched = tempfile::tempfile()
        .map_err(ReadError::from)
        .map(|mut file| {
            fetch_snapshot(peer, &mut file).map(|bytes| (bytes, Snapshot::open(file, hash_seed)))
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

fn from_folder(folder: &Path, hash_seed: u64) -> Option<Snapshot> {
    let path = folder.join(FILE_NAME);
    let begun = Instant::now();
    let opened = File::open(&path).map_err(ReadError::from);
    match opened.and_then(|file| Snapshot::open(file, hash_seed)) {
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
    let workers = fleet.view().workers().cloned().collect();
    let sections = Sections {
        fleet,
        workers,
        asked: VecDeque::new(),
    };
    snapshot::write(folder, fleet.index().hash_seed(), now_ms(), sections)
}

/// Workers as they are saved, some of them asked for ahead.
struct Sections<'f> {
    fleet: &'f Fleet,
    workers: VecDeque<Arc<WorkerInfo>>,
    asked: VecDeque<(Arc<WorkerInfo>, Receiver<Option<Section>>)>,
}

impl Iterator for Sections<'_> {
    type Item = (About, Section);

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
            if let Ok(Some(section)) = from.recv_timeout(SAVE_TIME_MAX) {
                return Some((info.about(&section), section));
            }
        }
    }
}

/// The thread that writes snapshots. Dropping it writes the last one.
#[derive(Debug)]
pub struct Keeper {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Starts it. Without an interval it only writes when it ends.
    ///
    /// # Errors
    /// The folder cannot be made or written to, or the system gives no thread.
    pub fn start(
        fleet: &Arc<Fleet>,
        folder: PathBuf,
        interval: Option<Duration>,
    ) -> io::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        tempfile::tempfile_in(&folder)?;
        let (stop, stopped) = bounded(1);
        let fleet = Arc::clone(fleet);
        let thread = thread::Builder::new().name("kvroute-snapshot".to_owned());
        let thread = thread.spawn(move || run(&fleet, &folder, interval, &stopped))?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
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

fn run(fleet: &Fleet, folder: &Path, interval: Option<Duration>, stopped: &Receiver<()>) {
    loop {
        let waited = match interval {
            Some(interval) => stopped.recv_timeout(interval),
            None => stopped.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        let begun = Instant::now();
        match save(fleet, folder) {
            Ok(Written { workers, bytes }) => {
                let ms = begun.elapsed().as_millis();
                tracing::info!(workers, bytes, ms, "snapshot written");
            }
            Err(error) => tracing::error!(%error, "no snapshot written; the one before stays"),
        }
        if waited != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}
