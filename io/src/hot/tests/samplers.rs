//! Samplers over clocks of the tests' own.
use super::*;
use fastrand::Rng;

/// Lookups at this pace; each sample with its number among the lookups, and its weight.
fn samples(
    sampler: &mut Sampler,
    from: Duration,
    lookups: u64,
    pause: Duration,
) -> Vec<(u64, u32)> {
    let mut samples = Vec::new();
    for n in 0..lookups {
        if sampler.due() {
            samples.push((n, sampler.taken(from + pause * n as u32)));
        }
    }
    samples
}

fn weights(samples: &[(u64, u32)]) -> u64 {
    samples.iter().map(|(_, weight)| u64::from(*weight)).sum()
}

#[test]
fn few_lookups_are_all_samples() {
    let mut sampler = Sampler::with(Rng::with_seed(1));
    // The burst, and then less than a hundred a second.
    let burst = samples(&mut sampler, START, 1_000, Duration::ZERO);
    let slow = samples(&mut sampler, seconds(1), 5_000, Duration::from_millis(11));
    assert_eq!((burst.len(), slow.len()), (1_000, 5_000));
    assert!(burst.iter().chain(&slow).all(|(_, weight)| *weight == 1));
}

#[test]
fn many_lookups_are_some_hundred_samples_a_second() {
    for (seed, pause_us) in [(1, 10), (2, 137), (3, 3_000)] {
        let mut sampler = Sampler::with(Rng::with_seed(seed));
        let pause = Duration::from_micros(pause_us);
        let lookups = 60_000_000 / pause_us;
        let found = samples(&mut sampler, START, lookups, pause);
        // A burst of a thousand, and a hundred in each of sixty seconds.
        assert!((6_000..=8_000).contains(&found.len()), "{}", found.len());
        // All groups are whole but the last one, which is counted as if it were, or not yet.
        let (all, last) = (weights(&found), u64::from(found.last().unwrap().1));
        assert!(all.abs_diff(lookups) <= 2 * last, "{all} {lookups}");
        // When it is quiet again, all are samples again.
        let quiet = samples(
            &mut sampler,
            seconds(60),
            2_000_000,
            Duration::from_millis(20),
        );
        assert!(
            quiet
                .iter()
                .rev()
                .take(1_000)
                .all(|(_, weight)| *weight == 1)
        );
    }
}

/// Every second lookup is of the same prompt, which a sample of every n-th would always meet, or never.
#[test]
fn no_pattern_of_lookups_is_missed() {
    let mut sampler = Sampler::with(Rng::with_seed(7));
    let lookups = 4_000_000;
    let found = samples(&mut sampler, START, lookups, Duration::from_micros(50));
    for (period, share) in [(2, 0.5), (16, 1.0 / 16.0)] {
        let (of, all): (Vec<_>, _) = (
            found
                .iter()
                .copied()
                .filter(|(n, _)| n % period == 0)
                .collect(),
            weights(&found),
        );
        let met = weights(&of) as f64 / all as f64;
        assert!((met / share - 1.0).abs() < 0.1, "{met} of {share}");
    }
}
