//! `GET /dump`: all that is held, as JSON that is made while it is sent.
//!
//! One entry for each (model or adapter, block size), under `name:default` as Dynamo's indexer names a model and
//! its routing group; where that name is taken, the group says what differs. One worker's blocks are in memory at a
//! time, asked of its IO thread when its turn comes: an answer is not a picture of one moment.
use super::dump_events::{Events, Worker};
use super::error::{ApiError, JSON, Reply};
use super::snapshot::Busy;
use super::state::{Call, ThreadState};
use crate::fleet::{Fleet, WorkerInfo};
use crate::limits::{DUMP_PIECE_BYTES, PEER_TIME_MAX, SAVE_FOR_PEER_TIME_MAX};
use crate::status::Trust;
use crate::stream::saved::SaveTo;
use http_body_util::channel::{Channel, Sender};
use hyper::body::Bytes;
use kvroute_engine::Dumped;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::task::{spawn_local, yield_now};
use tokio::time::timeout;

/// `GET /dump`. Each HTTP thread sends one at a time, or a snapshot.
pub(super) fn answer(state: &mut ThreadState, _: &Call<'_>) -> Result<Reply, ApiError> {
    let busy = Busy::take(&state.sending)?;
    let (sender, body) = Channel::new(1);
    let fleet = Arc::clone(&state.fleet);
    drop(spawn_local(async move {
        let out = Out {
            to: sender,
            bytes: Vec::new(),
        };
        // Whoever reads it sees that the JSON does not end.
        if let Err(Broken) = send(&fleet, out).await {
            tracing::info!("a dump was not sent to its end");
        }
        drop(busy);
    }));
    Ok(Reply::stream(JSON, body))
}

/// The one who asked has gone, or has stopped reading.
struct Broken;

impl From<serde_json::Error> for Broken {
    fn from(error: serde_json::Error) -> Self {
        tracing::error!(%error, "a dump cannot be written as JSON");
        Self
    }
}

/// What all workers hold under one name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    key: String,
    model: String,
    adapter: Option<String>,
    block_size: u32,
}

#[derive(Serialize)]
struct LeftOut<'a> {
    #[serde(flatten)]
    blocks: super::dump_events::LeftOut,
    /// Workers of whose blocks nothing is said, and why.
    workers: &'a BTreeMap<String, &'static str>,
}

async fn send(fleet: &Fleet, mut out: Out) -> Result<(), Broken> {
    out.bytes.push(b'{');
    for (n, entry) in entries(fleet).iter().enumerate() {
        if n > 0 {
            out.bytes.push(b',');
        }
        out.json(&entry.key)?;
        out.text(":{\"model_name\":");
        out.json(&entry.model)?;
        out.text(",\"lora_name\":");
        out.json(&entry.adapter)?;
        out.text(",\"block_size\":");
        out.json(&entry.block_size)?;
        out.text(",\"events\":[");
        let mut events = Events::default();
        let mut silent = BTreeMap::new();
        for info in workers(fleet, entry) {
            if let Err(why) = worker(fleet, entry, &info, &mut events, &mut out).await? {
                silent.insert(info.label(), why);
            }
        }
        out.text("],\"left_out\":");
        out.json(&LeftOut {
            blocks: events.left_out,
            workers: &silent,
        })?;
        out.bytes.push(b'}');
    }
    out.bytes.push(b'}');
    out.send().await
}

/// One worker's events; or why there are none.
async fn worker(
    fleet: &Fleet,
    entry: &Entry,
    info: &WorkerInfo,
    events: &mut Events,
    out: &mut Out,
) -> Result<Result<(), &'static str>, Broken> {
    if info.status().trust() == Trust::Distrusted {
        return Ok(Err("distrusted"));
    }
    if info.is_approximate() {
        // It has told of nothing.
        return Ok(Err("approximate"));
    }
    let Some(bytes) = save(fleet, info).await else {
        return Ok(Err("not_saved"));
    };
    let dumped = match Dumped::read(&bytes) {
        Ok(dumped) => dumped,
        Err(error) => {
            tracing::error!(worker = info.label(), %error, "a dump cannot be read");
            return Ok(Err("not_read"));
        }
    };
    let wanted = (
        entry.adapter.as_deref().unwrap_or_default(),
        entry.block_size,
    );
    let context = dumped.contexts().iter().position(|&is| is == wanted);
    let Some(context) = context else {
        return Ok(Ok(()));
    };
    let mut worker = Worker::new(&dumped, context, &info.pod().pod, info.rank());
    while worker.next_run(events, &mut out.bytes)? {
        if out.bytes.len() >= DUMP_PIECE_BYTES {
            out.send().await?;
        }
    }
    Ok(Ok(()))
}

async fn save(fleet: &Fleet, info: &WorkerInfo) -> Option<Vec<u8>> {
    let (to, from) = oneshot::channel();
    let save = SaveTo::blocks(move |dump| {
        // Nobody waits for it any more: it took too long.
        let _ = to.send(dump);
    });
    fleet.save(info.id(), save);
    timeout(SAVE_FOR_PEER_TIME_MAX, from).await.ok()?.ok()?
}

/// The workers that may hold blocks of an entry.
fn workers(fleet: &Fleet, entry: &Entry) -> Vec<Arc<WorkerInfo>> {
    let view = fleet.view();
    let knows = |info: &&Arc<WorkerInfo>| match &entry.adapter {
        Some(adapter) => adapters(info).any(|name| name == *adapter),
        None => true,
    };
    view.workers()
        .filter(|info| info.pod().model == entry.model)
        .filter(knows)
        .cloned()
        .collect()
}

/// Adapters that a worker was said to have, or that its events named.
fn adapters(info: &WorkerInfo) -> impl Iterator<Item = String> {
    let learnt = info.status().adapter_names().into_iter().map(String::from);
    learnt.chain(info.pod().lora.clone())
}

/// All contexts in which something is held. O(workers).
fn entries(fleet: &Fleet) -> Vec<Entry> {
    let view = fleet.view();
    let mut known: BTreeSet<(String, Option<String>)> = BTreeSet::new();
    for info in view.workers() {
        let model = &info.pod().model;
        known.insert((model.clone(), None));
        known.extend(adapters(info).map(|adapter| (model.clone(), Some(adapter))));
    }
    let participant = fleet.index().participant();
    let pin = participant.pin();
    let mut taken = BTreeSet::new();
    let mut entries = Vec::new();
    for (model, adapter) in known {
        let contexts = pin.contexts(&model, adapter.as_deref());
        let mut sizes: Vec<_> = contexts.map(|context| context.block_size()).collect();
        sizes.sort_unstable();
        for block_size in sizes {
            let name = adapter.as_ref().unwrap_or(&model);
            let groups = [
                "default".to_owned(),
                format!("block_size={block_size}"),
                format!("model={model},block_size={block_size}"),
            ];
            let keys = groups.map(|group| format!("{name}:{group}"));
            // The last one has all that tells entries apart.
            let Some(key) = keys.into_iter().find(|key| taken.insert(key.clone())) else {
                continue;
            };
            entries.push(Entry {
                key,
                model: model.clone(),
                adapter: adapter.clone(),
                block_size,
            });
        }
    }
    entries
}

/// The answer as far as it is made, but not sent.
struct Out {
    to: Sender<Bytes>,
    bytes: Vec<u8>,
}

impl Out {
    fn text(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
    }

    fn json(&mut self, value: &impl Serialize) -> Result<(), Broken> {
        Ok(serde_json::to_writer(&mut self.bytes, value)?)
    }

    /// Sends it, if the one who asked reads.
    async fn send(&mut self) -> Result<(), Broken> {
        let bytes = Bytes::from(std::mem::take(&mut self.bytes));
        let taken = timeout(PEER_TIME_MAX, self.to.send_data(bytes)).await;
        taken.map_err(|_| Broken)?.map_err(|_| Broken)?;
        // A fast reader must not keep the thread's other requests waiting.
        yield_now().await;
        Ok(())
    }
}
