//! Lookups by depth of the hit, and misses.
use super::Workload;
use criterion::Criterion;
use kvroute_bench::filled::Filled;
use kvroute_bench::query::{Query, at_depth, mixed};
use kvroute_bench::{Random, query};
use kvroute_engine::Matches;
use std::hint::black_box;

/// Depths of hits, and how many queries of each: about 4 MB of tokens, as fresh requests are not far from the
/// processor's caches.
const DEPTHS: [(usize, usize); 5] = [(16, 256), (64, 256), (256, 256), (1_024, 64), (8_192, 8)];
/// Blocks of a miss.
const MISS: usize = 260;

pub(crate) fn run(criterion: &mut Criterion, filled: &Filled, workload: &Workload) {
    let mut random = Random(7);
    let (all, regular) = (&workload.stored, workload.regular);
    let deep = |(depth, count): (usize, usize)| {
        let queries = at_depth(all, regular, depth, count, &mut random);
        (depth.to_string(), queries)
    };
    let mut groups: Vec<_> = DEPTHS.into_iter().map(deep).collect();
    groups.push(("mixed".to_owned(), mixed(all, regular, 256, &mut random)));
    let misses = (0..64).map(|_| query::Query::miss(MISS, &mut random));
    groups.push(("miss".to_owned(), misses.collect()));
    for (name, queries) in &groups {
        measure(criterion, filled, name, queries);
    }
}

fn measure(criterion: &mut Criterion, filled: &Filled, name: &str, queries: &[Query]) {
    let mut out = Matches::new();
    for query in queries {
        query.check(&filled.at, &mut out, name);
    }
    let mut turn = queries.iter().cycle();
    criterion.bench_function(&format!("lookup/keys/{name}"), |b| {
        b.iter(|| {
            let query = turn.next();
            query.map(|query| filled.lookup(&mut black_box(query.keys.as_slice()), &mut out))
        });
    });
    criterion.bench_function(&format!("lookup/tokens/{name}"), |b| {
        b.iter(|| {
            let query = turn.next();
            query.map(|query| filled.lookup(&mut black_box(query.token_keys()), &mut out))
        });
    });
}
