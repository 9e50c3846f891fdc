//! Pods as a Kubernetes API server keeps them: every change has a number, and the latest are remembered.
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Namespace and name.
pub(super) type Key = (String, String);

/// By how much the number of two changes differs. A cluster numbers all its writes, so pods' numbers have gaps.
const STEP: u64 = 3;
/// The number that a new store begins with: a cluster that has existed for a while.
const BEGIN: u64 = 1_000;

/// A version whose changes are not remembered any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expired {
    /// The oldest version whose changes are still known.
    pub(super) oldest: u64,
}

/// One change of one pod.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) version: u64,
    pub(super) key: Key,
    pub(super) before: Option<Arc<Value>>,
    pub(super) after: Option<Arc<Value>>,
}

/// All pods, and the latest changes.
#[derive(Debug)]
pub(super) struct Store {
    pods: BTreeMap<Key, Arc<Value>>,
    version: u64,
    history: VecDeque<Change>,
    history_max: usize,
    /// The latest version from which nobody can start: changes after it may be forgotten.
    compacted: u64,
    /// The latest change that is not in the history any more.
    dropped: u64,
    /// Uids given so far.
    uids: u64,
}

impl Store {
    /// Empty; it remembers so many changes.
    pub(super) fn new(history_max: usize) -> Self {
        Self {
            pods: BTreeMap::new(),
            version: BEGIN,
            history: VecDeque::new(),
            history_max,
            compacted: BEGIN,
            dropped: BEGIN,
            uids: 0,
        }
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Arc<Value>> {
        self.pods.get(key)
    }

    /// A uid that no pod has had. O(1).
    pub(super) fn uid(&mut self) -> String {
        self.uids += 1;
        format!("7d6c1f2e-0000-4000-8000-{:012x}", self.uids)
    }

    /// Creates or replaces a pod; its `resourceVersion` is set here. O(log n).
    pub(super) fn put(&mut self, key: Key, mut pod: Value) {
        self.version += STEP;
        pod["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let after = Arc::new(pod);
        let before = self.pods.insert(key.clone(), Arc::clone(&after));
        self.remember(key, before, Some(after));
    }

    /// Removes a pod; `false` if there is none. O(log n).
    pub(super) fn remove(&mut self, key: &Key) -> bool {
        let Some(before) = self.pods.remove(key) else {
            return false;
        };
        self.version += STEP;
        self.remember(key.clone(), Some(before), None);
        true
    }

    /// Other objects of the cluster have changed so many times.
    pub(super) fn advance(&mut self, writes: u64) {
        self.version += writes;
    }

    /// Nobody can start from a version before this one any more. Watches that have started lose nothing.
    pub(super) fn compact(&mut self) {
        self.compacted = self.version;
    }

    fn remember(&mut self, key: Key, before: Option<Arc<Value>>, after: Option<Arc<Value>>) {
        if self.history.len() >= self.history_max
            && let Some(oldest) = self.history.pop_front()
        {
            self.dropped = oldest.version;
            self.compacted = self.compacted.max(oldest.version);
        }
        self.history.push_back(Change {
            version: self.version,
            key,
            before,
            after,
        });
    }

    /// Whether a watch can start from a version, or a list show it.
    pub(super) fn check(&self, version: u64) -> Result<(), Expired> {
        let oldest = self.compacted;
        if version < oldest {
            return Err(Expired { oldest });
        }
        Ok(())
    }

    /// Up to `max` changes after `version`, in order, for a watch that has come so far. O(log n + max).
    pub(super) fn since(&self, version: u64, max: usize) -> Result<Vec<Change>, Expired> {
        let oldest = self.dropped;
        if version < oldest {
            return Err(Expired { oldest });
        }
        let start = self.history.partition_point(|c| c.version <= version);
        Ok(self.history.iter().skip(start).take(max).cloned().collect())
    }

    /// All pods as they were at a version. O(n + changes since).
    pub(super) fn at(&self, version: u64) -> Result<BTreeMap<Key, Arc<Value>>, Expired> {
        self.check(version)?;
        let mut pods = self.pods.clone();
        let later = self.history.iter().rev();
        for change in later.take_while(|change| change.version > version) {
            match &change.before {
                Some(before) => pods.insert(change.key.clone(), Arc::clone(before)),
                None => pods.remove(&change.key),
            };
        }
        Ok(pods)
    }
}
