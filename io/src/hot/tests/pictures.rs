//! What is shown of a trie. The keys were made with the Python package `xxhash` 4 by the text of [`HotNode::key`].
use super::*;

const FR: ContextDigest = ContextDigest(0xd62f_35fd_97bc_beb8);

fn asked(trie: &mut Trie, context: ContextDigest, weight: u32, prefix: &[BlockKey], held: &[u32]) {
    let held: Vec<_> = held
        .iter()
        .map(|&n| Held {
            pods: n,
            workers: 2 * n,
        })
        .collect();
    let sample = Sample {
        context,
        weight,
        again: false,
        keys: prefix,
        held: &held,
    };
    trie.add(seconds(2), &sample);
}

fn shown(trie: &Trie, contexts: &[ContextDigest], limit: usize) -> Picture {
    let mut copy = Copied::with_room(0);
    copy.take(trie);
    copy.picture(seconds(2), contexts, limit)
}

#[test]
fn contexts_are_told_apart_by_all_their_names() {
    assert_eq!(context(16).get(), 0x11c1_8269_1539_efe3);
    assert_eq!(ContextDigest::of("m", "fr", 32), FR);
}

/// 24 blocks on two pods up to the 20th; four of them are everybody's, and another prompt goes on from there.
#[test]
fn pieces_end_where_counts_or_holders_change() {
    let mut trie = Trie::new(64);
    let held: Vec<_> = (1..=24).map(|end| if end <= 20 { 2 } else { 1 }).collect();
    asked(&mut trie, context(16), 3, &keys(1..=24), &held);
    let other = keys([1, 2, 3, 4, 90, 91]);
    asked(&mut trie, context(16), 2, &other, &[2, 2, 2, 2, 1, 1]);
    let picture = shown(&trie, &[context(16)], 200);
    let node = |id, parent, key, (from, to), asked, pods| HotNode {
        id,
        parent,
        key,
        from,
        to,
        asked,
        held: Held {
            pods,
            workers: 2 * pods,
        },
        last_ms: 2_000,
    };
    let nodes = &picture.contexts[0].nodes;
    // A page ends at block 16, but nothing changes there.
    let expected = [
        node(1, None, 0xc2d0_4209_ff02_c0ee, (0, 4), 5_000, 2),
        node(2, Some(1), 0x8e96_9f9f_f391_faad, (4, 20), 3_000, 2),
        node(3, Some(2), 0xceea_18ab_f7b0_e04c, (20, 24), 3_000, 1),
        node(4, Some(1), nodes[3].key, (4, 6), 2_000, 1),
    ];
    assert_eq!(nodes[..], expected);
    assert_eq!((picture.contexts[0].asked, picture.lookups), (5_000, 5_000));
    assert!(!picture.exact, "the weights say that they are estimates");
}

/// However prefixes came, the same one has the same key.
#[test]
fn keys_do_not_depend_on_what_else_was_asked_for() {
    let mut trie = Trie::new(64);
    for end in [3, 9, 10, 20, 24] {
        asked(
            &mut trie,
            context(16),
            1,
            &keys(1..=end),
            &vec![1; end as usize],
        );
    }
    let picture = shown(&trie, &[context(16)], 200);
    let found: Vec<_> = (picture.contexts[0].nodes.iter())
        .map(|node| (node.to, node.key))
        .collect();
    let ends: Vec<_> = found.iter().map(|(to, _)| *to).collect();
    assert_eq!(ends, [3, 9, 10, 20, 24]);
    assert_eq!(found[3].1, 0x8e96_9f9f_f391_faad);
    assert_eq!(found[4].1, 0xceea_18ab_f7b0_e04c);
}

#[test]
fn the_limit_keeps_the_most_asked_of_all_contexts_with_what_is_above_them() {
    let mut trie = Trie::new(64);
    let plain = |trie: &mut Trie, context, times, prefix: &[u64]| {
        let held = vec![1; prefix.len()];
        asked(trie, context, times, &keys(prefix.iter().copied()), &held);
    };
    plain(&mut trie, context(16), 4, &[1, 2, 3]);
    plain(&mut trie, context(16), 3, &[1, 2, 5]);
    plain(&mut trie, context(16), 2, &[9]);
    plain(&mut trie, FR, 5, &[1]);
    plain(&mut trie, FR, 1, &[1, 2]);
    let contexts = [FR, context(4), context(16)];
    let brief = |limit| {
        let picture = shown(&trie, &contexts, limit);
        let of = |c: &HotContext| {
            let nodes = c.nodes.iter().map(|n| (n.id, n.parent, n.asked / 1_000));
            (c.context, c.asked / 1_000, nodes.collect::<Vec<_>>())
        };
        picture.contexts.iter().map(of).collect::<Vec<_>>()
    };
    let plain = vec![(1, None, 7), (3, Some(1), 4), (4, Some(1), 3), (5, None, 2)];
    let fr = vec![(2, None, 6), (6, Some(2), 1)];
    assert_eq!(brief(200), [(2, 9, plain.clone()), (0, 6, fr.clone())]);
    assert_eq!(
        brief(3),
        [(2, 9, plain[..2].to_vec()), (0, 6, fr[..1].to_vec())]
    );
    assert_eq!(brief(1), [(2, 9, plain[..1].to_vec()), (0, 6, vec![])]);
    // A context that nobody has any more is not shown.
    assert_eq!(shown(&trie, &[FR], 200).contexts.len(), 1);
    assert!(shown(&trie, &[], 200).contexts.is_empty());
}

/// A third of each of three, which rounding may not make more than the whole.
#[test]
fn parents_are_asked_for_as_often_as_their_children_together() {
    let mut trie = Trie::new(64);
    for n in 2..=12 {
        asked(&mut trie, context(16), 1, &keys([1, n]), &[1, 1]);
    }
    let mut copy = Copied::with_room(0);
    copy.take(&trie);
    for n in 0..500 {
        let picture = copy.picture(Duration::from_millis(2_000 + 1_703 * n), &[context(16)], 99);
        let nodes = &picture.contexts[0].nodes;
        let below: u64 = nodes[1..].iter().map(|node| node.asked).sum();
        assert!(nodes.len() == 12 && below <= nodes[0].asked, "{n}");
    }
}
