//! Decisions that nobody obeys, compared with what the caller did.
//!
//! The caller says where a request went in the request itself (a gateway that has chosen already sends the header) or
//! afterwards, as feedback. Only the first word counts.
use super::decisions::{Actual, Considered, Decision, RequestId, Seat};
use crate::fleet::{Fleet, FleetView, WorkerInfo};
use crate::limits::TARGET_BYTES_MAX;
use crate::status::now_ms;
use hyper::HeaderMap;
use std::sync::Arc;

/// Headers that say where a request goes, the first one winning.
const NAMES: [&str; 2] = ["x-kvroute-actual", "target-pod"];

/// The worker that served a request, as the decision saw it.
#[derive(Debug)]
pub(super) struct Theirs<'d> {
    pub(super) considered: &'d Considered,
    pub(super) info: Arc<WorkerInfo>,
}

/// Where the caller says that the request goes.
pub(super) fn said(headers: &HeaderMap) -> Option<&str> {
    let mut said = NAMES
        .iter()
        .filter_map(|name| headers.get(*name)?.to_str().ok());
    said.find(|name| !name.is_empty() && name.len() <= TARGET_BYTES_MAX)
}

/// Compares a decision just made with what the request said.
pub(super) fn told(fleet: &Fleet, seat: &Seat, id: RequestId, said: Option<&str>) {
    if let Some(name) = said
        && let Some(decision) = seat.find(id)
    {
        compare(fleet, &decision, name);
    }
}

/// Compares a decision with what the caller did, the first time that it says so.
pub(super) fn compare(fleet: &Fleet, decision: &Decision, name: &str) {
    let view = fleet.view();
    let agreed = is_named(&decision.target, name);
    let own = decision.matched;
    let theirs = match agreed {
        true => Some(own),
        false => best(decision, &view, name).map(Considered::matched),
    };
    let actual = Actual {
        name: name.into(),
        agreed,
        matched: theirs,
    };
    if !decision.tell(actual) {
        return;
    }
    fleet.feedback().shadowed(agreed, own, theirs);
    decision.target.accuracy().shadowed(agreed);
    let target = decision.target.label();
    tracing::debug!(id = %decision.id, target, actual = name, agreed, own, theirs, "compared");
    if fleet.feedback().is_time_to_log(now_ms()) {
        let shadows = fleet.feedback().shadows();
        tracing::info!(
            agreed = shadows.agreed,
            disagreed = shadows.disagreed,
            own_tokens = shadows.own_tokens,
            their_tokens = shadows.their_tokens,
            "shadow decisions so far"
        );
    }
}

/// The worker that the node chose.
pub(super) fn own(decision: &Decision) -> Option<Theirs<'_>> {
    let serial = decision.target.serial();
    let mut candidates = decision.candidates.iter();
    Some(Theirs {
        considered: candidates.find(|candidate| candidate.serial == serial)?,
        info: Arc::clone(&decision.target),
    })
}

/// The one worker that is called so, if it was considered.
pub(super) fn find<'d>(decision: &'d Decision, view: &FleetView, name: &str) -> Option<Theirs<'d>> {
    let mut named = named(decision, view, name);
    let one = named.next().filter(|_| named.next().is_none())?;
    // Of a pod of several ranks nobody knows which one it was, even if the decision tells of one alone.
    let alone = view.pod(&one.info.pod().pod).len() <= 1;
    (alone || names_rank(&one.info, name)).then_some(one)
}

/// Of the workers that are called so, the one that could have reused the most.
fn best<'d>(decision: &'d Decision, view: &FleetView, name: &str) -> Option<&'d Considered> {
    let named = named(decision, view, name);
    named
        .map(|theirs| theirs.considered)
        .max_by_key(|considered| considered.matched())
}

fn named<'d>(
    decision: &'d Decision,
    view: &FleetView,
    name: &str,
) -> impl Iterator<Item = Theirs<'d>> {
    let info = |considered: &Considered| {
        let same = |info: &&Arc<WorkerInfo>| info.serial() == considered.serial;
        let target = Some(&decision.target).filter(same);
        let info = target.or_else(|| view.worker(considered.worker).filter(same));
        info.filter(|info| is_named(info, name)).cloned()
    };
    decision.candidates.iter().filter_map(move |considered| {
        let info = info(considered)?;
        Some(Theirs { considered, info })
    })
}

/// Whether a worker is called so: by its pod, by pod and rank, or by where its requests go.
fn is_named(info: &WorkerInfo, name: &str) -> bool {
    let pod = info.pod();
    name == pod.pod || pod.endpoint.as_deref() == Some(name) || names_rank(info, name)
}

/// Whether a name is `pod#rank` of this worker.
fn names_rank(info: &WorkerInfo, name: &str) -> bool {
    name.rsplit_once('#')
        .is_some_and(|(pod, rank)| pod == info.pod().pod && rank.parse() == Ok(info.rank()))
}
