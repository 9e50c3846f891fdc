//! Who can be asked, and who is: what is remembered of each endpoint.
use super::breaker::Breaker;
use super::cache::Life;
use super::{Ask, Failure};
use crate::fleet::{FleetView, WorkerInfo};
use crate::limits::{ENDPOINTS_SPARE, VERSION_PAUSE, VERSION_TIME_MAX};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Somebody who can be asked.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) endpoint: Arc<str>,
    /// None if it is no pod of the fleet.
    pub(super) life: Option<Life>,
}

/// The pods of the model that have an endpoint; those that have the adapter, if any is known to. O(workers of the model),
/// O(workers) for an adapter's name.
pub(super) fn candidates(view: &FleetView, ask: &Ask) -> Vec<Candidate> {
    let all = |workers: &mut dyn Iterator<Item = &Arc<WorkerInfo>>| {
        let mut found: Vec<Candidate> = Vec::new();
        for info in workers {
            let Some(endpoint) = info.pod().endpoint.as_deref() else {
                continue;
            };
            // Ranks of one pod follow each other.
            if found.last().is_none_or(|last| *last.endpoint != *endpoint) {
                found.push(Candidate {
                    endpoint: endpoint.into(),
                    life: Some(Life::of(info)),
                });
            }
        }
        found
    };
    let has = |adapter: &str| {
        let adapter = adapter.to_owned();
        move |info: &&Arc<WorkerInfo>| {
            info.pod().lora.contains(&adapter) || info.status().knows_adapter(&adapter)
        }
    };
    if !view.has_model(ask.model()) {
        let adapter = ask.lora().unwrap_or(ask.model());
        return all(&mut view.workers().filter(has(adapter)));
    }
    let workers = view.of_model(ask.model());
    if let Some(adapter) = ask.lora() {
        let able = all(&mut workers.iter().filter(has(adapter)));
        if !able.is_empty() {
            return able;
        }
    }
    all(&mut workers.iter())
}

/// One endpoint.
#[derive(Debug, Default)]
struct Endpoint {
    breaker: Breaker,
    /// Under way.
    calls: usize,
    /// It wants to be left alone until then.
    not_before: Option<Instant>,
    version: Option<Known>,
    /// When it was asked for it last.
    version_asked: Option<Instant>,
}

/// What an engine said it is.
#[derive(Clone, Debug)]
struct Known {
    version: Arc<str>,
    life: Option<Life>,
    at: Instant,
}

impl Endpoint {
    /// How long it is to be left alone; nothing if nobody knows.
    fn pause(&self, now: Instant) -> Option<Duration> {
        let wanted = self.not_before.map(|at| at.saturating_duration_since(now));
        let paused = self.breaker.pause(now)?;
        Some(paused.max(wanted.unwrap_or_default()))
    }
}

#[derive(Debug, Default)]
pub(super) struct Endpoints {
    known: HashMap<Arc<str>, Endpoint>,
    turn: usize,
}

impl Endpoints {
    /// Who is asked next: of those that were not tried, else of all, the one with the fewest calls under way, those
    /// that have failed lately last; in turns.
    pub(super) fn choose<'c>(
        &mut self,
        candidates: &'c [Candidate],
        tried: &[Arc<str>],
        now: Instant,
    ) -> Result<&'c Candidate, Failure> {
        if candidates.is_empty() {
            return Err(Failure::NoPod);
        }
        self.turn = self.turn.wrapping_add(1);
        let turn = self.turn % candidates.len();
        let (late, early) = candidates.split_at(turn);
        let free = early.iter().chain(late).filter_map(|candidate| {
            let rank = match self.known.get(&candidate.endpoint) {
                None => (false, 0),
                Some(known) if known.pause(now)? == Duration::ZERO => {
                    (!known.breaker.is_closed(), known.calls)
                }
                Some(_) => return None,
            };
            Some(((tried.contains(&candidate.endpoint), rank), candidate))
        });
        // The first of equals.
        let best = free.min_by_key(|(rank, _)| *rank);
        best.map(|(_, candidate)| candidate)
            .ok_or(Failure::BreakerOpen)
    }

    /// How long until anybody may be asked; nothing if nobody knows.
    pub(super) fn pause(&self, candidates: &[Candidate], now: Instant) -> Option<Duration> {
        let pauses = candidates.iter().map(|candidate| {
            let known = self.known.get(&candidate.endpoint);
            known.map_or(Some(Duration::ZERO), |known| known.pause(now))
        });
        pauses.flatten().min()
    }

    /// A call begins.
    pub(super) fn begin(&mut self, endpoint: &Arc<str>) {
        let known = self.known.entry(Arc::clone(endpoint)).or_default();
        known.breaker.begin();
        known.calls += 1;
    }

    /// A call has ended: well, or with a failure and how long the endpoint then wants to be left alone; or nobody waited for
    /// it.
    pub(super) fn end(
        &mut self,
        endpoint: &str,
        outcome: Option<Result<(), (&Failure, Option<Duration>)>>,
        now: Instant,
    ) {
        let Some(known) = self.known.get_mut(endpoint) else {
            return;
        };
        known.calls = known.calls.saturating_sub(1);
        match outcome {
            None => known.breaker.abandon(now),
            Some(Err((failure, after))) if failure.is_the_endpoints() => {
                known.breaker.fail(now);
                let wish = after.map(|after| now + after.min(super::AFTER_MAX));
                known.not_before = known.not_before.max(wish);
            }
            // It has answered.
            Some(_) => {
                known.breaker.succeed();
                known.not_before = None;
            }
        }
    }

    /// The version that this life of the endpoint has said, lately.
    pub(super) fn version(&self, candidate: &Candidate, now: Instant) -> Option<Arc<str>> {
        let known = self.known.get(&candidate.endpoint)?.version.as_ref()?;
        let late = now.saturating_duration_since(known.at) > VERSION_TIME_MAX;
        (known.life == candidate.life && !late).then(|| Arc::clone(&known.version))
    }

    /// Whether it may be asked for its version now: not while another question may be under way, or has just failed.
    pub(super) fn may_ask_version(&mut self, candidate: &Candidate, now: Instant) -> bool {
        let Some(known) = self.known.get_mut(&candidate.endpoint) else {
            return false;
        };
        let lately = |at: Instant| now.saturating_duration_since(at) < VERSION_PAUSE;
        if known.version_asked.is_some_and(lately) {
            return false;
        }
        known.version_asked = Some(now);
        true
    }

    /// Notes a version; `false` if the same life has said another one before.
    pub(super) fn note_version(
        &mut self,
        candidate: &Candidate,
        version: Arc<str>,
        now: Instant,
    ) -> bool {
        let Some(endpoint) = self.known.get_mut(&candidate.endpoint) else {
            return true;
        };
        let before = endpoint.version.take();
        let contradicts =
            before.is_some_and(|known| known.life == candidate.life && known.version != version);
        endpoint.version = Some(Known {
            version,
            life: candidate.life,
            at: now,
        });
        !contradicts
    }

    /// Forgets endpoints that are not in the fleet any more, once there are many.
    pub(super) fn tidy(&mut self, view: &FleetView) {
        if self.known.len() <= view.len() + ENDPOINTS_SPARE {
            return;
        }
        let workers = view.workers();
        let there: HashSet<&str> = workers
            .filter_map(|info| info.pod().endpoint.as_deref())
            .collect();
        self.known
            .retain(|endpoint, known| there.contains(&**endpoint) || known.calls > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates() -> Vec<Candidate> {
        ["a:1", "b:1", "c:1"]
            .map(|endpoint| Candidate {
                endpoint: endpoint.into(),
                life: None,
            })
            .into()
    }

    fn name(chosen: Result<&Candidate, Failure>) -> String {
        chosen.map_or_else(
            |failure| failure.as_str().to_owned(),
            |c| c.endpoint.to_string(),
        )
    }

    #[test]
    fn the_least_busy_is_chosen_in_turns() {
        let (mut endpoints, all, now) = (Endpoints::default(), candidates(), Instant::now());
        let mut chosen: Vec<_> = (0..6)
            .map(|_| name(endpoints.choose(&all, &[], now)))
            .collect();
        assert_eq!(chosen[..3], chosen[3..]);
        chosen.truncate(3);
        chosen.sort();
        assert_eq!(chosen, ["a:1", "b:1", "c:1"]);
        for busy in ["a:1", "a:1", "b:1", "c:1", "c:1"] {
            endpoints.begin(&busy.into());
        }
        for _ in 0..4 {
            assert_eq!(name(endpoints.choose(&all, &[], now)), "b:1");
        }
        assert_eq!(name(endpoints.choose(&[], &[], now)), "no_pod");
    }

    #[test]
    fn who_was_tried_comes_last() {
        let (mut endpoints, all, now) = (Endpoints::default(), candidates(), Instant::now());
        endpoints.begin(&"c:1".into());
        let tried: [Arc<str>; 2] = ["a:1".into(), "b:1".into()];
        for _ in 0..4 {
            assert_eq!(name(endpoints.choose(&all, &tried, now)), "c:1");
        }
        let failure = (&Failure::Status(429), Some(Duration::from_secs(5)));
        endpoints.end("c:1", Some(Err(failure)), now);
        // If there is nobody else, again.
        assert_ne!(name(endpoints.choose(&all, &tried, now)), "c:1");
        assert_eq!(endpoints.pause(&all, now), Some(Duration::ZERO));
        assert_eq!(
            endpoints.pause(&all[2..], now),
            Some(Duration::from_secs(5))
        );
        assert_eq!(name(endpoints.choose(&all[2..], &[], now)), "breaker_open");
        let later = now + Duration::from_secs(5);
        assert_eq!(name(endpoints.choose(&all[2..], &[], later)), "c:1");
    }

    #[test]
    fn who_failed_lately_is_chosen_after_the_others() {
        let (mut endpoints, all, now) = (Endpoints::default(), candidates(), Instant::now());
        for _ in 0..5 {
            endpoints.begin(&"a:1".into());
            endpoints.end("a:1", Some(Err((&Failure::Timeout, None))), now);
        }
        let later = now + Duration::from_secs(9);
        endpoints.begin(&"b:1".into());
        endpoints.begin(&"c:1".into());
        for _ in 0..4 {
            assert_ne!(name(endpoints.choose(&all, &[], now)), "a:1");
            assert_ne!(name(endpoints.choose(&all, &[], later)), "a:1");
        }
        assert_eq!(name(endpoints.choose(&all[..1], &[], now)), "breaker_open");
        assert_eq!(name(endpoints.choose(&all[..1], &[], later)), "a:1");
        // What a prompt is refused for is not held against anybody.
        endpoints.begin(&"a:1".into());
        endpoints.end(
            "a:1",
            Some(Err((&Failure::Refused("".into()), None))),
            later,
        );
        assert_eq!(endpoints.pause(&all[..1], later), Some(Duration::ZERO));
    }

    #[test]
    fn a_version_holds_for_one_life_and_a_while() {
        let (mut endpoints, all, now) = (Endpoints::default(), candidates(), Instant::now());
        let [a, ..] = &all[..] else {
            panic!("there are three");
        };
        endpoints.begin(&a.endpoint);
        assert_eq!(endpoints.version(a, now), None);
        assert!(endpoints.note_version(a, "1".into(), now));
        assert_eq!(endpoints.version(a, now).as_deref(), Some("1"));
        let late = now + VERSION_TIME_MAX + Duration::from_millis(1);
        assert_eq!(endpoints.version(a, late), None);
        assert!(endpoints.note_version(a, "1".into(), late));
        assert!(!endpoints.note_version(a, "2".into(), late));
        assert_eq!(endpoints.version(a, late).as_deref(), Some("2"));
    }
}
