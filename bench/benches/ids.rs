//! Token ids out of a JSON body: by [`kvroute::ids`], and by serde_json for comparison. Each body is read once
//! by both and compared with what was written before it is timed.
use criterion::{Criterion, Throughput};
use kvroute::ids::{self, Ids};
use kvroute_bench::Random;
use serde::Deserialize;
use std::hint::black_box;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Deserialize)]
struct Body {
    token_ids: Vec<u32>,
}

fn body(tokens: &[u32], separator: &str) -> String {
    let texts: Vec<String> = tokens.iter().map(u32::to_string).collect();
    let list = texts.join(separator);
    format!("{{\"model\":\"llama-8b\",\"token_ids\":[{list}]}}")
}

fn check(body: &str, tokens: &[u32], ids: &mut Ids) {
    assert!(ids::split(body.as_bytes(), "token_ids", ids).is_some());
    assert_eq!(ids.as_slice(), tokens);
    let parsed: Body = serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(parsed.token_ids, tokens);
}

fn read(criterion: &mut Criterion) {
    let mut random = Random(7);
    let mut ids = Ids::new();
    for count in [256_usize, 4_096, 16_384] {
        let tokens: Vec<u32> = (0..count).map(|_| random.below(128_000) as u32).collect();
        let mut group = criterion.benchmark_group(format!("{count} token ids as JSON"));
        group.throughput(Throughput::Elements(count as u64));
        for (name, separator) in [("compact", ","), ("with blanks", ", ")] {
            let body = body(&tokens, separator);
            check(&body, &tokens, &mut ids);
            group.bench_function(name, |bencher| {
                bencher.iter(|| ids::split(black_box(body.as_bytes()), "token_ids", &mut ids));
            });
        }
        let body = body(&tokens, ",");
        group.bench_function("compact, by serde_json", |bencher| {
            bencher.iter(|| {
                serde_json::from_slice::<Body>(black_box(body.as_bytes()))
                    .map(|b| b.token_ids.len())
            });
        });
        group.finish();
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    read(&mut criterion);
    criterion.final_summary();
}
