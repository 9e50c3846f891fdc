//! XXH3-64 with a seed, for inputs of exactly 64 and 128 bytes: blocks of 16 and 32 tokens.
//!
//! The general entry of the usual crate chooses a path by length, and derives what depends on the seed
//! anew, for every block: 8 to 30 ns for 64 bytes. Here the length is known to the compiler, the
//! seed's part is kept by the caller for the whole prompt, and several blocks run through the
//! multiplier at once. Other lengths go to the crate. Specification: xxHash, `doc/xxhash_spec.md`,
//! "XXH3 Algorithm Overview" (medium inputs).
use crate::types::TokenBytes;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The first 128 bytes of the default secret, as little-endian words.
const SECRET: [u64; 16] = [
    0xbe4b_a423_396c_feb8,
    0x1cad_21f7_2c81_017c,
    0xdb97_9083_e96d_d4de,
    0x1f67_b3b7_a4a4_4072,
    0x78e5_c0cc_4ee6_79cb,
    0x2172_ffcc_7dd0_5a82,
    0x8e24_43f7_7446_08b8,
    0x4c26_3a81_e690_35e0,
    0xcb00_c391_bb52_283c,
    0xa32e_531b_8b65_d088,
    0x4ef9_0da2_9748_6471,
    0xd8ac_dea9_46ef_1938,
    0x3f34_9ce3_3f76_faa8,
    0x1d4f_0bc7_c7bb_dcf9,
    0x3159_b4cd_4be0_518a,
    0x6473_78d9_c97e_9fc8,
];

const PRIME64_1: u64 = 0x9e37_79b1_85eb_ca87;
const AVALANCHE: u64 = 0x1656_6791_9e37_79f9;

/// A seed, mixed into the secret once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seeded {
    seed: u64,
    secret: [u64; 16],
}

impl Seeded {
    pub(crate) const fn new(seed: u64) -> Self {
        let mut secret = SECRET;
        let mut at = 0;
        while at < secret.len() {
            secret[at] = secret[at].wrapping_add(seed);
            secret[at + 1] = secret[at + 1].wrapping_sub(seed);
            at += 2;
        }
        Self { seed, secret }
    }

    /// XXH3-64 of the tokens' bytes.
    #[inline]
    pub(crate) fn tokens(&self, tokens: &[TokenBytes]) -> u64 {
        if let Ok(block) = tokens.try_into() {
            return self.of_16(block);
        }
        if let Ok(block) = tokens.try_into() {
            return self.of_32(block);
        }
        xxh3_64_with_seed(tokens.as_flattened(), self.seed)
    }

    /// The same for 16 tokens. About 3 ns, where several are computed in a row.
    #[inline]
    pub(crate) fn of_16(&self, block: &[TokenBytes; 16]) -> u64 {
        let length = PRIME64_1.wrapping_mul(64);
        let inner = self.mix(block, 4, 4).wrapping_add(self.mix(block, 8, 6));
        let outer = self.mix(block, 0, 0).wrapping_add(self.mix(block, 12, 2));
        avalanche(length.wrapping_add(inner).wrapping_add(outer))
    }

    #[inline]
    fn of_32(&self, block: &[TokenBytes; 32]) -> u64 {
        let mut sum = PRIME64_1.wrapping_mul(128);
        for pair in 0..4 {
            let front = self.mix(block, 4 * pair, 4 * pair);
            let back = self.mix(block, 28 - 4 * pair, 4 * pair + 2);
            sum = sum.wrapping_add(front).wrapping_add(back);
        }
        avalanche(sum)
    }

    /// Four tokens from `at` on, multiplied under two words of the secret, folded.
    #[inline]
    fn mix<const N: usize>(&self, block: &[TokenBytes; N], at: usize, secret: usize) -> u64 {
        let half = |at: usize| u64::from(u32::from_le_bytes(block[at]));
        let word = |at: usize| half(at) | half(at + 1) << 32;
        let low = word(at) ^ self.secret[secret];
        let high = word(at + 2) ^ self.secret[secret + 1];
        let product = u128::from(low) * u128::from(high);
        product as u64 ^ (product >> 64) as u64
    }
}

#[inline]
const fn avalanche(mut hash: u64) -> u64 {
    hash ^= hash >> 37;
    hash = hash.wrapping_mul(AVALANCHE);
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the crate, which the published test values of `hash` hold.
    #[test]
    fn every_length_agrees_with_the_general_entry() {
        let mut state = 7_u64;
        let mut token = || {
            state = state.wrapping_mul(AVALANCHE).wrapping_add(1);
            ((state >> 32) as u32).to_le_bytes()
        };
        for seed in [0, 1337, u64::MAX] {
            let seeded = Seeded::new(seed);
            for len in 0..70 {
                let tokens: Vec<TokenBytes> = (0..len).map(|_| token()).collect();
                let general = xxh3_64_with_seed(tokens.as_flattened(), seed);
                assert_eq!(seeded.tokens(&tokens), general, "{len} tokens");
            }
        }
    }
}
