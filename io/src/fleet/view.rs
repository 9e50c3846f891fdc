//! The snapshot of the fleet that lookups read.
use super::{PodSpec, Source, spec::RankEndpoints};
use crate::accuracy::WorkerAccuracy;
use crate::load::WorkerLoad;
use crate::predict::Subject;
use crate::snapshot::About;
use crate::status::{Trust, WorkerStatus};
use crate::stream::saved::Section;
use arc_swap::ArcSwapOption;
use kvroute_engine::choose::tie;
use kvroute_engine::types::WorkerId;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// One worker: a rank of a pod.
#[derive(Debug)]
pub struct WorkerInfo {
    id: WorkerId,
    serial: u64,
    identity: u64,
    pod: Arc<PodSpec>,
    endpoints: RankEndpoints,
    source: Source,
    status: Arc<WorkerStatus>,
    subject: Arc<Subject>,
    own: Arc<Own>,
    /// Only a hint to who chooses, so Relaxed.
    serving: AtomicBool,
    json: WorkerJson,
}

/// What is a worker's own, however it is described.
#[derive(Debug)]
struct Own {
    load: WorkerLoad,
    accuracy: WorkerAccuracy,
    problem: ArcSwapOption<String>,
}

impl WorkerInfo {
    pub(super) fn new(
        id: WorkerId,
        source: Source,
        pod: Arc<PodSpec>,
        endpoints: RankEndpoints,
        status: Arc<WorkerStatus>,
        subject: Arc<Subject>,
    ) -> Self {
        /// Only told apart by it, so Relaxed.
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        Self {
            id,
            json: WorkerJson::new(&pod.pod, pod.endpoint.as_deref(), endpoints.rank),
            serial: SERIAL.fetch_add(1, Relaxed),
            identity: tie::identity(&pod.pod, endpoints.rank),
            pod,
            endpoints,
            source,
            status,
            subject,
            own: Arc::new(Own {
                load: WorkerLoad::default(),
                accuracy: WorkerAccuracy::default(),
                problem: ArcSwapOption::empty(),
            }),
            serving: AtomicBool::new(true),
        }
    }

    /// The same worker as somebody else, or the same in other words, describes it. What it publishes, and where, is the same;
    /// requests may be sent to it until it is said otherwise.
    pub(super) fn described(&self, source: Source, pod: Arc<PodSpec>) -> Self {
        Self {
            id: self.id,
            serial: self.serial,
            identity: self.identity,
            json: WorkerJson::new(&pod.pod, pod.endpoint.as_deref(), self.rank()),
            pod,
            endpoints: self.endpoints.clone(),
            source,
            status: Arc::clone(&self.status),
            subject: Arc::clone(&self.subject),
            own: Arc::clone(&self.own),
            serving: AtomicBool::new(true),
        }
    }

    /// Its number in the index.
    #[must_use]
    pub fn id(&self) -> WorkerId {
        self.id
    }

    /// A number that no other worker of this process ever has, unlike [`WorkerInfo::id`].
    #[must_use]
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// The number that stands for it in ties, in every replica.
    #[must_use]
    pub fn identity(&self) -> u64 {
        self.identity
    }

    /// The pod it belongs to, as it was described. The ranks of one description share it.
    #[must_use]
    pub fn pod(&self) -> &Arc<PodSpec> {
        &self.pod
    }

    /// Who describes it.
    #[must_use]
    pub fn source(&self) -> Source {
        self.source
    }

    /// Whether requests may be sent to it. What it holds is followed in any case.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.serving.load(Relaxed)
    }

    pub(super) fn set_serving(&self, serving: bool) {
        self.serving.store(serving, Relaxed);
    }

    /// Its rank.
    #[must_use]
    pub fn rank(&self) -> u32 {
        self.endpoints.rank
    }

    /// Where it publishes and replays.
    #[must_use]
    pub fn endpoints(&self) -> &RankEndpoints {
        &self.endpoints
    }

    /// Where it publishes events; empty if it does not.
    #[must_use]
    pub fn events(&self) -> &str {
        &self.endpoints.events
    }

    /// What is learnt of it from decisions.
    #[must_use]
    pub fn subject(&self) -> &Arc<Subject> {
        &self.subject
    }

    /// Whether nothing is known of it but what was learnt from decisions.
    #[must_use]
    pub fn is_approximate(&self) -> bool {
        self.subject.is_approximate()
    }

    /// Where it answers replay requests.
    #[must_use]
    pub fn replay(&self) -> Option<&str> {
        self.endpoints.replay.as_deref()
    }

    /// What answers say of it that does not change.
    #[must_use]
    pub fn json(&self) -> &WorkerJson {
        &self.json
    }

    /// What its IO thread says of it.
    #[must_use]
    pub fn status(&self) -> &Arc<WorkerStatus> {
        &self.status
    }

    /// How busy it is.
    #[must_use]
    pub fn load(&self) -> &WorkerLoad {
        &self.own.load
    }

    /// What it was said to hold against what its engine delivered.
    #[must_use]
    pub fn accuracy(&self) -> &WorkerAccuracy {
        &self.own.accuracy
    }

    /// Why no events can be expected of it, as its engine's own description says.
    #[must_use]
    pub fn problem(&self) -> Option<Arc<String>> {
        self.own.problem.load_full()
    }

    /// Sets or takes back that reason.
    pub fn set_problem(&self, problem: Option<&str>) {
        self.own
            .problem
            .store(problem.map(|text| Arc::new(text.to_owned())));
    }

    /// Tokens per block: as events said it, else as the pod's description did.
    #[must_use]
    pub fn block_size(&self) -> Option<u32> {
        self.status.block_size().or(self.pod.block_size)
    }

    /// What a snapshot says about it.
    #[must_use]
    pub fn about(&self, saved: &Section) -> About {
        About {
            pod: self.pod.pod.clone(),
            uid: self.pod.uid.clone(),
            rank: self.rank(),
            model: self.pod.model.clone(),
            standing: saved.standing.clone(),
        }
    }

    /// `pod#rank`, for logs.
    #[must_use]
    pub fn label(&self) -> String {
        label(&self.pod.pod, self.rank())
    }
}

/// `pod#rank`, for logs and messages.
pub(super) fn label(pod: &str, rank: u32) -> String {
    format!("{pod}#{rank}")
}

/// What answers say of a worker that does not change, as JSON.
#[derive(Debug)]
pub struct WorkerJson {
    text: Box<str>,
    /// Where the pod's name ends.
    name: usize,
}

impl WorkerJson {
    /// Of a pod's rank.
    #[must_use]
    pub fn new(pod: &str, endpoint: Option<&str>, rank: u32) -> Self {
        let name = json!(pod).to_string();
        let text = format!("{name},\"endpoint\":{},\"rank\":{rank}", json!(endpoint));
        Self {
            text: text.into(),
            name: name.len(),
        }
    }

    /// The pod's name, quoted.
    #[must_use]
    pub fn name(&self) -> &str {
        self.text.get(..self.name).unwrap_or_default()
    }

    /// The pod's name, its endpoint and the rank: the fields `pod` (without its key), `endpoint`, `rank`.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.text
    }
}

/// All workers at one moment.
#[derive(Clone, Debug, Default)]
pub struct FleetView {
    /// By the worker's number.
    by_id: Vec<Option<Arc<WorkerInfo>>>,
    /// By the worker's number: where it stands among all, by pod name and rank. Made when the view is shown.
    places: Vec<u32>,
    /// The ranks of each pod, in order.
    by_pod: BTreeMap<Arc<str>, Vec<Arc<WorkerInfo>>>,
    /// The workers that serve each model, by pod name and rank.
    models: BTreeMap<Arc<str>, Vec<Arc<WorkerInfo>>>,
    /// For each adapter in a pod's description: how many workers of each model have it.
    adapters: BTreeMap<Arc<str>, BTreeMap<Arc<str>, usize>>,
}

impl FleetView {
    /// The worker with this number. O(1).
    #[must_use]
    pub fn worker(&self, id: WorkerId) -> Option<&Arc<WorkerInfo>> {
        self.by_id.get(id.index())?.as_ref()
    }

    /// Where a worker stands among all by pod name and rank: an order that is the same on every replica. O(1).
    #[must_use]
    pub fn place(&self, id: WorkerId) -> u32 {
        self.places.get(id.index()).copied().unwrap_or(u32::MAX)
    }

    /// Gives every worker its place. O(workers).
    pub(super) fn give_places(&mut self) {
        self.places.clear();
        self.places.resize(self.by_id.len(), u32::MAX);
        for (place, info) in (0..).zip(self.by_pod.values().flatten()) {
            if let Some(known) = self.places.get_mut(info.id().index()) {
                *known = place;
            }
        }
    }

    /// All workers, by pod name and rank.
    pub fn workers(&self) -> impl Iterator<Item = &Arc<WorkerInfo>> {
        self.by_pod.values().flatten()
    }

    /// The ranks of one pod, in order; none if the pod is not known. O(log pods).
    #[must_use]
    pub fn pod(&self, pod: &str) -> &[Arc<WorkerInfo>] {
        self.by_pod.get(pod).map_or(&[], Vec::as_slice)
    }

    /// The workers that serve this model, by pod name and rank. O(log models).
    #[must_use]
    pub fn of_model(&self, model: &str) -> &[Arc<WorkerInfo>] {
        self.models.get(model).map_or(&[], Vec::as_slice)
    }

    /// Whether a worker serves this model. O(log models).
    #[must_use]
    pub fn has_model(&self, model: &str) -> bool {
        self.models.contains_key(model)
    }

    /// The models that are served.
    pub fn models(&self) -> impl Iterator<Item = &str> {
        self.models.keys().map(AsRef::as_ref)
    }

    /// The models for which a pod's description names this adapter. O(log adapters).
    pub fn models_with_adapter(&self, adapter: &str) -> impl Iterator<Item = &str> {
        let models = self.adapters.get(adapter);
        models
            .into_iter()
            .flat_map(BTreeMap::keys)
            .map(AsRef::as_ref)
    }

    /// How many workers there are. O(models).
    #[must_use]
    pub fn len(&self) -> usize {
        self.models.values().map(Vec::len).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.models.is_empty()
    }

    /// How many workers are in each state, also in those that none is in. O(workers).
    #[must_use]
    pub fn states(&self) -> BTreeMap<&'static str, usize> {
        let mut states: BTreeMap<_, _> = Trust::ALL.iter().map(|s| (s.as_str(), 0)).collect();
        for info in self.workers() {
            *states.entry(info.status().trust().as_str()).or_default() += 1;
        }
        states
    }

    pub(super) fn insert(&mut self, info: Arc<WorkerInfo>) {
        let at = info.id().index();
        if self.by_id.len() <= at {
            self.by_id.resize(at + 1, None);
        }
        self.by_id[at] = Some(Arc::clone(&info));
        let model: Arc<str> = info.pod().model.as_str().into();
        for adapter in &info.pod().lora {
            let models = self.adapters.entry(adapter.as_str().into()).or_default();
            *models.entry(Arc::clone(&model)).or_default() += 1;
        }
        let peers = self.models.entry(model).or_default();
        let at = peers.partition_point(|other| place(other) < place(&info));
        peers.insert(at, Arc::clone(&info));
        let ranks = self
            .by_pod
            .entry(info.pod().pod.as_str().into())
            .or_default();
        let at = ranks.partition_point(|other| other.rank() < info.rank());
        ranks.insert(at, info);
    }

    pub(super) fn remove(&mut self, pod: &str, rank: Option<u32>) -> Vec<Arc<WorkerInfo>> {
        let Some(ranks) = self.by_pod.get_mut(pod) else {
            return Vec::new();
        };
        let mut gone = Vec::new();
        ranks.retain(|info| {
            let stays = rank.is_some_and(|rank| info.rank() != rank);
            if !stays {
                gone.push(Arc::clone(info));
            }
            stays
        });
        if ranks.is_empty() {
            self.by_pod.remove(pod);
        }
        for info in &gone {
            self.forget(info);
        }
        gone
    }

    fn forget(&mut self, info: &WorkerInfo) {
        if let Some(slot) = self.by_id.get_mut(info.id().index()) {
            *slot = None;
        }
        let model = info.pod().model.as_str();
        for adapter in &info.pod().lora {
            if let Some(models) = self.adapters.get_mut(adapter.as_str()) {
                take_one(models, model);
                if models.is_empty() {
                    self.adapters.remove(adapter.as_str());
                }
            }
        }
        if let Some(peers) = self.models.get_mut(model) {
            peers.retain(|other| other.serial() != info.serial());
            if peers.is_empty() {
                self.models.remove(model);
            }
        }
    }
}

/// What workers are ordered by.
fn place(info: &WorkerInfo) -> (&str, u32) {
    (&info.pod().pod, info.rank())
}

/// Counts one less; the last one goes.
fn take_one(counts: &mut BTreeMap<Arc<str>, usize>, name: &str) {
    if let Some(count) = counts.get_mut(name) {
        *count -= 1;
        if *count == 0 {
            counts.remove(name);
        }
    }
}
