//! Looks as text.
use crate::Size;
use crate::look::Look;
use std::collections::BTreeMap;
use std::fmt::Write;

/// One look as it happens.
pub(crate) fn progress(look: &Look) -> String {
    let Look {
        seconds,
        pods,
        turns,
        taken,
        resident_mb,
        blocks,
        calm_seconds,
        found,
        ..
    } = look;
    let bad = found.wrong + found.over + found.late + found.ghosts + found.leaks;
    format!(
        "{seconds:>4} s  {pods} pods after {turns} turns, at rest in {calm_seconds:.1} s: {blocks} blocks, \
         {resident_mb:.1} MB, {} threads, {} descriptors, {} series; {} answers, {bad} wrong",
        taken.threads,
        taken.descriptors,
        taken.series + taken.pod_series,
        found.answers
    )
}

/// The whole run.
pub(crate) fn whole(size: &Size, looks: &[Look], turns: &BTreeMap<&'static str, u64>) -> String {
    let mut out = String::new();
    let turns: Vec<_> = turns
        .iter()
        .map(|(turn, n)| format!("{n} {turn}"))
        .collect();
    let (pods, by) = (size.pods, size.by.as_str());
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "\nUp to {pods} pods, told by {by}: {}.\n\n\
         | second | pods | turns so far | threads | descriptors | series | of pods | numbers | contexts | blocks | index MB \
         | resident MB | at rest after s | cpu s | answers so far |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
        turns.join(", ")
    );
    for look in looks {
        let taken = &look.taken;
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {:.2} | {:.1} | {:.1} | {:.1} | {} |",
            look.seconds,
            look.pods,
            look.turns,
            taken.threads,
            taken.descriptors,
            taken.series,
            taken.pod_series,
            taken.numbers,
            taken.contexts,
            look.blocks,
            look.index_mb,
            look.resident_mb,
            look.calm_seconds,
            look.cpu_seconds,
            look.found.answers
        );
    }
    if let Some(found) = looks.last().map(|look| look.found) {
        let _ = write!(
            out,
            "\n{} answers compared: {} wrong, {} too high, {} workers late; {} of pods that are gone; {} leaks.",
            found.answers, found.wrong, found.over, found.late, found.ghosts, found.leaks
        );
    }
    out
}
