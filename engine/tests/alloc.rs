//! A lookup does not allocate once its result has grown to the fleet, and a choice never does.
use kvroute_engine::choose::{Ask, Candidate, FULL_CREDIT, Load, Policy, Rules, choose, tie};
use kvroute_engine::types::{EngineHash, Tier};
use kvroute_engine::{Index, IndexConfig, Matches, Store, TokenKeys, Writer};

#[test]
fn a_lookup_does_not_allocate() {
    let index = Index::new(IndexConfig::default());
    let at = index.participant();
    let tokens: Vec<u32> = (0..256 * 16).collect();
    let hashes: Vec<_> = (0..256).map(EngineHash).collect();
    let mut writers: Vec<_> = (0..64).map(|_| index.writer("m").unwrap()).collect();
    for (depth, writer) in writers.iter_mut().enumerate() {
        let blocks = 4 * (depth + 1);
        let event = Store {
            adapter: None,
            block_size: 16,
            tier: Tier::Gpu,
            parent: None,
            hashes: &hashes[..blocks],
            tokens: &tokens[..blocks * 16],
            extra: &[],
            says_extra: true,
        };
        writer.store(&at, &event).unwrap();
    }
    let mut matches = Matches::new();
    let mut look_up = || {
        for context in at.pin().contexts("m", None) {
            let mut keys = TokenKeys::new(index.hash_seed(), 16, &tokens, &[]);
            context.lookup(&mut keys, &mut matches);
        }
        matches.hits().iter().map(|hit| hit.blocks[2]).sum::<u32>()
    };
    // 4 + 8 + … + 256.
    let expected = 4 * 64 * 65 / 2;
    assert_eq!(look_up(), expected, "the first one makes room");
    let counted = allocation_counter::measure(|| {
        for _ in 0..1_000 {
            assert_eq!(look_up(), expected);
        }
    });
    assert_eq!(counted.count_total, 0);
}

#[test]
fn a_choice_does_not_allocate() {
    let candidates: Vec<_> = (0..64)
        .map(|rank| Candidate {
            identity: tie::identity("pod", rank),
            matched: [0, 0, u64::from(rank % 4)],
            credit: FULL_CREDIT,
            load: Load {
                running: rank % 3,
                ..Load::default()
            },
        })
        .collect();
    let counted = allocation_counter::measure(|| {
        for policy in Policy::ALL {
            let ask = Ask {
                policy,
                tokens_known: true,
                prompt_tokens: 1_000,
                ..Ask::default()
            };
            assert!(choose(&candidates, &ask, &Rules::default(), |_| 7).is_some());
        }
    });
    assert_eq!(counted.count_total, 0);
}

/// An event may name known blocks between new ones, so that each new one opens a run. None of them
/// may be made as long as all that follows in the event.
#[test]
fn an_event_that_jumps_back_takes_memory_in_proportion() {
    const PAIRS: u32 = 4_000;
    let index = Index::new(IndexConfig::default());
    let at = index.participant();
    let mut writer = index.writer("m").unwrap();
    let stored = |hashes: &[EngineHash], tokens: &[u32], writer: &mut Writer| {
        let event = Store {
            adapter: None,
            block_size: 1,
            tier: Tier::Gpu,
            parent: None,
            hashes,
            tokens,
            extra: &[],
            says_extra: true,
        };
        writer.store(&at, &event).unwrap();
    };
    stored(&[EngineHash(0)], &[0], &mut writer);
    let pairs = (1..=PAIRS).flat_map(|n| [0, n]);
    let tokens: Vec<u32> = pairs.collect();
    let hashes: Vec<_> = tokens.iter().map(|&n| EngineHash(n.into())).collect();
    let counted = allocation_counter::measure(|| stored(&hashes, &tokens, &mut writer));
    assert_eq!(writer.blocks(), u64::from(PAIRS) + 1);
    // A run with 64 slots of 8 bytes, its header and tables: measured about 1,100 bytes.
    assert!(counted.bytes_max < u64::from(PAIRS) * 2_048, "{counted:?}");
}

#[test]
fn a_dropped_index_leaves_nothing() {
    let round = || {
        let index = Index::new(IndexConfig::default());
        let at = index.participant();
        let mut writer = index.writer("m").unwrap();
        for adapter in [None, Some("a"), Some("b")] {
            let hashes = [EngineHash(1), EngineHash(2)];
            let event = Store {
                adapter,
                block_size: 1,
                tier: Tier::Gpu,
                parent: None,
                hashes: &hashes,
                tokens: &[1, 2],
                extra: &[],
                says_extra: true,
            };
            writer.store(&at, &event).unwrap();
            writer.clear(&at);
        }
    };
    round();
    let counted = allocation_counter::measure(|| (0..100).for_each(|_| round()));
    assert!(counted.count_total > 0);
    assert_eq!(counted.bytes_current, 0);
}
