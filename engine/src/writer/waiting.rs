//! Blocks that cannot be placed yet: their parent is unknown, or their content is.
use crate::limits::WAITING_MAX;
use crate::types::{BlockKey, EngineHash};
use ahash::AHashMap;
use std::collections::BTreeSet;

/// What is known of a block that waits for its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Orphan {
    pub(super) parent: EngineHash,
    pub(super) key: BlockKey,
    /// Which of the writer's contexts it belongs to.
    pub(super) context: u32,
    /// Whether its event could say extra keys.
    pub(super) says_extra: bool,
}

/// Why a name has no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unplaced {
    /// Only the name was told (an offloaded copy).
    NoContent,
    /// Its parent has no place.
    Orphan(Orphan),
    /// It was told with two different contents: it counts for nothing until its last copy is gone.
    Conflict,
}

/// The names of one worker that have no place, new ones at most [`WAITING_MAX`].
#[derive(Debug, Default)]
pub(super) struct Waiting {
    blocks: AHashMap<EngineHash, Unplaced>,
    /// (parent, child) of every orphan.
    children: BTreeSet<(EngineHash, EngineHash)>,
}

impl Waiting {
    pub(super) fn len(&self) -> usize {
        self.blocks.len()
    }

    pub(super) fn orphans(&self) -> usize {
        self.children.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.blocks.len() >= WAITING_MAX
    }

    /// Enters a name, or replaces what is known of it.
    pub(super) fn insert(&mut self, hash: EngineHash, why: Unplaced) {
        self.remove(hash);
        if let Unplaced::Orphan(orphan) = why {
            self.children.insert((orphan.parent, hash));
        }
        self.blocks.insert(hash, why);
    }

    pub(super) fn get(&self, hash: EngineHash) -> Option<Unplaced> {
        self.blocks.get(&hash).copied()
    }

    pub(super) fn remove(&mut self, hash: EngineHash) -> Option<Unplaced> {
        let why = self.blocks.remove(&hash)?;
        if let Unplaced::Orphan(orphan) = why {
            self.children.remove(&(orphan.parent, hash));
        }
        Some(why)
    }

    /// Some child that waits for this parent, the one with the lowest hash.
    pub(super) fn child_of(&self, parent: EngineHash) -> Option<EngineHash> {
        if self.children.is_empty() {
            return None;
        }
        let range = (parent, EngineHash(0))..=(parent, EngineHash(u64::MAX));
        self.children.range(range).next().map(|&(_, child)| child)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
