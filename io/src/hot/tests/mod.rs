//! The trie against a literal map of all prefixes, and what it comes to over time and under pressure.
mod against_a_map;
mod pictures;
mod pressure;
mod samplers;

use super::trie::{NONE, Node};
use super::*;
use kvroute_engine::types::BlockKey;
use std::collections::HashMap;

const START: Duration = Duration::ZERO;

fn keys(keys: impl IntoIterator<Item = u64>) -> Vec<BlockKey> {
    keys.into_iter().map(BlockKey::new).collect()
}

fn context(n: u32) -> ContextDigest {
    ContextDigest::of("m", "", n)
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Adds a prefix that one worker holds.
fn add(trie: &mut Trie, now: Duration, weight: u32, prefix: &[BlockKey]) {
    let held = vec![
        Held {
            pods: 1,
            workers: 1
        };
        prefix.len()
    ];
    let sample = Sample {
        context: context(16),
        weight,
        again: false,
        keys: prefix,
        held: &held,
    };
    trie.add(now, &sample);
}

fn picture(trie: &Trie, now: Duration, limit: usize) -> Picture {
    let mut copy = Copied::with_room(0);
    copy.take(trie);
    copy.picture(now, &[context(16)], limit)
}

/// (from, to, asked in thousandths) of all pieces.
fn pieces(picture: &Picture) -> Vec<(u32, u32, u64)> {
    let nodes = picture.contexts.iter().flat_map(|context| &context.nodes);
    nodes.map(|node| (node.from, node.to, node.asked)).collect()
}

/// What a trie says of a prefix at some depth.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Said {
    asked: f64,
    /// At the ends of nodes only.
    held: Option<Held>,
}

/// The nodes that are in use.
fn live(trie: &Trie) -> impl Iterator<Item = (u32, &Node)> {
    (0..).zip(&trie.nodes).filter(|(_, node)| node.len > 0)
}

/// What a trie says of each prefix, at every depth. Counts are weights: worth what they say at the start.
fn said(trie: &Trie) -> HashMap<(u64, Vec<u64>), Said> {
    let mut said = HashMap::new();
    for (at, node) in live(trie) {
        let mut above = Vec::new();
        let mut up = node.parent;
        while up != NONE {
            above.push(up);
            up = trie.nodes[up as usize].parent;
        }
        let page = |at: u32| {
            let len = trie.nodes[at as usize].len as usize;
            trie.pages[at as usize][..len].to_vec()
        };
        let mut prefix: Vec<u64> = above.into_iter().rev().flat_map(page).collect();
        for (block, key) in page(at).into_iter().enumerate() {
            prefix.push(key);
            let end = block + 1 == node.len as usize;
            let held = end.then_some(node.held);
            let one = Said {
                asked: node.asked,
                held,
            };
            let before = said.insert((node.context, prefix.clone()), one);
            assert!(before.is_none(), "a prefix is there twice");
        }
    }
    said
}

/// What must be true at any time.
fn check(trie: &Trie) {
    let mut below: HashMap<u32, (u32, f64)> = HashMap::new();
    for (_, node) in live(trie) {
        let sums = below.entry(node.parent).or_default();
        sums.0 += 1;
        sums.1 += node.asked;
        assert!((1..=16).contains(&node.len));
    }
    for (at, node) in live(trie) {
        let (children, asked) = below.get(&at).copied().unwrap_or_default();
        assert_eq!(children, node.children);
        assert!(asked <= node.asked * (1.0 + 1e-12), "{asked} {node:?}");
        if node.parent != NONE {
            let parent = &trie.nodes[node.parent as usize];
            assert!(parent.len > 0 && parent.context == node.context);
        }
        let first = trie.pages[at as usize][0];
        assert_eq!(trie.child(node.context, node.parent, first), Some(at));
    }
    assert_eq!(live(trie).count() + trie.free(), trie.room);
}
