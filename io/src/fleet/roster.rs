//! What each source describes, beside what is registered: that is in the fleet's view alone, since it goes before all.
use super::{Described, PodSpec, Refused, Source};
use crate::limits::PODS_PER_SOURCE_MAX;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A pod as one source describes it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) spec: Arc<PodSpec>,
    pub(super) serving: bool,
    /// Taken out by hand: it stays out until it is described in another way.
    pub(super) removed: bool,
}

/// All pods of all sources, by name.
#[derive(Debug, Default)]
pub(super) struct Roster {
    of: [BTreeMap<String, Entry>; Source::ALL.len()],
}

impl Roster {
    /// What a source describes from now on, as a whole: whether it is something else than before, and what of it cannot be
    /// taken. O(pods log pods).
    pub(super) fn describe(
        &mut self,
        source: Source,
        pods: Vec<Described>,
    ) -> (bool, Vec<Refused>) {
        let mut known = std::mem::take(&mut self.of[source as usize]);
        let mut refused = Vec::new();
        let mut changed = false;
        let mut entries = BTreeMap::new();
        for Described { spec, serving } in pods {
            if entries.contains_key(&spec.pod) {
                refused.push(Refused {
                    message: format!("{} describes it twice", source.as_str()),
                    pod: spec.pod,
                    reason: "described_twice",
                });
                continue;
            }
            if entries.len() == PODS_PER_SOURCE_MAX {
                refused.push(Refused {
                    message: format!("more than {PODS_PER_SOURCE_MAX} pods"),
                    pod: spec.pod,
                    reason: "no_room",
                });
                continue;
            }
            let entry = match known.remove(&spec.pod) {
                // The same description stays the same object, so that comparing it is cheap.
                Some(old) if *old.spec == spec => {
                    changed |= old.serving != serving;
                    Entry { serving, ..old }
                }
                _ => {
                    changed = true;
                    Entry {
                        spec: Arc::new(spec),
                        serving,
                        removed: false,
                    }
                }
            };
            entries.insert(entry.spec.pod.clone(), entry);
        }
        self.of[source as usize] = entries;
        (changed || !known.is_empty(), refused)
    }

    /// Pods of one source, by name.
    pub(super) fn of(&self, source: Source) -> &BTreeMap<String, Entry> {
        &self.of[source as usize]
    }

    /// Who is believed about a pod, among those who describe it.
    pub(super) fn believed(&self, pod: &str) -> Option<(Source, &Entry)> {
        let mut sources = Source::ALL.into_iter();
        sources.find_map(|source| Some((source, self.of(source).get(pod)?)))
    }

    /// Takes a pod out until it is described in another way.
    pub(super) fn take_out(&mut self, pod: &str) {
        for entries in &mut self.of {
            if let Some(entry) = entries.get_mut(pod) {
                entry.removed = true;
            }
        }
    }

    /// Whether no source describes anything.
    pub(super) fn is_empty(&self) -> bool {
        self.of.iter().all(BTreeMap::is_empty)
    }
}
