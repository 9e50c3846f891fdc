//! The decoder on any bytes: no panic, no unbounded work or memory, one answer for one input.
#![no_main]

use kvroute::wire::{Batch, BatchError, Event, Scratch, Step};
use libfuzzer_sys::fuzz_target;
use std::hash::{DefaultHasher, Hash, Hasher};

/// What a run of the decoder comes to.
#[derive(Debug, PartialEq)]
struct Outcome {
    steps: usize,
    /// Over everything that the steps hold.
    digest: u64,
    end: Result<(u64, Option<i64>), BatchError>,
}

fn check(step: &Step<'_>, payload: &[u8]) {
    let Step::Event(event) = step else { return };
    // Each element of a list takes at least one byte of the payload.
    match event {
        Event::Cleared => {}
        Event::Removed(removed) => assert!(removed.hashes.len() <= payload.len()),
        Event::Stored(stored) => {
            let elements = stored.hashes.len() + stored.tokens.len() + stored.extra.len();
            assert!(elements <= payload.len());
            assert!(stored.block_size > 0 || stored.tokens.is_empty());
            assert!(stored.extra.is_empty() || stored.says_extra);
            assert!(stored.extra.is_empty() || stored.extra.iter().any(|extra| !extra.is_none()));
        }
    }
}

fn run(payload: &[u8], scratch: &mut Scratch) -> Outcome {
    let mut hasher = DefaultHasher::new();
    let mut steps = 0;
    let mut end = Batch::open(payload);
    if let Ok(batch) = &mut end {
        loop {
            match batch.next(scratch) {
                Ok(Some(step)) => {
                    check(&step, payload);
                    format!("{step:?}").hash(&mut hasher);
                    steps += 1;
                    assert!(steps <= payload.len());
                }
                Ok(None) => break,
                Err(error) => {
                    assert!(error.offset <= payload.len());
                    assert_eq!(batch.next(scratch), Err(error));
                    end = Err(error);
                    break;
                }
            }
        }
    }
    Outcome {
        steps,
        digest: hasher.finish(),
        end: end.map(|batch| (batch.timestamp().to_bits(), batch.rank())),
    }
}

fuzz_target!(|payload: &[u8]| {
    let mut scratch = Scratch::default();
    let first = run(payload, &mut scratch);
    // Lists of 8, 4 and 8 bytes an element, which grow by doubling.
    assert!(scratch.heap_bytes() <= 2 * (8 + 4 + 8) * payload.len() + 256);
    // What an earlier payload left in the scratch must not show.
    assert_eq!(first, run(payload, &mut scratch));
    // The bytes that are missing cannot be guessed.
    if let (Ok(_), Some((_, shorter))) = (&first.end, payload.split_last()) {
        assert!(run(shorter, &mut scratch).end.is_err());
    }
});
