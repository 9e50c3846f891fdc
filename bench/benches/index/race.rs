//! One reader beside one writer, each in its own thread.
//!
//! What the writer stores and loses goes on from system prompts that its workers keep, and nobody asks for
//! it: so the answers stay the same all the time, and are checked during the race too.
use super::{Workload, write};
use criterion::Criterion;
use kvroute_bench::Random;
use kvroute_bench::filled::{Filled, lookup};
use kvroute_bench::query::{Query, mixed};
use kvroute_bench::told::{Told, blocks, store_interleaved};
use kvroute_engine::{Index, Matches, Writer};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Rounds of checked queries while the writer writes.
const CHECKED: usize = 4;

pub(crate) fn run(criterion: &mut Criterion, filled: &mut Filled, workload: &Workload) {
    let queries = mixed(&workload.stored, workload.regular, 256, &mut Random(19));
    let told = write::told(workload, false);
    let Filled {
        index, at, writers, ..
    } = filled;
    let (stop, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut out = Matches::new();
    let written = thread::scope(|scope| {
        let writer = scope.spawn(|| churn(index, &told, writers, &stop, &rounds));
        // Relaxed, here and below: a signal; nothing is reached through it.
        while rounds.load(Ordering::Relaxed) == 0 && !writer.is_finished() {
            thread::yield_now();
        }
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            check(at, &queries, &mut out, CHECKED);
            let mut turn = queries.iter().cycle();
            criterion.bench_function("race/lookup/keys/mixed", |b| {
                b.iter(|| {
                    let query = turn.next();
                    query.map(|query| lookup(at, &mut black_box(query.keys.as_slice()), &mut out))
                });
            });
        }));
        // Even if an answer is wrong: the scope waits for the writer.
        stop.store(true, Ordering::Relaxed);
        let written = writer.join();
        match (ended, written) {
            (Ok(()), Ok(written)) => written,
            (Err(panic), _) | (_, Err(panic)) => std::panic::resume_unwind(panic),
        }
    });
    check(at, &queries, &mut out, 1);
    let (blocks, busy) = written;
    let rate = blocks as f64 / busy.as_secs_f64() / 1e6;
    println!("race: the writer stored and removed {rate:.2} M blocks/s beside the reader");
}

fn check(at: &kvroute_engine::Participant, queries: &[Query], out: &mut Matches, rounds: usize) {
    for query in (0..rounds).flat_map(|_| queries) {
        query.check(at, out, "beside a writer");
    }
}

/// Stores and removes until it is told to stop; blocks written in all, and the time that took.
fn churn(
    index: &Arc<Index>,
    told: &[Told<'_>],
    writers: &mut [Writer],
    stop: &AtomicBool,
    rounds: &AtomicU64,
) -> (u64, Duration) {
    let at = index.participant();
    let begin = Instant::now();
    let mut written = 0;
    // Relaxed: see above.
    while !stop.load(Ordering::Relaxed) {
        store_interleaved(told, &at, writers);
        for told in told {
            told.remove(&at, writers);
        }
        written += 2 * blocks(told);
        rounds.fetch_add(1, Ordering::Relaxed);
    }
    (written, begin.elapsed())
}
