//! All pods that were found, namespace by namespace, and what the fleet is to be told of them. Pure.
use super::pods::{Found, Reading, has_restarted};
use crate::fleet::{Described, Refused};
use crate::limits::PODS_PER_SOURCE_MAX;
use crate::quiet::Throttle;
use std::collections::BTreeMap;

/// The pods of all watched namespaces.
#[derive(Debug)]
pub(super) struct Book {
    /// Whether requests go to pods that are not ready, too.
    not_ready: bool,
    places: Vec<Place>,
}

/// What one watch has found: the pods of one namespace, or of all.
#[derive(Debug, Default)]
struct Place {
    /// Whether all of its pods are known.
    listed: bool,
    pods: BTreeMap<String, Entry>,
}

#[derive(Debug)]
enum Entry {
    Found {
        found: Found,
        /// Whether it has been ready in this life of the pod.
        was_ready: bool,
    },
    Refused(Refused),
}

/// What came of a change.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Noted {
    /// Whether the fleet is to be told.
    pub(super) changed: bool,
    /// Pods of which a container was started anew, with their uid.
    pub(super) restarted: Vec<(String, Option<String>)>,
}

/// More pods than a source may have.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "more than {PODS_PER_SOURCE_MAX} pods match: narrow kubernetes_selector or kubernetes_namespaces"
)]
pub(super) struct TooMany;

impl Book {
    /// Of so many watches, which have found nothing yet.
    pub(super) fn new(places: usize, not_ready: bool) -> Self {
        let places = std::iter::repeat_with(Place::default).take(places);
        Self {
            not_ready,
            places: places.collect(),
        }
    }

    /// What a watch finds from now on is this, by name; what it does not name is gone.
    pub(super) fn list(
        &mut self,
        at: usize,
        pods: BTreeMap<String, Reading>,
    ) -> Result<Noted, TooMany> {
        let others = self.places.iter().enumerate().filter(|(it, _)| *it != at);
        let others: usize = others.map(|(_, place)| place.pods.len()).sum();
        let here = pods.values().filter(|it| !matches!(it, Reading::No(_)));
        if others + here.count() > PODS_PER_SOURCE_MAX {
            return Err(TooMany);
        }
        let Some(place) = self.places.get_mut(at) else {
            return Ok(Noted::default());
        };
        let mut noted = Noted {
            changed: !std::mem::replace(&mut place.listed, true),
            restarted: Vec::new(),
        };
        let gone = |name: &String| !pods.contains_key(name);
        let gone: Vec<_> = place
            .pods
            .keys()
            .filter(|name| gone(name))
            .cloned()
            .collect();
        for name in gone {
            noted.changed |= place.forget(&name);
        }
        for (name, reading) in pods {
            place.note(name, reading, &mut noted);
        }
        Ok(noted)
    }

    /// A pod has come, or is another than it was.
    pub(super) fn set(
        &mut self,
        at: usize,
        name: String,
        reading: Reading,
    ) -> Result<Noted, TooMany> {
        let all: usize = self.places.iter().map(|place| place.pods.len()).sum();
        let Some(place) = self.places.get_mut(at) else {
            return Ok(Noted::default());
        };
        if all >= PODS_PER_SOURCE_MAX
            && !matches!(reading, Reading::No(_))
            && !place.pods.contains_key(&name)
        {
            return Err(TooMany);
        }
        let mut noted = Noted::default();
        place.note(name, reading, &mut noted);
        Ok(noted)
    }

    /// A pod is gone, or matches no more.
    pub(super) fn forget(&mut self, at: usize, name: &str) -> Noted {
        let place = self.places.get_mut(at);
        Noted {
            changed: place.is_some_and(|place| place.forget(name)),
            restarted: Vec::new(),
        }
    }

    /// The watches that do not know yet which pods there are.
    pub(super) fn unlisted(&self) -> impl Iterator<Item = usize> {
        let places = self.places.iter().enumerate();
        places.filter(|(_, place)| !place.listed).map(|(at, _)| at)
    }

    /// What the fleet is to be told, as far as it is known.
    pub(super) fn told(&self) -> (Vec<Described>, Vec<Refused>) {
        let mut described = Vec::new();
        let mut refused = Vec::new();
        for entry in self.places.iter().flat_map(|place| place.pods.values()) {
            match entry {
                Entry::Found { found, was_ready } if *was_ready || self.not_ready => {
                    described.push(Described {
                        spec: found.spec.clone(),
                        serving: found.ready || self.not_ready,
                    });
                }
                Entry::Found { .. } => {}
                Entry::Refused(why) => refused.push(why.clone()),
            }
        }
        (described, refused)
    }
}

impl Place {
    fn forget(&mut self, name: &str) -> bool {
        let gone = self.pods.remove(name).is_some();
        if gone {
            tracing::debug!(pod = name, "is gone from Kubernetes");
        }
        gone
    }

    fn note(&mut self, name: String, reading: Reading, noted: &mut Noted) {
        let old = self.pods.get(&name);
        let entry = match reading {
            Reading::No(why) => {
                tracing::debug!(pod = name, "is not to be had: {why}");
                noted.changed |= self.forget(&name);
                return;
            }
            Reading::Refused(why) => Entry::Refused(why),
            Reading::Found(found) => {
                let same = old.and_then(|old| old.same_life(&found));
                let (before, was_ready) = same.unwrap_or((&found, false));
                if has_restarted(&before.containers, &found.containers) {
                    noted.restarted.push((name.clone(), found.spec.uid.clone()));
                }
                let was_ready = was_ready || found.ready;
                Entry::Found { found, was_ready }
            }
        };
        if old.is_none_or(|old| old.tells_other_than(&entry)) {
            noted.changed = true;
            entry.log(&name);
        }
        self.pods.insert(name, entry);
    }
}

impl Entry {
    /// The pod as it was before, if it is the same one.
    fn same_life(&self, now: &Found) -> Option<(&Found, bool)> {
        match self {
            Self::Found { found, was_ready } if found.spec.uid == now.spec.uid => {
                Some((found, *was_ready))
            }
            Self::Found { .. } | Self::Refused(_) => None,
        }
    }

    /// Whether the fleet is to hear of the difference.
    fn tells_other_than(&self, now: &Self) -> bool {
        match (self, now) {
            (
                Self::Found { found, was_ready },
                Self::Found {
                    found: new,
                    was_ready: is_ready,
                },
            ) => found.spec != new.spec || found.ready != new.ready || was_ready != is_ready,
            (Self::Refused(old), Self::Refused(new)) => old != new,
            _ => true,
        }
    }

    fn log(&self, name: &str) {
        match self {
            Self::Found { found, .. } => {
                let ready = found.ready;
                let model = found.spec.model.as_str();
                tracing::debug!(pod = name, model, ready, "is found in Kubernetes");
            }
            Self::Refused(why) => {
                static LINES: Throttle = Throttle::new();
                if let Some(kept) = LINES.pass() {
                    tracing::warn!(kept, pod = name, "is refused: {}", why.message);
                }
            }
        }
    }
}
