//! A worker's load: what its engine said and what the node counts, by hand; and bookings that race.
use kvroute::load::{Booking, Clock, Marks, SLOTS, Scrape, Wheel, WorkerLoad};
use proptest::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

/// What happens to a worker.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// So many requests are booked.
    Book(usize),
    /// The request booked at this place finishes.
    Finish(usize),
    /// The engine is asked.
    Ask,
    /// It answers: running, waiting.
    Say(u32, u32),
    /// So many milliseconds pass.
    Pass(u64),
    /// It has so many running and waiting requests.
    Has(u32, u32),
}
use Step::{Ask, Book, Finish, Has, Pass, Say};

/// Requests live for 1.5 s: fifteen periods of 100 ms. Scrapes count for 30 s.
fn check(name: &str, steps: &[Step]) {
    let clock = Clock::new(Duration::from_millis(1_500), Some(Duration::from_secs(1)));
    let load = WorkerLoad::default();
    let (mut ms, mut marks) = (0, Marks::default());
    let mut booked: Vec<Booking> = Vec::new();
    for (at, &step) in steps.iter().enumerate() {
        let now = clock.at(ms);
        match step {
            Book(count) => booked.extend((0..count).map(|_| load.book_blindly(now, 0, 0))),
            Finish(place) => load.finish(&booked[place]),
            Ask => marks = load.marks(now),
            Say(running, waiting) => {
                let scrape = Scrape {
                    running,
                    waiting,
                    ..Scrape::default()
                };
                load.take(&scrape, &marks);
            }
            Pass(time) => ms += time,
            Has(running, waiting) => {
                let found = load.read(now).load;
                let found = (found.running, found.waiting);
                assert_eq!(found, (running, waiting), "{name}, step {at}: {steps:?}");
            }
        }
    }
}

#[test]
fn requests_by_hand() {
    let table: &[(&str, &[Step])] = &[
        ("nothing is known", &[Has(0, 0)]),
        (
            "own ones are all that is known",
            &[Book(3), Has(3, 0), Finish(1), Has(2, 0)],
        ),
        (
            "others' are seen by the engine",
            &[Ask, Say(4, 2), Has(4, 2)],
        ),
        (
            "what was booked before the question is in the answer",
            &[Book(3), Ask, Say(5, 1), Has(5, 1)],
        ),
        (
            "what was booked since comes on top, also before the answer",
            &[Ask, Book(2), Say(5, 1), Has(7, 1), Book(1), Has(8, 1)],
        ),
        (
            "what was booked before and finished since leaves it",
            &[Book(3), Ask, Say(3, 0), Finish(0), Has(2, 0)],
        ),
        (
            "booked and finished since: as before",
            &[Ask, Say(3, 0), Book(1), Finish(0), Has(3, 0)],
        ),
        (
            "finished between question and answer leaves it, too",
            &[Book(2), Ask, Finish(0), Say(2, 0), Has(1, 0)],
        ),
        (
            "finished before the question is not taken away again",
            &[Book(2), Finish(0), Ask, Say(1, 0), Has(1, 0)],
        ),
        (
            "never below nothing: the engine was done before it was asked, and feedback came after",
            &[Book(2), Ask, Say(0, 0), Finish(0), Finish(1), Has(0, 0)],
        ),
        (
            "those that wait are the last to go",
            &[
                Book(3),
                Ask,
                Say(1, 2),
                Finish(0),
                Has(0, 2),
                Finish(1),
                Has(0, 1),
            ],
        ),
        (
            "the next answer forgets what was added to the last",
            &[
                Ask,
                Say(1, 0),
                Book(4),
                Has(5, 0),
                Ask,
                Say(2, 2),
                Has(2, 2),
            ],
        ),
        (
            "a question without an answer changes nothing",
            &[Ask, Say(1, 0), Book(1), Ask, Book(1), Has(3, 0)],
        ),
        (
            "expiry: the engine knows better",
            &[Book(2), Ask, Say(2, 0), Pass(1_600), Has(2, 0)],
        ),
        (
            "expiry of what came on top takes it away",
            &[Ask, Say(1, 0), Book(2), Has(3, 0), Pass(1_600), Has(1, 0)],
        ),
        (
            "expiry of own ones, nothing earlier, nothing twice",
            &[
                Book(2),
                Pass(1_500),
                Has(2, 0),
                Book(1),
                Pass(100),
                Has(1, 0),
                Finish(0),
                Has(1, 0),
            ],
        ),
        (
            "an answer that is too old: own ones only",
            &[
                Ask,
                Say(9, 9),
                Pass(30_000),
                Has(9, 9),
                Book(1),
                Pass(1),
                Has(1, 0),
            ],
        ),
        (
            "and a new one counts again",
            &[
                Ask,
                Say(9, 9),
                Pass(40_000),
                Has(0, 0),
                Ask,
                Say(1, 1),
                Has(1, 1),
            ],
        ),
    ];
    for (name, steps) in table {
        check(name, steps);
    }
}

#[test]
fn tokens_by_hand() {
    let clock = Clock::default();
    let (now, load) = (clock.at(5), WorkerLoad::default());
    let read = || {
        let load = load.read(now).load;
        (load.queued_tokens, load.active_tokens)
    };
    // Uncached, prompt.
    let first = load.book_blindly(now, 100, 300);
    load.book_blindly(now, 200, 500);
    assert_eq!(read(), (300, 800), "all own ones");
    let marks = load.marks(now);
    load.book_blindly(now, 30, 40);
    let scrape = |waiting| Scrape {
        running: 2,
        waiting,
        active_tokens: 1_000,
        usage: None,
    };
    load.take(&scrape(0), &marks);
    assert_eq!(read(), (30, 1_040), "booked since it was asked");
    // The mean of three in flight is 110.
    load.take(&scrape(2), &marks);
    assert_eq!(read(), (30 + 220, 1_040));
    load.finish(&first);
    // The mean of two is 115.
    assert_eq!(read(), (30 + 230, 1_040));
    load.take(&scrape(2), &load.marks(now));
    assert_eq!(read(), (230, 1_000), "all is in the scrape");
}

#[test]
fn who_is_too_late_does_not_book() {
    let clock = Clock::default();
    let (now, load) = (clock.at(5), WorkerLoad::default());
    let seen = load.read(now).booked;
    assert!(load.book(seen, now, 1, 1).is_some());
    assert!(load.book(seen, now, 1, 1).is_none(), "somebody was faster");
    assert_eq!(load.read(now).load.running, 1);
    let booking = load.book(load.read(now).booked, now, 1, 1).unwrap();
    // What finishes is no reason to choose anew.
    let seen = load.read(now).booked;
    load.finish(&booking);
    assert!(load.book(seen, now, 1, 1).is_some());
}

/// Each request's amount leaves once, whoever is first.
#[test]
fn what_races_leaves_once() {
    const THREADS: usize = 4;
    const EACH: u32 = 20_000;
    let clock = Clock::new(Duration::from_millis(150), None);
    let load = WorkerLoad::default();
    let (chosen, time) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (load, clock, chosen, time) = (&load, &clock, &chosen, &time);
            scope.spawn(move || {
                let mut kept = Vec::new();
                for n in 0..EACH {
                    // Some 300 periods go by, so that much expires while it is taken back.
                    let now = clock.at(time.fetch_add(1, Relaxed) / 25);
                    let seen = load.read(now).booked;
                    let booking = load.book(seen, now, n.into(), 7);
                    chosen.fetch_add(booking.is_some().into(), Relaxed);
                    kept.extend(booking);
                    if (n as usize + thread) % 3 != 0
                        && let Some(booking) = kept.pop()
                    {
                        load.finish(&booking);
                    }
                }
                kept.iter().for_each(|booking| load.finish(booking));
            });
        }
    });
    let end = clock.at(1 << 40);
    let counts = load.own(end);
    assert_eq!(counts.booked, chosen.load(Relaxed));
    assert_eq!(counts.finished + counts.expired, counts.booked);
    assert!(counts.finished > 0 && counts.expired > 0, "{counts:?}");
    let left = load.read(end).load;
    assert_eq!((left.queued_tokens, left.active_tokens), (0, 0));
}

/// Several workers, choices for the fewest requests: none is ever two ahead of another.
#[test]
fn the_fewest_requests_are_truly_the_fewest() {
    const WORKERS: usize = 5;
    let clock = Clock::default();
    let now = clock.at(5);
    let loads: [WorkerLoad; WORKERS] = std::array::from_fn(|_| WorkerLoad::default());
    let conflicts = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10_000 {
                    loop {
                        let seen = loads.each_ref().map(|load| load.read(now));
                        let fewest = (0..WORKERS).min_by_key(|&at| seen[at].load.running);
                        let at = fewest.unwrap();
                        if loads[at].book(seen[at].booked, now, 0, 0).is_some() {
                            break;
                        }
                        conflicts.fetch_add(1, Relaxed);
                    }
                }
            });
        }
    });
    let running = loads.each_ref().map(|load| load.read(now).load.running);
    assert_eq!(running, [8_000; WORKERS], "{conflicts:?} conflicts");
}

/// The same wheel, literally: amounts with the period that they were added in.
#[derive(Debug, Default)]
struct Model(Vec<(u32, u64)>);

proptest! {
    #[test]
    fn a_wheel_is_what_it_is_said_to_be(
        steps in proptest::collection::vec((0_u32..3, 0_u32..40, 0_u32..6), 0..200)
    ) {
        let (wheel, mut model, mut now) = (Wheel::default(), Model::default(), 0_u32);
        let mut added = 0_u64;
        let mut left = 0_u64;
        for (what, by, amount) in steps {
            match what {
                0 => {
                    now += by / 4;
                    left += wheel.expire(now);
                    let old = |tick: u32| (now - tick) as usize >= SLOTS;
                    model.0.retain(|&(tick, _)| !old(tick));
                }
                1 => {
                    left += wheel.put(now, amount);
                    model.0.retain(|&(tick, _)| (now - tick) as usize % SLOTS != 0 || tick == now);
                    model.0.push((now, amount.into()));
                    added += u64::from(amount);
                }
                _ => {
                    let tick = now.saturating_sub(by);
                    let mut wanted = u64::from(amount);
                    for (of, there) in &mut model.0 {
                        if *of == tick {
                            let taken = wanted.min(*there);
                            *there -= taken;
                            wanted -= taken;
                        }
                    }
                    let taken = wheel.take(tick, amount);
                    prop_assert_eq!(taken, u64::from(amount) - wanted);
                    left += taken;
                }
            }
            let there: u64 = model.0.iter().map(|&(_, amount)| amount).sum();
            prop_assert_eq!(added - left, there);
        }
    }
}
