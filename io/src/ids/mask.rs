//! What kinds of bytes there are among 64, one bit each.
use super::list::BLOCK;

/// Which of the bytes are what; the first byte is the lowest bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Masks {
    /// `0` to `9`.
    pub(super) digits: u64,
    /// `0`.
    pub(super) zeros: u64,
    /// `,`.
    pub(super) commas: u64,
    /// ` `.
    pub(super) blanks: u64,
}

/// One in each byte of a word.
const EACH: u64 = u64::MAX / 0xff;

impl Masks {
    /// Of these bytes, eight at a time.
    pub(super) fn of(bytes: &[u8; BLOCK]) -> Self {
        let mut masks = Self {
            digits: 0,
            zeros: 0,
            commas: 0,
            blanks: 0,
        };
        for (at, eight) in bytes.as_chunks().0.iter().enumerate() {
            let word = u64::from_le_bytes(*eight);
            let is = |byte: u8| gather(below(word ^ (EACH * u64::from(byte)), 1)) << (8 * at);
            masks.digits |= gather(below(word ^ (EACH * u64::from(b'0')), 10)) << (8 * at);
            masks.zeros |= is(b'0');
            masks.commas |= is(b',');
            masks.blanks |= is(b' ');
        }
        masks
    }

    /// Only of the first `bytes`, fewer than 64.
    pub(super) const fn below(self, bytes: usize) -> Self {
        let first = !(u64::MAX << bytes);
        Self {
            digits: self.digits & first,
            zeros: self.zeros & first,
            commas: self.commas & first,
            blanks: self.blanks & first,
        }
    }
}

/// The highest bit of each byte that is below `bound`, which is at most 128.
const fn below(word: u64, bound: u8) -> u64 {
    // The sum reaches the highest bit from `bound` on, and never the next byte.
    let sum = (word & (EACH * 0x7f)) + EACH * (0x80 - bound as u64);
    !(sum | word) & (EACH * 0x80)
}

/// The highest bits of eight bytes, side by side.
const fn gather(highest: u64) -> u64 {
    (highest >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_at_every_place_is_what_it_is() {
        for byte in 0..=u8::MAX {
            let around = [b'7', b',', b' ', b'0', 0, 0xff, b'/', b':'];
            for (at, around) in (0..BLOCK).zip(around.into_iter().cycle()) {
                let mut bytes = [around; BLOCK];
                bytes[at] = byte;
                let all = |is: fn(u8) -> bool| {
                    let bits = bytes.iter().enumerate();
                    bits.fold(0, |mask, (at, &byte)| mask | u64::from(is(byte)) << at)
                };
                let expected = Masks {
                    digits: all(|byte| byte.is_ascii_digit()),
                    zeros: all(|byte| byte == b'0'),
                    commas: all(|byte| byte == b','),
                    blanks: all(|byte| byte == b' '),
                };
                assert_eq!(Masks::of(&bytes), expected, "{byte} at {at}");
                #[cfg(target_arch = "x86_64")]
                if let Some(masks) = super::super::avx2::masks(&bytes) {
                    assert_eq!(masks, expected, "{byte} at {at}, AVX2");
                }
            }
        }
    }
}
