//! From a pod of Kubernetes to what the fleet needs of it, or why it is none.
use super::labels;
use super::object::{ContainerStatus, Pod, Status};
use crate::config::Preset;
use crate::fleet::{PodSpec, Refused};

/// What a pod is to the fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// It may be one of the fleet's.
    Found(Found),
    /// It is not, as it is now.
    No(No),
    /// What is written on it cannot be understood.
    Refused(Refused),
}

/// A pod that runs and can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// What it is.
    pub(super) spec: PodSpec,
    /// Whether all its containers are ready.
    pub(super) ready: bool,
    /// The lives of its containers, by name.
    pub(super) containers: Vec<Life>,
}

/// What tells one life of a container from the next.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Life {
    name: String,
    restarts: i64,
    id: Option<String>,
    /// `None` unless it runs.
    started: Option<String>,
}

/// Why a pod is none of the fleet's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum No {
    /// It is told to end.
    #[error("it is terminating")]
    Terminating,
    /// It does not run yet, or no more.
    #[error("its phase is {0:?}")]
    Phase(String),
    /// It cannot be reached yet.
    #[error("it has no address")]
    Address,
}

/// What a pod is to the fleet, by the labels of a preset.
pub(super) fn read(pod: &Pod, preset: Preset) -> Reading {
    if pod.metadata.deletion_timestamp.is_some() {
        return Reading::No(No::Terminating);
    }
    let none = Status::default();
    let status = pod.status.as_ref().unwrap_or(&none);
    match status.phase.as_deref() {
        Some("Running") => {}
        phase => {
            let phase = phase.unwrap_or_default().to_owned();
            return Reading::No(No::Phase(phase));
        }
    }
    let described = match labels::host(pod) {
        Ok(None) => return Reading::No(No::Address),
        Ok(Some(host)) => labels::describe(pod, preset, &host),
        Err(message) => Err(message),
    };
    match described {
        Ok(spec) => Reading::Found(Found {
            spec,
            ready: is_ready(status),
            containers: lives(status),
        }),
        Err(message) => Reading::Refused(Refused::invalid(&pod.full_name(), message)),
    }
}

/// Whether a container of a pod lives another life than it did: it was started anew. That one has ended is seen by its
/// connections, and it is not judged twice.
pub(super) fn has_restarted(before: &[Life], now: &[Life]) -> bool {
    before.iter().any(|old| {
        let same = now.iter().find(|new| new.name == old.name);
        same.is_some_and(|new| old.is_over(new))
    })
}

impl Life {
    /// Whether `new` is another life. The start may be untold while there is none.
    fn is_over(&self, new: &Self) -> bool {
        let other = |old: &Option<String>, new: &Option<String>| matches!((old, new), (Some(old), Some(new)) if old != new);
        // Not only more of them: those that are collected are not counted any more.
        self.restarts != new.restarts
            || other(&self.id, &new.id)
            || other(&self.started, &new.started)
    }
}

fn is_ready(status: &Status) -> bool {
    // Of a machine that is silent, Kubernetes takes back the pod's condition only; of containers that are not ready, the other.
    let mut said = false;
    for condition in status.conditions.iter().flatten() {
        if ["Ready", "ContainersReady"].contains(&condition.kind.as_str()) {
            if condition.status != "True" {
                return false;
            }
            said = true;
        }
    }
    if said {
        return true;
    }
    let mut containers = status.container_statuses.iter().flatten().peekable();
    containers.peek().is_some() && containers.all(|it| it.ready)
}

fn lives(status: &Status) -> Vec<Life> {
    let containers = status.container_statuses.iter().flatten();
    let mut lives: Vec<_> = containers.map(life).collect();
    lives.sort();
    lives
}

fn life(container: &ContainerStatus) -> Life {
    let state = container.state.as_ref();
    let running = state.and_then(|state| state.running.as_ref());
    Life {
        name: container.name.clone(),
        restarts: container.restart_count,
        id: container.container_id.clone(),
        started: running.and_then(|running| running.started_at.clone()),
    }
}
