//! The fleet: which pods there are, and the snapshot of them that lookups read without waiting.
mod change;
mod check;
mod file;
mod probes;
mod readiness;
mod reconcile;
mod roster;
mod sources;
mod spec;
#[cfg(test)]
mod tests;
mod view;

#[cfg(test)]
pub(crate) use check::Nobody;
pub use check::check_pods;
pub(crate) use file::read_text;
pub use file::{FileError, read_pods};
pub use probes::{ProbeCounts, ProbeFailure};
pub use readiness::{Readiness, Start, StartStep, Terms};
pub use reconcile::Reconciled;
pub use sources::{Described, Refused, Source, SourceReport, Sources};
pub use spec::{EVENTS_PORT, PodSpec, REPLAY_PORT, RankEndpoints, SpecError};
pub use view::{FleetView, WorkerInfo, WorkerJson};

use crate::accuracy::FeedbackCounts;
use crate::load::Clock;
use crate::predict::Learner;
use crate::snapshot::Snapshot;
use crate::status::IoStatus;
use crate::stream::saved::{Kept, SaveTo};
use crate::stream::{NewWorker, QueueFull, Streams};
use arc_swap::ArcSwap;
use change::{Change, Memory};
use crossbeam_channel::{Receiver, Sender, bounded};
use kvroute_engine::Index;
use kvroute_engine::types::WorkerId;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Why a pod could not be added.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// The description of the pod is not usable.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The worker is there already.
    #[error("worker {0} is known already")]
    Duplicate(String),
    /// Other ranks of the pod are there, and serve another model.
    #[error("pod {pod} is known already, with model {model:?}")]
    OtherModel {
        /// The pod's name.
        pod: String,
        /// The model of the ranks that are there.
        model: String,
    },
    /// Another worker publishes there.
    #[error("{worker}: {events} is where {other} publishes already")]
    SameEvents {
        /// `pod#rank` of the new worker.
        worker: String,
        /// Where it would publish.
        events: String,
        /// `pod#rank` of the worker that is there.
        other: String,
    },
    /// No room in the index, or the IO thread's queue of commands is full.
    #[error("no room for pod {pod}: {why}")]
    NoRoom {
        /// The pod's name.
        pod: String,
        /// What is full.
        why: String,
    },
    /// What workers begin with is not decided yet: it would begin with nothing, for good.
    #[error("the node looks for a snapshot to start from; try again soon")]
    Starting,
}

/// What subscribes to workers: the IO threads, or whatever else writes a worker's blocks.
pub trait Subscribe: Debug + Send + Sync {
    /// Takes a worker over, with its writer. Must not block.
    fn add(&self, worker: NewWorker) -> Result<(), QueueFull>;
    /// Lets a worker go: its writer is dropped soon. Must not block, and cannot fail.
    fn remove(&self, worker: WorkerId);
    /// Finds out whether the engine still lives the life that the worker's batches are of: something says
    /// that it may have restarted. Must not block. An unknown worker is ignored.
    fn verify(&self, worker: WorkerId);
    /// The engine was started anew, whatever its connection looks like. Must not block. An unknown worker is ignored.
    fn restarted(&self, worker: WorkerId) {
        self.verify(worker);
    }
    /// Takes note that the engine computed what should have been told in events, and nothing was heard. Must not
    /// block. An unknown worker is ignored.
    fn unheard(&self, worker: WorkerId);
    /// Has what a worker holds anew: its engine does not deliver it. Nothing is credited meanwhile. Must not block. An unknown
    /// worker is ignored.
    fn distrust(&self, worker: WorkerId);
    /// Saves a worker, soon and on another thread. Must not block. For an unknown worker `to` is dropped.
    fn save(&self, worker: WorkerId, to: SaveTo);
    /// Calls `each` with what each of its threads measures of batches.
    fn measured(&self, each: &mut dyn FnMut(&IoStatus)) {
        let _ = each;
    }
}

impl Subscribe for Streams {
    fn measured(&self, each: &mut dyn FnMut(&IoStatus)) {
        Self::measured(self).for_each(each);
    }

    fn add(&self, worker: NewWorker) -> Result<(), QueueFull> {
        Self::add(self, worker)
    }

    fn remove(&self, worker: WorkerId) {
        Self::remove(self, worker);
    }

    fn verify(&self, worker: WorkerId) {
        Self::verify(self, worker);
    }

    fn restarted(&self, worker: WorkerId) {
        Self::restarted(self, worker);
    }

    fn unheard(&self, worker: WorkerId) {
        Self::unheard(self, worker);
    }

    fn distrust(&self, worker: WorkerId) {
        Self::distrust(self, worker);
    }

    fn save(&self, worker: WorkerId, to: SaveTo) {
        Self::save(self, worker, to);
    }
}

/// The registry of pods. Changes take a lock; lookups read [`Fleet::view`].
#[derive(Debug)]
pub struct Fleet {
    index: Arc<Index>,
    streams: Box<dyn Subscribe>,
    learner: Option<Learner>,
    /// Whether pods' events are used.
    event_sync: bool,
    view: ArcSwap<FleetView>,
    /// Held while the fleet changes, so that changes follow one another.
    changing: Mutex<Memory>,
    sources: Sources,
    /// Tells who reconciles that there may be something to be done. One place: who is told again does all of it.
    look: (Sender<()>, Receiver<()>),
    probes: ProbeCounts,
    feedback: FeedbackCounts,
    clock: Clock,
    start: Start,
    /// Workers that come are looked for in it.
    warm: OnceLock<Snapshot>,
}

impl Fleet {
    /// An empty fleet over an index and the IO threads that fill it.
    #[must_use]
    pub fn new(index: Arc<Index>, streams: impl Subscribe + 'static) -> Self {
        Self {
            index,
            streams: Box::new(streams),
            learner: None,
            event_sync: true,
            view: ArcSwap::default(),
            changing: Mutex::default(),
            sources: Sources::default(),
            look: bounded(1),
            probes: ProbeCounts::default(),
            feedback: FeedbackCounts::default(),
            clock: Clock::default(),
            start: Start::default(),
            warm: OnceLock::new(),
        }
    }

    /// The same fleet, whose workers' loads go by this clock.
    #[must_use]
    pub fn timed(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// What the workers' loads go by.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The same fleet, which learns from decisions, too. Without `event_sync` that is all: it subscribes to nobody.
    #[must_use]
    pub fn learning(mut self, learner: Learner, event_sync: bool) -> Self {
        self.learner = Some(learner);
        self.event_sync = event_sync;
        self
    }

    /// What learns from decisions.
    #[must_use]
    pub fn learner(&self) -> Option<&Learner> {
        self.learner.as_ref()
    }

    /// Workers that come from now on begin with what a snapshot has of them. Only the first one given counts.
    pub fn start_from(&self, snapshot: Snapshot) {
        if self.warm.set(snapshot).is_err() {
            tracing::debug!("a second snapshot is not looked at");
        }
    }

    /// What a worker was saved as. Without a replay socket nothing could prove that its engine is still in
    /// the same life, so it begins with nothing.
    fn kept(&self, pod: &PodSpec, endpoints: &RankEndpoints) -> Option<Kept> {
        endpoints.replay.as_ref()?;
        let uid = pod.uid.as_deref();
        self.warm
            .get()?
            .take(&pod.pod, uid, endpoints.rank, &pod.model)
    }

    /// Saves a worker: `to` is called soon, on another thread, or dropped. Never blocks.
    pub fn save(&self, worker: WorkerId, to: SaveTo) {
        self.streams.save(worker, to);
    }

    /// Calls `each` with what each thread that follows events measures of batches.
    pub fn measured(&self, each: &mut dyn FnMut(&IoStatus)) {
        self.streams.measured(each);
    }

    /// The index that the fleet's workers fill.
    #[must_use]
    pub fn index(&self) -> &Arc<Index> {
        &self.index
    }

    /// The fleet as it is now. Wait-free.
    ///
    /// To name the workers of a lookup's hits, call this after the lookup and before its pin ends:
    /// a worker's number is given to another only after every pin that could have seen it has
    /// ended, and leaves the view before that.
    pub fn view(&self) -> arc_swap::Guard<Arc<FleetView>> {
        self.view.load()
    }

    /// Adds a pod with all its ranks and subscribes to them, unless it publishes nothing. O(workers), never waits
    /// for room.
    ///
    /// Ranks may come one by one, as pods of the same name and model (see [`PodSpec::first_rank`]). A pod
    /// that is known with another uid is another incarnation: it goes, with all it held.
    pub fn add(&self, pod: PodSpec) -> Result<(), AddError> {
        self.add_all(vec![pod], Duration::ZERO)
            .map_err(|(_, error)| error)
    }

    /// Adds all pods or, with the first error and the place of its pod, none. O(workers); waits
    /// up to `patience` for room in the queues of the IO threads.
    pub fn add_all(&self, pods: Vec<PodSpec>, patience: Duration) -> Result<(), (usize, AddError)> {
        if self.start.is_seeking() {
            return Err((0, AddError::Starting));
        }
        let mut change = Change::begin(self, Instant::now() + patience);
        for (at, pod) in pods.into_iter().enumerate() {
            change.add_pod(pod).map_err(|error| (at, error))?;
        }
        change.commit();
        Ok(())
    }

    /// Gives a pod the ranks that its engine names, in place of those it has. A rank whose endpoints stay
    /// the same keeps its worker and all it holds. `false` if nothing changed, also because the pod is no longer
    /// described by `pod` itself, or `ranks` is empty. O(ranks), O(workers) if there is a change; never waits for
    /// room.
    pub fn replace_ranks(
        &self,
        pod: &Arc<PodSpec>,
        ranks: Vec<RankEndpoints>,
    ) -> Result<bool, AddError> {
        if ranks.is_empty() || self.has_ranks(pod, &ranks) {
            return Ok(false);
        }
        let mut change = Change::begin(self, Instant::now());
        let changed = change.replace_ranks(pod, ranks)?;
        if changed {
            change.commit();
        }
        Ok(changed)
    }

    /// Takes note of what a source describes from now on, as a whole, and of what it names that is no pod. The
    /// fleet follows with the next [`Fleet::reconcile`]. O(pods log pods).
    pub fn follow(&self, source: Source, pods: Vec<Described>, malformed: Vec<Refused>) {
        self.follow_as_heard(source, pods, malformed, None);
    }

    /// The same of a source of which a part could not be heard, and why: the fleet is not taken for complete on its account.
    pub fn follow_in_part(&self, source: Source, pods: Vec<Described>, why: &str) {
        self.follow_as_heard(source, pods, Vec::new(), Some(why));
    }

    fn follow_as_heard(
        &self,
        source: Source,
        pods: Vec<Described>,
        mut malformed: Vec<Refused>,
        in_part: Option<&str>,
    ) {
        let mut memory = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let (changed, refused) = memory.roster.describe(source, pods);
        malformed.extend(refused);
        let count = memory.roster.of(source).len();
        // Under the lock, so that nobody takes the fleet for complete in between.
        let settled = self
            .sources
            .heard(source, count, changed, malformed, in_part);
        drop(memory);
        if changed || !settled {
            self.look();
        }
    }

    /// How the sources of pods stand.
    #[must_use]
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Has something to say when there may be something to be reconciled.
    #[must_use]
    pub fn looks(&self) -> &Receiver<()> {
        &self.look.1
    }

    fn look(&self) {
        let _ = self.look.0.try_send(());
    }

    /// Removes a pod (or one rank of it) and all it held; `false` if it is not known. What a source other than registration
    /// describes stays out until it is described in another way; a registered pod that another source describes, too, is
    /// from then on what that one says. O(workers).
    pub fn remove(&self, pod: &str, rank: Option<u32>) -> bool {
        self.remove_served(pod, rank, None)
    }

    /// The same, if the pod serves `model`.
    pub fn remove_served(&self, pod: &str, rank: Option<u32>, model: Option<&str>) -> bool {
        let other = |info: &Arc<WorkerInfo>| model.is_some_and(|model| info.pod().model != model);
        if self.view().pod(pod).is_empty() {
            return false;
        }
        let mut change = Change::begin(self, Instant::now());
        let known = change.view().pod(pod);
        let registered = known.iter().any(|info| info.source() == Source::Registered);
        if known.iter().any(other) || !change.remove(pod, rank) {
            return false;
        }
        if !registered && change.view().pod(pod).is_empty() {
            change.memory.roster.take_out(pod);
        }
        change.commit();
        true
    }

    /// Whether these are the ranks that are described by `pod`, in any order.
    fn has_ranks(&self, pod: &Arc<PodSpec>, ranks: &[RankEndpoints]) -> bool {
        let view = self.view();
        let known = view.pod(&pod.pod).iter();
        let mut known = known.filter(|info| Arc::ptr_eq(info.pod(), pod));
        let count = known.clone().count();
        count == ranks.len() && known.all(|info| ranks.contains(info.endpoints()))
    }

    /// Asks the streams whether the engine of a worker still lives the life that its batches are of. What was learnt
    /// of one without events is forgotten. Never blocks.
    pub fn verify(&self, worker: WorkerId) {
        if !self.forget_learnt(worker) {
            self.streams.verify(worker);
        }
    }

    /// The same where somebody saw the engine being started anew: what no replay can prove is dropped, however young its
    /// connection is.
    pub fn restarted(&self, worker: WorkerId) {
        if !self.forget_learnt(worker) {
            self.streams.restarted(worker);
        }
    }

    /// Forgets what was learnt of a worker without events; `false` for others. There is nothing else to go by.
    fn forget_learnt(&self, worker: WorkerId) -> bool {
        let view = self.view();
        let known = view.worker(worker).filter(|info| info.is_approximate());
        let (Some(info), Some(learner)) = (known, &self.learner) else {
            return false;
        };
        info.status().add_restarts(1);
        learner.look();
        true
    }

    /// Tells the streams that an engine computed what it did not publish. Never blocks.
    pub fn unheard(&self, worker: WorkerId) {
        self.streams.unheard(worker);
    }

    /// Tells the streams that an engine does not deliver what its worker is said to hold. Never blocks.
    /// One that is not in the fleet any more is nobody: its number may be another's by now.
    pub fn distrust(&self, info: &WorkerInfo) {
        let view = self.view();
        let there = view.worker(info.id());
        if there.is_some_and(|there| there.serial() == info.serial()) {
            self.streams.distrust(info.id());
        }
    }

    /// What feedback on decisions came to.
    #[must_use]
    pub fn feedback(&self) -> &FeedbackCounts {
        &self.feedback
    }

    /// What asking the engines over HTTP came to.
    #[must_use]
    pub fn probes(&self) -> &ProbeCounts {
        &self.probes
    }
}
