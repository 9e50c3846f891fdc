//! Whether pods can make a fleet together, without subscribing to any.
use super::{AddError, Fleet, PodSpec, SpecError, Subscribe};
use crate::stream::saved::SaveTo;
use crate::stream::{NewWorker, QueueFull};
use ahash::AHashSet;
use kvroute_engine::types::WorkerId;
use kvroute_engine::{Index, IndexConfig};
use std::time::Duration;

/// Subscribes to nothing.
#[derive(Debug)]
pub(crate) struct Nobody;

impl Subscribe for Nobody {
    fn add(&self, _: NewWorker) -> Result<(), QueueFull> {
        Ok(())
    }

    fn remove(&self, _: WorkerId) {}

    fn verify(&self, _: WorkerId) {}

    fn unheard(&self, _: WorkerId) {}

    fn distrust(&self, _: WorkerId) {}

    fn save(&self, _: WorkerId, _: SaveTo) {}
}

/// What [`Fleet::add_all`] would say of these pods in an empty fleet, one that learns from decisions; and a pod is described
/// once, with all its ranks.
///
/// # Errors
/// The first pod that cannot be added, by its place.
pub fn check_pods(mut pods: Vec<PodSpec>) -> Result<(), (usize, AddError)> {
    let mut names = AHashSet::new();
    for (at, pod) in pods.iter_mut().enumerate() {
        if !names.insert(pod.pod.clone()) {
            let field = "pod";
            let message = format!("{:?} is described twice", pod.pod);
            return Err((at, SpecError { field, message }.into()));
        }
        if !pod.kv_events {
            pod.ranks().map_err(|wrong| (at, wrong.into()))?;
            // Who publishes nothing cannot publish where others do. Only what all pods have in common is left to check.
            pod.kv_events = true;
            pod.events = Some(format!("ipc://nobody-{at}"));
        }
    }
    let fleet = Fleet::new(Index::new(IndexConfig::default()), Nobody);
    fleet.add_all(pods, Duration::ZERO)
}
