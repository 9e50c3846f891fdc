//! One trial: all contenders on the same workload in one process, interleaved operation by operation.
//!
//! Everything is done in small rounds, each contender once per round, and who begins rotates: what the
//! machine does meanwhile happens to all. Every answer is checked before it is timed, and again
//! after everything that writes.
use crate::contender::{By, Contender, Plan, Race};
use crate::workload::{Extra, Query, Turn, Workload, blocks};
use crate::{chain, crtc, ours};
use kvroute_bench::{Random, Size};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// The contenders, in the order of the table.
pub(crate) const NAMES: [&str; 3] = ["kvroute", "chain", "crtc"];
/// The seed of all workloads.
pub(crate) const SEED: u64 = 42;
/// Depths of hits, and how many queries of each: about 4 MB of tokens, as fresh requests are not far
/// from the processor's caches.
pub(crate) const DEPTHS: [(usize, usize); 5] =
    [(16, 256), (64, 256), (256, 256), (1_024, 64), (8_192, 8)];
/// Blocks of a miss.
const MISS: usize = 260;
/// Queries per contender and round.
const ROUND: usize = 64;
/// Turns per contender and round of stores and removals.
const TURNS: usize = 512;
/// Workers of the large fleet.
const FLEET: usize = 4_096;

/// How long things are repeated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    size: Size,
    extra: Extra,
    rounds: usize,
    /// Slices of the race, and their length.
    slices: usize,
    slice: Duration,
    /// Workers that are cleared.
    clears: usize,
}

impl Effort {
    /// For figures.
    pub(crate) const FULL: Self = Self {
        size: Size::FULL,
        extra: Extra::FULL,
        rounds: 400,
        slices: 4,
        slice: Duration::from_millis(500),
        clears: 8,
    };
    /// To see that everything works.
    pub(crate) const TINY: Self = Self {
        size: Size::TINY,
        extra: Extra::TINY,
        rounds: 4,
        slices: 1,
        slice: Duration::from_millis(20),
        clears: 2,
    };
}

/// A contender as it is measured.
type Entrant<'a> = &'a mut dyn Contender;

/// The rows measured so far: contender -> figure.
#[derive(Debug, Default)]
struct Figures(Map<String, Value>);

impl Figures {
    fn put(&mut self, row: &str, figures: &[f64]) {
        self.put_named(row, NAMES.iter().copied().zip(figures.iter().copied()));
    }

    fn put_named<'n>(&mut self, row: &str, figures: impl Iterator<Item = (&'n str, f64)>) {
        let figures = figures.map(|(name, figure)| (name.to_owned(), json!(figure)));
        self.0
            .insert(row.to_owned(), Value::Object(figures.collect()));
    }
}

/// Runs all rows and returns them.
pub(crate) fn run(effort: &Effort, pool: Option<usize>) -> Value {
    let extra = Extra {
        pool,
        ..effort.extra
    };
    let workload = Workload::new(effort.size, extra, SEED);
    let (ours, chain) = (ours::Feed::new(&workload), chain::Feed::new(&workload));
    let crtc = crtc::Feed::new(&workload);
    let (mut ours, mut chain) = (ours::Ours::new(&ours), chain::Chain::new(&chain));
    let mut crtc = crtc::Crtc::new(&crtc);
    let field: &mut [Entrant<'_>] = &mut [&mut ours, &mut chain, &mut crtc];
    let mut figures = Figures::default();
    let mut random = Random(7);

    store(field, &workload, &mut figures);
    lookups(field, &workload, effort, &mut random, &mut figures);
    let mixed = workload.mixed(256, &mut random);
    verify(field, &mixed, "mixed depths");
    fleet(field, &workload, &mixed, effort, &mut figures);
    race(field, &workload, &mixed, effort, &mut figures);
    verify(field, &mixed, "after the race");
    clear(field, &workload, &mixed, effort, &mut figures);
    verify(field, &mixed, "after clearing and storing again");
    remove(field, &workload, &mixed, &mut figures);
    json!({
        "workers": workload.workers,
        "entries": blocks(&workload.stores),
        "rows": figures.0,
    })
}

/// Asks every contender every query both ways and stops the program at the first wrong answer.
fn verify(field: &mut [Entrant<'_>], queries: &[Query], when: &str) {
    for (contender, name) in field.iter_mut().zip(NAMES) {
        verify_one(*contender, queries, &format!("{name}, {when}"));
    }
}

fn verify_one(contender: Entrant<'_>, queries: &[Query], what: &str) {
    for query in queries {
        contender.by_hashes(query);
        assert_eq!(contender.answer(), query.expected, "{what}, by hashes");
        contender.by_tokens(query);
        assert_eq!(contender.answer(), query.expected, "{what}, by tokens");
    }
}

/// One round after the other; `visit` gets the contender's place in the field.
fn interleave(
    field: &mut [Entrant<'_>],
    rounds: usize,
    mut visit: impl FnMut(usize, usize, Entrant<'_>),
) {
    let all = field.len();
    for round in 0..rounds {
        for turn in 0..all {
            let at = (round + turn) % all;
            visit(round, at, &mut *field[at]);
        }
    }
}

/// Applies all turns to all contenders, a few at a time; blocks per microsecond of each.
fn write(
    field: &mut [Entrant<'_>],
    turns: &[Turn],
    apply: impl Fn(Entrant<'_>, &[Turn]) -> Duration,
) -> Vec<f64> {
    let mut busy = vec![Duration::ZERO; field.len()];
    let parts: Vec<_> = turns.chunks(TURNS).collect();
    interleave(field, parts.len(), |round, at, contender| {
        busy[at] += apply(contender, parts[round]);
    });
    let all = blocks(turns) as f64;
    busy.iter().map(|busy| all / micros(*busy)).collect()
}

fn store(field: &mut [Entrant<'_>], workload: &Workload, figures: &mut Figures) {
    let rates = write(field, &workload.stores, |c, turns| c.store(turns));
    figures.put("store", &rates);
    let entries = blocks(&workload.stores);
    for (contender, name) in field.iter().zip(NAMES) {
        let counted = contender.entries().unwrap_or(entries);
        assert_eq!(counted, entries, "{name} does not hold what was stored");
    }
}

fn remove(
    field: &mut [Entrant<'_>],
    workload: &Workload,
    queries: &[Query],
    figures: &mut Figures,
) {
    let rates = write(field, &workload.removals, |c, turns| c.remove(turns));
    figures.put("remove", &rates);
    let nobody: Vec<_> = queries.iter().map(without_answer).collect();
    verify(field, &nobody, "after everything was removed");
    for (contender, name) in field.iter().zip(NAMES) {
        let left = contender.entries().unwrap_or(0);
        assert_eq!(left, 0, "{name} still holds something");
    }
}

fn without_answer(query: &Query) -> Query {
    Query {
        expected: BTreeMap::new(),
        ..query.clone()
    }
}

fn lookups(
    field: &mut [Entrant<'_>],
    workload: &Workload,
    effort: &Effort,
    random: &mut Random,
    figures: &mut Figures,
) {
    let mut groups: Vec<_> = DEPTHS
        .iter()
        .map(|&(depth, count)| (depth.to_string(), workload.queries(depth, count, random)))
        .collect();
    groups.push(("mixed".to_owned(), workload.mixed(256, random)));
    groups.push(("miss".to_owned(), Workload::misses(MISS, 64, random)));
    for (name, queries) in &groups {
        assert!(!queries.is_empty(), "no conversation for {name}");
        verify(field, queries, name);
        for (by, how) in [(By::Hashes, "hashes"), (By::Tokens, "tokens")] {
            let latencies = time(field, by, queries, effort.rounds);
            let p50: Vec<_> = latencies.iter().map(|all| middle(all)).collect();
            let p99: Vec<_> = latencies.iter().map(|all| quantile(all, 99)).collect();
            figures.put(&format!("{how}/{name}/p50"), &p50);
            figures.put(&format!("{how}/{name}/p99"), &p99);
            let means = time_whole(field, by, queries, effort.rounds);
            figures.put(&format!("{how}/{name}/mean"), &means);
        }
    }
}

/// Latencies of each contender, sorted.
fn time(field: &mut [Entrant<'_>], by: By, queries: &[Query], rounds: usize) -> Vec<Vec<u32>> {
    let mut latencies = vec![Vec::new(); field.len()];
    let parts: Vec<_> = queries.chunks(ROUND).collect();
    interleave(field, rounds, |round, at, contender| {
        contender.time(by, parts[round % parts.len()], &mut latencies[at]);
    });
    for latencies in &mut latencies {
        latencies.sort_unstable();
    }
    latencies
}

/// The median over rounds of each contender's mean in a round.
fn time_whole(field: &mut [Entrant<'_>], by: By, queries: &[Query], rounds: usize) -> Vec<f64> {
    let mut means = vec![Vec::new(); field.len()];
    let parts: Vec<_> = queries.chunks(ROUND).collect();
    interleave(field, rounds, |round, at, contender| {
        means[at].push(contender.time_whole(by, parts[round % parts.len()]));
    });
    means.iter().map(|means| median(means)).collect()
}

/// Mixed lookups by hashes in a fleet of 4,096 workers with the same holders, as a multiple of the
/// time in the small fleet. kv-index has no room for so many.
fn fleet(
    field: &mut [Entrant<'_>],
    workload: &Workload,
    mixed: &[Query],
    effort: &Effort,
    figures: &mut Figures,
) {
    let stride = FLEET / workload.workers;
    let large = workload.spread(FLEET, stride);
    let (ours, crtc) = (ours::Feed::new(&large), crtc::Feed::new(&large));
    let (mut ours, mut crtc) = (ours::Ours::new(&ours), crtc::Crtc::new(&crtc));
    let spread: Vec<_> = mixed.iter().map(|query| query.spread(stride)).collect();
    for turns in large.stores.chunks(TURNS) {
        ours.store(turns);
        crtc.store(turns);
    }
    verify_one(&mut ours, &spread, "kvroute with 4,096 workers");
    verify_one(&mut crtc, &spread, "crtc with 4,096 workers");
    let [small_ours, _, small_crtc] = field else {
        panic!("three contenders run, not {}", field.len());
    };
    // The queries of both fleets are equal but for the answers.
    let four: &mut [Entrant<'_>] =
        &mut [&mut **small_ours, &mut ours, &mut **small_crtc, &mut crtc];
    let latencies = time(four, By::Hashes, mixed, effort.rounds);
    let ratios = |of: fn(&[u32]) -> f64| {
        let of = |at: usize| of(&latencies[at]);
        [("kvroute", of(1) / of(0)), ("crtc", of(3) / of(2))].into_iter()
    };
    figures.put_named("fleet/p50", ratios(middle));
    figures.put_named("fleet/p99", ratios(|all| quantile(all, 99)));
}

fn race(
    field: &mut [Entrant<'_>],
    workload: &Workload,
    queries: &[Query],
    effort: &Effort,
    figures: &mut Figures,
) {
    let plan = Plan {
        churn: &workload.churn,
        queries,
        time: effort.slice,
    };
    let mut races: Vec<Race> = field.iter().map(|_| Race::default()).collect();
    interleave(field, effort.slices, |_, at, contender| {
        races[at].add(contender.race(&plan));
    });
    let written = |race: &Race| race.written.blocks as f64 / micros(race.written.busy);
    let read = |race: &Race| race.latencies.len() as f64 / micros(race.reading) * 1e3;
    figures.put(
        "race/writer",
        &races.iter().map(written).collect::<Vec<_>>(),
    );
    figures.put("race/reader", &races.iter().map(read).collect::<Vec<_>>());
    let p99 = |race: &mut Race| {
        race.latencies.sort_unstable();
        quantile(&race.latencies, 99)
    };
    figures.put("race/p99", &races.iter_mut().map(p99).collect::<Vec<_>>());
}

/// Clears a worker, sees that nobody is credited for it, and stores its blocks again; so for some
/// workers in turn. Only clearing is timed.
fn clear(
    field: &mut [Entrant<'_>],
    workload: &Workload,
    mixed: &[Query],
    effort: &Effort,
    figures: &mut Figures,
) {
    let mut times = vec![Vec::new(); field.len()];
    interleave(field, effort.clears, |round, at, contender| {
        let worker = round * workload.workers / effort.clears;
        times[at].push(micros(contender.clear(worker)) / 1e3);
        let mut without = mixed.to_vec();
        for query in &mut without {
            query.expected.remove(&worker);
        }
        verify_one(contender, &without, &format!("{}, cleared", NAMES[at]));
        let all = workload.stores.iter();
        let again: Vec<_> = all.filter(|turn| turn.worker == worker).copied().collect();
        for turns in again.chunks(TURNS) {
            contender.store(turns);
        }
    });
    let middle = |times: &Vec<f64>| median(times);
    figures.put("clear", &times.iter().map(middle).collect::<Vec<_>>());
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// The value below which `percent` of the sorted values are.
fn quantile(sorted: &[u32], percent: usize) -> f64 {
    let at = sorted.len() * percent / 100;
    sorted.get(at).copied().map_or(f64::NAN, f64::from)
}

/// The median of sorted latencies, as the mean of their middle fifth: finer than the ticks of the
/// clock, which may be 10 ns.
fn middle(sorted: &[u32]) -> f64 {
    let fifth = &sorted[sorted.len() * 2 / 5..sorted.len() * 3 / 5];
    let sum: u64 = fifth.iter().copied().map(u64::from).sum();
    sum as f64 / fifth.len() as f64
}

/// The middle value, the mean of the two middle ones if their number is even.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted.len().saturating_sub(1) / 2, sorted.len() / 2);
    match (sorted.get(low), sorted.get(high)) {
        (Some(low), Some(high)) => f64::midpoint(*low, *high),
        _ => f64::NAN,
    }
}
