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
    /// The oldest version that a watch can start from.
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
    /// The latest version whose changes are forgotten.
    compacted: u64,
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

    /// Forgets all changes so far.
    pub(super) fn compact(&mut self) {
        self.history.clear();
        self.compacted = self.version;
    }

    fn remember(&mut self, key: Key, before: Option<Arc<Value>>, after: Option<Arc<Value>>) {
        if self.history.len() >= self.history_max
            && let Some(oldest) = self.history.pop_front()
        {
            self.compacted = oldest.version;
        }
        self.history.push_back(Change {
            version: self.version,
            key,
            before,
            after,
        });
    }

    fn check(&self, version: u64) -> Result<(), Expired> {
        if version < self.compacted {
            return Err(Expired {
                oldest: self.compacted,
            });
        }
        Ok(())
    }

    /// Up to `max` changes after `version`, in order. O(log n + max).
    pub(super) fn since(&self, version: u64, max: usize) -> Result<Vec<Change>, Expired> {
        self.check(version)?;
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
