//! The snapshot of the fleet that lookups read.
use super::{PodSpec, spec::RankEndpoints};
use crate::status::WorkerStatus;
use kvroute_engine::types::WorkerId;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One worker: a rank of a pod.
#[derive(Debug)]
pub struct WorkerInfo {
    id: WorkerId,
    pod: Arc<PodSpec>,
    endpoints: RankEndpoints,
    status: Arc<WorkerStatus>,
}

impl WorkerInfo {
    /// A worker of a pod.
    #[must_use]
    pub fn new(
        id: WorkerId,
        pod: Arc<PodSpec>,
        endpoints: RankEndpoints,
        status: Arc<WorkerStatus>,
    ) -> Self {
        Self {
            id,
            pod,
            endpoints,
            status,
        }
    }

    /// Its number in the index.
    #[must_use]
    pub fn id(&self) -> WorkerId {
        self.id
    }

    /// The pod it belongs to.
    #[must_use]
    pub fn pod(&self) -> &PodSpec {
        &self.pod
    }

    /// Its rank.
    #[must_use]
    pub fn rank(&self) -> u32 {
        self.endpoints.rank
    }

    /// Where it publishes events.
    #[must_use]
    pub fn events(&self) -> &str {
        &self.endpoints.events
    }

    /// Where it answers replay requests.
    #[must_use]
    pub fn replay(&self) -> Option<&str> {
        self.endpoints.replay.as_deref()
    }

    /// What its IO thread says of it.
    #[must_use]
    pub fn status(&self) -> &Arc<WorkerStatus> {
        &self.status
    }

    /// `pod#rank`, for logs.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{}#{}", self.pod.pod, self.rank())
    }
}

/// All workers at one moment.
#[derive(Clone, Debug, Default)]
pub struct FleetView {
    /// By the worker's number.
    by_id: Vec<Option<Arc<WorkerInfo>>>,
    by_name: BTreeMap<(String, u32), Arc<WorkerInfo>>,
}

impl FleetView {
    /// The worker with this number. O(1).
    #[must_use]
    pub fn worker(&self, id: WorkerId) -> Option<&Arc<WorkerInfo>> {
        self.by_id.get(id.index())?.as_ref()
    }

    /// All workers, by pod name and rank.
    pub fn workers(&self) -> impl Iterator<Item = &Arc<WorkerInfo>> {
        self.by_name.values()
    }

    /// The ranks of one pod.
    pub fn pod(&self, pod: &str) -> impl Iterator<Item = &Arc<WorkerInfo>> {
        let name = pod.to_owned();
        self.by_name
            .range((name.clone(), 0)..)
            .take_while(move |((pod, _), _)| *pod == name)
            .map(|(_, info)| info)
    }

    /// How many workers there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    pub(super) fn insert(&mut self, info: Arc<WorkerInfo>) {
        let at = info.id().index();
        if self.by_id.len() <= at {
            self.by_id.resize(at + 1, None);
        }
        self.by_id[at] = Some(Arc::clone(&info));
        self.by_name
            .insert((info.pod().pod.clone(), info.rank()), info);
    }

    pub(super) fn remove(&mut self, pod: &str, rank: Option<u32>) -> Vec<Arc<WorkerInfo>> {
        let gone: Vec<_> = self
            .pod(pod)
            .filter(|info| rank.is_none_or(|rank| info.rank() == rank))
            .cloned()
            .collect();
        for info in &gone {
            self.by_id[info.id().index()] = None;
            self.by_name.remove(&(info.pod().pod.clone(), info.rank()));
        }
        gone
    }
}
