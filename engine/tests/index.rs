//! Hand-worked examples of the index's contract.
use kvroute_engine::hash::ExtraDigest;
use kvroute_engine::types::{EngineHash, Tier};
use kvroute_engine::{
    Index, IndexConfig, Matches, Participant, RemoveReport, Store, StoreError, StoreReport,
    TokenKeys, Writer,
};
use std::sync::Arc;

const BLOCK: u32 = 2;

struct Bench {
    index: Arc<Index>,
    at: Participant,
}

impl Bench {
    fn new() -> Self {
        let index = Index::new(IndexConfig::default());
        Self {
            at: index.participant(),
            index,
        }
    }

    fn writer(&self) -> Writer {
        self.index.writer("m").unwrap()
    }

    /// Stores blocks of tokens `2n, 2n + 1` named by `n + shift`.
    fn store(
        &self,
        writer: &mut Writer,
        parent: Option<u64>,
        blocks: &[u32],
        shift: u64,
    ) -> StoreReport {
        let hashes: Vec<_> = blocks
            .iter()
            .map(|&n| EngineHash(u64::from(n) + shift))
            .collect();
        let tokens = tokens(blocks);
        let event = event(parent.map(EngineHash), &hashes, &tokens);
        writer.store(&self.at, &event).unwrap()
    }

    fn score(&self, writer: &Writer, prompt: &[u32]) -> [u32; 3] {
        let tokens = tokens(prompt);
        let mut matches = Matches::new();
        let pinned = self.at.pin();
        for context in pinned.contexts("m", None) {
            let mut keys = TokenKeys::new(self.index.hash_seed(), BLOCK, &tokens, &[]);
            context.lookup(&mut keys, &mut matches);
        }
        let mut hits = matches.hits().iter();
        hits.find(|hit| hit.worker == writer.id())
            .map_or([0; 3], |hit| hit.blocks)
    }
}

fn tokens(blocks: &[u32]) -> Vec<u32> {
    blocks.iter().flat_map(|&n| [2 * n, 2 * n + 1]).collect()
}

fn event<'a>(parent: Option<EngineHash>, hashes: &'a [EngineHash], tokens: &'a [u32]) -> Store<'a> {
    Store {
        adapter: None,
        block_size: BLOCK,
        tier: Tier::Gpu,
        parent,
        hashes,
        tokens,
        extra: &[],
        says_extra: true,
    }
}

#[test]
fn a_hole_truncates_and_its_healing_gives_all_back() {
    let bench = Bench::new();
    let mut w = bench.writer();
    let prompt: Vec<u32> = (0..64).collect();
    bench.store(&mut w, None, &prompt, 0);
    assert_eq!(bench.score(&w, &prompt), [64; 3]);
    w.remove(&bench.at, Tier::Gpu, &[EngineHash(10)]);
    assert_eq!(bench.score(&w, &prompt), [10; 3]);
    bench.store(&mut w, Some(9), &[10], 0);
    assert_eq!(bench.score(&w, &prompt), [64; 3]);
}

#[test]
fn copies_are_counted() {
    let bench = Bench::new();
    let mut w = bench.writer();
    bench.store(&mut w, None, &[1, 2], 0);
    let again = bench.store(&mut w, Some(1), &[2], 0);
    assert_eq!(
        again,
        StoreReport {
            copies: 1,
            ..StoreReport::default()
        }
    );
    let one = w.remove(&bench.at, Tier::Gpu, &[EngineHash(2)]);
    assert_eq!(
        one,
        RemoveReport {
            copies: 1,
            ..RemoveReport::default()
        }
    );
    assert_eq!(bench.score(&w, &[1, 2]), [2; 3]);
    w.remove(&bench.at, Tier::Gpu, &[EngineHash(2)]);
    assert_eq!(bench.score(&w, &[1, 2]), [1; 3]);
    let gone = w.remove(&bench.at, Tier::Gpu, &[EngineHash(2)]);
    assert_eq!(
        gone,
        RemoveReport {
            unknown: 1,
            ..RemoveReport::default()
        }
    );
}

#[test]
fn workers_share_runs_and_leave_them_apart() {
    let bench = Bench::new();
    let (mut a, mut b) = (bench.writer(), bench.writer());
    // The engines name equal content differently, and diverge inside a run.
    bench.store(&mut a, None, &[1, 2, 3, 4], 0);
    bench.store(&mut b, None, &[1, 2, 7, 8], 1000);
    assert_eq!(bench.score(&a, &[1, 2, 7, 8]), [2; 3]);
    assert_eq!(bench.score(&b, &[1, 2, 7, 8]), [4; 3]);
    assert_eq!(bench.score(&b, &[1, 2, 3, 4]), [2; 3]);
    let (id, prompt) = (a.id(), [1, 2, 3, 4]);
    drop(a);
    assert_eq!(bench.score(&b, &prompt), [2; 3]);
    let mut c = bench.writer();
    assert_ne!(c.id(), id, "a number rests before it is used again");
    bench.store(&mut c, None, &prompt, 0);
    assert_eq!(bench.score(&c, &prompt), [4; 3]);
    b.clear(&bench.at);
    assert_eq!(bench.score(&b, &prompt), [0; 3]);
    assert_eq!(bench.score(&c, &prompt), [4; 3]);
}

#[test]
fn an_unknown_parent_never_becomes_a_root() {
    let bench = Bench::new();
    let mut w = bench.writer();
    let report = bench.store(&mut w, Some(99), &[1, 2], 0);
    assert_eq!(
        report,
        StoreReport {
            waiting: 2,
            ..StoreReport::default()
        }
    );
    assert_eq!(bench.score(&w, &[1, 2]), [0; 3]);
    assert_eq!((w.blocks(), w.waiting()), (0, 2));
    let report = bench.store(&mut w, None, &[99], 0);
    assert_eq!((report.stored, report.attached), (1, 2));
    assert_eq!(bench.score(&w, &[99, 1, 2]), [3; 3]);
    assert_eq!((w.blocks(), w.waiting(), w.incomplete()), (3, 0, false));
}

#[test]
fn waiting_is_bounded_and_the_loss_is_told() {
    let bench = Bench::new();
    let mut w = bench.writer();
    let limit = kvroute_engine::limits::WAITING_MAX as u32;
    let blocks: Vec<u32> = (0..limit + 5).collect();
    let report = bench.store(&mut w, Some(u64::MAX), &blocks, 0);
    assert_eq!((report.waiting, report.dropped), (limit, 5));
    assert!(w.incomplete());
    w.clear(&bench.at);
    assert_eq!((w.waiting(), w.incomplete()), (0, false));
}

#[test]
fn a_name_with_two_contents_counts_for_nothing() {
    let bench = Bench::new();
    let mut w = bench.writer();
    bench.store(&mut w, None, &[1, 2], 0);
    // The same name, 2, for other tokens.
    let tokens = tokens(&[50]);
    let conflict = event(Some(EngineHash(1)), &[EngineHash(2)], &tokens);
    let report = w.store(&bench.at, &conflict).unwrap();
    assert_eq!(report.conflicts, 1);
    assert_eq!(bench.score(&w, &[1, 2]), [1; 3]);
    assert_eq!(bench.score(&w, &[1, 50]), [1; 3]);
    // Both copies leave, and the name is as new.
    w.remove(&bench.at, Tier::Gpu, &[EngineHash(2), EngineHash(2)]);
    bench.store(&mut w, Some(1), &[2], 0);
    assert_eq!(bench.score(&w, &[1, 2]), [2; 3]);
}

#[test]
fn an_orphan_with_two_contents_counts_for_nothing() {
    let bench = Bench::new();
    let mut w = bench.writer();
    bench.store(&mut w, Some(1), &[2], 0);
    let tokens = tokens(&[50]);
    let conflict = event(Some(EngineHash(1)), &[EngineHash(2)], &tokens);
    assert_eq!(w.store(&bench.at, &conflict).unwrap().conflicts, 1);
    bench.store(&mut w, None, &[1], 0);
    assert_eq!(bench.score(&w, &[1, 2]), [1; 3]);
    assert_eq!(bench.score(&w, &[1, 50]), [1; 3]);
}

#[test]
fn tiers_are_cumulative() {
    let bench = Bench::new();
    let mut w = bench.writer();
    bench.store(&mut w, None, &[1, 2, 3, 4], 0);
    // Offloaded by name; then two of them leave the GPU.
    let offload = Store {
        tier: Tier::Cpu,
        ..event(None, &[EngineHash(3), EngineHash(4)], &[])
    };
    assert_eq!(w.store(&bench.at, &offload).unwrap().copies, 2);
    assert_eq!(bench.score(&w, &[1, 2, 3, 4]), [4; 3]);
    w.remove(&bench.at, Tier::Gpu, &[EngineHash(4), EngineHash(3)]);
    assert_eq!(bench.score(&w, &[1, 2, 3, 4]), [2, 4, 4]);
    let disk = Store {
        tier: Tier::Disk,
        ..event(None, &[EngineHash(3)], &[])
    };
    w.store(&bench.at, &disk).unwrap();
    w.remove(&bench.at, Tier::Cpu, &[EngineHash(3)]);
    assert_eq!(bench.score(&w, &[1, 2, 3, 4]), [2, 2, 4]);
    bench.store(&mut w, Some(2), &[3, 4], 0);
    assert_eq!(bench.score(&w, &[1, 2, 3, 4]), [4; 3]);
}

#[test]
fn what_does_not_fit_is_refused_whole() {
    let bench = Bench::new();
    let mut w = bench.writer();
    let hashes = [EngineHash(1), EngineHash(2)];
    let extra = [ExtraDigest::NONE; 3];
    let tokens = tokens(&[1, 2]);
    let good = event(None, &hashes, &tokens);
    let short = Store {
        tokens: &tokens[..3],
        ..good
    };
    assert!(matches!(
        w.store(&bench.at, &short),
        Err(StoreError::TokenCount { .. })
    ));
    let zero = Store {
        block_size: 0,
        ..good
    };
    assert!(matches!(
        w.store(&bench.at, &zero),
        Err(StoreError::BlockSize(0))
    ));
    let many = Store {
        extra: &extra,
        ..good
    };
    assert!(matches!(
        w.store(&bench.at, &many),
        Err(StoreError::ExtraCount { .. })
    ));
    assert_eq!(w.blocks(), 0);
}

#[test]
fn a_chain_longer_than_a_run_goes_on_in_a_child() {
    let bench = Bench::new();
    let mut w = bench.writer();
    let prompt: Vec<u32> = (0..kvroute_engine::limits::RUN_BLOCKS_MAX + 10).collect();
    let (head, tail) = prompt.split_at(1_000);
    bench.store(&mut w, None, head, 0);
    bench.store(&mut w, Some(999), tail, 0);
    let all = prompt.len() as u32;
    assert_eq!(bench.score(&w, &prompt), [all; 3]);
    let last = EngineHash(u64::from(all) - 1);
    w.remove(&bench.at, Tier::Gpu, &[last, EngineHash(65_535)]);
    assert_eq!(bench.score(&w, &prompt), [65_535; 3]);
}

#[test]
fn contexts_come_and_go() {
    let bench = Bench::new();
    let mut w = bench.writer();
    let count = |model: &str, adapter| bench.at.pin().contexts(model, adapter).count();
    let tokens = tokens(&[1, 2]);
    let four = Store {
        block_size: 4,
        ..event(None, &[EngineHash(9)], &tokens)
    };
    bench.store(&mut w, None, &[1, 2], 0);
    w.store(&bench.at, &four).unwrap();
    let adapted = Store {
        adapter: Some("a"),
        ..event(None, &[EngineHash(7), EngineHash(8)], &tokens)
    };
    w.store(&bench.at, &adapted).unwrap();
    assert_eq!(
        (count("m", None), count("m", Some("a")), count("x", None)),
        (2, 1, 0)
    );
    drop(w);
    assert_eq!((count("m", None), count("m", Some("a"))), (0, 0));
}

#[test]
fn unsaid_salts_are_kept_apart() {
    let bench = Bench::new();
    let mut w = bench.writer();
    let tokens = tokens(&[1, 2]);
    // Two names for the same tokens, from an engine that cannot say why.
    for names in [
        [EngineHash(1), EngineHash(2)],
        [EngineHash(11), EngineHash(12)],
    ] {
        let stored = Store {
            says_extra: false,
            ..event(None, &names, &tokens)
        };
        w.store(&bench.at, &stored).unwrap();
    }
    assert_eq!(bench.score(&w, &[1, 2]), [2; 3]);
    w.remove(&bench.at, Tier::Gpu, &[EngineHash(2), EngineHash(1)]);
    assert_eq!(bench.score(&w, &[1, 2]), [0; 3]);
}
