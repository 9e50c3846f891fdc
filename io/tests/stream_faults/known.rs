//! What the simulator has found and the node does not do yet, one test each.
use kvroute::fake::cache::{CacheEvent, Link};
use kvroute::fake::encode::{Dialect, Encoder};
use kvroute::fake::prompts::Scope;
use kvroute::status::{SkipReason, Trust, WorkerStatus};
use kvroute::stream::follow::{Acted, Follower, Timing};
use kvroute::wire::Scratch;
use kvroute_engine::types::Tier;
use kvroute_engine::{Index, IndexConfig};
use std::sync::Arc;
use std::time::Instant;

/// The batch that stores one block.
fn batch(n: u32) -> Vec<u8> {
    let encoder = Encoder {
        dialect: Dialect::V0_32,
        bytes: false,
        unknown_fields: false,
        block_size: 2,
        rank: 0,
    };
    let link = Link {
        parent: None,
        hash: u64::from(n) + 1,
        tokens: [n, n].into(),
        scope: Scope::default(),
    };
    let stored = CacheEvent::Stored {
        tier: Tier::Gpu,
        links: vec![Arc::new(link)],
        placeholder: false,
    };
    encoder.batch(f64::from(n), &[stored])
}

/// An engine's second answer had the wrong number of frames. It was counted and left out, the end marker came, and
/// the worker was exact without the batch: a removal in it is credited for as long as the engine is
/// idle, or for ever if the next live batch follows by its number.
#[test]
fn an_answer_that_cannot_be_read_is_not_forgotten() {
    let index = Index::new(IndexConfig::default());
    let (at, mut scratch) = (index.participant(), Scratch::default());
    let writer = index.writer("m").unwrap();
    let status = Arc::<WorkerStatus>::default();
    let timing = Timing::default();
    let mut follower = Follower::new(writer, status, "pod#0".to_owned(), true, timing);
    let now = Instant::now();
    follower.connecting(now);
    follower.connected(now);
    assert_eq!(follower.act(now, &at, &mut scratch), Acted::Ask { from: 0 });
    follower.asked(now);
    follower.answered(now, 0, batch(0));
    assert_eq!(follower.act(now, &at, &mut scratch), Acted::Idle);
    // Batch 1.
    follower.answered_badly(SkipReason::Framing);
    assert_eq!(follower.act(now, &at, &mut scratch), Acted::Idle);
    assert_ne!(follower.trust(), Trust::Exact);
}

/// A replay failed, and so did the opening of the socket for the next attempt. Nothing was due any more: an idle
/// engine's worker would have been stale for ever.
#[test]
fn an_attempt_that_cannot_be_made_is_followed_by_another() {
    let index = Index::new(IndexConfig::default());
    let (at, mut scratch) = (index.participant(), Scratch::default());
    let writer = index.writer("m").unwrap();
    let timing = Timing::default();
    let mut follower: Follower<Vec<u8>> =
        Follower::new(writer, Arc::default(), "pod#0".to_owned(), true, timing);
    let mut now = Instant::now();
    follower.connecting(now);
    follower.connected(now);
    let mut attempts = 0;
    while attempts < 20 {
        match follower.act(now, &at, &mut scratch) {
            Acted::Ask { from } => {
                assert_eq!(from, 0);
                attempts += 1;
                follower.replay_failed();
            }
            Acted::Idle => {
                let due = follower.due().expect("another attempt");
                assert!(due > now, "what stays due keeps a thread busy");
                now = due;
                assert!(follower.check_time(now).is_none());
            }
            other => panic!("{other:?}"),
        }
    }
}
