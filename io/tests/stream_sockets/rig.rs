//! A node without HTTP, and batches to feed it with.
//!
//! Batch n of life l stores one block at the root whose tokens are made of n and l alone, so which
//! batches took effect can be asked of the index one by one.
use kvroute::fake::{FakeEngine, Options};
use kvroute::status::{SkipReason, Trust, WorkerStatus};
use kvroute::stream::follow::Timing;
use kvroute::stream::{NewWorker, Streams, StreamsConfig};
use kvroute_engine::types::WorkerId;
use kvroute_engine::{Index, IndexConfig, Matches, TokenKeys};
use rmpv::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) const MODEL: &str = "tiny";
pub(crate) const BLOCK_SIZE: usize = 4;

/// No batch.
pub(crate) const NONE: [u32; 0] = [];

/// A test that waits longer has failed. No test asserts that anything takes time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn until(what: &str, holds: impl FnMut() -> bool) {
    until_or(holds, || what.to_owned());
}

fn until_or(mut holds: impl FnMut() -> bool, what: impl Fn() -> String) {
    let give_up = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < give_up, "waited in vain: {}", what());
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub(crate) struct Rig {
    pub(crate) index: Arc<Index>,
    pub(crate) streams: Streams,
}

/// A worker that the node follows.
pub(crate) struct Followed {
    pub(crate) id: WorkerId,
    pub(crate) status: Arc<WorkerStatus>,
}

impl Rig {
    /// One IO thread.
    pub(crate) fn new() -> Self {
        Self::with_replay_time(Timing::default().replay)
    }

    pub(crate) fn with_replay_time(replay_time: Duration) -> Self {
        Self::with(StreamsConfig {
            timing: Timing {
                replay: replay_time,
                ..Timing::default()
            },
            ..StreamsConfig::default()
        })
    }

    pub(crate) fn with(config: StreamsConfig) -> Self {
        Self::with_index(IndexConfig::default(), config)
    }

    pub(crate) fn with_index(index: IndexConfig, config: StreamsConfig) -> Self {
        let index = Index::new(index);
        let streams = Streams::start(&index, &config).expect("start");
        Self { index, streams }
    }

    pub(crate) fn follow(&self, engine: &FakeEngine) -> Followed {
        self.follow_at(engine.events_endpoint(), engine.replay_endpoint())
    }

    pub(crate) fn follow_at(&self, events: &str, replay: Option<&str>) -> Followed {
        let writer = self.index.writer(MODEL).expect("room");
        let followed = Followed {
            id: writer.id(),
            status: Arc::default(),
        };
        let worker = NewWorker {
            writer,
            events: events.to_owned(),
            replay: replay.map(str::to_owned),
            status: Arc::clone(&followed.status),
            name: "pod#0".to_owned(),
            kept: None,
        };
        self.streams.add(worker).expect("room in the queue");
        followed
    }

    /// How many blocks of these tokens the worker holds from the root on, in any tier.
    pub(crate) fn score(&self, worker: &Followed, adapter: Option<&str>, tokens: &[u32]) -> u32 {
        let participant = self.index.participant();
        let pinned = participant.pin();
        let mut matches = Matches::new();
        let mut best = 0;
        for context in pinned.contexts(MODEL, adapter) {
            let size = context.block_size();
            let mut keys = TokenKeys::new(self.index.hash_seed(), size, tokens, &[]);
            context.lookup(&mut keys, &mut matches);
            let hits = matches.hits().iter().filter(|hit| hit.worker == worker.id);
            best = hits.map(|hit| hit.blocks[2]).fold(best, u32::max);
        }
        best
    }

    /// Which of these batches' blocks the worker holds.
    pub(crate) fn held(
        &self,
        worker: &Followed,
        life: u32,
        batches: std::ops::Range<u32>,
    ) -> Vec<u32> {
        batches
            .filter(|&n| self.score(worker, None, &tokens(life, n)) == 1)
            .collect()
    }
}

impl Followed {
    pub(crate) fn wait_for(&self, sequence: u64) {
        until_or(
            || self.status.last_sequence() == Some(sequence),
            || format!("number {sequence}, {:?}", self.status),
        );
    }

    pub(crate) fn wait_until(&self, trust: Trust) {
        until_or(
            || self.status.trust() == trust,
            || format!("{trust:?}, {:?}", self.status),
        );
    }

    pub(crate) fn skipped(&self, reason: SkipReason) -> u64 {
        self.status
            .skipped()
            .find(|&(of, _)| of == reason)
            .map_or(0, |(_, count)| count)
    }
}

pub(crate) fn engine() -> FakeEngine {
    FakeEngine::bind(Options::default()).expect("bind")
}

pub(crate) fn engine_without_replay() -> FakeEngine {
    FakeEngine::bind(Options {
        replay: None,
        ..Options::default()
    })
    .expect("bind")
}

pub(crate) fn tokens(life: u32, n: u32) -> Vec<u32> {
    (0..BLOCK_SIZE as u32)
        .map(|at| life * 10_000_000 + n * 10 + at)
        .collect()
}

fn hash(life: u32, n: u32) -> u64 {
    (u64::from(life) << 32) + u64::from(n) + 1
}

/// An event in the shape of vLLM 0.24 and later.
pub(crate) fn event(tag: &str, fields: &[(&str, Value)]) -> Value {
    let mut map = vec![(Value::from("type"), Value::from(tag))];
    map.extend(
        fields
            .iter()
            .map(|(name, value)| (Value::from(*name), value.clone())),
    );
    Value::Map(map)
}

pub(crate) fn stored(life: u32, n: u32) -> Value {
    stored_with(life, n, &[])
}

pub(crate) fn stored_with(life: u32, n: u32, further: &[(&str, Value)]) -> Value {
    let tokens = tokens(life, n).into_iter().map(Value::from).collect();
    let mut fields = vec![
        (
            "block_hashes",
            Value::Array(vec![Value::from(hash(life, n))]),
        ),
        ("parent_block_hash", Value::Nil),
        ("token_ids", Value::Array(tokens)),
        ("block_size", Value::from(BLOCK_SIZE)),
    ];
    fields.extend_from_slice(further);
    event("BlockStored", &fields)
}

pub(crate) fn removed_with(life: u32, n: u32, further: &[(&str, Value)]) -> Value {
    let mut fields = vec![(
        "block_hashes",
        Value::Array(vec![Value::from(hash(life, n))]),
    )];
    fields.extend_from_slice(further);
    event("BlockRemoved", &fields)
}

pub(crate) fn removed(life: u32, n: u32) -> Value {
    removed_with(life, n, &[])
}

pub(crate) fn cleared() -> Value {
    event("AllBlocksCleared", &[])
}

/// The payload of a batch. The time makes the bytes of two lives differ, as in real ones.
pub(crate) fn payload(life: u32, n: u32, events: Vec<Value>) -> Vec<u8> {
    let time = f64::from(life) * 1e6 + f64::from(n);
    let batch = Value::Array(vec![Value::F64(time), Value::Array(events), Value::from(0)]);
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, &batch).expect("a vector takes all");
    bytes
}

/// The payload of the batch that stores its block and nothing else.
pub(crate) fn plain(life: u32, n: u32) -> Vec<u8> {
    payload(life, n, vec![stored(life, n)])
}

pub(crate) fn publish(engine: &FakeEngine, life: u32, batches: std::ops::Range<u32>) {
    for n in batches {
        engine.publish(n.into(), &plain(life, n)).expect("publish");
    }
}

/// Batches that no subscriber gets but the ring has.
pub(crate) fn lose(engine: &FakeEngine, life: u32, batches: std::ops::Range<u32>) {
    for n in batches {
        engine.lose(n.into(), &plain(life, n));
    }
}

/// A worker that has followed the engine from its first batches on and is exact.
pub(crate) fn following(rig: &Rig, engine: &FakeEngine, batches: u32) -> Followed {
    let worker = rig.follow(engine);
    engine.wait_for_subscriber(PATIENCE).expect("a subscriber");
    publish(engine, 1, 0..batches);
    worker.wait_for(u64::from(batches) - 1);
    worker.wait_until(Trust::Exact);
    worker
}
