//! The cache's model by hand, and what it says against what it holds.
use super::super::chance::Chance;
use super::super::prompts::{Habits, Prompts};
use super::*;

fn cache(blocks: usize, offloaded: usize) -> Cache {
    Cache::new(CacheOptions {
        blocks,
        offloaded,
        placeholders: true,
        block_size: 2,
        chunk: 100,
        seed: 1,
    })
}

fn prompt(tokens: &[u32]) -> Prompt {
    Prompt {
        tokens: tokens.to_vec(),
        scope: Scope::default(),
    }
}

/// Serves a prompt to its end; what it reused, and what was said of blocks by their first token.
fn serve(cache: &mut Cache, tokens: &[u32]) -> (Option<usize>, Vec<String>) {
    let reused = cache.begin(&prompt(tokens), &[]);
    while cache.running() > 0 {
        cache.step();
    }
    (reused, cache.take_events().iter().map(said).collect())
}

fn said(event: &CacheEvent) -> String {
    match event {
        CacheEvent::Cleared => "clear".to_owned(),
        CacheEvent::Removed { tier, hashes } => format!("{tier:?} -{}", hashes.len()),
        CacheEvent::Stored { tier, links, .. } => {
            let first = links.iter().map(|link| link.tokens[0].to_string());
            format!("{tier:?} +{}", first.collect::<Vec<_>>().join(","))
        }
    }
}

#[test]
fn a_prompt_reuses_its_prefix_but_never_its_last_token() {
    let mut cache = cache(8, 0);
    let said = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        serve(&mut cache, &[1, 0, 2, 0]),
        (Some(0), said(&["Gpu +1,2"]))
    );
    // A whole number of blocks: the last one is computed again, into a block of its own.
    assert_eq!(
        serve(&mut cache, &[1, 0, 2, 0]),
        (Some(1), said(&["Gpu +2"]))
    );
    assert_eq!(cache.distinct(), 2);
    let copies: Vec<_> = cache.held().values().map(|held| held.copies[0]).collect();
    assert_eq!(copies.iter().sum::<u32>(), 3);
    assert_eq!(serve(&mut cache, &[1, 0, 2, 0, 3]), (Some(2), said(&[])));
    assert_eq!(cache.reusable(&[1, 0, 2, 0, 3], &Scope::default()), [2; 3]);
}

#[test]
fn a_chain_is_evicted_tail_first() {
    let mut cache = cache(3, 0);
    serve(&mut cache, &[1, 0, 2, 0, 3, 0]);
    let (_, said) = serve(&mut cache, &[9, 0]);
    assert_eq!(said, ["Gpu -1", "Gpu +9"]);
    assert_eq!(
        cache.reusable(&[1, 0, 2, 0, 3, 0], &Scope::default()),
        [2; 3]
    );
}

#[test]
fn what_was_offloaded_comes_back() {
    let mut cache = cache(2, 4);
    serve(&mut cache, &[1, 0, 2, 0]);
    serve(&mut cache, &[8, 0, 9, 0]);
    let scope = Scope::default();
    assert_eq!(cache.reusable(&[1, 0, 2, 0, 3], &scope), [0, 2, 2]);
    let (reused, said) = serve(&mut cache, &[1, 0, 2, 0, 3]);
    assert_eq!(reused, Some(2));
    assert_eq!(said, ["Gpu -1", "Gpu +1", "Gpu -1", "Gpu +2"]);
    assert_eq!(cache.reusable(&[1, 0, 2, 0, 3], &scope), [2; 3]);
}

#[test]
fn a_reset_leaves_nothing_and_waits_for_running_requests() {
    let mut cache = cache(4, 4);
    assert_eq!(cache.begin(&prompt(&[1, 0]), &[2, 0]), Some(0));
    cache.step();
    assert!(!cache.reset());
    cache.step();
    assert!(cache.reset() && cache.running() == 0);
    assert_eq!((cache.distinct(), cache.held().len()), (0, 0));
    let last = cache.take_events().pop();
    assert!(matches!(last, Some(CacheEvent::Cleared)), "{last:?}");
}

/// Copies counted from what was said alone.
fn count(counted: &mut BTreeMap<u64, [u32; TIERS]>, event: &CacheEvent) {
    match event {
        CacheEvent::Cleared => counted.clear(),
        CacheEvent::Stored { tier, links, .. } => {
            for link in links {
                counted.entry(link.hash).or_default()[tier.index()] += 1;
            }
        }
        CacheEvent::Removed { tier, hashes } => {
            for hash in hashes {
                let copies = counted.get_mut(hash).expect("stored before");
                copies[tier.index()] -= 1;
                if *copies == [0; TIERS] {
                    counted.remove(hash);
                }
            }
        }
    }
}

#[test]
fn what_it_says_adds_up_to_what_it_holds() {
    let habits = Habits {
        block_size: 2,
        systems: 3,
        system_blocks: 4,
        turn_blocks: 3,
        blocks_max: 20,
        adapters: 2,
        salted_per_mille: 200,
    };
    let (mut copies, mut removed) = (0, 0);
    for seed in 0..200 {
        let mut cache = cache(12 + seed as usize % 40, seed as usize % 3 * 7);
        let mut prompts = Prompts::new(habits, 1, Chance::new(seed));
        let mut counted = BTreeMap::new();
        for _ in 0..60 {
            let prompt = prompts.ask();
            let generated = prompts.generate(&prompt);
            cache.begin(&prompt, &generated);
            cache.step();
            if seed % 20 == 0 {
                cache.reset();
            }
            for event in cache.take_events() {
                removed += u32::from(matches!(event, CacheEvent::Removed { .. }));
                count(&mut counted, &event);
            }
            let held = cache.held().into_iter();
            let held: BTreeMap<_, _> = held.map(|(hash, held)| (hash, held.copies)).collect();
            assert_eq!(counted, held, "seed {seed}");
            assert_eq!(cache.distinct(), held.len());
            copies += u32::from(held.values().any(|copies| copies[0] > 1));
            // Every path that it says to hold is reusable if all before it is held too.
            for held in cache.held().values() {
                let path = held.link.path();
                let hashes = cache.hashes(&path, &held.link.scope);
                let leading = hashes.iter().take_while(|hash| counted.contains_key(hash));
                let expected = leading.count() as u32;
                assert_eq!(cache.reusable(&path, &held.link.scope)[2], expected);
            }
        }
    }
    assert!(copies > 100 && removed > 1_000, "{copies} {removed}");
}
