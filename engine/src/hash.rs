//! Block keys: one 64-bit hash per block, the same on every machine and in every version.
//!
//! A plain block's key is XXH3-64 with a seed (1337 by default) over its token ids as little-endian
//! `u32`: what clients of RFC #1403 compute for `/query_by_hash`. A block with extra keys (cache
//! salt, multimodal content, prompt embeddings) is keyed by the XXH3-64 of sixteen bytes: its plain
//! key and the [`ExtraDigest`] of its extra keys, both little-endian.
//!
//! The digest walks the engine's list of extra keys without building it: a state starts at zero,
//! and each atom replaces it by `xxh3(bytes of the atom, seed = state * ODD + tag of its type)`.
//! Opening a list is an atom that carries the list's length, so nesting is unambiguous.
//! The adapter's name, which engines put first, is left out by the callers: it selects the context.
use crate::types::{BlockKey, EngineHash, TokenBytes};
use crate::xxh3::Seeded;
use xxhash_rust::xxh3::xxh3_64_with_seed;

#[cfg(target_endian = "big")]
compile_error!("token ids are hashed in place as little-endian bytes");

/// The seed that RFC #1403 clients use.
pub const SEED_DEFAULT: u64 = 1337;

/// An odd number with its bits well spread (2^64 divided by the golden ratio).
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

/// The digest of one block's extra keys, or [`ExtraDigest::NONE`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ExtraDigest(u64);

impl ExtraDigest {
    /// The block has no extra keys.
    pub const NONE: Self = Self(0);

    /// Whether the block has none.
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// The 64 bits, zero for none.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// Walks one block's extra keys, atom by atom, into an [`ExtraDigest`]. No allocation.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExtraHasher {
    state: u64,
    atoms: u32,
}

impl ExtraHasher {
    /// A hasher that has seen nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { state: 0, atoms: 0 }
    }

    /// A text: adapter-independent names, salts, multimodal identifiers.
    pub fn text(&mut self, text: &str) {
        self.atom(1, text.as_bytes());
    }

    /// Raw bytes: digests of prompt embeddings.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.atom(2, bytes);
    }

    /// An integer of any width and sign; equal values hash equally whatever their encoding.
    pub fn integer(&mut self, value: i128) {
        self.atom(3, &value.to_le_bytes());
    }

    /// A floating-point number, by its bits.
    pub fn float(&mut self, value: f64) {
        self.atom(4, &value.to_bits().to_le_bytes());
    }

    /// True or false.
    pub fn boolean(&mut self, value: bool) {
        self.atom(5, &[u8::from(value)]);
    }

    /// Nil.
    pub fn nil(&mut self) {
        self.atom(6, &[]);
    }

    /// A nested list (an mm item's identifier and offset, say) of `len` values, which follow.
    pub fn list(&mut self, len: u32) {
        self.atom(7, &len.to_le_bytes());
    }

    /// A nested map of `len` pairs, which follow as key, value, key, value in the sender's order.
    pub fn map(&mut self, len: u32) {
        self.atom(8, &len.to_le_bytes());
    }

    /// The digest; [`ExtraDigest::NONE`] if nothing was hashed.
    #[must_use]
    pub fn finish(self) -> ExtraDigest {
        match (self.atoms, self.state) {
            (0, _) => ExtraDigest::NONE,
            (_, 0) => ExtraDigest(1),
            (_, state) => ExtraDigest(state),
        }
    }

    fn atom(&mut self, tag: u64, bytes: &[u8]) {
        self.state = xxh3_64_with_seed(bytes, self.state.wrapping_mul(ODD).wrapping_add(tag));
        self.atoms += 1;
    }
}

/// Makes block keys under one seed; made once for a prompt or an event.
#[derive(Clone, Copy, Debug)]
pub struct BlockHasher {
    seed: u64,
    seeded: Seeded,
}

impl BlockHasher {
    /// For one seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        let seeded = Seeded::new(seed);
        Self { seed, seeded }
    }

    /// The key of one block. O(tokens); about 3 ns for 16 tokens.
    #[inline]
    #[must_use]
    pub fn key(&self, tokens: &[u32], extra: ExtraDigest) -> BlockKey {
        self.key_of_bytes(bytemuck::cast_slice(tokens), extra)
    }

    /// The same from the token ids' bytes.
    #[inline]
    #[must_use]
    pub fn key_of_bytes(&self, tokens: &[TokenBytes], extra: ExtraDigest) -> BlockKey {
        let plain = self.seeded.tokens(tokens);
        if extra.is_none() {
            return BlockKey::new(plain);
        }
        self.with_extra(plain, extra)
    }

    /// The keys of consecutive blocks of 16 tokens without extra keys: their multiplications overlap.
    #[inline]
    pub(crate) fn plain_16<const N: usize>(&self, blocks: &[[TokenBytes; 16]; N]) -> [u64; N] {
        std::array::from_fn(|at| self.seeded.of_16(&blocks[at]).max(1))
    }

    fn with_extra(&self, plain: u64, extra: ExtraDigest) -> BlockKey {
        let mut both = [0; 16];
        both[..8].copy_from_slice(&plain.to_le_bytes());
        both[8..].copy_from_slice(&extra.0.to_le_bytes());
        BlockKey::new(xxh3_64_with_seed(&both, self.seed))
    }
}

/// The key of one block: [`BlockHasher::key`] for a single one. O(tokens).
#[must_use]
pub fn block_key(seed: u64, tokens: &[u32], extra: ExtraDigest) -> BlockKey {
    BlockHasher::new(seed).key(tokens, extra)
}

/// A checksum of bytes, to tell equal ones from others. Not a block key.
#[must_use]
pub fn checksum(bytes: &[u8]) -> u64 {
    xxh3_64_with_seed(bytes, 0)
}

/// The key of a block whose extra keys its engine does not say, and whose plain key the same worker
/// holds under another name: no request's key, so it is never credited to one.
pub(crate) fn kept_apart_key(plain: BlockKey, name: EngineHash) -> BlockKey {
    let mut both = [0; 16];
    both[..8].copy_from_slice(&plain.get().to_le_bytes());
    both[8..].copy_from_slice(&name.0.to_le_bytes());
    BlockKey::new(xxh3_64_with_seed(&both, ODD))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(n: u32) -> Vec<u32> {
        (1..=n).collect()
    }

    fn plain(seed: u64, tokens: &[u32]) -> u64 {
        block_key(seed, tokens, ExtraDigest::NONE).get()
    }

    /// Made with the Python package `xxhash` 3 over `struct.pack("<nI", ...)`.
    #[test]
    fn plain_keys_are_xxh3_of_the_token_bytes() {
        assert_eq!(plain(1337, &tokens(16)), 0xea06_fc71_a5ee_6e88);
        assert_eq!(plain(1337, &tokens(32)), 0x58cd_e804_6940_7a3a);
        assert_eq!(plain(1337, &[]), 0xd1f3_e774_4443_0ab9);
        let long: Vec<u32> = (0..256).collect();
        assert_eq!(plain(1337, &long), 0xbb79_c83a_0cdf_bb76);
        assert_eq!(plain(7, &tokens(16)), 0x15e7_ad8f_8f9e_dba4);
    }

    /// Made by a Python transcription of the module's text.
    #[test]
    fn extra_keys_are_folded_as_documented() {
        let mut salt = ExtraHasher::new();
        salt.text("tenant-A");
        let key = block_key(1337, &tokens(16), salt.finish());
        assert_eq!(key.get(), 0xcdab_41f6_30fa_5d49);

        let mut item = ExtraHasher::new();
        item.list(2);
        item.text(&"ab".repeat(32));
        item.integer(-22);
        item.text("tenant-A");
        let key = block_key(1337, &tokens(16), item.finish());
        assert_eq!(key.get(), 0x838c_ceaf_e335_1859);

        let mut rest = ExtraHasher::new();
        rest.bytes(&[0, 255]);
        rest.float(1.5);
        rest.boolean(true);
        rest.nil();
        rest.map(1);
        rest.text("k");
        rest.integer(1);
        let key = block_key(1337, &tokens(16), rest.finish());
        assert_eq!(key.get(), 0x38dc_1ea3_98b2_2a12);
    }

    #[test]
    fn no_extra_keys_is_not_an_empty_text() {
        let mut empty = ExtraHasher::new();
        assert!(empty.finish().is_none());
        empty.text("");
        assert!(!empty.finish().is_none());
    }
}
