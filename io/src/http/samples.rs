//! What of a lookup that is a sample goes to the hot prefixes: the keys as far as anybody holds them, and how many do.
use super::lookup::{Prompt, Query, Scores};
use crate::fleet::FleetView;
use crate::hot::{ContextDigest, Held, Hot, Sample, Sampler};
use crate::limits::HOT_BLOCKS_MAX;
use kvroute_engine::types::{BlockKey, Tier, WorkerId};
use kvroute_engine::{Keys, TokenKeys};
use std::sync::Arc;

/// One thread's samples. What they need is kept from one to the next: it grows with the fleet only.
#[derive(Debug)]
pub(super) struct Samples {
    hot: Arc<Hot>,
    sampler: Sampler,
    reached: Vec<Reached>,
    keys: Vec<BlockKey>,
    held: Vec<Held>,
}

/// A worker that is credited with something.
#[derive(Clone, Copy, Debug)]
struct Reached {
    /// Ranks of a pod stand side by side.
    place: u32,
    worker: WorkerId,
    block_size: u32,
    /// Leading blocks that it holds anywhere.
    blocks: u32,
}

impl Samples {
    /// Of a thread that shares `hot` with others.
    pub(super) fn new(hot: Arc<Hot>) -> Self {
        Self {
            hot,
            sampler: Sampler::default(),
            reached: Vec::new(),
            keys: Vec::with_capacity(HOT_BLOCKS_MAX),
            held: Vec::with_capacity(HOT_BLOCKS_MAX),
        }
    }

    /// Whether this lookup is a sample: then [`Self::add`] has to follow.
    #[inline]
    pub(super) fn due(&mut self) -> bool {
        self.sampler.due()
    }

    /// Adds what a lookup found to what is remembered. Of a worker in several contexts that one counts in which it holds the most.
    /// O(workers found log workers found + blocks); allocates only if more workers are found than ever before.
    pub(super) fn add(
        &mut self,
        seed: u64,
        query: &Query<'_>,
        adapter: Option<&str>,
        found: &Scores<'_>,
    ) {
        let now = self.hot.now();
        let weight = self.sampler.taken(now);
        self.reach(found);
        let view = found.view();
        let mut again = false;
        // A context each time; nearly always there is one.
        while let Some(&Reached {
            worker, block_size, ..
        }) = self.reached.first()
        {
            let model = model_of(view, worker);
            let same = |reached: &Reached| {
                reached.block_size == block_size && model_of(view, reached.worker) == model
            };
            self.tally(view, same);
            self.keys.clear();
            let depth = self.held.len();
            match query.prompt {
                Prompt::Tokens(tokens) => {
                    let extra = found.extra();
                    let mut keys = TokenKeys::of_bytes(seed, block_size, tokens, extra);
                    self.keys
                        .extend((0..depth).map_while(|block| keys.key(block)));
                }
                Prompt::Keys(keys) => self.keys.extend(keys.iter().take(depth)),
            }
            let adapter = adapter.unwrap_or_default();
            let sample = Sample {
                context: ContextDigest::of(model, adapter, block_size),
                weight,
                again,
                keys: &self.keys,
                held: &self.held,
            };
            self.hot.add(now, &sample);
            again = true;
            self.reached.retain(|reached| !same(reached));
        }
    }

    /// Who is credited with what, pod by pod.
    fn reach(&mut self, found: &Scores<'_>) {
        self.reached.clear();
        let credited = found.credited().filter_map(|found| {
            let score = found.score?;
            Some(Reached {
                place: found.place,
                worker: score.worker,
                block_size: score.block_size,
                blocks: score.blocks[Tier::Disk.index()],
            })
        });
        self.reached.extend(credited);
        self.reached.sort_unstable_by_key(|reached| reached.place);
    }

    /// Counts, block by block, how many of these hold the prompt up to there.
    fn tally(&mut self, view: &FleetView, same: impl Fn(&Reached) -> bool) {
        let of = || self.reached.iter().filter(|reached| same(reached));
        let held = &mut self.held;
        let deepest = of().map(|reached| reached.blocks as usize).max();
        let depth = deepest.unwrap_or(0).min(HOT_BLOCKS_MAX);
        held.clear();
        held.resize(depth, Held::default());
        let mut pod: Option<(&str, usize)> = None;
        for reached in of() {
            let end = (reached.blocks as usize).min(depth);
            held[end - 1].workers += 1;
            let name = pod_of(view, reached.worker);
            match &mut pod {
                Some((before, most)) if *before == name => *most = end.max(*most),
                _ => {
                    if let Some((_, most)) = pod.replace((name, end)) {
                        held[most - 1].pods += 1;
                    }
                }
            }
        }
        if let Some((_, most)) = pod {
            held[most - 1].pods += 1;
        }
        // So far each stands where it ends: it holds what is before as well.
        for at in (1..depth).rev() {
            let beyond = held[at];
            held[at - 1].pods += beyond.pods;
            held[at - 1].workers += beyond.workers;
        }
    }
}

fn model_of(view: &FleetView, worker: WorkerId) -> &str {
    (view.worker(worker)).map_or("", |info| info.pod().model.as_str())
}

fn pod_of(view: &FleetView, worker: WorkerId) -> &str {
    view.worker(worker)
        .map_or("", |info| info.pod().pod.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{Fleet, Subscribe};
    use crate::http::lookup::Lookup;
    use crate::status::{OwnStatus, ThreadStatus, Trust};
    use crate::stream::saved::SaveTo;
    use crate::stream::{NewWorker, QueueFull};
    use kvroute_engine::hash::ExtraDigest;
    use kvroute_engine::types::EngineHash;
    use kvroute_engine::{Index, IndexConfig, Store};
    use serde_json::json;
    use std::sync::Mutex;

    /// Keeps the workers, by `pod#rank`.
    #[derive(Debug, Default)]
    struct Engines(Mutex<Vec<NewWorker>>);

    impl Subscribe for Arc<Engines> {
        fn add(&self, worker: NewWorker) -> Result<(), QueueFull> {
            self.0.lock().unwrap().push(worker);
            Ok(())
        }

        fn remove(&self, _: WorkerId) {}

        fn verify(&self, _: WorkerId) {}

        fn unheard(&self, _: WorkerId) {}

        fn distrust(&self, _: WorkerId) {}

        fn save(&self, _: WorkerId, _: SaveTo) {}
    }

    /// A fleet of model `m` in which these workers hold so many blocks of the prompt.
    fn fleet(prompt: &[u32], workers: &[(&str, u32, usize)]) -> Fleet {
        let index = Index::new(IndexConfig::default());
        let engines = Arc::new(Engines::default());
        let fleet = Fleet::new(Arc::clone(&index), Arc::clone(&engines));
        let participant = index.participant();
        for (pod, rank, _) in workers {
            if *rank == 0 {
                let events = format!("tcp://{pod}.invalid:1");
                let pod = json!({"pod": pod, "model": "m", "events": events, "ranks": 2});
                fleet.add(serde_json::from_value(pod).unwrap()).unwrap();
            }
        }
        for (pod, rank, blocks) in workers {
            let name = format!("{pod}#{rank}");
            let mut known = engines.0.lock().unwrap();
            let worker = known.iter_mut().find(|worker| worker.name == name);
            let worker = worker.unwrap();
            worker.status.set_trust(Trust::Exact);
            let hashes: Vec<_> = (1..=*blocks as u64).map(EngineHash).collect();
            let event = Store {
                adapter: None,
                block_size: 16,
                tier: Tier::Gpu,
                parent: None,
                hashes: &hashes,
                tokens: &prompt[..blocks * 16],
                extra: &[ExtraDigest::NONE; 0],
                says_extra: true,
            };
            worker.writer.store(&participant, &event).unwrap();
        }
        fleet
    }

    #[test]
    fn a_lookup_that_is_a_sample_allocates_nothing() {
        let tokens: Vec<u32> = (0..1_100 * 16).collect();
        let workers = [("a", 0, 1_100), ("a", 1, 700), ("b", 0, 300), ("c", 0, 1)];
        let fleet = fleet(&tokens, &workers);
        let hot = Arc::new(Hot::new());
        let status = OwnStatus::of([ThreadStatus::default()].into(), 0);
        let mut lookup = Lookup::new(&fleet, status, Arc::clone(&hot));
        let tokens: &[[u8; 4]] = bytemuck::cast_slice(&tokens);
        let mut found = |tokens| {
            let query = Query {
                model: "m",
                lora: None,
                cache_salt: None,
                extra_keys: &[],
                block_size: None,
                prompt: Prompt::Tokens(tokens),
            };
            lookup.run(&fleet, &query, |scores| scores.credited().count())
        };
        assert_eq!(found(tokens).unwrap(), 4);
        let counted = allocation_counter::measure(|| {
            for n in 1..=200 {
                assert!(found(&tokens[..n * 16]).unwrap() > 0);
            }
        });
        assert_eq!(counted.count_total, 0);
        let shown = hot.picture(&[ContextDigest::of("m", "", 16)], 1_000);
        // All of them were samples, less what a test's seconds take off.
        assert!(shown.exact && (180_000..=201_000).contains(&shown.lookups));
        let nodes = &shown.contexts[0].nodes;
        let at = |block: u32| {
            let piece = nodes
                .iter()
                .find(|node| node.from < block && block <= node.to);
            let held = piece.unwrap().held;
            (held.pods, held.workers)
        };
        // The first block is asked for without end; the others were asked for last in other lookups.
        assert_eq!((at(1), at(200)), ((3, 4), (2, 3)));
        assert_eq!((at(300), at(301)), ((2, 3), (1, 2)));
        assert_eq!(nodes.iter().map(|node| node.to).max(), Some(1_024));
    }
}
