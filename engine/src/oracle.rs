//! The literal model: what every answer of the index must equal.
//!
//! Nothing here is fast or shared. A worker is a table of names; a name has copies by tier and, if
//! it is known, the whole path of its block (context, keys from the root). A worker holds a block if
//! some name with that path has a copy; its score is the number of leading blocks of the request
//! that it holds.
//!
//! A worker with sliding-window groups has a further table of names for each: copies on the GPU. A block is
//! in a group if some name with its path is. The score is then the longest prefix of held blocks whose
//! last ones, as many as a group's window needs, are in that group, for every group.
use crate::hash::kept_apart_key;
use crate::types::{BlockKey, EngineHash, TIERS, Tier};
use std::collections::BTreeMap;

/// A number for a context, chosen by the caller.
pub type ContextNumber = u32;

/// The path of a block: its context and the keys from the root to it.
type Path = (ContextNumber, Vec<BlockKey>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Position {
    /// Placed.
    At(Path),
    /// Its parent has no path yet.
    Orphan {
        parent: EngineHash,
        context: ContextNumber,
        key: BlockKey,
        says_extra: bool,
    },
    /// Only the name was told.
    NoContent,
    /// Two contents were told: it counts for nothing.
    Conflict,
}

#[derive(Clone, Debug)]
struct Name {
    copies: [u32; TIERS],
    position: Position,
}

/// A stored event, with its block keys.
#[derive(Clone, Debug)]
pub struct OracleStore<'a> {
    /// The context.
    pub context: ContextNumber,
    /// Where the copies are.
    pub tier: Tier,
    /// The block before the first one.
    pub parent: Option<EngineHash>,
    /// The blocks in order; no key: only the name was told.
    pub blocks: &'a [(EngineHash, Option<BlockKey>)],
    /// Whether the event could say extra keys.
    pub says_extra: bool,
}

/// A sliding-window group.
#[derive(Clone, Debug)]
struct Group {
    /// Blocks at the end of a prefix that must be in it.
    blocks: usize,
    /// Copies on the GPU.
    copies: BTreeMap<EngineHash, u32>,
}

/// One worker, literally.
#[derive(Clone, Debug, Default)]
pub struct OracleWorker {
    names: BTreeMap<EngineHash, Name>,
    groups: BTreeMap<u32, Group>,
}

impl OracleWorker {
    /// Applies a stored event.
    pub fn store(&mut self, event: &OracleStore<'_>) {
        let mut before = match event.parent {
            None => Some((event.context, Vec::new())),
            Some(parent) => self.path(parent).filter(|path| path.0 == event.context),
        };
        let mut parent = event.parent;
        for &(hash, key) in event.blocks {
            self.store_one(event, before.take(), parent, hash, key);
            before = self.path(hash);
            parent = Some(hash);
        }
    }

    /// Applies a removed event.
    pub fn remove(&mut self, tier: Tier, hashes: &[EngineHash]) {
        for hash in hashes {
            let Some(name) = self.names.get_mut(hash) else {
                continue;
            };
            let count = &mut name.copies[tier.index()];
            *count = count.saturating_sub(1);
            if name.copies == [0; TIERS] {
                self.names.remove(hash);
            }
        }
    }

    /// Applies a stored event of a sliding-window group that needs so many `blocks`.
    pub fn store_window(&mut self, group: u32, blocks: u32, tier: Tier, hashes: &[EngineHash]) {
        let blocks = usize::try_from(blocks).unwrap_or(usize::MAX);
        let copies = BTreeMap::new();
        let group = self.groups.entry(group);
        let group = group.or_insert(Group { blocks, copies });
        for &hash in hashes.iter().filter(|_| tier == Tier::Gpu) {
            *group.copies.entry(hash).or_insert(0) += 1;
        }
    }

    /// Applies a removed event of a sliding-window group.
    pub fn remove_window(&mut self, group: u32, tier: Tier, hashes: &[EngineHash]) {
        let Some(group) = self.groups.get_mut(&group) else {
            return;
        };
        for hash in hashes.iter().filter(|_| tier == Tier::Gpu) {
            if let Some(copies) = group.copies.get_mut(hash) {
                *copies = copies.saturating_sub(1);
            }
        }
    }

    /// Removes everything. The groups are still there, empty.
    pub fn clear(&mut self) {
        self.names.clear();
        for group in self.groups.values_mut() {
            group.copies.clear();
        }
    }

    /// Another engine: nothing is known of its groups.
    pub fn forget_windows(&mut self) {
        self.groups.clear();
    }

    /// Names with a path.
    #[must_use]
    pub fn blocks(&self) -> usize {
        let placed = |name: &&Name| matches!(name.position, Position::At(_));
        self.names.values().filter(placed).count()
    }

    /// Leading blocks of the request that the worker can reuse, cumulative by tier.
    #[must_use]
    pub fn score(&self, context: ContextNumber, request: &[BlockKey]) -> [u32; TIERS] {
        let mut score = [0; TIERS];
        for tier in Tier::ALL {
            let holds = |blocks: &usize| {
                self.names.values().any(|name| {
                    name.copies[..=tier.index()].iter().any(|&count| count > 0)
                        && is_at(name, context, &request[..*blocks])
                })
            };
            let held = (1..=request.len()).take_while(holds).count();
            let allowed = |len: &usize| self.windows_allow(context, &request[..*len]);
            let longest = (0..=held).rev().find(allowed).unwrap_or(0);
            score[tier.index()] = u32::try_from(longest).unwrap_or(u32::MAX);
        }
        score
    }

    /// Whether the last blocks of a prefix are in every group.
    fn windows_allow(&self, context: ContextNumber, prefix: &[BlockKey]) -> bool {
        let is_in = |group: &Group, blocks: usize| {
            let copies = group.copies.iter().filter(|&(_, &count)| count > 0);
            let mut names = copies.filter_map(|(hash, _)| self.names.get(hash));
            names.any(|name| is_at(name, context, &prefix[..blocks]))
        };
        self.groups.values().all(|group| {
            let outside = prefix.len().saturating_sub(group.blocks);
            (outside + 1..=prefix.len()).all(|blocks| is_in(group, blocks))
        })
    }

    fn path(&self, hash: EngineHash) -> Option<Path> {
        match &self.names.get(&hash)?.position {
            Position::At(path) => Some(path.clone()),
            _ => None,
        }
    }

    fn store_one(
        &mut self,
        event: &OracleStore<'_>,
        before: Option<Path>,
        parent: Option<EngineHash>,
        hash: EngineHash,
        key: Option<BlockKey>,
    ) {
        let known = self.names.get(&hash).map(|name| name.position.clone());
        let position = match (known, key) {
            (None, None) => Position::NoContent,
            (Some(known), None) => known,
            (Some(known), Some(key)) if contradicts(&known, event.context, hash, key) => {
                Position::Conflict
            }
            (Some(known @ Position::At(_)), Some(_)) => known,
            (_, Some(key)) => match (before, parent) {
                (Some(before), _) => Position::At(self.extend(before, hash, key, event.says_extra)),
                (None, parent) => Position::Orphan {
                    parent: parent.unwrap_or(hash),
                    context: event.context,
                    key,
                    says_extra: event.says_extra,
                },
            },
        };
        let copies = [0; TIERS];
        let name = self.names.entry(hash).or_insert(Name {
            copies,
            position: Position::NoContent,
        });
        name.copies[event.tier.index()] += 1;
        let newly_placed = name.position != position;
        name.position = position;
        if newly_placed {
            self.attach(hash);
        }
    }

    /// The path of a block after another, kept apart from a block of the same content that the worker
    /// holds, if the engine does not say what tells them apart.
    fn extend(&self, mut path: Path, hash: EngineHash, key: BlockKey, says_extra: bool) -> Path {
        path.1.push(key);
        let taken = self
            .names
            .iter()
            .any(|(&other, name)| other != hash && name.position == Position::At(path.clone()));
        if taken && !says_extra {
            path.1.pop();
            path.1.push(kept_apart_key(key, hash));
        }
        path
    }

    /// Places what waited for a name that has a path now: its children by their hashes, then what
    /// waited for the last of them, and so on.
    fn attach(&mut self, placed: EngineHash) {
        let mut parents = vec![placed];
        while let Some(placed) = parents.pop() {
            let Some(before) = self.path(placed) else {
                continue;
            };
            let waits = |name: &Name| matches!(name.position, Position::Orphan { parent, .. } if parent == placed);
            let children = self.names.iter().filter(|(_, name)| waits(name));
            let children: Vec<_> = children
                .map(|(&hash, name)| (hash, name.position.clone()))
                .collect();
            for (hash, position) in children {
                let Position::Orphan {
                    context,
                    key,
                    says_extra,
                    ..
                } = position
                else {
                    continue;
                };
                let position = if context == before.0 {
                    parents.push(hash);
                    Position::At(self.extend(before.clone(), hash, key, says_extra))
                } else {
                    Position::Conflict
                };
                if let Some(name) = self.names.get_mut(&hash) {
                    name.position = position;
                }
            }
        }
    }
}

/// Whether a name's block is the last one of `blocks`.
fn is_at(name: &Name, context: ContextNumber, blocks: &[BlockKey]) -> bool {
    matches!(&name.position, Position::At((c, path)) if *c == context && path == blocks)
}

/// Whether a name that is known was told with another content.
fn contradicts(known: &Position, context: ContextNumber, hash: EngineHash, key: BlockKey) -> bool {
    match known {
        Position::At((c, path)) => {
            let last = path.last().copied();
            *c != context || (last != Some(key) && last != Some(kept_apart_key(key, hash)))
        }
        Position::Orphan {
            context: c, key: k, ..
        } => *c != context || *k != key,
        Position::NoContent => false,
        Position::Conflict => true,
    }
}
