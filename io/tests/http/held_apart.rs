//! Whatever is learnt from decisions, what events have told is answered as if there were no decisions.
use crate::fixture::{Blocks, Fixture, events_of};
use crate::learning::{LONG, learnt, matches, send, times};
use serde_json::json;

/// Random stores and decisions; what `/v1/match` says of workers with events is what was stored, whatever was sent where.
#[test]
fn what_is_expected_never_shows_in_what_is_held() {
    let fixture = Fixture::learning(times(LONG, LONG), true);
    let pods = ["a", "b", "c"];
    for (port, pod) in (1..).zip(pods) {
        let endpoint = format!("h:{port}");
        fixture
            .add(json!({"pod": pod, "model": "m", "events": events_of(pod), "endpoint": endpoint}));
    }
    let mut client = fixture.client();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |n: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % n
    };
    // Prompts of up to six blocks, each of one of two contents.
    let prompt = |below: &mut dyn FnMut(u64) -> u64| -> Vec<u32> {
        let blocks = 1 + below(6);
        (0..blocks).flat_map(|_| [below(2) as u32; 4]).collect()
    };
    let mut held = vec![Vec::<Vec<u32>>::new(); pods.len()];
    let mut chain = 0;
    for _ in 0..400 {
        let tokens = prompt(&mut below);
        match below(4) {
            0 => {
                let at = below(3) as usize;
                chain += 1;
                let blocks = Blocks {
                    chain,
                    ..Blocks::of(&tokens)
                };
                fixture.store(&format!("{}#0", pods[at]), &blocks);
                held[at].push(tokens.clone());
            }
            1 => drop(send(&mut client, &tokens)),
            _ => {}
        }
        let common = |there: &Vec<u32>| {
            there
                .chunks(4)
                .zip(tokens.chunks(4))
                .take_while(|(a, b)| a == b)
                .count()
        };
        let most = |at: usize| held[at].iter().map(common).max().unwrap_or(0);
        let mut expected: Vec<_> = (0..pods.len())
            .map(|at| (pods[at].to_owned(), 4 * most(at) as u64, "exact".to_owned()))
            .filter(|expected| expected.1 > 0)
            .collect();
        expected.sort_by(|a, b| (b.1, &a.0).cmp(&(a.1, &b.0)));
        assert_eq!(matches(&mut client, &tokens), expected, "{tokens:?}");
    }
    assert!(learnt(&fixture.fleet).learnt() > 0);
}
