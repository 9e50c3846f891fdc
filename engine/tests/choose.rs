//! The choice of a worker, worked out by hand.
//!
//! A candidate is written (matched tokens, running requests). Ties are decided by hash, so tables name either the one
//! place that can win or all that may.
use kvroute_engine::choose::tie::{
    BLOCKS_BEYOND, TOKENS_BEYOND, identity, prefix_of_keys, prefix_of_tokens,
};
use kvroute_engine::choose::{
    Ask, Candidate, Choice, Cost, FULL_CREDIT, Gate, Load, Policy, Reason, Rules, Weights, choose,
    cost,
};
use kvroute_engine::types::BlockKey;
use proptest::prelude::*;
use std::cmp::Reverse;

fn candidates(table: &[(u64, u32)]) -> Vec<Candidate> {
    let of = |(at, &(matched, running)): (usize, &(u64, u32))| Candidate {
        identity: identity(&format!("ns/pod-{at}"), 0),
        matched: [0, 0, matched],
        credit: FULL_CREDIT,
        load: Load {
            running,
            ..Load::default()
        },
    };
    table.iter().enumerate().map(of).collect()
}

const ASK: Ask = Ask {
    policy: Policy::PrefixCache,
    minimum_match: 0,
    tokens_known: true,
    prompt_tokens: 1_000,
    session: None,
    turn: 0,
    draw: 0,
};

fn chosen(table: &[(u64, u32)], ask: &Ask, seed: u64) -> Choice {
    let candidates = candidates(table);
    choose(&candidates, ask, &Rules::default(), |_| seed).expect("there are candidates")
}

/// Asserts that the choice falls on all of these places and no other, over many prefixes.
fn assert_among(table: &[(u64, u32)], ask: &Ask, places: &[usize], reason: Reason) {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let choice = chosen(table, ask, seed);
        assert_eq!(choice.reason, reason, "{table:?}");
        seen.insert(choice.at);
    }
    assert!(
        seen.iter().eq(places),
        "{table:?}: {seen:?}, not {places:?}"
    );
}

#[test]
fn prefix_cache_by_hand() {
    use Reason::{LeastRequestFallback, PrefixMatch, PrefixMatchSkipped, SingleCandidate};
    type Row<'r> = (&'r [(u64, u32)], &'r [usize], Reason);
    let rows: &[Row<'_>] = &[
        // The longest match.
        (&[(32, 0), (64, 0), (16, 0)], &[1], PrefixMatch),
        // As long, but fewer requests. Mean 2.33, deviation 2.08: up to 4.4 are admitted.
        (&[(64, 4), (64, 3), (0, 0)], &[1], PrefixMatch),
        // As long and as busy: either.
        (&[(64, 1), (64, 1), (0, 0)], &[0, 1], PrefixMatch),
        // Mean 2, deviation 3.39: 8 is above the limit. The gate is the candidate's own: the second longest match
        // is taken, not the idlest.
        (
            &[(64, 8), (32, 1), (0, 0), (0, 0), (16, 1)],
            &[1],
            PrefixMatch,
        ),
        // The only match is above the limit (mean 2, deviation 3.46): the idlest, either of them.
        (&[(64, 6), (0, 0), (0, 0)], &[1, 2], PrefixMatchSkipped),
        // Exactly at the limit: mean 1, deviation 1.
        (&[(64, 2), (0, 1), (0, 0)], &[0], PrefixMatch),
        // All alike: the deviation is 0, and the mean itself is within the limit.
        (&[(64, 5), (0, 5), (0, 5)], &[0], PrefixMatch),
        // Two candidates never exceed the limit: at 8 apart, mean 4, deviation 5.66.
        (&[(64, 8), (0, 0)], &[0], PrefixMatch),
        // 9 apart: only the idlest count, ...
        (&[(64, 9), (0, 0)], &[1], PrefixMatchSkipped),
        // ... among them the longest match, ...
        (&[(64, 9), (16, 0), (32, 0), (0, 0)], &[2], PrefixMatch),
        // ... even if a third one would be within the limit (mean 3.67, deviation 5.51).
        (&[(16, 10), (64, 1), (0, 0)], &[2], PrefixMatchSkipped),
        // No match: the idlest.
        (&[(0, 2), (0, 1), (0, 3)], &[1], LeastRequestFallback),
        (&[(0, 1), (0, 1), (0, 3)], &[0, 1], LeastRequestFallback),
        // Nobody else, however busy.
        (&[(64, 100)], &[0], SingleCandidate),
        (&[(0, 100)], &[0], SingleCandidate),
    ];
    for (table, places, reason) in rows {
        assert_among(table, &ASK, places, *reason);
    }
}

/// The rules literally, step by step on sorted lists. Returns (match, requests) of the one that wins.
fn literally(table: &[(u64, u32)], minimum: u64) -> ((u64, u32), Reason) {
    let running: Vec<f64> = table.iter().map(|&(_, running)| running.into()).collect();
    let count = running.len() as f64;
    let mean = running.iter().sum::<f64>() / count;
    let variance = running.iter().map(|n| (n - mean) * (n - mean)).sum::<f64>() / (count - 1.0);
    let limit = mean + variance.sqrt();
    let least = table
        .iter()
        .map(|&(_, running)| running)
        .min()
        .expect("some");
    let most = table
        .iter()
        .map(|&(_, running)| running)
        .max()
        .expect("some");
    let mut allowed = table.to_vec();
    if most - least > 8 {
        allowed.retain(|&(_, running)| running == least);
    }
    allowed.retain(|&(matched, _)| matched > 0 && matched >= minimum);
    allowed.sort_by_key(|&(matched, running)| (Reverse(matched), running));
    let first = allowed
        .into_iter()
        .find(|&(_, running)| f64::from(running) <= limit);
    let any = table
        .iter()
        .any(|&(matched, _)| matched > 0 && matched >= minimum);
    match first {
        Some(first) => (first, Reason::PrefixMatch),
        None if any => ((0, least), Reason::PrefixMatchSkipped),
        None => ((0, least), Reason::LeastRequestFallback),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]
    #[test]
    fn prefix_cache_is_what_the_rules_say(
        table in prop::collection::vec((0_u64..5, 0_u32..14), 2..12),
        minimum_match in 0_u64..4,
        seed: u64,
    ) {
        let choice = chosen(&table, &Ask { minimum_match, ..ASK }, seed);
        let (expected, reason) = literally(&table, minimum_match);
        let (matched, running) = table[choice.at];
        prop_assert_eq!(choice.reason, reason);
        prop_assert_eq!(running, expected.1);
        if reason == Reason::PrefixMatch {
            prop_assert_eq!(matched, expected.0);
        }
    }
}

#[test]
fn a_match_below_the_minimum_is_none() {
    let ask = |minimum_match| Ask {
        minimum_match,
        ..ASK
    };
    let table = &[(32, 1), (0, 0)];
    assert_among(table, &ask(32), &[0], Reason::PrefixMatch);
    assert_among(table, &ask(33), &[1], Reason::LeastRequestFallback);
}

#[test]
fn without_tokens_the_load_decides() {
    let ask = Ask {
        tokens_known: false,
        ..ASK
    };
    assert_among(&[(0, 2), (0, 1), (0, 1)], &ask, &[1, 2], Reason::NoTokens);
    assert_among(&[(0, 2)], &ask, &[0], Reason::NoTokens);
}

#[test]
fn waiting_requests_count() {
    let mut both = candidates(&[(64, 0), (0, 5)]);
    both[0].load.waiting = 14;
    let choice = choose(&both, &ASK, &Rules::default(), |_| 0).expect("there are two");
    assert_eq!((choice.at, choice.gate.most), (1, 14));
}

#[test]
fn the_other_policies_by_hand() {
    let ask = |policy, turn, draw| Ask {
        policy,
        turn,
        draw,
        ..ASK
    };
    let table = &[(64, 3), (0, 1), (0, 2)];
    let least = ask(Policy::LeastRequest, 0, 0);
    assert_among(table, &least, &[1], Reason::LeastRequest);
    for turn in 0..7 {
        let choice = chosen(table, &ask(Policy::RoundRobin, turn, 0), 0);
        let expected = ([0, 1, 2, 0, 1, 2, 0][turn as usize], Reason::RoundRobin);
        assert_eq!((choice.at, choice.reason), expected);
    }
    for (draw, at) in [(0, 0), (5, 2), (u64::MAX, 0)] {
        let choice = chosen(table, &ask(Policy::Random, 0, draw), 0);
        assert_eq!((choice.at, choice.reason), (at, Reason::Random), "{draw}");
    }
    for policy in Policy::ALL {
        let choice = chosen(&[(0, 7)], &ask(policy, 5, 5), 0);
        assert_eq!((choice.at, choice.reason), (0, Reason::SingleCandidate));
        assert_eq!(Policy::named(policy.as_str()), Some(policy));
    }
    assert_eq!(Policy::named("prefix"), None);
}

#[test]
fn nobody_is_chosen_from_nobody() {
    for policy in Policy::ALL {
        let ask = Ask { policy, ..ASK };
        assert_eq!(choose(&[], &ask, &Rules::default(), |_| 0), None);
    }
}

#[test]
fn the_gate_is_mean_and_sample_deviation() {
    // Mean 5; squares 9 + 1 + 1 + 9 = 20 over 3 is 6.67.
    let gate = Gate::of(
        &candidates(&[(0, 2), (0, 4), (0, 6), (0, 8)]),
        &Rules {
            imbalance: 6,
            deviations: 2.0,
            ..Rules::default()
        },
    )
    .expect("there are four");
    assert_eq!((gate.least, gate.most, gate.mean), (2, 8, 5.0));
    assert!((gate.deviation - 2.581_988_897).abs() < 1e-9, "{gate:?}");
    assert!((gate.limit - 10.163_977_794).abs() < 1e-9, "{gate:?}");
    assert!(!gate.imbalanced);
    let at = |running| Load {
        running,
        ..Load::default()
    };
    assert!(gate.admits(at(10)) && !gate.admits(at(11)));
}

#[test]
fn the_prefix_is_asked_for_ties_only_and_as_far_as_they_go() {
    let asked = |table: &[(u64, u32)]| {
        let mut asked = None;
        choose(&candidates(table), &ASK, &Rules::default(), |matched| {
            asked = Some(matched);
            0
        });
        asked
    };
    assert_eq!(asked(&[(64, 0), (32, 0)]), None);
    assert_eq!(asked(&[(64, 0), (64, 0), (32, 0)]), Some(64));
    assert_eq!(asked(&[(0, 0), (0, 0)]), Some(0));
}

#[test]
fn a_tie_moves_only_with_the_one_that_goes() {
    let all = candidates(&[(0, 0); 5]);
    let mut shares = [0; 5];
    for seed in 0..1_000 {
        let of = |some: &[Candidate]| {
            let choice = choose(some, &ASK, &Rules::default(), |_| seed).expect("some are left");
            some[choice.at].identity
        };
        let winner = of(&all);
        let at = all.iter().position(|c| c.identity == winner);
        shares[at.expect("it is one of them")] += 1;
        for gone in 0..all.len() {
            let mut left = all.clone();
            left.swap_remove(gone);
            if all[gone].identity != winner {
                assert_eq!(of(&left), winner, "{seed} {gone}");
            }
        }
    }
    // A fifth of a thousand is 200, with a deviation of 12.6.
    assert!(shares.iter().all(|n| (140..260).contains(n)), "{shares:?}");
}

#[test]
fn a_prefix_ends_behind_the_match() {
    let tokens = |count: usize, last: u8| {
        let mut tokens = vec![[7, 0, 0, 0]; count];
        tokens.last_mut().expect("not empty")[0] = last;
        tokens
    };
    let (matched, end) = (32, 32 + TOKENS_BEYOND);
    let hash = |count, last| prefix_of_tokens(&tokens(count, last), matched);
    assert_ne!(hash(end, 1), hash(end, 2));
    assert_eq!(hash(end + 1, 1), hash(end + 1, 2));
    assert_ne!(prefix_of_tokens(&[], 0), prefix_of_tokens(&tokens(1, 1), 0));
    let keys = |count: usize, last: u64| {
        let mut keys = vec![BlockKey::new(7); count];
        *keys.last_mut().expect("not empty") = BlockKey::new(last);
        prefix_of_keys(&keys, 2)
    };
    assert_ne!(keys(2 + BLOCKS_BEYOND, 1), keys(2 + BLOCKS_BEYOND, 2));
    assert_eq!(keys(3 + BLOCKS_BEYOND, 1), keys(3 + BLOCKS_BEYOND, 2));
}

#[test]
fn ranks_of_a_pod_are_told_apart() {
    let all = [identity("a", 0), identity("a", 1), identity("b", 0)];
    assert!(all[0] != all[1] && all[0] != all[2] && all[1] != all[2]);
    // The same in every version: replicas may run different ones.
    assert_eq!(identity("ns/pod-a", 0), 3_228_903_134_089_759_606);
}

/// Of (matched by tier, queued tokens, active tokens), for a prompt of 1,000 tokens.
fn working(matched: [u64; 3], queued_tokens: u64, active_tokens: u64) -> Candidate {
    Candidate {
        matched,
        load: Load {
            queued_tokens,
            active_tokens,
            ..Load::default()
        },
        ..candidates(&[(0, 0)])[0]
    }
}

#[test]
fn cost_by_hand() {
    for (candidate, thousandths) in [
        // All of the prompt.
        (working([0, 0, 0], 0, 0), 1_000_000),
        // What the GPU holds is saved whole, what the CPU has beyond that by three quarters, a disk's by one.
        (working([400, 400, 400], 0, 0), 600_000),
        (working([0, 400, 400], 0, 0), 700_000),
        (working([0, 0, 400], 0, 0), 900_000),
        (
            working([100, 300, 700], 0, 0),
            1_000_000 - 100_000 - 150_000 - 100_000,
        ),
        // A prompt is not saved more often than it is long.
        (working([0, 4_000, 4_000], 0, 0), 250_000),
        (working([4_000, 4_000, 4_000], 0, 0), 0),
        // What is queued counts like the prompt, what is in use a tenth.
        (working([400, 400, 400], 50, 7), 650_700),
        // Out of range is the most there can be.
        (working([0, 0, 0], u64::MAX, u64::MAX), u64::MAX),
    ] {
        let found = cost(&candidate, &ASK, &Rules::default());
        assert_eq!(found, Cost(thousandths), "{candidate:?}");
    }
    let half = Candidate {
        credit: 500,
        ..working([400, 400, 400], 0, 0)
    };
    assert_eq!(cost(&half, &ASK, &Rules::default()), Cost(800_000));
    let rules = Rules {
        weights: Weights {
            prefill: 2_000,
            decode: 100,
            tiers: [1_000, 0, 0],
        },
        ..Rules::default()
    };
    let candidate = working([100, 900, 900], 10, 30);
    assert_eq!(cost(&candidate, &ASK, &rules), Cost(2 * 910_000 + 3_000));
}

#[test]
fn the_least_cost_wins() {
    let ask = Ask {
        policy: Policy::Cost,
        ..ASK
    };
    let chosen = |candidates: &[Candidate], ask: &Ask| {
        let choice = choose(candidates, ask, &Rules::default(), |_| 7).unwrap();
        (choice.at, choice.reason)
    };
    // A match of 400 outweighs 3,000 tokens in use, and not 5,000.
    let idle = working([0, 0, 0], 0, 0);
    let busy = |active| working([400, 400, 400], 0, active);
    assert_eq!(chosen(&[idle, busy(3_000)], &ask), (1, Reason::Cost));
    assert_eq!(chosen(&[idle, busy(5_000)], &ask), (0, Reason::Cost));
    // Equal work: fewer requests.
    let mut more = idle;
    more.load.waiting = 1;
    assert_eq!(chosen(&[more, idle], &ask), (1, Reason::Cost));
    assert_eq!(chosen(&[more], &ask), (0, Reason::SingleCandidate));
    // Without tokens the work that is there decides.
    let unknown = Ask {
        tokens_known: false,
        prompt_tokens: 0,
        ..ask
    };
    let queued = working([0, 0, 0], 9, 0);
    assert_eq!(chosen(&[queued, idle], &unknown), (1, Reason::NoTokens));
}

#[test]
fn a_match_counts_as_far_as_it_is_trusted() {
    let with = |matched, credit| Candidate {
        credit,
        ..candidates(&[(matched, 0)])[0]
    };
    assert_eq!(with(1_999, 500).credited(), 500 + 499);
    assert_eq!(with(64, 0).credited(), 0);
    assert_eq!(with(64, u16::MAX).credited(), 64);
    assert_eq!(with(u64::MAX, 999).credited(), 18_428_297_329_635_842_063);
    let at = |candidates: &[Candidate]| choose(candidates, &ASK, &Rules::default(), |_| 3).unwrap();
    // 64 at half are less than 48 whole, and more than 31.
    assert_eq!(at(&[with(64, 500), with(48, 1_000)]).at, 1);
    assert_eq!(at(&[with(64, 500), with(31, 1_000)]).at, 0);
    let nothing = at(&[with(64, 0), with(0, 1_000)]);
    assert_eq!(nothing.reason, Reason::LeastRequestFallback);
}

#[test]
fn a_session_stays_where_it_is_unless_it_is_too_busy_there() {
    let ask = |session| Ask {
        session: Some(session),
        ..ASK
    };
    let idle = [(64, 0), (0, 0), (0, 0)];
    let mut seen = std::collections::BTreeSet::new();
    for session in 0..50 {
        let first = chosen(&idle, &ask(session), 1);
        assert_eq!(first.reason, Reason::Session);
        // Whatever the prompt is, and whoever holds it.
        let second = chosen(&[(0, 0), (0, 1), (96, 1)], &ask(session), 2);
        assert_eq!((second.at, second.reason), (first.at, Reason::Session));
        seen.insert(first.at);
        let mut busy = idle;
        busy[first.at].1 = 9;
        let moved = chosen(&busy, &ask(session), 1);
        assert_ne!(moved.at, first.at);
        assert_ne!(moved.reason, Reason::Session);
    }
    assert_eq!(seen.len(), 3, "sessions are spread");
    let alone = chosen(&[(64, 0)], &ask(1), 1);
    assert_eq!(alone.reason, Reason::SingleCandidate);
}

#[test]
fn equal_work_goes_by_requests_then_by_the_prefix() {
    let ask = Ask {
        policy: Policy::Cost,
        ..ASK
    };
    let idle = working([0, 0, 0], 0, 0);
    let mut more = idle;
    more.identity = identity("ns/other", 0);
    more.load.waiting = 1;
    for seed in 0..50 {
        let choice = choose(&[more, idle], &ask, &Rules::default(), |_| seed).unwrap();
        assert_eq!(choice.at, 1);
    }
    // 400 cached and 4,000 in use are as much work as nothing of either; the prefix reaches as far as any of them holds.
    let mut asked = None;
    let tied = [idle, working([400, 400, 400], 0, 4_000)];
    let choice = choose(&tied, &ask, &Rules::default(), |matched| {
        asked = Some(matched);
        7
    });
    assert_eq!(choice.unwrap().reason, Reason::Cost);
    assert_eq!(asked, Some(400));
}
