//! Decoding allocates nothing once its scratch has grown to the largest event.
mod wire_support;

use kvroute::wire::{Batch, Scratch};
use wire_support::golden;

fn events(payload: &[u8], scratch: &mut Scratch) -> usize {
    let mut batch = Batch::open(payload).expect("a batch");
    let mut events = 0;
    while let Some(step) = batch.next(scratch).expect("sound bytes") {
        std::hint::black_box(step);
        events += 1;
    }
    events
}

#[test]
fn decoding_with_a_warm_scratch_does_not_allocate() {
    let payloads: Vec<_> = golden().into_iter().map(|golden| golden.payload).collect();
    let mut scratch = Scratch::default();
    let run = |scratch: &mut Scratch| -> usize {
        payloads
            .iter()
            .map(|payload| events(payload, scratch))
            .sum()
    };
    let cold = allocation_counter::measure(|| assert!(run(&mut scratch) > 200));
    assert!(cold.count_total > 0, "the counter does not count");
    let warm = allocation_counter::measure(|| assert!(run(&mut scratch) > 200));
    assert_eq!(warm.count_total, 0);
}

#[test]
fn the_scratch_stays_within_its_bound() {
    let longest = golden()
        .into_iter()
        .map(|golden| golden.payload)
        .max_by_key(Vec::len);
    let longest = longest.expect("a payload");
    let mut scratch = Scratch::default();
    events(&longest, &mut scratch);
    assert!(scratch.heap_bytes() > 0);
    assert!(scratch.heap_bytes() <= 3 * 8 * longest.len());
}
