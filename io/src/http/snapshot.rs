//! `GET /v1/snapshot`: what all workers hold, for a peer that starts.
//!
//! The stream is made while it is sent, one worker after the other; what waits to be sent is two workers at
//! most, also if the peer is slow.
use super::error::{ApiError, Reply, Stream};
use super::state::{Call, ThreadState};
use crate::fleet::{Fleet, Readiness, WorkerInfo};
use crate::limits::{PEER_TIME_MAX, SAVE_FOR_PEER_TIME_MAX, SNAPSHOT_BYTES_MAX};
use crate::snapshot::Assembly;
use crate::status::now_ms;
use crate::stream::saved::{SaveTo, Section};
use http_body_util::channel::{Channel, Sender};
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::HeaderValue;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::task::spawn_local;
use tokio::time::timeout;

/// Where it is.
pub(super) const PATH: &str = "/v1/snapshot";

const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// `GET /v1/snapshot`. Each HTTP thread sends one at a time.
pub(super) fn answer(state: &mut ThreadState, _: &Call<'_>) -> Result<Reply, ApiError> {
    // What it knows so far may be less than another peer does, or than whoever asks has on disk.
    if let Readiness::Waiting(why) = state.fleet.readiness() {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let message = format!("the node is not ready itself: {why}");
        return Err(ApiError::new(status, "starting", message));
    }
    let busy = Busy::take(&state.sending)?;
    let (sender, body) = Channel::new(1);
    let fleet = Arc::clone(&state.fleet);
    drop(spawn_local(async move {
        // Whoever fetches it sees that it has no end.
        if let Err(Gone) = send(&fleet, sender).await {
            tracing::info!("a snapshot was not sent to its end");
        }
        drop(busy);
    }));
    Ok(Reply::stream(OCTETS, body))
}

/// As long as it exists, the thread is sending a snapshot or a dump.
pub(super) struct Busy(Rc<Cell<bool>>);

impl Busy {
    /// 503 if the thread is sending one already.
    pub(super) fn take(sending: &Rc<Cell<bool>>) -> Result<Self, ApiError> {
        if sending.replace(true) {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            let message = "this thread is sending another snapshot or dump; try again later";
            return Err(ApiError::new(status, "busy", message));
        }
        Ok(Self(Rc::clone(sending)))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// The one who asked has gone, or has stopped reading, or what was saved is too much.
struct Gone;

async fn send(fleet: &Fleet, mut to: Sender<Bytes>) -> Result<(), Gone> {
    let mut sent = 0;
    let (mut assembly, head) = Assembly::begin(fleet.index().hash_seed(), now_ms());
    put(&mut to, head, &mut sent).await?;
    let workers: Vec<_> = fleet.view().workers().cloned().collect();
    for info in workers {
        let Some(saved) = save(fleet, &info).await else {
            continue;
        };
        let Some(head) = assembly.section(&info.about(&saved), &saved) else {
            continue;
        };
        put(&mut to, head, &mut sent).await?;
        put(&mut to, saved.dump, &mut sent).await?;
    }
    put(&mut to, assembly.end(), &mut sent).await
}

async fn put(to: &mut Sender<Bytes>, bytes: Vec<u8>, sent: &mut u64) -> Result<(), Gone> {
    *sent += bytes.len() as u64;
    if *sent > SNAPSHOT_BYTES_MAX {
        return Err(Gone);
    }
    let taken = timeout(PEER_TIME_MAX, to.send_data(bytes.into())).await;
    taken.map_err(|_| Gone)?.map_err(|_| Gone)
}

async fn save(fleet: &Fleet, info: &WorkerInfo) -> Option<Section> {
    let (to, from) = oneshot::channel();
    let save = SaveTo::new(move |section| {
        // Nobody waits for it any more: it took too long.
        let _ = to.send(section);
    });
    fleet.save(info.id(), save);
    timeout(SAVE_FOR_PEER_TIME_MAX, from).await.ok()?.ok()?
}

impl Reply {
    /// What is made while it is sent.
    pub(super) fn stream(content_type: HeaderValue, body: Stream) -> Self {
        Self {
            status: StatusCode::OK,
            content_type,
            headers: Vec::new(),
            name: None,
            body: super::error::Body::Stream(body),
        }
    }
}
