//! The book in virtual time, against scores that are worked out by hand: blocks of two tokens.
use super::*;
use crate::limits::{PREDICT_IDLE, PREDICT_PROMPT_BYTES_MAX};
use crate::status::WorkerStatus;
use kvroute_engine::types::{TokenBytes, WorkerId};
use kvroute_engine::{Blocks, IndexConfig, Matches, Participant, Pinned, TokenKeys};

const SIZE: u32 = 2;

const CONFIG: LearnConfig = LearnConfig {
    speculative: Some(Duration::from_millis(50)),
    approximate: Duration::from_millis(1_000),
    max_blocks: 100,
    shadow: false,
};

struct Bench {
    index: Arc<Index>,
    at: Participant,
    status: Arc<LearnStatus>,
    book: Book,
}

impl Bench {
    fn new() -> Self {
        Self::with(CONFIG)
    }

    fn with(config: LearnConfig) -> Self {
        let index = Index::new(IndexConfig::default());
        let status = Arc::new(LearnStatus::default());
        Self {
            at: index.participant(),
            book: Book::new(&index, config, Arc::clone(&status)),
            status,
            index,
        }
    }

    /// A worker with events; the test keeps its writer.
    fn follow(&self) -> (Arc<Subject>, Writer) {
        let writer = self.index.writer("m").unwrap();
        (subject(false), writer)
    }

    /// A worker without events.
    fn add(&mut self, now: u64) -> (Arc<Subject>, WorkerId) {
        let (subject, writer) = (subject(true), self.index.writer("m").unwrap());
        let id = writer.id();
        self.book.add(Arc::clone(&subject), writer, now);
        (subject, id)
    }

    fn learn(&mut self, subject: &Arc<Subject>, tokens: &[u32], now: u64) {
        let record = record(subject, tokens);
        self.book.learn(&record, now);
    }

    fn expire(&mut self, now: u64) {
        while self.book.expire(now) {}
    }

    /// Lets the index free what nobody can reach.
    fn collect(&self) {
        (0..10).for_each(|_| self.at.collect());
    }

    /// Leading blocks that a number is reported with.
    fn score(&self, number: usize, tokens: &[u32]) -> u32 {
        let mut matches = Matches::new();
        let pin = self.at.pin();
        score(&pin, self.index.hash_seed(), &mut matches, number, tokens)
    }

    /// Leading blocks that a worker with events is expected to hold.
    fn expected(&self, subject: &Subject, tokens: &[u32]) -> u32 {
        let number = subject.expected();
        number.map_or(0, |number| self.score(number, tokens))
    }

    fn unlearnt(&self, why: Unlearnt) -> u64 {
        self.status.unlearnt().find(|of| of.0 == why).unwrap().1
    }
}

fn subject(approximate: bool) -> Arc<Subject> {
    let status = Arc::new(WorkerStatus::default());
    Arc::new(Subject::new("m", status, approximate))
}

fn record(subject: &Arc<Subject>, tokens: &[u32]) -> Record {
    let tokens: &[TokenBytes] = bytemuck::cast_slice(tokens);
    let prompt = Blocks::Tokens { tokens, extra: &[] };
    Record::new(subject, None, SIZE, prompt).0
}

fn score(pin: &Pinned<'_>, seed: u64, matches: &mut Matches, number: usize, tokens: &[u32]) -> u32 {
    let Some(context) = pin.contexts("m", None).next() else {
        return 0;
    };
    let mut keys = TokenKeys::new(seed, SIZE, tokens, &[]);
    context.lookup(&mut keys, matches);
    let mut hits = matches.hits().iter();
    let hit = hits.find(|hit| hit.worker.index() == number);
    hit.map_or(0, |hit| hit.blocks[0])
}

#[test]
fn a_worker_without_events_holds_what_was_sent_to_it_for_a_time() {
    let mut bench = Bench::new();
    let (subject, id) = bench.add(0);
    assert_eq!(subject.status().last_event_ms(), None);
    bench.learn(&subject, &[1, 2, 3, 4, 5], 10);
    assert_eq!(subject.expected(), None, "it has no second number");
    assert_eq!(bench.score(id.index(), &[1, 2, 3, 4, 5, 6]), 2);
    assert_eq!(subject.status().blocks(), 2);
    assert!(subject.status().last_event_ms().is_some());
    assert_eq!(bench.status.approximate_blocks(), 2);
    bench.learn(&subject, &[1, 2], 500);
    assert_eq!(bench.book.next_deadline(), Some(1_010));
    bench.expire(1_009);
    assert_eq!(bench.score(id.index(), &[1, 2, 3, 4]), 2);
    bench.expire(1_010);
    assert_eq!(bench.score(id.index(), &[1, 2, 3, 4]), 1);
    bench.expire(1_500);
    assert_eq!(bench.score(id.index(), &[1, 2, 3, 4]), 0);
    assert_eq!(subject.status().blocks(), 0);
    assert_eq!(bench.book.next_deadline(), None);
    assert_eq!(bench.status.learnt(), 2);
}

#[test]
fn what_is_expected_stands_apart_and_passes() {
    let mut bench = Bench::new();
    let (subject, own) = bench.follow();
    assert_eq!(subject.expected(), None);
    bench.learn(&subject, &[1, 2, 3, 4], 0);
    let number = subject.expected().unwrap();
    assert_ne!(number, own.id().index());
    assert_eq!(bench.expected(&subject, &[1, 2, 3, 4]), 2);
    assert_eq!(bench.score(own.id().index(), &[1, 2, 3, 4]), 0);
    assert_eq!(
        (
            bench.status.speculative_blocks(),
            bench.status.approximate_blocks()
        ),
        (2, 0)
    );
    assert_eq!(subject.status().blocks(), 0, "events alone say that");
    assert_eq!(subject.status().last_event_ms(), None);
    bench.expire(49);
    assert_eq!(bench.expected(&subject, &[1, 2, 3, 4]), 2);
    bench.expire(50);
    assert_eq!(bench.expected(&subject, &[1, 2, 3, 4]), 0);
    assert_eq!(bench.status.speculative_blocks(), 0);
}

#[test]
fn an_idle_number_is_given_back() {
    let mut bench = Bench::new();
    let (subject, _own) = bench.follow();
    let before = bench.index.workers();
    bench.learn(&subject, &[1, 2], 0);
    assert_eq!(bench.index.workers(), before + 1);
    let idle = u64::try_from(PREDICT_IDLE.as_millis()).unwrap();
    bench.book.sweep(idle);
    assert!(subject.expected().is_some(), "something is held still");
    bench.expire(50);
    bench.book.sweep(idle - 1);
    assert!(subject.expected().is_some());
    bench.book.sweep(idle);
    assert_eq!(subject.expected(), None);
    assert!(bench.book.is_empty());
    bench.collect();
    assert_eq!(bench.index.workers(), before);
}

#[test]
fn a_restart_ends_what_was_expected_at_once() {
    let mut bench = Bench::new();
    let (subject, _own) = bench.follow();
    bench.learn(&subject, &[1, 2, 3, 4], 0);
    let first = subject.expected().unwrap();
    let late = record(&subject, &[7, 8]);
    subject.status().add_restarts(1);
    assert_eq!(subject.expected(), None);
    bench.book.learn(&late, 1);
    assert_eq!(subject.expected(), None, "it went to the life before");
    assert_eq!(bench.unlearnt(Unlearnt::Restarted), 1);
    bench.learn(&subject, &[1, 2, 9, 9], 2);
    assert_ne!(
        subject.expected(),
        Some(first),
        "what lookups may still report"
    );
    assert_eq!(bench.expected(&subject, &[1, 2, 3, 4]), 1);
    assert_eq!(bench.score(first, &[1, 2, 3, 4]), 0);
    assert_eq!(bench.status.speculative_blocks(), 2);
    subject.status().add_restarts(1);
    bench.book.sweep(3);
    assert!(bench.book.is_empty());
    assert_eq!(bench.status.speculative_blocks(), 0);
    assert_eq!(bench.book.next_deadline(), None);
}

#[test]
fn a_worker_without_events_forgets_when_its_engine_restarts() {
    let mut bench = Bench::new();
    let (subject, id) = bench.add(0);
    bench.learn(&subject, &[1, 2, 3, 4], 0);
    subject.status().add_restarts(1);
    bench.book.sweep(1);
    assert_eq!(bench.score(id.index(), &[1, 2, 3, 4]), 0);
    assert_eq!(
        (subject.status().blocks(), bench.book.next_deadline()),
        (0, None)
    );
    bench.learn(&subject, &[1, 2], 2);
    assert_eq!(bench.score(id.index(), &[1, 2, 3, 4]), 1);
    // Without a sweep between, the next decision has it forgotten.
    subject.status().add_restarts(1);
    bench.learn(&subject, &[5, 6], 3);
    assert_eq!(bench.score(id.index(), &[1, 2]), 0);
    assert_eq!(bench.score(id.index(), &[5, 6]), 1);
}

#[test]
fn of_workers_that_are_gone_nothing_is_left() {
    let mut bench = Bench::new();
    // The account of the model and the first context stay.
    let (subject, _) = bench.add(0);
    bench.learn(&subject, &[1, 2], 0);
    subject.leave();
    bench.book.sweep(0);
    bench.collect();
    let (bytes, workers) = (bench.index.bytes(), bench.index.workers());
    let (first, _) = bench.add(0);
    let (second, own) = bench.follow();
    let long: Vec<u32> = (0..150).collect();
    for subject in [&first, &second] {
        bench.learn(subject, &long, 0);
    }
    assert!(bench.index.bytes() > bytes);
    let late = record(&first, &[1, 2]);
    first.leave();
    second.leave();
    bench.book.sweep(1);
    bench.book.learn(&late, 1);
    bench.learn(&second, &[1, 2], 1);
    assert_eq!(bench.unlearnt(Unlearnt::Gone), 2);
    assert!(bench.book.is_empty());
    drop(own);
    bench.collect();
    assert_eq!(
        (bench.index.bytes(), bench.index.workers()),
        (bytes, workers)
    );
    assert_eq!(
        (
            bench.status.speculative_blocks(),
            bench.status.approximate_blocks()
        ),
        (0, 0)
    );
}

#[test]
fn more_blocks_than_the_bound_leave_earliest_first() {
    let mut bench = Bench::with(LearnConfig {
        max_blocks: 3,
        ..CONFIG
    });
    let (subject, id) = bench.add(0);
    bench.learn(&subject, &[1, 1, 2, 2], 0);
    bench.learn(&subject, &[5, 5, 6, 6], 1);
    assert_eq!(bench.score(id.index(), &[1, 1, 2, 2]), 1);
    assert_eq!(bench.score(id.index(), &[5, 5, 6, 6]), 2);
    assert_eq!(
        (bench.status.evicted(), bench.status.approximate_blocks()),
        (1, 3)
    );
}

#[test]
fn numbers_are_left_to_workers_yet_to_come() {
    let mut bench = Bench::new();
    let ((a, _a), (b, _b)) = (bench.follow(), bench.follow());
    let index = Arc::clone(&bench.index);
    bench.book = bench.book.within(3);
    bench.learn(&a, &[1, 2], 0);
    bench.learn(&b, &[1, 2], 0);
    assert!(a.expected().is_some());
    assert_eq!(b.expected(), None);
    assert_eq!(bench.unlearnt(Unlearnt::NoNumber), 1);
    bench.book.sweep(1);
    assert!(a.expected().is_some());
    let _another = index.writer("m").unwrap();
    bench.book.sweep(2);
    assert_eq!(a.expected(), None, "others need the number");
}

#[test]
fn without_a_time_nothing_is_expected() {
    let mut bench = Bench::with(LearnConfig {
        speculative: None,
        ..CONFIG
    });
    let (subject, _own) = bench.follow();
    bench.learn(&subject, &[1, 2], 0);
    assert_eq!(subject.expected(), None);
    let (approximate, id) = bench.add(0);
    bench.learn(&approximate, &[1, 2], 0);
    assert_eq!(bench.score(id.index(), &[1, 2]), 1);
}

#[test]
fn what_there_is_no_room_for_in_the_queue_is_counted() {
    let (learner, received) = Learner::stalled(CONFIG);
    let full = |learner: &Learner| {
        let mut counts = learner.status().unlearnt();
        counts.find(|of| of.0 == Unlearnt::QueueFull).unwrap().1
    };
    let subject = subject(true);
    let long = vec![7; PREDICT_PROMPT_BYTES_MAX / 4];
    let fit = PREDICT_QUEUED_BYTES_MAX / PREDICT_PROMPT_BYTES_MAX;
    for _ in 0..fit + 2 {
        learner.record(record(&subject, &long));
    }
    assert_eq!((received.len(), full(&learner)), (fit, 2));
    drop(received);

    let (learner, received) = Learner::stalled(CONFIG);
    for _ in 0..PREDICT_QUEUE_MAX + 3 {
        learner.record(record(&subject, &[1, 2]));
    }
    assert_eq!((received.len(), full(&learner)), (PREDICT_QUEUE_MAX, 3));
    assert_eq!(
        learner.add(
            &subject,
            Index::new(IndexConfig::default()).writer("m").unwrap()
        ),
        Err(Busy)
    );
    drop(received);
    learner.record(record(&subject, &[1, 2]));
    assert_eq!(full(&learner), 4, "its thread is gone");
}

/// Numbers go from worker to worker while lookups run. Each worker has a prompt of its own, so one that is credited
/// with another's would show.
#[test]
fn no_worker_is_taken_for_another() {
    const LIVES: u32 = 6_000;
    const AT_ONCE: usize = 4;
    let mut bench = Bench::new();
    let current: [arc_swap::ArcSwapOption<(u32, Arc<Subject>)>; AT_ONCE] =
        std::array::from_fn(|_| arc_swap::ArcSwapOption::empty());
    let (done, seen) = (AtomicBool::new(false), AtomicUsize::new(0));
    let read = |at: Participant| {
        let seed = at.index().hash_seed();
        let mut matches = Matches::new();
        while !done.load(Relaxed) {
            let known: Vec<_> = current.iter().filter_map(|slot| slot.load_full()).collect();
            for asked in &known {
                let tokens = [asked.0; 4];
                for other in &known {
                    let pin = at.pin();
                    // As a lookup does it: first what is there, then whose number that is.
                    let found = hits(&pin, seed, &mut matches, &tokens);
                    let Some(number) = other.1.expected() else {
                        continue;
                    };
                    let credited = found.contains(&number);
                    assert!(
                        !credited || asked.0 == other.0,
                        "{} for {}",
                        asked.0,
                        other.0
                    );
                    seen.fetch_add(usize::from(credited), Relaxed);
                }
            }
        }
    };
    let indexes = [Arc::clone(&bench.index), Arc::clone(&bench.index)];
    thread::scope(|scope| {
        for index in indexes {
            scope.spawn(move || read(index.participant()));
        }
        let mut numbers = std::collections::BTreeSet::new();
        for life in 1..=LIVES {
            let slot = &current[life as usize % AT_ONCE];
            let subject = subject(false);
            bench.learn(&subject, &[life; 4], 0);
            numbers.extend(subject.expected());
            if let Some(old) = slot.swap(Some(Arc::new((life, subject)))) {
                old.1.leave();
            }
            bench.book.sweep(0);
        }
        done.store(true, Relaxed);
        assert!(
            numbers.len() < LIVES as usize / 2,
            "{} numbers",
            numbers.len()
        );
    });
    assert!(seen.load(Relaxed) > 0, "nobody was ever credited");
}

/// All numbers that are reported.
fn hits(pin: &Pinned<'_>, seed: u64, matches: &mut Matches, tokens: &[u32]) -> Vec<usize> {
    let Some(context) = pin.contexts("m", None).next() else {
        return Vec::new();
    };
    context.lookup(&mut TokenKeys::new(seed, SIZE, tokens, &[]), matches);
    let hits = matches.hits().iter();
    hits.map(|hit| hit.worker.index()).collect()
}
