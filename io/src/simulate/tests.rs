//! Runs worked by hand, the order of the policies, determinism.
use super::report::{self, Pace};
use super::*;
use crate::fake::chance::Chance;
use kvroute_engine::choose::Rules;

fn options(strategies: &[Strategy]) -> Options {
    Options {
        pods: 2,
        seed: 1,
        strategies: strategies.to_vec(),
        hardware: Hardware::A100,
        block_size: 16,
        cache_blocks: 1_000,
        rules: Rules::default(),
        event_delay_us: 2_000,
        scrape_interval_us: 1_000_000,
        request_ms: 60_000,
        speculative_ms: 0,
        approximate_ms: 1_200_000,
        approximate_blocks: 65_536,
    }
}

fn outcome(trace: &Trace, options: &Options) -> Outcome {
    run(trace, options, 1, &Progress::default())
        .unwrap()
        .remove(0)
}

/// The same 512 tokens asked three times, 10 ms apart.
fn thrice() -> Trace {
    let mut trace = Trace::default();
    for at in [0, 10_000, 20_000] {
        trace.push(at, 512, 1, &[7]).unwrap();
    }
    trace
}

/// A step of all 512 tokens: 1,500 us, 512 x 85.8 us, 512 x 511 / 2 pairs at 2.8 ns.
const WHOLE: f64 = 0.045_796;

fn close(found: &[f64], expected: &[f64]) -> bool {
    let pairs = found.iter().zip(expected);
    found.len() == expected.len() && pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-9)
}

#[test]
fn three_requests_round_robin_by_hand() {
    let outcome = outcome(&thrice(), &options(&[Strategy::RoundRobin]));
    // The third goes to the first pod again, waits for its step, reuses 31 blocks and computes the last one: a step of
    // 1,500 us, 9,850 us, and 16 x 496 + 120 pairs at 2.8 ns.
    let third = WHOLE + 0.011_373 - 0.020;
    assert!(close(&outcome.ttfts, &[third, WHOLE, WHOLE]), "{outcome:?}");
    assert_eq!((outcome.prompt_tokens, outcome.saved_tokens), (1_536, 496));
    assert_eq!(outcome.prefill_by_pod, [528, 512]);
    assert!(close(&[outcome.seconds], &[WHOLE + 0.011_373]));
    assert_eq!(outcome.expected, None);
}

#[test]
fn three_requests_by_their_prefix_by_hand() {
    let outcome = outcome(&thrice(), &options(&[Strategy::PrefixCache]));
    // All go to the pod of the first. Two of them are computed in one step: 32 tokens, twice the pairs.
    let both = WHOLE + 0.011_395;
    let expected = [both - 0.020, WHOLE, both - 0.010];
    assert!(close(&outcome.ttfts, &expected), "{outcome:?}");
    assert_eq!(outcome.saved_tokens, 992);
    let mut prefill = outcome.prefill_by_pod.clone();
    prefill.sort_unstable();
    assert_eq!(prefill, [0, 544]);
    assert_eq!(outcome.prefill_imbalance(), 2.0);
    let known = Difference {
        equal: 3,
        over: 0,
        under: 0,
    };
    assert_eq!(
        (outcome.indexed, outcome.expected),
        (known, Some(known)),
        "the events of the first were there in time"
    );
}

#[test]
fn an_event_that_is_late_is_missed_and_the_decision_stands_in_for_it() {
    let late = Options {
        event_delay_us: 1_000_000,
        ..options(&[Strategy::PrefixCache])
    };
    let outcome = outcome(&thrice(), &late);
    assert!(outcome.indexed.under >= 496, "{:?}", outcome.indexed);
    let speculative = Options {
        speculative_ms: 5_000,
        ..late
    };
    let outcome = super::tests::outcome(&thrice(), &speculative);
    assert_eq!(outcome.saved_tokens, 992);
    assert_eq!(outcome.expected.unwrap().equal, 3);
}

/// Conversations that begin with one of a few long instructions and go on turn by turn, in turns by chance: a later turn's
/// prompt begins with the earlier one's.
fn conversations(seed: u64, requests: u64) -> Trace {
    let mut chance = Chance::new(seed);
    let mut trace = Trace::default();
    let mut talks: Vec<Vec<u64>> = Vec::new();
    for request in 0..requests {
        let at = match talks.len() < 60 || chance.per_mille(80) {
            true => {
                let system = chance.below(8);
                talks.push((0..8).map(|block| 1_000 * system + block).collect());
                talks.len() - 1
            }
            // Of the latest ones.
            false => talks.len() - 1 - chance.place(60),
        };
        let turn = chance.between(1, 2);
        talks[at].extend((0..turn).map(|block| 1_000_000 + request * 10 + block));
        let ids = &talks[at];
        let input = ids.len() as u64 * 512;
        let output = chance.between(20, 60);
        trace.push(request * 100_000, input, output, ids).unwrap();
    }
    trace
}

#[test]
fn the_published_order_is_reproduced() {
    let trace = conversations(1, 600);
    let [random, load, approximate, precise] = [
        Strategy::Random,
        Strategy::LeastRequest,
        Strategy::Approximate,
        Strategy::PrefixCache,
    ];
    let options = Options {
        pods: 4,
        cache_blocks: 3_000,
        approximate_blocks: 3_000,
        speculative_ms: 5_000,
        strategies: vec![random, load, approximate, precise, Strategy::Cost],
        ..options(&[])
    };
    let outcomes = run(&trace, &options, 2, &Progress::default()).unwrap();
    let of = |strategy| outcomes.iter().find(|o| o.strategy == strategy).unwrap();
    let hits = |strategy| of(strategy).hit_ratio();
    let ttft = |strategy| of(strategy).ttft.mean;
    let all = [precise, approximate, load, random];
    let table = report::table(&[], &outcomes);
    assert!(hits(precise) > 1.01 * hits(approximate), "{table}");
    assert!(hits(approximate) > 1.2 * hits(load), "{table}");
    assert!(all.is_sorted_by(|a, b| ttft(*a) < ttft(*b)), "{table}");
    assert!(ttft(Strategy::Cost) < ttft(load), "{table}");
}

#[test]
fn a_seed_gives_the_same_on_any_number_of_threads() {
    let mut trace = conversations(2, 200);
    trace.speed_up(2.0);
    let options = Options {
        cache_blocks: 3_000,
        ..options(&[Strategy::Random, Strategy::Approximate, Strategy::Cost])
    };
    let pace = Pace {
        speed: 2.0,
        spread: false,
    };
    let json = |options: &Options, threads| {
        let progress = Progress::default();
        let outcomes = run(&trace, options, threads, &progress).unwrap();
        assert_eq!(progress.served(), 3 * 200);
        report::json(&trace, pace, options, &outcomes).to_string()
    };
    let first = json(&options, 1);
    assert_eq!(first, json(&options, 3));
    let other = Options { seed: 2, ..options };
    assert_ne!(first, json(&other, 1));
}

#[test]
fn without_delay_the_index_is_the_cache_at_every_choice() {
    let trace = conversations(3, 150);
    for strategy in Strategy::ALL {
        let options = Options {
            pods: 3,
            cache_blocks: 3_000,
            event_delay_us: 0,
            ..options(&[strategy])
        };
        let outcome = outcome(&trace, &options);
        let exact = Difference {
            equal: outcome.requests,
            over: 0,
            under: 0,
        };
        assert_eq!(outcome.indexed, exact, "{strategy:?}");
        assert!(outcome.saved_tokens > 0 && outcome.compared == 3 * 150);
    }
}

#[test]
fn a_request_that_never_fits_is_refused() {
    let small = Options {
        cache_blocks: 32,
        ..options(&[Strategy::Random])
    };
    let error = run(&thrice(), &small, 1, &Progress::default()).unwrap_err();
    assert!(
        error.is_usage() && error.to_string().contains("request 1: "),
        "{error}"
    );
}

#[test]
fn the_plot_names_what_it_shows() {
    let trace = thrice();
    let options = options(&Strategy::ALL);
    let outcomes = run(&trace, &options, 2, &Progress::default()).unwrap();
    let svg = plot::draw(&["a < b & c".to_owned()], &outcomes).unwrap();
    assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
    assert_eq!(svg.matches("<polyline").count(), Strategy::ALL.len());
    assert!(svg.contains("a &lt; b &amp; c") && svg.contains("prefers-color-scheme: dark"));
    for strategy in Strategy::ALL {
        assert!(svg.contains(strategy.as_str()));
    }
    assert!(!svg.contains("NaN") && !svg.contains("inf"));
}
