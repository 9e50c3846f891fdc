//! Where the blocks of one worker stand in their chains, and which of them are of a prefix.
use super::{Block, Context};
use crate::limits::DUMP_PLACES_MAX;
use ahash::AHashMap;
use kvroute_engine::hash::{BlockHasher, ExtraDigest};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// A prefix that is looked for.
#[derive(Clone, Debug)]
pub enum Prefix {
    /// By what its blocks have in them, for each size of blocks.
    Keys(BTreeMap<u32, Vec<u64>>),
    /// By the engines' names of blocks: these, and all that follow them.
    Names(BTreeSet<u64>),
    /// The tokens of a plain prompt, without adapter, salt or images; and the seed of the node's block keys.
    Tokens(Vec<u32>, u64),
}

/// What is known of one worker's blocks so far.
#[derive(Debug, Default)]
pub(super) struct Places {
    whose: Option<(Context, String, u32)>,
    prefix: Sought,
    places: AHashMap<u64, Place>,
}

/// What is looked for among blocks of one size.
#[derive(Debug, Default)]
enum Sought {
    #[default]
    All,
    Keys(Vec<u64>),
    Names(BTreeSet<u64>),
}

#[derive(Clone, Copy, Debug)]
struct Place {
    depth: Option<u32>,
    is_wanted: bool,
}

/// What of an event's blocks is wanted.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) wanted: Range<usize>,
    /// How many of these are of the prefix itself.
    pub(super) of_prefix: usize,
    /// Of the first block of the event, wanted or not.
    pub(super) position: Option<u32>,
}

impl Places {
    /// The next event is of this worker. Workers come one after the other.
    pub(super) fn begin(
        &mut self,
        context: &Context,
        pod: &str,
        rank: u32,
        prefix: Option<&Prefix>,
    ) {
        let same = |(of, name, number): &(Context, String, u32)| {
            of == context && name == pod && *number == rank
        };
        if self.whose.as_ref().is_some_and(same) {
            return;
        }
        self.whose = Some((context.clone(), pod.to_owned(), rank));
        self.places.clear();
        self.prefix = match prefix {
            None => Sought::All,
            Some(Prefix::Names(names)) => Sought::Names(names.clone()),
            Some(Prefix::Keys(keys)) => {
                let of = keys.get(&context.block_size);
                Sought::Keys(of.cloned().unwrap_or_default())
            }
            Some(Prefix::Tokens(tokens, seed)) => {
                Sought::Keys(keys(tokens, *seed, context.block_size))
            }
        };
    }

    /// Takes the blocks of one event, which follow each other. O(blocks).
    pub(super) fn run(&mut self, parent: Option<u64>, blocks: &[Block]) -> Wanted {
        let mut before = match parent {
            None => None,
            // One that was not said: where it stands cannot be told.
            Some(parent) => Some(self.places.get(&parent).copied().unwrap_or(Place {
                depth: None,
                is_wanted: matches!(self.prefix, Sought::All),
            })),
        };
        let mut found = Wanted {
            wanted: 0..0,
            of_prefix: 0,
            position: None,
        };
        for (at, block) in blocks.iter().enumerate() {
            let depth = match before {
                None => Some(0),
                Some(before) => before.depth.and_then(|depth| depth.checked_add(1)),
            };
            let follows = before.is_none_or(|before| before.is_wanted);
            let (is_wanted, of_prefix) = self.prefix.wants(block, depth, follows, before.is_some());
            let place = Place { depth, is_wanted };
            if at == 0 {
                found.position = depth;
            }
            if is_wanted {
                if found.wanted.is_empty() {
                    found.wanted.start = at;
                }
                found.wanted.end = at + 1;
                found.of_prefix += usize::from(of_prefix);
            }
            if self.places.len() < DUMP_PLACES_MAX {
                self.places.insert(block.hash, place);
            }
            before = Some(place);
        }
        found
    }
}

impl Sought {
    /// Whether a block is wanted, and whether it is of the prefix itself.
    fn wants(
        &self,
        block: &Block,
        depth: Option<u32>,
        follows: bool,
        has_parent: bool,
    ) -> (bool, bool) {
        match self {
            Self::All => (true, false),
            Self::Keys(keys) => {
                let Some(depth) = depth else {
                    return (false, false);
                };
                match keys.get(depth as usize) {
                    Some(&key) => (follows && key == block.key, follows && key == block.key),
                    None => (follows && !keys.is_empty(), false),
                }
            }
            Self::Names(names) => {
                let named = names.contains(&block.hash);
                (named || (has_parent && follows), named)
            }
        }
    }
}

/// The keys of a plain prompt's whole blocks.
fn keys(tokens: &[u32], seed: u64, block_size: u32) -> Vec<u64> {
    let hasher = BlockHasher::new(seed);
    let blocks = tokens.chunks_exact(block_size.max(1) as usize);
    let keys = blocks.map(|block| hasher.key(block, ExtraDigest::NONE).get());
    keys.collect()
}
