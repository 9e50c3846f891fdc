//! The trie as people look at it: pieces of prefixes that are asked for alike are one, and the most asked ones are shown.
use super::ContextDigest;
use super::decay::{Decay, half_lives};
use super::trie::{Held, NONE, Node, Page, Trie};
use crate::limits::HOT_ROUGH_HALF_LIVES;
use ahash::AHashMap;
use kvroute_engine::hash::checksum;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// What is remembered, at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Picture {
    /// The moment, since the start.
    pub now: Duration,
    /// Whether no count is an estimate, and nothing was left out.
    pub exact: bool,
    /// Lookups that found anything, decayed, in thousandths.
    pub lookups: u64,
    /// Of how many lookups nothing was counted because the trie was in use, since the start.
    pub busy: u64,
    /// Of how many lookups the end was not counted because no node was free, since the start.
    pub full: u64,
    /// Nodes that were forgotten for want of room, since the start.
    pub forgotten: u64,
    /// Those of which something is remembered, the most asked first.
    pub contexts: Vec<HotContext>,
}

/// What is remembered of one context.
#[derive(Clone, Debug, PartialEq)]
pub struct HotContext {
    /// Its place among those that were asked for.
    pub context: usize,
    /// Lookups that found anything there, decayed, in thousandths.
    pub asked: u64,
    /// Parents before children, siblings by `asked`.
    pub nodes: Vec<HotNode>,
}

/// A piece of a prefix, all of which is asked for alike.
#[derive(Clone, Debug, PartialEq)]
pub struct HotNode {
    /// From 1, in all contexts.
    pub id: u32,
    /// The piece before it.
    pub parent: Option<u32>,
    /// Stands for the prefix up to its end: the XXH3-64 of that of the blocks before the last one, and of the last one's key.
    pub key: u64,
    /// Blocks before it.
    pub from: u32,
    /// Blocks up to its end.
    pub to: u32,
    /// Lookups that went through all of it, decayed, in thousandths.
    pub asked: u64,
    /// Who held the prefix up to its end when that was asked for last.
    pub held: Held,
    /// When that was, in milliseconds since the start.
    pub last_ms: u64,
}

/// A trie as it was at one moment.
#[derive(Debug)]
pub(super) struct Copied {
    nodes: Vec<Node>,
    pages: Vec<Page>,
    decay: Decay,
    lookups: f64,
    full: u64,
    busy: u64,
    rough: Option<Duration>,
    forgotten: u64,
}

impl Copied {
    /// With room for so many nodes, so that taking them takes no longer than copying.
    pub(super) fn with_room(nodes: usize) -> Self {
        Self {
            nodes: Vec::with_capacity(nodes),
            pages: Vec::with_capacity(nodes),
            decay: Decay::default(),
            lookups: 0.0,
            full: 0,
            busy: 0,
            rough: None,
            forgotten: 0,
        }
    }

    /// Takes a trie's contents.
    pub(super) fn take(&mut self, trie: &Trie) {
        self.nodes.clone_from(&trie.nodes);
        self.pages.clone_from(&trie.pages);
        self.decay = trie.decay;
        self.lookups = trie.lookups;
        self.full = trie.full;
        self.busy = trie.busy;
        self.rough = trie.rough;
        self.forgotten = trie.forgotten;
    }

    /// What it shows of these contexts.
    pub(super) fn picture(
        &self,
        now: Duration,
        contexts: &[ContextDigest],
        limit: usize,
    ) -> Picture {
        let rough = self.rough.map(|at| half_lives(now.saturating_sub(at)));
        let scale = self.decay.weight(now);
        Picture {
            now,
            exact: rough.is_none_or(|past| past > HOT_ROUGH_HALF_LIVES),
            lookups: thousandths(self.lookups / scale),
            busy: self.busy,
            full: self.full,
            forgotten: self.forgotten,
            contexts: Drawing::new(self, scale, contexts).most_asked(limit),
        }
    }
}

/// A count in thousandths, never rounded up: a parent's is no less than its children's then. What is lost in adding up numbers of 53 bits is
/// given back first.
fn thousandths(count: f64) -> u64 {
    (count * 1_000.0 * (1.0 + 1e-12) + 1e-9) as u64
}

/// What is known of one node of the trie.
#[derive(Clone, Copy, Debug)]
struct Drawn {
    asked: u64,
    key: u64,
    /// Blocks before it, and up to its end.
    from: u32,
    to: u32,
    /// Its first child, and the next one of its parent.
    child: u32,
    sibling: u32,
}

struct Drawing<'c> {
    of: &'c Copied,
    drawn: Vec<Drawn>,
    /// Each with the place of its context.
    roots: Vec<(u32, usize)>,
}

impl<'c> Drawing<'c> {
    fn new(of: &'c Copied, scale: f64, contexts: &[ContextDigest]) -> Self {
        let wanted: AHashMap<u64, usize> = (contexts.iter().enumerate())
            .map(|(at, context)| (context.get(), at))
            .collect();
        let asked = of.nodes.iter().map(|node| Drawn {
            asked: thousandths(node.asked / scale),
            key: node.context,
            from: 0,
            to: 0,
            child: NONE,
            sibling: NONE,
        });
        let mut drawing = Self {
            of,
            drawn: asked.collect(),
            roots: Vec::new(),
        };
        for (at, node) in (0..).zip(&of.nodes) {
            let Some(&context) = wanted.get(&node.context).filter(|_| node.len > 0) else {
                continue;
            };
            if node.parent == NONE {
                drawing.roots.push((at, context));
            } else {
                let parent = &mut drawing.drawn[node.parent as usize];
                let sibling = std::mem::replace(&mut parent.child, at);
                drawing.drawn[at as usize].sibling = sibling;
            }
        }
        drawing.go_down();
        drawing
    }

    /// Gives every node its place and key; and at least what its children were asked together, of which rounding may have taken a little.
    fn go_down(&mut self) {
        let mut order: Vec<u32> = self.roots.iter().map(|(root, _)| *root).collect();
        let mut next = 0;
        while let Some(&at) = order.get(next) {
            next += 1;
            let node = &self.of.nodes[at as usize];
            let (from, mut key) = match self.drawn.get(node.parent as usize) {
                Some(parent) => (parent.to, parent.key),
                None => (0, node.context),
            };
            for block in &self.of.pages[at as usize][..node.len as usize] {
                let mut both = [0; 16];
                both[..8].copy_from_slice(&key.to_le_bytes());
                both[8..].copy_from_slice(&block.to_le_bytes());
                key = checksum(&both);
            }
            let drawn = &mut self.drawn[at as usize];
            (drawn.from, drawn.to, drawn.key) = (from, from + node.len, key);
            order.extend(self.children(at));
        }
        for &at in order.iter().rev() {
            let below = self
                .children(at)
                .map(|child| self.drawn[child as usize].asked);
            let below = below.sum();
            let drawn = &mut self.drawn[at as usize];
            drawn.asked = drawn.asked.max(below);
        }
    }

    fn children(&self, at: u32) -> impl Iterator<Item = u32> {
        let first = self.drawn[at as usize].child;
        let there = |at: u32| Some(at).filter(|at| *at != NONE);
        std::iter::successors(there(first), move |at| {
            there(self.drawn[*at as usize].sibling)
        })
    }

    /// The last one of the nodes from this one on that are asked for alike.
    fn end(&self, mut at: u32) -> u32 {
        loop {
            let mut children = self.children(at);
            let (Some(only), None) = (children.next(), children.next()) else {
                return at;
            };
            let alike = self.drawn[only as usize].asked == self.drawn[at as usize].asked
                && self.of.nodes[only as usize].held == self.of.nodes[at as usize].held;
            if !alike {
                return at;
            }
            at = only;
        }
    }

    /// Of two equal ones a parent comes first, and every replica says the same.
    fn candidate(&self, head: u32, parent: Option<u32>, context: usize) -> Candidate {
        let end = self.end(head);
        let (first, last) = (&self.drawn[head as usize], &self.drawn[end as usize]);
        Candidate {
            asked: last.asked,
            shallow: Reverse(first.from),
            key: Reverse(last.key),
            head,
            end,
            parent,
            context,
        }
    }

    fn most_asked(&self, limit: usize) -> Vec<HotContext> {
        let mut contexts: AHashMap<usize, HotContext> = AHashMap::default();
        let mut heap = BinaryHeap::new();
        for &(root, context) in &self.roots {
            let asked = self.drawn[root as usize].asked;
            let entry = contexts.entry(context).or_insert(HotContext {
                context,
                asked: 0,
                nodes: Vec::new(),
            });
            entry.asked += asked;
            heap.push(self.candidate(root, None, context));
        }
        for id in (1..).take(limit) {
            let Some(next) = heap.pop().filter(|next| next.asked > 0) else {
                break;
            };
            let (first, last) = (
                &self.drawn[next.head as usize],
                &self.drawn[next.end as usize],
            );
            let node = &self.of.nodes[next.end as usize];
            if let Some(context) = contexts.get_mut(&next.context) {
                context.nodes.push(HotNode {
                    id,
                    parent: next.parent,
                    key: last.key,
                    from: first.from,
                    to: last.to,
                    asked: last.asked,
                    held: node.held,
                    last_ms: node.last_ms,
                });
            }
            let below = self.children(next.end);
            heap.extend(below.map(|child| self.candidate(child, Some(id), next.context)));
        }
        let mut contexts: Vec<_> = contexts.into_values().filter(|c| c.asked > 0).collect();
        contexts.sort_unstable_by_key(|context| (Reverse(context.asked), context.context));
        contexts
    }
}

/// A piece that may be shown next.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    asked: u64,
    shallow: Reverse<u32>,
    key: Reverse<u64>,
    head: u32,
    end: u32,
    parent: Option<u32>,
    context: usize,
}
