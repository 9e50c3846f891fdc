//! A JSON list of block hashes: whole numbers of 64 bits, up to 20 digits; negative ones are the same bits with a sign.
//!
//! One after the other, eight digits at a time.
use super::find::List;
use kvroute_engine::types::BlockKey;

/// A buffer of block hashes, which are keys of plain blocks, that is used again and again.
#[derive(Clone, Debug, Default)]
pub struct Hashes(Vec<BlockKey>);

impl Hashes {
    /// The hashes read last.
    #[must_use]
    pub fn as_slice(&self) -> &[BlockKey] {
        &self.0
    }

    /// Takes these instead.
    pub fn replace(&mut self, hashes: Vec<BlockKey>) {
        self.0 = hashes;
    }

    /// Gives memory back that is beyond `hashes` hashes.
    pub fn shrink(&mut self, hashes: usize) {
        self.0.truncate(hashes);
        self.0.shrink_to(hashes);
    }
}

impl List for Hashes {
    /// Numbers are parted by a comma, and a blank if need be.
    fn read(&mut self, text: &[u8], at: usize) -> Option<usize> {
        self.0.clear();
        if text.get(at) == Some(&b']') {
            return Some(at + 1);
        }
        let mut at = at;
        loop {
            let (hash, end) = number(text, at)?;
            self.0.push(BlockKey::new(hash));
            at = match (text.get(end)?, text.get(end + 1)) {
                (b',', Some(b' ')) => end + 2,
                (b',', _) => end + 1,
                (b']', _) => return Some(end + 1),
                _ => return None,
            };
        }
    }
}

/// The number that begins at `at`, and where it ends. -0 is not whole for a parser of JSON.
fn number(text: &[u8], at: usize) -> Option<(u64, usize)> {
    let negative = text.get(at) == Some(&b'-');
    let begin = at + usize::from(negative);
    let (value, end) = digits(text, begin)?;
    let needless = text.get(begin) == Some(&b'0') && (end > begin + 1 || negative);
    if end == begin || needless {
        return None;
    }
    if negative {
        let value = 0_i64.checked_sub_unsigned(value)?;
        return Some((value.cast_unsigned(), end));
    }
    Some((value, end))
}

/// What the digits from `at` on come to, and where they end.
fn digits(text: &[u8], at: usize) -> Option<(u64, usize)> {
    const EIGHT: u64 = 100_000_000;
    let (mut value, mut at) = (0_u64, at);
    while let Some(eight) = text.get(at..).and_then(<[u8]>::first_chunk)
        && let Some(eight) = eight_digits(u64::from_le_bytes(*eight))
    {
        value = value.checked_mul(EIGHT)?.checked_add(eight)?;
        at += 8;
    }
    while let Some(digit @ b'0'..=b'9') = text.get(at) {
        let digit = u64::from(digit - b'0');
        value = value.checked_mul(10)?.checked_add(digit)?;
        at += 1;
    }
    Some((value, at))
}

/// The number that eight bytes are, if they are all digits.
const fn eight_digits(eight: u64) -> Option<u64> {
    const EACH: u64 = u64::MAX / 0xff;
    let values = eight ^ (EACH * b'0' as u64);
    // Above nine a byte reaches its highest bit, and never the next byte.
    if (((values & (EACH * 0x7f)) + EACH * 0x76) | values) & (EACH * 0x80) != 0 {
        return None;
    }
    let pairs = (values.wrapping_mul(1 + (10 << 8)) >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(1 + (100 << 16)) >> 16) & 0x0000_ffff_0000_ffff;
    Some(fours.wrapping_mul(1 + (10_000 << 32)) >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(list: &str) -> Option<(Vec<u64>, usize)> {
        let mut hashes = Hashes(vec![BlockKey::new(7)]);
        let end = hashes.read(list.as_bytes(), 0)?;
        Some((hashes.0.into_iter().map(BlockKey::get).collect(), end))
    }

    #[test]
    fn signed_and_unsigned_hashes_are_the_same_bits() {
        assert_eq!(read("]"), Some((vec![], 1)));
        let list = "5, 18446744073709551615,-1,-9223372036854775808, 12345678,123456789012345678]";
        let hashes = vec![
            5,
            u64::MAX,
            u64::MAX,
            1 << 63,
            12_345_678,
            123_456_789_012_345_678,
        ];
        assert_eq!(read(list), Some((hashes, list.len())));
    }

    #[test]
    fn every_length_is_read() {
        for digits in 1..=19 {
            let hash = 9_876_543_219_876_543_219 / 10_u64.pow(19 - digits);
            let text = hash.to_string();
            assert_eq!(
                read(&format!("{text}]")),
                Some((vec![hash], text.len() + 1))
            );
            let three = format!("1,{text}, 2]]]]]]]]");
            assert_eq!(read(&three), Some((vec![1, hash, 2], text.len() + 6)));
        }
    }

    #[test]
    fn anything_else_is_left_to_others() {
        for list in [
            "",
            "1",
            "1,",
            ",]",
            "1,]",
            "-]",
            "-0]",
            "00]",
            "-01]",
            "01]",
            "1 ]",
            " ]",
            "1  ,2]",
            "1,  2]",
            "1.0]",
            "1e3]",
            "18446744073709551616]",
            "-9223372036854775809]",
            "99999999999999999999999999]",
            "null]",
            "1}",
            "+1]",
            "--1]",
        ] {
            assert_eq!(read(list), None, "{list:?}");
        }
    }
}
