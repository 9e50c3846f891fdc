//! Dynamo's `ConcurrentRadixTreeCompressed`.
//!
//! Inside the timing of a store or removal: taking the ready-made event from the channel (the only way
//! in), applying it, dropping it. Inside that of a lookup: `find_matches`, which makes a hash map of
//! results, and by tokens the crate's own function that hashes the whole request first.
use crate::contender::{Contender, Plan, Race, race};
use crate::lane::{Batch, Lane};
use crate::workload::{Query, Turn, Workload, blocks, local_hashes};
use dynamo_kv_router::protocols::{
    ExternalSequenceBlockHash, KvCacheEvent, KvCacheEventData, KvCacheRemoveData, KvCacheStoreData,
    KvCacheStoredBlockData, RouterEvent,
};
use dynamo_kv_router::{ConcurrentRadixTreeCompressed, LocalBlockHash, OverlapScores, SyncIndexer};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// All blocks in the index's terms, by conversation.
#[derive(Debug)]
pub(crate) struct Feed {
    locals: Vec<Vec<LocalBlockHash>>,
    names: Vec<Vec<ExternalSequenceBlockHash>>,
}

impl Feed {
    /// Works them out.
    pub(crate) fn new(workload: &Workload) -> Self {
        let all = 0..workload.conversations.len();
        let name = |at| {
            let names = workload.names(at).into_iter();
            names
                .map(|name| ExternalSequenceBlockHash(name.0))
                .collect()
        };
        let conversations = workload.conversations.iter();
        Self {
            locals: conversations.map(|c| local_hashes(&c.tokens)).collect(),
            names: all.map(name).collect(),
        }
    }

    fn stored(&self, turn: &Turn) -> RouterEvent {
        let (locals, names) = (
            &self.locals[turn.conversation],
            &self.names[turn.conversation],
        );
        let block = |at: usize| KvCacheStoredBlockData {
            block_hash: names[at],
            tokens_hash: locals[at],
            mm_extra_info: None,
        };
        let data = KvCacheEventData::Stored(KvCacheStoreData {
            parent_hash: turn.from.checked_sub(1).map(|at| names[at]),
            start_position: None,
            blocks: turn.blocks().map(block).collect(),
        });
        event(turn.worker, data)
    }

    fn removed(&self, turn: &Turn) -> RouterEvent {
        let names = &self.names[turn.conversation][turn.blocks()];
        let block_hashes = names.iter().rev().copied().collect();
        event(
            turn.worker,
            KvCacheEventData::Removed(KvCacheRemoveData { block_hashes }),
        )
    }
}

fn event(worker: usize, data: KvCacheEventData) -> RouterEvent {
    let event = KvCacheEvent {
        event_id: 0,
        data,
        dp_rank: 0,
    };
    RouterEvent::new(worker as u64, event)
}

/// The index and its writing thread.
pub(crate) struct Crtc<'w> {
    feed: &'w Feed,
    tree: Arc<ConcurrentRadixTreeCompressed>,
    lane: Lane,
    out: OverlapScores,
}

impl<'w> Crtc<'w> {
    /// An empty index; workers come with their first event.
    pub(crate) fn new(feed: &'w Feed) -> Self {
        let tree = Arc::new(ConcurrentRadixTreeCompressed::new());
        Self {
            feed,
            lane: Lane::new(Arc::clone(&tree)),
            tree,
            out: OverlapScores::new(),
        }
    }
}

impl Contender for Crtc<'_> {
    fn store(&mut self, turns: &[Turn]) -> Duration {
        let events = turns.iter().map(|turn| self.feed.stored(turn));
        self.lane.apply(events.collect())
    }

    fn remove(&mut self, turns: &[Turn]) -> Duration {
        let events = turns.iter().map(|turn| self.feed.removed(turn));
        self.lane.apply(events.collect())
    }

    fn clear(&mut self, worker: usize) -> Duration {
        self.lane
            .apply(vec![event(worker, KvCacheEventData::Cleared)])
    }

    fn by_hashes(&mut self, query: &Query) {
        self.out = self.tree.find_matches(&query.locals, false);
    }

    fn by_tokens(&mut self, query: &Query) {
        self.out = self.tree.find_matches(&local_hashes(&query.tokens), false);
    }

    fn answer(&self) -> BTreeMap<usize, u32> {
        let scores = self.out.scores.iter();
        scores
            .map(|(worker, &score)| (worker.worker_id as usize, score))
            .collect()
    }

    fn entries(&self) -> Option<u64> {
        None
    }

    fn race(&mut self, plan: &Plan<'_>) -> Race {
        let batch = |churn: &crate::workload::Churn| {
            let stores = churn.stores.iter().map(|turn| self.feed.stored(turn));
            let removals = churn.removals.iter().map(|turn| self.feed.removed(turn));
            Batch {
                events: stores.chain(removals).collect(),
                blocks: blocks(&churn.stores) + blocks(&churn.removals),
            }
        };
        let batches = plan.churn.iter().map(batch).collect();
        let (lane, tree, out) = (&self.lane, &self.tree, &mut self.out);
        race(
            plan,
            move |stop| lane.churn(batches, stop),
            |query| *out = tree.find_matches(&query.locals, false),
        )
    }
}
