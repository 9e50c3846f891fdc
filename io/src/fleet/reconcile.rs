//! The way from what sources describe to the fleet: in portions, the most believed source first.
use super::change::Change;
use super::roster::Entry;
use super::{AddError, Fleet, Refused, Source};
use crate::limits::ENTERED_AT_ONCE;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

/// What is left to be done after a portion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// Pods that were entered, or entered anew.
    pub entered: usize,
    /// Whether there are more pods to be entered.
    pub more: bool,
    /// Whether there was no room for a pod: there may be later.
    pub no_room: bool,
}

impl Fleet {
    /// Brings the fleet nearer to what its sources describe: lets all pods go that are described no more, and enters
    /// [`ENTERED_AT_ONCE`] others, in an order of chance within each source, so that nodes that start together do not all
    /// begin with the same engines. Registered pods are not touched. As long as it is not decided what pods begin with, nothing is
    /// done, and is to be done. O(pods log pods).
    pub fn reconcile(&self) -> Reconciled {
        if self.start().is_seeking() {
            return Reconciled {
                more: true,
                ..Reconciled::default()
            };
        }
        let mut change = Change::begin(self, Instant::now());
        change.let_go_undescribed();
        let mut portion = Portion::default();
        for source in Source::ALL {
            change.enter(source, &mut portion);
        }
        if change.changes() {
            change.show();
        }
        if change.displaced {
            // Its pod may have stood in the way of others, which were refused before. It ends: who makes way does so for one
            // that goes before it, and nobody comes back without.
            self.look();
        }
        let Portion { done, refused } = portion;
        if !done.more {
            // What is described from now on waits for the change to end, so it is not taken for entered.
            self.sources().entered(&refused);
        }
        drop(change);
        done
    }
}

/// One portion of work.
#[derive(Debug, Default)]
struct Portion {
    done: Reconciled,
    refused: Vec<(Source, Refused)>,
}

/// A pod that may have to be entered.
struct Wanted {
    name: String,
    pod: Arc<super::PodSpec>,
    serving: bool,
}

impl Change<'_> {
    /// Removes the pods that nobody describes any more.
    fn let_go_undescribed(&mut self) {
        let found = self.view().workers().filter(|info| {
            let believed = self.memory.roster.believed(&info.pod().pod);
            let stays = believed.is_some_and(|(_, entry)| !entry.removed);
            info.source() != Source::Registered && !stays
        });
        let gone: BTreeSet<_> = found.map(|info| info.pod().pod.clone()).collect();
        for pod in gone {
            self.remove(&pod, None);
        }
    }

    /// Enters what one source describes, as far as the portion goes.
    fn enter(&mut self, source: Source, portion: &mut Portion) {
        let mut wanted = self.wanted(source, portion);
        if !wanted.is_empty() {
            let first = fastrand::usize(..wanted.len());
            wanted.rotate_left(first);
        }
        for Wanted { name, pod, serving } in wanted {
            if portion.done.entered >= ENTERED_AT_ONCE {
                portion.done.more = true;
                return;
            }
            match self.describe_pod(source, &pod) {
                Ok(()) => {
                    portion.done.entered += 1;
                    self.view()
                        .pod(&name)
                        .iter()
                        .for_each(|info| info.set_serving(serving));
                }
                Err(error) => {
                    // Not half of it, and not what it was before.
                    self.remove(&name, None);
                    portion.done.no_room |= matches!(error, AddError::NoRoom { .. });
                    portion.refused.push((source, Refused::of(&name, &error)));
                }
            }
        }
    }

    /// The pods of a source that the fleet has not as the source describes them.
    fn wanted(&self, source: Source, portion: &mut Portion) -> Vec<Wanted> {
        let mut wanted = Vec::new();
        for (name, entry) in self.memory.roster.of(source) {
            if let Some(refused) = self.out_of_the_way(source, name, entry) {
                portion.refused.push((source, refused));
                continue;
            }
            let known = self.view().pod(name);
            let as_described = |info: &Arc<super::WorkerInfo>| {
                info.source() == source && Arc::ptr_eq(info.pod(), &entry.spec)
            };
            if !known.is_empty() && known.iter().all(as_described) {
                known
                    .iter()
                    .for_each(|info| info.set_serving(entry.serving));
                continue;
            }
            wanted.push(Wanted {
                name: name.clone(),
                pod: Arc::clone(&entry.spec),
                serving: entry.serving,
            });
        }
        wanted
    }

    /// Why a pod is not to be had as this source describes it, if somebody else is believed about it.
    fn out_of_the_way(&self, source: Source, name: &str, entry: &Entry) -> Option<Refused> {
        let refused = |reason, message| Refused {
            pod: name.to_owned(),
            reason,
            message,
        };
        if entry.removed {
            let message = "taken out by hand, until it is described in another way";
            return Some(refused("removed", message.to_owned()));
        }
        let mut known = self.view().pod(name).iter();
        let registered = known.any(|info| info.source() == Source::Registered);
        let believed = match self.memory.roster.believed(name) {
            _ if registered => Source::Registered,
            Some((believed, _)) if believed != source => believed,
            _ => return None,
        };
        let message = format!("{} describes it, and goes before", believed.as_str());
        Some(refused("overridden", message))
    }
}
