//! What an index adds to the resident memory of its process, per (block, worker) entry.
//!
//! One contender in a fresh process. All that it is fed lies in memory before the baseline is taken;
//! Dynamo's events, which it consumes, are made a few at a time and freed at once.
use crate::contender::Contender;
use crate::trial::SEED;
use crate::workload::{Extra, Workload, blocks};
use crate::{chain, crtc, ours};
use kvroute_bench::Size;
use serde_json::{Value, json};

/// Turns of one step of the fill.
const STEP: usize = 16;

/// Measures the contender of that name, one of [`crate::trial::NAMES`].
pub(crate) fn run(name: &str, size: Size, pool: Option<usize>) -> Option<Value> {
    let extra = Extra {
        pool,
        ..Extra::NONE
    };
    let workload = Workload::new(size, extra, SEED);
    match name {
        "kvroute" => {
            let feed = ours::Feed::new(&workload);
            Some(grow(&workload, || ours::Ours::new(&feed)))
        }
        "chain" => {
            let feed = chain::Feed::new(&workload);
            Some(grow(&workload, || chain::Chain::new(&feed)))
        }
        "crtc" => {
            let feed = crtc::Feed::new(&workload);
            Some(grow(&workload, || crtc::Crtc::new(&feed)))
        }
        _ => None,
    }
}

fn grow<C: Contender>(workload: &Workload, index: impl FnOnce() -> C) -> Value {
    let before = resident();
    let mut index = index();
    for turns in workload.stores.chunks(STEP) {
        index.store(turns);
    }
    let after = resident();
    let entries = blocks(&workload.stores);
    let counted = index.entries().unwrap_or(entries);
    assert_eq!(counted, entries, "the index does not hold what was stored");
    let growth = after.saturating_sub(before);
    json!({
        "before_bytes": before,
        "growth_bytes": growth,
        "entries": entries,
        "bytes_per_entry": growth as f64 / entries as f64,
    })
}

/// Resident bytes: the counter of `/proc/self/statm`, read where it does not need the page size.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status");
    let status = status.unwrap_or_else(|e| panic!("/proc/self/status: {e}"));
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix("kB"));
    let kilobytes: Option<u64> = kilobytes.and_then(|text| text.trim().parse().ok());
    kilobytes.unwrap_or_else(|| panic!("/proc/self/status has no VmRSS")) * 1_024
}
