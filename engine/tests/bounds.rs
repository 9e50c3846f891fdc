//! The bounds of an index: workers, contexts, bytes, and that memory comes back.
use kvroute_engine::limits::{CONTEXTS_MAX, WORKERS_MAX};
use kvroute_engine::types::{EngineHash, Tier, WorkerId};
use kvroute_engine::{
    Budget, Index, IndexConfig, Matches, Participant, Store, StoreReport, TokenKeys, Writer,
};
use std::sync::Arc;

/// The tokens of a chain of blocks of one token, and the names of its blocks.
struct Chain {
    tokens: Vec<u32>,
    names: Vec<EngineHash>,
}

impl Chain {
    /// Chains of different numbers share nothing.
    fn new(number: u32, blocks: usize) -> Self {
        let first = number << 16;
        let tokens: Vec<_> = (first..).take(blocks).collect();
        let names = tokens
            .iter()
            .map(|&token| EngineHash(token.into()))
            .collect();
        Self { tokens, names }
    }

    fn store_part(
        &self,
        at: &Participant,
        writer: &mut Writer,
        from: usize,
        to: usize,
    ) -> StoreReport {
        let event = Store {
            adapter: None,
            block_size: 1,
            tier: Tier::Gpu,
            parent: from.checked_sub(1).map(|at| self.names[at]),
            hashes: &self.names[from..to],
            tokens: &self.tokens[from..to],
            extra: &[],
            says_extra: true,
        };
        writer.store(at, &event).expect("the event fits")
    }

    fn store(&self, at: &Participant, writer: &mut Writer) -> StoreReport {
        self.store_part(at, writer, 0, self.names.len())
    }

    fn remove(&self, at: &Participant, writer: &mut Writer) {
        let reversed: Vec<_> = self.names.iter().rev().copied().collect();
        writer.remove(at, Tier::Gpu, &reversed);
    }

    /// Leading blocks by worker.
    fn look_up(&self, at: &Participant, out: &mut Matches) -> Vec<(WorkerId, u32)> {
        let mut found = Vec::new();
        for context in at.pin().contexts("m", None) {
            let mut keys = TokenKeys::new(at.index().hash_seed(), 1, &self.tokens, &[]);
            context.lookup(&mut keys, out);
            found.extend(out.hits().iter().map(|hit| (hit.worker, hit.blocks[2])));
        }
        found
    }
}

fn index(budget: Budget) -> (Arc<Index>, Participant) {
    let index = Index::new(IndexConfig {
        budget,
        ..IndexConfig::default()
    });
    let at = index.participant();
    (index, at)
}

#[test]
fn sixty_five_thousand_workers_are_told_apart() {
    let (index, at) = index(Budget::default());
    let chain = Chain::new(1, 4);
    let mut writers: Vec<_> = (0..WORKERS_MAX)
        .map(|_| index.writer("m").unwrap())
        .collect();
    assert!(index.writer("m").is_err(), "one too many");
    for (number, writer) in writers.iter_mut().enumerate() {
        chain.store_part(&at, writer, 0, 1 + number % 4);
    }
    let mut out = Matches::new();
    let mut found = chain.look_up(&at, &mut out);
    found.sort_unstable();
    let expected = writers.iter().enumerate();
    let expected: Vec<_> = expected.map(|(n, w)| (w.id(), 1 + n as u32 % 4)).collect();
    assert_eq!(found, expected);
    // Their places are used again, so the prompt's holders do not become more with each turnover.
    let full = index.bytes();
    for writer in &mut writers {
        writer.clear(&at);
        chain.store(&at, writer);
    }
    assert!(
        index.bytes() <= full + full / 4,
        "{} of {full}",
        index.bytes()
    );
    assert_eq!(chain.look_up(&at, &mut out).len(), WORKERS_MAX as usize);
}

#[test]
fn a_thousand_contexts_and_each_is_given_back_with_its_last_block() {
    contexts_are_bounded(CONTEXTS_MAX, CONTEXTS_MAX);
}

#[test]
fn an_index_may_have_room_for_fewer_contexts_but_not_for_more() {
    contexts_are_bounded(9, 9);
    contexts_are_bounded(CONTEXTS_MAX + 1, CONTEXTS_MAX);
}

/// An index that is made with room for `asked` contexts takes `room` of them.
fn contexts_are_bounded(asked: usize, room: usize) {
    let index = Index::new(IndexConfig {
        contexts_max: asked,
        ..IndexConfig::default()
    });
    let at = index.participant();
    let mut writer = index.writer("m").unwrap();
    let names: Vec<_> = (0..=room).map(|n| format!("adapter {n}")).collect();
    let store = |writer: &mut Writer, n: usize| {
        let event = Store {
            adapter: Some(&names[n]),
            block_size: 1,
            tier: Tier::Gpu,
            parent: None,
            hashes: &[EngineHash(n as u64)],
            tokens: &[n as u32],
            extra: &[],
            says_extra: true,
        };
        writer.store(&at, &event)
    };
    for n in 0..room {
        store(&mut writer, n).unwrap();
    }
    assert!(store(&mut writer, room).is_err(), "one too many");
    writer.remove(&at, Tier::Gpu, &[EngineHash(7)]);
    assert_eq!(at.pin().contexts("m", Some("adapter 7")).count(), 0);
    store(&mut writer, room).unwrap();
    assert_eq!(at.pin().contexts("m", Some("adapter 8")).count(), 1);
}

#[test]
fn the_byte_budget_takes_the_least_recently_used_leaves() {
    const BYTES: u64 = 400_000;
    let (index, at) = index(Budget {
        bytes: Some(BYTES),
        ..Budget::default()
    });
    let mut writer = index.writer("m").unwrap();
    let (stem, mut out) = (Chain::new(0, 50), Matches::new());
    stem.store(&at, &mut writer);
    // Branches of the stem, which the stem must outlive although it was stored before them all.
    let branch = |number: u32| {
        let mut chain = Chain::new(number, 100);
        chain.tokens.splice(..50, stem.tokens.iter().copied());
        chain.names.splice(..50, stem.names.iter().copied());
        chain
    };
    let mut evicted = 0;
    for number in 1..400 {
        let report = branch(number).store_part(&at, &mut writer, 50, 100);
        assert_eq!((report.stored, report.dropped), (50, 0), "branch {number}");
        evicted += report.evicted;
        // An event is let in below the budget, and takes what it takes.
        assert!(index.bytes() <= BYTES + 20_000, "{} bytes", index.bytes());
        // The first branch stays in use.
        if number % 20 == 0 {
            evicted += branch(1).store_part(&at, &mut writer, 99, 100).evicted;
        }
    }
    assert!(evicted > 5_000 && writer.incomplete());
    assert_eq!(writer.blocks() + u64::from(evicted), 50 * 400);
    let mut depth = |number| branch(number).look_up(&at, &mut out)[0].1;
    assert_eq!(depth(399), 100, "the newest");
    assert_eq!(depth(2), 50, "the oldest: what is left is the stem");
    assert_eq!(depth(1), 100, "old, but in use");
    // A second worker has nothing to forget, so its blocks are dropped once the first has filled the budget.
    let mut other = index.writer("m").unwrap();
    for number in 400..500 {
        branch(number).store(&at, &mut other);
    }
    assert!(other.incomplete());
    let mut number = 500;
    while index.bytes() <= BYTES {
        branch(number).store(&at, &mut other);
        number += 1;
    }
    let mut third = index.writer("m").unwrap();
    let report = branch(number).store(&at, &mut third);
    let refused = (report.stored, report.dropped, report.over_budget);
    assert_eq!(refused, (0, 100, 100));
    while writer.trim(&at) > 0 {}
    assert!(index.bytes() <= BYTES);
}

#[test]
fn each_model_has_a_quota_of_its_own() {
    let models = [("small".to_owned(), 100_000)].into();
    let (index, at) = index(Budget {
        models,
        model_bytes: Some(10_000_000),
        ..Budget::default()
    });
    let mut small = index.writer("small").unwrap();
    let mut large = index.writer("large").unwrap();
    for number in 0..200 {
        let chain = Chain::new(number, 100);
        chain.store(&at, &mut small);
        chain.store(&at, &mut large);
    }
    assert!(small.incomplete() && !large.incomplete());
    assert_eq!(large.blocks(), 20_000);
    assert!(index.model_bytes("small") < 120_000);
    assert_eq!(
        index.model_bytes("small") + index.model_bytes("large"),
        index.bytes()
    );
    drop((small, large));
    assert_eq!(index.bytes(), 0);
}

#[test]
fn a_large_worker_is_cleared_in_slices() {
    let (index, at) = index(Budget::default());
    let mut writer = index.writer("m").unwrap();
    let mut other = index.writer("m").unwrap();
    let mut out = Matches::new();
    let chains: Vec<_> = (0..20_000).map(|n| Chain::new(n, 50)).collect();
    for chain in &chains {
        chain.store(&at, &mut writer);
    }
    assert_eq!(writer.blocks(), 1_000_000);
    chains[3].store(&at, &mut other);
    writer.clear(&at);
    assert_eq!(writer.blocks(), 0);
    assert_eq!(chains[3].look_up(&at, &mut out), [(other.id(), 50)]);
    assert_eq!(chains[4].look_up(&at, &mut out), []);
    // New events go in beside the old ones, also into the runs that are still to be left.
    chains[3].store_part(&at, &mut writer, 0, 20);
    assert_eq!(chains[3].look_up(&at, &mut out), [(other.id(), 50)]);
    let mut slices = 0;
    while !writer.settle(&at, 256) {
        slices += 1;
        let found = chains[3].look_up(&at, &mut out);
        assert!(found.contains(&(other.id(), 50)));
        assert!(!found.contains(&(writer.id(), 50)), "what it held before");
    }
    assert!(slices >= 20_000 / 256 / 2, "{slices} slices");
    let mut found = chains[3].look_up(&at, &mut out);
    found.sort_unstable();
    assert_eq!(found, [(writer.id(), 20), (other.id(), 50)]);
    writer.clear(&at);
    other.clear(&at);
    assert_eq!(index.bytes(), 0);
}

/// Not resident memory, which says more of the allocator than of the index.
#[test]
fn memory_comes_back_to_the_baseline() {
    let (index, at) = index(Budget::default());
    let mut writers: Vec<_> = (0..8).map(|_| index.writer("m").unwrap()).collect();
    // Branching, so that runs have children, holders and several segments; every round with other content.
    let round = |round: u32, writers: &mut [Writer]| {
        let chains: Vec<_> = (0..200)
            .map(|n| {
                let mut chain = Chain::new(round * 200 + n, 150);
                let stem = Chain::new(round * 200 + n % 10, 150);
                let shared = 10 * (n as usize % 13);
                chain.tokens[..shared].copy_from_slice(&stem.tokens[..shared]);
                chain.names[..shared].copy_from_slice(&stem.names[..shared]);
                chain
            })
            .collect();
        for (n, chain) in chains.iter().enumerate() {
            chain.store(&at, &mut writers[n % 8]);
            chain.store(&at, &mut writers[(n + 1) % 8]);
        }
        let most = index.bytes();
        for (n, chain) in chains.iter().enumerate() {
            chain.remove(&at, &mut writers[n % 8]);
            chain.remove(&at, &mut writers[(n + 1) % 8]);
        }
        for writer in writers.iter() {
            assert_eq!(writer.blocks(), 0);
        }
        // Garbage waits for some pins.
        (0..64).for_each(|_| at.collect());
        most
    };
    round(0, &mut writers);
    let mut most = 0;
    let counted = allocation_counter::measure(|| {
        for n in 1..4 {
            most = round(n, &mut writers);
        }
    });
    assert!(most > 500_000, "{most} bytes at the top");
    assert_eq!(index.bytes(), 0, "by the index's own account");
    // What a thread's epoch bag and the writers' small tables keep.
    assert!(counted.bytes_current.abs() < 16_384, "{counted:?}");
}

#[test]
fn storing_does_not_allocate_once_tables_have_grown() {
    let (index, at) = index(Budget::default());
    let mut writer = index.writer("m").unwrap();
    let chain = Chain::new(1, 2_000);
    chain.store(&at, &mut writer);
    let tail: Vec<_> = chain.names[1_000..].iter().rev().copied().collect();
    let counted = allocation_counter::measure(|| {
        for _ in 0..10 {
            writer.remove(&at, Tier::Gpu, &tail);
            chain.store_part(&at, &mut writer, 1_000, 2_000);
        }
        // Decoding: a block an event.
        writer.remove(&at, Tier::Gpu, &tail);
        for block in 1_000..2_000 {
            chain.store_part(&at, &mut writer, block, block + 1);
        }
    });
    assert_eq!(counted.count_total, 0);
    assert_eq!(writer.blocks(), 2_000);
}
