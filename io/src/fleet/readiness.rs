//! Whether the node knows enough of its fleet to be asked: its start is over, and enough workers are synchronised, or
//! were waited for long enough.
use super::{Fleet, FleetView};
use crate::limits::READY_TIMEOUT_DEFAULT;
use crate::status::Trust;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Workers named in the reason for not being ready.
const NAMED: usize = 8;

/// What readiness asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// The share of the workers that must have left `replaying`, 0 to 1.
    pub share: f64,
    /// How long that is waited for, from when all pods were entered and there was a worker. As long is waited for sources of pods
    /// that are not heard, from when there was a worker: without one there is nothing to be ready for.
    pub patience: Duration,
}

impl Default for Terms {
    /// All workers, for the usual time.
    fn default() -> Self {
        Self {
            share: 1.0,
            patience: READY_TIMEOUT_DEFAULT,
        }
    }
}

/// A step of the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum StartStep {
    /// Finding something to start from.
    Snapshot = 0,
    /// Hearing every source of pods, and entering what they describe.
    Pods = 1,
    /// Waiting for workers to be synchronised.
    Synchronisation = 2,
}

impl StartStep {
    /// All of them, in order.
    pub const ALL: [Self; 3] = [Self::Snapshot, Self::Pods, Self::Synchronisation];

    /// The word used in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Pods => "pods",
            Self::Synchronisation => "synchronisation",
        }
    }
}

/// Whether the node is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It is. `late`: not enough workers were synchronised in time, nor have been since.
    Ready {
        /// Whether it does not wait for workers any more, though too few are synchronised.
        late: bool,
    },
    /// It waits for this.
    Waiting(String),
}

impl Readiness {
    /// Whether it is.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        matches!(self, Self::Ready { .. })
    }
}

/// How far the start is. Behind a lock that is held for moments; no lookup takes it.
#[derive(Debug)]
pub struct Start {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    terms: Terms,
    /// What to start from is not decided; where it is looked for.
    seeks: Option<String>,
    /// When the step at hand began.
    since: Instant,
    took: [Option<Duration>; StartStep::ALL.len()],
    /// Since when sources are waited for although there is a worker.
    missing_since: Option<Instant>,
    /// Since when workers are waited for: all pods are entered, and there is one.
    waiting_since: Option<Instant>,
    /// Once it was ready with a worker it stays so: `late` or not.
    ready: Option<bool>,
}

impl Default for Start {
    /// Of a fleet that has nothing to start from.
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                terms: Terms::default(),
                seeks: None,
                since: Instant::now(),
                took: [None; StartStep::ALL.len()],
                missing_since: None,
                waiting_since: None,
                ready: None,
            }),
        }
    }
}

impl Start {
    /// What readiness asks for from now on; a node that is ready stays so.
    pub fn set_terms(&self, terms: Terms) {
        self.state().terms = terms;
    }

    /// Something to start from is looked for, and where: until [`Start::decided`] no pod is taken in, for it would begin with
    /// nothing.
    pub fn seeks(&self, place: &str) {
        self.state().seeks = Some(place.to_owned());
    }

    /// What to start from is decided.
    pub fn decided(&self, now: Instant) {
        let mut state = self.state();
        state.seeks = None;
        state.end(StartStep::Snapshot, now);
    }

    /// Whether something to start from is still looked for.
    #[must_use]
    pub fn is_seeking(&self) -> bool {
        self.state().seeks.is_some()
    }

    /// How long each step took that is over.
    pub fn took(&self) -> impl Iterator<Item = (StartStep, Duration)> {
        let took = self.state().took;
        StartStep::ALL
            .into_iter()
            .zip(took)
            .filter_map(|(step, took)| Some((step, took?)))
    }

    /// Whether it was ready with a worker, and so stays ready.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.state().ready.is_some()
    }

    /// Whether the node is ready now. `missing` is what the sources have not told yet, if anything. O(workers) until the node
    /// was ready once.
    fn judge(&self, now: Instant, missing: Option<String>, view: &FleetView) -> Readiness {
        let mut state = self.state();
        if let Some(late) = state.ready {
            let late = late && !state.terms.are_met(view);
            state.ready = Some(late);
            return Readiness::Ready { late };
        }
        if let Some(place) = &state.seeks {
            let what = format!("something to start from is looked for: {place}");
            return Readiness::Waiting(what);
        }
        if let Some(missing) = missing
            && !state.gives_up(now, &missing, view)
        {
            return Readiness::Waiting(missing);
        }
        state.end(StartStep::Pods, now);
        if view.is_empty() {
            state.waiting_since = None;
            return Readiness::Ready { late: false };
        }
        let begun = state.missing_since.unwrap_or(now);
        let since = *state.waiting_since.get_or_insert(begun);
        let met = state.terms.are_met(view);
        if !met && now.saturating_duration_since(since) < state.terms.patience {
            return Readiness::Waiting(behind(view));
        }
        state.ready = Some(!met);
        state.since = since;
        state.end(StartStep::Synchronisation, now);
        drop(state);
        if met {
            tracing::info!(workers = view.len(), "ready");
        } else {
            let why = behind(view);
            tracing::warn!(workers = view.len(), %why, "ready, without waiting any longer");
        }
        Readiness::Ready { late: !met }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether sources of pods were waited for long enough.
    fn gives_up(&mut self, now: Instant, missing: &str, view: &FleetView) -> bool {
        if view.is_empty() {
            self.missing_since = None;
            return false;
        }
        let since = *self.missing_since.get_or_insert(now);
        let over = now.saturating_duration_since(since) >= self.terms.patience;
        if over && self.took[StartStep::Pods as usize].is_none() {
            tracing::warn!(%missing, "sources of pods are not waited for any longer");
        }
        over
    }

    /// Notes that a step is over, once, and says so.
    fn end(&mut self, step: StartStep, now: Instant) {
        if self.took[step as usize].is_some() {
            return;
        }
        let took = now.saturating_duration_since(self.since);
        self.took[step as usize] = Some(took);
        self.since = now;
        tracing::info!(
            step = step.as_str(),
            ms = took.as_millis(),
            "a step of the start is over"
        );
    }
}

impl Terms {
    /// Whether enough workers are synchronised.
    fn are_met(&self, view: &FleetView) -> bool {
        let replaying = |trust| trust == Trust::Replaying;
        let workers = view.workers().map(|info| info.status().trust());
        let behind = workers.filter(|&trust| replaying(trust)).count();
        view.len() - behind >= needed(view.len(), self.share)
    }
}

/// Which workers are still replaying, some of them by name.
fn behind(view: &FleetView) -> String {
    let mut behind = view
        .workers()
        .filter(|info| info.status().trust() == Trust::Replaying);
    let names: Vec<_> = behind
        .by_ref()
        .take(NAMED)
        .map(|info| info.label())
        .collect();
    let more = behind.count();
    format!(
        "{} of {} workers are still replaying: {}{}",
        names.len() + more,
        view.len(),
        names.join(", "),
        if more > 0 { ", …" } else { "" }
    )
}

/// How many of the workers must be synchronised.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "at most 65,000 workers and a share of 0 to 1"
)]
fn needed(workers: usize, share: f64) -> usize {
    (workers as f64 * share).ceil() as usize
}

impl Fleet {
    /// How far the node's start is.
    #[must_use]
    pub fn start(&self) -> &Start {
        &self.start
    }

    /// Whether the node is ready now. O(workers) until it was ready once.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        self.readiness_at(Instant::now())
    }

    pub(super) fn readiness_at(&self, now: Instant) -> Readiness {
        // Before the view is read: a source that is not missing has its pods in it.
        let missing = self.sources.missing();
        self.start.judge(now, missing, &self.view())
    }

    /// Whether what to start from is decided, every source was heard, and the pods that they described first are entered.
    #[must_use]
    pub fn is_entered(&self) -> bool {
        !self.start.is_seeking() && self.sources.missing().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{AddError, Described, Nobody, PodSpec, Source};
    use kvroute_engine::{Index, IndexConfig};

    const SECOND: Duration = Duration::from_secs(1);

    fn fleet() -> Fleet {
        Fleet::new(Index::new(IndexConfig::default()), Nobody)
    }

    fn pod(name: &str) -> PodSpec {
        let events = format!("tcp://{name}:1");
        yaml_serde::from_str(&format!("{{pod: {name}, model: m, events: '{events}'}}")).unwrap()
    }

    fn set(fleet: &Fleet, pod: &str, trust: Trust) {
        let view = fleet.view();
        view.pod(pod)[0].status().set_trust(trust);
    }

    fn waiting(what: &str) -> Readiness {
        Readiness::Waiting(what.to_owned())
    }

    const READY: Readiness = Readiness::Ready { late: false };
    const LATE: Readiness = Readiness::Ready { late: true };

    #[test]
    fn the_share_is_rounded_up() {
        let cases = [
            (0, 1.0, 0),
            (3, 1.0, 3),
            (3, 0.5, 2),
            (4, 0.5, 2),
            (3, 0.0, 0),
            (65_000, 1.0, 65_000),
        ];
        for (workers, share, expected) in cases {
            assert_eq!(needed(workers, share), expected, "{workers} {share}");
        }
    }

    #[test]
    fn who_was_ready_stays_so() {
        let (fleet, now) = (fleet(), Instant::now());
        fleet.add(pod("a")).unwrap();
        fleet.add(pod("b")).unwrap();
        set(&fleet, "a", Trust::Exact);
        let one = waiting("1 of 2 workers are still replaying: b#0");
        assert_eq!(fleet.readiness_at(now), one);
        assert!(!fleet.start().is_settled());
        set(&fleet, "b", Trust::Stale);
        assert_eq!(fleet.readiness_at(now), READY);
        assert!(fleet.start().is_settled());
        for pod in ["a", "b"] {
            set(&fleet, pod, Trust::Replaying);
        }
        fleet.add(pod("c")).unwrap();
        fleet.sources().expect(Source::Dns);
        assert_eq!(fleet.readiness_at(now), READY);
    }

    #[test]
    fn a_share_is_enough_if_it_is_set() {
        let (fleet, now) = (fleet(), Instant::now());
        for name in ["a", "b", "c"] {
            fleet.add(pod(name)).unwrap();
        }
        set(&fleet, "a", Trust::Exact);
        let two = waiting("2 of 3 workers are still replaying: b#0, c#0");
        assert_eq!(fleet.readiness_at(now), two);
        let patience = Terms::default().patience;
        fleet.start().set_terms(Terms {
            share: 0.5,
            patience,
        });
        assert_eq!(fleet.readiness_at(now), two);
        fleet.start().set_terms(Terms {
            share: 0.3,
            patience,
        });
        assert_eq!(fleet.readiness_at(now), READY);
    }

    #[test]
    fn workers_are_waited_for_from_the_first_one_on_and_not_for_ever() {
        let (fleet, now) = (fleet(), Instant::now());
        // Nobody is ready for anything, and is not held to it.
        assert_eq!(fleet.readiness_at(now), READY);
        assert!(!fleet.start().is_settled());
        fleet.add(pod("a")).unwrap();
        let one = waiting("1 of 1 workers are still replaying: a#0");
        let first = now + 500 * SECOND;
        assert_eq!(fleet.readiness_at(first), one);
        assert_eq!(fleet.readiness_at(first + 119 * SECOND), one);
        // All have gone: who comes then has all the time.
        fleet.remove("a", None);
        assert_eq!(fleet.readiness_at(first + 119 * SECOND), READY);
        fleet.add(pod("a")).unwrap();
        let first = first + 1_000 * SECOND;
        assert_eq!(fleet.readiness_at(first), one);
        assert_eq!(fleet.readiness_at(first + 119 * SECOND), one);
        assert_eq!(fleet.readiness_at(first + 120 * SECOND), LATE);
        // Until it is made up for.
        assert_eq!(fleet.readiness_at(first + 121 * SECOND), LATE);
        set(&fleet, "a", Trust::Exact);
        assert_eq!(fleet.readiness_at(first + 122 * SECOND), READY);
        set(&fleet, "a", Trust::Replaying);
        assert_eq!(fleet.readiness_at(first + 123 * SECOND), READY);
        let took: Vec<_> = fleet.start().took().collect();
        assert_eq!(
            took.last(),
            Some(&(StartStep::Synchronisation, 120 * SECOND))
        );
    }

    #[test]
    fn a_source_that_was_never_heard_is_waited_for_as_long_as_there_is_no_worker() {
        let (fleet, now) = (fleet(), Instant::now());
        fleet.sources().expect(Source::Kubernetes);
        fleet.sources().failed(Source::Kubernetes, &"refused");
        let never = waiting("kubernetes was not heard yet: refused");
        assert_eq!(fleet.readiness_at(now), never);
        assert_eq!(fleet.readiness_at(now + 100_000 * SECOND), never);
        // Others come, and are synchronised.
        let now = now + 100_000 * SECOND;
        fleet.add(pod("a")).unwrap();
        set(&fleet, "a", Trust::Exact);
        assert_eq!(fleet.readiness_at(now), never);
        assert_eq!(fleet.readiness_at(now + 119 * SECOND), never);
        assert_eq!(fleet.readiness_at(now + 120 * SECOND), READY);
    }

    #[test]
    fn pods_of_a_source_are_waited_for_until_they_are_entered_and_synchronised() {
        let (fleet, now) = (fleet(), Instant::now());
        fleet.follow(Source::Kubernetes, vec![pod("b").into()], Vec::new());
        let entering = waiting("not all pods of kubernetes are entered yet");
        assert_eq!(fleet.readiness_at(now), entering);
        fleet.reconcile();
        let one = waiting("1 of 1 workers are still replaying: b#0");
        assert_eq!(fleet.readiness_at(now + SECOND), one);
        set(&fleet, "b", Trust::Partial);
        assert_eq!(fleet.readiness_at(now + SECOND), READY);
    }

    #[test]
    fn no_pod_is_taken_in_before_it_is_decided_what_it_begins_with() {
        let (fleet, now) = (fleet(), Instant::now());
        fleet.start().seeks("peers are asked (2)");
        let what = "something to start from is looked for: peers are asked (2)";
        assert_eq!(fleet.readiness_at(now + 100_000 * SECOND), waiting(what));
        let refused = fleet.add(pod("a")).unwrap_err();
        assert!(matches!(refused, AddError::Starting), "{refused}");
        let described = vec![Described::from(pod("b"))];
        fleet.follow(Source::File, described, Vec::new());
        assert!(fleet.reconcile().more);
        assert!(fleet.view().is_empty() && !fleet.is_entered());
        fleet.start().decided(now);
        fleet.add(pod("a")).unwrap();
        assert!(!fleet.reconcile().more);
        assert_eq!(fleet.view().len(), 2);
        assert!(fleet.is_entered());
    }
}
