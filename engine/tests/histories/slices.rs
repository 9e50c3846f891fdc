//! Dumps written and restored in slices of any size.
use kvroute_engine::{DUMP_RECORD_MAX, Participant, RestoreError, RestoreReport, Writer};

/// Numbers for the sizes of slices (splitmix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((z ^ (z >> 31)) % bound.max(1) as u64) as usize
    }
}

/// A worker's dump, in slices of any size.
pub(crate) fn dump(writer: &Writer, random: &mut Random) -> Vec<u8> {
    let (mut dump, mut out) = (writer.dump(), Vec::new());
    let most = [1, 40, 10_000][random.below(3)];
    while !dump
        .write_some(writer, &mut out, random.below(most))
        .unwrap()
    {}
    out
}

/// Restores a dump that comes in pieces of any size.
pub(crate) fn restore(
    writer: &mut Writer,
    at: &Participant,
    bytes: &[u8],
    random: &mut Random,
) -> Result<RestoreReport, RestoreError> {
    let mut restore = writer.restore()?;
    let most = [8, 100, 10_000][random.below(3)];
    let (mut from, mut to) = (0, 0);
    while !restore.has_ended() {
        let taken = restore.feed(writer, at, &bytes[from..to], random.below(most))?;
        from += taken;
        if taken > 0 {
            continue;
        }
        assert!(to - from < DUMP_RECORD_MAX, "a whole record was there");
        if to == bytes.len() {
            break;
        }
        to = bytes.len().min(to + 1 + random.below(most));
    }
    let runs = random.below(3);
    loop {
        if let Some(report) = restore.finish(writer, at, runs)? {
            assert_eq!(report.stored, writer.blocks());
            assert_eq!(report.waiting, writer.waiting() as u64);
            return Ok(report);
        }
    }
}
