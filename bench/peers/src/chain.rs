//! SMG's `kv-index`: `ChainIndex`.
//!
//! Inside the timing of a store: the walk and the worker's block map; the blocks with both their
//! hashes lie ready as a slice. Inside that of a lookup: `score_into` a reused buffer, and by
//! tokens the crate's own function that hashes the whole request first.
use crate::contender::{Contender, Plan, Race, Step, race, write_until};
use crate::workload::{BLOCK, Query, Turn, Workload};
use kv_index::{
    ChainBlockMap, ChainIndex, ContentHash, SequenceHash, StoredBlock,
    compute_request_content_hashes,
};
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

/// All blocks in the index's terms, by conversation.
#[derive(Debug)]
pub(crate) struct Feed<'w> {
    workload: &'w Workload,
    blocks: Vec<Vec<StoredBlock>>,
    /// The engines' names, last block first: removals take a slice.
    reversed: Vec<Vec<SequenceHash>>,
}

impl<'w> Feed<'w> {
    /// Works them out.
    pub(crate) fn new(workload: &'w Workload) -> Self {
        let (mut blocks, mut reversed) = (Vec::new(), Vec::new());
        for at in 0..workload.conversations.len() {
            let contents =
                compute_request_content_hashes(&workload.conversations[at].tokens, BLOCK);
            let names = workload.names(at).into_iter().map(|name| name.0.into());
            let pair = |(content_hash, seq_hash)| StoredBlock {
                seq_hash,
                content_hash,
            };
            let named: Vec<_> = contents.into_iter().zip(names).map(pair).collect();
            reversed.push(named.iter().rev().map(|block| block.seq_hash).collect());
            blocks.push(named);
        }
        Self {
            workload,
            blocks,
            reversed,
        }
    }
}

/// The index and its workers' block maps.
pub(crate) struct Chain<'w> {
    feed: &'w Feed<'w>,
    index: ChainIndex,
    ids: Vec<u32>,
    maps: Vec<ChainBlockMap>,
    numbers: HashMap<u32, usize>,
    out: Vec<(u32, u32)>,
}

impl<'w> Chain<'w> {
    /// An empty index with all workers, made for as many as there are: its leanest shape.
    pub(crate) fn new(feed: &'w Feed<'w>) -> Self {
        let workers = feed.workload.workers;
        let index = ChainIndex::with_max_workers(workers);
        let id = |at| {
            let id = index.intern_worker(&format!("worker-{at}"));
            id.unwrap_or_else(|e| panic!("kv-index refuses a worker: {e}"))
        };
        let ids: Vec<u32> = (0..workers).map(id).collect();
        Self {
            feed,
            numbers: ids.iter().copied().zip(0..).collect(),
            ids,
            index,
            maps: (0..workers).map(|_| ChainBlockMap::new()).collect(),
            out: Vec::new(),
        }
    }
}

fn apply(
    feed: &Feed<'_>,
    index: &ChainIndex,
    (ids, maps): (&[u32], &mut [ChainBlockMap]),
    step: Step,
    turns: &[Turn],
) {
    for turn in turns {
        let blocks = &feed.blocks[turn.conversation];
        let (id, map) = (ids[turn.worker], &mut maps[turn.worker]);
        if step == Step::Remove {
            let reversed = &feed.reversed[turn.conversation];
            index.apply_removed(id, &reversed[turn.reversed(blocks.len())], map);
            continue;
        }
        let parent = turn.from.checked_sub(1).map(|at| blocks[at].seq_hash);
        let stored = index.apply_stored(id, &blocks[turn.blocks()], parent, map);
        assert!(stored.is_ok(), "kv-index refuses a store: {stored:?}");
    }
}

fn lookup(index: &ChainIndex, contents: &[ContentHash], out: &mut Vec<(u32, u32)>) {
    out.clear();
    index.score_into(
        contents,
        |content| content.0,
        false,
        |worker, score| out.push((worker, score)),
    );
}

impl Contender for Chain<'_> {
    fn store(&mut self, turns: &[Turn]) -> Duration {
        let workers = (&*self.ids, &mut *self.maps);
        let begin = Instant::now();
        apply(self.feed, &self.index, workers, Step::Store, turns);
        begin.elapsed()
    }

    fn remove(&mut self, turns: &[Turn]) -> Duration {
        let workers = (&*self.ids, &mut *self.maps);
        let begin = Instant::now();
        apply(self.feed, &self.index, workers, Step::Remove, turns);
        begin.elapsed()
    }

    fn clear(&mut self, worker: usize) -> Duration {
        let begin = Instant::now();
        self.index
            .apply_cleared(self.ids[worker], &mut self.maps[worker]);
        begin.elapsed()
    }

    fn by_hashes(&mut self, query: &Query) {
        lookup(&self.index, &query.contents, &mut self.out);
    }

    fn by_tokens(&mut self, query: &Query) {
        let contents = compute_request_content_hashes(&query.tokens, BLOCK);
        lookup(&self.index, &contents, &mut self.out);
    }

    fn answer(&self) -> BTreeMap<usize, u32> {
        let found = self.out.iter();
        found
            .map(|(id, score)| (self.numbers[id], *score))
            .collect()
    }

    fn entries(&self) -> Option<u64> {
        Some(self.index.current_size() as u64)
    }

    fn race(&mut self, plan: &Plan<'_>) -> Race {
        let (feed, index, out) = (self.feed, &self.index, &mut self.out);
        let (ids, maps) = (&*self.ids, &mut *self.maps);
        race(
            plan,
            move |stop| {
                write_until(stop, plan.churn, |step, turns| {
                    apply(feed, index, (ids, maps), step, turns);
                })
            },
            |query| lookup(index, &query.contents, out),
        )
    }
}
