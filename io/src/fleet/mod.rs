//! The fleet: which pods there are, and the snapshot of them that lookups read without waiting.
mod file;
mod spec;
#[cfg(test)]
mod tests;
mod view;

pub(crate) use file::read_yaml;
pub use file::{FileError, read_pods};
pub use spec::{PodSpec, SpecError};
pub use view::{FleetView, WorkerInfo};

use crate::status::WorkerStatus;
use crate::stream::{NewWorker, QueueFull, Streams};
use arc_swap::ArcSwap;
use kvroute_engine::Index;
use kvroute_engine::types::WorkerId;
use spec::RankEndpoints;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
    /// No room in the index, or the IO thread's queue of commands is full.
    #[error("no room for pod {pod}: {why}")]
    NoRoom {
        /// The pod's name.
        pod: String,
        /// What is full.
        why: String,
    },
}

/// What subscribes to workers: the IO threads, or whatever else writes a worker's blocks.
pub trait Subscribe: Debug + Send + Sync {
    /// Takes a worker over, with its writer. Must not block.
    fn add(&self, worker: NewWorker) -> Result<(), QueueFull>;
    /// Lets a worker go: its writer is dropped soon. Must not block, and cannot fail.
    fn remove(&self, worker: WorkerId);
}

impl Subscribe for Streams {
    fn add(&self, worker: NewWorker) -> Result<(), QueueFull> {
        Self::add(self, worker)
    }

    fn remove(&self, worker: WorkerId) {
        Self::remove(self, worker);
    }
}

/// The registry of pods. Changes take a lock; lookups read [`Fleet::view`].
#[derive(Debug)]
pub struct Fleet {
    index: Arc<Index>,
    streams: Box<dyn Subscribe>,
    view: ArcSwap<FleetView>,
    /// Held while the fleet changes, so that changes follow one another.
    changing: Mutex<()>,
}

impl Fleet {
    /// An empty fleet over an index and the IO threads that fill it.
    #[must_use]
    pub fn new(index: Arc<Index>, streams: impl Subscribe + 'static) -> Self {
        Self {
            index,
            streams: Box::new(streams),
            view: ArcSwap::default(),
            changing: Mutex::new(()),
        }
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

    /// Adds a pod with all its ranks and subscribes to them. O(workers), never waits for room.
    ///
    /// Ranks may come one by one, as pods of the same name and model (see [`PodSpec::first_rank`]).
    pub fn add(&self, pod: PodSpec) -> Result<(), AddError> {
        self.add_all(vec![pod], Duration::ZERO)
            .map_err(|(_, error)| error)
    }

    /// Adds all pods or, with the first error and the place of its pod, none. O(workers); waits
    /// up to `patience` for room in the queues of the IO threads.
    pub fn add_all(&self, pods: Vec<PodSpec>, patience: Duration) -> Result<(), (usize, AddError)> {
        let deadline = Instant::now() + patience;
        let _changing = self.lock();
        let mut view = FleetView::clone(&self.view.load());
        let mut added = Vec::new();
        for (at, pod) in pods.into_iter().enumerate() {
            if let Err(error) = self.add_one(&mut view, pod, deadline, &mut added) {
                added.iter().for_each(|&id| self.streams.remove(id));
                return Err((at, error));
            }
        }
        self.view.store(Arc::new(view));
        Ok(())
    }

    /// Removes a pod (or one rank of it) and all it held; `false` if it is not known. O(workers).
    pub fn remove(&self, pod: &str, rank: Option<u32>) -> bool {
        self.remove_served(pod, rank, None)
    }

    /// The same, if the pod serves `model`.
    pub fn remove_served(&self, pod: &str, rank: Option<u32>, model: Option<&str>) -> bool {
        let _changing = self.lock();
        let current = self.view.load();
        let other = |info: &Arc<WorkerInfo>| model.is_some_and(|model| info.pod().model != model);
        if current.pod(pod).iter().any(other) {
            return false;
        }
        let mut view = FleetView::clone(&current);
        let removed = view.remove(pod, rank);
        if removed.is_empty() {
            return false;
        }
        self.view.store(Arc::new(view));
        removed
            .iter()
            .for_each(|info| self.streams.remove(info.id()));
        true
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Subscribes to a pod's ranks and enters them into the view that is being made.
    fn add_one(
        &self,
        view: &mut FleetView,
        pod: PodSpec,
        deadline: Instant,
        added: &mut Vec<WorkerId>,
    ) -> Result<(), AddError> {
        let ranks = pod.ranks()?;
        for known in view.pod(&pod.pod) {
            if known.pod().model != pod.model {
                let model = known.pod().model.clone();
                return Err(AddError::OtherModel {
                    pod: pod.pod,
                    model,
                });
            }
            if ranks.iter().any(|rank| rank.rank == known.rank()) {
                return Err(AddError::Duplicate(known.label()));
            }
        }
        let pod = Arc::new(pod);
        for endpoints in ranks {
            let info = self.subscribe(&pod, endpoints, deadline)?;
            added.push(info.id());
            view.insert(info);
        }
        Ok(())
    }

    /// Hands one rank to the IO threads, again and again until there is room or it is too late.
    fn subscribe(
        &self,
        pod: &Arc<PodSpec>,
        endpoints: RankEndpoints,
        deadline: Instant,
    ) -> Result<Arc<WorkerInfo>, AddError> {
        const PAUSE: Duration = Duration::from_millis(5);
        let no_room = |why: String| AddError::NoRoom {
            pod: pod.pod.clone(),
            why,
        };
        loop {
            let writer = self.index.writer(&pod.model);
            let writer = writer.map_err(|full| no_room(full.to_string()))?;
            let id = writer.id();
            let status = Arc::new(WorkerStatus::default());
            let worker = NewWorker {
                writer,
                events: endpoints.events.clone(),
                replay: endpoints.replay.clone(),
                status: Arc::clone(&status),
                name: view::label(&pod.pod, endpoints.rank),
                kept: None,
            };
            match self.streams.add(worker) {
                Ok(()) => {
                    let info = WorkerInfo::new(id, Arc::clone(pod), endpoints, status);
                    return Ok(Arc::new(info));
                }
                Err(full) if Instant::now() >= deadline => return Err(no_room(full.to_string())),
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
    }
}
