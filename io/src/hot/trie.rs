//! The trie: block keys of the prefixes that were found held, in nodes of a page, each with a count.
//!
//! A node's count is of the lookups that went through the whole node, so a prefix that ends or branches off within a node splits it: the
//! upper part becomes a node of its own, and the lower one stays the children's parent. No count is ever too high: what there is no room for is
//! left out from some node on downwards, and counted. Nothing is allocated once the trie is made: nodes are found through buckets that are chained
//! within the nodes.
use super::ContextDigest;
use super::decay::Decay;
use crate::limits::{HOT_BLOCKS_MAX, HOT_COUNT_MIN, HOT_PAGE_KEYS};
use ahash::RandomState;
use kvroute_engine::types::BlockKey;
use std::time::Duration;

/// No node.
pub(super) const NONE: u32 = u32::MAX;

/// How many hold all of a prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Pods of which at least one worker holds it.
    pub pods: u32,
    /// Workers.
    pub workers: u32,
}

/// What one lookup found held, as far as any worker holds it.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'s> {
    /// The context.
    pub context: ContextDigest,
    /// How many lookups it stands for.
    pub weight: u32,
    /// Whether the same lookup was added in another context before.
    pub again: bool,
    /// The prefix; cut to [`HOT_BLOCKS_MAX`].
    pub keys: &'s [BlockKey],
    /// By block, as many as there are keys: who holds the prefix up to the end of that block. Never more than of the block before.
    pub held: &'s [Held],
}

/// A piece of a prefix, but for its keys.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    /// Weights of the lookups that went through all of it, added up.
    pub(super) asked: f64,
    pub(super) context: u64,
    /// When it was asked for last, in milliseconds since the start.
    pub(super) last_ms: u64,
    /// [`NONE`] at the beginning of a prompt.
    pub(super) parent: u32,
    /// The next node of its bucket; of a free node, the next free one.
    next: u32,
    pub(super) children: u32,
    /// Who held all of the prefix when it was asked for last.
    pub(super) held: Held,
    /// Keys; none if the node is free.
    pub(super) len: u32,
}

const _: () = assert!(size_of::<Node>() == 48, "keep the bound's reason true");

/// The keys of a node, zero behind its last one.
pub(super) type Page = [u64; HOT_PAGE_KEYS];

/// The prefixes. See the module.
#[derive(Debug)]
pub struct Trie {
    /// Of those that were ever used.
    pub(super) nodes: Vec<Node>,
    pub(super) pages: Vec<Page>,
    pub(super) room: usize,
    /// The first node of each bucket.
    buckets: Box<[u32]>,
    hasher: RandomState,
    /// The first free one of the nodes, and how many there are.
    free: u32,
    freed: usize,
    pub(super) decay: Decay,
    /// Weights of the lookups that found anything.
    pub(super) lookups: f64,
    /// Of how many lookups the end was left out because no node was free.
    pub(super) full: u64,
    /// Of how many lookups all was left out because the trie was in use, as far as it was told.
    pub(super) busy: u64,
    /// When a count was estimated or left out last.
    pub(super) rough: Option<Duration>,
    /// Where the next look for something to forget begins.
    pub(super) hand: usize,
    /// The count below which something is forgotten.
    pub(super) least: f64,
    /// Nodes that were forgotten although their counts were not negligible.
    pub(super) forgotten: u64,
}

impl Trie {
    /// With room for so many nodes, empty.
    #[must_use]
    pub fn new(room: usize) -> Self {
        Self {
            nodes: Vec::with_capacity(room),
            pages: Vec::with_capacity(room),
            room,
            buckets: vec![NONE; (2 * room).next_power_of_two()].into(),
            hasher: RandomState::new(),
            free: NONE,
            freed: 0,
            decay: Decay::default(),
            lookups: 0.0,
            full: 0,
            busy: 0,
            rough: None,
            hand: 0,
            least: HOT_COUNT_MIN,
            forgotten: 0,
        }
    }

    /// Adds what a lookup at a moment found. Moments may come in any order; those that are earlier than the last count as that. O(blocks) and a
    /// bounded number of nodes that may be forgotten; no allocation.
    pub fn add(&mut self, now: Duration, sample: &Sample<'_>) {
        if sample.weight == 0 || sample.keys.is_empty() {
            return;
        }
        self.rebase(now);
        let scale = self.decay.weight(now);
        // Before it, so that none of its own nodes are.
        self.garden(now, scale);
        let weight = f64::from(sample.weight) * scale;
        if !sample.again {
            self.lookups += weight;
        }
        let all = self.walk(sample, weight, now.as_millis() as u64);
        if !all {
            self.full += u64::from(sample.weight);
        }
        if !all || sample.weight > 1 {
            self.rough = Some(now);
        }
    }

    /// Tells of how many lookups were left out because the trie was in use, since the start.
    pub(super) fn left_out_busy(&mut self, now: Duration, busy: u64) {
        if self.busy != busy {
            self.busy = busy;
            self.rough = Some(now);
        }
    }

    /// Nodes that are free.
    pub(super) fn free(&self) -> usize {
        self.room - self.nodes.len() + self.freed
    }

    /// Counts a prefix, node by node; whether there was room for all of it.
    fn walk(&mut self, sample: &Sample<'_>, weight: f64, last_ms: u64) -> bool {
        let context = sample.context.get();
        let depth = sample.keys.len().min(sample.held.len()).min(HOT_BLOCKS_MAX);
        let (keys, held) = (&sample.keys[..depth], &sample.held[..depth]);
        // Nodes end where one pod alone goes on: what is on that one only is told of none that is on more.
        let shared = held.partition_point(|held| held.pods > 1);
        let (mut parent, mut at) = (NONE, 0);
        while at < depth {
            let end = if at < shared { shared } else { depth };
            let rest = &keys[at..end];
            let found = match self.child(context, parent, rest[0].get()) {
                Some(node) => {
                    let same = self.agree(node, rest);
                    match same < self.nodes[node as usize].len as usize {
                        true => self.split(node, same),
                        false => Some(node),
                    }
                }
                None => self.extend(context, parent, rest),
            };
            let Some(found) = found else {
                return false;
            };
            let node = &mut self.nodes[found as usize];
            at += node.len as usize;
            node.asked += weight;
            node.last_ms = last_ms;
            node.held = held[at - 1];
            parent = found;
        }
        true
    }

    /// How many of the node's keys these begin with.
    fn agree(&self, node: u32, keys: &[BlockKey]) -> usize {
        let len = self.nodes[node as usize].len as usize;
        let page = &self.pages[node as usize][..len];
        let same = page.iter().zip(keys).take_while(|(a, b)| **a == b.get());
        same.count()
    }

    /// The child that begins with this key.
    pub(super) fn child(&self, context: u64, parent: u32, first: u64) -> Option<u32> {
        let mut at = self.buckets[self.bucket(context, parent, first)];
        while at != NONE {
            let node = &self.nodes[at as usize];
            if node.parent == parent
                && node.context == context
                && self.pages[at as usize][0] == first
            {
                return Some(at);
            }
            at = node.next;
        }
        None
    }

    /// A new child with as many of the keys as go into a node.
    fn extend(&mut self, context: u64, parent: u32, keys: &[BlockKey]) -> Option<u32> {
        let new = self.take()?;
        let len = keys.len().min(HOT_PAGE_KEYS);
        let mut page = Page::default();
        for (slot, key) in page.iter_mut().zip(keys) {
            *slot = key.get();
        }
        self.pages[new as usize] = page;
        self.nodes[new as usize] = Node {
            context,
            parent,
            len: len as u32,
            ..UNUSED
        };
        if let Some(parent) = self.nodes.get_mut(parent as usize) {
            parent.children += 1;
        }
        self.link(new);
        Some(new)
    }

    /// Makes the first `at` keys of a node a node of their own, above it.
    fn split(&mut self, lower: u32, at: usize) -> Option<u32> {
        let upper = self.take()?;
        self.unlink(lower);
        let (of, page) = (self.nodes[lower as usize], self.pages[lower as usize]);
        let mut first = Page::default();
        first[..at].copy_from_slice(&page[..at]);
        let mut second = Page::default();
        second[..HOT_PAGE_KEYS - at].copy_from_slice(&page[at..]);
        self.pages[upper as usize] = first;
        self.pages[lower as usize] = second;
        self.nodes[upper as usize] = Node {
            len: at as u32,
            children: 1,
            ..of
        };
        let below = &mut self.nodes[lower as usize];
        below.parent = upper;
        below.len -= at as u32;
        self.link(upper);
        self.link(lower);
        Some(upper)
    }

    /// A node that is free, if one is.
    fn take(&mut self) -> Option<u32> {
        if let Some(node) = self.nodes.get(self.free as usize) {
            let taken = self.free;
            self.free = node.next;
            self.freed -= 1;
            return Some(taken);
        }
        if self.nodes.len() == self.room {
            return None;
        }
        self.nodes.push(UNUSED);
        self.pages.push(Page::default());
        Some(self.nodes.len() as u32 - 1)
    }

    /// Gives a node without children back.
    pub(super) fn forget(&mut self, node: u32) {
        self.unlink(node);
        let parent = self.nodes[node as usize].parent;
        if let Some(parent) = self.nodes.get_mut(parent as usize) {
            parent.children -= 1;
        }
        self.nodes[node as usize] = Node {
            next: self.free,
            ..UNUSED
        };
        self.free = node;
        self.freed += 1;
    }

    fn bucket(&self, context: u64, parent: u32, first: u64) -> usize {
        let hash = self.hasher.hash_one((context, parent, first));
        hash as usize & (self.buckets.len() - 1)
    }

    fn bucket_of(&self, node: u32) -> usize {
        let of = &self.nodes[node as usize];
        self.bucket(of.context, of.parent, self.pages[node as usize][0])
    }

    fn link(&mut self, node: u32) {
        let bucket = self.bucket_of(node);
        self.nodes[node as usize].next = self.buckets[bucket];
        self.buckets[bucket] = node;
    }

    fn unlink(&mut self, node: u32) {
        let bucket = self.bucket_of(node);
        let next = self.nodes[node as usize].next;
        let mut at = self.buckets[bucket];
        if at == node {
            self.buckets[bucket] = next;
            return;
        }
        while at != NONE {
            let before = &mut self.nodes[at as usize];
            at = before.next;
            if at == node {
                before.next = next;
            }
        }
    }

    /// Keeps the weights numbers.
    fn rebase(&mut self, now: Duration) {
        if let Some(factor) = self.decay.rebase(now) {
            self.lookups *= factor;
            for node in &mut self.nodes {
                node.asked *= factor;
            }
        }
    }
}

/// A node without keys.
const UNUSED: Node = Node {
    asked: 0.0,
    context: 0,
    last_ms: 0,
    parent: NONE,
    next: NONE,
    children: 0,
    held: Held {
        pods: 0,
        workers: 0,
    },
    len: 0,
};
