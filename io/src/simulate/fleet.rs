//! One run: a trace through a fleet in virtual time, with one way to choose.
//!
//! Time is in microseconds. Of what happens at one moment, steps end first, then metrics are read, then requests come, so that
//! a run depends on nothing but its options and the trace.
use super::engine::{EngineOptions, Progress, names};
use super::pod::{Feeding, Pod};
use super::router::{MODEL, Router, pod_name};
use super::strategy::Strategy;
use super::tally::{Outcome, Tally};
use super::trace::Trace;
use super::{Options, SimulateError};
use crate::limits::SIMULATION_TIME_MAX_US;
use crate::load::Scrape;
use kvroute_engine::{Index, IndexConfig, Participant};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Prompts that the index is compared with the caches on, at the end of a run.
const COMPARED_PROMPTS: usize = 512;

struct Fleet<'a> {
    trace: &'a Trace,
    options: &'a Options,
    strategy: Strategy,
    feeding: Feeding<'a>,
    pods: Vec<Pod>,
    router: Router,
    /// Requests that have come.
    sent: usize,
    /// When the step of a pod ends.
    steps: BinaryHeap<Reverse<(u64, usize)>>,
    busy: Vec<bool>,
    tally: Tally,
    progress: Vec<Progress>,
    tokens: Vec<u32>,
}

/// Runs the trace. `done` is told of each request that has ended.
///
/// # Errors
/// The index disagrees with a cache in the end, or the fleet never catches up.
pub(crate) fn run(
    trace: &Trace,
    strategy: Strategy,
    options: &Options,
    done: &dyn Fn(),
) -> Result<Outcome, SimulateError> {
    let index = Index::new(IndexConfig::default());
    let at = index.participant();
    let mut fleet = Fleet::new(&at, trace, strategy, options)?;
    let end = fleet.play(done)?;
    fleet.compare()?;
    Ok(fleet.finish(end))
}

impl<'a> Fleet<'a> {
    fn new(
        at: &'a Participant,
        trace: &'a Trace,
        strategy: Strategy,
        options: &'a Options,
    ) -> Result<Self, SimulateError> {
        let engine = EngineOptions {
            hardware: options.hardware,
            block_size: options.block_size,
            blocks: options.cache_blocks,
        };
        let mut pods = Vec::with_capacity(options.pods);
        let mut workers = Vec::with_capacity(options.pods);
        for place in 0..options.pods {
            let writer = at.index().writer(MODEL)?;
            workers.push(writer.id());
            pods.push(Pod::new(engine, writer, pod_name(place)));
        }
        Ok(Self {
            trace,
            options,
            strategy,
            feeding: Feeding::new(at),
            router: Router::new(at.index(), &workers, strategy, options)?,
            sent: 0,
            steps: BinaryHeap::new(),
            busy: vec![false; pods.len()],
            tally: Tally::new(strategy, trace, pods.len()),
            pods,
            progress: Vec::new(),
            tokens: Vec::new(),
        })
    }

    /// Plays the whole trace; when the last answer was complete.
    fn play(&mut self, done: &dyn Fn()) -> Result<u64, SimulateError> {
        let mut scrape = 0;
        let mut now = 0;
        loop {
            let step = self.steps.peek().map(|&Reverse((at, _))| at);
            let request = self.trace.requests().get(self.sent);
            let request = request.map(|request| request.at);
            let Some(next) = [step, request].into_iter().flatten().min() else {
                return Ok(now);
            };
            if next > SIMULATION_TIME_MAX_US {
                return Err(SimulateError::TooLong);
            }
            let step_is_first = step == Some(next);
            // A reading of the metrics at the same moment comes between the two.
            if scrape < next || (scrape == next && !step_is_first) {
                self.scrape(scrape);
                scrape += self.options.scrape_interval_us;
            } else if step_is_first {
                now = next;
                self.end_step(now, done);
            } else {
                self.route(next)?;
            }
        }
    }

    /// The pod whose step ends first goes on with the next.
    fn end_step(&mut self, now: u64, done: &dyn Fn()) {
        let Some(Reverse((_, at))) = self.steps.pop() else {
            return;
        };
        self.busy[at] = false;
        let mut progress = std::mem::take(&mut self.progress);
        self.pods[at].engine.end(&mut progress);
        for step in progress.drain(..) {
            self.tally.note(now, step);
            if let Progress::Finished { request } = step {
                self.router.ended(at, request);
                done();
            }
        }
        self.progress = progress;
        self.begin_step(now, at);
    }

    fn begin_step(&mut self, now: u64, at: usize) {
        let mut progress = std::mem::take(&mut self.progress);
        let pod = &mut self.pods[at];
        if let Some((us, work)) = pod.engine.begin(self.trace, &mut progress) {
            self.steps.push(Reverse((now + us, at)));
            self.busy[at] = true;
            self.tally.computed(at, us, &work);
        }
        pod.publish(now, self.options.event_delay_us);
        for step in progress.drain(..) {
            self.tally.note(now, step);
        }
        self.progress = progress;
    }

    fn scrape(&mut self, now: u64) {
        for (at, pod) in self.pods.iter().enumerate() {
            let pool = pod.engine.pool();
            let used = pool.len() - pool.free();
            let said = Scrape {
                running: narrow(pod.engine.running()),
                waiting: narrow(pod.engine.waiting()),
                active_tokens: used as u64 * u64::from(self.options.block_size),
                usage: Some(used as f64 / pool.len().max(1) as f64),
            };
            self.router.scraped(at, &said, now);
        }
        let requests = |pod: &Pod| pod.engine.running() + pod.engine.waiting();
        self.tally.sample(self.pods.iter().map(requests));
    }

    /// The next request comes.
    fn route(&mut self, now: u64) -> Result<(), SimulateError> {
        let request = self.sent;
        for pod in &mut self.pods {
            pod.receive(now, &mut self.feeding);
        }
        let input = self.trace.requests()[request].input;
        self.trace.tokens(request, 0..input, &mut self.tokens);
        let chosen = self
            .router
            .choose(self.feeding.at, request, &self.tokens, now)?;
        let hashes = names(&self.tokens, self.options.block_size);
        let engine = &mut self.pods[chosen.pod].engine;
        let held = engine.reusable(input, &hashes);
        self.tally.chosen(request, &chosen, held);
        engine.submit(request, self.trace, hashes);
        self.sent += 1;
        if !self.busy[chosen.pod] {
            self.begin_step(now, chosen.pod);
        }
        Ok(())
    }

    /// All events are applied; then the index must say of every pod what its cache holds.
    fn compare(&mut self) -> Result<(), SimulateError> {
        let strategy = self.strategy;
        for (place, pod) in self.pods.iter_mut().enumerate() {
            pod.receive(u64::MAX, &mut self.feeding);
            let (index, cache) = (pod.blocks(), pod.engine.pool().distinct() as u64);
            if !pod.is_exact() || index != cache {
                return Err(SimulateError::Inexact {
                    strategy,
                    pod: place,
                    request: None,
                    index,
                    cache,
                });
            }
        }
        let requests = self.trace.requests().len();
        let step = requests.div_ceil(COMPARED_PROMPTS).max(1);
        // From the end: the latest are those that caches still hold.
        for request in (0..requests).rev().step_by(step) {
            let of = &self.trace.requests()[request];
            self.trace.tokens(request, 0..of.total(), &mut self.tokens);
            let hashes = names(&self.tokens, self.options.block_size);
            let indexed = self.router.indexed(self.feeding.at, &self.tokens);
            for (place, (pod, index)) in self.pods.iter().zip(indexed).enumerate() {
                let cache = pod.engine.pool().leading(&hashes) as u64;
                if u64::from(index) != cache {
                    return Err(SimulateError::Inexact {
                        strategy,
                        pod: place,
                        request: Some(request),
                        index: index.into(),
                        cache,
                    });
                }
                self.tally.compared();
            }
        }
        Ok(())
    }

    fn finish(self, end: u64) -> Outcome {
        let preemptions = self.pods.iter().map(|pod| pod.engine.preemptions()).sum();
        let bytes = self.pods.iter().map(|pod| pod.bytes).sum();
        self.tally.finish(self.trace, end, preemptions, bytes)
    }
}

fn narrow(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::Hardware;
    use kvroute_engine::choose::Rules;

    #[test]
    fn a_batch_that_is_lost_is_noticed() {
        let options = Options {
            pods: 1,
            seed: 1,
            strategies: Vec::new(),
            hardware: Hardware::A100,
            block_size: 16,
            cache_blocks: 100,
            rules: Rules::default(),
            event_delay_us: 0,
            scrape_interval_us: 1_000_000,
            request_ms: 60_000,
            speculative_ms: 0,
            approximate_ms: 0,
            approximate_blocks: 1,
        };
        let mut trace = Trace::default();
        trace.push(0, 512, 1, &[7]).unwrap();
        for lost in [false, true] {
            let index = Index::new(IndexConfig::default());
            let at = index.participant();
            let mut fleet = Fleet::new(&at, &trace, Strategy::PrefixCache, &options).unwrap();
            fleet.play(&|| ()).unwrap();
            if lost {
                fleet.pods[0].lose();
            }
            let compared = fleet.compare();
            let inexact = |error: &SimulateError| {
                matches!(
                    error,
                    SimulateError::Inexact {
                        index: 0,
                        cache: 32,
                        ..
                    }
                )
            };
            assert_eq!(compared.is_err_and(|error| inexact(&error)), lost);
        }
    }
}
