//! A request's block keys, computed in step with the comparison.
//!
//! Keys are compared with a run's slots in one call for each segment, so that the comparison of many
//! and the hashing of several blocks can overlap. At most [`AHEAD`] blocks past a mismatch are hashed
//! in vain; one by one costs twice the time on the blocks that match.
use crate::hash::{BlockHasher, ExtraDigest};
use crate::sync::{AtomicU64, Ordering, prefetch_lines};
use crate::types::{BlockKey, TokenBytes};

/// Blocks that are hashed at once.
const AHEAD: usize = 4;

/// Consecutive key slots of a run.
#[derive(Clone, Copy, Debug)]
pub struct Slots<'a>(pub(crate) &'a [AtomicU64]);

impl Slots<'_> {
    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The slot's key, zero if it has none yet.
    fn key(&self, at: usize) -> u64 {
        // Relaxed: written once, and nothing is reached through it.
        self.0
            .get(at)
            .map_or(0, |slot| slot.load(Ordering::Relaxed))
    }

    /// Whether the `N` slots from `at` on hold these keys.
    #[inline]
    fn hold<const N: usize>(&self, at: usize, keys: &[u64; N]) -> bool {
        let Some(slots) = self.0.get(at..at + N) else {
            return false;
        };
        let differ = |(slot, key): (&AtomicU64, &u64)| slot.load(Ordering::Relaxed) ^ key;
        // No early end: the loads overlap.
        slots
            .iter()
            .zip(keys)
            .map(differ)
            .fold(0, |all, one| all | one)
            == 0
    }
}

/// A request's block keys, computed as they are asked for, in order.
pub trait Keys {
    /// The key of a block; `None` past the last whole block. A block may be asked for twice.
    fn key(&mut self, block: usize) -> Option<BlockKey>;

    /// How many of the slots, from the first on, hold the keys of the blocks from `block` on.
    fn matching(&mut self, block: usize, slots: Slots<'_>) -> usize {
        let same = |&at: &usize| {
            let key = self.key(block + at);
            key.is_some_and(|key| key.get() == slots.key(at))
        };
        (0..slots.len()).take_while(same).count()
    }
}

impl Keys for &[BlockKey] {
    fn key(&mut self, block: usize) -> Option<BlockKey> {
        self.get(block).copied()
    }

    #[inline]
    fn matching(&mut self, block: usize, slots: Slots<'_>) -> usize {
        const AT_ONCE: usize = 8;
        let keys = self.get(block..).unwrap_or_default();
        let mut at = 0;
        for eight in keys.as_chunks::<AT_ONCE>().0 {
            if !slots.hold(at, &eight.map(BlockKey::get)) {
                break;
            }
            at += AT_ONCE;
        }
        let rest = keys.iter().enumerate().skip(at);
        let same = rest.take_while(|(at, key)| slots.key(*at) == key.get());
        at + same.count()
    }
}

/// Keys computed from token ids.
#[derive(Clone, Copy, Debug)]
pub struct TokenKeys<'a> {
    hasher: BlockHasher,
    block_size: usize,
    tokens: &'a [TokenBytes],
    extra: &'a [ExtraDigest],
}

impl<'a> TokenKeys<'a> {
    /// `extra` is by block; where it is shorter, the blocks have none.
    #[must_use]
    pub fn new(seed: u64, block_size: u32, tokens: &'a [u32], extra: &'a [ExtraDigest]) -> Self {
        Self::of_bytes(seed, block_size, bytemuck::cast_slice(tokens), extra)
    }

    /// The same from token ids as they lie in a message, at any alignment.
    #[must_use]
    pub fn of_bytes(
        seed: u64,
        block_size: u32,
        tokens: &'a [TokenBytes],
        extra: &'a [ExtraDigest],
    ) -> Self {
        Self {
            hasher: BlockHasher::new(seed),
            block_size: (block_size as usize).max(1),
            tokens,
            extra,
        }
    }

    /// The usual case: blocks of 16 tokens, and from `block` on no extra keys.
    fn plain_16(&self, block: usize) -> Option<&'a [[TokenBytes; 16]]> {
        if self.block_size != 16 || self.extra.len() > block {
            return None;
        }
        self.tokens.as_chunks::<16>().0.get(block..)
    }
}

impl Keys for TokenKeys<'_> {
    #[inline]
    fn key(&mut self, block: usize) -> Option<BlockKey> {
        let first = block.checked_mul(self.block_size)?;
        let tokens = self
            .tokens
            .get(first..first.checked_add(self.block_size)?)?;
        let extra = self.extra.get(block).copied().unwrap_or_default();
        Some(self.hasher.key_of_bytes(tokens, extra))
    }

    #[inline]
    fn matching(&mut self, block: usize, slots: Slots<'_>) -> usize {
        let mut at = 0;
        if let Some(blocks) = self.plain_16(block) {
            for four in blocks.as_chunks::<AHEAD>().0 {
                // The processor's own prefetch ends with the page.
                let ahead = four.as_ptr().wrapping_add(4 * AHEAD);
                prefetch_lines(ahead.cast(), AHEAD);
                if !slots.hold(at, &self.hasher.plain_16(four)) {
                    break;
                }
                at += AHEAD;
            }
        }
        let same = |at: &usize| {
            let key = self.key(block + at);
            key.is_some_and(|key| key.get() == slots.key(*at))
        };
        at + (at..slots.len()).take_while(same).count()
    }
}
