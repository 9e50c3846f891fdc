//! One worker of an answer, made from a holder's word in a few instructions.
use crate::types::{TIERS, WorkerId};

/// One worker that holds at least the first block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Hit {
    /// The worker.
    pub worker: WorkerId,
    /// Leading blocks of the request that it holds, cumulative by tier: on the GPU; on the GPU or
    /// the CPU; anywhere. The last one is the score.
    pub blocks: [u32; TIERS],
}

pub(super) const NOBODY: Hit = Hit {
    worker: WorkerId(u32::MAX),
    blocks: [0; TIERS],
};

/// The hit of an entry's word in the first run, of which `matched` blocks agree. Of a zero word it is
/// one without blocks.
///
/// The four fields stand in the word as they stand in the hit, so they are cut down and widened together.
#[inline]
#[cfg(target_arch = "x86_64")]
pub(super) fn first(word: u64, matched: u32) -> Hit {
    // SAFETY: every x86-64 processor has SSE2.
    unsafe { first_sse2(word, matched) }
}

#[inline]
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse2")]
fn first_sse2(word: u64, matched: u32) -> Hit {
    use std::arch::x86_64::{
        _mm_cvtsi64_si128, _mm_setr_epi16, _mm_setzero_si128, _mm_sub_epi16, _mm_subs_epu16,
        _mm_unpacklo_epi16,
    };
    // Offsets in a run, so `matched` too, are below 2^16.
    let m = matched as i16;
    let most = _mm_setr_epi16(-1, m, m, m, 0, 0, 0, 0);
    let fields = _mm_cvtsi64_si128(word as i64);
    // The smaller of two unsigned ones is a - max(a - b, 0): SSE2 has no minimum for them.
    let fields = _mm_sub_epi16(fields, _mm_subs_epu16(fields, most));
    let fields = _mm_sub_epi16(fields, _mm_setr_epi16(1, 0, 0, 0, 0, 0, 0, 0));
    let [worker, gpu, cpu, any] = bytemuck::cast(_mm_unpacklo_epi16(fields, _mm_setzero_si128()));
    Hit {
        worker: WorkerId(worker),
        blocks: [gpu, cpu, any],
    }
}

#[inline]
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn first(word: u64, matched: u32) -> Hit {
    portable(word, matched)
}

#[cfg(any(test, not(target_arch = "x86_64")))]
fn portable(word: u64, matched: u32) -> Hit {
    let field = |shift: u32| (word >> shift) as u32 & 0xffff;
    Hit {
        worker: WorkerId(field(0).wrapping_sub(1) & 0xffff),
        blocks: [field(16), field(32), field(48)].map(|blocks| blocks.min(matched)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_cut_down_apart() {
        for word in [0, 1, 0x0003_0002_0001_0005, 0xffff_8000_7fff_fde8, u64::MAX] {
            for matched in [1, 2, 0x7fff, 0x8000, 0xffff] {
                assert_eq!(first(word, matched), portable(word, matched), "{word:x}");
            }
        }
        let hit = first(0x0009_0008_0001_0005, 8);
        assert_eq!((hit.worker.0, hit.blocks), (4, [1, 8, 8]));
    }
}
