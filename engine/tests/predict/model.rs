//! The literal model: every record as it was made, a context, the path of its keys and a deadline.
//!
//! A block is held if some record reaches it, until the latest deadline of those that do.
use kvroute_engine::types::BlockKey;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// A block: its context and the keys up to it.
pub(crate) type Path<'a> = (usize, &'a [BlockKey]);

/// Every record, cut down to what has not left of it.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) records: Vec<(usize, Vec<BlockKey>, u64)>,
}

impl Model {
    /// Every block that some record reaches, with the latest deadline of those that do.
    pub(crate) fn held(&self) -> BTreeMap<Path<'_>, u64> {
        let mut held = BTreeMap::new();
        for (context, path, deadline) in &self.records {
            for blocks in 1..=path.len() {
                let latest = held.entry((*context, &path[..blocks])).or_insert(0);
                *latest = (*latest).max(*deadline);
            }
        }
        held
    }

    pub(crate) fn score(&self, context: usize, path: &[BlockKey]) -> usize {
        let same = self.records.iter().filter(|record| record.0 == context);
        let common = |(_, there, _): &(usize, Vec<BlockKey>, u64)| {
            let pairs = there.iter().zip(path);
            pairs.take_while(|(a, b)| a == b).count()
        };
        same.map(common).max().unwrap_or(0)
    }

    pub(crate) fn due(&self, now: u64) -> usize {
        let held = self.held();
        held.values().filter(|&&deadline| deadline <= now).count()
    }

    /// Removes `count` blocks, the earliest deadlines first, among equals the deepest. Which of those that
    /// are equal in both is not said: `is_there` is asked, and the number of them that are gone
    /// must be right. Gives back the removed blocks.
    pub(crate) fn remove_first(
        &mut self,
        count: usize,
        is_there: impl Fn(Path<'_>) -> bool,
    ) -> Vec<(usize, Vec<BlockKey>)> {
        let rank = |(path, deadline): &(Path<'_>, u64)| (*deadline, Reverse(path.1.len()));
        let mut blocks: Vec<_> = self.held().into_iter().collect();
        blocks.sort_by_key(rank);
        let Some(last) = count.checked_sub(1).map(|last| rank(&blocks[last])) else {
            return Vec::new();
        };
        let leaves = |block: &&(Path<'_>, u64)| {
            rank(block) < last || (rank(block) == last && !is_there(block.0))
        };
        let gone = blocks.iter().filter(leaves);
        let gone: Vec<_> = gone
            .map(|&((context, path), _)| (context, path.to_vec()))
            .collect();
        assert_eq!(gone.len(), count, "of equals, too few or too many left");
        for (context, path) in &gone {
            for (there, reached, _) in &mut self.records {
                if there == context && reached.starts_with(path) {
                    reached.truncate(path.len() - 1);
                }
            }
        }
        self.records.retain(|(_, path, _)| !path.is_empty());
        gone
    }
}
