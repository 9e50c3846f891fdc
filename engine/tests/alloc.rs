//! A lookup does not allocate once its result has grown to the fleet.
use kvroute_engine::types::{EngineHash, Tier};
use kvroute_engine::{Index, IndexConfig, Matches, Store, TokenKeys};

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
