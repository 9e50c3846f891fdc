//! All workers' dumps, written and restored: in slices as an IO thread does it, on one thread. What is restored must
//! answer as what was dumped. The bytes of an entry are printed.
use super::Workload;
use super::longest::Longest;
use criterion::{Criterion, Throughput};
use kvroute_bench::filled::Filled;
use kvroute_bench::query::mixed;
use kvroute_bench::{Random, machine};
use kvroute_engine::{Matches, Participant, Writer};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Blocks that are written or restored in one slice, and bytes that are there for it.
const SLICE: usize = 2_048;
const PIECE: usize = 256 * 1024;

/// Rounds of which the processor time is printed.
const ROUNDS: usize = 5;

/// How long it took, and the longest slice.
#[derive(Debug, Default)]
struct Took {
    whole: Duration,
    longest: Longest,
}

impl Took {
    fn new() -> Self {
        let mut took = Self::default();
        took.longest.refresh();
        took
    }

    fn slice(&mut self, begin: Instant) {
        let time = begin.elapsed();
        self.whole += time;
        self.longest.add(time);
    }
}

pub(crate) fn run(criterion: &mut Criterion, filled: &Filled, workload: &Workload) {
    let mut dumps = vec![Vec::new(); filled.writers.len()];
    let mut took = Took::new();
    for (writer, out) in filled.writers.iter().zip(&mut dumps) {
        write(writer, out, &mut took);
    }
    let bytes: usize = dumps.iter().map(Vec::len).sum();
    check(filled, &dumps, workload);
    println!(
        "dump: {bytes} bytes, {:.2} an entry",
        bytes as f64 / filled.entries as f64,
    );
    once(filled, &mut dumps);
    let mut group = criterion.benchmark_group("dump");
    group.throughput(Throughput::Elements(filled.entries));
    group.sample_size(10);
    group.bench_function("write", |b| {
        b.iter_custom(|rounds| {
            let mut took = Took::new();
            for _ in 0..rounds {
                for (writer, out) in filled.writers.iter().zip(&mut dumps) {
                    out.clear();
                    write(writer, out, &mut took);
                }
            }
            took.whole
        });
    });
    group.bench_function("restore", |b| {
        b.iter_custom(|rounds| {
            let mut took = Took::new();
            for _ in 0..rounds {
                black_box(restored(&dumps, &mut took));
            }
            took.whole
        });
    });
    group.finish();
}

/// Prints the least processor time of some rounds, and the longest slices.
fn once(filled: &Filled, dumps: &mut [Vec<u8>]) {
    let (mut written, mut read) = (Took::new(), Took::new());
    let mut least = [Duration::MAX; 2];
    for _ in 0..ROUNDS {
        let begin = machine::processor_time();
        for (writer, out) in filled.writers.iter().zip(&mut *dumps) {
            out.clear();
            write(writer, out, &mut written);
        }
        let between = machine::processor_time();
        let again = restored(dumps, &mut read);
        let end = machine::processor_time();
        drop(again);
        for (least, (begin, end)) in least.iter_mut().zip([(begin, between), (between, end)]) {
            if let (Some(begin), Some(end)) = (begin, end) {
                *least = (*least).min(end - begin);
            }
        }
    }
    let [write, read_time] = least;
    println!(
        "dump: {write:?} of processor time, longest slice of {SLICE} blocks {}",
        written.longest
    );
    println!(
        "restore: {read_time:?} of processor time, longest slice of {SLICE} blocks {}",
        read.longest
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
        let taken = restore.feed(writer, at, piece, SLICE);
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
    let again = restored(dumps, &mut Took::new());
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
