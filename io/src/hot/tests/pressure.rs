//! Time, and too little room. Every number is worked out by hand from the half-life of 300 s.
use super::*;

#[test]
fn counts_decay_by_half_in_five_minutes() {
    let mut trie = Trie::new(64);
    let prefix = keys(1..=2);
    add(&mut trie, START, 4, &prefix);
    let asked = |trie: &Trie, at| {
        let picture = picture(trie, seconds(at), 9);
        assert_eq!(picture.contexts[0].asked, picture.lookups);
        pieces(&picture)
    };
    assert_eq!(asked(&trie, 0), [(0, 2, 4_000)]);
    assert_eq!(asked(&trie, 300), [(0, 2, 2_000)]);
    // 4 / sqrt(2)
    assert_eq!(asked(&trie, 150), [(0, 2, 2_828)]);
    add(&mut trie, seconds(600), 1, &prefix);
    assert_eq!(asked(&trie, 600), [(0, 2, 2_000)]);
    assert_eq!(asked(&trie, 900), [(0, 2, 1_000)]);
}

#[test]
fn days_do_not_make_counts_wrong() {
    let mut trie = Trie::new(64);
    let (old, new) = (keys([1]), keys([2]));
    add(&mut trie, START, 1_000, &old);
    // 511.5 half-lives later, when weights are nearly as large as they get; and after they were brought down.
    for at in [153_450, 153_750] {
        add(&mut trie, seconds(at), 8, &new);
        check(&trie);
    }
    let shown = picture(&trie, seconds(153_750), 9);
    assert_eq!(pieces(&shown), [(0, 1, 12_000)]);
    assert!(trie.nodes.iter().all(|node| node.asked < 1e9));
    // Thousands of days later.
    let far = seconds(400_000_000);
    add(&mut trie, far, 3, &new);
    assert_eq!(pieces(&picture(&trie, far, 9)), [(0, 1, 3_000)]);
}

/// One lookup counts 1/64 after six half-lives.
#[test]
fn what_is_not_asked_for_is_forgotten_in_half_an_hour() {
    let mut trie = Trie::new(64);
    add(&mut trie, START, 1, &keys(1..=40));
    let other = keys([7]);
    add(&mut trie, seconds(1_799), 1, &other);
    assert_eq!(live(&trie).count(), 4);
    for _ in 0..4 {
        add(&mut trie, seconds(1_801), 1, &other);
        check(&trie);
    }
    assert_eq!((live(&trie).count(), trie.forgotten), (1, 0));
    let shown = picture(&trie, seconds(1_801), 9);
    assert!(shown.exact, "what was negligible is not missed");
    assert_eq!(shown.contexts[0].nodes[0].last_ms, 1_801_000);
}

/// Prompts that come once each, 16 nodes at a time, and one that comes again and again.
#[test]
fn a_hot_prefix_stays_where_cold_ones_come_and_go() {
    let mut trie = Trie::new(256);
    let hot = keys(1..=48);
    for n in 1..=500 {
        add(&mut trie, START, 1, &hot);
        let cold = keys((0..256).map(|block| n << 32 | block));
        add(&mut trie, START, 1, &cold);
        check(&trie);
    }
    let shown = picture(&trie, START, 1);
    assert_eq!(pieces(&shown), [(0, 48, 500_000)]);
    assert!(!shown.exact && shown.forgotten > 5_000, "{shown:?}");
    assert_eq!(shown.forgotten, trie.forgotten);
    // At the end there is room for all that comes.
    let full = trie.full;
    add(&mut trie, START, 1, &keys(1_000..1_256));
    assert_eq!(trie.full, full);
    assert!(full < 100, "{full}");
    // Half an hour later the cold ones are gone, and what is negligible is little again.
    for _ in 0..400 {
        add(&mut trie, seconds(9_000), 1, &hot);
    }
    assert_eq!((live(&trie).count(), trie.least), (3, 1.0 / 64.0));
    // Twenty half-lives after the last one was forgotten.
    assert!(!picture(&trie, seconds(5_990), 1).exact);
    assert!(picture(&trie, seconds(6_010), 1).exact);
}

#[test]
fn what_has_no_room_is_left_out_from_there_on() {
    let mut trie = Trie::new(4);
    add(&mut trie, START, 5, &keys(1..=64));
    add(&mut trie, START, 2, &keys(1..=33));
    // The third node cannot be split, so only the first two count.
    let expected = [(0, 32, 7_000), (32, 64, 5_000)];
    let shown = picture(&trie, START, 9);
    assert_eq!(pieces(&shown), expected);
    assert_eq!((shown.full, shown.exact, shown.lookups), (2, false, 7_000));
}

#[test]
fn samples_that_find_the_trie_in_use_are_counted() {
    let hot = Hot::new();
    let (prefix, held) = (keys(1..=3), [Held::default(); 3]);
    let sample = |weight| Sample {
        context: context(16),
        weight,
        again: false,
        keys: &prefix,
        held: &held,
    };
    hot.add(hot.now(), &sample(1));
    assert!(hot.picture(&[context(16)], 9).exact);
    let reading = hot.trie.lock().unwrap();
    hot.add(hot.now(), &sample(3));
    drop(reading);
    let shown = hot.picture(&[context(16)], 9);
    assert_eq!((shown.busy, shown.exact), (3, false));
    assert!(shown.lookups <= 1_000, "{shown:?}");
}

/// Also while nodes split, are forgotten, and are taken again.
#[test]
fn nothing_is_allocated() {
    let mut trie = Trie::new(128);
    let prompts: Vec<_> = (0..200)
        .map(|n| keys((0..40).map(|block| if block < n % 40 { block } else { n << 8 })))
        .collect();
    let held = [Held::default(); 40];
    let counted = allocation_counter::measure(|| {
        for prompt in prompts.iter().chain(&prompts) {
            let sample = Sample {
                context: context(16),
                weight: 1,
                again: false,
                keys: prompt,
                held: &held,
            };
            trie.add(START, &sample);
        }
    });
    assert_eq!(counted.count_total, 0);
    assert!(trie.forgotten > 0);
    check(&trie);
}
