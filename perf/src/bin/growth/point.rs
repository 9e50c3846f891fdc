//! One point: an index of a given size is filled, asked, and partly emptied and filled again.
use crate::Fallible;
use crate::workload::{Number, Workload};
use kvroute_bench::filled::{Filled, lookup};
use kvroute_bench::told::{Told, blocks, store_interleaved};
use kvroute_bench::{Conversation, Query, Random, machine};
use kvroute_engine::{Matches, Writer};
use serde_json::{Value, json};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Conversations that go on at the same time while the index is filled.
const BATCH: usize = 64;
/// Queries whose tokens are in memory at the same time: 4 MB.
const QUERIES: usize = 256;
/// Conversations that leave and come back at the same time.
const CHURN: usize = 128;
/// Blocks of a miss.
const MISS: usize = 260;

/// Measures it. Every query that was timed is checked.
pub(crate) fn measure(entries: u64, workers: usize, tiny: bool) -> Fallible<Value> {
    let rounds = if tiny { 2 } else { 16 };
    let workload = Workload::new(entries, workers);
    warm_up(&workload);
    let resident = || machine::resident().ok_or("the system does not tell resident bytes");
    let before = resident()?;
    let mut filled = Filled::empty(workers);
    let busy = fill(&workload, &mut filled);
    for _ in 0..8 {
        filled.at.collect();
    }
    let grown = resident()?.saturating_sub(before);
    let stored: u64 = filled.writers.iter().map(Writer::blocks).sum();
    assert_eq!(
        stored, workload.entries,
        "the index holds what it was told of"
    );
    let counted = filled.index.bytes();
    let lookups = lookups(&workload, &filled, rounds);
    let churn = churn(&workload, &mut filled, rounds);
    let per_entry = |bytes: u64| bytes as f64 / stored as f64;
    Ok(json!({
        "asked_entries": entries,
        "entries": stored,
        "workers": workers,
        "systems": workload.systems,
        "holders_per_hit": lookups.holders,
        "keys_256_ns": lookups.keys,
        "tokens_256_ns": lookups.tokens,
        "miss_ns": lookups.miss,
        "fill_ns": busy.as_nanos() as f64 / stored as f64,
        "store_ns": churn.store,
        "remove_ns": churn.remove,
        "resident_bytes_per_entry": per_entry(grown),
        "counted_bytes_per_entry": per_entry(counted),
        "resident_bytes": resident()?,
        "load": machine::load(),
    }))
}

/// Takes the memory that the generator needs before the index's is measured.
fn warm_up(workload: &Workload) {
    let numbers: Vec<_> = workload.numbers().take(BATCH).collect();
    let conversations = conversations(workload, &numbers);
    let told: Vec<_> = numbers
        .iter()
        .zip(&conversations)
        .flat_map(|(&number, conversation)| workload.arrival(number, conversation))
        .collect();
    black_box(told);
}

fn conversations(workload: &Workload, numbers: &[Number]) -> Vec<Conversation> {
    let numbers = numbers.iter();
    numbers
        .map(|&number| workload.conversation(number))
        .collect()
}

/// Stores everything; the time that the index took of it.
fn fill(workload: &Workload, filled: &mut Filled) -> Duration {
    let mut busy = Duration::ZERO;
    let all: Vec<_> = workload.numbers().collect();
    for numbers in all.chunks(BATCH) {
        let conversations = conversations(workload, numbers);
        let told: Vec<_> = numbers
            .iter()
            .zip(&conversations)
            .flat_map(|(&number, conversation)| workload.arrival(number, conversation))
            .collect();
        let begin = Instant::now();
        store_interleaved(&told, &filled.at, &mut filled.writers);
        busy += begin.elapsed();
    }
    busy
}

/// Nanoseconds per lookup, medians over rounds; and how many workers an answer names.
#[derive(Debug)]
struct Lookups {
    keys: f64,
    tokens: f64,
    miss: f64,
    holders: f64,
}

fn lookups(workload: &Workload, filled: &Filled, rounds: usize) -> Lookups {
    let mut random = Random(7);
    let mut out = Matches::new();
    let mut holders = 0;
    let mut times: [Vec<f64>; 3] = Default::default();
    for _ in 0..rounds {
        // Other queries for each way of asking: those asked before are in the processor's caches.
        let deep = |random: &mut Random| batch(|| workload.deep_query(random));
        let queries = deep(&mut random);
        times[0].push(time(&queries, |query| {
            lookup(&filled.at, &mut black_box(query.keys.as_slice()), &mut out);
        }));
        check(filled, &queries, &mut out);
        let queries = deep(&mut random);
        times[1].push(time(&queries, |query| {
            lookup(&filled.at, &mut black_box(query.token_keys()), &mut out);
        }));
        check(filled, &queries, &mut out);
        holders += queries.iter().map(|q| q.expected.len()).sum::<usize>();
        let queries = batch(|| Query::miss(MISS, &mut random));
        times[2].push(time(&queries, |query| {
            lookup(&filled.at, &mut black_box(query.token_keys()), &mut out);
        }));
        check(filled, &queries, &mut out);
    }
    let [keys, tokens, miss] = times.map(median);
    Lookups {
        keys,
        tokens,
        miss,
        holders: holders as f64 / (rounds * QUERIES) as f64,
    }
}

fn batch(one: impl FnMut() -> Query) -> Vec<Query> {
    std::iter::repeat_with(one).take(QUERIES).collect()
}

fn time(queries: &[Query], mut ask: impl FnMut(&Query)) -> f64 {
    let begin = Instant::now();
    queries.iter().for_each(&mut ask);
    begin.elapsed().as_nanos() as f64 / queries.len() as f64
}

fn check(filled: &Filled, queries: &[Query], out: &mut Matches) {
    for query in queries {
        query.check(&filled.at, out, "in an index of this size");
    }
}

/// Nanoseconds per block, medians over rounds.
#[derive(Debug)]
struct Churn {
    store: f64,
    remove: f64,
}

/// Conversations chosen at random leave, but for their system prompts. When all of them have left,
/// they come back: by then what was read of the first ones is no longer in the nearer caches.
fn churn(workload: &Workload, filled: &mut Filled, rounds: usize) -> Churn {
    let chosen = chosen(workload, rounds);
    let mut random = Random(11);
    let mut out = Matches::new();
    let mut half = |stored: bool, filled: &mut Filled| -> f64 {
        let times = chosen.chunks(CHURN).map(|numbers| {
            let conversations = conversations(workload, numbers);
            let told: Vec<_> = conversations
                .iter()
                .flat_map(|c| Workload::tails(c, &mut random).collect::<Vec<_>>())
                .collect();
            let begin = Instant::now();
            if stored {
                store_interleaved(&told, &filled.at, &mut filled.writers);
            } else {
                remove_interleaved(&told, filled);
            }
            let time = begin.elapsed().as_nanos() as f64 / blocks(&told) as f64;
            let sample = numbers.iter().step_by(8);
            let queries = sample.map(|&number| workload.query(number, stored, &mut random));
            check(filled, &queries.collect::<Vec<_>>(), &mut out);
            time
        });
        median(times.collect())
    };
    let remove = half(false, filled);
    let store = half(true, filled);
    let left: u64 = filled.writers.iter().map(Writer::blocks).sum();
    assert_eq!(left, workload.entries, "what left came back");
    Churn { store, remove }
}

/// The conversations that leave, each once: a quarter of all at most.
fn chosen(workload: &Workload, rounds: usize) -> Vec<Number> {
    let mut random = Random(13);
    let mut all: Vec<_> = workload.numbers().collect();
    let count = (rounds * CHURN).min(all.len() / 4);
    for at in 0..count {
        let other = at + random.below(all.len() - at);
        all.swap(at, other);
    }
    all.truncate(count);
    all
}

/// Turn by turn from the last ones, all conversations at the same time.
fn remove_interleaved(all: &[Told<'_>], filled: &mut Filled) {
    let most = all.iter().map(Told::turns).max().unwrap_or(0);
    for turn in (0..most).rev() {
        for told in all {
            told.remove_turn(turn, &filled.at, &mut filled.writers);
        }
    }
}

/// The middle value.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.len().saturating_sub(1) / 2, values.len() / 2);
    match (values.get(low), values.get(high)) {
        (Some(low), Some(high)) => f64::midpoint(*low, *high),
        _ => f64::NAN,
    }
}
