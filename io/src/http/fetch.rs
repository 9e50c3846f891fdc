//! A peer's snapshot, fetched into a file.
use super::client::{GetError, GetLimits, stream};
use super::snapshot::PATH;
use crate::limits::{PEER_TIME_MAX, PEER_WHOLE_TIME_MAX, SNAPSHOT_BYTES_MAX};
use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use tokio::runtime::Builder;

/// Why a peer's snapshot was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The peer did not send it.
    #[error(transparent)]
    Get(#[from] GetError),
    /// It cannot be kept here.
    #[error("keeping it: {0}")]
    Keep(#[from] io::Error),
}

/// Fetches what a peer holds now; how many bytes that are. Blocks, within bounds of time and bytes. What came is not
/// checked here.
pub fn fetch_snapshot(peer: SocketAddr, into: &mut File) -> Result<u64, FetchError> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let limits = GetLimits {
        connect_time: PEER_TIME_MAX,
        idle_time: PEER_TIME_MAX,
        whole_time: PEER_WHOLE_TIME_MAX,
        body_bytes: SNAPSHOT_BYTES_MAX,
    };
    let mut bytes = 0;
    let keep = |data: &[u8]| {
        bytes += data.len() as u64;
        into.write_all(data).map_err(GetError::Keep)
    };
    runtime.block_on(stream(&peer.to_string(), PATH, &limits, keep))?;
    Ok(bytes)
}
