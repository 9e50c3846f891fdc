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
