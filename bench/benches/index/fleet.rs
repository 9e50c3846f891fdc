//! The same lookup in larger and larger fleets: as many holders of each prompt, among more workers.
use super::{Effort, SEED};
use criterion::Criterion;
use kvroute_bench::query::{at_depth, mixed};
use kvroute_bench::{BLOCK_SIZE, Conversation, Filled, Random, Size, conversations};
use kvroute_engine::Matches;
use std::hint::black_box;

/// Workers who hold the conversations.
const HOLDERS: usize = 8;
const FLEETS: [usize; 5] = [8, 64, 256, 1_024, 4_096];
/// Blocks of the conversation that each further worker has to itself.
const OWN: usize = 8;

pub(crate) fn run(criterion: &mut Criterion, effort: &Effort) {
    let size = Size {
        workers: HOLDERS,
        systems: effort.fleet_systems,
        ..effort.size
    };
    let base = conversations(size, SEED);
    for workers in FLEETS {
        let size = Size { workers, ..size };
        let all = spread(&base, workers);
        let filled = Filled::new(size, &all, SEED);
        let mut random = Random(23);
        let mut queries = mixed(&all, base.len(), 192, &mut random);
        let common = at_depth(&all, base.len(), size.system_blocks, 64, &mut random);
        queries.extend(common);
        let mut out = Matches::new();
        for query in &queries {
            query.check(&filled.at, &mut out, "in a fleet");
        }
        let mut turn = queries.iter().cycle();
        criterion.bench_function(&format!("fleet/keys/{workers}"), |b| {
            b.iter(|| {
                let query = turn.next();
                query.map(|query| filled.lookup(&mut black_box(query.keys.as_slice()), &mut out))
            });
        });
    }
}

/// The same conversations on every so many-th worker; the others have something of their own.
fn spread(base: &[Conversation], workers: usize) -> Vec<Conversation> {
    let stride = workers / HOLDERS;
    let mut all = base.to_vec();
    for worker in all.iter_mut().flat_map(|c| &mut c.workers) {
        *worker *= stride;
    }
    // Another seed than the conversations', or the first of them would be repeated.
    let mut random = Random(0xf1ee7);
    for worker in (0..workers).filter(|worker: &usize| !worker.is_multiple_of(stride)) {
        let tokens = (0..OWN * BLOCK_SIZE as usize).map(|_| random.below(128_000) as u32);
        all.push(Conversation {
            tokens: tokens.collect(),
            workers: vec![worker],
        });
    }
    all
}
