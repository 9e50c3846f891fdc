//! Predictions: hand-worked examples, and random histories against a literal model.
#[path = "predict/model.rs"]
mod model;

use kvroute_engine::hash::{ExtraDigest, ExtraHasher, block_key};
use kvroute_engine::limits::{BLOCK_SIZE_MAX, CONTEXTS_MAX, PREDICTED_STEP};
use kvroute_engine::types::{BlockKey, EngineHash, Tier, WorkerId};
use kvroute_engine::{
    Blocks, Budget, ExpireReport, Index, IndexConfig, Matches, Participant, PredictConfig,
    Predictions, Prompt, RecordReport, Store, StoreError,
};
use model::{Model, Path};
use proptest::prelude::*;
use std::sync::Arc;

const TTL: u64 = 10;

/// (adapter, block size): what prefixes do not match across.
const CONTEXTS: [(Option<&str>, u32); 3] = [(None, 1), (Some("adapter"), 1), (None, 2)];

/// A request by content.
#[derive(Clone, Debug)]
struct Request {
    context: usize,
    salted: bool,
    tokens: Vec<u32>,
    /// Recorded by the keys of its blocks, which come to the same.
    by_keys: bool,
}

impl Request {
    fn plain(tokens: &[u32]) -> Self {
        Self {
            context: 0,
            salted: false,
            tokens: tokens.to_vec(),
            by_keys: false,
        }
    }

    fn block_size(&self) -> usize {
        CONTEXTS[self.context].1 as usize
    }

    /// The salt on the first block; nothing at all if there is none.
    fn extra(&self) -> Vec<ExtraDigest> {
        let blocks = self.tokens.len() / self.block_size();
        let mut extra = vec![ExtraDigest::NONE; if self.salted { blocks } else { 0 }];
        if let Some(first) = extra.first_mut() {
            *first = salt();
        }
        extra
    }

    fn path(&self) -> Vec<BlockKey> {
        let extra = self.extra();
        let blocks = self.tokens.chunks_exact(self.block_size()).enumerate();
        let key = |(at, tokens): (usize, &[u32])| {
            block_key(1337, tokens, extra.get(at).copied().unwrap_or_default())
        };
        blocks.map(key).collect()
    }
}

fn salt() -> ExtraDigest {
    let mut hasher = ExtraHasher::new();
    hasher.text("tenant");
    hasher.finish()
}

/// One worker's predictions in an index of their own.
struct Bench {
    index: Arc<Index>,
    at: Participant,
    predictions: Predictions,
}

impl Bench {
    fn new(max_blocks: usize) -> Self {
        Self::within(max_blocks, Budget::default())
    }

    fn within(max_blocks: usize, budget: Budget) -> Self {
        let index = Index::new(IndexConfig {
            budget,
            ..IndexConfig::default()
        });
        let config = PredictConfig {
            ttl_ms: TTL,
            max_blocks,
        };
        let writer = index.writer("m").unwrap();
        Self {
            at: index.participant(),
            predictions: Predictions::new(writer, config),
            index,
        }
    }

    fn record(&mut self, request: &Request, now: u64) -> RecordReport {
        let (adapter, block_size) = CONTEXTS[request.context];
        let (extra, keys) = (request.extra(), request.path());
        let blocks = match request.by_keys {
            true => Blocks::Keys(&keys),
            false => Blocks::Tokens {
                tokens: bytemuck::cast_slice(&request.tokens),
                extra: &extra,
            },
        };
        let prompt = Prompt {
            adapter,
            block_size,
            blocks,
        };
        self.predictions.record(&self.at, &prompt, now).unwrap()
    }

    fn expire(&mut self, now: u64) -> usize {
        let report = self.predictions.expire(&self.at, now, usize::MAX);
        assert!(!report.more);
        report.expired
    }

    /// Leading blocks of the path that a worker is credited with.
    fn score_of(&self, worker: WorkerId, context: usize, mut path: &[BlockKey]) -> usize {
        let (adapter, block_size) = CONTEXTS[context];
        let mut matches = Matches::new();
        let pinned = self.at.pin();
        let mut views = pinned.contexts("m", adapter);
        let Some(view) = views.find(|view| view.block_size() == block_size) else {
            return 0;
        };
        view.lookup(&mut path, &mut matches);
        let hit = matches.hits().iter().find(|hit| hit.worker == worker);
        hit.map_or(0, |hit| hit.blocks[Tier::Gpu.index()] as usize)
    }

    fn score(&self, request: &Request) -> usize {
        self.score_of(self.predictions.id(), request.context, &request.path())
    }

    fn scores(&self, prompts: &[&[u32]]) -> Vec<usize> {
        let score = |tokens: &&[u32]| self.score(&Request::plain(tokens));
        prompts.iter().map(score).collect()
    }
}

fn recorded(recorded: usize) -> RecordReport {
    RecordReport {
        recorded,
        ..RecordReport::default()
    }
}

#[test]
fn a_prompt_is_held_until_its_deadline() {
    let mut bench = Bench::new(100);
    assert_eq!(bench.predictions.next_deadline(), None);
    let request = Request::plain(&[1, 2, 3]);
    assert_eq!(bench.record(&request, 5), recorded(3));
    assert_eq!(bench.predictions.next_deadline(), Some(15));
    assert_eq!(bench.expire(14), 0);
    assert_eq!(bench.score(&request), 3);
    assert_eq!(bench.expire(15), 3);
    assert_eq!(bench.score(&request), 0);
    assert_eq!(bench.predictions.blocks(), 0);
    assert_eq!(bench.predictions.next_deadline(), None);
}

#[test]
fn a_shared_prefix_lives_as_long_as_its_last_record() {
    let mut bench = Bench::new(100);
    bench.record(&Request::plain(&[1, 2, 3, 4]), 0);
    let report = bench.record(&Request::plain(&[1, 2, 9]), 6);
    let expected = RecordReport {
        recorded: 1,
        renewed: 2,
        ..RecordReport::default()
    };
    assert_eq!(report, expected);
    assert_eq!(bench.expire(10), 2, "3 and 4");
    assert_eq!(bench.scores(&[&[1, 2, 3, 4], &[1, 2, 9]]), [2, 3]);
    assert_eq!(bench.predictions.next_deadline(), Some(16));
    assert_eq!(bench.expire(16), 3);
}

#[test]
fn a_renewed_tip_keeps_its_later_deadline() {
    let mut bench = Bench::new(100);
    bench.record(&Request::plain(&[1, 2]), 0);
    bench.record(&Request::plain(&[1, 2]), 8);
    assert_eq!(bench.predictions.next_deadline(), Some(18));
    assert_eq!(bench.expire(17), 0);
    assert_eq!(bench.expire(18), 2);
}

#[test]
fn a_time_that_goes_backwards_lowers_no_deadline() {
    let mut bench = Bench::new(100);
    bench.record(&Request::plain(&[1, 2]), 1_000);
    // What the earlier time adds has the earlier deadline, and leaves first.
    bench.record(&Request::plain(&[1, 2, 3]), 3);
    assert_eq!(bench.predictions.next_deadline(), Some(13));
    assert_eq!(bench.expire(12), 0);
    assert_eq!(bench.expire(13), 1);
    assert_eq!(bench.scores(&[&[1, 2, 3]]), [2]);
    assert_eq!(bench.expire(0), 0);
    assert_eq!(bench.expire(1_010), 2);
}

#[test]
fn the_end_of_time_is_a_deadline_too() {
    let mut bench = Bench::new(100);
    bench.record(&Request::plain(&[1]), u64::MAX - 1);
    assert_eq!(bench.predictions.next_deadline(), Some(u64::MAX));
    assert_eq!(bench.expire(u64::MAX - 1), 0);
    assert_eq!(bench.expire(u64::MAX), 1);
}

#[test]
fn expiry_goes_in_slices_from_the_tail() {
    let mut bench = Bench::new(100);
    bench.record(&Request::plain(&[1, 2, 3, 4, 5]), 0);
    let slice = |bench: &mut Bench| bench.predictions.expire(&bench.at, 10, 2);
    let report = |expired, more| ExpireReport { expired, more };
    let none = bench.predictions.expire(&bench.at, 10, 0);
    assert_eq!(none, report(0, true));
    assert_eq!(slice(&mut bench), report(2, true));
    assert_eq!(bench.scores(&[&[1, 2, 3, 4, 5]]), [3]);
    assert_eq!(slice(&mut bench), report(2, true));
    assert_eq!(slice(&mut bench), report(1, false));
    assert_eq!(slice(&mut bench), report(0, false));
}

#[test]
fn when_full_the_earliest_deadlines_leave_and_the_deepest_first() {
    let mut bench = Bench::new(6);
    bench.record(&Request::plain(&[1, 2]), 0);
    bench.record(&Request::plain(&[3, 4, 5]), 1);
    let report = bench.record(&Request::plain(&[6, 7, 8]), 2);
    let expected = RecordReport {
        recorded: 3,
        evicted: 2,
        ..RecordReport::default()
    };
    assert_eq!(report, expected);
    assert_eq!(bench.scores(&[&[1, 2], &[3, 4, 5], &[6, 7, 8]]), [0, 3, 3]);
    bench.record(&Request::plain(&[9]), 2);
    assert_eq!(bench.scores(&[&[3, 4, 5], &[6, 7, 8], &[9]]), [2, 3, 1]);
}

#[test]
fn a_prompt_does_not_push_out_what_has_later_deadlines() {
    let mut bench = Bench::new(4);
    bench.record(&Request::plain(&[1, 2, 3]), 50);
    let report = bench.record(&Request::plain(&[1, 7, 8]), 0);
    let expected = RecordReport {
        recorded: 1,
        renewed: 1,
        dropped: 1,
        evicted: 0,
    };
    assert_eq!(report, expected);
    assert_eq!(bench.scores(&[&[1, 2, 3], &[1, 7, 8]]), [3, 2]);
}

#[test]
fn a_prompt_longer_than_the_bound_keeps_its_beginning() {
    let long: Vec<u32> = (0..5 * PREDICTED_STEP as u32 / 2).collect();
    let max = 2 * PREDICTED_STEP + 3;
    let mut bench = Bench::new(max);
    bench.record(&Request::plain(&[1_000, 1_001]), 0);
    let report = bench.record(&Request::plain(&long), 1);
    let expected = RecordReport {
        recorded: max,
        dropped: long.len() - max,
        evicted: 2,
        renewed: 0,
    };
    assert_eq!(report, expected);
    assert_eq!(bench.scores(&[&long]), [max]);
    let again = bench.record(&Request::plain(&long), 5);
    assert_eq!((again.renewed, again.dropped), (max, long.len() - max));
    assert_eq!(bench.expire(14), 0);
    assert_eq!(bench.expire(15), max);
}

#[test]
fn no_room_at_all_is_no_fault() {
    let mut bench = Bench::new(0);
    let report = bench.record(&Request::plain(&[1, 2]), 0);
    assert_eq!((report.recorded, report.dropped), (0, 2));
    assert_eq!(bench.scores(&[&[1, 2]]), [0]);
    assert_eq!(bench.record(&Request::plain(&[]), 0), recorded(0));
}

/// What the writer forgets for want of bytes is not known here, so all goes rather than some be wrong.
#[test]
fn without_bytes_all_predictions_go() {
    let budget = Budget {
        bytes: Some(40_000),
        ..Budget::default()
    };
    let mut bench = Bench::within(100_000, budget);
    let mut all = 0;
    for n in 0.. {
        let request = Request::plain(&vec![n; 200]);
        let report = bench.record(&request, u64::from(n));
        if report.recorded == 200 {
            all += 200;
            assert_eq!(bench.score(&request), 200);
            continue;
        }
        let expected = RecordReport {
            dropped: 200,
            evicted: all,
            ..RecordReport::default()
        };
        assert_eq!((report, bench.score(&request)), (expected, 0));
        break;
    }
    assert!(all > 0);
    assert_eq!(bench.predictions.blocks(), 0);
    assert_eq!(bench.predictions.next_deadline(), None);
    assert_eq!(bench.record(&Request::plain(&[1, 2]), 0), recorded(2));
}

#[test]
fn contexts_and_extra_keys_keep_prompts_apart() {
    let mut bench = Bench::new(100);
    let tokens = vec![1, 2, 3, 4, 5];
    let request = |context, salted| Request {
        context,
        salted,
        tokens: tokens.clone(),
        by_keys: false,
    };
    assert_eq!(bench.record(&request(0, false), 0), recorded(5));
    assert_eq!(bench.record(&request(1, false), 1), recorded(5));
    assert_eq!(bench.record(&request(2, false), 2), recorded(2));
    assert_eq!(bench.score(&request(0, true)), 0);
    assert_eq!(bench.record(&request(0, true), 3), recorded(5));
    assert_eq!(bench.expire(10), 5);
    let scores = [(0, false), (1, false), (2, false), (0, true)]
        .map(|(context, salted)| bench.score(&request(context, salted)));
    assert_eq!(scores, [0, 5, 2, 5]);
}

#[test]
fn exact_coverage_and_predictions_never_mix() {
    let mut bench = Bench::new(100);
    let mut exact = bench.index.writer("m").unwrap();
    assert_ne!(exact.id(), bench.predictions.id());
    let request = Request::plain(&[1, 2, 3]);
    bench.record(&request, 0);
    let event = Store {
        adapter: None,
        block_size: 1,
        tier: Tier::Gpu,
        parent: None,
        hashes: &[EngineHash(1), EngineHash(2)],
        tokens: &request.tokens[..2],
        extra: &[],
        says_extra: true,
    };
    exact.store(&bench.at, &event).unwrap();
    let exact_score = |bench: &Bench| bench.score_of(exact.id(), 0, &request.path());
    assert_eq!((bench.score(&request), exact_score(&bench)), (3, 2));
    bench.expire(10);
    assert_eq!((bench.score(&request), exact_score(&bench)), (0, 2));
}

#[test]
fn clearing_forgets_all_and_nothing_comes_back() {
    let mut bench = Bench::new(100);
    bench.record(&Request::plain(&[1, 2]), 0);
    bench.predictions.clear(&bench.at);
    assert_eq!(bench.predictions.blocks(), 0);
    assert_eq!(bench.predictions.next_deadline(), None);
    assert_eq!(bench.scores(&[&[1, 2]]), [0]);
    assert_eq!(bench.record(&Request::plain(&[1]), 0), recorded(1));
    assert_eq!(bench.scores(&[&[1, 2]]), [1]);
}

#[test]
fn a_prompt_that_does_not_fit_together_is_refused() {
    let mut bench = Bench::new(100);
    let prompt = |block_size, extra| Prompt {
        adapter: None,
        block_size,
        blocks: Blocks::Tokens {
            tokens: bytemuck::cast_slice(&[1_u32, 2, 3]),
            extra,
        },
    };
    let mut refused = |prompt| bench.predictions.record(&bench.at, &prompt, 0).unwrap_err();
    assert_eq!(refused(prompt(0, &[])), StoreError::BlockSize(0));
    let above = BLOCK_SIZE_MAX + 1;
    assert_eq!(refused(prompt(above, &[])), StoreError::BlockSize(above));
    let two = [ExtraDigest::NONE; 2];
    let error = StoreError::ExtraCount {
        extra: 2,
        hashes: 1,
    };
    assert_eq!(refused(prompt(2, &two)), error);
    assert_eq!(bench.predictions.blocks(), 0);
}

#[test]
fn a_context_without_room_pushes_nothing_out() {
    let mut bench = Bench::new(2);
    bench.record(&Request::plain(&[1, 2]), 0);
    let mut other = bench.index.writer("other").unwrap();
    for n in 1..CONTEXTS_MAX {
        let event = Store {
            adapter: Some(&n.to_string()),
            block_size: 1,
            tier: Tier::Gpu,
            parent: None,
            hashes: &[EngineHash(n as u64)],
            tokens: &[1],
            extra: &[],
            says_extra: true,
        };
        other.store(&bench.at, &event).unwrap();
    }
    let prompt = Prompt {
        adapter: Some("one too many"),
        block_size: 1,
        blocks: Blocks::Keys(&[BlockKey::new(1), BlockKey::new(2)]),
    };
    let refused = bench.predictions.record(&bench.at, &prompt, 5);
    assert!(matches!(refused, Err(StoreError::TooManyContexts(_))));
    assert_eq!(bench.predictions.blocks(), 2);
    assert_eq!(bench.scores(&[&[1, 2]]), [2]);
}

/// One step of a history; times are what is added to the last time.
#[derive(Clone, Debug)]
enum Step {
    Record { request: Request, later: i64 },
    Expire { later: i64, max_blocks: usize },
    Clear,
}

/// Predictions and the model side by side.
struct Pair {
    bench: Bench,
    model: Model,
    max_blocks: usize,
    now: u64,
}

impl Pair {
    fn apply(&mut self, step: &Step) {
        match step {
            Step::Record { request, later } => {
                self.now = self.now.saturating_add_signed(*later);
                self.record(request);
            }
            Step::Expire { later, max_blocks } => {
                self.now = self.now.saturating_add_signed(*later);
                self.expire(*max_blocks);
            }
            Step::Clear => {
                self.bench.predictions.clear(&self.bench.at);
                self.model.records.clear();
            }
        }
    }

    fn record(&mut self, request: &Request) {
        let (context, path) = (request.context, request.path());
        let renewed = self.model.score(context, &path);
        let record = (context, path.clone(), self.now + TTL);
        self.model.records.push(record);
        let too_many = self.model.held().len().saturating_sub(self.max_blocks);
        let report = self.bench.record(request, self.now);
        let gone = self.remove_first(too_many);
        let own = |(c, p): &&(usize, Vec<BlockKey>)| *c == context && path.starts_with(p);
        let dropped = gone.iter().filter(own).count();
        let expected = RecordReport {
            recorded: path.len() - renewed - dropped,
            renewed,
            dropped,
            evicted: gone.len() - dropped,
        };
        assert_eq!(report, expected, "{request:?} at {}", self.now);
    }

    fn expire(&mut self, max_blocks: usize) {
        let (at, now) = (&self.bench.at, self.now);
        let report = self.bench.predictions.expire(at, now, max_blocks);
        let due = self.model.due(now);
        let expired = due.min(max_blocks);
        let more = expired < due;
        assert_eq!(report, ExpireReport { expired, more }, "at {now}");
        self.remove_first(expired);
    }

    fn remove_first(&mut self, count: usize) -> Vec<(usize, Vec<BlockKey>)> {
        let (bench, id) = (&self.bench, self.bench.predictions.id());
        let is_there = |(context, path): Path<'_>| bench.score_of(id, context, path) == path.len();
        self.model.remove_first(count, is_there)
    }

    /// Compares all that can be asked about the whole, and the answers to some requests.
    fn check<'r>(&self, requests: impl Iterator<Item = &'r Request>) {
        let held = self.model.held();
        let predictions = &self.bench.predictions;
        assert_eq!(predictions.blocks(), held.len());
        assert!(predictions.blocks() <= self.max_blocks);
        assert_eq!(predictions.next_deadline(), held.values().min().copied());
        for request in requests {
            let expected = self.model.score(request.context, &request.path());
            assert_eq!(self.bench.score(request), expected, "{request:?}");
        }
    }
}

fn request(stem: usize) -> impl Strategy<Value = Request> {
    let context = prop_oneof![4 => Just(0_usize), 1 => Just(1), 1 => Just(2)];
    let tail = prop::collection::vec(0..2_u32, 0..9);
    let own_way = prop::bool::weighted(0.2);
    let salted = prop::bool::weighted(0.15);
    let by_keys = prop::bool::weighted(0.3);
    let all = (context, salted, by_keys, own_way, tail);
    all.prop_map(move |(context, salted, by_keys, own_way, tail)| {
        let mut tokens = vec![7; if own_way { 0 } else { stem }];
        tokens.extend(tail);
        Request {
            context,
            salted,
            tokens,
            by_keys,
        }
    })
}

fn step(stem: usize) -> impl Strategy<Value = Step> {
    let later = prop_oneof![4 => Just(0), 8 => 1..4_i64, 1 => 8..14_i64, 2 => -9..0_i64];
    let max_blocks = prop_oneof![2 => Just(usize::MAX), 1 => 0..6_usize];
    prop_oneof![
        12 => (request(stem), later.clone())
            .prop_map(|(request, later)| Step::Record { request, later }),
        6 => (later, max_blocks)
            .prop_map(|(later, max_blocks)| Step::Expire { later, max_blocks }),
        1 => Just(Step::Clear),
    ]
}

/// A bound and a history. In some, all prompts begin with a stem that ends near the border of a step.
fn history() -> impl Strategy<Value = (usize, Vec<(Step, Request)>)> {
    let stem = prop_oneof![6 => Just(0), 1 => PREDICTED_STEP - 5..PREDICTED_STEP + 2];
    stem.prop_flat_map(|stem| {
        let bound = prop_oneof![4 => 0..12_usize, 2 => 12..40_usize, 1 => Just(1_000)];
        let steps = prop::collection::vec((step(stem), request(stem)), 1..40);
        (bound.prop_map(move |bound| bound + stem), steps)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn every_prediction_equals_the_model((max_blocks, history) in history()) {
        let mut pair = Pair {
            bench: Bench::new(max_blocks),
            model: Model::default(),
            max_blocks,
            now: 20,
        };
        for (done, (step, asked)) in history.iter().enumerate() {
            pair.apply(step);
            let recorded = history[..=done].iter().filter_map(|(step, _)| match step {
                Step::Record { request, .. } => Some(request),
                _ => None,
            });
            pair.check(recorded.chain([asked]));
        }
        pair.now = u64::MAX - TTL;
        pair.expire(usize::MAX);
        pair.check(history.iter().map(|(_, asked)| asked));
    }
}
