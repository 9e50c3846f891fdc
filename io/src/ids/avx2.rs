//! The list's reader on processors with AVX2: 32 bytes are classified, and four numbers made, at once.
#[cfg(target_arch = "x86_64")]
pub(super) use x86_64::read;

#[cfg(all(test, target_arch = "x86_64"))]
pub(super) use x86_64::masks;

/// Other processors have none.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn read(_: &mut super::Ids, _: &[u8], _: usize) -> Option<Option<usize>> {
    None
}

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use crate::ids::list::{BLOCK, Block, Ids, Means, Numbers};
    use crate::ids::mask::Masks;
    use std::arch::x86_64::{
        __m256i, _mm256_add_epi64, _mm256_and_si256, _mm256_andnot_si256, _mm256_castsi256_si128,
        _mm256_cmpeq_epi8, _mm256_cmpeq_epi64, _mm256_cmpgt_epi8, _mm256_madd_epi16,
        _mm256_maddubs_epi16, _mm256_min_epu8, _mm256_movemask_epi8, _mm256_mul_epu32,
        _mm256_or_si256, _mm256_permutevar8x32_epi32, _mm256_set_epi64x, _mm256_set1_epi8,
        _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_epi64x, _mm256_setr_epi32,
        _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_srli_epi64, _mm256_sub_epi8,
        _mm256_testz_si256, _mm256_xor_si256,
    };

    /// [`Ids::read`] if the processor has AVX2.
    #[inline]
    pub(crate) fn read(ids: &mut Ids, text: &[u8], at: usize) -> Option<Option<usize>> {
        let avx2 = Avx2::detect()?;
        // SAFETY: `Avx2` exists where the processor has what the function asks for.
        Some(unsafe { read_wide(ids, avx2, text, at) })
    }

    #[cfg(test)]
    pub(crate) fn masks(bytes: &[u8; BLOCK]) -> Option<Masks> {
        Some(Avx2::detect()?.masks(bytes))
    }

    /// The processor has AVX2 and BMI1.
    #[derive(Clone, Copy)]
    struct Avx2(());

    impl Avx2 {
        #[inline]
        fn detect() -> Option<Self> {
            let has = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi1");
            has.then_some(Self(()))
        }
    }

    impl Means for Avx2 {
        #[inline(always)]
        fn masks(&self, bytes: &[u8; BLOCK]) -> Masks {
            // SAFETY: as `self` exists, the processor has what the function asks for.
            unsafe { masks_wide(bytes) }
        }

        #[inline(always)]
        fn numbers(&self, block: &Block, ends: u64, out: &mut Numbers) -> bool {
            // SAFETY: as `self` exists, the processor has what the function asks for.
            unsafe { numbers_wide(block, ends, out) }
        }
    }

    /// All of the reader within one function for AVX2, so that nothing is called in the loop.
    #[target_feature(enable = "avx2,bmi1")]
    fn read_wide(ids: &mut Ids, avx2: Avx2, text: &[u8], at: usize) -> Option<usize> {
        ids.read_by(&avx2, text, at)
    }

    #[inline]
    #[target_feature(enable = "avx2,bmi1")]
    fn masks_wide(bytes: &[u8; BLOCK]) -> Masks {
        let (quarters, _) = bytes.as_chunks::<32>();
        let [low, high] = [quarters[0], quarters[1]].map(|half| wide(half));
        let both = |test: &dyn Fn(__m256i) -> __m256i| {
            let bits = |half| u64::from(_mm256_movemask_epi8(test(half)) as u32);
            bits(low) | bits(high) << 32
        };
        let zero = _mm256_set1_epi8(b'0' as i8);
        let nine = _mm256_set1_epi8(9);
        let comma = _mm256_set1_epi8(b',' as i8);
        let blank = _mm256_set1_epi8(b' ' as i8);
        Masks {
            digits: both(&|bytes| {
                let value = _mm256_sub_epi8(bytes, zero);
                _mm256_cmpeq_epi8(_mm256_min_epu8(value, nine), value)
            }),
            zeros: both(&|bytes| _mm256_cmpeq_epi8(bytes, zero)),
            commas: both(&|bytes| _mm256_cmpeq_epi8(bytes, comma)),
            blanks: both(&|bytes| _mm256_cmpeq_epi8(bytes, blank)),
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,bmi1")]
    fn wide(bytes: [u8; 32]) -> __m256i {
        bytemuck::cast(bytes)
    }

    /// Four at a time; past the last end the numbers are of no meaning.
    #[inline]
    #[target_feature(enable = "avx2,bmi1")]
    fn numbers_wide(block: &Block, ends: u64, out: &mut Numbers) -> bool {
        let mut ends = ends;
        let mut long = _mm256_setzero_si256();
        for (at, four) in out.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            // Most blocks have nine to twelve: three rounds without asking cost less than a wrong guess.
            if at >= 3 && ends == 0 {
                break;
            }
            let mut eight = || {
                // 64 where there is no more: the block's last bytes.
                let end = ends.trailing_zeros() as usize;
                ends &= ends.wrapping_sub(1);
                let digits = block.get(end..).and_then(<[u8]>::first_chunk);
                i64::from_le_bytes(digits.copied().unwrap_or_default())
            };
            let [a, b, c, d] = [eight(), eight(), eight(), eight()];
            let (numbers, fill) = four_numbers(_mm256_set_epi64x(d, c, b, a));
            long = _mm256_or_si256(long, fill);
            *four = numbers;
        }
        _mm256_testz_si256(long, long) == 0
    }

    /// The numbers that four times eight bytes end with, and which of them fill their eight bytes.
    #[inline]
    #[target_feature(enable = "avx2,bmi1")]
    fn four_numbers(text: __m256i) -> ([u32; 4], __m256i) {
        // The last digit first.
        let reversed = _mm256_set1_epi64x(0x0001_0203_0405_0607);
        let upper = _mm256_set_epi64x(0x0808_0808_0808_0808, 0, 0x0808_0808_0808_0808, 0);
        let text = _mm256_shuffle_epi8(text, _mm256_add_epi64(reversed, upper));
        let values = _mm256_xor_si256(text, _mm256_set1_epi8(b'0' as i8));
        let others = _mm256_cmpgt_epi8(values, _mm256_set1_epi8(9));
        // All ones below the first byte that is no digit.
        let less = _mm256_add_epi64(others, _mm256_set1_epi64x(-1));
        let values = _mm256_and_si256(values, _mm256_andnot_si256(others, less));
        // Neighbours meet: digits to pairs, pairs to fours, fours to eight.
        let pairs = _mm256_maddubs_epi16(values, _mm256_set1_epi16(1 + (10 << 8)));
        let fours = _mm256_madd_epi16(pairs, _mm256_set1_epi32(1 + (100 << 16)));
        let upper = _mm256_mul_epu32(_mm256_srli_epi64(fours, 32), _mm256_set1_epi64x(10_000));
        let eights = _mm256_add_epi64(fours, upper);
        let low = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
        let numbers = _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(eights, low));
        let full = _mm256_cmpeq_epi64(others, _mm256_setzero_si256());
        (bytemuck::cast(numbers), full)
    }
}
