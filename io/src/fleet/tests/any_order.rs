//! Whatever the order in which sources speak and pods come and go: the fleet is what a model says that knows the latest words
//! only.
use super::sources::settle;
use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
const FOUND: [Source; 3] = [Source::File, Source::Kubernetes, Source::Dns];

/// A pod: by name, port, ranks, model, and whether it serves.
type Pod = (usize, u16, u32, bool, bool);

#[derive(Clone, Debug)]
enum Step {
    Follow(usize, Vec<Pod>),
    Add(Pod),
    Remove(usize),
    Reconcile,
}

fn a_pod() -> impl Strategy<Value = Pod> {
    (
        0..NAMES.len(),
        1..6_u16,
        1..3_u32,
        any::<bool>(),
        any::<bool>(),
    )
}

fn a_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..FOUND.len(), prop::collection::vec(a_pod(), 0..5)).prop_map(|(s, p)| Step::Follow(s, p)),
        2 => a_pod().prop_map(Step::Add),
        2 => (0..NAMES.len()).prop_map(Step::Remove),
        2 => Just(Step::Reconcile),
    ]
}

fn spec(&(name, port, ranks, other, _): &Pod) -> PodSpec {
    let model = if other { "n" } else { "m" };
    let name = NAMES[name];
    pod(&format!(
        "{{pod: {name}, model: {model}, events: 'tcp://h:{port}', ranks: {ranks}}}"
    ))
}

/// Where a pod publishes, by rank: as ports, so that nothing of the fleet's own arithmetic is in it.
fn ports(&(_, port, ranks, ..): &Pod) -> Vec<u16> {
    (0..u16::try_from(ranks).unwrap())
        .map(|rank| port + rank)
        .collect()
}

/// What is described, and whether it was taken out.
#[derive(Debug, Default)]
struct Model {
    registered: BTreeMap<usize, Pod>,
    found: [BTreeMap<usize, (Pod, bool)>; FOUND.len()],
}

/// What is expected of a pod: who describes it, whether it serves, where it publishes.
type Expected = BTreeMap<&'static str, (Source, bool, Vec<u16>)>;

impl Model {
    fn follow(&mut self, source: usize, pods: &[Pod]) {
        let old = std::mem::take(&mut self.found[source]);
        for pod in pods {
            let same = |(before, _): &&(Pod, bool)| {
                (before.1, before.2, before.3) == (pod.1, pod.2, pod.3)
            };
            let out = old.get(&pod.0).filter(same).is_some_and(|(_, out)| *out);
            self.found[source].entry(pod.0).or_insert((*pod, out));
        }
    }

    /// Whether it can be registered.
    fn add(&mut self, pod: &Pod) -> bool {
        let taken: BTreeSet<_> = self.registered.values().flat_map(ports).collect();
        let free = !ports(pod).iter().any(|port| taken.contains(port));
        let can = free && !self.registered.contains_key(&pod.0);
        if can {
            self.registered.insert(pod.0, *pod);
        }
        can
    }

    fn remove(&mut self, name: usize) {
        if self.registered.remove(&name).is_none() {
            for found in &mut self.found {
                if let Some((_, out)) = found.get_mut(&name) {
                    *out = true;
                }
            }
        }
    }

    fn fleet(&self) -> Expected {
        let mut fleet = Expected::new();
        let mut taken = BTreeSet::new();
        for pod in self.registered.values() {
            taken.extend(ports(pod));
            fleet.insert(NAMES[pod.0], (Source::Registered, true, ports(pod)));
        }
        for (at, source) in FOUND.into_iter().enumerate() {
            for (name, (pod, out)) in &self.found[at] {
                let before = self.found[..at]
                    .iter()
                    .any(|found| found.contains_key(name));
                let known = before || self.registered.contains_key(name) || *out;
                let ports = ports(pod);
                if !known && !ports.iter().any(|port| taken.contains(port)) {
                    taken.extend(ports.clone());
                    fleet.insert(NAMES[*name], (source, pod.4, ports));
                }
            }
        }
        fleet
    }
}

fn found(fleet: &Fleet) -> Expected {
    let view = fleet.view();
    let mut found = Expected::new();
    for info in view.workers() {
        let name = NAMES.iter().find(|name| **name == info.pod().pod).unwrap();
        let new = (info.source(), info.is_serving(), Vec::new());
        let (source, serving, ports) = found.entry(name).or_insert(new);
        assert_eq!((info.source(), info.is_serving()), (*source, *serving));
        assert_eq!(info.rank() as usize, ports.len());
        ports.push(
            info.events()
                .strip_prefix("tcp://h:")
                .unwrap()
                .parse()
                .unwrap(),
        );
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_fleet_is_what_the_latest_words_come_to(steps in prop::collection::vec(a_step(), 1..24)) {
        let (fleet, notes) = fleet(100);
        let mut model = Model::default();
        for step in &steps {
            match step {
                Step::Follow(source, pods) => {
                    model.follow(*source, pods);
                    let described = pods.iter().map(|pod| Described { spec: spec(pod), serving: pod.4 });
                    fleet.follow(FOUND[*source], described.collect(), Vec::new());
                }
                Step::Add(pod) => prop_assert_eq!(fleet.add(spec(pod)).is_ok(), model.add(pod)),
                Step::Remove(name) => {
                    // What has not been entered yet cannot be taken out.
                    let known = !fleet.view().pod(NAMES[*name]).is_empty();
                    if known {
                        model.remove(*name);
                    }
                    prop_assert_eq!(fleet.remove(NAMES[*name], None), known);
                }
                Step::Reconcile => {
                    fleet.reconcile();
                }
            }
        }
        settle(&fleet);
        let expected = model.fleet();
        prop_assert_eq!(found(&fleet), expected.clone());
        // Whoever is in the fleet is subscribed to, and nobody else.
        let mut subscribed = notes.names();
        subscribed.sort();
        let of = |(name, (_, _, ports)): (&&str, &(Source, bool, Vec<u16>))| {
            let ranks = ports.iter().enumerate();
            ranks.map(|(rank, port)| format!("{name}#{rank} tcp://h:{port} None")).collect::<Vec<_>>()
        };
        prop_assert_eq!(subscribed, expected.iter().flat_map(of).collect::<Vec<_>>());
        // What is not there is refused, and said to be.
        for report in fleet.sources().reports() {
            let at = FOUND.iter().position(|source| source.as_str() == report.source).unwrap();
            let entered = expected.values().filter(|(source, ..)| *source == FOUND[at]).count();
            prop_assert_eq!(report.refused, report.pods - entered);
        }
        let view = Arc::as_ptr(&fleet.view());
        fleet.reconcile();
        prop_assert_eq!(Arc::as_ptr(&fleet.view()), view);
    }
}
