//! What peers are asked when a node starts: whether they are ready, and a snapshot, which is fetched into a file.
use super::client::{GetError, GetLimits, get, stream};
use super::snapshot::PATH;
use crate::limits::{
    PEER_GLANCE_BYTES_MAX, PEER_GLANCE_TIME_MAX, PEER_TIME_MAX, PEER_WHOLE_TIME_MAX, PEERS_MAX,
    SNAPSHOT_BYTES_MAX, START_GLANCE,
};
use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use tokio::net::lookup_host;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Why a peer's snapshot was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The peer did not send it.
    #[error(transparent)]
    Get(#[from] GetError),
    /// It cannot be kept here.
    #[error("keeping it: {0}")]
    Keep(#[from] io::Error),
    /// The node is to stop.
    #[error("the node is stopping")]
    Stopped,
}

/// Fetches what a peer holds now; how many bytes that are. Blocks, within bounds of time and bytes, and not for long once
/// `stop` is set. What came is not checked here.
pub fn fetch_snapshot(
    peer: SocketAddr,
    into: &mut File,
    stop: &AtomicBool,
) -> Result<u64, FetchError> {
    let limits = GetLimits {
        connect_time: PEER_GLANCE_TIME_MAX,
        idle_time: PEER_TIME_MAX,
        whole_time: PEER_WHOLE_TIME_MAX,
        body_bytes: SNAPSHOT_BYTES_MAX,
    };
    let mut bytes = 0;
    let keep = |data: &[u8]| {
        bytes += data.len() as u64;
        into.write_all(data).map_err(GetError::Keep)
    };
    let endpoint = peer.to_string();
    let fetched = run(stop, async || stream(&endpoint, PATH, &limits, keep).await)?;
    fetched.ok_or(FetchError::Stopped)??;
    Ok(bytes)
}

/// The addresses of the peers that answer, all of them asked at once: those that are ready first, each kind in an order
/// of chance, so that nodes that start together do not all ask the same one. A name may stand for many peers, and this node
/// may be among them. Blocks for a few seconds at most, and not for long once `stop` is set.
///
/// # Errors
/// The system gives no runtime.
pub fn find_peers(names: &[String], stop: &AtomicBool) -> io::Result<Vec<SocketAddr>> {
    let found = run(stop, async || {
        let mut addresses = resolve(names).await;
        fastrand::shuffle(&mut addresses);
        addresses.truncate(PEERS_MAX);
        ask(addresses).await
    })?;
    Ok(found.unwrap_or_default())
}

/// Runs it on the calling thread; `None` if it was given up because of `stop`.
fn run<T>(stop: &AtomicBool, work: impl AsyncFnOnce() -> T) -> io::Result<Option<T>> {
    let runtime: Runtime = Builder::new_current_thread().enable_all().build()?;
    // Relaxed: a wish, nothing is read because of it.
    let stopped = async {
        while !stop.load(Relaxed) {
            sleep(START_GLANCE).await;
        }
    };
    let done = runtime.block_on(async {
        tokio::select! {
            done = work() => Some(done),
            () = stopped => None,
        }
    });
    // A resolver that hangs is not waited for.
    runtime.shutdown_background();
    Ok(done)
}

/// All addresses of all names, each once.
async fn resolve(names: &[String]) -> Vec<SocketAddr> {
    let mut resolving = JoinSet::new();
    for name in names {
        let name = name.clone();
        resolving.spawn(async move {
            let found = timeout(PEER_GLANCE_TIME_MAX, lookup_host(&name)).await;
            match found.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(addresses) => addresses.collect(),
                Err(error) => {
                    tracing::warn!(peer = name, %error, "a peer has no address");
                    Vec::new()
                }
            }
        });
    }
    let mut found = resolving.join_all().await.concat();
    found.sort_unstable();
    found.dedup();
    found
}

/// Those that answer, in this order, the ready ones first.
async fn ask(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    const LIMITS: GetLimits = GetLimits {
        connect_time: PEER_GLANCE_TIME_MAX,
        idle_time: PEER_GLANCE_TIME_MAX,
        whole_time: PEER_GLANCE_TIME_MAX,
        body_bytes: PEER_GLANCE_BYTES_MAX,
    };
    let mut asking = JoinSet::new();
    for (at, peer) in addresses.into_iter().enumerate() {
        asking.spawn(async move {
            match get(&peer.to_string(), "/readyz", &LIMITS).await {
                Ok(_) => Some((false, at, peer)),
                // It may have something all the same.
                Err(GetError::Status(_)) => Some((true, at, peer)),
                Err(error) => {
                    tracing::info!(%peer, %error, "a peer does not answer");
                    None
                }
            }
        });
    }
    let answered = asking.join_all().await;
    let mut answered: Vec<_> = answered.into_iter().flatten().collect();
    answered.sort_unstable();
    answered.into_iter().map(|(_, _, peer)| peer).collect()
}
