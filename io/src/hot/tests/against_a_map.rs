//! Whatever is asked, every prefix has the count that a map of all prefixes has; or, where there was no room, less.
use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

/// A lookup: context, blocks, weight, and how many blocks each worker holds of it, by pod.
#[derive(Clone, Debug)]
struct Asked {
    context: u32,
    blocks: Vec<u64>,
    weight: u32,
    /// Each with the share of the blocks that it holds, in tenths.
    workers: Vec<(usize, usize)>,
}

impl Asked {
    fn held(&self) -> Vec<Held> {
        let depth = self.blocks.len();
        let holds = |tenths: &usize, block: usize| block < (depth * tenths).div_ceil(10);
        let of = |block: usize| {
            let holding = self
                .workers
                .iter()
                .filter(|(_, tenths)| holds(tenths, block));
            let mut pods: Vec<_> = holding.clone().map(|(pod, _)| *pod).collect();
            pods.sort_unstable();
            pods.dedup();
            Held {
                pods: pods.len() as u32,
                workers: holding.count() as u32,
            }
        };
        (0..depth).map(of).collect()
    }

    fn add_to(&self, trie: &mut Trie) {
        let (keys, held) = (keys(self.blocks.iter().copied()), self.held());
        let sample = Sample {
            context: context(self.context),
            weight: self.weight,
            again: false,
            keys: &keys,
            held: &held,
        };
        trie.add(START, &sample);
    }
}

/// Few kinds of blocks in runs of some length, so that prefixes share much, and part within nodes and at their ends.
fn asked() -> impl Strategy<Value = Asked> {
    let run = (1..=2_u64, prop_oneof![1..=3_usize, 12..=20_usize]);
    let blocks = vec(run, 1..=5).prop_map(|runs| {
        let of = |(key, len)| std::iter::repeat_n(key, len);
        runs.into_iter().flat_map(of).collect()
    });
    let workers = vec((0..3_usize, 1..=10_usize), 1..=4);
    (1..=2_u32, blocks, 1..=3_u32, workers).prop_map(|(context, blocks, weight, workers)| Asked {
        context,
        blocks,
        weight,
        workers,
    })
}

/// All prefixes, each with its count and who held it last.
fn literally(asked: &[Asked]) -> HashMap<(u64, Vec<u64>), (f64, Held)> {
    let mut all = HashMap::new();
    for one in asked {
        let held = one.held();
        for end in 1..=one.blocks.len() {
            let prefix = (context(one.context).get(), one.blocks[..end].to_vec());
            let entry: &mut (f64, Held) = all.entry(prefix).or_default();
            entry.0 += f64::from(one.weight);
            entry.1 = held[end - 1];
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn with_room_all_counts_are_right(asked in vec(asked(), 1..=30)) {
        let mut trie = Trie::new(4_096);
        for one in &asked {
            one.add_to(&mut trie);
            check(&trie);
            // No node is both of what several pods hold and of what only one does.
            let shared = one.held().iter().filter(|held| held.pods > 1).count();
            if shared > 0 {
                let prefix = (context(one.context).get(), one.blocks[..shared].to_vec());
                prop_assert!(said(&trie)[&prefix].held.is_some());
            }
        }
        let (said, expected) = (said(&trie), literally(&asked));
        prop_assert_eq!(said.len(), expected.len());
        for (prefix, (asked, held)) in &expected {
            let said = said[prefix];
            prop_assert_eq!(said.asked, *asked, "{:?}", prefix);
            prop_assert!(said.held.is_none_or(|said| said == *held), "{:?} {:?}", said, held);
        }
        let weights: f64 = asked.iter().map(|one| f64::from(one.weight)).sum();
        prop_assert_eq!(trie.lookups, weights);
        prop_assert_eq!((trie.full, trie.forgotten), (0, 0));
    }

    #[test]
    fn without_room_no_count_is_too_high(asked in vec(asked(), 1..=60), room in 1..=12_usize) {
        let mut trie = Trie::new(room);
        for one in &asked {
            one.add_to(&mut trie);
            check(&trie);
        }
        let (said, expected) = (said(&trie), literally(&asked));
        let mut missing = said.len() < expected.len();
        for (prefix, said) in &said {
            prop_assert!(said.asked <= expected[prefix].0, "{:?}", prefix);
            missing |= said.asked < expected[prefix].0;
        }
        // What is missing was counted.
        prop_assert!(!missing || trie.full + trie.forgotten > 0);
    }
}

#[test]
fn a_prefix_is_followed_to_a_depth_that_is_told() {
    let mut trie = Trie::new(4_096);
    add(&mut trie, START, 1, &keys(1..=2_000));
    check(&trie);
    assert_eq!(pieces(&picture(&trie, START, 9)), [(0, 1_024, 1_000)]);
    assert_eq!((trie.full, live(&trie).count()), (0, 64));
}
