//! Forgetting: a hand goes round the nodes, some with each sample, and gives back those without children of negligible counts.
//!
//! While nodes are scarce it goes faster, and what is negligible grows with each round, until enough of them are free: what is asked for again
//! and again stays, and what was asked for once goes first.
use super::trie::{NONE, Trie};
use crate::limits::{
    HOT_COUNT_FORGOTTEN_MAX, HOT_COUNT_MIN, HOT_FORGOTTEN_AT_ONCE, HOT_VISITS, HOT_VISITS_SCARCE,
};
use std::time::Duration;

impl Trie {
    /// Goes on a little. O(1): [`HOT_VISITS_SCARCE`] nodes at most.
    pub(super) fn garden(&mut self, now: Duration, scale: f64) {
        let mut visits = match self.is_scarce() {
            true => HOT_VISITS_SCARCE,
            false => HOT_VISITS,
        };
        visits = visits.min(self.nodes.len());
        let enough = self.free() + HOT_FORGOTTEN_AT_ONCE;
        while visits > 0 && self.free() < enough {
            if self.hand == 0 {
                self.end_round();
                self.hand = self.nodes.len();
            }
            self.hand -= 1;
            visits -= 1;
            let mut at = self.hand as u32;
            // A whole branch, from its end upwards, as far as it goes.
            while let Some(parent) = self.forget_if_least(at, now, scale) {
                if parent == NONE || visits == 0 {
                    break;
                }
                at = parent;
                visits -= 1;
            }
        }
    }

    fn is_scarce(&self) -> bool {
        self.free() < self.room / 4
    }

    /// All nodes have been looked at.
    fn end_round(&mut self) {
        if self.is_scarce() {
            self.least = (self.least * 4.0).min(HOT_COUNT_FORGOTTEN_MAX);
        } else if self.free() > self.room / 2 {
            self.least = (self.least / 2.0).max(HOT_COUNT_MIN);
        }
    }

    /// Forgets a node if nothing hangs on it and its count is small; the parent that it had.
    fn forget_if_least(&mut self, at: u32, now: Duration, scale: f64) -> Option<u32> {
        let node = self.nodes[at as usize];
        if node.len == 0 || node.children > 0 || node.asked >= self.least * scale {
            return None;
        }
        if node.asked >= HOT_COUNT_MIN * scale {
            self.forgotten += 1;
            self.rough = Some(now);
        }
        self.forget(at);
        Some(node.parent)
    }
}
