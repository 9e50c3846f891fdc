//! The stalls that clearing a very large worker may cause: the longest slice of the work that is left after
//! the call, and the longest lookup meanwhile. Printed, for a longest time says as much about the machine
//! as about the index: so the longest lookup while nothing happens is printed beside it, and for each the
//! longest in which the thread did not lose its processor.
use super::clear::SLICE;
use super::longest::Longest;
use super::{Effort, SEED};
use kvroute_bench::filled::{Filled, answer, lookup};
use kvroute_bench::query::{Query, mixed};
use kvroute_bench::{Conversation, Random, Size, conversations};
use kvroute_engine::{Matches, Participant};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// The worker that is cleared, and the one whose blocks are asked for.
const CLEARED: usize = 1;
const KEPT: usize = 0;

/// How it went.
#[derive(Debug, Default)]
struct Stalls {
    call: Duration,
    slices: usize,
    longest_slice: Longest,
    whole: Duration,
    lookups: Lookups,
    quiet: Lookups,
}

#[derive(Debug, Default)]
struct Lookups {
    count: usize,
    longest: Longest,
}

pub(crate) fn run(effort: &Effort) {
    let (blocks, rounds) = effort.settle;
    let all = workload(effort, blocks);
    for _ in 0..rounds {
        let mut filled = Filled::new(size(effort, blocks), &all, SEED);
        let held = filled.writers[CLEARED].blocks();
        let stalls = measure(&mut filled, &all);
        println!(
            "settle: {held} blocks cleared in {:?}, {} slices of {SLICE} runs in {:?}, the longest {}",
            stalls.call, stalls.slices, stalls.whole, stalls.longest_slice,
        );
        println!(
            "settle: longest of {} lookups meanwhile {}; of {} while nothing happens {}",
            stalls.lookups.count, stalls.lookups.longest, stalls.quiet.count, stalls.quiet.longest,
        );
    }
}

fn size(effort: &Effort, blocks: usize) -> Size {
    let conversations = 50;
    let each = conversations * effort.size.conversation_blocks / 2 + effort.size.system_blocks;
    Size {
        workers: 2,
        // Half a system prompt more for each: the lengths are random.
        systems: blocks / (each - effort.size.system_blocks / 2) + 2,
        conversations,
        ..effort.size
    }
}

/// All conversations on the worker that is cleared, some on the other one too.
fn workload(effort: &Effort, blocks: usize) -> Vec<Conversation> {
    let mut all = conversations(size(effort, blocks), SEED);
    for (at, conversation) in all.iter_mut().enumerate() {
        conversation.workers = if at.is_multiple_of(50) {
            vec![KEPT, CLEARED]
        } else {
            vec![CLEARED]
        };
    }
    all
}

fn measure(filled: &mut Filled, all: &[Conversation]) -> Stalls {
    let mut out = Matches::new();
    for query in mixed(all, all.len(), 64, &mut Random(29)) {
        query.check(&filled.at, &mut out, "before the clear");
    }
    // From the clear on, only the other worker is credited.
    let only = |c: &Conversation| Conversation {
        tokens: c.tokens.clone(),
        workers: vec![KEPT],
    };
    let kept: Vec<_> = all.iter().step_by(50).map(only).collect();
    let queries = mixed(&kept, kept.len(), 256, &mut Random(31));
    let mut stalls = Stalls::default();
    let (cleared, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    let Filled {
        index, at, writers, ..
    } = filled;
    let begun = Instant::now();
    writers[CLEARED].clear(at);
    stalls.call = begun.elapsed();
    thread::scope(|scope| {
        let (ready, is_ready) = mpsc::channel();
        let reader = scope.spawn(|| {
            let at = index.participant();
            let mut out = Matches::new();
            // Grows the result before anything is timed.
            look(&at, &queries[0], &mut out);
            // If nobody waits any more, there is nothing to be ready for.
            let _ = ready.send(());
            drop(ready);
            let meanwhile = read(&at, &queries, &mut out, &cleared);
            (meanwhile, read(&at, &queries, &mut out, &stop))
        });
        // A reader that died is found when it is joined.
        let _ = is_ready.recv();
        let begun = Instant::now();
        loop {
            stalls.longest_slice.refresh();
            let slice = Instant::now();
            let done = writers[CLEARED].settle(at, SLICE);
            stalls.longest_slice.add(slice.elapsed());
            stalls.slices += 1;
            if done || reader.is_finished() {
                break;
            }
        }
        stalls.whole = begun.elapsed();
        // Relaxed, here and in `read`: a signal; nothing is reached through it.
        cleared.store(true, Ordering::Relaxed);
        thread::sleep(stalls.whole);
        stop.store(true, Ordering::Relaxed);
        let read = reader.join();
        (stalls.lookups, stalls.quiet) =
            read.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    stalls
}

/// Lookups after which a thread asks whether it lost its processor; to ask takes longer than a lookup.
const ASK: usize = 16;

/// Looks things up until it is told to stop, and checks every answer.
fn read(at: &Participant, queries: &[Query], out: &mut Matches, stop: &AtomicBool) -> Lookups {
    let mut lookups = Lookups::default();
    for query in queries.iter().cycle() {
        // Relaxed: see above.
        if stop.load(Ordering::Relaxed) {
            break;
        }
        if lookups.count.is_multiple_of(ASK) {
            lookups.longest.refresh();
        }
        lookups.longest.add(look(at, query, out));
        lookups.count += 1;
    }
    lookups
}

fn look(at: &Participant, query: &Query, out: &mut Matches) -> Duration {
    let begin = Instant::now();
    lookup(at, &mut query.keys.as_slice(), out);
    let time = begin.elapsed();
    assert_eq!(answer(out), query.expected, "while a clear is settled");
    time
}
