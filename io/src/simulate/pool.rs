//! The blocks of one engine's prefix cache, after vLLM's block pool: who uses them, what they hold, which goes first.
//!
//! [`fake::cache`](crate::fake::cache) models the same literally, with the tokens of every block in memory and ordered
//! maps; this one keeps numbers only, so that millions of blocks pass through it in seconds. A test compares the two.
use ahash::AHashMap;

/// No block.
const NONE: u32 = u32::MAX;

/// A physical block.
#[derive(Clone, Copy, Debug)]
struct Block {
    /// The hash of what it holds, if `holds`.
    hash: u64,
    holds: bool,
    users: u32,
    /// Its neighbours among the free blocks, least recently used first, while nobody uses it.
    before: u32,
    after: u32,
    /// The next block with the same hash.
    same: u32,
}

/// Physical blocks.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    blocks: Vec<Block>,
    /// By hash: the first block that holds it.
    cached: AHashMap<u64, u32>,
    first: u32,
    last: u32,
    free: usize,
}

impl Pool {
    /// So many empty blocks.
    pub(crate) fn new(blocks: u32) -> Self {
        let empty = Block {
            hash: 0,
            holds: false,
            users: 0,
            before: NONE,
            after: NONE,
            same: NONE,
        };
        let mut pool = Self {
            blocks: vec![empty; blocks as usize],
            cached: AHashMap::new(),
            first: NONE,
            last: NONE,
            free: 0,
        };
        (0..blocks).for_each(|at| pool.append(at));
        pool
    }

    /// Blocks that nobody uses.
    pub(crate) const fn free(&self) -> usize {
        self.free
    }

    /// Blocks that there are.
    pub(crate) const fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Different things that are held.
    pub(crate) fn distinct(&self) -> usize {
        self.cached.len()
    }

    /// How many of these hashes, from the first on, some block holds.
    pub(crate) fn leading(&self, hashes: &[u64]) -> usize {
        let held = |hash: &&u64| self.cached.contains_key(hash);
        hashes.iter().take_while(held).count()
    }

    /// How many of the blocks that hold these hashes nobody uses: those that leave the free ones if the hashes are used.
    pub(crate) fn idle(&self, hashes: &[u64]) -> usize {
        let idle = |hash: &&u64| {
            let at = self.cached.get(hash);
            at.is_some_and(|&at| self.blocks[at as usize].users == 0)
        };
        hashes.iter().filter(idle).count()
    }

    /// Uses the block that holds this hash.
    pub(crate) fn reuse(&mut self, hash: u64) -> Option<u32> {
        let at = *self.cached.get(&hash)?;
        if self.blocks[at as usize].users == 0 {
            self.unlink(at);
        }
        self.blocks[at as usize].users += 1;
        Some(at)
    }

    /// Uses the least recently used free block for something new. What it held is put into `evicted`.
    pub(crate) fn take(&mut self, evicted: &mut Vec<u64>) -> Option<u32> {
        let at = self.first;
        if at == NONE {
            return None;
        }
        self.unlink(at);
        let block = &mut self.blocks[at as usize];
        block.users = 1;
        if std::mem::take(&mut block.holds) {
            let hash = block.hash;
            self.forget(hash, at);
            evicted.push(hash);
        }
        Some(at)
    }

    /// A block in use holds this from now on.
    pub(crate) fn fill(&mut self, at: u32, hash: u64) {
        let block = &mut self.blocks[at as usize];
        block.hash = hash;
        block.holds = true;
        block.same = NONE;
        let Some(&first) = self.cached.get(&hash) else {
            self.cached.insert(hash, at);
            return;
        };
        let mut end = first;
        while self.blocks[end as usize].same != NONE {
            end = self.blocks[end as usize].same;
        }
        self.blocks[end as usize].same = at;
    }

    /// One user less of each of a request's blocks. The last block is the first to be taken for something else.
    pub(crate) fn release(&mut self, blocks: &[u32]) {
        for &at in blocks.iter().rev() {
            let block = &mut self.blocks[at as usize];
            block.users -= 1;
            if block.users == 0 {
                self.append(at);
            }
        }
    }

    /// Takes a block out of the row of those with its hash.
    fn forget(&mut self, hash: u64, at: u32) {
        let next = std::mem::replace(&mut self.blocks[at as usize].same, NONE);
        let Some(&first) = self.cached.get(&hash) else {
            return;
        };
        if first == at {
            if next == NONE {
                self.cached.remove(&hash);
            } else {
                self.cached.insert(hash, next);
            }
            return;
        }
        let mut before = first;
        while before != NONE && self.blocks[before as usize].same != at {
            before = self.blocks[before as usize].same;
        }
        if before != NONE {
            self.blocks[before as usize].same = next;
        }
    }

    /// Makes a block the last free one.
    fn append(&mut self, at: u32) {
        let last = self.last;
        let block = &mut self.blocks[at as usize];
        (block.before, block.after) = (last, NONE);
        match last {
            NONE => self.first = at,
            last => self.blocks[last as usize].after = at,
        }
        self.last = at;
        self.free += 1;
    }

    /// Takes a block out of the free ones.
    fn unlink(&mut self, at: u32) {
        let Block { before, after, .. } = self.blocks[at as usize];
        match before {
            NONE => self.first = after,
            before => self.blocks[before as usize].after = after,
        }
        match after {
            NONE => self.last = before,
            after => self.blocks[after as usize].before = before,
        }
        self.free -= 1;
    }
}
