//! What an engine really held after each of its batches, by content and apart from events, names and index.
use kvroute::fake::cache::{Cache, Link};
use kvroute::fake::chance::mix;
use kvroute::fake::prompts::Scope;
use kvroute_engine::types::{TIERS, Tier};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The identity of a block with all before it, the same in all lives of all engines.
type Content = u64;

fn content(parent: Option<Content>, tokens: &[u32], scope: &Scope) -> Content {
    let add = |hash: u64, word: u64| mix(hash.wrapping_mul(0x1_0001).wrapping_add(word + 3));
    let mut hash = add(u64::from(scope.adapter), parent.unwrap_or(1));
    if let (None, Some(salt)) = (parent, &scope.salt) {
        hash = salt.bytes().fold(hash, |h, byte| add(h, u64::from(byte)));
    }
    tokens
        .iter()
        .fold(hash, |h, &token| add(h, u64::from(token)))
}

/// A prompt that the index and the engine are both asked about.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    pub(crate) tokens: Vec<u32>,
    pub(crate) scope: Scope,
}

impl Probe {
    /// The prefixes of its whole blocks.
    fn contents(&self, block_size: u32) -> Vec<Content> {
        let mut parent = None;
        let blocks = self.tokens.chunks_exact(block_size as usize);
        blocks
            .map(|block| {
                let id = content(parent, block, &self.scope);
                parent = Some(id);
                id
            })
            .collect()
    }
}

/// What is held at one moment: by content, a bit for each tier.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    held: BTreeMap<Content, u8>,
}

impl Snapshot {
    /// Leading blocks held, cumulative by tier, as the node's contract says it.
    pub(crate) fn score(&self, probe: &Probe, block_size: u32) -> [u32; TIERS] {
        let contents = probe.contents(block_size);
        Tier::ALL.map(|tier| {
            let up_to = (1_u8 << (tier.index() + 1)) - 1;
            let holds = |id: &&Content| self.held.get(id).is_some_and(|tiers| tiers & up_to != 0);
            contents.iter().take_while(holds).count() as u32
        })
    }

    /// How many blocks.
    pub(crate) fn blocks(&self) -> u64 {
        self.held.len() as u64
    }
}

/// One life of an engine.
#[derive(Debug, Default)]
pub(crate) struct Life {
    /// By number: what was published, and what was held then. `None`: the number was spent on nothing.
    batches: Vec<Option<(Arc<[u8]>, Snapshot)>>,
    /// By number: the node was given it, as it was.
    given: Vec<bool>,
    /// The node was given something with a number that is not its own.
    pub(crate) misnumbered: bool,
    /// The node was given a payload that is not what the engine published.
    pub(crate) corrupted: bool,
    /// The node was answered something that it cannot read.
    pub(crate) unreadable: bool,
    /// The node was given batches twice, or in another order. It takes numbers that go back for a new life, because
    /// no socket does that; so it may give up what it was told.
    pub(crate) disordered: bool,
    /// A number was spent on nothing.
    pub(crate) has_holes: bool,
    /// The ring has lost its beginning.
    pub(crate) rotated: bool,
    /// By the engine's hash: blocks that this life has named.
    names: HashMap<u64, Content>,
}

impl Life {
    pub(crate) fn after(&self, sequence: u64) -> Option<&Snapshot> {
        let batch = self.batches.get(usize::try_from(sequence).ok()?)?;
        batch.as_ref().map(|(_, snapshot)| snapshot)
    }

    pub(crate) fn newest(&self) -> Option<u64> {
        (self.batches.len() as u64).checked_sub(1)
    }

    /// Whether the node was given everything, as far as it can be.
    pub(crate) fn is_given(&self) -> bool {
        self.given.iter().all(|&given| given)
    }

    /// The node is another one.
    pub(crate) fn forget_given(&mut self) {
        self.given.fill(false);
    }

    /// Notes what the engine has published.
    pub(crate) fn publish(&mut self, payload: &[u8], cache: &Cache) {
        let mut held = BTreeMap::new();
        for (hash, found) in cache.held() {
            let id = self.name(hash, &found.link);
            let tiers = held.entry(id).or_insert(0);
            for (tier, _) in found
                .copies
                .iter()
                .enumerate()
                .filter(|(_, count)| **count > 0)
            {
                *tiers |= 1 << tier;
            }
        }
        self.batches.push(Some((payload.into(), Snapshot { held })));
        self.given.push(false);
    }

    /// Notes a number that nothing was published with.
    pub(crate) fn spend(&mut self) {
        self.batches.push(None);
        self.given.push(false);
        self.has_holes = true;
    }

    /// Notes what the node was given as batch `sequence` of this life.
    pub(crate) fn give(&mut self, sequence: u64, payload: &[u8]) {
        let at = usize::try_from(sequence).unwrap_or(usize::MAX);
        let intact = matches!(self.batches.get(at), Some(Some((told, _))) if **told == *payload);
        if intact {
            self.given[at] = true;
            return;
        }
        let elsewhere = |batch: &Option<(Arc<[u8]>, Snapshot)>| matches!(batch, Some((told, _)) if **told == *payload);
        match self.batches.iter().any(elsewhere) {
            true => self.misnumbered = true,
            false => self.corrupted = true,
        }
    }

    fn name(&mut self, hash: u64, link: &Link) -> Content {
        if let Some(&id) = self.names.get(&hash) {
            return id;
        }
        let parent = link.parent.as_ref();
        let parent = parent.map(|parent| self.name(parent.hash, parent));
        let id = content(parent, &link.tokens, &link.scope);
        self.names.insert(hash, id);
        id
    }
}
