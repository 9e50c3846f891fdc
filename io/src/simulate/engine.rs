//! One simulated engine: continuous batching with chunked prefill over a prefix cache, after vLLM's scheduler.
//!
//! A step first goes on with what runs, in order of arrival, then takes in what waits, as long as tokens, requests and blocks
//! last. A prompt is computed in chunks of what the step has left; then each step gives one token. A request that is
//! taken in gets the blocks of its whole prompt at once (vLLM: those of the first chunk), so that two long prompts cannot block
//! each other. If a running request finds no block for its next token, the one that came last gives its own
//! back and waits again, at the front.
//!
//! Blocks are cached, and said to be, when the step that fills them begins, as vLLM publishes them. The last token of a
//! prompt is always computed, so at most floor((n - 1) / block size) blocks of n tokens are reused.
use super::hardware::{Hardware, StepWork};
use super::pool::Pool;
use super::trace::Trace;
use crate::fake::cache::{CacheEvent, Link};
use crate::fake::chance::mix;
use crate::fake::prompts::Scope;
use kvroute_engine::hash::checksum;
use kvroute_engine::types::Tier;
use std::collections::VecDeque;
use std::sync::Arc;

/// What kind of engine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EngineOptions {
    pub(crate) hardware: Hardware,
    /// Tokens per block.
    pub(crate) block_size: u32,
    /// Blocks of its cache.
    pub(crate) blocks: u32,
}

/// A request at the engine.
#[derive(Clone, Debug)]
struct Job {
    request: usize,
    prompt: u32,
    output: u32,
    /// Tokens whose keys and values are there.
    computed: u32,
    generated: u32,
    /// Tokens that the present step computes.
    scheduled: u32,
    blocks: Vec<u32>,
    /// The engine's names of its full blocks, as far as their tokens are known.
    hashes: Vec<u64>,
    /// Blocks that are cached under their names.
    cached: usize,
    admitted: bool,
}

impl Job {
    /// Tokens that there are: the prompt's and what was generated.
    const fn known(&self) -> u32 {
        self.prompt + self.generated
    }

    /// Whether only the token that was generated last is to be computed.
    const fn generates(&self) -> bool {
        self.generated > 0 && self.known() - self.computed == 1
    }
}

/// What came of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// A request was taken in and reuses so many tokens.
    Admitted { request: usize, reused: u32 },
    /// The first token of an answer is there.
    FirstToken { request: usize },
    /// An answer is complete.
    Finished { request: usize },
}

/// One engine.
#[derive(Debug)]
pub(crate) struct Engine {
    options: EngineOptions,
    pool: Pool,
    waiting: VecDeque<Job>,
    running: Vec<Job>,
    /// The first that waits found no room, and no block was given back since.
    stuck: bool,
    events: Vec<CacheEvent>,
    preemptions: u64,
    evicted: Vec<u64>,
    tokens: Vec<u32>,
}

impl Engine {
    /// Without requests, its cache empty.
    pub(crate) fn new(options: EngineOptions) -> Self {
        Self {
            options,
            pool: Pool::new(options.blocks),
            waiting: VecDeque::new(),
            running: Vec::new(),
            stuck: false,
            events: Vec::new(),
            preemptions: 0,
            evicted: Vec::new(),
            tokens: Vec::new(),
        }
    }

    /// Its cache.
    pub(crate) const fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Requests being computed.
    pub(crate) fn running(&self) -> usize {
        self.running.len()
    }

    /// Requests in its queue.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Requests that had to give their blocks back.
    pub(crate) const fn preemptions(&self) -> u64 {
        self.preemptions
    }

    /// What its cache has to say since it was last asked.
    pub(crate) fn take_events(&mut self) -> Vec<CacheEvent> {
        std::mem::take(&mut self.events)
    }

    /// Tokens of this prompt that it would reuse now.
    pub(crate) fn reusable(&self, prompt: u32, hashes: &[u64]) -> u32 {
        let most = reusable_blocks(prompt, self.options.block_size);
        let held = self.pool.leading(&hashes[..most.min(hashes.len())]);
        held as u32 * self.options.block_size
    }

    /// A request comes; `hashes` names the full blocks of its prompt ([`names`]).
    pub(crate) fn submit(&mut self, request: usize, trace: &Trace, hashes: Vec<u64>) {
        let of = &trace.requests()[request];
        self.waiting.push_back(Job {
            request,
            prompt: of.input,
            output: of.output,
            computed: 0,
            generated: 0,
            scheduled: 0,
            blocks: Vec::new(),
            hashes,
            cached: 0,
            admitted: false,
        });
    }

    /// Begins a step: how long it takes, in microseconds, and what it computes; `None` if there is nothing to do.
    pub(crate) fn begin(
        &mut self,
        trace: &Trace,
        progress: &mut Vec<Progress>,
    ) -> Option<(u64, StepWork)> {
        let mut budget = self.options.hardware.step_tokens();
        let mut work = StepWork::default();
        let preempted = self.go_on(trace, &mut budget, &mut work);
        if !preempted {
            self.take_in(trace, &mut budget, &mut work, progress);
        }
        if work.tokens == 0 {
            return None;
        }
        let used = self.pool.len() - self.pool.free();
        work.usage = used as f64 / self.pool.len() as f64;
        Some((self.options.hardware.step_us(&work), work))
    }

    /// Ends the step that was begun.
    pub(crate) fn end(&mut self, progress: &mut Vec<Progress>) {
        let mut at = 0;
        while let Some(job) = self.running.get_mut(at) {
            let scheduled = std::mem::take(&mut job.scheduled);
            job.computed += scheduled;
            if scheduled > 0 && job.computed == job.known() {
                job.generated += 1;
                let request = job.request;
                if job.generated == 1 {
                    progress.push(Progress::FirstToken { request });
                }
                if job.generated == job.output {
                    progress.push(Progress::Finished { request });
                    let job = self.running.remove(at);
                    self.pool.release(&job.blocks);
                    self.stuck = false;
                    continue;
                }
            }
            at += 1;
        }
    }

    /// Goes on with what runs; whether blocks ran out.
    fn go_on(&mut self, trace: &Trace, budget: &mut u32, work: &mut StepWork) -> bool {
        let mut preempted = false;
        let mut at = 0;
        while at < self.running.len() && *budget > 0 {
            let job = &self.running[at];
            let tokens = (job.known() - job.computed).min(*budget);
            if !self.grow(at, tokens) {
                preempted = true;
                self.preempt();
                continue;
            }
            self.schedule(trace, at, tokens, work);
            *budget -= tokens;
            at += 1;
        }
        preempted
    }

    /// Takes in what waits.
    fn take_in(
        &mut self,
        trace: &Trace,
        budget: &mut u32,
        work: &mut StepWork,
        progress: &mut Vec<Progress>,
    ) {
        let most = self.options.hardware.step_requests();
        while *budget > 0 && !self.stuck && self.running.len() < most {
            let Some(mut job) = self.waiting.pop_front() else {
                return;
            };
            if !self.admit(&mut job) {
                self.stuck = true;
                return self.waiting.push_front(job);
            }
            if !std::mem::replace(&mut job.admitted, true) {
                progress.push(Progress::Admitted {
                    request: job.request,
                    reused: job.computed,
                });
            }
            let tokens = (job.known() - job.computed).min(*budget);
            self.running.push(job);
            self.schedule(trace, self.running.len() - 1, tokens, work);
            *budget -= tokens;
        }
    }

    /// Gives a request the blocks that hold its prefix and others for the rest; whether there are enough.
    fn admit(&mut self, job: &mut Job) -> bool {
        let size = self.options.block_size;
        let most = reusable_blocks(job.known(), size).min(job.hashes.len());
        let reused = self.pool.leading(&job.hashes[..most]);
        let hashes = &job.hashes[..reused];
        let others = job.known().div_ceil(size) as usize - reused;
        if self.pool.free() - self.pool.idle(hashes) < others {
            return false;
        }
        // First those that are there, so that nothing is taken from them for the others.
        for &hash in hashes {
            job.blocks.extend(self.pool.reuse(hash));
        }
        for _ in 0..others {
            job.blocks.extend(self.pool.take(&mut self.evicted));
        }
        self.say_evicted();
        job.cached = reused;
        job.computed = reused as u32 * size;
        true
    }

    /// Makes room for further tokens of a running request; whether there is some.
    fn grow(&mut self, at: usize, tokens: u32) -> bool {
        let job = &mut self.running[at];
        let needed = (job.computed + tokens).div_ceil(self.options.block_size) as usize;
        while job.blocks.len() < needed {
            let Some(block) = self.pool.take(&mut self.evicted) else {
                return false;
            };
            job.blocks.push(block);
        }
        self.say_evicted();
        true
    }

    /// The running request that came last gives its blocks back.
    fn preempt(&mut self) {
        let Some(mut job) = self.running.pop() else {
            return;
        };
        self.say_evicted();
        self.pool.release(&job.blocks);
        self.stuck = false;
        self.preemptions += 1;
        job.blocks.clear();
        (job.computed, job.scheduled, job.cached) = (0, 0, 0);
        self.waiting.push_front(job);
    }

    /// Computes so many tokens of a running request in this step: what they fill is cached from now on.
    fn schedule(&mut self, trace: &Trace, at: usize, tokens: u32, work: &mut StepWork) {
        let job = &mut self.running[at];
        job.scheduled = tokens;
        work.tokens += u64::from(tokens);
        if job.generates() {
            work.decode_context += u64::from(job.known());
        } else {
            let (before, n) = (f64::from(job.computed), f64::from(tokens));
            work.prefill += u64::from(tokens);
            work.prefill_context += n * before + n * (n - 1.0) / 2.0;
        }
        let full = ((job.computed + tokens) / self.options.block_size) as usize;
        if full > job.cached {
            self.cache(trace, at, full);
        }
    }

    /// Caches a running request's blocks up to `full`, and says so.
    fn cache(&mut self, trace: &Trace, at: usize, full: usize) {
        let size = self.options.block_size;
        let job = &mut self.running[at];
        let first = job.cached;
        let range = first as u32 * size..full as u32 * size;
        trace.tokens(job.request, range, &mut self.tokens);
        let mut links = Vec::with_capacity(full - first);
        let mut parent = first.checked_sub(1).map(|at| job.hashes[at]);
        for (place, tokens) in self.tokens.chunks_exact(size as usize).enumerate() {
            let hash = name(parent, tokens);
            if first + place == job.hashes.len() {
                job.hashes.push(hash);
            }
            self.pool.fill(job.blocks[first + place], hash);
            // An event names the parent of its first block only.
            let before = (place == 0).then(|| parent.map(|hash| link(None, hash, &[])));
            links.push(link(before.flatten(), hash, tokens));
            parent = Some(hash);
        }
        job.cached = full;
        self.events.push(CacheEvent::Stored {
            tier: Tier::Gpu,
            links,
            placeholder: false,
        });
    }

    fn say_evicted(&mut self) {
        for hash in self.evicted.drain(..) {
            self.events.push(CacheEvent::Removed {
                tier: Tier::Gpu,
                hashes: vec![hash],
            });
        }
    }
}

/// Blocks of so many tokens that may be reused.
const fn reusable_blocks(tokens: u32, block_size: u32) -> usize {
    (tokens.saturating_sub(1) / block_size) as usize
}

/// The engine's names of the full blocks of these tokens.
pub(crate) fn names(tokens: &[u32], block_size: u32) -> Vec<u64> {
    let mut parent = None;
    let blocks = tokens.chunks_exact(block_size as usize);
    blocks
        .map(|block| {
            let hash = name(parent, block);
            parent = Some(hash);
            hash
        })
        .collect()
}

fn name(parent: Option<u64>, tokens: &[u32]) -> u64 {
    let own = checksum(bytemuck::cast_slice(tokens));
    mix(own ^ parent.map_or(1, |parent| parent.rotate_left(23)))
}

fn link(parent: Option<Arc<Link>>, hash: u64, tokens: &[u32]) -> Arc<Link> {
    Arc::new(Link {
        parent,
        hash,
        tokens: tokens.into(),
        scope: Scope::default(),
    })
}

#[cfg(test)]
mod tests;
