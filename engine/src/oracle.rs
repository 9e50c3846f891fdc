//! The literal model: what every answer of the index must equal.
//!
//! Nothing here is fast or shared. A worker is a table of names; a name has copies by tier and, if
//! it is known, the whole path of its block (context, keys from the root). A worker holds a block if
//! some name with that path has a copy; its score is the number of leading blocks of the request
//! that it holds.
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

/// One worker, literally.
#[derive(Clone, Debug, Default)]
pub struct OracleWorker {
    names: BTreeMap<EngineHash, Name>,
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

    /// Removes everything.
    pub fn clear(&mut self) {
        self.names.clear();
    }

    /// Names with a path.
    #[must_use]
    pub fn blocks(&self) -> usize {
        let placed = |name: &&Name| matches!(name.position, Position::At(_));
        self.names.values().filter(placed).count()
    }

    /// Leading blocks of the request that the worker holds, cumulative by tier.
    #[must_use]
    pub fn score(&self, context: ContextNumber, request: &[BlockKey]) -> [u32; TIERS] {
        let mut score = [0; TIERS];
        for tier in Tier::ALL {
            let holds = |blocks: &usize| {
                let path = &request[..*blocks];
                self.names.values().any(|name| {
                    name.copies[..=tier.index()].iter().any(|&count| count > 0)
                        && matches!(&name.position, Position::At((c, p)) if *c == context && p == path)
                })
            };
            let held = (1..=request.len()).take_while(holds).count();
            score[tier.index()] = u32::try_from(held).unwrap_or(u32::MAX);
        }
        score
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
