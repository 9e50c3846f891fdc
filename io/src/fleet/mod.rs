//! The fleet: which pods there are, and the snapshot of them that lookups read without waiting.
mod spec;
mod view;

pub use spec::{PodSpec, SpecError};
pub use view::{FleetView, WorkerInfo};

use crate::status::WorkerStatus;
use crate::stream::{NewWorker, Streams};
use arc_swap::ArcSwap;
use kvroute_engine::contexts::Index;
use std::sync::{Arc, Mutex};

/// Why a pod could not be added.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// The description of the pod is not usable.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A pod of this name is there already.
    #[error("pod {0} is known already")]
    Duplicate(String),
    /// No room in the index, or the IO thread's queue of commands is full.
    #[error("no room for pod {pod}: {why}")]
    NoRoom {
        /// The pod's name.
        pod: String,
        /// What is full.
        why: String,
    },
}

/// The registry of pods. Changes take a lock; lookups read [`Fleet::view`].
#[derive(Debug)]
pub struct Fleet {
    index: Arc<Index>,
    streams: Streams,
    view: ArcSwap<FleetView>,
    /// Held while the fleet changes, so that changes follow one another.
    changing: Mutex<()>,
}

impl Fleet {
    /// An empty fleet over an index and the IO threads that fill it.
    #[must_use]
    pub fn new(index: Arc<Index>, streams: Streams) -> Self {
        Self {
            index,
            streams,
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
    pub fn view(&self) -> arc_swap::Guard<Arc<FleetView>> {
        self.view.load()
    }

    /// Adds a pod with all its ranks and subscribes to them.
    pub fn add(&self, spec: PodSpec) -> Result<(), AddError> {
        let ranks = spec.ranks()?;
        let _changing = self
            .changing
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut view = FleetView::clone(&self.view.load());
        if view.pod(&spec.pod).next().is_some() {
            return Err(AddError::Duplicate(spec.pod));
        }
        let no_room = |why: String| AddError::NoRoom {
            pod: spec.pod.clone(),
            why,
        };
        let pod = Arc::new(spec.clone());
        let mut added = Vec::new();
        for endpoints in ranks {
            let writer = self
                .index
                .writer(&spec.model)
                .map_err(|e| no_room(e.to_string()))?;
            let status = Arc::new(WorkerStatus::default());
            let info = Arc::new(WorkerInfo::new(
                writer.id(),
                Arc::clone(&pod),
                endpoints,
                status,
            ));
            added.push((writer, info));
        }
        let mut queued = Vec::new();
        for (writer, info) in added {
            let worker = NewWorker {
                writer,
                events: info.events().to_owned(),
                replay: info.replay().map(str::to_owned),
                status: Arc::clone(info.status()),
                name: info.label(),
            };
            if let Err(full) = self.streams.add(worker) {
                queued.iter().for_each(|&id| self.streams.remove(id));
                return Err(no_room(full.to_string()));
            }
            queued.push(info.id());
            view.insert(info);
        }
        self.view.store(Arc::new(view));
        Ok(())
    }

    /// Removes a pod (or one rank of it) and all it held; `false` if it is not known.
    pub fn remove(&self, pod: &str, rank: Option<u32>) -> bool {
        let _changing = self
            .changing
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut view = FleetView::clone(&self.view.load());
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
}
