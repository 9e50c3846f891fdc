//! All workers' dumps, written and restored: in slices as an IO thread does it, on one thread. What is restored must
//! answer as what was dumped. The bytes of an entry are printed.
use super::Workload;
use criterion::{Criterion, Throughput};
use kvroute_bench::filled::Filled;
use kvroute_bench::query::mixed;
use kvroute_bench::{Random, machine};
use kvroute_engine::{Matches, Participant, Writer};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Blocks that are written in one slice, and bytes that are read in one.
const SLICE: usize = 4_096;
const PIECE: usize = 256 * 1024;

/// How long it took, and the longest slice.
#[derive(Clone, Copy, Debug, Default)]
struct Took {
    whole: Duration,
    longest: Duration,
}

impl Took {
    fn slice(&mut self, begin: Instant) {
        let time = begin.elapsed();
        self.whole += time;
        self.longest = self.longest.max(time);
    }
}

pub(crate) fn run(criterion: &mut Criterion, filled: &Filled, workload: &Workload) {
    let mut dumps = vec![Vec::new(); filled.writers.len()];
    let mut took = Took::default();
    for (writer, out) in filled.writers.iter().zip(&mut dumps) {
        write(writer, out, &mut took);
    }
    let bytes: usize = dumps.iter().map(Vec::len).sum();
    check(filled, &dumps, workload);
    println!(
        "dump: {bytes} bytes, {:.2} an entry; longest slice of {SLICE} blocks {:?}",
        bytes as f64 / filled.entries as f64,
        took.longest,
    );
    let mut group = criterion.benchmark_group("dump");
    group.throughput(Throughput::Elements(filled.entries));
    group.sample_size(10);
    group.bench_function("write", |b| {
        b.iter_custom(|rounds| {
            let mut took = Took::default();
            for _ in 0..rounds {
                for (writer, out) in filled.writers.iter().zip(&mut dumps) {
                    out.clear();
                    write(writer, out, &mut took);
                }
            }
            took.whole
        });
    });
    let mut longest = Duration::ZERO;
    group.bench_function("restore", |b| {
        b.iter_custom(|rounds| {
            let mut took = Took::default();
            for _ in 0..rounds {
                black_box(restored(&dumps, &mut took));
            }
            longest = longest.max(took.longest);
            took.whole
        });
    });
    group.finish();
    println!(
        "restore: longest piece of {PIECE} bytes {longest:?}, load {}",
        machine::load()
    );
}

/// Writes a worker's dump, slice by slice.
fn write(writer: &Writer, out: &mut Vec<u8>, took: &mut Took) {
    let mut dump = writer.dump();
    loop {
        let begin = Instant::now();
        let done = dump.write_some(writer, out, SLICE);
        took.slice(begin);
        match done {
            Ok(true) => return,
            Ok(false) => {}
            Err(e) => panic!("the worker rests: {e}"),
        }
    }
}

/// An index with the workers of these dumps.
fn restored(dumps: &[Vec<u8>], took: &mut Took) -> Filled {
    let mut filled = Filled::empty(dumps.len());
    for (writer, bytes) in filled.writers.iter_mut().zip(dumps) {
        restore(writer, &filled.at, bytes, took);
    }
    filled.entries = filled.writers.iter().map(Writer::blocks).sum();
    filled
}

fn restore(writer: &mut Writer, at: &Participant, bytes: &[u8], took: &mut Took) {
    let mut restore = writer.restore().unwrap_or_else(|e| panic!("{e}"));
    let mut from = 0;
    while !restore.has_ended() {
        let piece = &bytes[from..bytes.len().min(from + PIECE)];
        let begin = Instant::now();
        let taken = restore.feed(writer, at, piece);
        took.slice(begin);
        from += taken.unwrap_or_else(|e| panic!("{e}"));
    }
    let begin = Instant::now();
    let done = restore.finish(writer, at, usize::MAX);
    took.slice(begin);
    assert!(
        matches!(done, Ok(Some(report)) if report.dropped == 0),
        "{done:?}"
    );
}

fn check(filled: &Filled, dumps: &[Vec<u8>], workload: &Workload) {
    let again = restored(dumps, &mut Took::default());
    let mut out = Matches::new();
    for query in mixed(&workload.stored, workload.regular, 256, &mut Random(23)) {
        query.check(&filled.at, &mut out, "dumped");
        query.check(&again.at, &mut out, "restored");
    }
    assert_eq!(again.entries, filled.entries);
    println!(
        "restored: {:.2} bytes an entry by the index's account, {:.2} before",
        again.index.bytes() as f64 / again.entries as f64,
        filled.index.bytes() as f64 / filled.entries as f64,
    );
}
