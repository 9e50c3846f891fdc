//! Metrics of the index. All are sums that writers keep, or small lists: the tree is not walked.
use super::{add_up, counter, gauge};
use crate::fleet::{Fleet, FleetView};
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Unit;
use std::fmt::Result;

/// Appends them. O(workers + contexts).
pub(super) fn index(
    encoder: &mut DescriptorEncoder<'_>,
    fleet: &Fleet,
    view: &FleetView,
) -> Result {
    let index = fleet.index();
    let help = "Memory that the index takes.";
    let bytes = Some(&Unit::Bytes);
    gauge(encoder, "kvroute_index", help, bytes)?.encode_gauge(&index.bytes())?;
    if let Some(most) = index.bytes_max() {
        let help = "Memory that the index may take.";
        gauge(encoder, "kvroute_index_budget", help, bytes)?.encode_gauge(&most)?;
    }
    let entries: u64 = view.workers().map(|info| info.status().blocks()).sum();
    let mut contexts = 0_u64;
    index.each_context(|_, _, _| contexts += 1);
    for (name, help, value) in [
        (
            "kvroute_index_entries",
            "Blocks that workers hold, each counted for each worker that holds it.",
            entries,
        ),
        (
            "kvroute_index_runs",
            "Unbranched pieces of prefixes in the index.",
            index.runs(),
        ),
        (
            "kvroute_index_contexts",
            "Models, adapters and block sizes of which blocks are held, each combination once.",
            contexts,
        ),
    ] {
        gauge(encoder, name, help, None)?.encode_gauge(&value)?;
    }
    let help = "Blocks of workers that were forgotten to stay within the budget.";
    add_up(
        counter(encoder, "kvroute_index_evictions", help)?,
        index.evicted(),
    )
}
