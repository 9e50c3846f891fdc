//! Whose turn it is to be asked.
use super::ask::Question;
use super::target::Target;
use crate::fleet::{FleetView, PodSpec, WorkerInfo};
use crate::load::Moment;
use ahash::{AHashMap, RandomState};
use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// A pod's description is known by its address: it stays taken as long as the target or a question has it.
type Key = usize;

fn key(pod: &Arc<PodSpec>) -> Key {
    Arc::as_ptr(pod).addr()
}

/// When an engine is asked next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// Without delay: what was answered raises another question.
    Now,
    /// After so many intervals.
    After(u32),
}

/// One target and its turn.
#[derive(Debug)]
struct Entry {
    target: Target,
    /// When it is or was due.
    due: Instant,
}

/// All targets.
#[derive(Debug)]
pub(super) struct Schedule {
    interval: Duration,
    entries: AHashMap<Key, Entry>,
    /// Those that are not being asked, by time.
    queue: BTreeSet<(Instant, Key)>,
    /// The view that `entries` were made from.
    seen: Weak<FleetView>,
    /// Gives each pod its moment within the interval.
    spread: RandomState,
}

impl Schedule {
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            interval,
            entries: AHashMap::new(),
            queue: BTreeSet::new(),
            seen: Weak::new(),
            spread: RandomState::new(),
        }
    }

    /// Takes over the pods of a view that have an endpoint. O(workers) if the fleet has changed.
    pub(super) fn follow(&mut self, view: &Arc<FleetView>, now: Instant) {
        if std::ptr::eq(self.seen.as_ptr(), Arc::as_ptr(view)) {
            return;
        }
        // Weak: the address is not given to another view meanwhile.
        self.seen = Arc::downgrade(view);
        let mut pods: AHashMap<Key, Vec<&Arc<WorkerInfo>>> = AHashMap::new();
        let mut at_endpoint: AHashMap<&str, usize> = AHashMap::new();
        for info in view.workers() {
            if let Some(endpoint) = info.pod().endpoint.as_deref() {
                pods.entry(key(info.pod())).or_default().push(info);
                *at_endpoint.entry(endpoint).or_default() += 1;
            }
        }
        let queue = &mut self.queue;
        self.entries.retain(|key, entry| {
            let stays = pods.contains_key(key);
            if !stays {
                queue.remove(&(entry.due, *key));
            }
            stays
        });
        for (key, workers) in pods {
            let pod = workers[0].pod();
            let endpoint = pod.endpoint.as_deref().unwrap_or_default();
            let alone = at_endpoint.get(endpoint) == Some(&1);
            let moment = moment(self.spread.hash_one(&pod.pod), self.interval);
            let entry = self.entries.entry(key).or_insert_with(|| {
                let due = now + moment;
                self.queue.insert((due, key));
                let target = Target::new(Arc::clone(pod));
                Entry { target, due }
            });
            entry.target.follow(&workers, alone);
        }
    }

    /// The next question, if somebody is due; the pod's turn is over until [`Schedule::answered`]. `asked` is now by the
    /// clock of the loads.
    pub(super) fn next(&mut self, now: Instant, asked: Moment) -> Option<Question> {
        let &(due, key) = self.queue.first().filter(|(due, _)| *due <= now)?;
        self.queue.remove(&(due, key));
        let entry = self.entries.get_mut(&key)?;
        Some(entry.target.question(asked))
    }

    /// When somebody is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.queue.first().map(|&(due, _)| due)
    }

    /// The target that a question was about, if the fleet still has it.
    pub(super) fn target(&mut self, pod: &Arc<PodSpec>) -> Option<&mut Target> {
        self.entries
            .get_mut(&key(pod))
            .map(|entry| &mut entry.target)
    }

    /// Gives the pod its next turn.
    pub(super) fn answered(&mut self, pod: &Arc<PodSpec>, again: Again, now: Instant) {
        let key = key(pod);
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.due = match again {
                Again::Now => now,
                // Counted from its turn, so that its moment stays; late turns are not made up for.
                Again::After(intervals) => now.max(entry.due + self.interval * intervals),
            };
            self.queue.insert((entry.due, key));
        }
    }
}

/// A moment within the interval, by a hash.
fn moment(hash: u64, interval: Duration) -> Duration {
    let nanos = (interval.as_nanos() * u128::from(hash)) >> 64;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Fleet;
    use crate::stream::{Streams, StreamsConfig};
    use kvroute_engine::{Index, IndexConfig};

    fn fleet() -> Fleet {
        let index = Index::new(IndexConfig::default());
        let streams = Streams::start(&index, &StreamsConfig::default()).unwrap();
        Fleet::new(index, streams)
    }

    fn add(fleet: &Fleet, yaml: &str) {
        fleet.add(yaml_serde::from_str(yaml).unwrap()).unwrap();
    }

    fn view(fleet: &Fleet) -> Arc<FleetView> {
        Arc::clone(&fleet.view())
    }

    /// All that is due now, by name.
    fn due(schedule: &mut Schedule, now: Instant) -> Vec<Arc<PodSpec>> {
        let mut pods: Vec<_> = std::iter::from_fn(|| schedule.next(now, Moment::default()))
            .map(|question| question.pod)
            .collect();
        pods.sort_by(|a, b| a.pod.cmp(&b.pod));
        pods
    }

    const INTERVAL: Duration = Duration::from_secs(8);

    #[test]
    fn pods_with_an_endpoint_have_one_turn_an_interval() {
        let fleet = fleet();
        add(
            &fleet,
            "{pod: a, model: m, endpoint: 'h:1', events: 'ipc:///a', ranks: 3}",
        );
        add(
            &fleet,
            "{pod: b, model: m, endpoint: 'h:2', events: 'ipc:///b'}",
        );
        add(&fleet, "{pod: c, model: m, events: 'ipc:///c'}");
        let mut schedule = Schedule::new(INTERVAL);
        let start = Instant::now();
        schedule.follow(&view(&fleet), start);
        let first = due(&mut schedule, start + INTERVAL);
        let names: Vec<_> = first.iter().map(|pod| pod.pod.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert!(schedule.due().is_none(), "both are being asked");
        for pod in &first {
            schedule.answered(pod, Again::After(1), start + INTERVAL);
        }
        // Each at its own moment of the next interval.
        let next = schedule.due().unwrap();
        assert!(next >= start + INTERVAL && next < start + INTERVAL * 2);
        assert_eq!(due(&mut schedule, start + INTERVAL * 2).len(), 2);
        schedule.answered(&first[0], Again::After(3), start + INTERVAL * 2);
        schedule.answered(&first[1], Again::Now, start + INTERVAL * 2);
        let now = due(&mut schedule, start + INTERVAL * 2);
        assert!(Arc::ptr_eq(&now[0], &first[1]) && now.len() == 1);
        assert_eq!(due(&mut schedule, start + INTERVAL * 5).len(), 1);
    }

    #[test]
    fn who_leaves_the_fleet_is_not_asked() {
        let fleet = fleet();
        add(
            &fleet,
            "{pod: a, model: m, endpoint: 'h:1', events: 'ipc:///a'}",
        );
        add(
            &fleet,
            "{pod: b, model: m, endpoint: 'h:2', events: 'ipc:///b'}",
        );
        let mut schedule = Schedule::new(INTERVAL);
        let start = Instant::now();
        schedule.follow(&view(&fleet), start);
        fleet.remove("a", None);
        schedule.follow(&view(&fleet), start);
        let asked = due(&mut schedule, start + INTERVAL);
        assert_eq!((asked.len(), asked[0].pod.as_str()), (1, "b"));
        // One that went while it was asked, and came again by the same name, is another.
        fleet.remove("b", None);
        add(
            &fleet,
            "{pod: b, model: m, endpoint: 'h:2', events: 'ipc:///b'}",
        );
        schedule.follow(&view(&fleet), start + INTERVAL);
        assert!(schedule.target(&asked[0]).is_none());
        schedule.answered(&asked[0], Again::Now, start + INTERVAL);
        let again = due(&mut schedule, start + INTERVAL * 2);
        assert!(again.len() == 1 && !Arc::ptr_eq(&again[0], &asked[0]));
    }

    #[test]
    fn moments_are_spread_over_the_interval() {
        assert_eq!(moment(0, INTERVAL), Duration::ZERO);
        assert_eq!(moment(1 << 63, INTERVAL), INTERVAL / 2);
        assert_eq!(
            moment(u64::MAX, INTERVAL),
            INTERVAL - Duration::from_nanos(1)
        );
    }
}
