//! The router of one run: what it can know of the pods, and its choice by the engine's rules.
//!
//! It knows what a node knows: the index, the queues that it saw when it last read the engines' metrics, and the requests that it
//! sent and that have not ended. The simulator's inner state is closed to it.
//!
//! Loads and bookings are the node's own ([`load`](crate::load)), on virtual time.
use super::strategy::{Knowledge, Strategy};
use super::{Options, SimulateError};
use crate::fake::chance::Chance;
use crate::load::{Booking, Clock, Scrape, WorkerLoad};
use kvroute_engine::choose::{Ask, Candidate, FULL_CREDIT, Rules, choose, tie};
use kvroute_engine::types::{TIERS, WorkerId};
use kvroute_engine::{
    Blocks, Index, Matches, Participant, PredictConfig, Predictions, Prompt, TokenKeys,
};
use std::sync::Arc;
use std::time::Duration;

/// The model that all pods serve.
pub(crate) const MODEL: &str = "simulated";

/// Predicted blocks that are taken out between two requests, at most.
const EXPIRED_AT_ONCE: usize = 1 << 16;

/// What a worker's number in the index stands for.
#[derive(Clone, Copy, Debug)]
enum Stands {
    Nobody,
    /// What events say of a pod.
    Exact(usize),
    /// What is predicted of a pod.
    Predicted(usize),
}

/// What is known of one pod.
#[derive(Debug)]
struct Known {
    identity: u64,
    predictions: Option<Predictions>,
    load: WorkerLoad,
    /// Leading blocks of the present prompt, by events in each tier.
    exact: [u32; TIERS],
    /// The same by its own decisions.
    predicted: u32,
}

impl Known {
    /// Leading blocks of the present prompt that the pod is taken to hold, by tier.
    fn blocks(&self, knowledge: Knowledge) -> [u32; TIERS] {
        match knowledge {
            Knowledge::Nothing => [0; TIERS],
            Knowledge::Decisions => [self.predicted; TIERS],
            // What was just sent there will be there before the request is.
            Knowledge::Events => self.exact.map(|blocks| blocks.max(self.predicted)),
        }
    }
}

/// A choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chosen {
    pub(crate) pod: usize,
    /// Leading tokens of the prompt that the chooser expects the pod to reuse; 0 for one that knows nothing of caches.
    pub(crate) expected: u32,
    /// Leading tokens that the pod holds by the index.
    pub(crate) indexed: u32,
}

/// The router.
#[derive(Debug)]
pub(crate) struct Router {
    strategy: Strategy,
    block_size: u32,
    rules: Rules,
    clock: Clock,
    pods: Vec<Known>,
    /// By request, while it is under way.
    bookings: Vec<Option<Booking>>,
    stands: Vec<Stands>,
    matches: Matches,
    candidates: Vec<Candidate>,
    chance: Chance,
    turn: u64,
}

impl Router {
    /// For pods whose events go to these workers.
    pub(crate) fn new(
        index: &Arc<Index>,
        workers: &[WorkerId],
        strategy: Strategy,
        options: &Options,
    ) -> Result<Self, SimulateError> {
        let mut router = Self {
            strategy,
            block_size: options.block_size,
            rules: options.rules,
            clock: Clock::new(
                Duration::from_millis(options.request_ms),
                Some(Duration::from_micros(options.scrape_interval_us)),
            ),
            pods: Vec::new(),
            bookings: Vec::new(),
            stands: Vec::new(),
            matches: Matches::new(),
            candidates: Vec::new(),
            chance: Chance::new(options.seed),
            turn: 0,
        };
        for (at, &worker) in workers.iter().enumerate() {
            router.stand(worker, Stands::Exact(at));
            let predictions = match router.predicts(options) {
                Some(config) => Some(Predictions::new(index.writer(MODEL)?, config)),
                None => None,
            };
            if let Some(predictions) = &predictions {
                router.stand(predictions.id(), Stands::Predicted(at));
            }
            router.pods.push(Known {
                identity: tie::identity(&pod_name(at), 0),
                predictions,
                load: WorkerLoad::default(),
                exact: [0; TIERS],
                predicted: 0,
            });
        }
        Ok(router)
    }

    fn stand(&mut self, worker: WorkerId, stands: Stands) {
        let at = worker.index();
        if self.stands.len() <= at {
            self.stands.resize(at + 1, Stands::Nobody);
        }
        self.stands[at] = stands;
    }

    fn predicts(&self, options: &Options) -> Option<PredictConfig> {
        let ttl_ms = match self.strategy.knowledge() {
            Knowledge::Nothing => 0,
            Knowledge::Decisions => options.approximate_ms,
            Knowledge::Events => options.speculative_ms,
        };
        let max_blocks = options.approximate_blocks;
        (ttl_ms > 0).then_some(PredictConfig { ttl_ms, max_blocks })
    }

    /// Chooses a pod for a prompt and books the request there. `now` is in microseconds.
    pub(crate) fn choose(
        &mut self,
        at: &Participant,
        request: usize,
        tokens: &[u32],
        now: u64,
    ) -> Result<Chosen, SimulateError> {
        self.expire(at, now);
        self.look_up(at, tokens);
        let knowledge = self.strategy.knowledge();
        let size = u64::from(self.block_size);
        // The last token is always computed.
        let most = (tokens.len() as u64).saturating_sub(1) / size;
        let moment = self.clock.at(now / 1_000);
        self.candidates.clear();
        self.candidates.extend(self.pods.iter().map(|pod| {
            let blocks = pod.blocks(knowledge);
            Candidate {
                identity: pod.identity,
                matched: blocks.map(|blocks| u64::from(blocks).min(most) * size),
                credit: FULL_CREDIT,
                load: pod.load.read(moment).load,
            }
        }));
        let ask = Ask {
            policy: self.strategy.policy(),
            minimum_match: 0,
            tokens_known: true,
            prompt_tokens: tokens.len() as u64,
            session: None,
            turn: self.turn,
            draw: self.chance.next(),
        };
        let prefix = |matched| tie::prefix_of_tokens(bytemuck::cast_slice(tokens), matched);
        let choice = choose(&self.candidates, &ask, &self.rules, prefix);
        let choice = choice.ok_or(SimulateError::NoPods)?;
        self.turn += 1;
        self.book(at, choice.at, request, tokens, now)
    }

    /// The request goes to this pod.
    fn book(
        &mut self,
        at: &Participant,
        place: usize,
        request: usize,
        tokens: &[u32],
        now: u64,
    ) -> Result<Chosen, SimulateError> {
        let size = self.block_size;
        let prompt = u32::try_from(tokens.len()).unwrap_or(u32::MAX);
        // The last token is always computed.
        let most = prompt.saturating_sub(1) / size;
        let pod = &mut self.pods[place];
        let blocks = pod.blocks(self.strategy.knowledge())[TIERS - 1];
        let chosen = Chosen {
            pod: place,
            expected: blocks.min(most) * size,
            indexed: pod.exact[TIERS - 1].min(most) * size,
        };
        let uncached = prompt - chosen.expected;
        let moment = self.clock.at(now / 1_000);
        let booking = pod
            .load
            .book_blindly(moment, uncached.into(), prompt.into());
        if self.bookings.len() <= request {
            self.bookings.resize(request + 1, None);
        }
        self.bookings[request] = Some(booking);
        // As in the node: what is there already is not expected.
        let events = self.strategy.knowledge() == Knowledge::Events;
        let held = events && pod.exact[0] >= prompt / size;
        if !held && let Some(predictions) = &mut pod.predictions {
            let prompt = Prompt {
                adapter: None,
                block_size: size,
                blocks: Blocks::Tokens {
                    tokens: bytemuck::cast_slice(tokens),
                    extra: &[],
                },
            };
            predictions.record(at, &prompt, now / 1_000)?;
        }
        Ok(chosen)
    }

    /// A request has ended: the gateway says so.
    pub(crate) fn ended(&mut self, pod: usize, request: usize) {
        let booking = self.bookings.get_mut(request).and_then(Option::take);
        if let Some(booking) = booking {
            self.pods[pod].load.finish(&booking);
        }
    }

    /// A pod's metrics were read. `now` is in microseconds.
    pub(crate) fn scraped(&mut self, pod: usize, said: &Scrape, now: u64) {
        let load = &self.pods[pod].load;
        let marks = load.marks(self.clock.at(now / 1_000));
        load.take(said, &marks);
    }

    /// Leading blocks of a prompt that each pod holds by the index.
    pub(crate) fn indexed(&mut self, at: &Participant, tokens: &[u32]) -> Vec<u32> {
        self.look_up(at, tokens);
        self.pods.iter().map(|pod| pod.exact[0]).collect()
    }

    fn look_up(&mut self, at: &Participant, tokens: &[u32]) {
        for pod in &mut self.pods {
            (pod.exact, pod.predicted) = ([0; TIERS], 0);
        }
        let pinned = at.pin();
        let mut contexts = pinned.contexts(MODEL, None);
        let Some(context) = contexts.find(|context| context.block_size() == self.block_size) else {
            return;
        };
        let mut keys = TokenKeys::new(at.index().hash_seed(), self.block_size, tokens, &[]);
        context.lookup(&mut keys, &mut self.matches);
        for hit in self.matches.hits() {
            match self.stands.get(hit.worker.index()) {
                Some(&Stands::Exact(pod)) => self.pods[pod].exact = hit.blocks,
                Some(&Stands::Predicted(pod)) => self.pods[pod].predicted = hit.blocks[TIERS - 1],
                Some(Stands::Nobody) | None => {}
            }
        }
    }

    fn expire(&mut self, at: &Participant, now: u64) {
        for pod in &mut self.pods {
            if let Some(predictions) = &mut pod.predictions {
                predictions.expire(at, now / 1_000, EXPIRED_AT_ONCE);
            }
        }
    }
}

/// The name of a pod.
pub(crate) fn pod_name(at: usize) -> String {
    format!("simulated/pod-{at}")
}
