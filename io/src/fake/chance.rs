//! Chance with a seed: the same seed gives the same numbers on every machine (SplitMix64).

/// A source of numbers.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// The source of a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Another source, of this one's next number: what is drawn from it changes nothing here.
    #[must_use]
    pub const fn fork(&mut self) -> Self {
        Self(self.next())
    }

    /// The next 64 bits.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `bound`; 0 if that is 0.
    pub const fn below(&mut self, bound: u64) -> u64 {
        // The high half of the product: even enough for bounds far below 2^64.
        ((self.next() as u128 * bound as u128) >> 64) as u64
    }

    /// A number from `first` to `last`.
    pub const fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last.saturating_sub(first).saturating_add(1))
    }

    /// A place in a list of `len`; 0 if that is 0.
    pub const fn place(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// True in so many of a thousand cases.
    pub const fn per_mille(&mut self, cases: u64) -> bool {
        self.below(1_000) < cases
    }
}

/// Spreads 64 bits over 64 bits, one to one.
#[must_use]
pub const fn mix(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_gives_the_published_numbers() {
        // The first three of SplitMix64 with seed 1234567, from its reference implementation.
        let mut chance = Chance::new(1_234_567);
        let numbers = [chance.next(), chance.next(), chance.next()];
        let expected = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
        ];
        assert_eq!(numbers, expected);
    }

    #[test]
    fn bounds_are_kept_and_reached() {
        let mut chance = Chance::new(1);
        let mut seen = [0_u32; 4];
        for _ in 0..1_000 {
            seen[chance.between(2, 3) as usize] += 1;
        }
        assert!(
            seen[2] > 400 && seen[3] > 400 && seen[2] + seen[3] == 1_000,
            "{seen:?}"
        );
        assert_eq!(chance.below(0), 0);
        assert!(!chance.per_mille(0) && chance.per_mille(1_000));
    }
}
