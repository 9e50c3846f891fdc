//! A literal model of one rank's prefix cache, after vLLM's block pool: what it says and what it really holds.
//!
//! There are so many physical blocks. A request takes those that hold its prefix already and others for the rest,
//! which loses what they held: an eviction, least recently used first, and of one chain its tail first. A block
//! that is full has the hash of its content and of all before it. Several physical blocks can have one
//! hash: a prompt whose length is a whole number of blocks recomputes its last one when it is asked again, and
//! generated tokens are never looked up. Each is said to be stored, and each to be removed.
//!
//! Beside it an offloader may copy the blocks of ended requests to the CPU, where they have an order of use
//! of their own, and bring them back.
//!
//! What it holds ([`Cache::held`], [`Cache::reusable`]) is read off the physical blocks, never
//! off the events, so that a test may compare the two.
use super::chance::mix;
use super::prompts::{Prompt, Scope};
use kvroute_engine::types::{TIERS, Tier};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// What kind of cache.
#[derive(Clone, Copy, Debug)]
pub struct CacheOptions {
    /// Physical blocks on the GPU.
    pub blocks: usize,
    /// Copies that fit on the CPU; 0 for a cache without an offloader.
    pub offloaded: usize,
    /// Whether the offloader says hashes only, neither tokens nor parent.
    pub placeholders: bool,
    /// Tokens per block.
    pub block_size: u32,
    /// Blocks of one request that are computed in one step.
    pub chunk: usize,
    /// What makes its hashes.
    pub seed: u64,
}

/// A block with all before it.
#[derive(Debug)]
pub struct Link {
    /// The block before it.
    pub parent: Option<Arc<Link>>,
    /// The engine's name of it.
    pub hash: u64,
    /// Its own tokens.
    pub tokens: Box<[u32]>,
    /// Whose cache.
    pub scope: Scope,
}

impl Link {
    /// The tokens from the root to its end.
    #[must_use]
    pub fn path(&self) -> Vec<u32> {
        let mut blocks = vec![&self.tokens];
        let mut at = &self.parent;
        while let Some(link) = at {
            blocks.push(&link.tokens);
            at = &link.parent;
        }
        blocks.into_iter().rev().flatten().copied().collect()
    }
}

/// What the cache says.
#[derive(Clone, Debug)]
pub enum CacheEvent {
    /// Consecutive blocks of one chain are there.
    Stored {
        /// Where.
        tier: Tier,
        /// The blocks; never empty.
        links: Vec<Arc<Link>>,
        /// Whether only their hashes are said.
        placeholder: bool,
    },
    /// Copies are gone.
    Removed {
        /// From where.
        tier: Tier,
        /// Which.
        hashes: Vec<u64>,
    },
    /// Nothing is there any more.
    Cleared,
}

/// What is held of one hash.
#[derive(Clone, Debug)]
pub struct Held {
    /// Physical blocks, by tier.
    pub copies: [u32; TIERS],
    /// What it is.
    pub link: Arc<Link>,
}

/// A physical block on the GPU.
#[derive(Clone, Debug, Default)]
struct Block {
    holds: Option<Arc<Link>>,
    /// Requests that use it. It can be taken only from nobody.
    users: u32,
    /// Its place in the order of use while nobody uses it.
    stamp: u64,
}

/// A request that is being computed.
#[derive(Clone, Debug)]
struct Request {
    /// Of the prompt and of all that will be generated.
    tokens: Vec<u32>,
    scope: Scope,
    prompt_blocks: usize,
    /// The physical blocks so far.
    blocks: Vec<usize>,
    last: Option<Arc<Link>>,
}

/// One rank's prefix cache.
#[derive(Clone, Debug)]
pub struct Cache {
    options: CacheOptions,
    blocks: Vec<Block>,
    /// Physical blocks by hash.
    cached: BTreeMap<u64, Vec<usize>>,
    /// Those that nobody uses, least recently used first.
    free: BTreeMap<u64, usize>,
    stamps: u64,
    /// Copies on the CPU by hash, with their place in the order of use.
    cpu: BTreeMap<u64, (Arc<Link>, u64)>,
    running: VecDeque<Request>,
    events: Vec<CacheEvent>,
}

impl Cache {
    /// An empty cache.
    #[must_use]
    pub fn new(options: CacheOptions) -> Self {
        let blocks = vec![Block::default(); options.blocks];
        let mut cache = Self {
            options,
            blocks,
            cached: BTreeMap::new(),
            free: BTreeMap::new(),
            stamps: 0,
            cpu: BTreeMap::new(),
            running: VecDeque::new(),
            events: Vec::new(),
        };
        (0..options.blocks).for_each(|at| cache.set_free(at));
        cache
    }

    /// Begins a request. It is refused, as `None`, if it may not fit; else the leading blocks that it
    /// reuses. Its own are stored by the steps that follow.
    pub fn begin(&mut self, prompt: &Prompt, generated: &[u32]) -> Option<usize> {
        let size = self.options.block_size as usize;
        let tokens = [prompt.tokens.as_slice(), generated].concat();
        if tokens.len() / size > self.free.len() {
            return None;
        }
        // The last token is always computed, so that there is something to go on from.
        let most = prompt.tokens.len().saturating_sub(1) / size;
        let mut request = Request {
            prompt_blocks: prompt.tokens.len() / size,
            tokens,
            scope: prompt.scope.clone(),
            blocks: Vec::new(),
            last: None,
        };
        let links = self.links(&prompt.tokens[..most * size], &prompt.scope);
        let reused = links
            .iter()
            .take_while(|link| self.on_gpu(link) || self.on_cpu(link))
            .count();
        // First those that are there, so that nothing is taken from them for the others.
        let found: Vec<_> = links[..reused]
            .iter()
            .map(|link| self.cached.get(&link.hash)?.first().copied())
            .collect();
        found.iter().flatten().for_each(|&at| self.use_block(at));
        for (link, found) in links.into_iter().zip(found) {
            match found {
                Some(at) => {
                    request.blocks.push(at);
                    request.last = Some(link);
                }
                // The offloader brings back what the GPU has lost.
                None => self.compute(&mut request, link),
            }
        }
        self.running.push_back(request);
        Some(reused)
    }

    /// Computes one step of all running requests; those that are complete end.
    pub fn step(&mut self) {
        for _ in 0..self.running.len() {
            let Some(mut request) = self.running.pop_front() else {
                return;
            };
            if self.advance(&mut request) {
                self.running.push_back(request);
            } else {
                self.end(request);
            }
        }
    }

    /// How many requests are running.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Forgets everything, unless a request is running; whether it did.
    pub fn reset(&mut self) -> bool {
        if !self.running.is_empty() {
            return false;
        }
        self.cached.clear();
        self.cpu.clear();
        self.blocks.iter_mut().for_each(|block| block.holds = None);
        self.events.push(CacheEvent::Cleared);
        true
    }

    /// What it has to say since it was last asked.
    pub fn take_events(&mut self) -> Vec<CacheEvent> {
        std::mem::take(&mut self.events)
    }

    /// Whether it has something to say.
    #[must_use]
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// What it really holds, by hash.
    #[must_use]
    pub fn held(&self) -> BTreeMap<u64, Held> {
        let mut held = BTreeMap::new();
        let on_gpu = self.blocks.iter().filter_map(|block| block.holds.as_ref());
        let on_gpu = on_gpu.map(|link| (Tier::Gpu, link));
        let on_cpu = self.cpu.values().map(|(link, _)| (Tier::Cpu, link));
        for (tier, link) in on_gpu.chain(on_cpu) {
            let copies = [0; TIERS];
            let held = held.entry(link.hash).or_insert_with(|| Held {
                copies,
                link: Arc::clone(link),
            });
            held.copies[tier.index()] += 1;
        }
        held
    }

    /// How many different blocks it holds.
    #[must_use]
    pub fn distinct(&self) -> usize {
        let only_cpu = self
            .cpu
            .keys()
            .filter(|hash| !self.cached.contains_key(hash));
        self.cached.len() + only_cpu.count()
    }

    /// The hashes of the whole blocks of these tokens, in order.
    #[must_use]
    pub fn hashes(&self, tokens: &[u32], scope: &Scope) -> Vec<u64> {
        let mut parent = None;
        let blocks = tokens.chunks_exact(self.options.block_size as usize);
        blocks
            .map(|block| {
                let hash = self.hash(parent, block, scope);
                parent = Some(hash);
                hash
            })
            .collect()
    }

    /// The leading blocks of these tokens that it holds: on the GPU, there or on the CPU, anywhere.
    #[must_use]
    pub fn reusable(&self, tokens: &[u32], scope: &Scope) -> [u32; TIERS] {
        let hashes = self.hashes(tokens, scope);
        let gpu = hashes
            .iter()
            .take_while(|hash| self.cached.contains_key(hash));
        let gpu = gpu.count() as u32;
        let cpu = hashes
            .iter()
            .take_while(|hash| self.cached.contains_key(hash) || self.cpu.contains_key(hash));
        let cpu = cpu.count() as u32;
        [gpu, cpu, cpu]
    }

    /// Computes what one step allows; whether there is more to do.
    fn advance(&mut self, request: &mut Request) -> bool {
        let size = self.options.block_size as usize;
        let whole = request.tokens.len() / size;
        let done = request.blocks.len();
        let until = match done < request.prompt_blocks {
            true => request.prompt_blocks.min(done + self.options.chunk.max(1)),
            false => whole.min(done + 1),
        };
        let mut stored = Vec::new();
        for at in done..until {
            let tokens = &request.tokens[at * size..(at + 1) * size];
            let link = self.link(request.last.clone(), tokens, &request.scope);
            let Some(block) = self.allocate(Arc::clone(&link)) else {
                break;
            };
            request.blocks.push(block);
            request.last = Some(Arc::clone(&link));
            stored.push(link);
        }
        let progress = stored.len();
        self.say_stored(Tier::Gpu, stored, false);
        // Without room it is given up, as if it were preempted and its client had gone.
        done + progress == until && until < whole
    }

    /// Its blocks stay until they are taken for others, the last one first.
    fn end(&mut self, request: Request) {
        self.offload(&request);
        for at in request.blocks.into_iter().rev() {
            let block = &mut self.blocks[at];
            block.users = block.users.saturating_sub(1);
            if block.users == 0 {
                self.set_free(at);
            }
        }
    }

    /// Copies to the CPU what is not there.
    fn offload(&mut self, request: &Request) {
        if self.options.offloaded == 0 {
            return;
        }
        let blocks = request.blocks.iter();
        let mut links: Vec<_> = blocks
            .filter_map(|&at| self.blocks[at].holds.clone())
            .collect();
        links.truncate(self.options.offloaded);
        for link in links.iter().rev() {
            self.stamps += 1;
            if let Some((_, stamp)) = self.cpu.get_mut(&link.hash) {
                *stamp = self.stamps;
            }
        }
        links.retain(|link| !self.on_cpu(link));
        let mut removed = Vec::new();
        while self.cpu.len() + links.len() > self.options.offloaded {
            let oldest = self.cpu.iter().min_by_key(|(_, (_, stamp))| *stamp);
            let Some((&hash, _)) = oldest else {
                break;
            };
            self.cpu.remove(&hash);
            removed.push(hash);
        }
        if !removed.is_empty() {
            let tier = Tier::Cpu;
            let hashes = removed;
            self.events.push(CacheEvent::Removed { tier, hashes });
        }
        for link in links.iter().rev() {
            self.stamps += 1;
            let copy = (Arc::clone(link), self.stamps);
            self.cpu.insert(link.hash, copy);
        }
        self.say_offloaded(links);
    }

    /// One event for all if only hashes are said, else one for each unbroken row.
    fn say_offloaded(&mut self, links: Vec<Arc<Link>>) {
        if self.options.placeholders {
            return self.say_stored(Tier::Cpu, links, true);
        }
        let mut row: Vec<Arc<Link>> = Vec::new();
        for link in links {
            let follows = |last: &Arc<Link>| {
                let parent = link.parent.as_ref().map(|parent| parent.hash);
                parent == Some(last.hash)
            };
            if !row.last().is_none_or(follows) {
                self.say_stored(Tier::Cpu, std::mem::take(&mut row), false);
            }
            row.push(link);
        }
        self.say_stored(Tier::Cpu, row, false);
    }

    fn say_stored(&mut self, tier: Tier, links: Vec<Arc<Link>>, placeholder: bool) {
        if !links.is_empty() {
            self.events.push(CacheEvent::Stored {
                tier,
                links,
                placeholder,
            });
        }
    }

    /// Gives a request a block of its own for what is known already.
    fn compute(&mut self, request: &mut Request, link: Arc<Link>) {
        if let Some(at) = self.allocate(Arc::clone(&link)) {
            request.blocks.push(at);
            request.last = Some(Arc::clone(&link));
            self.say_stored(Tier::Gpu, vec![link], false);
        }
    }

    /// Takes the least recently used free block for other content.
    fn allocate(&mut self, link: Arc<Link>) -> Option<usize> {
        let (_, at) = self.free.pop_first()?;
        if let Some(lost) = self.blocks[at].holds.take() {
            if let Some(copies) = self.cached.get_mut(&lost.hash) {
                copies.retain(|&copy| copy != at);
                if copies.is_empty() {
                    self.cached.remove(&lost.hash);
                }
            }
            let hashes = vec![lost.hash];
            let tier = Tier::Gpu;
            self.events.push(CacheEvent::Removed { tier, hashes });
        }
        self.cached.entry(link.hash).or_default().push(at);
        let block = &mut self.blocks[at];
        block.holds = Some(link);
        block.users = 1;
        Some(at)
    }

    fn use_block(&mut self, at: usize) {
        let block = &mut self.blocks[at];
        if block.users == 0 {
            self.free.remove(&block.stamp);
        }
        block.users += 1;
    }

    fn set_free(&mut self, at: usize) {
        self.stamps += 1;
        self.blocks[at].stamp = self.stamps;
        self.free.insert(self.stamps, at);
    }

    fn on_gpu(&self, link: &Link) -> bool {
        self.cached.contains_key(&link.hash)
    }

    fn on_cpu(&self, link: &Link) -> bool {
        self.cpu.contains_key(&link.hash)
    }

    fn links(&self, tokens: &[u32], scope: &Scope) -> Vec<Arc<Link>> {
        let mut last = None;
        let blocks = tokens.chunks_exact(self.options.block_size as usize);
        blocks
            .map(|block| {
                let link = self.link(last.take(), block, scope);
                last = Some(Arc::clone(&link));
                link
            })
            .collect()
    }

    fn link(&self, parent: Option<Arc<Link>>, tokens: &[u32], scope: &Scope) -> Arc<Link> {
        let before = parent.as_ref().map(|parent| parent.hash);
        Arc::new(Link {
            hash: self.hash(before, tokens, scope),
            parent,
            tokens: tokens.into(),
            scope: scope.clone(),
        })
    }

    /// The salt goes into the first block only, the adapter into all.
    fn hash(&self, parent: Option<u64>, tokens: &[u32], scope: &Scope) -> u64 {
        let add = |hash: u64, word: u64| mix(hash.wrapping_mul(31).wrapping_add(word + 1));
        let mut hash = add(self.options.seed, u64::from(scope.adapter));
        hash = match (parent, &scope.salt) {
            (Some(parent), _) => add(hash, parent >> 1),
            (None, None) => add(hash, 0),
            (None, Some(salt)) => salt.bytes().fold(hash, |h, byte| add(h, u64::from(byte))),
        };
        tokens
            .iter()
            .fold(hash, |h, &token| add(h, u64::from(token)))
    }
}

#[cfg(test)]
mod tests;
