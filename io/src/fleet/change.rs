//! One change of the fleet: it shows as a whole when it is committed, and is undone if it is not.
use super::roster::Roster;
use super::view::label;
use super::{AddError, Fleet, FleetView, PodSpec, RankEndpoints, Source, SpecError, WorkerInfo};
use crate::predict::Subject;
use crate::status::{Cause, Trust, WorkerStatus};
use crate::stream::NewWorker;
use ahash::{AHashMap, AHashSet};
use kvroute_engine::types::WorkerId;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Who publishes at each endpoint: no two workers may share one, since each would be credited with the other's blocks.
/// Compared as text: two names of one address are not noticed.
type Taken = AHashMap<Box<str>, WorkerId>;

/// What the fleet remembers from one change to the next, beside its view.
#[derive(Debug, Default)]
pub(super) struct Memory {
    taken: Taken,
    pub(super) roster: Roster,
}

/// Pause between two attempts to find room in a queue.
const PAUSE: Duration = Duration::from_millis(5);

/// A change under way. What it adds is subscribed to at once, what it removes stays until it is committed.
pub(super) struct Change<'f> {
    fleet: &'f Fleet,
    /// As it is after the change. Held to the end, so that changes follow one another.
    pub(super) memory: MutexGuard<'f, Memory>,
    /// As it is after the change.
    view: FleetView,
    added: Vec<Arc<WorkerInfo>>,
    removed: Vec<Arc<WorkerInfo>>,
    /// Whether a worker is described in other words.
    described: bool,
    /// Whether a pod made way for one that goes before it.
    pub(super) displaced: bool,
    /// How long full queues are waited for.
    deadline: Instant,
    committed: bool,
}

impl<'f> Change<'f> {
    /// Waits for the change before. O(workers).
    pub(super) fn begin(fleet: &'f Fleet, deadline: Instant) -> Self {
        let memory = fleet
            .changing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Self {
            fleet,
            memory,
            view: FleetView::clone(&fleet.view.load()),
            added: Vec::new(),
            removed: Vec::new(),
            described: false,
            displaced: false,
            deadline,
            committed: false,
        }
    }

    /// The fleet as it is after the change so far.
    pub(super) fn view(&self) -> &FleetView {
        &self.view
    }

    /// Registers a pod's ranks. Ranks of another incarnation of the pod go; what another source describes under its name is
    /// taken over.
    pub(super) fn add_pod(&mut self, pod: PodSpec) -> Result<(), AddError> {
        let ranks = pod.ranks()?;
        let known = self.view.pod(&pod.pod);
        if known.iter().any(|info| info.source() != Source::Registered) {
            return self.describe_pod(Source::Registered, &Arc::new(pod));
        }
        self.remove_incarnations(&pod)?;
        for known in self.view.pod(&pod.pod) {
            if known.pod().model != pod.model {
                let model = known.pod().model.clone();
                return Err(AddError::OtherModel {
                    pod: pod.pod,
                    model,
                });
            }
        }
        let pod = Arc::new(pod);
        ranks
            .into_iter()
            .try_for_each(|endpoints| self.insert(Source::Registered, &pod, endpoints).map(drop))
    }

    /// Has a pod as a source describes it, in place of what is known under its name. A rank that publishes at the same place,
    /// in the same life and model, keeps its worker and all it holds.
    pub(super) fn describe_pod(
        &mut self,
        source: Source,
        pod: &Arc<PodSpec>,
    ) -> Result<(), AddError> {
        let mut ranks = pod.ranks()?;
        let known = self.view.pod(&pod.pod).to_vec();
        let stay = known.iter().filter(|info| is_same(info.pod(), pod));
        let asked = pod.kv_events && pod.events.is_none();
        if asked && known.iter().any(|info| names_ranks_for(info.pod(), pod)) {
            // What the engine has named since is newer than what its description comes to.
            ranks = stay.clone().map(|info| info.endpoints().clone()).collect();
        }
        let stay: Vec<_> = stay
            .filter(|info| ranks.contains(info.endpoints()))
            .collect();
        for info in &known {
            if stay.iter().any(|stays| stays.id() == info.id()) {
                self.view.remove(&pod.pod, Some(info.rank()));
                let again = info.described(source, Arc::clone(pod));
                self.view.insert(Arc::new(again));
                self.described = true;
            } else {
                self.remove(&pod.pod, Some(info.rank()));
            }
        }
        ranks.retain(|rank| !stay.iter().any(|info| info.endpoints() == rank));
        // Nobody makes way for a pod that cannot come.
        for endpoints in &ranks {
            self.in_the_way(source, pod, endpoints)?;
        }
        for info in self.subscribe_all(source, pod, ranks)? {
            self.place(info);
        }
        Ok(())
    }

    /// Replaces the ranks that are described by `pod` itself; `false` if there is nothing to be changed.
    pub(super) fn replace_ranks(
        &mut self,
        pod: &Arc<PodSpec>,
        mut ranks: Vec<RankEndpoints>,
    ) -> Result<bool, AddError> {
        let ours = |info: &&Arc<WorkerInfo>| Arc::ptr_eq(info.pod(), pod);
        let known: Vec<_> = self.view.pod(&pod.pod).iter().filter(ours).collect();
        let Some(first) = known.first() else {
            return Ok(false);
        };
        let (source, serving) = (first.source(), first.is_serving());
        let going: Vec<_> = known
            .iter()
            .filter(|info| !ranks.contains(info.endpoints()))
            .map(|info| info.rank())
            .collect();
        ranks.retain(|rank| !known.iter().any(|info| info.endpoints() == rank));
        let changed = !(going.is_empty() && ranks.is_empty());
        for rank in going {
            self.remove(&pod.pod, Some(rank));
        }
        for endpoints in ranks {
            self.insert(source, pod, endpoints)?.set_serving(serving);
        }
        Ok(changed)
    }

    /// Removes a pod, or one rank of it; `false` if it is not known.
    pub(super) fn remove(&mut self, pod: &str, rank: Option<u32>) -> bool {
        let gone = self.view.remove(pod, rank);
        for info in &gone {
            self.memory.taken.remove(info.events());
        }
        let any = !gone.is_empty();
        self.removed.extend(gone);
        any
    }

    /// Shows the change to lookups, and lets go what was removed. What stood in the way of what sources describe may be gone
    /// with it, and what was added may stand in the way of more.
    pub(super) fn commit(mut self) {
        self.show();
        if !self.memory.roster.is_empty() {
            self.fleet.look();
        }
    }

    /// The same without a look at what sources describe. Only once, as the last step.
    pub(super) fn show(&mut self) {
        self.committed = true;
        self.view.give_places();
        self.fleet
            .view
            .store(Arc::new(std::mem::take(&mut self.view)));
        self.removed.iter().for_each(|info| self.let_go(info));
    }

    /// Whether anything is different.
    pub(super) fn changes(&self) -> bool {
        !self.added.is_empty() || !self.removed.is_empty() || self.described
    }

    /// Ends what was begun for a worker.
    fn let_go(&self, info: &WorkerInfo) {
        if !info.is_approximate() {
            self.fleet.streams.remove(info.id());
        }
        if let Some(learner) = &self.fleet.learner {
            learner.remove(info.subject());
        }
    }

    /// Removes the ranks of `pod` that another uid has. Two incarnations in one change are a mistake.
    fn remove_incarnations(&mut self, pod: &PodSpec) -> Result<(), AddError> {
        let Some(uid) = &pod.uid else {
            return Ok(());
        };
        let other = |info: &&Arc<WorkerInfo>| info.pod().uid.as_ref().is_some_and(|old| old != uid);
        let old: Vec<_> = self.view.pod(&pod.pod).iter().filter(other).collect();
        let fresh = |info: &&&Arc<WorkerInfo>| self.added.iter().any(|a| a.id() == info.id());
        if let Some(info) = old.iter().find(fresh) {
            return Err(AddError::Duplicate(info.label()));
        }
        let ranks: Vec<_> = old.iter().map(|info| info.rank()).collect();
        for rank in ranks {
            self.remove(&pod.pod, Some(rank));
        }
        Ok(())
    }

    /// Adds one rank, if neither its number nor its events are another worker's that does not make way.
    fn insert(
        &mut self,
        source: Source,
        pod: &Arc<PodSpec>,
        endpoints: RankEndpoints,
    ) -> Result<Arc<WorkerInfo>, AddError> {
        let known = self.view.pod(&pod.pod);
        if let Some(known) = known.iter().find(|info| info.rank() == endpoints.rank) {
            return Err(AddError::Duplicate(known.label()));
        }
        self.in_the_way(source, pod, &endpoints)?;
        let info = self.subscribe(source, pod, endpoints)?;
        self.place(Arc::clone(&info));
        Ok(info)
    }

    /// An error if a worker publishes where a new one is to, and does not make way for it: it does if a less believed source
    /// describes it, or the same one under a name that comes later, so that every replica and every order of events comes
    /// to the same fleet. Who is registered never makes way for another registration. O(1).
    fn in_the_way(
        &self,
        source: Source,
        pod: &PodSpec,
        endpoints: &RankEndpoints,
    ) -> Result<(), AddError> {
        let Some(other) = self.publishes_at(&endpoints.events) else {
            return Ok(());
        };
        let named_later = source != Source::Registered && other.pod().pod > pod.pod;
        if other.source() > source || (other.source() == source && named_later) {
            return Ok(());
        }
        Err(AddError::SameEvents {
            worker: label(&pod.pod, endpoints.rank),
            events: endpoints.events.clone(),
            other: other.label(),
        })
    }

    /// Puts a worker that is subscribed to in its place. A worker with the same events goes, with its pod.
    fn place(&mut self, info: Arc<WorkerInfo>) {
        // Nobody's events are empty.
        if !info.events().is_empty() {
            let other = self.publishes_at(info.events());
            if let Some(pod) = other.map(|other| Arc::clone(other.pod())) {
                self.remove(&pod.pod, None);
                self.displaced = true;
            }
            self.memory.taken.insert(info.events().into(), info.id());
        }
        self.added.push(Arc::clone(&info));
        self.view.insert(info);
    }

    /// The worker whose events these are. O(1).
    fn publishes_at(&self, events: &str) -> Option<&Arc<WorkerInfo>> {
        self.view.worker(*self.memory.taken.get(events)?)
    }

    /// Subscribes to all ranks or to none.
    fn subscribe_all(
        &self,
        source: Source,
        pod: &Arc<PodSpec>,
        ranks: Vec<RankEndpoints>,
    ) -> Result<Vec<Arc<WorkerInfo>>, AddError> {
        let mut subscribed = Vec::with_capacity(ranks.len());
        for endpoints in ranks {
            match self.subscribe(source, pod, endpoints) {
                Ok(info) => subscribed.push(info),
                Err(error) => {
                    subscribed.iter().for_each(|info| self.let_go(info));
                    return Err(error);
                }
            }
        }
        Ok(subscribed)
    }

    /// Hands one rank to the IO threads, or to what learns if it publishes nothing, again and again until there is room or it is too late.
    fn subscribe(
        &self,
        source: Source,
        pod: &Arc<PodSpec>,
        endpoints: RankEndpoints,
    ) -> Result<Arc<WorkerInfo>, AddError> {
        let no_room = |why: String| AddError::NoRoom {
            pod: pod.pod.clone(),
            why,
        };
        let approximate = !pod.kv_events || !self.fleet.event_sync;
        let learner = self.fleet.learner.as_ref();
        if approximate && learner.is_none() {
            let field = "kv_events";
            let message = "false, and nothing is learnt from decisions here".to_owned();
            return Err(SpecError { field, message }.into());
        }
        let kept = self.fleet.kept(pod, &endpoints).filter(|_| !approximate);
        loop {
            let writer = self.fleet.index.writer(&pod.model);
            let writer = writer.map_err(|full| no_room(full.to_string()))?;
            let id = writer.id();
            let status = Arc::new(WorkerStatus::default());
            let subject = Subject::new(&pod.model, Arc::clone(&status), approximate);
            let subject = Arc::new(subject);
            let taken = match learner.filter(|_| approximate) {
                Some(learner) => {
                    status.set_state((Trust::Approximate, Cause::Decisions));
                    let added = learner.add(&subject, writer);
                    added.map_err(|busy| busy.to_string())
                }
                None => {
                    let added = self.fleet.streams.add(NewWorker {
                        writer,
                        events: endpoints.events.clone(),
                        replay: endpoints.replay.clone(),
                        status: Arc::clone(&status),
                        name: label(&pod.pod, endpoints.rank),
                        kept: kept.clone(),
                    });
                    added.map_err(|full| full.to_string())
                }
            };
            match taken {
                Ok(()) => {
                    let pod = Arc::clone(pod);
                    let info = WorkerInfo::new(id, source, pod, endpoints, status, subject);
                    return Ok(Arc::new(info));
                }
                Err(why) if Instant::now() >= self.deadline => return Err(no_room(why)),
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
    }
}

/// Whether two descriptions are of one engine in one life, which serves one model. One without events is known by where its
/// requests go.
fn is_same(old: &PodSpec, new: &PodSpec) -> bool {
    let other_life = matches!((&old.uid, &new.uid), (Some(old), Some(new)) if old != new);
    let elsewhere = !new.kv_events && old.endpoint != new.endpoint;
    !other_life && !elsewhere && old.model == new.model && old.kv_events == new.kv_events
}

/// Whether the ranks that an engine has named for one description hold for another one.
fn names_ranks_for(old: &PodSpec, new: &PodSpec) -> bool {
    is_same(old, new) && old.events.is_none() && old.endpoint == new.endpoint
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        if self.committed {
            return;
        }
        for info in &self.added {
            self.let_go(info);
            self.memory.taken.remove(info.events());
        }
        let added: AHashSet<_> = self.added.iter().map(|info| info.serial()).collect();
        for info in &self.removed {
            if !info.events().is_empty() && !added.contains(&info.serial()) {
                self.memory.taken.insert(info.events().into(), info.id());
            }
        }
    }
}
